"""pipe, eventfd, timerfd and signalfd system calls: decoding and the installing of new descriptors.

The mechanisms are in files/{pipe,eventfd,timerfd,signalfd}.py.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ca
from protocol.abi import eventfd_h as ev
from protocol.abi import fcntl_h as fc
from protocol.abi import signal_h as sg
from protocol.abi import time_h as tm
from services.sentry.errors import LinuxError
from services.sentry.files.eventfd import EventFile
from services.sentry.files.pipe import make_pipe
from services.sentry.files.signalfd import SignalFile
from services.sentry.files.timerfd import TIMER_CLOCKS, TimerFile
from services.sentry.kernel.signals import dequeue
from services.sentry.syscalls.arguments import fd_arg, s32, u32
from services.sentry.syscalls.table import Row
from services.sentry.vfs.anonymous import anon_inode, pipe_inode

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["ROWS", "install_pair"]

_PIPE_FLAGS: Final = fc.O_CLOEXEC | fc.O_NONBLOCK | fc.O_DIRECT
_EVENT_FLAGS: Final = ev.EFD_SEMAPHORE | ev.EFD_CLOEXEC | ev.EFD_NONBLOCK
_ALARM_CLOCKS: Final = (tm.CLOCK_REALTIME_ALARM, tm.CLOCK_BOOTTIME_ALARM)
_SETTIME_FLAGS: Final = tm.TFD_TIMER_ABSTIME | tm.TFD_TIMER_CANCEL_ON_SET
_FD_PAIR: Final = struct.Struct("<ii")


def install_pair(task: Task, addr: int, first: OpenFile, second: OpenFile, cloexec: bool) -> int:
    """Give both files descriptors and write the two ints to `addr`: both or neither (pipe(2), socketpair(2)).

    EMFILE, EFAULT: nothing stays installed.
    """
    files = task.files
    try:
        fd = files.allocate(first, cloexec)
    except LinuxError:
        second.release()
        raise
    try:
        other = files.allocate(second, cloexec)
    except LinuxError:
        files.close(fd, task)
        raise
    try:
        task.mm.write(addr, _FD_PAIR.pack(fd, other))
    except LinuxError:
        files.close(fd, task)
        files.close(other, task)
        raise
    return 0


# --- pipes ---
def sys_pipe(task: Task, addr: int) -> Outcome:
    """pipe(2): (read end, write end). EMFILE, EFAULT."""
    return sys_pipe2(task, addr, 0)


def sys_pipe2(task: Task, addr: int, flags: int) -> Outcome:
    """pipe2(2). EINVAL: flags but O_CLOEXEC, O_NONBLOCK, O_DIRECT; EMFILE, EFAULT."""
    flags = u32(flags)
    if flags & ~_PIPE_FLAGS:
        raise LinuxError(errno.EINVAL)
    reader, writer = make_pipe(pipe_inode(task.kernel, task.cred), flags)
    return install_pair(task, addr, reader, writer, bool(flags & fc.O_CLOEXEC))


# --- eventfd ---
def sys_eventfd(task: Task, count: int) -> Outcome:
    """eventfd(2) of the old kind, without flags."""
    return sys_eventfd2(task, count, 0)


def sys_eventfd2(task: Task, count: int, flags: int) -> Outcome:
    """eventfd(2). EINVAL: flags; EMFILE."""
    flags = u32(flags)
    if flags & ~_EVENT_FLAGS:
        raise LinuxError(errno.EINVAL)
    file = EventFile(anon_inode(task.kernel), u32(count), flags)
    return task.files.allocate(file, bool(flags & ev.EFD_CLOEXEC))


# --- timerfd ---
def sys_timerfd_create(task: Task, clock_id: int, flags: int) -> Outcome:
    """timerfd_create(2). EINVAL: clock or flags; EPERM: an ALARM clock without CAP_WAKE_ALARM; EMFILE."""
    clock_id, flags = s32(clock_id), u32(flags)
    if flags & ~(tm.TFD_NONBLOCK | tm.TFD_CLOEXEC) or clock_id not in TIMER_CLOCKS:
        raise LinuxError(errno.EINVAL)
    if clock_id in _ALARM_CLOCKS and not task.cred.has_cap(ca.CAP_WAKE_ALARM):
        raise LinuxError(errno.EPERM)
    file = TimerFile(anon_inode(task.kernel), task.kernel, clock_id, flags)
    return task.files.allocate(file, bool(flags & tm.TFD_CLOEXEC))


def sys_timerfd_settime(task: Task, fd: int, flags: int, new: int, old: int) -> Outcome:
    """timerfd_settime(2). EINVAL: flags, times, or not a timerfd; EBADF; EFAULT."""
    flags = u32(flags)
    seconds = tm.ITIMERSPEC.unpack(task.mm.read(new, 32))
    if flags & ~_SETTIME_FLAGS or min(seconds) < 0 or max(seconds[1], seconds[3]) >= tm.NSEC_PER_SEC:
        raise LinuxError(errno.EINVAL)
    timer = _timer(task, fd)
    before = timer.get_time()
    second = tm.NSEC_PER_SEC
    timer.set_time(seconds[0] * second + seconds[1], seconds[2] * second + seconds[3], flags)
    if old:
        task.mm.write(old, tm.itimerspec_of(*before))
    return 0


def sys_timerfd_gettime(task: Task, fd: int, current: int) -> Outcome:
    """timerfd_gettime(2). EINVAL: not a timerfd; EBADF; EFAULT."""
    task.mm.write(current, tm.itimerspec_of(*_timer(task, fd).get_time()))
    return 0


def _timer(task: Task, fd: int) -> TimerFile:
    file = task.files.get(fd_arg(fd))
    if not isinstance(file, TimerFile):
        raise LinuxError(errno.EINVAL)
    return file


# --- signalfd ---
def sys_signalfd(task: Task, fd: int, mask: int, size: int) -> Outcome:
    """signalfd(2) of the old kind, without flags."""
    return sys_signalfd4(task, fd, mask, size, 0)


def sys_signalfd4(task: Task, fd: int, mask: int, size: int, flags: int) -> Outcome:
    """signalfd(2): a new one for fd -1, else its set is replaced. EINVAL: size, flags, not one; EFAULT; EMFILE."""
    fd, flags = s32(fd), u32(flags)
    if size != 8:
        raise LinuxError(errno.EINVAL)
    signals = task.mm.read_u64(mask)
    if flags & ~(sg.SFD_CLOEXEC | sg.SFD_NONBLOCK):
        raise LinuxError(errno.EINVAL)
    if fd == -1:
        created = SignalFile(anon_inode(task.kernel), task, signals, flags, dequeue)
        return task.files.allocate(created, bool(flags & sg.SFD_CLOEXEC))
    file = task.files.get(fd)
    if not isinstance(file, SignalFile):
        raise LinuxError(errno.EINVAL)
    file.set_signals(signals)
    return fd


ROWS: Final = (
    Row("pipe", sys_pipe, "ptr"),
    Row("pipe2", sys_pipe2, "ptr flags"),
    Row("eventfd", sys_eventfd, "count"),
    Row("eventfd2", sys_eventfd2, "count flags"),
    Row("timerfd_create", sys_timerfd_create, "int flags"),
    Row("timerfd_settime", sys_timerfd_settime, "fd flags ptr ptr", note="TFD_TIMER_CANCEL_ON_SET never cancels"),
    Row("timerfd_gettime", sys_timerfd_gettime, "fd ptr"),
    Row("signalfd", sys_signalfd, "fd ptr size"),
    Row("signalfd4", sys_signalfd4, "fd ptr size flags"),
)
