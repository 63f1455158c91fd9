"""The methods of the control socket: what `netstackd ctl` and other programs ask a running router.

Each takes the client and its parameters, and returns plain values (dictionaries, lists, strings, numbers); people's
tables are made from the same values by the command line. Parameters are checked here: a wrong one gives one line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from protocol.rpc.codec import Fd
from services.netstackd.config.model import RouteSpec
from services.netstackd.config.publishing import publish_spec
from services.netstackd.config.text import (
    address_text,
    endpoint_text,
    mac_text,
    parse_address,
    parse_network,
    prefix_text,
    protocol_text,
)
from services.netstackd.control.events import EventStream
from services.netstackd.control.metrics import prometheus
from services.netstackd.control.namespace_methods import NamespaceMethods
from services.netstackd.control.ping import Ping
from services.netstackd.control.rows import (
    KINDS,
    SECOND,
    TABLES,
    Row,
    address_row,
    connection_row,
    interface_row,
    neighbour_row,
    route_row,
)
from services.netstackd.control.server import Client, Later, MethodError
from services.netstackd.control.socket_table import socket_rows
from services.netstackd.control.traceroute import Traceroute
from services.netstackd.control.why import why
from services.netstackd.filter.connection import Connection
from services.netstackd.links.bridge import Bridge
from services.netstackd.links.pcap import PcapWriter
from services.netstackd.network import routes as r
from services.netstackd.network.interface import Interface
from services.netstackd.slirp.publish import Publication, publish_error
from services.netstackd.storage.packet import Packet

if TYPE_CHECKING:
    from services.netstackd.app import Router

MAX_ROWS = 10_000


class Methods:
    """See the module docstring. `reload(client, name, text)` and `stop()` are the process's."""

    def __init__(
        self,
        router: Router,
        source: tuple[str, str],
        reload: Callable[[Client, str | None, str | None], Later],
        stop: Callable[[], None],
    ) -> None:
        self._router = router
        self.source = source  # the configuration file's name and text
        self.pid = os.getpid()  # may not be asked for after the seal
        self._reload = reload
        self._stop = stop
        self._events = EventStream(router)
        # Told of what was published here, as `publish` takes it again, and of its end (row None): (name, row).
        self.on_published: Callable[[str, Row | None], None] = lambda name, row: None
        self._names: dict[int, str] = {}  # of publications that were told
        router.publisher.on_end = self._publication_ended

    def table(self) -> dict[str, Callable[..., Any]]:
        """Name to method."""
        return {
            "status": self.status,
            "config": self.config,
            "addr": self.addr,
            "link": self.link,
            "route": self.route,
            "route_add": self.route_add,
            "route_del": self.route_del,
            "rule": self.rule,
            "neigh": self.neigh,
            "fdb": self.fdb,
            "conn": self.conn,
            "conn_del": self.conn_del,
            "nat": self.nat,
            "filter": self.filter,
            "set": self.sets,
            "set_add": self.set_add,
            "set_del": self.set_del,
            "dhcp": self.dhcp,
            "ss": self.ss,
            "stats": self.stats,
            "ping": self.ping,
            "traceroute": self.traceroute,
            "pcap": self.pcap,
            "why": self.why,
            "dns": self.dns,
            "publish": self.publish,
            "unpublish": self.unpublish,
            "published": self.published,
            "events": self.events,
            "metrics": self.metrics,
            "reload": self.reload,
            "drain": self.drain,
            "stop": self.stop,
            **NamespaceMethods(self._router).table(),
        }

    # -- state --

    def status(self, client: Client) -> Row:
        """Who we are, and how long."""
        router = self._router
        return {
            "pid": self.pid,
            "uptime": (router.loop.now - router.started) // SECOND,
            "turns": router.loop.turns,
            "interfaces": len(router.interfaces),
            "connections": router.firewall.tracker.count,
            "forwarding": router.config.forwarding,
        }

    def config(self, client: Client) -> list[str]:
        """The name and the text of the configuration that is in use."""
        return list(self.source)

    def _interface(self, name: str) -> Interface:
        iface = self._router.interfaces.get(name)
        if iface is None:
            known = ", ".join(self._router.interfaces) or "none"
            raise MethodError(f"no interface {name} (there are: {known})", 19)
        return iface

    def addr(self, client: Client) -> list[Row]:
        """Addresses of every interface."""
        stack = self._router.stack
        return [address_row(address, stack.now) for iface in stack.interfaces.values() for address in iface.addresses]

    def link(self, client: Client) -> list[Row]:
        """Interfaces with what passed."""
        return [interface_row(iface) for iface in self._router.stack.interfaces.values()]

    def route(self, client: Client, table: int | None = None) -> list[Row]:
        """Routes of every table, or of one; without a table given, those of table local are left out."""
        stack = self._router.stack
        return [
            route_row(route, stack.now)
            for version in (4, 6)
            for route in stack.routing(version).routes.all()
            if route.table == table or (table is None and route.table != r.TABLE_LOCAL)
        ]

    def route_add(self, client: Client, to: str, via: str | None, interface: str | None, metric: int = 0) -> bool:
        """Add a route until the next reload."""
        spec = self._route_spec(to, via, interface, metric)
        if not self._router.add_route(spec):
            raise MethodError(f"route to {to}: refused, or no interface leads there (name one with dev)", 101)
        return True

    def route_del(self, client: Client, to: str, via: str | None, interface: str | None, metric: int = 0) -> bool:
        """Remove a route that has this destination (and way and metric, when given)."""
        version, address, length = _network(to, via)
        routes = self._router.stack.routing(version).routes
        for route in list(routes.all()):
            if route.table == r.TABLE_LOCAL or (route.prefix, route.prefix_length) != (address, length):
                continue
            if via and not any(hop.gateway == parse_address(via)[1] for hop in route.next_hops):
                continue
            if interface and not any(hop.iface.name == interface for hop in route.next_hops):
                continue
            if metric and route.metric != metric:
                continue
            self._router.stack.remove_route(route)
            return True
        raise MethodError(f"no route to {to}", 3)

    def _route_spec(self, to: str, via: str | None, interface: str | None, metric: int) -> RouteSpec:
        if interface:
            self._interface(interface)
        gateway = parse_address(via) if via else None
        return RouteSpec(_network(to, via), gateway, interface or "", metric)

    def rule(self, client: Client) -> list[Row]:
        """Policy routing rules."""
        rows: list[Row] = []
        for version in (4, 6):
            for rule in self._router.stack.routing(version).routes.rules:
                table = rule.table
                rows.append(
                    {
                        "family": f"ipv{version}",
                        "priority": rule.priority,
                        "from": prefix_text(version, rule.src, rule.src_length) if rule.src_length else "all",
                        "to": prefix_text(version, rule.dst, rule.dst_length) if rule.dst_length else "all",
                        "mark": rule.mark,
                        "in": rule.iif or "",
                        "table": TABLES.get(table, str(table)) if table is not None else KINDS.get(rule.kind, ""),
                    }
                )
        return rows

    def neigh(self, client: Client) -> list[Row]:
        """Neighbours, ARP and NDP."""
        stack = self._router.stack
        return [neighbour_row(neighbour) for table in (stack.neighbours4, stack.neighbours6) for neighbour in table]

    def fdb(self, client: Client) -> list[Row]:
        """Stations that bridges have learned."""
        now = self._router.loop.now
        return [
            {"bridge": iface.name, "mac": mac_text(mac), "port": port, "age": age // SECOND}
            for iface in self._router.interfaces.values()
            if isinstance(iface.link, Bridge)
            for mac, port, age in iface.link.stations(now)
        ]

    # -- connections, translation, filter --

    def conn(self, client: Client, protocol: str | None = None, address: str | None = None, limit: int = 1000) -> Row:
        """Tracked connections: of one protocol, with one address, at most `limit`; and how many there are."""
        tracker = self._router.firewall.tracker
        wanted = parse_address(address) if address else None
        rows: list[Row] = []
        total = 0
        for connection in tracker.connections():
            if protocol and protocol_text(connection.proto) != protocol:
                continue
            if wanted and not _concerns(connection, *wanted):
                continue
            total += 1
            if len(rows) < min(limit, MAX_ROWS):
                rows.append(connection_row(connection, self._router.stack.now))
        return {"connections": rows, "matching": total, "statistics": tracker.statistics()}

    def conn_del(self, client: Client, protocol: str | None = None, address: str | None = None) -> int:
        """Forget connections; returns how many."""
        firewall = self._router.firewall
        wanted = parse_address(address) if address else None
        chosen = [
            connection
            for connection in firewall.tracker.connections()
            if (not protocol or protocol_text(connection.proto) == protocol)
            and (wanted is None or _concerns(connection, *wanted))
        ]
        firewall.forget(chosen)
        return len(chosen)

    def nat(self, client: Client) -> Row:
        """Translation rules with the connections they began, and endpoint-independent mappings."""
        nat = self._router.firewall.nat
        return {
            "rules": [
                {
                    "name": compiled.rule.name,
                    "type": compiled.rule.kind,
                    "in": ",".join(sorted(compiled.rule.match.in_interfaces | compiled.rule.own_addresses_of)),
                    "out": ",".join(sorted(compiled.rule.match.out_interfaces)),
                    "ports": ",".join(_ports(pair) for pair in compiled.rule.match.dports),
                    "to": _target(compiled.rule),
                    "connections": compiled.connections,
                }
                for compiled in nat.rules
            ],
            "mappings": [
                {
                    "protocol": protocol_text(inner[1]),
                    "inner": endpoint_text(inner[0], inner[2], inner[3]),
                    "outer": endpoint_text(outer[0], outer[2], outer[3]),
                    "connections": users,
                }
                for inner, outer, users in nat.mappings()
            ],
        }

    def filter(self, client: Client) -> list[Row]:
        """Rules and policies with their counters."""
        rows: list[Row] = []
        for chain in self._router.firewall.chains.values():
            for compiled in chain.rules:
                rows.append(
                    {
                        "chain": chain.name,
                        "rule": compiled.index + 1,
                        "name": compiled.rule.name,
                        "action": compiled.rule.action,
                        "packets": compiled.packets,
                        "bytes": compiled.bytes,
                    }
                )
            rows.append(
                {
                    "chain": chain.name,
                    "rule": "policy",
                    "name": "",
                    "action": chain.policy,
                    "packets": chain.policy_packets,
                    "bytes": chain.policy_bytes,
                }
            )
        return rows

    def sets(self, client: Client, name: str | None = None) -> list[Row]:
        """Members of sets."""
        now = self._router.stack.now
        sets = self._router.firewall.sets
        if name is not None and name not in sets:
            raise MethodError(f"no set {name} (there are: {', '.join(sets) or 'none'})", 2)
        return [
            {
                "set": one.name,
                "member": f"{address_text(version, address)}/{length}",
                "left": None if left is None else left // SECOND,
            }
            for one in sets.values()
            if name is None or one.name == name
            for version, address, length, left in one.elements(now)
        ]

    def set_add(self, client: Client, name: str, member: str) -> bool:
        """Add a member, until the set's timeout or the next reload."""
        self.sets(client, name)
        self._router.firewall.sets[name].add(*parse_network(member), self._router.stack.now)
        return True

    def set_del(self, client: Client, name: str, member: str) -> bool:
        """Remove a member."""
        self.sets(client, name)
        if not self._router.firewall.sets[name].discard(*parse_network(member)):
            raise MethodError(f"set {name} has no member {member}", 2)
        return True

    def dhcp(self, client: Client) -> list[Row]:
        """Leases of DHCP servers, and our own."""
        return self._router.services.leases()

    def ss(self, client: Client) -> list[Row]:
        """Sockets of the router itself."""
        return socket_rows(self._router.stack, self._router.loop.now)

    def stats(self, client: Client, prefix: str = "") -> dict[str, int]:
        """Counters that are not 0, by the names Linux has for them; those that begin with Drop say why."""
        return self._router.stack.counters.as_dict(prefix, zeros=False)

    def metrics(self, client: Client) -> str:
        """Everything that is counted, in Prometheus' text format."""
        return prometheus(self._router)

    # -- doing things --

    def ping(
        self, client: Client, address: str, count: int = 4, interval: float = 1.0, size: int = 56, timeout: float = 1.0
    ) -> Later:
        """Echo requests from the router; answers when the last reply has come or timed out."""
        if not 1 <= count <= 1000 or not 0.01 <= interval <= 60 or not 0 <= size <= 65000 or not 0 < timeout <= 60:
            raise MethodError("ping: count 1 to 1000, interval 0.01 to 60, size 0 to 65000, timeout up to 60")
        return Ping(
            self._router.stack, *parse_address(address), count, int(interval * SECOND), size, int(timeout * SECOND)
        ).later

    def traceroute(self, client: Client, address: str, hops: int = 30, probes: int = 3, timeout: float = 1.0) -> Later:
        """Who passes packets on to an address; answers when it is reached, or nothing answers any more."""
        if not 1 <= hops <= 255 or not 1 <= probes <= 10 or not 0 < timeout <= 60:
            raise MethodError("traceroute: hops 1 to 255, probes 1 to 10, timeout up to 60")
        return Traceroute(self._router.stack, *parse_address(address), hops, probes, int(timeout * SECOND)).later

    def pcap(self, client: Client, name: str, file: Fd, count: int = 0, snap: int = 262144) -> Later:
        """Capture an interface's frames to a descriptor until `count`, or until the client hangs up."""
        if not isinstance(file, Fd):
            raise MethodError("pcap: a descriptor to write to must come along")
        iface = self._interface(name)
        router = self._router
        if iface.link is None:
            os.close(file.number)
            raise MethodError(
                f"pcap: {name} has no link of its own (capture {iface.parent.name if iface.parent else 'its parent'})"
            )
        later = Later()
        capture = _Capture(
            PcapWriter(
                file.number,
                framing=iface.link.framing,
                wall=router.wall() - router.loop.now,
                snap=max(64, min(snap, 262144)),
                limit=max(0, count),
            ),
            later,
        )
        router.loop.captures.setdefault(iface, []).append(capture)
        client.on_close = capture.stop
        return later

    def dns(self, client: Client) -> Row:
        """What the DNS forwarder was asked, and whom it asks."""
        service = self._router.dns
        if service is None:
            raise MethodError("dns: there is no [dns] in the configuration", 2)
        servers = [endpoint_text(*server) for server in service.machine.servers]
        return {**service.status(), "servers": servers}

    def publish(self, client: Client, what: Row) -> Any:
        """Publish a port: {"protocol", "host", "port" (0: any, "A-B": a range), "namespace" or "address", "guest_port"}
        or with "socket" one that listens (udp: is bound) already. Answers {"id", "host", "port", "ports"}."""
        if not isinstance(what, dict):
            raise MethodError("publish: a map must say what")
        address = what.get("address") or ""
        if isinstance(address, bytes):
            address = address_text(4 if len(address) == 4 else 6, int.from_bytes(address, "big"))
        name = str(what.get("namespace") or "")
        socket = what.get("socket")
        spec = publish_spec(
            str(what.get("protocol", "tcp")),
            str(what.get("host") or ""),
            str(what.get("port", 0)),
            "" if address else name,
            str(address),
            what.get("guest_port", ""),
        )
        owner = self._router.namespaces.find(name) if spec.namespace else None
        if isinstance(socket, Fd):
            try:
                made = self._router.publisher.publish_socket(spec, socket.number)
            except OSError as error:
                raise MethodError(f"publish: the socket: {error.strerror or error}", error.errno or 22) from None
            made.owner = owner
            return self._publication(made)
        later = Later()

        def done(result: Publication | int) -> None:
            if isinstance(result, int):
                later.refuse(publish_error(spec, result))
            else:
                result.owner = owner
                self._tell_published(result)
                later.answer(self._publication(result))

        self._router.publisher.publish(spec, done)
        return later

    def _tell_published(self, made: Publication) -> None:
        spec, ports = made.spec, made.ports
        host = address_text(spec.version, spec.address)
        text = f"{ports[0].port}-{ports[-1].port}" if len(ports) > 1 else str(ports[0].port)
        inside = {"namespace": spec.namespace} if spec.namespace else {"address": address_text(*spec.target)}
        name = self._names[made.id] = f"{host} {text} {spec.protocol}"
        row = {"protocol": spec.protocol, "host": host, "port": text, "guest_port": spec.guest_port, **inside}
        self.on_published(name, row)

    def _publication_ended(self, made: Publication) -> None:
        name = self._names.pop(made.id, None)
        if name is not None:
            self.on_published(name, None)

    def publish_again(self, row: Row, failed: Callable[[str], None]) -> None:
        """Publish what was told by `on_published` to a router before this one. Its namespace is perhaps made again."""
        spec = publish_spec(
            str(row["protocol"]),
            str(row["host"]),
            str(row["port"]),
            str(row.get("namespace", "")),
            str(row.get("address", "")),
            row["guest_port"],
        )

        def done(result: Publication | int) -> None:
            if isinstance(result, int):
                failed(publish_error(spec, result))
            else:
                self._tell_published(result)

        self._router.publisher.publish(spec, done)

    @staticmethod
    def _publication(made: Publication) -> Row:
        spec = made.spec
        first = made.ports[0]
        inside = spec.namespace or address_text(*spec.target)
        return {
            "id": made.id,
            "protocol": spec.protocol,
            "host": address_text(first.version, first.address),
            "port": first.port,
            "ports": [port.port for port in made.ports],
            "to": f"[{inside}]:{spec.guest_port}" if ":" in inside else f"{inside}:{spec.guest_port}",
            "connections": made.connections,
        }

    def unpublish(self, client: Client, number: int) -> bool:
        """End a published port by its number; its connections go on."""
        if not self._router.publisher.unpublish(number):
            raise MethodError(f"unpublish: no published port has the number {number}", 2)
        return True

    def published(self, client: Client) -> list[Row]:
        """What is published."""
        return [self._publication(made) for made in self._router.publisher.publications.values() if made.ports]

    def why(self, client: Client, description: str) -> Row:
        """What would happen to a packet, and which rule decides."""
        return why(self._router, description)

    def events(self, client: Client) -> bool:
        """Notifications `event` with what happens from now on (control/events.py)."""

        def told(event: dict[str, object]) -> None:
            client.notify("event", [event])

        self._events.add(told)
        client.on_close = lambda: self._events.remove(told)
        return True

    def reload(self, client: Client, name: str | None = None, text: str | None = None) -> Later:
        """Change to another configuration (the file's when none is given); answers with what changed."""
        return self._reload(client, name, text)

    def drain(self, client: Client) -> Later:
        """Answers when nothing is left to be sent of what clients of the socket service gave before they ended: true;
        or false, when nobody takes what is left."""
        later = Later()
        self._router.draining.when_drained(later.answer)
        return later

    def stop(self, client: Client) -> bool:
        """End."""
        self._stop()
        return True


class _Capture:
    """A PcapWriter that answers its client when it ends."""

    def __init__(self, writer: PcapWriter, later: Later) -> None:
        self._writer = writer
        self._later = later
        self.failed: str | None = None

    def record(self, packets: Sequence[Packet], now: int) -> None:
        """See edge.loop.Capture."""
        self._writer.record(packets, now)
        self.failed = self.failed or self._writer.failed

    def stop(self) -> None:
        """The client left: the next frame ends the capture."""
        self.failed = "the client left"

    def close(self) -> None:
        """The end."""
        self._writer.close()
        self._later.answer({"packets": self._writer.count})


def _network(to: str, via: str | None) -> tuple[int, int, int]:
    if to == "default":
        return (6, 0, 0) if via and ":" in via else (4, 0, 0)
    return parse_network(to)


def _concerns(connection: Connection, version: int, address: int) -> bool:
    if connection.version != version:
        return False
    return address in connection.original.key[:2] or address in connection.reply.key[:2]


def _ports(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}-{pair[1]}"


def _target(rule: Any) -> str:
    if rule.kind == "masquerade":
        return "interface"
    if rule.to == (0, 0):
        return ""
    version = rule.match.version or 4
    first, last = (address_text(version, address) for address in rule.to)
    text = first if first == last else f"{first}-{last}"
    return f"{text}:{_ports(rule.ports)}" if rule.ports[0] else text


__all__ = ["Methods"]
