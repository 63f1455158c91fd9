"""A bad network, and a slow one: loss, delay, duplication, reordering, corruption and a rate limit around any link.

Each direction has its own `Faults`. Chances are of 0..1 per frame; `delay_ns` with `jitter_ns` holds frames back,
`rate_bps` sends them one after the other as a line of that many bits a second would, with at most `queue` of them
waiting (the rest is dropped at the tail). Reordering lets a frame overtake those that wait. The random numbers are the
caller's, so a seed repeats everything. `ShapedLink` (links/shaper.py) is the tool for limiting people; this one is for
tests and for showing what a network does.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from typing import Final

from protocol.records import record
from services.netstackd.links.base import Link, WrappedLink
from services.netstackd.links.segmentation import locate, prepare
from services.netstackd.storage.packet import Packet

DEFAULT_QUEUE: Final = 1000
_BITS_NS: Final = 8_000_000_000


@record(frozen=True)
class Faults:
    """What one direction does to frames; see the module docstring."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    reorder: float = 0.0
    delay_ns: int = 0
    jitter_ns: int = 0
    rate_bps: int = 0
    queue: int = DEFAULT_QUEUE

    @property
    def nothing(self) -> bool:
        """Whether frames pass unharmed and at once."""
        return self == Faults()


class _Line:
    """One direction: frames go in with `put`, and come out of `due` when their time has come."""

    __slots__ = ("_faults", "_free_at", "_order", "_rng", "_waiting", "dropped")

    def __init__(self, faults: Faults, rng: random.Random) -> None:
        self._faults = faults
        self._rng = rng
        self._waiting: list[tuple[int, int, Packet]] = []
        self._order = 0
        self._free_at = 0  # when the line has sent all it was given
        self.dropped = 0

    def put(self, packets: Sequence[Packet], now: int) -> None:
        """Take frames in at `now`."""
        faults, rng, waiting = self._faults, self._rng, self._waiting
        chance = rng.random
        for packet in packets:
            if faults.loss and chance() < faults.loss:
                self.dropped += 1
                continue
            copies = 2 if faults.duplicate and chance() < faults.duplicate else 1
            for index in range(copies):
                if len(waiting) >= faults.queue:
                    self.dropped += 1
                    continue
                one = packet.copy() if index else packet
                if faults.corrupt and chance() < faults.corrupt:
                    one = self._corrupted(one)
                self._order += 1
                heapq.heappush(waiting, (self._time(one, now), self._order, one))

    def _time(self, packet: Packet, now: int) -> int:
        """When a frame that comes in now comes out."""
        faults, rng = self._faults, self._rng
        at = now
        if faults.rate_bps:
            size = packet.end - packet.l2 + len(packet.body or b"")
            self._free_at = at = max(self._free_at, now) + size * _BITS_NS // faults.rate_bps
        if faults.reorder and rng.random() < faults.reorder:
            return at
        if faults.jitter_ns:
            at += rng.randrange(faults.jitter_ns + 1)
        return at + faults.delay_ns

    def _corrupted(self, packet: Packet) -> Packet:
        """One bit flipped, in a copy whose checksum is finished first: the receiver has to notice."""
        twin = whole_copy(packet)
        if packet.csum:
            if locate(twin):
                prepare([twin], 0)
            twin.csum = 0
        bit = self._rng.randrange(len(twin.head) * 8)
        twin.writable()[bit // 8] ^= 1 << bit % 8
        return twin

    def due(self, now: int, limit: int) -> list[Packet]:
        """At most `limit` frames whose time has come."""
        waiting = self._waiting
        out: list[Packet] = []
        while waiting and waiting[0][0] <= now and len(out) < limit:
            out.append(heapq.heappop(waiting)[2])
        return out

    @property
    def deadline(self) -> int | None:
        """When the next frame comes out."""
        return self._waiting[0][0] if self._waiting else None


def whole_copy(packet: Packet) -> Packet:
    """The packet as if just received: all of it in `head`, nothing parsed."""
    frame = bytearray(packet.frame_bytes())
    twin = Packet(frame, len(frame), packet.iface)
    twin.csum = packet.csum
    return twin


class FaultLink(WrappedLink):
    """Another link, with faults on what it receives and on what it is given to send."""

    __slots__ = ("_rx", "_tx")

    def __init__(self, inner: Link, rng: random.Random, *, rx: Faults | None = None, tx: Faults | None = None) -> None:
        rx, tx = rx or Faults(), tx or Faults()
        # frames are hurt one by one: large segments would hide what a network of packets does
        super().__init__(inner, 0)
        self._rx = _Line(rx, rng)
        self._tx = _Line(tx, rng)

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link."""
        inner = self.inner
        arrived = inner.receive(limit, now)
        cut: list[Packet] = []
        for packet in arrived:
            if packet.gso_type and not packet.l4 and not locate(packet):
                continue
            cut.append(packet)
        pieces = prepare(cut, 1) if any(packet.gso_type for packet in cut) else cut
        self._rx.put(pieces, now)
        out = self._rx.due(now, limit)
        self._turn(now)
        return [packet if packet.body is None else whole_copy(packet) for packet in out]

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """See Link."""
        self._tx.put(prepare(packets, 0), now)
        self._turn(now)

    def writable(self, now: int) -> None:
        """See Link."""
        self.inner.writable(now)
        self._turn(now)

    def _turn(self, now: int) -> None:
        """Send what is due, and say when there is more to do."""
        due = self._tx.due(now, 1 << 30)
        if due:
            self.inner.send(due, now)
        for line in (self._rx, self._tx):
            self.counters.rx_dropped += line.dropped if line is self._rx else 0
            self.counters.tx_dropped += line.dropped if line is self._tx else 0
            line.dropped = 0
        times = [at for at in (self._rx.deadline, self._tx.deadline, self.inner.deadline) if at is not None]
        self.deadline = min(times) if times else None
