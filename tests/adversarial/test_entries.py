"""Other ways into a kernel become guest calls; hostile frames and calls against the platform's ranges gain nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

ENTRIES = (
    "int80_calls x32_calls odd_numbers past_every_filter vsyscall sysenter far_int80 far_syscall far_sysenter"
).split()


@pytest.mark.sandbox
def test_every_entry_leads_to_the_guest_kernel(attack: Callable[..., Any]) -> None:
    outcome = attack("entries", ENTRIES)
    assert [name for name in ENTRIES if not outcome.results.get(name, "").endswith("exit 0")] == [], outcome.text


@pytest.mark.sandbox
def test_hostile_signal_frames(attack: Callable[..., Any]) -> None:
    names = ["frames", "frames_of_the_stub", "altstack_on_slot", "stack_nowhere"]
    outcome = attack("entries", names)
    assert "hangs" not in outcome.text
    assert outcome.results["frames"].endswith("exit 0")
    assert outcome.results["frames_of_the_stub"].endswith("exit 0")


@pytest.mark.sandbox
def test_guest_that_blocks_every_host_signal_can_be_killed(attack: Callable[..., Any]) -> None:
    outcome = attack("entries", ["blocked_spin", "lost_stack"])
    assert "hangs" not in outcome.text
    assert outcome.results["blocked_spin"].endswith("signal 9")
    assert "lost_stack" in outcome.results


@pytest.mark.sandbox
def test_ordinary_calls_against_the_platforms_ranges_are_refused(attack: Callable[..., Any]) -> None:
    outcome = attack("entries", ["ranges"])
    assert outcome.results["ranges"].endswith("exit 0"), outcome.text


@pytest.mark.sandbox
def test_process_sees_its_own_slots_and_nothing_else(attack: Callable[..., Any]) -> None:
    outcome = attack("entries", ["own_region_only", "nothing_else_mapped"])
    assert all(line.endswith("exit 0") for line in outcome.results.values()), outcome.text
