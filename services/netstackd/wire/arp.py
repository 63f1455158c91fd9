"""ARP for IPv4 over Ethernet (RFC 826; probes and announcements RFC 5227).

hardware 1 | protocol 0800 | sizes 6, 4 | operation | sender link, sender IP | target link, target IP
"""

from __future__ import annotations

from struct import Struct
from typing import Final

_PACKET: Final = Struct("!HHBBH6sI6sI")
LENGTH: Final = _PACKET.size

REQUEST: Final = 1
REPLY: Final = 2


def parse_arp_untrusted(data: bytes | bytearray, start: int, end: int) -> tuple[int, bytes, int, bytes, int] | None:
    """(operation, sender link, sender IP, target link, target IP); None for what is not ARP of IPv4 over Ethernet."""
    if end - start < LENGTH:
        return None
    hardware, protocol, size, protocol_size, operation, sender, sender_ip, target, target_ip = _PACKET.unpack_from(
        data, start
    )
    if hardware != 1 or protocol != 0x0800 or size != 6 or protocol_size != 4 or operation not in (REQUEST, REPLY):
        return None
    return operation, sender, sender_ip, target, target_ip


def build(operation: int, sender: bytes, sender_ip: int, target: bytes, target_ip: int) -> bytes:
    """An ARP packet. A probe has sender IP 0; an announcement names the same IP twice (RFC 5227 section 1.1)."""
    return _PACKET.pack(1, 0x0800, 6, 4, operation, sender, sender_ip, target, target_ip)
