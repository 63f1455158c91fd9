"""Two sandboxes' sockets over a real netstackd, whose router runs in this process, turned whenever a Sentry waits."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest

from protocol.abi import in_h
from protocol.abi import poll_h as po
from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.abi import tcp_h as tcp
from services.sentry.filesystems.proc.net import FILES as net_files
from services.sentry.filesystems.proc.net import inet as proc
from services.sentry.sockets.inet.netstack.channel_unsafe import Channel
from services.sentry.sockets.inet.netstack.provider import NetstackProvider
from services.sentry.sockets.inet.network import InetNetwork
from services.sentry.syscalls import sockets as sk
from tests.netstack.socket_service.client import World
from tests.unit.sentry.files.fake_tasks import Guest
from tests.unit.sentry.sockets.fake_service import FarGuest, HostPoll

ROUTER = bytes((10, 0, 2, 2))
NOBODY = bytes((10, 0, 2, 99))


class TurningChannel(Channel):
    """Whoever waits on it lets the router run."""

    __slots__ = ("world",)

    def __init__(self, fd: int, world: World) -> None:
        super().__init__(fd)
        self.world = world

    def wait(self, *, writing: bool, timeout_ns: int) -> bool:
        self.world.turn(3)
        return super().wait(writing=writing, timeout_ns=1_000_000_000)


#: Of the test that runs: each has a Sentry whose loop turns by itself.
SANDBOXES: list[Sandbox] = []


class Sandbox(FarGuest):
    """A guest in a namespace of its own."""

    def __init__(self, world: World, name: str) -> None:
        Guest.__init__(self)
        self.kernel.host_poll = HostPoll()
        self.world = world
        self.services = []
        SANDBOXES.append(self)
        sock = world.router.sockets.connect(world.namespace(name))
        network = self.kernel.part(InetNetwork)
        self.provider = NetstackProvider(network, lambda fd: TurningChannel(fd, world))
        self.provider.join(sock.detach())
        (self.address, *_) = [own.address for own in self.provider.interfaces[0].addresses if len(own.address) == 4]
        self.address6 = next(own.address for own in self.provider.interfaces[0].addresses if own.address[:1] == b"\xfd")

    def turn(self) -> None:
        """Let everything happen that is to."""
        for _ in range(6):
            self.world.turn(2)
            for sandbox in SANDBOXES:
                while sandbox.kernel.host_poll.dispatch():
                    pass

    def until(self, condition: object) -> object:
        """Turn until `condition()`; what it gave."""
        for _ in range(400):
            self.turn()
            found = condition()  # type: ignore[operator]
            if found:
                return found
            self.world.router.loop.turn(0.005)
        raise AssertionError("it did not come to that")

    def finish(self, result: int | None) -> int:
        """The result of a call that may wait."""
        if result is None:
            self.until(lambda: self.wake() is not None)
            result = self.result
        assert result is not None
        return result


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    assert made.errors == []
    made.close()


@pytest.fixture(params=["carried", "sockets"])
def pair(world: World, request: pytest.FixtureRequest) -> Iterator[tuple[Sandbox, Sandbox]]:
    """Two sandboxes; connections that the other accepts are carried by messages at first, or have host sockets."""
    one, other = Sandbox(world, "one"), Sandbox(world, "other")
    assert other.provider.has_carries
    other.provider.has_carries = request.param == "carried"
    yield one, other
    one.end()
    other.end()
    SANDBOXES.clear()
    world.turn(5)


def stream(pair: tuple[Sandbox, Sandbox], domain: int = so.AF_INET) -> tuple[int, int]:
    """(the first's descriptor, the other's) of a connection."""
    one, other = pair
    address = other.address if domain == so.AF_INET else other.address6
    listener = other.socket(domain=domain)
    assert other.bind(listener, 8080, bytes(len(address))) == 0 and other.call(sk.sys_listen, listener, 5) == 0
    client = one.socket(domain=domain)
    assert one.finish(one.connect(client, 8080, address)) == 0
    server = other.finish(other.call(sk.sys_accept, listener, 0, 0))
    assert server >= 0
    return client, server


def drain(sandbox: Sandbox, fd: int, count: int) -> bytes:
    """`count` bytes."""
    got = b""
    while len(got) < count:
        sandbox.until(lambda: sandbox.poll(fd) & po.POLLIN)
        part = sandbox.receive(fd, 60_000)
        assert isinstance(part, bytes) and part
        got += part
    return got


@pytest.mark.parametrize("domain", [so.AF_INET, so.AF_INET6])
def test_streams_carry_data_both_ways_and_end_in_order(pair: tuple[Sandbox, Sandbox], domain: int) -> None:
    one, other = pair
    client, server = stream(pair, domain)
    assert one.send(client, b"request") == 7
    assert drain(other, server, 7) == b"request"
    big = bytes(range(256)) * 200
    assert other.send(server, big) == len(big)
    assert drain(one, client, len(big)) == big
    assert one.call(sk.sys_shutdown, client, so.SHUT_WR) == 0
    other.until(lambda: other.poll(server) & po.POLLRDHUP)
    assert other.receive(server, 10) == b""
    assert other.send(server, b"last") == 4
    assert drain(one, client, 4) == b"last"
    other.close(server)
    one.until(lambda: one.poll(client) & po.POLLHUP)
    assert one.receive(client, 10) == b"" and one.file(client).take_error() == 0


def test_a_refused_connection_says_so(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    assert one.finish(one.connect(one.socket(), 9, other.address)) == -errno.ECONNREFUSED
    again = one.socket(flags=so.SOCK_NONBLOCK)
    assert one.connect(again, 9, other.address) == -errno.EINPROGRESS
    one.until(lambda: one.poll(again) & po.POLLERR)
    assert one.connect(again, 9, other.address) == -errno.ECONNREFUSED


def test_a_reset_arrives_as_one(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    client, server = stream(pair)
    assert other.option(server, so.SOL_SOCKET, so.SO_LINGER, so.LINGER.pack(1, 0)) == 0
    other.close(server)
    one.until(lambda: one.poll(client) & po.POLLHUP)
    assert one.receive(client, 10) == -errno.ECONNRESET


def test_unread_data_makes_a_reset(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    client, server = stream(pair)
    assert one.send(client, b"never read") == 10
    other.turn()
    other.close(server)
    one.until(lambda: one.poll(client) & po.POLLHUP)
    assert one.receive(client, 10) == -errno.ECONNRESET


def test_what_is_on_its_way_when_a_connection_is_closed_makes_a_reset(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    client, server = stream(pair)
    other.turn()
    assert one.send(client, b"too late") == 8
    one.world.turn(20)  # the other's Sentry does not hear of it
    other.close(server)
    one.until(lambda: one.poll(client) & po.POLLHUP)
    assert one.receive(client, 10) == -errno.ECONNRESET


@pytest.mark.parametrize("answers", [1, 5, 60])
def test_conversations_of_any_length_keep_their_bytes_in_order(pair: tuple[Sandbox, Sandbox], answers: int) -> None:
    one, other = pair
    client, server = stream(pair)
    for turn in range(answers):
        ask, answer = bytes((turn,)) * (1 + turn * 37 % 700), bytes((turn ^ 255,)) * (1 + turn * 91 % 900)
        assert one.send(client, ask) == len(ask) and drain(other, server, len(ask)) == ask
        assert other.send(server, answer) == len(answer) and drain(one, client, len(answer)) == answer
    other.close(server)
    one.until(lambda: one.poll(client) & po.POLLRDHUP)
    assert one.receive(client, 10) == b""


def test_a_server_may_answer_long_behind_the_end_of_a_request(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    client, server = stream(pair)
    assert one.send(client, b"a" * 5000) == 5000 and one.call(sk.sys_shutdown, client, so.SHUT_WR) == 0
    other.turn()
    assert drain(other, server, 5000) == b"a" * 5000
    other.until(lambda: other.poll(server) & po.POLLRDHUP)
    assert other.receive(server, 10) == b""
    for size in (10, 3000, 3000, 50_000):
        assert other.send(server, b"b" * size) == size
    other.close(server)
    assert drain(one, client, 56_010) == b"b" * 56_010
    one.until(lambda: one.poll(client) & po.POLLRDHUP)
    assert one.receive(client, 10) == b""


def test_urgent_data_keeps_its_place(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    client, server = stream(pair)
    assert one.send(client, b"ab") == 2 and one.send(client, b"c!", so.MSG_OOB) == 2
    assert one.send(client, b"def") == 3
    other.until(lambda: other.poll(server) & po.POLLPRI)
    assert other.receive(server, 1, so.MSG_OOB) == b"!"
    assert drain(other, server, 3) == b"abc"
    assert drain(other, server, 3) == b"def"


def test_a_bulk_transfer_is_held_back_and_goes_on(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    client, server = stream(pair)
    one.file(client).set_flags(so.SOCK_NONBLOCK)
    piece = bytes(60_000)
    sent = 0
    for _ in range(200):
        got = one.send(client, piece)
        if got == -errno.EAGAIN:
            before = sent
            one.turn()
            if not one.poll(client) & po.POLLOUT and sent == before:
                break
            continue
        assert got is not None and got > 0
        sent += got
    assert sent > 300_000
    assert len(drain(other, server, sent)) == sent
    one.until(lambda: one.poll(client) & po.POLLOUT)


def test_datagrams_and_their_errors(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    server, client = other.socket(so.SOCK_DGRAM), one.socket(so.SOCK_DGRAM)
    assert other.bind(server, 5353) == 0
    assert one.connect(client, 5353, other.address) == 0
    assert one.send(client, b"query") == 5
    other.until(lambda: other.poll(server) & po.POLLIN)
    at, room = other.alloc(16), other.put((16).to_bytes(4, "little"))
    data = other.alloc(100)
    assert other.call(sk.sys_recvfrom, server, data, 100, 0, at, room) == 5
    name = other.get(at, 16)
    assert name[4:8] == one.address
    assert other.call(sk.sys_sendto, server, data, 5, 0, at, 16) == 5
    one.until(lambda: one.poll(client) & po.POLLIN)
    assert one.receive(client, 100) == b"query"
    other.close(server)
    other.turn()
    assert one.send(client, b"nobody?") == 7
    one.until(lambda: one.poll(client) & po.POLLERR)
    assert one.receive(client, 10, so.MSG_DONTWAIT) == -errno.ECONNREFUSED


def test_a_hop_limit_of_one_comes_back_in_the_error_queue(pair: tuple[Sandbox, Sandbox]) -> None:
    one, _ = pair
    fd = one.socket(so.SOCK_DGRAM)
    assert one.option(fd, 0, in_h.IP_RECVERR, 1) == 0 and one.option(fd, 0, in_h.IP_TTL, 1) == 0
    assert one.send(fd, b"probe", to=(33434, bytes((192, 0, 2, 1)))) == 5
    one.until(lambda: one.poll(fd) & po.POLLERR)
    data, name, control = one.alloc(100), one.alloc(16), one.alloc(128)
    iov = one.put(struct.pack("<QQ", data, 100))
    header = one.put(so.MSGHDR.pack(name, 16, iov, 1, control, 128, 0))
    assert one.call(sk.sys_recvmsg, fd, header, so.MSG_ERRQUEUE) == 5
    raw = one.get(control, 48)
    assert one.get(data, 5) == b"probe"
    assert raw[8:16] == struct.pack("<ii", 0, in_h.IP_RECVERR)
    assert raw[20] == 2 and raw[21] in (3, 11)  # ICMP: time exceeded, or the router has no way there
    assert raw[36:40] == ROUTER


def test_multicast_reaches_the_members_of_the_network(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    group = bytes((239, 7, 7, 7))
    member, sender = other.socket(so.SOCK_DGRAM), one.socket(so.SOCK_DGRAM)
    assert other.bind(member, 7000) == 0
    assert other.option(member, 0, in_h.IP_ADD_MEMBERSHIP, group + bytes(4)) == 0
    other.turn()
    assert one.send(sender, b"all", to=(7000, group)) == 3
    other.until(lambda: other.poll(member) & po.POLLIN)
    assert other.receive(member, 10) == b"all"


@pytest.mark.parametrize("six", [False, True])
def test_everybody_may_ping(pair: tuple[Sandbox, Sandbox], six: bool) -> None:
    one, other = pair
    domain, protocol = (so.AF_INET6, in_h.IPPROTO_ICMPV6) if six else (so.AF_INET, in_h.IPPROTO_ICMP)
    one.task.cred = one.task.cred.__class__.for_user(1000, 1000)
    fd = one.socket(so.SOCK_DGRAM, domain=domain, protocol=protocol)
    request = bytes((128 if six else 8, 0, 0, 0, 0, 0, 0, 7)) + b"payload"
    for address in (other.address6 if six else other.address, one.address6 if six else one.address):
        assert one.send(fd, request, to=(0, address)) == len(request)
        one.until(lambda: one.poll(fd) & po.POLLIN)
        reply = one.receive(fd, 100)
        assert isinstance(reply, bytes)
        assert reply[0] == (129 if six else 0) and reply[6:] == request[6:]
        assert int.from_bytes(reply[4:6], "big") == one.file(fd).local_port
    assert one.send(fd, b"\3" + request[1:], to=(0, address)) == -errno.EINVAL


def test_raw_sockets_see_whole_packets(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    fd = one.socket(so.SOCK_RAW, protocol=in_h.IPPROTO_ICMP)
    request = bytes((8, 0, 0xF0, 0xF7, 1, 1, 6, 7)) + bytes(8)
    for address in (other.address, one.address, bytes((127, 0, 0, 1))):
        assert one.send(fd, request, to=(0, address)) == len(request)
        replies = []
        while not any(reply[20] == 0 for reply in replies):
            one.until(lambda: one.poll(fd) & po.POLLIN)
            got = one.receive(fd, 200)
            assert isinstance(got, bytes)
            replies.append(got)
        reply = next(each for each in replies if each[20] == 0)
        assert reply[0] == 0x45 and reply[12:16] == address and reply[24:] == request[4:]
    one.task.cred = one.task.cred.__class__.for_user(1000, 1000)
    assert one.call(sk.sys_socket, so.AF_INET, so.SOCK_RAW, 1) == -errno.EPERM


def test_packet_sockets_see_the_frames_of_the_link(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    everything = int.from_bytes((3).to_bytes(2, "big"), "little")  # htons(ETH_P_ALL)
    fd = one.socket(so.SOCK_RAW, domain=so.AF_PACKET, protocol=everything)
    ping = one.socket(so.SOCK_DGRAM, protocol=in_h.IPPROTO_ICMP)
    request = bytes((8, 0, 0, 0, 0, 0, 0, 7)) + b"payload"
    assert one.send(ping, request, to=(0, other.address)) == len(request)
    one.until(lambda: one.poll(ping) & po.POLLIN)
    frames = []
    while one.poll(fd) & po.POLLIN:
        got = one.receive(fd, 2000)
        assert isinstance(got, bytes)
        frames.append(got)
    mac = one.provider.interfaces[0].hardware
    echoes = [frame for frame in frames if frame[12:14] == b"\x08\0" and frame[23] == 1]
    assert [(frame[34], frame[6:12] == mac) for frame in echoes] == [(8, True), (0, False)]
    assert b" 0003 " in net_files[b"packet"](one.task)
    arp = int.from_bytes((0x0806).to_bytes(2, "big"), "little")
    cooked = one.socket(so.SOCK_DGRAM, domain=so.AF_PACKET, protocol=arp)
    name = one.put(struct.pack("<H2siHBB8s", so.AF_PACKET, b"\x08\x06", 2, 0, 0, 6, b"\xff" * 6))
    assert one.call(sk.sys_bind, cooked, name, 20) == 0
    ask = struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + mac + one.address + bytes(6) + other.address
    assert one.call(sk.sys_sendto, cooked, one.put(ask), len(ask), 0, name, 20) == len(ask)
    one.until(lambda: one.poll(cooked) & po.POLLIN)
    answers = []
    while one.poll(cooked) & po.POLLIN:
        answers.append(one.receive(cooked, 100))
    assert any(isinstance(each, bytes) and each[6:8] == b"\0\2" and each[14:18] == other.address for each in answers)
    one.task.cred = one.task.cred.__class__.for_user(1000, 1000)
    assert one.call(sk.sys_socket, so.AF_PACKET, so.SOCK_RAW, everything) == -errno.EPERM


def test_the_other_is_a_neighbour_and_configuration_takes_effect(pair: tuple[Sandbox, Sandbox]) -> None:
    one, other = pair
    stream(pair)
    assert any(each.address == other.address for each in one.provider.neighbours())
    assert b"10.0.2." in proc.FILES[b"arp"](one.task)
    network = one.provider.network
    network.configure("address_add", {"interface": 2, "address": NOBODY, "length": 24, "scope": 0})
    one.turn()
    assert network.kind_of(NOBODY) == rt.RTN_LOCAL
    assert one.bind(one.socket(), 80, NOBODY) == 0


def test_options_reach_the_stack_and_tcp_info_comes_back(pair: tuple[Sandbox, Sandbox]) -> None:
    one, _ = pair
    client, _ = stream(pair)
    assert one.option(client, in_h.IPPROTO_TCP, tcp.TCP_NODELAY, 1) == 0
    assert one.file(client).far.get_option(in_h.IPPROTO_TCP, tcp.TCP_NODELAY) == 1
    raw = one.file(client).get_option(one.task, in_h.IPPROTO_TCP, tcp.TCP_INFO)
    assert raw[0] == tcp.TCP_ESTABLISHED
    rto, _, mss = struct.unpack_from("<III", raw, 8)
    assert 200_000 <= rto <= 3_000_000 and 1000 < mss <= 1460
