"""IPv4: from a received frame to its protocol or onwards, and from a transport to the link (RFC 791, 1122, 1812).

`input` is the hot path of every received packet: parse, hook, one look into the interface's cache of decisions, then
deliver or forward. `send` builds a header for local senders; `transmit` is the way out for a packet whose header is
there.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.fragments import fragment_v4
from services.netstackd.network.ip import Ip
from services.netstackd.network.routes import BROADCAST, LOCAL, MULTICAST, MULTIPATH, UNICAST, Destination
from services.netstackd.storage.packet import CSUM_NONE, HEADROOM, LOOPED, Packet, Payload, outgoing
from services.netstackd.wire import icmpv4, ipv4_options
from services.netstackd.wire import ipv4 as wire

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

_RECEIVES: Final = COUNTER["IpInReceives"]
_HEADER_ERRORS: Final = COUNTER["IpInHdrErrors"]
_ADDRESS_ERRORS: Final = COUNTER["IpInAddrErrors"]
_OUT_NO_ROUTES: Final = COUNTER["IpOutNoRoutes"]
_FRAG_FAIL: Final = COUNTER["IpFragFails"]
_IN_MULTICAST: Final = COUNTER["IpExtInMcastPkts"]
_OUT_MULTICAST: Final = COUNTER["IpExtOutMcastPkts"]
_IN_BROADCAST: Final = COUNTER["IpExtInBcastPkts"]
_OUT_BROADCAST: Final = COUNTER["IpExtOutBcastPkts"]
_OPTIONS: Final = COUNTER["DropIpv4Options"]
_SOURCE_ROUTE: Final = COUNTER["DropIpv4SourceRoute"]
_NOT_FOR_US: Final = COUNTER["DropNotForUs"]
_TOO_BIG: Final = COUNTER["DropTooBig"]

_ROOM: Final = bytes(HEADROOM)
_IDENT_BUCKETS: Final = 2048


class Ipv4(Ip):
    """One per stack."""

    version: ClassVar[int] = 4
    header_length: ClassVar[int] = 20

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, "Ip")
        self._forward = stack.forwarding.forward4
        self.default_ttl = wire.DEFAULT_TTL
        self.accept_source_route = False
        # RFC 6864: identifications need to be unique per source, destination and protocol: counters by their hash.
        self._idents = [stack.rng.getrandbits(16) for _ in range(_IDENT_BUCKETS)]

    # -- received --

    def input(self, packet: Packet) -> None:
        """A received packet whose IP header is at l3."""
        count = self._count
        count[_RECEIVES] += 1
        reason = wire.parse_ipv4_untrusted(packet)
        if reason:
            count[reason] += 1
            count[_HEADER_ERRORS] += 1
            return
        if packet.options and not self._check_options(packet):
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
        way = iface.input_cache4.get((packet.src, packet.dst))  # type: ignore[union-attr]
        if way is None:
            assert iface is not None
            way = self._stack.routing4.input(packet, iface)
        kind = way.kind
        if kind == UNICAST:
            self._forward(packet, way)
        elif kind == LOCAL:
            self.deliver(packet)
        elif kind == BROADCAST:
            count[_IN_BROADCAST] += 1
            self.deliver(packet)
        elif kind == MULTICAST:
            count[_IN_MULTICAST] += 1
            self.deliver(packet)
        elif kind == MULTIPATH:
            self._forward(packet, way)
        elif packet.kind == LOOPED:  # from ourselves: a source that would be a martian from the link
            self.deliver(packet)
        else:
            if way.reason == _NOT_FOR_US:
                count[_ADDRESS_ERRORS] += 1
            self._stack.forwarding.refuse(packet, way)

    def _check_options(self, packet: Packet) -> bool:
        """Whether the options are in order; a parameter problem goes back when not (RFC 1122 section 3.2.2.5)."""
        wrong, source_route = ipv4_options.check_untrusted(packet.options)
        if wrong >= 0:
            self._count[_OPTIONS] += 1
            self._count[_HEADER_ERRORS] += 1
            self._stack.icmp4.send_parameter_problem(packet, 20 + wrong)
            return False
        if source_route and not self.accept_source_route:
            self._count[_SOURCE_ROUTE] += 1
            return False
        return True

    def _reassemble(self, packet: Packet) -> Packet | None:
        """The whole packet when this fragment completes it, parsed."""
        whole = self._stack.reassembly.add_v4(packet)
        if whole is None:
            return None
        reason = wire.parse_ipv4_untrusted(whole)
        if reason:
            self._count[reason] += 1
            return None
        return whole

    def _complete(self, packet: Packet) -> Packet | None:
        return self._reassemble(packet) if packet.fragment else packet

    def _refuse_protocol(self, packet: Packet) -> None:
        self._stack.icmp4.send_unreachable(packet, icmpv4.PROTOCOL_UNREACHABLE)  # RFC 1122 section 3.2.2.1

    # -- sent --

    def next_ident(self, src: int, dst: int, proto: int) -> int:
        """An identification for a packet that may be fragmented."""
        bucket = hash((self._stack.flow_seed, src, dst, proto)) % _IDENT_BUCKETS
        ident = self._idents[bucket] = (self._idents[bucket] + 1) & 0xFFFF
        return ident

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
        csum: int = CSUM_NONE,
        gso_size: int = 0,
        gso_type: int = 0,
    ) -> int:
        """Send `transport` (with `body` behind it) by `way`; 0, or the errno that the sender is to get.

        `ttl`: -1 for the default; a multicast packet with 0 stays on this host (RFC 1112 section 6.1).
        `loop`: own members of a multicast group get a copy. EMSGSIZE: it does not fit and must not be fragmented.
        """
        if way.error:
            self._count[_OUT_NO_ROUTES] += 1
            return way.error
        length = len(transport) + (len(body) if body is not None else 0)
        size = 20 + len(options) + length
        if size > wire.MAX_LENGTH:
            return errno.EMSGSIZE
        if dont_fragment:
            ident = 0  # RFC 6864 section 4.1: means nothing in an atomic datagram
            if size > way.mtu and not gso_size:
                self._count[_FRAG_FAIL] += 1
                return errno.EMSGSIZE
        else:
            ident = self.next_ident(src, dst, proto)
        if ttl < 0:
            ttl = 1 if way.kind == MULTICAST else self.default_ttl
        header = wire.header(
            src,
            dst,
            proto,
            length,
            ttl=ttl,
            tos=tos,
            ident=ident,
            fragment=wire.DONT_FRAGMENT if dont_fragment else 0,
            options=options,
        )
        head = bytearray(b"".join((_ROOM, header, transport)))
        packet = outgoing(4, head, HEADROOM + len(header), body, proto, src, dst, tos, ttl, mark, owner, csum)
        if gso_size:
            packet.gso_size = gso_size
            packet.gso_type = gso_type
        kind = way.kind
        if kind != UNICAST and kind != LOCAL:
            self._send_group(packet, way, loop)
            return 0
        return self.transmit(packet, way)

    def _send_group(self, packet: Packet, way: Destination, loop: bool) -> None:
        """Multicast and broadcast: members on this host get a copy (RFC 1112 section 6.1; Linux loops broadcasts)."""
        stack = self._stack
        out = way.out
        assert out is not None
        if way.kind == MULTICAST:
            self._count[_OUT_MULTICAST] += 1
            wanted = loop and stack.multicast4.wanted(out, packet.dst)
        else:
            self._count[_OUT_BROADCAST] += 1
            wanted = True
        if wanted:
            stack.loop_back(out, packet.copy())
        if packet.ttl or way.kind != MULTICAST:
            self.transmit(packet, way)

    def _send_too_long(self, packet: Packet, way: Destination) -> int:
        if packet.head[packet.l3 + 6] & 0x40:
            self._count[_FRAG_FAIL] += 1
            self._count[_TOO_BIG] += 1
            self._stack.icmp4.send_too_big(packet, way.mtu)
            return errno.EMSGSIZE
        return super()._send_too_long(packet, way)

    def _cut(self, packet: Packet, size: int) -> list[Packet]:
        return fragment_v4(packet, size)
