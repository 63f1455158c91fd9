"""Classic BPF: what is accepted, and that programs decide as the host's kernel does."""

from __future__ import annotations

import ctypes
import errno
import random
import socket
import struct

import pytest

from services.sentry.errors import LinuxError
from services.sentry.sockets.packet_filter import PacketView, checked_untrusted, run

SO_ATTACH_FILTER = 26


def code(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<HBBI", *each) for each in instructions)


RETURN_ALL = (0x06, 0, 0, 0xFFFF)


def attach(sock: socket.socket, program: bytes) -> int:
    """What the host says: 0 or an errno."""
    held = ctypes.create_string_buffer(program, max(len(program), 1))
    try:
        sock.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(held))
        )
    except OSError as error:
        return error.errno or 0
    return 0


def ours(program: bytes) -> int:
    try:
        checked_untrusted(program)
    except LinuxError as error:
        return error.errno
    return 0


def random_program(rng: random.Random) -> bytes:
    count = rng.randrange(1, 12)
    codes = [
        0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x00, 0x60, 0x80, 0x01, 0x61, 0x81, 0xB1, 0x02, 0x03, 0x07, 0x87, 0x05,
        0x15, 0x1D, 0x25, 0x35, 0x45, 0x04, 0x0C, 0x14, 0x24, 0x34, 0x3C, 0x44, 0x54, 0x64, 0x6C, 0x74, 0x84, 0x94,
        0xA4, 0xAC, 0x06, 0x16,
    ]  # fmt: skip
    made = []
    for _ in range(count):
        k = rng.choice([0, 1, 2, 5, 15, 31, 40, 0xFFFFFFFF, rng.randrange(64)])
        made.append((rng.choice(codes), rng.randrange(4), rng.randrange(4), k))
    made.append(rng.choice([(0x06, 0, 0, rng.choice([0, 8, 20, 0xFFFF])), (0x16, 0, 0, 0)]))
    return code(*made)


def test_random_programs_are_accepted_and_decide_as_on_the_host() -> None:
    rng = random.Random(20)
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    agreed = wanted = 0
    try:
        for _ in range(1500):
            program = random_program(rng)
            host = attach(receiver, program)
            assert ours(program) == host, program.hex()
            if host:
                continue
            agreed += 1
            data = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40)))
            took = run(checked_untrusted(program), PacketView(data))
            try:
                sender.send(data, socket.MSG_DONTWAIT)
                got = receiver.recv(100)
            except OSError:
                got = b""
            assert got == data[:took], program.hex()
            wanted += bool(got)
    finally:
        receiver.close()
        sender.close()
    assert agreed > 200 and 50 < wanted < agreed


@pytest.mark.parametrize(
    "program",
    [
        b"",
        code((0x20, 0, 0, 0)),  # no return
        code((0x15, 5, 0, 0), RETURN_ALL),  # a jump out
        code((0x05, 0, 0, 0xFFFFFFFF), RETURN_ALL),
        code((0x34, 0, 0, 0), RETURN_ALL),  # division by zero
        code((0x02, 0, 0, 16), RETURN_ALL),  # beyond scratch memory
        code((0xFF, 0, 0, 0), RETURN_ALL),
        code(*[RETURN_ALL] * 4097),
    ],
)
def test_what_cannot_be_run_is_refused(program: bytes) -> None:
    assert ours(program) == errno.EINVAL


def test_what_is_known_beside_the_bytes() -> None:
    view = PacketView(bytes(20), 14, protocol=0x800, kind=4, interface=2, hardware=1)
    for offset, expected in ((0, 0x800), (4, 4), (8, 2), (28, 1)):
        program = checked_untrusted(code((0x20, 0, 0, 0xFFFFF000 + offset), (0x16, 0, 0, 0)))
        assert run(program, view) == expected
    network = checked_untrusted(code((0x30, 0, 0, 0xFFF00001), (0x16, 0, 0, 0)))
    assert run(network, PacketView(bytes(range(20)), 14)) == 15
