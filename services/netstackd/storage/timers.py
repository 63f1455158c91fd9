"""Timers: every deadline of a stack, in one heap.

A Timer belongs to its owner for good and is set, moved and cancelled as often as it likes. Moving it later or
cancelling it costs an assignment: its entry stays in the heap and is looked at again when it comes up. Only moving it
earlier pushes. So a connection that re-arms its timer for each segment costs the heap nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final


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
        self.deadline = deadline
        queued = self.queued
        if queued is None or deadline < queued:
            self.queued = deadline
            timers = self._timers
            timers.sequence += 1
            heappush(timers.heap, (deadline, timers.sequence, self))

    def cancel(self) -> None:
        """Do not fire."""
        self.deadline = None


class Timers:
    """The heap. `sequence` breaks ties, so that equal deadlines fire in the order they were set."""

    __slots__ = ("heap", "sequence")

    def __init__(self) -> None:
        self.heap: Final[list[tuple[int, int, Timer]]] = []
        self.sequence = 0

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
            return  # an older entry; the earlier one that replaced it still stands or has fired
        timer.queued = None
        if timer.deadline is not None:
            timer.set(timer.deadline)
