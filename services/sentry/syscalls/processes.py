"""Processes: clone, exit, wait, pidfds, access to another process's memory (clone(2), wait(2), pidfd_open(2)...)."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import resource_h as rh
from protocol.abi import sched_h as sc
from protocol.abi import signal_h as sg
from protocol.abi import uio_h as uio
from protocol.abi import wait_h as wh
from protocol.abi.layout import I32
from protocol.abi.limits import MAX_RW_COUNT
from protocol.abi.mman_h import PAGE_SIZE
from services.sentry.errors import LinuxError
from services.sentry.files.pidfd import open_pidfd, pidfd_group
from services.sentry.kernel.access import check_trace_access
from services.sentry.kernel.clone import CloneRequest, clone
from services.sentry.kernel.exits import do_exit, exit_group
from services.sentry.kernel.loans import after_loan
from services.sentry.kernel.signals import SigInfo, check_kill_permission, send_signal_group
from services.sentry.kernel.waiter import NO_RETURN
from services.sentry.kernel.waiting import wait_for_child
from services.sentry.mm.opened_file import settle_files
from services.sentry.syscalls.arguments import s32, u32
from services.sentry.syscalls.table import Row

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.thread_group import ThreadGroup
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.kernel.waiting import Change

_WAIT4_OPTIONS: Final = wh.WNOHANG | wh.WUNTRACED | wh.WCONTINUED | wh.WNOTHREAD | wh.WCLONE | wh.WALL
_WAITID_OPTIONS: Final = _WAIT4_OPTIONS | wh.WEXITED | wh.WNOWAIT
_CHANGES: Final = wh.WEXITED | wh.WSTOPPED | wh.WCONTINUED
_SET_TID_MAX: Final = 32
_PIDFD_NONBLOCK: Final = fc.O_NONBLOCK
_PIDFD_THREAD: Final = fc.O_EXCL


# --- making -----------------------------------------------------------------------------------------------------------
def sys_fork(task: Task) -> Outcome:
    return clone(task, CloneRequest(0, sg.SIGCHLD))


def sys_vfork(task: Task) -> Outcome:
    return clone(task, CloneRequest(sc.CLONE_VM | sc.CLONE_VFORK, sg.SIGCHLD))


def sys_clone(task: Task, flags: int, stack: int, parent_tid: int, child_tid: int, tls: int) -> Outcome:
    flags = u32(flags)
    bits = flags & ~sc.CSIGNAL
    if bits & sc.CLONE_PIDFD and bits & sc.CLONE_PARENT_SETTID:
        raise LinuxError(errno.EINVAL, "both results in one place")
    return clone(task, CloneRequest(bits, flags & sc.CSIGNAL, stack, tls, parent_tid, child_tid, parent_tid))


def sys_clone3(task: Task, addr: int, size: int) -> Outcome:
    """clone3(2). EINVAL, E2BIG: the structure; the rest is clone's."""
    if size > PAGE_SIZE:
        raise LinuxError(errno.E2BIG)
    if size < sc.CLONE_ARGS_SIZE_VER0:
        raise LinuxError(errno.EINVAL)
    raw = task.mm.read(addr, size)
    known = sc.CLONE_ARGS.size
    if size != known:
        if any(raw[known:]):
            raise LinuxError(errno.E2BIG)
        raw = raw[:known].ljust(known, b"\0")
    (flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, _) = (
        sc.CLONE_ARGS.unpack(raw)
    )
    if flags & (sc.CLONE_DETACHED | (sc.CSIGNAL & ~sc.CLONE_NEWTIME)) or exit_signal > sg.NSIG:
        raise LinuxError(errno.EINVAL)
    if flags & (sc.CLONE_THREAD | sc.CLONE_PARENT) and exit_signal:
        raise LinuxError(errno.EINVAL)
    if bool(stack) != bool(stack_size) or bool(set_tid) != bool(set_tid_size) or set_tid_size > _SET_TID_MAX:
        raise LinuxError(errno.EINVAL)
    tids = tuple(tid for (tid,) in I32.iter_unpack(task.mm.read(set_tid, 4 * set_tid_size))) if set_tid else ()
    top = (stack + stack_size) & 0xFFFF_FFFF_FFFF_FFFF
    return clone(task, CloneRequest(flags, exit_signal, top, tls, parent_tid, child_tid, pidfd, tids))


# --- ending -----------------------------------------------------------------------------------------------------------
def sys_exit(task: Task, code: int) -> Outcome:
    do_exit(task, wh.status_exited(code))
    return NO_RETURN


def sys_exit_group(task: Task, code: int) -> Outcome:
    exit_group(task, wh.status_exited(code))
    return NO_RETURN


# --- waiting ----------------------------------------------------------------------------------------------------------
def _rusage(change: Change) -> bytes:
    return rh.pack_rusage(change.cpu_ns, 0, change.maxrss_kib, 0, 0, 0, 0, 0, 0)


def sys_wait4(task: Task, pid: int, status_addr: int, options: int, rusage_addr: int) -> Outcome:
    """wait4(2). EINVAL: options; ESRCH: pid INT_MIN; ECHILD; EFAULT (the child is reaped all the same)."""
    pid, options = s32(pid), u32(options)
    if options & ~_WAIT4_OPTIONS:
        raise LinuxError(errno.EINVAL)
    if pid == -(1 << 31):
        raise LinuxError(errno.ESRCH)
    if pid == -1:
        idtype, number = wh.P_ALL, 0
    elif pid < 0:
        idtype, number = wh.P_PGID, -pid
    elif pid == 0:
        idtype, number = wh.P_PGID, _own_group(task)
    else:
        idtype, number = wh.P_PID, pid

    def finish(change: Change | None) -> int:
        if change is None:
            return 0
        if status_addr:
            task.mm.write_u32(status_addr, change.status)
        if rusage_addr:
            task.mm.write(rusage_addr, _rusage(change))
        return change.pid

    return wait_for_child(task, idtype, number, options | wh.WEXITED, finish)


def _own_group(task: Task) -> int:
    process_group = task.group.process_group
    return process_group.id if process_group is not None else 0


def sys_waitid(task: Task, idtype: int, number: int, info_addr: int, options: int, rusage_addr: int) -> Outcome:
    """waitid(2). EINVAL: options or id; EBADF: no pidfd; EAGAIN: a non-blocking pidfd; ECHILD; EFAULT."""
    idtype, number, options = s32(idtype), s32(number), u32(options)
    if options & ~_WAITID_OPTIONS or not options & _CHANGES:
        raise LinuxError(errno.EINVAL)
    idtype, number, nonblocking = _decode_id(task, idtype, number)
    if nonblocking and not options & wh.WNOHANG:
        options |= wh.WNOHANG
    else:
        nonblocking = False

    def finish(change: Change | None) -> int:
        if change is None and nonblocking:
            raise LinuxError(errno.EAGAIN)
        if rusage_addr and change is not None:
            task.mm.write(rusage_addr, _rusage(change))
        if info_addr:
            signo = 0 if change is None else sg.SIGCHLD
            code, pid, uid, value = (
                (0, 0, 0, 0) if change is None else (change.code, change.pid, change.uid, change.value)
            )
            raw = sg.pack_siginfo_child(signo, code, pid, uid, value, 0, 0)
            task.mm.write(info_addr, raw[:12])  # Linux writes the six fields only
            task.mm.write(info_addr + 16, raw[16:28])
        return 0

    return wait_for_child(task, idtype, number, options, finish)


def _decode_id(task: Task, idtype: int, number: int) -> tuple[int, int, bool]:
    """(P_ALL, P_PID or P_PGID; id; whether the pidfd it came from is non-blocking)."""
    if idtype == wh.P_ALL:
        return idtype, 0, False
    if idtype == wh.P_PID and number > 0:
        return idtype, number, False
    if idtype == wh.P_PGID and number >= 0:
        return idtype, number or _own_group(task), False
    if idtype == wh.P_PIDFD and number >= 0:
        group = pidfd_group(task, number)
        return wh.P_PID, group.pid if not group.is_reaped else 0, bool(task.files.get(number).flags & fc.O_NONBLOCK)
    raise LinuxError(errno.EINVAL)


# --- pidfds -----------------------------------------------------------------------------------------------------------
def sys_pidfd_open(task: Task, pid: int, flags: int) -> int:
    """pidfd_open(2). EINVAL: pid or flags; ESRCH; ENOENT: a thread that leads no process; EMFILE."""
    pid, flags = s32(pid), u32(flags)
    if flags & ~_PIDFD_NONBLOCK or pid <= 0:
        raise LinuxError(errno.EINVAL)
    group = task.kernel.groups.get(pid)
    if group is None:
        raise LinuxError(errno.ENOENT if pid in task.kernel.tasks else errno.ESRCH)
    return open_pidfd(task, group, flags)


def sys_pidfd_send_signal(task: Task, pidfd: int, signo: int, info_addr: int, flags: int) -> int:
    """pidfd_send_signal(2). EBADF; EINVAL: flags, signal, or siginfo of another signal; EPERM; ESRCH."""
    signo, flags = s32(signo), u32(flags)
    if flags:
        raise LinuxError(errno.EINVAL, "no scope other than the process")
    group = pidfd_group(task, s32(pidfd))
    if not 0 <= signo <= sg.NSIG:
        raise LinuxError(errno.EINVAL)
    info = task.sender_info(signo)
    if info_addr:
        info = _user_info(task, group, signo, task.mm.read(info_addr, sg.SIGINFO_BYTES))
    if group.is_reaped:
        raise LinuxError(errno.ESRCH)
    check_kill_permission(task, group, signo)
    if signo:
        send_signal_group(group, info)
    return 0


def _user_info(task: Task, group: ThreadGroup, signo: int, raw: bytes) -> SigInfo:
    given, _, code = sg.SIGINFO_HEADER.unpack_from(raw)
    if given != signo:
        raise LinuxError(errno.EINVAL)
    if group is not task.group and (code >= 0 or code == sg.SI_TKILL):
        raise LinuxError(errno.EPERM)
    return SigInfo(signo, code, task.group.pid, task.cred.ruid, raw=raw)


def sys_pidfd_getfd(task: Task, pidfd: int, fd: int, flags: int) -> int:
    """pidfd_getfd(2). EINVAL: flags; EBADF; ESRCH: it ended; EPERM: no ptrace access; EMFILE."""
    if u32(flags):
        raise LinuxError(errno.EINVAL)
    group = pidfd_group(task, s32(pidfd))
    target = group.live_task()
    if target is None:
        raise LinuxError(errno.ESRCH)
    check_trace_access(task, target)
    settle_files(target)
    return task.files.allocate(target.files.get(s32(fd)), cloexec=True)


# --- other processes' memory ------------------------------------------------------------------------------------------
_PIECE: Final = 16 * PAGE_SIZE  # of another's memory that is copied at once


def _other_memory(
    task: Task, pid: int, local: int, local_count: int, remote: int, remote_count: int, flags: int
) -> tuple[Task, list[tuple[int, int]], list[tuple[int, int]]]:
    if flags or local_count > uio.UIO_MAXIOV or remote_count > uio.UIO_MAXIOV:
        raise LinuxError(errno.EINVAL)
    ours = task.mm.read_iovecs(local, local_count)
    if not any(length for _, length in ours):
        return task, [], []
    theirs = task.mm.read_iovecs(remote, remote_count, ours=False)
    target = task.kernel.tasks.get(s32(pid))
    if target is None or target.mm_or_none is None:
        raise LinuxError(errno.ESRCH)
    check_trace_access(task, target)
    target.mm.await_contents()
    return target, ours, theirs


def _pieces(ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Walk two vectors together: (our address, their address, bytes), none across a boundary of _PIECE in theirs."""
    queue = [(base, length) for base, length in reversed(ours) if length]
    room = MAX_RW_COUNT
    for their_base, their_length in theirs:
        while their_length and queue and room:
            base, length = queue.pop()
            count = min(length, their_length, _PIECE - their_base % _PIECE, room)
            yield base, their_base, count
            room -= count
            their_base += count
            their_length -= count
            if count < length:
                queue.append((base + count, length - count))


def _transfer(task: Task, target: Task, pieces: Iterable[tuple[int, int, int]], write: bool) -> int:
    """Up to the first page of theirs that is not there: as much of a piece of several pages as can be, too."""
    moved = 0
    for here, there, count in pieces:
        try:
            _copy(task, target, here, there, count, write)
        except LinuxError:
            end = there + count
            while there < end and count > PAGE_SIZE:
                step = min(PAGE_SIZE - there % PAGE_SIZE, end - there)
                try:
                    _copy(task, target, here, there, step, write)
                except LinuxError:
                    break
                moved += step
                here += step
                there += step
            if moved:
                return moved
            raise
        moved += count
    return moved


def _copy(task: Task, target: Task, here: int, there: int, count: int, write: bool) -> None:
    if write:
        target.mm.write(there, task.mm.read(here, count))
    else:
        task.mm.write(here, target.mm.read(there, count))


def sys_process_vm_readv(
    task: Task, pid: int, local: int, n_local: int, remote: int, n_remote: int, flags: int
) -> Outcome:
    """process_vm_readv(2). EINVAL, EFAULT, ESRCH, EPERM; fewer bytes when a later part is not there."""
    target, ours, theirs = _other_memory(task, pid, local, n_local, remote, n_remote, flags)
    if target.mm.lent_to is not None:
        return after_loan(target.mm, lambda: sys_process_vm_readv(task, pid, local, n_local, remote, n_remote, flags))
    return _transfer(task, target, _pieces(ours, theirs), write=False)


def sys_process_vm_writev(
    task: Task, pid: int, local: int, n_local: int, remote: int, n_remote: int, flags: int
) -> Outcome:
    """process_vm_writev(2)."""
    target, ours, theirs = _other_memory(task, pid, local, n_local, remote, n_remote, flags)
    if target.mm.lent_to is not None:
        return after_loan(target.mm, lambda: sys_process_vm_writev(task, pid, local, n_local, remote, n_remote, flags))
    return _transfer(task, target, _pieces(ours, theirs), write=True)


# --- kcmp -------------------------------------------------------------------------------------------------------------
_KCMP_FILE, _KCMP_VM, _KCMP_FILES, _KCMP_FS, _KCMP_SIGHAND, _KCMP_IO, _KCMP_SYSVSEM = range(7)


def sys_kcmp(task: Task, pid1: int, pid2: int, kind: int, index1: int, index2: int) -> int:
    """kcmp(2): 0 the same, 1 or 2 an order. ESRCH, EPERM, EBADF; EINVAL: an unknown kind."""
    tasks = task.kernel.tasks
    first, second = tasks.get(s32(pid1)), tasks.get(s32(pid2))
    if first is None or second is None:
        raise LinuxError(errno.ESRCH)
    check_trace_access(task, first)
    check_trace_access(task, second)
    pairs: dict[int, tuple[object, object]] = {
        _KCMP_VM: (first.mm_or_none, second.mm_or_none),
        _KCMP_FILES: (first.files, second.files),
        _KCMP_FS: (first.fs, second.fs),
        _KCMP_SIGHAND: (first.group.sighand, second.group.sighand),
        _KCMP_IO: (None, None),
        _KCMP_SYSVSEM: (None, None),
    }
    kind = s32(kind)
    if kind == _KCMP_FILE:
        settle_files(first)
        settle_files(second)
        pair: tuple[object, object] = (first.files.get(s32(index1)), second.files.get(s32(index2)))
    elif kind in pairs:
        pair = pairs[kind]
    else:
        raise LinuxError(errno.EINVAL)
    if pair[0] is pair[1]:
        return 0
    return 1 if id(pair[0]) < id(pair[1]) else 2


ROWS: Final = (
    Row("fork", sys_fork),
    Row("vfork", sys_vfork),
    Row("clone", sys_clone, "flags ptr ptr ptr ptr", "partial", "no namespaces"),
    Row("clone3", sys_clone3, "ptr size", "partial", "no namespaces, no control groups"),
    Row("exit", sys_exit, "int"),
    Row("exit_group", sys_exit_group, "int"),
    Row("wait4", sys_wait4, "pid ptr flags ptr"),
    Row("waitid", sys_waitid, "int pid ptr flags ptr"),
    Row("pidfd_open", sys_pidfd_open, "pid flags", "partial", "no PIDFD_THREAD"),
    Row("pidfd_send_signal", sys_pidfd_send_signal, "fd signal ptr flags"),
    Row("pidfd_getfd", sys_pidfd_getfd, "fd fd flags"),
    Row("process_vm_readv", sys_process_vm_readv, "pid ptr count ptr count flags"),
    Row("process_vm_writev", sys_process_vm_writev, "pid ptr count ptr count flags"),
    Row("kcmp", sys_kcmp, "pid pid int int int"),
)
