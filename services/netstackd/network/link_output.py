"""The last step of every packet: its link header, the packet sockets that watch, and the queue of its interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.interface import LOOPBACK, TX_QUEUE_LIMIT, VLAN, Interface
from services.netstackd.network.neighbours import Neighbour
from services.netstackd.network.routes import BROADCAST, MULTICAST, Destination
from services.netstackd.storage.packet import HEADROOM, Packet
from services.netstackd.wire.ethernet import group_of
from services.netstackd.wire.numbers import ETHERTYPE_IPV4, ETHERTYPE_IPV6

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

_QUEUE_FULL: Final = COUNTER["DropLinkQueueFull"]
_NOT_UP: Final = COUNTER["DropLinkNotUp"]


class LinkOutput:
    """One per stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values

    def send(self, packet: Packet, destination: Destination) -> None:
        """Send a packet whose IP header is complete to the next hop of `destination`, whatever its kind."""
        out = destination.out
        assert out is not None
        if out.kind and out.device.kind:  # no link header
            self.queue(packet, out, b"")
            return
        kind = destination.kind
        if kind == BROADCAST or kind == MULTICAST:
            group = group_of(packet.version, packet.dst)
            ethertype = ETHERTYPE_IPV4 if packet.version == 4 else ETHERTYPE_IPV6
            self.queue(packet, out, out.link_header(group, ethertype))
            return
        neighbour = destination.neighbour
        stack = self._stack
        if neighbour is None:
            table = stack.neighbours4 if packet.version == 4 else stack.neighbours6
            neighbour = destination.neighbour = table.get(out, destination.next_hop)
        if neighbour.usable_until > stack.now:
            neighbour.used = stack.now
            self.queue(packet, out, neighbour.header)
        else:
            packet.out = out
            (stack.neighbours4 if packet.version == 4 else stack.neighbours6).output(neighbour, packet)

    def send_resolved(self, packet: Packet, neighbour: Neighbour) -> None:
        """Send to a neighbour whose link address is known."""
        self.queue(packet, neighbour.iface, neighbour.header)

    def queue(self, packet: Packet, out: Interface, header: bytes) -> None:
        """Write the link header and put the packet into the interface's queue."""
        packet.out = out
        if not out.running:
            self._count[_NOT_UP] += 1
            out.tx_dropped += 1
            return
        l3 = packet.l3
        if header:
            start = l3 - len(header)
            if start >= 0:
                head = packet.head
                if type(head) is not bytearray:
                    head = packet.writable()
                head[start:l3] = header
                packet.l2 = start
            else:
                self._make_room(packet, header)
        else:
            packet.l2 = l3
        stack = self._stack
        if stack.taps:
            stack.tap_output(packet, out)
        kind = out.kind
        if kind == LOOPBACK:
            stack.loop_back(out, packet)
            return
        device = out if kind != VLAN else out.device
        tx = device.tx
        if not tx:
            stack.sending[device] = None
        elif len(tx) >= TX_QUEUE_LIMIT:
            self._count[_QUEUE_FULL] += 1
            out.tx_dropped += 1
            return
        tx.append(packet)

    def frame(self, out: Interface, frame: bytes) -> None:
        """Send a whole frame as it is (ARP, packet sockets)."""
        packet = Packet(frame, len(frame))
        self.queue(packet, out, b"")

    @staticmethod
    def _make_room(packet: Packet, header: bytes) -> None:
        """There is not enough headroom (a longer link header than the one it came with)."""
        shift = HEADROOM - packet.l3 if len(header) <= HEADROOM else len(header) - packet.l3
        packet.head = bytearray(shift) + packet.head
        packet.l3 += shift
        packet.l4 += shift
        packet.payload += shift
        packet.end += shift
        packet.l2 = packet.l3 - len(header)
        packet.head[packet.l2 : packet.l3] = header
