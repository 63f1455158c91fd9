"""timerfd_create(2): a timer on one of the sandbox's clocks whose expirations are read as a 64-bit count.

Owns the timer's state; the kernel's timer list only gives the wake-up. As in Linux (fs/timerfd.c) an interval timer is
armed again when its count is read, not at each expiry: a 1 ns interval that nobody reads costs nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi import time_h as tm
from protocol.abi.layout import U64
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.timers import TimerHandle
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.inode import Inode

__all__ = ["TIMER_CLOCKS", "TimerFile"]

#: The clocks timerfd_create(2) takes; the ALARM ones need CAP_WAKE_ALARM and run as their plain kind here.
TIMER_CLOCKS: Final = frozenset(
    (
        tm.CLOCK_REALTIME,
        tm.CLOCK_MONOTONIC,
        tm.CLOCK_BOOTTIME,
        tm.CLOCK_REALTIME_ALARM,
        tm.CLOCK_BOOTTIME_ALARM,
    )
)
_IN: Final = po.POLLIN
_SET_TICKS: Final = 0x40085400  # TFD_IOC_SET_TICKS


class TimerFile(OpenFile):
    """`expires_ns` is on `clock`'s own scale (0: disarmed); `expired`: it fired and was not forwarded since.

    `ticks` counts expirations not yet read. All durations ns.
    """

    __slots__ = (
        "clock",
        "clock_id",
        "expired",
        "expires_ns",
        "handle",
        "interval_ns",
        "kernel",
        "settime_flags",
        "ticks",
    )

    pollable = True

    def __init__(self, inode: Inode, kernel: Kernel, clock_id: int, flags: int) -> None:
        """`flags`: TFD_NONBLOCK. `clock_id` must be one of TIMER_CLOCKS."""
        super().__init__(inode, fc.O_RDWR | (flags & fc.O_NONBLOCK))
        self.kernel = kernel
        self.clock_id = clock_id
        self.clock: Callable[[], int]
        if clock_id in (tm.CLOCK_REALTIME, tm.CLOCK_REALTIME_ALARM):
            self.clock = kernel.clock.realtime_ns
        elif clock_id == tm.CLOCK_MONOTONIC:
            self.clock = kernel.clock.monotonic_ns
        else:
            self.clock = kernel.clock.boottime_ns
        self.expires_ns = self.interval_ns = 0
        self.ticks = 0
        self.expired = False
        self.settime_flags = 0
        self.handle: TimerHandle | None = None

    def release(self) -> None:
        self._cancel()

    # --- the timer ---
    def get_time(self) -> tuple[int, int]:
        """timerfd_gettime(2): (interval, time to the next expiry) in ns; 0: disarmed."""
        self._refresh()
        if self.expired and self.interval_ns:
            self.ticks += self._forward() - 1
            self.expired = False
            self._arm()
        if not self.expires_ns or self.expired:
            return self.interval_ns, 0
        return self.interval_ns, max(self.expires_ns - self.clock(), 1)

    def set_time(self, interval_ns: int, value_ns: int, flags: int) -> None:
        """timerfd_settime(2): arm with `value_ns`, relative or (TFD_TIMER_ABSTIME) on the clock's scale; 0 disarms."""
        self._cancel()
        self.ticks = 0
        self.expired = False
        self.settime_flags = flags
        self.interval_ns = interval_ns
        self.expires_ns = 0
        if value_ns:
            self.expires_ns = value_ns if flags & tm.TFD_TIMER_ABSTIME else self.clock() + value_ns
            self._arm()

    def _arm(self) -> None:
        self._cancel()
        delay = self.expires_ns - self.clock()
        if delay <= 0:
            self._fire()
        else:
            self.handle = self.kernel.timers.call_at(self.kernel.clock.monotonic_ns() + delay, self._on_timer)

    def _cancel(self) -> None:
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None

    def _on_timer(self) -> None:
        self.handle = None
        if self.expires_ns and not self.expired:
            self._arm()  # fires, unless the real-time clock was set back meanwhile

    def _fire(self) -> None:
        self.expired = True
        self.ticks += 1
        if self.queue.entries:
            self.queue.wake(_IN)

    def _refresh(self) -> None:
        """Notice an expiry that the timer list has not reported yet."""
        if self.expires_ns and not self.expired and self.clock() >= self.expires_ns:
            self._cancel()
            self._fire()

    def _forward(self) -> int:
        """Move the expiry past now by whole intervals; how many expirations that makes, the one that fired included."""
        count = (self.clock() - self.expires_ns) // self.interval_ns + 1
        self.expires_ns += count * self.interval_ns
        return max(count, 1)

    # --- the file ---
    def read(self, count: int) -> bytes:
        """The expirations since the last read, eight bytes. EINVAL: count < 8; WouldBlock: none."""
        if count < 8:
            raise LinuxError(errno.EINVAL)
        return U64.pack(self._take())

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        mm.write(addr, self.read(count))
        return 8

    def _take(self) -> int:
        self._refresh()
        if not self.ticks:
            raise WouldBlock
        ticks = self.ticks
        self.ticks = 0
        if self.expired:
            self.expired = False
            if self.interval_ns:
                ticks += self._forward() - 1
                self._arm()
            else:
                self.expires_ns = 0
        return ticks

    def poll(self) -> int:
        if not self.ticks:
            self._refresh()
        return _IN if self.ticks else 0

    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        """TFD_IOC_SET_TICKS: EINVAL for 0. ENOTTY for others."""
        if request != _SET_TICKS:
            raise LinuxError(errno.ENOTTY)
        ticks = task.mm.read_u64(arg)
        if not ticks:
            raise LinuxError(errno.EINVAL)
        self.ticks = ticks
        self.queue.wake(_IN)
        return 0

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2) does nothing here (fs/read_write.c noop_llseek)."""
        return 0

    def proc_link(self) -> bytes:
        return b"anon_inode:[timerfd]"

    def fdinfo(self) -> bytes:
        """proc_pid_fdinfo(5)."""
        interval, value = self.get_time() if not self.expired else (self.interval_ns, 0)
        second = tm.NSEC_PER_SEC
        return b"clockid: %d\nticks: %d\nsettime flags: %02o\nit_value: (%d, %d)\nit_interval: (%d, %d)\n" % (
            self.clock_id,
            self.ticks,
            self.settime_flags,
            value // second,
            value % second,
            interval // second,
            interval % second,
        )
