"""fork(2) of a small process without a copy of its memory: the parent lends it to the child.

Most children do little before execve(2) or _exit(2). So the parent does not go on at first, as in vfork(2): what is its
own of the memory (private and writable) is saved, which for a few hundred kilobytes takes a fraction of what a copied
address space does; the child runs in the same host process; when it executes a program or ends, the parent goes on with
its memory put back. A loan ends early, and the child then gets a copied address space after all, when it

- makes a system call that is not among `ALLOWED`, which neither wait for anybody nor change what is mapped, make a
  task or reach beyond its own process;
- faults, gets a signal, or runs for longer than `LIMIT_NS`.

Nothing of this can be told from a scheduler that lets the child run first. It is done only where the child might write
to its parent's memory in any case (ptrace(2): one user, dumpable), for it runs where that is mapped, and a hostile one
could change what the parent finds there, as a debugger could; and only where no other task uses the memory. Who copies
from or to it meanwhile (process_vm_readv(2)) waits; /proc/PID shows the child's.

A loan that ends early was in vain: the next forks of that memory are ordinary ones, twice as many each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from platforms.base import AddressSpace as PlatformSpace
from platforms.systrap.layout import LOAN_MOST, LOAN_RANGES_MOST
from protocol.abi import mman_h as mm_h
from services.sentry.kernel.waiter import ANY, Wait

if TYPE_CHECKING:
    from platforms.base import Context
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.timers import TimerHandle
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["ALLOWED", "LentSpace", "Loan", "after_loan", "what_to_lend"]

ALLOWED: Final = frozenset(
    """
    chdir close close_range dup dup2 dup3 execve execveat exit exit_group fchdir getegid geteuid getgid getpgid getpgrp
    getpid getppid getrlimit getsid gettid getuid rt_sigaction rt_sigprocmask set_robust_list set_tid_address setpgid
    setsid sigaltstack umask
    """.split()
)
LIMIT_NS: Final = 1_000_000
_MOST_SKIPPED: Final = 256
_RED_ZONE: Final = 128  # bytes below the stack pointer that are in use (x86-64 ABI)
_LINE: Final = 64
_DUMPABLE: Final = 1  # SUID_DUMP_USER


class LentSpace(PlatformSpace):
    """The memory of a parent, as long as its child has it."""

    __slots__ = ()

    def __init__(self, space: PlatformSpace) -> None:
        self.vm_pid = space.vm_pid
        self.shares = space.shares

    def release(self) -> None:
        """It goes back by itself."""


class Loan:
    """One loan: `child.loan`, and that of its memory. `mm`, `context`: the parent's, which is held. `in_vain`: it ends
    early.
    """

    __slots__ = ("_returning", "_timer", "child", "context", "in_vain", "mm")

    def __init__(self, parent: Task, child: Task) -> None:
        self.mm: AddressSpace = parent.mm
        self.context: Context = parent.context
        self.child = child
        self.in_vain = False
        self._returning = False
        self._timer: TimerHandle | None = None
        mm = self.mm
        mm.add_user()  # it stays even if the parent is killed
        mm.lent_to = child
        if mm.local_maps is not None:
            mm.local_maps.forbid_advice()
        child.loan = child.mm.loan = self
        self._watch()

    def _watch(self) -> None:
        kernel = self.child.kernel
        self._timer = kernel.timers.call_at(kernel.clock.monotonic_ns() + LIMIT_NS, self._overdue)

    def _overdue(self) -> None:
        child = self.child
        if not self._returning:
            if child.context_or_none is not None and child.context.in_guest:
                child.context.interrupt()
            self._watch()

    def give_back(self, returned: Callable[[], None]) -> None:
        """The child has left the memory, or is held for good. `returned()` when the parent has its own again."""
        if self._returning:
            return
        self._returning = True
        if self._timer is not None:
            self._timer.cancel()

        def done(_: list[int]) -> None:
            mm = self.mm
            self.child.loan = mm.lent_to = None
            mm.vain_loans = min(mm.vain_loans * 2 + 1, _MOST_SKIPPED) if self.in_vain else 0
            mm.loans_to_skip = mm.vain_loans
            returned()
            mm.release()

        self.context.put_memory_back(done)


def what_to_lend(task: Task) -> list[tuple[int, int]] | None:
    """Address and length of all that is to be saved if `task`, whose call is fork(2), lends its memory; None: it does
    not.
    """
    mm = task.mm
    context = task.context
    group = task.group
    if mm.users != 1 or len(group.tasks) != 1 or group.dumpable != _DUMPABLE or task.kernel.tracing:
        return None
    if not context.has_full_frame or not context.can_save() or mm.lent_to is not None:
        return None
    if mm.loans_to_skip:
        mm.loans_to_skip -= 1
        return None
    stack = (context.regs.rsp - _RED_ZONE) & -_LINE
    ranges = []
    left = LOAN_MOST
    for area in mm.vmas.areas:
        if area.dont_fork or area.locked:
            return None
        if area.shared or area.reserved or not area.prot & mm_h.PROT_WRITE:
            continue
        start, end = area.start, area.end
        if start <= stack < end:
            start = stack  # what lies below is nobody's
        left -= end - start
        if left < 0:
            return None
        ranges.append((start, end - start))
    return ranges if len(ranges) <= LOAN_RANGES_MOST else None


def after_loan(mm: AddressSpace, then: Callable[[], Outcome]) -> Outcome:
    """`then()`, which looks at `mm` from outside: once it has its own contents."""
    child = mm.lent_to
    queue = None if child is None else child.vfork_done
    if queue is None:
        return then()
    return Wait(lambda: after_loan(mm, then), ((queue, ANY),))
