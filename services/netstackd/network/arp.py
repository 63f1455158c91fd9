"""ARP: the solicitor of IPv4 neighbours (RFC 826, RFC 1122 section 2.3.2, RFC 5227)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.interface import ETHERNET, Interface
from services.netstackd.network.neighbours import SECOND, Neighbour
from services.netstackd.network.routes import UNICAST
from services.netstackd.network.source_selection import select_v4
from services.netstackd.storage.packet import TO_HOST, Packet
from services.netstackd.wire import arp as wire
from services.netstackd.wire import icmpv4
from services.netstackd.wire.ethernet import BROADCAST, NO_ADDRESS, is_group
from services.netstackd.wire.numbers import ETHERTYPE_ARP, is_loopback, is_multicast

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

_MALFORMED: Final = COUNTER["DropArpMalformed"]
_NOT_FOR_US: Final = COUNTER["DropArpNotForUs"]

# An answer shortly after another one does not override it: of two answers the first wins (net.ipv4.neigh.locktime).
LOCK_TIME: Final = SECOND


class Arp:
    """One per stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values

    def input(self, packet: Packet) -> None:
        """A received ARP packet at l3."""
        iface = packet.iface
        assert iface is not None
        parsed = wire.parse_arp_untrusted(packet.head, packet.l3, packet.end)
        if parsed is None or iface.device.kind != ETHERNET:
            self._count[_MALFORMED] += 1
            return
        operation, sender, sender_ip, _, target_ip = parsed
        if is_group(sender) or is_multicast(4, target_ip) or is_loopback(4, target_ip) or is_multicast(4, sender_ip):
            self._count[_MALFORMED] += 1
            return
        stack = self._stack
        stack.dad.heard_arp(iface, operation, sender, sender_ip, target_ip)
        if operation == wire.REQUEST and self._answers(iface, sender_ip, target_ip):
            if sender_ip:
                stack.neighbours4.heard_solicitation(iface, sender_ip, sender)
            self.send(iface, wire.REPLY, sender, iface.mac, target_ip, sender, sender_ip)
            return
        self._merge(packet, iface, operation, sender, sender_ip)

    def _answers(self, iface: Interface, sender_ip: int, target_ip: int) -> bool:
        """Whether a request is ours to answer: for any own address (arp_ignore 0), or as a proxy (RFC 1027)."""
        stack = self._stack
        if sender_ip and stack.interface_of(4, sender_ip) is not None:
            return False  # somebody claims an address of ours: that is for `dad`
        owner = stack.interface_of(4, target_ip)
        if owner is not None:
            return not is_loopback(4, target_ip)
        if not (iface.proxy_arp and iface.forwarding4) or not sender_ip or sender_ip == target_ip:
            return False
        way = stack.routing4.output(target_ip)
        return way.kind == UNICAST and way.out is not iface

    def _merge(self, packet: Packet, iface: Interface, operation: int, sender: bytes, sender_ip: int) -> None:
        """A reply, or a request for somebody else: it says where its sender is, if we care (RFC 826)."""
        neighbours = self._stack.neighbours4
        known = neighbours.find(iface, sender_ip)
        if known is None or not sender_ip or sender == iface.mac:
            self._count[_NOT_FOR_US] += 1
            return
        neighbours.heard_advertisement(
            iface,
            sender_ip,
            sender,
            solicited=operation == wire.REPLY and packet.kind == TO_HOST,
            override=self._stack.now - known.updated >= LOCK_TIME,
            router=False,
        )

    def solicit(self, neighbour: Neighbour, link: bytes | None) -> None:
        """Ask who has an address; only the one who should have it, when `link` is given."""
        iface = neighbour.iface
        stack = self._stack
        source = 0
        if neighbour.queue:  # from the address that the waiting packet is sent from (arp_announce 0)
            waiting = neighbour.queue[-1].src
            source = waiting if stack.interface_of(4, waiting) is not None else 0
        source = source or select_v4(neighbour.address, iface, stack.interfaces.values())
        self.send(iface, wire.REQUEST, link or BROADCAST, iface.mac, source, NO_ADDRESS, neighbour.address)

    def unreachable(self, packet: Packet) -> None:
        """RFC 1812 section 5.2.7.1: nobody answered for the next hop."""
        self._stack.icmp4.send_unreachable(packet, icmpv4.HOST_UNREACHABLE)

    def announce(self, iface: Interface, address: int) -> None:
        """Tell everybody that we have it (RFC 5227 section 2.3)."""
        self.send(iface, wire.REQUEST, BROADCAST, iface.mac, address, NO_ADDRESS, address)

    def probe(self, iface: Interface, address: int) -> None:
        """Ask whether anybody has it, without claiming it (RFC 5227 section 2.1.1)."""
        self.send(iface, wire.REQUEST, BROADCAST, iface.mac, 0, NO_ADDRESS, address)

    def send(
        self, iface: Interface, operation: int, to: bytes, sender: bytes, sender_ip: int, target: bytes, target_ip: int
    ) -> None:
        """Send one ARP packet to a link address."""
        body = wire.build(operation, sender, sender_ip, target, target_ip)
        self._stack.link_output.frame(iface, iface.link_header(to, ETHERTYPE_ARP) + body)
