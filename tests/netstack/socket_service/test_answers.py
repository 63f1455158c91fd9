"""Looking for answers before the loop sleeps (socket_service/answers.py): on a clock that each look at epoll moves."""

from __future__ import annotations

from typing import Any

import pytest

from services.netstackd.socket_service import answers as module
from services.netstackd.socket_service.answers import LOOK_NS, MOST, MOST_PATIENCE, PATIENCE, Answers

STEP_NS = 2_000  # of one look
FD = 77


class Loop:
    """What Answers needs of a loop. events: (when, what) epoll has; slept: how it was waited for."""

    def __init__(self) -> None:
        self.now = 1
        self.events: list[tuple[int, tuple[int, int]]] = []
        self.slept: list[float] = []
        self.poll: Any = self.sleep

    def clock(self) -> int:
        return self.now

    def sleep(self, wait: float) -> list[tuple[int, int]]:
        if wait:
            self.slept.append(wait)
            self.now = max(self.now, min((at for at, _ in self.events), default=self.now + int(wait * 1e9)))
        else:
            self.now += STEP_NS
        ready = [what for at, what in self.events if at <= self.now]
        self.events = [(at, what) for at, what in self.events if at > self.now]
        return ready


class Stream:
    """Answers at a time."""

    def __init__(self, loop: Loop, at: int, fd: int = FD) -> None:
        self.loop, self.at, self.fd = loop, at, fd
        self.given_up = 0

    def has_answered(self) -> bool:
        return self.at <= self.loop.now

    def gave_up(self) -> bool:
        self.given_up += 1
        return not self.has_answered()


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_while_nothing_is_expected_the_loop_polls_epoll(loop: Loop) -> None:
    answers = Answers(loop)  # type: ignore[arg-type]
    assert loop.poll == loop.sleep
    stream = Stream(loop, loop.now)
    assert answers.expect(stream) and loop.poll != loop.sleep
    answers.forget(stream)
    loop.poll(1.0)
    assert loop.poll == loop.sleep and loop.slept == [1.0]


def test_an_answer_in_time_is_found_without_sleep_and_what_else_comes_is_not_kept_waiting(loop: Loop) -> None:
    answers = Answers(loop)  # type: ignore[arg-type]
    stream = Stream(loop, loop.now + LOOK_NS // 2)
    answers.expect(stream)
    loop.events = [(loop.now + 3 * STEP_NS, (5, 1))]
    assert loop.poll(1.0) == [(5, 1)]
    assert loop.poll(1.0) == [(FD, 0)] and not loop.slept and not stream.given_up
    answers.answered(stream)


def test_a_turn_that_must_not_wait_does_not(loop: Loop) -> None:
    answers = Answers(loop)  # type: ignore[arg-type]
    answers.expect(Stream(loop, loop.now + LOOK_NS // 2))
    before = loop.now
    assert loop.poll(0) == [] and loop.now == before + STEP_NS


def test_a_late_answer_is_given_up_and_slept_for(loop: Loop) -> None:
    answers = Answers(loop)  # type: ignore[arg-type]
    stream = Stream(loop, loop.now + 10 * LOOK_NS)
    answers.expect(stream)
    begun = loop.now
    loop.poll(1.0)
    assert stream.given_up == 1 and loop.slept == [1.0] and loop.poll == loop.sleep
    assert begun + LOOK_NS <= loop.now - 1_000_000_000 <= begun + LOOK_NS + 2 * STEP_NS


def test_one_that_comes_in_the_moment_of_giving_up_is_not_lost(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(loop)  # type: ignore[arg-type]
    stream = Stream(loop, 1 << 60)
    monkeypatch.setattr(stream, "gave_up", lambda: False)
    answers.expect(stream)
    assert loop.poll(1.0) == [(FD, 0)] and not loop.slept


def test_so_many_are_looked_for_and_no_more(loop: Loop) -> None:
    answers = Answers(loop)  # type: ignore[arg-type]
    streams = [Stream(loop, 1 << 60, fd) for fd in range(MOST + 1)]
    assert [answers.expect(stream) for stream in streams] == [True] * MOST + [False]
    streams[3].at = loop.now
    assert loop.poll(1.0) == [(3, 0)]


def test_who_got_an_answer_is_waited_for_as_long_as_he_asks_again_soon(loop: Loop) -> None:
    answers = Answers(loop)  # type: ignore[arg-type]

    def asks_again(after: int) -> bool:
        """Whether that was found without sleep."""
        stream = Stream(loop, loop.now)
        answers.expect(stream)
        assert loop.poll(1.0) == [(FD, 0)]
        answers.answered(stream)
        loop.slept.clear()
        loop.events = [(loop.now + after, (5, 1))]
        assert loop.poll(1.0) == [(5, 1)]
        return not loop.slept

    assert all(asks_again(LOOK_NS // 2) for _ in range(10))
    for _ in range(10):
        assert not asks_again(100 * LOOK_NS)
    assert not asks_again(LOOK_NS // 2), "nobody looks any more"
    assert asks_again(LOOK_NS // 2), "but soon again"


def test_patience_is_lost_by_looks_in_vain_and_won_by_what_comes_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = module.Patience(1000)
    for _ in range(PATIENCE):
        assert patience
        patience.asked(5)
        patience.vain()
        patience.answered(lambda: 2000)
    assert not patience
    patience.asked(5)
    patience.answered(lambda: 1004)
    assert patience
    for _ in range(10):
        patience.asked(5)
        patience.answered(lambda: 6)
        patience.answered(lambda: 6)
    for _ in range(MOST_PATIENCE):
        assert patience
        patience.vain()
    assert not patience
