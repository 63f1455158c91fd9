"""Path MTUs learned from ICMP, per destination (RFC 1191, RFC 8201).

An entry lives LIFETIME (RFC 1191 section 6.3: ten minutes; net.ipv4.route.mtu_expires), then the path is tried at full
size again. Bounded: the oldest entry gives way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LIFETIME: Final = 600 * 1_000_000_000
LIMIT: Final = 4096
MIN_IPV4: Final = 552  # net.ipv4.route.min_pmtu: below that, ICMP is not believed to the letter
MIN_IPV6: Final = 1280

# RFC 1191 section 7.1: guesses for routers that do not say their MTU.
PLATEAUS: Final = (65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68)


class PathMtuCache:
    """One version's entries. `changed` is called when an answer that was given before may differ now."""

    def __init__(self, version: int, changed: Callable[[], None]) -> None:
        self._floor = MIN_IPV4 if version == 4 else MIN_IPV6
        self._changed = changed
        self._entries: dict[int, tuple[int, int]] = {}  # destination: (mtu, expires)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, destination: int, now: int) -> int:
        """The learned MTU, or 0."""
        entry = self._entries.get(destination)
        if entry is None:
            return 0
        if entry[1] <= now:
            del self._entries[destination]
            return 0
        return entry[0]

    def learn(self, destination: int, mtu: int, now: int, current: int) -> int:
        """A router says that `mtu` is the most; `current` is what we believed. Returns what is believed now.

        An MTU never grows by this (RFC 8201 section 4), and not below the floor.
        """
        mtu = max(mtu, self._floor)
        if mtu >= current:
            return current
        entries = self._entries
        entries.pop(destination, None)
        if len(entries) >= LIMIT:
            del entries[next(iter(entries))]
        entries[destination] = (mtu, now + LIFETIME)
        self._changed()
        return mtu

    def expire(self, now: int) -> int | None:
        """Drop what is too old; returns when the next one will be, or None."""
        entries = self._entries
        gone = False
        for destination, (_, expires) in list(entries.items()):  # in the order of their expiry
            if expires > now:
                if gone:
                    self._changed()
                return expires
            del entries[destination]
            gone = True
        if gone:
            self._changed()
        return None

    def items(self) -> list[tuple[int, int, int]]:
        """(destination, mtu, expires) of all."""
        return [(destination, mtu, expires) for destination, (mtu, expires) in self._entries.items()]


def plateau_below(size: int) -> int:
    """The next lower plateau, for a message that carries no MTU (RFC 1191 section 5)."""
    return next((plateau for plateau in PLATEAUS if plateau < size), 68)
