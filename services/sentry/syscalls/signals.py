"""Signals: actions, masks, sending, waiting (rt_sigaction(2), kill(2), sigtimedwait(2), sigaltstack(2)...)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import signal_h as sg
from protocol.abi.layout import U64
from services.sentry.errors import LinuxError, Restart, WouldBlock
from services.sentry.kernel.signal_delivery import altstack_flags, set_altstack, sigreturn
from services.sentry.kernel.signals import (
    UNBLOCKABLE,
    SigAction,
    SigInfo,
    check_kill_permission,
    dequeue,
    flush_signals,
    pending_for,
    send_signal_group,
    send_signal_task,
    set_blocked,
)
from services.sentry.kernel.waiter import ANY, NO_RETURN, Wait
from services.sentry.syscalls.arguments import s32
from services.sentry.syscalls.table import Row
from services.sentry.syscalls.time_arguments import read_timespec

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.thread_group import ThreadGroup
    from services.sentry.kernel.waiter import Outcome

_KNOWN_FLAGS: Final = (
    sg.SA_NOCLDSTOP
    | sg.SA_NOCLDWAIT
    | sg.SA_SIGINFO
    | sg.SA_EXPOSE_TAGBITS
    | sg.SA_ONSTACK
    | sg.SA_RESTART
    | sg.SA_NODEFER
    | sg.SA_RESETHAND
    | sg.SA_RESTORER
)


# --- actions ----------------------------------------------------------------------------------------------------------
def sys_rt_sigaction(task: Task, signo: int, action_addr: int, old_addr: int, size: int) -> int:
    """rt_sigaction(2). EINVAL: size, signal number, SIGKILL or SIGSTOP changed; EFAULT."""
    signo = s32(signo)
    if size != sg.SIGSET_BYTES:
        raise LinuxError(errno.EINVAL)
    new = sg.SIGACTION.unpack(task.mm.read(action_addr, sg.SIGACTION.size)) if action_addr else None
    if not 1 <= signo <= sg.NSIG or (new is not None and signo in (sg.SIGKILL, sg.SIGSTOP)):
        raise LinuxError(errno.EINVAL)
    handlers = task.group.sighand
    old = handlers.actions[signo]
    if new is not None:
        handler, flags, restorer, mask = new
        handlers.set(signo, SigAction(handler, flags & _KNOWN_FLAGS, restorer, mask & ~UNBLOCKABLE))
        if handlers.ignored >> (signo - 1) & 1:
            flush_signals(task, signo)  # POSIX 3.3.1.3: a pending signal that becomes ignored is discarded
    if old_addr:
        task.mm.write(old_addr, sg.SIGACTION.pack(old.handler, old.flags, old.restorer, old.mask))
    return 0


def sys_rt_sigprocmask(task: Task, how: int, set_addr: int, old_addr: int, size: int) -> int:
    """rt_sigprocmask(2). EINVAL: size or `how`; EFAULT."""
    if size != 8:
        raise LinuxError(errno.EINVAL)
    mm = task.mm
    old = task.signal_mask
    if set_addr:
        given = mm.read_u64(set_addr)
        how &= 0xFFFFFFFF
        if how == 2:
            new = given & ~UNBLOCKABLE
        elif how == 0:
            new = (old | given) & ~UNBLOCKABLE
        elif how == 1:
            new = old & ~given
        else:
            raise LinuxError(errno.EINVAL)
        if new != old:
            if task.signal_pending or task.pending.signals or task.group.shared_pending.signals:
                set_blocked(task, new)
            else:
                task.signal_mask = new
    if old_addr:
        mm.write_u64(old_addr, old)
    task.share_mask()
    return 0


def sys_rt_sigpending(task: Task, addr: int, size: int) -> int:
    """rt_sigpending(2). EINVAL: size; EFAULT."""
    if size > sg.SIGSET_BYTES:
        raise LinuxError(errno.EINVAL)
    task.mm.write(addr, U64.pack(pending_for(task, task.signal_mask))[:size])
    return 0


def sys_rt_sigsuspend(task: Task, addr: int, size: int) -> Outcome:
    """rt_sigsuspend(2): always EINTR, once a handler ran. EINVAL, EFAULT."""
    if size != sg.SIGSET_BYTES:
        raise LinuxError(errno.EINVAL)
    task.replace_mask_until_return(task.mm.read_u64(addr))
    return Wait(restart=Restart.NOHAND)


def sys_pause(task: Task) -> Outcome:
    return Wait(restart=Restart.NOHAND)


def sys_rt_sigreturn(task: Task) -> Outcome:
    sigreturn(task)
    return NO_RETURN


def sys_sigaltstack(task: Task, new_addr: int, old_addr: int) -> int:
    """sigaltstack(2). EPERM: in use; EINVAL: flags; ENOMEM: too small; EFAULT."""
    rsp = task.context.regs.rsp
    old = (task.altstack_sp, altstack_flags(task, rsp), task.altstack_size)
    if new_addr:
        sp, flags, size = sg.STACK_T.unpack(task.mm.read(new_addr, sg.STACK_T.size))
        set_altstack(task, sp, flags & 0xFFFFFFFF, size)
    if old_addr:
        flags = old[1] - (1 << 32) if old[1] >> 31 else old[1]
        task.mm.write(old_addr, sg.STACK_T.pack(old[0], flags, old[2]))
    return 0


# --- sending ----------------------------------------------------------------------------------------------------------
def _check_signo(signo: int) -> int:
    signo = s32(signo)
    if not 0 <= signo <= sg.NSIG:
        raise LinuxError(errno.EINVAL)
    return signo


def sys_kill(task: Task, pid: int, signo: int) -> int:
    """kill(2). EINVAL: signal; ESRCH; EPERM: none of the targets may be signalled."""
    pid, signo = s32(pid), s32(signo)
    kernel = task.kernel
    if pid > 0:
        group = kernel.groups.get(pid)
        if group is None:
            thread = kernel.tasks.get(pid)  # Linux takes any thread's number for its process
            if thread is None:
                raise LinuxError(errno.ESRCH)
            group = thread.group
        _kill_one(task, group, signo)
        return 0
    if pid == -(1 << 31):
        raise LinuxError(errno.ESRCH)
    if pid == -1:
        targets = [group for group in kernel.groups.values() if not group.is_init and group is not task.group]
    else:
        process_group = task.group.process_group if pid == 0 else kernel.process_groups.get(-pid)
        targets = list(process_group.members.values()) if process_group is not None else []
    failures = [_kill_quietly(task, group, signo) for group in targets]
    if not failures:
        raise LinuxError(errno.ESRCH)
    if pid == -1:  # those that may not be signalled do not count as a failure
        failures = [failure for failure in failures if failure != errno.EPERM]
        failure = failures[-1] if failures else 0
    else:
        failure = 0 if 0 in failures else failures[-1]
    if failure:
        raise LinuxError(failure)
    return 0


def _kill_one(task: Task, group: ThreadGroup, signo: int) -> None:
    _check_signo(signo)
    check_kill_permission(task, group, signo)
    if signo:
        send_signal_group(group, task.sender_info(signo))


def _kill_quietly(task: Task, group: ThreadGroup, signo: int) -> int:
    try:
        _kill_one(task, group, signo)
    except LinuxError as refused:
        return refused.errno
    return 0


def _thread(task: Task, tgid: int | None, tid: int) -> Task:
    """The thread. EINVAL: not positive; ESRCH: none, or of another process."""
    if tid <= 0 or (tgid is not None and tgid <= 0):
        raise LinuxError(errno.EINVAL)
    target = task.kernel.tasks.get(tid)
    if target is None or (tgid is not None and target.group.pid != tgid):
        raise LinuxError(errno.ESRCH)
    return target


def _send_to_thread(task: Task, target: Task, info: SigInfo) -> int:
    check_kill_permission(task, target.group, info.signo)
    if info.signo:
        send_signal_task(target, info)
    return 0


def sys_tkill(task: Task, tid: int, signo: int) -> int:
    """tkill(2). EINVAL, ESRCH, EPERM, EAGAIN."""
    target = _thread(task, None, s32(tid))
    return _send_to_thread(task, target, task.sender_info(_check_signo(signo), sg.SI_TKILL))


def sys_tgkill(task: Task, tgid: int, tid: int, signo: int) -> int:
    """tgkill(2). EINVAL, ESRCH, EPERM, EAGAIN."""
    target = _thread(task, s32(tgid), s32(tid))
    return _send_to_thread(task, target, task.sender_info(_check_signo(signo), sg.SI_TKILL))


def _read_info(task: Task, addr: int, signo: int, to_self: bool) -> SigInfo:
    """A siginfo the guest made. EPERM: it would look like another's kill(2) or tkill(2)."""
    raw = task.mm.read(addr, sg.SIGINFO_BYTES)
    _, _, code = sg.SIGINFO_HEADER.unpack_from(raw)
    if not to_self and (code >= 0 or code == sg.SI_TKILL):
        raise LinuxError(errno.EPERM)
    _, _, _, pid, uid, value = sg.SIGINFO_QUEUE.unpack(raw)
    return SigInfo(signo, code, pid, uid, value=value, raw=signo.to_bytes(4, "little") + raw[4:])


def sys_rt_sigqueueinfo(task: Task, pid: int, signo: int, addr: int) -> int:
    """rt_sigqueueinfo(2). EFAULT, EPERM, ESRCH, EINVAL, EAGAIN."""
    pid, signo = s32(pid), s32(signo)
    info = _read_info(task, addr, signo & 0x7FFFFFFF, pid == task.group.pid)
    group = task.kernel.groups.get(pid)
    if group is None:
        raise LinuxError(errno.ESRCH)
    _check_signo(signo)
    check_kill_permission(task, group, signo)
    if signo:
        send_signal_group(group, info)
    return 0


def sys_rt_tgsigqueueinfo(task: Task, tgid: int, tid: int, signo: int, addr: int) -> int:
    """rt_tgsigqueueinfo(2). As above, for a thread."""
    tgid, tid = s32(tgid), s32(tid)
    info = _read_info(task, addr, s32(signo) & 0x7FFFFFFF, tid == task.tid)
    target = _thread(task, tgid, tid)
    _check_signo(signo)
    return _send_to_thread(task, target, info)


# --- waiting for ------------------------------------------------------------------------------------------------------
def sys_rt_sigtimedwait(task: Task, set_addr: int, info_addr: int, timeout_addr: int, size: int) -> Outcome:
    """rt_sigtimedwait(2): the signal. EINVAL; EFAULT; EAGAIN: the time is over; EINTR: another signal's handler."""
    if size != sg.SIGSET_BYTES:
        raise LinuxError(errno.EINVAL)
    wanted = task.mm.read_u64(set_addr) & ~UNBLOCKABLE
    deadline: int | None = None
    timeout: int | None = None
    if timeout_addr:
        timeout = read_timespec(task.mm, timeout_addr)
        deadline = task.kernel.clock.monotonic_ns() + timeout
    taken = _take(task, wanted, info_addr)
    if taken:
        return taken
    if timeout == 0:
        raise LinuxError(errno.EAGAIN)
    # While it waits the signals are blocked, so that they queue instead of being acted on.
    old_mask = task.signal_mask
    set_blocked(task, old_mask | wanted)

    def retry() -> int:
        info = dequeue(task, wanted)
        if info is None:
            raise WouldBlock
        set_blocked(task, old_mask)
        if info_addr:
            task.mm.write(info_addr, info.pack())
        return info.signo

    def on_timeout() -> int:
        set_blocked(task, old_mask)
        raise LinuxError(errno.EAGAIN)

    def on_signal() -> int | None:
        info = dequeue(task, wanted)
        set_blocked(task, old_mask)
        if info is None:
            return None
        if info_addr:
            task.mm.write(info_addr, info.pack())
        return info.signo

    return Wait(
        retry,
        ((task.group.signal_wait, ANY),),
        deadline_ns=deadline,
        on_timeout=on_timeout,
        on_signal=on_signal,
        restart=0,
    )


def _take(task: Task, wanted: int, info_addr: int) -> int:
    info = dequeue(task, wanted)
    if info is None:
        return 0
    if info_addr:
        task.mm.write(info_addr, info.pack())
    return info.signo


def sys_restart_syscall(task: Task) -> Outcome:
    """restart_syscall(2): go on with the call that a stop or a signal without handler interrupted. EINTR: none."""
    call = task.restart_call
    task.restart_call = None
    if call is None:
        raise LinuxError(errno.EINTR)
    return call()


ROWS: Final = (
    Row("rt_sigaction", sys_rt_sigaction, "signal ptr ptr size"),
    Row("rt_sigprocmask", sys_rt_sigprocmask, "int ptr ptr size"),
    Row("rt_sigpending", sys_rt_sigpending, "ptr size"),
    Row("rt_sigsuspend", sys_rt_sigsuspend, "ptr size"),
    Row("rt_sigreturn", sys_rt_sigreturn),
    Row("rt_sigtimedwait", sys_rt_sigtimedwait, "ptr ptr timespec size"),
    Row("rt_sigqueueinfo", sys_rt_sigqueueinfo, "pid signal ptr"),
    Row("rt_tgsigqueueinfo", sys_rt_tgsigqueueinfo, "pid pid signal ptr"),
    Row("sigaltstack", sys_sigaltstack, "ptr ptr"),
    Row("kill", sys_kill, "pid signal"),
    Row("tkill", sys_tkill, "pid signal"),
    Row("tgkill", sys_tgkill, "pid pid signal"),
    Row("pause", sys_pause),
    Row("restart_syscall", sys_restart_syscall),
)
