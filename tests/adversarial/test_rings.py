"""Streams and eventfds that lie in memory which all who have them write: one can spoil its own, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

FINE = (
    "words_of_ones_own polls_of_ones_own the_other_end forged_reports in_a_child taken_away asleep_by_ones_own_row"
    " counters_of_ones_own killed_between"
).split()


@pytest.mark.sandbox
@pytest.mark.parametrize("name", FINE)
def test_nothing_is_gained_and_everything_still_works(attack: Callable[..., Any], name: str) -> None:
    outcome = attack("rings", [name])
    assert outcome.results[name] == f"{name} exit 0", outcome.text
