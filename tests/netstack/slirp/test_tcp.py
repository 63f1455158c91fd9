"""TCP out of the virtual network, on virtual time, with a host that does what the test says."""

from __future__ import annotations

import errno

import pytest

from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.sockets import AF_INET, AF_INET6, SOCK_STREAM, TcpSocket, open_socket
from services.netstackd.transport.base import SHUT_WR
from services.netstackd.transport.tcp import states
from services.netstackd.wire.tcp import SYN
from tests.netstack.slirp.fakes import GATEWAY, OUTSIDE, OUTSIDE6, FakeSocket, VirtualNetwork
from tests.netstack.unit.hosts import ip


def dial(network: VirtualNetwork, address: int = OUTSIDE, port: int = 80, family: int = AF_INET) -> TcpSocket:
    socket = open_socket(network.guest.stack, family, SOCK_STREAM)
    assert isinstance(socket, TcpSocket)
    with pytest.raises(NetError) as progress:
        socket.connect((address, port, 0))
    assert progress.value.errno == errno.EINPROGRESS
    network.run(0.1)
    return socket


def outcome(socket: TcpSocket) -> int:
    """The errno that connect ended with, 0 while it stands or goes on."""
    return socket.take_error()


def established(network: VirtualNetwork, family: int = AF_INET) -> tuple[TcpSocket, FakeSocket]:
    guest = dial(network, OUTSIDE if family == AF_INET else OUTSIDE6, family=family)
    host = network.host.asked[-1].give()
    network.run(0.1)
    host.connected()
    network.run(0.1)
    assert state(guest) == states.ESTABLISHED
    return guest, host


def state(socket: TcpSocket) -> int:
    assert socket.endpoint is not None
    return socket.endpoint.state


def read_all(socket: TcpSocket) -> bytes:
    data = b""
    while True:
        try:
            part = socket.receive(65536)
        except WouldBlock:
            return data
        if not part:
            return data
        data += part


@pytest.mark.parametrize(("family", "address"), [(AF_INET, OUTSIDE), (AF_INET6, OUTSIDE6)])
def test_handshake_completes_only_when_the_host_is_connected(family: int, address: int) -> None:
    network = VirtualNetwork()
    guest = dial(network, address, 443, family)
    asked = network.host.asked[0]
    assert (asked.kind, asked.version, asked.address, asked.port) == (
        "tcp",
        4 if family == AF_INET else 6,
        address,
        443,
    )
    network.run(5)  # the guest repeats its SYN: that asks for nothing more
    assert len(network.host.asked) == 1 and state(guest) == states.SYN_SENT
    host = asked.give()
    network.run(1)
    assert state(guest) == states.SYN_SENT
    host.connected()
    network.run(1)
    assert state(guest) == states.ESTABLISHED
    assert guest.peer()[:2] == (address, 443)
    assert network.count("SlirpTcpConnections") == 1


def test_data_and_half_close_both_ways() -> None:
    network = VirtualNetwork()
    guest, host = established(network)
    guest.send(b"request")
    guest.shutdown(SHUT_WR)
    network.run(0.2)
    assert b"".join(host.sent) == b"request" and host.shut and not host.closed
    host.arrive(b"answer", b"")
    network.run(0.2)
    assert read_all(guest) == b"answer" and guest.receive(10) == b""
    network.run(1)
    assert host.closed and not host.reset
    assert not len(network.pumps)


def test_host_closes_first_and_guest_goes_on_sending() -> None:
    network = VirtualNetwork()
    guest, host = established(network)
    host.arrive(b"bye", b"")
    network.run(0.2)
    assert read_all(guest) == b"bye" and not host.closed
    guest.send(b"late")
    network.run(0.2)
    assert host.sent == [b"late"]
    guest.close()
    network.run(0.2)
    assert host.shut and host.closed and not host.reset


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ECONNREFUSED, errno.ECONNREFUSED),
        (errno.EHOSTUNREACH, errno.EHOSTUNREACH),
        (errno.ENETUNREACH, errno.ENETUNREACH),
        (errno.EACCES, errno.EHOSTUNREACH),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_host_errors_become_what_the_network_would_say(number: int, expected: int, at_once: bool) -> None:
    network = VirtualNetwork()
    guest = dial(network)
    if at_once:
        network.host.asked[0].fail(number)
    else:
        host = network.host.asked[0].give()
        host.arrive(OSError(number, "so it is"))
        assert host.closed
    network.run(0.2)
    assert outcome(guest) == expected
    assert network.count("SlirpTcpRefused") == 1
    assert not network.slirp.tcp.held


def test_host_timeout_says_nothing_and_the_next_syn_asks_again() -> None:
    network = VirtualNetwork()
    guest = dial(network)
    network.host.asked[0].fail(errno.ETIMEDOUT)
    network.run(0.2)
    assert state(guest) == states.SYN_SENT and outcome(guest) == 0
    network.run(2)
    assert len(network.host.asked) == 2


def test_guest_gives_up_while_the_syn_is_held() -> None:
    network = VirtualNetwork()
    guest = dial(network)
    host = network.host.asked[0].give()
    guest.tcp_options.linger = 0
    assert guest.endpoint is not None
    guest.endpoint.options.linger = 0
    guest.close()
    network.run(0.2)
    host.connected()
    network.run(2)
    assert host.closed and host.reset  # the SYN-ACK was answered by a reset
    assert not len(network.pumps)


def test_reset_is_passed_on_from_the_guest() -> None:
    network = VirtualNetwork()
    guest, host = established(network)
    assert guest.endpoint is not None
    guest.endpoint.options.linger = 0
    guest.close()
    network.run(0.2)
    assert host.closed and host.reset


def test_reset_is_passed_on_from_the_host() -> None:
    network = VirtualNetwork()
    guest, host = established(network)
    host.arrive(b"part", OSError(errno.ECONNRESET, "reset"))
    network.run(0.2)
    assert host.closed
    assert outcome(guest) == errno.ECONNRESET


def test_slow_host_stops_the_guest() -> None:
    network = VirtualNetwork()
    guest, host = established(network)
    host.room = 1000
    pieces = bytes(range(256)) * 4096
    sent = 0
    for _ in range(200):
        try:
            sent += guest.send(pieces[sent:])
        except WouldBlock:
            network.run(0.05)
    assert sent < len(pieces)  # everything between is full, and nothing is read any more
    assert len(b"".join(host.sent)) == 1000
    for _ in range(400):
        host.make_room(20000)
        network.run(0.05)
        if sent < len(pieces):
            try:
                sent += guest.send(pieces[sent:])
            except WouldBlock:
                pass
    assert b"".join(host.sent) == pieces


def test_slow_guest_stops_the_host() -> None:
    network = VirtualNetwork()
    guest, host = established(network)
    data = bytes(range(256)) * 40000
    host.arrive(*(data[at : at + 50000] for at in range(0, len(data), 50000)), b"")
    network.run(5)
    assert host.to_read  # it was not all read
    got = b""
    while host.to_read or len(got) < len(data):
        got += read_all(guest)
        network.run(0.1)
    assert got == data


def test_what_means_this_host_or_link_never_leaves() -> None:
    network = VirtualNetwork()
    for address in ("169.254.169.254", "0.0.0.8", "255.255.255.255", "240.0.0.1"):
        try:
            socket = open_socket(network.guest.stack, AF_INET, SOCK_STREAM)
            socket.connect((ip(address), 80, 0))
        except NetError:
            pass
        network.run(1)
    for address in ("::ffff:127.0.0.1", "fe80::1", "::127.0.0.1"):
        socket6 = open_socket(network.guest.stack, AF_INET6, SOCK_STREAM)
        try:
            socket6.connect((ip(address), 80, 0))
        except NetError:
            pass
        network.run(1)
    assert network.host.asked == []
    assert network.count("DropSlirpDestination") >= 1


def test_denied_networks_are_prohibited() -> None:
    network = VirtualNetwork(denied=((4, ip("203.0.113.0"), 24),))
    guest = dial(network)
    assert outcome(guest) == errno.EHOSTUNREACH
    assert network.host.asked == []
    dial(network, ip("203.0.114.1"))
    assert len(network.host.asked) == 1


def test_gateway_is_the_hosts_loopback_only_when_told() -> None:
    network = VirtualNetwork()
    refused = dial(network, GATEWAY, 8000)
    assert outcome(refused) == errno.ECONNREFUSED and network.host.asked == []
    network = VirtualNetwork(host_loopback=True)
    dial(network, GATEWAY, 8000)
    assert network.host.asked[0].address == ip("127.0.0.1")


def test_own_listener_comes_before_the_hosts_loopback() -> None:
    network = VirtualNetwork(host_loopback=True)
    listener = open_socket(network.gateway.stack, AF_INET, SOCK_STREAM)
    assert isinstance(listener, TcpSocket)
    listener.bind((GATEWAY, 8000, 0))
    listener.listen(5)
    guest = dial(network, GATEWAY, 8000)
    assert state(guest) == states.ESTABLISHED and network.host.asked == []


def test_listener_on_any_address_does_not_take_what_leaves() -> None:
    network = VirtualNetwork()
    listener = open_socket(network.gateway.stack, AF_INET, SOCK_STREAM)
    assert isinstance(listener, TcpSocket)
    listener.bind((0, 80, 0))
    listener.listen(5)
    dial(network, OUTSIDE, 80)
    assert len(network.host.asked) == 1


def test_syn_flood_is_bounded_and_connections_go_on() -> None:
    network = VirtualNetwork(max_connections=20)
    guest, host = established(network)
    sockets = [dial(network, ip("198.51.100.1") + number) for number in range(40)]
    assert len(network.slirp.tcp.held) <= 20
    assert network.count("DropSlirpTableFull") > 0
    guest.send(b"still here")
    network.run(0.2)
    assert host.sent[-1] == b"still here"
    assert len(sockets) == 40


def test_without_the_flag_nothing_is_accepted() -> None:
    network = VirtualNetwork()
    network.slirp.cover(network.inside, False)
    guest = dial(network)
    network.run(1)
    assert network.host.asked == [] and state(guest) == states.SYN_SENT
    assert network.count("DropNotForUs") > 0


def test_source_that_does_not_lead_back_is_not_accepted() -> None:
    network = VirtualNetwork()
    network.guest.address(network.eth0, "172.16.9.9/24", detect=False)
    socket = open_socket(network.guest.stack, AF_INET, SOCK_STREAM)
    assert isinstance(socket, TcpSocket)
    socket.bind((ip("172.16.9.9"), 0, 0))
    with pytest.raises(NetError):
        socket.connect((OUTSIDE, 80, 0))
    network.run(1)
    assert network.host.asked == []
    assert network.count("DropIpv4ReversePath") > 0


def test_close_of_the_engine_resets_everybody() -> None:
    network = VirtualNetwork()
    guest, host = established(network)
    dial(network, ip("198.51.100.1"))
    waiting = network.host.asked[-1].give()
    network.slirp.close()
    network.run(0.2)
    assert host.closed and waiting.closed
    assert outcome(guest) == errno.ECONNRESET
    assert not network.inside.accept_any


def test_syn_ack_is_repeated_when_the_guest_does_not_hear_it() -> None:
    network = VirtualNetwork()
    lost: list[bytes] = []
    wire = network.world.wires[0]

    def lose(frame: bytes) -> bool:
        is_syn_ack = (
            len(frame) > 47 and frame[12:14] == b"\x08\x00" and frame[23] == 6 and frame[47] & 0x12 == SYN | 0x10
        )
        if is_syn_ack and not lost:
            lost.append(frame)
            return True
        return False

    wire.lose = lose
    guest = dial(network)
    network.host.asked[0].give().connected()
    network.run(4)
    assert lost and state(guest) == states.ESTABLISHED


def test_held_syns_are_bounded_for_themselves() -> None:
    network = VirtualNetwork()
    network.slirp.tcp.limit = 3
    sockets = [dial(network, ip("198.51.100.1") + number) for number in range(5)]
    assert len(network.slirp.tcp.held) == 3 and len(network.host.asked) == 3
    network.host.asked[0].fail(errno.ECONNREFUSED)
    network.run(2)  # there is room, and who was not heard says it again
    assert len(network.host.asked) == 4 and outcome(sockets[0]) == errno.ECONNREFUSED


def test_another_attempt_from_the_same_port_is_the_one_that_is_answered() -> None:
    network = VirtualNetwork()
    first = dial(network)
    assert first.endpoint is not None
    (held,) = network.slirp.tcp.held.values()
    before = held.segment.seq
    network.guest.stack.tcp.connections4.clear()  # the guest has forgotten it, and begins anew
    second = open_socket(network.guest.stack, AF_INET, SOCK_STREAM)
    assert isinstance(second, TcpSocket)
    second.reuse_address = True
    second.bind((0, first.local_port, 0))
    network.run(2)
    with pytest.raises(NetError):
        second.connect((OUTSIDE, 80, 0))
    network.run(0.1)
    assert held.segment.seq != before and len(network.host.asked) == 1
    network.host.asked[0].give().connected()
    network.run(0.2)
    assert state(second) == states.ESTABLISHED


def test_what_a_guest_sent_to_its_end_goes_out_though_the_guest_is_gone() -> None:
    network = VirtualNetwork()
    guest, host = established(network)
    host.room = 10
    guest.send(b"x" * 5000)
    guest.close()
    network.run(0.2)
    assert sum(map(len, host.sent)) == 10 and network.pumps.is_sending()
    network.pumps.abandon({(4, ip("10.0.2.15"))})
    assert not host.closed
    host.make_room(1 << 20)
    assert b"".join(host.sent) == b"x" * 5000
    assert host.shut and host.closed and not host.reset
    assert not len(network.pumps) and not network.pumps.is_sending()


def test_a_stream_that_a_guest_did_not_end_is_reset_when_it_is_gone() -> None:
    network = VirtualNetwork()
    guest, host = established(network)
    guest.send(b"half")
    network.run(0.2)
    network.pumps.abandon({(4, ip("10.0.2.15"))})
    assert host.closed and host.reset
    assert not len(network.pumps)
