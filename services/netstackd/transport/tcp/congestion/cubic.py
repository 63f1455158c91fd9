"""CUBIC (RFC 9438) with HyStart++ (RFC 9406) for slow start. Windows are in segments inside, times in seconds."""

from __future__ import annotations

from typing import ClassVar, Final

from services.netstackd.transport.tcp.congestion.base import Controller
from services.netstackd.transport.tcp.congestion.hystart import HyStart

BETA: Final = 0.7  # section 4.6
C: Final = 0.4  # section 5.1
RENO_ALPHA: Final = 3 * (1 - BETA) / (1 + BETA)  # section 4.3


class Cubic(Controller):
    __slots__ = ("_credit", "_epoch", "_k", "_start", "_w_est", "_w_max", "_w_prior", "hystart")

    name: ClassVar[str] = "cubic"

    def __init__(self, mss: int, initial_segments: int) -> None:
        super().__init__(mss, initial_segments)
        self.hystart: HyStart | None = HyStart()
        self._epoch = 0  # ns; 0: congestion avoidance has not begun since the last event
        self._k = 0.0
        self._start = 0.0  # cwnd at the epoch's beginning
        self._w_max = 0.0
        self._w_prior = 0.0
        self._w_est = 0.0
        self._credit = 0.0  # part of a byte not yet added

    def on_ack(self, acked: int, rtt: int, now: int, una: int, nxt: int) -> None:
        cwnd = self.cwnd
        if cwnd < self.ssthresh:
            hystart = self.hystart
            if hystart is None:
                grown = cwnd + acked
            else:
                grown = cwnd + hystart.growth(acked, rtt, una, nxt)
                if hystart.exited:
                    # RFC 9406 4.2: ssthresh = cwnd, and congestion avoidance from here.
                    self.ssthresh = cwnd
                    self.hystart = None
            if grown <= self.ssthresh:
                self.cwnd = grown
                return
            acked = grown - self.ssthresh
            self.cwnd = cwnd = max(self.ssthresh, cwnd)
        self._avoid(cwnd / self.mss, acked, rtt, now)

    def _avoid(self, window: float, acked: int, rtt: int, now: int) -> None:
        """Section 4.2 to 4.5, for `acked` bytes."""
        if not self._epoch:
            self._begin_epoch(window, now)
        t = (now - self._epoch) / 1e9
        distance = t - self._k
        w_cubic = C * distance * distance * distance + self._w_max
        # 4.3: what Reno would have reached; growth as Reno's once it is where the last event happened.
        alpha = 1.0 if self._w_est >= self._w_prior else RENO_ALPHA
        self._w_est += alpha * acked / (window * self.mss)
        if w_cubic < self._w_est:
            if self._w_est > window:
                self.cwnd = int(self._w_est * self.mss)
            return
        distance += rtt / 1e9
        target = C * distance * distance * distance + self._w_max
        if target > 1.5 * window:
            target = 1.5 * window
        if target > window:
            self._credit += acked * (target - window) / window
            whole = int(self._credit)
            self._credit -= whole
            self.cwnd += whole

    def _begin_epoch(self, window: float, now: int) -> None:
        self._epoch = now
        self._start = self._w_est = window
        if window < self._w_max:
            self._k = ((self._w_max - window) / C) ** (1 / 3)
        else:
            self._k = 0.0
            self._w_max = window

    def reduced_window(self, now: int) -> int:
        window = self.cwnd / self.mss
        self._epoch = 0
        self._credit = 0.0
        self._w_prior = window
        # 4.7 fast convergence: below the last maximum, leave room for newcomers.
        self._w_max = window * (1 + BETA) / 2 if window < self._w_max else window
        self.hystart = None  # RFC 9406 4.2: for the first slow start alone
        return int(self.cwnd * BETA)

    def on_timeout(self, now: int) -> None:
        # 4.8: after a time-out congestion avoidance begins with K = 0 at the window of that time.
        self._epoch = 0
        self._w_max = 0.0

    def undo(self, now: int) -> None:
        super().undo(now)
        self._epoch = 0
        self._w_max = max(self._w_max, self._w_prior)

    def on_send_after_idle(self, idle: int) -> None:
        # 5.8: a time without sending is not a time of growth.
        if self._epoch:
            self._epoch += idle
