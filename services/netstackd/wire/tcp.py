"""TCP headers (RFC 9293 section 3.1); the options are in `tcp_options`.

source port | destination port | sequence | acknowledgement | offset 4, reserved 4, flags 8 | window | checksum | urgent
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from services.netstackd.counters import COUNTER
from services.netstackd.storage.packet import CSUM_NONE, Packet
from services.netstackd.wire.checksum import Buffer, ones_sum
from services.netstackd.wire.numbers import PROTO_TCP

HEADER: Final = Struct("!HHIIHHHH")
HEADER_LENGTH: Final = 20
MAX_HEADER_LENGTH: Final = 60

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80

_SHORT: Final = COUNTER["DropTcpShort"]
_HEADER: Final = COUNTER["DropTcpHeader"]
_CHECKSUM: Final = COUNTER["DropTcpChecksum"]


def check_tcp_untrusted(packet: Packet) -> int:
    """Check length, data offset and checksum of the TCP header at `packet.l4`; the drop reason, or 0.

    Sets ports, flags and `payload`.
    """
    head = packet.head
    l4 = packet.l4
    end = packet.end
    if end - l4 < 20:
        return _SHORT
    payload = l4 + (head[l4 + 12] >> 4) * 4
    if payload < l4 + 20 or payload > end:
        return _HEADER
    if packet.csum == CSUM_NONE:
        total = packet.src + packet.dst + PROTO_TCP + end - l4 + ones_sum(memoryview(head)[l4:end])
        if total % 65535:
            return _CHECKSUM
    packet.sport = head[l4] << 8 | head[l4 + 1]
    packet.dport = head[l4 + 2] << 8 | head[l4 + 3]
    packet.tcp_flags = head[l4 + 13]
    packet.payload = payload
    return 0


def header(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    *,
    urgent: int = 0,
    options: bytes = b"",
    field: int = 0,
) -> bytes:
    """A header with the checksum field as given; `options` must be a multiple of four bytes, at most 40."""
    word = (20 + len(options)) << 10 | flags
    return HEADER.pack(sport, dport, seq, ack, word, window, field, urgent) + options


def checksum_of(src: int, dst: int, whole: Buffer) -> int:
    """The checksum of a segment whose field is 0, with its pseudo header."""
    return 65535 - (src + dst + PROTO_TCP + len(whole) + ones_sum(whole)) % 65535
