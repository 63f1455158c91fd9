"""The machine every test of the kernel runs on."""

from __future__ import annotations

import pytest

from tests.unit.sentry.kernel.fakes import Machine


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr("services.sentry.kernel.clone.start_child", made.start_child)
    return made
