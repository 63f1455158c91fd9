"""The sender's congestion states and the moves between them (RFC 5681, 6675, 8985, 9937, 5682, 3168).

    OPEN      nothing unusual
    DISORDER  duplicate acks or SACKs, nothing taken for lost yet
    CWR       the window is being reduced for another reason than loss (ECN echo, a tail probe that repaired)
    RECOVERY  fast retransmit
    LOSS      a retransmission time-out

`high_seq` is SND.NXT at the time a reduction began; the episode ends when it is acknowledged. `undo_marker` and
`undo_retrans` let an episode be taken back when D-SACKs or timestamps show that every retransmission was needless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import rack, scoreboard, timers
from services.netstackd.transport.tcp.parameters import MILLISECOND
from services.netstackd.transport.tcp.scoreboard import LOST, RETRANSMITTED, SACKED
from services.netstackd.transport.tcp.segment import MASK

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

OPEN: Final = 0
DISORDER: Final = 1
CWR: Final = 2
RECOVERY: Final = 3
LOSS: Final = 4

_SACK_RECOVERY = COUNTER["TcpExtTCPSackRecovery"]
_RENO_RECOVERY = COUNTER["TcpExtTCPRenoRecovery"]
_RENEGING = COUNTER["TcpExtTCPSACKReneging"]
_FULL_UNDO = COUNTER["TcpExtTCPFullUndo"]
_PARTIAL_UNDO = COUNTER["TcpExtTCPPartialUndo"]
_DSACK_UNDO = COUNTER["TcpExtTCPDSACKUndo"]
_LOSS_UNDO = COUNTER["TcpExtTCPLossUndo"]
_SPURIOUS_RTO = COUNTER["TcpExtTCPSpuriousRTOs"]
_LOST_RETRANSMIT = COUNTER["TcpExtTCPLostRetransmit"]


# -------------------------------------------------------------------- entering


def enter_window_reduction(endpoint: Endpoint, delivered: int, now: int) -> None:
    """Reduce once for this window of data, with nothing to retransmit (RFC 3168 6.1.2)."""
    if endpoint.ca_state >= CWR:
        return
    endpoint.undo_marker = -1
    _begin_reduction(endpoint, delivered, now)
    endpoint.ca_state = CWR


def _begin_reduction(endpoint: Endpoint, delivered: int, now: int) -> None:
    """`delivered`: bytes that the ack which caused it has delivered; they count as in flight (RFC 9937 6.1)."""
    endpoint.high_seq = endpoint.snd_nxt
    endpoint.tail_probe_end = 0
    endpoint.prr.begin(endpoint.snd_nxt - endpoint.snd_una - endpoint.sacked_bytes + delivered)
    endpoint.cc.on_congestion(now)
    if endpoint.ecn_ok:
        endpoint.ecn_cwr_due = True


def enter_recovery(endpoint: Endpoint, delivered: int, now: int) -> None:
    endpoint.counters[_SACK_RECOVERY if endpoint.sack_ok else _RENO_RECOVERY] += 1
    _init_undo(endpoint)
    if endpoint.ca_state < CWR:
        _begin_reduction(endpoint, delivered, now)
    else:
        endpoint.high_seq = endpoint.snd_nxt  # already reducing: no second reduction
    endpoint.ca_state = RECOVERY


def _init_undo(endpoint: Endpoint) -> None:
    endpoint.undo_marker = endpoint.snd_una
    endpoint.undo_retrans = -1
    endpoint.retrans_stamp = 0


def enter_loss(endpoint: Endpoint, now: int) -> None:
    """The retransmission timer fired (RFC 6298 5.4-5.6, 5681 3.1, 8985 6.3)."""
    fresh = endpoint.ca_state < RECOVERY
    if (
        endpoint.ca_state <= DISORDER
        or endpoint.high_seq <= endpoint.snd_una
        or (endpoint.ca_state == LOSS and not endpoint.retransmits)
    ):
        endpoint.cc.on_congestion(now)
        _init_undo(endpoint)
    endpoint.cc.on_timeout(now)
    _mark_after_timeout(endpoint, now)
    endpoint.reno_dup_acks = 0
    endpoint.cc.cwnd = scoreboard.pipe(endpoint) + endpoint.mss
    endpoint.ca_state = LOSS
    endpoint.high_seq = endpoint.snd_nxt
    endpoint.tail_probe_end = 0
    endpoint.hold_retransmissions = False
    if endpoint.ecn_ok:
        endpoint.ecn_cwr_due = True
    # RFC 5682 2.1 (1): only where this flight was not retransmitted already, or the time-out is a repeated one.
    endpoint.frto = endpoint.p.frto and (fresh or endpoint.retransmits > 0)


def _mark_after_timeout(endpoint: Endpoint, now: int) -> None:
    """RFC 8985 6.3: the first segment is lost, and every one whose time is over; later ones may still arrive."""
    sent = endpoint.sent
    if sent and sent[0].flags & SACKED:
        # The peer reported the first one and yet does not acknowledge it: it threw the data away (RFC 2018 8).
        endpoint.counters[_RENEGING] += 1
        scoreboard.clear_sacked(endpoint)
    if not endpoint.sack_ok:
        endpoint.sacked_bytes = 0
    # Header prediction does not keep RACK.rtt up to date; the latest sample does as well.
    allowed = max(endpoint.rack.rtt, endpoint.rtt.latest) + rack.reordering_window(endpoint)
    for index, record in enumerate(sent):
        flags = record.flags
        if flags & SACKED:
            continue
        if index and endpoint.sack_ok and record.sent_at + allowed > now:
            continue
        if flags & RETRANSMITTED and flags & LOST:
            endpoint.counters[_LOST_RETRANSMIT] += 1
        scoreboard.mark_lost(endpoint, record)
    endpoint.lost_hint = endpoint.snd_una


# -------------------------------------------------------------------- during


def on_ack(
    endpoint: Endpoint, acked: int, delivered: int, original: bool, newly_sacked: bool, duplicate: bool, now: int
) -> None:
    """One ack outside the fast path.

    acked      bytes by which SND.UNA moved
    delivered  bytes newly known to have arrived (cumulative and selective)
    original   something never retransmitted and sent before the time-out was among them
    duplicate  a duplicate ack in the sense of RFC 5681 2
    """
    lost_before = endpoint.lost_bytes
    una = endpoint.snd_una
    if not endpoint.sack_ok:
        # RFC 9937 6.2: without SACK a duplicate ack stands for one segment delivered.
        before = endpoint.sacked_bytes
        _count_duplicates(endpoint, acked, duplicate)
        delivered = max(delivered + endpoint.sacked_bytes - before, 0)
    state = endpoint.ca_state
    if state >= CWR and una >= endpoint.high_seq and state != LOSS:
        if state == CWR:
            if una > endpoint.high_seq or not endpoint.sent:
                _complete(endpoint, now)
        elif _leave_recovery(endpoint, now):
            return
        state = endpoint.ca_state
    if state == LOSS:
        _during_loss(endpoint, acked, original, newly_sacked, duplicate, now)
        _detect(endpoint, now)
    elif state == RECOVERY:
        if acked and _undo_partial(endpoint, now):
            return
        if acked and not endpoint.sack_ok and endpoint.sent:
            scoreboard.mark_lost(endpoint, endpoint.sent[0])  # RFC 6582 3.2: a partial ack, the next hole
            endpoint.lost_hint = endpoint.snd_una
        _detect(endpoint, now)
    else:
        if endpoint.undo_marker >= 0 and endpoint.undo_retrans == 0:
            _undo(endpoint, now)
            endpoint.counters[_DSACK_UNDO] += 1
        _detect(endpoint, now)
        if endpoint.lost_bytes:
            enter_recovery(endpoint, delivered, now)
        elif state != CWR:
            endpoint.ca_state = DISORDER if endpoint.sacked_bytes else OPEN
            if endpoint.ca_state == OPEN and not endpoint.sacked_bytes:
                endpoint.undo_marker = endpoint.undo_marker if endpoint.undo_retrans > 0 else -1
    if endpoint.ca_state in (CWR, RECOVERY) and delivered:
        safe = acked > 0 and endpoint.lost_bytes <= lost_before
        endpoint.cc.cwnd = endpoint.prr.window(
            delivered, scoreboard.pipe(endpoint), endpoint.cc.ssthresh, endpoint.mss, safe
        )
    elif endpoint.ca_state == RECOVERY and state != RECOVERY:
        endpoint.cc.cwnd = endpoint.prr.window(0, scoreboard.pipe(endpoint), endpoint.cc.ssthresh, endpoint.mss, False)


def _detect(endpoint: Endpoint, now: int) -> None:
    if endpoint.sack_ok:
        timeout = rack.detect(endpoint, now)
        if timeout:
            timers.start_reordering(endpoint, now + timeout)
        elif endpoint.timer == timers.REORDERING:
            timers.rearm(endpoint, now)
    elif endpoint.reno_dup_acks >= endpoint.p.reordering and endpoint.ca_state < RECOVERY and endpoint.sent:
        scoreboard.mark_lost(endpoint, endpoint.sent[0])
        _limit_to_mss(endpoint)


def _limit_to_mss(endpoint: Endpoint) -> None:
    """Without SACK only the first segment is known to be missing."""
    record = endpoint.sent[0]
    if record.end - record.seq > endpoint.mss:
        size = record.end - record.seq - endpoint.mss
        scoreboard.split(endpoint, 0, record.seq + endpoint.mss)
        tail = endpoint.sent[1]
        if tail.flags & LOST and not tail.flags & RETRANSMITTED:
            tail.flags &= ~LOST
            endpoint.lost_bytes -= size


def _count_duplicates(endpoint: Endpoint, acked: int, duplicate: bool) -> None:
    """Without SACK: each duplicate ack says that one more segment has left the network (RFC 5681 3.2, RFC 3042)."""
    mss = endpoint.mss
    if duplicate:
        room = endpoint.snd_nxt - endpoint.snd_una - mss
        if (endpoint.reno_dup_acks + 1) * mss <= max(room, 0) or endpoint.reno_dup_acks < endpoint.p.reordering:
            endpoint.reno_dup_acks += 1
    elif acked:
        if endpoint.ca_state == RECOVERY and endpoint.snd_una < endpoint.high_seq:
            endpoint.reno_dup_acks = max(endpoint.reno_dup_acks - max(acked // mss - 1, 0), 0)
        else:
            endpoint.reno_dup_acks = 0
    flight = endpoint.snd_nxt - endpoint.snd_una
    endpoint.sacked_bytes = max(min(endpoint.reno_dup_acks * mss, flight - mss - endpoint.lost_bytes), 0)


def _during_loss(endpoint: Endpoint, acked: int, original: bool, newly_sacked: bool, duplicate: bool, now: int) -> None:
    """F-RTO (RFC 5682 3.1), then the end of the episode or more retransmissions."""
    endpoint.hold_retransmissions = False
    recovered = endpoint.snd_una >= endpoint.high_seq
    if acked and _may_undo(endpoint):
        _undo_loss(endpoint, now)
        return
    if endpoint.frto:
        if original and (acked or newly_sacked):
            # (3.b) something sent before the time-out and never again arrived: the time-out was too early.
            endpoint.counters[_SPURIOUS_RTO] += 1
            _undo_loss(endpoint, now)
            return
        if endpoint.snd_nxt > endpoint.high_seq:
            if newly_sacked or duplicate:
                endpoint.frto = False  # (3.a) the new data raised a duplicate ack: the loss was real
        elif acked and not recovered:
            # (2.b) the first ack moved on: send new data rather than retransmit, and watch.
            endpoint.high_seq = endpoint.snd_nxt
            if endpoint.send.end > endpoint.snd_nxt and endpoint.snd_nxt < endpoint.snd_una + endpoint.snd_wnd:
                endpoint.hold_retransmissions = True
                return
            endpoint.frto = False
    if recovered:
        _leave_recovery(endpoint, now)


def _leave_recovery(endpoint: Endpoint, now: int) -> bool:
    """`high_seq` is acknowledged. True when the caller has nothing more to do with this ack."""
    if _may_undo(endpoint):
        endpoint.counters[_LOSS_UNDO if endpoint.ca_state == LOSS else _FULL_UNDO] += 1
        _undo(endpoint, now)
    if endpoint.snd_una == endpoint.high_seq and not endpoint.sack_ok and endpoint.sent:
        # RFC 6582 3.2 step 1: stay until something above is acknowledged, or duplicates would start it again.
        return endpoint.ca_state == RECOVERY
    _complete(endpoint, now)
    return False


def _complete(endpoint: Endpoint, now: int) -> None:
    """The episode is over: the window is ssthresh (RFC 9937 6.3), no burst."""
    cc = endpoint.cc
    if endpoint.ca_state in (CWR, RECOVERY) and endpoint.undo_marker != -2:
        cc.cwnd = max(cc.ssthresh, endpoint.mss)
    if endpoint.ca_state >= RECOVERY:
        endpoint.rack.on_recovery_end()
    if endpoint.undo_retrans > 0 and endpoint.sack_ok:
        pass  # a D-SACK may still say that it was needless
    else:
        cc.on_recovered()
        endpoint.undo_marker = -1
    endpoint.ca_state = DISORDER if endpoint.sacked_bytes else OPEN
    endpoint.frto = False
    endpoint.hold_retransmissions = False
    endpoint.retrans_stamp = 0
    endpoint.reno_dup_acks = 0
    if not endpoint.sack_ok:
        endpoint.sacked_bytes = 0


# -------------------------------------------------------------------- taking back


def _may_undo(endpoint: Endpoint) -> bool:
    return endpoint.undo_marker >= 0 and (endpoint.undo_retrans == 0 or _ack_is_of_original(endpoint))


def _ack_is_of_original(endpoint: Endpoint) -> bool:
    """Eifel (RFC 3522): the timestamp echoed is older than the first retransmission."""
    stamp = endpoint.retrans_stamp
    echo = endpoint.ack_echo
    if not stamp or not endpoint.ts_ok or not echo:
        return False
    sent = (stamp // MILLISECOND + endpoint.ts_offset) & MASK
    return (echo - sent) & 0x80000000 != 0


def _undo(endpoint: Endpoint, now: int) -> None:
    """The window is what it was; nothing counts as lost (RFC 4015)."""
    for record in endpoint.sent:
        record.flags &= ~LOST
    endpoint.lost_bytes = 0
    endpoint.cc.undo(now)
    endpoint.undo_marker = -2
    endpoint.undo_retrans = -1


def _undo_loss(endpoint: Endpoint, now: int) -> None:
    endpoint.counters[_LOSS_UNDO] += 1
    _undo(endpoint, now)
    endpoint.retransmits = 0
    endpoint.backoff = 0
    _complete(endpoint, now)


def _undo_partial(endpoint: Endpoint, now: int) -> bool:
    """A partial ack that answers an original: reordering, not loss."""
    if endpoint.undo_marker >= 0 and _ack_is_of_original(endpoint):
        endpoint.rack.reordering = True
        if endpoint.retrans_bytes:
            return False
        _undo(endpoint, now)
        endpoint.counters[_PARTIAL_UNDO] += 1
        _complete(endpoint, now)
        return True
    return False
