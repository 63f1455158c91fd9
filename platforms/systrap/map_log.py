"""The log of local mappings of one address space: what its stub maps and unmaps without asking (stub/local_maps.S).

The stub takes new mappings from the upper end of a gap that was `open`ed to it, and notes each in the log, a stack, in
memory that the guest may write. So `read` believes only what the stub could have done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from platforms.systrap import layout

if TYPE_CHECKING:
    from platforms.systrap.arena import Arena

__all__ = ["MAX_LENGTH", "MOST", "MapLog"]

MAX_LENGTH: Final = layout.MAP_MAX  # bytes of one mapping
MOST: Final = layout.MAP_MOST  # mappings in the log
_COUNT_MASK: Final = (1 << layout.MAP_COUNT_BITS) - 1
_PAGE_MASK: Final = 0xFFF
_READ_WRITE: Final = 3


class MapLog:
    """`header_offset`: where the address space's first region lies in the arena."""

    __slots__ = ("_advise_high", "_advise_low", "_entries", "_head", "_kept", "_least", "_low", "_words")

    def __init__(self, arena: Arena, header_offset: int) -> None:
        self._words = arena.u64
        self._low = (header_offset + layout.MAP_LOW) // 8
        self._least = (header_offset + layout.MAP_LEAST) // 8
        self._head = (header_offset + layout.MAP_HEAD) // 8
        self._kept = (header_offset + layout.MAP_KEPT) // 8
        self._advise_low = (header_offset + layout.ADVISE_LOW) // 8
        self._advise_high = (header_offset + layout.ADVISE_HIGH) // 8
        self._entries = (header_offset + layout.MAP_ENTRIES) // 8

    def open(self, low: int, high: int, least: int) -> None:
        """Let the stub map what is not shorter than `least` bytes in [low, high), from the upper end on.

        The log is emptied. The thread that uses it must be held. What is kept below the last mapping stays with it.
        """
        words = self._words
        words[self._head] = 0
        words[self._entries] = high
        words[self._least] = least
        words[self._low] = low

    def add(self, start: int, prot: int) -> None:
        """Note a mapping as the stub would: it ends where the one before begins. Its thread must be held."""
        words = self._words
        count = words[self._head] & _COUNT_MASK
        words[self._entries + count + 1] = start | prot
        words[self._head] += _COUNT_MASK + 2

    def close(self) -> None:
        """No new mappings from now on. What is in the log may still be unmapped, newest first."""
        self._words[self._low] = 0

    def clear(self) -> None:
        """Empty the log; its entries are ordinary mappings now. The thread that uses it must be held."""
        self._words[self._head] = 0

    def allow_advice(self, low: int, high: int) -> None:
        """Let the stub give back memory in [low, high) without asking; 0, 0: nowhere."""
        words = self._words
        words[self._advise_high] = 0
        words[self._advise_low] = low
        words[self._advise_high] = high

    @property
    def keeps(self) -> bool:
        """Whether the host has memory below the last mapping that the guest has unmapped (as it says)."""
        return self._words[self._kept] != 0

    def take_kept_untrusted(self) -> tuple[int, int]:
        """Where the host has such memory: start and end, the same if nowhere. The stub is not to use it any more."""
        words = self._words
        kept, words[self._kept] = words[self._kept], 0
        top = words[self._entries + min(words[self._head] & _COUNT_MASK, MOST)] & ~_PAGE_MASK
        if kept & _PAGE_MASK or not kept <= min(top, layout.MAP_KEPT_MAX):
            return 0, 0
        return top - kept, top

    @property
    def head(self) -> int:
        """Another number whenever the log changed (as long as its guest does not lie)."""
        return self._words[self._head]

    def read_untrusted(self, head: int, low: int, high: int) -> tuple[list[tuple[int, int]], bool]:
        """The mappings of a log with that `head` as (start, protection), downwards without a gap from `high`, none
        below `low`. And whether these are all: False when the next cannot be true, unless the log changes meanwhile.
        """
        words, first = self._words, self._entries + 1
        count = head & _COUNT_MASK
        found: list[tuple[int, int]] = []
        if count > MOST:
            return found, False
        end = high
        for word in words[first : first + count].tolist():
            start, prot = word & ~_PAGE_MASK, word & _PAGE_MASK
            if not low <= start < end or prot > _READ_WRITE or end - start > MAX_LENGTH:
                return found, False
            found.append((start, prot))
            end = start
        return found, True
