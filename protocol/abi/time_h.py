"""<linux/time.h>, <linux/timerfd.h>, <linux/timex.h>, <linux/times.h>: clocks, timers and their structures."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Clocks.
CLOCK_REALTIME: Final[int] = 0
CLOCK_MONOTONIC: Final[int] = 1
CLOCK_PROCESS_CPUTIME_ID: Final[int] = 2
CLOCK_THREAD_CPUTIME_ID: Final[int] = 3
CLOCK_MONOTONIC_RAW: Final[int] = 4
CLOCK_REALTIME_COARSE: Final[int] = 5
CLOCK_MONOTONIC_COARSE: Final[int] = 6
CLOCK_BOOTTIME: Final[int] = 7
CLOCK_REALTIME_ALARM: Final[int] = 8
CLOCK_BOOTTIME_ALARM: Final[int] = 9
CLOCK_SGI_CYCLE: Final[int] = 10
CLOCK_TAI: Final[int] = 11

# getitimer(2).
ITIMER_REAL: Final[int] = 0
ITIMER_VIRTUAL: Final[int] = 1
ITIMER_PROF: Final[int] = 2

# timer_settime(2), clock_nanosleep(2).
TIMER_ABSTIME: Final[int] = 1

# timerfd_create(2), timerfd_settime(2).
TFD_TIMER_ABSTIME: Final[int] = 1
TFD_TIMER_CANCEL_ON_SET: Final[int] = 2

# adjtimex(2).
ADJ_OFFSET: Final[int] = 1
ADJ_FREQUENCY: Final[int] = 2
ADJ_MAXERROR: Final[int] = 4
ADJ_ESTERROR: Final[int] = 8
ADJ_STATUS: Final[int] = 0x10
ADJ_TIMECONST: Final[int] = 0x20
ADJ_TAI: Final[int] = 0x80
ADJ_SETOFFSET: Final[int] = 0x100
ADJ_MICRO: Final[int] = 0x1000
ADJ_NANO: Final[int] = 0x2000
ADJ_TICK: Final[int] = 0x4000
ADJ_OFFSET_SINGLESHOT: Final[int] = 0x8001
ADJ_OFFSET_SS_READ: Final[int] = 0xA001

TIME_OK: Final[int] = 0
TIME_INS: Final[int] = 1
TIME_DEL: Final[int] = 2
TIME_OOP: Final[int] = 3
TIME_WAIT: Final[int] = 4
TIME_ERROR: Final[int] = 5
TIME_BAD: Final[int] = 5

STA_PLL: Final[int] = 1
STA_PPSFREQ: Final[int] = 2
STA_PPSTIME: Final[int] = 4
STA_FLL: Final[int] = 8
STA_INS: Final[int] = 0x10
STA_DEL: Final[int] = 0x20
STA_UNSYNC: Final[int] = 0x40
STA_FREQHOLD: Final[int] = 0x80
STA_PPSSIGNAL: Final[int] = 0x100
STA_PPSJITTER: Final[int] = 0x200
STA_PPSWANDER: Final[int] = 0x400
STA_PPSERROR: Final[int] = 0x800
STA_CLOCKERR: Final[int] = 0x1000
STA_NANO: Final[int] = 0x2000
STA_MODE: Final[int] = 0x4000
STA_CLK: Final[int] = 0x8000
STA_RONLY: Final[int] = 0xFF00

# timerfd_create(2) and timerfd_settime(2) flags (linux/timerfd.h writes them in terms of fcntl.h).
TFD_NONBLOCK: Final[int] = 0o4000
TFD_CLOEXEC: Final[int] = 0o2000000

NSEC_PER_SEC: Final[int] = 1_000_000_000
NSEC_PER_USEC: Final[int] = 1_000
USEC_PER_SEC: Final[int] = 1_000_000
#: sysconf(_SC_CLK_TCK): the unit of times(2) and of /proc's ticks.
USER_HZ: Final[int] = 100
#: utimensat(2): tv_nsec values with a meaning of their own (linux/stat.h).
UTIME_NOW: Final[int] = 0x3FFFFFFF
UTIME_OMIT: Final[int] = 0x3FFFFFFE

# struct timespec: tv_sec, tv_nsec.
TIMESPEC: Final = layout("struct timespec", "qq", 16)
# struct timeval: tv_sec, tv_usec.
TIMEVAL: Final = layout("struct timeval", "qq", 16)
# struct itimerspec: it_interval, it_value.
ITIMERSPEC: Final = layout("struct itimerspec", "qqqq", 32)
# struct itimerval: it_interval, it_value.
ITIMERVAL: Final = layout("struct itimerval", "qqqq", 32)
# struct timezone: tz_minuteswest, tz_dsttime.
TIMEZONE: Final = layout("struct timezone", "ii", 8)
# struct utimbuf: actime, modtime.
UTIMBUF: Final = layout("struct utimbuf", "qq", 16)
# struct tms: tms_utime, tms_stime, tms_cutime, tms_cstime.
TMS: Final = layout("struct tms", "qqqq", 32)
# struct timex: modes, offset, freq, maxerror, esterror, status, constant, precision, tolerance, time, tick, ppsfreq,
# jitter, shift, stabil, jitcnt, calcnt, errcnt, stbcnt, tai.
TIMEX: Final = layout("struct timex", "I4xqqqqi4xqqqqqqqqi4xqqqqqi44x", 208)


def timespec_of(nanoseconds: int) -> bytes:
    """A struct timespec of a duration or moment in nanoseconds."""
    return TIMESPEC.pack(*divmod(nanoseconds, NSEC_PER_SEC))


def timeval_of(nanoseconds: int) -> bytes:
    """A struct timeval of a duration or moment in nanoseconds, rounded down to microseconds."""
    seconds, rest = divmod(nanoseconds, NSEC_PER_SEC)
    return TIMEVAL.pack(seconds, rest // NSEC_PER_USEC)


def itimerspec_of(interval_ns: int, value_ns: int) -> bytes:
    """A struct itimerspec of two durations in nanoseconds."""
    return ITIMERSPEC.pack(*divmod(interval_ns, NSEC_PER_SEC), *divmod(value_ns, NSEC_PER_SEC))


def itimerval_of(interval_ns: int, value_ns: int) -> bytes:
    """A struct itimerval of two durations in nanoseconds, rounded down to microseconds."""
    return timeval_of(interval_ns) + timeval_of(value_ns)
