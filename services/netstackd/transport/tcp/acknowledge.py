"""What an acknowledgement does: the fast path for one that only moves SND.UNA, and the whole for all others."""

from __future__ import annotations

from select import POLLOUT
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import (
    loss_recovery,
    sack,
    scoreboard,
    states,
    tail_probe,
    time_wait,
    timers,
    window,
)
from services.netstackd.transport.tcp.parameters import MILLISECOND, SECOND
from services.netstackd.transport.tcp.scoreboard import EVER_RETRANSMITTED, SACKED
from services.netstackd.transport.tcp.segment import ECE, FIN, MASK, SYN

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.transport.tcp.segment import Segment

_DELIVERED_CE = COUNTER["TcpExtTCPDeliveredCE"]

OK: Final = 0
TOO_OLD: Final = 1  # below what any segment of ours could have asked for (RFC 5961 5.2)
TOO_NEW: Final = 2  # above SND.NXT


def advance(endpoint: Endpoint, acked: int, now: int) -> None:
    """SND.UNA moves by `acked` > 0, nothing is lost or sacked: the common case of a sender."""
    una = endpoint.snd_una + acked
    endpoint.snd_una = una
    endpoint.bytes_acked += acked
    endpoint.delivered += acked
    sent = endpoint.sent
    count = 0
    for record in sent:
        if record.end > una:
            if record.seq < una:
                record.seq = una
            break
        count += 1
    rtt = 0
    if count:
        first = sent[0]
        if not first.flags & EVER_RETRANSMITTED:
            last = sent[count - 1]
            rtt = now - last.sent_at
            endpoint.rtt.sample(now - first.sent_at, una, endpoint.snd_nxt, now)
            endpoint.backoff = 0
        del sent[:count]
    endpoint.retransmits = 0
    send = endpoint.send
    send.release(una)
    if endpoint.cwnd_limited:
        endpoint.cc.on_ack(acked, rtt, now, una, endpoint.snd_nxt)
        if una > endpoint.cwnd_limited_end:
            endpoint.cwnd_limited = False
    if sent:
        # timers.rearm, spelled out: two round trips for a tail probe, or the time-out.
        estimator = endpoint.rtt
        at = now + (estimator.rto if not endpoint.backoff else estimator.backed_off(endpoint.backoff))
        kind = timers.RETRANSMIT
        if endpoint.sack_ok and endpoint.p.early_retrans:
            pto = now + 2 * estimator.srtt + tail_probe.MIN_TIMEOUT
            if pto < at and endpoint.snd_nxt - una > endpoint.mss:
                at = pto
                kind = timers.TAIL_PROBE
        endpoint.timer = kind
        endpoint.timer_at = at
        if at < endpoint.deadline:
            endpoint.arm(at)
    else:
        timers.stop(endpoint)
    if endpoint.write_blocked:
        write_space(endpoint)
    if now - endpoint.confirmed_at > SECOND:
        endpoint.confirmed_at = now
        endpoint.route.confirm()


def write_space(endpoint: Endpoint) -> None:
    """The user waits for room: grow the buffer if the window has grown, and tell once a third is free."""
    window.send_buffer_after_ack(endpoint)
    if endpoint.has_write_space():
        endpoint.write_blocked = False
        endpoint.notify(POLLOUT)
    elif endpoint.before_flush is not None:
        endpoint.wake()  # this user looks for himself


def process(endpoint: Endpoint, segment: Segment, seq: int, size: int, now: int) -> int:
    """The ACK field, window and SACK blocks of an acceptable segment (RFC 9293 3.10.7.4, fifth). OK, TOO_OLD,
    TOO_NEW."""
    una = endpoint.snd_una
    ack = sack.widen(segment.ack, una)
    if ack > endpoint.snd_nxt:
        return TOO_NEW
    if ack < una:
        if ack < una - endpoint.max_window:
            return TOO_OLD
        if segment.sack_blocks and endpoint.sack_ok:
            _selective_only(endpoint, segment, ack, now)
        return OK
    window_changed = _update_window(endpoint, segment, seq, ack)
    endpoint.probes_out = 0
    endpoint.ack_echo = segment.ts_ecr if segment.ts_val >= 0 else 0
    if not endpoint.sent and not (segment.sack_blocks and (endpoint.tail_probe_end or endpoint.undo_marker >= 0)):
        if window_changed:
            endpoint.wake()
        return OK
    _acknowledge(endpoint, segment, ack, size, window_changed, now)
    return OK


def _update_window(endpoint: Endpoint, segment: Segment, seq: int, ack: int) -> bool:
    """SND.WND from a segment not older than the one that set it (RFC 9293 3.10.7.4); True when it changed."""
    if endpoint.snd_wl1 < seq or (endpoint.snd_wl1 == seq and endpoint.snd_wl2 <= ack):
        size = segment.window if segment.flags & SYN else segment.window << endpoint.snd_wscale
        endpoint.snd_wl1 = seq
        endpoint.snd_wl2 = ack
        if size != endpoint.snd_wnd:
            endpoint.snd_wnd = size
            if size > endpoint.max_window:
                endpoint.max_window = size
            if endpoint.timer == timers.PROBE:
                timers.stop(endpoint)  # output decides anew whether the window is closed
                endpoint.backoff = 0
            return True
        if endpoint.timer == timers.PROBE:
            endpoint.wake()
    return False


def _echo_age(endpoint: Endpoint, segment: Segment, now: int) -> int:
    """How long ago the segment was sent that this ack's TSecr answers, ns to the millisecond; -1 without timestamps."""
    if not endpoint.ts_ok or segment.ts_val < 0 or not segment.ts_ecr:
        return -1
    age = (now // MILLISECOND + endpoint.ts_offset - segment.ts_ecr) & MASK
    return age * MILLISECOND if age < 0x80000000 else -1


def _selective_only(endpoint: Endpoint, segment: Segment, ack: int, now: int) -> None:
    """An ack older than SND.UNA may still bring SACK blocks that we have not seen."""
    before = endpoint.sacked_bytes
    result = sack.apply(endpoint, segment.sack_blocks, ack, _echo_age(endpoint, segment, now), now)
    delivered = endpoint.sacked_bytes - before
    if result & sack.SOMETHING_NEW or delivered:
        loss_recovery.on_ack(endpoint, 0, delivered, bool(result & sack.ORIGINAL), True, False, now)
        endpoint.wake()


def _acknowledge(endpoint: Endpoint, segment: Segment, ack: int, size: int, window_changed: bool, now: int) -> None:
    una = endpoint.snd_una
    acked = ack - una
    state_before = endpoint.ca_state
    highest = endpoint.highest_sacked
    echo_age = _echo_age(endpoint, segment, now)
    sacked_before = endpoint.sacked_bytes
    result = 0
    if segment.sack_blocks and endpoint.sack_ok:
        result = sack.apply(endpoint, segment.sack_blocks, ack, echo_age, now)
    newly_sacked = endpoint.sacked_bytes - sacked_before
    rtt = 0
    original = bool(result & sack.ORIGINAL)
    if acked:
        rtt, first_original = _clean(endpoint, ack, highest, echo_age, now)
        original = original or first_original
    delivered = acked + endpoint.sacked_bytes - sacked_before
    # RFC 5681 2: a duplicate ack has no data, no FIN, the same ack and window, while data is outstanding.
    duplicate = not acked and not size and not segment.flags & (SYN | FIN) and not window_changed
    endpoint.delivered += max(delivered, 0)
    if endpoint.ecn_ok and segment.flags & ECE:
        endpoint.delivered_ce += 1
        endpoint.counters[_DELIVERED_CE] += 1
        loss_recovery.enter_window_reduction(endpoint, delivered, now)
    if endpoint.tail_probe_end:
        tail_probe.on_ack(endpoint, ack, bool(result & sack.DSACK), duplicate and not result & sack.SOMETHING_NEW, now)
    if endpoint.ca_state or endpoint.sacked_bytes or result or duplicate or endpoint.undo_marker >= 0:
        loss_recovery.on_ack(endpoint, acked, delivered, original, newly_sacked > 0, duplicate, now)
    if acked:
        # Not for the ack that ends a reduction: what it covers was sent under the old window.
        state = endpoint.ca_state
        if state == 4 or (state <= 1 and state_before <= 1 and endpoint.cwnd_limited):
            endpoint.cc.on_ack(acked, rtt, now, ack, endpoint.snd_nxt)
            if ack > endpoint.cwnd_limited_end:
                endpoint.cwnd_limited = False
        if endpoint.timer != timers.REORDERING:
            timers.rearm(endpoint, now)
        if endpoint.write_blocked:
            write_space(endpoint)
        _after_fin(endpoint, now)
    endpoint.wake()


def _clean(endpoint: Endpoint, ack: int, highest: int, echo_age: int, now: int) -> tuple[int, bool]:
    """Drop what is cumulatively acknowledged. (RTT sample of the newest segment or 0, an original from before the
    time-out was among it.) `highest`: what was sacked before this ack, for telling reordering."""
    sent = endpoint.sent
    count = 0
    rack = endpoint.rack
    min_rtt = endpoint.rtt.min_rtt
    first_rtt = last_rtt = 0
    original = False
    fully = True
    for record in sent:
        if record.seq >= ack:
            break
        flags = record.flags
        if record.end > ack:
            scoreboard.forget(endpoint, record, ack)
            record.seq = ack
            fully = False
            break
        scoreboard.forget(endpoint, record, record.end)
        if not flags & EVER_RETRANSMITTED:
            if not flags & SACKED:
                last_rtt = now - record.sent_at
                if not first_rtt:
                    first_rtt = last_rtt
                if record.end <= endpoint.high_seq:
                    original = True
                if record.end < highest and endpoint.sack_ok:
                    sack.note_reordering(endpoint, highest - record.seq)
        if not flags & SACKED:
            rack.on_delivered(record, min_rtt, echo_age, now)
        count += 1
    del sent[:count]
    endpoint.snd_una = ack
    if endpoint.highest_sacked < ack:
        endpoint.highest_sacked = ack
    if first_rtt:
        endpoint.rtt.sample(first_rtt, ack, endpoint.snd_nxt, now)
        endpoint.backoff = 0
    elif echo_age >= 0 and (count or not fully):
        # Karn (RFC 6298 3): only the timestamp knows which transmission this answers (RFC 7323 4).
        endpoint.rtt.sample(max(echo_age, MILLISECOND), ack, endpoint.snd_nxt, now)
        endpoint.backoff = 0
    endpoint.retransmits = 0
    send = endpoint.send
    released = min(ack, send.end)
    if released > send.first:
        endpoint.bytes_acked += released - send.first
        send.release(released)
    if not sent:
        endpoint.lost_hint = ack
    return last_rtt, original


def _after_fin(endpoint: Endpoint, now: int) -> None:
    """Our FIN is acknowledged: the states that wait for that (RFC 9293 3.10.7.4)."""
    if not endpoint.fin_sent or endpoint.snd_una != endpoint.snd_nxt:
        return
    state = endpoint.state
    if state == states.FIN_WAIT_1:
        endpoint.change_state(states.FIN_ACKED)
        endpoint.notify(POLLOUT)
        if endpoint.orphan:
            endpoint.forgive_orphan_bytes()
            timers.start_fin_wait_2(endpoint, now)
    elif state == states.CLOSING:
        time_wait.enter(endpoint, now)
    elif state == states.LAST_ACK:
        endpoint.finish()
