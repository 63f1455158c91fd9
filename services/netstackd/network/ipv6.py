"""IPv6: from a received frame to its protocol or onwards, and from a transport to the link (RFC 8200)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.fragments import fragment_v6, unfragmentable_part
from services.netstackd.network.ip import Ip
from services.netstackd.network.routes import LOCAL, MULTICAST, MULTIPATH, UNICAST, Destination
from services.netstackd.storage.packet import CSUM_NONE, HEADROOM, Packet, Payload, outgoing
from services.netstackd.wire import icmpv6
from services.netstackd.wire import ipv6 as wire
from services.netstackd.wire.ipv6_extensions import EXTENSIONS, walk_untrusted
from services.netstackd.wire.numbers import PROTO_HOP_BY_HOP

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

_RECEIVES: Final = COUNTER["Ip6InReceives"]
_HEADER_ERRORS: Final = COUNTER["Ip6InHdrErrors"]
_ADDRESS_ERRORS: Final = COUNTER["Ip6InAddrErrors"]
_OUT_NO_ROUTES: Final = COUNTER["Ip6OutNoRoutes"]
_FRAG_FAIL: Final = COUNTER["Ip6FragFails"]
_IN_MULTICAST: Final = COUNTER["Ip6InMcastPkts"]
_OUT_MULTICAST: Final = COUNTER["Ip6OutMcastPkts"]
_NOT_FOR_US: Final = COUNTER["DropNotForUs"]
_EXTENSION: Final = COUNTER["DropIpv6ExtensionHeader"]

_ROOM: Final = bytes(HEADROOM)


class Ipv6(Ip):
    """One per stack."""

    version: ClassVar[int] = 6
    header_length: ClassVar[int] = 40

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, "Ip6")
        self._forward = stack.forwarding.forward6
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

    def _complete(self, packet: Packet) -> Packet | None:
        """Here the extension headers are looked at once more, as those do to whom the packet is addressed."""
        if packet.head[packet.l3 + 6] in EXTENSIONS and not self._walk(packet, strict=True):
            return None
        if not packet.fragment:
            return packet
        whole = self._reassemble(packet)
        if whole is None or (whole.head[whole.l3 + 6] in EXTENSIONS and not self._walk(whole, strict=True)):
            return None
        return whole

    def _refuse_protocol(self, packet: Packet) -> None:
        pointer = 6
        if packet.head[packet.l3 + 6] in EXTENSIONS:
            pointer = walk_untrusted(packet, packet.head[packet.l3 + 6], strict=True)[2]
        self._stack.icmp6.send_parameter_problem(packet, icmpv6.BAD_NEXT_HEADER, pointer)  # RFC 8200 section 4

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
        ttl: int = -1,
        tos: int = 0,
        dont_fragment: bool = False,
        options: bytes = b"",
        mark: int = 0,
        owner: object = None,
        loop: bool = True,
        flow_label: int = 0,
        csum: int = CSUM_NONE,
        gso_size: int = 0,
        gso_type: int = 0,
    ) -> int:
        """Send `transport` (with `body` behind it) by `way`; 0, or the errno that the sender is to get.

        `options`: a hop-by-hop header whose first byte is `proto`. The rest as for IPv4.
        """
        if way.error:
            self._count[_OUT_NO_ROUTES] += 1
            return way.error
        length = len(options) + len(transport) + (len(body) if body is not None else 0)
        if length > wire.MAX_PAYLOAD:
            return errno.EMSGSIZE
        if dont_fragment and 40 + length > way.mtu and not gso_size:
            self._count[_FRAG_FAIL] += 1
            return errno.EMSGSIZE
        out = way.out
        assert out is not None
        if ttl < 0:
            ttl = 1 if way.kind == MULTICAST else out.hop_limit6
        header = wire.header(
            src,
            dst,
            PROTO_HOP_BY_HOP if options else proto,
            length,
            hop_limit=ttl,
            traffic_class=tos,
            flow_label=flow_label,
        )
        head = bytearray(b"".join((_ROOM, header, options, transport)))
        l4 = HEADROOM + 40 + len(options)
        packet = outgoing(6, head, l4, body, proto, src, dst, tos, ttl, mark, owner, csum)
        if gso_size:
            packet.gso_size = gso_size
            packet.gso_type = gso_type
        if way.kind == MULTICAST:
            self._count[_OUT_MULTICAST] += 1
            if loop and self._stack.multicast6.wanted(out, dst):
                self._stack.loop_back(out, packet.copy())
            if not ttl:
                return 0
        return self.transmit(packet, way)

    def _cut(self, packet: Packet, size: int) -> list[Packet]:
        return fragment_v6(packet, size, self.next_ident(), unfragmentable_part(packet))
