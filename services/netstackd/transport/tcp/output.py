"""What may leave now: retransmissions, new data, acknowledgements; and the making of every segment of a connection.

`push` is the one entry, called by `Endpoint.flush`. New data obeys, in this order: the peer's window (RFC 9293 3.8.6),
the congestion window (RFC 5681), pacing, the sender's silly-window avoidance (3.8.6.2.1), Nagle's rule in Minshall's
form (3.7.4) and cork. A segment may be as large as the route's `gso_max`, in whole MSS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import handshake, path_mtu, scoreboard, timers, window
from services.netstackd.transport.tcp.parameters import MILLISECOND, NEVER, SECOND
from services.netstackd.transport.tcp.scoreboard import (
    EVER_RETRANSMITTED,
    FIN_BIT,
    LOST,
    RETRANSMITTED,
    SYN_BIT,
    Sent,
)
from services.netstackd.transport.tcp.segment import ACK, CWR, ECE, ECT_0, FIN, MASK, PSH, RST, URG, Payload, Segment
from services.netstackd.transport.tcp.states import SYN_RECEIVED, SYN_SENT, TRANSMITTING

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.wire.tcp_options import SackBlocks

_OUT_SEGS = COUNTER["TcpOutSegs"]
_OUT_RSTS = COUNTER["TcpOutRsts"]
_RETRANS_SEGS = COUNTER["TcpRetransSegs"]
_ORIG_DATA = COUNTER["TcpExtTCPOrigDataSent"]
_FAST_RETRANS = COUNTER["TcpExtTCPFastRetrans"]
_SLOW_START_RETRANS = COUNTER["TcpExtTCPSlowStartRetrans"]
_DSACK_OLD = COUNTER["TcpExtTCPDSACKOldSent"]
_DSACK_OFO = COUNTER["TcpExtTCPDSACKOfoSent"]

MAX_SACK_BLOCKS: Final = 4
MAX_SACK_BLOCKS_WITH_TIMESTAMPS: Final = 3  # 40 bytes of options, 12 of them timestamps
MAX_GSO_BYTES: Final = 65536 - 128  # payload and headers of one large packet stay below 64 KiB

RECOVERING: Final = 2  # ca_state from CWR_STATE on: PRR decides the window


def push(endpoint: Endpoint, now: int) -> None:
    """Send everything that may leave at `now`."""
    if endpoint.read_since_ack:
        window.after_read(endpoint, now)
    # RFC 7413 4.2: a server that has accepted data in a SYN may answer before the handshake is over.
    if TRANSMITTING >> endpoint.state & 1 or (endpoint.syn_data_acked and endpoint.state == SYN_RECEIVED):
        if endpoint.lost_bytes and not endpoint.hold_retransmissions:
            retransmit_lost(endpoint, now)
        if endpoint.snd_nxt < endpoint.send.end or (endpoint.fin_queued and not endpoint.fin_sent):
            send_new(endpoint, now)
    if endpoint.ack_now:
        send_ack(endpoint, now)


# -------------------------------------------------------------------- new data


def effective_mss(endpoint: Endpoint) -> int:
    """Payload of a full segment that leaves now: SACK blocks take their room from it."""
    mss = endpoint.mss
    if endpoint.sack_ok and (endpoint.assembler is not None or endpoint.dsack is not None):
        count = len(sack_blocks(endpoint))
        if count:
            mss -= 4 + 8 * count
    return mss


def send_new(endpoint: Endpoint, now: int) -> None:
    send = endpoint.send
    end = send.end
    una = endpoint.snd_una
    cc = endpoint.cc
    if not endpoint.sent:
        _after_idle(endpoint, now)
    mss = endpoint.mss if endpoint.assembler is None and endpoint.dsack is None else effective_mss(endpoint)
    limit = mss if end - endpoint.snd_nxt <= mss else large_limit(endpoint, mss)
    window_end = una + endpoint.snd_wnd
    in_flight = (  # scoreboard.pipe, spelled out
        endpoint.snd_nxt - una - endpoint.sacked_bytes - endpoint.lost_bytes + endpoint.retrans_bytes
    )
    pacing = endpoint.p.pacing or endpoint.options.max_pacing_rate
    runs = 0 if pacing or endpoint.ca_state >= RECOVERING else endpoint.route.run_max
    started = bool(endpoint.sent)
    before = endpoint.snd_nxt
    paced = False
    while True:
        nxt = endpoint.snd_nxt
        waiting = end - nxt
        if waiting <= 0:
            if endpoint.fin_queued and not endpoint.fin_sent and (nxt < window_end or not endpoint.sent):
                _send_fin(endpoint, now)
            break
        room = window_end - nxt
        budget = cc.cwnd - in_flight
        if budget < mss and not in_flight:
            budget = mss
        if pacing and now < endpoint.next_pace_at:
            endpoint.arm(endpoint.next_pace_at)
            paced = True
            break
        size = waiting
        if size > limit:
            size = limit
        if size > room:
            size = room
        if size > budget:
            endpoint.cwnd_limited = True
            endpoint.cwnd_limited_end = nxt
            size = budget
        if size < waiting:
            if size < mss:
                # Less than a segment by window: wait for more, unless it is half of the largest the peer ever offered
                # (RFC 9293 3.8.6.2.1 (3)); less than a segment by cwnd: wait for an ack.
                if size <= 0 or size == budget or endpoint.sent or 2 * size < endpoint.max_window:
                    break
            else:
                size -= size % mss
                if size < limit and limit > mss and endpoint.sent and _defer(endpoint, size, limit):
                    break
        elif size < mss or size % mss:
            held = size % mss
            # _nagle is asked when it may say yes.
            if (endpoint.nagle_small_end > una or endpoint.options.cork) and _nagle(endpoint, nxt, end):
                size -= held
                if not size:
                    break
        if size > mss and (endpoint.ecn_cwr_due or endpoint.urgent_to_send > nxt):
            size = mss  # CWR and the urgent pointer are of one packet; whoever cuts a large one would repeat them
        elif size == limit and runs > 1:
            count = min(waiting // size, room // size, budget // size, runs)
            if endpoint.fin_queued and count * size == waiting:
                count -= 1  # FIN goes with the last
            if count > 1:
                send_run(endpoint, nxt, count, size, mss, now)
                in_flight += count * size
                continue
        send_data(endpoint, nxt, nxt + size, mss, now)
        in_flight += size
        if pacing:
            _pace(endpoint, size, now)
    if 2 * in_flight > cc.cwnd and cc.cwnd < cc.ssthresh:
        endpoint.cwnd_limited = True  # slow start may go on when half of the window is used (RFC 7661 4.4's aim)
        endpoint.cwnd_limited_end = endpoint.snd_nxt
    if endpoint.sent:
        # An ack of this very moment has set the timer already; a tail probe follows the last segment (RFC 8985 7.2).
        if not started or (
            endpoint.snd_nxt != before and endpoint.timer == timers.TAIL_PROBE and endpoint.last_receive != now
        ):
            timers.rearm(endpoint, now)
    elif endpoint.snd_nxt < end and endpoint.timer == timers.OFF and not paced:
        timers.start_probing(endpoint, now)


def large_limit(endpoint: Endpoint, mss: int) -> int:
    """The largest payload of one Segment: as many whole MSS as the link takes."""
    limit = endpoint.route.gso_max
    if limit <= mss:  # no large segments on this link
        return mss
    if limit > MAX_GSO_BYTES:
        limit = MAX_GSO_BYTES
    if endpoint.p.pacing or endpoint.options.max_pacing_rate:
        rate = pacing_rate(endpoint)
        if rate:
            # One millisecond's worth, at least two segments (tcp_tso_autosize).
            limit = min(limit, max(rate // 1000, endpoint.p.min_tso_segments * mss))
    return max(limit - limit % mss, mss)


def _defer(endpoint: Endpoint, size: int, limit: int) -> bool:
    """A large segment cut short by a window: an ack is due anyway, so wait, unless it is a third of the window
    already."""
    usable = min(endpoint.cc.cwnd, endpoint.snd_wnd)
    return size < usable // 3 and endpoint.ca_state < RECOVERING


def _nagle(endpoint: Endpoint, nxt: int, end: int) -> bool:
    """Hold back the small segment that ends the queue? Not when FIN goes with it or urgent data is in it."""
    options = endpoint.options
    if endpoint.fin_queued or endpoint.urgent_to_send > nxt:
        return False
    if options.cork:
        return True
    # Minshall: only while another small segment is unacknowledged.
    return not options.nodelay and endpoint.nagle_small_end > endpoint.snd_una


def send_data(endpoint: Endpoint, seq: int, end: int, mss: int, now: int) -> None:
    fin = endpoint.fin_queued and end == endpoint.send.end and end + 1 <= endpoint.snd_una + endpoint.snd_wnd
    size = end - seq
    flags = ACK
    order = endpoint.transmissions = endpoint.transmissions + 1
    record = Sent(seq, end, now, order)
    if size % mss:
        endpoint.nagle_small_end = end
    if end == endpoint.send.end:
        flags = ACK | PSH
    endpoint.snd_nxt = end
    if fin:
        flags |= FIN
        record.end = endpoint.snd_nxt = end + 1
        record.flags = FIN_BIT
        endpoint.fin_sent = True
    endpoint.sent.append(record)
    endpoint.last_data_sent = now
    endpoint.bytes_sent += size
    if now - endpoint.last_data_received < endpoint.ato:
        endpoint.pingpong = window.PINGPONG  # data answers data: acks may wait to ride on it
    if endpoint.ca_state >= RECOVERING:
        endpoint.prr.out += size
    endpoint.counters[_ORIG_DATA] += -(-size // mss)
    emit(endpoint, seq, size, flags, now, mss, True)


def send_run(endpoint: Endpoint, seq: int, count: int, size: int, mss: int, now: int) -> None:
    """As `send_data` for `count` segments of `size` bytes, whole MSS, without a FIN."""
    view, order = endpoint.send.view, endpoint.transmissions
    payloads = []
    sent = endpoint.sent
    for _ in range(count):
        end = seq + size
        order += 1
        sent.append(Sent(seq, end, now, order))
        payloads.append(view(seq, end))
        seq = end
    first = seq - count * size
    endpoint.transmissions = order
    endpoint.snd_nxt = seq
    endpoint.last_data_sent = now
    endpoint.bytes_sent += count * size
    if now - endpoint.last_data_received < endpoint.ato:
        endpoint.pingpong = window.PINGPONG
    endpoint.counters[_ORIG_DATA] += count * (size // mss)
    pushed = seq == endpoint.send.end
    segment = make(endpoint, first, ACK, payloads[0], now, mss, True)
    endpoint.segs_out += count
    endpoint.counters[_OUT_SEGS] += count * (size // mss)
    endpoint.route.send_run(endpoint, segment, payloads, pushed)


def _send_fin(endpoint: Endpoint, now: int) -> None:
    seq = endpoint.snd_nxt
    order = endpoint.transmissions = endpoint.transmissions + 1
    record = Sent(seq, seq + 1, now, order, FIN_BIT)
    endpoint.sent.append(record)
    endpoint.snd_nxt = seq + 1
    endpoint.fin_sent = True
    emit(endpoint, seq, 0, FIN | ACK, now, endpoint.mss)


def _after_idle(endpoint: Endpoint, now: int) -> None:
    """Nothing was in flight: a window measured long ago is not to be trusted (RFC 5681 4.1), nor is the path's size."""
    if now - endpoint.mss_checked_at > SECOND:
        endpoint.mss_checked_at = now
        path_mtu.update_mss(endpoint)
    last = endpoint.last_data_sent
    if not last:
        return
    idle = now - last
    rto = endpoint.rtt.rto
    if idle > rto and endpoint.p.slow_start_after_idle:
        endpoint.cc.on_idle(idle, rto, endpoint.p.initial_window * endpoint.mss)
    endpoint.cc.on_send_after_idle(idle)
    endpoint.prr.begin(1)


# -------------------------------------------------------------------- pacing


def pacing_rate(endpoint: Endpoint) -> int:
    """Bytes per second: cwnd a round trip, twice that in slow start, 1.2 times after it; SO_MAX_PACING_RATE above."""
    limit = endpoint.options.max_pacing_rate
    srtt = endpoint.rtt.srtt
    if not srtt:
        return limit
    cc = endpoint.cc
    ratio = endpoint.p.pacing_ss_ratio if cc.cwnd < cc.ssthresh // 2 else endpoint.p.pacing_ca_ratio
    rate = cc.cwnd * 10_000_000 * ratio // srtt
    return min(rate, limit) if limit else rate


def _pace(endpoint: Endpoint, size: int, now: int) -> None:
    rate = pacing_rate(endpoint)
    if rate:
        # Up to half the gap may have been slept away; it is not earned back.
        start = max(endpoint.next_pace_at, now - MILLISECOND)
        endpoint.next_pace_at = max(start, now) + size * 1_000_000_000 // rate


# -------------------------------------------------------------------- retransmission


def retransmit_lost(endpoint: Endpoint, now: int) -> None:
    """Send again what is marked lost, oldest first, as far as cwnd allows."""
    sent = endpoint.sent
    if not sent:
        return
    hint = endpoint.lost_hint
    index = scoreboard.index_of(sent, hint) if hint > sent[0].seq else 0
    budget = endpoint.cc.cwnd - scoreboard.pipe(endpoint)
    mss = effective_mss(endpoint)
    window_end = endpoint.snd_una + endpoint.snd_wnd
    started = False
    while index < len(sent):
        record = sent[index]
        if record.flags & (LOST | RETRANSMITTED) != LOST:
            index += 1
            continue
        if budget < min(mss, record.end - record.seq):
            endpoint.cwnd_limited = True
            endpoint.cwnd_limited_end = endpoint.snd_nxt
            break
        if record.seq >= window_end and index:
            break
        budget -= retransmit(endpoint, index, budget, now)
        started = True
        index += 1
    endpoint.lost_hint = sent[index].seq if index < len(sent) else endpoint.snd_nxt
    if started and endpoint.timer in (timers.OFF, timers.TAIL_PROBE):
        timers.rearm(endpoint, now)


def retransmit(endpoint: Endpoint, index: int, budget: int, now: int) -> int:
    """Send the record at `index` again, or as much of it from its start as `budget` allows; the bytes sent."""
    record = endpoint.sent[index]
    if record.flags & SYN_BIT:
        handshake.resend_syn(endpoint, now)
        record.flags |= EVER_RETRANSMITTED
        record.sent_at = now
        return 1
    mss = effective_mss(endpoint)
    limit = min(large_limit(endpoint, mss), max(budget - budget % mss, mss))
    size = record.end - record.seq
    payload = size - (1 if record.flags & FIN_BIT else 0)
    if payload > limit:
        scoreboard.split(endpoint, index, record.seq + limit)
        payload = size = limit
    flags = ACK | PSH if record.seq + payload == endpoint.send.end else ACK
    if record.flags & FIN_BIT:
        flags |= FIN
    counters = endpoint.counters
    segments = max(-(-payload // mss), 1)
    counters[_RETRANS_SEGS] += segments
    counters[_FAST_RETRANS if endpoint.ca_state == 3 else _SLOW_START_RETRANS] += segments
    endpoint.total_retrans += segments
    endpoint.bytes_retrans += payload
    if not record.flags & RETRANSMITTED:
        endpoint.retrans_bytes += size
    record.flags |= RETRANSMITTED | EVER_RETRANSMITTED
    record.sent_at = now
    record.order = endpoint.transmissions = endpoint.transmissions + 1
    if not endpoint.retrans_stamp:
        endpoint.retrans_stamp = now
    if endpoint.undo_retrans < 0:
        endpoint.undo_retrans = 0
    endpoint.undo_retrans += segments
    if endpoint.ca_state >= RECOVERING:
        endpoint.prr.out += size
    emit(endpoint, record.seq, payload, flags, now, mss)
    return size


# -------------------------------------------------------------------- segments


def emit(endpoint: Endpoint, seq: int, size: int, flags: int, now: int, mss: int, new: bool = False) -> None:
    """One segment with the ACK bit, `size` bytes of the send buffer from `seq` on."""
    payload = endpoint.send.view(seq, seq + size) if size else b""
    segment = make(endpoint, seq, flags, payload, now, mss, new)
    endpoint.segs_out += 1
    endpoint.counters[_OUT_SEGS] += 1 if size <= mss else -(-size // mss)
    endpoint.route.send(endpoint, segment)


def make(endpoint: Endpoint, seq: int, flags: int, payload: Payload, now: int, mss: int, new: bool) -> Segment:
    """A segment that leaves now, and with it all that there is to acknowledge. `new`: its data was not sent before."""
    size = len(payload)
    ecn = 0
    if endpoint.ecn_ok:
        if endpoint.ecn_echo:
            flags |= ECE
        if new:
            # RFC 3168 6.1: ECT on new data alone, never on a retransmission or a pure ack (6.1.4, 6.1.5).
            ecn = ECT_0
            if endpoint.ecn_cwr_due:
                endpoint.ecn_cwr_due = False
                flags |= CWR
    urgent = 0
    if endpoint.urgent_to_send and size and endpoint.urgent_to_send > seq:
        distance = endpoint.urgent_to_send - seq
        if distance <= 0xFFFF:
            urgent = distance
            flags |= URG
    segment = Segment(
        seq & MASK,
        endpoint.rcv_nxt & MASK,
        flags,
        window.field(endpoint),
        payload,
        (now // MILLISECOND + endpoint.ts_offset) & MASK if endpoint.ts_ok else -1,
        endpoint.ts_recent,
        sack_blocks(endpoint) if endpoint.sack_ok and (endpoint.assembler or endpoint.dsack) else (),
        urgent,
        ecn,
        mss if size > mss else 0,
    )
    endpoint.dsack = None
    endpoint.ack_now = False
    endpoint.ack_due_at = NEVER
    endpoint.ack_pushed = 0
    endpoint.last_ack_sent = endpoint.rcv_nxt
    if endpoint.quick_acks:
        window.on_ack_sent(endpoint)
    return segment


def send_ack(endpoint: Endpoint, now: int) -> None:
    """A pure acknowledgement of everything received so far."""
    if endpoint.state in (SYN_SENT, SYN_RECEIVED) and not endpoint.irs:
        endpoint.ack_now = False
        return
    emit(endpoint, endpoint.snd_nxt, 0, ACK, now, endpoint.mss)


def send_probe(endpoint: Endpoint, now: int) -> None:
    """A segment that must be answered: an old sequence number, no data (RFC 9293 3.8.4, 3.8.6.1)."""
    emit(endpoint, endpoint.snd_una - 1, 0, ACK, now, endpoint.mss)


def send_reset(endpoint: Endpoint, now: int) -> None:
    endpoint.counters[_OUT_RSTS] += 1
    segment = Segment(
        endpoint.snd_nxt & MASK,
        endpoint.rcv_nxt & MASK,
        RST | ACK,
        0,
        b"",
        (now // MILLISECOND + endpoint.ts_offset) & MASK if endpoint.ts_ok else -1,
        endpoint.ts_recent,
    )
    endpoint.route.send(endpoint, segment)


def sack_blocks(endpoint: Endpoint) -> SackBlocks:
    """The SACK option's blocks: a D-SACK first (RFC 2883 4), then ranges, the one that grew last first (RFC 2018 4)."""
    blocks: list[tuple[int, int]] = []
    dsack = endpoint.dsack
    if dsack is not None:
        blocks.append((dsack[0] & MASK, dsack[1] & MASK))
    assembler = endpoint.assembler
    if assembler is not None and assembler.recent:
        limit = MAX_SACK_BLOCKS_WITH_TIMESTAMPS if endpoint.ts_ok else MAX_SACK_BLOCKS
        for item in assembler.recent[: limit - len(blocks)]:
            blocks.append((item.start & MASK, item.end & MASK))
    return tuple(blocks)
