"""<linux/wait.h>: wait4(2) and waitid(2) options, idtypes, and the wait status word."""

from __future__ import annotations

from typing import Final

WNOHANG: Final[int] = 0x00000001
WUNTRACED: Final[int] = 0x00000002
WSTOPPED: Final[int] = 0x00000002
WEXITED: Final[int] = 0x00000004
WCONTINUED: Final[int] = 0x00000008
WNOWAIT: Final[int] = 0x01000000

# waitid(2) idtypes.
P_ALL: Final[int] = 0
P_PID: Final[int] = 1
P_PGID: Final[int] = 2
P_PIDFD: Final[int] = 3

# The kernel's __WNOTHREAD, __WALL, __WCLONE.
WNOTHREAD: Final[int] = 0x20000000
WALL: Final[int] = 0x40000000
WCLONE: Final[int] = 0x80000000


def status_exited(code: int) -> int:
    """The wait status of a process that called exit with `code`."""
    return (code & 0xFF) << 8


def status_signaled(signo: int, core_dumped: bool = False) -> int:
    """The wait status of a process that a signal killed."""
    return signo | (0x80 if core_dumped else 0)


def status_stopped(signo: int) -> int:
    """The wait status of a process that a signal stopped."""
    return signo << 8 | 0x7F


#: The wait status of a process that SIGCONT continued.
STATUS_CONTINUED: Final[int] = 0xFFFF
