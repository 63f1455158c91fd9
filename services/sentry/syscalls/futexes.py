"""futex(2), futex_waitv(2), get_robust_list(2), set_robust_list(2): decoding; the mechanism is kernel/futex.py.

`sys_futex` is one of the hottest calls: a wake without waiters and a wait on a changed word return without a further
frame.
"""

from __future__ import annotations

import errno
from collections.abc import Hashable
from typing import TYPE_CHECKING, Final

from protocol.abi import futex_h as fh
from protocol.abi import time_h as th
from services.sentry.errors import LinuxError
from services.sentry.kernel.access import check_trace_access
from services.sentry.kernel.futex import FutexWait, current_word, wait, wait_any, wake_op
from services.sentry.syscalls.arguments import s32, u32
from services.sentry.syscalls.table import Row
from services.sentry.syscalls.time_arguments import read_timespec

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome

_ANY: Final = fh.FUTEX_BITSET_MATCH_ANY
_PRIVATE: Final = fh.FUTEX_PRIVATE_FLAG
_REALTIME: Final = fh.FUTEX_CLOCK_REALTIME
_EAGAIN: Final = -errno.EAGAIN
_COMMANDS: Final = frozenset(
    {
        fh.FUTEX_WAIT,
        fh.FUTEX_WAKE,
        fh.FUTEX_REQUEUE,
        fh.FUTEX_CMP_REQUEUE,
        fh.FUTEX_WAKE_OP,
        fh.FUTEX_WAIT_BITSET,
        fh.FUTEX_WAKE_BITSET,
    }
)
_U32: Final = 0xFFFFFFFF
_USER_TOP: Final = 1 << 47


def sys_futex(task: Task, addr: int, op: int, value: int, timeout: int, addr2: int, value3: int) -> Outcome:
    """futex(2). EAGAIN: the word changed; EINVAL: alignment, bitset, time; EFAULT; ETIMEDOUT; ENOSYS: others."""
    command = op & 0x7F
    if addr & 3 or addr >= _USER_TOP:
        if command not in _COMMANDS:
            raise LinuxError(errno.ENOSYS)
        raise LinuxError(errno.EINVAL if addr & 3 else errno.EFAULT)
    key: Hashable = (task.mm, addr) if op & _PRIVATE else task.mm.futex_key(addr)
    if command == 1:  # FUTEX_WAKE
        if op & _REALTIME:
            raise LinuxError(errno.ENOSYS)
        table = task.kernel.futexes
        if key not in table.waiters:
            table.note_wake()
            return 0
        return table.wake(key, max(1, s32(value)))
    if not timeout and (
        (command == 9 and value3 & _U32 == _ANY) or (command == 0 and not op & _REALTIME)
    ):  # FUTEX_WAIT_BITSET of any waker, FUTEX_WAIT
        if current_word(task, addr) != value & _U32:
            return _EAGAIN
        waiter = FutexWait(task, key, _ANY)
        waiters = task.kernel.futexes.waiters
        queue = waiters.get(key)
        if queue is None:
            waiters[key] = [waiter]
        else:
            queue.append(waiter)
        return waiter
    return _futex_other(task, key, addr, op, value, timeout, addr2, value3)


def _futex_other(
    task: Task, key: Hashable, addr: int, op: int, value: int, timeout: int, addr2: int, value3: int
) -> Outcome:
    command = op & 0x7F
    if op & _REALTIME and command != fh.FUTEX_WAIT_BITSET:
        raise LinuxError(errno.ENOSYS)
    if command in (fh.FUTEX_WAIT, fh.FUTEX_WAIT_BITSET):
        bitset = _ANY if command == fh.FUTEX_WAIT else u32(value3)
        if not bitset:
            raise LinuxError(errno.EINVAL)
        return wait(task, addr, key, u32(value), bitset, _deadline(task, command, op, timeout))
    if command == fh.FUTEX_WAKE_BITSET:
        if not u32(value3):
            raise LinuxError(errno.EINVAL)
        return task.kernel.futexes.wake(key, max(1, s32(value)), u32(value3))
    if command in (fh.FUTEX_REQUEUE, fh.FUTEX_CMP_REQUEUE, fh.FUTEX_WAKE_OP):
        return _two_words(task, key, addr, op, value, timeout, addr2, value3)
    raise LinuxError(errno.ENOSYS)


def _two_words(task: Task, key: Hashable, addr: int, op: int, value: int, count2: int, addr2: int, value3: int) -> int:
    """FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP; the timeout argument is a second count."""
    if addr2 & 3:
        raise LinuxError(errno.EINVAL)
    if addr2 >= _USER_TOP:
        raise LinuxError(errno.EFAULT)
    target: Hashable = (task.mm, addr2) if op & _PRIVATE else task.mm.futex_key(addr2)
    table = task.kernel.futexes
    first, second = s32(value), s32(count2)
    if op & 0x7F == fh.FUTEX_WAKE_OP:
        holds = wake_op(task, addr2, u32(value3))
        woken = table.wake(key, max(1, first))
        return woken + table.wake(target, max(1, second)) if holds else woken
    if first < 0 or second < 0:
        raise LinuxError(errno.EINVAL)
    if op & 0x7F == fh.FUTEX_CMP_REQUEUE and task.mm.read_u32(addr) != u32(value3):
        raise LinuxError(errno.EAGAIN)
    return table.requeue(key, target, first, second)


def _deadline(task: Task, command: int, op: int, timeout: int) -> int | None:
    """When a wait ends, on the monotonic clock: FUTEX_WAIT takes a duration, FUTEX_WAIT_BITSET a moment."""
    if not timeout:
        return None
    given = read_timespec(task.mm, timeout)
    clock = task.kernel.clock
    if command == fh.FUTEX_WAIT:
        return clock.monotonic_ns() + given
    if op & _REALTIME:
        return clock.monotonic_ns() + given - clock.realtime_ns()
    return given


def sys_futex_waitv(task: Task, addr: int, count: int, flags: int, timeout: int, clock_id: int) -> Outcome:
    """futex_waitv(2): the index of a word that was awakened. EINVAL, EFAULT, EAGAIN, ETIMEDOUT."""
    count = u32(count)
    if u32(flags) or not 0 < count <= fh.FUTEX_WAITV_MAX or not addr:
        raise LinuxError(errno.EINVAL)
    deadline: int | None = None
    if timeout:
        if s32(clock_id) not in (th.CLOCK_MONOTONIC, th.CLOCK_REALTIME):
            raise LinuxError(errno.EINVAL)
        deadline = read_timespec(task.mm, timeout)
        if s32(clock_id) == th.CLOCK_REALTIME:
            deadline += task.kernel.clock.monotonic_ns() - task.kernel.clock.realtime_ns()
    words: list[tuple[int, Hashable, int]] = []
    raw = task.mm.read(addr, count * fh.FUTEX_WAITV_ENTRY.size)
    for value, word, bits, reserved in fh.FUTEX_WAITV_ENTRY.iter_unpack(raw):
        private = bits & fh.FUTEX2_PRIVATE
        if reserved or bits & ~(fh.FUTEX2_SIZE_MASK | fh.FUTEX2_PRIVATE) or bits & fh.FUTEX2_SIZE_MASK != fh.FUTEX_32:
            raise LinuxError(errno.EINVAL)
        if value > _U32 or word & 3:
            raise LinuxError(errno.EINVAL)
        words.append((word, (task.mm, word) if private else task.mm.futex_key(word), value))
    return wait_any(task, words, deadline)


def sys_set_robust_list(task: Task, head: int, size: int) -> int:
    """set_robust_list(2). EINVAL: the size of another architecture's structure."""
    if size != fh.ROBUST_LIST_HEAD.size:
        raise LinuxError(errno.EINVAL)
    task.robust_list = head
    return 0


def sys_get_robust_list(task: Task, pid: int, head_addr: int, size_addr: int) -> int:
    """get_robust_list(2). ESRCH; EPERM: another's without ptrace access; EFAULT."""
    target = task if not s32(pid) else task.kernel.tasks.get(s32(pid))
    if target is None:
        raise LinuxError(errno.ESRCH)
    check_trace_access(task, target)
    task.mm.write_u64(size_addr, fh.ROBUST_LIST_HEAD.size)
    task.mm.write_u64(head_addr, target.robust_list)
    return 0


ROWS: Final = (
    Row("futex", sys_futex, "ptr int int ptr ptr int", "partial", "no priority inheritance (ENOSYS)"),
    Row("futex_waitv", sys_futex_waitv, "ptr count flags timespec int"),
    Row("set_robust_list", sys_set_robust_list, "ptr size"),
    Row("get_robust_list", sys_get_robust_list, "pid ptr ptr"),
)
