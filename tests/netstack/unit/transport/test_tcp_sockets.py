"""TCP sockets over two stacks: names, listening, accepting, errors, ports, options, resets. TCP itself is tested
apart."""

from __future__ import annotations

import errno
import random

import pytest

from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.network.interface import OFFLOAD_ALL, Interface
from services.netstackd.sockets import AF_INET, AF_INET6, SOCK_STREAM, TcpSocket, get_option, open_socket, set_option
from services.netstackd.storage.packet import Packet
from services.netstackd.transport.base import MAPPED, MSG_PEEK
from services.netstackd.wire import ethernet, icmpv4, ipv4, tcp
from services.netstackd.wire.numbers import ETHERTYPE_IPV4
from tests.netstack.unit.hosts import Host, Pair, Routed, ip

A, B = ip("10.0.0.1"), ip("10.0.0.2")
A6, B6 = ip("fd00::1"), ip("fd00::2")


def ready() -> Pair:
    pair = Pair()
    pair.run(12)
    pair.world.frames.clear()
    return pair


def tcp_socket(host: Host, family: int = AF_INET) -> TcpSocket:
    socket = open_socket(host.stack, family, SOCK_STREAM)
    assert isinstance(socket, TcpSocket)
    return socket


def listening(host: Host, port: int = 80, family: int = AF_INET, address: int = 0, **options: bool) -> TcpSocket:
    socket = tcp_socket(host, family)
    for name, value in options.items():
        setattr(socket, name, value)
    socket.bind((address, port, 0))
    socket.listen(10)
    return socket


def connect(socket: TcpSocket, address: int, port: int = 80, scope: int = 0) -> None:
    with pytest.raises(NetError) as progress:
        socket.connect((address, port, scope))
    assert progress.value.errno == errno.EINPROGRESS


def frame_of(pair: Pair, segment: bytes, dst: int = B, station: bytes = b"") -> Packet:
    """A segment from A, its checksum put in, to B's station or another."""
    whole = segment[:16] + tcp.checksum_of(A, dst, segment).to_bytes(2, "big") + segment[18:]
    link = ethernet.header(station or pair.ib.mac, pair.ia.mac, ETHERTYPE_IPV4)
    frame = link + ipv4.header(A, dst, 6, len(whole)) + whole
    return Packet(frame, len(frame))


def raises(number: int, call: object, *arguments: object) -> None:
    with pytest.raises(NetError) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.errno == number


def transfer(pair: Pair | Routed, source: TcpSocket, sink: TcpSocket, data: bytes) -> bytes:
    sent = 0
    got = bytearray()
    for _ in range(5000):
        if sent < len(data):
            try:
                sent += source.send(data[sent : sent + 65536])
            except WouldBlock:
                pass
        pair.run(0.002)
        try:
            got += sink.receive(1 << 20)
        except WouldBlock:
            pass
        if len(got) == len(data):
            break
    return bytes(got)


@pytest.mark.parametrize(
    ("family", "listen_family", "to", "seen"),
    [
        (AF_INET, AF_INET, B, A),
        (AF_INET6, AF_INET6, B6, A6),
        (AF_INET, AF_INET6, B, MAPPED | A),
        (AF_INET6, AF_INET, MAPPED | B, A),
    ],
)
def test_connect_accept_transfer_close(family: int, listen_family: int, to: int, seen: int) -> None:
    pair = ready()
    server = listening(pair.b, family=listen_family)
    client = tcp_socket(pair.a, family)
    connect(client, to)
    raises(errno.EALREADY, client.connect, (to, 80, 0))
    pair.settle()
    assert server.poll() & 1
    child = server.accept()
    with pytest.raises(WouldBlock):
        server.accept()
    assert child.peer() == (seen, client.local_port, 0) and client.peer() == (to, 80, 0)
    assert child.name()[1] == 80
    data = random.Random(1).randbytes(300_000)
    assert transfer(pair, client, child, data) == data
    assert transfer(pair, child, client, data[:1000]) == data[:1000]
    client.close()
    pair.run(0.1)
    assert child.receive(10) == b""
    child.close()
    pair.run(61)
    assert not pair.a.stack.tcp.connections() and not pair.b.stack.tcp.connections()
    assert not pair.a.stack.tcp.port_use and not pair.a.stack.tcp._alarms


def test_connect_to_nobody_is_refused_by_a_reset() -> None:
    pair = ready()
    client = tcp_socket(pair.a)
    connect(client, B, 81)
    pair.settle()
    assert client.poll() & 0x18
    assert get_option(client, 1, 4) == errno.ECONNREFUSED
    assert pair.b.count("TcpOutRsts") == 1 and pair.b.count("DropTcpNoSocket") == 1


def test_connect_without_a_route_or_to_a_group_fails_at_once() -> None:
    pair = ready()
    raises(errno.ENETUNREACH, tcp_socket(pair.a).connect, (ip("99.0.0.1"), 80, 0))
    raises(errno.ENETUNREACH, tcp_socket(pair.a).connect, (ip("224.0.0.1"), 80, 0))
    raises(errno.ENETUNREACH, tcp_socket(pair.a).connect, (ip("10.0.0.255"), 80, 0))


def test_connect_to_an_absent_neighbour_ends_with_host_unreachable() -> None:
    pair = ready()
    client = tcp_socket(pair.a)
    connect(client, ip("10.0.0.77"))
    pair.run(4)
    assert get_option(client, 1, 4) == errno.EHOSTUNREACH


def test_connect_over_loopback_and_to_link_local() -> None:
    pair = ready()
    server = listening(pair.a, family=AF_INET6)
    for address, scope in ((1, 0), (MAPPED | ip("127.0.0.1"), 0), (0, 0)):
        client = tcp_socket(pair.a, AF_INET6)
        connect(client, address, 80, scope)
        pair.settle()
        child = server.accept()
        assert transfer(pair, client, child, bytes(200_000)) == bytes(200_000)
        client.close()
        child.close()
    far = listening(pair.b, 90, AF_INET6)
    client = tcp_socket(pair.a, AF_INET6)
    connect(client, pair.b.stack.addresses.link_local(pair.ib), 90, pair.ia.index)
    pair.settle()
    child = far.accept()
    assert child.peer()[2] == pair.ib.index
    assert transfer(pair, client, child, b"x" * 5000) == b"x" * 5000


def test_two_listeners_on_one_port_exclude_each_other_unless_they_share() -> None:
    pair = ready()
    first = listening(pair.b)
    raises(errno.EADDRINUSE, listening, pair.b)
    second = tcp_socket(pair.b)
    second.reuse_address = True
    raises(errno.EADDRINUSE, second.bind, (0, 80, 0))
    first.close()
    sockets = [tcp_socket(pair.b) for _ in range(2)]
    for socket in sockets:
        socket.reuse_address = True
        socket.bind((0, 80, 0))  # both bound, as both said so; but only one can listen
    sockets[0].listen(5)
    raises(errno.EADDRINUSE, sockets[1].listen, 5)
    listening(pair.b, 81, reuse_port=True)
    listening(pair.b, 81, reuse_port=True)


def test_reuse_port_listeners_share_connections() -> None:
    pair = ready()
    servers = [listening(pair.b, reuse_port=True) for _ in range(3)]
    for server in servers:
        server.listen(100)
    clients = [tcp_socket(pair.a) for _ in range(30)]
    for client in clients:
        connect(client, B)
    pair.settle()
    counts = []
    for server in servers:
        count = 0
        while server.poll() & 1:
            server.accept()
            count += 1
        counts.append(count)
    assert sum(counts) == 30 and min(counts) > 0


def test_listener_bound_to_the_address_is_preferred() -> None:
    pair = ready()
    anywhere = listening(pair.b, reuse_port=True)
    there = listening(pair.b, address=B, reuse_port=True)
    client = tcp_socket(pair.a)
    connect(client, B)
    pair.settle()
    assert there.poll() & 1 and not anywhere.poll() & 1


def test_port_of_a_finished_connection_needs_reuse_address_to_be_bound() -> None:
    pair = ready()
    server = listening(pair.b)
    client = tcp_socket(pair.a)
    connect(client, B)
    pair.settle()
    child = server.accept()
    child.close()
    pair.run(0.1)
    client.close()
    pair.run(0.1)
    server.close()
    raises(errno.EADDRINUSE, tcp_socket(pair.b).bind, (0, 80, 0))
    listening(pair.b, reuse_address=True)


def test_segment_of_a_connection_in_a_frame_to_everybody_is_nobodys() -> None:
    """RFC 1122 4.2.3.10, tcp_v4_rcv(): also when all else of it is right."""
    pair = ready()
    server = listening(pair.b)
    client = tcp_socket(pair.a)
    connect(client, B)
    pair.settle()
    child = server.accept()
    assert child.endpoint is not None and client.endpoint is not None
    numbers = client.endpoint.snd_nxt & 0xFFFFFFFF, child.endpoint.snd_nxt & 0xFFFFFFFF
    segment = tcp.header(client.local_port, 80, *numbers, tcp.ACK, 1000) + b"data"
    for station, taken in ((ethernet.BROADCAST, 0), (b"\x03" + pair.ib.mac[1:], 0), (pair.ib.mac, 4)):
        pair.b.stack.receive(pair.ib, [frame_of(pair, segment, station=station)], pair.world.now)
        assert child.endpoint.receive.size == taken
    assert pair.b.count("DropNotUnicast") == 2


def test_preferred_port_is_not_taken_from_who_is_bound_to_it() -> None:
    pair = ready()
    listening(pair.b)
    owner = tcp_socket(pair.a)
    owner.bind((0, 40000, 0))
    for port, same in ((40000, False), (40002, True)):
        client = tcp_socket(pair.a)
        client.prefer((A, port, 0))
        raises(errno.EINPROGRESS, client.connect, (B, 80, 0))
        assert (client.local_port == port) is same and client.local == A
    raises(errno.EINVAL, owner.prefer, (A, 1, 0))
    raises(errno.EADDRNOTAVAIL, tcp_socket(pair.a).prefer, (B, 1, 0))


def test_bound_port_cannot_connect_twice_to_one_peer() -> None:
    pair = ready()
    listening(pair.b)
    first, second = tcp_socket(pair.a), tcp_socket(pair.a)
    for socket in (first, second):
        socket.reuse_address = True
        socket.bind((A, 5555, 0))
    connect(first, B)
    raises(errno.EADDRNOTAVAIL, second.connect, (B, 80, 0))


def test_pair_of_ends_in_time_wait_is_taken_again_after_a_while() -> None:
    pair = ready()
    pair.a.stack.tcp.context.parameters.tw_reuse = 1
    server = listening(pair.b)
    for _ in range(3):
        client = tcp_socket(pair.a)
        client.reuse_address = True
        client.bind((A, 5555, 0))
        connect(client, B)
        pair.run(0.1)
        child = server.accept()
        assert transfer(pair, client, child, b"data") == b"data"
        client.close()
        pair.run(0.1)
        child.close()
        pair.run(0.1)
        busy = tcp_socket(pair.a)
        busy.reuse_address = True
        busy.bind((A, 5555, 0))
        raises(errno.EADDRNOTAVAIL, busy.connect, (B, 80, 0))  # too soon: less than a second
        busy.close()
        pair.run(2)
    pair.run(61)
    assert not pair.a.stack.tcp.connections() and not pair.a.stack.tcp._alarms and not pair.a.stack.tcp.port_use


def test_segment_to_a_group_address_is_not_answered() -> None:
    pair = ready()
    listening(pair.b)
    segment = tcp.header(9, 80, 1, 0, tcp.SYN, 1000)
    for dst, link in (
        (ip("224.0.0.1"), b"\1\0\x5e\0\0\1"),
        (ip("10.0.0.255"), ethernet.BROADCAST),
        (B, ethernet.BROADCAST),
    ):
        pair.b.stack.receive(pair.ib, [frame_of(pair, segment, dst, link)], pair.world.now)
    pair.settle()
    assert pair.b.count("DropNotUnicast") == 3
    assert not list(pair.world.sent(pair.b, ETHERTYPE_IPV4))


@pytest.mark.parametrize("flags", [tcp.ACK, tcp.SYN | tcp.FIN, tcp.SYN, tcp.FIN | tcp.ACK])
def test_segment_for_nobody_is_reset_as_rfc_9293_says(flags: int) -> None:
    pair = ready()
    segment = tcp.header(9, 81, 1000, 5000, flags, 1000) + b"abc"
    pair.b.stack.receive(pair.ib, [frame_of(pair, segment)], pair.world.now)
    pair.settle()
    reset = [f.data for f in pair.world.sent(pair.b, ETHERTYPE_IPV4)][-1]
    seq, ack = int.from_bytes(reset[38:42], "big"), int.from_bytes(reset[42:46], "big")
    if flags & tcp.ACK:
        assert (reset[47], seq) == (tcp.RST, 5000)
    else:
        length = 3 + bool(flags & tcp.SYN) + bool(flags & tcp.FIN)
        assert (reset[47], seq, ack) == (tcp.RST | tcp.ACK, 0, 1000 + length)


def test_smaller_path_mtu_on_the_way_lets_the_transfer_go_on() -> None:
    n = Routed()
    n.r.stack.set_mtu(n.right, 1300)  # its ends do not know
    n.run(12)
    server = listening(n.b, family=AF_INET6)
    for family, to in ((AF_INET, ip("10.2.0.1")), (AF_INET6, ip("fd02::1"))):
        client = tcp_socket(n.a, family)
        connect(client, to)
        n.run(0.1)
        child = server.accept()
        data = random.Random(2).randbytes(200_000)
        assert transfer(n, client, child, data) == data
        version = 4 if family == AF_INET else 6
        assert n.a.stack.routing(version).output(to).mtu == 1300
        assert n.r.count("DropTooBig") > 0


def test_icmp_with_a_sequence_number_out_of_flight_is_not_believed() -> None:
    pair = ready()
    server = listening(pair.b)
    client = tcp_socket(pair.a)
    connect(client, B)
    pair.settle()
    server.accept()
    quote = ipv4.header(A, B, 6, 20, fragment=0x4000) + tcp.header(client.local_port, 80, 12345, 0, tcp.ACK, 0)
    message = icmpv4.message(3, 4, 600, quote)
    frame = ethernet.header(pair.ia.mac, pair.ib.mac, ETHERTYPE_IPV4) + ipv4.header(B, A, 1, len(message)) + message
    pair.a.stack.receive(pair.ia, [Packet(frame, len(frame))], pair.world.now)
    assert pair.a.stack.routing4.output(B).mtu == 1500


def test_large_segments_leave_whole_when_the_link_cuts() -> None:
    pair = ready()
    pair.ia.offload = OFFLOAD_ALL
    pair.ia.gso_max = 65535
    pair.a.stack.routes_changed()
    server = listening(pair.b)
    client = tcp_socket(pair.a)
    connect(client, B)
    pair.settle()
    child = server.accept()
    packets: list[Packet] = []
    original = pair.world._carry

    def carry() -> bool:
        packets.extend(pair.ia.tx)
        for packet in pair.ia.tx:
            packet.gso_size = 0  # this wire takes any size
        return original()

    pair.world._carry = carry  # type: ignore[method-assign]
    data = bytes(1_000_000)
    assert transfer(pair, client, child, data) == data
    assert max(len(p) for p in packets) > 20_000
    assert all(len(p) <= 65535 for p in packets)


def test_options_reach_the_connection_and_read_back() -> None:
    pair = ready()
    server = listening(pair.b)
    set_option(server, 6, 1, 1)
    client = tcp_socket(pair.a)
    set_option(client, 6, 4, 77)
    set_option(client, 1, 13, (1, 5))
    set_option(client, 6, 13, "reno")
    connect(client, B)
    pair.settle()
    child = server.accept()
    assert get_option(child, 6, 1) == 1
    assert get_option(client, 6, 4) == 77 and get_option(client, 1, 13) == (1, 5)
    assert get_option(client, 6, 13) == "reno"
    info = get_option(client, 6, 11)
    assert isinstance(info, dict) and info["state"] == 1
    raises(errno.ENOENT, set_option, client, 6, 13, "bogus")
    raises(errno.EINVAL, set_option, client, 6, 4, 0)
    raises(errno.ENOPROTOOPT, set_option, client, 6, 999, 1)
    set_option(client, 0, 1, 0x10)
    client.send(b"x")
    pair.settle()
    assert [f.data for f in pair.world.sent(pair.a, ETHERTYPE_IPV4)][-1][15] & 0xFC == 0x10
    assert child.receive(1, MSG_PEEK) == b"x" == child.receive(1)


def test_calls_out_of_place() -> None:
    pair = ready()
    socket = tcp_socket(pair.a)
    raises(errno.ENOTCONN, socket.receive, 1)
    raises(errno.EPIPE, socket.send, b"x")
    raises(errno.EINVAL, socket.accept)
    raises(errno.ENOTCONN, socket.shutdown, 1)
    raises(errno.ENOTCONN, socket.peer)
    assert socket.poll() & 0x10
    server = listening(pair.a)
    raises(errno.EISCONN, server.connect, (B, 80, 0))
    raises(errno.EADDRNOTAVAIL, tcp_socket(pair.a).bind, (B, 80, 0))
    server.close()
    server.close()
    raises(errno.EBADF, server.accept)


def test_closing_with_zero_linger_resets() -> None:
    pair = ready()
    server = listening(pair.b)
    client = tcp_socket(pair.a)
    connect(client, B)
    pair.settle()
    child = server.accept()
    set_option(client, 1, 13, (1, 0))
    client.close()
    pair.settle()
    raises(errno.ECONNRESET, child.receive, 1)


def test_half_open_connections_do_not_hold_the_stack_after_their_listener_is_gone() -> None:
    pair = ready()
    server = listening(pair.b)
    for port in range(20):
        segment = tcp.header(1000 + port, 80, 1, 0, tcp.SYN, 1000)
        whole = segment[:16] + tcp.checksum_of(A, B, segment).to_bytes(2, "big") + segment[18:]
        frame = ethernet.header(pair.ib.mac, pair.ia.mac, ETHERTYPE_IPV4) + ipv4.header(A, B, 6, len(whole)) + whole
        pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)
    pair.settle()
    server.close()
    pair.run(100)
    assert not pair.b.stack.tcp._alarms and not pair.b.stack.tcp.connections()


def test_minimum_ttl_keeps_out_what_has_come_a_long_way() -> None:
    n = Routed()
    n.run(12)
    server = listening(n.b)
    near, far = tcp_socket(n.r), tcp_socket(n.a)
    set_option(server, 0, 21, 64)
    for client in (near, far):
        connect(client, ip("10.2.0.1"))
    n.run(0.5)
    assert server.accept().peer()[1] == near.local_port
    assert not server.poll() & 1 and n.b.count("TcpExtTCPMinTTLDrop") == 1
    set_option(server, 0, 21, 63)
    n.run(1)
    child = server.accept()
    set_option(child, 0, 21, 64)
    far.send(b"x")
    n.run(0.1)
    with pytest.raises(WouldBlock):
        child.receive(1)


def test_interface_named_alike_is_refused() -> None:
    pair = ready()
    raises(errno.EEXIST, pair.a.stack.add_interface, Interface("eth0"))
