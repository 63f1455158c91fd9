"""poll, select and epoll system calls: decoding, one Wait over all queues, timeouts and signal masks.

The scan over descriptors is here because it has no other user; epoll's mechanism is files/epoll.py.
Signals: poll restarts through restart_syscall(2) with its first deadline, select/pselect6/ppoll restart with the
remaining time they wrote back, epoll_wait never restarts; a handler that runs always means EINTR (signal(7)).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from protocol.abi import epoll_h as ep
from protocol.abi import poll_h as po
from protocol.abi import resource_h as rs
from protocol.abi import time_h as tm
from services.sentry.errors import LinuxError, Restart, WouldBlock
from services.sentry.files.epoll import EpollFile
from services.sentry.files.signalfd import SignalFile
from services.sentry.kernel.published_polls import offer_quiet
from services.sentry.kernel.signals import set_blocked
from services.sentry.kernel.standing_answers import SAMPLE, offer_events
from services.sentry.kernel.waiter import Wait, WaitQueue
from services.sentry.syscalls.arguments import fd_arg, s32, u32
from services.sentry.syscalls.table import Row
from services.sentry.syscalls.time_arguments import read_timespec, timespec_ns
from services.sentry.vfs.anonymous import anon_inode

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome

__all__ = ["ROWS"]

_MAX_NS: Final = (1 << 63) - 1
_SECOND: Final = tm.NSEC_PER_SEC
#: How long a call that does not wait may take to be interrupted, by a signal that its own mask lets through.
_MOMENT: Final = 1_000_000
_ALWAYS: Final = po.POLLERR | po.POLLHUP
_unpack_pollfd: Final = struct.Struct("<ihH").unpack
_pack_revents: Final = struct.Struct("<H").pack
_unpack_event: Final = ep.EPOLL_EVENT.unpack
_ADD: Final = ep.EPOLL_CTL_ADD
_DEL: Final = ep.EPOLL_CTL_DEL
_MOD: Final = ep.EPOLL_CTL_MOD

_Queues = list[tuple[WaitQueue, int]]


# --- what the calls share ---
def _deadline(task: Task, timeout_ns: int) -> int:
    """The host-monotonic moment `timeout_ns` (>= 0) from now, clamped to what an int64 holds."""
    return min(task.kernel.clock.monotonic_ns() + timeout_ns, _MAX_NS)


def _with_mask(task: Task, addr: int, size: int, call: Callable[[], Outcome]) -> Outcome:
    """Run `call` with the signal mask at `addr` (0: none) in force, for as long as it waits.

    The old mask comes back when the call ends by itself; when a signal ends it, delivery does that after it has chosen
    the handler (Linux restore_saved_sigmask_unless). EINVAL: `size` is not that of a kernel sigset.
    """
    if not addr:
        return call()
    if size != 8:
        raise LinuxError(errno.EINVAL)
    mask = task.mm.read_u64(addr)
    saved = task.signal_mask
    set_blocked(task, mask)
    try:
        outcome = call()
    except BaseException:
        set_blocked(task, saved)
        raise
    if not isinstance(outcome, Wait):
        set_blocked(task, saved)
        return outcome
    wait = outcome

    def retry_and_restore() -> Outcome:
        try:
            result = wait.retry()
        except WouldBlock:
            raise
        except BaseException:
            set_blocked(task, saved)
            raise
        set_blocked(task, saved)
        return result

    def timeout_and_restore() -> int:
        try:
            return wait.on_timeout()
        finally:
            set_blocked(task, saved)

    def leave_to_delivery() -> int | None:
        task.saved_mask = saved
        return wait.on_signal()

    return wait.wrapped(retry_and_restore, timeout_and_restore, leave_to_delivery)


def _bind_signal_files(task: Task, fds: Iterable[int]) -> bool:
    """Signal files among `fds` show the signals of whoever polls them (signalfd(2)); whether there are any."""
    files = task.files.files
    found = False
    for fd in fds:
        file = files.get(fd)
        if isinstance(file, SignalFile):
            file.bind(task)
            found = True
    return found


# --- poll ---
def _scan_one(task: Task, fd: int, events: int) -> int:
    """The revents of one struct pollfd (poll(2)): 0 for a negative fd, POLLNVAL for a closed one."""
    if fd < 0:
        return 0
    file = task.files.files.get(fd)
    if file is None:
        return po.POLLNVAL
    return file.poll() & (events | _ALWAYS)


def _poll(task: Task, addr: int, raw: bytes, deadline_ns: int | None) -> Outcome:
    """One round over the `raw` struct pollfds at `addr`; a Wait over all their queues when none is ready.

    `deadline_ns` None: no limit; 0: do not wait. The result is how many have revents, which are written back always.
    """
    entries = list(po.POLLFD.iter_unpack(raw))

    def attempt() -> int:
        revents = [_scan_one(task, fd, events & 0xFFFF) for fd, events, _ in entries]
        ready = len(revents) - revents.count(0)
        if not ready:
            raise WouldBlock
        write_back(revents)
        return ready

    def write_back(revents: list[int]) -> None:
        if len(revents) == 1:
            task.mm.write(addr + 6, _pack_revents(revents[0]))
        elif revents:
            image = bytearray(raw)
            image[6::8] = bytes(bits & 0xFF for bits in revents)
            image[7::8] = bytes(bits >> 8 for bits in revents)
            task.mm.write(addr, bytes(image))

    def timed_out() -> int:
        write_back([0] * len(entries))
        return 0

    def answer() -> int:
        ready = attempt()
        shown = task.files.published
        if shown.rings:
            for fd, _, _ in entries:
                if fd not in shown and fd >= 0:
                    offer_quiet(task, [(fd, (events & 0xFFFF) | _ALWAYS) for fd, events, _ in entries if fd >= 0])
                    break
        return ready

    try:
        return answer()
    except WouldBlock:
        if _bind_signal_files(task, (fd for fd, _, _ in entries)):
            with suppress(WouldBlock):
                return attempt()
        if deadline_ns == 0:
            if not task.signal_pending:
                return timed_out()
            deadline_ns = _deadline(task, _MOMENT)
    queues: _Queues = []
    files = task.files.files
    for fd, events, _ in entries:
        if fd >= 0:
            queues.append((files[fd].queue, (events & 0xFFFF) | _ALWAYS))
    return Wait(attempt, queues, deadline_ns=deadline_ns, on_timeout=timed_out)


def _read_pollfds(task: Task, addr: int, count: int) -> bytes:
    """EINVAL: more than RLIMIT_NOFILE."""
    if count > task.group.rlimits[rs.RLIMIT_NOFILE][0]:
        raise LinuxError(errno.EINVAL)
    return task.mm.read(addr, count * 8) if count else b""


def sys_poll(task: Task, addr: int, count: int, timeout_ms: int) -> Outcome:
    """poll(2). EINVAL: too many; EFAULT. A signal without a handler restarts it with the first deadline."""
    count = u32(count)
    timeout_ms = s32(timeout_ms)
    if count == 1:
        raw = task.mm.read(addr, 8)
        fd, events, _ = _unpack_pollfd(raw)
        file = task.files.files.get(fd)
        if file is not None:
            bits = file.poll() & ((events & 0xFFFF) | _ALWAYS)
            if bits:
                task.mm.write(addr + 6, _pack_revents(bits))
                return 1
    else:
        raw = _read_pollfds(task, addr, count)
    deadline = None if timeout_ms < 0 else _deadline(task, timeout_ms * 1_000_000) if timeout_ms else 0
    outcome = _poll(task, addr, raw, deadline)
    if isinstance(outcome, Wait):
        outcome.restart = Restart.BLOCK
        outcome.restart_call = lambda: _restarted_poll(task, addr, raw, deadline)
    return outcome


def _restarted_poll(task: Task, addr: int, raw: bytes, deadline_ns: int | None) -> Outcome:
    """restart_syscall(2) for poll: the same descriptors, the first deadline."""
    outcome = _poll(task, addr, raw, deadline_ns)
    if isinstance(outcome, Wait):
        outcome.restart = Restart.BLOCK
        outcome.restart_call = lambda: _restarted_poll(task, addr, raw, deadline_ns)
    return outcome


def sys_ppoll(task: Task, addr: int, count: int, timeout: int, mask: int, mask_size: int) -> Outcome:
    """ppoll(2). EINVAL: count, timeout or mask_size; EFAULT. Writes the remaining time back to `timeout`."""
    timeout_ns = read_timespec(task.mm, timeout) if timeout else None

    def call() -> Outcome:
        raw = _read_pollfds(task, addr, u32(count))
        return _poll(task, addr, raw, deadline)

    deadline = None if timeout_ns is None else _deadline(task, timeout_ns) if timeout_ns else 0
    outcome = _with_mask(task, mask, mask_size, call)
    return _write_back_remaining(task, outcome, deadline, timeout, tm.timespec_of)


def _write_back_remaining(
    task: Task, outcome: Outcome, deadline_ns: int | None, addr: int, pack: Callable[[int], bytes]
) -> Outcome:
    """Have the time left at the end of the call written to `addr`, whichever way it ends (fs/select.c
    poll_select_finish): a fault in that is no error, but such a call does not restart."""
    if not isinstance(outcome, Wait):
        if deadline_ns and addr:
            _store_remaining(task, deadline_ns, addr, pack)
        return outcome
    outcome.restart = Restart.NOHAND
    if not deadline_ns or not addr:
        return outcome
    wait = outcome

    def retry_and_store() -> Outcome:
        try:
            result = wait.retry()
        except LinuxError:
            _store_remaining(task, deadline_ns, addr, pack)
            raise
        _store_remaining(task, deadline_ns, addr, pack)
        return result

    def timeout_and_store() -> int:
        _store_remaining(task, deadline_ns, addr, pack)
        return wait.on_timeout()

    def signalled() -> int | None:
        if not _store_remaining(task, deadline_ns, addr, pack):
            stored.restart = 0
        return wait.on_signal()

    stored = wait.wrapped(retry_and_store, timeout_and_store, signalled)
    return stored


def _store_remaining(task: Task, deadline_ns: int, addr: int, pack: Callable[[int], bytes]) -> bool:
    """Whether the remaining time could be written."""
    left = max(deadline_ns - task.kernel.clock.monotonic_ns(), 0)
    try:
        task.mm.write(addr, pack(left))
    except LinuxError:
        return False
    return True


# --- select ---
_LEAST_TABLE: Final = 64  # descriptors
_CLOSED: Final = po.POLLNVAL | po.POLLIN | po.POLLOUT  # of one that was closed while the call waited


def _bits_and_bytes(task: Task, count: int) -> tuple[int, int]:
    """How many bits of each set count, and the bytes they lie in. EINVAL: count < 0."""
    if count < 0:
        raise LinuxError(errno.EINVAL)
    if count > _LEAST_TABLE:
        count = min(count, _table_size(max(task.files.files, default=0)))
    return count, (count + 63) // 64 * 8


def _select(
    task: Task, count: int, addrs: tuple[int, int, int], deadline_ns: int | None, sets: list[bytes] | None = None
) -> Outcome:
    """One select over bitmaps of `count` bits. EINVAL: count < 0; EBADF: a bit of a closed descriptor; EFAULT.

    sets: what lies at those of `addrs` that are not NULL, if it was read already.
    """
    files = task.files.files
    count, length = _bits_and_bytes(task, count)
    mm = task.mm
    given = [addr for addr in addrs if addr and length]
    if sets is None:
        sets = mm.read_together([(addr, length) for addr in given]) if given else []
    limit = (1 << count) - 1
    raws = iter(sets)
    reads, writes, excepts = [int.from_bytes(next(raws), "little") & limit if addr and length else 0 for addr in addrs]
    entries: list[tuple[int, int, int]] = []  # descriptor, its bit, poll bits that matter to some set
    left = reads | writes | excepts
    while left:
        bit = left & -left
        left ^= bit
        fd = bit.bit_length() - 1
        if fd not in files:
            raise LinuxError(errno.EBADF)
        bits = po.SELECT_READ if reads & bit else 0
        if writes & bit:
            bits |= po.SELECT_WRITE
        if excepts & bit:
            bits |= po.SELECT_EXCEPT
        entries.append((fd, bit, bits))

    def write_back(*found: int) -> None:
        if given:
            mm.write_together(
                [(addr, chosen.to_bytes(length, "little")) for addr, chosen in zip(addrs, found, strict=True) if addr]
            )

    def look() -> int:
        """How many bits are ready, and written back; 0: none."""
        now = task.files.files
        readable = writable = exceptional = ready = 0
        for fd, bit, bits in entries:
            file = now.get(fd)
            state = (_CLOSED if file is None else file.poll()) & bits
            if not state:
                continue
            if reads & bit and state & po.SELECT_READ:
                readable |= bit
                ready += 1
            if writes & bit and state & po.SELECT_WRITE:
                writable |= bit
                ready += 1
            if excepts & bit and state & po.SELECT_EXCEPT:
                exceptional |= bit
                ready += 1
        if ready:
            write_back(readable, writable, exceptional)
        return ready

    def attempt() -> int:
        ready = look()
        if not ready:
            raise WouldBlock
        return ready

    def timed_out() -> int:
        write_back(0, 0, 0)
        return 0

    ready = look()
    if not ready and _bind_signal_files(task, (fd for fd, _, _ in entries)):
        ready = look()
    if ready or (deadline_ns == 0 and not task.signal_pending):
        shown = task.files.published
        if shown.rings:
            for fd, _, _ in entries:
                if fd not in shown:
                    offer_quiet(task, [(fd, bits) for fd, _, bits in entries])
                    break
        return ready or timed_out()
    if deadline_ns == 0:
        deadline_ns = _deadline(task, _MOMENT)
    queues = [(files[fd].queue, bits | _ALWAYS) for fd, _, bits in entries]
    return Wait(attempt, queues, deadline_ns=deadline_ns, on_timeout=timed_out)


def _table_size(highest: int) -> int:
    """How many descriptors Linux's table would hold (fs/file.c alloc_fdtable): select(2) looks at no bit beyond."""
    if highest < _LEAST_TABLE:
        return _LEAST_TABLE
    slots: int = highest // 128 + 1
    return 128 << (slots - 1).bit_length()


def sys_select(task: Task, count: int, reads: int, writes: int, excepts: int, timeout: int) -> Outcome:
    """select(2). The timeval at `timeout` is updated with the time left; tv_usec may exceed a second."""
    deadline: int | None = None
    if timeout:
        seconds, microseconds = tm.TIMEVAL.unpack(task.mm.read(timeout, 16))
        total = seconds * _SECOND + microseconds * tm.NSEC_PER_USEC
        if seconds + microseconds // tm.USEC_PER_SEC < 0 or (microseconds < 0 and microseconds % tm.USEC_PER_SEC):
            raise LinuxError(errno.EINVAL)
        deadline = _deadline(task, min(total, _MAX_NS)) if total else 0
    outcome = _select(task, s32(count), (reads, writes, excepts), deadline)
    return _write_back_remaining(task, outcome, deadline, timeout, tm.timeval_of)


def sys_pselect6(task: Task, count: int, reads: int, writes: int, excepts: int, timeout: int, sig: int) -> Outcome:
    """pselect6(2): `sig` points to a (mask address, size) pair. Linux updates the timespec, unlike pselect(3)."""
    addrs = (reads, writes, excepts)
    mm = task.mm
    _, length = _bits_and_bytes(task, max(s32(count), 0))
    pieces = [(addr, 16) for addr in (sig, timeout) if addr] + [(addr, length) for addr in addrs if addr and length]
    sets: list[bytes] | None
    try:
        sets = mm.read_together(pieces) if pieces else []
    except LinuxError:  # one by one, so that what is wrong first is what is told
        pair = mm.read(sig, 16) if sig else bytes(16)
        timeout_ns = read_timespec(mm, timeout) if timeout else None
        sets = None
    else:
        pair = sets.pop(0) if sig else bytes(16)
        timeout_ns = timespec_ns(sets.pop(0)) if timeout else None
    mask, mask_size = struct.unpack("<QQ", pair)
    deadline = None if timeout_ns is None else _deadline(task, timeout_ns) if timeout_ns else 0
    outcome = _with_mask(task, mask, mask_size, lambda: _select(task, s32(count), addrs, deadline, sets))
    return _write_back_remaining(task, outcome, deadline, timeout, tm.timespec_of)


# --- epoll ---
def sys_epoll_create(task: Task, size: int) -> Outcome:
    """epoll_create(2). EINVAL: size is not positive; EMFILE."""
    if s32(size) <= 0:
        raise LinuxError(errno.EINVAL)
    return sys_epoll_create1(task, 0)


def sys_epoll_create1(task: Task, flags: int) -> Outcome:
    """epoll_create1(2). EINVAL: flags but EPOLL_CLOEXEC; EMFILE."""
    flags = u32(flags)
    if flags & ~ep.EPOLL_CLOEXEC:
        raise LinuxError(errno.EINVAL)
    return task.files.allocate(EpollFile(anon_inode(task.kernel)), bool(flags))


def sys_epoll_ctl(task: Task, epfd: int, operation: int, fd: int, event: int) -> Outcome:
    """epoll_ctl(2). EBADF, EEXIST, EINVAL, ELOOP, ENOENT, EPERM, EFAULT as its man page."""
    files = task.files.files
    epoll: Any = files.get(epfd)
    if type(epoll) is not EpollFile or fd not in files or not 0 < operation < 4:
        _check_epoll_ctl(task, epfd, operation, fd, event)
        epoll, fd, operation = files[fd_arg(epfd)], fd_arg(fd), s32(operation)
    file = files[fd]
    if operation == _DEL:
        epoll.delete(fd, file)
        return 0
    events, data = _unpack_event(task.mm.read(event, 12))
    if operation == _MOD:
        epoll.modify(fd, file, events, data)
        return 0
    if isinstance(file, SignalFile):
        file.bind(task)
    epoll.add(fd, file, events, data)
    return 0


def _check_epoll_ctl(task: Task, epfd: int, operation: int, fd: int, event: int) -> None:
    """What is wrong with a call, in Linux's order. Nothing may be: registers are wider than ints."""
    operation = s32(operation)
    if operation != _DEL:
        task.mm.read(event, 12)
    epoll = task.files.get(fd_arg(epfd))
    file = task.files.get(fd_arg(fd))
    if not file.pollable:
        raise LinuxError(errno.EPERM)
    if not isinstance(epoll, EpollFile) or not 0 < operation < 4:
        raise LinuxError(errno.EINVAL)


def _epoll_wait(task: Task, epfd: int, addr: int, limit: int, timeout_ns: int | None) -> Outcome:
    """EINVAL: limit, or not an epoll; EBADF; EFAULT. `timeout_ns` None: no limit."""
    limit = s32(limit)
    if not 0 < limit <= ep.EP_MAX_EVENTS:
        raise LinuxError(errno.EINVAL)
    epoll = task.files.get(fd_arg(epfd))
    if not isinstance(epoll, EpollFile):
        raise LinuxError(errno.EINVAL)
    return _collect_or_wait(task, epoll, addr, limit, timeout_ns)


def _collect_or_wait(task: Task, epoll: EpollFile, addr: int, limit: int, timeout_ns: int | None) -> Outcome:
    if epoll.ready:
        count = epoll.report(task.mm, addr, limit)
        if count:
            return count
    if timeout_ns == 0:
        return 0

    def attempt() -> int:
        count = epoll.report(task.mm, addr, limit)
        if not count:
            raise WouldBlock
        return count

    deadline = None if timeout_ns is None else _deadline(task, timeout_ns)
    return Wait(attempt, ((epoll.queue, po.POLLIN),), deadline_ns=deadline, restart=0)


def sys_epoll_wait(task: Task, epfd: int, addr: int, limit: int, timeout_ms: int) -> Outcome:
    """epoll_wait(2). EINTR by any signal that ends the wait."""
    epoll = task.files.files.get(epfd)
    if type(epoll) is EpollFile and 0 < limit <= 0xFFFF:
        count = 0
        ready = epoll.ready
        if len(ready) == 1:  # as `report` does it, where the event is the same as last time
            (item,) = ready
            bits = item.file.poll() & item.mask
            if bits and bits == item.packed_bits and not item.transient:
                task.mm.write(addr, item.packed)
                count = 1
        if ready and not count:
            count = epoll.report(task.mm, addr, limit)
        if count or not timeout_ms:
            asked = epoll.asked = epoll.asked + 1
            if not asked % SAMPLE:
                offer_events(task, epfd, epoll)
            return count
    timeout_ms = s32(timeout_ms)
    return _epoll_wait(task, epfd, addr, limit, None if timeout_ms < 0 else timeout_ms * 1_000_000)


def sys_epoll_pwait(
    task: Task, epfd: int, addr: int, limit: int, timeout_ms: int, mask: int, mask_size: int
) -> Outcome:
    """epoll_pwait(2): epoll_wait with a signal mask (0: as it is). EINVAL: mask_size."""
    if not mask:
        return sys_epoll_wait(task, epfd, addr, limit, timeout_ms)
    return _with_mask(task, mask, mask_size, lambda: sys_epoll_wait(task, epfd, addr, limit, timeout_ms))


def sys_epoll_pwait2(task: Task, epfd: int, addr: int, limit: int, timeout: int, mask: int, mask_size: int) -> Outcome:
    """epoll_pwait2(2): the timeout is a struct timespec, 0: none. EINVAL: its values."""
    timeout_ns = read_timespec(task.mm, timeout) if timeout else None
    return _with_mask(task, mask, mask_size, lambda: _epoll_wait(task, epfd, addr, limit, timeout_ns))


ROWS: Final = (
    Row("poll", sys_poll, "ptr count int"),
    Row("ppoll", sys_ppoll, "ptr count timespec ptr size"),
    Row("select", sys_select, "int ptr ptr ptr ptr"),
    Row("pselect6", sys_pselect6, "int ptr ptr ptr timespec ptr"),
    Row("epoll_create", sys_epoll_create, "int"),
    Row("epoll_create1", sys_epoll_create1, "flags"),
    Row("epoll_ctl", sys_epoll_ctl, "fd int fd ptr"),
    Row("epoll_wait", sys_epoll_wait, "fd ptr int int"),
    Row("epoll_pwait", sys_epoll_pwait, "fd ptr int int ptr size"),
    Row("epoll_pwait2", sys_epoll_pwait2, "fd ptr int timespec ptr size"),
)
