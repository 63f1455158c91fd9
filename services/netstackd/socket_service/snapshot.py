"""What a namespace's network looks like, in the numbers of rtnetlink: for `network`, `neighbours`, `counters`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from protocol.netstack.messages import COUNTERS
from services.netstackd.network import routes as r
from services.netstackd.network.interface import ETHERNET, LOOPBACK, VLAN, Interface

if TYPE_CHECKING:
    from services.netstackd.namespaces import Namespace
    from services.netstackd.network.addresses import Address
    from services.netstackd.stack import Stack

# linux/if_arp.h, linux/if.h, linux/if_addr.h, linux/rtnetlink.h
ARPHRD_ETHER: Final = 1
ARPHRD_NONE: Final = 0xFFFE
IFF_UP: Final = 0x1
IFF_BROADCAST: Final = 0x2
IFF_POINTOPOINT: Final = 0x10
IFF_RUNNING: Final = 0x40
IFF_NOARP: Final = 0x80
IFF_PROMISC: Final = 0x100
IFF_MULTICAST: Final = 0x1000
IFF_LOWER_UP: Final = 0x10000
IFA_F_TEMPORARY: Final = 0x01
IFA_F_DADFAILED: Final = 0x08
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40
IFA_F_PERMANENT: Final = 0x80
PROTOCOLS: Final = {"redirect": 1, "kernel": 2, "boot": 3, "static": 4, "ra": 9, "dhcp": 16}
RT_SCOPE_LINK: Final = 253
NUD: Final = (0x00, 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x80)  # by the states of network/neighbours.py


def _bytes(version: int, address: int) -> bytes:
    return address.to_bytes(4 if version == 4 else 16, "big")


def _address(address: Address) -> list[Any]:
    flags = IFA_F_PERMANENT if address.valid_until is None else 0
    flags |= IFA_F_TENTATIVE if address.tentative else 0
    flags |= IFA_F_DADFAILED if address.dad_failed else 0
    flags |= IFA_F_DEPRECATED if address.deprecated else 0
    flags |= IFA_F_TEMPORARY if address.temporary else 0
    broadcast = None if address.broadcast is None else _bytes(4, address.broadcast)
    return [_bytes(address.version, address.address), address.prefix_length, address.scope, flags, broadcast]


def _interface(iface: Interface) -> dict[str, Any]:
    frames = iface.kind in (ETHERNET, VLAN)
    flags = IFF_MULTICAST | (IFF_BROADCAST if frames else IFF_POINTOPOINT | IFF_NOARP)
    flags |= IFF_UP if iface.up else 0
    flags |= IFF_LOWER_UP if iface.carrier else 0
    flags |= IFF_RUNNING if iface.running else 0
    flags |= IFF_PROMISC if iface.promiscuous else 0
    return {
        "index": iface.index,
        "name": iface.name,
        "kind": ARPHRD_ETHER if frames else ARPHRD_NONE,
        "flags": flags,
        "mtu": iface.mtu,
        "mac": iface.mac if frames else b"",
        "addresses": [_address(address) for address in iface.addresses],
    }


def _route(route: r.Route, index: int, gateway: int) -> dict[str, Any]:
    version = route.version
    scope = route.scope or (RT_SCOPE_LINK if not gateway and route.kind == r.UNICAST and version == 4 else 0)
    return {
        "destination": _bytes(version, route.prefix),
        "length": route.prefix_length,
        "gateway": _bytes(version, gateway) if gateway else None,
        "interface": index,
        "metric": route.metric,
        "table": route.table,
        "source": _bytes(version, route.source) if route.source else None,
        "type": route.kind,
        "scope": scope,
        "protocol": PROTOCOLS.get(route.protocol, 0),
    }


def snapshot(namespace: Namespace) -> dict[str, Any]:
    """See protocol/netstack/messages.py. Of multipath routes each way stands alone; the local table is left out, as
    everybody knows from the addresses what it has."""
    stack = namespace.stack
    routes = []
    for version in (4, 6):
        for route in stack.routing(version).routes.all():
            if route.table == r.TABLE_LOCAL:
                continue
            hops = route.next_hops or (None,)
            for hop in hops:
                if hop is not None and hop.iface.kind == LOOPBACK:
                    continue
                routes.append(_route(route, hop.iface.index if hop else 0, hop.gateway if hop else 0))
    return {
        "interfaces": [_interface(iface) for iface in stack.interfaces.values() if iface.kind != LOOPBACK],
        "routes": routes,
        "names": list(namespace.domains),
        "servers": [_bytes(version, address) for version, address in namespace.servers],
    }


def neighbours(stack: Stack) -> list[list[Any]]:
    """[interface, address, mac, state] of every neighbour."""
    return [
        [entry.iface.index, _bytes(table.version, entry.address), entry.link, NUD[entry.state]]
        for table in (stack.neighbours4, stack.neighbours6)
        for entry in table
    ]


def counters(stack: Stack) -> list[list[int]]:
    """[index, what has passed] of every interface but the loopback."""
    return [
        [iface.index, *(getattr(iface.link.counters if iface.link is not None else iface, name) for name in COUNTERS)]
        for iface in stack.interfaces.values()
        if iface.kind != LOOPBACK
    ]
