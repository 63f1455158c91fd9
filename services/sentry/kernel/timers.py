"""Deadlines of the kernel: one heap of (moment, action), cancelled lazily.

Owns no clock: moments are ns of host CLOCK_MONOTONIC given by the caller, `run(now)` fires what is due. The
dispatcher asks `next_deadline()` to know how long it may sleep. An action runs inside `run`, must be short and must
not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

__all__ = ["TimerHandle", "Timers"]

_COMPACT_AT = 64  # cancelled entries tolerated before the heap is rebuilt, at least


class TimerHandle:
    """One armed deadline. `action` is None once it fired or was cancelled."""

    __slots__ = ("action", "deadline_ns", "owner")

    def __init__(self, owner: Timers, deadline_ns: int, action: Callable[[], None]) -> None:
        self.owner = owner
        self.deadline_ns = deadline_ns
        self.action: Callable[[], None] | None = action

    @property
    def armed(self) -> bool:
        return self.action is not None

    def cancel(self) -> None:
        """Forget it. Cancelling twice, or after it fired, does nothing."""
        if self.action is not None:
            self.action = None
            self.owner.forget_one()


class Timers:
    """Deadlines in order; equal ones fire in the order they were armed."""

    __slots__ = ("_cancelled", "_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, TimerHandle]] = []
        self._sequence = 0
        self._cancelled = 0

    def call_at(self, deadline_ns: int, action: Callable[[], None]) -> TimerHandle:
        """Run `action` when `run` is first called with now >= deadline_ns."""
        handle = TimerHandle(self, deadline_ns, action)
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (deadline_ns, sequence, handle))
        return handle

    def forget_one(self) -> None:
        """Called by TimerHandle.cancel: rebuild the heap when most of it is dead."""
        self._cancelled += 1
        if self._cancelled > _COMPACT_AT and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapify(self._heap)
            self._cancelled = 0

    def next_deadline(self) -> int | None:
        """The earliest armed moment, or None."""
        heap = self._heap
        while heap:
            if heap[0][2].action is not None:
                return heap[0][0]
            heappop(heap)
            self._cancelled -= 1
        return None

    def run(self, now_ns: int) -> int:
        """Fire what is due at `now_ns`; the number fired. What an action arms for now waits for the next run."""
        heap = self._heap
        if not heap or heap[0][0] > now_ns:
            return 0
        due: list[TimerHandle] = []
        while heap and heap[0][0] <= now_ns:
            handle = heappop(heap)[2]
            if handle.action is None:
                self._cancelled -= 1
            else:
                due.append(handle)
        fired = 0
        for handle in due:
            action = handle.action
            if action is None:  # cancelled by an action before it
                self._cancelled -= 1
                continue
            handle.action = None
            action()
            fired += 1
        return fired
