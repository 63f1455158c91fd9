"""IP addresses as the bytes of the packet header: four for IPv4, sixteen for IPv6. struct sockaddr_in and sockaddr_in6.

An IPv4-mapped address (::ffff:a.b.c.d) is kept as its four bytes; only a struct sockaddr of an AF_INET6 socket shows it
mapped. Nothing here knows sockets.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

from protocol.abi import in_h
from protocol.abi import socket_h as so
from services.sentry.errors import LinuxError

__all__ = [
    "ANY4",
    "ANY6",
    "LOOPBACK4",
    "LOOPBACK6",
    "UNSPEC",
    "Endpoint",
    "full6",
    "is_any",
    "is_link_local6",
    "is_multicast",
    "pack4",
    "pack6",
    "parse4_untrusted",
    "parse6_untrusted",
]

ANY4: Final = bytes(4)
ANY6: Final = bytes(16)
LOOPBACK4: Final = bytes((127, 0, 0, 1))
LOOPBACK6: Final = bytes(15) + b"\1"
UNSPEC: Final = so.SA_FAMILY.pack(so.AF_UNSPEC)
_MAPPED: Final = bytes(10) + b"\xff\xff"
_FAMILY4: Final = so.SA_FAMILY.pack(so.AF_INET)
_FAMILY6: Final = so.SA_FAMILY.pack(so.AF_INET6)
#: The shortest struct sockaddr_in6 Linux takes: without sin6_scope_id (RFC 2133).
_MIN_IN6_BYTES: Final = 24


class Endpoint(NamedTuple):
    """Address, port, and the interface a link-local address is meant for (sin6_scope_id)."""

    address: bytes
    port: int
    scope: int = 0


def is_any(address: bytes) -> bool:
    return not any(address)


def is_multicast(address: bytes) -> bool:
    return 224 <= address[0] < 240 if len(address) == 4 else address[0] == 0xFF


def is_link_local6(address: bytes) -> bool:
    """fe80::/10, and multicast of interface or link scope: addresses that mean nothing without an interface."""
    if len(address) != 16:
        return False
    if address[0] == 0xFF:
        return address[1] & 0xF in (1, 2)
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def full6(address: bytes) -> bytes:
    """The sixteen bytes an AF_INET6 socket shows."""
    return address if len(address) == 16 else _MAPPED + address


def pack4(address: bytes, port: int) -> bytes:
    """struct sockaddr_in."""
    return in_h.SOCKADDR_IN.pack(so.AF_INET, port.to_bytes(2, "big"), address)


def pack6(address: bytes, port: int, scope: int = 0) -> bytes:
    """struct sockaddr_in6."""
    return in_h.SOCKADDR_IN6.pack(so.AF_INET6, port.to_bytes(2, "big"), bytes(4), full6(address), scope)


def parse4_untrusted(raw: bytes, unspec_any: bool = False) -> Endpoint:
    """A struct sockaddr_in. EINVAL: too short; EAFNOSUPPORT: another family.

    `unspec_any`: AF_UNSPEC with 0.0.0.0 is taken too, as bind(2) and UDP's sendto(2) do.
    """
    if len(raw) < in_h.SOCKADDR_IN.size:
        raise LinuxError(errno.EINVAL)
    if raw[:2] != _FAMILY4 and not (unspec_any and raw[:2] == UNSPEC and raw[4:8] == ANY4):
        raise LinuxError(errno.EAFNOSUPPORT)
    return Endpoint(raw[4:8], int.from_bytes(raw[2:4], "big"))


def parse6_untrusted(raw: bytes) -> Endpoint:
    """A struct sockaddr_in6, mapped addresses as IPv4. EINVAL: too short; EAFNOSUPPORT: another family."""
    if len(raw) < _MIN_IN6_BYTES:
        raise LinuxError(errno.EINVAL)
    if raw[:2] != _FAMILY6:
        raise LinuxError(errno.EAFNOSUPPORT)
    address = raw[8:24]
    scope = int.from_bytes(raw[24:28], "little") if is_link_local6(address) else 0
    if address[:12] == _MAPPED:
        address = address[12:]
    return Endpoint(address, int.from_bytes(raw[2:4], "big"), scope)
