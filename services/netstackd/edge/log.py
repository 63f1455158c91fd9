"""Structured log lines on standard error: text for people, one JSON object a line for programs.

An event has a name, a level and fields. Lines are bounded in number: more than MAX_PER_SECOND in a second are counted
and told in one line when it is over, so that nobody can fill a disk by sending packets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Final

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_PER_SECOND: Final = 50
_SECOND: Final = 1_000_000_000


class EventLog:
    """See the module docstring. `wall`: nanoseconds since 1970. `watchers` are told every event, whatever its level."""

    __slots__ = ("_count", "_fd", "_json", "_level", "_second", "_suppressed", "_wall", "watchers")

    def __init__(self, wall: Callable[[], int], level: str = "info", style: str = "text", fd: int = 2) -> None:
        self._wall = wall
        self._fd = fd
        self._second = 0
        self._count = 0
        self._suppressed = 0
        self.watchers: list[Callable[[dict[str, object]], None]] = []
        self.configure(level, style)

    def configure(self, level: str, style: str) -> None:
        """Change what is written, and how."""
        self._level = LEVELS[level]
        self._json = style == "json"

    def event(self, level: str, name: str, **fields: object) -> None:
        """Write an event, unless its level is below the log's."""
        now = self._wall()
        for watcher in list(self.watchers):
            watcher({"time": now, "level": level, "event": name, **fields})
        if LEVELS[level] < self._level:
            return
        second = now // _SECOND
        if second != self._second:
            suppressed, self._suppressed = self._suppressed, 0
            self._second, self._count = second, 0
            if suppressed:
                self._write("warning", "log-suppressed", {"lines": suppressed}, now)
        self._count += 1
        if self._count > MAX_PER_SECOND and level != "error":
            self._suppressed += 1
            return
        self._write(level, name, fields, now)

    def _write(self, level: str, name: str, fields: dict[str, object], now: int) -> None:
        if self._json:
            line = json.dumps({"time": now / 1e9, "level": level, "event": name, **fields}, default=str)
        else:
            words = " ".join(f"{key}={_plain(value)}" for key, value in fields.items())
            line = f"netstackd: {level}: {name}{' ' + words if words else ''}"
        try:
            os.write(self._fd, (line + "\n").encode(errors="replace"))
        except OSError:
            pass


def _plain(value: object) -> str:
    text = str(value)
    return json.dumps(text) if " " in text or '"' in text or not text else text
