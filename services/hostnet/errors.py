"""What a request of the Sentry may fail with."""

from __future__ import annotations

import os


class Refused(Exception):
    """A request that is not done: errno and why."""

    def __init__(self, number: int, why: str = "") -> None:
        super().__init__(number, why)
        self.number = number
        self.why = why or os.strerror(number).lower()
