"""The receiver's decisions: how much window to offer, when to acknowledge, how large the receive buffer should be.

Window: half of the receive buffer may be offered (as with Linux's tcp_adv_win_scale 1; the rest pays for overhead and
for data out of order). The right edge never moves back (RFC 9293 3.8.6), and moves forward in steps worth a segment
(silly window avoidance, 3.8.6.2.2).

Acks: at once for every second full segment, in quick mode (the beginning of a connection, after a pause, after
trouble); else after `ato`, between 40 and 200 ms, that follows the rate of arrival (RFC 9293 3.8.6.3; Linux's
adaptive scheme).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp.parameters import (
    DELAYED_ACK_MAX,
    DELAYED_ACK_MIN,
    MAX_WINDOW,
    MILLISECOND,
    NEVER,
)

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

MAX_QUICK_ACKS: Final = 16
PINGPONG: Final = 1  # answers sent soon after what they answer, before acks wait for data to ride on
MIN_RCV_MSS: Final = 536

_TO_ZERO = COUNTER["TcpExtTCPToZeroWindowAdv"]
_FROM_ZERO = COUNTER["TcpExtTCPFromZeroWindowAdv"]
_WANT_ZERO = COUNTER["TcpExtTCPWantZeroWindowAdv"]


def initial_window(endpoint: Endpoint, mss: int) -> int:
    """The window of a SYN: at most 65535 (it is never scaled), whole segments where more than one fits."""
    space = min(offered_space(endpoint), MAX_WINDOW)
    return space - space % mss if space > mss > 0 else space


def wanted_scale(endpoint: Endpoint) -> int:
    """The shift that lets the largest buffer we may ever have be offered (RFC 7323 2.3)."""
    space = max(endpoint.rcvbuf, endpoint.p.rmem[2])
    if endpoint.options.window_clamp:
        space = min(space, endpoint.options.window_clamp)
    return max(0, min(space.bit_length() - 16, 14))


def offered_space(endpoint: Endpoint) -> int:
    """Bytes of window when nothing waits to be read."""
    space = min(endpoint.rcvbuf >> 1, endpoint.user_space)
    clamp = endpoint.options.window_clamp
    return min(space, clamp) if clamp else space


def select(endpoint: Endpoint) -> int:
    """The window to offer now, in bytes, a multiple of what the scale can express."""
    space = endpoint.rcvbuf >> 1
    if space > endpoint.user_space:
        space = endpoint.user_space
    clamp = endpoint.options.window_clamp
    if clamp and clamp < space:
        space = clamp
    free = space - endpoint.receive.size - endpoint.user_unread
    assembler = endpoint.assembler
    if assembler is not None:
        free -= assembler.size
    current = endpoint.rcv_edge - endpoint.rcv_nxt
    if current < 0:
        current = 0
    mss = endpoint.rcv_mss
    if mss > space:
        mss = space
    if free < space >> 1 and (free < mss or free < space >> 4):
        free = 0
    scale = endpoint.rcv_wscale
    free = (free >> scale) << scale
    if free <= current:
        if free < current:
            endpoint.counters[_WANT_ZERO] += free == 0
        return current
    step = space >> 1
    if step > mss:
        step = mss
    if free - current < step:
        return current
    limit = MAX_WINDOW << scale
    return free if free < limit else limit


def field(endpoint: Endpoint) -> int:
    """The header's window field for a segment that leaves now; moves the edge that the peer may send up to."""
    scale = endpoint.rcv_wscale
    if endpoint.assembler is None:
        # The common case, told at a glance: not a segment's worth more could be offered than is already.
        current = endpoint.rcv_edge - endpoint.rcv_nxt
        unread = endpoint.receive.size + endpoint.user_unread
        if 0 < current and (endpoint.rcvbuf >> 1) - unread - current < endpoint.rcv_mss:
            scaled = -(-current >> scale)
            endpoint.rcv_edge = endpoint.rcv_nxt + (scaled << scale)  # what the peer reads out of it
            return scaled
    size = select(endpoint)
    scaled = -(-size >> scale)  # an edge offered before is kept, rounded up
    if scaled > MAX_WINDOW:
        scaled = MAX_WINDOW
    edge = endpoint.rcv_nxt + (scaled << scale)
    old = endpoint.rcv_edge
    if edge > old:
        if old <= endpoint.last_ack_sent:
            endpoint.counters[_FROM_ZERO] += 1
        endpoint.rcv_edge = edge
    elif not scaled and old > endpoint.last_ack_sent:
        endpoint.counters[_TO_ZERO] += 1
    return scaled


# -------------------------------------------------------------------- acknowledging


def on_data(endpoint: Endpoint, size: int, pushed: bool, now: int) -> None:
    """`size` bytes of new data came: adapt the delay of acks and the estimate of the peer's segment size."""
    mss = endpoint.rcv_mss
    if size >= mss:
        if size > mss:
            # A merged segment tells of no more than our own offer allows.
            endpoint.rcv_mss = min(size, max(endpoint.advertised_mss, MIN_RCV_MSS))
    elif pushed:
        endpoint.ack_pushed = 2 if endpoint.ack_pushed else 1
    ato = endpoint.ato
    if not ato:
        enter_quick_mode(endpoint, MAX_QUICK_ACKS)
        endpoint.ato = DELAYED_ACK_MIN
    else:
        gap = now - endpoint.last_data_received
        if gap <= DELAYED_ACK_MIN >> 1:
            endpoint.ato = (ato >> 1) + (DELAYED_ACK_MIN >> 1)
        elif gap < ato:
            endpoint.ato = min((ato >> 1) + gap, endpoint.rtt.rto)
        elif gap > endpoint.rtt.rto:
            enter_quick_mode(endpoint, MAX_QUICK_ACKS)  # the peer starts again from a pause
    endpoint.last_data_received = now
    if endpoint.rcv_nxt >= endpoint.rcv_rtt_seq:
        _measure_rtt(endpoint, now)


def enter_quick_mode(endpoint: Endpoint, most: int) -> None:
    quick = (endpoint.rcv_edge - endpoint.rcv_nxt) // (2 * endpoint.rcv_mss)
    quick = min(max(quick, 2), most)
    if quick > endpoint.quick_acks:
        endpoint.quick_acks = quick


def set_quickack(endpoint: Endpoint, value: int) -> None:
    """TCP_QUICKACK: not permanent (tcp(7)); 0 leaves quick mode, 1 enters it and acknowledges what waits."""
    if not value:
        endpoint.pingpong = PINGPONG
        endpoint.quick_acks = 0
        return
    endpoint.pingpong = 0
    if endpoint.ack_due_at != NEVER:
        endpoint.ack_now = True
        endpoint.wake()


def schedule_ack(endpoint: Endpoint, now: int) -> None:
    """Data was accepted: acknowledge at the next flush, or start the delay (RFC 5681 4.2: at least every second)."""
    if (
        (endpoint.quick_acks and endpoint.pingpong < PINGPONG)
        or endpoint.rcv_nxt - endpoint.last_ack_sent > endpoint.rcv_mss
        or (endpoint.assembler is not None and endpoint.assembler.ranges)
    ):
        endpoint.ack_now = True
        return
    delay_ack(endpoint, now)


def delay_ack(endpoint: Endpoint, now: int) -> None:
    """Start, or keep, the delayed-ack timer."""
    ato = endpoint.ato
    if ato > DELAYED_ACK_MIN:
        limit = DELAYED_ACK_MAX if endpoint.pingpong >= PINGPONG or endpoint.ack_pushed else 500 * MILLISECOND
        srtt = endpoint.rtt.srtt
        if srtt:
            limit = min(limit, max(srtt, DELAYED_ACK_MIN))
        ato = min(ato, limit)
    at = now + min(max(ato, DELAYED_ACK_MIN), DELAYED_ACK_MAX)
    due = endpoint.ack_due_at
    if due != NEVER:
        if due <= now + (ato >> 2):
            endpoint.ack_now = True  # it is about to fire: no use to wait
            return
        if due < at:
            at = due
    endpoint.ack_due_at = at
    if at < endpoint.deadline:
        endpoint.arm(at)


def on_ack_sent(endpoint: Endpoint) -> None:
    """A segment with our ACK left: nothing is owed any more."""
    endpoint.ack_now = False
    endpoint.ack_due_at = NEVER
    endpoint.ack_pushed = 0
    endpoint.last_ack_sent = endpoint.rcv_nxt
    if endpoint.quick_acks:
        endpoint.quick_acks -= 1
        if not endpoint.quick_acks:
            endpoint.ato = DELAYED_ACK_MIN


def on_delayed_ack_timer(endpoint: Endpoint) -> None:
    """The delay is over: wait longer the next time if nothing came to ride on, no longer if something used to."""
    if endpoint.pingpong >= PINGPONG:
        endpoint.pingpong = 0
        endpoint.ato = DELAYED_ACK_MIN
    else:
        endpoint.ato = min(endpoint.ato << 1, endpoint.rtt.rto)


# -------------------------------------------------------------------- buffer size


def _measure_rtt(endpoint: Endpoint, now: int) -> None:
    """One window has passed since the last mark: the receiver's estimate of a round trip (Dynamic Right-Sizing)."""
    if endpoint.rcv_rtt_at:
        sample = max(now - endpoint.rcv_rtt_at, 1000)
        rtt = endpoint.rcv_rtt
        endpoint.rcv_rtt = sample if not rtt or sample < rtt else rtt + ((sample - rtt) >> 3)
    endpoint.rcv_rtt_at = now
    endpoint.rcv_rtt_seq = endpoint.rcv_edge


def after_read(endpoint: Endpoint, now: int) -> None:
    """The user has read: tune the buffer, and tell the peer when the window has opened by much."""
    endpoint.read_since_ack = False
    rtt = endpoint.rcv_rtt or endpoint.rtt.srtt
    if rtt and now - endpoint.rcv_space_at >= rtt:
        _tune(endpoint, now)
    if is_read_news(endpoint):
        endpoint.ack_now = True


def is_read_news(endpoint: Endpoint) -> bool:
    """Whether the peer is to hear at once that the user has read: an acknowledgement waits for that, or the window has
    opened by much (tcp_cleanup_rbuf)."""
    if endpoint.ack_due_at != NEVER and (
        endpoint.rcv_nxt - endpoint.last_ack_sent > endpoint.rcv_mss
        or (
            not endpoint.receive.size
            and (endpoint.ack_pushed > 1 or (endpoint.ack_pushed and endpoint.pingpong < PINGPONG))
        )
    ):
        return True
    current = endpoint.rcv_edge - endpoint.rcv_nxt
    if 2 * current <= offered_space(endpoint) and not endpoint.fin_received:
        offer = select(endpoint)
        return offer > 0 and offer >= 2 * current
    return False


def _tune(endpoint: Endpoint, now: int) -> None:
    """The user took more in this round trip than in any before: let the peer send twice that (tcp_moderate_rcvbuf)."""
    copied = endpoint.copied_seq - endpoint.rcv_space_seq
    if copied > endpoint.rcv_space:
        if endpoint.p.moderate_rcvbuf and not endpoint.options.rcvbuf:
            wanted = 2 * copied + 16 * max(endpoint.advertised_mss, MIN_RCV_MSS)
            if endpoint.rcv_space:
                wanted += 2 * (wanted * (copied - endpoint.rcv_space) // endpoint.rcv_space)
            size = min(2 * wanted, endpoint.p.rmem[2])
            if size > endpoint.rcvbuf:
                endpoint.rcvbuf = size
        endpoint.rcv_space = copied
    endpoint.rcv_space_seq = endpoint.copied_seq
    endpoint.rcv_space_at = now


def send_buffer_after_ack(endpoint: Endpoint) -> None:
    """Grow the send buffer with the congestion window: room for what is in flight and as much again, doubled, as Linux
    counts overhead (tcp_sndbuf_expand)."""
    if endpoint.options.sndbuf:
        return
    wanted = 4 * max(endpoint.cc.cwnd, endpoint.p.initial_window * endpoint.mss)
    limit = endpoint.p.wmem[2]
    if wanted > limit:
        wanted = limit
    if wanted > endpoint.sndbuf:
        endpoint.sndbuf = wanted
