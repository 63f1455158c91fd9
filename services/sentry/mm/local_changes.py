"""Changes of mappings that a guest's stub makes by itself for calls that trap: a program's start is full of them.

A dynamic linker maps a library whole, then maps its parts over that (text, data, zeroed memory), and in the end takes
write permission from what it has relocated. The stub carries these out and notes them in a log, in order
(platforms/systrap/change_log.py, stub/trapped.c):

- mprotect(2) that takes write permission away;
- mmap(2) of new private anonymous memory, from the upper end of the gap in which Linux would put it, or there of the
  file that was opened last, if that was handed in ahead (opened_file.py);
- mmap(2) with MAP_FIXED and MAP_PRIVATE, within what the call before mapped of a file, of anonymous memory or of that
  file: as long as it is still handed in (`SystrapContext.kept`), that is until the next call that is an event;
- munmap(2) of a mapping of a file whose end nobody notices: nothing else holds that file open, no lock goes with it.

So entries of the log speak of different files: of the last of `sources` that was there when they were made.

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

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from platforms.systrap.change_log import (
    AHEAD_MOST,
    ANONYMOUS,
    FILE,
    MAX_LENGTH,
    NEW,
    NEW_FILE,
    PROTECTION,
    REMOVED,
    Change,
    ChangeLog,
)
from protocol.abi import mman_h as mm_h
from protocol.abi import resource_h as rh
from protocol.abi.fcntl_h import O_ACCMODE
from services.sentry.mm.vma_set import ADDRESS_END, LOWEST

if TYPE_CHECKING:
    from platforms.base import Context
    from services.sentry.kernel.first_paths import FirstPaths
    from services.sentry.kernel.start_maps import FirstCalls
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.mm.opened_file import OpenedFile
    from services.sentry.vfs.open_file import Backing, OpenFile

__all__ = ["LocalChanges", "Source"]

_PAGE_MASK: Final = 0xFFF
_INFINITY: Final = 0xFFFF_FFFF_FFFF_FFFF
_MOST_MISSED: Final = 64
MOST_NAMES: Final = AHEAD_MOST - 2  # besides the program and its interpreter
_READ_WRITE: Final = mm_h.PROT_READ | mm_h.PROT_WRITE


class Source:
    """Of which file entries from number `first` on are mapped: `file` at `backing`, with no more than `prot`, over the
    window [`low`, `high`); None: there is no file any more.

    `is_new`: it may also be mapped in the gap, whence that is the window; `removable`: that may be unmapped. `held`: a
    reference on the file is held, for it was closed and nothing of it has been recorded.
    """

    __slots__ = ("backing", "file", "first", "held", "high", "is_new", "low", "prot", "removable")

    def __init__(
        self,
        first: int,
        file: OpenFile | None = None,
        backing: Backing | None = None,
        prot: int = 0,
        low: int = 0,
        high: int = 0,
        is_new: bool = False,
        removable: bool = False,
    ) -> None:
        self.first = first
        self.file = file
        self.backing = backing
        self.prot = prot
        self.low = low
        self.high = high
        self.is_new = is_new
        self.removable = removable
        self.held = False

    def hold(self) -> None:
        """Keep the file."""
        if self.file is not None and not self.held:
            self.held = True
            self.file.refs += 1

    def release(self) -> None:
        """It is no longer needed."""
        if self.held and self.file is not None:
            self.held = False
            self.file.close_reference()


class LocalChanges:
    """The grant of an address space (`mm.changes` is this while there is one).

    `applied`: how many entries of the log have been recorded. `is_window`: the last source has a window that has not
    ended. [`gap_low`, `gap_high`): what is left of the gap, as far as recorded. `removable`: start and end of mappings
    that may go. `paths`: see kernel/first_paths.py, None: nothing is foretold; `first_calls`: what is remembered, None:
    no more of this start; `position`: how many of them were made. `opened`: see opened_file.py, None: nothing;
    `last_opened`: that, or what it was. `ahead`: what was handed in ahead, by host descriptor: the file, its number in
    the process, and its name; `unused`: the names of those that were not opened. `names`: of files that this program's
    start maps, which are handed in ahead the next time.
    """

    __slots__ = (
        "ahead", "applied", "context", "first_calls", "gap_high", "gap_low", "is_open", "is_window", "last_opened",
        "log", "missed", "mm", "names", "opened", "paths", "position", "removable", "sources", "unused",
    )  # fmt: skip

    def __init__(self, mm: AddressSpace, context: Context, log: ChangeLog) -> None:
        """For a new program: nothing else runs in `mm`, and the thread of `context` is held."""
        self.mm = mm
        self.context = context
        self.log = log
        self.applied = 0
        self.gap_low = self.gap_high = 0
        self.removable: list[tuple[int, int]] = []
        self.sources: list[Source] = []
        self.paths: FirstPaths | None = None
        self.first_calls: FirstCalls | None = None
        self.position = 0
        self.opened: OpenedFile | None = None
        self.last_opened: OpenedFile | None = None
        self.ahead: dict[int, tuple[object, int, bytes]] = {}
        self.unused: set[bytes] = set()
        self.names: list[bytes] = []
        self.missed: Counter[str] | None = None
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

    def foresee(
        self,
        names: list[bytes],
        calls: FirstCalls,
        ahead: dict[int, tuple[object, int, bytes]],
        limits: Sequence[tuple[int, int]],
        missed: Counter[str],
    ) -> None:
        """What the program will need, and ask about itself: see `names`, `first_calls` and `ahead`; its resource
        limits; `missed`: how often programs asked for what is not there, by name.
        """
        self.missed = missed
        self.log.tell_limits(limits, missed["rseq"] > 0)
        self.names = names
        self.first_calls = calls
        self.ahead = ahead
        self.unused = {name for _, _, name in ahead.values() if name}
        self.log.name_ahead([number for _, number, _ in ahead.values()])

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
            last = self.sources[-1] if self.sources else None
            if not number or (last is not None and last.file is file and last.low <= low and high <= last.high):
                return  # a part of a window: the larger one stays as it is
            self._note_name(file)
            backing = file.mmap_backing()
            self.add_source(Source(self.log.count, file, backing, prot, low, high))
            self.is_window = True
            self.log.open_window(low, high, fd, number, backing.base, prot)

        return beside

    def end_window(self) -> None:
        """The file of the window is no longer handed in, and an event has been served: before anything else is, record
        what was mapped over it if nothing of it may be left. And if it is left as it was, its end is nobody's concern.
        """
        source = self.sources[-1] if self.sources else Source(0)
        file, low, high = source.file, source.low, source.high
        if file is None or source.is_new:
            return
        if not self.context.kept:
            self.add_source(Source(self.log.count))
        if not self.is_window:
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

    def _note_name(self, file: OpenFile) -> None:
        """`file` was mapped, and is likely to be mapped at the next start of this program."""
        opened = self.last_opened
        if opened is not None and opened.file is file and len(self.names) < MOST_NAMES:
            name = opened.name
            if name[:1] == b"/" and name not in self.names:
                self.names.append(name)

    def add_source(self, source: Source) -> None:
        """What is mapped from now on is of `source`."""
        if self.sources and self.sources[-1].first == source.first:
            self.sources.pop().release()  # nothing was mapped of it
        self.sources.append(source)

    def drop(self) -> None:
        """The memory is no more: what is not recorded never will be."""
        for source in self.sources:
            source.release()
        self.sources.clear()
        if self.paths is not None:
            self.paths.end(self)
        self.opened = self.last_opened = None
        rseq = self.log.end_missed_rseq()
        if self.missed is not None and 0 < rseq <= _MOST_MISSED:
            self.missed["rseq"] += rseq
        self.missed = None
        for name in self.unused:
            if name in self.names:
                self.names.remove(name)
        self.unused.clear()
        self.ahead.clear()

    def keep(self, start: int, end: int) -> None:
        """[start, end) is going to be unmapped, or something else mapped there: what was removable is no more."""
        for low, high in self.removable[:]:
            if low < end and start < high:
                self.removable.remove((low, high))
                self.log.forget_removable(low)

    def is_behind(self) -> bool:
        """Whether there is anything to record."""
        return self.log.count != self.applied

    def settle_files(self) -> None:
        """Carry out what was opened, read and closed so far, and is noted."""
        if self.paths is not None:
            self.paths.catch_up(self)
        if self.opened is not None:
            self.opened.catch_up(self)

    def catch_up(self) -> None:
        """Record what the log says now."""
        count = self.log.count
        if count == self.applied:
            return
        mm = self.mm
        changes = self.log.read_untrusted(self.applied, count)
        if self.paths is not None:
            self.paths.catch_up(self)  # behind `count`: whatever the entries are of is known then, and maybe more
        mm.changes = None  # what is called here looks at the areas
        sources = [source for source in self.sources if source.first < count]
        later = self.sources[len(sources) :]
        for source in sources:  # an entry may be the end of all that was mapped
            source.hold()
        try:
            honest = changes is not None and self._record_all(changes, sources)
        finally:
            mm.changes = self
            self.sources = sources[-1:] + later
            for source in sources:
                source.release()
        self.applied = count
        if not honest:
            self.close()
            self.context.destroy("its log of changes is none that the stub can have written")

    def _record_all(self, changes: list[Change], sources: list[Source]) -> bool:
        """`_record` of those from number `applied` on, which are of `sources`."""
        k, source = 0, None
        for index, change in enumerate(changes, self.applied):
            while k < len(sources) and sources[k].first <= index:
                source = sources[k]
                k += 1
            if not self._record(change, source):
                return False
        return True

    def _record(self, change: Change, source: Source | None) -> bool:
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
        if source is None or source.file is None or source.backing is None or prot & ~source.prot:
            return False
        file, backing = source.file, source.backing
        if kind == NEW_FILE and source.is_new:
            if not self.gap_low <= addr < end == self.gap_high or length > MAX_LENGTH:
                return False
            self.gap_high = source.low = addr
            source.high = end
            if source.removable:
                self.removable.append((addr, end))
        elif not source.low <= addr < end <= source.high:
            return False
        if kind == ANONYMOUS:
            mm.record(addr, length, prot, False, None, None, 0, met=met)
            return True
        if kind not in (FILE, NEW_FILE) or offset & _PAGE_MASK or offset >> 62:
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
            for source in self.sources:
                source.first = 0
        if not self.is_open and self.opened is None:
            self.drop()
            self.mm.changes = None

    def close(self) -> None:
        """The stub is to ask."""
        self.is_open = False
        self.log.close()
        self.log.forget_limits()
        self.log.drop_ahead()

    def revoke(self) -> None:
        """End the grant."""
        self.close()
        self.settle()

    def _held(self) -> bool:
        context = self.context
        return context.dead or not context.in_guest
