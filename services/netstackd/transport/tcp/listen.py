"""A listening socket: half-open connections, SYN cookies, fast open, the accept queue.

A SYN makes a `Request`, a few fields, no endpoint (RFC 9293 3.10.7.2). The ACK that completes the handshake turns it
into an `Endpoint`, which the stack enters into its table and the user fetches with `accept`. Limits are Linux's:
- the SYN queue holds as many requests as the backlog; when it is full, SYN cookies answer (or the SYN is dropped);
- the accept queue holds backlog + 1; when it is full, SYNs and final ACKs are dropped, and the peer's retransmission
  asks again (`abort_on_overflow` resets instead).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from select import POLLHUP, POLLIN
from typing import TYPE_CHECKING

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import fast_open, handshake, states, syncookies, timers
from services.netstackd.transport.tcp import input as incoming
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.isn import initial_sequence, timestamp_offset
from services.netstackd.transport.tcp.parameters import (
    DEFAULT_MSS,
    INITIAL_RTO,
    MAX_WINDOW,
    MILLISECOND,
    MIN_MSS,
    NEVER,
    Options,
)
from services.netstackd.transport.tcp.scoreboard import EVER_RETRANSMITTED
from services.netstackd.transport.tcp.segment import ACK, CWR, ECE, FIN, MASK, RST, SYN, Segment, reset_for
from services.netstackd.wire.tcp_options import SynOptions

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.context import Route, TcpContext
    from services.netstackd.transport.tcp.time_wait import TimeWait

_PASSIVE_OPENS = COUNTER["TcpPassiveOpens"]
_ATTEMPT_FAILS = COUNTER["TcpAttemptFails"]
_EMBRYONIC = COUNTER["TcpExtEmbryonicRsts"]
_OVERFLOWS = COUNTER["TcpExtListenOverflows"]
_DROPS = COUNTER["TcpExtListenDrops"]
_COOKIES_SENT = COUNTER["TcpExtSyncookiesSent"]
_COOKIES_RECV = COUNTER["TcpExtSyncookiesRecv"]
_COOKIES_FAILED = COUNTER["TcpExtSyncookiesFailed"]
_FULL_COOKIES = COUNTER["TcpExtTCPReqQFullDoCookies"]
_FULL_DROP = COUNTER["TcpExtTCPReqQFullDrop"]
_DEFER_DROP = COUNTER["TcpExtTCPDeferAcceptDrop"]
_TIMEOUTS = COUNTER["TcpExtTCPTimeouts"]
_SYN_RETRANS = COUNTER["TcpExtTCPSynRetrans"]
_RETRANS_SEGS = COUNTER["TcpRetransSegs"]
_OUT_RSTS = COUNTER["TcpOutRsts"]
_IN_SEGS = COUNTER["TcpInSegs"]
_OUT_SEGS = COUNTER["TcpOutSegs"]
_SKIPPED_SYN_RECV = COUNTER["TcpExtTCPACKSkippedSynRecv"]
_FO_PASSIVE = COUNTER["TcpExtTCPFastOpenPassive"]
_FO_PASSIVE_FAIL = COUNTER["TcpExtTCPFastOpenPassiveFail"]
_FO_OVERFLOW = COUNTER["TcpExtTCPFastOpenListenOverflow"]
_FO_COOKIE_REQUEST = COUNTER["TcpExtTCPFastOpenCookieReqd"]
_ABORT_ON_CLOSE = COUNTER["TcpExtTCPAbortOnClose"]


class Request:
    """One half-open connection: what the SYN said, and what our SYN-ACK said. Wire sequence numbers."""

    __slots__ = (
        "acked",
        "answer_at",
        "ecn",
        "flow",
        "irs",
        "iss",
        "mss",
        "rcv_wscale",
        "retries",
        "route",
        "sack",
        "sent_at",
        "syn_ack_ts",
        "timeout_at",
        "ts_offset",
        "ts_ok",
        "ts_recent",
        "window",
        "wscale",
    )

    def __init__(self, flow: bytes, route: Route, irs: int, ts_offset: int) -> None:
        self.flow = flow
        self.ts_offset = ts_offset
        self.route = route
        self.irs = irs
        self.iss = 0
        self.mss = DEFAULT_MSS
        self.wscale = -1
        self.rcv_wscale = 0
        self.sack = False
        self.ecn = False
        self.ts_ok = False
        self.ts_recent = 0
        self.window = 0
        self.sent_at = 0
        self.retries = 0
        self.acked = False  # the final ACK came and could not be taken
        self.timeout_at = NEVER
        self.answer_at = -NEVER  # last answer to something out of window, for the rate limit
        self.syn_ack_ts = -1  # a timestamp other than the clock's (SYN cookies)


class Listener:
    """Life: made, `on_segment` until `close`. `on_event(listener, POLLIN)` tells of something to accept."""

    def __init__(self, context: TcpContext, options: Options | None, backlog: int) -> None:
        self.context = context
        self.p = context.parameters
        self.options = Options(context.parameters) if options is None else options
        self.backlog = min(max(backlog, 0), self.p.somaxconn)
        self.requests: dict[bytes, Request] = {}
        self.queue: deque[Endpoint] = deque()
        self.fast_open_pending: dict[bytes, Endpoint] = {}
        self.deadline = NEVER
        self.owner: object = None
        self.on_event: Callable[[Listener, int], None] | None = None
        self.state = states.LISTEN
        self._events = 0
        self._queued = False
        self._timeouts: list[tuple[int, int, Request]] = []
        self._order = 0
        self._cookie_sent_at = -NEVER

    # ---------------------------------------------------------------- the user's side

    def set_backlog(self, backlog: int) -> None:
        """listen(2) called again."""
        self.backlog = min(max(backlog, 0), self.p.somaxconn)

    def accept(self) -> Endpoint | None:
        """The oldest connection that nobody fetched; None when there is none (EAGAIN)."""
        return self.queue.popleft() if self.queue else None

    def readiness(self) -> int:
        if self.state == states.CLOSED:
            return POLLHUP
        return POLLIN if self.queue else 0

    def close(self, now: int) -> None:
        """Forget what is half open; reset what nobody accepted (inet_csk_listen_stop)."""
        self.state = states.CLOSED
        self.requests.clear()
        self._timeouts.clear()
        self.deadline = NEVER
        self.on_event = None
        while self.queue:
            endpoint = self.queue.popleft()
            self.context.counters[_ABORT_ON_CLOSE] += 1
            endpoint.abort(now)

    def flush(self, now: int) -> None:
        """Tell the user what happened since the last batch."""
        self._queued = False
        events = self._events
        self._events = 0
        if events and self.on_event is not None:
            self.on_event(self, events)

    def _notify(self) -> None:
        self._events |= POLLIN
        if not self._queued:
            self._queued = True
            self.context.pending.append(self)

    # ---------------------------------------------------------------- segments

    def on_segment(
        self, segment: Segment, flow: bytes, route: Route, now: int, reuse: TimeWait | None = None
    ) -> Endpoint | None:
        """A segment for this address that belongs to no connection. An Endpoint that comes back is a new connection
        and has processed the segment; the stack enters it into its table under `flow`."""
        counters = self.context.counters
        counters[_IN_SEGS] += 1
        flags = segment.flags
        request = self.requests.get(flow)
        if request is not None:
            return self._on_request(request, segment, now)
        if flags & RST:
            return None
        if flags & ACK:
            return self._on_stray_ack(segment, flow, route, now)
        if not flags & SYN or flags & FIN:
            return None
        return self._on_syn(segment, flow, route, now, reuse)

    def _accept_queue_full(self) -> bool:
        return len(self.queue) > self.backlog

    def _on_syn(self, segment: Segment, flow: bytes, route: Route, now: int, reuse: TimeWait | None) -> Endpoint | None:
        counters = self.context.counters
        with_cookie = self.p.syncookies == 2
        if len(self.requests) >= self.backlog and not with_cookie:
            if not self.p.syncookies:
                counters[_FULL_DROP] += 1
                counters[_DROPS] += 1
                return None
            counters[_FULL_COOKIES] += 1
            with_cookie = True
        if self._accept_queue_full():
            counters[_OVERFLOWS] += 1
            counters[_DROPS] += 1
            return None
        request = self._request_from(segment, flow, route, now, with_cookie)
        if reuse is not None and not with_cookie:
            request.iss = reuse.next_initial_sequence()
        syn = segment.syn
        cookie = syn.fast_open if syn is not None else None
        give_cookie: bytes | None = None
        if cookie is not None and self.options.fastopen and self.p.fastopen & 2 and not with_cookie:
            right = fast_open.server_cookie(self.context, route.peer)
            if cookie == right:
                endpoint = self._fast_open(request, segment, now)
                if endpoint is not None:
                    return endpoint
            else:
                counters[_FO_COOKIE_REQUEST if not cookie else _FO_PASSIVE_FAIL] += 1
                give_cookie = right
        if with_cookie:
            self._cookie_sent_at = now
            counters[_COOKIES_SENT] += 1
            self._send_syn_ack(request, now)
            return None
        request.timeout_at = now + INITIAL_RTO
        self.requests[flow] = request
        self._push_timeout(request)
        self._send_syn_ack(request, now, give_cookie)
        return None

    def _request_from(self, segment: Segment, flow: bytes, route: Route, now: int, with_cookie: bool) -> Request:
        """What both sides will use, from the SYN's options and our parameters."""
        p = self.p
        syn = segment.syn or SynOptions()
        request = Request(flow, route, segment.seq, timestamp_offset(self.context, flow))
        request.mss = max(syn.mss, MIN_MSS) if syn.mss else DEFAULT_MSS
        request.window = segment.window
        request.ts_ok = p.timestamps and segment.ts_val >= 0
        request.ts_recent = segment.ts_val if request.ts_ok else 0
        keep = request.ts_ok or not with_cookie  # a cookie without timestamps remembers the MSS alone
        if keep and p.window_scaling and syn.wscale >= 0:
            request.wscale = syn.wscale
            request.rcv_wscale = self._wanted_scale()
        request.sack = keep and p.sack and syn.sack_permitted
        # RFC 3168 6.1.1: an ECN-setup SYN has both bits; one that is itself marked is suspicious.
        request.ecn = keep and p.ecn > 0 and segment.flags & (ECE | CWR) == ECE | CWR and segment.ecn == 0
        if with_cookie:
            request.iss = syncookies.make(self.context, flow, segment.seq, request.mss, now)
            if request.ts_ok:
                request.syn_ack_ts = syncookies.timestamp(
                    request.ts_offset, request.wscale, request.sack, request.ecn, now
                )
        else:
            request.iss = initial_sequence(self.context, flow, now)
        return request

    def _wanted_scale(self) -> int:
        space = max(self.options.rcvbuf or self.p.rmem[1], self.p.rmem[2])
        clamp = self.options.window_clamp
        if clamp:
            space = min(space, clamp)
        return max(0, min(space.bit_length() - 16, 14))

    def _advertised_mss(self, route: Route) -> int:
        mss = route.advertised_mss()
        return min(mss, self.options.maxseg) if self.options.maxseg else mss

    def _send_syn_ack(self, request: Request, now: int, give_cookie: bytes | None = None) -> None:
        advertised = self._advertised_mss(request.route)
        space = min((self.options.rcvbuf or self.p.rmem[1]) >> 1, MAX_WINDOW)
        if self.options.window_clamp:
            space = min(space, self.options.window_clamp)
        offer = space - space % advertised if space > advertised > 0 else space
        ts_val = -1
        if request.ts_ok:
            ts_val = request.syn_ack_ts
            if ts_val < 0:
                ts_val = (now // MILLISECOND + request.ts_offset) & MASK
        syn = SynOptions(advertised, request.rcv_wscale if request.wscale >= 0 else -1, request.sack, give_cookie)
        flags = SYN | ACK | (ECE if request.ecn else 0)
        request.sent_at = now
        self.context.counters[_OUT_SEGS] += 1
        request.route.send(
            None,
            Segment(request.iss, (request.irs + 1) & MASK, flags, offer, b"", ts_val, request.ts_recent, syn=syn),
        )

    # ---------------------------------------------------------------- the handshake's last step

    def _on_request(self, request: Request, segment: Segment, now: int) -> Endpoint | None:
        """A segment of a half-open connection: SYN-RECEIVED of RFC 9293 3.10.7.4, before there is an endpoint."""
        counters = self.context.counters
        flags = segment.flags
        stale = request.ts_ok and segment.ts_val >= 0 and (segment.ts_val - request.ts_recent) & 0x80000000 != 0
        if flags & (SYN | ACK | RST | FIN) == SYN and segment.seq == request.irs and not stale:
            self._answer(request, now, syn_ack=True)  # the peer did not get our SYN-ACK
            return None
        expected = (request.irs + 1) & MASK
        offset = (segment.seq - expected) & MASK
        in_window = offset <= MAX_WINDOW
        if flags & ACK and segment.ack != (request.iss + 1) & MASK and not flags & RST:
            self._reset(request.route, segment)
            return None
        if stale or not in_window:
            if not flags & RST:
                self._answer(request, now, syn_ack=False)
            return None
        if request.ts_ok and segment.ts_val >= 0 and not offset:
            request.ts_recent = segment.ts_val
        if flags & RST:
            if not offset:  # RFC 5961 3.2: exactly the expected one
                counters[_EMBRYONIC] += 1
                self._drop(request)
            else:
                self._answer(request, now, syn_ack=False)
            return None
        if flags & SYN:
            # RFC 9293 3.10.7.4, fourth: a passive open returns to LISTEN.
            counters[_EMBRYONIC] += 1
            self._drop(request)
            return None
        if not flags & ACK:
            return None
        if self._defers(request, segment, now):
            return None
        if self._accept_queue_full():
            counters[_OVERFLOWS] += 1
            counters[_DROPS] += 1
            if self.p.abort_on_overflow:
                self._drop(request)
                self._reset(request.route, segment)
            else:
                request.acked = True
            return None
        self._forget(request)
        return self._establish(request, segment, now)

    def _defers(self, request: Request, segment: Segment, now: int) -> bool:
        """TCP_DEFER_ACCEPT: a bare ACK does not make a connection until data comes, or the time is over."""
        wait = self.options.defer_accept
        if not wait or segment.payload or segment.flags & FIN:
            return False
        tries = 0
        span = INITIAL_RTO
        total = 0
        while total < wait and tries < 255:
            total += span
            span = min(span * 2, self.p.rto_max)
            tries += 1
        if request.retries >= tries:
            return False
        request.acked = True
        self.context.counters[_DEFER_DROP] += 1
        return True

    def _establish(self, request: Request, segment: Segment, now: int) -> Endpoint | None:
        endpoint = self._child(request, request.sent_at)
        if request.retries:
            endpoint.sent[0].flags |= EVER_RETRANSMITTED
            endpoint.retransmits = request.retries
        endpoint.on_segment(segment, now)
        if endpoint.state in (states.SYN_RECEIVED, states.CLOSED):
            return None
        self.context.counters[_PASSIVE_OPENS] += 1
        self.queue.append(endpoint)
        self._notify()
        return endpoint

    def _child(self, request: Request, now: int) -> Endpoint:
        """An endpoint in SYN-RECEIVED whose SYN-ACK was sent at `now`."""
        endpoint = Endpoint(self.context, request.route, request.flow, self.options.inherit())
        endpoint.change_state(states.PASSIVE_OPEN)
        endpoint.started_at = now
        handshake.begin_sending(endpoint, request.iss, request.ts_offset, now)
        endpoint.rcv_wscale = request.rcv_wscale
        ts_val = request.ts_recent if request.ts_ok else -1
        handshake.agree(endpoint, request.irs, request.window, ts_val, request.mss, request.wscale, request.sack, now)
        endpoint.ecn_ok = request.ecn
        return endpoint

    def open_at_once(self, segment: Segment, flow: bytes, route: Route, now: int, iss: int | None = None) -> Endpoint:
        """An endpoint in SYN-RECEIVED for a SYN, its SYN-ACK sent: for whoever has held the SYN until there was
        something to connect it to. It is not queued for `accept`, and no limit counts. `iss`: when not our choice."""
        request = self._request_from(segment, flow, route, now, False)
        if iss is not None:
            request.iss = iss
        endpoint = self._child(request, now)
        self.context.counters[_PASSIVE_OPENS] += 1
        handshake.send_syn_ack(endpoint, now)
        timers.start_retransmit(endpoint, now)
        return endpoint

    def _fast_open(self, request: Request, segment: Segment, now: int) -> Endpoint | None:
        """A SYN with a good cookie: the connection exists at once, with the SYN's data (RFC 7413 4.2.2)."""
        counters = self.context.counters
        pending = self.fast_open_pending
        for flow in [flow for flow, endpoint in pending.items() if endpoint.state != states.SYN_RECEIVED]:
            del pending[flow]
        if len(pending) >= self.options.fastopen:
            counters[_FO_OVERFLOW] += 1
            return None
        endpoint = self._child(request, now)
        endpoint.syn_data_acked = True
        counters[_FO_PASSIVE] += 1
        counters[_PASSIVE_OPENS] += 1
        pending[request.flow] = endpoint
        if segment.payload or segment.flags & FIN:
            incoming.accept_after_syn(endpoint, segment, now)
        handshake.send_syn_ack(endpoint, now)
        timers.start_retransmit(endpoint, now)
        self.queue.append(endpoint)
        self._notify()
        return endpoint

    def _on_stray_ack(self, segment: Segment, flow: bytes, route: Route, now: int) -> Endpoint | None:
        """An ACK with no request: the return of a SYN cookie, or nothing of ours."""
        counters = self.context.counters
        recent = now - self._cookie_sent_at <= (syncookies.MAX_AGE + 1) * syncookies.PERIOD
        if segment.flags & SYN or not self.p.syncookies or not recent:
            self._reset(route, segment)
            return None
        irs = (segment.seq - 1) & MASK
        iss = (segment.ack - 1) & MASK
        mss = syncookies.check(self.context, flow, irs, iss, now)
        if not mss:
            counters[_COOKIES_FAILED] += 1
            self._reset(route, segment)
            return None
        counters[_COOKIES_RECV] += 1
        if self._accept_queue_full():
            counters[_OVERFLOWS] += 1
            counters[_DROPS] += 1
            return None
        request = Request(flow, route, irs, timestamp_offset(self.context, flow))
        request.iss = iss
        request.mss = mss
        request.window = segment.window
        if segment.ts_val >= 0 and self.p.timestamps:
            request.ts_ok = True
            request.ts_recent = segment.ts_val
            request.wscale, request.sack, request.ecn = syncookies.options_of(request.ts_offset, segment.ts_ecr)
            if request.wscale >= 0:
                request.rcv_wscale = self._wanted_scale()
        request.sent_at = now
        request.retries = 1  # when the SYN-ACK was sent is not known: no RTT sample but by timestamps
        endpoint = self._establish(request, segment, now)
        if endpoint is not None:
            endpoint.cc.cwnd = self.p.initial_window * endpoint.mss  # no SYN was lost, we only forgot it
        return endpoint

    # ---------------------------------------------------------------- bookkeeping

    def _answer(self, request: Request, now: int, *, syn_ack: bool) -> None:
        """Repeat the SYN-ACK, or say where we are; rate-limited."""
        if now - request.answer_at < self.p.invalid_ratelimit:
            self.context.counters[_SKIPPED_SYN_RECV] += 1
            return
        request.answer_at = now
        if syn_ack:
            self._send_syn_ack(request, now)
            return
        ts_val = (now // MILLISECOND + request.ts_offset) & MASK if request.ts_ok else -1
        scaled = MAX_WINDOW >> request.rcv_wscale
        request.route.send(
            None,
            Segment((request.iss + 1) & MASK, (request.irs + 1) & MASK, ACK, scaled, b"", ts_val, request.ts_recent),
        )

    def _reset(self, route: Route, segment: Segment) -> None:
        reset = reset_for(segment)
        if reset is not None:
            self.context.counters[_OUT_RSTS] += 1
            route.send(None, reset)

    def _forget(self, request: Request) -> None:
        request.timeout_at = NEVER
        self.requests.pop(request.flow, None)

    def _drop(self, request: Request) -> None:
        self.context.counters[_ATTEMPT_FAILS] += 1
        self._forget(request)

    def _push_timeout(self, request: Request) -> None:
        self._order += 1
        heapq.heappush(self._timeouts, (request.timeout_at, self._order, request))
        if request.timeout_at < self.deadline:
            self.deadline = request.timeout_at
            self.context.schedule(self)

    def on_timer(self, now: int) -> None:
        """Repeat SYN-ACKs that got no answer, with back-off; give up after `synack_retries`."""
        heap = self._timeouts
        while heap and heap[0][0] <= now:
            at, _, request = heapq.heappop(heap)
            if request.timeout_at != at:
                continue
            self._on_syn_ack_timeout(request, now)
        while heap and heap[0][2].timeout_at != heap[0][0]:
            heapq.heappop(heap)
        self.deadline = NEVER
        if heap:
            self.deadline = heap[0][0]
            self.context.schedule(self)

    def _on_syn_ack_timeout(self, request: Request, now: int) -> None:
        if request.retries >= self.p.synack_retries:
            self._drop(request)
            return
        counters = self.context.counters
        request.retries += 1
        counters[_TIMEOUTS] += 1
        # With TCP_DEFER_ACCEPT a peer that has answered is asked again only when its time is over.
        if not (request.acked and self.options.defer_accept and self._still_deferred(request)):
            counters[_SYN_RETRANS] += 1
            counters[_RETRANS_SEGS] += 1
            self._send_syn_ack(request, now)
        request.timeout_at = now + min(INITIAL_RTO << request.retries, self.p.rto_max)
        self._push_timeout(request)

    def _still_deferred(self, request: Request) -> bool:
        waited = (INITIAL_RTO << request.retries) - INITIAL_RTO
        return waited < self.options.defer_accept
