"""A segment whose payload was put where the user reads before TCP saw it: header prediction in two steps.

    fits      may the payload of a segment with this header go behind all that the user was given? What `input.receive`
              asks for its fast path, and that nothing else waits to be read
    arrived   it is there: what the fast path does, the receive queue left out

Between the two the payload is copied, and nothing else may happen to the connection. Who has read the header vouches
for all that is not asked here: the connection's own addresses and ports, ACK and perhaps PSH as the only flags, no
options but the timestamp where there is one, a checksum that is right, no congestion mark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import acknowledge, timers, window
from services.netstackd.transport.tcp.segment import MASK
from services.netstackd.transport.tcp.states import ESTABLISHED

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

_IN_SEGS = COUNTER["TcpInSegs"]
_HP_HITS = COUNTER["TcpExtTCPHPHits"]


def is_plain(endpoint: Endpoint) -> bool:
    """Whether nothing stands against it but what the next segment's header may say."""
    return (
        endpoint.state == ESTABLISHED
        and not endpoint.receive.size
        and endpoint.assembler is None
        and not (
            endpoint.ca_state
            or endpoint.slow_only
            or endpoint.sacked_bytes
            or endpoint.tail_probe_end
            or endpoint.urgent_state
            or endpoint.receive_shutdown
        )
    )


def fits(endpoint: Endpoint, ack: int, ts_val: int) -> bool:
    """Whether the acknowledgement (as on the wire) and the timestamp (-1: none) are such as header prediction takes."""
    return (ack - endpoint.snd_una) & MASK <= endpoint.snd_nxt - endpoint.snd_una and (
        not endpoint.ts_ok or (ts_val >= 0 and not (ts_val - endpoint.ts_recent) & 0x80000000)
    )


def arrived(
    endpoint: Endpoint, ack: int, offered: int, ts_val: int, size: int, segments: int, pushed: bool, now: int
) -> None:
    """As `input.receive`, for `segments` in a row that are `size` bytes together; offered: the last one's window as on
    the wire. The user has the bytes: they count as read."""
    endpoint.segs_in += segments
    counters = endpoint.counters
    counters[_IN_SEGS] += segments
    counters[_HP_HITS] += segments
    rcv_nxt = endpoint.rcv_nxt
    if ts_val >= 0 and rcv_nxt <= endpoint.last_ack_sent:
        endpoint.ts_recent = ts_val  # RFC 7323 4.3 (2)
        endpoint.ts_recent_at = now
    endpoint.last_receive = now
    offered <<= endpoint.snd_wscale
    if offered != endpoint.snd_wnd:
        endpoint.snd_wnd = offered
        if offered > endpoint.max_window:
            endpoint.max_window = offered
        if endpoint.timer == timers.PROBE:
            timers.stop(endpoint)
    endpoint.snd_wl1 = rcv_nxt
    acked = (ack - endpoint.snd_una) & MASK
    endpoint.snd_wl2 = endpoint.snd_una + acked
    if acked:
        acknowledge.advance(endpoint, acked, now)
    endpoint.rcv_nxt = rcv_nxt + size
    endpoint.bytes_received += size
    endpoint.copied_seq += size
    endpoint.read_since_ack = True
    window.on_data(endpoint, size, pushed, now)
    if not endpoint.ack_now:
        window.schedule_ack(endpoint, now)
    if not endpoint.queued:
        endpoint.queued = True
        endpoint.context.pending.append(endpoint)
