"""Network namespaces: stacks beside the router's own, each with its interfaces, addresses, routes and sockets.

A namespace has `lo` (index 1), and either an `eth0` (index 2) on the virtual network, or interfaces whose links were
handed over. The virtual network is a bridge of the router's (`[network]`): `eth0` is one end of a pair (links/veth.py),
the other end a port of that bridge, and the router's addresses there are the gateways. Addresses are chosen here, so
that nobody has to look for duplicates.

Life: `add`; `attach` and `release` by each client of the socket service; gone by `remove`, or when the last client has
left and what its connections still had to send is out - its name is free at once. A kept one stays. Connections that
wait for the other end's FIN keep one that is ending for LINGER_NS.
"root" is the router's stack: always there, and nobody's to change.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2s
from typing import Any, Final

from services.netstackd.config.model import Address, NetworkSpec
from services.netstackd.edge.loop import Loop
from services.netstackd.errors import NetError
from services.netstackd.links.base import Link
from services.netstackd.links.veth import VethLink, open_veth
from services.netstackd.network import routes as r
from services.netstackd.network.interface import LOOPBACK, OFFLOAD_ALL, Interface
from services.netstackd.stack import Stack
from services.netstackd.storage.timers import Timer
from services.netstackd.wire.numbers import mask

ROOT: Final = "root"
MAX_NAMESPACES: Final = 1024
LINGER_NS: Final = 10_000_000_000
_LOOK_NS: Final = 10_000_000  # how often one that is ending is looked at

Prefix = tuple[int, int, int]  # version, address, prefix length
RouteRow = tuple[Prefix, Address | None, str, int, int, int]  # to, via, interface, metric, source, scope


class LinkRow:
    """An interface of a namespace whose link was handed over."""

    __slots__ = ("addresses", "link")

    def __init__(self, link: Link, addresses: Sequence[Prefix]) -> None:
        self.link = link
        self.addresses = addresses


class Namespace:
    """One. `clients` counts connections of the socket service; `watchers` are told when its network changed."""

    def __init__(self, name: str, stack: Stack) -> None:
        self.name = name
        self.stack = stack
        self.clients = 0
        self.sockets = 0  # of all clients, also of those that left
        self.keep = False
        self.gone = False
        self.port: VethLink | None = None  # its end at the bridge
        self.addresses: list[Prefix] = []
        self.gateways: list[Address] = []
        self.servers: list[Address] = []
        self.domains: list[str] = []
        self.watchers: list[Callable[[], None]] = []
        self.on_gone: list[Callable[[], None]] = []
        self.ending: Timer | None = None
        self.ends_at = 0
        stack.subscribe(self._changed)

    @property
    def is_root(self) -> bool:
        """The router's own."""
        return self.name == ROOT

    def _changed(self, kind: str, thing: object) -> None:
        if kind != "neighbour":
            for watcher in self.watchers:
                watcher()

    def changed(self) -> None:
        """Something that the stack does not tell: servers, domains."""
        self._changed("network", None)


class Namespaces:
    """See the module docstring. `bridge(name)` gives the router's interface of that name."""

    def __init__(
        self, loop: Loop, root: Stack, bridge: Callable[[str], Interface | None], rng: random.Random, secret: bytes
    ) -> None:
        self._loop = loop
        self._bridge = bridge
        self._rng = rng
        self._secret = secret
        self._made = 0
        self._network: NetworkSpec | None = None
        self._ending: set[Namespace] = set()
        self.on_gone: Callable[[Namespace], None] = lambda namespace: None
        self.root = Namespace(ROOT, root)
        self.root.keep = True
        self.all: dict[str, Namespace] = {ROOT: self.root}

    def configure(self, network: NetworkSpec | None) -> None:
        """Another virtual network: ports that have no bridge get one; addresses that are in use stay."""
        self._network = network
        self._attach_ports()
        gateways = self._gateways()
        self.root.servers = list(network.servers) if network is not None else []
        for namespace in self.others():
            if namespace.port is not None and network is not None:
                servers = list(network.servers) or [(version, address) for version, address, _ in gateways]
                domains = [network.domain] if network.domain else []
                if (servers, domains) != (namespace.servers, namespace.domains):
                    namespace.servers, namespace.domains = servers, domains
                    namespace.changed()

    def find(self, name: str) -> Namespace:
        """By name. NetError: ENOENT."""
        found = self.all.get(name)
        if found is None:
            raise NetError(errno.ENOENT, f"no namespace {name}")
        return found

    def addresses_of(self, name: str) -> list[Address]:
        """(version, address) of what a namespace was given. NetError: ENOENT."""
        return [(version, address) for version, address, _ in self.find(name).addresses]

    def others(self) -> list[Namespace]:
        """All but the router's own, those that are ending as well."""
        return [namespace for namespace in (*self.all.values(), *self._ending) if not namespace.is_root]

    # -- making --

    def _new(self, name: str) -> Namespace:
        if name in self.all:
            raise NetError(errno.EEXIST, f"there is a namespace {name}")
        if not name or len(name.encode()) > 64 or len(self.all) >= MAX_NAMESPACES:
            raise NetError(errno.ENOSPC if name else errno.EINVAL, "too many namespaces, or a name that is too long")
        self._made += 1
        seed = b"%d\0%s" % (self._made, name.encode("utf-8", "surrogateescape"))
        secret = blake2s(seed, key=self._secret[:32], person=b"ns-key").digest()
        rng = random.Random(int.from_bytes(blake2s(seed, key=self._secret[:32], person=b"ns-rng").digest(), "big"))
        namespace = Namespace(name, Stack(rng, secret, self._loop.now))
        stack = namespace.stack
        stack.set_up(stack.add_interface(Interface("lo", LOOPBACK, mtu=65536, offload=OFFLOAD_ALL)), True)
        return namespace

    def _enter(self, namespace: Namespace, keep: bool) -> Namespace:
        namespace.keep = keep
        self.all[namespace.name] = namespace
        self._loop.touch(namespace.stack)
        return namespace

    def add(
        self,
        name: str,
        *,
        addresses: Sequence[Prefix] = (),
        mac: bytes = b"",
        mtu: int = 0,
        domains: Sequence[str] = (),
        servers: Sequence[Address] = (),
        keep: bool = False,
    ) -> Namespace:
        """A namespace with an eth0 on the virtual network. NetError: EEXIST, ENETUNREACH (there is no such network),
        EADDRNOTAVAIL (none is free, or one is not of the network), EADDRINUSE."""
        network = self._network
        bridge = self._bridge(network.interface) if network is not None else None
        if network is None or bridge is None:
            raise NetError(errno.ENETUNREACH, "no virtual network: the configuration has no [network]")
        gateways = self._gateways()
        chosen = [self._check(prefix) for prefix in addresses] or [self._choose(gateway) for gateway in gateways]
        namespace = self._new(name)
        stack, loop = namespace.stack, self._loop
        mac = mac or b"\x02" + self._rng.getrandbits(40).to_bytes(5, "big")
        port_mac = b"\x02" + self._rng.getrandbits(40).to_bytes(5, "big")
        inner, outer = open_veth("eth0", name[:15], macs=(mac, port_mac), mtu=mtu or network.mtu)
        loop.add_stack(stack)
        eth0 = Interface("eth0", inner.framing, mac, inner.mtu, inner.offload)
        stack.add_interface(eth0)
        # Who has which address is decided here: nothing is to be asked, and nobody else advertises.
        eth0.dad_transmits = 0
        eth0.accept_ra = 0
        eth0.router_solicitations = 0
        loop.add_link(eth0, inner, stack)
        namespace.port = outer
        stack.set_up(eth0, True)
        for prefix in chosen:
            stack.add_address(eth0, *prefix, detect=False)
        for version, gateway, _ in gateways:
            if any(prefix[0] == version for prefix in chosen):
                stack.add_route(r.Route(version, 0, 0, (r.NextHop(eth0, gateway),), protocol="static"))
                namespace.gateways.append((version, gateway))
        namespace.addresses = chosen
        namespace.servers = list(servers or network.servers) or [(version, value) for version, value, _ in gateways]
        namespace.domains = list(domains) or ([network.domain] if network.domain else [])
        loop.add_port(bridge, outer)
        return self._enter(namespace, keep)

    def add_with_links(
        self,
        name: str,
        links: Sequence[LinkRow],
        routes: Sequence[RouteRow],
        neighbours: Sequence[tuple[str, Address, bytes]],
        *,
        domains: Sequence[str] = (),
        servers: Sequence[Address] = (),
        keep: bool = False,
    ) -> Namespace:
        """A namespace on links of its own: it has what the caller took over from elsewhere. NetError: EEXIST and what
        the rows give. The links are the namespace's afterwards, and the caller's when this fails."""
        namespace = self._new(name)
        stack, loop = namespace.stack, self._loop
        named: dict[str, Interface] = {}
        loop.add_stack(stack)
        try:
            for row in links:
                link = row.link
                iface = Interface(link.name, link.framing, link.mac or bytes(6), link.mtu, link.offload)
                named[link.name] = stack.add_interface(iface)
                stack.set_up(iface, True)
                for prefix in row.addresses:
                    stack.add_address(iface, *prefix, detect=False)
                    namespace.addresses.append(prefix)
            for row_of_route in routes:
                stack.add_route(_route(row_of_route, named))
                if not row_of_route[0][2] and row_of_route[1] is not None:
                    namespace.gateways.append(row_of_route[1])
            for interface, (version, address), mac in neighbours:
                if interface in named:
                    table = stack.neighbours4 if version == 4 else stack.neighbours6
                    table.set_permanent(named[interface], address, mac)
        except NetError:
            loop.remove_stack(stack)
            raise
        for row in links:
            loop.add_link(named[row.link.name], row.link, stack)
        namespace.servers, namespace.domains = list(servers), list(domains)
        return self._enter(namespace, keep)

    # -- addresses --

    def _gateways(self) -> list[Prefix]:
        """The router's own addresses on the virtual network that a next hop can be: one of each version."""
        iface = self._bridge(self._network.interface) if self._network is not None else None
        found: dict[int, Prefix] = {}
        for address in iface.addresses if iface is not None else ():
            if address.origin == "static":
                found.setdefault(address.version, (address.version, address.address, address.prefix_length))
        return list(found.values())

    def _taken(self, version: int) -> set[int]:
        taken = {entry[1] for one in self.others() for entry in one.addresses if entry[0] == version}
        iface = self._bridge(self._network.interface) if self._network is not None else None
        taken |= {address.address for address in iface.addresses} if iface is not None else set()
        return taken

    def _check(self, prefix: Prefix) -> Prefix:
        version, address, _ = prefix
        if address in self._taken(version):
            raise NetError(errno.EADDRINUSE, "the address is taken")
        for gateway_version, gateway, length in self._gateways():
            if gateway_version == version and (address ^ gateway) & mask(version, length) == 0:
                return version, address, length
        raise NetError(errno.EADDRNOTAVAIL, "the address is not of the virtual network")

    def _choose(self, gateway: Prefix) -> Prefix:
        """The lowest free address of the pool."""
        version, own, length = gateway
        network = self._network
        assert network is not None
        base = own & mask(version, length)
        last = base | ~mask(version, length) & ((1 << (32 if version == 4 else 128)) - 1)
        pools = [pool[1:] for pool in network.pools if pool[0] == version] or [(base + 1, last - 1)]
        taken = self._taken(version)
        for low, high in pools:
            for candidate in range(low, min(high, low + len(taken)) + 1):
                if candidate not in taken:
                    return version, candidate, length
        raise NetError(errno.EADDRNOTAVAIL, "no address of the virtual network is free")

    # -- the bridge comes and goes with the configuration --

    def detach_ports(self, bridge: Interface) -> None:
        """The bridge is about to be taken down: its namespaces' ports outlive it."""
        for namespace in self.others():
            port = namespace.port
            if port is not None and port in getattr(bridge.link, "ports", ()):
                self._loop.remove_port(bridge, port)

    def _attach_ports(self) -> None:
        bridge = self._bridge(self._network.interface) if self._network is not None else None
        if bridge is None:
            return
        for namespace in self.others():
            port = namespace.port
            if port is not None and port not in bridge.link.ports:
                self._loop.add_port(bridge, port)

    # -- clients, and the end --

    def attach(self, namespace: Namespace) -> None:
        """A client more."""
        namespace.clients += 1

    def release(self, namespace: Namespace) -> None:
        """A client less; the last one ends the namespace, unless it is kept."""
        namespace.clients -= 1
        if namespace.clients or namespace.keep or namespace.gone:
            return
        self.all.pop(namespace.name, None)
        self._ending.add(namespace)
        stack = namespace.stack
        now = self._loop.now
        namespace.ends_at = now + LINGER_NS
        namespace.ending = stack.timers.new(lambda now: self._look(namespace, now))
        namespace.ending.set(now)
        self._loop.touch(stack)

    def _look(self, namespace: Namespace, now: int) -> None:
        """Whether one that is ending has nothing more to send."""
        if namespace.gone:
            return
        stack, port = namespace.stack, namespace.port
        waiting = stack.tcp.context.orphan_count and now < namespace.ends_at
        leaving = stack.is_holding() or (port is not None and port.waiting)
        if namespace.sockets or waiting or leaving:  # sessions see to it that there will be no sockets
            assert namespace.ending is not None
            namespace.ending.set(now + _LOOK_NS)
        else:
            self._take_down(namespace)

    def remove(self, name: str) -> None:
        """End a namespace now. NetError: ENOENT, EPERM (root)."""
        namespace = self.find(name)
        if namespace.is_root:
            raise NetError(errno.EPERM, "the router's own namespace")
        del self.all[name]
        self._take_down(namespace)

    def _take_down(self, namespace: Namespace) -> None:
        self._ending.discard(namespace)
        if namespace.gone:
            return
        namespace.gone = True
        self.on_gone(namespace)
        for told in list(namespace.on_gone):
            told()
        stack, loop = namespace.stack, self._loop
        for iface in list(stack.interfaces.values()):
            if iface.link is not None:
                loop.remove_link(iface)
            if iface.index in stack.interfaces:
                stack.remove_interface(iface)
        port = namespace.port
        if port is not None:
            bridge = self._bridge(self._network.interface) if self._network is not None else None
            if bridge is not None and port in bridge.link.ports:
                loop.remove_port(bridge, port)
            port.close()
        loop.remove_stack(stack)

    def descriptors(self) -> list[int]:
        """Descriptors of links that were handed over."""
        return [
            fd
            for namespace in self.others()
            for iface in namespace.stack.interfaces.values()
            if iface.link is not None
            for fd in iface.link.descriptors()
        ]

    def rows(self) -> list[dict[str, Any]]:
        """For people: one row each."""
        return [
            {
                "name": namespace.name,
                "clients": namespace.clients,
                "sockets": namespace.sockets,
                "addresses": namespace.addresses,
                "interfaces": [iface.name for iface in namespace.stack.interfaces.values() if iface.kind != LOOPBACK],
                "keep": namespace.keep,
            }
            for namespace in self.all.values()
        ]


def _route(row: RouteRow, named: Mapping[str, Interface]) -> r.Route:
    (version, address, length), via, interface, metric, source, scope = row
    iface = named.get(interface)
    if iface is None:
        raise NetError(errno.ENODEV, f"no interface {interface}")
    hop = r.NextHop(iface, via[1] if via is not None else 0, onlink=via is not None)
    return r.Route(version, address, length, (hop,), metric=metric, source=source, scope=scope)
