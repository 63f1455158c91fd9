"""What the stub answers itself gives a guest nothing: not by lies, not by races, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

FINE = (
    "wild_buffers forged_rows lies_about_times after_close in_the_child only_what_was_opened hidden race_dup2 "
    "race_close race_sink forged_answer race_answers"
).split()


@pytest.mark.sandbox
@pytest.mark.parametrize("name", FINE)
def test_nothing_is_gained_and_everything_still_works(attack: Callable[..., Any], name: str) -> None:
    outcome = attack("published", [name])
    assert outcome.results[name] == f"{name} exit 0", outcome.text


@pytest.mark.sandbox
def test_rows_of_ones_own_and_wild_registers_harm_nobody_else(attack: Callable[..., Any]) -> None:
    outcome = attack("published", ["own_rows", "entries"])
    assert len(outcome.results) == 2, outcome.text
    assert "hangs" not in outcome.text
