"""Opening a connection: our SYN, the answer to it, simultaneous open, and what the options of both SYNs agree on.

RFC 9293 3.5, 3.10.7.3 and 3.10.7.4 (SYN-RECEIVED); 7323 (window scale, timestamps), 2018 (SACK), 3168 6.1.1 (ECN), 7413
(fast open, client). The passive side before an endpoint exists is `listen.py`.
"""

from __future__ import annotations

import errno
from select import POLLIN, POLLOUT
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import fast_open, path_mtu, sack, scoreboard, states, timers, window
from services.netstackd.transport.tcp import input as incoming
from services.netstackd.transport.tcp.isn import initial_sequence, timestamp_offset
from services.netstackd.transport.tcp.parameters import DEFAULT_MSS, MILLISECOND, MIN_MSS
from services.netstackd.transport.tcp.scoreboard import EVER_RETRANSMITTED, SYN_BIT, Sent
from services.netstackd.transport.tcp.segment import ACK, CWR, ECE, FIN, MASK, RST, SYN, Segment, reset_for
from services.netstackd.wire.tcp_options import SynOptions

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.transport.tcp.time_wait import TimeWait

_ACTIVE_OPENS = COUNTER["TcpActiveOpens"]
_PAWS_ACTIVE = COUNTER["TcpExtPAWSActive"]
_OUT_RSTS = COUNTER["TcpOutRsts"]
_OUT_SEGS = COUNTER["TcpOutSegs"]
_SYN_RETRANS = COUNTER["TcpExtTCPSynRetrans"]
_FAST_OPEN_ACTIVE = COUNTER["TcpExtTCPFastOpenActive"]

ECN_SYN: Final = ECE | CWR


# -------------------------------------------------------------------- our SYN


def active_open(endpoint: Endpoint, data: bytes, after: TimeWait | None, now: int) -> None:
    """CLOSED -> SYN-SENT."""
    context = endpoint.context
    context.counters[_ACTIVE_OPENS] += 1
    endpoint.change_state(states.ACTIVE_OPEN)
    endpoint.actively_opened = True
    endpoint.started_at = now
    if after is None:
        iss = initial_sequence(context, endpoint.flow, now)
    else:
        iss = after.next_initial_sequence()  # RFC 9293 3.4.3, 6191: beyond what the old connection sent
        after.retire()
    begin_sending(endpoint, iss, timestamp_offset(context, endpoint.flow), now)
    if data:
        endpoint.send.append(data)
    p = endpoint.p
    endpoint.rcv_wscale = window.wanted_scale(endpoint) if p.window_scaling else 0
    size = 0
    if p.fastopen & 1 and (data or endpoint.options.fastopen_connect):
        size = fast_open.syn_payload(endpoint, now)
    _send_syn(endpoint, size, now)
    if size:
        endpoint.counters[_FAST_OPEN_ACTIVE] += 1
        endpoint.sent.append(Sent(endpoint.snd_nxt, endpoint.snd_nxt + size, now, 1))
        endpoint.snd_nxt += size
    timers.start_retransmit(endpoint, now)


def begin_sending(endpoint: Endpoint, iss: int, ts_offset: int, now: int) -> None:
    """Our sequence space starts: the SYN is the first thing that can be acknowledged."""
    endpoint.iss = iss
    endpoint.snd_una = iss
    endpoint.snd_nxt = iss + 1
    endpoint.high_seq = endpoint.highest_sacked = endpoint.lost_hint = iss
    endpoint.nagle_small_end = iss
    endpoint.cwnd_limited_end = iss
    endpoint.send.begin(iss + 1)
    endpoint.sent = [Sent(iss, iss + 1, now, 0, SYN_BIT)]
    endpoint.transmissions = 1
    endpoint.ts_offset = ts_offset
    advertised = endpoint.route.advertised_mss()
    if endpoint.options.maxseg:
        advertised = min(advertised, endpoint.options.maxseg)
    endpoint.advertised_mss = advertised
    endpoint.rcv_mss = min(advertised, DEFAULT_MSS)


def _send_syn(endpoint: Endpoint, size: int, now: int) -> None:
    p = endpoint.p
    syn = SynOptions(endpoint.advertised_mss, -1, p.sack)
    if p.window_scaling:
        syn.wscale = endpoint.rcv_wscale
    if endpoint.cookie_requested and not endpoint.retransmits:
        syn.fast_open = fast_open.cookie_for(endpoint)
    flags = SYN
    # RFC 3168 6.1.1: an ECN-setup SYN; one that gets no answer is repeated without (6.1.1.1).
    if p.ecn == 1 and not (p.ecn_fallback and endpoint.retransmits):
        flags |= ECN_SYN
        endpoint.ecn_ok = True
    else:
        endpoint.ecn_ok = False
    offer = window.initial_window(endpoint, endpoint.advertised_mss)
    ts_val = (now // MILLISECOND + endpoint.ts_offset) & MASK if p.timestamps else -1
    payload = endpoint.send.view(endpoint.iss + 1, endpoint.iss + 1 + size) if size else b""
    endpoint.segs_out += 1
    endpoint.counters[_OUT_SEGS] += 1
    endpoint.route.send(endpoint, Segment(endpoint.iss & MASK, 0, flags, offer, payload, ts_val, 0, syn=syn))


def send_syn_ack(endpoint: Endpoint, now: int) -> None:
    """SYN-RECEIVED: our SYN with the acknowledgement of the peer's, repeating what was agreed on."""
    syn = SynOptions(endpoint.advertised_mss, endpoint.rcv_wscale if endpoint.wscale_ok else -1, endpoint.sack_ok)
    flags = SYN | ACK
    if endpoint.ecn_ok:
        flags |= ECE
    offer = window.initial_window(endpoint, endpoint.advertised_mss)
    endpoint.rcv_edge = max(endpoint.rcv_edge, endpoint.rcv_nxt + offer)
    ts_val = (now // MILLISECOND + endpoint.ts_offset) & MASK if endpoint.ts_ok else -1
    endpoint.segs_out += 1
    endpoint.counters[_OUT_SEGS] += 1
    endpoint.last_ack_sent = endpoint.rcv_nxt
    endpoint.ack_now = False
    endpoint.route.send(
        endpoint,
        Segment(endpoint.iss & MASK, endpoint.rcv_nxt & MASK, flags, offer, b"", ts_val, endpoint.ts_recent, syn=syn),
    )


def resend_syn(endpoint: Endpoint, now: int) -> None:
    endpoint.counters[_SYN_RETRANS] += 1
    endpoint.total_retrans += 1
    if not endpoint.retransmits:
        endpoint.retransmits = 1  # the repeated SYN goes without fast open and without ECN
        endpoint.backoff = 0
        fast_open.on_syn_timeout(endpoint, now)
        _again(endpoint, now)
        endpoint.retransmits = 0
        return
    _again(endpoint, now)


def _again(endpoint: Endpoint, now: int) -> None:
    if endpoint.state == states.SYN_SENT:
        _send_syn(endpoint, 0, now)
    else:
        send_syn_ack(endpoint, now)


# -------------------------------------------------------------------- the peer's SYN


def take_syn(endpoint: Endpoint, segment: Segment, now: int) -> None:
    """IRS, the window and the options of the peer's SYN or SYN-ACK."""
    syn = segment.syn or SynOptions()
    agree(endpoint, segment.seq, segment.window, segment.ts_val, syn.mss, syn.wscale, syn.sack_permitted, now)


def agree(
    endpoint: Endpoint, irs: int, window_field: int, ts_val: int, mss: int, wscale: int, sack_permitted: bool, now: int
) -> None:
    """As `take_syn`, of a SYN with these fields: those of Segment and SynOptions."""
    p = endpoint.p
    endpoint.irs = irs
    begin_receiving(endpoint, irs + 1, now)
    endpoint.peer_mss = DEFAULT_MSS if not mss else mss if mss > MIN_MSS else MIN_MSS
    endpoint.wscale_ok = p.window_scaling and wscale >= 0
    if endpoint.wscale_ok:
        endpoint.snd_wscale = wscale
    else:
        endpoint.snd_wscale = endpoint.rcv_wscale = 0  # RFC 7323 2.2: both or neither
    endpoint.sack_ok = p.sack and sack_permitted
    endpoint.ts_ok = p.timestamps and ts_val >= 0
    if endpoint.ts_ok:
        endpoint.ts_recent = ts_val
        endpoint.ts_recent_at = now
    endpoint.snd_wnd = endpoint.max_window = window_field  # a SYN's window is never scaled (RFC 7323 2.2)
    endpoint.snd_wl1 = irs
    after_options(endpoint, now)


def begin_receiving(endpoint: Endpoint, rcv_nxt: int, now: int) -> None:
    endpoint.rcv_nxt = rcv_nxt
    endpoint.copied_seq = endpoint.rcv_space_seq = rcv_nxt
    endpoint.last_ack_sent = rcv_nxt
    endpoint.rcv_edge = rcv_nxt + window.initial_window(endpoint, endpoint.advertised_mss)
    endpoint.rcv_rtt_seq = endpoint.rcv_edge
    endpoint.rcv_space_at = now
    endpoint.rcv_space = min(window.offered_space(endpoint), 10 * endpoint.advertised_mss)
    endpoint.last_receive = now


def after_options(endpoint: Endpoint, now: int) -> None:
    """The segment size is known: a window of so many of them."""
    path_mtu.update_mss(endpoint)
    endpoint.mss_checked_at = now
    cc = endpoint.cc
    cc.cwnd = endpoint.p.initial_window * endpoint.mss
    endpoint.rcv_mss = max(min(endpoint.mss, endpoint.advertised_mss, DEFAULT_MSS), 88)
    window.send_buffer_after_ack(endpoint)


# -------------------------------------------------------------------- SYN-SENT


def on_answer(endpoint: Endpoint, segment: Segment, now: int) -> None:
    """A segment in SYN-SENT (RFC 9293 3.10.7.3)."""
    flags = segment.flags
    ack = -1
    if flags & ACK:
        ack = sack.widen(segment.ack, endpoint.snd_una)
        if ack <= endpoint.iss or ack > endpoint.snd_nxt:
            _refuse(endpoint, segment)
            return
        if not _echo_is_ours(endpoint, segment, now):
            endpoint.counters[_PAWS_ACTIVE] += 1
            _refuse(endpoint, segment)
            return
    if flags & RST:
        if flags & ACK:
            endpoint.finish(errno.ECONNREFUSED)
        return
    if not flags & SYN:
        return
    asked_for_ecn = endpoint.ecn_ok
    take_syn(endpoint, segment, now)
    if flags & ACK:
        # RFC 3168 6.1.1: an ECN-setup SYN-ACK has ECE and not CWR.
        endpoint.ecn_ok = asked_for_ecn and flags & (ECE | CWR) == ECE
        _connected(endpoint, segment, ack, now)
        return
    # Simultaneous open (RFC 9293 3.5, figure 7).
    endpoint.ecn_ok = bool(endpoint.p.ecn) and flags & ECN_SYN == ECN_SYN
    endpoint.change_state(states.GOT_SYN)
    send_syn_ack(endpoint, now)
    timers.start_retransmit(endpoint, now)


def _refuse(endpoint: Endpoint, segment: Segment) -> None:
    """An answer to something we never sent: reset it, and go on waiting."""
    reset = reset_for(segment)
    if reset is not None:
        endpoint.counters[_OUT_RSTS] += 1
        endpoint.route.send(endpoint, reset)


def _echo_is_ours(endpoint: Endpoint, segment: Segment, now: int) -> bool:
    """RFC 7323 3.2: TSecr must be a timestamp of one of our SYNs."""
    if segment.ts_val < 0 or not segment.ts_ecr or not endpoint.p.timestamps:
        return True
    first = (endpoint.started_at // MILLISECOND + endpoint.ts_offset) & MASK
    last = now // MILLISECOND - endpoint.started_at // MILLISECOND
    return (segment.ts_ecr - first) & MASK <= last


def _connected(endpoint: Endpoint, segment: Segment, ack: int, now: int) -> None:
    """SYN-SENT -> ESTABLISHED."""
    record = endpoint.sent[0]
    if not record.flags & EVER_RETRANSMITTED:
        endpoint.rtt.sample(now - record.sent_at, ack, endpoint.snd_nxt, now)
    elif endpoint.ts_ok and segment.ts_ecr:
        age = (now // MILLISECOND + endpoint.ts_offset - segment.ts_ecr) & MASK
        endpoint.rtt.sample(max(age, 1) * MILLISECOND, ack, endpoint.snd_nxt, now)
    del endpoint.sent[0]
    fast_open.on_syn_ack(endpoint, segment, ack, now)
    endpoint.snd_una = endpoint.iss + 1
    if ack > endpoint.snd_una:
        # Data of our SYN was taken too (RFC 7413 4.1.3.2).
        endpoint.bytes_acked += ack - endpoint.snd_una
        endpoint.snd_una = ack
        endpoint.send.release(ack)
        while endpoint.sent and endpoint.sent[0].end <= ack:
            del endpoint.sent[0]
        if endpoint.sent:
            endpoint.sent[0].seq = ack
    if endpoint.sent:
        for left in endpoint.sent:
            scoreboard.mark_lost(endpoint, left)
        endpoint.lost_hint = endpoint.snd_una
    endpoint.snd_wl2 = ack
    endpoint.high_seq = endpoint.highest_sacked = endpoint.snd_una
    establish(endpoint, now)
    endpoint.ack_now = True
    endpoint.quick_acks = max(endpoint.quick_acks, 1)
    if segment.payload or segment.flags & FIN:
        incoming.accept_after_syn(endpoint, segment, now)
    endpoint.notify(POLLOUT)


def establish(endpoint: Endpoint, now: int) -> None:
    endpoint.change_state(states.HANDSHAKE_DONE)
    timers.stop(endpoint)
    timers.after_handshake(endpoint)
    endpoint.started_at = now
    endpoint.last_receive = now
    window.send_buffer_after_ack(endpoint)
    timers.restart_keepalive(endpoint, now)
    if endpoint.sent:
        timers.rearm(endpoint, now)


# -------------------------------------------------------------------- SYN-RECEIVED


def on_final_ack(endpoint: Endpoint, segment: Segment, seq: int, now: int) -> bool:
    """The ACK of our SYN (RFC 9293 3.10.7.4, fifth, SYN-RECEIVED). True when the segment is to be processed further."""
    ack = sack.widen(segment.ack, endpoint.snd_una)
    if ack <= endpoint.iss or ack > endpoint.snd_nxt:
        _refuse(endpoint, segment)
        return False
    first = endpoint.sent[0]
    if first.flags & SYN_BIT:
        if not first.flags & EVER_RETRANSMITTED:
            endpoint.rtt.sample(now - first.sent_at, ack, endpoint.snd_nxt, now)
        elif endpoint.ts_ok and segment.ts_val >= 0 and segment.ts_ecr:
            age = (now // MILLISECOND + endpoint.ts_offset - segment.ts_ecr) & MASK
            endpoint.rtt.sample(max(age, 1) * MILLISECOND, ack, endpoint.snd_nxt, now)
        del endpoint.sent[0]
        endpoint.snd_una = endpoint.iss + 1
    if not segment.flags & SYN:
        endpoint.snd_wnd = segment.window << endpoint.snd_wscale
    endpoint.max_window = max(endpoint.max_window, endpoint.snd_wnd)
    endpoint.snd_wl1 = seq
    endpoint.snd_wl2 = ack
    establish(endpoint, now)
    if endpoint.fin_queued:
        endpoint.change_state(states.SEND_FIN)
    if segment.flags & SYN:
        endpoint.ack_now = True
    endpoint.notify(POLLOUT | (POLLIN if endpoint.receive.size else 0))
    return True
