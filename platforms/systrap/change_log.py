"""The log of changes of mappings that a stub made for calls that trapped (stub/trapped.c), of one address space.

These are mprotect that takes write permission away; private mappings over part of what was mapped of a file last, while
that file is still handed in (the *window*); new anonymous memory, from the upper end of a *gap*; and munmap of what was
named as *removable*. The log lies in memory that the guest may write: entries are read once, and whoever takes them
checks what they say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from platforms.systrap import layout

if TYPE_CHECKING:
    from platforms.systrap.arena import Arena

__all__ = ["ANONYMOUS", "FILE", "NEW", "PROTECTION", "REMOVED", "Change", "ChangeLog"]

PROTECTION: Final = layout.CHANGE_PROTECTION
ANONYMOUS: Final = layout.CHANGE_ANONYMOUS
FILE: Final = layout.CHANGE_FILE
NEW: Final = layout.CHANGE_NEW
REMOVED: Final = layout.CHANGE_REMOVED
MAX_LENGTH: Final = layout.MAP_MAX  # bytes of new memory


class Change(NamedTuple):
    """As the guest wrote it. `offset`: in the file."""

    kind: int
    addr: int
    length: int
    prot: int
    offset: int


class ChangeLog:
    """`header_offset`: where the address space's first region lies in the arena."""

    __slots__ = ("_count", "_entries", "_gap_high", "_gap_low", "_high", "_open", "_removable", "_window", "_words")

    def __init__(self, arena: Arena, header_offset: int) -> None:
        self._words = arena.u64
        self._open = (header_offset + layout.CHANGES_OPEN) // 8
        self._count = (header_offset + layout.CHANGES_COUNT) // 8
        self._window = (header_offset + layout.WINDOW_LOW) // 8
        self._high = (header_offset + layout.WINDOW_HIGH) // 8
        self._gap_low = (header_offset + layout.GAP_LOW) // 8
        self._gap_high = (header_offset + layout.GAP_HIGH) // 8
        self._removable = (header_offset + layout.REMOVABLE) // 8
        self._entries = (header_offset + layout.CHANGE_ENTRIES) // 8

    def open(self, program_break: int) -> None:
        """Let the stub change mappings, and say where the program break is; there is no window and no gap yet. The
        thread that uses the log must be held.
        """
        words = self._words
        words[self._high] = words[self._gap_high] = words[self._count] = 0
        words[self._gap_low + 3] = program_break
        for k in range(layout.REMOVABLE_COUNT):
            words[self._removable + 2 * k + 1] = 0
        words[self._open] = 1

    def close(self) -> None:
        """No new entries from now on, but for one that is being made."""
        words = self._words
        words[self._open] = words[self._high] = words[self._gap_high] = words[self._gap_low + 3] = 0

    def forget_break(self) -> None:
        """The program break is to be asked for."""
        self._words[self._gap_low + 3] = 0

    def open_gap(self, low: int, high: int, least: int) -> None:
        """New memory of at least `least` bytes goes to the upper end of [low, high). No gap may be open."""
        words, first = self._words, self._gap_low
        words[first] = low
        words[first + 2] = least
        words[first + 1] = high  # last, for the thread may run

    def close_gap(self) -> None:
        """New memory is to be asked for."""
        self._words[self._gap_high] = 0

    def name_removable(self, low: int, high: int) -> bool:
        """Let the stub unmap [low, high), as a whole. False: so many have been named."""
        words = self._words
        for first in range(self._removable, self._removable + 2 * layout.REMOVABLE_COUNT, 2):
            if not words[first + 1]:
                words[first] = low
                words[first + 1] = high  # last, for the thread may run
                return True
        return False

    def forget_removable(self, low: int) -> None:
        """What begins at `low` must not be unmapped."""
        words = self._words
        for first in range(self._removable, self._removable + 2 * layout.REMOVABLE_COUNT, 2):
            if words[first] == low:
                words[first + 1] = 0

    @property
    def gap_high(self) -> int:
        """Where what is left of the gap ends, says the guest."""
        return self._words[self._gap_high]

    def clear(self) -> None:
        """Empty the log. The thread that uses it must be held."""
        self._words[self._count] = 0

    def open_window(self, low: int, high: int, fd: int, number: int, base: int, prot: int) -> None:
        """[low, high) was mapped of the guest's descriptor `fd`, a file that is handed in under `number`, whose byte 0
        lies at `base` there: the stub may map over it, with no more than `prot`. No window may be open.
        """
        words, first = self._words, self._window
        words[first + 2] = fd
        words[first + 3] = number
        words[first + 4] = base
        words[first + 5] = prot
        words[first] = low
        words[first + 1] = high  # last, for the thread may run

    @property
    def count(self) -> int:
        """How many entries there are, says the guest."""
        return self._words[self._count]

    def read_untrusted(self, first: int, count: int) -> list[Change] | None:
        """Entries `first` to `count`; None: no stub makes so many."""
        if not first <= count <= layout.CHANGES_MOST:
            return None
        begin = self._entries + 4 * first
        words = self._words[begin : self._entries + 4 * count].tolist()
        return [
            Change(
                words[k + 2] >> layout.CHANGE_KIND_SHIFT,
                words[k],
                words[k + 1],
                words[k + 2] & 0xFFFFFFFF,
                words[k + 3],
            )
            for k in range(0, len(words), 4)
        ]
