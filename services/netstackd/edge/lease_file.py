"""The file with the leases of the DHCP servers: the keeper's, as the sealed router may open none.

JSON, for people too. It is written anew under another name and renamed, so that whoever reads it, also after a crash,
never finds half of it. What the router sends is checked: only rows of the form below are kept, at most MAX_ROWS.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any, Final

from services.netstackd.edge.log import EventLog

MAX_ROWS: Final = 32768
MAX_TEXT: Final = 512
PAGE: Final = 1000  # rows in one answer
_NEEDED: Final = {"server": str, "interface": str, "address": str, "expires": int}

Row = dict[str, Any]


def is_row(row: object) -> bool:
    """Whether it looks like a lease: short texts and numbers, with those that each one has."""
    return (
        isinstance(row, dict)
        and all(type(row.get(name)) is kind for name, kind in _NEEDED.items())
        and len(row) <= 16
        and all(type(value) is int or (type(value) is str and len(value) <= MAX_TEXT) for value in row.values())
    )


class LeaseFile:
    """See the module docstring. `path` "": there is no file, and what is kept lasts as long as the keeper."""

    def __init__(self, path: str, log: EventLog) -> None:
        self._log = log
        self._rows: dict[tuple[str, str, str], Row] = {}
        self.path = path
        self._load()

    def _load(self) -> None:
        if not self.path:
            return
        try:
            with open(self.path, encoding="utf-8") as file:
                rows = json.load(file)["leases"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._log.event("warning", "leases-unreadable", path=self.path, why=str(error))
            return
        self._take(rows if isinstance(rows, list) else [])

    def _take(self, rows: list[Any]) -> None:
        for row in rows:
            if not is_row(row):
                continue
            key = (row["server"], row["interface"], row["address"])
            if row["expires"] <= time.time():
                self._rows.pop(key, None)
            elif key in self._rows or len(self._rows) < MAX_ROWS:
                self._rows[key] = row

    def page(self, offset: int) -> list[Row]:
        """Some of the leases; fewer than PAGE: the last."""
        return list(self._rows.values())[max(offset, 0) :][:PAGE]

    def merge(self, params: Sequence[Any]) -> None:
        """What the router says has changed, a list of rows; `expires` 0 takes a lease out."""
        self._take(params[0] if params and isinstance(params[0], list) else [])
        if self.path:
            self._write()

    def move(self, path: str) -> None:
        """The configuration names another file."""
        if path != self.path:
            self.path = path
            self._load()

    def _write(self) -> None:
        now = time.time()
        self._rows = {key: row for key, row in self._rows.items() if row["expires"] > now}
        text = json.dumps({"leases": list(self._rows.values())}, indent=1)
        beside = f"{self.path}.new"
        try:
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, self.path)
        except OSError as error:
            self._log.event("warning", "leases-not-written", path=self.path, why=error.strerror)
