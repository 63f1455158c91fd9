"""Slots are the guest's to write: garbage, forged events and races with what was posted end only its process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

ANY = (
    "zeros garbage garbage_then_fork gs_base gs_of_another_thread fork_never fork_child_of_own_making "
    "fork_result_of_others fork_result_of_own"
).split()
RACES = "race_mmap race_clone_child race_ops race_ops_fork race_slot race_clone_flags race_command race_stop".split()
LOANS = "loan_jump loan_sizes loan_garbage loan_unmaps loan_keeps".split()
FORGED = "kinds kinds_huge_number kinds_odd_number ucontexts".split()


@pytest.mark.sandbox
def test_what_is_read_only_stays_so(attack: Callable[..., Any]) -> None:
    outcome = attack("slots", ["write_text", "write_global"])
    assert all(line.endswith("signal 11") for line in outcome.results.values()), outcome.text


@pytest.mark.sandbox
def test_events_that_nobody_asked_for_kill(attack: Callable[..., Any]) -> None:
    outcome = attack("slots", ["ops_done_unasked", "frame_taken_unasked", "unknown_kind", "own_mask"])
    assert all(line.endswith("signal 9") for line in outcome.results.values()), outcome.text


@pytest.mark.sandbox
def test_garbage_in_the_slots_harms_only_its_process(attack: Callable[..., Any]) -> None:
    outcome = attack("slots", ANY)
    assert len(outcome.results) == len(ANY), outcome.text
    assert "hangs" not in outcome.text


@pytest.mark.sandbox
def test_a_child_in_its_parents_memory_harms_nobody_else(attack: Callable[..., Any]) -> None:
    outcome = attack("slots", LOANS)
    assert len(outcome.results) == len(LOANS), outcome.text
    assert "hangs" not in outcome.text
    assert outcome.results["loan_jump"].endswith("signal 9")
    assert outcome.results["loan_keeps"].endswith("exit 0")


@pytest.mark.sandbox
def test_forged_events_of_every_kind(attack: Callable[..., Any]) -> None:
    outcome = attack("slots", FORGED)
    assert all(line.endswith("exit 0") for line in outcome.results.values()), outcome.text


@pytest.mark.sandbox
def test_forged_system_calls_of_every_number(attack: Callable[..., Any]) -> None:
    outcome = attack("slots", ["numbers_a", "numbers_b", "numbers_c", "numbers_fast"])
    assert all(line.endswith("exit 0") for line in outcome.results.values()), outcome.text


@pytest.mark.sandbox
def test_racing_threads_change_nothing_that_was_posted(attack: Callable[..., Any]) -> None:
    outcome = attack("slots", RACES)
    assert len(outcome.results) == len(RACES), outcome.text
    assert "hangs" not in outcome.text
