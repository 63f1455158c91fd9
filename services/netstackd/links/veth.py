"""A pair of virtual Ethernet devices inside the process: what one end sends, the other receives (Linux: veth).

It joins two stacks, or a stack and a port of a bridge. Unfinished checksums and large segments pass as they are, and no
frame touches the host: what is sent waits in the peer's queue, bounded, until the loop asks that end for a batch. Where
headers are is known to the sender and passed on.

`on_arrival` is told when a queue that was empty has something in it; the loop sets it (edge/loop.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from services.netstackd.links.base import ALL_OFFLOADS, MAX_BACKLOG, Link
from services.netstackd.network.interface import ETHERNET
from services.netstackd.storage.packet import Packet


class VethLink(Link):
    """One end. Made in pairs by `open_veth`."""

    __slots__ = ("_queue", "on_arrival", "peer")

    def __init__(self, name: str, *, mac: bytes, mtu: int) -> None:
        super().__init__(name, "veth", fd=-1, mac=mac, mtu=mtu, offload=ALL_OFFLOADS, framing=ETHERNET)
        self._queue: deque[Packet] = deque()
        self.peer: VethLink | None = None
        self.on_arrival: Callable[[], None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether frames have arrived that nobody asked for yet."""
        return bool(self._queue)

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link."""
        queue = self._queue
        if len(queue) <= limit:
            received = list(queue)
            queue.clear()
        else:
            received = [queue.popleft() for _ in range(limit)]
        counters = self.counters
        counters.rx_packets += len(received)
        counters.rx_bytes += sum([packet.end for packet in received])
        return received

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """See Link. A frame may be one that other ports get as well: what arrives is a packet of its own."""
        peer, counters = self.peer, self.counters
        if peer is None:  # the other end is gone
            counters.tx_dropped += len(packets)
            return
        queue = peer._queue
        was_empty = not queue
        total = sent = 0
        for packet in packets:
            if len(queue) >= MAX_BACKLOG:
                counters.tx_dropped += 1
                continue
            l2 = packet.l2
            body = packet.body
            if body is None:
                frame = packet.head[l2 : packet.end]
            else:
                frame = b"".join((memoryview(packet.head)[l2 : packet.end], body))
            size = len(frame)
            arriving = Packet(frame, size)
            if packet.l4:
                arriving.l3, arriving.l4, arriving.payload = packet.l3 - l2, packet.l4 - l2, packet.payload - l2
                arriving.proto = packet.proto
            arriving.csum = packet.csum
            arriving.gso_size, arriving.gso_type = packet.gso_size, packet.gso_type
            queue.append(arriving)
            total += size
            sent += 1
        counters.tx_packets += sent
        counters.tx_bytes += total
        if was_empty and queue and peer.on_arrival is not None:
            peer.on_arrival()

    def close(self) -> None:
        """See Link: the other end loses its carrier, so to speak; what waits here is gone."""
        self._queue.clear()
        self.on_arrival = None
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.peer = None


def open_veth(first: str, second: str, *, macs: tuple[bytes, bytes], mtu: int = 1500) -> tuple[VethLink, VethLink]:
    """Both ends, named as they show in counters and in a bridge's table."""
    left, right = VethLink(first, mac=macs[0], mtu=mtu), VethLink(second, mac=macs[1], mtu=mtu)
    left.peer, right.peer = right, left
    return left, right
