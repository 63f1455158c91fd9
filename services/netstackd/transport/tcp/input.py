"""What a received segment does to a connection: header prediction first, then the order of checks of RFC 9293 3.10.7.4.

The fast path takes what almost every segment of a running connection is: ESTABLISHED, the next expected sequence
number, ACK and perhaps PSH, a timestamp not older than the last, nothing lost, sacked, urgent or out of order. All
else goes through `_slow`: PAWS, sequence number, RST, SYN, ACK, URG, data, FIN.
"""

from __future__ import annotations

import errno
from select import POLLIN
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.storage.assembler import Assembler
from services.netstackd.transport.tcp import (
    acknowledge,
    handshake,
    output,
    sack,
    states,
    time_wait,
    timers,
    urgent,
    window,
)
from services.netstackd.transport.tcp.parameters import SECOND
from services.netstackd.transport.tcp.readiness import POLLRDHUP
from services.netstackd.transport.tcp.segment import ACK, CE, CWR, FIN, MASK, PSH, RST, SYN, URG, Payload, Segment
from services.netstackd.transport.tcp.states import (
    CAN_RECEIVE_DATA,
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    SYN_RECEIVED,
    SYN_SENT,
)

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

_IN_SEGS = COUNTER["TcpInSegs"]
_HP_HITS = COUNTER["TcpExtTCPHPHits"]
_HP_ACKS = COUNTER["TcpExtTCPHPAcks"]
_PAWS = COUNTER["TcpExtPAWSEstab"]
_CHALLENGE = COUNTER["TcpExtTCPChallengeACK"]
_SYN_CHALLENGE = COUNTER["TcpExtTCPSYNChallenge"]
_SKIPPED_CHALLENGE = COUNTER["TcpExtTCPACKSkippedChallenge"]
_SKIPPED_SEQ = COUNTER["TcpExtTCPACKSkippedSeq"]
_SKIPPED_PAWS = COUNTER["TcpExtTCPACKSkippedPAWS"]
_OFO_QUEUE = COUNTER["TcpExtTCPOFOQueue"]
_OFO_DROP = COUNTER["TcpExtTCPOFODrop"]
_OFO_MERGE = COUNTER["TcpExtTCPOFOMerge"]
_ZERO_WINDOW_DROP = COUNTER["TcpExtTCPZeroWindowDrop"]
_ABORT_ON_DATA = COUNTER["TcpExtTCPAbortOnData"]
_DELAYED_ACK_LOST = COUNTER["TcpExtDelayedACKLost"]
_DSACK_OLD = COUNTER["TcpExtTCPDSACKOldSent"]
_DSACK_OFO = COUNTER["TcpExtTCPDSACKOfoSent"]

PREDICTED: Final = 0xFF & ~PSH  # flags that must be ACK alone for the fast path
MAX_TAKEN: Final = 16384  # bytes; what comes in large segments is better handed over many at a time
PAWS_IDLE_LIMIT: Final = 24 * 24 * 3600 * SECOND  # RFC 7323 5.5
PIECE_OVERHEAD: Final = 256  # bytes charged for every piece kept out of order, against tiny ones


def receive(endpoint: Endpoint, segment: Segment, now: int) -> None:
    flags = segment.flags
    payload = segment.payload
    if (
        flags & PREDICTED != ACK
        or segment.sack_blocks
        or (segment.ecn == CE and payload)
        or not predict(endpoint, segment.seq, segment.ack, flags, segment.window, payload, segment.ts_val, now)
    ):
        endpoint.segs_in += 1
        endpoint.counters[_IN_SEGS] += 1
        _slow(endpoint, segment, now)


def predict(
    endpoint: Endpoint, seq: int, ack: int, flags: int, window_field: int, payload: Payload, ts_val: int, now: int
) -> bool:
    """Header prediction: take a segment whose flags are ACK and perhaps PSH, without SACK blocks, of which no data was
    marked CE. False: it is not the expected one, and nothing was changed.

    Arguments as the fields of a Segment have them; of `flags` only PSH counts.
    """
    rcv_nxt = endpoint.rcv_nxt
    if (
        endpoint.state != ESTABLISHED
        or seq != rcv_nxt & MASK
        or endpoint.ca_state
        or endpoint.slow_only
        or endpoint.sacked_bytes
        or endpoint.tail_probe_end
        or (endpoint.ts_ok and (ts_val < 0 or (ts_val - endpoint.ts_recent) & 0x80000000))
    ):
        return False
    una = endpoint.snd_una
    acked = (ack - una) & MASK
    size = len(payload)
    if (acked and acked > endpoint.snd_nxt - una) or (not size and not acked):
        return False
    if size and (endpoint.assembler is not None or size > endpoint.rcv_edge - rcv_nxt):
        return False
    counters = endpoint.counters
    counters[_IN_SEGS] += 1
    endpoint.segs_in += 1
    if ts_val >= 0 and rcv_nxt <= endpoint.last_ack_sent:
        endpoint.ts_recent = ts_val  # RFC 7323 4.3 (2)
        endpoint.ts_recent_at = now
    endpoint.last_receive = now
    offered = window_field << endpoint.snd_wscale
    if offered != endpoint.snd_wnd:
        endpoint.snd_wnd = offered
        if offered > endpoint.max_window:
            endpoint.max_window = offered
        if endpoint.timer == timers.PROBE:
            timers.stop(endpoint)
    endpoint.snd_wl1 = rcv_nxt
    endpoint.snd_wl2 = una + acked
    if acked:
        if not size:
            counters[_HP_ACKS] += 1
        acknowledge.advance(endpoint, acked, now)
    if size:
        counters[_HP_HITS] += 1
        endpoint.rcv_nxt = rcv_nxt + size
        endpoint.bytes_received += size
        window.on_data(endpoint, size, flags & PSH != 0, now)
        if not endpoint.ack_now:
            window.schedule_ack(endpoint, now)
        taken = 0
        if endpoint.taker is not None and not endpoint.receive.size and size <= MAX_TAKEN:
            taken = endpoint.taker(payload)
            endpoint.copied_seq += taken
            endpoint.read_since_ack = True
        if taken < size:
            endpoint.receive.append(payload[taken:] if taken else payload)
            endpoint.events |= POLLIN
            endpoint.wake()
            return True
        if endpoint.ack_now or window.is_read_news(endpoint):
            endpoint.wake()
            return True
    if endpoint.snd_nxt < endpoint.send.end or endpoint.fin_queued:
        endpoint.wake()
    return True


# -------------------------------------------------------------------- the whole order of checks


def _slow(endpoint: Endpoint, segment: Segment, now: int) -> None:
    state = endpoint.state
    if state == SYN_SENT:
        handshake.on_answer(endpoint, segment, now)
        return
    if state == CLOSED:
        return
    seq = sack.widen(segment.seq, endpoint.rcv_nxt)
    flags = segment.flags
    size = len(segment.payload)
    if not _acceptable(endpoint, segment, seq, size, now):
        return
    # Second, RST (RFC 5961 3.2)
    if flags & RST:
        if seq == endpoint.rcv_nxt or _ends_at_last_sack(endpoint, seq):
            _reset(endpoint)
        else:
            challenge(endpoint, now)
        return
    # Fourth, SYN (RFC 5961 4.2), but for the SYN-ACK that ends a simultaneous open
    if flags & SYN:
        if not (state == SYN_RECEIVED and flags & ACK and seq + 1 == endpoint.rcv_nxt and not size):
            endpoint.counters[_SYN_CHALLENGE] += 1
            challenge(endpoint, now)
            return
    if not flags & ACK:
        return
    endpoint.last_receive = now
    endpoint.keepalive_probes = 0
    if state == SYN_RECEIVED and not handshake.on_final_ack(endpoint, segment, seq, now):
        return
    verdict = acknowledge.process(endpoint, segment, seq, size, now)
    if verdict != acknowledge.OK:
        challenge(endpoint, now)
        return
    if endpoint.state == CLOSED:
        return
    if segment.ecn == CE and endpoint.ecn_ok and size:
        # RFC 3168 6.1.3: echo until CWR comes, at once.
        endpoint.ecn_echo = True
        endpoint.ack_now = True
        endpoint.wake()
    if flags & CWR and endpoint.ecn_ok:
        endpoint.ecn_echo = segment.ecn == CE
    if flags & URG:
        urgent.on_segment(endpoint, segment, seq)
    if size or flags & FIN:
        _accept(endpoint, segment, seq, size, now)


def _acceptable(endpoint: Endpoint, segment: Segment, seq: int, size: int, now: int) -> bool:
    """First: PAWS (RFC 7323 5.3), then the sequence number (RFC 9293 3.10.7.4 table 6). Answers what is neither."""
    flags = segment.flags
    length = size + (flags & SYN != 0) + (flags & FIN != 0)
    end = seq + length
    ts_val = segment.ts_val
    if endpoint.ts_ok and ts_val >= 0:
        if (ts_val - endpoint.ts_recent) & 0x80000000 and not flags & RST:
            if now - endpoint.ts_recent_at <= PAWS_IDLE_LIMIT and not _reordered_ack(endpoint, segment, seq, size):
                endpoint.counters[_PAWS] += 1
                _answer_duplicate(endpoint, seq, end, size, _SKIPPED_PAWS, now)
                return False
    edge = max(endpoint.rcv_edge, endpoint.rcv_nxt)
    if length == 0:
        good = min(endpoint.last_ack_sent, endpoint.rcv_nxt) <= seq <= edge
    else:
        good = end > endpoint.rcv_nxt and seq < edge
        if seq == endpoint.rcv_nxt == edge:
            # The window is closed: no data, but ACK, URG and RST of a valid segment count (3.10.7.4).
            good = True
    if good:
        if ts_val >= 0 and endpoint.ts_ok and seq <= endpoint.last_ack_sent and not flags & RST:
            if (ts_val - endpoint.ts_recent) & 0x80000000 == 0 or now - endpoint.ts_recent_at > PAWS_IDLE_LIMIT:
                endpoint.ts_recent = ts_val  # RFC 7323 4.3 (2)
                endpoint.ts_recent_at = now
        return True
    if flags & RST:
        return False
    if flags & SYN:
        if endpoint.state == SYN_RECEIVED and flags & ACK and end == endpoint.rcv_nxt:
            return True  # the SYN-ACK of a simultaneous open (RFC 9293 figure 7): its SYN is known, its ACK is not
        endpoint.counters[_SYN_CHALLENGE] += 1
        challenge(endpoint, now)
        return False
    _answer_duplicate(endpoint, seq, end, size, _SKIPPED_SEQ, now)
    return False


def _reordered_ack(endpoint: Endpoint, segment: Segment, seq: int, size: int) -> bool:
    """A pure ack that the network overtook carries an older timestamp and does no harm (tcp_disordered_ack)."""
    return (
        not size
        and not segment.flags & (SYN | FIN)
        and seq == endpoint.rcv_nxt
        and segment.ack == endpoint.snd_una & MASK
        and (endpoint.ts_recent - segment.ts_val) & MASK <= endpoint.rtt.rto // 1_000_000
    )


def _answer_duplicate(endpoint: Endpoint, seq: int, end: int, size: int, skipped: int, now: int) -> None:
    """An old or impossible segment: say where we are (RFC 9293 3.10.7.4), with a D-SACK of what came again (RFC 2883).
    Answers to segments without data are rate-limited, or two ends could keep each other busy."""
    if size:
        window.enter_quick_mode(endpoint, window.MAX_QUICK_ACKS)
        if end > seq and end <= endpoint.rcv_nxt and endpoint.sack_ok and endpoint.p.dsack:
            endpoint.counters[_DELAYED_ACK_LOST] += 1
            endpoint.counters[_DSACK_OLD] += 1
            endpoint.dsack = (seq, min(end, seq + size))
        output.send_ack(endpoint, now)
        return
    if now - endpoint.invalid_ack_at < endpoint.p.invalid_ratelimit:
        endpoint.counters[skipped] += 1
        return
    endpoint.invalid_ack_at = now
    output.send_ack(endpoint, now)


def challenge(endpoint: Endpoint, now: int) -> None:
    """A challenge ACK (RFC 5961), at most one in `invalid_ratelimit` for a connection and so many a second for all."""
    if now - endpoint.invalid_ack_at < endpoint.p.invalid_ratelimit or not endpoint.context.may_challenge(now):
        endpoint.counters[_SKIPPED_CHALLENGE] += 1
        return
    endpoint.invalid_ack_at = now
    endpoint.counters[_CHALLENGE] += 1
    output.send_ack(endpoint, now)


def _ends_at_last_sack(endpoint: Endpoint, seq: int) -> bool:
    """A peer that takes our SACK for an ack resets with the right edge of the last block; Linux accepts it."""
    assembler = endpoint.assembler
    return bool(assembler is not None and endpoint.sack_ok and assembler.ranges and assembler.ranges[-1].end == seq)


def _reset(endpoint: Endpoint) -> None:
    state = endpoint.state
    if state == SYN_RECEIVED and endpoint.actively_opened:
        error = errno.ECONNREFUSED  # RFC 9293 3.10.7.4: from SYN-SENT by a simultaneous open
    elif state == CLOSE_WAIT:
        error = errno.EPIPE
    else:
        error = errno.ECONNRESET
    endpoint.finish(error)


# -------------------------------------------------------------------- data and FIN


def _accept(endpoint: Endpoint, segment: Segment, seq: int, size: int, now: int) -> None:
    """Data and FIN of an acceptable segment whose ACK was processed."""
    state = endpoint.state
    if not CAN_RECEIVE_DATA >> state & 1 and state != SYN_RECEIVED:
        return  # the peer's FIN was processed: nothing can follow it (3.10.7.4, seventh)
    if size and endpoint.orphan and state in (FIN_WAIT_1, FIN_WAIT_2) and seq + size > endpoint.rcv_nxt:
        # RFC 9293 3.10.4, 1122 4.2.2.13: nobody will read this, so the peer must learn of it.
        endpoint.counters[_ABORT_ON_DATA] += 1
        output.send_reset(endpoint, now)
        endpoint.finish()
        return
    end = seq + size
    if segment.flags & FIN and (endpoint.fin_seq < 0 or end < endpoint.fin_seq):
        endpoint.fin_seq = end
    if size:
        payload = segment.payload
        edge = endpoint.rcv_edge
        rcv_nxt = endpoint.rcv_nxt
        if end > edge:
            # Beyond what was offered: kept out (3.10.7.4: trimmed to the window).
            if edge <= rcv_nxt:
                endpoint.counters[_ZERO_WINDOW_DROP] += 1
                endpoint.fin_seq = -1 if endpoint.fin_seq == end else endpoint.fin_seq
                endpoint.ack_now = True
                endpoint.wake()
                return
            payload = payload[: edge - seq]
            endpoint.fin_seq = -1 if endpoint.fin_seq == end else endpoint.fin_seq
            end = edge
        if seq <= rcv_nxt:
            if end > rcv_nxt:
                if seq < rcv_nxt:
                    _note_duplicate(endpoint, seq, rcv_nxt, now)
                    payload = payload[rcv_nxt - seq :]
                _in_order(endpoint, rcv_nxt, payload, segment.flags & PSH != 0, now)
        else:
            _out_of_order(endpoint, seq, payload, now)
    if endpoint.fin_seq == endpoint.rcv_nxt:
        _on_fin(endpoint, now)
    elif endpoint.fin_seq > endpoint.rcv_nxt:
        endpoint.slow_only = True  # header prediction does not look for it
        if not size:
            output.send_ack(endpoint, now)


def accept_after_syn(endpoint: Endpoint, segment: Segment, now: int) -> None:
    """Data or FIN that came with a SYN-ACK, or in the SYN of a fast open: it starts one after the SYN."""
    _accept(endpoint, segment, endpoint.irs + 1, len(segment.payload), now)


def _note_duplicate(endpoint: Endpoint, start: int, end: int, now: int) -> None:
    """The first part was here already: report it (RFC 2883 4), and acknowledge at once for a while."""
    if endpoint.sack_ok and endpoint.p.dsack:
        endpoint.dsack = (start, end)
        endpoint.counters[_DSACK_OLD] += 1
    window.enter_quick_mode(endpoint, window.MAX_QUICK_ACKS)
    endpoint.ack_now = True


def _in_order(endpoint: Endpoint, seq: int, payload: bytes | memoryview, pushed: bool, now: int) -> None:
    size = len(payload)
    _store(endpoint, seq, payload)
    endpoint.rcv_nxt = seq + size
    assembler = endpoint.assembler
    filled = False
    if assembler is not None:
        if assembler.ranges and assembler.ranges[0].start <= endpoint.rcv_nxt:
            filled = True
            endpoint.counters[_OFO_MERGE] += assembler.ranges[0].start < endpoint.rcv_nxt
            for chunk in assembler.take(endpoint.rcv_nxt):
                _store(endpoint, endpoint.rcv_nxt, chunk)
                endpoint.rcv_nxt += len(chunk)
        if not assembler.ranges:
            endpoint.assembler = None
    window.on_data(endpoint, size, pushed, now)
    if filled:
        endpoint.ack_now = True  # RFC 5681 4.2: at once when a gap is filled
    elif not endpoint.ack_now:
        window.schedule_ack(endpoint, now)
    endpoint.notify(POLLIN)


def _store(endpoint: Endpoint, seq: int, payload: bytes | memoryview) -> None:
    if endpoint.urgent_state:
        urgent.on_data(endpoint, seq, payload)
    endpoint.receive.append(payload)
    endpoint.bytes_received += len(payload)


def _out_of_order(endpoint: Endpoint, seq: int, payload: bytes | memoryview, now: int) -> None:
    """Keep it, and tell the sender at once, for each such segment (RFC 5681 4.2)."""
    assembler = endpoint.assembler
    if assembler is None:
        assembler = endpoint.assembler = Assembler()
    duplicate = assembler.add(seq, payload)
    endpoint.counters[_OFO_QUEUE] += 1
    if duplicate is not None and endpoint.sack_ok and endpoint.p.dsack:
        endpoint.dsack = duplicate
        endpoint.counters[_DSACK_OFO] += 1
    while assembler.size + assembler.pieces() * PIECE_OVERHEAD + endpoint.receive.size > endpoint.rcvbuf:
        if not assembler.drop_last():
            break
        endpoint.counters[_OFO_DROP] += 1
    endpoint.last_data_received = now
    window.enter_quick_mode(endpoint, window.MAX_QUICK_ACKS)
    output.send_ack(endpoint, now)


def _on_fin(endpoint: Endpoint, now: int) -> None:
    """Eighth, FIN (3.10.7.4)."""
    endpoint.rcv_nxt += 1
    endpoint.fin_received = True
    endpoint.fin_seq = -1
    endpoint.assembler = None
    endpoint.pingpong = window.PINGPONG
    endpoint.notify(POLLIN | POLLRDHUP)
    state = endpoint.state
    endpoint.change_state(states.GOT_FIN)
    if endpoint.state != CLOSE_WAIT:
        endpoint.ack_now = True
    elif not endpoint.ack_now:
        # The user is likely to close now, and then our FIN acknowledges this one (tcp_fin enters interactive mode).
        window.schedule_ack(endpoint, now)
    if state == FIN_WAIT_2:
        output.send_ack(endpoint, now)
        time_wait.enter(endpoint, now)
