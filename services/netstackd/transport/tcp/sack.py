"""Selective acknowledgements received: the blocks of an ack applied to the scoreboard (RFC 2018, 2883, 6675).

Blocks are a peer's claims. One that lies outside SND.UNA..SND.NXT, or is empty, is ignored (RFC 2883 4; Linux's
tcp_is_sackblock_valid); the first may be a D-SACK, which reports a duplicate and never data newly received.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import scoreboard
from services.netstackd.transport.tcp.scoreboard import EVER_RETRANSMITTED, RETRANSMITTED, SACKED, index_of
from services.netstackd.transport.tcp.segment import MASK

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.wire.tcp_options import SackBlocks

_DSACK_RECV = COUNTER["TcpExtTCPDSACKRecv"]
_DSACK_OFO_RECV = COUNTER["TcpExtTCPDSACKOfoRecv"]
_REORDER = COUNTER["TcpExtTCPSACKReorder"]

SOMETHING_NEW = 1  # a record became sacked
ORIGINAL = 2  # one that was never retransmitted, sent before the time-out
DSACK = 4


def widen(wire: int, near: int) -> int:
    """The unwrapped number whose low 32 bits are `wire` and which is closest to `near`."""
    distance = (wire - near) & MASK
    return near + (distance - 0x100000000 if distance & 0x80000000 else distance)


def apply(endpoint: Endpoint, blocks: SackBlocks, ack: int, echo_age: int, now: int) -> int:
    """Mark what `blocks` report; bits of the above. `ack` is the segment's, unwrapped; the records are still those
    from SND.UNA on."""
    una = endpoint.snd_una
    nxt = endpoint.snd_nxt
    highest = endpoint.highest_sacked
    result = 0
    for index, (left, right) in enumerate(blocks):
        start = widen(left, una)
        end = widen(right, una)
        if start >= end:
            continue
        if index == 0 and _is_dsack(endpoint, blocks, start, end, ack):
            result |= DSACK
            continue
        if end > nxt or end <= ack or end <= una:
            continue
        result |= _mark(endpoint, max(start, una, ack), end, highest, echo_age, now)
    return result


def _is_dsack(endpoint: Endpoint, blocks: SackBlocks, start: int, end: int, ack: int) -> bool:
    """RFC 2883 4: the first block lies below the cumulative ack, or inside the second block."""
    counters = endpoint.counters
    if start < ack:
        counters[_DSACK_RECV] += 1
    else:
        if len(blocks) < 2:
            return False
        second_start = widen(blocks[1][0], endpoint.snd_una)
        second_end = widen(blocks[1][1], endpoint.snd_una)
        if start < second_start or end > second_end:
            return False
        counters[_DSACK_OFO_RECV] += 1
    # A duplicate of something older than the reduction says nothing about it; far older is no D-SACK of ours.
    if start < ack - endpoint.max_window or end > endpoint.snd_nxt:
        return True
    endpoint.rack.on_dsack(endpoint.snd_una, endpoint.snd_nxt)
    endpoint.rack.reordering = True
    if endpoint.undo_marker >= 0 and endpoint.undo_retrans > 0 and start >= endpoint.undo_marker:
        count = max(-(-(end - start) // endpoint.mss), 1)
        endpoint.undo_retrans = max(endpoint.undo_retrans - count, 0)
    return True


def _mark(endpoint: Endpoint, start: int, end: int, highest: int, echo_age: int, now: int) -> int:
    """Mark [start, end), splitting records at its edges; merge what then lies side by side."""
    sent = endpoint.sent
    index = index_of(sent, start)
    result = 0
    min_rtt = endpoint.rtt.min_rtt
    while index < len(sent):
        record = sent[index]
        if record.seq >= end:
            break
        if record.flags & SACKED:
            index += 1
            continue
        if record.seq < start:
            if record.end <= start:
                index += 1
                continue
            scoreboard.split(endpoint, index, start)
            index += 1
            record = sent[index]
        if record.end > end:
            scoreboard.split(endpoint, index, end)
        _note_order(endpoint, record, highest)
        endpoint.rack.on_delivered(record, min_rtt, echo_age, now)
        result |= SOMETHING_NEW
        if not record.flags & EVER_RETRANSMITTED and record.end <= endpoint.high_seq:
            result |= ORIGINAL
        scoreboard.mark_sacked(endpoint, record)
        if record.end > endpoint.highest_sacked:
            endpoint.highest_sacked = record.end
        index = scoreboard.merge_sacked(endpoint, index) + 1
    return result


def _note_order(endpoint: Endpoint, record: scoreboard.Sent, highest: int) -> None:
    """RFC 8985 6.2 step 3: data sent before what an earlier ack had sacked, and never sent again, arrived after it."""
    if record.end < highest and not record.flags & (EVER_RETRANSMITTED | RETRANSMITTED):
        note_reordering(endpoint, highest - record.seq)


def note_reordering(endpoint: Endpoint, distance: int) -> None:
    if not endpoint.rack.reordering:
        endpoint.rack.reordering = True
    endpoint.counters[_REORDER] += 1
    endpoint.reordering_seen += 1
    segments = min(-(-distance // endpoint.mss), endpoint.p.max_reordering)
    endpoint.rack.segs = max(endpoint.rack.segs, segments)
