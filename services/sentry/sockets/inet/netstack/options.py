"""Which options of a socket the socket service is told: those that change packets, timers or who gets what.

Values are kept by the tables of options as programs see them; here they become what setsockopt(2) takes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import in_h
from protocol.abi import socket_h as so
from protocol.abi import tcp_h as tcp
from services.sentry.sockets.inet.loopback import LOOPBACK_INDEX

if TYPE_CHECKING:
    from services.sentry.sockets.inet.endpoint import InetSocket
    from services.sentry.sockets.inet.netstack.provider import NetstackProvider

__all__ = ["forward_all", "forward_group", "forward_option"]

_IP: Final = in_h.IPPROTO_IP
_IPV6: Final = in_h.IPPROTO_IPV6
_TCP: Final = in_h.IPPROTO_TCP

#: Of SOL_SOCKET, in the order in which they are to be set before bind(2).
_SOCKET_OPTIONS: Final = (
    so.SO_REUSEADDR,
    so.SO_REUSEPORT,
    so.SO_BROADCAST,
    so.SO_KEEPALIVE,
    so.SO_PRIORITY,
    so.SO_MARK,
    so.SO_DONTROUTE,
    so.SO_NO_CHECK,
)
#: What the Sentry alone knows how to answer, or what needs another form.
_OWN: Final = frozenset(
    {
        (_IP, in_h.IP_PKTINFO), (_IP, in_h.IP_RECVTTL), (_IP, in_h.IP_RECVTOS), (_IP, in_h.IP_RECVORIGDSTADDR),
        (_IP, in_h.IP_PASSSEC), (_IP, in_h.IP_BIND_ADDRESS_NO_PORT), (_IP, in_h.IP_RECVOPTS), (_IP, in_h.IP_RETOPTS),
        (_IPV6, in_h.IPV6_RECVPKTINFO), (_IPV6, in_h.IPV6_RECVHOPLIMIT), (_IPV6, in_h.IPV6_RECVTCLASS),
        (_IPV6, in_h.IPV6_ADDR_PREFERENCES), (_TCP, tcp.TCP_INQ), (_TCP, tcp.TCP_DEFER_ACCEPT),
        (_TCP, tcp.TCP_FASTOPEN), (_TCP, tcp.TCP_FASTOPEN_CONNECT), (_TCP, tcp.TCP_FASTOPEN_NO_COOKIE),
    }
)  # fmt: skip
_CONGESTION_NAMES: Final = (b"cubic", b"reno")


def is_forwarded(level: int, name: int) -> bool:
    """Whether a change of this option is told to the service."""
    if level == so.SOL_SOCKET:
        return name in _SOCKET_OPTIONS
    return (level, name) not in _OWN


def wire_value(level: int, name: int, value: int) -> int | bytes:
    """A remembered value in the form that setsockopt(2) takes."""
    if (level, name) == (_IP, in_h.IP_MULTICAST_IF):
        return in_h.IP_MREQN.pack(bytes(4), bytes(4), value)
    if (level, name) == (_TCP, tcp.TCP_CONGESTION):
        return _CONGESTION_NAMES[value]
    return value


def membership(group: bytes, interface: int) -> tuple[int, int, int, bytes]:
    """(level, name to join, name to leave, value) of a membership."""
    if len(group) == 4:
        value = in_h.IP_MREQN.pack(group, bytes(4), interface)
        return _IP, in_h.IP_ADD_MEMBERSHIP, in_h.IP_DROP_MEMBERSHIP, value
    return _IPV6, in_h.IPV6_ADD_MEMBERSHIP, in_h.IPV6_DROP_MEMBERSHIP, in_h.IPV6_MREQ.pack(group, interface)


def _rows(socket: InetSocket, family: int) -> Iterator[tuple[int, int, int | bytes]]:
    if family == so.AF_INET6:
        yield _IPV6, in_h.IPV6_V6ONLY, int(socket.v6_only)
    if socket.bound_interface:
        found = socket.network.interface(socket.bound_interface)
        if found is not None:
            yield so.SOL_SOCKET, so.SO_BINDTODEVICE, found.name
    for name in _SOCKET_OPTIONS:
        value = socket.options.get(name)
        if value:
            yield so.SOL_SOCKET, name, value
    locked = socket.options.get(so.SO_BUF_LOCK, 0)
    if locked & 1:
        yield so.SOL_SOCKET, so.SO_SNDBUF, socket.send_buffer // 2
    if locked & 2:
        yield so.SOL_SOCKET, so.SO_RCVBUF, socket.receive_buffer // 2
    for (level, name), number in socket.settings.items():
        if is_forwarded(level, name) and not (level == _IPV6 and family == so.AF_INET):
            yield level, name, wire_value(level, name, number)
    for group, interface in socket.groups:
        if interface != LOOPBACK_INDEX:
            level, join, _, value_bytes = membership(group, interface)
            yield level, join, value_bytes


def forward_option(provider: NetstackProvider, number: int, socket: InetSocket, level: int, name: int) -> None:
    """An option of `socket` was set."""
    if level == so.SOL_SOCKET:
        if name in (so.SO_SNDBUF, so.SO_SNDBUFFORCE):
            provider.hint(number, level, so.SO_SNDBUF, socket.send_buffer // 2)
        elif name in (so.SO_RCVBUF, so.SO_RCVBUFFORCE):
            provider.hint(number, level, so.SO_RCVBUF, socket.receive_buffer // 2)
        elif name == so.SO_BINDTODEVICE:
            found = socket.network.interface(socket.bound_interface)
            provider.hint(number, level, name, found.name if found is not None else b"")
        elif name in _SOCKET_OPTIONS:
            provider.hint(number, level, name, socket.options.get(name, 0))
    elif (level, name) == (_IPV6, in_h.IPV6_V6ONLY):
        provider.hint(number, level, name, int(socket.v6_only))
    elif is_forwarded(level, name) and (level, name) in socket.settings:
        provider.hint(number, level, name, wire_value(level, name, socket.settings[level, name]))
    provider.flush_soon()


def forward_group(provider: NetstackProvider, number: int, group: bytes, interface: int, joined: bool) -> None:
    """A membership began or ended; the loopback's stay here."""
    if interface != LOOPBACK_INDEX:
        level, join, leave, value = membership(group, interface)
        provider.hint(number, level, join if joined else leave, value)
        provider.flush_soon()


def forward_all(provider: NetstackProvider, number: int, socket: InetSocket, family: int) -> None:
    """Tell a socket that was just opened there what was set on `socket`. An option it does not know changes nothing."""
    for level, name, value in _rows(socket, family):
        provider.hint(number, level, name, value)
