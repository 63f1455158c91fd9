"""Round-trip time and the retransmission time-out (RFC 6298), with Linux's floors, and the path's minimum RTT.

RTTVAR is Linux's variant: the mean deviation is tracked per sample, its maximum over a window of data is what the
time-out uses, it falls slowly and never below `rto_min`, so RTO >= SRTT + 200 ms. A sample far below SRTT moves the
deviation an eighth as fast, since RFC 6298's formula would raise the time-out when the path becomes faster. Karn's rule
(3.) is the caller's: it gives no sample of a retransmitted segment, except by timestamps. All times in nanoseconds.
"""

from __future__ import annotations

from typing import Final

from services.netstackd.transport.tcp.parameters import INITIAL_RTO, MILLISECOND, SECOND

MIN_RTT_WINDOW: Final = 300 * SECOND  # tcp_min_rtt_wlen
GRANULARITY: Final = 1 * MILLISECOND


class RttEstimator:
    """srtt is 0 before the first sample. `rto` is without back-off."""

    __slots__ = (
        "_deviation",
        "_deviation_max",
        "_floor",
        "_max_rto",
        "_min_at",
        "_next_update",
        "latest",
        "min_rtt",
        "rto",
        "rttvar",
        "srtt",
    )

    def __init__(self, rto_min: int, rto_max: int) -> None:
        self._floor = rto_min
        self._max_rto = rto_max
        self.srtt = 0
        self.rttvar = 0
        self.latest = 0
        self.rto = INITIAL_RTO
        self.min_rtt = 0
        self._min_at = 0
        self._deviation = 0
        self._deviation_max = 0
        self._next_update = 0  # sequence number: the window of data over which the maximum is taken

    def sample(self, rtt: int, una: int, nxt: int, now: int) -> None:
        """One measurement. `una`/`nxt` are SND.UNA and SND.NXT after the ack that gave it."""
        if rtt <= 0:
            rtt = 1
        self.latest = rtt
        if rtt <= self.min_rtt or not self.min_rtt or now - self._min_at > MIN_RTT_WINDOW:
            self.min_rtt = rtt
            self._min_at = now
        srtt = self.srtt
        if not srtt:
            # RFC 6298 2.2
            self.srtt = rtt
            self._deviation = rtt >> 1
            self.rttvar = self._deviation_max = max(self._deviation, self._floor >> 2)
            self._next_update = nxt
        else:
            # RFC 6298 2.3 with alpha 1/8, beta 1/4
            error = rtt - srtt
            self.srtt = srtt + (error >> 3)
            if error < 0:
                error = -error
                if error > self._deviation:
                    error = self._deviation + ((error - self._deviation) >> 3)
            deviation = self._deviation
            self._deviation = deviation = deviation + ((error - deviation) >> 2)
            if deviation > self._deviation_max:
                self._deviation_max = deviation
                if deviation > self.rttvar:
                    self.rttvar = deviation
            if una > self._next_update:
                if self._deviation_max < self.rttvar:
                    self.rttvar -= (self.rttvar - self._deviation_max) >> 2
                self._next_update = nxt
                self._deviation_max = self._floor >> 2
        rto = self.srtt + (self.rttvar << 2)
        self.rto = rto if rto < self._max_rto else self._max_rto

    def set_after_syn_loss(self, rto: int) -> None:
        """RFC 6298 5.7: the handshake lost a SYN and gave no sample; data starts with 3 seconds."""
        if not self.srtt:
            self.rto = rto

    def backed_off(self, count: int) -> int:
        """RTO after `count` time-outs in a row (RFC 6298 5.5)."""
        rto = self.rto << count if count < 32 else self._max_rto
        return rto if rto < self._max_rto else self._max_rto
