"""The router: a stack, its links, its firewall and its services, as a configuration says.

`Router(config, links, ...)` wires everything; it opens nothing, for it may be sealed already: `links` are the base
links by interface name (edge/link_files.py). `reload(config, links)` changes a running router to another
configuration between two turns: interfaces whose link did not change stay as they are, connections stay, and only
what differs is touched. The order of a start: the keeper opens links, forks, the child builds the Router, seals, and
turns the loop.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from services.netstackd.config.model import Config, InterfaceSpec, RouteSpec, RuleSpec
from services.netstackd.config.text import parse_address
from services.netstackd.draining import Draining
from services.netstackd.edge.link_files import dress, mac_of
from services.netstackd.edge.log import EventLog
from services.netstackd.edge.loop import Loop
from services.netstackd.edge.shortcuts import CUTTABLE, Shortcuts
from services.netstackd.errors import NetError
from services.netstackd.filter.pipeline import Firewall
from services.netstackd.filter.rules import REJECT_CODES
from services.netstackd.links.base import Link
from services.netstackd.links.bridge import Bridge
from services.netstackd.namespaces import Namespace, Namespaces
from services.netstackd.network import routes as r
from services.netstackd.network.addresses import SCOPE_LINK
from services.netstackd.network.interface import ETHERNET, LOOPBACK, OFFLOAD_ALL, VLAN, Interface
from services.netstackd.services.manager import ServiceManager
from services.netstackd.slirp.datagrams import FlowTable
from services.netstackd.slirp.engine import Slirp
from services.netstackd.slirp.host import Host, NoHost
from services.netstackd.slirp.publish import Publication, Publisher, PublishSpec, publish_error
from services.netstackd.slirp.pump import Pumps
from services.netstackd.socket_service.server import SocketService
from services.netstackd.stack import Stack
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.numbers import PROTO_TCP, mask

if TYPE_CHECKING:
    from services.netstackd.services.dns_service import DnsService

ROUTE_KINDS: Final = {
    "unicast": r.UNICAST,
    "blackhole": r.BLACKHOLE,
    "unreachable": r.UNREACHABLE,
    "prohibit": r.PROHIBIT,
}

DESCRIPTOR_RESERVE: Final = 256
RESOLVERS_NS: Final = 5_000_000_000  # how often it is looked whether the host's DNS servers have changed


class Router:
    """See the module docstring."""

    def __init__(
        self,
        config: Config,
        links: Mapping[str, Link],
        *,
        clock: Callable[[], int],
        wall: Callable[[], int],
        rng: random.Random,
        secret: bytes,
        log: EventLog,
    ) -> None:
        self.config = Config()
        self.log = log
        self.wall = wall
        self._rng = rng
        self.started = clock()
        self.stack = Stack(rng, secret, clock())
        self.loop = Loop(self.stack, clock, self._link_broken)
        self.firewall = Firewall(self.stack, rng, self._address_on, self._is_own, self._reject, self._log_packet)
        self.shortcuts = Shortcuts(self.stack, self.firewall.tracker, self.loop.captures)
        self.stack.forwarding.learn = self.shortcuts.learn
        self.interfaces: dict[str, Interface] = {}
        self._specs: dict[str, InterfaceSpec] = {}
        self._routes: dict[RouteSpec, r.Route] = {}
        self._rules: dict[RuleSpec, list[tuple[int, r.Rule]]] = {}
        self.services = ServiceManager(self.stack, self.interfaces, rng, log, wall)
        self.services.on_lease = self._add_route_later
        self._host: Host = NoHost()
        self.pumps = Pumps(self.stack)
        self.flows = FlowTable(self.stack, 1024)
        self.publisher = Publisher(self.stack, self._host, self.pumps, self.flows, self._address_in)
        self._published: dict[PublishSpec, int] = {}  # those of the configuration, by number
        self.slirp: Slirp | None = None
        self._resolvers_at: int | None = None
        self.dns: DnsService | None = None
        # Asks the keeper for the host's DNS servers; the process knows how.
        self.obtain_resolvers: Callable[[Callable[[list[str]], None]], None] = lambda done: done([])
        self._descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # may not be asked for after the seal
        self.namespaces = Namespaces(self.loop, self.stack, self.interfaces.get, rng, secret)
        self.namespaces.on_gone = self._namespace_gone
        self.sockets = SocketService(self.loop, self.namespaces, log)
        self.draining = Draining(self)
        self.stack.set_up(self.stack.add_interface(Interface("lo", LOOPBACK, mtu=65536, offload=OFFLOAD_ALL)), True)
        self.reload(config, links)

    # -- configuration --

    def reload(self, config: Config, links: Mapping[str, Link]) -> list[str]:
        """Change to `config`. `links`: base links of interfaces that are new or changed. Returns what was done."""
        done: list[str] = []
        now = self.loop.now
        self.stack.advance(max(now, self.stack.now))
        specs = {spec.name: spec for spec in config.interfaces}
        for name in [
            name for name, spec in self._specs.items() if must_reopen(spec, specs.get(name), specs, self._specs)
        ]:
            if name in self.interfaces:
                self._remove_interface(name)
                done.append(f"interface {name} removed")
        for spec in _in_order(config.interfaces):
            if spec.bridge:
                continue
            if spec.name not in self.interfaces:
                self._add_interface(spec, specs, links, config)
                done.append(f"interface {spec.name} added")
            elif spec != self._specs[spec.name]:
                self._change_addresses(spec, self._specs[spec.name])
                done.append(f"interface {spec.name} changed")
        self._specs = specs
        for name, iface in self.interfaces.items():
            self._settings(iface, specs[name], config)
        done += self._change_rules(config)
        done += self._change_routes(config)
        if config.policy != self.config.policy:
            self.firewall.apply(config.policy)
            done.append("filter and translation changed")
        if config.slirp != self.config.slirp or config.interfaces != self.config.interfaces:
            self._change_slirp(config)
            done += ["slirp changed"] if config.slirp != self.config.slirp else []
        if config.publishes != self.config.publishes and not isinstance(self._host, NoHost):
            done += self._change_publishes(config.publishes)
        if config.dns != self.config.dns or config.interfaces != self.config.interfaces:
            self._change_dns(config)
            done += ["DNS changed"] if config.dns != self.config.dns else []
        self.services.configure(config)
        self.namespaces.configure(config.network)
        self.log.configure(config.log_level, config.log_format)
        self.config = config
        self.loop.flush(self.stack.now)
        return done

    def use_host(self, host: Host) -> None:
        """Where sockets of the host come from: known when the process has its channels."""
        self._host = host
        if self.slirp is not None:
            self.slirp.host = host
        self.publisher.host = host
        self._change_publishes(self.config.publishes)

    def _address_in(self, name: str, version: int) -> tuple[int, int] | None:
        """The address of a namespace: of `version` if it has one."""
        if name not in self.namespaces.all:
            return None
        addresses = self.namespaces.addresses_of(name)
        return next((one for one in addresses if one[0] == version), addresses[0] if addresses else None)

    def _namespace_gone(self, namespace: Namespace) -> None:
        """What is published there ends, and so do connections of the host, when they have all that was sent there."""
        self.publisher.owner_gone(namespace)
        self.pumps.abandon({(version, address) for version, address, _ in namespace.addresses})

    def _change_publishes(self, specs: tuple[PublishSpec, ...]) -> list[str]:
        """Publish what the configuration names, and no longer what it named."""
        done: list[str] = []
        for spec in [spec for spec in self._published if spec not in specs]:
            self.publisher.unpublish(self._published.pop(spec))
            done.append("port unpublished")
        for spec in specs:
            if spec not in self._published:
                self.publisher.publish(spec, partial(self._config_published, spec))
                done.append("port published")
        return done

    def _config_published(self, spec: PublishSpec, result: Publication | int) -> None:
        if isinstance(result, int):
            self.log.event("error", "publish-failed", port=spec.first, why=publish_error(spec, result))
        else:
            self._published[spec] = result.id

    def _change_dns(self, config: Config) -> None:
        if self.dns is not None:
            self.dns.close()
            self.dns = None
        spec = config.dns
        if spec is None:
            return
        # Here, as dnslib takes 11 ms to import; a sealed process has to have it (RouterProcess.reload).
        from services.netstackd.services.dns_names import RouterNames
        from services.netstackd.services.dns_service import DnsService
        from services.netstackd.services.dns_upstream import HostUpstream, StackUpstream

        upstream = (
            HostUpstream(self.stack, lambda: self._host) if config.slirp is not None else StackUpstream(self.stack)
        )
        names = RouterNames(self, self.namespaces, config)
        try:
            self.dns = DnsService(self.stack, spec.listen, names, self._rng, upstream.ask, spec.cache)
        except NetError as error:
            self.log.event("error", "dns-failed", why=str(error))
            return
        self.dns.machine.servers = list(spec.upstream)
        if not spec.upstream:
            self.dns.machine.before_asking = self.refresh_resolvers

    def refresh_resolvers(self) -> None:
        """Look who answers names, when that was not done just now."""
        now = self.stack.now
        if self.dns is None or (self._resolvers_at is not None and now - self._resolvers_at < RESOLVERS_NS):
            return
        self._resolvers_at = now
        if self.config.slirp is None:
            self.dns.machine.servers = [(version, address, 53) for version, address in self.services.dns_servers()]
        else:
            self.obtain_resolvers(self._resolvers)

    def _resolvers(self, texts: list[str]) -> None:
        if self.dns is None:
            return
        servers: list[tuple[int, int, int]] = []
        for text in texts[:8]:
            try:
                servers.append((*parse_address(text), 53))
            except ValueError:
                pass
        self.dns.machine.servers = servers

    def _change_slirp(self, config: Config) -> None:
        spec = config.slirp
        if spec is None:
            if self.slirp is not None:
                self.slirp.close()
                self.slirp = None
            return
        if self.slirp is None:
            self.slirp = Slirp(self.stack, self._host, self.pumps, self.flows)
        # Each connection and flow is a descriptor here; what is not theirs stays for links and clients.
        room = max(self._descriptors - DESCRIPTOR_RESERVE, 2)
        flows = min(spec.max_flows, room // 2)
        connections = min(spec.max_connections, room - flows)
        self.flows.limit = flows
        self.publisher.max_connections = connections
        self.slirp.configure(spec.host_loopback, spec.denied, connections)
        for name, iface in self.interfaces.items():
            self.slirp.cover(iface, name in spec.interfaces)

    def _add_interface(
        self, spec: InterfaceSpec, specs: Mapping[str, InterfaceSpec], links: Mapping[str, Link], config: Config
    ) -> None:
        stack = self.stack
        if spec.link.kind == "vlan":
            parent = self.interfaces[spec.link.parent]
            iface = Interface(spec.name, VLAN, spec.mac or parent.mac, spec.mtu or parent.mtu, parent.offload)
            iface.parent, iface.vlan_id = parent, spec.link.vlan_id
            stack.add_interface(iface)
        else:
            link = self._build_link(spec, specs, links)
            iface = Interface(spec.name, link.framing, link.mac or bytes(6), link.mtu, link.offload)
            stack.add_interface(iface)
            self.loop.add_link(iface, link)
            if isinstance(link, CUTTABLE) and iface.kind == ETHERNET:
                link.cut = self.shortcuts.cutter(iface)
        self.interfaces[spec.name] = iface
        self._settings(iface, spec, config)
        if spec.up:
            stack.set_up(iface, True)
        for prefix in spec.addresses:
            self._add_address(iface, *prefix)

    def _build_link(self, spec: InterfaceSpec, specs: Mapping[str, InterfaceSpec], links: Mapping[str, Link]) -> Link:
        if spec.link.kind != "bridge":
            return dress(links[spec.name], spec, self._rng)
        ports = [dress(links[port.name], port, self._rng) for port in specs.values() if port.bridge == spec.name]
        return Bridge(spec.name, ports, mac=mac_of(spec), mtu=spec.mtu or None, ageing_ns=spec.link.ageing)

    def _remove_interface(self, name: str) -> None:
        iface = self.interfaces.pop(name)
        self._routes = {
            spec: route
            for spec, route in self._routes.items()
            if all(hop.iface is not iface for hop in route.next_hops)
        }
        self.services.interface_gone(iface)
        for other in list(self.interfaces.values()):
            if other.parent is iface:
                self._remove_interface(other.name)
        if iface.link is not None:
            self.namespaces.detach_ports(iface)
            self.loop.remove_link(iface)
        self.shortcuts.forget(iface)
        self.stack.remove_interface(iface)

    def _settings(self, iface: Interface, spec: InterfaceSpec, config: Config) -> None:
        values: dict[str, int] = {
            "forwarding4": config.forwarding,
            "forwarding6": config.forwarding,
            "autoconf": spec.slaac,
            "accept_ra": 2 if spec.slaac else 0,
            **dict(spec.settings),
        }
        if any(getattr(iface, name) != value for name, value in values.items()):
            self.stack.configure(iface, **values)

    def _add_address(self, iface: Interface, version: int, address: int, length: int) -> None:
        try:
            self.stack.add_address(iface, version, address, length)
        except NetError as error:
            self.log.event("warning", "address-refused", interface=iface.name, why=str(error))

    def _change_addresses(self, spec: InterfaceSpec, before: InterfaceSpec) -> None:
        """An interface whose link stays: other addresses, up or down."""
        iface = self.interfaces[spec.name]
        for version, address, length in set(before.addresses) - set(spec.addresses):
            found = self.stack.addresses.on_interface(iface, version, address)
            if found is not None and found.prefix_length == length:
                self.stack.addresses.remove(found)
                self.firewall.forget(self.firewall.connections_of(iface, address))
        for prefix in spec.addresses:
            if prefix not in before.addresses:
                self._add_address(iface, *prefix)
        if spec.up != before.up:
            self.stack.set_up(iface, spec.up)

    # -- routes --

    def _change_routes(self, config: Config) -> list[str]:
        done: list[str] = []
        for spec in [spec for spec in self._routes if spec not in config.routes]:
            route = self._routes.pop(spec)
            self.stack.remove_route(route, missing_ok=True)  # it may have gone with its interface or address
            done.append("route removed")
        for spec in config.routes:
            if spec not in self._routes and self.add_route(spec):
                done.append("route added")
        return done

    def _change_rules(self, config: Config) -> list[str]:
        """Policy routing rules: remove and add what differs."""
        done: list[str] = []
        for spec in [spec for spec in self._rules if spec not in config.rules]:
            for version, rule in self._rules.pop(spec):
                self.stack.remove_rule(version, rule)
            done.append("rule removed")
        for spec in config.rules:
            if spec not in self._rules:
                self._rules[spec] = [(version, _rule(spec)) for version in spec.versions]
                for version, rule in self._rules[spec]:
                    self.stack.add_rule(version, rule)
                done.append("rule added")
        return done

    def add_route(self, spec: RouteSpec) -> bool:
        """Add a configured route. False, logged, when there is no way there (yet): it is tried again with leases."""
        version, address, length = spec.prefix
        hops: tuple[r.NextHop, ...] = ()
        if spec.kind == "unicast":
            iface = self.interfaces.get(spec.interface) if spec.interface else None
            gateway = spec.via[1] if spec.via is not None else 0
            if iface is None:
                iface = self._link_of(version, gateway)
            if iface is None:
                self.log.event("warning", "route-without-link", to=f"{address:x}/{length}", interface=spec.interface)
                return False
            hops = (r.NextHop(iface, gateway),)
        route = r.Route(
            version,
            address,
            length,
            hops,
            kind=ROUTE_KINDS[spec.kind],
            metric=spec.metric,
            table=spec.table,
            source=spec.source,
        )
        try:
            self.stack.add_route(route)
        except NetError as error:
            self.log.event("warning", "route-refused", why=str(error))
            return False
        self._routes[spec] = route
        return True

    def _link_of(self, version: int, gateway: int) -> Interface | None:
        """The interface on whose network a gateway is."""
        for iface in self.interfaces.values():
            for address in iface.addresses:
                if (
                    address.version == version
                    and (address.address ^ gateway) & mask(version, address.prefix_length) == 0
                ):
                    return iface
        return None

    def _add_route_later(self) -> None:
        """A lease has brought an address: routes that had no link may have one now."""
        for spec in self.config.routes:
            if spec not in self._routes:
                self.add_route(spec)

    # -- what the firewall asks --

    def _address_on(self, iface: Interface, version: int, next_hop: int) -> int | None:
        """Our address for masquerading: one of the next hop's network, else the first that is not link-local."""
        first: int | None = None
        for address in iface.addresses:
            if address.version != version or not address.usable or address.deprecated or address.scope >= SCOPE_LINK:
                continue
            if (address.address ^ next_hop) & mask(version, address.prefix_length) == 0:
                return address.address
            if first is None:
                first = address.address
        return first

    def _is_own(self, names: frozenset[str], version: int, address: int) -> bool:
        owner = self.stack.interface_of(version, address)
        return owner is not None and owner.name in names

    def _reject(self, packet: Packet, how: str) -> None:
        """Answer a packet that a rule rejects."""
        if packet.iface is None:
            return  # our own: the socket is told by the hook's verdict
        if how == "tcp-reset" and packet.proto == PROTO_TCP:
            self.stack.send_reset(packet)
            return
        self.stack.send_unreachable(packet, REJECT_CODES[how])

    def _log_packet(self, prefix: str, packet: Packet, rule: str) -> None:
        from services.netstackd.config.text import address_text

        self.log.event(
            "info",
            "packet",
            prefix=prefix,
            rule=rule,
            **{"in": packet.iface.name if packet.iface else ""},
            out=packet.out.name if packet.out else "",
            src=address_text(packet.version, packet.src),
            dst=address_text(packet.version, packet.dst),
            proto=packet.proto,
            sport=packet.sport,
            dport=packet.dport,
            bytes=len(packet),
        )

    def _link_broken(self, link: Link, iface: Interface) -> None:
        self.log.event("error", "link-lost", interface=iface.name, link=link.name, why=link.broken or "")
        if iface.link is link:
            self.stack.set_carrier(iface, False)

    def descriptors(self) -> list[int]:
        """Every descriptor that must survive the seal."""
        found = [self.loop.fd]
        for iface in self.interfaces.values():
            if iface.link is not None:
                found += iface.link.descriptors()
        return found + self.namespaces.descriptors()


def _rule(spec: RuleSpec) -> r.Rule:
    """A configured rule as the stack has it."""
    _, src, src_length = spec.source or (0, 0, 0)
    _, dst, dst_length = spec.destination or (0, 0, 0)
    return r.Rule(
        spec.priority,
        spec.table or None,
        kind=ROUTE_KINDS[spec.kind],
        src=src,
        src_length=src_length,
        dst=dst,
        dst_length=dst_length,
        iif=spec.inside or None,
        oif=spec.outside or None,
        mark=spec.mark,
        mark_mask=spec.mark_mask,
        tos=spec.tos,
        invert=spec.invert,
    )


def must_reopen(
    old: InterfaceSpec,
    new: InterfaceSpec | None,
    specs: Mapping[str, InterfaceSpec],
    before: Mapping[str, InterfaceSpec],
) -> bool:
    """Whether an interface has to go before the new configuration can have it (back)."""
    if new is None or (old.link, old.mac, old.mtu, old.bridge) != (new.link, new.mac, new.mtu, new.bridge):
        return True
    if old.link.kind == "bridge":

        def ports(all_specs: Mapping[str, InterfaceSpec]) -> list[InterfaceSpec]:
            return [spec for spec in all_specs.values() if spec.bridge == old.name]

        return ports(specs) != ports(before)
    if old.link.kind == "vlan":
        parent, parent_before = specs.get(old.link.parent), before.get(old.link.parent)
        return parent is None or parent_before is None or must_reopen(parent_before, parent, specs, before)
    return False


def _in_order(specs: tuple[InterfaceSpec, ...]) -> list[InterfaceSpec]:
    """VLANs behind what they are on."""
    return [spec for spec in specs if spec.link.kind != "vlan"] + [spec for spec in specs if spec.link.kind == "vlan"]


__all__ = ["Router", "must_reopen"]
