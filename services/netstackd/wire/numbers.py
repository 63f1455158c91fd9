"""Assigned numbers that more than one layer speaks of: EtherTypes, IP protocol numbers, well-known addresses."""

from __future__ import annotations

from typing import Final

# EtherTypes (IEEE 802 numbers, RFC 9542).
ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_VLAN: Final = 0x8100
ETHERTYPE_QINQ: Final = 0x88A8
ETHERTYPE_IPV6: Final = 0x86DD

# IP protocol numbers (IANA).
PROTO_HOP_BY_HOP: Final = 0
PROTO_ICMP: Final = 1
PROTO_IGMP: Final = 2
PROTO_TCP: Final = 6
PROTO_UDP: Final = 17
PROTO_ROUTING: Final = 43
PROTO_FRAGMENT: Final = 44
PROTO_AH: Final = 51
PROTO_ICMPV6: Final = 58
PROTO_NONE: Final = 59
PROTO_DESTINATION_OPTIONS: Final = 60
PROTO_RAW: Final = 255

IPV4_ANY: Final = 0
IPV4_BROADCAST: Final = 0xFFFFFFFF
IPV4_LOOPBACK: Final = 0x7F000001
IPV4_ALL_SYSTEMS: Final = 0xE0000001
IPV4_ALL_ROUTERS: Final = 0xE0000002
IPV4_IGMPV3: Final = 0xE0000016

IPV6_ANY: Final = 0
IPV6_LOOPBACK: Final = 1
IPV6_LINK_LOCAL: Final = 0xFE80 << 112
IPV6_ALL_NODES: Final = 0xFF02 << 112 | 1
IPV6_ALL_ROUTERS: Final = 0xFF02 << 112 | 2
IPV6_MLDV2_ROUTERS: Final = 0xFF02 << 112 | 0x16
IPV6_SOLICITED_NODE: Final = 0xFF02 << 112 | 1 << 32 | 0xFF << 24


def is_multicast(version: int, address: int) -> bool:
    """224.0.0.0/4 or ff00::/8."""
    return address >> 28 == 0xE if version == 4 else address >> 120 == 0xFF


def is_loopback(version: int, address: int) -> bool:
    """127.0.0.0/8 or ::1."""
    return address >> 24 == 127 if version == 4 else address == 1


def is_link_local_v6(address: int) -> bool:
    """fe80::/10."""
    return address >> 118 == 0x3FA


def solicited_node(address: int) -> int:
    """The solicited-node multicast group of an IPv6 address (RFC 4291 section 2.7.1)."""
    return IPV6_SOLICITED_NODE | address & 0xFFFFFF


def mask(version: int, length: int) -> int:
    """The netmask of a prefix length."""
    width = 32 if version == 4 else 128
    return (1 << width) - (1 << width - length)
