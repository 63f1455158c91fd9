"""HyStart++: leave slow start when the round-trip time rises, before loss says so (RFC 9406).

Rounds are counted by sequence numbers. In conservative slow start (CSS) the window grows at a quarter of the speed; if
the RTT falls back below what it was, slow start goes on, else CSS ends after five rounds. The limit L of section 4.3 is
infinite, as it is where segments are paced by the link or leave as one large one.
"""

from __future__ import annotations

from typing import Final

from services.netstackd.transport.tcp.parameters import MILLISECOND, NEVER

# Section 4.3
MIN_RTT_THRESHOLD: Final = 4 * MILLISECOND
MAX_RTT_THRESHOLD: Final = 16 * MILLISECOND
MIN_RTT_DIVISOR: Final = 8
RTT_SAMPLES: Final = 8
CSS_GROWTH_DIVISOR: Final = 4
CSS_ROUNDS: Final = 5


class HyStart:
    __slots__ = ("_baseline", "_current", "_last", "_round_end", "_rounds", "_samples", "exited", "in_css")

    def __init__(self) -> None:
        self.in_css = False
        self.exited = False
        self._round_end = -1
        self._last = NEVER
        self._current = NEVER
        self._samples = 0
        self._baseline = NEVER
        self._rounds = 0

    def growth(self, acked: int, rtt: int, una: int, nxt: int) -> int:
        """How much of `acked` slow start may add to the window; sets `exited` when slow start has to end."""
        if una > self._round_end:
            self._next_round(nxt)
        if rtt:
            if rtt < self._current:
                self._current = rtt
            self._samples += 1
            if self._samples >= RTT_SAMPLES and self._current != NEVER:
                self._judge()
        return acked // CSS_GROWTH_DIVISOR if self.in_css else acked

    def _next_round(self, nxt: int) -> None:
        self._round_end = nxt
        self._last = self._current
        self._current = NEVER
        self._samples = 0
        if self.in_css:
            self._rounds += 1
            if self._rounds >= CSS_ROUNDS:
                self.exited = True

    def _judge(self) -> None:
        if self.in_css:
            if self._current < self._baseline:
                # The rise was no queue: back to slow start.
                self.in_css = False
                self._baseline = NEVER
            return
        if self._last == NEVER:
            return
        threshold = max(MIN_RTT_THRESHOLD, min(self._last // MIN_RTT_DIVISOR, MAX_RTT_THRESHOLD))
        if self._current >= self._last + threshold:
            self.in_css = True
            self._baseline = self._current
            self._rounds = 0
