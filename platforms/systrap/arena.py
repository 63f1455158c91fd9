"""The memory that the Sentry shares with its guests: one sparse memfd, mapped here once and for all.

Each address space sees only its own regions of it (layout.py). Whatever is read from a slot may be changed by its guest
at any time: read once, check, use.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from platforms.systrap import layout

__all__ = ["Arena"]

_FEW_SLOTS: Final = 2
_REGIONS_KEPT: Final = 32
# What a program's stub is told of its first calls lies where a second thread's slot would.
_ALWAYS_CLEARED: Final = (layout.PATHS + layout.PATHS_MOST * layout.PATH_SIZE + 0xFFF) & ~0xFFF
_ZEROS: Final = memoryview(bytes((_FEW_SLOTS + 1) * layout.SLOT_SIZE))


class Arena:
    """`u32`, `u64`, `i64`: typed views of the whole file, indexed by offset / size. `map`: the bytes."""

    __slots__ = ("_free", "_next", "fd", "i64", "map", "u32", "u64", "view")

    def __init__(self) -> None:
        self.fd = os.memfd_create("arena", os.MFD_CLOEXEC)
        length = layout.REGIONS * layout.REGION_SIZE
        os.ftruncate(self.fd, length)
        self.map = mmap.mmap(self.fd, length)
        self.view = memoryview(self.map)
        self.u32 = self.view.cast("I")
        self.u64 = self.view.cast("Q")
        self.i64 = self.view.cast("q")
        self._next = 1  # region 0 is the global page
        self._free: list[int] = []

    def allocate(self) -> int:
        """A zeroed region's number. MemoryError when all are in use."""
        if self._free:
            return self._free.pop()
        if self._next == layout.REGIONS:
            raise MemoryError("no region left for another address space")
        self._next += 1
        return self._next - 1

    @property
    def used(self) -> int:
        """How many regions are someone's, the global page's not counted."""
        return self._next - 1 - len(self._free)

    def free(self, region: int, used_slots: int = layout.SLOTS_PER_REGION) -> None:
        """Give a region back: its next owner sees zeros. `used_slots` of its slots, from the first, were in use."""
        self.clear(region, used_slots)
        self._free.append(region)

    def clear(self, region: int, used_slots: int) -> None:
        """Make a region all zeros; as `free`.

        Few pages are cleared and kept, which is cheaper than to drop them and take them anew; not for many regions, and
        not when the guest wrote to slots that were nobody's.
        """
        start = region * layout.REGION_SIZE
        length = max((used_slots + 1) * layout.SLOT_SIZE, _ALWAYS_CLEARED)
        end = start + layout.REGION_SIZE
        few = used_slots <= _FEW_SLOTS and len(self._free) < _REGIONS_KEPT
        if few and self._next_data(start + length) >= end:
            self.map[start : start + length] = _ZEROS[:length]
        else:
            self.map.madvise(mmap.MADV_REMOVE, start, layout.REGION_SIZE)

    def _next_data(self, at: int) -> int:
        """Where the first page at or behind `at` is that was ever written."""
        try:
            return os.lseek(self.fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nowhere
            return layout.REGIONS * layout.REGION_SIZE
