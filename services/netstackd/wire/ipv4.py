"""IPv4 headers (RFC 791, RFC 1122 section 3.2.1, RFC 1812 section 4.2.2).

    version 4, header length 4 | type of service | total length | identification | flags 3, fragment offset 13
    | time to live | protocol | header checksum | source | destination | options

`parse_ipv4_untrusted` fills a Packet and returns 0 or the index of a drop reason. It never reads past the packet's end.
Ports are parsed along for TCP and UDP, so that nobody needs to look at these bytes again.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from services.netstackd.counters import COUNTER
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.checksum import checksum
from services.netstackd.wire.numbers import PROTO_TCP, PROTO_UDP

HEADER: Final = Struct("!BBHHHBBHII")
HEADER_LENGTH: Final = 20
MAX_HEADER_LENGTH: Final = 60
MAX_LENGTH: Final = 65535
DEFAULT_TTL: Final = 64

DONT_FRAGMENT: Final = 0x4000
MORE_FRAGMENTS: Final = 0x2000
OFFSET_MASK: Final = 0x1FFF

# Header and both ports in one unpack, the header in words so that its checksum is a sum of what was unpacked.
_WORDS: Final = Struct("!HHHHHHII")
_WORDS_PORTS: Final = Struct("!HHHHHHIIHH")
_PORTS: Final = Struct("!HH")

_SHORT: Final = COUNTER["DropIpv4Short"]
_VERSION: Final = COUNTER["DropIpv4Version"]
_HEADER_LENGTH: Final = COUNTER["DropIpv4HeaderLength"]
_TOTAL_LENGTH: Final = COUNTER["DropIpv4TotalLength"]
_CHECKSUM: Final = COUNTER["DropIpv4Checksum"]


def parse_ipv4_untrusted(packet: Packet) -> int:
    """Fill in `packet` from the header at `packet.l3`; the drop reason, or 0 when the header is good (RFC 1812, 5.2.2).

    Afterwards l4, end, src, dst, proto, tos, ttl, fragment, options hold; sport and dport for TCP and UDP; `payload`
    equals l4 until a transport parser moves it. Bytes behind the total length are cut off.
    """
    head = packet.head
    l3 = packet.l3
    available = packet.end - l3
    if available < 24:
        if available < 20:
            return _SHORT
        word, total, ident, offset, life, field, src, dst = _WORDS.unpack_from(head, l3)
        sport = dport = 0
    else:
        word, total, ident, offset, life, field, src, dst, sport, dport = _WORDS_PORTS.unpack_from(head, l3)
    proto = life & 0xFF
    if word >> 8 == 0x45:
        size = 20
        if total < 20 or total > available:
            return _TOTAL_LENGTH
        if (word + total + ident + offset + life + field + src + dst) % 65535:
            return _CHECKSUM
    else:
        if word >> 12 != 4:
            return _VERSION
        size = (word >> 8 & 15) * 4
        if size < 20 or size > available:
            return _HEADER_LENGTH
        if total < size or total > available:
            return _TOTAL_LENGTH
        if int.from_bytes(head[l3 : l3 + size], "big") % 65535:
            return _CHECKSUM
    l4 = l3 + size
    end = l3 + total
    packet.version = 4
    packet.tos = word & 0xFF
    packet.ttl = life >> 8
    packet.proto = proto
    packet.src = src
    packet.dst = dst
    packet.l4 = packet.payload = l4
    packet.end = end
    if size != 20:
        packet.options = bytes(head[l3 + 20 : l4])
        if end - l4 >= 4:
            sport, dport = _PORTS.unpack_from(head, l4)
    if offset & 0x3FFF:  # more fragments, or an offset
        packet.fragment = True
        if offset & OFFSET_MASK:
            return 0
    if (proto == PROTO_TCP or proto == PROTO_UDP) and end - l4 >= 4:
        packet.sport = sport
        packet.dport = dport
        if proto == PROTO_TCP and end - l4 >= 14:
            packet.tcp_flags = head[l4 + 13]
    return 0


def fragment_fields(packet: Packet) -> tuple[int, int, bool]:
    """(identification, offset in bytes, more fragments) of a parsed packet."""
    head = packet.head
    at = packet.l3 + 4
    word = head[at + 2] << 8 | head[at + 3]
    return head[at] << 8 | head[at + 1], (word & OFFSET_MASK) * 8, word & MORE_FRAGMENTS != 0


def dont_fragment(packet: Packet) -> bool:
    """The DF bit of a parsed packet."""
    return packet.head[packet.l3 + 6] & 0x40 != 0


def header(
    src: int,
    dst: int,
    proto: int,
    length: int,
    *,
    ttl: int = DEFAULT_TTL,
    tos: int = 0,
    ident: int = 0,
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """A header for `length` bytes of payload, with its checksum. `fragment`: flags and offset as on the wire.

    `options` are padded to a multiple of four bytes.
    """
    if options and len(options) & 3:
        options += bytes(4 - (len(options) & 3))
    size = 20 + len(options)
    first = 0x40 | size >> 2
    total = size + length
    # The words of the fixed part, summed without packing them twice.
    words = (first << 8 | tos) + total + ident + fragment + (ttl << 8 | proto) + src + dst
    if options:
        words += int.from_bytes(options, "big")
    fixed = HEADER.pack(first, tos, total, ident, fragment, ttl, proto, 65535 - words % 65535, src, dst)
    return fixed + options if options else fixed


def write_checksum(head: bytearray, l3: int) -> None:
    """Compute the header checksum anew, after the header was changed in many places."""
    size = (head[l3] & 15) * 4
    head[l3 + 10 : l3 + 12] = b"\0\0"
    head[l3 + 10 : l3 + 12] = checksum(head[l3 : l3 + size]).to_bytes(2, "big")
