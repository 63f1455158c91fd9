"""read(2) and recv(2) of what is empty: EAGAIN or a wait, for the kinds that are waited for most."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from protocol.abi import fcntl_h as fc
from protocol.abi import socket_h as so
from services.sentry.errors import Restart
from services.sentry.kernel.waiter import ReadWait
from services.sentry.syscalls import event_fds as ef
from services.sentry.syscalls import read_write as rw
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.files.fake_tasks import Guest

ONE = struct.pack("<Q", 1)


class Ends:
    """The reading and the writing descriptor of `kind` in a guest."""

    def __init__(self, kind: str) -> None:
        self.guest = guest = Guest()
        at = guest.alloc(8)
        if kind == "eventfd":
            self.reader = self.writer = guest.call(ef.sys_eventfd2, 0, 0) or 0
        else:
            call = guest.call(ef.sys_pipe, at) if kind == "pipe" else guest.call(sk.sys_socketpair, 1, 1, 0, at)
            assert call == 0
            self.reader, self.writer = struct.unpack("<ii", guest.get(at, 8))
        self.buffer = guest.alloc(64)
        self.file: Any = guest.task.files.get(self.reader)

    def read(self) -> int | None:
        return self.guest.call(rw.sys_read, self.reader, self.buffer, 64)

    def receive(self, flags: int = 0) -> int | None:
        return self.guest.call(sk.sys_recvfrom, self.reader, self.buffer, 64, flags, 0, 0)

    def write(self) -> None:
        """From elsewhere in the kernel: the task itself waits."""
        self.guest.task.files.get(self.writer).write(ONE)


@pytest.fixture(params=["pipe", "eventfd", "socket"])
def ends(request: pytest.FixtureRequest) -> Ends:
    return Ends(request.param)


def test_read_waits_until_something_is_there(ends: Ends) -> None:
    for _ in range(2):  # the task's one ReadWait is used again
        assert ends.read() is None
        assert type(ends.guest.task.wait) is ReadWait
        ends.file.queue.wake()
        assert ends.guest.wake() is None  # woken for nothing
        ends.write()
        assert ends.guest.wake() == 8
        assert ends.guest.get(ends.buffer, 8) == ONE
        assert ends.guest.task.wait is None and not ends.file.queue.entries


def test_read_of_a_nonblocking_file_does_not_wait(ends: Ends) -> None:
    ends.file.flags |= fc.O_NONBLOCK
    assert ends.read() == -errno.EAGAIN
    assert ends.guest.task.wait is None


def test_vectored_and_large_reads_wait_as_well(ends: Ends) -> None:
    guest = ends.guest
    vector = guest.put(struct.pack("<QQQQ", ends.buffer, 8, ends.buffer + 16, 8))
    assert guest.call(rw.sys_readv, ends.reader, vector, 2) is None
    ends.write()
    assert guest.wake() == 8
    assert guest.call(rw.sys_read, ends.reader, ends.buffer, 1 << 21) is None
    ends.write()
    assert guest.wake() == 8
    ends.file.flags |= fc.O_NONBLOCK
    assert guest.call(rw.sys_readv, ends.reader, vector, 2) == -errno.EAGAIN
    assert guest.call(rw.sys_read, ends.reader, ends.buffer, 1 << 21) == -errno.EAGAIN


def test_a_signal_has_the_read_begun_anew(ends: Ends) -> None:
    assert ends.read() is None
    assert ends.guest.interrupt() == -Restart.SYS
    ends.write()
    assert ends.read() == 8


def test_read_of_nothing_gives_nothing_at_once() -> None:
    for kind in ("pipe", "socket"):
        ends = Ends(kind)
        assert ends.guest.call(rw.sys_read, ends.reader, ends.buffer, 0) == 0


def test_recv_waits_and_does_not_with_msg_dontwait() -> None:
    ends = Ends("socket")
    assert ends.receive(so.MSG_DONTWAIT) == -errno.EAGAIN
    assert ends.receive(so.MSG_NOSIGNAL) is None
    assert type(ends.guest.task.wait) is ReadWait
    ends.write()
    assert ends.guest.wake() == 8
    ends.file.flags |= fc.O_NONBLOCK
    assert ends.receive() == -errno.EAGAIN


@pytest.mark.parametrize("call", [Ends.read, Ends.receive])
def test_a_time_limit_ends_in_eagain_and_is_never_begun_anew(call: Any) -> None:
    ends = Ends("socket")
    ends.file.receive_timeout_ns = 50_000
    assert call(ends) is None
    assert ends.guest.task.wait.restart == 0
    ends.guest.kernel.clock.advance(40_000)  # type: ignore[attr-defined]
    assert ends.guest.wake() is None
    ends.guest.kernel.clock.advance(10_000)  # type: ignore[attr-defined]
    assert ends.guest.wake() == -errno.EAGAIN
    assert call(ends) is None
    ends.write()
    assert ends.guest.wake() == 8


def test_end_of_the_writers_ends_the_wait() -> None:
    for kind in ("pipe", "socket"):
        ends = Ends(kind)
        assert ends.read() is None
        ends.guest.task.files.close(ends.writer, ends.guest.task)
        assert ends.guest.wake() == 0
