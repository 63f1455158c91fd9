"""Answers that are expected soon: before the loop sleeps it looks for them itself, for a moment.

A client's thread that slept for its ring (protocol/rings.py SLEEPS) was woken. What it writes next is mostly the
answer, some tens of microseconds later. Looking for that costs less than what else has to happen: the client rings,
which takes it a host call and perhaps another process, and we are woken. So the stream's tx is not armed meanwhile, and
the loop polls this object instead of its epoll, which is looked at in between, so nothing else waits for it.

When an answer was given, whoever got it mostly asks again, as soon: that is looked for in the same way.

It is done only where it pays (`Patience`): a look in vain costs some, what comes in time gives some back, also when
nobody looked for it. So a stream whose answers take long costs a look or two, and what is idle nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from services.netstackd.edge.loop import Loop

LOOK_NS: Final = 80_000  # at a time; about what a doorbell costs everybody
SOON_NS: Final = 200_000  # an answer that came by the doorbell would have come in time
MOST: Final = 8  # answers that are looked for at a time
PATIENCE: Final = 2  # at first
MOST_PATIENCE: Final = 4

Events = list[tuple[int, int]]


class Answering(Protocol):
    """What an answer is expected of."""

    @property
    def fd(self) -> int:
        """Its watcher is called when the answer is there."""

    def has_answered(self) -> bool:
        """Whether there is something new."""

    def gave_up(self) -> bool:
        """Nobody looks any more. False: there is something now."""


class Patience:
    """Whether it pays to look for something. soon: nanoseconds in which it must come for that."""

    __slots__ = ("_asked_at", "_left", "_soon")

    def __init__(self, soon: int) -> None:
        self._soon = soon
        self._left = PATIENCE
        self._asked_at = 0

    def __bool__(self) -> bool:
        return self._left > 0

    def asked(self, now: int) -> None:
        """It is to come, whether somebody looks for it or not."""
        self._asked_at = now

    def answered(self, clock: Callable[[], int]) -> None:
        """Something came."""
        if self._asked_at:
            if self._left < MOST_PATIENCE and clock() - self._asked_at < self._soon:
                self._left += 1
            self._asked_at = 0

    def vain(self) -> None:
        """Nothing came while somebody looked; it may still."""
        self._left -= 1


class Answers:
    """See the module docstring."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._sleep: Callable[[float], Events] = loop.poll
        self._expected: dict[Answering, int] = {}  # until when
        self._given = False  # an answer, since the loop slept last
        self._next = Patience(LOOK_NS)  # for who got it

    def expect(self, stream: Answering) -> bool:
        """Look for its answer from now on; the stream is not armed. False: too many are looked for."""
        expected = self._expected
        if len(expected) >= MOST:
            return False
        self._loop.poll = self._poll
        expected[stream] = self._loop.clock() + LOOK_NS
        return True

    def answered(self, stream: Answering) -> None:
        """It has."""
        self._given = True
        self.forget(stream)

    def forget(self, stream: Answering) -> None:
        """It has answered, or has ended."""
        self._expected.pop(stream, None)

    def _poll(self, wait: float) -> Events:
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
        if not self._given or not wait:
            return sleep(wait)
        self._given = False
        return self._await_next(wait)

    def _await_next(self, wait: float) -> Events:
        """As epoll's; who got an answer may ask again."""
        sleep, clock, patience = self._sleep, self._loop.clock, self._next
        now = clock()
        patience.asked(now)
        if patience:
            until = now + LOOK_NS
            while now < until:
                ready = sleep(0)
                if ready:
                    patience.answered(clock)
                    return ready
                now = clock()
            patience.vain()
        ready = sleep(wait)
        patience.answered(clock)
        return ready
