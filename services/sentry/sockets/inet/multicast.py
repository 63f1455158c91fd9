"""Membership in multicast groups and the interface they are reached by: options of ip(7) and ipv6(7), RFC 3678.

`InetSocket.groups` are a socket's memberships, (group, interface index); the network counts them all. Source filters
are not there: their options give EINVAL or ENOPROTOOPT.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import in_h
from protocol.abi import socket_h as so
from protocol.abi.layout import I32, U32
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.addresses import ANY4, is_multicast

if TYPE_CHECKING:
    from services.sentry.sockets.inet.endpoint import InetSocket
    from services.sentry.sockets.inet.interfaces import Interface

__all__ = ["get_interface4", "leave_all", "outgoing_interface", "set_option"]

_IP: Final = in_h.IPPROTO_IP
_IPV6: Final = in_h.IPPROTO_IPV6
_INTERFACE4: Final = (_IP, in_h.IP_MULTICAST_IF)
_INTERFACE6: Final = (_IPV6, in_h.IPV6_MULTICAST_IF)
_GROUP_REQ_BYTES: Final = 8 + so.SOCKADDR_STORAGE_BYTES
_MAX_MEMBERSHIPS: Final = in_h.IP_MAX_MEMBERSHIPS


def get_interface4(socket: InetSocket) -> bytes:
    """IP_MULTICAST_IF: the address of the interface."""
    index = socket.settings.get(_INTERFACE4, 0)
    interface = socket.network.interface(index) if index else None
    if interface is None:
        return ANY4
    return next((own.address for own in interface.addresses if len(own.address) == 4), ANY4)


def outgoing_interface(socket: InetSocket, family: int) -> int:
    """The interface that multicast packets leave by, 0: the routes decide."""
    return socket.settings.get(_INTERFACE4 if family == 4 else _INTERFACE6, 0)


def set_option(socket: InetSocket, level: int, name: int, value: bytes) -> bool:
    """False: none of these options. EINVAL, ENODEV, EADDRNOTAVAIL, EADDRINUSE: a member already; ENOBUFS."""
    if level == _IP and name == in_h.IP_MULTICAST_IF:
        _set_interface4(socket, value)
    elif level == _IPV6 and name == in_h.IPV6_MULTICAST_IF:
        _set_interface6(socket, value)
    elif level == _IP and name in (in_h.IP_ADD_MEMBERSHIP, in_h.IP_DROP_MEMBERSHIP):
        if socket.kind == so.SOCK_STREAM:
            raise LinuxError(errno.EPROTO)
        group, interface = _request4(socket, value)
        _change(socket, group, interface, join=name == in_h.IP_ADD_MEMBERSHIP)
    elif level == _IPV6 and name in (in_h.IPV6_ADD_MEMBERSHIP, in_h.IPV6_DROP_MEMBERSHIP):
        if len(value) < in_h.IPV6_MREQ.size:
            raise LinuxError(errno.EINVAL)
        if socket.kind == so.SOCK_STREAM:
            raise LinuxError(errno.EPROTO)
        group, index = in_h.IPV6_MREQ.unpack_from(value)
        _change(socket, group, _interface(socket, group, index), join=name == in_h.IPV6_ADD_MEMBERSHIP)
    elif name in (in_h.MCAST_JOIN_GROUP, in_h.MCAST_LEAVE_GROUP):
        _change(socket, *_request(socket, level, value), join=name == in_h.MCAST_JOIN_GROUP)
    elif name in _SOURCE_FILTERS[level]:
        raise LinuxError(errno.EINVAL)
    else:
        return False
    return True


_MCAST_FILTERS: Final = (
    in_h.MCAST_BLOCK_SOURCE,
    in_h.MCAST_UNBLOCK_SOURCE,
    in_h.MCAST_JOIN_SOURCE_GROUP,
    in_h.MCAST_LEAVE_SOURCE_GROUP,
    in_h.MCAST_MSFILTER,
)
_SOURCE_FILTERS: Final[dict[int, tuple[int, ...]]] = {
    _IP: (
        *_MCAST_FILTERS,
        in_h.IP_BLOCK_SOURCE,
        in_h.IP_UNBLOCK_SOURCE,
        in_h.IP_ADD_SOURCE_MEMBERSHIP,
        in_h.IP_DROP_SOURCE_MEMBERSHIP,
        in_h.IP_MSFILTER,
    ),
    _IPV6: (*_MCAST_FILTERS, in_h.IPV6_JOIN_ANYCAST, in_h.IPV6_LEAVE_ANYCAST),
}


def _set_interface4(socket: InetSocket, value: bytes) -> None:
    """An address, a struct ip_mreq or a struct ip_mreqn; all zero: the routes decide again."""
    if socket.kind == so.SOCK_STREAM or len(value) < 4:
        raise LinuxError(errno.EINVAL)
    if len(value) >= in_h.IP_MREQN.size:
        _, address, index = in_h.IP_MREQN.unpack_from(value)
    else:
        address, index = (value[4:8] if len(value) >= 8 else value[:4]), 0
    if index:
        if socket.network.interface(index) is None:
            raise LinuxError(errno.EADDRNOTAVAIL)
    elif address != ANY4:
        found = socket.network.interface_with(address)
        if found is None:
            raise LinuxError(errno.EADDRNOTAVAIL)
        index = found.ifindex
    socket.settings[_INTERFACE4] = index


def _set_interface6(socket: InetSocket, value: bytes) -> None:
    if socket.kind == so.SOCK_STREAM:
        raise LinuxError(errno.ENOPROTOOPT)
    if len(value) < 4:
        raise LinuxError(errno.EINVAL)
    (index,) = I32.unpack_from(value)
    if index and socket.network.interface(index) is None:
        raise LinuxError(errno.ENODEV)
    socket.settings[_INTERFACE6] = index


def _request4(socket: InetSocket, value: bytes) -> tuple[bytes, Interface]:
    """A struct ip_mreq or ip_mreqn."""
    if len(value) < 8:
        raise LinuxError(errno.EINVAL)
    group, address = value[:4], value[4:8]
    index = I32.unpack_from(value, 8)[0] if len(value) >= in_h.IP_MREQN.size else 0
    if not index and address != ANY4:
        found = socket.network.interface_with(address)
        if found is None:
            raise LinuxError(errno.ENODEV)
        return group, found
    return group, _interface(socket, group, index)


def _request(socket: InetSocket, level: int, value: bytes) -> tuple[bytes, Interface]:
    """A struct group_req: an interface index and a sockaddr of the level's family."""
    if len(value) < _GROUP_REQ_BYTES:
        raise LinuxError(errno.EINVAL)
    if socket.kind == so.SOCK_STREAM:
        raise LinuxError(errno.EPROTO)
    (index,) = U32.unpack_from(value)
    family = so.AF_INET if level == _IP else so.AF_INET6
    if so.SA_FAMILY.unpack_from(value, 8)[0] != family:
        raise LinuxError(errno.EINVAL)
    group = value[12:16] if level == _IP else value[16:32]
    return group, _interface(socket, group, index)


def _interface(socket: InetSocket, group: bytes, index: int) -> Interface:
    """ENODEV: no interface has this index, or (0) no route leads to the group."""
    if index:
        found = socket.network.interface(index)
        if found is None:
            raise LinuxError(errno.ENODEV)
        return found
    try:
        return socket.network.route(group).interface
    except LinuxError:
        raise LinuxError(errno.ENODEV) from None


def _change(socket: InetSocket, group: bytes, interface: Interface, *, join: bool) -> None:
    """EINVAL: not a group address; EADDRINUSE: a member already; EADDRNOTAVAIL: not a member; ENOBUFS: too many."""
    if not is_multicast(group):
        raise LinuxError(errno.EINVAL)
    key = (group, interface.ifindex)
    counts = socket.network.groups
    if join:
        if key in socket.groups:
            raise LinuxError(errno.EADDRINUSE)
        if len(socket.groups) >= _MAX_MEMBERSHIPS:
            raise LinuxError(errno.ENOBUFS)
        socket.groups[key] = None
        counts[key] += 1
        if socket.far is not None:
            socket.far.group_changed(group, interface.ifindex, True)
    else:
        if key not in socket.groups:
            raise LinuxError(errno.EADDRNOTAVAIL)
        del socket.groups[key]
        _drop(socket, key)
        if socket.far is not None:
            socket.far.group_changed(group, interface.ifindex, False)


def _drop(socket: InetSocket, key: tuple[bytes, int]) -> None:
    counts = socket.network.groups
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def leave_all(socket: InetSocket) -> None:
    """The socket goes."""
    for key in socket.groups:
        _drop(socket, key)
    socket.groups.clear()
