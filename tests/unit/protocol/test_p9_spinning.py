"""The choice between spinning and sleeping follows what was measured."""

from __future__ import annotations

import os

import pytest

from protocol.p9.spinning import SpinChoice


def share_of_spins(spin_ns: int, sleep_ns: int, choice: SpinChoice) -> float:
    for _ in range(2000):
        spun = choice.spins()
        choice.learn(spun, spin_ns if spun else sleep_ns)
    spins = 0
    for _ in range(1280):
        spun = choice.spins()
        spins += spun
        choice.learn(spun, spin_ns if spun else sleep_ns)
    return spins / 1280


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch) -> SpinChoice:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    return SpinChoice()


def test_spins_while_spinning_is_faster_and_stops_when_it_is_not(choice: SpinChoice) -> None:
    assert share_of_spins(5_000, 40_000, choice) > 0.95
    assert share_of_spins(120_000, 13_000, choice) < 0.05
    assert share_of_spins(5_000, 40_000, choice) > 0.95


def test_idle_waits_do_not_spin(choice: SpinChoice) -> None:
    assert share_of_spins(10**9, 10**9, choice) < 0.05


def test_single_processor_never_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert share_of_spins(5_000, 40_000, SpinChoice()) == 0
