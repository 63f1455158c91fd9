"""What a stack's interfaces, addresses, routes, neighbours and connections look like to people and programs: plain
values, as tables (`ctl addr`, ...) and as events (`ctl events`) show them."""

from __future__ import annotations

from typing import Any, Final

from services.netstackd.config.text import address_text, endpoint_text, mac_text, prefix_text, protocol_text
from services.netstackd.filter.connection import Connection, Direction
from services.netstackd.network import routes as r
from services.netstackd.network.addresses import Address
from services.netstackd.network.interface import KIND_NAMES, Interface
from services.netstackd.network.neighbours import STATE_NAMES as NUD_NAMES
from services.netstackd.network.neighbours import Neighbour

SECOND: Final = 1_000_000_000
KINDS: Final = {
    r.UNICAST: "unicast",
    r.LOCAL: "local",
    r.BROADCAST: "broadcast",
    r.BLACKHOLE: "blackhole",
    r.UNREACHABLE: "unreachable",
    r.PROHIBIT: "prohibit",
}
TABLES: Final = {253: "default", 254: "main", 255: "local"}

Row = dict[str, Any]


def left(deadline: int | None, now: int) -> int | None:
    """Seconds until then; None: for ever."""
    return None if deadline is None else max(0, (deadline - now) // SECOND)


def interface_row(iface: Interface) -> Row:
    """An interface with what passed."""
    link = iface.link
    return {
        "interface": iface.name,
        "index": iface.index,
        "kind": link.kind if link is not None else KIND_NAMES[iface.kind],
        "state": "up" if iface.up and iface.carrier else "no carrier" if iface.up else "down",
        "mac": mac_text(iface.mac),
        "mtu": iface.mtu,
        "offload": bool(iface.offload),
        **(link.counters.as_dict() if link is not None else {}),
    }


def address_row(address: Address, now: int) -> Row:
    """An address of an interface."""
    state = "failed" if address.dad_failed else "tentative" if address.tentative else ""
    return {
        "interface": address.iface.name,
        "address": f"{address_text(address.version, address.address)}/{address.prefix_length}",
        "origin": address.origin,
        "state": state or ("deprecated" if address.deprecated else "preferred"),
        "valid": left(address.valid_until, now),
    }


def route_row(route: r.Route, now: int) -> Row:
    """A route."""
    version, hops = route.version, route.next_hops
    return {
        "to": prefix_text(version, route.prefix, route.prefix_length),
        "via": ", ".join(address_text(version, hop.gateway) for hop in hops if hop.gateway),
        "interface": ", ".join(hop.iface.name for hop in hops),
        "type": KINDS.get(route.kind, str(route.kind)),
        "metric": route.metric,
        "source": address_text(version, route.source) if route.source else "",
        "table": TABLES.get(route.table, str(route.table)),
        "protocol": route.protocol,
        "expires": left(route.expires, now),
    }


def neighbour_row(neighbour: Neighbour) -> Row:
    """A neighbour, of ARP or NDP."""
    return {
        "address": address_text(neighbour.version, neighbour.address),
        "interface": neighbour.iface.name,
        "mac": mac_text(neighbour.link) if neighbour.link else "",
        "state": NUD_NAMES[neighbour.state],
        "router": neighbour.router,
    }


def connection_row(connection: Connection, now: int) -> Row:
    """A tracked connection."""
    return {
        "protocol": protocol_text(connection.proto),
        "state": connection.status,
        "timeout": left(connection.deadline, now),
        "original": _way(connection.version, connection.original),
        "reply": _way(connection.version, connection.reply),
        "assured": connection.assured,
        "packets": [connection.original.packets, connection.reply.packets],
        "bytes": [connection.original.bytes, connection.reply.bytes],
    }


def _way(version: int, direction: Direction) -> str:
    src, dst, sport, dport, proto = direction.key
    if proto in (1, 58):
        return f"{address_text(version, src)} > {address_text(version, dst)} id {sport} type {dport >> 8}"
    return f"{endpoint_text(version, src, sport)} > {endpoint_text(version, dst, dport)}"
