"""getsockopt(2) and setsockopt(2) at levels IPPROTO_IP and IPPROTO_IPV6, as one table (ip(7), ipv6(7)).

Most options are an int that a row describes and `InetSocket.settings` remembers; what they do stands where packets are
sent and received. Memberships are in multicast.py. On an AF_INET6 socket both levels work, on an AF_INET one only the
first.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.abi import capability_h as ca
from protocol.abi import in_h
from protocol.abi import socket_h as so
from protocol.abi.layout import I32, U32
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet import multicast

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.sockets.inet.endpoint import InetSocket

__all__ = ["IntOption", "get_int", "get_ip_option", "set_int", "set_ip_option"]

_IP: Final = in_h.IPPROTO_IP
_IPV6: Final = in_h.IPPROTO_IPV6


class IntOption(NamedTuple):
    """An option that is an int. high 0: a flag, any non-zero value reads as 1.

    minus_one: what -1 stands for (None: it is out of range); needs_value: no bytes at all are EINVAL, else they are 0;
    fixed: setting it is ENOPROTOOPT; privileged: CAP_NET_ADMIN or CAP_NET_RAW is needed to switch it on (EPERM).
    """

    default: int = 0
    low: int = 0
    high: int = 0
    minus_one: int | None = None
    needs_value: bool = False
    fixed: bool = False
    privileged: bool = False


_FLAG: Final = IntOption()
_OPTIONS: Final[dict[tuple[int, int], IntOption]] = {
    (_IP, in_h.IP_TTL): IntOption(64, 1, 255, 64, needs_value=True),
    (_IP, in_h.IP_RECVOPTS): _FLAG,
    (_IP, in_h.IP_RETOPTS): _FLAG,
    (_IP, in_h.IP_PKTINFO): _FLAG,
    (_IP, in_h.IP_MTU_DISCOVER): IntOption(in_h.IP_PMTUDISC_WANT, 0, in_h.IP_PMTUDISC_OMIT),
    (_IP, in_h.IP_RECVERR): _FLAG,
    (_IP, in_h.IP_RECVTTL): _FLAG,
    (_IP, in_h.IP_RECVTOS): _FLAG,
    (_IP, in_h.IP_FREEBIND): IntOption(needs_value=True),
    (_IP, in_h.IP_PASSSEC): _FLAG,
    (_IP, in_h.IP_TRANSPARENT): IntOption(needs_value=True, privileged=True),
    (_IP, in_h.IP_RECVORIGDSTADDR): _FLAG,
    (_IP, in_h.IP_MINTTL): IntOption(0, 0, 255, needs_value=True),
    (_IP, in_h.IP_CHECKSUM): _FLAG,
    (_IP, in_h.IP_BIND_ADDRESS_NO_PORT): _FLAG,
    (_IP, in_h.IP_RECVERR_RFC4884): IntOption(0, 0, 1),
    (_IP, in_h.IP_MULTICAST_LOOP): IntOption(1, needs_value=True),
    (_IP, in_h.IP_MULTICAST_ALL): IntOption(1, 0, 1, needs_value=True),
    (_IP, in_h.IP_HDRINCL): IntOption(fixed=True),
    (_IP, in_h.IP_NODEFRAG): IntOption(fixed=True),
    (_IPV6, in_h.IPV6_2292PKTINFO): _FLAG,
    (_IPV6, in_h.IPV6_2292HOPOPTS): _FLAG,
    (_IPV6, in_h.IPV6_2292DSTOPTS): _FLAG,
    (_IPV6, in_h.IPV6_2292RTHDR): _FLAG,
    (_IPV6, in_h.IPV6_2292HOPLIMIT): _FLAG,
    (_IPV6, in_h.IPV6_UNICAST_HOPS): IntOption(64, 0, 255, 64),
    (_IPV6, in_h.IPV6_MULTICAST_LOOP): IntOption(1, 0, 1),
    (_IPV6, in_h.IPV6_ROUTER_ALERT): IntOption(fixed=True),
    (_IPV6, in_h.IPV6_MTU_DISCOVER): IntOption(in_h.IPV6_PMTUDISC_WANT, 0, in_h.IPV6_PMTUDISC_OMIT),
    (_IPV6, in_h.IPV6_RECVERR): _FLAG,
    (_IPV6, in_h.IPV6_MULTICAST_ALL): IntOption(1),
    (_IPV6, in_h.IPV6_ROUTER_ALERT_ISOLATE): _FLAG,
    (_IPV6, in_h.IPV6_RECVERR_RFC4884): IntOption(0, 0, 1),
    (_IPV6, in_h.IPV6_RECVPKTINFO): _FLAG,
    (_IPV6, in_h.IPV6_RECVHOPLIMIT): _FLAG,
    (_IPV6, in_h.IPV6_RECVHOPOPTS): _FLAG,
    (_IPV6, in_h.IPV6_RECVRTHDR): _FLAG,
    (_IPV6, in_h.IPV6_RECVDSTOPTS): _FLAG,
    (_IPV6, in_h.IPV6_RECVPATHMTU): _FLAG,
    (_IPV6, in_h.IPV6_DONTFRAG): _FLAG,
    (_IPV6, in_h.IPV6_RECVTCLASS): _FLAG,
    (_IPV6, in_h.IPV6_AUTOFLOWLABEL): IntOption(1),
    (_IPV6, in_h.IPV6_MINHOPCOUNT): IntOption(0, 0, 255),
    (_IPV6, in_h.IPV6_RECVORIGDSTADDR): _FLAG,
    (_IPV6, in_h.IPV6_TRANSPARENT): IntOption(privileged=True),
    (_IPV6, in_h.IPV6_RECVFRAGSIZE): _FLAG,
    (_IPV6, in_h.IPV6_FREEBIND): _FLAG,
}  # fmt: skip
#: Options that a datagram socket has and a stream has not.
_DATAGRAM_OPTIONS: Final[dict[tuple[int, int], IntOption]] = {
    (_IP, in_h.IP_MULTICAST_TTL): IntOption(1, 0, 255, 1, needs_value=True),
    (_IP, in_h.IP_RECVFRAGSIZE): _FLAG,
    (_IPV6, in_h.IPV6_MULTICAST_HOPS): IntOption(1, 0, 255, 1),
}
#: One setting under two levels.
_SAME: Final = {
    (_IPV6, in_h.IPV6_FREEBIND): (_IP, in_h.IP_FREEBIND),
    (_IPV6, in_h.IPV6_TRANSPARENT): (_IP, in_h.IP_TRANSPARENT),
}
#: Traffic class: the two ECN bits belong to TCP itself.
_ECN: Final = 3


def get_int(socket: InetSocket, key: tuple[int, int], row: IntOption) -> bytes:
    """The remembered value, or the default."""
    return I32.pack(socket.settings.get(_SAME.get(key, key), row.default))


def set_int(task: Task, socket: InetSocket, key: tuple[int, int], row: IntOption, value: int) -> None:
    """Remember `value`. ENOPROTOOPT: it cannot be set; EINVAL: out of range; EPERM."""
    if row.fixed:
        raise LinuxError(errno.ENOPROTOOPT)
    if row.privileged and value and not (task.cred.has_cap(ca.CAP_NET_ADMIN) or task.cred.has_cap(ca.CAP_NET_RAW)):
        raise LinuxError(errno.EPERM)
    if not row.high:
        value = int(bool(value))
    elif value == -1 and row.minus_one is not None:
        value = row.minus_one
    elif not row.low <= value <= row.high:
        raise LinuxError(errno.EINVAL)
    socket.settings[_SAME.get(key, key)] = value


def _row(socket: InetSocket, key: tuple[int, int]) -> IntOption | None:
    found = _OPTIONS.get(key)
    if found is None and socket.kind != so.SOCK_STREAM:
        found = _DATAGRAM_OPTIONS.get(key)
    return found


def _is_ours(socket: InetSocket, level: int) -> bool:
    return level == _IP or (level == _IPV6 and socket.domain == so.AF_INET6)


# --- reading ---
def get_ip_option(socket: InetSocket, level: int, name: int) -> bytes:
    """EOPNOTSUPP: not a level of this socket; ENOPROTOOPT: no such option; ENOTCONN: there is no route to ask."""
    if not _is_ours(socket, level):
        raise LinuxError(errno.ENOPROTOOPT if socket.domain == so.AF_INET6 else errno.EOPNOTSUPP)
    key = (level, name)
    row = _row(socket, key)
    if row is not None:
        return get_int(socket, key, row)
    if key in ((_IP, in_h.IP_MTU), (_IPV6, in_h.IPV6_MTU)):
        return I32.pack(_mtu(socket))
    if key in ((_IP, in_h.IP_TOS), (_IPV6, in_h.IPV6_TCLASS), (_IP, in_h.IP_UNICAST_IF), (_IPV6, in_h.IPV6_UNICAST_IF)):
        return I32.pack(socket.settings.get(key, 0))
    if key == (_IPV6, in_h.IPV6_V6ONLY):
        return I32.pack(socket.v6_only)
    if key == (_IP, in_h.IP_MULTICAST_IF):
        return multicast.get_interface4(socket)
    if key == (_IPV6, in_h.IPV6_MULTICAST_IF):
        return I32.pack(socket.settings.get(key, 0))
    if key == (_IPV6, in_h.IPV6_ADDRFORM):
        if not socket.remote_port:
            raise LinuxError(errno.ENOTCONN)
        return I32.pack(socket.domain)
    if key == (_IPV6, in_h.IPV6_ADDR_PREFERENCES):
        return I32.pack(socket.settings.get(key, _PREFER_DEFAULT))
    if key == (_IP, in_h.IP_ROUTER_ALERT):
        return I32.pack(0)
    if key == (_IP, in_h.IP_OPTIONS) or (level == _IPV6 and name in _EXTENSION_HEADERS):
        return b""
    if socket.kind == so.SOCK_STREAM:
        if key == (_IP, in_h.IP_RECVFRAGSIZE) or key == (_IPV6, in_h.IPV6_MULTICAST_HOPS):
            return I32.pack(int(level == _IPV6))
        if key == (_IP, in_h.IP_MULTICAST_TTL):
            return I32.pack(1)
        if key in ((_IP, in_h.IP_PKTOPTIONS), (_IPV6, in_h.IPV6_2292PKTOPTIONS)):
            return b""
    raise LinuxError(errno.ENOPROTOOPT)


_EXTENSION_HEADERS: Final = (in_h.IPV6_HOPOPTS, in_h.IPV6_RTHDRDSTOPTS, in_h.IPV6_RTHDR, in_h.IPV6_DSTOPTS)
#: IPV6_PREFER_SRC_PUBTMP_DEFAULT | IPV6_PREFER_SRC_CGA default, as getsockopt(2) shows them.
_PREFER_DEFAULT: Final = 0x500

#: The longest packets of both versions (IP_MAX_MTU, IP6_MAX_MTU).
_MAX_MTU4: Final = 65_535
_MAX_MTU6: Final = 65_575
#: Options whose value may be missing: it is 0 then (net/ipv6/ipv6_sockglue.c has no check for them).
_OPTIONAL6: Final = (in_h.IPV6_DONTFRAG, in_h.IPV6_AUTOFLOWLABEL, in_h.IPV6_RECVFRAGSIZE)


def _mtu(socket: InetSocket) -> int:
    """ENOTCONN: no destination."""
    if not socket.remote_port and not any(socket.remote):
        raise LinuxError(errno.ENOTCONN)
    route = socket.network.route(socket.remote)
    return min(route.interface.mtu, _MAX_MTU4 if len(socket.remote) == 4 else _MAX_MTU6)


# --- writing ---
def set_ip_option(task: Task, socket: InetSocket, level: int, name: int, value: bytes) -> None:
    """ENOPROTOOPT: no such option or level; EINVAL: too short, out of range; EPERM; what memberships report."""
    if not _is_ours(socket, level):
        raise LinuxError(errno.ENOPROTOOPT)
    key = (level, name)
    row = _row(socket, key)
    if row is not None:
        if level == _IPV6 and name in _OPTIONAL6 and len(value) < 4:
            value = bytes(4)
        set_int(task, socket, key, row, _value(level, value, row.needs_value))
    elif key == (_IP, in_h.IP_TOS):
        _set_class(socket, key, _value(level, value, False) & 0xFF)
    elif key == (_IPV6, in_h.IPV6_TCLASS):
        number = _value(level, value, True)
        if not -1 <= number <= 255:
            raise LinuxError(errno.EINVAL)
        _set_class(socket, key, max(number, 0))
    elif key == (_IPV6, in_h.IPV6_V6ONLY):
        number = _value(level, value, True)
        if socket.owns_port:
            raise LinuxError(errno.EINVAL)
        socket.v6_only = bool(number)
    elif key in ((_IP, in_h.IP_UNICAST_IF), (_IPV6, in_h.IPV6_UNICAST_IF)):
        _set_unicast_interface(socket, key, value)
    elif multicast.set_option(socket, level, name, value):
        pass
    elif key == (_IP, in_h.IP_OPTIONS):
        if any(byte > 1 for byte in value):  # end of list and no-operation alone
            raise LinuxError(errno.EINVAL)
    elif key == (_IPV6, in_h.IPV6_ADDR_PREFERENCES):
        if _value(level, value, True) & ~0x57F:
            raise LinuxError(errno.EINVAL)
        socket.settings[key] = _PREFER_DEFAULT
    elif level == _IPV6 and name in _EXTENSION_HEADERS:
        if value:
            raise LinuxError(errno.EINVAL)
    elif key == (_IPV6, in_h.IPV6_2292PKTOPTIONS):
        pass
    elif key == (_IPV6, in_h.IPV6_ADDRFORM) and _value(level, value, True) == so.AF_INET and not socket.remote_port:
        raise LinuxError(errno.ENOTCONN)
    elif key in ((_IP, in_h.IP_ROUTER_ALERT), (_IPV6, in_h.IPV6_PKTINFO), (_IPV6, in_h.IPV6_ADDRFORM)):
        raise LinuxError(errno.EINVAL)
    elif key in ((_IP, in_h.IP_MULTICAST_TTL), (_IP, in_h.IP_RECVFRAGSIZE)):
        raise LinuxError(errno.EINVAL)
    else:
        raise LinuxError(errno.ENOPROTOOPT)


def _value(level: int, value: bytes, needed: bool) -> int:
    """An int; at level IPPROTO_IP one byte will do, and none is 0 unless a value is `needed`. EINVAL."""
    if len(value) >= 4:
        return int(I32.unpack_from(value)[0])
    if level == _IPV6 or (needed and not value):
        raise LinuxError(errno.EINVAL)
    return value[0] if value else 0


def _set_class(socket: InetSocket, key: tuple[int, int], value: int) -> None:
    if socket.kind == so.SOCK_STREAM:
        value = value & ~_ECN | socket.settings.get(key, 0) & _ECN
    socket.settings[key] = value


def _set_unicast_interface(socket: InetSocket, key: tuple[int, int], value: bytes) -> None:
    """The index comes in network order. EADDRNOTAVAIL: no such interface; EINVAL."""
    if len(value) < 4:
        raise LinuxError(errno.EINVAL)
    index = int.from_bytes(value[:4], "big")
    if index and socket.network.interface(index) is None:
        raise LinuxError(errno.EADDRNOTAVAIL)
    socket.settings[key] = int(U32.unpack_from(value)[0])
