"""Whether to spin for a message or to sleep for it, learnt from how long both took lately. Sans-IO.

Sleeping costs two context switches, which on an idle virtual machine are most of a round trip; spinning saves them
when the peer has a processor of its own, and is ruinous when it waits for ours. Neither is known beforehand, so both
are measured: a running median of the wait for each way, the better one is taken, and a few calls in a hundred try the
other.
"""

from __future__ import annotations

import os
from typing import Final

SPIN_TRIES: Final = 40  # empty receives, about a microsecond each, before a spin gives in and sleeps

_CLAMP_NS: Final = 200_000  # waits beyond are idleness and tell nothing
_START_NS: Final = 40_000
_PERIOD: Final = 128
_PROBES: Final = 4  # of a period, in a row: the peer's habits show in consecutive calls


class SpinChoice:
    """One side's choice. Per wait: `spins()`, then `learn()` with how long it took. Single-threaded."""

    __slots__ = ("_alone", "_sleep_ns", "_spin_ns", "_turn")

    def __init__(self) -> None:
        self._turn = _PERIOD - 2 * _PROBES
        self._spin_ns = _START_NS
        self._sleep_ns = _START_NS
        self._alone = len(os.sched_getaffinity(0)) < 2  # whoever we wait for could not run meanwhile

    def spins(self) -> bool:
        """Whether the coming wait should spin."""
        self._turn = turn = (self._turn + 1) % _PERIOD
        if self._alone:
            return False
        better = self._spin_ns * 5 < self._sleep_ns * 4  # a spin burns a processor: it must be clearly better
        return better != (turn >= _PERIOD - _PROBES)

    def learn(self, spun: bool, waited_ns: int) -> None:
        """What a wait took. A running median: robust against the odd wait that was interrupted or idle."""
        waited_ns = min(waited_ns, _CLAMP_NS)
        if spun:
            step = (self._spin_ns >> 3) + 1
            self._spin_ns += step if waited_ns > self._spin_ns else -step
        else:
            step = (self._sleep_ns >> 3) + 1
            self._sleep_ns += step if waited_ns > self._sleep_ns else -step
