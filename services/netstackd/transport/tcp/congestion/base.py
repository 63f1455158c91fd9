"""What a congestion control algorithm is to the rest of TCP.

A controller owns the congestion window and the slow-start threshold, in bytes, and is told of what happens; it does not
know sequence numbers' meaning, timers or segments. While the connection recovers from a loss `prr.py` moves the window
towards `ssthresh`; `on_ack` is not called then. A new algorithm is one subclass in one file and a row in `registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

UNLIMITED: Final = 1 << 40  # the initial ssthresh: as high as can be (RFC 5681 3.1)
MIN_WINDOW_SEGMENTS: Final = 2  # the loss window's floor after a reduction (RFC 5681 equation 4)


class Controller(ABC):
    """cwnd and ssthresh are bytes; mss is the size of a full segment's payload."""

    __slots__ = ("_prior_cwnd", "_prior_ssthresh", "cwnd", "mss", "ssthresh")

    name: ClassVar[str] = ""

    def __init__(self, mss: int, initial_segments: int) -> None:
        self.mss = mss
        self.cwnd = initial_segments * mss
        self.ssthresh = UNLIMITED
        self._prior_cwnd = 0
        self._prior_ssthresh = 0

    @abstractmethod
    def on_ack(self, acked: int, rtt: int, now: int, una: int, nxt: int) -> None:
        """`acked` new bytes are acknowledged outside of recovery while the window was what limited the sender.

        rtt: nanoseconds, 0 when this ack gave no sample. una, nxt: SND.UNA and SND.NXT, for counting rounds.
        """

    @abstractmethod
    def reduced_window(self, now: int) -> int:
        """The window that a congestion event leaves, in bytes; may note the event."""

    def on_congestion(self, now: int) -> None:
        """Loss or ECN echo: set ssthresh, remembering what stood before for `undo`. cwnd is left to the caller."""
        self._prior_cwnd = self.cwnd
        self._prior_ssthresh = self.ssthresh
        self.ssthresh = max(self.reduced_window(now), MIN_WINDOW_SEGMENTS * self.mss)

    def on_timeout(self, now: int) -> None:  # noqa: B027 - most algorithms have nothing to add
        """A retransmission time-out began (after `on_congestion`): forget measurements that no longer hold."""

    def undo(self, now: int) -> None:
        """The congestion event was spurious (RFC 4015 3.2, 5682): back to what stood before it."""
        if self._prior_cwnd:
            self.cwnd = max(self.cwnd, self._prior_cwnd)
            self.ssthresh = max(self.ssthresh, self._prior_ssthresh)
        self._prior_cwnd = 0

    def on_recovered(self) -> None:
        """The recovery ended and was not spurious: nothing to undo any more."""
        self._prior_cwnd = 0

    def on_idle(self, idle: int, rto: int, restart_window: int) -> None:
        """Nothing was sent for `idle` ns: the window decays to the restart window, half for each RTO (RFC 5681 4.1)."""
        self.ssthresh = (
            max(self.ssthresh, (self.cwnd >> 1) + (self.cwnd >> 2)) if self.ssthresh != UNLIMITED else UNLIMITED
        )
        floor = min(restart_window, self.cwnd)
        cwnd = self.cwnd
        while idle > rto and cwnd > floor:
            cwnd >>= 1
            idle -= rto
        self.cwnd = max(cwnd, floor)

    def on_send_after_idle(self, idle: int) -> None:  # noqa: B027
        """Sending goes on after `idle` ns with nothing in flight: time that does not count as growing."""

    def set_mss(self, mss: int) -> None:
        """The path's segment size changed. The window keeps its number of segments."""
        if mss != self.mss:
            self.cwnd = max(self.cwnd // self.mss, 1) * mss
            if self.ssthresh != UNLIMITED:
                self.ssthresh = max(self.ssthresh // self.mss, MIN_WINDOW_SEGMENTS) * mss
            self.mss = mss

    def in_slow_start(self) -> bool:
        return self.cwnd < self.ssthresh
