"""What DHCP servers have given, beside the servers: it outlives a change of their configuration, and a restart.

A lease is a `Row` of plain values, known by (server, interface, address): so it can go to the keeper, which has the
file (edge/lease_file.py), and come back. `expires` there is seconds since 1970, as the stack's clock means nothing to
the next process. Changes are told after a second, so that a burst is one message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from services.netstackd.storage.timers import Timers

SECOND: Final = 1_000_000_000
PAGE: Final = 1000  # rows in one message

Row = dict[str, Any]
Key = tuple[str, str, str]


def key_of(row: Row) -> Key:
    """What a lease is known by."""
    return row["server"], row["interface"], row["address"]


class LeaseMemory:
    """See the module docstring. `wall() - now()`: what turns the stack's time into that of the world."""

    def __init__(self, timers: Timers, now: Callable[[], int], wall: Callable[[], int]) -> None:
        self._rows: dict[Key, Row] = {}
        self._changed: dict[Key, Row] = {}
        self._now = now
        self._wall = wall
        self._timer = timers.new(self._tell)
        self.on_change: Callable[[list[Row]], None] = lambda rows: None

    def put(self, row: Row, expires: int) -> None:
        """A lease came about or was extended until `expires` on the stack's clock; 0: it is over."""
        key = key_of(row)
        if expires:
            row = {**row, "expires": (self._wall() - self._now() + expires) // SECOND}
            self._rows[key] = row
        else:
            row = {**row, "expires": 0}
            self._rows.pop(key, None)
        if not self._changed:
            self._timer.set(self._now() + SECOND)
        self._changed[key] = row

    def of(self, server: str, interface: str) -> list[tuple[Row, int]]:
        """The leases of a server that have not run out, with their end on the stack's clock."""
        offset = self._wall() - self._now()
        found = [row for key, row in self._rows.items() if key[:2] == (server, interface)]
        ends = [(row, row["expires"] * SECOND - offset) for row in found]
        return [(row, end) for row, end in ends if end > self._now()]

    def restore(self, rows: list[Row]) -> None:
        """Rows from before the restart; what is known by now is newer."""
        for row in rows:
            self._rows.setdefault(key_of(row), row)

    def _tell(self, now: int) -> None:
        rows = list(self._changed.values())
        self._changed.clear()
        for at in range(0, len(rows), PAGE):
            self.on_change(rows[at : at + PAGE])
