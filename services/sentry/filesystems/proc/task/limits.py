"""/proc/PID/limits (proc_pid_limits(5)) and io."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["io", "limits"]

INFINITY: Final = 0xFFFFFFFFFFFFFFFF
# In RLIMIT_* order: name, unit.
_ROWS: Final = (
    ("Max cpu time", "seconds"), ("Max file size", "bytes"), ("Max data size", "bytes"), ("Max stack size", "bytes"),
    ("Max core file size", "bytes"), ("Max resident set", "bytes"), ("Max processes", "processes"),
    ("Max open files", "files"), ("Max locked memory", "bytes"), ("Max address space", "bytes"),
    ("Max file locks", "locks"), ("Max pending signals", "signals"), ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""), ("Max realtime priority", ""), ("Max realtime timeout", "us"),
)  # fmt: skip


def limits(reader: Task, target: Task) -> bytes:
    lines = [f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}"]
    for (name, unit), pair in zip(_ROWS, target.group.rlimits, strict=True):
        soft, hard = ("unlimited" if value == INFINITY else str(value) for value in pair)
        lines.append(f"{name:<25} {soft:<20} {hard:<20} {unit:<10}")
    return ("\n".join(lines) + "\n").encode()


def io(reader: Task, target: Task) -> bytes:
    """Bytes are not counted; calls are not told apart."""
    names = ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes")
    return "".join(f"{name}: 0\n" for name in names).encode()
