"""Timers: every deadline of a stack, in one heap.

A Timer belongs to its owner for good and is set, moved and cancelled as often as it likes. Moving it later or
cancelling it costs an assignment: its entry stays in the heap and is looked at again when it comes up. Only moving it
earlier pushes. So a connection that re-arms its timer for each segment costs the heap nothing.

Entries that mean nothing any more (of cancelled timers, and those that an earlier one replaced) are counted in `stale`;
when they are the larger part of the heap they are taken out, so that the heap stays in proportion to the timers.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

# So few stale entries are never worth looking at.
FEW: Final = 64


class Timer:
    """One deadline with what to call then: `callback(now)`. Made by `Timers.new`."""

    __slots__ = ("_timers", "callback", "deadline", "queued")

    def __init__(self, timers: Timers, callback: Callable[[int], None]) -> None:
        self._timers = timers
        self.callback = callback
        self.deadline: int | None = None  # when it is due; None: not set
        self.queued: int | None = None  # the time of its earliest entry in the heap

    def set(self, deadline: int) -> None:
        """Fire at `deadline` (instead of when it was set to before)."""
        queued = self.queued
        timers = self._timers
        if queued is not None and self.deadline is None:
            timers.stale -= 1  # its entry means something again
        self.deadline = deadline
        if queued is None or deadline < queued:
            if queued is not None:
                timers.stale += 1  # the entry that this one replaces
            self.queued = deadline
            timers.sequence += 1
            heap = timers.heap
            heappush(heap, (deadline, timers.sequence, self))
            if heap[0][2] is self:
                timers.moved_up = True
            if timers.stale > FEW and timers.stale * 2 > len(timers.heap):
                timers.compact()

    def cancel(self) -> None:
        """Do not fire."""
        if self.deadline is None:
            return
        self.deadline = None
        if self.queued is not None:
            timers = self._timers
            timers.stale += 1
            if timers.stale > FEW and timers.stale * 2 > len(timers.heap):
                timers.compact()


class Timers:
    """The heap. `sequence` breaks ties, so that equal deadlines fire in the order they were set. `moved_up`: the first
    deadline may be earlier than it was when somebody last made this False."""

    __slots__ = ("heap", "moved_up", "sequence", "stale")

    def __init__(self) -> None:
        self.heap: Final[list[tuple[int, int, Timer]]] = []
        self.sequence = 0
        self.moved_up = False
        self.stale = 0  # entries that mean nothing any more

    def new(self, callback: Callable[[int], None]) -> Timer:
        """A timer that is not set yet."""
        return Timer(self, callback)

    def after(self, deadline: int, callback: Callable[[int], None]) -> Timer:
        """A timer set to `deadline`."""
        timer = Timer(self, callback)
        timer.set(deadline)
        return timer

    def next_deadline(self) -> int | None:
        """The earliest deadline, or None. Entries of cancelled and moved timers are dropped on the way."""
        heap = self.heap
        while heap:
            when, _, timer = heap[0]
            if timer.deadline == when and timer.queued == when:
                return when
            heappop(heap)
            self._requeue(timer, when)
        return None

    def advance(self, now: int) -> int:
        """Call every timer that is due at `now`; returns how many. A callback may set any timer, also its own."""
        fired = 0
        heap = self.heap
        while heap and heap[0][0] <= now:
            when, _, timer = heappop(heap)
            if timer.deadline is None or timer.deadline > now or timer.queued != when:
                self._requeue(timer, when)
                continue
            timer.queued = None
            timer.deadline = None
            fired += 1
            timer.callback(now)
        return fired

    def _requeue(self, timer: Timer, popped: int) -> None:
        """An entry of `timer` at `popped` left the heap unused: enter the deadline it has now."""
        if timer.queued != popped:
            self.stale -= 1  # one that was replaced; the earlier one still stands or has fired
            return
        timer.queued = None
        if timer.deadline is None:
            self.stale -= 1
        else:
            timer.set(timer.deadline)

    def compact(self) -> None:
        """Take out what means nothing: afterwards there is one entry for each timer that is set."""
        current = {id(entry[2]): entry for entry in self.heap if entry[2].queued == entry[0]}
        kept = []
        for entry in current.values():
            timer = entry[2]
            if timer.deadline is None:
                timer.queued = None
            else:
                kept.append(entry)
        self.heap[:] = kept
        heapify(self.heap)
        self.stale = 0
