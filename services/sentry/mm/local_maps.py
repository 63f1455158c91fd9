"""Local mappings: private anonymous memory that a guest's stub maps and unmaps itself, with no event.

A *grant* is the gap below a mapping that mmap(2) has just placed: where Linux's top-down search would put the next
ones, and as much of it as the limits allow. The stub takes new mappings from its upper end and notes them in a log, a
stack (platforms/systrap/map_log.py); the newest may be unmapped in the same way. Shorter ones than the largest hole
above the grant are left to the Sentry, for they might go there.

The invariant: what is in the log is recorded in the areas before anyone looks at them. The one place for that is
`AddressSpace.vmas` (and `total_pages`, `data_pages`), which calls `settle`:

- While the thread is held, the log is emptied into the areas: afterwards they may be changed in any way.
- While it runs (another process reads /proc/PID/maps), they are only brought up to date. So whoever changes an address
  space does it on behalf of its own thread, which is held then.

The stub may keep a little of what it unmaps, without access to it, for the next mapping. No area says so, and nothing
may depend on whether the host has something there: what replaces or moves memory does not, and a fault is what the
areas say it is. Only madvise(2) by the stub, and growing in place, ask the host: before that it is unmapped (`sweep`).

A grant is one thread's: `AddressSpace.add_user` ends it. It ends as well (`close`) before the areas change in any other
way, for then the next mapping may belong elsewhere, and when a limit changes. What is in the log by then stays there.

The log is memory that the guest may write: it is believed as far as the stub could have written it; a guest whose log
says more while its thread is held is killed. (Host memory that it makes by jumping into the stub is its own affair, see
is_direct in platforms/systrap/filter.py.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from platforms.systrap.map_log import MAX_LENGTH, MOST, MapLog
from protocol.abi import mman_h as mm_h
from protocol.abi import resource_h as rh
from services.sentry.mm.vma_set import ADDRESS_END, LOWEST, Vma

if TYPE_CHECKING:
    from platforms.base import Context
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["LocalMaps", "is_local"]

_PAGE: Final = 4096
_MAX_GRANT: Final = 4 * MAX_LENGTH
_MAX_AREAS: Final = 65530 - MOST
_MOST_HOLES: Final = 4
_PLAIN: Final = mm_h.MAP_PRIVATE | mm_h.MAP_ANONYMOUS
_AS_GOOD_AS_NOT: Final = mm_h.MAP_NORESERVE | mm_h.MAP_STACK


def is_local(prot: int, flags: int) -> bool:
    """Whether the stub may serve an mmap(2) like this one, if no address is asked for."""
    return flags & ~_AS_GOOD_AS_NOT == _PLAIN and not prot & ~(mm_h.PROT_READ | mm_h.PROT_WRITE)


class LocalMaps:
    """The grant of an address space, if it has one (`mm.granted` is this then).

    [`low`, `high`): the gap, of which `entries` were taken when the log's head was `head`. `is_open`: the stub may map.
    """

    __slots__ = ("context", "entries", "head", "high", "is_open", "least", "log", "low", "mm")

    def __init__(self, mm: AddressSpace, log: MapLog) -> None:
        self.mm = mm
        self.log = log
        self.context: Any = None
        self.low = self.high = self.least = 0
        self.head = 0
        self.entries: list[tuple[int, int]] = []
        self.is_open = False

    def grant(self, context: Context, start: int, length: int, prot: int, rlimits: Any) -> None:
        """[start, start + length) was mapped for the thread of `context`, which is held and alone: what lies below it
        is the stub's from now on, and it is the first in the log.
        """
        mm = self.mm
        areas = mm.vmas  # settled: the log is empty
        self.note_kept()
        end = start + length
        if end > mm.mmap_top or len(areas) >= _MAX_AREAS or context.dead:
            return
        room = _MAX_GRANT
        for resource, pages in ((rh.RLIMIT_AS, mm.total_pages), (rh.RLIMIT_DATA, mm.data_pages)):
            room = min(room, rlimits[resource][0] - pages * _PAGE)
        below, largest = areas.gaps_around(start, end, mm.mmap_top)
        self.context = context
        self.low = max(below, LOWEST, start - max(room & -_PAGE, 0))
        self.least = largest + _PAGE
        log = self.log
        if length <= MAX_LENGTH:
            self.high = end
            self.entries = [(start, prot)]
            log.open(self.low, end, self.least)
            log.add(start, prot)
        else:
            self.high = start
            log.open(self.low, start, self.least)
        self.head = log.head
        self.is_open = True
        areas.before_change = self.close
        mm.granted = self

    def allow_advice(self, addr: int) -> list[tuple[int, int]]:
        """madvise(2) that gives back memory around `addr` is the stub's from now on, between two ranges of the
        platform's own. All else that the host has mapped is the guest's, so what the host answers is right; once these
        ranges (start, end) are unmapped, first of all. Until the stub keeps something again.
        """
        holes = self.sweep()
        if len(holes) > _MOST_HOLES or (holes and self.mm.users > 1):  # another thread's mmap could be given the place
            self.forbid_advice()
            return []
        self.mm.kept = (0, 0)
        low, high = self.mm.areas_now.unreserved_around(addr, ADDRESS_END)
        self.log.allow_advice(low, high)
        return holes

    def sweep(self) -> list[tuple[int, int]]:
        """Where the host may have what the guest has unmapped: (start, end)."""
        self.note_kept()
        low, high = self.mm.kept
        return self.mm.vmas.holes(max(low, LOWEST), min(high, ADDRESS_END))

    def note_kept(self) -> None:
        """The stub does not use what it keeps any more: its memory has it until it is swept. Its thread is held."""
        start, end = self.log.take_kept_untrusted()
        if start < end:
            low, high = self.mm.kept
            self.mm.kept = (min(low or start, start), max(high, end))

    def forbid_advice(self) -> None:
        """The platform is about to map something of its own."""
        self.log.allow_advice(0, 0)

    def close(self) -> None:
        """The stub is to ask for new mappings."""
        if self.is_open:
            self.is_open = False
            self.log.close()
            self.note_kept()
            self.mm.areas_now.before_change = None

    def catch_up(self) -> None:
        """Record what the log says now."""
        log = self.log
        head = log.head
        if head == self.head:
            return
        new, honest = log.read_untrusted(head, self.low, self.high)
        self.head = head if honest and log.head == head else -1  # else look again next time
        if not honest and self._held():
            self.context.destroy("its log of mappings is none that the stub can have written")
        old, self.entries = self.entries, new
        same = 0
        while same < len(old) and same < len(new) and old[same] == new[same]:
            same += 1
        areas = self.mm.areas_now
        watcher, areas.before_change = areas.before_change, None
        for k in range(len(old) - 1, same - 1, -1):
            self._count(old, k, -1)
            areas.remove(old[k][0], self._end(old, k))
        for k in range(same, len(new)):
            start, prot = new[k]
            areas.insert(Vma(start, self._end(new, k), prot))
            self._count(new, k, 1)
        areas.before_change = watcher

    def settle(self) -> None:
        """Catch up, and empty the log if the thread is held; see the module."""
        self.catch_up()
        if not self._held():
            return
        if self.head:
            if self.entries:
                self.high = self.entries[-1][0]
                self.entries = []
            self.head = 0
            if self.is_open:
                self.log.open(self.low, self.high, self.least)
            else:
                self.note_kept()  # if it ran when the grant ended
                self.log.clear()
        if not self.is_open:
            self.mm.granted = None

    def revoke(self) -> None:
        """End the grant."""
        self.close()
        self.settle()

    def window(self, addr: int, end: int, low: int, high: int) -> tuple[int, int]:
        """The part around [addr, end) of [low, high), memory that is there, on which one may rely as long as the Sentry
        changes nothing: (0, 0) when it is in the stub's hands.
        """
        if addr >= self.high:
            return max(low, self.high), high
        return (low, min(high, self.low)) if end <= self.low else (0, 0)

    def _held(self) -> bool:
        context = self.context
        return context.dead or not context.in_guest

    def _end(self, entries: list[tuple[int, int]], k: int) -> int:
        return entries[k - 1][0] if k else self.high

    def _count(self, entries: list[tuple[int, int]], k: int, sign: int) -> None:
        start, prot = entries[k]
        self.mm.count_pages(sign * (self._end(entries, k) - start) // _PAGE, bool(prot & mm_h.PROT_WRITE))
