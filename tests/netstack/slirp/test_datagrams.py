"""UDP and echo requests out of the virtual network, on virtual time."""

from __future__ import annotations

import errno

import pytest

from services.netstackd.errors import NetError
from services.netstackd.slirp.datagrams import WAITING
from services.netstackd.sockets import AF_INET, AF_INET6, SOCK_DGRAM, PingSocket, open_socket
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_ICMPV6
from tests.netstack.slirp.fakes import GATEWAY, GUEST, OUTSIDE, OUTSIDE6, VirtualNetwork
from tests.netstack.unit.hosts import SECOND, ip, received


@pytest.mark.parametrize(("version", "address"), [(4, OUTSIDE), (6, OUTSIDE6)])
def test_datagrams_there_and_back(version: int, address: int) -> None:
    network = VirtualNetwork()
    guest = network.guest.udp(version, 5000)
    guest.send(b"one", (address, 53, 0))
    guest.send(b"two", (address, 53, 0))
    network.run(0.1)
    (asked,) = network.host.asked
    assert (asked.kind, asked.version, asked.address, asked.port) == ("udp", version, address, 53)
    host = asked.give()
    assert host.sent == [b"one", b"two"]  # they waited for the socket
    host.arrive(b"answer")
    network.run(0.1)
    message = guest.receive()
    assert message.data == b"answer" and message.address == (address, 53, 0)
    guest.send(b"three", (address, 53, 0))
    network.run(0.1)
    assert host.sent[-1] == b"three" and len(network.host.asked) == 1


def test_empty_and_large_datagrams() -> None:
    network = VirtualNetwork()
    guest = network.guest.udp(4, 5000)
    guest.send(b"", (OUTSIDE, 7, 0))
    guest.send(bytes(9000), (OUTSIDE, 7, 0))
    network.run(0.1)
    host = network.host.asked[0].give()
    assert [len(data) for data in host.sent] == [0, 9000]
    host.arrive(bytes(20000))
    network.run(0.1)
    assert [len(data) for data in received(guest)] == [20000]


def test_only_so_many_wait_for_a_socket() -> None:
    network = VirtualNetwork()
    guest = network.guest.udp(4, 5000)
    for _ in range(WAITING + 5):
        guest.send(b"x", (OUTSIDE, 7, 0))
    network.run(0.1)
    assert len(network.host.asked[0].give().sent) == WAITING
    assert network.count("DropSlirpQueueFull") == 5


def test_flow_ends_when_idle_and_later_when_it_was_answered() -> None:
    network = VirtualNetwork()
    silent, lively = network.guest.udp(4, 5000), network.guest.udp(4, 5001)
    silent.send(b"?", (OUTSIDE, 7, 0))
    lively.send(b"?", (OUTSIDE, 7, 0))
    network.run(0.1)
    first, second = (asked.give() for asked in network.host.asked)
    second.arrive(b"!")
    network.run(40)
    assert first.closed and not second.closed
    network.run(130)
    assert second.closed and len(network.slirp.flows) == 0
    silent.send(b"again", (OUTSIDE, 7, 0))
    network.run(0.1)
    assert len(network.host.asked) == 3


def test_refusal_becomes_port_unreachable() -> None:
    network = VirtualNetwork()
    guest = network.guest.udp(4, 5000)
    guest.connect((OUTSIDE, 7, 0))
    guest.send(b"?")
    network.run(0.1)
    network.host.asked[0].give().arrive(OSError(errno.ECONNREFUSED, "refused"))
    network.run(0.1)
    assert guest.take_error() == errno.ECONNREFUSED


def test_no_way_becomes_unreachable_and_the_flow_is_gone() -> None:
    network = VirtualNetwork()
    guest = network.guest.udp(6, 5000)
    guest.connect((OUTSIDE6, 7, 0))
    guest.receive_errors6 = True
    guest.send(bytes(3000))  # longer than what an error quotes
    network.run(0.1)
    network.host.asked[0].fail(errno.ENETUNREACH)
    network.run(0.1)
    assert guest.errors and len(network.slirp.flows) == 0


def test_guest_without_a_socket_ends_the_flow() -> None:
    network = VirtualNetwork()
    guest = network.guest.udp(4, 5000)
    guest.send(b"?", (OUTSIDE, 7, 0))
    network.run(0.1)
    host = network.host.asked[0].give()
    guest.close()
    host.arrive(b"!")
    network.run(0.1)
    assert host.closed and len(network.slirp.flows) == 0


def test_flood_is_bounded_and_answered_flows_stay() -> None:
    network = VirtualNetwork(max_flows=10)
    guest = network.guest.udp(4, 5000)
    guest.send(b"?", (OUTSIDE, 7, 0))
    network.run(0.1)
    kept = network.host.asked[0].give()
    kept.arrive(b"!")
    for port in range(1000, 1100):
        guest.send(b"flood", (OUTSIDE, port, 0))
        network.run(0.01)
    assert len(network.slirp.flows) <= 10
    guest.send(b"still", (OUTSIDE, 7, 0))
    network.run(0.1)
    assert kept.sent[-1] == b"still" and not kept.closed


def test_full_of_answered_flows_refuses_new_ones() -> None:
    network = VirtualNetwork(max_flows=3)
    guest = network.guest.udp(4, 5000)
    for port in range(3):
        guest.send(b"?", (OUTSIDE, 100 + port, 0))
        network.run(0.1)
        network.host.asked[-1].give().arrive(b"!")
    guest.send(b"?", (OUTSIDE, 200, 0))
    network.run(0.1)
    assert len(network.host.asked) == 3
    assert network.count("DropSlirpTableFull") == 1


def test_gateway_answers_for_itself_and_is_loopback_when_told() -> None:
    network = VirtualNetwork()
    guest = network.guest.udp(4, 5000)
    guest.connect((GATEWAY, 7, 0))
    guest.send(b"?")
    network.run(0.1)
    assert guest.take_error() == errno.ECONNREFUSED and network.host.asked == []
    network = VirtualNetwork(host_loopback=True)
    network.guest.udp(4, 5000).send(b"?", (GATEWAY, 7, 0))
    network.run(0.1)
    assert network.host.asked[0].address == ip("127.0.0.1")


def ping(network: VirtualNetwork, version: int, address: int) -> PingSocket:
    family, protocol = (AF_INET, PROTO_ICMP) if version == 4 else (AF_INET6, PROTO_ICMPV6)
    socket = open_socket(network.guest.stack, family, SOCK_DGRAM, protocol)
    assert isinstance(socket, PingSocket)
    kind = 8 if version == 4 else 128
    socket.send(bytes((kind, 0, 0, 0, 0, 0, 0, 9)) + b"data", (address, 0, 0))
    network.run(0.1)
    return socket


@pytest.mark.parametrize(("version", "address", "reply"), [(4, OUTSIDE, 0), (6, OUTSIDE6, 129)])
def test_echo_requests_leave_and_come_back_with_their_identifier(version: int, address: int, reply: int) -> None:
    network = VirtualNetwork()
    socket = ping(network, version, address)
    (asked,) = network.host.asked
    assert (asked.kind, asked.address) == ("echo", address)
    host = asked.give()
    assert host.sent[0][6:] == b"\0\x09data"
    host.arrive(bytes((reply, 0, 0, 0, 0x77, 0x77, 0, 9)) + b"data")  # the host's kernel has an identifier of its own
    network.run(0.1)
    message = socket.receive()
    assert message.data[0] == reply and message.data[4:6] == socket.local_port.to_bytes(2, "big")
    assert message.data[6:] == b"\0\x09data" and message.address is not None and message.address[0] == address
    network.run(130)
    assert host.closed and not network.slirp.echoes


def test_host_without_ping_sockets_is_unreachable_and_counted() -> None:
    network = VirtualNetwork()
    socket = ping(network, 4, OUTSIDE)
    socket.receive_errors = True
    network.host.asked[0].fail(errno.EACCES)
    network.run(0.1)
    assert socket.errors[0].error is not None and socket.errors[0].error.errno == errno.EHOSTUNREACH
    assert network.count("DropSlirpPingRefused") == 1


def test_echo_to_the_gateway_is_answered_by_it() -> None:
    network = VirtualNetwork()
    socket = ping(network, 4, GATEWAY)
    assert socket.receive().data[0] == 0 and network.host.asked == []


def test_nothing_leaves_for_groups_and_everybody() -> None:
    network = VirtualNetwork()
    guest = network.guest.udp(4, 5000)
    guest.broadcast = True
    for address in ("224.0.0.251", "255.255.255.255", "10.0.2.255", "169.254.1.1", "239.1.1.1"):
        try:
            guest.send(b"?", (ip(address), 5353, 0))
        except NetError:
            pass
    network.run(2)
    assert network.host.asked == []


def test_idle_flows_cost_no_timer() -> None:
    network = VirtualNetwork()
    network.guest.udp(4, 5000).send(b"?", (OUTSIDE, 7, 0))
    network.run(200)
    deadline = network.gateway.stack.next_deadline()
    assert deadline is None or deadline > network.world.now + SECOND
    assert network.guest.count("DropUdpNoPort") == 0 and GUEST
