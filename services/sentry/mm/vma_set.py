"""The set of virtual memory areas of an address space: sorted, disjoint, the one truth of what is mapped where.

Pure bookkeeping: no guest, no host call. Addresses are page-aligned ints, ranges half open. mm/address_space.py keeps
it equal to what the host was told.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.sentry.vfs.open_file import Backing, OpenFile

__all__ = ["ADDRESS_END", "LOWEST", "Vma", "VmaSet"]

#: Where user space ends (TASK_SIZE_MAX), and the lowest address that may be mapped (vm.mmap_min_addr).
ADDRESS_END: Final = 0x7FFF_FFFF_F000
LOWEST: Final = 0x10000

_start_of: Final = attrgetter("start")


class Vma:
    """One area. `shared`: MAP_SHARED; `offset`: of `start` in `file`, bytes; `max_write`: may become writable."""

    __slots__ = (
        "advice",
        "backing",
        "dont_fork",
        "end",
        "file",
        "locked",
        "max_write",
        "name",
        "offset",
        "prot",
        "reserved",
        "shared",
        "start",
        "token",
    )

    def __init__(
        self,
        start: int,
        end: int,
        prot: int,
        *,
        shared: bool = False,
        file: OpenFile | None = None,
        backing: Backing | None = None,
        offset: int = 0,
        name: bytes = b"",
        max_write: bool = True,
        reserved: bool = False,
        token: object | None = None,
    ) -> None:
        self.start = start
        self.end = end
        self.prot = prot
        self.shared = shared
        self.file = file
        self.backing = backing
        self.offset = offset
        self.name = name  # what /proc/PID/maps shows for areas without a file: b"[heap]"
        self.max_write = max_write
        self.reserved = reserved  # the platform's own or the vDSO: a guest can neither see nor change it
        self.dont_fork = False
        self.locked = False
        self.advice = 0
        self.token = token  # identity of shared anonymous memory, for futex keys
        if shared and max_write and backing is not None and backing.count_writable is not None:
            backing.count_writable(1)

    @property
    def length(self) -> int:
        return self.end - self.start

    def part(self, start: int, end: int) -> Vma:
        """The same area cut to [start, end). Takes a reference on the file."""
        copy = Vma(
            start,
            end,
            self.prot,
            shared=self.shared,
            file=self.file,
            backing=self.backing,
            offset=self.offset + (start - self.start),
            name=self.name,
            max_write=self.max_write,
            reserved=self.reserved,
            token=self.token,
        )
        copy.dont_fork = self.dont_fork
        copy.locked = self.locked
        copy.advice = self.advice
        if self.file is not None:
            self.file.add_reference()
        return copy

    def begin_at(self, start: int) -> None:
        """Give up what lies below `start`, which is inside."""
        self.offset += start - self.start
        self.start = start

    def drop(self) -> None:
        """The area is gone: give its reference on the file back."""
        backing = self.backing
        if self.shared and self.max_write and backing is not None and backing.count_writable is not None:
            backing.count_writable(-1)
        self.backing = None
        if self.file is not None:
            self.file.close_reference()
            self.file = None

    def continues(self, before: Vma) -> bool:
        """Whether `before` directly below and this one are one area to /proc and to limits."""
        return (
            before.end == self.start
            and before.prot == self.prot
            and before.shared == self.shared
            and before.file is self.file
            and before.name == self.name
            and before.reserved == self.reserved
            and before.token is self.token
            and before.dont_fork == self.dont_fork
            and before.locked == self.locked
            and before.max_write == self.max_write
            and (self.file is None or before.offset + before.length == self.offset)
        )


class VmaSet:
    """Areas by address.

    After fork(2) two sets share their areas (`share`) until one of them changes: a child that ends or executes another
    program never pays for a copy. So areas are changed by the methods here, or after `isolate` gave them.
    `before_change` is called then, if somebody wants to know.
    """

    __slots__ = ("_sharing", "areas", "before_change")

    def __init__(self) -> None:
        self.areas: list[Vma] = []
        self.before_change: Callable[[], None] | None = None
        self._sharing: list[int] | None = None  # one number, common to the sets that share `areas`: how many they are

    def share(self) -> VmaSet:
        """A set with the same areas."""
        if self._sharing is None:
            self._sharing = [1]
        self._sharing[0] += 1
        other = VmaSet()
        other.areas, other._sharing = self.areas, self._sharing
        return other

    def _own(self) -> None:
        """Before a change: share no more."""
        if self.before_change is not None:
            self.before_change()
        sharing = self._sharing
        if sharing is not None:
            self._sharing = None
            if sharing[0] > 1:
                sharing[0] -= 1
                self.areas = [area.part(area.start, area.end) for area in self.areas]

    def clear(self) -> None:
        """Drop all."""
        sharing = self._sharing
        if sharing is not None and sharing[0] > 1:
            sharing[0] -= 1
            self._sharing = None
            self.areas = []
            return
        for area in self.areas:
            file = area.file
            if file is not None and file.refs > 1 and not area.shared:  # as mostly: somebody else has the file too
                file.refs -= 1
                area.file = area.backing = None
            elif file is not None or area.backing is not None:
                area.drop()
        self.areas.clear()

    def __iter__(self) -> Iterator[Vma]:
        return iter(self.areas)

    def __len__(self) -> int:
        return len(self.areas)

    def find(self, addr: int) -> Vma | None:
        """The area that holds `addr`."""
        k = bisect_right(self.areas, addr, key=_start_of) - 1
        if k >= 0:
            area = self.areas[k]
            if addr < area.end:
                return area
        return None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """Areas that meet [start, end), in order."""
        areas = self.areas
        k = bisect_right(areas, start, key=_start_of)
        if k and areas[k - 1].end > start:
            k -= 1
        stop, count = k, len(areas)
        while stop < count and areas[stop].start < end:
            stop += 1
        return areas[k:stop]

    def covered(self, start: int, end: int) -> bool:
        """Whether every byte of [start, end) is mapped."""
        for area in self.overlapping(start, end):
            if area.start > start:
                return False
            start = area.end
        return start >= end

    def insert(self, area: Vma) -> Vma:
        """Add an area, in place of what is mapped there; merged with its neighbours where they are one."""
        self._own()
        areas = self.areas
        start, end = area.start, area.end
        k = bisect_right(areas, start, key=_start_of)
        if k and areas[k - 1].end > start:
            below = areas[k - 1]
            if below.end > end:
                areas.insert(k, below.part(end, below.end))
                below.end = end
            if below.start < start:
                below.end = start
            else:
                k -= 1
        stop = k
        while stop < len(areas) and areas[stop].start < end:
            stop += 1
        if stop > k and areas[stop - 1].end > end:
            stop -= 1
            areas[stop].begin_at(end)
        if stop == k:
            areas.insert(k, area)
        else:
            gone = areas[k:stop]
            areas[k:stop] = (area,)
            for each in gone:
                each.drop()
        if k + 1 < len(areas) and areas[k + 1].start == end and areas[k + 1].continues(area):
            self._merge(k)
        if k and areas[k - 1].end == start and area.continues(areas[k - 1]):
            k -= 1
            self._merge(k)
        return areas[k]

    def fill(self, areas: Sequence[Vma]) -> None:
        """As `insert` of each."""
        self._own()
        merged: list[Vma] = []
        for area in sorted([*self.areas, *areas], key=_start_of):
            if merged and merged[-1].end == area.start and area.continues(merged[-1]):
                merged[-1].end = area.end
                area.drop()
            else:
                merged.append(area)
        self.areas = merged

    def _merge(self, k: int) -> None:
        low, high = self.areas[k], self.areas.pop(k + 1)
        low.end = high.end
        high.drop()

    def isolate(self, start: int, end: int) -> list[Vma]:
        """Split so that [start, end) consists of whole areas; they are returned."""
        self._own()
        found = []
        for area in self.overlapping(start, end):
            if area.start < start:
                upper = area.part(start, area.end)
                area.end = start
                insort(self.areas, upper, key=_start_of)
                area = upper
            if area.end > end:
                upper = area.part(end, area.end)
                area.end = end
                insort(self.areas, upper, key=_start_of)
            found.append(area)
        return found

    def remove(self, start: int, end: int) -> int:
        """Unmap [start, end); how many bytes were mapped there."""
        gone = self.isolate(start, end)
        if not gone:
            return 0
        k = bisect_right(self.areas, gone[0].start, key=_start_of) - 1
        del self.areas[k : k + len(gone)]
        total = 0
        for area in gone:
            total += area.end - area.start
            area.drop()
        return total

    def merge_around(self, start: int, end: int) -> None:
        """After attributes in [start, end) changed: join what is one area again."""
        self._own()
        k = max(bisect_right(self.areas, start, key=_start_of) - 2, 0)
        while k + 1 < len(self.areas) and self.areas[k].start <= end:
            if self.areas[k + 1].continues(self.areas[k]):
                self._merge(k)
            else:
                k += 1

    def gap_below(self, length: int, low: int, high: int) -> int | None:
        """The highest free range of `length` bytes inside [low, high): its start."""
        k = bisect_right(self.areas, high - 1, key=_start_of) - 1
        top = high
        while k >= 0:
            area = self.areas[k]
            if area.end <= top - length:
                break
            top = min(top, area.start)
            if top - length < low:
                return None
            k -= 1
        return top - length if top - length >= low else None

    def is_free(self, start: int, end: int) -> bool:
        return not self.overlapping(start, end)

    def holes(self, start: int, end: int) -> list[tuple[int, int]]:
        """The free ranges in [start, end), upwards."""
        found: list[tuple[int, int]] = []
        for area in self.overlapping(start, end) if start < end else ():
            if start < area.start:
                found.append((start, area.start))
            start = area.end
        if start < end:
            found.append((start, end))
        return found

    def gaps_around(self, start: int, end: int, high: int) -> tuple[int, int]:
        """What is free beside the mapped range [start, end): where the gap below it begins, and the length of the
        largest one between `end` and `high`.
        """
        areas = self.areas
        k = bisect_right(areas, start, key=_start_of) - 1
        below = start if areas[k].start < start else areas[k - 1].end if k else 0
        largest = 0
        top = areas[k].end
        for area in areas[k + 1 :]:
            if area.start >= high:
                break
            if area.start - top > largest:
                largest = area.start - top
            top = area.end
        return below, max(largest, high - top)

    def unreserved_around(self, addr: int, end: int) -> tuple[int, int]:
        """The range around `addr`, below `end`, that has no reserved area in it; (0, 0): it is in one itself."""
        low = 0
        for area in self.areas:
            if area.reserved:
                if addr < area.start:
                    return low, area.start
                low = area.end
                if addr < low:
                    return 0, 0
        return low, end
