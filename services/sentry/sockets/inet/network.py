"""The IP network of one sandbox: interfaces, routes, port tables, connections, and who carries data to which address.

`InetNetwork` is one per kernel (`kernel.part(InetNetwork)`). Sockets keep states, options and errors and ask it for a
`Route`; what moves their data is the route's `Provider`. The loopback is a provider that never leaves the Sentry, and
the one for every address of this host. A network stack outside is a second one (netstack/): it is added to `providers`,
answers for all other addresses, and drives the same methods of the sockets (`reset`, `fin_arrived`, `deliver`). What
stands for a socket there is the socket's `far`.
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.abi import rtnetlink_h as rt
from protocol.abi import tcp_h as tcp
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.addresses import is_multicast
from services.sentry.sockets.inet.loopback import Loopback
from services.sentry.sockets.inet.ports import PortTable

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.sockets.inet.interfaces import Interface, LinkCounters, Neighbour, RouteEntry
    from services.sentry.sockets.inet.provider import Provider, Route
    from services.sentry.sockets.inet.raw import RawSocket
    from services.sentry.sockets.inet.tcp import TcpSocket
    from services.sentry.sockets.inet.udp import UdpSocket
    from services.sentry.sockets.packet.endpoint import PacketSocket

__all__ = ["Connection", "InetNetwork", "Makers", "TimeWait"]

#: TIME_WAIT and FIN_WAIT2 of a socket nobody holds last this long (TCP_TIMEWAIT_LEN, net.ipv4.tcp_fin_timeout).
_LINGER_NS: Final = 60_000_000_000
#: net.ipv4.tcp_tw_reuse, 2 by default: connect(2) takes over a TIME_WAIT of the loopback after a second.
_REUSE_NS: Final = 1_000_000_000
#: net.ipv4.tcp_max_tw_buckets: beyond it a connection just goes.
_MAX_TIME_WAITS: Final = 8192

#: Local address and port, remote address and port.
Connection = tuple[bytes, int, bytes, int]


class TimeWait:
    """What is left of a connection whose socket nobody holds: it keeps the port and the pair of addresses.

    state: TCP_FIN_WAIT2 until the other side's end comes, then TCP_TIME_WAIT.
    """

    __slots__ = ("auto", "claim", "connection", "domain", "expires_ns", "reuse_address", "reuse_port", "state", "uid")

    lingers = True

    def __init__(self, socket: TcpSocket, state: int, expires_ns: int) -> None:
        self.connection = socket.connection
        self.domain = socket.domain
        self.claim = socket.claim
        self.auto = socket.auto
        self.reuse_address = socket.reuse_address
        self.reuse_port = socket.reuse_port
        self.uid = socket.uid
        self.state = state
        self.expires_ns = expires_ns

    def is_listening(self) -> bool:
        return False


class Makers(NamedTuple):
    """The classes of sockets that there are only with a network beyond the loopback (raw.py)."""

    ping: Callable[[Kernel, Credentials, InetNetwork, int, int], UdpSocket]
    raw: Callable[[Kernel, Credentials, InetNetwork, int, int, int], UdpSocket]


class InetNetwork:
    """tcp, udp, ping: who owns which port or identifier; raw, packets: all raw sockets and packet sockets.

    listeners: port -> listening sockets; connections: TCP's, by both ends. notices: called when interfaces or routes
    changed. groups: (multicast group, interface index) -> how many memberships; counted: MIB counters of
    /proc/net/snmp; sockets: how many there are, by the names of /proc/net/protocols.
    """

    __slots__ = (
        "_held",
        "_lingering",
        "connections",
        "counted",
        "groups",
        "kernel",
        "listeners",
        "makers",
        "notices",
        "packets",
        "ping",
        "providers",
        "raw",
        "sockets",
        "tcp",
        "udp",
    )

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.tcp = PortTable(kernel.random, streams=True)
        self.udp = PortTable(kernel.random, streams=False)
        self.ping = PortTable(kernel.random, streams=False)
        self.raw: dict[RawSocket, None] = {}
        self.packets: dict[PacketSocket, None] = {}
        self.listeners: dict[int, list[TcpSocket]] = {}
        self.connections: dict[Connection, TcpSocket | TimeWait] = {}
        self.groups: Counter[tuple[bytes, int]] = Counter()
        self.counted: Counter[str] = Counter()
        self.sockets: Counter[str] = Counter()
        self.providers: list[Provider] = [Loopback(self)]
        self.makers: Makers | None = None
        self.notices: list[Callable[[], None]] = []
        self._held = 0
        self._lingering: deque[tuple[int, TimeWait]] = deque()

    # --- interfaces and routes ---
    def interfaces(self) -> list[Interface]:
        return [interface for provider in self.providers for interface in provider.interfaces]

    def interface(self, index: int) -> Interface | None:
        return next((found for found in self.interfaces() if found.ifindex == index), None)

    def interface_named(self, name: bytes) -> Interface | None:
        return next((found for found in self.interfaces() if found.name == name), None)

    def interface_with(self, address: bytes) -> Interface | None:
        """The interface that has `address` itself."""
        for found in self.interfaces():
            if any(own.address == address for own in found.addresses):
                return found
        return None

    def kind_of(self, address: bytes) -> int:
        """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST, or RTN_UNSPEC for what is not this host's (fib inet_addr_type)."""
        if is_multicast(address):
            return rt.RTN_MULTICAST
        if address == b"\xff\xff\xff\xff":
            return rt.RTN_BROADCAST
        for provider in self.providers:
            kind = provider.kind_of(address)
            if kind:
                return kind
        return rt.RTN_UNSPEC

    def route(self, destination: bytes, interface: int = 0) -> Route:
        """Who carries packets to `destination`. ENETUNREACH: nobody. `interface`: only by this one, 0: any."""
        for provider in self.providers:
            found = provider.lookup(destination, interface)
            if found is not None:
                return found
        raise LinuxError(errno.ENETUNREACH)

    def routes(self) -> list[RouteEntry]:
        return [route for provider in self.providers for route in provider.routes]

    def neighbours(self) -> list[Neighbour]:
        return [each for provider in self.providers for each in provider.neighbours()]

    def counters(self) -> dict[int, LinkCounters]:
        """Interface index -> what has passed through it until now."""
        return {index: found for provider in self.providers for index, found in provider.counters().items()}

    def configure(self, verb: str, values: dict[str, object]) -> None:
        """Change what the provider of the interface has, or, without one, the last. EOPNOTSUPP: it cannot be."""
        index = values.get("interface", 0)
        owner = self.providers[-1]
        for each in self.providers:
            if any(own.ifindex == index for own in each.interfaces):
                owner = each
        owner.configure(verb, values)

    def open_packet(self, socket: PacketSocket) -> None:
        """A packet socket was made: the provider outside gives it what its links carry."""
        for provider in self.providers:
            provider.open_packet(socket)

    def changed(self) -> None:
        """Interfaces, addresses or routes are others than before."""
        for notice in self.notices:
            notice()

    # --- listeners ---
    def find_listener(self, address: bytes, port: int) -> TcpSocket | None:
        """Who accepts connections to `address` and `port`: the most exact; of several equal ones (SO_REUSEPORT) any."""
        listeners = self.listeners.get(port)
        if not listeners:
            return None
        best: list[TcpSocket] = []
        rank = 0
        for listener in listeners:
            claim = listener.claim
            if claim == address:
                score = 3
            elif not claim:
                score = 1
            elif len(claim) == len(address) and not any(claim):
                score = 2
            else:
                continue
            if score > rank:
                best, rank = [listener], score
            elif score == rank:
                best.append(listener)
        if len(best) < 2:
            return best[0] if best else None
        return best[self.kernel.random(1)[0] % len(best)]

    @property
    def has_outside(self) -> bool:
        """Whether anything but the loopback carries data."""
        return len(self.providers) > 1

    # --- connections that nobody holds any more ---
    def linger(self, socket: TcpSocket, state: int) -> TimeWait | None:
        """Leave a TimeWait in the place of `socket`'s connection. None: there are too many."""
        now = self.kernel.clock.monotonic_ns()
        self.forget_expired(now)
        if self._held >= _MAX_TIME_WAITS:
            return None
        self._held += 1
        record = TimeWait(socket, state, now + _LINGER_NS)
        self.connections[record.connection] = record
        self.tcp.add(record, record.connection[1])
        self._lingering.append((record.expires_ns, record))
        return record

    def other_side_ended(self, record: TimeWait) -> None:
        """The FIN that a FIN_WAIT2 record waited for: its time begins anew."""
        if self.connections.get(record.connection) is record:
            record.state = tcp.TCP_TIME_WAIT
            record.expires_ns = self.kernel.clock.monotonic_ns() + _LINGER_NS
            self._lingering.append((record.expires_ns, record))

    def forget(self, record: TimeWait) -> None:
        """It gives its port back."""
        if record.expires_ns:
            self._held -= 1
        if self.connections.get(record.connection) is record:
            del self.connections[record.connection]
        self.tcp.remove(record, record.connection[1])
        record.expires_ns = 0

    def forget_expired(self, now_ns: int) -> None:
        lingering = self._lingering
        while lingering and (lingering[0][0] <= now_ns or lingering[0][1].expires_ns != lingering[0][0]):
            expires_ns, record = lingering.popleft()
            if record.expires_ns == expires_ns:
                self.forget(record)

    def is_taken(self, connection: Connection) -> bool:
        """Whether connect(2) may not have this pair of ends. A TIME_WAIT that may be taken over goes."""
        found = self.connections.get(connection)
        if found is None:
            return False
        if isinstance(found, TimeWait) and found.state == tcp.TCP_TIME_WAIT:
            age = self.kernel.clock.monotonic_ns() - (found.expires_ns - _LINGER_NS)
            if age >= _REUSE_NS:
                self.forget(found)
                return False
        return True

    def all_datagram_sockets(self) -> list[UdpSocket]:
        """UDP's, ICMP's and raw ones."""
        tables = (self.udp, self.ping)
        owned = [owner for table in tables for owners in table.owners.values() for owner in owners]
        return [*owned, *self.raw]  # type: ignore[list-item]  # only such sockets are put there

    def datagram_sockets(self, port: int) -> list[UdpSocket]:
        """Those who own UDP's `port`."""
        return list(self.udp.at(port))  # type: ignore[arg-type]  # only UDP sockets are put there
