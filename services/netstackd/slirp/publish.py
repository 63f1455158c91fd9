"""Published ports: what comes to a port of the host goes to an address and port of the virtual network.

A TCP connection is accepted from the host's listener and connected from the stack; both are pumped into each other. A
UDP client is a flow, as those that leave are (datagrams.py). Towards the inside they come from the client's own address
and port, where answers to that find their way back through this stack: on interfaces that accept any destination, for
addresses that no route leads to. Else, and for clients on the host's own loopback, from our address there.

Where to is asked for each connection: a namespace may get its address later than its ports.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from protocol.records import record
from services.netstackd.counters import COUNTER
from services.netstackd.errors import NetError
from services.netstackd.network.routes import NO_ROUTE, Key
from services.netstackd.slirp.datagrams import BATCH, FlowTable, UdpFlow
from services.netstackd.slirp.destinations import refusal
from services.netstackd.slirp.host import TCP, Client, Host, HostPort, HostSocket, Ready
from services.netstackd.slirp.pump import Pumps
from services.netstackd.storage.packet import Payload
from services.netstackd.transport.base import AF_INET, AF_INET6
from services.netstackd.transport.tcp_socket import TcpSocket

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

ACCEPTS: Final = 16  # connections of one port in one turn
MAX_PUBLICATIONS: Final = 4096
MAX_RANGE: Final = 256
_LARGEST: Final = 65535

_CONNECTIONS: Final = COUNTER["SlirpPublishedConnections"]
_FLOWS: Final = COUNTER["SlirpPublishedFlows"]
_FULL: Final = COUNTER["DropSlirpTableFull"]
_HOST_ERROR: Final = COUNTER["DropSlirpHostError"]

Target = tuple[int, int]  # version, address
Resolve = Callable[[str, int], Target | None]  # (namespace, version): its address, else one of the other version


@record(frozen=True)
class PublishSpec:
    """Ports `first` to `last` of the host's address (0 for all of its version) go to the inner ports from `guest_port`
    on of `target`, or of the namespace of that name."""

    protocol: str = TCP
    version: int = 4
    address: int = 0
    first: int = 0
    last: int = 0
    namespace: str = ""
    target: Target = (4, 0)
    guest_port: int = 0


class Publication:
    """One that stands. `owner`: what it ends with, if that ends before (a namespace)."""

    __slots__ = ("connections", "id", "owner", "ports", "spec")

    def __init__(self, number: int, spec: PublishSpec) -> None:
        self.id = number
        self.spec = spec
        self.ports: list[HostPort] = []
        self.connections = 0
        self.owner: object = None


class _ToClient:
    """A HostSocket that sends to one client of a bound UDP socket; what comes from it arrives at the publication."""

    __slots__ = ("_client", "_port")

    def __init__(self, port: HostPort, client: Client) -> None:
        self._port = port
        self._client = client

    def watch(self, ready: Ready, *, edge: bool = False) -> None:
        """See HostSocket."""

    def receive(self, limit: int) -> bytes:
        """See HostSocket."""
        raise BlockingIOError

    def send(self, data: Payload) -> int:
        """See HostSocket."""
        return self._port.send_to(data, self._client)

    def shutdown_write(self) -> None:
        """See HostSocket."""

    def close(self, *, reset: bool = False) -> None:
        """See HostSocket."""


class Publisher:
    """See the module docstring. `host` may change; what was published stays."""

    def __init__(self, stack: Stack, host: Host, pumps: Pumps, flows: FlowTable, resolve: Resolve) -> None:
        self._stack = stack
        self.host = host
        self._pumps = pumps
        self._flows = flows
        self._resolve = resolve
        self._next = 1
        self.max_connections = 4096
        self.on_end: Callable[[Publication], None] = lambda made: None
        self.publications: dict[int, Publication] = {}
        self._clients: dict[tuple[HostPort, Client], UdpFlow] = {}

    # -- what is published --

    def publish(self, spec: PublishSpec, done: Callable[[Publication | int], None]) -> None:
        """Begin; `done` gets the publication, or the errno of the first port that could not be had."""
        if len(self.publications) >= MAX_PUBLICATIONS or spec.last - spec.first >= MAX_RANGE:
            done(errno.ENOSPC)
            return
        made = self._new(spec)

        def opened(result: HostPort | int) -> None:
            if isinstance(result, int):
                self.unpublish(made.id)
                done(result)
            elif made.id not in self.publications:
                result.close()
                done(errno.ECANCELED)
            else:
                self._add(made, result)
                if spec.first + len(made.ports) <= spec.last:
                    ask()
                else:
                    done(made)

        def ask() -> None:
            self.host.listen(spec.protocol, spec.version, spec.address, spec.first + len(made.ports), opened)

        ask()

    def publish_socket(self, spec: PublishSpec, fd: int) -> Publication:
        """Publish a socket that listens or is bound already. OSError: it is none."""
        port = self.host.port(fd, spec.protocol)
        made = self._new(spec)
        self._add(made, port)
        return made

    def _new(self, spec: PublishSpec) -> Publication:
        made = Publication(self._next, spec)
        self._next += 1
        self.publications[made.id] = made
        return made

    def _add(self, made: Publication, port: HostPort) -> None:
        offset = len(made.ports)
        made.ports.append(port)
        arrived = self._accept if made.spec.protocol == TCP else self._receive
        port.watch(partial(arrived, made, port, made.spec.guest_port + offset))

    def unpublish(self, number: int) -> bool:
        """End one; connections that stand go on. False: there is none of this number."""
        made = self.publications.pop(number, None)
        if made is None:
            return False
        self.on_end(made)
        for port in made.ports:
            for key in [key for key in self._clients if key[0] is port]:
                self._flows.remove(self._clients[key])
            port.close()
        return True

    def owner_gone(self, owner: object) -> None:
        """What was published for somebody ends with it."""
        for made in list(self.publications.values()):
            if made.owner is owner:
                self.unpublish(made.id)

    def close(self) -> None:
        """End all."""
        for number in list(self.publications):
            self.unpublish(number)

    # -- where to, and from where --

    def _ends(self, made: Publication, client: Client) -> tuple[Target, tuple[int, int]] | None:
        """(the inner address, (address, port) that the client has inside; port 0 for any); None: there is no way."""
        spec = made.spec
        target: Target | None = spec.target
        if spec.namespace:
            target = self._resolve(spec.namespace, client[0])
        if target is None:
            return None
        version, inner = target
        routing = self._stack.routing(version)
        way = routing.output(inner)
        if way.error or way.out is None:
            return None
        outer = client[1]
        if client[0] == version and way.out.accept_any and not refusal(version, outer):
            if routing.routes.lookup(Key(outer, 0, None)).kind == NO_ROUTE:
                return target, (outer, client[2])
        return target, (way.source, 0)

    # -- TCP --

    def _accept(self, made: Publication, port: HostPort, guest_port: int, events: int) -> None:
        for _ in range(ACCEPTS):
            try:
                host, client = port.accept()
            except BlockingIOError:
                return
            except OSError:
                self._stack.counters.values[_HOST_ERROR] += 1
                return
            ends = self._ends(made, client)
            if ends is None:
                host.close(reset=True)
            elif len(self._pumps) >= self.max_connections:
                self._stack.counters.values[_FULL] += 1
                host.close(reset=True)
            else:
                self._connect(made, host, guest_port, *ends)

    def _connect(
        self, made: Publication, host: HostSocket, guest_port: int, target: Target, outer: tuple[int, int]
    ) -> None:
        guest = self._dial(target, guest_port, outer)
        if guest is None and outer[1]:
            # The client's own address and port are taken, by a connection of the guest to just there.
            guest = self._dial(target, guest_port, (self._stack.routing(target[0]).output(target[1]).source, 0))
        if guest is None:
            host.close(reset=True)
            return
        made.connections += 1
        self._stack.counters.values[_CONNECTIONS] += 1
        self._pumps.join(guest, host)

    def _dial(self, target: Target, guest_port: int, outer: tuple[int, int]) -> TcpSocket | None:
        version, inner = target
        guest = TcpSocket(self._stack, AF_INET if version == 4 else AF_INET6)
        guest.freebind = guest.reuse_address = True
        guest.tcp_options.nodelay = guest.tcp_options.oobinline = True
        try:
            if outer[1]:
                guest.bind((*outer, 0))
            guest.connect((inner, guest_port, 0))
        except NetError as error:
            if error.errno == errno.EINPROGRESS:
                return guest
        guest.close()
        return None

    # -- UDP --

    def _receive(self, made: Publication, port: HostPort, guest_port: int, events: int) -> None:
        for _ in range(BATCH):
            try:
                data, client = port.receive_from(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about an answer: to whom is not said
                continue
            flow = self._clients.get((port, client)) or self._begin(made, port, guest_port, client)
            if flow is not None:
                flow.to_guest(data)

    def _begin(self, made: Publication, port: HostPort, guest_port: int, client: Client) -> UdpFlow | None:
        ends = self._ends(made, client)
        if ends is None or not self._flows.make_room():
            return None
        (version, inner), (outer, outer_port) = ends
        udp = self._stack.udp
        if not outer_port or udp.has_flow((inner, outer, guest_port, outer_port), version):
            outer = self._stack.routing(version).output(inner).source
            outer_port = udp.ports.choose_any(
                lambda candidate: (
                    not udp.ports.on(candidate) and not udp.has_flow((inner, outer, guest_port, candidate), version)
                )
            )
        flow = _ClientFlow(self._stack, self._flows, version, (inner, outer, guest_port, outer_port))
        flow.key = (port, client)
        flow.clients = self._clients
        self._flows.add(flow)
        flow.opened(_ToClient(port, client))
        self._clients[port, client] = flow
        made.connections += 1
        self._stack.counters.values[_FLOWS] += 1
        return flow


class _ClientFlow(UdpFlow):
    """The flow of a client outside. Its first datagram comes from there, so it is answered when the guest speaks."""

    key: tuple[HostPort, Client]
    clients: dict[tuple[HostPort, Client], UdpFlow]

    begun_outside = True

    def end(self) -> None:
        """See Flow."""
        self.clients.pop(self.key, None)
        super().end()


def publish_error(spec: PublishSpec, number: int) -> str:
    """What an errno of `publish` means, for people."""
    ports = str(spec.first) if spec.first == spec.last else f"{spec.first}-{spec.last}"
    if number == errno.EADDRINUSE:
        return f"{spec.protocol} port {ports}: address in use (another program has it)"
    if number in (errno.EACCES, errno.EPERM):
        return f"{spec.protocol} port {ports}: privileged (below net.ipv4.ip_unprivileged_port_start of the host)"
    if number == errno.EADDRNOTAVAIL:
        return f"{spec.protocol} port {ports}: the host has no such address"
    if number == errno.EAFNOSUPPORT:
        return f"{spec.protocol} port {ports}: the host has no IPv{spec.version}"
    if number == errno.ENOSPC:
        return f"too many published ports ({MAX_PUBLICATIONS})"
    return f"{spec.protocol} port {ports}: {os_error_text(number)}"


def os_error_text(number: int) -> str:
    """The name of an errno."""
    return errno.errorcode.get(number, str(number))
