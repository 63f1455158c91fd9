"""IPv6: from a received frame to its protocol or onwards, and from a transport to the link (RFC 8200)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.fragments import fragment_v6, unfragmentable_part
from services.netstackd.network.routes import LOCAL, MULTICAST, MULTIPATH, UNICAST, Destination
from services.netstackd.storage.packet import CSUM_NONE, HEADROOM, Packet, Payload
from services.netstackd.wire import icmpv6
from services.netstackd.wire import ipv6 as wire
from services.netstackd.wire.ipv6_extensions import EXTENSIONS, walk_untrusted
from services.netstackd.wire.numbers import PROTO_HOP_BY_HOP, PROTO_NONE, PROTO_TCP, PROTO_UDP
from services.netstackd.wire.offload import complete_checksum

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

_RECEIVES: Final = COUNTER["Ip6InReceives"]
_HEADER_ERRORS: Final = COUNTER["Ip6InHdrErrors"]
_ADDRESS_ERRORS: Final = COUNTER["Ip6InAddrErrors"]
_DELIVERS: Final = COUNTER["Ip6InDelivers"]
_UNKNOWN_PROTOS: Final = COUNTER["Ip6InUnknownProtos"]
_OUT: Final = COUNTER["Ip6OutRequests"]
_OUT_NO_ROUTES: Final = COUNTER["Ip6OutNoRoutes"]
_FRAG_OK: Final = COUNTER["Ip6FragOKs"]
_FRAG_FAIL: Final = COUNTER["Ip6FragFails"]
_FRAG_CREATES: Final = COUNTER["Ip6FragCreates"]
_IN_MULTICAST: Final = COUNTER["Ip6InMcastPkts"]
_OUT_MULTICAST: Final = COUNTER["Ip6OutMcastPkts"]
_NOT_FOR_US: Final = COUNTER["DropNotForUs"]
_UNKNOWN: Final = COUNTER["DropProtocolUnknown"]
_EXTENSION: Final = COUNTER["DropIpv6ExtensionHeader"]

_ROOM: Final = bytes(HEADROOM)

Handler = Callable[[Packet], None]


class Ipv6:
    """One per stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self._hooks = stack.hooks
        self._forward = stack.forwarding.forward6
        self.handlers: list[Handler | None] = [None] * 256
        self._ident = stack.rng.getrandbits(32)

    # -- received --

    def input(self, packet: Packet) -> None:
        """A received packet whose IP header is at l3."""
        count = self._count
        count[_RECEIVES] += 1
        reason = wire.parse_ipv6_untrusted(packet)
        if reason:
            count[reason] += 1
            count[_HEADER_ERRORS] += 1
            return
        if packet.proto in EXTENSIONS and not self._walk(packet, strict=False):
            return
        hooks = self._hooks
        if hooks.prerouting is not None:
            if packet.fragment and hooks.defragment:
                whole = self._reassemble(packet)
                if whole is None:
                    return
                packet = whole
            if not hooks.prerouting(packet):
                return
        iface = packet.iface
        way = iface.input_cache6.get((packet.src, packet.dst))  # type: ignore[union-attr]
        if way is None:
            assert iface is not None
            way = self._stack.routing6.input(packet, iface)
        kind = way.kind
        if kind == UNICAST or kind == MULTIPATH:
            self._forward(packet, way)
        elif kind == LOCAL:
            self.deliver(packet)
        elif kind == MULTICAST:
            count[_IN_MULTICAST] += 1
            self.deliver(packet)
        else:
            if way.reason == _NOT_FOR_US:
                count[_ADDRESS_ERRORS] += 1
            self._stack.forwarding.refuse(packet, way)

    def _walk(self, packet: Packet, *, strict: bool) -> bool:
        """Follow the extension headers; False when that ended the packet's way."""
        reason, code, pointer, _ = walk_untrusted(packet, packet.head[packet.l3 + 6], strict=strict)
        if not reason:
            return True
        self._count[reason] += 1
        self._count[_HEADER_ERRORS] += 1
        if code >= 0:
            self._stack.icmp6.send_parameter_problem(packet, code, pointer)
        return False

    def _reassemble(self, packet: Packet) -> Packet | None:
        """The whole packet when this fragment completes it, parsed."""
        at = packet.l4 - 8
        whole = self._stack.reassembly.add_v6(packet, at)
        if whole is None:
            return None
        reason = wire.parse_ipv6_untrusted(whole)
        if reason:
            self._count[reason] += 1
            return None
        if whole.proto in EXTENSIONS and not self._walk(whole, strict=False):
            return None
        if whole.fragment:  # a fragment within fragments
            self._count[_EXTENSION] += 1
            return None
        return whole

    def deliver(self, packet: Packet) -> None:
        """A packet for this host: put it together, act on its options, and hand it to its protocol."""
        if packet.head[packet.l3 + 6] in EXTENSIONS and not self._walk(packet, strict=True):
            return
        if packet.fragment:
            whole = self._reassemble(packet)
            if whole is None or (whole.head[whole.l3 + 6] in EXTENSIONS and not self._walk(whole, strict=True)):
                return
            packet = whole
        hook = self._hooks.input
        if hook is not None and not hook(packet):
            return
        stack = self._stack
        taken = False
        if stack.raw.sockets6:
            taken = stack.raw.deliver6(packet)
        handler = self.handlers[packet.proto]
        if handler is not None:
            self._count[_DELIVERS] += 1
            handler(packet)
        elif taken or packet.proto == PROTO_NONE:
            self._count[_DELIVERS] += 1
        else:
            self._count[_UNKNOWN_PROTOS] += 1
            self._count[_UNKNOWN] += 1
            pointer = 6
            if packet.head[packet.l3 + 6] in EXTENSIONS:
                pointer = walk_untrusted(packet, packet.head[packet.l3 + 6], strict=True)[2]
            stack.icmp6.send_parameter_problem(packet, icmpv6.BAD_NEXT_HEADER, pointer)  # RFC 8200 section 4

    # -- sent --

    def next_ident(self) -> int:
        """An identification for a packet that is fragmented (RFC 7739: not to be guessed from outside)."""
        self._ident = (self._ident + 1 + self._stack.rng.randrange(7)) & 0xFFFFFFFF
        return self._ident

    def send(
        self,
        way: Destination,
        src: int,
        dst: int,
        proto: int,
        transport: bytes,
        body: Payload | None = None,
        *,
        ttl: int = 0,
        tos: int = 0,
        dont_fragment: bool = False,
        extensions: bytes = b"",
        mark: int = 0,
        owner: object = None,
        loop: bool = True,
        flow_label: int = 0,
        csum: int = CSUM_NONE,
        gso_size: int = 0,
        gso_type: int = 0,
    ) -> int:
        """Send `transport` (with `body` behind it) by `way`; 0, or the errno that the sender is to get.

        `extensions`: a hop-by-hop header whose first byte is `proto`. The rest as for IPv4.
        """
        if way.error:
            self._count[_OUT_NO_ROUTES] += 1
            return way.error
        length = len(extensions) + len(transport) + (len(body) if body is not None else 0)
        if length > wire.MAX_PAYLOAD:
            return errno.EMSGSIZE
        if dont_fragment and 40 + length > way.mtu and not gso_size:
            self._count[_FRAG_FAIL] += 1
            return errno.EMSGSIZE
        out = way.out
        assert out is not None
        if not ttl:
            ttl = 1 if way.kind == MULTICAST else out.hop_limit6
        header = wire.header(
            src,
            dst,
            PROTO_HOP_BY_HOP if extensions else proto,
            length,
            hop_limit=ttl,
            traffic_class=tos,
            flow_label=flow_label,
        )
        head = bytearray(b"".join((_ROOM, header, extensions, transport)))
        packet = Packet(head, len(head))
        packet.body = body
        packet.version = 6
        packet.l2 = packet.l3 = HEADROOM
        packet.l4 = HEADROOM + 40 + len(extensions)
        packet.payload = len(head) if body is not None else packet.l4
        packet.proto = proto
        packet.src = src
        packet.dst = dst
        packet.tos = tos
        packet.ttl = ttl
        packet.mark = mark
        packet.owner = owner
        packet.csum = csum
        packet.gso_size = gso_size
        packet.gso_type = gso_type
        if (proto == PROTO_UDP or proto == PROTO_TCP) and len(transport) >= 4:
            packet.sport = transport[0] << 8 | transport[1]
            packet.dport = transport[2] << 8 | transport[3]
            if proto == PROTO_TCP:
                packet.tcp_flags = transport[13]
        if way.kind == MULTICAST:
            self._count[_OUT_MULTICAST] += 1
            if loop and self._stack.multicast6.wanted(out, dst):
                self._stack.loop_back(out, packet.copy())
        return self.transmit(packet, way)

    def transmit(self, packet: Packet, way: Destination) -> int:
        """Send a local packet whose header is complete through the output and postrouting hooks; 0 or an errno."""
        self._count[_OUT] += 1
        hooks = self._hooks
        out = way.out
        assert out is not None
        packet.out = out
        packet.next_hop = way.next_hop
        if hooks.output is not None:
            dst, mark = packet.dst, packet.mark
            if not hooks.output(packet):
                return errno.EPERM
            if packet.dst != dst or packet.mark != mark:
                way = self._stack.routing6.output(packet.dst, packet.src, mark=packet.mark, tos=packet.tos)
                if way.error or way.out is None:
                    self._count[_OUT_NO_ROUTES] += 1
                    return way.error
                packet.out = way.out
        if hooks.postrouting is not None and not hooks.postrouting(packet):
            return errno.EPERM
        if way.mtu and len(packet) > way.mtu and not packet.gso_size:
            complete_checksum(packet)
            pieces = fragment_v6(packet, way.mtu, self.next_ident(), unfragmentable_part(packet))
            self._count[_FRAG_OK] += 1
            self._count[_FRAG_CREATES] += len(pieces)
            for piece in pieces:
                self._stack.link_output.send(piece, way)
            return 0
        self._stack.link_output.send(packet, way)
        return 0
