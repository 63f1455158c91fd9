"""Published ports on virtual time: from where a client comes inside, and what happens when there is nobody."""

from __future__ import annotations

import errno

import pytest

from services.netstackd.slirp.publish import Publication, PublishSpec
from services.netstackd.sockets import AF_INET, AF_INET6, SOCK_STREAM, TcpSocket, open_socket
from tests.netstack.slirp.fakes import GATEWAY, GATEWAY6, GUEST, GUEST6, VirtualNetwork
from tests.netstack.unit.hosts import ip

CLIENT = "203.0.113.9"


def publish(network: VirtualNetwork, spec: PublishSpec) -> Publication | int:
    results: list[Publication | int] = []
    network.publisher.publish(spec, results.append)
    (result,) = results
    return result


def published(network: VirtualNetwork, protocol: str = "tcp", **more: object) -> Publication:
    values: dict[str, object] = {"first": 8080, "last": 8080, "target": (4, GUEST), "guest_port": 80, **more}
    result = publish(network, PublishSpec(protocol, **values))  # type: ignore[arg-type]
    assert isinstance(result, Publication)
    return result


def listening(network: VirtualNetwork, family: int = AF_INET, port: int = 80) -> TcpSocket:
    socket = open_socket(network.guest.stack, family, SOCK_STREAM)
    assert isinstance(socket, TcpSocket)
    socket.bind((0, port, 0))
    socket.listen(10)
    return socket


@pytest.mark.parametrize(
    ("client", "target", "seen"),
    [
        (CLIENT, (4, GUEST), (ip(CLIENT), 5555)),
        ("127.0.0.1", (4, GUEST), (GATEWAY, None)),
        ("169.254.7.7", (4, GUEST), (GATEWAY, None)),
        ("10.0.2.77", (4, GUEST), (GATEWAY, None)),  # of the virtual network itself: an answer would not come here
        ("2001:db8::9", (4, GUEST), (GATEWAY, None)),
        ("2001:db8::9", (6, GUEST6), (ip("2001:db8::9"), 5555)),
        ("::1", (6, GUEST6), (GATEWAY6, None)),
    ],
)
def test_client_comes_from_its_own_address_where_answers_find_back(
    client: str, target: tuple[int, int], seen: tuple[int, int | None]
) -> None:
    network = VirtualNetwork()
    listener = listening(network, AF_INET if target[0] == 4 else AF_INET6)
    published(network, target=target)
    host = network.host.ports[0].client(client, 5555)
    network.run(0.2)
    guest = listener.accept()
    address, port, _ = guest.peer()
    assert address == seen[0] and (seen[1] is None or port == seen[1])
    host.arrive(b"request")
    network.run(0.2)
    assert guest.receive(100) == b"request"
    guest.send(b"answer")
    guest.close()
    network.run(0.2)
    assert host.sent == [b"answer"] and host.shut


def test_nobody_listens_inside() -> None:
    network = VirtualNetwork()
    published(network)
    host = network.host.ports[0].client(CLIENT, 5555)
    network.run(0.5)
    assert host.closed and host.reset


def test_range_keeps_its_order_and_fails_whole() -> None:
    network = VirtualNetwork()
    made = published(network, first=8000, last=8002, guest_port=90)
    assert [port.port for port in made.ports] == [8000, 8001, 8002]
    listener = listening(network, port=92)
    network.host.ports[2].client(CLIENT, 1)
    network.run(0.2)
    listener.accept()
    network = VirtualNetwork()
    original, count = network.host.listen, 0

    def listen(*arguments: object) -> None:
        nonlocal count
        count += 1
        network.host.listen_error = errno.EADDRINUSE if count == 3 else 0
        original(*arguments)  # type: ignore[arg-type]

    network.host.listen = listen  # type: ignore[method-assign]
    spec = PublishSpec(first=8000, last=8005, target=(4, GUEST), guest_port=80)
    assert publish(network, spec) == errno.EADDRINUSE
    assert all(port.closed for port in network.host.ports) and not network.publisher.publications


def test_unpublish_ends_the_port_and_not_its_connections() -> None:
    network = VirtualNetwork()
    listener = listening(network)
    made = published(network)
    host = network.host.ports[0].client(CLIENT, 5555)
    network.run(0.2)
    guest = listener.accept()
    assert network.publisher.unpublish(made.id) and not network.publisher.unpublish(made.id)
    assert network.host.ports[0].closed
    guest.send(b"still")
    network.run(0.2)
    assert host.sent == [b"still"]


def test_namespace_is_looked_up_for_each_connection_and_takes_its_ports_along() -> None:
    network = VirtualNetwork()
    listener = listening(network)
    published(network, namespace="web", target=(4, 0))
    early = network.host.ports[0].client(CLIENT, 5555)
    assert early.closed and early.reset
    network.names["web"] = (4, GUEST)
    network.host.ports[0].client(CLIENT, 5556)
    network.run(0.2)
    assert listener.accept().peer()[1] == 5556
    (made,) = network.publisher.publications.values()
    made.owner = network
    network.publisher.owner_gone(object())
    assert network.publisher.publications
    network.publisher.owner_gone(network)
    assert network.host.ports[0].closed and not network.publisher.publications


def test_socket_that_was_handed_over() -> None:
    network = VirtualNetwork()
    listener = listening(network)
    network.publisher.publish_socket(PublishSpec(target=(4, GUEST), guest_port=80), 77)
    network.host.ports[0].client(CLIENT, 5555)
    network.run(0.2)
    listener.accept()


def test_clients_own_port_in_use_by_the_guest_itself() -> None:
    network = VirtualNetwork()
    listener = listening(network)
    published(network)
    for _ in range(2):  # the same client twice: once from its own address, then from ours
        network.host.ports[0].client(CLIENT, 5555)
        network.run(0.2)
    assert listener.accept().peer()[0] == ip(CLIENT)
    assert listener.accept().peer()[0] == GATEWAY


def test_too_many_connections_are_reset_and_counted() -> None:
    network = VirtualNetwork()
    network.publisher.max_connections = 3
    listening(network)
    published(network)
    clients = [network.host.ports[0].client(CLIENT, 6000 + number) for number in range(5)]
    network.run(0.2)
    assert [one.closed for one in clients] == [False, False, False, True, True]
    assert network.count("DropSlirpTableFull") == 2


@pytest.mark.parametrize(
    ("client", "seen"), [(CLIENT, (ip(CLIENT), 5555)), ("127.0.0.1", (GATEWAY, None)), ("::1", (GATEWAY, None))]
)
def test_datagrams_keep_their_source_and_answers_go_back(client: str, seen: tuple[int, int | None]) -> None:
    network = VirtualNetwork()
    guest = network.guest.udp(4, 53)
    made = published(network, "udp", guest_port=53)
    port = network.host.ports[0]
    port.arrive(b"question", client, 5555)
    network.run(0.1)
    message = guest.receive()
    assert message.data == b"question" and message.address is not None
    assert message.address[0] == seen[0] and (seen[1] is None or message.address[1] == seen[1])
    guest.send(b"answer", message.address)
    network.run(0.1)
    assert port.sent == [(b"answer", (6 if ":" in client else 4, ip(client), 5555))]
    port.arrive(b"more", client, 5555)
    network.run(0.1)
    assert guest.receive().data == b"more" and made.connections == 1
    network.run(200)
    assert len(network.flows) == 0
    port.arrive(b"later", client, 5555)
    network.run(0.1)
    assert guest.receive().data == b"later" and made.connections == 2


def test_flood_of_clients_does_not_push_out_those_that_are_answered() -> None:
    network = VirtualNetwork(max_flows=10)
    guest = network.guest.udp(4, 53)
    published(network, "udp", guest_port=53)
    port = network.host.ports[0]
    port.arrive(b"first", CLIENT, 1000)
    network.run(0.1)
    guest.send(b"answer", guest.receive().address)
    network.run(0.1)
    guest.close()  # nobody answers the rest
    network.gateway.stack.icmp4.echo_ignore_all = True
    for number in range(50):
        port.arrive(b"flood", "198.51.100.1", 2000 + number)
    assert len(network.flows) <= 10
    assert (port, (4, ip(CLIENT), 1000)) in network.publisher._clients
    # the oldest of those that nobody answered made room for the last
    assert (port, (4, ip("198.51.100.1"), 2049)) in network.publisher._clients


def test_unpublish_ends_flows() -> None:
    network = VirtualNetwork()
    network.guest.udp(4, 53)
    made = published(network, "udp", guest_port=53)
    network.host.ports[0].arrive(b"x", CLIENT, 1)
    network.run(0.1)
    assert len(network.flows) == 1
    network.publisher.unpublish(made.id)
    assert len(network.flows) == 0 and network.host.ports[0].closed
