"""The Sentry as a process: what its user hears of a bug."""

from __future__ import annotations

from typing import Any

from services.sentry.app import _Sentry
from tests.unit.sentry.kernel.fakes import Machine


class Heard:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notify(self, method: str, *params: str) -> None:
        assert method == "report"
        self.texts += params


def test_a_bug_is_told_to_the_user_but_not_for_ever() -> None:
    sentry: Any = _Sentry.__new__(_Sentry)
    task = Machine().init
    task.comm = b"name\xff\n"
    sentry.kernel, sentry.control, sentry._bugs = task.kernel, Heard(), 0
    for _ in range(100):
        sentry._oops(task, KeyError("x" * 10_000))
    assert 1 < len(sentry.control.texts) < 10
    told = sentry.control.texts[0]
    assert told.startswith(
        r"supervisor: warning: bug while serving name\xff\x0a (pid 1), which is killed: KeyError: 'xxx"
    )
    assert "\n" not in told and len(told) < 2000
