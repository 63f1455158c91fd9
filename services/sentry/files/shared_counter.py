"""The counter of an eventfd in memory that all who have it share: their stubs read and write it (stub/counters.S).

A page of its own, which begins with the words of a ring (protocol/rings.py): the counter, and two flags that say who
waits, a reader (or somebody who polls) and a writer. Processes and threads may use it at once, and each does so by a
compare-and-exchange. The kernel takes the counter for as long as it looks (`hold`), which leaves a value that makes
every stub ask, and puts it back. So whoever is to wait sets his flag in between: a stub whose exchange succeeds sees it
behind that, and tells (`moved`).

To end it, the counter is taken and not put back. The memory is not used again: who had it mapped may still do so. A
guest that writes there what it likes makes its own eventfd wrong, for everyone who has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from platforms._host import ffi, lib
from platforms.systrap.layout import COUNTER_HELD, COUNTER_VALUE
from protocol.rings import CONSUMER_WAITS, PRODUCER_WAITS, WORDS_BYTES
from services.sentry.files.local_rings import LocalRings
from services.sentry.files.ring_end import RingEnd

if TYPE_CHECKING:
    from platforms.systrap.file_rows import FileRows
    from services.sentry.kernel.published_rings import RingWindow

__all__ = ["SharedCounter"]

_READER: Final = CONSUMER_WAITS // 4
_WRITER: Final = PRODUCER_WAITS // 4


class SharedCounter(RingEnd):
    """See the module. by_one: a read takes 1. woken: called when somebody who waited has to look again; dissolve: has
    the eventfd keep its counter by itself again. windows: where it is published."""

    __slots__ = ("_base", "_u32", "_u64", "by_one", "dissolve", "memory", "windows", "woken")

    def __init__(self, value: int, by_one: bool, woken: Callable[[], None], dissolve: Callable[[], None]) -> None:
        """OSError, MemoryError: there is no memory for it."""
        self.memory = LocalRings(0, 1)
        super().__init__(self.memory.fd, self.memory.length, None, None, False)
        self.exclusive = False
        self.by_one = by_one
        self.woken = woken
        self.dissolve = dissolve
        self.windows: list[RingWindow] = []
        words = memoryview(self.memory.map)[:WORDS_BYTES]
        self._base = ffi.from_buffer(words, require_writable=True)
        self._u64 = words.cast("Q")
        self._u32 = words.cast("I")
        self.put_back(value)

    # --- the counter ---
    def look(self) -> int:
        """Its value at some moment."""
        return int(self._u64[COUNTER_VALUE // 8])

    def hold(self) -> int:
        """Take it: its value, which no stub changes until it is put back."""
        return int(lib.sentrio_exchange(self._base + COUNTER_VALUE, COUNTER_HELD))

    def put_back(self, value: int) -> None:
        """Behind `hold`: what it is from now on."""
        self._u64[COUNTER_VALUE // 8] = value

    def await_more(self) -> None:
        """While it is held: whoever adds to it is to tell."""
        self._u32[_READER] = 1

    def await_less(self) -> None:
        """While it is held: whoever takes from it is to tell."""
        self._u32[_WRITER] = 1

    def end(self) -> int:
        """Its value; from now on every call asks."""
        value = self.hold()
        while self.windows:
            self.windows.pop().revoke()
        self.memory.close()
        return value

    # --- what the kernel's tables know of it ---
    def opened(self, window: RingWindow) -> None:
        self.windows.append(window)

    def closed(self, window: RingWindow) -> None:
        # Another thread may be between its exchange and telling, and its descriptor is gone: so all look again.
        self.dissolve()

    def show(self, rows: FileRows, fd: int, unit: int, entry: int, polled: bool, blocking: bool) -> int:
        return rows.set_counter(fd, unit, self.by_one, polled)

    def moved(self) -> None:
        # Who waits looks again, and waits anew if it was not for him.
        self._u32[_READER] = self._u32[_WRITER] = 0
        self.woken()

    def watched(self) -> None:
        # An epoll is to see every change, also one that changes nothing for who waits (EPOLLET).
        self.dissolve()

    def revoke(self) -> None:
        self.dissolve()
