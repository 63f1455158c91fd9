"""The platform's share of clone(2): a host thread, or a copied address space, for a task that clone.py has made."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from services.sentry.errors import LinuxError
from services.sentry.kernel import published_files
from services.sentry.kernel.loans import LentSpace, Loan
from services.sentry.kernel.waiter import Outcome, StubOp
from services.sentry.mm.local_changes import LocalChanges
from services.sentry.mm.local_maps import LocalMaps

if TYPE_CHECKING:
    from platforms.base import Context
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Complete

__all__ = ["end_loan", "let_start", "publish", "start_child"]

# How many calls of a new program its stub may answer though they trap. Only those that come to us are counted, so that
# their sites are patched; a dynamic linker makes half a dozen such for each library.
_START_TRAPS: Final = 64


def publish(task: Task) -> None:
    """Show a task its ids where its patched call sites read them: at its start, and when its parent changes.

    And let it use its address space's published files, at its start and when its table of descriptors changes, and map
    memory by itself.
    """
    context = task.context_or_none
    if context is None or task.kernel.tracing:
        return
    group = task.group
    mm = task.mm_or_none
    if mm is not None and mm.local_maps is None and mm.loan is None:
        log = context.map_log()
        if log is not None:
            mm.local_maps = LocalMaps(mm, log)
    context.publish(group.pid, task.tid, group.parent.pid if group.parent is not None else 0)
    published_files.admit(task)


def let_start(task: Task, lowest: tuple[int, int], name: bytes, ahead: dict[int, tuple[object, int, bytes]]) -> None:
    """A new program, called `name`, is about to run in `task`, alone: what each start does is its stub's.

    `lowest`: start and end of what lies lowest of all that was placed from above; an empty range: there is nothing.
    `ahead`: files that it is likely to map, as in LocalChanges.
    """
    task.let_tell(_START_TRAPS)
    if not task.kernel.tracing:
        context = task.context
        log = context.change_log()
        if log is not None:
            changes = LocalChanges(task.mm, context, log)
            kernel, limits = task.kernel, task.group.rlimits
            maps = kernel.start_maps
            changes.foresee(maps.names(name), maps.first_calls(name), ahead, limits, kernel.missed)
            start, end = lowest
            if start < end:
                changes.open_gap(start, end, task.group.rlimits)


def start_child(
    parent: Task,
    child: Task,
    *,
    share_vm: bool,
    stack: int,
    tls: int | None,
    finish: Callable[[int], Outcome],
    lend: Sequence[tuple[int, int]] | None = None,
) -> Outcome:
    """Give `child` a context, and memory: the parent's own (`share_vm`), a copy of it, or at first the parent's, of
    which what `lend` names is saved (loans.py).

    `stack`: the child's stack pointer, 0 for the parent's. `tls`: its FS base, None for the parent's. `finish(result)`
    decides the parent's call: 0, or -errno when the host refused (the child then has neither memory nor context). The
    child goes to the guest with result 0 after `finish` returned.
    """
    context: Any = parent.context
    platform = getattr(context, "platform", None)
    if platform is None:
        raise LinuxError(errno.EAGAIN, "no platform")
    if child.group is not parent.group:  # new processes mostly execute a program
        platform.prepare_space()
    if lend is not None:
        return StubOp(lambda complete: _lend(parent, child, lend, finish, complete))
    if share_vm:
        first = platform.hand_thread_over(context) if child.group is parent.group else None
        if first is not None:
            return StubOp(lambda complete: _go_first(parent, child, first, stack, tls, finish, complete))
        copy = platform.reuse_thread(context)
        if copy is not None:  # a host thread waited for this: nothing has to be asked of the host
            parent.mm.add_user()
            child.mm = parent.mm
            _adopt(child, copy, stack, tls)
            return _born(child, finish)
    return StubOp(lambda complete: _start(parent, child, share_vm, stack, tls, finish, complete))


def _go_first(
    parent: Task,
    child: Task,
    copy: Context,
    stack: int,
    tls: int | None,
    finish: Callable[[int], Outcome],
    complete: Complete,
) -> None:
    """The child goes on in the parent's own host thread, with context `copy`; the parent is answered, and has none."""

    parent.mm.add_user()
    child.mm = parent.mm
    _adopt(child, copy, stack, tls)
    complete(lambda: _born(child, finish))


def _adopt(child: Task, copy: Context, stack: int, tls: int | None) -> None:
    """Make the new context, a copy of the parent's, the child's."""
    child.context = copy
    copy.owner = child
    copy.return_in_child(stack, tls)


def _born(child: Task, finish: Callable[[int], Outcome]) -> Outcome:
    """The child has all that it needs: what its parent's call gives; then it goes to the guest."""
    answer = finish(0)
    _let_go(child)
    return answer


def _let_go(child: Task) -> None:
    """All is told: the child goes to the guest."""
    publish(child)
    child.share_mask()
    child.let_tell()
    context = child.context
    memory = child.mm
    held = child.signal_pending or child.stop_pending  # something is to be looked at before it runs
    if memory.pending is not None and (held or memory.trapped is not context):
        # The parent's number for it, or its own, in a word that its end may clear before the parent has its answer. Who
        # has memory of its own may store it on its way. Nobody hears of a bad address (kernel/fork.c).
        with suppress(LinuxError):
            memory.flush()
    memory.trapped = None
    if held:
        child.kernel.mark_runnable(child)
    elif memory.pending is not None:
        data, memory.pending = memory.pending, None
        context.resume_with_copy(0, memory.pending_addr, data)
    else:
        context.resume_registers()


def _lend(
    parent: Task,
    child: Task,
    ranges: Sequence[tuple[int, int]],
    finish: Callable[[int], Outcome],
    complete: Complete,
) -> None:
    """Save what `ranges` name of the parent's memory, and let the child run there in a thread of the same host process.

    Where no thread can be had the memory is copied after all.
    """
    context: Any = parent.context
    platform = context.platform
    copy: Any = platform.reuse_thread(context)

    def settle() -> Outcome:
        return _born(child, finish)

    def failed() -> Outcome:
        """The host process is gone."""
        memory = child.mm
        copy.owner = None
        copy.kill()
        child.context_or_none = child.mm_or_none = None
        if child.loan is not None:
            child.loan.give_back(lambda: None)
        memory.release()
        return finish(-errno.ENOMEM)

    def end(thunk: Callable[[], Outcome]) -> None:
        if not parent.exiting:
            complete(thunk)
            return
        with suppress(LinuxError):
            thunk()

    def saved(results: list[int]) -> None:
        end(failed if results else settle)

    def begin() -> None:
        """Its thread is there: the parent saves while the rest is done."""
        context.save_memory(ranges, saved)
        child.mm = parent.mm.fork()
        assert parent.mm.space is not None
        child.mm.space = LentSpace(parent.mm.space)
        child.mm.trapped = copy  # as in `_start`
        Loan(parent, child)
        _adopt(child, copy, 0, None)

    def make(room: int) -> None:
        nonlocal copy
        if room >= 0:
            copy = platform.add_thread(context, made)
        else:
            made(room)

    def made(result: int) -> None:
        if parent.exiting or context.dead:  # the host process died meanwhile
            if result >= 0:
                copy.kill()
            end(lambda: finish(-errno.EAGAIN))
        elif result < 0:
            child.vfork_done = child.vfork_parent = None
            _start(parent, child, False, 0, None, finish, complete)
        else:
            begin()

    if copy is not None:
        begin()
    else:
        platform.make_room(context, make)


def end_loan(child: Task, complete: Callable[[int], None]) -> None:
    """The child, which runs in its parent's memory and whose context is held with a full frame, is to have its own.

    `complete(0)`: it has, and a context there, held as the other was; -errno: it has not, and cannot go on. The caller
    then lets the parent go on (`complete_vfork`).
    """
    context: Any = child.context

    def done(result: int) -> None:
        if child.exiting or result < 0:
            if result >= 0:
                copy.space.release()  # its host process died meanwhile, and nobody is left to go on here
            complete(min(result, 0))
            return
        assert child.loan is not None
        child.loan.in_vain = True
        child.keep_mask()
        child.keep_told()
        child.past_cpu_ns += context.cpu_time_ns()
        copy.kind, copy.nr, copy.args = context.kind, context.nr, context.args
        copy.orig_rax, copy.fault = context.orig_rax, context.fault
        copy.owner = child
        child.context = copy
        child.mm.space = copy.space
        child.mm.loan = None
        context.owner = None
        context.exit()
        complete(0)

    try:
        copy = context.platform.fork_space(context, done, held=True, copy_frame=True)
    except MemoryError:
        complete(-errno.ENOMEM)


def _start(
    parent: Task,
    child: Task,
    share_vm: bool,
    stack: int,
    tls: int | None,
    finish: Callable[[int], Outcome],
    complete: Complete,
) -> None:
    """Have the platform clone a host thread or process; `complete` gets the parent's outcome."""

    def settle(result: int) -> Outcome:
        """The child's guest thread is there, or is not: the parent's outcome."""
        if result < 0:
            memory = child.mm_or_none  # None when the host refused before there was any
            if memory is not None and not share_vm:
                memory.release()
            elif memory is not None:
                memory.users -= 1
            child.mm_or_none = None
            child.context_or_none = None
            return finish(-errno.EAGAIN if result == -errno.EAGAIN else -errno.ENOMEM)
        if not share_vm and not stack:  # the frame is as its parent's: the child may copy on its way what it is told
            child.mm.trapped = child.context
        return _born(child, finish)

    def done(result: int) -> None:
        if parent.exiting:  # its host process died meanwhile: nobody waits, but the child's fate is to be settled
            try:
                settle(result)
            except LinuxError:
                pass
            return
        complete(lambda: settle(result))

    def begin(room: int) -> None:
        context: Any = parent.context_or_none
        if room < 0 or context is None:  # no slot, or the parent ended while one was made
            done(room or -errno.EAGAIN)
            return
        platform = context.platform
        try:
            if share_vm:
                copy = platform.add_thread(context, done)
            else:
                copy = platform.fork_space(context, done, held=True, copy_frame=True)
        except MemoryError:
            done(-errno.ENOMEM)
            return
        if share_vm:
            parent.mm.add_user()
            child.mm = parent.mm
        else:
            child.mm = parent.mm.fork()
            child.mm.space = copy.space
        _adopt(child, copy, stack, tls)

    if share_vm:
        context: Any = parent.context
        context.platform.make_room(context, begin)
    else:
        begin(0)
