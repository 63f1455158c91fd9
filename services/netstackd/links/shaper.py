"""A rate limit on what a link sends: a token bucket with a bounded queue, as `tc qdisc add ... tbf`.

`rate_bps` bits a second in the long run, `burst_bytes` at once, and at most `queue_bytes` waiting; more is dropped at
the tail and counted. Received frames pass untouched: what arrives has used the line already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from protocol.records import record
from services.netstackd.links.base import Link
from services.netstackd.storage.packet import Packet

_BITS_NS: Final = 8_000_000_000
MIN_BURST_BYTES: Final = 65536 + 64  # a large segment must fit


@record(frozen=True)
class Shape:
    """See the module docstring."""

    rate_bps: int
    burst_bytes: int = 2 * MIN_BURST_BYTES
    queue_bytes: int = 1 << 20


class ShapedLink(Link):
    """Another link behind a token bucket."""

    __slots__ = ("_inner", "_queue", "_queued_bytes", "_shape", "_stamp", "_tokens")

    def __init__(self, inner: Link, shape: Shape) -> None:
        super().__init__(
            inner.name,
            inner.kind,
            fd=inner.fd,
            mac=inner.mac,
            mtu=inner.mtu,
            offload=inner.offload,
            framing=inner.framing,
        )
        self.counters = inner.counters
        self._inner = inner
        self._shape = shape
        self._queue: deque[Packet] = deque()
        self._queued_bytes = 0
        self._tokens = max(shape.burst_bytes, MIN_BURST_BYTES) * _BITS_NS  # bytes, in units that a nanosecond refills
        self._stamp = 0

    @property
    def wants_write(self) -> bool:
        """See Link."""
        return self._inner.wants_write

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link. Also the moment at which what waited is sent."""
        received = self._inner.receive(limit, now)
        if self._queue:
            self._drain(now)
        return received

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """See Link."""
        room = self._shape.queue_bytes
        for packet in packets:
            size = _size(packet)
            if self._queued_bytes + size > room and self._queue:
                self.counters.tx_dropped += 1
                continue
            self._queue.append(packet)
            self._queued_bytes += size
        self._drain(now)

    def writable(self, now: int) -> None:
        """See Link."""
        self._inner.writable(now)

    def _drain(self, now: int) -> None:
        shape, queue = self._shape, self._queue
        most = max(shape.burst_bytes, MIN_BURST_BYTES) * _BITS_NS
        tokens = min(most, self._tokens + (now - self._stamp) * shape.rate_bps)
        self._stamp = now
        ready: list[Packet] = []
        while queue:
            cost = _size(queue[0]) * _BITS_NS
            if cost > tokens:
                break
            tokens -= cost
            packet = queue.popleft()
            self._queued_bytes -= _size(packet)
            ready.append(packet)
        self._tokens = tokens
        if ready:
            self._inner.send(ready, now)
        inner = self._inner.deadline
        if not queue:
            self.deadline = inner
            return
        missing = _size(queue[0]) * _BITS_NS - tokens
        ours = now + max(1, -(-missing // shape.rate_bps))
        self.deadline = ours if inner is None else min(ours, inner)

    def descriptors(self) -> list[int]:
        """See Link."""
        return self._inner.descriptors()

    def close(self) -> None:
        """See Link."""
        self._inner.close()


def _size(packet: Packet) -> int:
    return packet.end - packet.l2 + len(packet.body or b"")
