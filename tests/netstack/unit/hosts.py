"""Hosts on virtual time: stacks joined by wires, with nothing of the host kernel in between.

A `World` has a clock and a seeded source of randomness. `host` makes a stack with loopback, `join` puts an interface of
each of several hosts on one Ethernet segment (every frame reaches all others, as on a hub), `run` lets time pass. What
passes a wire is recorded in `World.frames` with the time, its sender and the frame; a wire may lose frames by a
predicate.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterator

from services.netstackd.network.interface import ETHERNET, IP, LOOPBACK, Interface
from services.netstackd.sockets import AF_INET, AF_INET6, SOCK_DGRAM, Message, UdpSocket, open_socket
from services.netstackd.stack import Stack
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.offload import complete_checksum

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
STEP = 20 * MILLISECOND


def ip(text: str) -> int:
    """An address as an int."""
    return int(ipaddress.ip_address(text))


def text(version: int, value: int) -> str:
    """An int as an address."""
    return str(ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value))


class Wire:
    """One segment: the interfaces on it, and what it does to frames."""

    def __init__(self) -> None:
        self.ends: list[tuple[Host, Interface]] = []
        self.lose: Callable[[bytes], bool] = lambda frame: False


class Frame:
    """What passed a wire."""

    def __init__(self, at: int, sender: Host, data: bytes, packet: Packet) -> None:
        self.at = at
        self.sender = sender
        self.data = data
        self.packet = packet

    @property
    def ethertype(self) -> int:
        return int.from_bytes(self.data[12:14], "big")

    @property
    def payload(self) -> bytes:
        return self.data[14:]


class Host:
    """A stack with short ways to configure it."""

    def __init__(self, world: World, name: str, number: int) -> None:
        self.world = world
        self.name = name
        self.number = number
        self.stack = Stack(random.Random(world.seed * 1000 + number), bytes([number]) * 32, world.now)
        self.lo = self.stack.add_interface(Interface("lo", LOOPBACK, mtu=65536))
        self.stack.set_up(self.lo, True)

    def interface(self, name: str = "eth0", mtu: int = 1500, kind: int = ETHERNET, **settings: int) -> Interface:
        """A new interface, down; its link address is 02:00:00:00:<host>:<index>."""
        index = len(self.stack.interfaces)
        iface = Interface(name, kind, bytes((2, 0, 0, 0, self.number, index)), mtu)
        self.stack.add_interface(iface)
        if settings:
            self.stack.configure(iface, **settings)
        return iface

    def address(self, iface: Interface, value: str, **options: bool) -> None:
        """Add `address/length`."""
        parsed = ipaddress.ip_interface(value)
        self.stack.add_address(iface, parsed.version, int(parsed.ip), parsed.network.prefixlen, **options)  # type: ignore[arg-type]

    def up(self, iface: Interface, *addresses: str) -> Interface:
        """Bring up with addresses that need no detection."""
        self.stack.set_up(iface, True)
        for value in addresses:
            self.address(iface, value, detect=False)
        return iface

    def udp(self, version: int = 4, port: int = 0) -> UdpSocket:
        """A UDP socket, bound when there is a port."""
        socket = open_socket(self.stack, AF_INET if version == 4 else AF_INET6, SOCK_DGRAM)
        assert isinstance(socket, UdpSocket)
        if port:
            socket.bind((0, port, 0))
        return socket

    def count(self, name: str) -> int:
        """A counter."""
        return self.stack.counters.get(name)


class World:
    """See the module."""

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        self.now = 10 * SECOND
        self.hosts: list[Host] = []
        self.wires: list[Wire] = []
        self.frames: list[Frame] = []

    def host(self, name: str) -> Host:
        """A new host."""
        host = Host(self, name, len(self.hosts) + 1)
        self.hosts.append(host)
        return host

    def join(self, *ends: tuple[Host, Interface]) -> Wire:
        """Put interfaces on one segment."""
        wire = Wire()
        wire.ends = list(ends)
        self.wires.append(wire)
        return wire

    def settle(self) -> None:
        """Deliver frames until nobody has more to say at this moment."""
        for _ in range(200):
            for host in self.hosts:
                deadline = host.stack.next_deadline()
                if deadline is not None and deadline <= self.now:
                    host.stack.advance(self.now)
                host.stack.flush(self.now)
            if not self._carry():
                return
        raise AssertionError("the hosts talk without end")

    def _carry(self) -> bool:
        carried = False
        for wire in self.wires:
            batches: list[tuple[Host, Interface, list[Packet]]] = []
            for host, iface in wire.ends:
                packets = list(iface.tx)
                iface.tx.clear()
                for packet in packets:
                    carried = True
                    complete_checksum(packet)
                    frame = packet.frame_bytes()
                    self.frames.append(Frame(self.now, host, frame, packet))
                    if wire.lose(frame):
                        continue
                    for other, end in wire.ends:
                        if end is not iface:
                            batches.append((other, end, [Packet(frame, len(frame))]))
            for host, iface, packets in batches:
                host.stack.receive(iface, packets, self.now)
        return carried

    def run(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline."""
        until = self.now + int(seconds * SECOND)
        self.settle()
        while True:
            deadlines = [d for host in self.hosts if (d := host.stack.next_deadline()) is not None]
            following = min(deadlines, default=until)
            if following >= until:
                self.now = until
                self.settle()
                return
            self.now = max(following, self.now + 1)
            self.settle()

    def sent(self, sender: Host | None = None, ethertype: int | None = None) -> Iterator[Frame]:
        """The recorded frames."""
        for frame in self.frames:
            if (sender is None or frame.sender is sender) and (ethertype is None or frame.ethertype == ethertype):
                yield frame


class Pair:
    """Two hosts on one wire, 10.0.0.1 and 10.0.0.2, fd00::1 and fd00::2."""

    def __init__(self, mtu: int = 1500, seed: int = 1, kind: int = ETHERNET) -> None:
        self.world = World(seed)
        self.a = self.world.host("a")
        self.b = self.world.host("b")
        self.ia = self.a.up(self.a.interface(mtu=mtu, kind=kind), "10.0.0.1/24", "fd00::1/64")
        self.ib = self.b.up(self.b.interface(mtu=mtu, kind=kind), "10.0.0.2/24", "fd00::2/64")
        self.wire = self.world.join((self.a, self.ia), (self.b, self.ib))
        self.run = self.world.run
        self.settle = self.world.settle


class Routed:
    """a -- r -- b, 10.1.0.0/24 and 10.2.0.0/24, fd01::/64 and fd02::/64; r is .254 and ::fe, and forwards."""

    def __init__(self, left_mtu: int = 1500, right_mtu: int = 1500, seed: int = 1) -> None:
        self.world = World(seed)
        self.a, self.r, self.b = self.world.host("a"), self.world.host("r"), self.world.host("b")
        self.ia = self.a.up(self.a.interface(mtu=left_mtu), "10.1.0.1/24", "fd01::1/64")
        self.ib = self.b.up(self.b.interface(mtu=right_mtu), "10.2.0.1/24", "fd02::1/64")
        forwarding = {"forwarding4": 1, "forwarding6": 1}
        self.left = self.r.up(self.r.interface("left", mtu=left_mtu, **forwarding), "10.1.0.254/24", "fd01::fe/64")
        self.right = self.r.up(self.r.interface("right", mtu=right_mtu, **forwarding), "10.2.0.254/24", "fd02::fe/64")
        self.left_wire = self.world.join((self.a, self.ia), (self.r, self.left))
        self.right_wire = self.world.join((self.b, self.ib), (self.r, self.right))
        default(self.a, self.ia, "10.1.0.254", "fd01::fe")
        default(self.b, self.ib, "10.2.0.254", "fd02::fe")
        self.run = self.world.run
        self.settle = self.world.settle


def default(host: Host, iface: Interface, *gateways: str) -> None:
    """Default routes by these gateways."""
    from services.netstackd.network.routes import NextHop, Route

    for gateway in gateways:
        version = ipaddress.ip_address(gateway).version
        host.stack.add_route(Route(version, 0, 0, (NextHop(iface, ip(gateway)),)))


def received(socket: UdpSocket) -> list[bytes]:
    """Everything that a socket has."""
    got: list[bytes] = []
    while socket.queue:
        message = socket.receive()
        assert isinstance(message, Message)
        got.append(message.data)
    return got


__all__ = ["IP", "MILLISECOND", "SECOND", "Host", "Pair", "Routed", "World", "default", "ip", "received", "text"]
