"""Making tasks: clone(2), clone3(2), fork(2), vfork(2).

Owns the rules on flags and the construction of the child Task with everything but its guest thread:
`guest_ops.start_child` makes that on the platform and then calls back `finish(result)` before the child runs its
first instruction.

Order, so that a failure leaves nothing behind: check -> build the child, unseen -> start_child -> `finish`: on failure
undo; on success write the tids, make the child visible (process, family, groups), answer with its tid, or with the wait
of vfork(2). guest_ops lets the child run after `finish` has returned.
"""

from __future__ import annotations

import errno
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.abi import capability_h as ch
from protocol.abi import resource_h as rh
from protocol.abi import sched_h as sc
from protocol.abi import signal_h as sg
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.files.pidfd import PidFile
from services.sentry.kernel.guest_ops import start_child
from services.sentry.kernel.loans import what_to_lend
from services.sentry.kernel.posix_timers import watch_cpu_limit
from services.sentry.kernel.sessions import join_group
from services.sentry.kernel.signals import SigAction, SignalHandlers, recalculate
from services.sentry.kernel.task import Task
from services.sentry.kernel.thread_group import ThreadGroup
from services.sentry.kernel.waiter import ANY, NoReturn, Wait, WaitQueue

if TYPE_CHECKING:
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["CloneRequest", "clone"]

_PLAIN_FORK: Final = sc.CLONE_PARENT_SETTID | sc.CLONE_CHILD_SETTID | sc.CLONE_CHILD_CLEARTID
_CLONE3_ONLY: Final = sc.CLONE_CLEAR_SIGHAND | sc.CLONE_INTO_CGROUP
_KNOWN: Final = (
    sc.CLONE_VM
    | sc.CLONE_FS
    | sc.CLONE_FILES
    | sc.CLONE_SIGHAND
    | sc.CLONE_PIDFD
    | sc.CLONE_PTRACE
    | sc.CLONE_VFORK
    | sc.CLONE_PARENT
    | sc.CLONE_THREAD
    | sc.CLONE_SYSVSEM
    | sc.CLONE_SETTLS
    | sc.CLONE_PARENT_SETTID
    | sc.CLONE_CHILD_CLEARTID
    | sc.CLONE_DETACHED
    | sc.CLONE_UNTRACED
    | sc.CLONE_CHILD_SETTID
    | sc.CLONE_IO
    | sc.CLONE_NAMESPACES
    | _CLONE3_ONLY
)


class CloneRequest(NamedTuple):
    """The arguments of clone3(2); `stack` is the stack pointer to start with (0: the parent's)."""

    flags: int
    exit_signal: int = 0
    stack: int = 0
    tls: int = 0
    parent_tid: int = 0
    child_tid: int = 0
    pidfd: int = 0
    set_tid: tuple[int, ...] = ()


def clone(task: Task, request: CloneRequest) -> Outcome:
    """Make a child of `task`; its tid (or a Wait for it).

    EINVAL: flags that exclude each other; EPERM: namespaces without CAP_SYS_ADMIN; EAGAIN: RLIMIT_NPROC or no pid;
    EEXIST: a set_tid in use; EMFILE: no descriptor for CLONE_PIDFD.
    """
    flags = request.flags
    _check(task, flags)
    kernel = task.kernel
    lend = None if flags & ~_PLAIN_FORK or request.stack else what_to_lend(task)
    if not flags & sc.CLONE_VM and lend is None:
        task.context.park()  # copying takes long
    tid = _choose_tid(task, request.set_tid) if request.set_tid else kernel.new_tid()
    new_thread = bool(flags & sc.CLONE_THREAD)
    group = task.group if new_thread else _new_group(task, tid, flags)
    child = _new_task(task, tid, group, request)
    if lend is not None or flags & sc.CLONE_VFORK:
        child.vfork_done = WaitQueue()
        child.vfork_parent = task
    pid_file: PidFile | None = None
    if flags & sc.CLONE_PIDFD:
        try:
            pid_file = _give_pidfd(task, group, request)
        except LinuxError:
            _undo(task, child)
            raise
    kernel.add_task(child)  # the number is taken from here on
    done = False

    def finish(result: int) -> Outcome:
        nonlocal done
        done = True
        if result < 0:
            kernel.remove_task(child)
            _undo(task, child)
            if pid_file is not None:
                _take_back_pidfd(task, pid_file)
            raise LinuxError(-result, "the platform made no thread")
        return _publish(task, child, request, new_thread)

    try:
        return start_child(
            task,
            child,
            share_vm=bool(flags & sc.CLONE_VM),
            stack=request.stack,
            tls=request.tls if flags & sc.CLONE_SETTLS else None,
            finish=finish,
            lend=lend,
        )
    except LinuxError as failure:
        if not done:
            kernel.remove_task(child)
            _undo(task, child)
            if pid_file is not None:
                _take_back_pidfd(task, pid_file)
        raise failure


# --- checks -----------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=64)
def _check_flags(flags: int) -> None:
    """Flags that exclude each other. Programs use few sets of them: what was good is remembered."""
    if flags & ~_KNOWN:
        raise LinuxError(errno.EINVAL)
    if flags & sc.CLONE_NEWNS and flags & sc.CLONE_FS or flags & sc.CLONE_NEWUSER and flags & sc.CLONE_FS:
        raise LinuxError(errno.EINVAL)
    if flags & sc.CLONE_THREAD and not flags & sc.CLONE_SIGHAND:
        raise LinuxError(errno.EINVAL)
    if flags & sc.CLONE_SIGHAND and (not flags & sc.CLONE_VM or flags & sc.CLONE_CLEAR_SIGHAND):
        raise LinuxError(errno.EINVAL)
    if flags & sc.CLONE_THREAD and flags & (sc.CLONE_NEWUSER | sc.CLONE_NEWPID | sc.CLONE_PIDFD):
        raise LinuxError(errno.EINVAL)
    if flags & sc.CLONE_PIDFD and flags & sc.CLONE_DETACHED:
        raise LinuxError(errno.EINVAL)
    if flags & sc.CLONE_INTO_CGROUP:
        raise LinuxError(errno.EBADF, "no control group has a descriptor")


def _check(task: Task, flags: int) -> None:
    """clone(2), ERRORS; as Linux kernel/fork.c, copy_process, has them."""
    _check_flags(flags)
    if flags & sc.CLONE_PARENT and task.group.is_init:
        raise LinuxError(errno.EINVAL)
    cred = task.cred
    if flags & sc.CLONE_NAMESPACES:
        # Namespaces other than the first are not there, as in a kernel built without them.
        allowed = flags & sc.CLONE_NEWUSER or cred.has_cap(ch.CAP_SYS_ADMIN)
        raise LinuxError(errno.EINVAL if allowed else errno.EPERM)
    kernel = task.kernel
    if (
        cred.ruid != 0
        and kernel.processes_of.get(cred.ruid, 0) >= task.group.rlimits[rh.RLIMIT_NPROC][0]
        and not cred.has_cap(ch.CAP_SYS_RESOURCE)
        and not cred.has_cap(ch.CAP_SYS_ADMIN)
    ):
        raise LinuxError(errno.EAGAIN, "too many processes of this user")
    if len(kernel.tasks) >= kernel.threads_max:
        raise LinuxError(errno.EAGAIN, "too many tasks")


def _choose_tid(task: Task, wanted: tuple[int, ...]) -> int:
    """clone3(2), "The set_tid array": one pid namespace, so one element."""
    kernel = task.kernel
    if len(wanted) > 1:
        raise LinuxError(errno.EINVAL)
    tid = wanted[0]
    if tid < 1 or tid >= kernel.pid_max:
        raise LinuxError(errno.EINVAL)
    if not (task.cred.has_cap(ch.CAP_SYS_ADMIN) or task.cred.has_cap(ch.CAP_CHECKPOINT_RESTORE)):
        raise LinuxError(errno.EPERM)
    if not kernel.tid_is_free(tid):
        raise LinuxError(errno.EEXIST)
    return tid


# --- construction -----------------------------------------------------------------------------------------------------
def _new_group(task: Task, tid: int, flags: int) -> ThreadGroup:
    old = task.group
    if flags & sc.CLONE_SIGHAND:
        handlers = old.sighand
    elif flags & sc.CLONE_CLEAR_SIGHAND:
        handlers = _cleared(old.sighand)
    else:
        handlers = old.sighand.copy()
    group = ThreadGroup(task.kernel, tid, handlers, old.rlimits.copy())
    group.personality = old.personality
    group.dumpable = old.dumpable
    group.exec_path = old.exec_path
    group.oom_score_adj = old.oom_score_adj
    group.session = old.session
    if flags & sc.CLONE_VM:
        group.membarrier = old.membarrier
    return group


def _cleared(handlers: SignalHandlers) -> SignalHandlers:
    """CLONE_CLEAR_SIGHAND: handled signals become defaults, ignored ones stay."""
    made = SignalHandlers()
    for signo in range(1, sg.NSIG + 1):
        if handlers.actions[signo].handler == sg.SIG_IGN:
            made.set(signo, SigAction(sg.SIG_IGN))
    return made


def _new_task(task: Task, tid: int, group: ThreadGroup, request: CloneRequest) -> Task:
    flags = request.flags
    files = task.files.share() if flags & sc.CLONE_FILES else task.files.fork()
    fs = task.fs if flags & sc.CLONE_FS or task.fs is None else task.fs.fork()
    child = Task(task.kernel, tid, group, task.cred, files, fs, task.uts)
    child.inherit(task)
    if flags & sc.CLONE_VM and not flags & sc.CLONE_VFORK:
        # Only a child that shares memory without suspending the parent loses it (sigaltstack(2)).
        child.altstack_flags = sg.SS_DISABLE
    elif task.altstack_size or task.altstack_flags:
        child.altstack_sp, child.altstack_flags, child.altstack_size = task.altstack
    if flags & sc.CLONE_CHILD_CLEARTID:
        child.clear_child_tid = request.child_tid
    return child


def _undo(task: Task, child: Task) -> None:
    """The child never came to be."""
    child.exiting = True
    child.files.release(task)


def _give_pidfd(task: Task, group: ThreadGroup, request: CloneRequest) -> PidFile:
    file = PidFile(group, 0)
    fd = task.files.allocate(file, cloexec=True)
    try:
        task.mm.write_u32(request.pidfd, fd)
    except LinuxError:
        task.files.close(fd, task)
        raise
    return file


def _take_back_pidfd(task: Task, file: OpenFile) -> None:
    for fd, other in task.files.items():
        if other is file:
            task.files.close(fd, task)
            return


def _publish(task: Task, child: Task, request: CloneRequest, new_thread: bool) -> Outcome:
    """The guest thread is there: the child becomes visible; the parent's result."""
    kernel = task.kernel
    flags = request.flags
    group = child.group
    group.tasks[child.tid] = child
    kernel.forks += 1
    if new_thread:
        if group.stop_count or group.stopped:
            child.stop_pending = True
            group.stop_count += 1
        if group.shared_pending.signals or child.stop_pending or group.exiting:
            recalculate(child)
    else:
        _join_family(task, child, request)
    if flags & sc.CLONE_PARENT_SETTID:
        _store_tid(task, request.parent_tid, child.tid)
    if flags & sc.CLONE_CHILD_SETTID:
        _store_tid(child, request.child_tid, child.tid)
    return _wait_for_vfork(child)


def _join_family(task: Task, child: Task, request: CloneRequest) -> None:
    kernel = task.kernel
    group = child.group
    group.leader = child
    if request.flags & sc.CLONE_PARENT:
        parent, thread = task.group.parent, task.group.parent_thread
        group.exit_signal = task.group.exit_signal
    else:
        parent, thread = task.group, task
        group.exit_signal = request.exit_signal
    group.parent = parent
    group.parent_thread = thread
    if parent is not None:
        parent.children[group.pid] = group
    kernel.groups[group.pid] = group
    if task.group.cpu_limit is not None:
        watch_cpu_limit(group)
    process_group = task.group.process_group
    assert process_group is not None
    join_group(kernel, group, process_group)


def _store_tid(task: Task, addr: int, tid: int) -> None:
    """Linux ignores a bad address here too (put_user without a check in copy_process and schedule_tail)."""
    try:
        task.mm.write_u32(addr, tid)
    except LinuxError:
        return


def _wait_for_vfork(child: Task) -> Outcome:
    """vfork(2), or a loan: the parent goes on when the child did execve or exited. Else at once."""
    tid = child.tid
    queue = child.vfork_done
    if queue is None:
        return tid

    def retry() -> Outcome | NoReturn:
        if child.vfork_done is not None:
            raise WouldBlock
        return tid

    return Wait(retry, ((queue, ANY),), uninterruptible=True, restart=0)
