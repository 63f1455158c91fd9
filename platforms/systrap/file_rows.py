"""The file rows of one address space: what its stub is told of descriptors so that it need not ask (stub/local.S).
Beside them, the one *standing answer* (stub/answers.S).

A row is one word, so that a guest thread sees it whole. It is zero, or says what may be done without the Sentry: that
reads and writes are trivial, or where in the guest's memory a *window* lies, a hidden mapping of the file that
positioned reads and writes may be copied from and to. Windows are placed by the unit; the first unit holds the *notes*:
for each descriptor the processor's counter (`ticks`) when it was last written and last read. The guest may write there
what it likes.

A row of a stream whose bytes lie in rings (protocol/rings.py) names one of RING_COUNT entries, which say where the
rings are that its reads take from and its writes put into. A row of an eventfd names the window of its counter.

A row may also say which bits of poll(2) a file has not; what it does not say of rings, they tell themselves.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from platforms._host import lib
from platforms.base import Op
from platforms.systrap import layout

if TYPE_CHECKING:
    from platforms.systrap.arena import Arena

__all__ = [
    "ANSWER_EPOLL",
    "ANSWER_MAX",
    "ANSWER_STAT",
    "COUNTER",
    "EMPTY",
    "NOTE_READS",
    "POLL_KNOWN",
    "POLL_MOST",
    "READ",
    "RING_COUNT",
    "RING_IN",
    "RING_OUT",
    "SINK",
    "UNITS",
    "WRITE",
    "ZERO",
    "FileRows",
    "RingPlace",
    "ticks",
    "unit_address",
]

SINK: Final = layout.FILE_SINK
EMPTY: Final = layout.FILE_EMPTY
ZERO: Final = layout.FILE_ZERO
READ: Final = layout.FILE_READ
WRITE: Final = layout.FILE_WRITE
NOTE_READS: Final = layout.FILE_NOTE_READS
RING_IN: Final = layout.FILE_RING_IN
RING_OUT: Final = layout.FILE_RING_OUT
RING_COUNT: Final = layout.RING_COUNT
COUNTER: Final = 1 << layout.FILE_COUNTER
POLL_KNOWN: Final = 1 << layout.FILE_POLL_KNOWN
POLL_MOST: Final = layout.POLL_MOST
UNITS: Final = (layout.FILE_WINDOWS_END - layout.FILE_WINDOWS) >> layout.FILE_UNIT
ANSWER_EPOLL: Final = layout.ANSWER_EPOLL
ANSWER_STAT: Final = layout.ANSWER_STAT
ANSWER_MAX: Final = layout.ANSWER_MAX
_COUNTER_ABSENT: Final = 0xFFFF & ~(layout.COUNTER_IN | layout.COUNTER_OUT)
_ANSWER: Final = struct.Struct("<QQ")
_RINGS: Final = struct.Struct("<8Q")
_NR_MMAP: Final = 9
_READ_WRITE: Final = 3
_SHARED_FIXED: Final = 0x11


def unit_address(unit: int) -> int:
    """Where a window that begins with `unit` lies."""
    return layout.FILE_WINDOWS + (unit << layout.FILE_UNIT)


def ticks() -> int:
    """The processor's counter now."""
    return int(lib.sentrio_ticks())


class RingPlace(NamedTuple):
    """Where in its mapping a ring lies: its first word, its bytes and their number; `limit`: how many may be in it.

    Of one that is written: `enough` is how many must be free for the poll(2) bits `writable`.
    """

    words: int
    data: int
    size: int
    limit: int
    enough: int = 0
    writable: int = 0


class FileRows:
    """`count` rows, by descriptor number. `header_offset`: where the address space's first region lies in the arena."""

    __slots__ = ("_answer", "_first", "_header_offset", "_map", "_notes", "_words", "count")

    def __init__(self, arena: Arena, header_offset: int) -> None:
        self._map = arena.map
        self._answer = header_offset + layout.ANSWER
        self._words = arena.u64
        self._header_offset = header_offset
        self._first = (header_offset + layout.FILE_ROWS) // 8
        self._notes = (header_offset + layout.FILE_NOTES_AT) // 8
        self.count = layout.FILE_ROW_COUNT

    def set(self, fd: int, row: int) -> None:
        """Say `row` of `fd` from now on; 0: ask."""
        self._words[self._first + fd] = row

    def set_window(self, fd: int, unit: int, size: int, kind: int) -> int:
        """The row that says: `size` bytes of the file lie at `unit`, and `kind` may be done with them."""
        row = kind | unit << layout.FILE_UNIT_SHIFT | size << layout.FILE_SIZE_SHIFT
        self._words[self._first + fd] = row
        return row

    def set_quiet(self, fd: int, absent: int) -> int:
        """The row that says: these 16 bits of poll(2) are not there."""
        row = POLL_KNOWN | absent << layout.FILE_ABSENT_SHIFT
        self._words[self._first + fd] = row
        return row

    def set_rings(
        self,
        fd: int,
        entry: int,
        unit: int,
        read: RingPlace | None,
        written: RingPlace | None,
        socket: bool,
        polled: bool,
        waits: bool = False,
    ) -> int:
        """The row that says: reads of `fd` take from the one ring, writes put into the other, both mapped at `unit`.

        `entry`: one of RING_COUNT that nobody uses. `socket`: send and recv do the same. `polled`: poll(2) has no bits
        but those that the rings tell. `waits`: who finds nothing to read sleeps in the stub; whoever puts something in
        wakes it (protocol/rings.py SLEEPS), and so does who sets the row to 0, afterwards.
        """
        base = unit_address(unit)
        words = [0] * 8
        absent = 0xFFFF
        row = entry << layout.FILE_UNIT_SHIFT | socket << layout.FILE_RING_SOCKET | waits << layout.FILE_RING_WAITS
        if read is not None:
            row |= RING_IN
            words[0:3] = base + read.words, base + read.data, read.size
            absent &= ~layout.RING_IN_BITS
        if written is not None:
            row |= RING_OUT
            words[3] = written.enough | written.writable << 32
            words[4:8] = base + written.words, base + written.data, written.size, written.limit
            absent &= ~written.writable
        if polled:
            row |= POLL_KNOWN | absent << layout.FILE_ABSENT_SHIFT
        at = self._header_offset + layout.RINGS + (entry << layout.RING_ENTRY_SHIFT)
        _RINGS.pack_into(self._map, at, *words)
        self._words[self._first + fd] = row
        return row

    def set_counter(self, fd: int, unit: int, by_one: bool, polled: bool) -> int:
        """The row that says: `fd` is an eventfd whose counter lies at `unit`. `by_one`: a read takes 1 of it.

        `polled`: poll(2) has no bits but those that the counter tells.
        """
        row = COUNTER | unit << layout.FILE_UNIT_SHIFT | by_one << layout.FILE_COUNTER_BY_ONE
        if polled:
            row |= POLL_KNOWN | _COUNTER_ABSENT << layout.FILE_ABSENT_SHIFT
        self._words[self._first + fd] = row
        return row

    def put_answer(self, kind: int, fd: int, serial: int, result: int, data: bytes) -> int:
        """Say that a call of `kind` on `fd` gives `result` and `data`, u32s and ANSWER_MAX bytes at most.

        Where its key lies in the arena's u64 view: a zero there takes it back. `serial` tells it from others (32 bits).
        0: the descriptor is too large.
        """
        if fd >= layout.ANSWER_FDS:
            return 0
        at = self._answer
        self._words[at // 8] = 0
        _ANSWER.pack_into(self._map, at + layout.ANSWER_RESULT - layout.ANSWER, result, len(data) // 4)
        first = at + layout.ANSWER_DATA - layout.ANSWER
        self._map[first : first + len(data)] = data
        self._words[at // 8] = serial << 32 | kind | fd
        return at // 8

    def notes(self, fd: int) -> tuple[int, int]:
        """When `fd` was last written and read through a window, in ticks, as the guest says."""
        at = self._notes + 2 * fd
        return self._words[at], self._words[at + 1]

    def notes_op(self) -> Op:
        """What maps the notes, to be carried out once before the first window is published."""
        at = self._header_offset + layout.FILE_NOTES_AT
        return Op(
            _NR_MMAP,
            (layout.FILE_NOTES, layout.FILE_NOTES_SIZE, _READ_WRITE, _SHARED_FIXED, layout.ARENA_FD, at),
        )
