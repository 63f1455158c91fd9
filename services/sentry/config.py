"""What the Sentry knows of its host and its sandbox before it seals itself: read once, then only shown to guests."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from protocol.records import field, record

if TYPE_CHECKING:
    from protocol.control.config import SentryConfig

__all__ = ["HostFacts", "read_host_facts"]

_AT_HWCAP, _AT_HWCAP2, _AT_MINSIGSTKSZ = 16, 26, 51
_HWCAP2_FSGSBASE = 2  # hidden: GS belongs to the platform, and who looks for the instructions must not find them


@record
class HostFacts:
    """The machine as guests see it, and the sandbox's own names. `cpuinfo`: the host's text, for /proc/cpuinfo."""

    hostname: str
    cpu_count: int
    memory_bytes: int
    memory_total_bytes: int
    hwcap: int
    hwcap2: int
    min_signal_stack: int
    cpuinfo: str = ""
    cpu_fields: dict[str, str] = field(default_factory=dict)


def _auxiliary_vector() -> dict[int, int]:
    try:
        with open("/proc/self/auxv", "rb") as file:
            data = file.read()
    except OSError:
        return {}
    return dict(struct.iter_unpack("<QQ", data))


def _host_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def read_host_facts(config: SentryConfig) -> HostFacts:
    """Needs the host's /proc; call before the root is emptied. Missing facts get defaults."""
    auxv = _auxiliary_vector()
    cpus = config.cpu_count or len(os.sched_getaffinity(0))
    memory = config.memory_total_bytes or _host_memory()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            cpuinfo = file.read(1 << 14)
    except OSError:
        cpuinfo = ""
    fields = {}
    for line in cpuinfo.split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return HostFacts(
        hostname=config.hostname.decode(errors="replace"),
        cpu_count=cpus,
        memory_bytes=memory,
        memory_total_bytes=memory,
        hwcap=auxv.get(_AT_HWCAP, 0),
        hwcap2=auxv.get(_AT_HWCAP2, 0) & ~_HWCAP2_FSGSBASE,
        min_signal_stack=auxv.get(_AT_MINSIGSTKSZ, 2048),
        cpuinfo=cpuinfo,
        cpu_fields=fields,
    )
