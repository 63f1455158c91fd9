"""/proc/PID/{cmdline,environ,auxv,comm}: what lies in the task's memory, and its name (proc(5))."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from services.sentry.errors import LinuxError
from services.sentry.filesystems.proc.access import mm_of

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["auxv", "cmdline", "comm", "environ", "set_comm"]

LIMIT: Final = 2 << 20
COMM_LENGTH: Final = 15


def _memory(target: Task, start: int, end: int) -> bytes:
    mm = mm_of(target)
    if mm is None or end <= start:
        return b""
    mm.await_contents()
    try:
        return mm.read_some(start, min(end - start, LIMIT))
    except LinuxError:
        return b""


def cmdline(reader: Task, target: Task) -> bytes:
    """The arguments, NUL after each. A program that wrote over the last NUL set a title, which goes on behind it."""
    mm = mm_of(target)
    if mm is None:
        return b""
    text = _memory(target, mm.arg_start, mm.arg_end)
    if not text or text[-1] == 0:
        return text
    end = text.find(b"\0")
    if end >= 0:
        return text[: end + 1]
    return (text + _memory(target, mm.env_start, mm.env_end)).split(b"\0", 1)[0]


def environ(reader: Task, target: Task) -> bytes:
    mm = mm_of(target)
    return _memory(target, mm.env_start, mm.env_end) if mm is not None else b""


def auxv(reader: Task, target: Task) -> bytes:
    mm = mm_of(target)
    return mm.auxv if mm is not None else b""


def comm(reader: Task, target: Task) -> bytes:
    return target.comm + b"\n"


def set_comm(writer: Task, target: Task, data: bytes) -> None:
    """A thread of the same process may rename it (proc_pid_comm(5)). EINVAL: another process."""
    if writer.group is not target.group:
        raise LinuxError(errno.EINVAL)
    target.comm = data.split(b"\0", 1)[0].rstrip(b"\n")[:COMM_LENGTH]
