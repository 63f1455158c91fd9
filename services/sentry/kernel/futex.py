"""Futexes (futex(2)) and robust lists (get_robust_list(2), set_robust_list(2)).

Owns who waits on which futex word. A key is (address space, address) for private futexes, or what `mm.futex_key` says
for shared ones ((identity, offset) of the memory behind it, or (address space, address) again for private memory).
Knows nothing of system-call numbers. Guest threads may run at the same time as this code: words are read once per
decision; wake-op and robust-list updates are a read and a write, which is atomic only against other system calls.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Final

from protocol.abi import futex_h as fh
from services.sentry.errors import LinuxError, Restart, WouldBlock
from services.sentry.kernel.waiter import Wait

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome, WaitQueue
    from services.sentry.mm.address_space import AddressSpace

__all__ = [
    "FutexTable",
    "FutexWait",
    "current_word",
    "exit_robust_list",
    "futex_wake_address",
    "wait",
    "wait_any",
    "wake_op",
]

_ANY: Final = fh.FUTEX_BITSET_MATCH_ANY
_NO_QUEUES: Final[tuple[tuple[WaitQueue, int], ...]] = ()
_TASK_BIT: Final = 47


class FutexWait(Wait):
    """One waiter: the Wait that the handler returns and its entry in the table at once, to spare allocations.

    What is the same for all without a deadline stands in the class.
    """

    __slots__ = ("bitset", "key", "task", "woken")

    retries = True
    deadline_ns: int | None = None
    uninterruptible = False
    restart = Restart.SYS
    restart_call: Callable[[], Outcome] | None = None

    def __init__(self, task: Task, key: Hashable, bitset: int) -> None:
        self.task = task
        self.key = key
        self.bitset = bitset
        self.woken = False

    def sources(self) -> Sequence[tuple[WaitQueue, int]]:
        return _NO_QUEUES

    def retry(self) -> Outcome:
        if self.woken:
            return 0
        raise WouldBlock

    def on_timeout(self) -> int:
        if self.woken:
            return 0
        self.task.kernel.futexes.forget(self)
        raise LinuxError(errno.ETIMEDOUT)

    def on_signal(self) -> int | None:
        if self.woken:
            return 0
        self.task.kernel.futexes.forget(self)
        return None


class _TimedWait(FutexWait):
    """A waiter with a deadline; `resume` is what restart_syscall(2) does."""

    __slots__ = ("deadline_ns", "restart_call")

    restart = Restart.BLOCK

    def __init__(self, task: Task, key: Hashable, bitset: int, deadline_ns: int, resume: Callable[[], Outcome]) -> None:
        super().__init__(task, key, bitset)
        self.deadline_ns = deadline_ns
        self.restart_call = resume


def _nobody_cares() -> None:
    pass


class FutexTable:
    """Waiters by key, in order of arrival. A key without waiters has no entry.

    `note_wake` is called at every wake-up and requeue, also one that finds nobody, before its call is answered: a word
    that was read before cannot decide about a wait any more.
    """

    __slots__ = ("note_wake", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[Hashable, list[FutexWait]] = {}
        self.note_wake: Callable[[], None] = _nobody_cares

    def add(self, waiter: FutexWait) -> None:
        queue = self.waiters.get(waiter.key)
        if queue is None:
            self.waiters[waiter.key] = [waiter]
        else:
            queue.append(waiter)

    def forget(self, waiter: FutexWait) -> None:
        """`waiter` no longer waits."""
        queue = self.waiters.get(waiter.key)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self.waiters[waiter.key]

    def wake(self, key: Hashable, count: int, bitset: int = _ANY) -> int:
        """Wake up to `count` waiters whose bitset meets `bitset`; how many."""
        self.note_wake()
        queue = self.waiters.get(key)
        if queue is None:
            return 0
        if len(queue) == 1:
            if not queue[0].bitset & bitset:
                return 0
            waiter = self.waiters.pop(key)[0]
            waiter.woken = True
            task = waiter.task
            if task.wait is not waiter or not task.kernel.answer(task, 0):
                task.kernel.mark_runnable(task)
            return 1
        woken = 0
        at = 0
        while at < len(queue) and woken < count:
            waiter = queue[at]
            if waiter.bitset & bitset:
                del queue[at]
                waiter.woken = True
                task = waiter.task
                if not task.queued:
                    task.queued = True
                    task.kernel.runnable.append(task)
                woken += 1
            else:
                at += 1
        if not queue:
            del self.waiters[key]
        return woken

    def requeue(self, key: Hashable, target: Hashable, wake_count: int, move_count: int) -> int:
        """Wake up to `wake_count`, move up to `move_count` of the rest to `target`; woken plus moved."""
        self.note_wake()
        woken = self.wake(key, wake_count) if wake_count > 0 else 0
        queue = self.waiters.get(key)
        if queue is None or move_count <= 0 or key == target:
            return woken + (min(len(queue), move_count) if queue and move_count > 0 else 0)
        moved = queue[:move_count]
        del queue[:move_count]
        if not queue:
            del self.waiters[key]
        for waiter in moved:
            waiter.key = target
        self.waiters.setdefault(target, []).extend(moved)
        return woken + len(moved)


def current_word(task: Task, addr: int) -> int:
    """The word at `addr` that the call being served waits on, aligned. EFAULT."""
    fast = task.mm.fast
    word = fast.brought_word() if fast is not None else None
    return task.mm.read_u32(addr) if word is None else word


def wait(task: Task, addr: int, key: Hashable, value: int, bitset: int, deadline_ns: int | None) -> Outcome:
    """Wait while the word at `addr` is `value`. EAGAIN: it is not; EFAULT; later ETIMEDOUT."""
    if current_word(task, addr) != value:
        raise LinuxError(errno.EAGAIN)
    return _enqueue(task, addr, key, value, bitset, deadline_ns)


def _enqueue(task: Task, addr: int, key: Hashable, value: int, bitset: int, deadline_ns: int | None) -> Outcome:
    if deadline_ns is None:
        waiter = FutexWait(task, key, bitset)
    else:

        def resume() -> Outcome:
            if task.mm.read_u32(addr) != value:
                raise LinuxError(errno.EAGAIN)
            return _enqueue(task, addr, key, value, bitset, deadline_ns)

        waiter = _TimedWait(task, key, bitset, deadline_ns, resume)
    task.kernel.futexes.add(waiter)
    return waiter


def wait_any(task: Task, words: list[tuple[int, Hashable, int]], deadline_ns: int | None) -> Outcome:
    """futex_waitv(2) on several (address, key, value): the index of one awakened. EAGAIN, EFAULT, ETIMEDOUT."""
    for addr, _, value in words:
        if task.mm.read_u32(addr) != value:
            raise LinuxError(errno.EAGAIN)
    table = task.kernel.futexes
    waiters = [FutexWait(task, key, _ANY) for _, key, _ in words]
    for waiter in waiters:
        table.add(waiter)

    def finish() -> int | None:
        for waiter in waiters:
            if not waiter.woken:
                table.forget(waiter)
        return next((at for at, waiter in enumerate(waiters) if waiter.woken), None)

    def retry() -> int:
        if not any(waiter.woken for waiter in waiters):
            raise WouldBlock
        return finish() or 0

    def on_timeout() -> int:
        index = finish()
        if index is None:
            raise LinuxError(errno.ETIMEDOUT)
        return index

    return Wait(retry, deadline_ns=deadline_ns, on_timeout=on_timeout, on_signal=finish)


def futex_wake_address(mm: AddressSpace, addr: int, count: int, table: FutexTable) -> int:
    """FUTEX_WAKE at `addr` on the kernel's behalf (clear_child_tid, robust lists); 0 when it is not mapped."""
    if not table.waiters:  # nobody waits for anything
        table.note_wake()
        return 0
    try:
        return table.wake(mm.futex_key(addr), count)
    except LinuxError:
        return 0


def wake_op(task: Task, addr: int, encoded: int) -> bool:
    """Carry out FUTEX_WAKE_OP's operation on the word at `addr`; whether the comparison of its old value holds.

    ENOSYS: an unknown operation or comparison; EFAULT.
    """
    operation, comparison = encoded >> 28 & 7, encoded >> 24 & 0xF
    operand, other = _signed12(encoded >> 12), _signed12(encoded)
    if encoded >> 28 & fh.FUTEX_OP_OPARG_SHIFT:
        operand = 1 << (operand & 31)
    old = task.mm.read_u32(addr)
    if operation == fh.FUTEX_OP_SET:
        new = operand
    elif operation == fh.FUTEX_OP_ADD:
        new = old + operand
    elif operation == fh.FUTEX_OP_OR:
        new = old | operand
    elif operation == fh.FUTEX_OP_ANDN:
        new = old & ~operand
    elif operation == fh.FUTEX_OP_XOR:
        new = old ^ operand
    else:
        raise LinuxError(errno.ENOSYS)
    task.mm.write_u32(addr, new & 0xFFFFFFFF)
    signed = old - (1 << 32) if old >> 31 else old
    if comparison == fh.FUTEX_OP_CMP_EQ:
        return signed == other
    if comparison == fh.FUTEX_OP_CMP_NE:
        return signed != other
    if comparison == fh.FUTEX_OP_CMP_LT:
        return signed < other
    if comparison == fh.FUTEX_OP_CMP_GE:
        return signed >= other
    if comparison == fh.FUTEX_OP_CMP_LE:
        return signed <= other
    if comparison == fh.FUTEX_OP_CMP_GT:
        return signed > other
    raise LinuxError(errno.ENOSYS)


def _signed12(value: int) -> int:
    value &= 0xFFF
    return value - 0x1000 if value & 0x800 else value


# --- robust lists -----------------------------------------------------------------------------------------------------
def exit_robust_list(task: Task, head: int) -> None:
    """Mark the futexes that the dying `task` holds as FUTEX_OWNER_DIED, wake a waiter of each (get_robust_list(2)).

    The list at `head` is the guest's: at most 2048 entries are followed, a fault ends the walk.
    """
    try:
        entry, offset, pending = fh.ROBUST_LIST_HEAD.unpack(task.mm.read(head, fh.ROBUST_LIST_HEAD.size))
        for _ in range(fh.ROBUST_LIST_LIMIT):
            if entry & ~1 == head:
                break
            following = task.mm.read_u64(entry & ~1)
            if entry != pending:
                _owner_died(task, (entry & ~1) + offset, bool(entry & 1), False)
            entry = following
    except LinuxError:
        return
    if pending & ~1:
        try:
            _owner_died(task, (pending & ~1) + offset, bool(pending & 1), True)
        except LinuxError:
            return


def _owner_died(task: Task, addr: int, priority_inheriting: bool, is_pending: bool) -> None:
    addr &= 0xFFFF_FFFF_FFFF_FFFF
    if addr & 3:
        raise LinuxError(errno.EINVAL)
    mm = task.mm
    table = task.kernel.futexes
    word = mm.read_u32(addr)
    if is_pending and not priority_inheriting and not word:
        futex_wake_address(mm, addr, 1, table)
        return
    if word & fh.FUTEX_TID_MASK != task.tid:
        return
    mm.write_u32(addr, word & fh.FUTEX_WAITERS | fh.FUTEX_OWNER_DIED)
    if mm.pending is not None:
        mm.flush()  # who is woken looks at it at once
    if not priority_inheriting and word & fh.FUTEX_WAITERS:
        futex_wake_address(mm, addr, 1, table)
