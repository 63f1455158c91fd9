"""Resource limits a process starts with (getrlimit(2)): a list of 16 (soft, hard) pairs, indexed by RLIMIT_*."""

from __future__ import annotations

from protocol.abi import limits as lim
from protocol.abi import resource_h as rh

__all__ = ["Limit", "default_limits"]

Limit = tuple[int, int]

_INF = rh.RLIM_INFINITY


def default_limits() -> list[Limit]:
    """What Linux's init has (asm-generic/resource.h), with the number of descriptors that service managers allow."""
    limits: list[Limit] = [(_INF, _INF)] * rh.RLIM_NLIMITS
    limits[rh.RLIMIT_STACK] = (8 << 20, _INF)
    limits[rh.RLIMIT_CORE] = (0, _INF)
    limits[rh.RLIMIT_NOFILE] = (1024, lim.NR_OPEN)
    limits[rh.RLIMIT_MEMLOCK] = (8 << 20, 8 << 20)
    limits[rh.RLIMIT_SIGPENDING] = (31_000, 31_000)
    limits[rh.RLIMIT_MSGQUEUE] = (819_200, 819_200)
    limits[rh.RLIMIT_NICE] = (0, 0)
    limits[rh.RLIMIT_RTPRIO] = (0, 0)
    return limits
