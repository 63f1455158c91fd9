"""The end of threads and processes: _exit(2), exit_group(2), what execve(2) needs of it, and reaping.

Owns the order of an exit (Linux kernel/exit.c, do_exit): robust list, clear_child_tid, vfork's parent, memory, files,
children, terminal, notification of the parent. A task's end is always carried out by `do_exit` on behalf of that very
task, from its own system call or from `deliver`; others only ask for it (signals.start_group_exit,
`kill_other_threads`). After `do_exit` the task is not to be touched; its context has been killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import signal_h as sg
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel.futex import exit_robust_list, futex_wake_address
from services.sentry.kernel.guest_ops import publish
from services.sentry.kernel.posix_timers import cancel_timers
from services.sentry.kernel.sessions import leave_group, signal_if_newly_orphaned
from services.sentry.kernel.signals import (
    SigInfo,
    drops,
    kick,
    recalculate,
    retarget_on_exit,
    send_signal_group,
    start_group_exit,
)
from services.sentry.kernel.waiter import ANY, Wait

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.thread_group import ThreadGroup
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace

__all__ = [
    "begin_exec",
    "complete_exec",
    "complete_vfork",
    "do_exit",
    "exit_group",
    "kill_other_threads",
    "release_group",
]

_COMM_MAX: Final = 15
_ZERO_WORD: Final = bytes(4)
_CPU_PATIENCE_NS: Final = 1_000_000  # what a thread used since a look that is no older counts for those that stay


def exit_group(task: Task, status: int) -> None:
    """End the whole process of `task` with wait status `status`, and `task` itself now."""
    start_group_exit(task.group, status, task)
    do_exit(task, task.group.exit_status)


def do_exit(task: Task, status: int) -> None:
    """End `task`; `status` is the wait status of this thread."""
    if task.exiting:
        return
    group = task.group
    kernel = task.kernel
    context = task.context_or_none
    mm = task.mm_or_none
    if context is not None:  # the platform forgets it when the memory goes
        shares = mm is not None and mm.users > 1
        if not shares and not context.in_guest:
            context.park()  # it waits for nothing: others may have its processor. A thread waits for its next task
        task.past_cpu_ns += context.cpu_time_ns(_CPU_PATIENCE_NS if shares else 0)
        task.nvcsw = task.voluntary_switches()
    task.exiting = True
    task.exit_code = status
    wait = task.wait
    if wait is not None:  # killed while parked: let it take itself out of its tables
        kernel.unpark(task)
        try:
            wait.on_signal()
        except LinuxError:  # its memory may be gone: nobody sees the result
            pass
    task.in_stop = False
    for other in group.tasks.values():
        if not other.exiting:
            last = False
            if group.shared_pending.signals:
                retarget_on_exit(task)
            if task.stop_pending:
                _leave_stop(task, group)
            break
    else:
        last = True
        cancel_timers(group)
    leaves = _release_memory(task, last)
    task.files.release(task)
    if group.children:
        _leave_children(task, group, last)
    task.state = "Z"
    task.leave_context()  # gone; nothing touches a task after its exit
    if task.pending.signals:
        kernel.uncharge_signals(task.pending.discard(sg.SIGSET_MASK))
    if task is not group.leader:  # it leaves no zombie
        group.tasks.pop(task.tid, None)
        group.dead_cpu_ns += task.past_cpu_ns
        kernel.remove_task(task)
    if last:
        _end_group(kernel, group)
    elif group.thread_gone.entries:
        group.thread_gone.wake(ANY)
    if leaves is not None:
        kernel.leaving.append((leaves, context))
    elif context is not None:
        context.kill()


def _leave_stop(task: Task, group: ThreadGroup) -> None:
    """A thread that was to stop is leaving instead: the group's stop may be complete without it."""
    task.stop_pending = False
    group.stop_count -= 1
    if group.stop_count == 0 and not group.exiting:
        group.stopped = True
        group.stop_report = group.stop_signal
        group.notify_parent(sg.CLD_STOPPED, group.stop_signal)


def _release_memory(task: Task, last: bool) -> AddressSpace | None:
    """What others learn from this thread's memory, then the memory (kernel/fork.c, mm_release).

    `last`: no other thread of the process is left. What is returned nobody else uses, and is still to be released
    (`Kernel.leaving`): whoever waits for this end need not wait for that.
    """
    mm = task.mm_or_none
    if mm is not None:
        if last:
            task.group.note_maxrss(mm)
        _leave_memory(task, mm)
    if task.vfork_done is not None:
        complete_vfork(task, at_once=True)
    if mm is None:
        return None
    task.mm_or_none = None  # as in Linux: a dying task has none
    if mm.users == 1 and mm.loan is None:
        mm.unpublish()
        return mm
    mm.release()
    return None


def _leave_memory(task: Task, mm: AddressSpace) -> None:
    """Robust list and clear_child_tid: what a thread does to memory that it is about to leave."""
    robust, addr = task.take_told()
    if mm.lent_to is not None:  # what is there now is the child's
        return
    # Nobody is left to see it when no other task shares the memory, or anything that is mapped there.
    if robust and mm.is_seen_by_others():
        exit_robust_list(task, robust)
    if addr and (mm.users > 1 or (task.vfork_done is not None and task.loan is None)):
        try:
            mm.write(addr, _ZERO_WORD)
            mm.flush()  # who is woken looks at it at once
        except LinuxError:
            pass
        else:
            futex_wake_address(mm, addr, 1, task.kernel.futexes)


def complete_vfork(task: Task, at_once: bool = False) -> None:
    """`task` no longer borrows its parent's memory: the parent in vfork(2) goes on; one that lent it (loans.py) when it
    has its own again.

    `at_once`: beside what the caller has still to do; else when the task's own call is served, which is first then.
    """
    queue = task.vfork_done
    if queue is None:
        return
    if task.loan is not None:
        task.loan.give_back(lambda: complete_vfork(task, at_once=True))
        return
    parent = task.vfork_parent
    task.vfork_done = task.vfork_parent = None
    wait = parent.wait if at_once and parent is not None and parent.waited_queue is queue else None
    if wait is not None and wait.retries:
        assert parent is not None
        outcome = wait.retry()
        if type(outcome) is int and task.kernel.answer(parent, outcome) and not queue.entries:
            return
    queue.wake(ANY)


# --- children ---------------------------------------------------------------------------------------------------------
def _leave_children(task: Task, group: ThreadGroup, last: bool) -> None:
    """Parent-death signals for children this very thread made; new parents for all when the process ends."""
    survivor = None if last else next(other for other in group.tasks.values() if not other.exiting)
    for child in list(group.children.values()):
        if child.parent_thread is task:
            for thread in list(child.tasks.values()):
                if thread.parent_death_signal and not thread.exiting:
                    info = SigInfo(thread.parent_death_signal, sg.SI_USER, group.pid, task.cred.ruid)
                    send_signal_group(child, info)
            child.parent_thread = survivor
        if last:
            _reparent(child, group)


def _find_reaper(group: ThreadGroup) -> ThreadGroup | None:
    """The nearest living ancestor marked by PR_SET_CHILD_SUBREAPER, else init; None when init itself ends."""
    walk = group.parent
    while walk is not None:
        if walk.subreaper and not walk.is_dead and not walk.exiting:
            return walk
        walk = walk.parent
    init = group.kernel.init_group
    return None if init is group else init


def _reparent(child: ThreadGroup, former: ThreadGroup) -> None:
    former.children.pop(child.pid, None)
    reaper = _find_reaper(former)
    child.parent = reaper
    if reaper is None:
        child.parent_thread = None
        return
    child.parent_thread = reaper.live_task()
    reaper.children[child.pid] = child
    child.exit_signal = sg.SIGCHLD
    for thread in child.tasks.values():
        publish(thread)
    if child.is_zombie:
        _notify_of_exit(child)
    else:
        signal_if_newly_orphaned(child.kernel, child, former)


# --- the end of a process ---------------------------------------------------------------------------------------------
def _end_group(kernel: Kernel, group: ThreadGroup) -> None:
    """Every thread is gone: become a zombie, tell those who wait."""
    if not group.exiting:
        group.exit_status = group.leader.exit_code
    if group.shared_pending.signals:
        kernel.uncharge_signals(group.shared_pending.discard(sg.SIGSET_MASK))
    session = group.session
    if session.leader is group:
        _leave_terminal(kernel, group)
    signal_if_newly_orphaned(kernel, group, None)
    group.is_zombie = True
    group.leader.state = "Z"
    if group.thread_gone.entries:
        group.thread_gone.wake(ANY)
    if group.is_init:
        kernel.finished(group.exit_status)
    if group.parent is not None:
        _notify_of_exit(group)
    if group.pidfd_queue.entries:
        group.pidfd_queue.wake(ANY)


def _leave_terminal(kernel: Kernel, group: ThreadGroup) -> None:
    """A session leader's end: its terminal is hung up and free (setsid(2), _exit(2))."""
    session = group.session
    session.leader = None
    terminal = session.terminal
    if terminal is None:
        return
    leader_exited = getattr(terminal, "leader_exited", None)
    if leader_exited is not None:
        leader_exited()
    session.terminal = None


def exit_code_and_status(group: ThreadGroup) -> tuple[int, int]:
    """(CLD_EXITED, exit code) or (CLD_KILLED or CLD_DUMPED, signal) of a zombie."""
    status = group.exit_status
    signo = status & 0x7F
    if not signo:
        return sg.CLD_EXITED, status >> 8 & 0xFF
    return (sg.CLD_DUMPED if status & 0x80 else sg.CLD_KILLED), signo


def _notify_of_exit(group: ThreadGroup) -> None:
    """Send the exit signal, wake wait(2) callers; reap at once if the parent does not want zombies (sigaction(2))."""
    parent = group.parent
    assert parent is not None
    signo = group.exit_signal
    autoreap = parent.is_dead
    if signo == sg.SIGCHLD:
        action = parent.sighand.actions[sg.SIGCHLD]
        if action.handler == sg.SIG_IGN or action.flags & sg.SA_NOCLDWAIT:
            autoreap = True
        if action.handler == sg.SIG_IGN or drops(parent, signo):
            signo = 0
    if 0 < signo <= sg.NSIG:
        code, status = exit_code_and_status(group)
        send_signal_group(parent, group.child_info(code, status, signo))
    if autoreap:
        release_group(group)
    parent.child_wait.wake(ANY)


def release_group(group: ThreadGroup) -> None:
    """Forget a zombie: its numbers are free again. It has no leader from now on."""
    kernel = group.kernel
    group.is_reaped = True
    kernel.remove_task(group.leader)
    kernel.groups.pop(group.pid, None)
    leave_group(kernel, group)
    if group.parent is not None:
        group.parent.children.pop(group.pid, None)
    # A ring of references would keep both, and each new process would take memory that no cache knows.
    group.tasks.clear()
    del group.leader


# --- execve's share ---------------------------------------------------------------------------------------------------
def kill_other_threads(task: Task, then: Callable[[], Outcome]) -> Outcome:
    """execve(2)'s point of no return: end all other threads, give `task` the leader's identity, then `then()`.

    Answers a Wait while threads are still ending; only a fatal signal of the process ends it.
    """
    group = task.group
    others = [other for other in group.tasks.values() if other is not task]
    if not others:
        return then()
    for other in others:
        if not other.exiting:
            other.zapped = True
            other.signal_pending = True
            kick(other, fatal=True)

    def retry() -> Outcome:
        if any(other is not task and not other.exiting for other in group.tasks.values()):
            raise WouldBlock
        _take_leadership(task)
        return then()

    try:
        return retry()
    except WouldBlock:
        return Wait(retry, ((group.thread_gone, ANY),), uninterruptible=True, restart=0)


def _take_leadership(task: Task) -> None:
    """`task` is the only thread left: it becomes the leader, with the process's pid as its tid."""
    group = task.group
    kernel = task.kernel
    old = group.leader
    if old is task:
        return
    group.dead_cpu_ns += old.past_cpu_ns
    kernel.remove_task(old)
    kernel.tasks.pop(task.tid, None)
    group.tasks.clear()
    task.tid = group.pid
    task.start_time_ns = old.start_time_ns
    kernel.tasks[task.tid] = task
    group.tasks[task.tid] = task
    group.leader = task
    for child in group.children.values():
        if child.parent_thread is old:
            child.parent_thread = task


def begin_exec(task: Task) -> None:
    """Before the old memory goes, with no other thread left: robust list, clear_child_tid.

    The caller replaces `task.context` at once, and `task.mm` and releases the old one afterwards. Descriptors and
    signal handlers become the task's own.
    """
    mm = task.mm_or_none
    if mm is not None:
        task.group.note_maxrss(mm)
        _leave_memory(task, mm)
    task.past_cpu_ns = task.cpu_time_ns()
    task.files.unshared_for(task)


def complete_exec(task: Task, cred: Credentials, comm: bytes, *, secure: bool = False, readable: bool = True) -> None:
    """The new memory is in place: what execve(2) resets, the new credentials and name, close-on-exec.

    The caller lets a parent in vfork(2) go on (`complete_vfork`). `secure`: the program gained privilege (parent-death
    signal goes); `readable`: the file may be read (dumpable).
    """
    group = task.group
    group.sighand = group.sighand.reset_for_exec()
    cancel_timers(group, interval_timers=False)
    task.altstack_sp = task.altstack_size = 0
    task.restart_call = None
    task.comm = comm[:_COMM_MAX]
    if secure or cred.euid != task.cred.euid or cred.egid != task.cred.egid:
        task.parent_death_signal = 0
    task.kernel.move_charge(task.cred.ruid, cred.ruid)
    task.cred = cred
    group.dumpable = 1 if readable and not secure and cred.euid == cred.ruid and cred.egid == cred.rgid else 0
    group.exit_signal = sg.SIGCHLD
    group.did_exec = True
    group.membarrier = 0
    task.files.close_on_exec(task)
    recalculate(task)
