"""Two TCP hosts and the path between them, on virtual time, from one seed.

`Path` is one direction: rate and queue, delay and jitter, loss, duplication, reordering, an MSS, and whether large
segments pass whole. `Host` is what the stack is to TCP (the contract of transport/tcp/context.py), in fifty lines.
`World` runs the events of both in order of time. Nothing here reads a clock or the system's randomness.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.netstackd.transport.tcp.context import TcpContext
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.listen import Listener
from services.netstackd.transport.tcp.parameters import MILLISECOND, NEVER, Options, Parameters
from services.netstackd.transport.tcp.segment import MASK, SYN, Payload, Segment, reset_for, separate
from services.netstackd.transport.tcp.time_wait import TimeWait


@dataclass
class PathRules:
    """Probabilities are per packet on the wire (a large segment counts as several); rate is bytes per second."""

    delay: int = 10 * MILLISECOND
    jitter: int = 0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_delay: int = 15 * MILLISECOND
    rate: int = 0
    queue_bytes: int = 1 << 40
    mss: int = 1460
    gso: int = 0
    mark_above: int = 0  # queue length from which ECN-capable packets are marked, 0: never
    drop: Callable[[Segment, int], bool] | None = None  # (segment, its ordinal) -> lose it
    blackhole_above: int = 0  # payload and options above this vanish, 0: none do


@dataclass
class PathCount:
    packets: int = 0
    lost: int = 0
    overflowed: int = 0
    marked: int = 0
    bytes: int = 0


@dataclass
class Path:
    world: World
    rules: PathRules
    receiver: Host | None = None
    free_at: int = 0
    count: PathCount = field(default_factory=PathCount)

    def carry(self, segment: Segment) -> None:
        """One Segment from the sender: cut to packets where the path does not take it whole, each with its own fate."""
        size = segment.gso_size
        if not size or self.rules.gso:
            self._packet(segment)
            return
        payload = memoryview(segment.payload)
        for start in range(0, len(payload), size):
            piece = payload[start : start + size]
            last = start + size >= len(payload)
            flags = segment.flags if last else segment.flags & ~0x09
            self._packet(
                Segment(
                    (segment.seq + start) & MASK,
                    segment.ack,
                    flags,
                    segment.window,
                    piece,
                    segment.ts_val,
                    segment.ts_ecr,
                    segment.sack_blocks,
                    max(segment.urgent - start, 0),
                    segment.ecn,
                    0,
                    segment.syn,
                )
            )

    def _packet(self, segment: Segment) -> None:
        rules, world, count = self.rules, self.world, self.count
        count.packets += 1
        rng = world.rng
        size = len(segment.payload) + 60
        count.bytes += size
        if rules.drop is not None and rules.drop(segment, count.packets):
            count.lost += 1
            return
        if rules.blackhole_above and len(segment.payload) + 12 > rules.blackhole_above:
            count.lost += 1
            return
        packets = max(1, -(-len(segment.payload) // rules.mss))
        if rules.loss and any(rng.random() < rules.loss for _ in range(packets)):
            count.lost += 1
            return
        at = world.now
        if rules.rate:
            start = max(at, self.free_at)
            backlog = (start - at) * rules.rate // 1_000_000_000
            if backlog + size > rules.queue_bytes:
                count.overflowed += 1
                return
            if rules.mark_above and backlog > rules.mark_above and segment.ecn:
                segment.ecn = 3
                count.marked += 1
            self.free_at = at = start + size * 1_000_000_000 // rules.rate
        at += rules.delay
        if rules.jitter:
            at += rng.randrange(rules.jitter)
        if rules.reorder and rng.random() < rules.reorder:
            at += rng.randrange(1, rules.reorder_delay)
        world.at(at, self._deliver, segment)
        if rules.duplicate and rng.random() < rules.duplicate:
            world.at(at + rng.randrange(1, 5 * MILLISECOND), self._deliver, segment)

    def _deliver(self, segment: Segment) -> None:
        assert self.receiver is not None
        self.receiver.receive(segment)


class PathRoute:
    """The Route of context.py over a `Path`."""

    def __init__(self, path: Path, peer: bytes) -> None:
        self.path = path
        self.peer = peer
        self.confirmed = 0

    @property
    def gso_max(self) -> int:
        return self.path.rules.gso

    @property
    def run_max(self) -> int:
        return 3 if self.path.rules.gso else 0

    def mss_for_path(self) -> int:
        return self.path.rules.mss

    def advertised_mss(self) -> int:
        return self.path.rules.mss

    def send(self, endpoint: object, segment: Segment) -> None:
        assert 0 <= segment.seq <= MASK and 0 <= segment.ack <= MASK and 0 <= segment.window <= 65535
        if not segment.gso_size:
            assert len(segment.payload) <= self.path.rules.mss, "segment larger than the path takes"
        self.path.carry(segment)

    def send_run(self, endpoint: object, segment: Segment, payloads: Sequence[Payload], pushed: bool) -> None:
        assert len({len(payload) for payload in payloads}) == 1 and payloads[0] is segment.payload
        assert isinstance(endpoint, Endpoint)
        end = segment.seq + len(payloads) * len(segment.payload)
        assert pushed is ((end - endpoint.send.end) & MASK == 0), "PSH says that no more is queued (RFC 9293 3.9.1.2)"
        for each in separate(segment, payloads, pushed):
            self.send(endpoint, each)

    def confirm(self) -> None:
        self.confirmed += 1


class Host:
    """One flow is all that a host has here: the peer."""

    FLOW = b"flow"

    def __init__(self, world: World, out: Path, parameters: Parameters | None, name: bytes) -> None:
        self.world = world
        self.route = PathRoute(out, name)
        self.start: int | None = None  # the sequence number at which the next connection starts, to have it wrap early
        self.hashed = TcpContext(random.Random(), name * 16).keyed_hash
        self.context = TcpContext(
            random.Random(world.rng.random()),
            name * 16,
            parameters=parameters,
            on_done=self._done,
            schedule=self._schedule,
            keyed_hash=self._keyed_hash,
        )
        self.connection: Endpoint | TimeWait | None = None
        self.listener: Listener | None = None
        self.user: Callable[[], None] = lambda: None

    def _keyed_hash(self, purpose: bytes, data: bytes, size: int) -> int:
        if purpose == b"isn" and self.start is not None:
            return (self.start - (self.world.now >> 6)) & MASK
        return self.hashed(purpose, data, size)

    def _done(self, endpoint: object, successor: TimeWait | None) -> None:
        if self.connection is endpoint or successor is not None:
            self.connection = successor

    def _schedule(self, thing: object) -> None:
        deadline: int = thing.deadline  # type: ignore[attr-defined]
        self.world.at(max(deadline, self.world.now), self._expire, thing)

    def _expire(self, thing: object) -> None:
        deadline: int = thing.deadline  # type: ignore[attr-defined]
        if deadline <= self.world.now:
            thing.on_timer(self.world.now)  # type: ignore[attr-defined]
            self.turn()

    def receive(self, segment: Segment) -> None:
        now = self.world.now
        connection = self.connection
        reuse = None
        if connection is not None:
            if connection.on_segment(segment, now):
                self.turn()
                return
            reuse = connection if isinstance(connection, TimeWait) else None
            self.connection = None
        if self.listener is not None:
            made = self.listener.on_segment(segment, self.FLOW, self.route, now, reuse)
            if made is not None and made.state != 7:
                self.connection = made
        else:
            reset = reset_for(segment)
            if reset is not None:
                self.route.send(None, reset)
        self.turn()

    def turn(self) -> None:
        """What a stack does at the end of a batch; then the user acts, as after a wake-up."""
        self.context.flush(self.world.now)
        self.user()
        self.context.flush(self.world.now)


class World:
    def __init__(
        self,
        seed: int,
        forth: PathRules,
        back: PathRules,
        parameters: tuple[Parameters | None, Parameters | None] = (None, None),
    ) -> None:
        self.rng = random.Random(seed)
        self.now = 1_000_000_000_000 + self.rng.randrange(1_000_000_000)
        self.events: list[tuple[int, int, Callable[..., None], object]] = []
        self.count = 0
        there, here = Path(self, forth), Path(self, back)
        self.client = Host(self, there, parameters[0], b"cl")
        self.server = Host(self, here, parameters[1], b"sv")
        there.receiver, here.receiver = self.server, self.client
        self.forth, self.back = there, here

    def at(self, when: int, action: Callable[..., None], argument: object) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, action, argument))

    def run(self, until: Callable[[], bool], limit: int) -> bool:
        """Run until the condition holds; False when `limit` ns pass or nothing is left to happen before."""
        end = self.now + limit
        steps = 0
        while not until():
            if not self.events or self.events[0][0] > end:
                return until()
            when, _, action, argument = heapq.heappop(self.events)
            self.now = max(self.now, when)
            action(argument)
            steps += 1
            assert steps < 5_000_000, "endless exchange"
        return True

    def listen(self, backlog: int = 8, options: Options | None = None) -> Listener:
        self.server.listener = Listener(self.server.context, options, backlog)
        return self.server.listener

    def connect(self, options: Options | None = None, data: bytes = b"") -> Endpoint:
        endpoint = Endpoint(self.client.context, self.client.route, Host.FLOW, options)
        self.client.connection = endpoint
        endpoint.connect(self.now, data)
        self.client.turn()
        return endpoint


def is_syn(segment: Segment) -> bool:
    return bool(segment.flags & SYN)


__all__ = ["NEVER", "Host", "Path", "PathRules", "World", "is_syn"]
