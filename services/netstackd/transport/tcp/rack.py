"""RACK: loss told by time (RFC 8985 section 6). A segment is lost when one sent sufficiently later was delivered.

`Rack` is what the algorithm remembers; `detect` is its step 5 over the records of `scoreboard.py`. Tail loss probes
(section 7) are in `tail_probe.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.transport.tcp import scoreboard
from services.netstackd.transport.tcp.parameters import MILLISECOND
from services.netstackd.transport.tcp.scoreboard import EVER_RETRANSMITTED, LOST, RETRANSMITTED, SACKED, Sent

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

DUP_THRESHOLD: Final = 3
WINDOW_PERSIST: Final = 16  # recoveries for which a widened window is kept


class Rack:
    """Names as in section 5.2, without the prefix."""

    __slots__ = ("_dsack_round", "order", "reo_wnd_mult", "reo_wnd_persist", "reordering", "rtt", "segs")

    def __init__(self, reordering: int) -> None:
        self.order = -1  # of the most recently sent among the delivered (RACK.xmit_ts and end_seq in one)
        self.rtt = 0
        self.reordering = False  # RACK.reordering_seen
        self.reo_wnd_mult = 1
        self.reo_wnd_persist = 0
        self._dsack_round = -1
        self.segs = reordering

    def on_delivered(self, record: Sent, min_rtt: int, echo_age: int, now: int) -> None:
        """Step 2: one record is newly (selectively) acknowledged.

        echo_age: how old the segment is that the ack's timestamp answers, ns; -1 without timestamps.
        """
        sent_at = record.sent_at
        rtt = now - sent_at
        if record.flags & EVER_RETRANSMITTED:
            # The ack may be of the original: the timestamp says so, or it came faster than any round trip could.
            if echo_age > rtt + MILLISECOND or rtt < min_rtt:
                return
        if record.order > self.order:
            self.order = record.order
            self.rtt = rtt
        elif not self.rtt:
            self.rtt = rtt

    def on_dsack(self, una: int, nxt: int) -> None:
        """Step 4: a retransmission was needless; widen the window once a round trip."""
        if una >= self._dsack_round:
            self._dsack_round = nxt
            self.reo_wnd_mult = min(self.reo_wnd_mult + 1, 255)
            self.reo_wnd_persist = WINDOW_PERSIST

    def on_recovery_end(self) -> None:
        if self.reo_wnd_persist:
            self.reo_wnd_persist -= 1
            if not self.reo_wnd_persist:
                self.reo_wnd_mult = 1


def reordering_window(endpoint: Endpoint) -> int:
    """Step 4: RACK.reo_wnd in nanoseconds."""
    rack = endpoint.rack
    if not rack.reordering and (endpoint.ca_state >= 3 or endpoint.sacked_bytes >= DUP_THRESHOLD * endpoint.mss):
        return 0
    return min(rack.reo_wnd_mult * (endpoint.rtt.min_rtt >> 2), endpoint.rtt.srtt)


def detect(endpoint: Endpoint, now: int) -> int:
    """Step 5: mark what is lost; nanoseconds until the next record would be, 0 when none waits."""
    rack = endpoint.rack
    if not rack.rtt:
        return 0
    allowed = rack.rtt + reordering_window(endpoint)
    order = rack.order
    timeout = 0
    for record in endpoint.sent:
        flags = record.flags
        if flags & SACKED or flags & (LOST | RETRANSMITTED) == LOST:
            continue
        if record.order > order:
            if record.first_order > order:
                break  # everything behind it was sent later still
            continue
        remaining = record.sent_at + allowed - now
        if remaining <= 0:
            scoreboard.mark_lost(endpoint, record)
        elif remaining > timeout:
            timeout = remaining
    return timeout
