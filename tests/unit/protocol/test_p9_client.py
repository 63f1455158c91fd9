"""The blocking client against servers that are slow, hostile or dead: errors, time-outs, and no fd ever leaks."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import ProtocolViolation
from protocol.p9 import constants as c
from protocol.p9 import messages as m
from protocol.p9.attributes import Attributes
from protocol.p9.client import P9Client
from protocol.p9.codec import FrameSplitter, decode_untrusted, encode
from protocol.p9.conversation import GoferGone, GoferTimeout, P9Error

RECORD = Attributes(c.GETATTR_ALL, 0, 1, 2, 0o100644, *range(17))


class Scripted:
    """The other end of a client: what it receives, and whatever a test sends."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.settimeout(5)
        self.splitter = FrameSplitter()
        self.queue: list[bytes] = []
        self.client = P9Client(ours, timeout_s=timeout_s)
        self.client.extended = True

    def receive(self) -> tuple[int, m.Message]:
        while not self.queue:
            self.splitter.feed(self.sock.recv(65536))
            self.queue += self.splitter.frames_untrusted()
        return decode_untrusted(self.queue.pop(0))

    def send(self, data: bytes, *fds: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"@{len(fds)}i", *fds))] if fds else []
        self.sock.sendmsg([data], rights)

    def run(self, script: Callable[[Scripted], None]) -> threading.Thread:
        thread = threading.Thread(target=script, args=(self,))
        thread.start()
        return thread


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    before = len(open_fds())
    scripted = Scripted()
    yield scripted
    scripted.client.close()
    scripted.sock.close()
    assert len(open_fds()) == before, "an fd leaked"


def donor() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def walkopen_reply(tag: int, donated: int, code: int = 0) -> bytes:
    return encode(m.Rwalkopen(code, donated, 0, [] if code else [RECORD], b""), tag)


def answer_walkopen(donated: int, fd_count: int, code: int = 0) -> Callable[[Scripted], None]:
    def script(scripted: Scripted) -> None:
        tag, _ = scripted.receive()
        fds = [donor() for _ in range(fd_count)]
        scripted.send(walkopen_reply(tag, donated, code), *fds)
        for fd in fds:
            os.close(fd)

    return script


def test_donated_fd_is_returned_close_on_exec(scripted: Scripted) -> None:
    thread = scripted.run(answer_walkopen(1, 1))
    result = scripted.client.walkopen(1, scripted.client.new_fid(), [b"x"], 0)
    thread.join()
    assert result.steps == [RECORD]
    assert result.fd is not None
    assert not os.get_inheritable(result.fd)
    os.close(result.fd)


@pytest.mark.parametrize(("donated", "count"), [(0, 1), (0, 3), (1, 3)])
def test_fds_that_were_not_announced_are_closed(scripted: Scripted, donated: int, count: int) -> None:
    thread = scripted.run(answer_walkopen(donated, count))
    result = scripted.client.walkopen(1, 2, [b"x"], 0)
    thread.join()
    assert (result.fd is not None) == bool(donated)
    if result.fd is not None:
        os.close(result.fd)


@pytest.mark.parametrize(("donated", "count", "code"), [(1, 0, 0), (1, 1, 2), (0, 40, 0)])
def test_fds_that_do_not_fit_the_reply_violate(scripted: Scripted, donated: int, count: int, code: int) -> None:
    thread = scripted.run(answer_walkopen(donated, count, code))
    with pytest.raises(ProtocolViolation):
        scripted.client.walkopen(1, 2, [b"x"], 0)
    thread.join()
    with pytest.raises(GoferGone):
        scripted.client.getattr(1)


def test_fd_beside_a_reply_that_has_none_is_dropped(scripted: Scripted) -> None:
    def script(scripted: Scripted) -> None:
        tag, _ = scripted.receive()
        fd = donor()
        scripted.send(encode(m.Rgetattr(RECORD), tag), fd)
        os.close(fd)

    thread = scripted.run(script)
    assert scripted.client.getattr(1) == RECORD
    thread.join()


def test_error_reply_raises_its_errno_and_frees_the_fid(scripted: Scripted) -> None:
    def script(scripted: Scripted) -> None:
        tag, _ = scripted.receive()
        scripted.send(encode(m.Rlerror(13), tag))

    thread = scripted.run(script)
    fid = scripted.client.new_fid()
    with pytest.raises(P9Error, check=lambda error: error.errno == 13):
        scripted.client.walkopen(1, fid, [b"x"], 0)
    thread.join()
    assert scripted.client.new_fid() == fid


def test_late_answer_is_dropped_its_fd_closed_and_its_fid_forgotten() -> None:
    before = len(open_fds())
    scripted = Scripted(timeout_s=0.05)
    client = scripted.client
    fid = client.new_fid()
    with pytest.raises(GoferTimeout):
        client.walkopen(1, fid, [b"x"], 0)
    client.set_timeout(5)
    late, _ = scripted.receive()

    def script(scripted: Scripted) -> None:
        tag, request = scripted.receive()
        assert isinstance(request, m.Tgetattr)
        fd = donor()
        scripted.send(walkopen_reply(late, 1), fd)
        os.close(fd)
        scripted.send(encode(m.Rgetattr(RECORD), tag))
        _, request = scripted.receive()
        assert request == m.Tforget([fid])
        tag, _ = scripted.receive()
        scripted.send(encode(m.Rgetattr(RECORD), tag))

    thread = scripted.run(script)
    assert client.getattr(1) == RECORD
    assert client.getattr(1) == RECORD
    thread.join()
    client.close()
    scripted.sock.close()
    assert len(open_fds()) == before


def test_answer_in_pieces_is_put_together(scripted: Scripted) -> None:
    def script(scripted: Scripted) -> None:
        tag, _ = scripted.receive()
        for byte in encode(m.Rgetattr(RECORD), tag):
            scripted.send(bytes([byte]))

    thread = scripted.run(script)
    assert scripted.client.getattr(1) == RECORD
    thread.join()


@pytest.mark.parametrize(
    "reply",
    [
        b"\x03\0\0\0\x19\0\0",
        b"\xff\xff\xff\x7f\x19\0\0",
        encode(m.Rlopen(RECORD.qid, 0), 1),
        encode(m.Rgetattr(RECORD), 77),
        encode(m.Rlerror(0), 1),
        encode(m.Rlerror(99999), 1),
    ],
)
def test_nonsense_violates_and_ends_the_conversation(scripted: Scripted, reply: bytes) -> None:
    def script(scripted: Scripted) -> None:
        scripted.receive()
        scripted.send(reply)

    thread = scripted.run(script)
    with pytest.raises(ProtocolViolation):
        scripted.client.getattr(1)
    thread.join()
    with pytest.raises(GoferGone):
        scripted.client.getattr(1)


def test_clunks_ride_on_the_next_request(scripted: Scripted) -> None:
    def script(scripted: Scripted) -> None:
        assert scripted.receive()[1] == m.Tforget([5, 6])
        tag, _ = scripted.receive()
        scripted.send(encode(m.Rgetattr(RECORD), tag))

    thread = scripted.run(script)
    scripted.client.clunk(5)
    scripted.client.clunk(6)
    assert scripted.client.getattr(1) == RECORD
    thread.join()


def test_clunks_of_a_plain_server_are_answered_in_any_order(scripted: Scripted) -> None:
    scripted.client.extended = False

    def script(scripted: Scripted) -> None:
        tags = {type(request): tag for tag, request in (scripted.receive(), scripted.receive())}
        scripted.send(encode(m.Rgetattr(RECORD), tags[m.Tgetattr]) + encode(m.Rclunk(), tags[m.Tclunk]))
        tag, _ = scripted.receive()
        scripted.send(encode(m.Rgetattr(RECORD), tag))

    thread = scripted.run(script)
    scripted.client.clunk(5)
    for _ in range(2):
        assert scripted.client.getattr(1) == RECORD
    thread.join()
    assert scripted.client.new_fid() == 5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20), max_size=4), st.integers(0, 2**32 - 1))
def test_hot_requests_equal_the_codec(names: list[bytes], flags: int) -> None:
    scripted = Scripted(timeout_s=0.0001)
    client = scripted.client
    for call, expected in (
        (lambda: client.walkgetattr(1, 2, names), m.Twalkgetattr(1, 2, names)),
        (lambda: client.walkopen(1, 2, names, flags), m.Twalkopen(1, 2, flags, 1, names)),
        (lambda: client.open(3, flags, False), m.Topenfd(3, flags, 0)),
        (lambda: client.getattr(3, 7), m.Tgetattr(3, 7)),
        (lambda: client.read(3, flags, 9), m.Tread(3, flags, 9)),
        (lambda: client.write(3, flags, b"abc"), m.Twrite(3, flags, b"abc")),
        (lambda: client.readdir(3, flags, 100), m.Treaddir(3, flags, 100)),
        (lambda: client.readdirattr(3, flags, 100, 4), m.Treaddirattr(3, flags, 100)),
    ):
        with pytest.raises(GoferTimeout):
            call()
        assert scripted.receive()[1] == expected
    client.close()
    scripted.sock.close()
