"""eventfd, timerfd, signalfd and epoll through their system calls; poll and select on top of them."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from protocol.abi import epoll_h as ep
from protocol.abi import poll_h as po
from services.sentry.errors import Restart
from services.sentry.kernel.signals import SigInfo, send_signal_group, set_blocked
from services.sentry.syscalls import event_fds as ef
from services.sentry.syscalls import polling as pl
from tests.unit.sentry.files.fake_tasks import Guest

SECOND = 1_000_000_000


def _pipe(guest: Guest) -> tuple[int, int]:
    at = guest.alloc(8)
    assert guest.call(ef.sys_pipe, at) == 0
    return struct.unpack("<ii", guest.get(at, 8))


def _file(guest: Guest, fd: int) -> Any:
    return guest.task.files.get(fd)


def _event(guest: Guest, value: int = 0, flags: int = 0) -> int:
    fd = guest.call(ef.sys_eventfd2, value, flags)
    assert fd is not None and fd >= 0
    return fd


# --- eventfd ---
def test_eventfd_counts_and_empties() -> None:
    guest = Guest()
    file = _file(guest, _event(guest, 3))
    at = guest.put(struct.pack("<Q", 4))
    assert file.write_user(guest.mm, at, 8) == 8
    assert file.read_user(guest.mm, at, 8) == 8
    assert struct.unpack("<Q", guest.get(at, 8)) == (7,)
    assert file.poll() & po.POLLIN == 0


def test_eventfd_semaphore_takes_one() -> None:
    guest = Guest()
    file = _file(guest, _event(guest, 2, 1))
    assert file.read(8) == struct.pack("<Q", 1)
    assert file.value == 1


def test_eventfd_overflow_blocks_and_poll_says_so() -> None:
    guest = Guest()
    file = _file(guest, _event(guest))
    file.write(struct.pack("<Q", 0xFFFFFFFFFFFFFFFE))
    assert file.poll() & po.POLLOUT == 0
    file.signal()
    assert file.poll() & po.POLLERR
    assert guest.call(ef.sys_eventfd2, 0, 0x80) == -errno.EINVAL


# --- pipe call ---
def test_pipe_with_a_bad_address_leaves_no_descriptor() -> None:
    guest = Guest()
    assert guest.call(ef.sys_pipe, 0) == -errno.EFAULT
    assert len(guest.task.files) == 0
    assert guest.call(ef.sys_pipe2, guest.alloc(8), 1) == -errno.EINVAL


# --- poll ---
def test_poll_reports_ready_closed_and_ignored_descriptors() -> None:
    guest = Guest()
    reader, writer = _pipe(guest)
    _file(guest, writer).write(b"x")
    fds = struct.pack("<ihHihHihHihH", reader, 1, 0, writer, 1, 9, 77, 1, 0, -1, 1, 7)
    at = guest.put(fds)
    assert guest.call(pl.sys_poll, at, 4, 0) == 2
    assert [entry[2] for entry in struct.iter_unpack("<ihH", guest.get(at, 32))] == [1, 0, po.POLLNVAL, 0]


def test_poll_wakes_on_data_and_on_its_timeout() -> None:
    guest = Guest()
    reader, writer = _pipe(guest)
    at = guest.put(struct.pack("<ihH", reader, 1, 0))
    assert guest.call(pl.sys_poll, at, 1, -1) is None
    _file(guest, writer).write(b"x")
    assert guest.wake() == 1
    _file(guest, reader).read(1)
    assert guest.call(pl.sys_poll, at, 1, 50) is None
    guest.kernel.clock.advance(49_000_000)  # type: ignore[attr-defined]
    assert guest.wake() is None
    guest.kernel.clock.advance(1_000_000)  # type: ignore[attr-defined]
    assert guest.wake() == 0


def test_poll_restarts_with_its_first_deadline() -> None:
    guest = Guest()
    reader, _ = _pipe(guest)
    at = guest.put(struct.pack("<ihH", reader, 1, 0))
    assert guest.call(pl.sys_poll, at, 1, 1000) is None
    restart = guest.task.wait.restart_call
    deadline = guest.task.wait.deadline_ns
    assert guest.interrupt() == -Restart.BLOCK
    guest.kernel.clock.advance(SECOND // 2)  # type: ignore[attr-defined]
    assert restart().deadline_ns == deadline


def test_ppoll_writes_the_rest_of_its_time_back_and_keeps_its_mask_until_delivery() -> None:
    guest = Guest()
    reader, _ = _pipe(guest)
    at = guest.put(struct.pack("<ihH", reader, 1, 0))
    timeout = guest.put(struct.pack("<qq", 10, 0))
    mask = guest.put(struct.pack("<Q", 0))
    set_blocked(guest.task, 1 << 9)
    assert guest.call(pl.sys_ppoll, at, 1, timeout, mask, 8) is None
    assert guest.task.signal_mask == 0
    guest.kernel.clock.advance(4 * SECOND)  # type: ignore[attr-defined]
    assert guest.interrupt() == -Restart.NOHAND
    assert struct.unpack("<qq", guest.get(timeout, 16)) == (6, 0)
    assert guest.task.saved_mask == 1 << 9
    guest.task.restore_mask()
    assert guest.call(pl.sys_ppoll, at, 1, timeout, mask, 4) == -errno.EINVAL


# --- select ---
def test_select_marks_sets_and_refuses_closed_descriptors() -> None:
    guest = Guest()
    reader, writer = _pipe(guest)
    reads = guest.put(struct.pack("<Q", 1 << reader))
    writes = guest.put(struct.pack("<Q", 1 << writer))
    zero = guest.put(bytes(16))
    assert guest.call(pl.sys_select, 10, reads, writes, 0, zero) == 1
    assert guest.mm.read_u64(reads) == 0
    assert guest.mm.read_u64(writes) == 1 << writer
    bad = guest.put(struct.pack("<Q", 1 << 9))
    assert guest.call(pl.sys_select, 10, bad, 0, 0, zero) == -errno.EBADF
    assert guest.call(pl.sys_select, -1, 0, 0, 0, zero) == -errno.EINVAL


def test_select_counts_down_its_timeout() -> None:
    guest = Guest()
    reader, writer = _pipe(guest)
    reads = guest.put(struct.pack("<Q", 1 << reader))
    timeout = guest.put(struct.pack("<qq", 1, 500_000))
    assert guest.call(pl.sys_select, reader + 1, reads, 0, 0, timeout) is None
    guest.kernel.clock.advance(SECOND)  # type: ignore[attr-defined]
    _file(guest, writer).write(b"x")
    assert guest.wake() == 1
    assert struct.unpack("<qq", guest.get(timeout, 16)) == (0, 500_000)


# --- epoll ---
class Epoll:
    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        fd = guest.call(pl.sys_epoll_create1, 0)
        assert fd is not None
        self.fd = fd
        self.events = guest.alloc(12 * 16)

    def ctl(self, operation: int, fd: int, events: int = ep.EPOLLIN, data: int = 7) -> int | None:
        at = self.guest.put(struct.pack("<IQ", events, data))
        return self.guest.call(pl.sys_epoll_ctl, self.fd, operation, fd, at)

    def wait(self, limit: int = 16, timeout: int = 0) -> list[tuple[int, int]] | int | None:
        count = self.guest.call(pl.sys_epoll_wait, self.fd, self.events, limit, timeout)
        return self.found(count)

    def found(self, count: int | None) -> list[tuple[int, int]] | int | None:
        if count is None or count < 0:
            return count
        return list(struct.iter_unpack("<IQ", self.guest.get(self.events, 12 * count)))


def test_epoll_level_repeats_edge_does_not() -> None:
    guest = Guest()
    reader, writer = _pipe(guest)
    level, edge = Epoll(guest), Epoll(guest)
    assert level.ctl(ep.EPOLL_CTL_ADD, reader) == 0
    assert edge.ctl(ep.EPOLL_CTL_ADD, reader, ep.EPOLLIN | ep.EPOLLET) == 0
    _file(guest, writer).write(b"x")
    for _ in range(2):
        assert level.wait() == [(1, 7)]
    assert edge.wait() == [(1, 7)]
    assert edge.wait() == []
    _file(guest, writer).write(b"y")
    assert edge.wait() == [(1, 7)]
    _file(guest, reader).read(9)
    assert level.wait() == []


def test_epoll_oneshot_waits_for_modify() -> None:
    guest = Guest()
    reader, writer = _pipe(guest)
    epoll = Epoll(guest)
    epoll.ctl(ep.EPOLL_CTL_ADD, reader, ep.EPOLLIN | ep.EPOLLONESHOT)
    _file(guest, writer).write(b"x")
    assert epoll.wait() == [(1, 7)]
    _file(guest, writer).write(b"x")
    assert epoll.wait() == []
    assert epoll.ctl(ep.EPOLL_CTL_MOD, reader, ep.EPOLLIN, 9) == 0
    assert epoll.wait() == [(1, 9)]


def test_epoll_wait_blocks_until_data() -> None:
    guest = Guest()
    reader, writer = _pipe(guest)
    epoll = Epoll(guest)
    epoll.ctl(ep.EPOLL_CTL_ADD, reader)
    assert epoll.wait(timeout=-1) is None
    _file(guest, writer).write(b"x")
    assert epoll.found(guest.wake()) == [(1, 7)]
    assert epoll.wait() == [(1, 7)]


def test_epoll_serves_all_ready_items_in_turn() -> None:
    guest = Guest()
    epoll = Epoll(guest)
    fds = [_event(guest, 1) for _ in range(5)]
    for fd in fds:
        epoll.ctl(ep.EPOLL_CTL_ADD, fd, ep.EPOLLIN, fd)
    seen = [epoll.wait(limit=2) for _ in range(5)]
    flat = [data for group in seen if isinstance(group, list) for _, data in group]
    assert sorted(flat) == sorted(fds * 2)


def test_epoll_refuses_as_its_man_page_says() -> None:
    guest = Guest()
    reader, _writer = _pipe(guest)
    epoll = Epoll(guest)
    assert epoll.ctl(ep.EPOLL_CTL_ADD, 99) == -errno.EBADF
    assert epoll.ctl(ep.EPOLL_CTL_ADD, epoll.fd) == -errno.EINVAL
    assert epoll.ctl(ep.EPOLL_CTL_DEL, reader) == -errno.ENOENT
    assert epoll.ctl(ep.EPOLL_CTL_MOD, reader) == -errno.ENOENT
    assert epoll.ctl(ep.EPOLL_CTL_ADD, reader) == 0
    assert epoll.ctl(ep.EPOLL_CTL_ADD, reader) == -errno.EEXIST
    assert epoll.ctl(9, reader) == -errno.EINVAL
    assert guest.call(pl.sys_epoll_ctl, reader, 1, epoll.fd, guest.alloc(12)) == -errno.EINVAL
    assert epoll.wait(limit=0) == -errno.EINVAL
    assert guest.call(pl.sys_epoll_create, 0) == -errno.EINVAL
    shared = ep.EPOLLIN | ep.EPOLLEXCLUSIVE
    fd = _event(guest)
    assert epoll.ctl(ep.EPOLL_CTL_ADD, fd, shared | ep.EPOLLONESHOT) == -errno.EINVAL
    assert epoll.ctl(ep.EPOLL_CTL_ADD, fd, shared) == 0
    assert epoll.ctl(ep.EPOLL_CTL_MOD, fd) == -errno.EINVAL


def test_epoll_nests_five_deep_and_never_in_a_circle() -> None:
    for downwards in (False, True):
        guest = Guest()
        chain = [Epoll(guest) for _ in range(6)]
        for first, second in zip(chain[:4], chain[1:5], strict=True):
            above, below = (second, first) if downwards else (first, second)
            assert above.ctl(ep.EPOLL_CTL_ADD, below.fd) == 0
        above, below = (chain[5], chain[4]) if downwards else (chain[4], chain[5])
        assert above.ctl(ep.EPOLL_CTL_ADD, below.fd) == -errno.ELOOP
    guest = Guest()
    one, two = Epoll(guest), Epoll(guest)
    assert one.ctl(ep.EPOLL_CTL_ADD, two.fd) == 0
    assert two.ctl(ep.EPOLL_CTL_ADD, one.fd) == -errno.ELOOP


def test_event_wakes_through_nested_epolls() -> None:
    guest = Guest()
    inner, outer = Epoll(guest), Epoll(guest)
    fd = _event(guest)
    inner.ctl(ep.EPOLL_CTL_ADD, fd)
    outer.ctl(ep.EPOLL_CTL_ADD, inner.fd, ep.EPOLLIN, 55)
    assert outer.wait(timeout=-1) is None
    _file(guest, fd).write(struct.pack("<Q", 1))
    assert outer.found(guest.wake()) == [(1, 55)]
    _file(guest, fd).read(8)
    assert outer.wait() == []


def test_last_close_takes_a_file_out_of_its_epolls() -> None:
    guest = Guest()
    reader, writer = _pipe(guest)
    epoll = Epoll(guest)
    epoll.ctl(ep.EPOLL_CTL_ADD, reader)
    _file(guest, writer).write(b"x")
    duplicate = guest.task.files.dup(reader)
    guest.task.files.close(reader, guest.task)
    assert epoll.wait() == [(1, 7)]
    guest.task.files.close(duplicate, guest.task)
    assert epoll.wait() == []
    assert not _file(guest, epoll.fd).items


def test_closing_an_epoll_leaves_no_entry_on_the_files() -> None:
    guest = Guest()
    reader, _ = _pipe(guest)
    epoll = Epoll(guest)
    epoll.ctl(ep.EPOLL_CTL_ADD, reader)
    file = _file(guest, reader)
    assert file.queue.entries
    guest.task.files.close(epoll.fd, guest.task)
    assert not file.queue.entries


# --- timerfd ---
def _timer(guest: Guest, clock: int = 1) -> int:
    fd = guest.call(ef.sys_timerfd_create, clock, 0)
    assert fd is not None and fd >= 0
    return fd


def _arm(guest: Guest, fd: int, interval: float, value: float, flags: int = 0) -> int | None:
    parts = [*divmod(int(interval * SECOND), SECOND), *divmod(int(value * SECOND), SECOND)]
    return guest.call(ef.sys_timerfd_settime, fd, flags, guest.put(struct.pack("<qqqq", *parts)), 0)


def test_timerfd_expires_once_then_disarms() -> None:
    guest = Guest()
    fd = _timer(guest)
    file = _file(guest, fd)
    assert _arm(guest, fd, 0, 1) == 0
    assert file.poll() == 0
    guest.kernel.clock.advance(SECOND)  # type: ignore[attr-defined]
    assert file.poll() & po.POLLIN
    assert file.read(8) == struct.pack("<Q", 1)
    assert file.get_time() == (0, 0)


def test_timerfd_counts_missed_intervals() -> None:
    guest = Guest()
    fd = _timer(guest)
    file = _file(guest, fd)
    _arm(guest, fd, 0.5, 1)
    guest.kernel.clock.advance(3 * SECOND)  # type: ignore[attr-defined]
    guest.kernel.timers.run(guest.kernel.clock.monotonic_ns())
    assert file.read(8) == struct.pack("<Q", 5)
    assert file.get_time() == (SECOND // 2, SECOND // 2)


def test_timerfd_absolute_in_the_past_fires_at_once_and_zero_disarms() -> None:
    guest = Guest()
    fd = _timer(guest, 0)
    file = _file(guest, fd)
    _arm(guest, fd, 0, 1, 1)
    assert file.poll() & po.POLLIN
    _arm(guest, fd, 0, 0)
    assert file.poll() == 0


def test_timerfd_wakes_epoll() -> None:
    guest = Guest()
    fd = _timer(guest)
    epoll = Epoll(guest)
    epoll.ctl(ep.EPOLL_CTL_ADD, fd)
    _arm(guest, fd, 0, 0.25)
    assert epoll.wait(timeout=-1) is None
    guest.kernel.clock.advance(SECOND // 4)  # type: ignore[attr-defined]
    assert epoll.found(guest.wake()) == [(1, 7)]


def test_timerfd_refusals() -> None:
    guest = Guest()
    fd = _timer(guest)
    assert guest.call(ef.sys_timerfd_create, 2, 0) == -errno.EINVAL
    assert guest.call(ef.sys_timerfd_create, 1, 1) == -errno.EINVAL
    assert _arm(guest, fd, 0, 1, 8) == -errno.EINVAL
    assert _arm(guest, fd, 0, -1) == -errno.EINVAL
    assert guest.call(ef.sys_timerfd_gettime, _event(guest), guest.alloc(32)) == -errno.EINVAL


# --- signalfd ---
@pytest.mark.parametrize("signo", [10, 40])
def test_signalfd_takes_blocked_signals(signo: int) -> None:
    guest = Guest()
    bit = 1 << (signo - 1)
    set_blocked(guest.task, bit)
    fd = guest.call(ef.sys_signalfd4, -1, guest.put(struct.pack("<Q", bit)), 8, 0)
    assert fd is not None and fd >= 0
    epoll = Epoll(guest)
    epoll.ctl(ep.EPOLL_CTL_ADD, fd)
    assert epoll.wait(timeout=-1) is None
    send_signal_group(guest.task.group, SigInfo(signo, -1, 12, 34, value=0x1_0000_0005))
    assert epoll.found(guest.wake()) == [(1, 7)]
    record = _file(guest, fd).read(200)
    assert struct.unpack_from("<IiiII", record) == (signo, 0, -1, 12, 34)
    assert struct.unpack_from("<iQ", record, 44) == (5, 0x1_0000_0005)
    assert epoll.wait() == []
    assert guest.call(ef.sys_signalfd4, fd, guest.put(bytes(8)), 8, 0) == fd
    assert guest.call(ef.sys_signalfd4, fd, guest.put(bytes(8)), 4, 0) == -errno.EINVAL
