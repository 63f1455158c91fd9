"""A hostile peer and a restless user: random segments near the valid ones, random calls, random pauses. Nothing raises,
the books stay balanced, every timer that is needed runs, and after a reset nothing is left.

SENTRIO_HOSTILE_RUNS=5000 runs more seeds than the default.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from services.netstackd.transport.tcp import path_mtu, states
from services.netstackd.transport.tcp.context import TcpContext
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.listen import Listener
from services.netstackd.transport.tcp.parameters import MILLISECOND, NEVER, SECOND, Options, Parameters
from services.netstackd.transport.tcp.scoreboard import LOST, RETRANSMITTED, SACKED, pipe
from services.netstackd.transport.tcp.segment import ACK, FIN, MASK, RST, SYN, URG, Payload, Segment, separate
from services.netstackd.transport.tcp.time_wait import TimeWait
from services.netstackd.wire.tcp_options import SynOptions

RUNS = int(os.environ.get("SENTRIO_HOSTILE_RUNS", "150"))


class Sink:
    peer = b"hostile"

    def __init__(self, gso_max: int, mss: int) -> None:
        self.gso_max = gso_max
        self.run_max = 4 if gso_max else 0
        self.mss = mss
        self.sent: list[Segment] = []

    def mss_for_path(self) -> int:
        return self.mss

    def advertised_mss(self) -> int:
        return 1460

    def confirm(self) -> None:
        pass

    def send_run(self, endpoint: object, segment: Segment, payloads: Sequence[Payload], pushed: bool) -> None:
        for each in separate(segment, payloads, pushed):
            self.send(endpoint, each)

    def send(self, endpoint: object, segment: Segment) -> None:
        assert 0 <= segment.seq <= MASK and 0 <= segment.ack <= MASK and 0 <= segment.window <= 65535
        assert segment.ts_val <= MASK and 0 <= segment.ts_ecr <= MASK
        options = (12 if segment.ts_val >= 0 else 0) + (4 + 8 * len(segment.sack_blocks) if segment.sack_blocks else 0)
        if segment.syn is None:
            assert options <= 40
            unit = segment.gso_size or len(segment.payload)
            assert unit + options <= max(self.mss, 48 + 40), "a packet larger than the path takes"
        self.sent.append(segment)
        del self.sent[:-20]


class World:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 10**12
        p = Parameters()
        p.sack = rng.random() < 0.8
        p.timestamps = rng.random() < 0.7
        p.window_scaling = rng.random() < 0.7
        p.ecn = rng.choice((0, 1, 2))
        p.fastopen = 3
        p.syncookies = rng.choice((0, 1, 2))
        p.congestion = rng.choice(("cubic", "reno"))
        p.pacing = rng.random() < 0.2
        p.invalid_ratelimit = rng.choice((0, 500 * MILLISECOND))
        if rng.random() < 0.4:
            size = rng.choice((1024, 4096, 30_000))
            p.rmem = p.wmem = (size, size, size)
        self.context = TcpContext(rng, b"key", parameters=p, on_done=self.done)
        self.route = Sink(rng.choice((0, 5000, 65000)), rng.choice((60, 536, 1460)))
        self.connection: Endpoint | TimeWait | None = None
        self.endpoint: Endpoint | None = None
        self.listener: Listener | None = None
        options = Options(p)
        options.fastopen = 5
        options.nodelay = rng.random() < 0.3
        options.keepalive = rng.random() < 0.2
        self.peer_iss = rng.choice((5, 1 << 31, MASK - 100))
        if rng.random() < 0.5:
            self.endpoint = self.connection = Endpoint(self.context, self.route, b"flow", options)
            self.endpoint.connect(self.now, b"x" * rng.choice((0, 0, 100)))
        else:
            self.listener = Listener(self.context, options, rng.choice((0, 1, 8)))
        self.context.flush(self.now)

    def done(self, endpoint: object, successor: TimeWait | None) -> None:
        if endpoint is self.connection or successor is not None:
            self.connection = successor

    # ---------------------------------------------------------------- one step

    def near(self, *values: int) -> int:
        rng = self.rng
        offset = rng.choice((0, 0, 0, 0, 1, -1, 10, -10, 1448, -1448, 65535, -70_000, 1 << 20, 1 << 31))
        return (rng.choice(values) + offset) & MASK

    def segment(self) -> Segment:
        rng = self.rng
        usual = (ACK, ACK, ACK, ACK, ACK, ACK | FIN, SYN, SYN | ACK, RST, RST | ACK, 0, FIN, ACK | URG, 0xFF)
        flags = rng.choice(usual)
        if rng.random() < 0.05:
            flags = rng.randrange(256)
        end = self.endpoint
        if end is not None:
            sequence = self.near(end.rcv_nxt, end.rcv_nxt, end.rcv_edge, self.peer_iss, end.last_ack_sent)
            ack = self.near(end.snd_nxt, end.snd_una, (end.snd_una + end.snd_nxt) // 2, end.iss)
            stamp = self.near(end.ts_recent, end.ts_recent + 5)
        else:
            sequence = self.near(self.peer_iss, self.peer_iss + 1)
            last = self.route.sent[-1].seq if self.route.sent else 0
            ack = self.near(last + 1)
            stamp = self.near(1000)
        if flags & SYN and rng.random() < 0.8:
            sequence = self.peer_iss
        echo = self.route.sent[-1].ts_val & MASK if self.route.sent else 0
        size = rng.choice((0, 0, 0, 1, 10, 1448, 20_000))
        blocks: tuple[tuple[int, int], ...] = ()
        if rng.random() < 0.4 and end is not None:
            blocks = tuple(
                (self.near(end.snd_una, end.snd_nxt), self.near(end.snd_una, end.snd_nxt))
                for _ in range(rng.randrange(1, 5))
            )
        segment = Segment(
            sequence,
            ack,
            flags,
            rng.choice((0, 1, 100, 5000, 65535)),
            bytes(size),
            rng.choice((-1, stamp, stamp)),
            rng.choice((0, echo, self.near(echo))),
            blocks,
            rng.choice((0, 1, 5, 65535)),
            rng.choice((0, 0, 2, 3)),
            rng.choice((0, 1448)),
        )
        if flags & SYN:
            segment.syn = SynOptions(
                rng.choice((0, 1, 536, 1460, 65535)),
                rng.choice((-1, 0, 7, 14)),
                rng.random() < 0.7,
                rng.choice((None, None, b"", b"12345678")),
            )
        return segment

    def receive(self, segment: Segment) -> None:
        connection = self.connection
        reuse = None
        if connection is not None:
            if connection.on_segment(segment, self.now):
                return
            reuse = connection if isinstance(connection, TimeWait) else None
            self.connection = None
        if self.listener is not None and self.listener.state == states.LISTEN:
            made = self.listener.on_segment(segment, b"flow", self.route, self.now, reuse)
            if made is not None:
                self.endpoint = made
                if made.state != states.CLOSED:
                    self.connection = made

    def user(self) -> None:
        rng, end, now = self.rng, self.endpoint, self.now
        if end is None:
            return
        act = rng.randrange(14)
        if act < 4:
            end.write(bytes(rng.choice((1, 100, 5000, 100_000))), is_urgent=rng.random() < 0.1)
        elif act < 8:
            end.read(rng.choice((1, 100, 100_000)), peek=rng.random() < 0.2)
        elif act == 8:
            end.read_urgent()
            end.at_mark()
            end.readiness()
            end.info(now)
        elif act == 9:
            name = rng.choice(("nodelay", "cork", "quickack", "keepalive", "oobinline"))
            end.set_option(name, rng.randrange(2), now)
        elif act == 10:
            kind = rng.choice((path_mtu.FRAG_NEEDED, path_mtu.FRAG_NEEDED, path_mtu.HOST_UNREACHABLE))
            if kind == path_mtu.FRAG_NEEDED:
                self.route.mss = rng.choice((60, 536, 1000, 1460))
            end.on_error(kind, 0, now)
        elif act == 11 and rng.random() < 0.2:
            end.shutdown_write(now)
        elif act == 12 and rng.random() < 0.1:
            end.close(now)
        elif act == 13 and self.listener is not None:
            self.listener.accept()

    def pause(self) -> None:
        self.now += self.rng.choice((0, 0, 1000, MILLISECOND, 20 * MILLISECOND, SECOND, 70 * SECOND))
        for _ in range(200):
            things = [thing for thing in (self.connection, self.listener) if thing is not None]
            due = [thing for thing in things if thing.deadline <= self.now]
            if not due:
                return
            for thing in due:
                thing.on_timer(self.now)
            self.context.flush(self.now)
        raise AssertionError("timers that never rest")

    # ---------------------------------------------------------------- what must hold

    def check(self) -> None:
        end = self.endpoint
        if end is None:
            return
        sent = end.sent
        if end.state == states.CLOSED:
            assert not sent and end.deadline == NEVER and end.timer_at == NEVER
            return
        if sent:
            assert sent[0].seq == end.snd_una and sent[-1].end == end.snd_nxt
            assert all(left.end == right.seq for left, right in zip(sent, sent[1:], strict=False))
            assert end.timer_at < NEVER, "data in flight and no timer"
        else:
            assert end.snd_una == end.snd_nxt
        if end.sack_ok or not sent:
            assert end.sacked_bytes == sum(item.end - item.seq for item in sent if item.flags & SACKED)
        assert end.lost_bytes == sum(item.end - item.seq for item in sent if item.flags & LOST)
        assert end.retrans_bytes == sum(item.end - item.seq for item in sent if item.flags & RETRANSMITTED)
        assert pipe(end) >= 0
        assert end.cc.cwnd >= end.mss and end.cc.ssthresh >= end.mss
        assert end.deadline <= min(end.timer_at, end.ack_due_at, end.idle_at)
        assert end.snd_una <= end.snd_nxt and end.send.first <= end.send.end
        assert end.copied_seq + end.receive.size + end.fin_received in (end.rcv_nxt, end.rcv_nxt + 1) or not end.irs
        assert end.assembler is None or all(item.start > end.rcv_nxt for item in end.assembler.ranges)


@pytest.mark.parametrize("seed", range(RUNS))
def test_nothing_breaks(seed: int) -> None:
    rng = random.Random(seed)
    world = World(rng)
    for _ in range(150):
        for _ in range(rng.choice((1, 1, 3))):
            world.receive(world.segment())
        if rng.random() < 0.6:
            world.user()
        world.context.flush(world.now)
        world.check()
        world.pause()
        world.context.flush(world.now)
        world.check()
    if world.endpoint is not None:
        world.endpoint.close(world.now)
        world.context.flush(world.now)
        if isinstance(world.connection, Endpoint):
            world.connection.abort(world.now)
        assert world.endpoint.state == states.CLOSED
        world.check()
    assert world.context.orphan_count >= 0
