"""`configure`: a client changes its own namespace, as `ip` does through rtnetlink. Errors are those of rtnetlink(7)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from services.netstackd.errors import NetError
from services.netstackd.network import routes as r
from services.netstackd.network.interface import LOOPBACK, Interface
from services.netstackd.socket_service.snapshot import PROTOCOLS

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

_PROTOCOL_NAMES: Final = {number: name for name, number in PROTOCOLS.items()}
_KINDS: Final = (r.UNICAST, r.BLACKHOLE, r.UNREACHABLE, r.PROHIBIT, r.THROW)


def configure(stack: Stack, verb: str, what: dict[str, Any]) -> None:
    """Do it. The shape of `what` was checked. NetError."""
    _VERBS[verb](stack, what)


def _interface(stack: Stack, what: dict[str, Any]) -> Interface:
    found = stack.interfaces.get(what["interface"])
    if found is None or found.kind == LOOPBACK:
        raise NetError(errno.ENODEV, "no such interface")
    return found


def _address(raw: bytes) -> tuple[int, int]:
    """(version, address)"""
    return 4 if len(raw) == 4 else 6, int.from_bytes(raw, "big")


def _prefix(what: dict[str, Any], key: str) -> tuple[int, int, int]:
    version, address = _address(what[key])
    if what["length"] > (32 if version == 4 else 128):
        raise NetError(errno.EINVAL, "a prefix that is longer than the address")
    return version, address, what["length"]


def _optional(what: dict[str, Any], key: str, version: int) -> int:
    """An address that may be left out, 0 then."""
    raw = what.get(key)
    if not raw:
        return 0
    own, address = _address(raw)
    if own != version:
        raise NetError(errno.EINVAL, f"{key} is of the other version")
    return address


def _address_add(stack: Stack, what: dict[str, Any]) -> None:
    version, address, length = _prefix(what, "address")
    stack.add_address(
        _interface(stack, what),
        version,
        address,
        length,
        broadcast=_optional(what, "broadcast", 4) or None if version == 4 else None,
        peer=_optional(what, "peer", version) or None,
        scope=what.get("scope"),
        detect=False,
    )


def _address_delete(stack: Stack, what: dict[str, Any]) -> None:
    version, address, length = _prefix(what, "address")
    iface = _interface(stack, what)
    entry = stack.addresses.on_interface(iface, version, address)
    if entry is None or entry.prefix_length != length:
        raise NetError(errno.EADDRNOTAVAIL, "the interface has no such address")
    stack.addresses.remove(entry)


def _route_add(stack: Stack, what: dict[str, Any]) -> None:
    version, address, length = _prefix(what, "destination")
    kind = what.get("type", r.UNICAST)
    if kind not in _KINDS:
        raise NetError(errno.EINVAL, f"routes of type {kind} are not made by hand")
    gateway = _optional(what, "gateway", version)
    hops: tuple[r.NextHop, ...] = ()
    if kind == r.UNICAST:
        iface = _interface(stack, what) if what.get("interface") else _way_to(stack, version, gateway)
        hops = (r.NextHop(iface, gateway),)
    stack.add_route(
        r.Route(
            version,
            address,
            length,
            hops,
            kind=kind,
            metric=what.get("metric", 0) or (1024 if version == 6 else 0),  # net/ipv6/route.c, IP6_RT_PRIO_USER
            table=what.get("table", 0) or r.TABLE_MAIN,
            source=_optional(what, "source", version),
            scope=what.get("scope", 0),
            protocol=_PROTOCOL_NAMES.get(what.get("protocol", 3), "boot"),
        ),
        replace=bool(what.get("replace", 0)),
    )


def _way_to(stack: Stack, version: int, gateway: int) -> Interface:
    """The interface that a gateway is on. NetError: ENODEV, ENETUNREACH."""
    if not gateway:
        raise NetError(errno.ENODEV, "neither an interface nor a gateway")
    way = stack.routing(version).output(gateway)
    if way.error or way.out is None:
        raise NetError(errno.ENETUNREACH, "the gateway is not on a link")
    return way.out


def _route_delete(stack: Stack, what: dict[str, Any]) -> None:
    """The first that fits what is said (fib_table_delete)."""
    version, address, length = _prefix(what, "destination")
    gateway, index = _optional(what, "gateway", version), what.get("interface", 0)
    table, metric, kind = what.get("table", 0) or r.TABLE_MAIN, what.get("metric", 0), what.get("type", 0)
    wanted = r.Route(version, address, length)
    for route in stack.routing(version).routes.all():
        ways = route.ways()
        if (
            (route.prefix, route.prefix_length, route.table) == (wanted.prefix, length, table)
            and (not metric or route.metric == metric)
            and (not kind or route.kind == kind)
            and (not gateway or any(way[1] == gateway for way in ways))
            and (not index or any(way[0] == index for way in ways))
        ):
            stack.remove_route(route)
            return
    raise NetError(errno.ESRCH, "no such route")


def _link_set(stack: Stack, what: dict[str, Any]) -> None:
    iface = _interface(stack, what)
    if "mtu" in what:
        stack.set_mtu(iface, what["mtu"])
    if "mac" in what:
        if what["mac"][0] & 1 or not any(what["mac"]):
            raise NetError(errno.EADDRNOTAVAIL, "not the address of one station")
        stack.set_mac(iface, what["mac"])
    if "up" in what:
        stack.set_up(iface, bool(what["up"]))


def _neighbour_set(stack: Stack, what: dict[str, Any]) -> None:
    version, address = _address(what["address"])
    table = stack.neighbours4 if version == 4 else stack.neighbours6
    table.set_permanent(_interface(stack, what), address, what["mac"])


def _neighbour_delete(stack: Stack, what: dict[str, Any]) -> None:
    version, address = _address(what["address"])
    (stack.neighbours4 if version == 4 else stack.neighbours6).delete(_interface(stack, what), address)


_VERBS: Final[dict[str, Callable[[Stack, dict[str, Any]], None]]] = {
    "address_add": _address_add,
    "address_delete": _address_delete,
    "route_add": _route_add,
    "route_delete": _route_delete,
    "link_set": _link_set,
    "neighbour_set": _neighbour_set,
    "neighbour_delete": _neighbour_delete,
}
