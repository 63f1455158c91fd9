"""A learning bridge: links as ports, and one port more for the stack itself.

The loop gives the frames of each port to `receive_from`, which sends on what belongs to other ports and returns what
the stack gets. `send` (the bridge is a Link to the stack) does the same for frames of the stack. A frame that goes to
several places is shared among ports, which do not change it, and copied for the stack, which does.

The forwarding table learns source addresses, forgets those silent for `ageing_ns`, and never holds more than
`max_entries`: beyond, new stations are not learned, their frames are flooded, and `fdb_full` counts.
Source: IEEE 802.1D-2004 7.7 to 7.9 (no spanning tree).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.netstackd.links.base import ALL_OFFLOADS, Link
from services.netstackd.links.segmentation import locate
from services.netstackd.network.interface import ETHERNET
from services.netstackd.storage.packet import Packet

AGEING_NS: Final = 300 * 1_000_000_000  # 802.1D table 7-5; Linux's default
MAX_ENTRIES: Final = 4096
_RESERVED: Final = b"\x01\x80\xc2\x00\x00"  # 802.1D table 7-10: never forwarded, with a last byte below 0x10
_MIN_FRAME: Final = 14


class _Station:
    """Where an address was last heard, and when."""

    __slots__ = ("port", "seen")

    def __init__(self, port: Link, seen: int) -> None:
        self.port = port
        self.seen = seen


class Bridge(Link):
    """See the module docstring."""

    __slots__ = ("_ageing_ns", "_max_entries", "_stations", "fdb_full", "flooded", "ports")

    def __init__(
        self,
        name: str,
        ports: Sequence[Link],
        *,
        mac: bytes,
        mtu: int | None = None,
        ageing_ns: int = AGEING_NS,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        smallest = min((port.mtu for port in ports), default=1500)
        super().__init__(
            name, "bridge", fd=-1, mac=mac, mtu=min(mtu or smallest, smallest), offload=ALL_OFFLOADS, framing=ETHERNET
        )
        self.ports = list(ports)
        self._stations: dict[bytes, _Station] = {}
        self._ageing_ns = ageing_ns
        self._max_entries = max_entries
        self.fdb_full = 0
        self.flooded = 0

    def receive(self, limit: int, now: int) -> list[Packet]:
        """Nothing arrives at the bridge itself: the loop asks its ports."""
        return []

    def receive_from(self, port: Link, packets: Sequence[Packet], now: int) -> list[Packet]:
        """Frames that came in at `port`: forwards them, and returns those for the stack."""
        local: list[Packet] = []
        out: dict[Link, list[Packet]] = {}
        own, stations = self.mac, self._stations
        for packet in packets:
            head = packet.head
            if packet.end < _MIN_FRAME:
                port.counters.rx_errors += 1
                continue
            destination, source = bytes(head[:6]), bytes(head[6:12])
            known = stations.get(source)
            if known is not None and known.port is port:
                known.seen = now
            else:
                self._learn(source, port, now)
            if destination == own:
                local.append(packet)
            elif destination[0] & 1:
                if destination[:5] == _RESERVED and destination[5] < 0x10:
                    continue
                local.append(packet.copy())
                self._flood(packet, port, out)
            else:
                self._forward(destination, packet, port, out, now)
        self._flush(out, now)
        counters = self.counters
        counters.rx_packets += len(local)
        counters.rx_bytes += sum(packet.end for packet in local)
        return local

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """Frames of the stack."""
        out: dict[Link, list[Packet]] = {}
        counters = self.counters
        for packet in packets:
            l2 = packet.l2
            destination = bytes(packet.head[l2 : l2 + 6])
            if destination[0] & 1:
                self._flood(packet, None, out)
            else:
                self._forward(destination, packet, None, out, now)
            counters.tx_packets += 1
            counters.tx_bytes += packet.end - l2 + len(packet.body or b"")
        self._flush(out, now)

    def _learn(self, source: bytes, port: Link, now: int) -> None:
        """A station was heard at a port it was not known at."""
        if source[0] & 1 or source == self.mac:
            return
        stations = self._stations
        if source not in stations and len(stations) >= self._max_entries:
            self.forget_old(now)
            if len(stations) >= self._max_entries:
                self.fdb_full += 1
                return
        stations[source] = _Station(port, now)

    def _forward(
        self, destination: bytes, packet: Packet, origin: Link | None, out: dict[Link, list[Packet]], now: int
    ) -> None:
        station = self._stations.get(destination)
        if station is None or now - station.seen > self._ageing_ns:
            self._flood(packet, origin, out)
        elif station.port is not origin:
            self._queue(packet, station.port, out)

    def _flood(self, packet: Packet, origin: Link | None, out: dict[Link, list[Packet]]) -> None:
        self.flooded += 1
        for port in self.ports:
            if port is not origin:
                self._queue(packet, port, out)

    @staticmethod
    def _queue(packet: Packet, port: Link, out: dict[Link, list[Packet]]) -> None:
        if packet.csum and not packet.l4:
            locate(packet)  # the port's link needs to know where the checksum is
        if not packet.gso_type and packet.end - packet.l2 + len(packet.body or b"") > port.mtu + 18:
            port.counters.tx_dropped += 1
            return
        waiting = out.get(port)
        if waiting is None:
            out[port] = [packet]
        else:
            waiting.append(packet)

    @staticmethod
    def _flush(out: dict[Link, list[Packet]], now: int) -> None:
        for port, packets in out.items():
            port.send(packets, now)

    def forget_port(self, port: Link) -> None:
        """A port goes, with the stations that were heard there."""
        self.ports.remove(port)
        for address in [address for address, station in self._stations.items() if station.port is port]:
            del self._stations[address]

    def forget_old(self, now: int) -> None:
        """Drop stations that were silent for too long."""
        oldest = now - self._ageing_ns
        for address in [address for address, station in self._stations.items() if station.seen < oldest]:
            del self._stations[address]

    def stations(self, now: int) -> list[tuple[bytes, str, int]]:
        """(address, port's name, nanoseconds since it was heard) of every station."""
        self.forget_old(now)
        return [(address, station.port.name, now - station.seen) for address, station in self._stations.items()]

    def descriptors(self) -> list[int]:
        """Its ports own theirs."""
        return [fd for port in self.ports for fd in port.descriptors()]

    def close(self) -> None:
        """Close every port."""
        for port in self.ports:
            port.close()
