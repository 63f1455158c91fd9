"""IPv6 base headers (RFC 8200 section 3); what follows in the chain is in `ipv6_extensions`.

version 4, traffic class 8, flow label 20 | payload length 16 | next header 8 | hop limit 8 | source 128 | destination
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from services.netstackd.counters import COUNTER
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.numbers import PROTO_TCP, PROTO_UDP

HEADER: Final = Struct("!IHBBQQQQ")
HEADER_LENGTH: Final = 40
MIN_MTU: Final = 1280
MAX_PAYLOAD: Final = 65535
DEFAULT_HOP_LIMIT: Final = 64

_PORTS: Final = Struct("!HH")

_SHORT: Final = COUNTER["DropIpv6Short"]
_VERSION: Final = COUNTER["DropIpv6Version"]
_PAYLOAD_LENGTH: Final = COUNTER["DropIpv6PayloadLength"]


def parse_ipv6_untrusted(packet: Packet) -> int:
    """Fill in `packet` from the base header at `packet.l3`; the drop reason, or 0 when it is good.

    Afterwards src, dst, tos, ttl, end and `proto` (the first next-header value) hold, l4 and payload stand behind the
    base header, and sport and dport hold when TCP or UDP follows at once. Extension headers are for the caller to walk.
    A payload length of 0 with more bytes present is a jumbogram (RFC 2675), which no link here carries: refused.
    """
    head = packet.head
    l3 = packet.l3
    available = packet.end - l3
    if available < 40:
        return _SHORT
    first, length, proto, ttl, src_high, src_low, dst_high, dst_low = HEADER.unpack_from(head, l3)
    if first >> 28 != 6:
        return _VERSION
    if length > available - 40:
        return _PAYLOAD_LENGTH
    packet.version = 6
    packet.tos = first >> 20 & 0xFF
    packet.ttl = ttl
    packet.proto = proto
    packet.src = src_high << 64 | src_low
    packet.dst = dst_high << 64 | dst_low
    l4 = l3 + 40
    packet.l4 = packet.payload = l4
    end = packet.end = l4 + length
    if (proto == PROTO_TCP or proto == PROTO_UDP) and length >= 4:
        read_ports(packet, l4, end)
    return 0


def read_ports(packet: Packet, l4: int, end: int) -> None:
    """Set ports (and TCP flags) from a TCP or UDP header at `l4`, as far as it is there."""
    head = packet.head
    if end - l4 >= 4:
        packet.sport, packet.dport = _PORTS.unpack_from(head, l4)
        if packet.proto == PROTO_TCP and end - l4 >= 14:
            packet.tcp_flags = head[l4 + 13]


def header(
    src: int,
    dst: int,
    proto: int,
    length: int,
    *,
    hop_limit: int = DEFAULT_HOP_LIMIT,
    traffic_class: int = 0,
    flow_label: int = 0,
) -> bytes:
    """A base header for `length` bytes of what follows, extension headers included."""
    return HEADER.pack(
        6 << 28 | traffic_class << 20 | flow_label,
        length,
        proto,
        hop_limit,
        src >> 64,
        src & 0xFFFFFFFFFFFFFFFF,
        dst >> 64,
        dst & 0xFFFFFFFFFFFFFFFF,
    )


def flow_label(packet: Packet) -> int:
    """The 20-bit flow label of a parsed packet (RFC 6437)."""
    head = packet.head
    at = packet.l3 + 1
    return (head[at] & 15) << 16 | head[at + 1] << 8 | head[at + 2]
