"""What tests of sockets leave open is closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.sentry.sockets.fake_service import GUESTS


@pytest.fixture(autouse=True)
def ended_guests() -> Iterator[None]:
    """Ends the guests of fake services that the test made."""
    yield
    while GUESTS:
        GUESTS.pop().end()
