"""UDP sockets: who gets which datagram, addresses and ports, broadcast, buffers, control information."""

from __future__ import annotations

import errno
import random

import pytest

from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.sockets import AF_INET, AF_INET6, SOCK_DGRAM, UdpSocket, get_option, open_socket, set_option
from services.netstackd.transport.base import MAPPED, MSG_PEEK, MSG_TRUNC
from services.netstackd.transport.ports import Binding, Ports
from services.netstackd.wire.numbers import ETHERTYPE_IPV4
from tests.netstack.unit.hosts import Host, Pair, ip, received

A, B = ip("10.0.0.1"), ip("10.0.0.2")


def ready() -> Pair:
    pair = Pair()
    pair.run(12)
    pair.world.frames.clear()
    return pair


def udp(host: Host, family: int = AF_INET, bind: tuple[int, int] | None = None, **settings: object) -> UdpSocket:
    socket = open_socket(host.stack, family, SOCK_DGRAM)
    assert isinstance(socket, UdpSocket)
    for name, value in settings.items():
        setattr(socket, name, value)
    if bind is not None:
        socket.bind((*bind, 0))
    return socket


def raises(number: int, call: object, *arguments: object) -> None:
    with pytest.raises(NetError) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.errno == number


def test_receive_with_nothing_there_would_block_and_subscriber_hears_of_more() -> None:
    pair = ready()
    server = udp(pair.b, bind=(0, 7))
    with pytest.raises(WouldBlock):
        server.receive()
    told: list[int] = []
    server.subscribe(lambda socket, mask: told.append(mask))
    assert not server.poll() & 1
    udp(pair.a).send(b"abc", (B, 7, 0))
    pair.settle()
    assert told == [1] and server.poll() & 1
    assert server.receive(2, MSG_PEEK).data == b"ab"
    message = server.receive(2)
    assert (message.data, message.flags) == (b"ab", MSG_TRUNC)
    assert not server.queue and server.queued == 0


def test_connected_socket_takes_from_its_peer_alone() -> None:
    pair = ready()
    one, two = udp(pair.a, bind=(A, 1111)), udp(pair.a, bind=(A, 2222))
    server = udp(pair.b, bind=(0, 7))
    server.connect((A, 1111, 0))
    one.send(b"1", (B, 7, 0))
    two.send(b"2", (B, 7, 0))
    pair.settle()
    assert received(server) == [b"1"]
    assert server.name() == (B, 7, 0) and server.peer() == (A, 1111, 0)
    server.connect(None)
    raises(errno.ENOTCONN, server.peer)
    two.send(b"3", (B, 7, 0))
    pair.settle()
    assert received(server) == [b"3"]


def test_most_specific_socket_gets_the_datagram() -> None:
    pair = ready()
    sockets = {
        "peer": udp(pair.b, AF_INET, (B, 7), reuse_address=True),
        "address": udp(pair.b, AF_INET, (B, 7), reuse_address=True),
        "any": udp(pair.b, AF_INET, (0, 7), reuse_address=True),
        "any6": udp(pair.b, AF_INET6, (0, 7), reuse_address=True),
    }
    client = udp(pair.a, bind=(A, 1111))
    sockets["peer"].connect((A, 1111, 0))
    for name in ("peer", "address", "any", "any6"):
        client.send(b"x", (B, 7, 0))
        pair.settle()
        assert {n for n, s in sockets.items() if received(s)} == {name}
        sockets.pop(name).close()


def test_reuse_port_shares_by_flow_and_keeps_each_flow() -> None:
    pair = ready()
    servers = [udp(pair.b, bind=(0, 7), reuse_port=True) for _ in range(4)]
    clients = [udp(pair.a) for _ in range(64)]
    for _ in range(2):
        for client in clients:
            client.send(b"x", (B, 7, 0))
    pair.settle()
    sources = [{m.address for m in (s.receive() for _ in range(len(s.queue)))} for s in servers]
    assert all(sources) and sum(len(s) for s in sources) == 64  # each flow at one server, both times


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [
        ({}, {}, False),
        ({"bind": B}, {}, False),
        ({"bind": B}, {"bind": ip("127.0.0.1")}, True),
        ({"reuse_address": True}, {"reuse_address": True}, True),
        ({"reuse_address": True}, {}, False),
        ({"reuse_port": True}, {"reuse_port": True}, True),
        ({"reuse_port": True}, {"reuse_address": True}, False),
        ({"family": AF_INET6}, {}, False),
        ({"family": AF_INET6, "v6only": True}, {}, True),
    ],
)
def test_bind_conflicts_are_those_of_linux(first: dict[str, object], second: dict[str, object], stands: bool) -> None:
    pair = ready()

    def bound(options: dict[str, object]) -> None:
        options = dict(options)
        family = options.pop("family", AF_INET)
        address = options.pop("bind", 0)
        udp(pair.b, family, (address, 7), **options)  # type: ignore[arg-type]

    bound(first)
    if stands:
        bound(second)
    else:
        raises(errno.EADDRINUSE, bound, second)


def test_bind_to_an_address_of_somebody_else_is_refused_unless_freebind() -> None:
    pair = ready()
    raises(errno.EADDRNOTAVAIL, lambda: udp(pair.b, bind=(A, 7)))
    udp(pair.b, bind=(A, 7), freebind=True)
    socket = udp(pair.b, bind=(0, 9))
    raises(errno.EINVAL, socket.bind, (0, 10, 0))


def test_bind_to_an_interface_takes_from_there_alone() -> None:
    pair = ready()
    socket = udp(pair.b, bind=(0, 7))
    set_option(socket, 1, 25, "eth0")
    assert get_option(socket, 1, 25) == "eth0"
    udp(pair.a).send(b"1", (B, 7, 0))
    udp(pair.b).send(b"2", (B, 7, 0))  # by loopback
    pair.settle()
    assert received(socket) == [b"1"]
    raises(errno.ENODEV, set_option, socket, 1, 25, "eth7")


def test_dual_stack_socket_speaks_to_both_and_v6only_does_not() -> None:
    pair = ready()
    server = udp(pair.b, AF_INET6, (0, 7))
    client = udp(pair.a)
    client.send(b"four", (B, 7, 0))
    pair.settle()
    message = server.receive()
    assert message.address == (MAPPED | A, client.local_port, 0)
    server.send(b"back", message.address)
    pair.settle()
    assert received(client) == [b"back"]
    only = udp(pair.b, AF_INET6, v6only=True)
    raises(errno.ENETUNREACH, only.send, b"x", (MAPPED | A, 7, 0))


def test_link_local_peer_is_named_with_its_interface() -> None:
    pair = ready()
    server = udp(pair.b, AF_INET6, (0, 7))
    to = pair.b.stack.addresses.link_local(pair.ib)
    client = udp(pair.a, AF_INET6)
    raises(errno.ENETUNREACH, client.send, b"x", (ip("fd99::1"), 7, 0))
    client.send(b"x", (to, 7, pair.ia.index))
    pair.settle()
    message = server.receive()
    assert message.address == (pair.a.stack.addresses.link_local(pair.ia), client.local_port, pair.ib.index)
    server.send(b"y", message.address)
    pair.settle()
    assert received(client) == [b"y"]


def test_broadcast_needs_the_option_and_reaches_all_that_are_bound() -> None:
    pair = ready()
    servers = [
        udp(pair.b, bind=(0, 7), reuse_address=True),
        udp(pair.b, bind=(ip("10.0.0.255"), 7), reuse_address=True),
    ]
    specific = udp(pair.b, bind=(B, 7), reuse_address=True)
    own = udp(pair.a, bind=(0, 7))
    client = udp(pair.a)
    raises(errno.EACCES, client.send, b"x", (ip("10.0.0.255"), 7, 0))
    client.broadcast = True
    client.send(b"x", (ip("10.0.0.255"), 7, 0))
    pair.settle()
    assert [received(s) for s in servers] == [[b"x"], [b"x"]]
    assert received(specific) == []
    assert received(own) == [b"x"]  # looped back, as Linux does


def test_dhcp_like_broadcast_without_an_address_works_both_ways() -> None:
    pair = ready()
    pair.a.stack.remove_address(pair.ia, 4, A)
    server = udp(pair.b, bind=(0, 67), broadcast=True)
    client = udp(pair.a, bind=(0, 68), broadcast=True)
    set_option(client, 1, 25, "eth0")
    set_option(server, 1, 25, "eth0")
    client.send(b"discover", (ip("255.255.255.255"), 67, 0))
    pair.settle()
    message = server.receive()
    assert message.address == (0, 68, 0) and message.packet is not None and message.packet.iface is pair.ib
    server.send(b"offer", (ip("255.255.255.255"), 68, 0))
    pair.settle()
    assert received(client) == [b"offer"]


def test_receive_buffer_is_bounded_and_counts_what_it_drops() -> None:
    pair = ready()
    server = udp(pair.b, bind=(0, 7))
    set_option(server, 1, 8, 4096)
    assert get_option(server, 1, 8) == 8192
    client = udp(pair.a)
    for _ in range(20):
        client.send(bytes(1000), (B, 7, 0))
    pair.settle()
    assert len(server.queue) == 5
    assert pair.b.count("DropSocketReceiveBuffer") == 15 == pair.b.count("UdpRcvbufErrors") == server.dropped


def test_control_information_says_where_and_how_it_came_and_chooses_how_it_goes() -> None:
    pair = ready()
    pair.b.address(pair.ib, "10.0.0.22/24")
    server = udp(pair.b, bind=(0, 7))
    client = udp(pair.a, bind=(0, 5))
    client.send(b"x", (ip("10.0.0.22"), 7, 0), ttl=9, tos=0x20)
    pair.settle()
    message = server.receive()
    packet = message.packet
    assert packet is not None
    assert (packet.dst, packet.iface, packet.ttl, packet.tos) == (ip("10.0.0.22"), pair.ib, 9, 0x20)
    server.send(b"y", message.address, source=packet.dst)
    pair.settle()
    assert client.receive().address == (ip("10.0.0.22"), 7, 0)


@pytest.mark.parametrize(("discover", "size", "bit"), [(1, 100, 0x40), (0, 100, 0), (2, 100, 0x40), (1, 3000, 0)])
def test_dont_fragment_follows_path_mtu_discovery(discover: int, size: int, bit: int) -> None:
    pair = ready()
    client = udp(pair.a)
    set_option(client, 0, 10, discover)
    client.send(bytes(size), (B, 7, 0))
    pair.settle()
    frames = [f.data for f in pair.world.sent(pair.a, ETHERTYPE_IPV4)]
    assert {f[20] & 0x40 for f in frames} == {bit}


def test_segments_of_one_send_arrive_as_datagrams() -> None:
    pair = ready()
    server = udp(pair.b, bind=(0, 7))
    client = udp(pair.a)
    set_option(client, 17, 103, 400)
    assert client.send(bytes(1000), (B, 7, 0)) == 1000
    pair.settle()
    assert [len(d) for d in received(server)] == [400, 400, 200]


def test_no_check_sends_without_checksum_over_ipv4() -> None:
    pair = ready()
    server = udp(pair.b, bind=(0, 7))
    client = udp(pair.a)
    set_option(client, 1, 11, 1)
    client.send(b"x", (B, 7, 0))
    pair.settle()
    assert [f.data for f in pair.world.sent(pair.a, ETHERTYPE_IPV4)][-1][40:42] == b"\0\0"
    assert received(server) == [b"x"]


def test_errors_of_sends() -> None:
    pair = ready()
    client = udp(pair.a)
    raises(errno.EDESTADDRREQ, client.send, b"x")
    raises(errno.EMSGSIZE, client.send, bytes(65508), (B, 7, 0))
    raises(errno.EINVAL, client.send, b"x", (B, 0, 0))
    raises(errno.ENETUNREACH, client.send, b"x", (ip("99.0.0.1"), 7, 0))
    raises(errno.ENOTCONN, client.shutdown, 1)
    client.connect((B, 7, 0))
    client.shutdown(1)
    raises(errno.EPIPE, client.send, b"x")
    client.close()
    client.close()
    raises(errno.EBADF, client.send, b"x")


def test_datagram_to_own_address_goes_by_loopback() -> None:
    pair = ready()
    for family, addresses in ((AF_INET, (A, ip("127.0.0.1"), 0)), (AF_INET6, (ip("fd00::1"), 1, 0))):
        server = udp(pair.a, family, (0, 7))
        client = udp(pair.a, family)
        for address in addresses:
            client.send(b"x", (address, 7, 0))
            pair.settle()
            assert received(server) == [b"x"]
        server.close()


def test_connected_socket_follows_a_change_of_routes() -> None:
    pair = ready()
    client = udp(pair.a)
    client.connect((B, 7, 0))
    client.send(b"x")
    pair.a.stack.set_up(pair.ia, False)
    raises(errno.ENETUNREACH, client.send, b"x")


@pytest.mark.parametrize(
    ("level", "name", "value", "number"),
    [
        (0, 999, 1, errno.ENOPROTOOPT),
        (77, 1, 1, errno.ENOPROTOOPT),
        (0, 1, 256, errno.EINVAL),
        (0, 2, 256, errno.EINVAL),
        (41, 16, 1, errno.ENOPROTOOPT),  # an IPv6 option of an IPv4 socket
        (0, 3, 1, errno.ENOPROTOOPT),  # IP_HDRINCL of a UDP socket
        (1, 3, 1, errno.ENOPROTOOPT),  # SO_TYPE is not to be set
        (0, 35, 1, errno.EINVAL),
        (0, 4, b"\7\1\4\0", errno.EINVAL),
    ],
)
def test_option_that_is_wrong_gives_linux_error(level: int, name: int, value: object, number: int) -> None:
    raises(number, set_option, udp(ready().a), level, name, value)


def test_options_read_back_what_was_set() -> None:
    socket = udp(ready().a, AF_INET6)
    for level, name, value in ((1, 2, 1), (1, 36, 77), (0, 1, 0x10), (41, 67, 0x20), (41, 26, 1), (0, 33, 4)):
        set_option(socket, level, name, value)
        assert get_option(socket, level, name) == value
    assert [get_option(socket, 1, name) for name in (3, 38, 39)] == [SOCK_DGRAM, 17, AF_INET6]


def test_ports_are_chosen_in_the_range_differently_for_each_peer_and_never_twice() -> None:
    ports = Ports(random.Random(1), bytes(32))
    used: set[int] = set()

    def is_free(port: int) -> bool:
        return port not in used

    for _ in range(2000):
        port = ports.choose(A, B, 80, is_free)
        assert 32768 <= port <= 60999
        used.add(port)
    assert len(used) == 2000
    other = Ports(random.Random(1), b"\1" * 32)
    assert other.choose(A, B, 80, lambda p: True) != Ports(random.Random(1), bytes(32)).choose(A, B, 80, lambda p: True)
    ports.first, ports.last = 40000, 40009
    taken: set[int] = set()
    for _ in range(10):
        taken.add(ports.choose_any(lambda p: p not in taken))
    assert taken == set(range(40000, 40010))
    assert ports.choose_any(lambda p: p not in taken) == 0 == ports.choose(A, B, 80, lambda p: p not in taken)


def test_binding_that_listens_excludes_in_spite_of_reuse_address() -> None:
    first, second = Binding(4, 0, 80, reuse_address=True), Binding(4, B, 80, reuse_address=True)
    assert not first.excludes(second)
    first.listening = True
    assert second.excludes(first) and not first.excludes(second)


@pytest.mark.parametrize(
    ("family", "version", "level", "name", "group"),
    [(AF_INET, 4, 0, 33, ip("239.1.2.3")), (AF_INET6, 6, 41, 18, ip("ff15::7"))],
)
def test_multicast_with_no_hops_stays_on_this_host(
    family: int, version: int, level: int, name: int, group: int
) -> None:
    """RFC 1112 section 6.1 and RFC 4291 section 2.7; members on this host get it, and 1 is the default."""
    pair = ready()
    own, other = udp(pair.a, family, (0, 7)), udp(pair.b, family, (0, 7))
    for host, socket in ((pair.a, own), (pair.b, other)):
        socket.join(version, group, host.stack.interfaces[2])
    pair.run(5)
    sender = udp(pair.a, family)
    sender.multicast_device = pair.a.stack.interfaces[2]
    sender.send(b"default", (group, 7, 0))
    set_option(sender, level, name, 0)
    sender.send(b"none", (group, 7, 0))
    set_option(sender, level, name, 1)
    sender.send(b"one", (group, 7, 0))
    pair.settle()
    assert received(own) == [b"default", b"none", b"one"]
    assert received(other) == [b"default", b"one"]
