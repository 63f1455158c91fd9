"""Forwarding (RFC 1812 section 5.2 and 5.3, RFC 8200): what a router does with a packet for someone else.

The hot path of the router: after routing, one function per version. The order is Linux's: time to live, size, the
forward hook, then the header is changed and the packet leaves through the postrouting hook.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.icmp import NO_ROUTE, PROHIBITED
from services.netstackd.network.interface import Interface
from services.netstackd.network.routes import BLACKHOLE, MULTIPATH, PROHIBIT, UNREACHABLE, Destination
from services.netstackd.storage.packet import TO_HOST, Packet
from services.netstackd.wire import icmpv4, icmpv6, ipv4_options
from services.netstackd.wire.numbers import PROTO_ROUTING, PROTO_TCP, is_multicast

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.netstackd.network.neighbours import Neighbour
    from services.netstackd.stack import Stack

_FORWARDED4: Final = COUNTER["IpForwDatagrams"]
_FORWARDED6: Final = COUNTER["Ip6OutForwDatagrams"]
_NO_ROUTE4: Final = COUNTER["IpExtInNoRoutes"]
_NO_ROUTE6: Final = COUNTER["Ip6InNoRoutes"]
_TOO_BIG6: Final = COUNTER["Ip6InTooBigErrors"]
_FRAG_FAIL: Final = COUNTER["IpFragFails"]
_TTL: Final = COUNTER["DropTtlExceeded"]
_BIG: Final = COUNTER["DropTooBig"]
_NOT_UNICAST: Final = COUNTER["DropNotUnicast"]
_DROP_NO_ROUTE: Final = COUNTER["DropNoRoute"]

# What a route of the kind UNREACHABLE says (ICMP, ICMPv6), as Linux does: "host", and as if there were no route.
_UNREACHABLE_ROUTE: Final = (icmpv4.HOST_UNREACHABLE, icmpv6.NO_ROUTE)

_TTL_TO_CHECKSUM: Final = Struct("!BBH")  # time to live, protocol, header checksum: bytes 8 to 11

# More bytes than this are not copied to change a header: the payload becomes `body`.
_SPLIT_ABOVE: Final = 4096


class Forwarding:
    """One per stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self._link_send = stack.link_output.send
        self._link_queue = stack.link_output.queue
        # Told of each TCP packet of IPv4 that is about to leave the usual way (edge/shortcuts.py).
        self.learn: Callable[[Packet, Destination, Neighbour], None] | None = None

    def refuse(self, packet: Packet, destination: Destination) -> None:
        """There is no way for a packet that was to be forwarded: count, and tell its sender."""
        reason = destination.reason
        self._count[reason] += 1
        kind = destination.kind
        if reason == _DROP_NO_ROUTE:
            self._count[_NO_ROUTE4 if packet.version == 4 else _NO_ROUTE6] += 1
            self._stack.send_unreachable(packet, NO_ROUTE)
        elif kind == UNREACHABLE:
            self._stack.send_unreachable(packet, _UNREACHABLE_ROUTE)
        elif kind == PROHIBIT:
            self._stack.send_unreachable(packet, PROHIBITED)
        assert kind != BLACKHOLE or reason

    def forward4(self, packet: Packet, way: Destination) -> None:
        """Pass on an IPv4 packet."""
        stack = self._stack
        count = self._count
        if way.kind == MULTIPATH:
            way = way.choose(stack.routing4.flow_hash(packet))
        if packet.kind != TO_HOST:
            count[_NOT_UNICAST] += 1  # RFC 1812 section 5.3.4: a link-layer group address with a unicast destination
            return
        ttl = packet.ttl
        if ttl <= 1:
            count[_TTL] += 1
            stack.icmp4.send_time_exceeded(packet, icmpv4.TTL_EXCEEDED)
            return
        out = way.out
        assert out is not None
        if out is packet.iface and out.send_redirects:
            self._redirect4(packet, way, out)
        if packet.gso_size:
            _find_payload(packet)
        l3 = packet.l3
        size = packet.end - l3
        fragment: bool | None = False
        if size > way.mtu or packet.fragment_size:
            fragment = self._does_not_fit4(packet, way, size)
            if fragment is None:
                return
        packet.out = out
        packet.next_hop = way.next_hop
        hook = stack.hooks.forward
        if hook is not None and not hook(packet):
            return
        head = packet.head
        if type(head) is not bytearray:
            head = _writable(packet, size)
        ttl, proto, total = _TTL_TO_CHECKSUM.unpack_from(head, l3 + 8)
        total += 0x100  # RFC 1624: the word that holds the time to live went down by 0x100
        _TTL_TO_CHECKSUM.pack_into(head, l3 + 8, ttl - 1, proto, (total & 0xFFFF) + (total >> 16))
        count[_FORWARDED4] += 1
        if packet.options:
            self._record_options(packet, out)
        hook = stack.hooks.postrouting
        if hook is not None and not hook(packet):
            return
        if fragment:
            stack.ipv4.send_fragments(packet, way, min(way.mtu, packet.fragment_size or way.mtu))
            return
        neighbour = way.neighbour
        if neighbour is not None and neighbour.usable_until > stack.now:
            if self.learn is not None and packet.proto == PROTO_TCP:
                self.learn(packet, way, neighbour)
            self._link_queue(packet, out, neighbour.header)
        else:
            self._link_send(packet, way)

    def _does_not_fit4(self, packet: Packet, way: Destination, size: int) -> bool | None:
        """A packet longer than the way's MTU, or put together from fragments: False when it may leave as it is (its
        link cuts it into segments, or it is short enough), True when it has to be fragmented, None when it was refused
        (RFC 1191 section 4). What came in fragments leaves in none larger, so that nobody on the way sees more."""
        if packet.gso_size and packet.payload - packet.l3 + packet.gso_size <= way.mtu:
            return False
        largest = packet.fragment_size or size
        if largest > way.mtu and (packet.gso_size or packet.head[packet.l3 + 6] & 0x40):
            self._count[_BIG] += 1
            self._count[_FRAG_FAIL] += 1
            self._stack.icmp4.send_too_big(packet, way.mtu)
            return None
        return size > min(largest, way.mtu)

    def _redirect4(self, packet: Packet, way: Destination, iface: Interface) -> None:
        """RFC 1812 section 5.2.7.2: it leaves where it came in, and its sender is on that very link."""
        back = self._stack.routing4.output(packet.src)
        if back.out is iface and back.next_hop == packet.src and packet.src != way.next_hop and not packet.options:
            self._stack.icmp4.send_redirect(packet, way.next_hop)

    def _record_options(self, packet: Packet, out: Interface) -> None:
        address = next((a.address for a in out.addresses if a.version == 4 and a.usable), 0)
        changed = ipv4_options.record(packet.options, address, self._stack.now // 1_000_000)
        if changed != packet.options:
            head = packet.writable()
            head[packet.l3 + 20 : packet.l4] = changed
            packet.options = changed
            _rewrite_checksum(head, packet.l3)

    def forward6(self, packet: Packet, way: Destination) -> None:
        """Pass on an IPv6 packet."""
        stack = self._stack
        count = self._count
        if way.kind == MULTIPATH:
            way = way.choose(stack.routing6.flow_hash(packet))
        if packet.kind != TO_HOST:
            count[_NOT_UNICAST] += 1
            return
        if packet.ttl <= 1:
            count[_TTL] += 1
            stack.icmp6.send_time_exceeded(packet, icmpv6.HOP_LIMIT_EXCEEDED)
            return
        out = way.out
        assert out is not None
        if out is packet.iface and out.send_redirects:
            self._redirect6(packet, way, out)
        if packet.gso_size:
            _find_payload(packet)
        l3 = packet.l3
        size = packet.end - l3
        fragment = packet.fragment_size
        if (fragment or size) > way.mtu and not (packet.gso_size and packet.payload - l3 + packet.gso_size <= way.mtu):
            count[_BIG] += 1
            count[_TOO_BIG6] += 1
            stack.icmp6.send_too_big(packet, way.mtu)  # RFC 8200 section 5: routers do not fragment
            return
        packet.out = out
        packet.next_hop = way.next_hop
        hook = stack.hooks.forward
        if hook is not None and not hook(packet):
            return
        head = packet.head
        if type(head) is not bytearray:
            head = _writable(packet, size)
        head[l3 + 7] -= 1
        count[_FORWARDED6] += 1
        hook = stack.hooks.postrouting
        if hook is not None and not hook(packet):
            return
        if fragment and size > fragment:
            # What was put together for the hooks leaves in fragments no larger (nf_defrag_ipv6).
            stack.ipv6.send_fragments(packet, way, fragment)
            return
        neighbour = way.neighbour
        if neighbour is not None and neighbour.usable_until > stack.now:
            self._link_queue(packet, out, neighbour.header)
        else:
            self._link_send(packet, way)

    def _redirect6(self, packet: Packet, way: Destination, iface: Interface) -> None:
        """RFC 4861 section 8.2: its sender is a neighbour, and there is a better first hop on the link."""
        if packet.head[packet.l3 + 6] == PROTO_ROUTING or is_multicast(6, packet.dst):
            return
        back = self._stack.routing6.output(packet.src)
        if back.out is iface and back.next_hop == packet.src and packet.src != way.next_hop:
            self._stack.ndp.send_redirect(packet, way.next_hop, iface)


def _find_payload(packet: Packet) -> None:
    """Where the payload of a run of segments begins: transport parsers, who say it otherwise, do not see it here."""
    l4 = packet.l4
    size = (packet.head[l4 + 12] >> 4) * 4 if packet.proto == PROTO_TCP and packet.end > l4 + 12 else 8
    packet.payload = min(l4 + size, packet.end)


def _writable(packet: Packet, size: int) -> bytearray:
    """A head that may be written; the payload of a large packet is not copied along, but becomes `body`."""
    head = packet.head
    if size > _SPLIT_ABOVE and packet.body is None:
        front = packet.payload + 64
        if front < packet.end:
            packet.body = memoryview(head)[front : packet.end]
            packet.head = bytearray(memoryview(head)[:front])
            packet.end = front
            return packet.head
    return packet.writable()


def _rewrite_checksum(head: bytearray, l3: int) -> None:
    size = (head[l3] & 15) * 4
    head[l3 + 10 : l3 + 12] = b"\0\0"
    total = int.from_bytes(head[l3 : l3 + size], "big") % 65535
    head[l3 + 10 : l3 + 12] = (65535 - total).to_bytes(2, "big")
