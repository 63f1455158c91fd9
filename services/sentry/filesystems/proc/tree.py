"""The tables of procfs: path -> row, for the system and for a task. The whole of what exists stands here.

To add a file: write its function in system/, task/ or sysctl/, add its row here (or in sysctl/table.py, net/).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.sentry.filesystems.proc.rows import SystemRow, TaskRow, constant
from services.sentry.filesystems.proc.sysctl.table import SYSCTLS
from services.sentry.filesystems.proc.system import activity, cpuinfo, facts, locks, memory
from services.sentry.filesystems.proc.task import identity, limits, maps, mounts, scheduling, stat_, status, strings

__all__ = ["EMPTY_DIRECTORIES", "SYMLINKS", "SYSTEM_FILES", "TASK_FILES"]


def _const(text: bytes, mode: int = 0o444) -> SystemRow:
    return SystemRow(constant(text), mode)


def _ignored(writer: object, data: bytes) -> None:
    """A write that is accepted without effect."""


_EMPTY: Final = _const(b"")

#: path below /proc -> row.
SYSTEM_FILES: Final[Mapping[bytes, SystemRow]] = {
    b"buddyinfo": SystemRow(memory.buddyinfo),
    b"cgroups": SystemRow(facts.cgroups),
    b"cmdline": _const(facts.COMMAND_LINE),
    b"consoles": SystemRow(facts.consoles),
    b"cpuinfo": SystemRow(cpuinfo.render),
    b"crypto": _EMPTY,
    b"devices": _const(facts.DEVICES),
    b"diskstats": _EMPTY,
    b"dma": _const(b" 4: cascade\n"),
    b"execdomains": _const(b"0-0\tLinux           \t[kernel]\n"),
    b"filesystems": SystemRow(facts.filesystems),
    b"interrupts": SystemRow(activity.interrupts),
    b"iomem": _const(b"", 0o400),
    b"ioports": _const(b"", 0o400),
    b"kallsyms": _EMPTY,
    b"key-users": _const(b"    0:     1 1/1 1/1000000 9/25000000\n"),
    b"keys": _EMPTY,
    b"loadavg": SystemRow(activity.loadavg),
    b"locks": SystemRow(locks.locks),
    b"meminfo": SystemRow(memory.meminfo),
    b"misc": _const(facts.MISC),
    b"modules": _EMPTY,
    b"pagetypeinfo": SystemRow(memory.pagetypeinfo, 0o400),
    b"partitions": _const(b"major minor  #blocks  name\n\n"),
    b"pressure/cpu": SystemRow(activity.pressure((b"some", b"full"))),
    b"pressure/io": SystemRow(activity.pressure((b"some", b"full"))),
    b"pressure/memory": SystemRow(activity.pressure((b"some", b"full"))),
    b"schedstat": SystemRow(activity.schedstat),
    b"slabinfo": SystemRow(memory.slabinfo, 0o400),
    b"softirqs": SystemRow(activity.softirqs),
    b"stat": SystemRow(activity.stat),
    b"swaps": SystemRow(memory.swaps),
    b"sysrq-trigger": SystemRow(constant(b""), 0o200, _ignored),
    b"sysvipc/msg": _const(
        b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime"
        b"      ctime\n"
    ),
    b"sysvipc/sem": _const(b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"),
    b"sysvipc/shm": _const(
        b"       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime"
        b"      dtime      ctime                   rss                  swap\n"
    ),
    b"timer_list": _const(b"", 0o400),
    b"tty/drivers": _const(facts.TTY_DRIVERS),
    b"tty/ldiscs": _const(b"n_tty       0\n"),
    b"uptime": SystemRow(activity.uptime),
    b"version": SystemRow(facts.version),
    b"vmallocinfo": _const(b"", 0o400),
    b"vmstat": SystemRow(memory.vmstat),
    b"zoneinfo": SystemRow(memory.zoneinfo),
    **{b"sys/" + path: row for path, row in SYSCTLS.items()},
}

#: path below /proc -> fixed target.
SYMLINKS: Final[Mapping[bytes, bytes]] = {b"mounts": b"self/mounts", b"net": b"self/net"}
EMPTY_DIRECTORIES: Final = (
    b"acpi", b"bus", b"driver", b"fs", b"irq", b"sys/fs/binfmt_misc", b"tty/driver", b"tty/ldisc",
)  # fmt: skip

#: name below /proc/PID and /proc/PID/task/TID -> row. Directories and links: superblock.py.
TASK_FILES: Final[Mapping[bytes, TaskRow]] = {
    b"arch_status": TaskRow(identity.fixed(b"AVX512_elapsed_ms:\t-1\n")),
    b"attr/current": TaskRow(identity.no_security_module, 0o666, store=identity.refuse_security_module),
    b"attr/exec": TaskRow(identity.no_security_module, 0o666, store=identity.refuse_security_module),
    b"attr/fscreate": TaskRow(identity.no_security_module, 0o666, store=identity.refuse_security_module),
    b"attr/keycreate": TaskRow(identity.no_security_module, 0o666, store=identity.refuse_security_module),
    b"attr/prev": TaskRow(identity.no_security_module),
    b"attr/sockcreate": TaskRow(identity.no_security_module, 0o666, store=identity.refuse_security_module),
    b"autogroup": TaskRow(identity.autogroup, 0o644, store=identity.ignore_write, group_only=True),
    b"auxv": TaskRow(strings.auxv, 0o400, guarded=True),
    b"cgroup": TaskRow(identity.cgroup),
    b"children": TaskRow(stat_.children, thread_only=True),
    b"clear_refs": TaskRow(identity.fixed(b""), 0o200, store=identity.ignore_write),
    b"cmdline": TaskRow(strings.cmdline),
    b"comm": TaskRow(strings.comm, 0o644, store=strings.set_comm),
    b"coredump_filter": TaskRow(identity.fixed(b"00000033\n"), 0o644, store=identity.ignore_write, group_only=True),
    b"cpuset": TaskRow(identity.fixed(b"/\n")),
    b"environ": TaskRow(strings.environ, 0o400, guarded=True),
    b"gid_map": TaskRow(identity.id_map, 0o644, store=identity.refuse_write),
    b"io": TaskRow(limits.io, 0o400, guarded=True),
    b"limits": TaskRow(limits.limits),
    b"loginuid": TaskRow(identity.fixed(b"4294967295"), 0o644, store=identity.ignore_write),
    b"maps": TaskRow(maps.maps),
    b"mountinfo": TaskRow(mounts.mountinfo),
    b"mounts": TaskRow(mounts.mounts),
    b"mountstats": TaskRow(mounts.mountstats, 0o400, group_only=True),
    b"numa_maps": TaskRow(maps.numa_maps),
    b"oom_adj": TaskRow(identity.oom_adj, 0o644, store=identity.set_oom_adj),
    b"oom_score": TaskRow(identity.oom_score),
    b"oom_score_adj": TaskRow(identity.oom_score_adj, 0o644, store=identity.set_oom_score_adj),
    b"personality": TaskRow(identity.personality, 0o400, guarded=True),
    b"projid_map": TaskRow(identity.id_map, 0o644, store=identity.refuse_write),
    b"sched": TaskRow(scheduling.sched, 0o644, store=identity.ignore_write),
    b"schedstat": TaskRow(scheduling.schedstat),
    b"sessionid": TaskRow(identity.fixed(b"4294967295")),
    b"setgroups": TaskRow(identity.fixed(b"allow\n"), 0o644, store=identity.refuse_write, group_only=True),
    b"smaps": TaskRow(maps.smaps),
    b"smaps_rollup": TaskRow(maps.smaps_rollup),
    b"stack": TaskRow(identity.fixed(b""), 0o400, guarded=True),
    b"statm": TaskRow(stat_.statm),
    b"status": TaskRow(status.render),
    b"syscall": TaskRow(scheduling.syscall, 0o400, guarded=True),
    b"timens_offsets": TaskRow(scheduling.timens_offsets, 0o644, store=identity.refuse_write, group_only=True),
    b"timers": TaskRow(scheduling.timers, group_only=True),
    b"timerslack_ns": TaskRow(identity.timer_slack, 0o666, store=identity.set_timer_slack, group_only=True),
    b"uid_map": TaskRow(identity.id_map, 0o644, store=identity.refuse_write),
    b"wchan": TaskRow(scheduling.wchan),
}
