"""Files that state what the kernel is and has: version, cmdline, filesystems, devices and other lists (proc(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.sentry.kernel import uts

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["COMMAND_LINE", "DEVICES", "MISC", "TTY_DRIVERS", "cgroups", "consoles", "filesystems", "version"]

COMMAND_LINE: Final = b"quiet\n"
DEVICES: Final = (
    b"Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n 10 misc\n128 ptm\n136 pts\n"
    b"\nBlock devices:\n"
)
MISC: Final = b"200 tun\n229 fuse\n"
TTY_DRIVERS: Final = (
    b"/dev/tty             /dev/tty        5       0 system:/dev/tty\n"
    b"/dev/console         /dev/console    5       1 system:console\n"
    b"/dev/ptmx            /dev/ptmx       5       2 system\n"
    b"pty_slave            /dev/pts      136 0-1048575 pty:slave\n"
    b"pty_master           /dev/ptm      128 0-1048575 pty:master\n"
)


def version(reader: Task) -> bytes:
    compiler = b"(sentrio@sentrio) (gcc 12.2.0, GNU ld 2.40)"
    return b"%b version %b %b %b\n" % (uts.SYSNAME, uts.RELEASE, compiler, uts.VERSION)


def filesystems(reader: Task) -> bytes:
    """From the types that mount(2) knows, and the internal ones."""
    from services.sentry.filesystems.registry import TYPES

    internal = (b"pipefs", b"sockfs", b"anon_inodefs")
    lines = [b"nodev\t" + name for name in internal]
    lines += [(b"nodev\t" if row.nodev else b"\t") + name for name, row in TYPES.items()]
    return b"\n".join(lines) + b"\n"


def cgroups(reader: Task) -> bytes:
    """All controllers are in the unified hierarchy, which this file shows as hierarchy 0 (cgroups(7))."""
    rows = b"".join(b"%b\t0\t1\t1\n" % name for name in (b"cpuset", b"cpu", b"io", b"memory", b"pids"))
    return b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n" + rows


def consoles(reader: Task) -> bytes:
    return b"tty0                 -WU (EC  p  )    4:7\n"
