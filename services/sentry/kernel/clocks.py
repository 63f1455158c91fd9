"""The clocks of the sandbox.

`HostClock` reads the host's clocks (through the vDSO): guests read the same ones from their own vDSO without asking,
so the two must agree. What belongs to the sandbox is its uptime, counted by Kernel from its own start. `VirtualClock`
is the clock of tests: it moves only when told to.
"""

from __future__ import annotations

import errno
import time
from typing import Final, Protocol

from protocol.abi import time_h as th
from services.sentry.errors import LinuxError

__all__ = ["Clock", "HostClock", "VirtualClock", "wall_clock_ids"]

#: Clock ids that are no CPU clocks, as clock_gettime(2) lists them; none differs between tasks.
wall_clock_ids: Final = frozenset(
    {
        th.CLOCK_REALTIME,
        th.CLOCK_MONOTONIC,
        th.CLOCK_MONOTONIC_RAW,
        th.CLOCK_REALTIME_COARSE,
        th.CLOCK_MONOTONIC_COARSE,
        th.CLOCK_BOOTTIME,
        th.CLOCK_REALTIME_ALARM,
        th.CLOCK_BOOTTIME_ALARM,
        th.CLOCK_TAI,
    }
)


class Clock(Protocol):
    """What Kernel asks of a clock; all values in ns."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC: deadlines of waits and timers."""

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME: ns since the epoch."""

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME."""

    def read(self, clock_id: int) -> int:
        """Any of `wall_clock_ids`. EINVAL: another one."""


class HostClock:
    """The host's clocks."""

    __slots__ = ("boottime_ns", "monotonic_ns", "realtime_ns")

    def __init__(self) -> None:
        self.monotonic_ns = time.monotonic_ns
        self.realtime_ns = time.time_ns
        self.boottime_ns = lambda: time.clock_gettime_ns(th.CLOCK_BOOTTIME)

    def read(self, clock_id: int) -> int:
        if clock_id not in wall_clock_ids:
            raise LinuxError(errno.EINVAL, "no such clock")
        if clock_id == th.CLOCK_REALTIME_ALARM:
            clock_id = th.CLOCK_REALTIME
        elif clock_id == th.CLOCK_BOOTTIME_ALARM:
            clock_id = th.CLOCK_BOOTTIME
        return time.clock_gettime_ns(clock_id)


class VirtualClock:
    """A clock for tests. `advance` moves every clock by the same amount."""

    __slots__ = ("now_ns", "realtime_offset_ns")

    def __init__(self, now_ns: int = 1_000_000_000_000, realtime_offset_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = now_ns
        self.realtime_offset_ns = realtime_offset_ns

    def advance(self, by_ns: int) -> None:
        self.now_ns += by_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def realtime_ns(self) -> int:
        return self.now_ns + self.realtime_offset_ns

    def boottime_ns(self) -> int:
        return self.now_ns

    def read(self, clock_id: int) -> int:
        if clock_id not in wall_clock_ids:
            raise LinuxError(errno.EINVAL, "no such clock")
        if clock_id in (th.CLOCK_REALTIME, th.CLOCK_REALTIME_COARSE, th.CLOCK_REALTIME_ALARM, th.CLOCK_TAI):
            return self.realtime_ns()
        return self.now_ns
