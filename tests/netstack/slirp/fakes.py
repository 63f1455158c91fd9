"""A host without sockets: what the engine asks is recorded, and the test says what comes of it.

`VirtualNetwork` is a guest at 10.0.2.15 and fd00:0:0:2::15, whose default routes lead to a stack with the engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from services.netstackd.network.routes import NextHop, Route
from services.netstackd.slirp.datagrams import FlowTable
from services.netstackd.slirp.engine import Slirp
from services.netstackd.slirp.host import FAILED, READABLE, WRITABLE, Client, HostPort, HostSocket, Ready
from services.netstackd.slirp.publish import Publisher
from services.netstackd.slirp.pump import Pumps
from services.netstackd.storage.packet import Payload
from tests.netstack.unit.hosts import World, ip

GUEST, GATEWAY = ip("10.0.2.15"), ip("10.0.2.2")
GUEST6, GATEWAY6 = ip("fd00:0:0:2::15"), ip("fd00:0:0:2::2")
OUTSIDE, OUTSIDE6 = ip("203.0.113.7"), ip("2001:db8::7")


class FakeSocket:
    """A HostSocket. `room`: bytes (or datagrams) it takes before it would block."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.to_read: deque[bytes | OSError] = deque()
        self.room = 1 << 30
        self.send_error: OSError | None = None
        self.shut = self.closed = self.reset = False
        self.ready: Ready | None = None

    def watch(self, ready: Ready, *, edge: bool = False) -> None:
        self.ready = ready

    def tell(self, events: int) -> None:
        """What epoll would say."""
        assert self.ready is not None and not self.closed
        self.ready(events)

    def arrive(self, *data: bytes | OSError) -> None:
        """Data, the end of the stream (b""), or an error comes from outside."""
        self.to_read.extend(data)
        self.tell(READABLE | (FAILED if isinstance(data[-1], OSError) else 0))

    def connected(self) -> None:
        """The connection stands."""
        self.tell(WRITABLE)

    def receive(self, limit: int) -> bytes:
        assert not self.closed
        if not self.to_read:
            raise BlockingIOError
        item = self.to_read.popleft()
        if isinstance(item, OSError):
            raise item
        if len(item) > limit:
            self.to_read.appendleft(item[limit:])
        return item[:limit]

    def send(self, data: Payload) -> int:
        assert not self.closed and not self.shut
        if self.send_error is not None:
            raise self.send_error
        taken = min(len(data), self.room)
        if not taken and len(data):
            raise BlockingIOError
        self.room -= taken
        self.sent.append(bytes(data[:taken]))
        return taken

    def make_room(self, size: int) -> None:
        """The other side has read."""
        self.room += size
        self.tell(WRITABLE)

    def shutdown_write(self) -> None:
        self.shut = True

    def close(self, *, reset: bool = False) -> None:
        self.closed, self.reset = True, reset


class FakePort:
    """A HostPort."""

    def __init__(self, version: int, address: int, port: int) -> None:
        self.version, self.address, self.port = version, address, port or 40000
        self.clients: deque[tuple[FakeSocket, Client]] = deque()
        self.datagrams: deque[tuple[bytes, Client]] = deque()
        self.sent: list[tuple[bytes, Client]] = []
        self.closed = False
        self.ready: Ready | None = None

    def watch(self, ready: Ready) -> None:
        self.ready = ready

    def client(self, address: str, port: int) -> FakeSocket:
        """Somebody connects."""
        made = FakeSocket()
        self.clients.append((made, client(address, port)))
        assert self.ready is not None
        self.ready(READABLE)
        return made

    def arrive(self, data: bytes, address: str, port: int) -> None:
        """A datagram comes."""
        self.datagrams.append((data, client(address, port)))
        assert self.ready is not None
        self.ready(READABLE)

    def accept(self) -> tuple[HostSocket, Client]:
        if not self.clients:
            raise BlockingIOError
        return self.clients.popleft()

    def receive_from(self, limit: int) -> tuple[bytes, Client]:
        if not self.datagrams:
            raise BlockingIOError
        return self.datagrams.popleft()

    def send_to(self, data: Payload, client: Client) -> int:
        self.sent.append((bytes(data), client))
        return len(data)

    def close(self) -> None:
        self.closed = True


def client(address: str, port: int) -> Client:
    """A client as HostPort names it."""
    return (6 if ":" in address else 4, ip(address), port)


class Asked:
    """One request to the host."""

    def __init__(
        self, kind: str, version: int, address: int, port: int, done: Callable[[HostSocket | int], None]
    ) -> None:
        self.kind, self.version, self.address, self.port = kind, version, address, port
        self._done = done

    def give(self) -> FakeSocket:
        """A socket that connects."""
        made = FakeSocket()
        self._done(made)
        return made

    def fail(self, number: int) -> None:
        """An errno."""
        self._done(number)


class FakeHost:
    """A Host."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.ports: list[FakePort] = []
        self.listen_error = 0

    def connect(
        self, kind: str, version: int, address: int, port: int, done: Callable[[HostSocket | int], None]
    ) -> None:
        self.asked.append(Asked(kind, version, address, port, done))

    def listen(self, kind: str, version: int, address: int, port: int, done: Callable[[HostPort | int], None]) -> None:
        if self.listen_error:
            done(self.listen_error)
            return
        made = FakePort(version, address, port)
        self.ports.append(made)
        done(made)

    def port(self, fd: int, kind: str) -> HostPort:
        made = FakePort(4, 0, fd)
        self.ports.append(made)
        return made


class VirtualNetwork:
    """See the module docstring."""

    def __init__(self, **options: object) -> None:
        self.world = World()
        self.gateway = self.world.host("gateway")
        self.guest = self.world.host("guest")
        self.inside = self.gateway.up(self.gateway.interface("virtual"), "10.0.2.2/24", "fd00:0:0:2::2/64")
        self.eth0 = self.guest.up(self.guest.interface(), "10.0.2.15/24", "fd00:0:0:2::15/64")
        self.world.join((self.gateway, self.inside), (self.guest, self.eth0))
        for version, gateway in ((4, GATEWAY), (6, GATEWAY6)):
            self.guest.stack.add_route(Route(version, 0, 0, (NextHop(self.eth0, gateway),)))
        self.host = FakeHost()
        limit = options.pop("max_flows", 1024)
        self.pumps = Pumps(self.gateway.stack)
        self.flows = FlowTable(self.gateway.stack, limit)  # type: ignore[arg-type]
        self.slirp = Slirp(self.gateway.stack, self.host, self.pumps, self.flows, **options)  # type: ignore[arg-type]
        self.slirp.cover(self.inside)
        self.names: dict[str, tuple[int, int]] = {}
        self.publisher = Publisher(
            self.gateway.stack, self.host, self.pumps, self.flows, lambda name, version: self.names.get(name)
        )
        self.run = self.world.run
        self.run(3)
        self.world.frames.clear()

    def count(self, name: str) -> int:
        """A counter of the stack with the engine."""
        return self.gateway.count(name)
