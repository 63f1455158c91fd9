"""From a frame to its connection in one step, for almost every frame that TCP gets.

What is taken here: Ethernet to our own address, untagged, IPv4 without options or IPv6 without extension headers,
whole, to an address that routing has called ours for this source before, with a TCP header and checksum that are right,
while nobody wants to see packets on their way. `take` does for such a frame what the general way does (`Stack.receive`,
`Ipv4.input` or `Ipv6.input`, `Ip.deliver`, `Demux.input`), and counts what that counts. It changes nothing before all
that is known: False, and the frame goes the general way, which is right for every frame.
tests/netstack/unit/transport/test_tcp_frames.py holds the two against each other.

Of a segment that header prediction takes (`input.predict`) no Segment is made.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.routes import LOCAL
from services.netstackd.storage.packet import CSUM_NONE, Packet
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.input import PREDICTED, predict
from services.netstackd.transport.tcp.segment import ACK, CE, SYN, Payload, Segment
from services.netstackd.wire.checksum import ones_sum
from services.netstackd.wire.numbers import ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTO_TCP
from services.netstackd.wire.tcp_options import NO_OPTIONS, TIMESTAMP_WORD, parse_options_untrusted

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface
    from services.netstackd.stack import Stack
    from services.netstackd.transport.demux import Connection

# Ethernet, IP (of version 4 in words, so that its checksum is their sum) and TCP without options.
_FRAME4: Final = Struct("!6s6sHHHHHHHIIHHIIHHHH")
_FRAME6: Final = Struct("!6s6sHIHBBQQQQHHIIHHHH")
_STAMP: Final = Struct("!III")  # NOP, NOP, kind 8, length 10; the two timestamps (RFC 7323 appendix A)
_L3: Final = 14
_L4_V4: Final = 34
_L4_V6: Final = 54
_STAMPED: Final = 32  # bytes of a TCP header with this option alone
MIN_BYTES: Final = _FRAME4.size
_MIN_BYTES6: Final = _FRAME6.size

_IN_RECEIVES4: Final = COUNTER["IpInReceives"]
_IN_DELIVERS4: Final = COUNTER["IpInDelivers"]
_IN_RECEIVES6: Final = COUNTER["Ip6InReceives"]
_IN_DELIVERS6: Final = COUNTER["Ip6InDelivers"]


class TcpFrames:
    """One per stack."""

    __slots__ = ("_count", "_hooks", "_raw4", "_raw6", "_stack", "_tcp")

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self._hooks = stack.hooks
        self._tcp = stack.tcp
        self._raw4 = stack.raw.sockets[4]
        self._raw6 = stack.raw.sockets[6]

    def ready(self) -> bool:
        """Whether nobody wants to see packets on their way: a filter, a packet or raw socket, a socket with a least
        time to live."""
        hooks = self._hooks
        return (
            hooks.prerouting is None
            and hooks.input is None
            and not self._stack.taps
            and not self._raw4
            and not self._raw6
            and not self._tcp.guards_ttl
        )

    def take(self, packet: Packet, iface: Interface, now: int) -> bool:
        """Whether the frame, of at least MIN_BYTES from the start of `head`, was such a segment and is done with.
        `iface` is up."""
        head = packet.head
        (mac, source, kind, word, total, ident, fragment, life, field, src, dst, sport, dport, seq, ack, flags, window,
         _, urgent) = _FRAME4.unpack_from(head)  # fmt: skip
        if kind != ETHERTYPE_IPV4:
            return kind == ETHERTYPE_IPV6 and packet.end >= _MIN_BYTES6 and self._take6(packet, iface, now)
        end = _L3 + total
        payload = _L4_V4 + (flags >> 10 & 0x3C)
        if (
            mac != iface.mac
            or word >> 8 != 0x45
            or life & 0xFF != PROTO_TCP
            or fragment & 0x3FFF  # more fragments, or an offset
            or not MIN_BYTES <= payload <= end <= packet.end
            or (word + total + ident + fragment + life + field + src + dst) % 65535
        ):
            return False
        way = iface.input_cache4.get((src, dst))
        if way is None or way.kind != LOCAL:
            return False
        if packet.csum == CSUM_NONE:
            size = end - _L4_V4
            if (src + dst + PROTO_TCP + size + ones_sum(memoryview(head)[_L4_V4:end])) % 65535:
                return False
        count = self._count
        key = (src, dst, sport, dport)
        connection = self._tcp.connections4.get(key)
        data: Payload = memoryview(head)[payload:end] if payload < end else b""
        if payload == _L4_V4 + _STAMPED and flags & PREDICTED == ACK and type(connection) is Endpoint:
            option, ts_val, _ = _STAMP.unpack_from(head, MIN_BYTES)
            if (
                option == TIMESTAMP_WORD
                and word & 3 != CE
                and predict(connection, seq, ack, flags, window, data, ts_val, now)
            ):
                count[_IN_RECEIVES4] += 1
                count[_IN_DELIVERS4] += 1
                return True
        count[_IN_RECEIVES4] += 1
        count[_IN_DELIVERS4] += 1
        if payload == MIN_BYTES and not flags & SYN:
            ts_val, ts_ecr, blocks, syn = NO_OPTIONS
        else:
            ts_val, ts_ecr, blocks, syn = parse_options_untrusted(head, MIN_BYTES, payload, flags & SYN != 0)
        segment = Segment(
            seq, ack, flags & 0xFF, window, data, ts_val, ts_ecr, blocks, urgent, word & 3, packet.gso_size, syn
        )
        if type(connection) is Endpoint:
            connection.on_segment(segment, now)
            return True
        # Nobody's yet, or a TimeWait's: whoever it is for looks at the packet too.
        packet.iface = iface
        packet.link_dst = mac
        packet.link_src = source
        packet.ethertype = kind
        packet.version = 4
        packet.tos = word & 0xFF
        packet.ttl = life >> 8
        packet.src = src
        packet.dst = dst
        packet.l4 = _L4_V4
        self._hand_over(packet, segment, key, connection, payload, end)
        return True

    def _take6(self, packet: Packet, iface: Interface, now: int) -> bool:
        head = packet.head
        (mac, source, kind, first, length, proto, hops, src_high, src_low, dst_high, dst_low, sport, dport, seq, ack,
         flags, window, _, urgent) = _FRAME6.unpack_from(head)  # fmt: skip
        end = _L4_V6 + length
        payload = _L4_V6 + (flags >> 10 & 0x3C)
        if (
            mac != iface.mac
            or first >> 28 != 6
            or proto != PROTO_TCP
            or not _MIN_BYTES6 <= payload <= end <= packet.end
            or not iface.ipv6_enabled
        ):
            return False
        src, dst = src_high << 64 | src_low, dst_high << 64 | dst_low
        way = iface.input_cache6.get((src, dst))
        if way is None or way.kind != LOCAL:
            return False
        if packet.csum == CSUM_NONE:
            if (src + dst + PROTO_TCP + length + ones_sum(memoryview(head)[_L4_V6:end])) % 65535:
                return False
        count = self._count
        key = (src, dst, sport, dport)
        connection = self._tcp.connections6.get(key)
        data: Payload = memoryview(head)[payload:end] if payload < end else b""
        tos = first >> 20 & 0xFF
        if payload == _L4_V6 + _STAMPED and flags & PREDICTED == ACK and type(connection) is Endpoint:
            option, ts_val, _ = _STAMP.unpack_from(head, _MIN_BYTES6)
            if (
                option == TIMESTAMP_WORD
                and tos & 3 != CE
                and predict(connection, seq, ack, flags, window, data, ts_val, now)
            ):
                count[_IN_RECEIVES6] += 1
                count[_IN_DELIVERS6] += 1
                return True
        count[_IN_RECEIVES6] += 1
        count[_IN_DELIVERS6] += 1
        if payload == _MIN_BYTES6 and not flags & SYN:
            ts_val, ts_ecr, blocks, syn = NO_OPTIONS
        else:
            ts_val, ts_ecr, blocks, syn = parse_options_untrusted(head, _MIN_BYTES6, payload, flags & SYN != 0)
        segment = Segment(
            seq, ack, flags & 0xFF, window, data, ts_val, ts_ecr, blocks, urgent, tos & 3, packet.gso_size, syn
        )
        if type(connection) is Endpoint:
            connection.on_segment(segment, now)
            return True
        packet.iface = iface
        packet.link_dst = mac
        packet.link_src = source
        packet.ethertype = kind
        packet.version = 6
        packet.tos = tos
        packet.ttl = hops
        packet.src = src
        packet.dst = dst
        packet.l4 = _L4_V6
        self._hand_over(packet, segment, key, connection, payload, end)
        return True

    def _hand_over(
        self,
        packet: Packet,
        segment: Segment,
        key: tuple[int, int, int, int],
        connection: Connection | None,
        payload: int,
        end: int,
    ) -> None:
        packet.l3 = _L3
        packet.payload = payload
        packet.end = end
        packet.proto = PROTO_TCP
        packet.sport = key[2]
        packet.dport = key[3]
        packet.tcp_flags = segment.flags
        self._tcp.dispatch(packet, segment, key, connection)
