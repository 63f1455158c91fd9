"""Changes of mappings that a guest's stub makes by itself for calls that trap: a program's start is full of them.

A dynamic linker maps a library whole, then maps its parts over that (text, data, zeroed memory), and in the end takes
write permission from what it has relocated. The stub carries these out and notes them in a log, in order
(platforms/systrap/change_log.py, stub/trapped.c):

- mprotect(2) that takes write permission away;
- mmap(2) of new private anonymous memory, from the upper end of the gap in which Linux would put it;
- mmap(2) with MAP_FIXED and MAP_PRIVATE, within what the call before mapped of a file, of anonymous memory or of that
  file: as long as it is still handed in (`SystrapContext.kept`), that is until the next call that is an event;
- munmap(2) of a mapping of a file whose end nobody notices: nothing else holds that file open, no lock goes with it.

The invariant is that of local_maps.py: what is in the log is recorded in the areas before anyone looks at them, for
`AddressSpace.vmas` calls `settle`. While the thread is held, the log is emptied; while it runs, the areas are only
brought up to date. A look while the thread is held ends the gap, for it may come before a change; a mapping of a file
opens it again below itself. As long as nobody looks nothing is recorded; many programs end before somebody does. But
the last reference of a file must not go unnoticed (`end_window`).

The grant is one thread's, for a new program, until a second one uses the memory, a limit or mlockall(2) says that
changes must be looked at, the platform maps something of its own there, or the other grant (local_maps.py) begins.

The log is memory that the guest may write. An entry is believed if a stub could have made it; a guest whose log says
anything else is killed, for what is in the log does not change. Host memory that it changes by jumping into the stub is
its own affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from platforms.systrap.change_log import ANONYMOUS, FILE, MAX_LENGTH, NEW, PROTECTION, REMOVED, Change, ChangeLog
from protocol.abi import mman_h as mm_h
from protocol.abi import resource_h as rh
from protocol.abi.fcntl_h import O_ACCMODE
from services.sentry.mm.vma_set import ADDRESS_END, LOWEST

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.open_file import Backing, OpenFile

__all__ = ["LocalChanges"]

_PAGE_MASK: Final = 0xFFF
_INFINITY: Final = 0xFFFF_FFFF_FFFF_FFFF
_READ_WRITE: Final = mm_h.PROT_READ | mm_h.PROT_WRITE


class LocalChanges:
    """The grant of an address space (`mm.changes` is this while there is one).

    `applied`: how many entries of the log have been recorded. [`low`, `high`): the last window, which `file` and
    `backing` are mapped over; `prot`: with no more than that; `is_window`: it has not ended. [`gap_low`, `gap_high`):
    what is left of the gap, as far as recorded. `removable`: start and end of mappings that may go.
    """

    __slots__ = (
        "applied", "backing", "context", "file", "gap_high", "gap_low", "high", "is_open", "is_window", "log", "low",
        "mm", "prot", "removable",
    )  # fmt: skip

    def __init__(self, mm: AddressSpace, context: Any, log: ChangeLog) -> None:
        """For a new program: nothing else runs in `mm`, and the thread of `context` is held."""
        self.mm = mm
        self.context = context
        self.log = log
        self.applied = 0
        self.low = self.high = self.prot = 0
        self.gap_low = self.gap_high = 0
        self.removable: list[tuple[int, int]] = []
        self.file: OpenFile | None = None
        self.backing: Backing | None = None
        self.is_open = True
        self.is_window = False
        log.open(mm.brk)
        mm.changes = self
        mm.close_windows()

    def open_gap(self, start: int, end: int, rlimits: Any) -> None:
        """What was mapped last, or by execve(2) as the lowest of what is placed from above, is [start, end): new memory
        goes right below it.
        """
        mm = self.mm
        if end > mm.mmap_top or not self._may_grow(rlimits):
            return
        below, largest = mm.areas_now.gaps_around(start, end, mm.mmap_top)
        self.gap_low, self.gap_high = max(below, LOWEST), start
        self.log.open_gap(self.gap_low, start, largest + _PAGE_MASK + 1)

    def _may_grow(self, rlimits: Any) -> bool:
        """Whether no limit has to be looked at."""
        return (
            self.is_open
            and rlimits[rh.RLIMIT_DATA][0] == rlimits[rh.RLIMIT_AS][0] == _INFINITY
            and not self.mm.locks_new
        )

    def total_pages(self) -> int:
        """How many pages are mapped, without the trouble of recording what was."""
        left = self.log.gap_high
        new = self.gap_high - left if self.gap_low <= left <= self.gap_high else 0
        return self.mm.recorded_pages + new // (_PAGE_MASK + 1)

    def open_window(
        self,
        before: Callable[[], None] | None,
        fd: int,
        file: OpenFile,
        low: int,
        high: int,
        rlimits: Any,
        prot: int,
        anywhere: bool,
    ) -> Callable[[], None]:
        """What is to be done once the mapping of `file` at [low, high), which is private, was posted, and `before`
        first: if the file stays handed in, what comes next may be mapped over it by the stub. `anywhere`: it was placed
        by us, and new memory goes right below.
        """

        def beside() -> None:
            if before is not None:
                before()
            if not self._may_grow(rlimits):
                return
            if anywhere:
                self.open_gap(low, high, rlimits)
            number = self.context.kept
            if not number or (self.file is file and self.low <= low and high <= self.high):
                return  # a part of a window: the larger one stays as it is
            self.backing = backing = file.mmap_backing()
            self.low, self.high, self.file, self.prot = low, high, file, prot
            self.is_window = True
            self.log.open_window(low, high, fd, number, backing.base, prot)

        return beside

    def end_window(self) -> None:
        """The file of the window is no longer handed in, and an event has been served: before anything else is, record
        what was mapped over it if nothing of it may be left. And if it is left as it was, its end is nobody's concern.
        """
        file, low, high = self.file, self.low, self.high
        if file is None or not self.is_window:
            return
        self.is_window = False
        changes = self.log.read_untrusted(self.applied, self.log.count) or ()
        if sum(change.length for change in changes if change.kind == ANONYMOUS) >= high - low:
            self.catch_up()
        if changes or file.refs != 1 or file.flags & O_ACCMODE or file.inode.locks is not None or not self.is_open:
            return
        area = self.mm.areas_now.find(low)
        if area is not None and (area.start, area.end, area.file) == (low, high, file):
            if self.log.name_removable(low, high):
                self.removable.append((low, high))

    def keep(self, start: int, end: int) -> None:
        """[start, end) is going to be unmapped, or something else mapped there: what was removable is no more."""
        for low, high in self.removable[:]:
            if low < end and start < high:
                self.removable.remove((low, high))
                self.log.forget_removable(low)

    def is_behind(self) -> bool:
        """Whether there is anything to record."""
        return self.log.count != self.applied

    def catch_up(self) -> None:
        """Record what the log says now."""
        count = self.log.count
        if count == self.applied:
            return
        mm = self.mm
        changes = self.log.read_untrusted(self.applied, count)
        mm.changes = None  # what is called here looks at the areas
        file = self.file
        if file is not None:
            file.add_reference()
        try:
            honest = changes is not None and all(self._record(change) for change in changes)
        finally:
            mm.changes = self
            if file is not None:
                file.close_reference()
        self.applied = count
        if not honest:
            self.close()
            self.context.destroy("its log of changes is none that the stub can have written")

    def _record(self, change: Change) -> bool:
        """Whether it could be true; then it is in the areas."""
        mm = self.mm
        kind, addr, length, prot, offset = change
        end = addr + length
        if (addr | length) & _PAGE_MASK or not length or addr < LOWEST or end > ADDRESS_END:
            return False
        met = mm.areas_now.overlapping(addr, end)
        if any(area.reserved for area in met):
            return False
        if kind == PROTECTION:
            stop = addr
            for area in met:
                if area.start > stop:
                    break
                stop = min(area.end, end)
            if prot & ~mm_h.PROT_READ:
                return False
            if stop > addr:
                mm.set_protection(addr, stop, prot)
            return True
        if kind == REMOVED:
            if (addr, end) not in self.removable:
                return False
            self.removable.remove((addr, end))
            mm.forget(addr, end)
            return True
        if kind == NEW:
            if not self.gap_low <= addr < end == self.gap_high or length > MAX_LENGTH or prot & ~_READ_WRITE:
                return False
            mm.record(addr, length, prot, False, None, None, 0, met=met)
            self.gap_high = addr
            return True
        file, backing = self.file, self.backing
        if not self.low <= addr < end <= self.high or prot & ~self.prot or file is None or backing is None:
            return False
        if kind == ANONYMOUS:
            mm.record(addr, length, prot, False, None, None, 0, met=met)
            return True
        if kind != FILE or offset & _PAGE_MASK or offset >> 62:
            return False
        mm.record(addr, length, prot, False, file.add_reference(), backing, offset, met=met)
        return True

    def settle(self) -> None:
        """Catch up, and empty the log if the thread is held; see the module."""
        self.catch_up()
        if not self._held():
            return
        if self.gap_high:
            self.gap_low = self.gap_high = 0
            self.log.close_gap()
        if self.applied:
            self.applied = 0
            self.log.clear()
        if not self.is_open:
            self.mm.changes = None

    def close(self) -> None:
        """The stub is to ask."""
        self.is_open = False
        self.log.close()

    def revoke(self) -> None:
        """End the grant."""
        self.close()
        self.settle()

    def _held(self) -> bool:
        context = self.context
        return context.dead or not context.in_guest
