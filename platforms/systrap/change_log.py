"""The log of changes of mappings that a stub made for calls that trapped (stub/trapped.c), of one address space.

These are mprotect that takes write permission away; private mappings over part of what was mapped of a file last, while
that file is still handed in (the *window*); new anonymous memory, from the upper end of a *gap*, or there a mapping of
the file that was *opened* last, if that was handed in ahead; and munmap of what was named as *removable*. The log lies
in memory that the guest may write: entries are read once, and whoever takes them checks what they say. So does what the
stub knows of the file that was opened last, and of the first calls that a program will make.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from platforms._host import lib
from platforms.systrap import layout

if TYPE_CHECKING:
    from platforms.systrap.arena import Arena

__all__ = [
    "AHEAD_MOST",
    "ANONYMOUS",
    "CHANGES_MOST",
    "FILE",
    "HEAD_SIZE",
    "NAME_MOST",
    "NEW",
    "NEW_FILE",
    "PROTECTION",
    "REMOVED",
    "STEPS_MOST",
    "Change",
    "ChangeLog",
    "FileOffer",
    "Step",
]

PROTECTION: Final = layout.CHANGE_PROTECTION
ANONYMOUS: Final = layout.CHANGE_ANONYMOUS
FILE: Final = layout.CHANGE_FILE
NEW: Final = layout.CHANGE_NEW
REMOVED: Final = layout.CHANGE_REMOVED
NEW_FILE: Final = layout.CHANGE_NEW_FILE
AHEAD_MOST: Final = layout.AHEAD_MOST
CHANGES_MOST: Final = layout.CHANGES_MOST
STEPS_MOST: Final = layout.PATHS_MOST
NAME_MOST: Final = layout.PATH_NAME_SIZE - 1  # bytes of a name that is foretold
HEAD_SIZE: Final = layout.OPENED_HEAD_SIZE  # of what a file begins with
_OFFER: Final = struct.Struct("<9Q")
_STEP: Final = struct.Struct("<QQqQ")  # from PATH_NR on,
_STEP_OFFER: Final = struct.Struct("<5Q")  # and from PATH_KNOWN on
_LIMITS: Final = struct.Struct(f"<{2 * layout.LIMITS_COUNT + 2}Q")
MAX_LENGTH: Final = layout.MAP_MAX  # bytes of new memory


class Change(NamedTuple):
    """As the guest wrote it. `offset`: in the file."""

    kind: int
    addr: int
    length: int
    prot: int
    offset: int


class FileOffer(NamedTuple):
    """Of a file that is opened for reading: see `ChangeLog.offer`."""

    number: int
    base: int
    prot: int
    removable: bool
    status: bytes
    head: bytes


class Step(NamedTuple):
    """A call with a path name that a program will make: its number, the name, its flags or mode, and what it gives; of
    a file that it opens also the `offer`.
    """

    nr: int
    name: bytes
    flags: int
    result: int
    offer: FileOffer | None


class ChangeLog:
    """`header_offset`: where the address space's first region lies in the arena."""

    __slots__ = (
        "_ahead", "_count", "_entries", "_gap_high", "_gap_low", "_high", "_limits", "_map", "_open", "_opened",
        "_paths", "_removable", "_steps", "_window", "_words",
    )  # fmt: skip

    def __init__(self, arena: Arena, header_offset: int, alone: bool = False) -> None:
        """`alone`: no second thread ever had a slot."""
        self._words = arena.u64
        self._map = arena.map
        self._opened = (header_offset + layout.OPENED) // 8
        self._ahead = (header_offset + layout.AHEAD) // 8
        self._limits = (header_offset + layout.LIMITS) // 8
        self._paths = (header_offset + layout.PATHS_LIVE) // 8
        self._steps = header_offset + layout.PATHS if alone else 0
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
        words[self._opened] = words[self._opened + 3] = words[self._paths] = words[self._paths + 1] = 0
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

    def offer(
        self, fd: int, number: int, base: int, prot: int, removable: bool, status: bytes, head: bytes | None
    ) -> int:
        """The guest's descriptor `fd` was opened for reading: it may be closed; mapped with `prot` if it is handed in
        under `number` (else 0; see `open_window`), where it is `removable`; and begins with `head`, at most HEAD_SIZE
        bytes, and has the struct stat `status` (no `head`: that is to be asked for). Until `end_offer`; the thread is
        held. What it begins with holds until 0 is stored in the arena's u64 whose index is the answer.
        """
        at = self._opened
        known = 0
        if head is not None:
            known = len(head) + 1
            where = 8 * at - layout.OPENED
            start = where + layout.OPENED_STAT
            self._map[start : start + layout.OPENED_STAT_SIZE] = status
            start = where + layout.OPENED_HEAD
            self._map[start : start + len(head)] = head
        _OFFER.pack_into(self._map, 8 * at, fd + 1, 0, 0, known, 0, number, base, prot, removable)
        return at + 3

    def offered(self) -> tuple[bool, int]:
        """Whether the stub closed what `offer` named, and how far it has read."""
        words, at = self._words, self._opened
        return words[at + 1] != 0, words[at + 2]

    def forget_number(self) -> None:
        """What was opened last is no longer what was handed in."""
        self._words[self._opened + 5] = 0

    def end_offer(self) -> None:
        """The descriptor is to be asked for. The thread is held."""
        words, at = self._words, self._opened
        words[at] = words[at + 3] = words[self._high] = 0

    def foretell(self, steps: Sequence[Step]) -> int:
        """The program is going to make these calls one after the other, and each gives what its step says. That holds
        until 0 is stored in the arena's u64 whose index is the answer, or for a few milliseconds. 0: there is no room.
        """
        at = self._steps
        if not at or len(steps) > layout.PATHS_MOST:
            return 0
        for step in steps:
            name = step.name + b"\0"
            if len(name) > layout.PATH_NAME_SIZE:
                return 0
            _STEP.pack_into(self._map, at, step.nr, step.flags, step.result, len(name))
            self._map[at + layout.PATH_NAME : at + layout.PATH_NAME + len(name)] = name
            offer = step.offer
            if offer is not None:
                number, base, prot, removable, status, head = offer
                _STEP_OFFER.pack_into(self._map, at + layout.PATH_KNOWN, len(head) + 1, number, base, prot, removable)
                self._map[at + layout.PATH_STAT : at + layout.PATH_STAT + layout.OPENED_STAT_SIZE] = status
                self._map[at + layout.PATH_HEAD : at + layout.PATH_HEAD + len(head)] = head
            at += layout.PATH_SIZE
        words, live = self._words, self._paths
        words[live + 2] = lib.sentrio_ticks()
        words[live] = len(steps)  # last, for the thread runs
        return live

    def made(self) -> int:
        """How many of the calls foretold were made, says the guest."""
        return self._words[self._paths + 1]

    def opened_at(self, step: int) -> int:
        """How many entries there were when the file of that step was opened, says the guest."""
        return self._words[(self._steps + step * layout.PATH_SIZE + layout.PATH_FIRST) // 8]

    def forget_step(self, step: int) -> None:
        """The file of that step is no longer what was handed in; as `forget_number`."""
        self._words[(self._steps + step * layout.PATH_SIZE + layout.PATH_NUMBER) // 8] = 0
        self.forget_number()

    def end_steps(self) -> None:
        """All calls are to be asked for. The thread is held."""
        self._words[self._paths] = self._words[self._paths + 1] = 0

    def tell_limits(self, limits: Sequence[tuple[int, int]], missed_rseq: bool) -> None:
        """What the program may ask about itself: its resource limits; `missed_rseq`: that there is no rseq(2)."""
        _LIMITS.pack_into(self._map, 8 * self._limits, *chain.from_iterable(limits), 1, missed_rseq)

    def forget_limits(self) -> None:
        """They are to be asked for."""
        self._words[self._limits + 2 * layout.LIMITS_COUNT] = 0

    def end_missed_rseq(self) -> int:
        """How often the stub said so, says the guest; from now on it asks."""
        at = self._limits + 2 * layout.LIMITS_COUNT + 1
        count: int = self._words[at]
        self._words[at] = 0
        return max(count - 1, 0)

    def name_ahead(self, numbers: Sequence[int]) -> None:
        """Files that were handed in under these numbers stay until the stub closes them (stub_drop_ahead)."""
        for k, number in enumerate(numbers):
            self._words[self._ahead + k] = number

    def drop_ahead(self) -> None:
        """The thread, which must be held, is to close them before it goes on."""
        if self._words[self._ahead]:
            self._words[self._ahead + layout.AHEAD_MOST] = 1

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
