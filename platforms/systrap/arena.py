"""The memory that the Sentry shares with its guests: one sparse memfd, mapped here once and for all.

Each address space sees only its own regions of it (layout.py). Whatever is read from a slot may be changed by its guest
at any time: read once, check, use.
"""

from __future__ import annotations

import mmap
import os

from platforms.systrap import layout

__all__ = ["Arena"]


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

    def free(self, region: int) -> None:
        """Give a region back; its pages are dropped, so the next owner sees zeros."""
        self.map.madvise(mmap.MADV_REMOVE, region * layout.REGION_SIZE, layout.REGION_SIZE)
        self._free.append(region)
