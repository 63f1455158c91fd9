"""The world of hosts and routers that tests of netstackd share (networks.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netstack.networks import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """See networks.World."""
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.close()
