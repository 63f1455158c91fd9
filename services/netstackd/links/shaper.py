"""A rate limit on what a link sends: a token bucket with a bounded queue, as `tc qdisc add ... tbf`.

`rate_bps` bits a second in the long run, `burst_bytes` at once, and at most `queue_bytes` waiting; more is dropped at
the tail and counted. Received frames pass untouched: what arrives has used the line already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from protocol.records import record
from services.netstackd.links.base import Link, WrappedLink
from services.netstackd.storage.packet import Packet

_BITS_NS: Final = 8_000_000_000
MIN_BURST_BYTES: Final = 65536 + 64  # a large segment must fit


@record(frozen=True)
class Shape:
    """See the module docstring."""

    rate_bps: int
    burst_bytes: int = 2 * MIN_BURST_BYTES
    queue_bytes: int = 1 << 20


class ShapedLink(WrappedLink):
    """Another link behind a token bucket."""

    __slots__ = ("_queue", "_queued_bytes", "_shape", "_stamp", "_tokens")

    def __init__(self, inner: Link, shape: Shape) -> None:
        super().__init__(inner, inner.offload)
        self._shape = shape
        self._queue: deque[Packet] = deque()
        self._queued_bytes = 0
        self._tokens = max(shape.burst_bytes, MIN_BURST_BYTES) * _BITS_NS  # bytes, in units that a nanosecond refills
        self._stamp = 0

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link. Also the moment at which what waited is sent."""
        received = self.inner.receive(limit, now)
        if self._queue:
            self._drain(now)
        return received

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """See Link."""
        room, queue = self._shape.queue_bytes, self._queue
        ready = self._due(now)
        for packet in packets:
            size = _size(packet)
            if not queue and size * _BITS_NS <= self._tokens:
                self._tokens -= size * _BITS_NS
                ready.append(packet)
            elif self._queued_bytes + size > room and queue:
                self.counters.tx_dropped += 1
            else:
                queue.append(packet)
                self._queued_bytes += size
        self._pass_on(ready, now)

    def writable(self, now: int) -> None:
        """See Link."""
        self.inner.writable(now)

    def _drain(self, now: int) -> None:
        """Send what waited long enough."""
        self._pass_on(self._due(now), now)

    def _due(self, now: int) -> list[Packet]:
        """Refill the bucket, and take what it pays for out of the queue."""
        shape, queue = self._shape, self._queue
        most = max(shape.burst_bytes, MIN_BURST_BYTES) * _BITS_NS
        tokens = min(most, self._tokens + (now - self._stamp) * shape.rate_bps)
        self._stamp = now
        ready: list[Packet] = []
        while queue:
            size = _size(queue[0])
            if size * _BITS_NS > tokens:
                break
            tokens -= size * _BITS_NS
            self._queued_bytes -= size
            ready.append(queue.popleft())
        self._tokens = tokens
        return ready

    def _pass_on(self, ready: list[Packet], now: int) -> None:
        """Send, and say when there is more to do."""
        if ready:
            self.inner.send(ready, now)
        inner, queue = self.inner.deadline, self._queue
        if not queue:
            self.deadline = inner
            return
        missing = _size(queue[0]) * _BITS_NS - self._tokens
        ours = now + max(1, -(-missing // self._shape.rate_bps))
        self.deadline = ours if inner is None else min(ours, inner)


def _size(packet: Packet) -> int:
    return packet.end - packet.l2 + len(packet.body or b"")
