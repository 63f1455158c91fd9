"""One poll(2) over descriptors and moments: what a process that only watches turns in.

Owns: `Loop`. One thread; no callback blocks. Does not know what is watched.
"""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """Readers by descriptor, and callbacks by time."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def watch(self, fd: int, reader: Callable[[], None]) -> None:
        """Call `reader` whenever `fd` is readable or hung up."""
        self._readers[fd] = reader
        self._poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        """Undo `watch`; before `fd` is closed."""
        if self._readers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` once, in a turn after `delay_s` seconds."""
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + delay_s, self._count, callback))

    def turn(self, over: Callable[[], bool]) -> None:
        """Wait for something and serve it; stops in the middle once `over()`."""
        timeout_ms = None if not self._timers else max(0.0, self._timers[0][0] - time.monotonic()) * 1000
        for fd, _ in self._poll.poll(timeout_ms):
            reader = self._readers.get(fd)
            if reader is not None:
                reader()
            if over():
                return
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
            if over():
                return
