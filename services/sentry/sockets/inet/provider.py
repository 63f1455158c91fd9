"""What carries the data of sockets to addresses: the interface that the loopback and a network stack outside fulfil.

A socket asks `InetNetwork.route` for a `Route` and drives the route's `Provider`; the provider drives the socket
(`established`, `reset`, `fin_arrived`, `deliver`). What a provider keeps for one socket is its `Far`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from services.sentry.sockets.inet.interfaces import Interface

if TYPE_CHECKING:
    from services.sentry.sockets.inet.addresses import Endpoint
    from services.sentry.sockets.inet.interfaces import LinkCounters, Neighbour, RouteEntry
    from services.sentry.sockets.inet.tcp import TcpSocket
    from services.sentry.sockets.inet.udp import Datagram, UdpSocket
    from services.sentry.sockets.packet.endpoint import PacketSocket

__all__ = ["Far", "Provider", "Route"]


class Provider(Protocol):
    """Carries data of sockets to the addresses it has routes for.

    interfaces: what it shows; routes: its routing table without what follows from the interfaces' addresses. shared:
    its addresses are also those of programs outside the sandbox (the host's network), so that what is sent to them is
    not the loopback's.
    """

    shared: bool

    @property
    def interfaces(self) -> tuple[Interface, ...]: ...
    @property
    def routes(self) -> tuple[RouteEntry, ...]: ...

    def kind_of(self, address: bytes) -> int:
        """RTN_LOCAL, RTN_BROADCAST: `address` is this provider's own; RTN_UNSPEC: it is not."""

    def lookup(self, destination: bytes, interface: int) -> Route | None:
        """The route to `destination`, by `interface` unless that is 0; None: none. Errors of a route that refuses."""

    def connect(self, socket: TcpSocket, destination: Endpoint) -> None:
        """Begin a connection; `socket` is in SYN_SENT. Ends, now or later, in socket.established or socket.reset."""

    def listen(self, socket: TcpSocket) -> None:
        """`socket` listens, or its backlog changed. EADDRINUSE and such: it cannot."""

    def bound(self, socket: UdpSocket) -> None:
        """`socket` owns a port, or its claim changed: what comes for it is to be delivered. EADDRINUSE and such."""

    def open_packet(self, socket: PacketSocket) -> None:
        """A packet socket was made. EPERM and such."""

    def neighbours(self) -> list[Neighbour]:
        """Link-layer addresses that are known."""

    def counters(self) -> dict[int, LinkCounters]:
        """Interface index -> what has passed through it; one that counts nothing may be missing."""

    def configure(self, verb: str, values: dict[str, object]) -> None:
        """Change interfaces, routes or neighbours (CONFIGURE in protocol/netstack/messages.py). EOPNOTSUPP and such."""

    def send(self, socket: UdpSocket, datagram: Datagram, destination: Endpoint) -> bool:
        """Deliver or forward. False: the destination answers that nobody is there (ICMP port unreachable)."""


class Far(Protocol):
    """What stands for a socket at a provider outside, as every kind of socket knows it. `alive`: it still does."""

    alive: bool

    def option_changed(self, level: int, name: int) -> None:
        """setsockopt(2) was done on the socket."""

    def group_changed(self, group: bytes, interface: int, joined: bool) -> None:
        """The socket joined or left a multicast group."""

    def close(self) -> None:
        """The socket does not need it any more."""


class Route(NamedTuple):
    """The answer of a route lookup. kind: RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST, RTN_UNICAST; gateway: b"": none."""

    source: bytes
    kind: int
    provider: Provider
    interface: Interface
    gateway: bytes = b""
