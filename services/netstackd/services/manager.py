"""The services of a router: puts the sans-IO machines on sockets and timers of the stack, as the configuration says.

What a service brings about (an address, a route) it does through the stack; `on_lease` is called when a DHCP client
got an address. Sockets tell of readiness in the middle of a batch: a timer that is due at once looks when the batch
is over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from services.netstackd.config.model import AdvertisementSpec, Config, DhcpServerSpec, Dhcpv6ServerSpec
from services.netstackd.config.text import address_text, mac_text, parse_address
from services.netstackd.edge.log import EventLog
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.network.addresses import ORIGIN_DHCP
from services.netstackd.network.interface import Interface
from services.netstackd.network.routes import NextHop, Route
from services.netstackd.services.dhcpv4_client import ClientLease, DhcpClient
from services.netstackd.services.dhcpv4_server import BOUND, DhcpServer, Lease
from services.netstackd.services.dhcpv6_server import Dhcpv6Server, Lease6
from services.netstackd.services.lease_memory import LeaseMemory
from services.netstackd.services.router_advertiser import ROUTER_SOLICITATION, RouterAdvertiser
from services.netstackd.stack import Stack
from services.netstackd.transport.base import AF_INET, AF_INET6, DatagramSocket
from services.netstackd.transport.raw import RawSocket
from services.netstackd.transport.udp import UdpSocket
from services.netstackd.wire import dhcpv6
from services.netstackd.wire.dhcpv4 import TYPE_NAMES, DhcpMessage, parse_dhcpv4_untrusted
from services.netstackd.wire.dhcpv6 import parse_dhcpv6_untrusted
from services.netstackd.wire.numbers import PROTO_ICMPV6, PROTO_UDP, is_link_local_v6, is_multicast, mask
from services.netstackd.wire.udp import header_checksummed

SECOND: Final = 1_000_000_000
SERVER_PORT: Final = 67
CLIENT_PORT: Final = 68
SERVER_PORT6: Final = 547
CLIENT_PORT6: Final = 546
BROADCAST: Final = 0xFFFFFFFF
ALL_NODES: Final = 0xFF02 << 112 | 1
ALL_ROUTERS: Final = 0xFF02 << 112 | 2
ALL_DHCP_SERVERS: Final = 0xFF02 << 112 | 0x10002
_ALL_ICMP6: Final = (1 << 256) - 1


class _Service:
    """A socket whose messages are looked at when a batch is over."""

    def __init__(self, stack: Stack, iface: Interface, socket: DatagramSocket) -> None:
        self.stack = stack
        self.iface = iface
        self.socket = socket
        self._look = stack.timers.new(self._drain)
        socket.device = iface
        socket.subscribe(lambda *_: self._look.set(stack.now))

    def _drain(self, now: int) -> None:
        while True:
            try:
                message = self.socket.receive()
            except WouldBlock:
                return
            except NetError:
                continue
            to_group = message.packet is not None and is_multicast(self.socket.version, message.packet.dst)
            self.received(bytes(message.data), message.address[0] if message.address else 0, now, to_group)

    def received(self, data: bytes, source: int, now: int, to_group: bool) -> None:
        """One datagram; `to_group`: it was sent to a multicast address."""
        raise NotImplementedError

    def restore(self) -> None:
        """Leases from before have become known."""

    def stop(self) -> None:
        """The end."""
        self._look.cancel()
        self.socket.close()


class DhcpServerService(_Service):
    """A DHCP server on its interface."""

    def __init__(
        self, stack: Stack, iface: Interface, spec: DhcpServerSpec, log: EventLog, memory: LeaseMemory
    ) -> None:
        socket = UdpSocket(stack, AF_INET)
        socket.broadcast = True
        super().__init__(stack, iface, socket)
        socket.bind((0, SERVER_PORT, 0))
        own = next(
            (
                one
                for one in iface.addresses
                if one.version == 4 and _same_network(one.address, spec.first, one.prefix_length)
            ),
            None,
        )
        self._log = log
        self._memory = memory
        self.machine = DhcpServer(spec, own.address if own else 0, own.prefix_length if own else 24, self._remember)
        self.restore()

    def _remember(self, lease: Lease) -> None:
        row = {
            "server": "v4",
            "interface": self.iface.name,
            "address": address_text(4, lease.address),
            "client": lease.client.hex(),
            "mac": lease.mac.hex(),
            "name": lease.name,
        }
        self._memory.put(row, lease.expires)

    def restore(self) -> None:
        """See _Service."""
        for row, expires in self._memory.of("v4", self.iface.name):
            try:
                client, mac = bytes.fromhex(row["client"]), bytes.fromhex(row["mac"])
                _, address = parse_address(row["address"])
                lease = Lease(address, client, mac, BOUND, expires, str(row["name"]))
            except (KeyError, TypeError, ValueError):
                continue  # somebody has edited the file
            self.machine.restore(lease)

    def received(self, data: bytes, source: int, now: int, to_group: bool) -> None:
        """See _Service."""
        message = parse_dhcpv4_untrusted(data)
        if message is None:
            return
        reply = self.machine.answer(message, now)
        if reply is None:
            return
        # RFC 2131 section 4.1; who has no address yet is told by broadcast, which every client hears
        if message.giaddr:
            target = (message.giaddr, SERVER_PORT, 0)
        elif message.ciaddr and reply.yiaddr:
            target = (message.ciaddr, CLIENT_PORT, 0)
        else:
            target = (BROADCAST, CLIENT_PORT, 0)
        try:
            self.socket.send(reply.encode(), target, source=self.machine.own, device=self.iface)  # type: ignore[attr-defined]
        except NetError as error:
            self._log.event("warning", "dhcp-reply-failed", why=str(error))
            return
        self._log.event(
            "info",
            f"dhcp-{TYPE_NAMES[reply.kind]}",
            interface=self.iface.name,
            mac=mac_text(message.mac),
            address=address_text(4, reply.yiaddr),
        )

    def rows(self, now: int) -> list[dict[str, Any]]:
        """The leases."""
        return [
            {
                "interface": self.iface.name,
                "role": "server",
                "address": address_text(4, lease.address),
                "mac": mac_text(lease.mac),
                "name": lease.name,
                "state": lease.state if lease.expires > now else "expired",
                "left": max(0, (lease.expires - now) // SECOND),
            }
            for lease in self.machine.leases.values()
        ]


class Dhcpv6ServerService(_Service):
    """A DHCPv6 server on its interface; what it delegates is routed to whom it was delegated."""

    def __init__(
        self, stack: Stack, iface: Interface, spec: Dhcpv6ServerSpec, log: EventLog, memory: LeaseMemory
    ) -> None:
        socket = UdpSocket(stack, AF_INET6)
        super().__init__(stack, iface, socket)
        socket.v6only = True
        socket.bind((0, SERVER_PORT6, 0))
        socket.join(6, ALL_DHCP_SERVERS, iface)
        own = tuple(
            (6, one.address, one.prefix_length)
            for one in iface.addresses
            if one.version == 6 and not is_link_local_v6(one.address)
        )
        self._log = log
        self._memory = memory
        self._routes: dict[int, Route] = {}
        self._timer = stack.timers.new(self._expire)
        self._restoring = False
        self.machine = Dhcpv6Server(spec, dhcpv6.duid_of_mac(iface.mac), own, self._changed)
        self.restore()

    def received(self, data: bytes, source: int, now: int, to_group: bool) -> None:
        """See _Service. Clients speak to the group: without a Server Unicast option nothing else is taken (RFC 8415
        section 18.4), nor anything from an address that is not of the link."""
        message = parse_dhcpv6_untrusted(data) if to_group and is_link_local_v6(source) else None
        reply = self.machine.answer(message, source, now) if message is not None else None
        if message is None or reply is None:
            return
        try:
            self.socket.send(reply.encode(), (source, CLIENT_PORT6, self.iface.index), device=self.iface)  # type: ignore[attr-defined]
        except NetError as error:
            self._log.event("warning", "dhcpv6-reply-failed", why=str(error))
            return
        given = [address_text(6, lease[0]) for one in reply.associations for lease in one.leases if lease[3]]
        self._log.event(
            "info",
            f"dhcpv6-{dhcpv6.TYPE_NAMES[reply.kind]}",
            interface=self.iface.name,
            client=message.client.hex(),
            given=", ".join(given),
        )

    def _changed(self, lease: Lease6) -> None:
        if lease.owner is None:
            return
        kind, client, iaid = lease.owner
        if not self._restoring:
            row = {
                "server": "v6",
                "interface": self.iface.name,
                "address": address_text(6, lease.address),
                "length": lease.length,
                "kind": kind,
                "client": client.hex(),
                "iaid": iaid,
                "via": address_text(6, lease.via),
            }
            self._memory.put(row, lease.expires)
        if kind == dhcpv6.IA_PD:
            self._route(lease)
            self._expire(self.stack.now)

    def _route(self, lease: Lease6) -> None:
        """Lead a delegated prefix to the client, or no longer."""
        old = self._routes.pop(lease.address, None)
        if old is not None:
            self.stack.remove_route(old, missing_ok=True)
        if not lease.expires:
            return
        hop = NextHop(self.iface, lease.via, onlink=True)
        route = Route(6, lease.address, lease.length, (hop,), metric=1024, protocol="dhcp")
        try:
            self.stack.add_route(route, replace=True)
            self._routes[lease.address] = route
        except NetError as error:
            self._log.event("warning", "route-refused", interface=self.iface.name, why=str(error))

    def _expire(self, now: int) -> None:
        following = self.machine.expire(now)
        if following is not None:
            self._timer.set(following)

    def restore(self) -> None:
        """See _Service."""
        self._restoring = True
        for row, expires in self._memory.of("v6", self.iface.name):
            try:
                owner = (row["kind"], bytes.fromhex(row["client"]), row["iaid"])
                (_, address), (_, via) = parse_address(row["address"]), parse_address(row["via"])
                lease = Lease6(address, row["length"], owner, expires, via)
            except (KeyError, TypeError, ValueError):
                continue
            self.machine.restore(lease)
        self._restoring = False

    def stop(self) -> None:
        """See _Service."""
        self._timer.cancel()
        for route in self._routes.values():
            self.stack.remove_route(route, missing_ok=True)
        super().stop()

    def rows(self, now: int) -> list[dict[str, Any]]:
        """The leases."""
        return [
            {
                "interface": self.iface.name,
                "role": "server",
                "address": address_text(6, lease.address) + ("" if lease.length == 128 else f"/{lease.length}"),
                "mac": lease.owner[1].hex() if lease.owner is not None else "",
                "name": "",
                "state": "declined" if lease.owner is None else BOUND if lease.expires > now else "expired",
                "left": max(0, (lease.expires - now) // SECOND),
            }
            for lease in self.machine.leases.values()
        ]


class DhcpClientService(_Service):
    """A DHCP client on its interface: its lease becomes an address and a default route."""

    def __init__(
        self, stack: Stack, iface: Interface, rng: random.Random, log: EventLog, on_lease: Callable[[], None]
    ) -> None:
        socket = UdpSocket(stack, AF_INET)
        socket.broadcast = True
        super().__init__(stack, iface, socket)
        socket.bind((0, CLIENT_PORT, 0))
        self._log = log
        self._on_lease = on_lease
        self._route: Route | None = None
        self._address = 0
        self.machine = DhcpClient(iface.mac, rng, self._bound, self._lost)
        self._timer = stack.timers.new(self._wake)
        self._send(self.machine.start(stack.now))

    def _wake(self, now: int) -> None:
        self._send(self.machine.wake(now))

    def received(self, data: bytes, source: int, now: int, to_group: bool) -> None:
        """See _Service."""
        message = parse_dhcpv4_untrusted(data)
        if message is not None:
            self._send(self.machine.receive(message, now))

    def _send(self, messages: list[DhcpMessage]) -> None:
        for message in messages:
            self._send_one(message)
        if self.machine.deadline is not None:
            self._timer.set(max(self.machine.deadline, self.stack.now + 1))

    def _send_one(self, message: DhcpMessage) -> None:
        """To the server when it is known and has to answer us alone, else to all, from no address."""
        data = message.encode()
        lease = self.machine.lease
        try:
            if message.ciaddr and lease is not None and self.machine.state != "rebinding":
                self.socket.send(data, (lease.server, SERVER_PORT, 0), device=self.iface)  # type: ignore[attr-defined]
                return
            way = self.stack.routing4.output(BROADCAST, 0, self.iface)
            if way.error:
                return  # the interface is down; the timer tries again
            source = message.ciaddr
            transport = header_checksummed(source, BROADCAST, CLIENT_PORT, SERVER_PORT, data) + data
            self.stack.ipv4.send(way, source, BROADCAST, PROTO_UDP, transport)
        except NetError as error:
            self._log.event("debug", "dhcp-send-failed", interface=self.iface.name, why=str(error))

    def _bound(self, lease: ClientLease) -> None:
        stack, iface = self.stack, self.iface
        if self._address != lease.address:
            self._drop()
            try:
                stack.add_address(iface, 4, lease.address, lease.length, origin=ORIGIN_DHCP, valid_until=lease.expires)
            except NetError as error:
                self._log.event("warning", "address-refused", interface=iface.name, why=str(error))
                return
            self._address = lease.address
            if lease.router:
                route = Route(4, 0, 0, (NextHop(iface, lease.router, onlink=True),), metric=100, protocol="dhcp")
                try:
                    stack.add_route(route, replace=True)
                    self._route = route
                except NetError as error:
                    self._log.event("warning", "route-refused", interface=iface.name, why=str(error))
        else:
            found = stack.addresses.on_interface(iface, 4, lease.address)
            if found is not None:
                stack.addresses.set_lifetimes(found, lease.expires, None)
        self._log.event(
            "info",
            "lease",
            interface=iface.name,
            address=f"{address_text(4, lease.address)}/{lease.length}",
            router=address_text(4, lease.router),
            seconds=(lease.expires - stack.now) // SECOND,
        )
        self._on_lease()

    def _lost(self) -> None:
        self._log.event("warning", "lease-lost", interface=self.iface.name)
        self._drop()

    def _drop(self) -> None:
        """Take back what the lease had brought."""
        if self._route is not None:
            self.stack.remove_route(self._route, missing_ok=True)
            self._route = None
        found = self.stack.addresses.on_interface(self.iface, 4, self._address) if self._address else None
        if found is not None:
            self.stack.addresses.remove(found)
        self._address = 0

    def stop(self) -> None:
        """See _Service; the address is given back."""
        for message in self.machine.release():
            self._send_one(message)
        self._timer.cancel()
        self._drop()
        super().stop()

    def rows(self, now: int) -> list[dict[str, Any]]:
        """The lease."""
        lease = self.machine.lease
        return [
            {
                "interface": self.iface.name,
                "role": "client",
                "address": address_text(4, lease.address) if lease else "",
                "mac": mac_text(self.iface.mac),
                "name": "",
                "state": self.machine.state,
                "left": (lease.expires - now) // SECOND if lease else 0,
            }
        ]


class AdvertiserService(_Service):
    """Router advertisements on an interface."""

    def __init__(
        self, stack: Stack, iface: Interface, spec: AdvertisementSpec, rng: random.Random, log: EventLog
    ) -> None:
        socket = RawSocket(stack, AF_INET6, PROTO_ICMPV6)
        socket.icmp_filter = _ALL_ICMP6 & ~(1 << ROUTER_SOLICITATION)
        super().__init__(stack, iface, socket)
        socket.multicast_loop = False
        socket.join(6, ALL_ROUTERS, iface)
        self._raw = socket
        self._log = log
        self.machine = RouterAdvertiser(spec, iface.mac, rng, stack.now)
        self._timer = stack.timers.new(self._wake)
        self._timer.set(self.machine.deadline)

    def received(self, data: bytes, source: int, now: int, to_group: bool) -> None:
        """See _Service: only solicitations pass the filter."""
        self.machine.solicited(now)
        self._timer.set(self.machine.deadline)

    def _prefixes(self) -> list[tuple[int, int]]:
        return [
            (address.address & mask(6, address.prefix_length), address.prefix_length)
            for address in self.iface.addresses
            if address.version == 6 and not is_link_local_v6(address.address) and address.usable
        ]

    def _wake(self, now: int) -> None:
        source = self.stack.addresses.link_local(self.iface)
        if source and self.iface.running:
            self._emit(self.machine.wake(self._prefixes(), now), source)
            self._timer.set(self.machine.deadline)
        else:
            self._timer.set(now + SECOND)  # duplicate detection of the link-local address has not ended

    def _emit(self, message: bytes, source: int) -> None:
        try:
            self._raw.send(message, (ALL_NODES, 0, self.iface.index), source=source, device=self.iface, ttl=255)
        except NetError as error:
            self._log.event("debug", "advertisement-failed", interface=self.iface.name, why=str(error))

    def stop(self) -> None:
        """See _Service; hosts are told."""
        source = self.stack.addresses.link_local(self.iface)
        if source and self.iface.running:
            self._emit(self.machine.farewell(self._prefixes()), source)
        self._timer.cancel()
        super().stop()

    def rows(self, now: int) -> list[dict[str, Any]]:
        """None: it leases nothing."""
        return []


_Running = DhcpServerService | Dhcpv6ServerService | DhcpClientService | AdvertiserService


class ServiceManager:
    """See the module docstring."""

    def __init__(
        self,
        stack: Stack,
        interfaces: Mapping[str, Interface],
        rng: random.Random,
        log: EventLog,
        wall: Callable[[], int],
    ) -> None:
        self._stack = stack
        self._interfaces = interfaces
        self._rng = rng
        self._log = log
        self._running: dict[tuple[str, object], _Running] = {}
        self.memory = LeaseMemory(stack.timers, lambda: stack.now, wall)
        self.on_lease: Callable[[], None] = lambda: None

    def configure(self, config: Config) -> None:
        """Make the services what `config` says; those whose part did not change go on undisturbed."""
        clients = [spec.name for spec in config.interfaces if spec.dhcp]
        own = {spec.name: spec.addresses for spec in config.interfaces}
        wanted: dict[tuple[str, object], Callable[[], Any]] = {}
        for name in clients:
            iface = self._interfaces[name]
            wanted["client", iface] = partial(DhcpClientService, self._stack, iface, self._rng, self._log, self._lease)
        for server in config.dhcp_servers:
            iface = self._interfaces[server.interface]
            wanted["server", (server, iface, own[server.interface])] = partial(
                DhcpServerService, self._stack, iface, server, self._log, self.memory
            )
        for server6 in config.dhcpv6_servers:
            iface = self._interfaces[server6.interface]
            wanted["server6", (server6, iface, own[server6.interface])] = partial(
                Dhcpv6ServerService, self._stack, iface, server6, self._log, self.memory
            )
        for one in config.advertisements:
            iface = self._interfaces[one.interface]
            wanted["advertiser", (one, iface)] = partial(
                AdvertiserService, self._stack, iface, one, self._rng, self._log
            )
        for key in [key for key in self._running if key not in wanted]:
            self._running.pop(key).stop()
        for key, make in wanted.items():
            if key not in self._running:
                self._running[key] = make()

    def _lease(self) -> None:
        self.on_lease()

    def interface_gone(self, iface: Interface) -> None:
        """Stop what runs on an interface that is about to be removed."""
        for key, service in list(self._running.items()):
            if service.iface is iface:
                del self._running[key]
                service.stop()

    def restore(self, rows: list[dict[str, Any]]) -> None:
        """Leases from before a restart."""
        self.memory.restore(rows)
        for service in self._running.values():
            service.restore()

    def leases(self) -> list[dict[str, Any]]:
        """What DHCP servers have given, and what was given to us."""
        now = self._stack.now
        return [row for service in self._running.values() for row in service.rows(now)]

    def dns_servers(self) -> list[tuple[int, int]]:
        """Those that leases of ours name."""
        clients = [service for service in self._running.values() if isinstance(service, DhcpClientService)]
        leases = [client.machine.lease for client in clients]
        return [(4, address) for lease in leases if lease is not None for address in lease.dns]

    def named_leases(self) -> dict[str, int]:
        """Addresses of who told our servers a name, by that."""
        now = self._stack.now
        servers = [service for service in self._running.values() if isinstance(service, DhcpServerService)]
        return {
            lease.name.lower(): lease.address
            for server in servers
            for lease in server.machine.leases.values()
            if lease.name and lease.expires > now
        }


def _same_network(left: int, right: int, length: int) -> bool:
    return (left ^ right) & mask(4, length) == 0


__all__ = ["BOUND", "ServiceManager"]
