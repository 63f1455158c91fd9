"""On which processors the process runs: off one that others use while another idles.

The host's scheduler likes to put who is woken beside who wakes it, and evens that out only when a processor idles for
longer than a move costs. A router that a program wakes some thousand times a second may so wait a third of its time for
the processor of that very program, beside one that idles. The host counts how long it waited (proc(5),
/proc/PID/schedstat). When that was more than a MOST-th part of some stretches of time in a row, the process moves to
all processors but the one that it is on, and who is left behind there is asked to stay, for the host would move him
after us. Was it less on the others, we stay, until it is more than a MOST_APART-th part there; else all is as before,
and is tried less often.

Nothing is looked at while the loop sleeps, nor where there is but one processor, nor on a host that does not count.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

STRETCH_NS: Final = 20_000_000  # between two looks; a look is two host calls
SETTLE_NS: Final = 10_000_000  # after a move, before the stretch that judges it
FEW: Final = 8  # processors; with more, the host finds one that idles
LONGEST_NS: Final = 5_000_000_000  # between two tries, when none helped
MOST: Final = 6  # a try is worth it when more than this part of the time was spent waiting
MOST_APART: Final = 4  # the same where a try has led
IN_A_ROW: Final = 2  # stretches that have to say so
BETTER: Final = 3, 4  # at most so much of it is left where a move has helped

_EVER: Final = 1 << 62
_PROCESSOR: Final = 36  # of the fields of stat behind the name: the 39th of all


class Processors:
    """See the module docstring. waited: nanoseconds that the process has waited to run; here: the processor it is on;
    move: have it run on these alone. Errors of the three, which are the host's, end the trying.

    due: the loop's clock when `look` is to be called next, or later. on_move: told of the processors that are left to
    others; of none when all are used again."""

    def __init__(
        self,
        processors: frozenset[int],
        waited: Callable[[], int],
        here: Callable[[], int],
        move: Callable[[frozenset[int]], object],
    ) -> None:
        self.due = 0 if 1 < len(processors) < FEW else _EVER
        self.on_move: Callable[[frozenset[int]], None] | None = None
        self._all = processors
        self._waited = waited
        self._here = here
        self._move = move
        self._since = 0  # of this stretch, by the loop's clock; 0: none has begun
        self._at = 0  # what had been waited then
        self._before = 0  # the millionths of a stretch that were waited before the move that is on trial; 0: none is
        self._pause = STRETCH_NS
        self._apart = False  # some processors are left to others
        self._bad = 0  # stretches in a row with too much waiting

    def look(self, now: int) -> None:
        """A turn begins at `now`."""
        try:
            waited = self._waited()
            since, at = self._since, self._at
            self._since, self._at, self.due = now, waited, now + STRETCH_NS
            if since and now > since:
                self._judge(now, (waited - at) * 1_000_000 // (now - since))
        except (OSError, ValueError, IndexError):  # a host that tells it otherwise; processors that are no longer ours
            self.due = _EVER

    def _judge(self, now: int, part: int) -> None:
        before, self._before = self._before, 0
        if before:
            if part * BETTER[1] <= before * BETTER[0]:
                self._pause = STRETCH_NS
            else:
                self._go(frozenset(), now + self._pause)
                self._pause = min(self._pause * 2, LONGEST_NS)
            return
        self._bad = self._bad + 1 if part * (MOST_APART if self._apart else MOST) > 1_000_000 else 0
        if self._bad >= IN_A_ROW:
            self._before = part
            self._go(frozenset((self._here(),)), now + SETTLE_NS)

    def _go(self, left: frozenset[int], due: int) -> None:
        """Leave these to others; a stretch begins with the look that is `due`."""
        self._move(self._all - left)
        self.due = due
        self._since = self._bad = 0
        self._apart = bool(left)
        if self.on_move is not None:
            self.on_move(left)


class _Told:
    """What the host says of this process, read again and again from files that stay open (proc(5))."""

    def __init__(self) -> None:
        self._counts = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._stat = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._counts)
            raise
        self._buffer = bytearray(1024)

    def descriptors(self) -> frozenset[int]:
        return frozenset((self._counts, self._stat))

    def _read(self, fd: int) -> bytes:
        os.lseek(fd, 0, os.SEEK_SET)
        count = os.readv(fd, (self._buffer,))
        return bytes(self._buffer[:count])

    def waited(self) -> int:
        """Nanoseconds that it waited to run. OSError, ValueError."""
        _, waited, _ = self._read(self._counts).split()
        return int(waited)

    def here(self) -> int:
        """The processor that it is on. OSError, ValueError, IndexError."""
        return int(self._read(self._stat).rpartition(b")")[2].split()[_PROCESSOR])


def _move(processors: frozenset[int]) -> None:
    os.sched_setaffinity(0, processors)


def open_processors() -> tuple[Processors, frozenset[int]] | None:
    """Those of this process, and the descriptors that they need; None on a host that does not count. To be called by
    the process itself, before its seal."""
    try:
        told = _Told()
    except OSError:
        return None
    return Processors(frozenset(os.sched_getaffinity(0)), told.waited, told.here, _move), told.descriptors()
