"""TIME-WAIT: what is left of a connection for a minute after it has ended (RFC 9293 3.6.1), in a few fields.

It answers a repeated FIN, keeps old duplicates away from a new connection of the same ends, and makes room when a new
SYN is beyond doubt newer: a higher sequence number, or a later timestamp (RFC 9293 3.10.7.4, 6191). A reset ends it
early unless `rfc1337` is set (RFC 1337).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import output
from services.netstackd.transport.tcp.parameters import MILLISECOND, NEVER, SECOND, TIME_WAIT_LENGTH
from services.netstackd.transport.tcp.segment import ACK, FIN, MASK, RST, SYN, Segment
from services.netstackd.transport.tcp.states import TIME_WAIT

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.context import Route, TcpContext
    from services.netstackd.transport.tcp.endpoint import Endpoint

_TW = COUNTER["TcpExtTW"]
_RECYCLED = COUNTER["TcpExtTWRecycled"]
_OVERFLOW = COUNTER["TcpExtTCPTimeWaitOverflow"]
_SKIPPED = COUNTER["TcpExtTCPACKSkippedTimeWait"]
_IN_SEGS = COUNTER["TcpInSegs"]
_OUT_SEGS = COUNTER["TcpOutSegs"]


class TimeWait:
    """In the stack's table in place of the endpoint. Sequence numbers are wire numbers here."""

    __slots__ = (
        "_ack_at",
        "_ends_at",
        "context",
        "deadline",
        "flow",
        "rcv_nxt",
        "route",
        "snd_nxt",
        "ts_offset",
        "ts_ok",
        "ts_recent",
        "ts_recent_at",
        "window",
    )

    state: ClassVar[int] = TIME_WAIT

    def __init__(self, endpoint: Endpoint, now: int) -> None:
        self.context: TcpContext = endpoint.context
        self.route: Route = endpoint.route
        self.flow = endpoint.flow
        self.snd_nxt = endpoint.snd_nxt & MASK
        self.rcv_nxt = endpoint.rcv_nxt & MASK
        self.window = (endpoint.rcv_edge - endpoint.rcv_nxt if endpoint.rcv_edge > endpoint.rcv_nxt else 0) >> (
            endpoint.rcv_wscale
        )
        self.ts_ok = endpoint.ts_ok
        self.ts_recent = endpoint.ts_recent
        self.ts_recent_at = endpoint.ts_recent_at
        self.ts_offset = endpoint.ts_offset
        self.deadline = self._ends_at = now + TIME_WAIT_LENGTH
        self._ack_at = -NEVER

    def on_segment(self, segment: Segment, now: int) -> bool:
        """False: a SYN that opens a new connection; this object is over, the segment goes to the listener."""
        self.context.counters[_IN_SEGS] += 1
        flags = segment.flags
        stale = self.ts_ok and segment.ts_val >= 0 and (segment.ts_val - self.ts_recent) & 0x80000000 != 0
        if flags & RST:
            # RFC 1337: a reset may be an old duplicate; Linux lets an exact one end the state all the same.
            if segment.seq == self.rcv_nxt and not stale and not self.context.parameters.rfc1337:
                self._end()
            return True
        if not stale and segment.seq == self.rcv_nxt and not segment.payload and not flags & (SYN | FIN):
            if self.ts_ok and segment.ts_val >= 0:
                self.ts_recent = segment.ts_val
                self.ts_recent_at = now
            return True
        if flags & SYN and not flags & ACK and not stale and self._is_newer(segment):
            self.context.counters[_RECYCLED] += 1
            self.retire()
            return False
        if flags & ACK:
            if flags & FIN and not stale:
                self._ends_at = now + TIME_WAIT_LENGTH  # RFC 9293 3.10.7.4, eighth: restart the 2 MSL time-out
            self._acknowledge(now)
        return True

    def _is_newer(self, segment: Segment) -> bool:
        """RFC 6191 2, RFC 9293 MAY-2."""
        if (segment.seq - self.rcv_nxt) & MASK < 0x80000000 and segment.seq != self.rcv_nxt:
            return True
        return self.ts_ok and segment.ts_val >= 0 and segment.ts_val != self.ts_recent

    def _acknowledge(self, now: int) -> None:
        counters = self.context.counters
        if now - self._ack_at < self.context.parameters.invalid_ratelimit:
            counters[_SKIPPED] += 1
            return
        self._ack_at = now
        counters[_OUT_SEGS] += 1
        ts_val = (now // MILLISECOND + self.ts_offset) & MASK if self.ts_ok else -1
        self.route.send(self, Segment(self.snd_nxt, self.rcv_nxt, ACK, self.window, b"", ts_val, self.ts_recent))

    def may_reuse(self, now: int) -> bool:
        """May `connect` take this pair of ends again (tcp_tw_reuse)? Timestamps keep old duplicates out after 1 s."""
        return self.ts_ok and now - self.ts_recent_at > SECOND

    def next_initial_sequence(self) -> int:
        """An ISN beyond everything the old connection sent (Linux adds a window and two)."""
        return (self.snd_nxt + 65535 + 2) & MASK

    def on_timer(self, now: int) -> None:
        if self.deadline == NEVER:
            return
        if now >= self._ends_at:
            self._end()
        else:
            self.deadline = self._ends_at
            self.context.schedule(self)

    def on_error(self, kind: int, mtu: int, now: int) -> None:
        """ICMP means nothing any more."""

    def owns_sequence(self, seq: int) -> bool:
        return False

    def _end(self) -> None:
        self.retire()
        self.context.on_done(self, None)

    def retire(self) -> None:
        """Make room: a new connection takes the place. The stack's table is the caller's business."""
        if self.deadline != NEVER:
            self.deadline = NEVER
            self.context.time_wait_count -= 1


def enter(endpoint: Endpoint, now: int) -> None:
    """The endpoint is over; a TimeWait takes its place, unless there are too many of them already."""
    context = endpoint.context
    if context.time_wait_count >= context.parameters.max_tw_buckets:
        context.counters[_OVERFLOW] += 1
        endpoint.finish()
        return
    if endpoint.ack_now:
        output.send_ack(endpoint, now)
    context.counters[_TW] += 1
    context.time_wait_count += 1
    rest = TimeWait(endpoint, now)
    endpoint.finish(0, rest)
    context.schedule(rest)
