"""Times as system calls take and give them: timespec, timeval and their pairs, in guest memory; ns as int inside."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import time_h as th
from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["KTIME_MAX", "read_itimerspec", "read_itimerval", "read_timespec", "read_timeval", "ticks", "timespec_ns"]

_NS: Final = th.NSEC_PER_SEC
#: The longest time the kernel keeps (ktime_t); later ones are cut to it.
KTIME_MAX: Final = (1 << 63) - 1


def _to_ns(seconds: int, nanoseconds: int) -> int:
    if seconds < 0 or not 0 <= nanoseconds < _NS:
        raise LinuxError(errno.EINVAL, "not a time")
    total = seconds * _NS + nanoseconds
    return total if total < KTIME_MAX else KTIME_MAX


def read_timespec(mm: AddressSpace, addr: int) -> int:
    """A struct timespec as ns. EFAULT; EINVAL: negative, or tv_nsec of a second or more."""
    return timespec_ns(mm.read(addr, 16))


def timespec_ns(raw: bytes) -> int:
    """The same of its 16 bytes."""
    seconds, nanoseconds = th.TIMESPEC.unpack(raw)
    return _to_ns(seconds, nanoseconds)


def read_timeval(mm: AddressSpace, addr: int) -> int:
    """A struct timeval as ns. EFAULT; EINVAL: negative, or tv_usec of a second or more."""
    seconds, microseconds = th.TIMEVAL.unpack(mm.read(addr, 16))
    return _to_ns(seconds, microseconds * th.NSEC_PER_USEC if -1 < microseconds < th.USEC_PER_SEC else -1)


def read_itimerspec(mm: AddressSpace, addr: int) -> tuple[int, int]:
    """A struct itimerspec as (interval_ns, value_ns). EFAULT, EINVAL."""
    interval_s, interval_ns, value_s, value_ns = th.ITIMERSPEC.unpack(mm.read(addr, 32))
    return _to_ns(interval_s, interval_ns), _to_ns(value_s, value_ns)


def read_itimerval(mm: AddressSpace, addr: int) -> tuple[int, int]:
    """A struct itimerval as (interval_ns, value_ns). EFAULT, EINVAL."""
    return read_timeval(mm, addr), read_timeval(mm, addr + 16)


def ticks(nanoseconds: int) -> int:
    """ns as clock ticks of USER_HZ (times(2))."""
    return nanoseconds // (_NS // th.USER_HZ)
