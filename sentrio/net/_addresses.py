"""Addresses as programs write them, and as the contract does."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import anyio
from anyio.abc import SocketAttribute

Host = str | IPv4Address | IPv6Address


async def resolve(host: Host, port: int, *, passive: bool = False) -> list[tuple[socket.AddressFamily, list[Any]]]:
    """(family, addr) of everything that `host` means, in the order to be tried. A name is looked up as this host does
    it. OSError (socket.gaierror)."""
    if passive and not str(host):
        return [(socket.AF_INET6, [bytes(16), port, 0])]
    text, _, zone = str(host).partition("%")
    try:
        address = ip_address(text)
    except ValueError:
        found = await anyio.getaddrinfo(str(host), port, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys((family, entry[0]) for family, _, _, _, entry in found)
        return [(family, [socket.inet_pton(family, name), port, 0]) for family, name in addresses]
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return [(family, [address.packed, port, int(zone) if zone.isdigit() else 0])]


def to_tuple(address: Sequence[Any]) -> tuple[str, int]:
    """(host, port) of an addr. A link-local address has its interface's index behind a %."""
    raw, port, scope = address
    if not raw:
        return "::", port
    host = str(ip_address(raw))
    return f"{host}%{scope}" if scope else host, port


def attributes(local: list[Any], remote: list[Any] | None) -> dict[Any, Callable[[], Any]]:
    """The extra attributes of a socket with these addresses."""
    family = socket.AF_INET if len(local[0]) == 4 else socket.AF_INET6
    made: dict[Any, Callable[[], Any]] = {
        SocketAttribute.family: lambda: family,
        SocketAttribute.local_address: lambda: to_tuple(local),
        SocketAttribute.local_port: lambda: local[1],
    }
    if remote is not None:
        made[SocketAttribute.remote_address] = lambda: to_tuple(remote)
        made[SocketAttribute.remote_port] = lambda: remote[1]
    return made
