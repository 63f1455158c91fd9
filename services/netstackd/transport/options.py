"""Socket options as data: which there are, for which sockets, what they may be, and what they do.

A row names the attribute that holds the value. Those that act (join a group, bind to an interface) or need more than an
integer have a function. Values are ints, except where the row says otherwise: SO_LINGER (on, seconds), memberships
(group, interface index[, source]), SO_BINDTODEVICE and TCP_CONGESTION a name, IP_OPTIONS and ICMP filters bytes.
An option without a row is ENOPROTOOPT, as in Linux. Sources: socket(7), ip(7), ipv6(7), tcp(7), udp(7), raw(7).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.netstackd.errors import NetError
from services.netstackd.transport.base import (
    AF_INET,
    AF_INET6,
    MAX_BUFFER,
    MIN_BUFFER,
    SOL_ICMPV6,
    SOL_IP,
    SOL_IPV6,
    SOL_RAW,
    SOL_SOCKET,
    SOL_UDP,
    DatagramSocket,
    Socket,
)
from services.netstackd.transport.raw import RawSocket
from services.netstackd.transport.udp import UdpSocket
from services.netstackd.wire import ipv4_options
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_ICMPV6, is_multicast

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface

OptionValue = int | bytes | str | tuple[int, ...]

# socket(7)
SO_REUSEADDR: Final = 2
SO_TYPE: Final = 3
SO_ERROR: Final = 4
SO_BROADCAST: Final = 6
SO_SNDBUF: Final = 7
SO_RCVBUF: Final = 8
SO_KEEPALIVE: Final = 9
SO_OOBINLINE: Final = 10
SO_NO_CHECK: Final = 11
SO_PRIORITY: Final = 12
SO_LINGER: Final = 13
SO_REUSEPORT: Final = 15
SO_RCVLOWAT: Final = 18
SO_BINDTODEVICE: Final = 25
SO_ACCEPTCONN: Final = 30
SO_MARK: Final = 36
SO_PROTOCOL: Final = 38
SO_DOMAIN: Final = 39
SO_BINDTOIFINDEX: Final = 62

# ip(7)
IP_TOS: Final = 1
IP_TTL: Final = 2
IP_HDRINCL: Final = 3
IP_OPTIONS: Final = 4
IP_PKTINFO: Final = 8
IP_MTU_DISCOVER: Final = 10
IP_RECVERR: Final = 11
IP_RECVTTL: Final = 12
IP_RECVTOS: Final = 13
IP_MTU: Final = 14
IP_FREEBIND: Final = 15
IP_TRANSPARENT: Final = 19
IP_MINTTL: Final = 21
IP_MULTICAST_IF: Final = 32
IP_MULTICAST_TTL: Final = 33
IP_MULTICAST_LOOP: Final = 34
IP_ADD_MEMBERSHIP: Final = 35
IP_DROP_MEMBERSHIP: Final = 36
IP_UNBLOCK_SOURCE: Final = 37
IP_BLOCK_SOURCE: Final = 38
IP_ADD_SOURCE_MEMBERSHIP: Final = 39
IP_DROP_SOURCE_MEMBERSHIP: Final = 40
IP_MULTICAST_ALL: Final = 49

# ipv6(7)
IPV6_CHECKSUM: Final = 7
IPV6_UNICAST_HOPS: Final = 16
IPV6_MULTICAST_IF: Final = 17
IPV6_MULTICAST_HOPS: Final = 18
IPV6_MULTICAST_LOOP: Final = 19
IPV6_ADD_MEMBERSHIP: Final = 20
IPV6_DROP_MEMBERSHIP: Final = 21
IPV6_MTU_DISCOVER: Final = 23
IPV6_MTU: Final = 24
IPV6_RECVERR: Final = 25
IPV6_V6ONLY: Final = 26
IPV6_MULTICAST_ALL: Final = 29
IPV6_RECVPKTINFO: Final = 49
IPV6_RECVHOPLIMIT: Final = 51
IPV6_DONTFRAG: Final = 62
IPV6_RECVTCLASS: Final = 66
IPV6_TCLASS: Final = 67

UDP_SEGMENT: Final = 103
UDP_NO_CHECK6_TX: Final = 101
ICMP_FILTER: Final = 1
ICMP6_FILTER: Final = 1

PMTUDISC_PROBE: Final = 3


class Row:
    """One option that is a number in an attribute. `low` and `high` bound it (EINVAL); a bool takes any int."""

    __slots__ = ("attribute", "high", "kinds", "low", "truth")

    def __init__(self, attribute: str, low: int, high: int, kinds: tuple[type[Socket], ...], truth: bool) -> None:
        self.attribute = attribute
        self.low = low
        self.high = high
        self.kinds = kinds
        self.truth = truth


def _number(attribute: str, low: int, high: int, *kinds: type[Socket]) -> Row:
    return Row(attribute, low, high, kinds or (Socket,), False)


def _truth(attribute: str, *kinds: type[Socket]) -> Row:
    return Row(attribute, 0, 0, kinds or (Socket,), True)


ROWS: Final[dict[tuple[int, int], Row]] = {
    (SOL_SOCKET, SO_REUSEADDR): _truth("reuse_address"),
    (SOL_SOCKET, SO_REUSEPORT): _truth("reuse_port"),
    (SOL_SOCKET, SO_BROADCAST): _truth("broadcast", DatagramSocket),
    (SOL_SOCKET, SO_NO_CHECK): _truth("no_check", DatagramSocket),
    (SOL_SOCKET, SO_PRIORITY): _number("priority", 0, 6),
    (SOL_SOCKET, SO_MARK): _number("mark", 0, 0xFFFFFFFF),
    (SOL_IP, IP_TOS): _number("tos", 0, 255),
    (SOL_IP, IP_TTL): _number("ttl", -1, 255),
    (SOL_IP, IP_HDRINCL): _truth("header_included", RawSocket),
    (SOL_IP, IP_PKTINFO): _truth("receive_info", DatagramSocket),
    (SOL_IP, IP_MTU_DISCOVER): _number("pmtu_discover", 0, 5),
    (SOL_IP, IP_RECVERR): _truth("receive_errors", DatagramSocket),
    (SOL_IP, IP_RECVTTL): _truth("receive_ttl", DatagramSocket),
    (SOL_IP, IP_RECVTOS): _truth("receive_tos", DatagramSocket),
    (SOL_IP, IP_FREEBIND): _truth("freebind"),
    (SOL_IP, IP_TRANSPARENT): _truth("freebind"),
    (SOL_IP, IP_MINTTL): _number("min_ttl", 0, 255),
    (SOL_IP, IP_MULTICAST_TTL): _number("multicast_ttl", -1, 255, DatagramSocket),
    (SOL_IP, IP_MULTICAST_LOOP): _truth("multicast_loop", DatagramSocket),
    (SOL_IP, IP_MULTICAST_ALL): _truth("multicast_all", DatagramSocket),
    (SOL_IPV6, IPV6_CHECKSUM): _number("checksum_offset", -1, 65534, RawSocket),
    (SOL_IPV6, IPV6_UNICAST_HOPS): _number("ttl", -1, 255),
    (SOL_IPV6, IPV6_MULTICAST_HOPS): _number("multicast_ttl", -1, 255, DatagramSocket),
    (SOL_IPV6, IPV6_MULTICAST_LOOP): _truth("multicast_loop", DatagramSocket),
    (SOL_IPV6, IPV6_MULTICAST_ALL): _truth("multicast_all", DatagramSocket),
    (SOL_IPV6, IPV6_MTU_DISCOVER): _number("pmtu_discover", 0, 5),
    (SOL_IPV6, IPV6_RECVERR): _truth("receive_errors6", DatagramSocket),
    (SOL_IPV6, IPV6_RECVPKTINFO): _truth("receive_info", DatagramSocket),
    (SOL_IPV6, IPV6_RECVHOPLIMIT): _truth("receive_ttl", DatagramSocket),
    (SOL_IPV6, IPV6_RECVTCLASS): _truth("receive_tos", DatagramSocket),
    (SOL_IPV6, IPV6_TCLASS): _number("tos", -1, 255),
    (SOL_IPV6, IPV6_DONTFRAG): _truth("dont_fragment6", DatagramSocket),
    (SOL_UDP, UDP_SEGMENT): _number("segment_size", 0, 65535, UdpSocket),
    (SOL_RAW, IPV6_CHECKSUM): _number("checksum_offset", -1, 65534, RawSocket),
}

# Options of level IPPROTO_IPV6 are for IPv6 sockets alone.
_IPV6_LEVELS: Final = (SOL_IPV6,)


def get_option(socket: Socket, level: int, name: int) -> OptionValue:
    """getsockopt(2). NetError: ENOPROTOOPT, and what a function says."""
    _check_family(socket, level)
    reader = _READERS.get((level, name))
    if reader is not None:
        return reader(socket)
    row = _row(socket, level, name)
    return int(getattr(socket, row.attribute))


def set_option(socket: Socket, level: int, name: int, value: OptionValue) -> None:
    """setsockopt(2). NetError: ENOPROTOOPT, EINVAL, and what a function says."""
    _check_family(socket, level)
    writer = _WRITERS.get((level, name))
    if writer is not None:
        writer(socket, value)
        return
    row = _row(socket, level, name)
    number = as_int(value)
    if row.truth:
        setattr(socket, row.attribute, bool(number))
        return
    if not row.low <= number <= row.high:
        raise NetError(errno.EINVAL, f"option {name} of level {level}: {number} is out of range")
    if row.attribute == "tos" and number < 0:
        number = 0
    if row.attribute == "multicast_ttl" and number < 0:
        number = 1
    setattr(socket, row.attribute, number)


def as_int(value: OptionValue) -> int:
    """The integer that an option needs. NetError: EINVAL."""
    if isinstance(value, int):
        return value
    raise NetError(errno.EINVAL, "the option takes a number")


def _check_family(socket: Socket, level: int) -> None:
    if level in _IPV6_LEVELS and socket.family != AF_INET6:
        raise NetError(errno.ENOPROTOOPT, "an IPv6 option of a socket that is none")


def _row(socket: Socket, level: int, name: int) -> Row:
    row = ROWS.get((level, name))
    if row is None or not isinstance(socket, row.kinds) or not hasattr(socket, row.attribute):
        raise NetError(errno.ENOPROTOOPT, f"no option {name} of level {level}")
    return row


def _tuple(value: OptionValue, least: int) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) < least:
        raise NetError(errno.EINVAL, f"the option takes {least} numbers")
    return value


def _datagram(socket: Socket) -> DatagramSocket:
    if not isinstance(socket, DatagramSocket):
        raise NetError(errno.ENOPROTOOPT, "not an option of this socket")
    return socket


# -- SOL_SOCKET --


def _set_receive_buffer(socket: Socket, value: OptionValue) -> None:
    """Linux doubles what is asked for, for its own overhead."""
    socket.rcvbuf = max(min(as_int(value), MAX_BUFFER) * 2, MIN_BUFFER)


def _set_send_buffer(socket: Socket, value: OptionValue) -> None:
    socket.sndbuf = max(min(as_int(value), MAX_BUFFER) * 2, MIN_BUFFER * 2)


def _set_device(socket: Socket, value: OptionValue) -> None:
    """SO_BINDTODEVICE: a name, "" for none; SO_BINDTOIFINDEX: an index, 0 for none. NetError: ENODEV."""
    if isinstance(value, int):
        found = socket.stack.interfaces.get(value) if value else None
        missing = value != 0 and found is None
    else:
        name = value.decode("ascii", "replace").rstrip("\0") if isinstance(value, bytes) else str(value)
        found = socket.stack.interface(name) if name else None
        missing = bool(name) and found is None
    if missing:
        raise NetError(errno.ENODEV, "no such interface")
    socket.device = found
    binding = getattr(socket, "binding", None)
    if binding is not None:
        binding.device = found


def _get_device(socket: Socket) -> OptionValue:
    return "" if socket.device is None else socket.device.name


# -- IP level --


def _set_ip_options(socket: Socket, value: OptionValue) -> None:
    owner = _datagram(socket)
    if not isinstance(value, bytes) or len(value) > 40:
        raise NetError(errno.EINVAL, "IP options are at most 40 bytes")
    padded = value + bytes(-len(value) % 4)
    if ipv4_options.check_untrusted(padded)[0] >= 0:
        raise NetError(errno.EINVAL, "malformed IP options")
    owner.options = padded


def _set_multicast_device(socket: Socket, value: OptionValue) -> None:
    """IP_MULTICAST_IF takes (address, interface index), IPV6_MULTICAST_IF an index. NetError: EADDRNOTAVAIL, ENODEV."""
    owner = _datagram(socket)
    if isinstance(value, tuple):
        address, index = _tuple(value, 2)[:2]
    else:
        address, index = 0, as_int(value)
    if not index and not address:
        owner.multicast_device = None
        return
    found = owner.stack.interfaces.get(index) if index else owner.stack.interface_of(4, address)
    if found is None:
        raise NetError(errno.ENODEV if index else errno.EADDRNOTAVAIL, "no such interface")
    owner.multicast_device = found


def _group_interface(socket: DatagramSocket, version: int, group: int, index: int) -> Interface:
    if not is_multicast(version, group):
        raise NetError(errno.EINVAL, "not a multicast group")
    if index:
        found = socket.stack.interfaces.get(index)
    else:
        found = socket.stack.routing(version).output(group, 0, socket.device).out
    if found is None:
        raise NetError(errno.ENODEV, "no interface for the group")
    return found


def _membership(version: int, add: bool) -> Callable[[Socket, OptionValue], None]:
    def change(socket: Socket, value: OptionValue) -> None:
        """(group, interface index)"""
        owner = _datagram(socket)
        group, index = _tuple(value, 2)[:2]
        iface = _group_interface(owner, version, group, index)
        if add:
            owner.join(version, group, iface)
        else:
            owner.leave(version, group, iface)

    return change


def _source(allow: bool, any_source: bool) -> Callable[[Socket, OptionValue], None]:
    def change(socket: Socket, value: OptionValue) -> None:
        """(group, interface index, source)"""
        owner = _datagram(socket)
        group, index, source = _tuple(value, 3)[:3]
        iface = _group_interface(owner, 4, group, index)
        owner.change_source(4, group, iface, source, allow=allow, any_source=any_source)

    return change


def _get_mtu(socket: Socket) -> OptionValue:
    """IP_MTU, IPV6_MTU: of the path to the connected peer. NetError: ENOTCONN."""
    remote = getattr(socket, "remote", None)
    if remote is None:
        raise NetError(errno.ENOTCONN, "not connected")
    version, address = socket.to_wire(remote[0])
    way = socket.stack.routing(version).output(address, 0, socket.device)
    if way.error:
        raise NetError(way.error, "no route")
    return way.mtu


def _set_v6only(socket: Socket, value: OptionValue) -> None:
    if getattr(socket, "binding", None) is not None:
        raise NetError(errno.EINVAL, "already bound")
    socket.v6only = bool(as_int(value))  # type: ignore[attr-defined]


def _set_filter(socket: Socket, value: OptionValue) -> None:
    """Bytes as in the C structures: struct icmp_filter (native order), struct icmp6_filter (eight such words)."""
    if not isinstance(socket, RawSocket) or socket.protocol not in (PROTO_ICMP, PROTO_ICMPV6):
        raise NetError(errno.EOPNOTSUPP, "not a raw ICMP socket")
    if not isinstance(value, bytes) or len(value) > 32:
        raise NetError(errno.EINVAL, "a filter is 4 or 32 bytes")
    socket.icmp_filter = int.from_bytes(value, "little")


def _get_filter(socket: Socket) -> OptionValue:
    if not isinstance(socket, RawSocket):
        raise NetError(errno.EOPNOTSUPP, "not a raw ICMP socket")
    return socket.icmp_filter.to_bytes(4 if socket.family == AF_INET else 32, "little")


_READERS: Final[dict[tuple[int, int], Callable[[Socket], OptionValue]]] = {
    (SOL_SOCKET, SO_TYPE): lambda socket: socket.type,
    (SOL_SOCKET, SO_ERROR): lambda socket: socket.take_error(),
    (SOL_SOCKET, SO_DOMAIN): lambda socket: socket.family,
    (SOL_SOCKET, SO_PROTOCOL): lambda socket: socket.protocol,
    (SOL_SOCKET, SO_ACCEPTCONN): lambda socket: int(getattr(socket, "listener", None) is not None),
    (SOL_SOCKET, SO_RCVBUF): lambda socket: socket.rcvbuf,
    (SOL_SOCKET, SO_SNDBUF): lambda socket: socket.sndbuf,
    (SOL_SOCKET, SO_BINDTODEVICE): _get_device,
    (SOL_SOCKET, SO_BINDTOIFINDEX): lambda socket: 0 if socket.device is None else socket.device.index,
    (SOL_IP, IP_OPTIONS): lambda socket: _datagram(socket).options,
    (SOL_IP, IP_MTU): _get_mtu,
    (SOL_IPV6, IPV6_MTU): _get_mtu,
    (SOL_IPV6, IPV6_V6ONLY): lambda socket: int(getattr(socket, "v6only", False)),
    (SOL_RAW, ICMP_FILTER): _get_filter,
    (SOL_ICMPV6, ICMP6_FILTER): _get_filter,
}


def _read_only(socket: Socket, value: OptionValue) -> None:
    raise NetError(errno.ENOPROTOOPT, "the option cannot be set")


_WRITERS: Final[dict[tuple[int, int], Callable[[Socket, OptionValue], None]]] = {
    (SOL_SOCKET, SO_TYPE): _read_only,
    (SOL_SOCKET, SO_ERROR): _read_only,
    (SOL_SOCKET, SO_DOMAIN): _read_only,
    (SOL_SOCKET, SO_PROTOCOL): _read_only,
    (SOL_SOCKET, SO_ACCEPTCONN): _read_only,
    (SOL_SOCKET, SO_RCVBUF): _set_receive_buffer,
    (SOL_SOCKET, SO_SNDBUF): _set_send_buffer,
    (SOL_SOCKET, SO_BINDTODEVICE): _set_device,
    (SOL_SOCKET, SO_BINDTOIFINDEX): _set_device,
    (SOL_IP, IP_OPTIONS): _set_ip_options,
    (SOL_IP, IP_MULTICAST_IF): _set_multicast_device,
    (SOL_IP, IP_ADD_MEMBERSHIP): _membership(4, True),
    (SOL_IP, IP_DROP_MEMBERSHIP): _membership(4, False),
    (SOL_IP, IP_BLOCK_SOURCE): _source(False, True),
    (SOL_IP, IP_UNBLOCK_SOURCE): _source(True, True),
    (SOL_IP, IP_ADD_SOURCE_MEMBERSHIP): _source(True, False),
    (SOL_IP, IP_DROP_SOURCE_MEMBERSHIP): _source(False, False),
    (SOL_IPV6, IPV6_MULTICAST_IF): _set_multicast_device,
    (SOL_IPV6, IPV6_ADD_MEMBERSHIP): _membership(6, True),
    (SOL_IPV6, IPV6_DROP_MEMBERSHIP): _membership(6, False),
    (SOL_IPV6, IPV6_V6ONLY): _set_v6only,
    (SOL_RAW, ICMP_FILTER): _set_filter,
    (SOL_ICMPV6, ICMP6_FILTER): _set_filter,
}
