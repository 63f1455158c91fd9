"""The system-call table: rows of every family by x86-64 number.

A family module ends in a literal `ROWS`; `build()` joins them by name with protocol.abi.numbers_amd64. What has no row
gives ENOSYS through one mechanism that counts it (`missing`). strace output and the coverage page read the same rows.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.abi.numbers_amd64 import NUMBERS

if TYPE_CHECKING:
    from services.sentry.kernel.waiter import Outcome

__all__ = ["FAMILIES", "SIZE", "Row", "build"]

FAMILIES: Final = (
    "clocks_timers",
    "event_fds",
    "execution",
    "fcntl_ioctl",
    "file_attributes",
    "futexes",
    "identity",
    "limits",
    "memory",
    "mounts",
    "namespaces",
    "open_close",
    "paths",
    "polling",
    "processes",
    "read_write",
    "scheduling",
    "signals",
    "sockets",
    "splice",
    "system",
    "task_control",
    "xattr",
    "numa",
)
SIZE: Final = 512


class Row(NamedTuple):
    """One system call: its handler, the kinds of its arguments (their count is the handler's arity), how far it is."""

    name: str
    handler: Callable[..., Outcome]
    args: str = ""
    support: str = "full"
    note: str = ""


def build(families: tuple[str, ...] = FAMILIES) -> list[Row | None]:
    """Number -> Row (None: not implemented). A name without a number, or declared twice, is a ValueError at start."""
    table: list[Row | None] = [None] * SIZE
    for family in families:
        for row in importlib.import_module(f"services.sentry.syscalls.{family}").ROWS:
            number = NUMBERS[row.name]
            if table[number] is not None:
                raise ValueError(f"{row.name} is declared twice")
            table[number] = row
    return table
