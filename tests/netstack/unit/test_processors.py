"""Which processors a busy router moves to (edge/processors.py): on a host whose counts are made up."""

from __future__ import annotations

import pytest

from services.netstackd.edge.processors import LONGEST_NS, STRETCH_NS, Processors


class Host:
    """parts: by processor, how much of the time who is on it waits. The process runs on the first that it may."""

    def __init__(self, parts: dict[int, float]) -> None:
        self.parts = parts
        self.now = 1
        self.waited = 0
        self.at = min(parts)
        self.moves: list[frozenset[int]] = []
        self.broken = False
        self.processors = Processors(frozenset(parts), lambda: self.waited, lambda: self.at, self.move)

    def move(self, to: frozenset[int]) -> None:
        if self.broken:
            raise OSError(22, "those are not ours")
        self.moves.append(to)
        self.at = self.at if self.at in to else min(to)

    def turn_for(self, nanoseconds: int, every: int = 1_000_000) -> None:
        """Turns every millisecond, so long."""
        until = self.now + nanoseconds
        while self.now < until:
            self.now += every
            self.waited += int(every * self.parts[self.at])
            if self.now >= self.processors.due:
                self.processors.look(self.now)


def test_who_does_not_wait_stays_where_the_host_puts_it() -> None:
    host = Host({0: 0.05, 1: 0.0})
    host.turn_for(100 * STRETCH_NS)
    assert not host.moves


def test_who_waits_moves_off_its_processor_and_stays_where_it_waits_less() -> None:
    host = Host({0: 0.3, 1: 0.02})
    host.turn_for(100 * STRETCH_NS)
    assert host.moves == [frozenset({1})]


def test_of_many_processors_all_but_that_one_are_used() -> None:
    host = Host({0: 0.3, 1: 0.02, 2: 0.5, 3: 0.0})
    host.turn_for(3 * STRETCH_NS)
    assert host.moves == [frozenset({1, 2, 3})]


def test_where_a_move_does_not_help_all_are_used_again_and_tries_become_rare() -> None:
    host = Host({0: 0.4, 1: 0.4})
    host.turn_for(20 * LONGEST_NS, 5_000_000)
    assert host.moves[:2] == [frozenset({1}), frozenset({0, 1})]
    assert host.moves[-1] in (frozenset({0, 1}), frozenset({1}), frozenset({0}))
    tries = sum(len(move) == 1 for move in host.moves)
    assert 20 <= tries <= 40  # one each LONGEST_NS, and some before the pauses were as long


def test_a_processor_that_becomes_busy_is_left_as_well() -> None:
    host = Host({0: 0.3, 1: 0.0})
    host.turn_for(10 * STRETCH_NS)
    host.parts = {0: 0.0, 1: 0.5}
    host.turn_for(10 * STRETCH_NS)
    assert host.moves == [frozenset({1}), frozenset({0})]


def test_a_sleep_is_no_reason_to_move() -> None:
    host = Host({0: 0.3, 1: 0.0})
    for _ in range(100):
        host.now += 50 * STRETCH_NS
        host.turn_for(1_000_000)
    assert not host.moves


@pytest.mark.parametrize("parts", [{3: 0.9}, {0: 0.9, 1: 0.0}])
def test_one_processor_or_a_host_that_refuses_ends_the_trying(parts: dict[int, float]) -> None:
    host = Host(parts)
    host.broken = True
    host.turn_for(100 * STRETCH_NS)
    assert not host.moves and host.processors.due > LONGEST_NS * 1000


def test_one_stretch_of_waiting_decides_nothing() -> None:
    host = Host({0: 0.0, 1: 0.0})
    for _ in range(20):
        host.parts = {0: 0.4, 1: 0.0}
        host.turn_for(STRETCH_NS // 2)
        host.parts = {0: 0.0, 1: 0.0}
        host.turn_for(3 * STRETCH_NS)
    assert not host.moves


def test_who_has_moved_bears_more_before_it_moves_again() -> None:
    host = Host({0: 0.3, 1: 0.2})
    host.turn_for(20 * STRETCH_NS)
    assert host.moves == [frozenset({1})]
