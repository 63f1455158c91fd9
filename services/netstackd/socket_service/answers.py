"""Answers that are expected soon: before the loop sleeps it looks for them itself, for a moment.

A client's thread that slept for its ring (protocol/rings.py SLEEPS) was woken. What it writes next is mostly the
answer, some tens of microseconds later. Looking for that costs less than what else has to happen: the client rings,
which takes it a host call and perhaps another process, and we are woken. So the stream's tx is not armed meanwhile, and
the loop polls this object instead of its epoll, which is looked at in between, so nothing else waits for it.

It is done only where it pays. Each stream has patience: a late answer costs some, an answer in time gives some back,
also one that came by the doorbell. So a stream whose answers take long costs a look or two, and idle ones nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from services.netstackd.edge.loop import Loop

LOOK_NS: Final = 80_000  # for one answer; about what a doorbell costs everybody
SOON_NS: Final = 200_000  # one that came by the doorbell would have come in time
MOST: Final = 8  # answers that are looked for at a time
PATIENCE: Final = 2  # at first
MOST_PATIENCE: Final = 4


class Answering(Protocol):
    """What an answer is expected of."""

    @property
    def fd(self) -> int:
        """Its watcher is called when the answer is there."""

    def has_answered(self) -> bool:
        """Whether there is something new."""

    def gave_up(self) -> bool:
        """Nobody looks any more. False: there is something now."""


class Answers:
    """See the module docstring."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._sleep = loop.poll
        self._expected: dict[Answering, int] = {}  # until when

    def expect(self, stream: Answering) -> bool:
        """Look for its answer from now on; the stream is not armed. False: too many are looked for."""
        expected = self._expected
        if len(expected) >= MOST:
            return False
        if not expected:
            self._loop.poll = self._poll
        expected[stream] = self._loop.clock() + LOOK_NS
        return True

    def forget(self, stream: Answering) -> None:
        """It has answered, or has ended."""
        self._expected.pop(stream, None)

    def _poll(self, wait: float) -> list[tuple[int, int]]:
        """In place of epoll's."""
        expected, sleep, clock = self._expected, self._sleep, self._loop.clock
        while expected:
            ready = sleep(0)
            for stream in [stream for stream in expected if stream.has_answered()]:
                ready.append((stream.fd, 0))
            if ready or not wait:
                return ready
            now = clock()
            for stream in [stream for stream, until in expected.items() if until <= now]:
                del expected[stream]
                if not stream.gave_up():
                    ready.append((stream.fd, 0))
            if ready:
                return ready
        self._loop.poll = sleep
        return sleep(wait)


class Patience:
    """Whether it pays to look for a stream's answers."""

    __slots__ = ("_asked_at", "_left")

    def __init__(self) -> None:
        self._left = PATIENCE
        self._asked_at = 0

    def __bool__(self) -> bool:
        return self._left > 0

    def asked(self, now: int) -> None:
        """An answer is to come, whether somebody looks for it or not."""
        self._asked_at = now

    def answered(self, clock: Callable[[], int]) -> None:
        """Something came."""
        if self._asked_at:
            if self._left < MOST_PATIENCE and clock() - self._asked_at < SOON_NS:
                self._left += 1
            self._asked_at = 0

    def vain(self) -> None:
        """Nothing came while somebody looked; it may still."""
        self._left -= 1
