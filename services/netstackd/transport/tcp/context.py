"""What TCP shares with the layer below: the route of a connection, and the context that all connections share.

Contract with the stack (transport/demux.py, stack.py):
- It keeps one table: flow -> an `Endpoint` or a `TimeWait`, and listeners by local address. A `flow` is any bytes that
  name the two ends the same way for every segment (local address and port, remote address and port).
- A segment for a known flow: `connection.on_segment(segment, now)`. False (a TimeWait alone answers so) means that the
  connection has just made room: take it out of the table and treat the segment as one of no known flow, handing the
  TimeWait to the listener as `reuse`.
- Else a listener: `listener.on_segment(segment, flow, route, now)`; an Endpoint that comes back goes into the table.
- Else `segment.reset_for(segment)`.
- After a batch `context.flush(now)` lets everyone say what is due: acks are coalesced, data goes out in large segments.
- Timers: `deadline` of each of these and of a Listener is the earliest time at which `on_timer(now)` has to be
  called; it may be early, never late. `context.schedule(thing)` is called whenever a deadline became earlier than it
  was at the last call; a stack with a heap pushes (thing.deadline, thing) and drops entries whose time does not match
  any more.
- `context.on_done(endpoint, successor)`: the flow is over; the table's entry becomes `successor` (a TimeWait) or goes.
- ICMP errors: `endpoint.on_error(kind, mtu, now)`, kinds of path_mtu.py, once `endpoint.owns_sequence(quoted)` is true
  and the route knows the new path MTU.
- Events (`on_event`) are collected and told inside `flush` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2s
from typing import TYPE_CHECKING, Final, Protocol

from services.netstackd.counters import Counters
from services.netstackd.transport.tcp.parameters import NEVER, SECOND, Parameters
from services.netstackd.transport.tcp.segment import MASK, Payload, Segment

if TYPE_CHECKING:
    import random

    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.transport.tcp.time_wait import TimeWait


class Route(Protocol):
    """How the segments of one connection leave. Made by the stack; TCP asks no more than this."""

    gso_max: int  # payload bytes that one Segment may carry; 0: no more than one MSS
    run_max: int  # how many segments `send_run` is worth calling for; less than 2: none
    peer: bytes  # names the local and the remote address, without ports: what keyed cookies are made of

    def mss_for_path(self) -> int:
        """Path MTU less the IP header and 20 bytes of TCP header: payload plus TCP options of one packet."""
        ...

    def advertised_mss(self) -> int:
        """The same from the interface's MTU: what our MSS option says (RFC 6691)."""
        ...

    def send(self, endpoint: object, segment: Segment) -> None:
        """Send. A segment with gso_size set stands for several. Never fails; what cannot be sent is a loss."""
        ...

    def send_run(self, endpoint: object, segment: Segment, payloads: Sequence[Payload], pushed: bool) -> None:
        """Send `segment`, and what follows it with the other `payloads`, which are as long as its own (the first).
        pushed: the last has PSH."""
        ...

    def confirm(self) -> None:
        """The peer has shown that it hears us: the neighbour entry is alive (RFC 4861 7.3.1)."""
        ...


class Schedulable(Protocol):
    """An Endpoint, a TimeWait or a Listener: who has a deadline."""

    deadline: int

    def on_timer(self, now: int) -> None: ...


class Flushable(Protocol):
    """An Endpoint or a Listener: who may have something to say at the end of a batch."""

    def flush(self, now: int) -> None: ...


class TcpContext:
    """One per stack. `on_done` and `schedule` are set by the stack before the first connection; `keyed_hash` takes the
    place of the one that is keyed with `secret`."""

    def __init__(
        self,
        rng: random.Random,
        secret: bytes,
        counters: Counters | None = None,
        parameters: Parameters | None = None,
        *,
        on_done: Callable[[Endpoint | TimeWait, TimeWait | None], None] | None = None,
        schedule: Callable[[Schedulable], None] | None = None,
        keyed_hash: Callable[[bytes, bytes, int], int] | None = None,
    ) -> None:
        self.rng = rng
        self.secret = secret
        self.counters: list[int] = (Counters() if counters is None else counters).values
        self.parameters = Parameters() if parameters is None else parameters
        self.on_done: Callable[[Endpoint | TimeWait, TimeWait | None], None] = on_done or (
            lambda _endpoint, _successor: None
        )
        self.schedule: Callable[[Schedulable], None] = schedule or (lambda _thing: None)
        self.pending: list[Flushable] = []  # who has something to say at the next flush
        self.fast_open_cookies: dict[bytes, FastOpenMemory] = {}
        self.time_wait_count = 0
        self.orphan_count = 0
        self.orphan_bytes = 0  # that orphans had still to send when they became such
        self._hash = keyed_hash or self._blake2s
        self._challenge_second = -1
        self._challenge_left = 0

    def flush(self, now: int) -> None:
        """Let every endpoint that asked for it send. Bounded: an endpoint is asked once a flush."""
        pending = self.pending
        if not pending:
            return
        self.pending = []
        for item in pending:
            item.flush(now)

    def keyed_hash(self, purpose: bytes, data: bytes, size: int = 8) -> int:
        """A keyed hash (blake2s, 480 ns) as an int of `size` bytes; `purpose` keeps its uses apart."""
        return self._hash(purpose, data, size)

    def _blake2s(self, purpose: bytes, data: bytes, size: int) -> int:
        return int.from_bytes(blake2s(data, digest_size=size, key=self.secret[:32], person=purpose).digest(), "big")

    def may_challenge(self, now: int) -> bool:
        """The stack-wide limit on challenge ACKs (RFC 5961 7), its budget varied so that it cannot be measured from
        outside (the reason why Linux has varied it since 4.7)."""
        second = now // SECOND
        if second != self._challenge_second:
            limit = self.parameters.challenge_ack_limit
            self._challenge_second = second
            self._challenge_left = limit // 2 + self.rng.randrange(max(limit, 1))
        if self._challenge_left <= 0:
            return False
        self._challenge_left -= 1
        return True


MAX_FAST_OPEN_COOKIES: Final = 1024


class FastOpenMemory:
    """What a client keeps of a server between connections (RFC 7413 4.1.3)."""

    __slots__ = ("cookie", "failed_at", "mss")

    def __init__(self, cookie: bytes, mss: int, failed_at: int = -NEVER) -> None:
        self.cookie = cookie
        self.mss = mss
        self.failed_at = failed_at


__all__ = ["MASK", "FastOpenMemory", "Route", "Schedulable", "TcpContext"]
