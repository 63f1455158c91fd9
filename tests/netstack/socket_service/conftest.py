"""A world of one router for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netstack.socket_service.client import World


@pytest.fixture
def world() -> Iterator[World]:
    """See client.World."""
    made = World()
    yield made
    made.close()
