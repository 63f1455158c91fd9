"""<linux/sysinfo.h>: struct sysinfo, what sysinfo(2) fills; reboot(2) and syslog(2) numbers."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# struct sysinfo: uptime, loads[3] (scaled by 65536), totalram, freeram, sharedram, bufferram, totalswap, freeswap,
# procs, totalhigh, freehigh, mem_unit.
SYSINFO: Final = layout("struct sysinfo", "q9QH6xQQI4x", 112)
SI_LOAD_SHIFT: Final[int] = 16

# syslog(2) actions.
SYSLOG_ACTION_READ_ALL: Final[int] = 3
SYSLOG_ACTION_SIZE_BUFFER: Final[int] = 10
