"""The sockets of a stack: the way in for whoever speaks the socket API (the socket service, programs in this process).

`open_socket` is socket(2). Every socket has `bind connect send receive close poll subscribe`, stream sockets `listen`
and `accept`, and options by (level, name) through `get_option` and `set_option`. Nothing waits; see transport/base.py.
After calls the stack wants a `flush`, which is when segments leave and readiness is told.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.transport import options
from services.netstackd.transport.base import (
    AF_INET,
    AF_INET6,
    AF_PACKET,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    ExtendedError,
    Message,
    Socket,
    SocketAddress,
)
from services.netstackd.transport.options import OptionValue
from services.netstackd.transport.packet_tap import PacketSocket
from services.netstackd.transport.ping import PingSocket
from services.netstackd.transport.raw import RawSocket
from services.netstackd.transport.tcp_socket import TcpSocket
from services.netstackd.transport.udp import UdpSocket
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

AnySocket = TcpSocket | UdpSocket | PingSocket | RawSocket | PacketSocket


def open_socket(stack: Stack, family: int, kind: int, protocol: int = 0) -> AnySocket:
    """socket(2). NetError: EAFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT."""
    if family == AF_PACKET:
        if kind not in (SOCK_RAW, SOCK_DGRAM):
            raise NetError(errno.ESOCKTNOSUPPORT, "packet sockets are raw or datagram")
        return PacketSocket(stack, kind, protocol)
    if family not in (AF_INET, AF_INET6):
        raise NetError(errno.EAFNOSUPPORT, f"family {family}")
    if kind == SOCK_STREAM:
        if protocol not in (0, PROTO_TCP):
            raise NetError(errno.EPROTONOSUPPORT, f"stream protocol {protocol}")
        return TcpSocket(stack, family)
    if kind == SOCK_DGRAM:
        if protocol in (0, PROTO_UDP):
            return UdpSocket(stack, family)
        if protocol == (PROTO_ICMP if family == AF_INET else PROTO_ICMPV6):
            return PingSocket(stack, family, protocol)
        raise NetError(errno.EPROTONOSUPPORT, f"datagram protocol {protocol}")
    if kind == SOCK_RAW:
        return RawSocket(stack, family, protocol)
    raise NetError(errno.ESOCKTNOSUPPORT, f"type {kind}")


def get_option(socket: Socket, level: int, name: int) -> OptionValue | dict[str, int]:
    """getsockopt(2); TCP_INFO gives a dict."""
    if isinstance(socket, TcpSocket):
        return socket.get_option(level, name)
    return options.get_option(socket, level, name)


def set_option(socket: Socket, level: int, name: int, value: OptionValue) -> None:
    """setsockopt(2)."""
    if isinstance(socket, TcpSocket):
        socket.set_option(level, name, value)
    else:
        options.set_option(socket, level, name, value)


__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_PACKET",
    "SOCK_DGRAM",
    "SOCK_RAW",
    "SOCK_STREAM",
    "AnySocket",
    "ExtendedError",
    "Message",
    "NetError",
    "OptionValue",
    "PacketSocket",
    "PingSocket",
    "RawSocket",
    "Socket",
    "SocketAddress",
    "TcpSocket",
    "UdpSocket",
    "WouldBlock",
    "get_option",
    "open_socket",
    "set_option",
]
