"""Links that stay inside the process: a loop to oneself, and a pair that joins two stacks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from services.netstackd.links.base import ALL_OFFLOADS, MAX_BACKLOG, Link
from services.netstackd.network.interface import ETHERNET, IP
from services.netstackd.storage.packet import CSUM_PARTIAL, CSUM_VALID, Packet


class PairLink(Link):
    """One end: what is sent arrives at `peer`. Unfinished checksums and large segments pass as they are."""

    __slots__ = ("_queue", "peer")

    def __init__(self, name: str, *, mac: bytes, mtu: int, framing: int = ETHERNET, kind: str = "pair") -> None:
        super().__init__(name, kind, fd=-1, mac=mac, mtu=mtu, offload=ALL_OFFLOADS, framing=framing)
        self._queue: deque[Packet] = deque()
        self.peer: PairLink = self

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link."""
        queue = self._queue
        received = [queue.popleft() for _ in range(min(limit, len(queue)))]
        self.counters.rx_packets += len(received)
        self.counters.rx_bytes += sum(packet.end for packet in received)
        if not queue:
            self.deadline = None
        return received

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """See Link."""
        peer, counters = self.peer, self.counters
        for packet in packets:
            if len(peer._queue) >= MAX_BACKLOG:
                counters.tx_dropped += 1
                continue
            frame = bytearray(packet.frame_bytes())
            arriving = Packet(frame, len(frame))
            arriving.csum = CSUM_PARTIAL if packet.csum == CSUM_PARTIAL else CSUM_VALID
            arriving.gso_size, arriving.gso_type = packet.gso_size, packet.gso_type
            peer._queue.append(arriving)
            counters.tx_packets += 1
            counters.tx_bytes += len(frame)
        if peer._queue:
            peer.deadline = now


def open_loopback(name: str, *, mtu: int = 65536) -> PairLink:
    """A link that hears itself; frames begin with the IP header."""
    return PairLink(name, mac=b"", mtu=mtu, framing=IP, kind="loopback")


def open_pair(first: str, second: str, *, macs: tuple[bytes, bytes], mtu: int = 1500) -> tuple[PairLink, PairLink]:
    """Two links joined back to back."""
    left, right = PairLink(first, mac=macs[0], mtu=mtu), PairLink(second, mac=macs[1], mtu=mtu)
    left.peer, right.peer = right, left
    return left, right
