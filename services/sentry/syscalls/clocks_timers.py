"""Time: clocks, sleeping, interval and POSIX timers (clock_gettime(2), nanosleep(2), setitimer(2), timer_create(2))."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import signal_h as sg
from protocol.abi import time_h as th
from protocol.abi.layout import I32
from services.sentry.errors import LinuxError, Restart, WouldBlock
from services.sentry.kernel.clocks import wall_clock_ids
from services.sentry.kernel.posix_timers import ClockTimer, IntervalTimer, PosixTimer, find_timer
from services.sentry.kernel.waiter import ANY, Wait, WaitQueue
from services.sentry.syscalls.arguments import s32, u32
from services.sentry.syscalls.table import Row
from services.sentry.syscalls.time_arguments import read_itimerspec, read_itimerval, read_timespec

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome

_NS: Final = th.NSEC_PER_SEC
_COARSE_NS: Final = 4_000_000
_COARSE: Final = (th.CLOCK_REALTIME_COARSE, th.CLOCK_MONOTONIC_COARSE)
_REAL_TIME: Final = (th.CLOCK_REALTIME, th.CLOCK_TAI)
_TIMED: Final = (th.CLOCK_REALTIME, th.CLOCK_MONOTONIC, th.CLOCK_BOOTTIME, th.CLOCK_TAI)
_pack: Final = th.TIMESPEC.pack
_CPU_PER_THREAD: Final = 4
_CPU_FD: Final = 3
_TIMERS_MAX: Final = 65_536


# --- clocks -----------------------------------------------------------------------------------------------------------
def _cpu_clock(task: Task, clock_id: int) -> Callable[[], int]:
    """A reader of a CPU-time clock (clock_getcpuclockid(3)). EINVAL: no such clock, task or right to read it."""
    if clock_id == th.CLOCK_PROCESS_CPUTIME_ID:
        return task.group.cpu_time_ns
    if clock_id == th.CLOCK_THREAD_CPUTIME_ID:
        return task.cpu_time_ns
    if clock_id >= 0 or clock_id & 3 == _CPU_FD:
        raise LinuxError(errno.EINVAL, "no such clock")
    pid = ~(clock_id >> 3)
    target = task if not pid else task.kernel.tasks.get(pid)
    if target is None:
        raise LinuxError(errno.EINVAL)
    if clock_id & _CPU_PER_THREAD:
        if target.group is not task.group:
            raise LinuxError(errno.EINVAL)
        return target.cpu_time_ns
    return target.group.cpu_time_ns


def sys_clock_gettime(task: Task, clock_id: int, addr: int) -> int:
    """clock_gettime(2). EINVAL, EFAULT."""
    clock_id = s32(clock_id)
    ns = task.kernel.clock.read(clock_id) if clock_id in wall_clock_ids else _cpu_clock(task, clock_id)()
    task.mm.write(addr, _pack(ns // _NS, ns % _NS))
    return 0


def sys_clock_getres(task: Task, clock_id: int, addr: int) -> int:
    """clock_getres(2). EINVAL, EFAULT."""
    clock_id = s32(clock_id)
    if clock_id not in wall_clock_ids:
        _cpu_clock(task, clock_id)
    if addr:
        task.mm.write(addr, th.timespec_of(_COARSE_NS if clock_id in _COARSE else 1))
    return 0


def sys_clock_settime(task: Task, clock_id: int, addr: int) -> int:
    """clock_settime(2): the clocks are the host's. EINVAL: a clock that cannot be set; EFAULT; EPERM."""
    if s32(clock_id) != th.CLOCK_REALTIME:
        raise LinuxError(errno.EINVAL)
    read_timespec(task.mm, addr)
    raise LinuxError(errno.EPERM)


def sys_gettimeofday(task: Task, addr: int, zone: int) -> int:
    """gettimeofday(2). EFAULT."""
    if addr:
        task.mm.write(addr, th.timeval_of(task.kernel.clock.realtime_ns()))
    if zone:
        task.mm.write(zone, bytes(th.TIMEZONE.size))
    return 0


def sys_settimeofday(task: Task, addr: int, zone: int) -> int:
    """settimeofday(2). EPERM."""
    raise LinuxError(errno.EPERM)


def sys_time(task: Task, addr: int) -> int:
    """time(2). EFAULT."""
    now = task.kernel.clock.realtime_ns() // _NS
    if addr:
        task.mm.write_u64(addr, now)
    return now


def sys_adjtimex(task: Task, addr: int) -> int:
    """adjtimex(2): the state of a clock that nobody disciplines. EPERM: any change; EFAULT."""
    if task.mm.read_u32(addr):
        raise LinuxError(errno.EPERM)
    seconds, rest = divmod(task.kernel.clock.realtime_ns(), _NS)
    error_us = 16_000_000
    task.mm.write(
        addr,
        th.TIMEX.pack(
            0, 0, 0, error_us, error_us, th.STA_UNSYNC, 2, 1, 32_768_000, seconds, rest // 1000, 10_000, *(0,) * 9
        ),
    )
    return th.TIME_ERROR


def sys_clock_adjtime(task: Task, clock_id: int, addr: int) -> int:
    """clock_adjtime(2). EINVAL, EOPNOTSUPP: other clocks; else as adjtimex."""
    clock_id = s32(clock_id)
    if clock_id == th.CLOCK_REALTIME:
        return sys_adjtimex(task, addr)
    raise LinuxError(errno.EOPNOTSUPP if clock_id in wall_clock_ids else errno.EINVAL)


# --- sleeping ---------------------------------------------------------------------------------------------------------
def _sleep_until(task: Task, deadline_ns: int, remaining_addr: int) -> Outcome:
    """A relative sleep: restart_syscall(2) goes on to the same moment; the rest is stored when a signal ends it."""
    clock = task.kernel.clock

    def on_signal() -> int | None:
        left = deadline_ns - clock.monotonic_ns()
        if left <= 0:
            return 0
        if remaining_addr:
            task.mm.write(remaining_addr, th.timespec_of(left))
        return None

    return Wait(
        deadline_ns=deadline_ns,
        restart=Restart.BLOCK,
        on_signal=on_signal,
        restart_call=lambda: _sleep_until(task, deadline_ns, remaining_addr),
    )


def sys_nanosleep(task: Task, addr: int, remaining_addr: int) -> Outcome:
    """nanosleep(2). EFAULT, EINVAL, EINTR."""
    duration = read_timespec(task.mm, addr)
    return _sleep_until(task, task.kernel.clock.monotonic_ns() + duration, remaining_addr)


def sys_clock_nanosleep(task: Task, clock_id: int, flags: int, addr: int, remaining_addr: int) -> Outcome:
    """clock_nanosleep(2). EFAULT, EINVAL, EINTR; EOPNOTSUPP: a clock that cannot be slept on."""
    clock_id = s32(clock_id)
    absolute = bool(flags & th.TIMER_ABSTIME)
    if clock_id in _TIMED:
        wanted = read_timespec(task.mm, addr)
        clock = task.kernel.clock
        if not absolute:
            return _sleep_until(task, clock.monotonic_ns() + wanted, remaining_addr)
        deadline = wanted + clock.monotonic_ns() - clock.read(clock_id)
        return Wait(deadline_ns=deadline, restart=Restart.NOHAND)
    if clock_id in wall_clock_ids or clock_id == th.CLOCK_THREAD_CPUTIME_ID:
        raise LinuxError(errno.EOPNOTSUPP)
    if clock_id < 0 and clock_id & _CPU_PER_THREAD and ~(clock_id >> 3) in (0, task.tid):
        raise LinuxError(errno.EINVAL, "its own CPU time does not pass while it sleeps")
    return _sleep_on_cpu_clock(task, _cpu_clock(task, clock_id), read_timespec(task.mm, addr), absolute)


def _sleep_on_cpu_clock(task: Task, read: Callable[[], int], wanted: int, absolute: bool) -> Outcome:
    if not wanted:
        return 0
    queue = WaitQueue()
    timer = ClockTimer(task.kernel, read, False, lambda periods: queue.wake())
    timer.set(wanted, 0, absolute)

    def retry() -> int:
        if timer.deadline_ns is not None:
            raise WouldBlock
        return 0

    def on_signal() -> int | None:
        timer.cancel()
        return None

    return Wait(retry, ((queue, ANY),), restart=Restart.NOHAND if absolute else 0, on_signal=on_signal)


# --- interval timers --------------------------------------------------------------------------------------------------
def _itimer(task: Task, which: int) -> IntervalTimer:
    timer = task.group.itimers[which]
    if timer is None:
        timer = task.group.itimers[which] = IntervalTimer(task.group, which)
    return timer


def sys_getitimer(task: Task, which: int, addr: int) -> int:
    """getitimer(2). EINVAL, EFAULT."""
    if u32(which) > th.ITIMER_PROF:
        raise LinuxError(errno.EINVAL)
    timer = task.group.itimers[u32(which)]
    left, interval = timer.left() if timer is not None else (0, 0)
    task.mm.write(addr, th.itimerval_of(interval, max(left, 1000) if left else 0))
    return 0


def sys_setitimer(task: Task, which: int, new_addr: int, old_addr: int) -> int:
    """setitimer(2). EINVAL, EFAULT."""
    interval, value = read_itimerval(task.mm, new_addr) if new_addr else (0, 0)
    if u32(which) > th.ITIMER_PROF:
        raise LinuxError(errno.EINVAL)
    timer = _itimer(task, u32(which))
    old_left, old_interval = timer.left()
    timer.set(value, interval)
    if old_addr:
        task.mm.write(old_addr, th.itimerval_of(old_interval, max(old_left, 1000) if old_left else 0))
    return 0


def sys_alarm(task: Task, seconds: int) -> int:
    """alarm(2): what was left of the former one, in seconds, rounded but never to 0."""
    timer = _itimer(task, th.ITIMER_REAL)
    left = timer.left()[0]
    timer.set(u32(seconds) * _NS, 0)
    if not left:
        return 0
    whole, rest = divmod(left, _NS)
    return whole + 1 if rest >= _NS // 2 or not whole else whole


# --- POSIX timers -----------------------------------------------------------------------------------------------------
def sys_timer_create(task: Task, clock_id: int, event_addr: int, id_addr: int) -> int:
    """timer_create(2). EINVAL: clock, signal, thread; EAGAIN: too many; EOPNOTSUPP: none on this clock; EFAULT."""
    group = task.group
    clock_id = s32(clock_id)
    read, wall = _timer_clock(task, clock_id)
    if len(group.posix_timers) >= _TIMERS_MAX:
        raise LinuxError(errno.EAGAIN)
    timer_id = next(number for number in range(_TIMERS_MAX + 1) if number not in group.posix_timers)
    value, signo, notify, target = timer_id, sg.SIGALRM, sg.SIGEV_SIGNAL, None
    if event_addr:
        value, signo, notify, tid = sg.SIGEVENT.unpack(task.mm.read(event_addr, sg.SIGEVENT.size))
        target = _check_event(task, signo, notify, tid)
    task.mm.write(id_addr, I32.pack(timer_id))
    group.posix_timers[timer_id] = PosixTimer(group, timer_id, clock_id, read, wall, notify, signo, value, target)
    return 0


def _timer_clock(task: Task, clock_id: int) -> tuple[Callable[[], int], bool]:
    clock = task.kernel.clock
    if clock_id in _REAL_TIME:
        return clock.realtime_ns if clock_id != th.CLOCK_TAI else lambda: clock.read(th.CLOCK_TAI), True
    if clock_id in (th.CLOCK_MONOTONIC, th.CLOCK_BOOTTIME):
        return clock.monotonic_ns if clock_id == th.CLOCK_MONOTONIC else clock.boottime_ns, True
    if clock_id in wall_clock_ids:
        raise LinuxError(errno.EOPNOTSUPP)
    return _cpu_clock(task, clock_id), False


def _check_event(task: Task, signo: int, notify: int, tid: int) -> Task | None:
    if notify == sg.SIGEV_NONE:
        return None
    if notify & ~sg.SIGEV_THREAD_ID not in (sg.SIGEV_SIGNAL, sg.SIGEV_THREAD) or not 1 <= signo <= sg.NSIG:
        raise LinuxError(errno.EINVAL)
    if not notify & sg.SIGEV_THREAD_ID:
        return None
    target = task.group.tasks.get(tid)
    if target is None or notify != sg.SIGEV_THREAD_ID:
        raise LinuxError(errno.EINVAL)
    return target


def sys_timer_settime(task: Task, timer_id: int, flags: int, new_addr: int, old_addr: int) -> int:
    """timer_settime(2). EINVAL, EFAULT."""
    if not new_addr:
        raise LinuxError(errno.EINVAL)
    interval, value = read_itimerspec(task.mm, new_addr)
    timer = find_timer(task.group, s32(timer_id))
    old_left, old_interval = timer.left()
    timer.pending_overrun = timer.last_overrun = 0
    timer.set(value, interval, bool(flags & th.TIMER_ABSTIME))
    if old_addr:
        task.mm.write(old_addr, th.itimerspec_of(old_interval, old_left))
    return 0


def sys_timer_gettime(task: Task, timer_id: int, addr: int) -> int:
    """timer_gettime(2). EINVAL, EFAULT."""
    left, interval = find_timer(task.group, s32(timer_id)).left()
    task.mm.write(addr, th.itimerspec_of(interval, left))
    return 0


def sys_timer_getoverrun(task: Task, timer_id: int) -> int:
    """timer_getoverrun(2). EINVAL."""
    return find_timer(task.group, s32(timer_id)).last_overrun


def sys_timer_delete(task: Task, timer_id: int) -> int:
    """timer_delete(2). EINVAL."""
    timer = find_timer(task.group, s32(timer_id))
    del task.group.posix_timers[timer.timer_id]
    timer.delete()
    return 0


ROWS: Final = (
    Row("clock_gettime", sys_clock_gettime, "int timespec_out"),
    Row("clock_getres", sys_clock_getres, "int timespec_out"),
    Row("clock_settime", sys_clock_settime, "int timespec", "partial", "EPERM: the clock is the host's"),
    Row("clock_nanosleep", sys_clock_nanosleep, "int flags timespec ptr"),
    Row("clock_adjtime", sys_clock_adjtime, "int ptr", "partial", "reads only"),
    Row("adjtimex", sys_adjtimex, "ptr", "partial", "reads only"),
    Row("nanosleep", sys_nanosleep, "timespec ptr"),
    Row("gettimeofday", sys_gettimeofday, "ptr ptr"),
    Row("settimeofday", sys_settimeofday, "ptr ptr", "partial", "EPERM: the clock is the host's"),
    Row("time", sys_time, "ptr"),
    Row("alarm", sys_alarm, "int"),
    Row("getitimer", sys_getitimer, "int ptr"),
    Row("setitimer", sys_setitimer, "int ptr ptr"),
    Row("timer_create", sys_timer_create, "int ptr ptr"),
    Row("timer_settime", sys_timer_settime, "int flags ptr ptr"),
    Row("timer_gettime", sys_timer_gettime, "int ptr"),
    Row("timer_getoverrun", sys_timer_getoverrun, "int"),
    Row("timer_delete", sys_timer_delete, "int"),
)
