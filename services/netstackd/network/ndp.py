"""Neighbour discovery: the solicitor of IPv6 neighbours, and redirects (RFC 4861). Router advertisements go to
`slaac`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.icmp import REDIRECT_LIFETIME, REDIRECT_LIMIT
from services.netstackd.network.interface import ETHERNET, Interface
from services.netstackd.network.neighbours import Neighbour
from services.netstackd.network.routes import MULTICAST, UNICAST, Destination, NextHop, Route
from services.netstackd.storage.packet import Packet
from services.netstackd.wire import icmpv6, ndp
from services.netstackd.wire.numbers import (
    IPV6_ALL_NODES,
    is_link_local_v6,
    is_multicast,
    solicited_node,
)

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

_MALFORMED: Final = COUNTER["DropNdpMalformed"]
_HOP_LIMIT: Final = COUNTER["DropNdpHopLimit"]
_NOT_FOR_US: Final = COUNTER["DropNdpNotForUs"]


class Ndp:
    """One per stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self._redirects: list[Route] = []
        self.on_router_solicitation: Callable[[Interface, int], None] | None = None  # of a router advertiser

    def input(self, packet: Packet, kind: int) -> None:
        """A message whose ICMPv6 checksum was good."""
        if packet.ttl != 255:  # RFC 4861 section 6.1.1: from this link
            self._count[_HOP_LIMIT] += 1
            return
        message = bytes(memoryview(packet.head)[packet.l4 : packet.end])
        if message[1] != 0:
            self._count[_MALFORMED] += 1
        elif kind == icmpv6.NEIGHBOUR_SOLICITATION:
            self._input_solicitation(packet, message)
        elif kind == icmpv6.NEIGHBOUR_ADVERTISEMENT:
            self._input_advertisement(packet, message)
        elif kind == icmpv6.ROUTER_ADVERTISEMENT:
            self._stack.slaac.input(packet, message)
        elif kind == icmpv6.ROUTER_SOLICITATION:
            self._input_router_solicitation(packet, message)
        else:
            self._input_redirect(packet, message)

    def _input_solicitation(self, packet: Packet, message: bytes) -> None:
        """RFC 4861 section 7.2.3; a source of zero is duplicate detection (RFC 4862 section 5.4.3)."""
        stack = self._stack
        iface = packet.iface
        parsed = ndp.parse_target_untrusted(message)
        assert iface is not None
        if parsed is None:
            self._count[_MALFORMED] += 1
            return
        _, target, options = parsed
        link = ndp.link_option(options, ndp.SOURCE_LINK)
        if packet.src == 0 and (link is not None or packet.dst != solicited_node(target)):
            self._count[_MALFORMED] += 1
            return
        owner = stack.addresses.on_interface(iface, 6, target)
        if owner is not None and not owner.usable:
            if packet.src == 0:
                nonce = next((content for number, content in options if number == ndp.NONCE), b"")
                stack.dad.heard_solicitation(owner, nonce)
            return
        if owner is None and not self._proxies(iface, target):
            self._count[_NOT_FOR_US] += 1
            return
        router = ndp.FLAG_ROUTER if iface.forwarding6 else 0
        override = ndp.FLAG_OVERRIDE if owner is not None else 0
        if packet.src == 0:
            self._advertise(iface, target, IPV6_ALL_NODES, router | override)
            return
        if link is not None and iface.device.kind == ETHERNET:
            stack.neighbours6.heard_solicitation(iface, packet.src, link)
        self._advertise(iface, target, packet.src, router | override | ndp.FLAG_SOLICITED)

    def _proxies(self, iface: Interface, target: int) -> bool:
        """RFC 4389: answer for what we reach by another interface."""
        if not (iface.proxy_ndp and iface.forwarding6):
            return False
        way = self._stack.routing6.output(target)
        return way.kind == UNICAST and way.out is not iface

    def _input_advertisement(self, packet: Packet, message: bytes) -> None:
        """RFC 4861 section 7.2.5; for an address of ours it means that somebody else has it."""
        iface = packet.iface
        parsed = ndp.parse_target_untrusted(message)
        assert iface is not None
        if parsed is None or (message[4] & ndp.FLAG_SOLICITED and is_multicast(6, packet.dst)):
            self._count[_MALFORMED] += 1
            return
        flags, target, options = parsed
        owner = self._stack.addresses.on_interface(iface, 6, target)
        if owner is not None:
            self._stack.dad.heard_advertisement(owner)
            return
        self._stack.neighbours6.heard_advertisement(
            iface,
            target,
            ndp.link_option(options, ndp.TARGET_LINK),
            solicited=bool(flags & ndp.FLAG_SOLICITED),
            override=bool(flags & ndp.FLAG_OVERRIDE),
            router=bool(flags & ndp.FLAG_ROUTER),
        )

    def _input_router_solicitation(self, packet: Packet, message: bytes) -> None:
        """RFC 4861 section 6.2.6."""
        options = ndp.parse_options_untrusted(message, 8)
        iface = packet.iface
        assert iface is not None
        link = None if options is None else ndp.link_option(options, ndp.SOURCE_LINK)
        if options is None or (packet.src == 0 and link is not None):
            self._count[_MALFORMED] += 1
            return
        if not iface.forwarding6 or self.on_router_solicitation is None:
            self._count[_NOT_FOR_US] += 1
            return
        if link is not None and packet.src:
            self._stack.neighbours6.heard_solicitation(iface, packet.src, link).router = False
        self.on_router_solicitation(iface, packet.src)

    def _input_redirect(self, packet: Packet, message: bytes) -> None:
        """RFC 4861 section 8.1 and 8.3: believed from the router that we use for that destination."""
        stack = self._stack
        iface = packet.iface
        parsed = ndp.parse_redirect_untrusted(message)
        assert iface is not None
        if parsed is None or not is_link_local_v6(packet.src):
            self._count[_MALFORMED] += 1
            return
        target, destination, options = parsed
        if not iface.accept_redirects6 or iface.forwarding6 or (target != destination and not is_link_local_v6(target)):
            self._count[_NOT_FOR_US] += 1
            return
        current = stack.routing6.output(destination)
        if current.kind != UNICAST or current.out is not iface or current.next_hop != packet.src:
            self._count[_NOT_FOR_US] += 1
            return
        link = ndp.link_option(options, ndp.TARGET_LINK)
        if link is not None:
            neighbour = stack.neighbours6.heard_solicitation(iface, target, link)
            neighbour.router = neighbour.router or target != destination
        if len(self._redirects) >= REDIRECT_LIMIT:
            stack.remove_route(self._redirects.pop(0), missing_ok=True)
        way = NextHop(iface, 0 if target == destination else target)
        route = Route(6, destination, 128, (way,), protocol="redirect", expires=stack.now + REDIRECT_LIFETIME)
        self._redirects.append(route)
        stack.add_route(route, replace=True)

    # -- sending --

    def send(self, iface: Interface, src: int, dst: int, kind: int, rest: int, body: bytes) -> None:
        """Send a message with hop limit 255 out of `iface`."""
        stack = self._stack
        way = Destination(MULTICAST if is_multicast(6, dst) else UNICAST, iface, dst, None, iface.effective_mtu6)
        stack.icmp6.send(way, src, dst, kind, 0, rest, body, ttl=255, loop=False)

    def _advertise(self, iface: Interface, target: int, to: int, flags: int) -> None:
        owned = self._stack.addresses.on_interface(iface, 6, target) is not None
        source = target if owned else self._stack.addresses.link_local(iface)
        body = ndp.advertisement(target, iface.mac)
        self.send(iface, source, to, icmpv6.NEIGHBOUR_ADVERTISEMENT, flags << 24, body)

    def announce(self, iface: Interface, address: int) -> None:
        """Tell everybody that our link address changed (RFC 4861 section 7.2.6)."""
        flags = ndp.FLAG_OVERRIDE | (ndp.FLAG_ROUTER if iface.forwarding6 else 0)
        self._advertise(iface, address, IPV6_ALL_NODES, flags)

    def probe(self, iface: Interface, address: int, nonce: bytes) -> None:
        """Ask whether anybody has an address that we want (RFC 4862 section 5.4.2, RFC 7527)."""
        body = ndp.solicitation(address, None, nonce)
        self.send(iface, 0, solicited_node(address), icmpv6.NEIGHBOUR_SOLICITATION, 0, body)

    def solicit(self, neighbour: Neighbour, link: bytes | None) -> None:
        """RFC 4861 section 7.2.2: from the waiting packet's source when that is ours, to the group or the one."""
        stack = self._stack
        iface, target = neighbour.iface, neighbour.address
        source = 0
        if neighbour.queue:
            waiting = stack.addresses.on_interface(iface, 6, neighbour.queue[-1].src)
            if waiting is not None and waiting.usable:
                source = waiting.address
        source = source or stack.addresses.link_local(iface) or stack.routing6.select_source(target, iface, target)
        if not source:
            return
        body = ndp.solicitation(target, iface.mac)
        self.send(iface, source, target if link else solicited_node(target), icmpv6.NEIGHBOUR_SOLICITATION, 0, body)

    def unreachable(self, packet: Packet) -> None:
        """RFC 4443 section 3.1, code 3."""
        self._stack.icmp6.send_unreachable(packet, icmpv6.ADDRESS_UNREACHABLE)

    def send_redirect(self, packet: Packet, target: int, iface: Interface) -> None:
        """Tell the sender of `packet` of a better first hop (RFC 4861 section 8.2)."""
        source = self._stack.addresses.link_local(iface)
        if not source:
            return
        neighbour = self._stack.neighbours6.find(iface, target)
        link = neighbour.link if neighbour is not None and neighbour.link else None
        body = ndp.redirect(target, packet.dst, link, packet.network_bytes())
        self.send(iface, source, packet.src, icmpv6.REDIRECT, 0, body)
