"""Addresses between the contract ([bytes, port, scope]) and the stack's sockets (int, port, scope).

A socket of AF_INET6 holds IPv4 addresses mapped (::ffff:a.b.c.d); on the wire to the client these are four bytes.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, Final

from services.netstackd.errors import NetError
from services.netstackd.transport.base import AF_INET, MAPPED, SocketAddress

_MAPPED_BYTES: Final = bytes(10) + b"\xff\xff"


def to_stack(family: int, address: Sequence[Any]) -> SocketAddress:
    """An addr of a client, for a socket of `family`. NetError: EINVAL (a length that is none), EAFNOSUPPORT."""
    raw, port, scope = address
    return bytes_to_int(family, raw), port, scope


def bytes_to_int(family: int, raw: bytes) -> int:
    """See `to_stack`."""
    length = len(raw)
    if not length:
        return 0
    value = int.from_bytes(raw, "big")
    if length == 4:
        return value if family == AF_INET else MAPPED | value
    if length != 16:
        raise NetError(errno.EINVAL, "an address of neither version")
    if family == AF_INET:
        raise NetError(errno.EAFNOSUPPORT, "an IPv6 address on an IPv4 socket")
    return value


def to_bytes(family: int, value: int) -> bytes:
    """The address of a socket of `family` as a client sees it."""
    if family == AF_INET:
        return value.to_bytes(4, "big")
    if value >> 32 == 0xFFFF:
        return (value & 0xFFFFFFFF).to_bytes(4, "big")
    return value.to_bytes(16, "big")


def to_client(family: int, address: SocketAddress) -> list[Any]:
    """An addr for the client."""
    return [to_bytes(family, address[0]), address[1], address[2]]
