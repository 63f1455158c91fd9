"""Proportional rate reduction: how the window moves to ssthresh during recovery (RFC 9937, before it RFC 6937)."""

from __future__ import annotations


class ProportionalReduction:
    """One episode, from `begin` to the end of recovery. All in bytes."""

    __slots__ = ("delivered", "out", "recover_flight")

    def __init__(self) -> None:
        self.delivered = 0  # prr_delivered
        self.out = 0  # prr_out
        self.recover_flight = 0  # RecoverFS

    def begin(self, flight: int) -> None:
        """`flight`: SND.NXT - SND.UNA (less what is sacked already) when recovery begins (RFC 9937 6.1)."""
        self.delivered = 0
        self.out = 0
        self.recover_flight = flight if flight > 1 else 1

    def window(self, newly_delivered: int, in_flight: int, ssthresh: int, mss: int, safe: bool) -> int:
        """cwnd after an ack that delivered so many bytes.

        safe: the ack moved SND.UNA and told of no further loss (SafeACK), so the pipe may be refilled at slow-start's
        pace; else it is only kept (RFC 9937 6.2).
        """
        self.delivered += newly_delivered
        if in_flight > ssthresh:
            # Proportional part: one ssthresh-th for each RecoverFS-th delivered, rounded up.
            count = -(-self.delivered * ssthresh // self.recover_flight) - self.out
        else:
            count = max(self.delivered - self.out, newly_delivered)
            if safe:
                count += mss
            count = min(ssthresh - in_flight, count)
        if count < mss and not self.out:
            count = mss  # the fast retransmit itself
        return in_flight + max(count, 0)
