"""The algorithms by the name that TCP_CONGESTION uses."""

from __future__ import annotations

from typing import Final

from services.netstackd.transport.tcp.congestion.base import Controller
from services.netstackd.transport.tcp.congestion.cubic import Cubic
from services.netstackd.transport.tcp.congestion.reno import Reno

ALGORITHMS: Final[dict[str, type[Controller]]] = {algorithm.name: algorithm for algorithm in (Cubic, Reno)}


def make(name: str, mss: int, initial_segments: int) -> Controller:
    """A fresh controller; KeyError for a name that is not there (setsockopt checks it: ENOENT)."""
    return ALGORITHMS[name](mss, initial_segments)
