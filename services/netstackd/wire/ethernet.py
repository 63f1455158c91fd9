"""Ethernet II and 802.1Q (IEEE 802.3 clause 3.2.6, 802.1Q clause 9).

    destination 6 | source 6 | [8100 2 | tag control 2] | EtherType 2 | payload

Tag control: priority 3 bits, drop eligible 1, VLAN identifier 12. Addresses are 6 bytes.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from services.netstackd.wire.numbers import ETHERTYPE_QINQ, ETHERTYPE_VLAN, is_multicast

HEADER_LENGTH: Final = 14
TAG_LENGTH: Final = 4
BROADCAST: Final = b"\xff\xff\xff\xff\xff\xff"
NO_ADDRESS: Final = bytes(6)
VLAN_ID_MASK: Final = 0xFFF

HEADER: Final = Struct("!6s6sH")
_TAGGED: Final = Struct("!6s6sHHH")


def parse_ethernet_untrusted(frame: bytes | bytearray) -> tuple[bytes, bytes, int, int, int] | None:
    """(destination, source, EtherType, tag control or 0, offset of the payload); None when it is cut short.

    One 802.1Q tag is taken off; the EtherType is the one behind it. A priority tag (VLAN 0) is taken off as well.
    """
    if len(frame) < HEADER_LENGTH:
        return None
    destination, source, ethertype = HEADER.unpack_from(frame)
    if ethertype != ETHERTYPE_VLAN and ethertype != ETHERTYPE_QINQ:
        return destination, source, ethertype, 0, HEADER_LENGTH
    if len(frame) < HEADER_LENGTH + TAG_LENGTH:
        return None
    _, _, _, tag, ethertype = _TAGGED.unpack_from(frame)
    return destination, source, ethertype, tag, HEADER_LENGTH + TAG_LENGTH


def header(destination: bytes, source: bytes, ethertype: int, tag: int = 0) -> bytes:
    """A link header, tagged when `tag` (tag control information) is not 0."""
    if tag:
        return _TAGGED.pack(destination, source, ETHERTYPE_VLAN, tag, ethertype)
    return HEADER.pack(destination, source, ethertype)


def is_group(address: bytes) -> bool:
    """The broadcast address or a multicast one."""
    return bool(address[0] & 1)


def multicast_address(version: int, group: int) -> bytes:
    """The link address that an IP multicast group maps to (RFC 1112 section 6.4; RFC 2464 section 7)."""
    if version == 4:
        return (0x01005E000000 | group & 0x7FFFFF).to_bytes(6, "big")
    return (0x333300000000 | group & 0xFFFFFFFF).to_bytes(6, "big")


def group_of(version: int, destination: int) -> bytes:
    """The link address for a destination that needs no resolution: multicast, or (IPv4) broadcast."""
    return multicast_address(version, destination) if is_multicast(version, destination) else BROADCAST


def text(address: bytes) -> str:
    """aa:bb:cc:dd:ee:ff"""
    return address.hex(":")


def from_text(value: str) -> bytes:
    """The address that `aa:bb:cc:dd:ee:ff` spells. ValueError: not one."""
    parts = value.replace("-", ":").split(":")
    if len(parts) != 6 or not all(1 <= len(part) <= 2 for part in parts):
        raise ValueError(f"not a link address: {value!r}")
    return bytes(int(part, 16) for part in parts)
