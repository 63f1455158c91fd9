"""The log of what a new program's stub changed is a guest's to scribble on: what no stub writes ends its process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

DIE = (
    "too_many entry_on_stub entry_kernel entry_wraps entry_gives entry_odd entry_outside entry_offset entry_new "
    "entry_removed entry_new_file entry_opened own_window own_gap own_removable endless"
).split()
FINE = (
    "window_on_stub arena_in_window removed_stub never_done told_nonsense own_opened own_ahead robbed_process".split()
)


@pytest.mark.sandbox
def test_what_no_stub_can_have_written_kills_its_process_and_no_other(attack: Callable[..., Any]) -> None:
    outcome = attack("changes", DIE)
    assert [name for name in DIE if not outcome.results.get(name, "").endswith("signal 9")] == [], outcome.text


@pytest.mark.sandbox
def test_lies_that_could_be_true_harm_nobody(attack: Callable[..., Any]) -> None:
    outcome = attack("changes", FINE)
    assert [name for name in FINE if not outcome.results.get(name, "").endswith("exit 0")] == [], outcome.text


@pytest.mark.sandbox
def test_scribbling_in_a_race_harms_nobody_else(attack: Callable[..., Any]) -> None:
    outcome = attack("changes", ["race_reader"])
    assert len(outcome.results) == 1, outcome.text
    assert "hangs" not in outcome.text
