"""The loopback interface: the provider for 127.0.0.0/8, ::1 and the addresses of all other interfaces of this host.

Data goes from socket to socket and is never a packet. Owns no state but its interface. A connection is two `TcpSocket`s
that know each other as `peer`; segments are never lost, so whatever Linux does after a round trip is done at once.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import rtnetlink_h as rt
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.addresses import LOOPBACK4, LOOPBACK6, Endpoint, is_multicast
from services.sentry.sockets.inet.interfaces import Interface, InterfaceAddress, LinkCounters, Neighbour, RouteEntry
from services.sentry.sockets.inet.provider import Route

if TYPE_CHECKING:
    from services.sentry.sockets.inet.network import InetNetwork
    from services.sentry.sockets.inet.tcp import TcpSocket
    from services.sentry.sockets.inet.udp import Datagram, UdpSocket
    from services.sentry.sockets.packet.endpoint import PacketSocket

__all__ = ["LOOPBACK_INDEX", "Loopback"]

LOOPBACK_INDEX: Final = 1
_BROADCAST: Final = bytes((127, 255, 255, 255))
_MTU: Final = 65_536


def _interface() -> Interface:
    return Interface(
        ifindex=LOOPBACK_INDEX,
        name=b"lo",
        flags=rt.IFF_UP | rt.IFF_LOOPBACK | rt.IFF_RUNNING | rt.IFF_LOWER_UP,
        kind=rt.ARPHRD_LOOPBACK,
        mtu=_MTU,
        hardware=bytes(6),
        addresses=(
            InterfaceAddress(LOOPBACK4, 8, rt.RT_SCOPE_HOST),
            InterfaceAddress(LOOPBACK6, 128, rt.RT_SCOPE_HOST),
        ),
    )


class Loopback:
    """See the module."""

    __slots__ = ("interfaces", "network", "routes", "shared")

    def __init__(self, network: InetNetwork) -> None:
        self.network = network
        self.interfaces: tuple[Interface, ...] = (_interface(),)
        self.routes: tuple[RouteEntry, ...] = ()
        self.shared = False

    def kind_of(self, address: bytes) -> int:
        if len(address) == 4:
            if address[0] != 127:
                return rt.RTN_UNSPEC
            return rt.RTN_BROADCAST if address == _BROADCAST else rt.RTN_LOCAL
        return rt.RTN_LOCAL if address == LOOPBACK6 else rt.RTN_UNSPEC

    def lookup(self, destination: bytes, interface: int) -> Route | None:
        """Its own addresses, multicast by its interface alone, and what other interfaces have."""
        (own,) = self.interfaces
        if interface in (0, LOOPBACK_INDEX):
            kind = self.kind_of(destination)
            if kind:
                return Route(LOOPBACK4 if len(destination) == 4 else LOOPBACK6, kind, self, own)
            if interface and len(destination) == 4 and is_multicast(destination):
                return Route(LOOPBACK4, rt.RTN_MULTICAST, self, own)
        for other in self.network.providers[1:]:
            if not other.shared and other.kind_of(destination) == rt.RTN_LOCAL:
                return Route(destination, rt.RTN_LOCAL, self, own)
        return None

    def listen(self, socket: TcpSocket) -> None:
        """Connections find it in the network's table."""

    def bound(self, socket: UdpSocket) -> None:
        """Datagrams find it in the table of ports."""

    def open_packet(self, socket: PacketSocket) -> None:
        """It carries no frames."""

    def neighbours(self) -> list[Neighbour]:
        return []

    def counters(self) -> dict[int, LinkCounters]:
        """Data goes from socket to socket: there are no packets."""
        return {}

    def configure(self, verb: str, values: dict[str, object]) -> None:
        """It stays as it is. EOPNOTSUPP: it was to be another; that it be up is no change."""
        if verb != "link_set" or values.keys() != {"interface", "up"} or not values["up"]:
            raise LinuxError(errno.EOPNOTSUPP)

    # --- streams ---
    def connect(self, socket: TcpSocket, destination: Endpoint) -> None:
        """To whoever listens there, or refused. A full listener lets the caller wait, as a lost SYN would."""
        listener = self.network.find_listener(destination.address, destination.port)
        if listener is None:
            if (socket.local, socket.local_port) == (destination.address, destination.port):
                socket.established(socket)  # simultaneous open with itself (RFC 9293, figure 7)
            else:
                socket.reset(errno.ECONNREFUSED)
        elif listener.is_full():
            listener.waiting[socket] = None
        else:
            listener.admit(socket)

    # --- datagrams ---
    def send(self, sender: UdpSocket, datagram: Datagram, destination: Endpoint) -> bool:
        """To the socket that fits best, or to all of a broadcast or multicast address."""
        address, port = destination.address, destination.port
        sockets = self.network.datagram_sockets(port)
        if is_multicast(address) or (len(address) == 4 and self.kind_of(address) == rt.RTN_BROADCAST):
            for socket in sockets:
                if _rank(socket, datagram, address) and (not is_multicast(address) or socket.hears(address)):
                    socket.deliver(datagram)
            return True
        best: list[UdpSocket] = []
        rank = 0
        for socket in sockets:
            score = _rank(socket, datagram, address)
            if score > rank:
                best, rank = [socket], score
            elif score and score == rank:
                best.append(socket)
        if not best:
            return False
        if len(best) > 1 and best[-1].reuse_port:
            chosen = best[self.network.kernel.random(1)[0] % len(best)]
        else:
            chosen = best[-1]  # the one that was bound last
        chosen.deliver(datagram)
        return True


def _rank(socket: UdpSocket, datagram: Datagram, address: bytes) -> int:
    """How well `socket` fits `datagram` to `address`, 0: not at all (net/ipv4/udp.c compute_score)."""
    claim = socket.claim
    if claim and (len(claim) != len(address) or (claim != address and any(claim))):
        return 0
    score = 1
    if len(claim) == len(address):
        score += 1
    if claim == address:
        score += 2
    if socket.remote_port or any(socket.remote):
        if socket.remote_port != datagram.source.port or socket.remote != datagram.source.address:
            return 0
        score += 8
    return score
