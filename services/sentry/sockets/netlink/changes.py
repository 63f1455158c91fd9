"""NETLINK_ROUTE requests that change the network: what `ip addr`, `ip route`, `ip link`, `ip neigh` ask (rtnetlink(7)).

A handler takes a request apart and asks the network for the change (`InetNetwork.configure`); who asks has
CAP_NET_ADMIN already. What cannot be changed in a sandbox (new devices, names, rules) gives EOPNOTSUPP.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import netlink_h as nl
from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.abi.layout import U32
from services.sentry.errors import LinuxError
from services.sentry.sockets.netlink.messages import Request, attributes_untrusted

if TYPE_CHECKING:
    from services.sentry.sockets.inet.network import InetNetwork

__all__ = ["CHANGES"]

_Change = Callable[["InetNetwork", Request], None]

_SIZES: Final = {so.AF_INET: 4, so.AF_INET6: 16}
#: struct ndmsg (linux/neighbour.h): family, interface, state, flags, type.
_NDMSG: Final = struct.Struct("<B3xiHBB")
_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2


def _u32(raw: bytes | None) -> int:
    """EINVAL: not four bytes."""
    if raw is None or len(raw) < 4:
        raise LinuxError(errno.EINVAL)
    return int(U32.unpack_from(raw)[0])


def _address(family: int, raw: bytes | None) -> bytes:
    """EINVAL: missing, or not of the family; EAFNOSUPPORT."""
    size = _SIZES.get(family)
    if size is None:
        raise LinuxError(errno.EAFNOSUPPORT)
    if raw is None or len(raw) != size:
        raise LinuxError(errno.EINVAL)
    return raw


def _head(request: Request, layout: struct.Struct) -> tuple[tuple[int, ...], dict[int, bytes]]:
    """The fixed part and the attributes. EINVAL: too short."""
    if len(request.body) < layout.size:
        raise LinuxError(errno.EINVAL)
    return layout.unpack_from(request.body), attributes_untrusted(request.body[layout.size :])


def _named_address(request: Request) -> dict[str, object]:
    (family, length, _, scope, index), attributes = _head(request, rt.IFADDRMSG)
    local = _address(family, attributes.get(rt.IFA_LOCAL, attributes.get(rt.IFA_ADDRESS)))
    if length > len(local) * 8:
        raise LinuxError(errno.EINVAL)
    values: dict[str, object] = {"interface": index & 0x7FFFFFFF, "address": local, "length": length}
    if request.kind == rt.RTM_DELADDR:
        return values
    values["scope"] = scope
    peer = attributes.get(rt.IFA_ADDRESS, local)
    if peer != local:
        values["peer"] = _address(family, peer)
    if rt.IFA_BROADCAST in attributes:
        values["broadcast"] = _address(family, attributes[rt.IFA_BROADCAST])
    return values


def _new_address(network: InetNetwork, request: Request) -> None:
    """EEXIST, EINVAL, ENODEV."""
    values = _named_address(request)
    if network.interface(int(str(values["interface"]))) is None:
        raise LinuxError(errno.ENODEV)
    network.configure("address_add", values)


def _delete_address(network: InetNetwork, request: Request) -> None:
    """EADDRNOTAVAIL: it is not there."""
    network.configure("address_delete", _named_address(request))


def _named_route(request: Request) -> dict[str, object]:
    (family, length, _, _, table, protocol, scope, kind, _), attributes = _head(request, rt.RTMSG)
    size = _SIZES.get(family)
    if size is None:
        raise LinuxError(errno.EAFNOSUPPORT)
    if length > size * 8:
        raise LinuxError(errno.EINVAL)
    values: dict[str, object] = {"destination": bytes(size), "length": length}
    if rt.RTA_DST in attributes:
        # The prefix as a whole address: what comes may be cut to the bytes that count.
        values["destination"] = attributes[rt.RTA_DST][:size].ljust(size, b"\0")
    if rt.RTA_GATEWAY in attributes:
        values["gateway"] = _address(family, attributes[rt.RTA_GATEWAY])
    if rt.RTA_OIF in attributes:
        values["interface"] = _u32(attributes[rt.RTA_OIF]) & 0x7FFFFFFF
    if rt.RTA_PRIORITY in attributes:
        values["metric"] = _u32(attributes[rt.RTA_PRIORITY])
    values["table"] = _u32(attributes[rt.RTA_TABLE]) if rt.RTA_TABLE in attributes else table or rt.RT_TABLE_MAIN
    if kind:
        values["type"] = kind
    if request.kind == rt.RTM_NEWROUTE:
        values["scope"] = scope
        values["protocol"] = protocol
        if rt.RTA_PREFSRC in attributes:
            values["source"] = _address(family, attributes[rt.RTA_PREFSRC])
        if request.flags & nl.NLM_F_REPLACE:
            values["replace"] = 1
    return values


def _new_route(network: InetNetwork, request: Request) -> None:
    """EEXIST, ENETUNREACH: no way to the gateway; EINVAL."""
    network.configure("route_add", _named_route(request))


def _delete_route(network: InetNetwork, request: Request) -> None:
    """ESRCH: it is not there."""
    network.configure("route_delete", _named_route(request))


def _set_link(network: InetNetwork, request: Request) -> None:
    """Up or down, MTU and hardware address. ENODEV; EOPNOTSUPP: a new device, a new name, a master."""
    (_, _, index, flags, change), attributes = _head(request, rt.IFINFOMSG)
    name = attributes.get(rt.IFLA_IFNAME)
    found = network.interface(index) if index > 0 else None
    if found is None and name is not None and index <= 0:
        found = network.interface_named(name.rstrip(b"\0"))
        if found is None and request.flags & nl.NLM_F_CREATE:
            raise LinuxError(errno.EOPNOTSUPP)
    if found is None:
        raise LinuxError(errno.ENODEV)
    if (name is not None and name.rstrip(b"\0") != found.name) or rt.IFLA_MASTER in attributes:
        raise LinuxError(errno.EOPNOTSUPP)
    values: dict[str, object] = {"interface": found.ifindex}
    if change & rt.IFF_UP:
        values["up"] = int(bool(flags & rt.IFF_UP))
    if rt.IFLA_MTU in attributes:
        values["mtu"] = _u32(attributes[rt.IFLA_MTU]) & 0x7FFFFFFF
    if rt.IFLA_ADDRESS in attributes:
        values["mac"] = attributes[rt.IFLA_ADDRESS]
        if len(attributes[rt.IFLA_ADDRESS]) != 6:
            raise LinuxError(errno.EINVAL)
    if len(values) > 1:
        network.configure("link_set", values)


def _named_neighbour(request: Request) -> tuple[dict[str, object], int, dict[int, bytes]]:
    (family, index, state, _, _), attributes = _head(request, _NDMSG)
    address = _address(family, attributes.get(_NDA_DST))
    return {"interface": index & 0x7FFFFFFF, "address": address}, state, attributes


def _new_neighbour(network: InetNetwork, request: Request) -> None:
    values, state, attributes = _named_neighbour(request)
    hardware = attributes.get(_NDA_LLADDR, b"")
    if len(hardware) != 6:
        raise LinuxError(errno.EINVAL)
    network.configure("neighbour_set", values | {"mac": hardware, "state": state})


def _delete_neighbour(network: InetNetwork, request: Request) -> None:
    """ENOENT."""
    network.configure("neighbour_delete", _named_neighbour(request)[0])


CHANGES: Final[dict[int, _Change]] = {
    rt.RTM_NEWADDR: _new_address,
    rt.RTM_DELADDR: _delete_address,
    rt.RTM_NEWROUTE: _new_route,
    rt.RTM_DELROUTE: _delete_route,
    rt.RTM_NEWLINK: _set_link,
    rt.RTM_SETLINK: _set_link,
    rt.RTM_NEWNEIGH: _new_neighbour,
    rt.RTM_DELNEIGH: _delete_neighbour,
}
