"""Addresses, times and sizes as people write them. Only for the edges: never on a packet's way."""

from __future__ import annotations

import ipaddress

from services.netstackd.config.policy import PROTOCOLS

_NAMES = {number: name for name, number in PROTOCOLS.items()}


def address_text(version: int, address: int) -> str:
    """192.0.2.1 or 2001:db8::1."""
    return str(ipaddress.IPv4Address(address) if version == 4 else ipaddress.IPv6Address(address))


def endpoint_text(version: int, address: int, port: int) -> str:
    """192.0.2.1:80 or [2001:db8::1]:80; the address alone for port 0."""
    text = address_text(version, address)
    if not port:
        return text
    return f"{text}:{port}" if version == 4 else f"[{text}]:{port}"


def prefix_text(version: int, address: int, length: int) -> str:
    """192.0.2.0/24, or `default`."""
    return "default" if not length and not address else f"{address_text(version, address)}/{length}"


def protocol_text(number: int) -> str:
    """tcp, udp, ..., or the number."""
    return _NAMES.get(number, str(number))


def mac_text(mac: bytes) -> str:
    """02:00:00:00:00:01."""
    return mac.hex(":")


def parse_address(text: str) -> tuple[int, int]:
    """(version, address). ValueError."""
    found = ipaddress.ip_address(text)
    return found.version, int(found)


def parse_interface(text: str) -> tuple[int, int, int]:
    """(version, address, prefix length) of an address with its network's length. ValueError."""
    found = ipaddress.ip_interface(text)
    return found.version, int(found.ip), found.network.prefixlen


def parse_network(text: str) -> tuple[int, int, int]:
    """(version, address, prefix length). ValueError."""
    found = ipaddress.ip_network(text, strict=False)
    return found.version, int(found.network_address), found.prefixlen
