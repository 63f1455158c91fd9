"""The system-call table as a C header for guests/fuzz.c: numbers, kinds of arguments, and what numbers to try."""

from __future__ import annotations

import importlib
from typing import Final

from protocol.abi.numbers_amd64 import NUMBERS
from services.sentry.syscalls import table

__all__ = ["header"]

_POOLS: Final = {
    "ioctl": "ioctl_h", "fcntl": "fcntl_h", "open": "fcntl_h", "openat": "fcntl_h", "openat2": "fcntl_h",
    "prctl": "prctl_h", "arch_prctl": "prctl_h", "socket": "socket_h in_h", "socketpair": "socket_h",
    "setsockopt": "socket_h in_h tcp_h", "getsockopt": "socket_h in_h tcp_h", "sendmsg": "socket_h",
    "recvmsg": "socket_h", "sendto": "socket_h", "recvfrom": "socket_h", "futex": "futex_h", "clone": "sched_h",
    "clone3": "sched_h", "unshare": "sched_h", "mmap": "mman_h", "mprotect": "mman_h", "madvise": "mman_h",
    "mremap": "mman_h", "mlock2": "mman_h", "mlockall": "mman_h", "msync": "mman_h", "mount": "mount_h",
    "umount2": "mount_h", "epoll_ctl": "epoll_h", "poll": "poll_h", "ppoll": "poll_h", "membarrier": "membarrier_h",
    "wait4": "wait_h", "waitid": "wait_h", "memfd_create": "memfd_h", "splice": "splice_h", "tee": "splice_h",
    "vmsplice": "splice_h", "timerfd_create": "time_h", "timer_create": "time_h signal_h", "clock_gettime": "time_h",
    "prlimit64": "resource_h", "fallocate": "fcntl_h", "statx": "stat_h fcntl_h", "setxattr": "xattr_h",
    "rt_sigaction": "signal_h", "rt_sigprocmask": "signal_h", "sigaltstack": "signal_h", "preadv2": "uio_h",
    "pwritev2": "uio_h", "execveat": "fcntl_h", "sched_setattr": "sched_h", "sched_setscheduler": "sched_h",
}  # fmt: skip


def _values(modules: str) -> list[int]:
    found = set()
    for name in modules.split():
        module = importlib.import_module(f"protocol.abi.{name}")
        found |= {value for key, value in vars(module).items() if key.isupper() and type(value) is int}
    return sorted(value & 0xFFFFFFFFFFFFFFFF for value in found)


def header() -> str:
    """`pools` and `calls`, as fuzz.c declares them."""
    names = sorted(set(_POOLS.values()))
    lines = [
        f"static const u64 pool{at}[] = {{{', '.join(f'{v:#x}UL' for v in _values(modules))}}};"
        for at, modules in enumerate(names)
    ]
    pools = ", ".join(f"{{sizeof pool{at} / 8, pool{at}}}" for at in range(len(names)))
    lines.append(f"static const struct pool pools[] = {{{pools}}};")
    rows = [row for row in table.build() if row is not None]
    pool_of = {name: names.index(modules) for name, modules in _POOLS.items()}
    calls = ", ".join(
        f'{{{NUMBERS[row.name]}, "{row.name}", "{row.args}", {pool_of.get(row.name, -1)}}}' for row in rows
    )
    lines.append(f"static const struct call calls[] = {{{calls}}};")
    return "\n".join(lines) + "\n"
