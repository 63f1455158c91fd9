"""NETLINK_ROUTE: links, addresses, routes, rules and neighbours of the sandbox, to be read (rtnetlink(7)).

A handler takes the request's body and gives replies; it raises LinuxError for what the answer is an error to. Changes,
which need CAP_NET_ADMIN, are in changes.py; what is told to multicast groups, notices.py makes of `link_reply`,
`address_reply` and `route_reply`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ca
from protocol.abi import netlink_h as nl
from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.abi.layout import I32, U32
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.interfaces import NOTHING_COUNTED, LinkCounters
from services.sentry.sockets.netlink.changes import CHANGES
from services.sentry.sockets.netlink.messages import Reply, Request, attributes_untrusted, packed

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.sockets.inet.interfaces import Interface, InterfaceAddress, RouteEntry
    from services.sentry.sockets.inet.network import InetNetwork

__all__ = ["address_reply", "answer", "link_reply", "route_reply"]

_FOREVER: Final = b"\xff" * 4
_OPERSTATE_UNKNOWN: Final = 0
_OPERSTATE_DOWN: Final = 2
_OPERSTATE_UP: Final = 6
_TENTATIVE: Final = rt.IFA_F_TENTATIVE
#: struct ndmsg (linux/neighbour.h): family, interface, state, flags, type.
_NDMSG: Final = struct.Struct("<B3xiHBB")
_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2
#: struct rtnl_link_stats64 and rtnl_link_stats: 8 counters that there are, and 17 or 16 that nothing adds to.
_STATS64: Final = struct.Struct("<8Q136x")
_STATS: Final = struct.Struct("<8I64x")
_FR_ACT_TO_TBL: Final = 1
_FRA_PRIORITY: Final = 6
_FRA_SUPPRESS_PREFIXLEN: Final = 14
_FRA_PROTOCOL: Final = 21
_TCA_KIND: Final = 1
_RTA_UID: Final = 25
_RTA_PREF: Final = 20
_TCMSG_BYTES: Final = 20
_NOQUEUE: Final = b"noqueue\0"

_Handler = Callable[["InetNetwork", bytes, bool], Iterable[Reply]]


def answer(task: Task, network: InetNetwork, request: Request) -> tuple[Iterable[Reply], bool]:
    """(replies, whether they are a dump). EPERM, EOPNOTSUPP, EINVAL, ENODEV, ENETUNREACH."""
    kind = request.kind
    if not rt.RTM_BASE <= kind <= rt.RTM_MAX:
        raise LinuxError(errno.EOPNOTSUPP)
    if kind & 3 != 2 and not task.cred.has_cap(ca.CAP_NET_ADMIN):  # of four types, the third is the one that reads
        raise LinuxError(errno.EPERM)
    change = CHANGES.get(kind)
    if change is not None:
        change(network, request)
        return (), False
    handler = _HANDLERS.get(kind)
    if handler is None or not request.body:
        raise LinuxError(errno.EOPNOTSUPP if handler is None else errno.EINVAL)
    dump = request.flags & nl.NLM_F_DUMP == nl.NLM_F_DUMP
    return handler(network, request.body, dump), dump


# --- links ---
def _operating(interface: Interface) -> int:
    if interface.flags & rt.IFF_LOOPBACK:
        return _OPERSTATE_UNKNOWN
    return _OPERSTATE_UP if interface.flags & rt.IFF_RUNNING else _OPERSTATE_DOWN


def _statistics(found: LinkCounters) -> tuple[int, ...]:
    """In the order of struct rtnl_link_stats64 (linux/if_link.h)."""
    return (
        found.rx_packets, found.tx_packets, found.rx_bytes, found.tx_bytes,
        found.rx_errors, found.tx_errors, found.rx_dropped, found.tx_dropped,
    )  # fmt: skip


def link_reply(interface: Interface, kind: int = rt.RTM_NEWLINK, counters: LinkCounters = NOTHING_COUNTED) -> Reply:
    statistics = _statistics(counters)
    body = rt.IFINFOMSG.pack(so.AF_UNSPEC, interface.kind, interface.ifindex, interface.flags, 0)
    attributes = (
        (rt.IFLA_IFNAME, interface.name + b"\0"),
        (rt.IFLA_TXQLEN, U32.pack(1000)),
        (rt.IFLA_OPERSTATE, bytes((_operating(interface),))),
        (rt.IFLA_LINKMODE, b"\0"),
        (rt.IFLA_MTU, U32.pack(interface.mtu)),
        (rt.IFLA_GROUP, U32.pack(0)),
        (rt.IFLA_NUM_TX_QUEUES, U32.pack(1)),
        (rt.IFLA_NUM_RX_QUEUES, U32.pack(1)),
        (rt.IFLA_CARRIER, bytes((int(bool(interface.flags & rt.IFF_LOWER_UP)),))),
        (rt.IFLA_ADDRESS, interface.hardware),
        (rt.IFLA_BROADCAST, bytes(6) if interface.flags & rt.IFF_LOOPBACK else b"\xff" * 6),
        (rt.IFLA_STATS64, _STATS64.pack(*statistics)),
        (rt.IFLA_STATS, _STATS.pack(*(number & 0xFFFFFFFF for number in statistics))),
        (rt.IFLA_QDISC, _NOQUEUE),
    )
    return Reply(kind, body + packed(attributes))


def _links(network: InetNetwork, body: bytes, dump: bool) -> Iterator[Reply]:
    """All of a dump; one by index or IFLA_IFNAME else. ENODEV."""
    counters = network.counters()
    if dump:
        for interface in network.interfaces():
            yield link_reply(interface, counters=counters.get(interface.ifindex, NOTHING_COUNTED))
        return
    if len(body) < rt.IFINFOMSG.size:
        raise LinuxError(errno.EINVAL)
    index = rt.IFINFOMSG.unpack_from(body)[2]
    name = attributes_untrusted(body[rt.IFINFOMSG.size :]).get(rt.IFLA_IFNAME)
    if index > 0:
        found = network.interface(index)
    elif name is not None:
        found = network.interface_named(name.rstrip(b"\0"))
    else:
        raise LinuxError(errno.EINVAL)
    if found is None:
        raise LinuxError(errno.ENODEV)
    yield link_reply(found, counters=counters.get(found.ifindex, NOTHING_COUNTED))


# --- addresses ---
def address_reply(interface: Interface, own: InterfaceAddress, kind: int = rt.RTM_NEWADDR) -> Reply:
    four = len(own.address) == 4
    family = so.AF_INET if four else so.AF_INET6
    body = rt.IFADDRMSG.pack(family, own.prefix, own.flags & 0xFF, own.scope, interface.ifindex)
    attributes = [(rt.IFA_ADDRESS, own.address)]
    if four:
        attributes += [(rt.IFA_LOCAL, own.address), (rt.IFA_LABEL, interface.name + b"\0")]
        if own.broadcast:
            attributes.append((rt.IFA_BROADCAST, own.broadcast))
    attributes += [
        (rt.IFA_FLAGS, U32.pack(own.flags)),
        (rt.IFA_CACHEINFO, _FOREVER * 2 + bytes(8)),
    ]
    return Reply(kind, body + packed(attributes))


def _addresses(network: InetNetwork, body: bytes, dump: bool) -> Iterator[Reply]:
    if not dump:
        raise LinuxError(errno.EOPNOTSUPP)
    family = body[0]
    index = rt.IFADDRMSG.unpack_from(body)[4] if len(body) >= rt.IFADDRMSG.size else 0
    for wanted in (so.AF_INET, so.AF_INET6):
        if family not in (so.AF_UNSPEC, wanted):
            continue
        for interface in network.interfaces():
            if index in (0, interface.ifindex):
                for own in interface.addresses:
                    if (len(own.address) == 4) == (wanted == so.AF_INET):
                        yield address_reply(interface, own)


# --- routes ---
def _route(family: int, prefix: int, kind: int, scope: int, attributes: list[tuple[int, bytes]]) -> Reply:
    table = rt.RT_TABLE_LOCAL
    body = rt.RTMSG.pack(family, prefix, 0, 0, table, rt.RTPROT_KERNEL, scope, kind, 0)
    return Reply(rt.RTM_NEWROUTE, body + packed([(rt.RTA_TABLE, U32.pack(table)), *attributes]))


def _local_routes(interface: Interface, own: InterfaceAddress) -> Iterator[Reply]:
    """What the kernel puts into the table `local` for an address."""
    out = (rt.RTA_OIF, U32.pack(interface.ifindex))
    if len(own.address) == 16:
        attributes = [(rt.RTA_DST, own.address), (rt.RTA_PRIORITY, U32.pack(0)), out, (_RTA_PREF, b"\0")]
        yield _route(so.AF_INET6, 128, rt.RTN_LOCAL, rt.RT_SCOPE_UNIVERSE, attributes)
        return
    mask = (0xFFFFFFFF << (32 - own.prefix)) & 0xFFFFFFFF
    number = int.from_bytes(own.address, "big")
    source = (rt.RTA_PREFSRC, own.address)
    if interface.flags & rt.IFF_LOOPBACK:
        subnet = (number & mask).to_bytes(4, "big")
        attributes = [(rt.RTA_DST, subnet), source, out]
        yield _route(so.AF_INET, own.prefix, rt.RTN_LOCAL, rt.RT_SCOPE_HOST, attributes)
    yield _route(so.AF_INET, 32, rt.RTN_LOCAL, rt.RT_SCOPE_HOST, [(rt.RTA_DST, own.address), source, out])
    broadcast = own.broadcast or (number | ~mask & 0xFFFFFFFF).to_bytes(4, "big")
    yield _route(so.AF_INET, 32, rt.RTN_BROADCAST, rt.RT_SCOPE_LINK, [(rt.RTA_DST, broadcast), source, out])


def route_reply(route: RouteEntry, kind: int = rt.RTM_NEWROUTE) -> Reply:
    """An entry of a routing table."""
    family = so.AF_INET if len(route.destination) == 4 else so.AF_INET6
    table = route.table if route.table < 256 else rt.RT_TABLE_UNSPEC
    body = rt.RTMSG.pack(family, route.length, 0, 0, table, route.protocol, route.scope, route.kind, 0)
    attributes = [(rt.RTA_TABLE, U32.pack(route.table))]
    if route.length:
        attributes.append((rt.RTA_DST, route.destination))
    if route.metric or family == so.AF_INET6:
        attributes.append((rt.RTA_PRIORITY, U32.pack(route.metric)))
    if route.gateway:
        attributes.append((rt.RTA_GATEWAY, route.gateway))
    if route.source:
        attributes.append((rt.RTA_PREFSRC, route.source))
    if route.interface:
        attributes.append((rt.RTA_OIF, U32.pack(route.interface)))
    if family == so.AF_INET6:
        attributes += [(rt.RTA_CACHEINFO, bytes(32)), (_RTA_PREF, b"\0")]
    return Reply(kind, body + packed(attributes))


def _routes(network: InetNetwork, body: bytes, dump: bool) -> Iterator[Reply]:
    """A dump needs no more than the family, as busybox's `ip` sends it (inet_dump_fib); EINVAL: too short."""
    family = body[0]
    if not dump:
        if len(body) < rt.RTMSG.size:
            raise LinuxError(errno.EINVAL)
        yield _one_route(network, family, attributes_untrusted(body[rt.RTMSG.size :]))
        return
    for size, number in ((4, so.AF_INET), (16, so.AF_INET6)):
        if family in (so.AF_UNSPEC, number):
            yield from (
                route_reply(route)
                for route in network.routes()
                if len(route.destination) == size and route.table != rt.RT_TABLE_LOCAL
            )
            for interface in network.interfaces():
                for own in interface.addresses:
                    if len(own.address) == size and not own.flags & _TENTATIVE:
                        yield from _local_routes(interface, own)


def _one_route(network: InetNetwork, family: int, attributes: dict[int, bytes]) -> Reply:
    """`ip route get`. ENETUNREACH; EINVAL: no destination of the family."""
    size = 4 if family == so.AF_INET else 16
    destination = attributes.get(rt.RTA_DST, b"")
    if family not in (so.AF_INET, so.AF_INET6) or len(destination) != size:
        raise LinuxError(errno.EINVAL)
    wanted = attributes.get(rt.RTA_OIF, b"")
    route = network.route(destination, U32.unpack(wanted)[0] if len(wanted) == 4 else 0)
    interface = route.interface
    local = route.kind == rt.RTN_LOCAL
    table = rt.RT_TABLE_MAIN if family == so.AF_INET or not local else rt.RT_TABLE_LOCAL
    flags = rt.RTM_F_CLONED | (0x80000000 if family == so.AF_INET and local else 0)  # RTCF_LOCAL, as IPv4 shows it
    body = rt.RTMSG.pack(family, size * 8, 0, 0, table, rt.RTPROT_UNSPEC, rt.RT_SCOPE_UNIVERSE, route.kind, flags)
    found = [
        (rt.RTA_TABLE, U32.pack(table)),
        (rt.RTA_DST, destination),
        (rt.RTA_OIF, U32.pack(interface.ifindex)),
        (rt.RTA_PREFSRC, route.source),
    ]
    if route.gateway:
        found.append((rt.RTA_GATEWAY, route.gateway))
    if family == so.AF_INET:
        found.append((_RTA_UID, U32.pack(0)))
    found.append((rt.RTA_CACHEINFO, bytes(32)))
    return Reply(rt.RTM_NEWROUTE, body + packed(found))


# --- the rest ---
def _rules(network: InetNetwork, body: bytes, dump: bool) -> Iterator[Reply]:
    """The three that every host begins with (ip-rule(8)); IPv6 has no table `default`."""
    for family in (so.AF_INET, so.AF_INET6):
        if body[0] not in (so.AF_UNSPEC, family):
            continue
        tables = [(rt.RT_TABLE_LOCAL, 0), (rt.RT_TABLE_MAIN, 32_766)]
        if family == so.AF_INET:
            tables.append((rt.RT_TABLE_DEFAULT, 32_767))
        for table, priority in tables:
            head = rt.RTMSG.pack(family, 0, 0, 0, table, 0, 0, _FR_ACT_TO_TBL, 0)
            attributes = [
                (rt.RTA_TABLE, U32.pack(table)),
                (_FRA_SUPPRESS_PREFIXLEN, _FOREVER),
                (_FRA_PROTOCOL, bytes((rt.RTPROT_KERNEL,))),
            ]
            if priority:
                attributes.append((_FRA_PRIORITY, U32.pack(priority)))
            yield Reply(rt.RTM_NEWRULE, head + packed(attributes))


def _queues(network: InetNetwork, body: bytes, dump: bool) -> Iterator[Reply]:
    """Each interface has the queueing discipline that queues nothing."""
    for interface in network.interfaces():
        head = b"".join((bytes(4), I32.pack(interface.ifindex), bytes(4), _FOREVER, U32.pack(2)))
        assert len(head) == _TCMSG_BYTES
        yield Reply(rt.RTM_NEWQDISC, head + packed([(_TCA_KIND, _NOQUEUE)]))


def _neighbours(network: InetNetwork, body: bytes, dump: bool) -> Iterator[Reply]:
    """All of a family. ENOENT: one was asked for."""
    if not dump:
        raise LinuxError(errno.ENOENT)
    for each in network.neighbours():
        family = so.AF_INET if len(each.address) == 4 else so.AF_INET6
        if body[0] in (so.AF_UNSPEC, family):
            head = _NDMSG.pack(family, each.interface, each.state, 0, rt.RTN_UNICAST)
            attributes = [(_NDA_DST, each.address)]
            if each.hardware:
                attributes.append((_NDA_LLADDR, each.hardware))
            yield Reply(rt.RTM_NEWNEIGH, head + packed(attributes))


def _none(network: InetNetwork, body: bytes, dump: bool) -> Iterator[Reply]:
    """There are none. ENOENT: one was asked for."""
    if not dump:
        raise LinuxError(errno.ENOENT)
    return iter(())


_HANDLERS: Final[dict[int, _Handler]] = {
    rt.RTM_GETLINK: _links,
    rt.RTM_GETADDR: _addresses,
    rt.RTM_GETROUTE: _routes,
    rt.RTM_GETRULE: _rules,
    rt.RTM_GETQDISC: _queues,
    rt.RTM_GETNEIGH: _neighbours,
    rt.RTM_GETNEIGHTBL: _none,
    rt.RTM_GETNEXTHOP: _none,
    rt.RTM_GETTCLASS: _none,
    rt.RTM_GETTFILTER: _none,
    rt.RTM_GETMULTICAST: _none,
    rt.RTM_GETANYCAST: _none,
}
