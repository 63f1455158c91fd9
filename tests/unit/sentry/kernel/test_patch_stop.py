"""Threads are stopped for a patch: none is looked at meanwhile, and all go on afterwards, whatever happens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from services.sentry.kernel.clocks import VirtualClock
from services.sentry.kernel.patch_stop import PatchStop
from services.sentry.kernel.timers import Timers
from services.sentry.mm.patching import others_at_large


class Thread:
    """A context. `runs`: it is in guest code."""

    def __init__(self, space: Any, runs: bool) -> None:
        self.space = space
        space.contexts[self] = None
        self.runs = runs
        self.dead = self.parked = False
        self.reporting = False
        self.kicks = 0
        self.owner = TASK

    def others(self) -> list[Thread]:
        return [each for each in self.space.contexts if each is not self]

    def at_large(self) -> bool:
        return self.runs and not self.dead

    def reports_ops(self) -> bool:
        return self.reporting

    def interrupt(self) -> None:
        self.kicks += 1


TASK: Any = SimpleNamespace()


class Stage:
    """A caller whose site is to be patched, and `others`, running or not."""

    def __init__(self, *others: bool) -> None:
        self.space = SimpleNamespace(contexts={})
        self.caller = Thread(self.space, False)
        self.others = [Thread(self.space, runs) for runs in others]
        self.stranger = Thread(SimpleNamespace(contexts={}), True)
        self.platform: Any = SimpleNamespace(active=dict.fromkeys([self.caller, *self.others, self.stranger]))
        self.clock = VirtualClock()
        self.timers = Timers()
        self.told: list[str] = []
        kernel: Any = SimpleNamespace(timers=self.timers, clock=self.clock)
        self.stop = PatchStop(
            kernel,
            self.platform,
            TASK,
            self.caller,
            lambda: self.told.append("reached"),
            lambda: self.told.append("given up"),
        )

    def active(self) -> list[Any]:
        return list(self.platform.active)

    def later(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.advance(200_000)
            self.timers.run(self.clock.monotonic_ns())


def test_threads_that_have_posted_something_are_only_held() -> None:
    stage = Stage(False, False)
    assert stage.active() == [stage.stranger]
    assert stage.stop.look()
    assert stage.told == ["reached"]
    assert stage.active() == [stage.stranger, stage.caller]
    assert not stage.stop.look()
    stage.stop.end()
    assert set(stage.active()) == {stage.stranger, stage.caller, *stage.others}
    assert [each.kicks for each in [stage.caller, *stage.others]] == [0, 0, 0]


def test_thread_in_guest_code_is_kicked_until_it_comes() -> None:
    stage = Stage(True, False)
    runner = stage.others[0]
    assert not stage.stop.look()
    assert runner.kicks == 1
    stage.later(3)
    assert runner.kicks == 4
    assert stage.told == []
    runner.runs = False
    assert stage.stop.look()
    stage.later(2)
    assert runner.kicks == 4
    assert stage.told == ["reached"]
    assert stage.stranger.kicks == 0


def test_thread_that_does_not_come_ends_the_stop() -> None:
    stage = Stage(True, False)
    stage.later(30)
    assert stage.told == ["given up"]
    assert set(stage.active()) == {stage.stranger, stage.caller, *stage.others}
    assert stage.timers.next_deadline() is None


def test_thread_that_carries_out_operations_comes_by_itself() -> None:
    stage = Stage(True)
    stage.others[0].reporting = True
    stage.later(3)
    assert stage.others[0].kicks == 1  # the first, before it was said
    assert not stage.stop.look()


def test_parked_thread_that_is_let_go_meanwhile_is_stopped_too() -> None:
    stage = Stage(False)
    waiter = Thread(stage.space, True)
    stage.platform.active[waiter] = None
    assert not stage.stop.look()
    assert waiter not in stage.active()
    stage.later()
    assert waiter.kicks == 1
    waiter.runs = False
    assert stage.stop.look()
    stage.stop.end()
    assert waiter in stage.active()


def test_the_dead_and_the_parked_do_not_become_active() -> None:
    stage = Stage(False, False, False)
    stage.others[0].dead = stage.others[1].parked = True
    stage.stop.look()
    stage.stop.end()
    assert set(stage.active()) == {stage.stranger, stage.caller, stage.others[2]}


@pytest.mark.parametrize("how", ["dead", "another's"])
def test_nothing_is_patched_for_a_caller_that_is_gone(how: str) -> None:
    stage = Stage(True)
    if how == "dead":
        stage.caller.dead = True
    else:
        stage.caller.owner = None
    stage.others[0].runs = False
    assert stage.stop.look()
    assert stage.told == []
    assert stage.stop.ended
    assert stage.others[0] in stage.active()
    assert (stage.caller in stage.active()) is (how != "dead")


def test_end_of_a_stop_that_was_reached_and_never_ended() -> None:
    stage = Stage(False)
    stage.stop.look()
    stage.later(30)
    assert stage.told == ["reached", "given up"]
    assert stage.others[0] in stage.active()


def test_who_is_at_large() -> None:
    stage = Stage(False, True)
    assert others_at_large(stage.caller)
    assert not others_at_large(stage.others[1])
