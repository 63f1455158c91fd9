"""PACKET_RX_RING: where frames and headers lie, whose turn it is, and which sizes go together."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

import pytest

from services.sentry.errors import LinuxError
from services.sentry.sockets.packet.ring import REQUEST, Ring

FRAME = bytes(range(60))
ADDRESS = b"\x11\0" + bytes(18)
STAMP = 1_000_000_007 * 1_000_000_000 + 123_456_789


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring(REQUEST.pack(4096, 2, 2048, 4), 1, 0)
    yield made
    made.close()


def test_a_frame_lies_behind_its_header_and_address(ring: Ring) -> None:
    assert not ring.is_readable()
    assert ring.put(FRAME, 60, ADDRESS, STAMP, cooked=False)
    memory = os.pread(ring.fd, 2048, 0)
    status, length, taken, mac, net, seconds, rest = struct.unpack_from("<IIIHHII", memory)
    assert (status, length, taken, seconds, rest) == (1, 60, 60, 1_000_000_007, 123_456_789)
    assert mac == net - 14 and net == 80  # TPACKET_ALIGN(TPACKET2_HDRLEN) + 16
    assert memory[mac : mac + 60] == FRAME and memory[32:52] == ADDRESS
    assert ring.is_readable()


def test_frames_go_round_and_wait_for_the_program(ring: Ring) -> None:
    assert [ring.put(bytes((each,)) * 20, 20, ADDRESS, 0, cooked=False) for each in range(5)] == [True] * 4 + [False]
    starts = [0, 2048, 4096, 6144]
    assert [os.pread(ring.fd, 1, at + 66) for at in starts] == [b"\0", b"\1", b"\2", b"\3"]
    os.pwrite(ring.fd, bytes(4), 0)
    assert ring.put(b"\7" * 20, 20, ADDRESS, 0, cooked=False)
    assert os.pread(ring.fd, 1, 66) == b"\7"
    for at in starts:
        os.pwrite(ring.fd, bytes(4), at)
    assert not ring.is_readable()


def test_what_does_not_fit_is_cut(ring: Ring) -> None:
    assert ring.put(bytes(5000), 5000, ADDRESS, 0, cooked=True)
    length, taken, mac = struct.unpack_from("<IIH", os.pread(ring.fd, 32, 0), 4)
    assert length == 5000 and taken == 2048 - mac


@pytest.mark.parametrize(
    ("sizes", "error"),
    [
        ((4096, 2, 2048, 5), errno.EINVAL),
        ((4000, 2, 2000, 4), errno.EINVAL),
        ((4096, 2, 2040, 4), errno.EINVAL),
        ((4096, 2, 32, 256), errno.EINVAL),
        ((0, 2, 2048, 4), errno.EINVAL),
        ((4096, 1 << 20, 2048, 2 << 20), errno.ENOMEM),
    ],
)
def test_sizes_have_to_go_together(sizes: tuple[int, int, int, int], error: int) -> None:
    with pytest.raises(LinuxError) as caught:
        Ring(REQUEST.pack(*sizes), 1, 0)
    assert caught.value.errno == error
