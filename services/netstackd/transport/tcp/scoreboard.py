"""What has been sent and not yet acknowledged: one record per transmission, and the SACK scoreboard over them.

Records lie in `endpoint.sent` in order of sequence, without gaps, from SND.UNA to SND.NXT. A record may stand for one
large segment of many MSS; it is split where a SACK block, a loss or a retransmission needs a finer edge, and neighbours
that were both selectively acknowledged are merged, so the list never holds more than the holes need. Three sums are
kept beside it, in bytes: `sacked_bytes`, `lost_bytes`, `retrans_bytes`; the pipe (RFC 6675 4) is what they leave.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

SACKED: Final = 1
LOST: Final = 2  # taken for lost; its retransmission, if there is one, too
RETRANSMITTED: Final = 4  # a retransmission is in flight
EVER_RETRANSMITTED: Final = 8  # Karn's rule: an ack of it says nothing about time
FIN_BIT: Final = 16  # the last sequence number is our FIN
SYN_BIT: Final = 32

LEFT_NETWORK: Final = SACKED | LOST


class Sent:
    """[seq, end) was last sent at `sent_at`, as the `order`-th transmission of the connection; first as `first_order`.

    RACK asks which of two was sent later. A whole batch leaves at one clock reading, so time alone cannot say.
    """

    __slots__ = ("end", "first_order", "flags", "order", "sent_at", "seq")

    def __init__(self, seq: int, end: int, sent_at: int, order: int, flags: int = 0) -> None:
        self.seq = seq
        self.end = end
        self.sent_at = sent_at
        self.order = order
        self.first_order = order
        self.flags = flags

    def __repr__(self) -> str:
        marks = "".join(letter for bit, letter in enumerate("SLREFY") if self.flags >> bit & 1)
        return f"[{self.seq},{self.end}){marks}"


def _sequence(record: Sent) -> int:
    return record.seq


def index_of(sent: list[Sent], seq: int) -> int:
    """The index of the record that holds `seq`, which lies within them."""
    return bisect_right(sent, seq, key=_sequence) - 1


def split(endpoint: Endpoint, index: int, at: int) -> None:
    """Cut the record in two at the sequence number `at`, which lies inside it."""
    record = endpoint.sent[index]
    tail = Sent(at, record.end, record.sent_at, record.order, record.flags & ~SYN_BIT)
    tail.first_order = record.first_order
    record.end = at
    record.flags &= ~FIN_BIT
    endpoint.sent.insert(index + 1, tail)


def mark_lost(endpoint: Endpoint, record: Sent) -> None:
    """Take it for lost, or its retransmission for lost too (RFC 8985 6.2 step 5)."""
    flags = record.flags
    size = record.end - record.seq
    if flags & RETRANSMITTED:
        record.flags = (flags & ~RETRANSMITTED) | LOST
        endpoint.retrans_bytes -= size
        if not flags & LOST:
            endpoint.lost_bytes += size
    elif not flags & LOST:
        record.flags = flags | LOST
        endpoint.lost_bytes += size
    else:
        return
    if record.seq < endpoint.lost_hint:
        endpoint.lost_hint = record.seq


def mark_sacked(endpoint: Endpoint, record: Sent) -> None:
    flags = record.flags
    size = record.end - record.seq
    if flags & LOST:
        endpoint.lost_bytes -= size
    if flags & RETRANSMITTED:
        endpoint.retrans_bytes -= size
    record.flags = (flags & ~(LOST | RETRANSMITTED)) | SACKED
    endpoint.sacked_bytes += size


def forget(endpoint: Endpoint, record: Sent, upto: int) -> None:
    """Take [record.seq, upto) out of the sums: it is cumulatively acknowledged."""
    flags = record.flags
    if flags & (SACKED | LOST | RETRANSMITTED):
        size = upto - record.seq
        if flags & SACKED:
            endpoint.sacked_bytes -= size
        if flags & LOST:
            endpoint.lost_bytes -= size
        if flags & RETRANSMITTED:
            endpoint.retrans_bytes -= size


def merge_sacked(endpoint: Endpoint, index: int) -> int:
    """Merge the sacked record at `index` with sacked neighbours; the index it has then."""
    sent = endpoint.sent
    record = sent[index]
    if index + 1 < len(sent) and sent[index + 1].flags & SACKED:
        _absorb(record, sent.pop(index + 1))
    if index > 0 and sent[index - 1].flags & SACKED:
        _absorb(sent[index - 1], record)
        del sent[index]
        index -= 1
    return index


def _absorb(record: Sent, following: Sent) -> None:
    record.end = following.end
    record.flags |= following.flags
    record.sent_at = max(record.sent_at, following.sent_at)
    record.order = max(record.order, following.order)
    record.first_order = min(record.first_order, following.first_order)


def clear_sacked(endpoint: Endpoint) -> None:
    """The receiver reneged, or may have (RFC 2018 8): nothing counts as received but what SND.UNA says."""
    for record in endpoint.sent:
        record.flags &= ~SACKED
    endpoint.sacked_bytes = 0
    endpoint.highest_sacked = endpoint.snd_una


def pipe(endpoint: Endpoint) -> int:
    """Bytes believed to be in the network (RFC 6675 4)."""
    return endpoint.snd_nxt - endpoint.snd_una - endpoint.sacked_bytes - endpoint.lost_bytes + endpoint.retrans_bytes
