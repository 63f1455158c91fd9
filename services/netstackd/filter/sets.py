"""Sets of addresses that rules name: prefixes, single addresses, and addresses that leave by themselves after a while.

A look-up costs one dictionary access per prefix length in the set. Elements with a timeout are bounded in number; when
the set is full, the one that would leave first goes, counted in `evicted`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from services.netstackd.filter.match import Range

MAX_ELEMENTS: Final = 65536
_BITS: Final = {4: 32, 6: 128}


class AddressSet:
    """See the module docstring. `timeout`: nanoseconds that a dynamic element stays, None for ever."""

    __slots__ = ("_members", "evicted", "max_elements", "name", "timeout")

    def __init__(self, name: str, timeout: int | None = None, max_elements: int = MAX_ELEMENTS) -> None:
        self.name = name
        self.timeout = timeout
        self.max_elements = max_elements
        self.evicted = 0
        # (version, bits to shift out) -> {address >> shift: deadline or None}
        self._members: dict[int, dict[int, dict[int, int | None]]] = {4: {}, 6: {}}

    def __len__(self) -> int:
        return sum(len(group) for groups in self._members.values() for group in groups.values())

    def add(self, version: int, address: int, length: int, now: int, *, dynamic: bool = True) -> None:
        """Add a prefix. `dynamic`: it leaves after the set's timeout."""
        deadline = now + self.timeout if dynamic and self.timeout is not None else None
        shift = _BITS[version] - length
        group = self._members[version].setdefault(shift, {})
        key = address >> shift
        if key not in group and len(self) >= self.max_elements:
            self._make_room(now)
        group[key] = deadline

    def discard(self, version: int, address: int, length: int) -> bool:
        """Take a prefix out; whether it was there."""
        shift = _BITS[version] - length
        group = self._members[version].get(shift, {})
        present = (address >> shift) in group
        group.pop(address >> shift, None)
        if not group:
            self._members[version].pop(shift, None)
        return present

    def holds(self, version: int, address: int, now: int) -> bool:
        """Whether a member covers the address."""
        for shift, group in self._members[version].items():
            key = address >> shift
            if key in group:
                deadline = group[key]
                if deadline is None or deadline > now:
                    return True
                del group[key]
                if not group:
                    del self._members[version][shift]
                    return self.holds(version, address, now)
        return False

    def _make_room(self, now: int) -> None:
        """Drop what has run out; if that is nothing, the element that would run out first."""
        first: tuple[int, dict[int, int | None], int] | None = None
        removed = False
        for groups in self._members.values():
            for group in groups.values():
                for key, deadline in list(group.items()):
                    if deadline is None:
                        continue
                    if deadline <= now:
                        del group[key]
                        removed = True
                    elif first is None or deadline < first[0]:
                        first = deadline, group, key
        if not removed and first is not None:
            del first[1][first[2]]
            self.evicted += 1

    def elements(self, now: int) -> list[tuple[int, int, int, int | None]]:
        """(version, address, prefix length, nanoseconds left or None), those that have run out left out."""
        return [
            (version, key << shift, _BITS[version] - shift, None if deadline is None else deadline - now)
            for version, groups in self._members.items()
            for shift, group in groups.items()
            for key, deadline in group.items()
            if deadline is None or deadline > now
        ]


def prefixes_of(ranges: Iterable[Range]) -> list[tuple[int, int, int]]:
    """Ranges as (version, address, prefix length), as few as can be."""
    found: list[tuple[int, int, int]] = []
    for version, first, last in ranges:
        bits = _BITS[version]
        while first <= last:
            size = (first & -first).bit_length() - 1 if first else bits
            while (1 << size) > last - first + 1:
                size -= 1
            found.append((version, first, bits - size))
            first += 1 << size
    return found
