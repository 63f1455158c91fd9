"""Addresses of the socket service to those of Python's sockets and back.

On the wire an address is [4 or 16 bytes or b"", port, scope]; an IPv6 socket speaks to IPv4 by mapped addresses, which
the service shows as 4 bytes.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Any, Final

from services.hostnet.errors import Refused

MAPPED: Final = bytes(10) + b"\xff\xff"
WireAddress = list[Any]


def to_host(family: int, address: Sequence[Any]) -> tuple[Any, ...]:
    """What bind(2) and connect(2) of a `family` socket take. EAFNOSUPPORT: the address is of the other version."""
    raw, port, scope = address
    if family == socket.AF_INET:
        if len(raw) not in (0, 4):
            raise Refused(errno.EAFNOSUPPORT)
        return (socket.inet_ntoa(raw) if raw else "0.0.0.0", port)
    if len(raw) not in (0, 4, 16):
        raise Refused(errno.EAFNOSUPPORT)
    full = MAPPED + raw if len(raw) == 4 else raw or bytes(16)
    return (socket.inet_ntop(socket.AF_INET6, full), port, 0, scope)


def packed(host: str) -> bytes:
    """The bytes of a numeric address, mapped ones as 4."""
    if ":" not in host:
        return socket.inet_aton(host)
    raw = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return raw[12:] if raw[:12] == MAPPED else raw


def to_wire(name: Sequence[Any]) -> WireAddress:
    """What getsockname(2) and recvmsg(2) gave."""
    return [packed(name[0]), name[1], name[3] if len(name) > 3 else 0]
