"""Socket options as a client says them (an int, or the bytes of Linux's C structure) and as the stack does.

Integers pass as they are, also when they come as four bytes. Only what is a structure in C needs a row here. Sources:
socket(7), ip(7), ipv6(7), packet(7), linux/in.h, linux/if_packet.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any, Final

from services.netstackd.errors import NetError
from services.netstackd.sockets import AnySocket, OptionValue, PacketSocket, get_option, set_option
from services.netstackd.transport import options as o
from services.netstackd.transport.base import (
    AF_INET,
    SOL_ICMPV6,
    SOL_IP,
    SOL_IPV6,
    SOL_PACKET,
    SOL_RAW,
    SOL_SOCKET,
    SOL_TCP,
)
from services.netstackd.transport.tcp_socket import TCP_CONGESTION

MCAST_JOIN_GROUP: Final = 42
MCAST_BLOCK_SOURCE: Final = 43
MCAST_UNBLOCK_SOURCE: Final = 44
MCAST_LEAVE_GROUP: Final = 45
MCAST_JOIN_SOURCE_GROUP: Final = 46
MCAST_LEAVE_SOURCE_GROUP: Final = 47
PACKET_ADD_MEMBERSHIP: Final = 1
PACKET_DROP_MEMBERSHIP: Final = 2
PACKET_STATISTICS: Final = 6
_PACKET_MR_PROMISC: Final = 1

_LINGER: Final = struct.Struct("=ii")
_MREQN: Final = struct.Struct("!II")
_INDEX: Final = struct.Struct("=i")
_SOURCE: Final = struct.Struct("!III")
_PACKET_MREQ: Final = struct.Struct("=iHH8s")

Convert = Callable[[AnySocket, bytes], OptionValue]


def _short() -> NetError:
    return NetError(errno.EINVAL, "the value is too short")


def _interface_with(sock: AnySocket, address: int) -> int:
    """The index of the interface that has an address; 0 for 0. NetError: ENODEV."""
    if not address:
        return 0
    found = sock.stack.interface_of(4, address)
    if found is None:
        raise NetError(errno.ENODEV, "no interface has the address")
    return found.index


def _linger(sock: AnySocket, raw: bytes) -> OptionValue:
    if len(raw) < _LINGER.size:
        raise _short()
    return _LINGER.unpack_from(raw)


def _mreq(sock: AnySocket, raw: bytes) -> OptionValue:
    """struct ip_mreqn, or struct ip_mreq: (group, interface index)."""
    if len(raw) < 8:
        raise _short()
    group, address = _MREQN.unpack_from(raw)
    index = _INDEX.unpack_from(raw, 8)[0] if len(raw) >= 12 else 0
    return group, index or _interface_with(sock, address)


def _multicast_interface(sock: AnySocket, raw: bytes) -> OptionValue:
    """struct in_addr, ip_mreq or ip_mreqn: (address, interface index)."""
    if len(raw) < 8:
        if len(raw) < 4:
            raise _short()
        return int.from_bytes(raw[:4], "big"), 0
    _, address = _MREQN.unpack_from(raw)
    return address, _INDEX.unpack_from(raw, 8)[0] if len(raw) >= 12 else 0


def _mreq6(sock: AnySocket, raw: bytes) -> OptionValue:
    """struct ipv6_mreq: (group, interface index)."""
    if len(raw) < 20:
        raise _short()
    return int.from_bytes(raw[:16], "big"), _INDEX.unpack_from(raw, 16)[0]


def _mreq_source(sock: AnySocket, raw: bytes) -> OptionValue:
    """struct ip_mreq_source: (group, interface index, source)."""
    if len(raw) < _SOURCE.size:
        raise _short()
    group, address, source = _SOURCE.unpack_from(raw)
    return group, _interface_with(sock, address), source


def _sockaddr(raw: bytes, at: int) -> int:
    """The address in a struct sockaddr_storage."""
    family = int.from_bytes(raw[at : at + 2], "little")
    if family == AF_INET:
        return int.from_bytes(raw[at + 4 : at + 8], "big")
    return int.from_bytes(raw[at + 8 : at + 24], "big")


def _group_req(sock: AnySocket, raw: bytes) -> OptionValue:
    """struct group_req (and the beginning of struct group_source_req): (group, interface index[, source])."""
    if len(raw) < 136:
        raise _short()
    index, group = _INDEX.unpack_from(raw)[0], _sockaddr(raw, 8)
    return (group, index, _sockaddr(raw, 136)) if len(raw) >= 264 else (group, index)


def _text(sock: AnySocket, raw: bytes) -> OptionValue:
    return raw


_STRUCTURES: Final[dict[tuple[int, int], Convert]] = {
    (SOL_SOCKET, o.SO_LINGER): _linger,
    (SOL_SOCKET, o.SO_BINDTODEVICE): _text,
    (SOL_TCP, TCP_CONGESTION): _text,
    (SOL_IP, o.IP_OPTIONS): _text,
    (SOL_IP, o.IP_MULTICAST_IF): _multicast_interface,
    (SOL_IP, o.IP_ADD_MEMBERSHIP): _mreq,
    (SOL_IP, o.IP_DROP_MEMBERSHIP): _mreq,
    (SOL_IP, o.IP_BLOCK_SOURCE): _mreq_source,
    (SOL_IP, o.IP_UNBLOCK_SOURCE): _mreq_source,
    (SOL_IP, o.IP_ADD_SOURCE_MEMBERSHIP): _mreq_source,
    (SOL_IP, o.IP_DROP_SOURCE_MEMBERSHIP): _mreq_source,
    (SOL_IPV6, o.IPV6_ADD_MEMBERSHIP): _mreq6,
    (SOL_IPV6, o.IPV6_DROP_MEMBERSHIP): _mreq6,
    (SOL_RAW, o.ICMP_FILTER): _text,
    (SOL_ICMPV6, o.ICMP6_FILTER): _text,
}
# The protocol-independent names of multicast membership (RFC 3678 section 5), by level.
_GENERIC: Final[dict[tuple[int, int], int]] = {
    (SOL_IP, MCAST_JOIN_GROUP): o.IP_ADD_MEMBERSHIP,
    (SOL_IP, MCAST_LEAVE_GROUP): o.IP_DROP_MEMBERSHIP,
    (SOL_IP, MCAST_BLOCK_SOURCE): o.IP_BLOCK_SOURCE,
    (SOL_IP, MCAST_UNBLOCK_SOURCE): o.IP_UNBLOCK_SOURCE,
    (SOL_IP, MCAST_JOIN_SOURCE_GROUP): o.IP_ADD_SOURCE_MEMBERSHIP,
    (SOL_IP, MCAST_LEAVE_SOURCE_GROUP): o.IP_DROP_SOURCE_MEMBERSHIP,
    (SOL_IPV6, MCAST_JOIN_GROUP): o.IPV6_ADD_MEMBERSHIP,
    (SOL_IPV6, MCAST_LEAVE_GROUP): o.IPV6_DROP_MEMBERSHIP,
}


def write_option(sock: AnySocket, level: int, name: int, value: int | bytes) -> None:
    """setsockopt(2). NetError."""
    if isinstance(sock, PacketSocket) and level == SOL_PACKET:
        _write_packet_option(sock, name, value)
        return
    generic = _GENERIC.get((level, name))
    if generic is not None:
        if not isinstance(value, bytes):
            raise _short()
        set_option(sock, level, generic, _group_req(sock, value))
        return
    if isinstance(value, bytes):
        convert = _STRUCTURES.get((level, name))
        if convert is not None:
            set_option(sock, level, name, convert(sock, value))
            return
        if not value:
            raise _short()
        value = int.from_bytes(value[:4], "little", signed=len(value) >= 4)
    set_option(sock, level, name, value)


def _write_packet_option(sock: PacketSocket, name: int, value: int | bytes) -> None:
    if name not in (PACKET_ADD_MEMBERSHIP, PACKET_DROP_MEMBERSHIP):
        raise NetError(errno.ENOPROTOOPT, f"no packet option {name}")
    if not isinstance(value, bytes) or len(value) < _PACKET_MREQ.size:
        raise _short()
    index, kind, _, _ = _PACKET_MREQ.unpack_from(value)
    iface = sock.stack.interfaces.get(index)
    if iface is None:
        raise NetError(errno.ENODEV, "no such interface")
    if kind == _PACKET_MR_PROMISC:
        sock.membership(iface, add=name == PACKET_ADD_MEMBERSHIP)


def read_option(sock: AnySocket, level: int, name: int) -> Any:
    """getsockopt(2): int, bytes, str, or TCP_INFO's dictionary. NetError."""
    if isinstance(sock, PacketSocket) and level == SOL_PACKET:
        if name != PACKET_STATISTICS:
            raise NetError(errno.ENOPROTOOPT, f"no packet option {name}")
        counted = struct.pack("=II", sock.packets, sock.drops)
        sock.packets = sock.drops = 0
        return counted
    value = get_option(sock, level, name)
    if isinstance(value, tuple):
        return struct.pack(f"={len(value)}i", *value)
    return value
