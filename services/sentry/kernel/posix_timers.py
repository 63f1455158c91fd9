"""Interval timers and POSIX timers: setitimer(2), alarm(2), timer_create(2).

Both are deadlines in the kernel's heap that send a signal and arm themselves again. A timer on a CPU clock cannot
know when its moment comes: it looks again after the shortest real time in which the clock could reach it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import resource_h as rh
from protocol.abi import signal_h as sg
from protocol.abi import time_h as th
from services.sentry.errors import LinuxError
from services.sentry.kernel.signals import SigInfo, send_signal_group, send_signal_task

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.thread_group import ThreadGroup
    from services.sentry.kernel.timers import TimerHandle

__all__ = ["ClockTimer", "IntervalTimer", "PosixTimer", "cancel_timers", "watch_cpu_limit"]

DELAYTIMER_MAX: Final = 0x7FFFFFFF
_LONGEST_S: Final = 1 << 32
_CPU_POLL_NS: Final = 1_000_000  # CPU clocks are looked at no more often than this


class ClockTimer:
    """A repeating deadline on a clock. `read` gives the clock's ns; `wall`: it advances as monotonic time does."""

    __slots__ = ("deadline_ns", "expired", "handle", "interval_ns", "kernel", "parallel", "read", "wall")

    def __init__(self, kernel: Kernel, read: Callable[[], int], wall: bool, expired: Callable[[int], None]) -> None:
        self.kernel = kernel
        self.read = read
        self.wall = wall
        self.expired = expired  # called with the number of periods that passed
        self.parallel: Callable[[], int] = lambda: 1  # how fast a CPU clock may run, as a multiple of real time
        self.deadline_ns: int | None = None  # on the timer's own clock
        self.interval_ns = 0
        self.handle: TimerHandle | None = None

    def set(self, value_ns: int, interval_ns: int, absolute: bool = False) -> None:
        """Arm for `value_ns` from now (or at it); 0 disarms."""
        self.cancel()
        self.interval_ns = interval_ns
        if value_ns:
            self.deadline_ns = value_ns if absolute else self.read() + value_ns
            self._arm()

    def left(self) -> tuple[int, int]:
        """(ns to the next expiry, 0 when disarmed; interval)."""
        if self.deadline_ns is None:
            return 0, self.interval_ns
        return max(1, self.deadline_ns - self.read()), self.interval_ns

    def cancel(self) -> None:
        self.deadline_ns = None
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None

    def _arm(self) -> None:
        if self.deadline_ns is None:
            return
        wait_ns = self.deadline_ns - self.read()
        if not self.wall:
            wait_ns = max(wait_ns // max(1, self.parallel()), _CPU_POLL_NS)
        self.handle = self.kernel.timers.call_at(self.kernel.clock.monotonic_ns() + wait_ns, self._due)

    def _due(self) -> None:
        self.handle = None
        if self.deadline_ns is None:
            return
        late = self.read() - self.deadline_ns
        if late < 0:
            self._arm()
            return
        periods = 1
        if self.interval_ns:
            periods += late // self.interval_ns
            self.deadline_ns += periods * self.interval_ns
            self._arm()
        else:
            self.deadline_ns = None
        self.expired(periods)


class IntervalTimer(ClockTimer):
    """One of a process's three (getitimer(2)): sends SIGALRM, SIGVTALRM or SIGPROF to the process."""

    __slots__ = ("group", "signo")

    def __init__(self, group: ThreadGroup, which: int) -> None:
        self.group = group
        self.signo = (sg.SIGALRM, sg.SIGVTALRM, sg.SIGPROF)[which]
        if which == th.ITIMER_REAL:
            super().__init__(group.kernel, group.kernel.clock.monotonic_ns, True, self._fire)
        else:
            super().__init__(group.kernel, group.cpu_time_ns, False, self._fire)
            self.parallel = lambda: len(group.tasks)

    def _fire(self, periods: int) -> None:
        send_signal_group(self.group, SigInfo(self.signo, sg.SI_KERNEL))


class CpuLimit(ClockTimer):
    """RLIMIT_CPU of one process (getrlimit(2)): SIGXCPU at the soft limit and each second after, then SIGKILL."""

    __slots__ = ("group", "soft_s")

    def __init__(self, group: ThreadGroup) -> None:
        self.group = group
        self.soft_s = 0  # when the next SIGXCPU is due
        super().__init__(group.kernel, group.cpu_time_ns, False, self._reached)
        self.parallel = lambda: len(group.tasks)

    def update(self) -> None:
        """The limits are new."""
        soft, hard = self.group.rlimits[rh.RLIMIT_CPU]
        self.soft_s = max(soft, 1)  # Linux takes 0 as one second
        self._next(hard)

    def _next(self, hard: int) -> None:
        due_s = min(self.soft_s, max(hard, 1))
        if due_s > _LONGEST_S:
            self.cancel()
        else:
            self.set(due_s * th.NSEC_PER_SEC, 0, absolute=True)

    def _reached(self, _periods: int) -> None:
        hard = self.group.rlimits[rh.RLIMIT_CPU][1]
        used_s = self.read() // th.NSEC_PER_SEC
        if used_s >= hard:
            send_signal_group(self.group, SigInfo(sg.SIGKILL, sg.SI_KERNEL))
            return
        if used_s >= self.soft_s:
            send_signal_group(self.group, SigInfo(sg.SIGXCPU, sg.SI_KERNEL))
            self.soft_s = used_s + 1
        self._next(hard)


def watch_cpu_limit(group: ThreadGroup) -> None:
    """RLIMIT_CPU was set, or inherited by a new process."""
    if group.cpu_limit is None:
        group.cpu_limit = CpuLimit(group)
    group.cpu_limit.update()


class PosixTimer(ClockTimer):
    """One timer_create(2) timer. A second expiry before the first signal is taken counts as overrun."""

    __slots__ = (
        "clock_id",
        "group",
        "last_overrun",
        "notify",
        "pending_overrun",
        "queued",
        "signo",
        "target",
        "timer_id",
        "value",
    )

    def __init__(
        self,
        group: ThreadGroup,
        timer_id: int,
        clock_id: int,
        read: Callable[[], int],
        wall: bool,
        notify: int,
        signo: int,
        value: int,
        target: Task | None,
    ) -> None:
        super().__init__(group.kernel, read, wall, self._fire)
        self.group = group
        self.timer_id = timer_id
        self.clock_id = clock_id
        self.notify = notify
        self.signo = signo
        self.value = value
        self.target = target  # SIGEV_THREAD_ID's thread, or None: the process
        self.queued = False
        self.pending_overrun = 0
        self.last_overrun = 0
        self.parallel = lambda: len(group.tasks)

    def _fire(self, periods: int) -> None:
        if self.notify == sg.SIGEV_NONE:
            return
        if self.queued:
            self.pending_overrun += periods
            return
        self.pending_overrun = periods - 1
        info = SigInfo(self.signo, sg.SI_TIMER, value=self.value, timer_id=self.timer_id)
        info.timer = self
        self.queued = True
        try:
            if self.target is not None:
                sent = send_signal_task(self.target, info)
            else:
                sent = send_signal_group(self.group, info)
        except LinuxError:  # EAGAIN: the expiry is lost, as when Linux cannot queue
            sent = False
        if not sent:
            self.queued = False

    def delivered(self, info: SigInfo) -> None:
        self.queued = False
        self.last_overrun = min(self.pending_overrun, DELAYTIMER_MAX)
        self.pending_overrun = 0
        info.overrun = self.last_overrun

    def delete(self) -> None:
        """timer_delete(2): disarm, and take back a signal that was not delivered."""
        self.cancel()
        if self.queued:
            self.group.shared_pending.discard_timer(self)
            if self.target is not None:
                self.target.pending.discard_timer(self)


def cancel_timers(group: ThreadGroup, *, interval_timers: bool = True) -> None:
    """The process is gone, or did execve(2) (which keeps its interval timers)."""
    for timer in group.posix_timers.values():
        timer.delete()
    group.posix_timers.clear()
    if interval_timers:
        if group.cpu_limit is not None:
            group.cpu_limit.cancel()
        for at, interval in enumerate(group.itimers):
            if interval is not None:
                interval.cancel()
                group.itimers[at] = None


def find_timer(group: ThreadGroup, timer_id: int) -> PosixTimer:
    """EINVAL: no such timer."""
    timer = group.posix_timers.get(timer_id)
    if timer is None:
        raise LinuxError(errno.EINVAL, "no such timer")
    return timer
