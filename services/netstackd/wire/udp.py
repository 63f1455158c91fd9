"""UDP headers (RFC 768; over IPv6 RFC 8200 section 8.1): source port | destination port | length | checksum."""

from __future__ import annotations

from struct import Struct
from typing import Final

from services.netstackd.counters import COUNTER
from services.netstackd.storage.packet import CSUM_NONE, Packet
from services.netstackd.wire.checksum import Buffer, ones_sum
from services.netstackd.wire.numbers import PROTO_UDP

HEADER: Final = Struct("!HHHH")
HEADER_LENGTH: Final = 8

_SHORT: Final = COUNTER["DropUdpShort"]
_LENGTH: Final = COUNTER["DropUdpLength"]
_CHECKSUM: Final = COUNTER["DropUdpChecksum"]


def parse_udp_untrusted(packet: Packet) -> int:
    """Check the UDP header at `packet.l4` and set ports, payload and end; the drop reason, or 0.

    A checksum of 0 means "none" over IPv4 (RFC 768) and is refused over IPv6 (RFC 8200 section 8.1).
    """
    head = packet.head
    l4 = packet.l4
    available = packet.end - l4
    if available < 8:
        return _SHORT
    sport, dport, length, field = HEADER.unpack_from(head, l4)
    if length < 8 or length > available:
        return _LENGTH
    end = l4 + length
    if packet.csum == CSUM_NONE:
        if field:
            total = packet.src + packet.dst + PROTO_UDP + length + ones_sum(head[l4:end])
            if total % 65535:
                return _CHECKSUM
        elif packet.version == 6:
            return _CHECKSUM
    packet.sport = sport
    packet.dport = dport
    packet.payload = l4 + 8
    packet.end = end
    return 0


def header(sport: int, dport: int, length: int, field: int = 0) -> bytes:
    """A header for `length` bytes of payload with the checksum field as given."""
    return HEADER.pack(sport, dport, length + 8, field)


def header_checksummed(src: int, dst: int, sport: int, dport: int, payload: Buffer) -> bytes:
    """A header with the checksum over pseudo header and payload; a computed 0 is sent as 0xffff (RFC 768)."""
    length = len(payload) + 8
    # Pseudo header and UDP header both hold the length, each once.
    total = src + dst + PROTO_UDP + length + sport + dport + length + ones_sum(payload)
    return HEADER.pack(sport, dport, length, 65535 - total % 65535)
