"""What the host cannot be asked about in a test: time limits of TCP on a virtual clock, and a second provider."""

from __future__ import annotations

import errno
import struct

import pytest

from protocol.abi import in_h
from protocol.abi import poll_h as po
from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.abi import tcp_h as tcp
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet import network
from services.sentry.sockets.inet.addresses import Endpoint
from services.sentry.sockets.inet.interfaces import Interface, InterfaceAddress, LinkCounters, Neighbour, RouteEntry
from services.sentry.sockets.inet.network import InetNetwork
from services.sentry.sockets.inet.ports import DUAL_ANY, PortTable, overlap
from services.sentry.sockets.inet.provider import Route
from services.sentry.sockets.inet.tcp import TcpSocket
from services.sentry.sockets.inet.udp import Datagram, UdpSocket
from services.sentry.sockets.packet.endpoint import PacketSocket
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.files.fake_tasks import Guest

SECOND = 1_000_000_000
LOOPBACK = bytes((127, 0, 0, 1))


def sockaddr(port: int, address: bytes = LOOPBACK) -> bytes:
    return in_h.SOCKADDR_IN.pack(so.AF_INET, port.to_bytes(2, "big"), address)


class Net(Guest):
    """System calls on AF_INET sockets, with addresses as (port, four bytes)."""

    def socket(self, kind: int = so.SOCK_STREAM, flags: int = 0) -> int:
        made = self.call(sk.sys_socket, so.AF_INET, kind | flags, 0)
        assert made is not None and made >= 0
        return made

    def file(self, fd: int) -> TcpSocket:
        found = self.task.files.get(fd)
        assert isinstance(found, TcpSocket)
        return found

    def bind(self, fd: int, port: int, address: bytes = LOOPBACK) -> int | None:
        return self.call(sk.sys_bind, fd, self.put(sockaddr(port, address)), 16)

    def connect(self, fd: int, port: int, address: bytes = LOOPBACK) -> int | None:
        return self.call(sk.sys_connect, fd, self.put(sockaddr(port, address)), 16)

    def listener(self, port: int, backlog: int = 5) -> int:
        made = self.socket()
        assert self.bind(made, port) == 0 and self.call(sk.sys_listen, made, backlog) == 0
        return made

    def accept(self, fd: int) -> int:
        made = self.call(sk.sys_accept, fd, 0, 0)
        assert made is not None and made >= 0
        return made

    def set_option(self, fd: int, level: int, name: int, value: int) -> int | None:
        return self.call(sk.sys_setsockopt, fd, level, name, self.put(struct.pack("<i", value)), 4)

    def close(self, fd: int) -> None:
        self.task.files.close(fd, self.task)

    def after(self, ns: int) -> None:
        self.kernel.clock.advance(ns)
        self.kernel.timers.run(self.kernel.clock.monotonic_ns())

    @property
    def network(self) -> InetNetwork:
        return self.kernel.part(InetNetwork)


# --- time ---
def connected(net: Net, port: int) -> tuple[int, int]:
    listener = net.listener(port)
    client = net.socket()
    assert net.connect(client, port) == 0
    server = net.accept(listener)
    net.close(listener)
    return client, server


def test_time_wait_keeps_the_port_for_a_minute() -> None:
    net = Net()
    client, server = connected(net, 2000)
    net.close(server)
    net.close(client)
    assert net.bind(net.socket(), 2000) == -errno.EADDRINUSE
    net.after(59 * SECOND)
    assert net.bind(net.socket(), 2000) == -errno.EADDRINUSE
    net.after(2 * SECOND)
    assert net.bind(net.socket(), 2000) == 0


def test_fin_wait2_of_a_closed_socket_ends_after_a_minute_and_restarts_with_the_peers_fin() -> None:
    net = Net()
    client, server = connected(net, 2000)
    net.close(server)
    net.after(50 * SECOND)
    net.close(client)
    net.after(50 * SECOND)
    assert net.bind(net.socket(), 2000) == -errno.EADDRINUSE
    net.after(11 * SECOND)
    assert net.bind(net.socket(), 2000) == 0


def test_connect_takes_a_time_wait_over_after_a_second() -> None:
    net = Net()
    listener = net.listener(2000)
    for wait, result in ((0, 0), (0, -errno.EADDRNOTAVAIL), (SECOND, 0)):
        net.after(wait)
        client = net.socket()
        net.set_option(client, so.SOL_SOCKET, so.SO_REUSEADDR, 1)
        assert net.bind(client, 3000) == 0
        assert net.connect(client, 2000) == result
        if not result:
            server = net.accept(listener)
            net.close(client)
            net.close(server)
        else:
            net.close(client)


def test_more_time_waits_than_fit_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    listener = net.listener(2000)
    monkeypatch.setattr(network, "_MAX_TIME_WAITS", 50)
    for _ in range(50 + 10):
        client = net.socket()
        assert net.connect(client, 2000) == 0
        server = net.accept(listener)
        net.close(client)
        net.close(server)
    assert len(net.network.connections) == 50


def test_connect_to_a_full_listener_gives_up_after_two_minutes() -> None:
    net = Net()
    listener = net.listener(2000, 0)
    assert net.connect(net.socket(), 2000) == 0
    late = net.socket()
    assert net.connect(late, 2000) is None
    net.after(126 * SECOND)
    assert net.wake() is None
    net.after(2 * SECOND)
    assert net.wake() == -errno.ETIMEDOUT
    assert not net.file(listener).waiting


def test_a_waiting_connect_goes_on_when_a_connection_is_accepted() -> None:
    net = Net()
    listener = net.listener(2000, 0)
    assert net.connect(net.socket(), 2000) == 0
    other = Guest(net.kernel)
    other.task.files = net.task.files
    late = net.socket()
    at = other.put(sockaddr(2000))
    assert other.call(sk.sys_connect, late, at, 16) is None
    net.accept(listener)
    assert other.wake() == 0
    assert net.file(late).state == tcp.TCP_ESTABLISHED


def test_deferred_connections_are_accepted_with_their_data_or_in_time() -> None:
    net = Net()
    listener = net.listener(2000)
    net.set_option(listener, in_h.IPPROTO_TCP, tcp.TCP_DEFER_ACCEPT, 3)
    talks, silent = net.socket(), net.socket()
    assert net.connect(silent, 2000) == 0 and net.connect(talks, 2000) == 0
    assert net.file(listener).poll() == 0
    assert net.call(sk.sys_sendto, talks, net.put(b"x"), 1, 0, 0, 0) == 1
    assert net.file(listener).poll() & po.POLLIN
    server = net.accept(listener)
    assert net.file(server).remote_port == net.file(talks).local_port
    assert net.file(listener).poll() == 0
    net.after(4 * SECOND)
    assert net.file(net.accept(listener)).remote_port == net.file(silent).local_port


def test_no_space_is_told_once_there_is_room_again() -> None:
    net = Net()
    client, server = connected(net, 2000)
    net.set_option(client, so.SOL_SOCKET, so.SO_SNDBUF, 5000)
    piece = net.put(bytes(4000))
    sent = 0
    while (got := net.call(sk.sys_sendto, client, piece, 4000, so.MSG_DONTWAIT, 0, 0)) == 4000:
        sent += 4000
    assert got == -errno.EAGAIN and 4000 < sent <= 16_000
    assert not net.file(client).poll() & po.POLLOUT
    assert net.call(sk.sys_sendto, client, piece, 4000, 0, 0, 0) is None
    other = Guest(net.kernel)
    other.task.files = net.task.files
    while sent > 0:
        taken = other.call(sk.sys_recvfrom, server, other.alloc(1000), 1000, 0, 0, 0)
        assert taken is not None and taken > 0
        sent -= taken
    assert net.wake() == 4000
    assert net.file(client).poll() & po.POLLOUT


def test_closed_sockets_leave_nothing_behind() -> None:
    net = Net()
    client, server = connected(net, 2000)
    udp = net.socket(so.SOCK_DGRAM)
    assert net.bind(udp, 53) == 0
    net.call(sk.sys_sendto, client, net.put(b"unread"), 6, 0, 0, 0)
    for fd in (server, client, udp):
        net.close(fd)
    left = net.network
    assert not left.connections and not left.listeners
    assert not left.tcp.owners and not left.udp.owners
    assert not +left.sockets


# --- ports ---
def test_claims_overlap_as_addresses_do() -> None:
    any4, any6 = bytes(4), bytes(16)
    one, other = LOOPBACK, bytes((127, 0, 0, 2))
    assert overlap(any4, one) and overlap(one, one) and not overlap(one, other)
    assert overlap(DUAL_ANY, one) and overlap(DUAL_ANY, any6) and not overlap(any6, any4)


def test_a_free_port_is_found_until_there_is_none() -> None:
    class Owner:
        claim, reuse_address, reuse_port, auto, lingers, uid = b"", False, False, False, False, 0

        def is_listening(self) -> bool:
            return False

    table = PortTable(lambda count: bytes(count), streams=True)
    for port in range(32_768, 61_000):
        if port not in (40_000, 40_001):
            table.add(Owner(), port)
    for expected in (40_001, 40_000):  # odd ones first: connect(2) takes even ones
        owner = Owner()
        assert table.choose(owner, owner.claim) == expected
        table.add(owner, expected)
    with pytest.raises(LinuxError) as caught:
        table.choose(Owner(), b"")
    assert caught.value.errno == errno.EADDRINUSE


# --- a second provider ---
class Far:
    """Owns 10.0.0.1 and routes 10.0.0.0/8; what it is asked to carry is kept."""

    own = bytes((10, 0, 0, 1))
    shared = False

    def __init__(self) -> None:
        addresses = (InterfaceAddress(self.own, 8, rt.RT_SCOPE_UNIVERSE),)
        flags = rt.IFF_UP | rt.IFF_BROADCAST | rt.IFF_RUNNING
        self.interfaces = (Interface(2, b"eth0", flags, rt.ARPHRD_ETHER, 1500, b"\2\0\0\0\0\1", addresses),)
        self.routes: tuple[RouteEntry, ...] = ()
        self.connecting: list[tuple[TcpSocket, Endpoint]] = []
        self.listening: list[TcpSocket] = []
        self.bound_to: list[tuple[bytes, int]] = []
        self.sent: list[Datagram] = []

    def kind_of(self, address: bytes) -> int:
        return rt.RTN_LOCAL if address == self.own else rt.RTN_UNSPEC

    def lookup(self, destination: bytes, interface: int) -> Route | None:
        if destination[:1] != b"\n" or len(destination) != 4:
            return None
        return Route(self.own, rt.RTN_UNICAST, self, self.interfaces[0])

    def listen(self, socket: TcpSocket) -> None:
        self.listening.append(socket)

    def open_packet(self, socket: PacketSocket) -> None:
        raise AssertionError("nobody makes one here")

    def neighbours(self) -> list[Neighbour]:
        return []

    def counters(self) -> dict[int, LinkCounters]:
        return {}

    def configure(self, verb: str, values: dict[str, object]) -> None:
        raise LinuxError(errno.EOPNOTSUPP)

    def bound(self, socket: UdpSocket) -> None:
        self.bound_to.append((socket.claim, socket.local_port))

    def connect(self, socket: TcpSocket, destination: Endpoint) -> None:
        self.connecting.append((socket, destination))

    def send(self, socket: UdpSocket, datagram: Datagram, destination: Endpoint) -> bool:
        self.sent.append(datagram)
        return True


def far_net() -> tuple[Net, Far]:
    net, far = Net(), Far()
    net.network.providers.append(far)
    return net, far


def test_a_connection_beyond_the_loopback_is_its_providers() -> None:
    net, far = far_net()
    peer = bytes((10, 2, 3, 4))
    fd = net.socket(flags=so.SOCK_NONBLOCK)
    assert net.connect(fd, 80, peer) == -errno.EINPROGRESS
    ((socket, destination),) = far.connecting
    assert destination == Endpoint(peer, 80) and socket.local == Far.own
    assert socket.state == tcp.TCP_SYN_SENT and not socket.poll() & po.POLLOUT
    socket.reset(errno.ECONNREFUSED)
    assert socket.poll() & po.POLLERR
    assert net.connect(fd, 80, peer) == -errno.ECONNREFUSED
    assert net.connect(net.socket(), 80, bytes((8, 8, 8, 8))) == -errno.ENETUNREACH
    assert net.bind(net.socket(), 80, Far.own) == 0


def test_datagrams_go_to_their_provider_and_come_back_by_deliver() -> None:
    net, far = far_net()
    fd = net.socket(so.SOCK_DGRAM)
    peer = bytes((10, 2, 3, 4))
    at = net.put(sockaddr(53, peer))
    assert net.call(sk.sys_sendto, fd, net.put(b"query"), 5, 0, at, 16) == 5
    (datagram,) = far.sent
    assert (datagram.data, datagram.source.address, datagram.destination.address) == (b"query", Far.own, peer)
    socket = net.task.files.get(fd)
    assert isinstance(socket, UdpSocket)
    socket.deliver(Datagram(b"answer", Endpoint(peer, 53), datagram.source, 60, 0, 2))
    assert net.call(sk.sys_recvfrom, fd, net.alloc(10), 10, 0, 0, 0) == 6
