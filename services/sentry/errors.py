"""The error kinds of the Sentry, and no others (docs/ARCHITECTURE.md, "Errors").

`LinuxError` is what a guest sees; `WouldBlock` is control flow between a file and the system-call layer; anything else
that escapes a handler is a bug of ours, which ends the guest's thread group and is logged.
"""

from __future__ import annotations

import os

__all__ = ["LinuxError", "Restart", "WouldBlock", "explain"]


class LinuxError(Exception):
    """A system call fails with `errno` (positive). `why` names the object, lower case, for logs only."""

    __slots__ = ("errno", "why")

    def __init__(self, errno: int, why: str = "") -> None:
        self.errno = errno
        self.why = why

    def __str__(self) -> str:
        return f"errno {self.errno}: {self.why}" if self.why else f"errno {self.errno}"


class WouldBlock(Exception):
    """Nothing can be transferred now. The caller answers EAGAIN or parks the task on the file's wait queue."""

    __slots__ = ()


class Restart:
    """Internal results of an interrupted call, as the kernel names them (Linux include/linux/errno.h).

    They never reach a guest: signal delivery turns them into EINTR or into a restart (signal(7), "Interruption of
    system calls and library functions by signal handlers").
    """

    SYS = 512  # restart if SA_RESTART, else EINTR
    NOINTR = 513  # always restart
    NOHAND = 514  # restart only if no handler runs
    BLOCK = 516  # restart through restart_syscall(2), if no handler runs


def explain(error: LinuxError | OSError) -> str:
    """For people: what it was about, then the errno's text, as in "/x: No such file or directory"."""
    text = os.strerror(error.errno) if error.errno else ""
    said = error.why if isinstance(error, LinuxError) else error.strerror or ""
    if not said or said == text:
        said = str(getattr(error, "filename", None) or "")
    return ": ".join(part for part in (said, text) if part) or type(error).__name__
