"""What TCP costs a segment: `python -m tests.netstack.bench_tcp`. Not a test; prints nanoseconds, best of several runs.

    data      a data segment received, its share of acks sent, and read by the user
    ack       an ack received that covers two segments of one MSS, and the two segments that take their place
    large     the same two with 64 KB segments
The route throws segments away, so this is TCP alone: no IP header, no checksum, no link.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from services.netstackd.transport.tcp.context import TcpContext
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.segment import ACK, MASK, SYN, Payload, Segment
from services.netstackd.wire.tcp_options import SynOptions

MSS = 1448


class Void:
    """A route to nowhere that remembers the last segment."""

    peer = b"peer"

    def __init__(self, gso_max: int) -> None:
        self.gso_max = gso_max
        self.run_max = 0
        self.last: Segment | None = None
        self.sent = 0

    def mss_for_path(self) -> int:
        return 1460

    def advertised_mss(self) -> int:
        return 1460

    def send(self, endpoint: object, segment: Segment) -> None:
        self.last = segment
        self.sent += 1

    def send_run(self, endpoint: object, segment: Segment, payloads: Sequence[Payload], pushed: bool) -> None:
        self.last = segment
        self.sent += len(payloads)

    def confirm(self) -> None:
        pass


def established(gso_max: int) -> tuple[Endpoint, Void, TcpContext, int]:
    context = TcpContext(random.Random(1), b"key")
    route = Void(gso_max)
    endpoint = Endpoint(context, route, b"flow")
    now = 10**12
    endpoint.connect(now)
    syn = route.last
    assert syn is not None and syn.syn is not None
    now += 1_000_000
    answer = Segment(
        5000, (syn.seq + 1) & MASK, SYN | ACK, 65535, b"", 1000, syn.ts_val, syn=SynOptions(1460, 10, True)
    )
    endpoint.on_segment(answer, now)
    context.flush(now)
    return endpoint, route, context, now


def receive_cost(size: int, count: int, batch: int) -> float:
    """Nanoseconds per data segment."""
    endpoint, route, context, now = established(64000)
    payload = bytes(size)
    seq = 5001
    segments = []
    for index in range(count):
        segments.append(Segment(seq, endpoint.snd_nxt & MASK, ACK, 64000, payload, 1001 + index // 100, 0, gso_size=0))
        seq = (seq + size) & MASK
    begun = time.perf_counter_ns()
    for start in range(0, count, batch):
        now += 20_000
        for segment in segments[start : start + batch]:
            endpoint.on_segment(segment, now)
        context.flush(now)
        endpoint.read(1 << 20)
        context.flush(now)
    spent = time.perf_counter_ns() - begun
    assert endpoint.bytes_received == size * count
    return spent / count


def ack_cost(gso_max: int, per_ack: int, count: int) -> float:
    """Nanoseconds per ack of `per_ack` bytes, with the sending of as many new ones."""
    endpoint, route, context, now = established(gso_max)
    endpoint.cc.cwnd = 64 * max(per_ack, MSS)
    endpoint.cc.ssthresh = endpoint.cc.cwnd
    endpoint.options.sndbuf = endpoint.sndbuf = 1 << 23
    chunk = bytes(65536)
    endpoint.write(bytes(1 << 22))
    context.flush(now)
    ack = endpoint.snd_una
    window = 65000
    begun = time.perf_counter_ns()
    for index in range(count):
        now += 20_000
        ack += per_ack
        endpoint.on_segment(Segment(5001, ack & MASK, ACK, window, b"", 1001 + index // 50, 1), now)
        context.flush(now)
        if endpoint.send.end - endpoint.snd_nxt < 1 << 20:
            endpoint.write(chunk)
    spent = time.perf_counter_ns() - begun
    assert endpoint.snd_una == ack
    return spent / count


def best(name: str, run: object, *arguments: int) -> None:
    value = min(run(*arguments) for _ in range(7))  # type: ignore[operator]
    print(f"{name:40} {value:8.0f} ns")


def main() -> None:
    best("data 1448 B received and read", receive_cost, MSS, 8000, 16)
    best("data 64 KB received and read", receive_cost, 44 * MSS, 1000, 1)
    best("ack of 2 MSS, 2 segments sent", ack_cost, 0, 2 * MSS, 5000)
    best("ack of 44 MSS, one 64 KB segment sent", ack_cost, 64000, 44 * MSS, 2000)


if __name__ == "__main__":
    main()
