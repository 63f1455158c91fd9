"""The names of one directory in a stable order with cookies that survive additions and removals (telldir(3)).

Owns the order and nothing else. A name gets the next sequence number when it is added and loses it when it is removed;
a name added again comes last. A cookie is the sequence number to go on from, so a listing in progress neither repeats
nor skips a name that was there all along (readdir(3p), RATIONALE).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

__all__ = ["NameOrder"]

_COMPACT_AT = 64  # dead sequence numbers tolerated before the list is rebuilt, at least


class NameOrder:
    """`add`, `discard` and membership cost O(1) (amortised); going on from a cookie costs O(log n)."""

    __slots__ = ("_names", "_next", "_numbers", "_order")

    def __init__(self, names: Iterable[bytes] = ()) -> None:
        self._numbers: dict[bytes, int] = {name: number for number, name in enumerate(names)}
        self._next = len(self._numbers)
        self._order = list(self._numbers.values())
        self._names = {number: name for name, number in self._numbers.items()}

    def __contains__(self, name: bytes) -> bool:
        return name in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, name: bytes) -> None:
        """Put `name` last; nothing happens if it is there."""
        if name in self._numbers:
            return
        number = self._next
        self._next = number + 1
        self._numbers[name] = number
        self._names[number] = name
        self._order.append(number)

    def discard(self, name: bytes) -> None:
        """Remove `name` if it is there; the cookies of the others stay true."""
        number = self._numbers.pop(name, None)
        if number is None:
            return
        del self._names[number]
        if len(self._order) > 2 * len(self._names) + _COMPACT_AT:
            self._order = [number for number in self._order if number in self._names]

    def following(self, cookie: int) -> Iterator[tuple[int, bytes]]:
        """(cookie of the next one, name) from `cookie` on. Removals and additions meanwhile are tolerated."""
        order, names = self._order, self._names
        for index in range(bisect_left(order, cookie), len(order)):
            number = order[index]
            name = names.get(number)
            if name is not None:
                yield number + 1, name
