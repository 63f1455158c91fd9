"""<asm-generic/resource.h>, <linux/resource.h>: resource limits and struct rusage."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Limits.
RLIMIT_CPU: Final[int] = 0
RLIMIT_FSIZE: Final[int] = 1
RLIMIT_DATA: Final[int] = 2
RLIMIT_STACK: Final[int] = 3
RLIMIT_CORE: Final[int] = 4
RLIMIT_RSS: Final[int] = 5
RLIMIT_NPROC: Final[int] = 6
RLIMIT_NOFILE: Final[int] = 7
RLIMIT_MEMLOCK: Final[int] = 8
RLIMIT_AS: Final[int] = 9
RLIMIT_LOCKS: Final[int] = 10
RLIMIT_SIGPENDING: Final[int] = 11
RLIMIT_MSGQUEUE: Final[int] = 12
RLIMIT_NICE: Final[int] = 13
RLIMIT_RTPRIO: Final[int] = 14
RLIMIT_RTTIME: Final[int] = 15

# getrusage(2).
RUSAGE_SELF: Final[int] = 0
RUSAGE_CHILDREN: Final[int] = -1
RUSAGE_BOTH: Final[int] = -2
RUSAGE_THREAD: Final[int] = 1

RLIM_NLIMITS: Final[int] = 16
RLIM_INFINITY: Final[int] = 0xFFFF_FFFF_FFFF_FFFF

# struct rlimit, struct rlimit64: rlim_cur, rlim_max.
RLIMIT: Final = layout("struct rlimit64", "QQ", 16)
# struct rusage: ru_utime (sec, usec), ru_stime (sec, usec), ru_maxrss, ru_ixrss, ru_idrss, ru_isrss, ru_minflt,
# ru_majflt, ru_nswap, ru_inblock, ru_oublock, ru_msgsnd, ru_msgrcv, ru_nsignals, ru_nvcsw, ru_nivcsw.
RUSAGE: Final = layout("struct rusage", "18q", 144)


def pack_rusage(
    utime_ns: int,
    stime_ns: int,
    maxrss_kib: int,
    minflt: int,
    majflt: int,
    inblock: int,
    oublock: int,
    nvcsw: int,
    nivcsw: int,
) -> bytes:
    """A struct rusage; the fields that Linux does not maintain are zero."""
    return RUSAGE.pack(
        utime_ns // 1_000_000_000,
        utime_ns // 1000 % 1_000_000,
        stime_ns // 1_000_000_000,
        stime_ns // 1000 % 1_000_000,
        maxrss_kib,
        0,
        0,
        0,
        minflt,
        majflt,
        0,
        inblock,
        oublock,
        0,
        0,
        0,
        nvcsw,
        nivcsw,
    )
