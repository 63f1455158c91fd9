"""The log of local mappings is a guest's to scribble on: what no stub writes ends its process, nothing is gained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

DIE = (
    "too_many entry_low entry_high entry_kernel entry_on_stub entry_executable entry_up own_grant own_grant_over_text "
    "unmap_stub own_advice kept_beyond"
).split()
FINE = "never_mapped forgotten kept_lies beyond_limits honest_reader".split()


@pytest.mark.sandbox
def test_what_no_stub_can_have_written_kills_its_process_and_no_other(attack: Callable[..., Any]) -> None:
    outcome = attack("maps", DIE)
    assert [name for name in DIE if not outcome.results.get(name, "").endswith("signal 9")] == [], outcome.text


@pytest.mark.sandbox
def test_lies_that_could_be_true_harm_nobody(attack: Callable[..., Any]) -> None:
    outcome = attack("maps", FINE)
    assert [name for name in FINE if not outcome.results.get(name, "").endswith("exit 0")] == [], outcome.text


@pytest.mark.sandbox
def test_scribbling_in_a_race_harms_nobody_else(attack: Callable[..., Any]) -> None:
    outcome = attack("maps", ["race_threads", "race_reader"])
    assert len(outcome.results) == 2, outcome.text
    assert "hangs" not in outcome.text
