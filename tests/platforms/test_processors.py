"""Which processors guest threads may use, and futex words that patched calls bring along: no guest runs here."""

from __future__ import annotations

import os
from typing import Any

import pytest

from platforms.systrap import layout
from platforms.systrap.systrap_platform import _LATER as LATER
from platforms.systrap.systrap_platform import SystrapAddressSpace, SystrapPlatform


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    made: Any = SystrapPlatform()
    made.places = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda tid, mask: made.places.append((tid, set(mask))))
    return made


def context_of(platform: Any, tid: int) -> Any:
    space = SystrapAddressSpace(platform, platform.arena.allocate())
    made = platform._prepare(space, space.take_slot())
    made.tid = tid
    return made


def test_parked_threads_go_on_beside_the_reserved_processor(platform: Any) -> None:
    first, second = context_of(platform, 11), context_of(platform, 12)
    first.resume(0)
    platform.reserve(1)
    second.resume(0)
    assert platform.places == [(12, {0, 2})]  # who was parked; who runs stays where it is
    second.park()
    second.resume(0)
    assert len(platform.places) == 1  # it is there already
    platform.reserve(0)
    second.park()
    second.resume(0)
    assert platform.places[1:] == [(12, {1, 2})]


def test_threads_that_run_get_every_processor_back(platform: Any) -> None:
    running, parked = context_of(platform, 11), context_of(platform, 12)
    platform.reserve(1)
    running.resume(0)
    parked.resume(0)
    parked.park()
    del platform.places[:]
    platform.reserve(-1)
    assert platform.places == [(11, {0, 1, 2})]
    parked.resume(0)
    assert platform.places[1:] == [(12, {0, 1, 2})]


def test_a_thread_that_is_gone_harms_nobody(platform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(tid: int, mask: Any) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    context = context_of(platform, 11)
    platform.reserve(1)
    context.resume(0)
    assert context.in_guest


def test_never_our_own_processors(platform: Any) -> None:
    platform.reserve(1)
    context_of(platform, 0).resume(0)  # not started: 0 would mean this thread
    assert platform.places == []


def test_a_forking_thread_gives_way_to_its_child_which_goes_on_before_all_is_told(
    platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = context_of(platform, 11)
    order: list[Any] = []
    monkeypatch.setattr(platform, "_respond", lambda ident, verdict: order.append((ident, verdict)))
    monkeypatch.setattr(platform, "_may_be", lambda child, pid: True)
    copy = platform.fork_space(parent, order.append, held=True)
    (child,) = platform._children.values()
    assert parent.in_guest  # it clones itself
    parent.in_guest = False
    platform._parent_done(child, [77])
    assert platform.u32[parent.state_i] == layout.BLOCKED
    assert order == []
    ip, args = platform._expected_of_child(child)
    assert platform._judge_child(77, ip, args, 5) == LATER
    assert order == [(5, None), 77]
    assert copy.tid == 77
    parent.resume(77)
    assert parent in platform.active


def test_a_word_is_good_until_a_wake_up_is_served(platform: Any) -> None:
    context = context_of(platform, 11)

    def bring(word: int) -> None:
        wakes = platform.u32[layout.WAKES // 4]
        platform.u32[(context.at + layout.WORD) // 4] = word
        platform.u32[(context.at + layout.WORD_WAKES) // 4] = wakes

    assert context.brought_word() is None
    bring(0xFFFFFFFF)
    assert context.brought_word() == 0xFFFFFFFF
    platform.note_wake()
    assert context.brought_word() is None
    bring(0)
    assert context.brought_word() == 0


def test_the_count_of_wake_ups_never_means_that_nothing_came(platform: Any) -> None:
    platform.wakes = 0xFFFFFFFF
    platform.note_wake()
    assert platform.u32[layout.WAKES // 4] == platform.wakes != 0
