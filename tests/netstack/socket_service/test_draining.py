"""What clients have sent before they ended goes on its way, for as long as somebody takes it; and who asks is told."""

from __future__ import annotations

import socket

from services.netstackd.socket_service.limits import LEFT_IDLE_NS, LEFT_MOST_NS
from tests.netstack.socket_service.client import Client, World, address
from tests.netstack.socket_service.test_datagrams import DGRAM, SERVER, d, message, opened

DATA = bytes(range(256)) * 1024


class Asked:
    """Somebody who waits until all has left. answers: what it was told, with the time."""

    def __init__(self, world: World) -> None:
        self.answers: list[tuple[bool, int]] = []
        loop = world.router.loop
        world.router.draining.when_drained(lambda drained: self.answers.append((drained, loop.now)))


def connected(world: World, backlog: int = 5) -> tuple[Client, socket.socket, Client, socket.socket]:
    """A connection of two namespaces: who listens and its data socket, who connects and the same."""
    server, client = world.client(world.namespace("server")), world.client(world.namespace("client"))
    server.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    server.call("bind", 1, address("", 80))
    server.call("listen", 1, backlog)
    client.call("open", 2, socket.AF_INET, socket.SOCK_STREAM, 0)
    client.call("connect", 2, [SERVER, 80, 0])
    out = client.open_data(client.event("connected")[3])
    return server, server.open_data(server.event("accepted")[4]), client, out


def fill(world: World, sock: socket.socket) -> int:
    """Write DATA over and over until nothing is taken any more; how much was."""
    sent = 0
    for _ in range(200):
        try:
            sent += sock.send(DATA[sent % len(DATA) :])
        except BlockingIOError:
            pass
        world.turn()
    return sent


def test_with_nothing_left_the_answer_comes_at_once(world: World) -> None:
    server, inner, client, out = connected(world)
    client.write(out, b"a word")
    assert server.receive(inner, 6) == b"a word"
    client.close()
    server.close()
    world.turn(3)  # the last acknowledgements are underway
    asked = Asked(world)
    begun = world.router.loop.now
    world.until(lambda: asked.answers)
    assert asked.answers[0][0] and asked.answers[0][1] - begun < 100_000_000


def test_all_of_what_a_client_left_arrives_however_slowly_it_is_taken(world: World) -> None:
    server, inner, client, out = connected(world)
    sent = fill(world, out)
    assert sent > 100_000
    client.close()
    got = bytearray()
    while data := server.receive(inner, 50_000):
        got += data
        world.forward(5 if len(got) < 400_000 else 0.01)
    assert bytes(got) == (DATA * (sent // len(DATA) + 1))[:sent]
    assert world.errors == []
    assert world.router.sockets.left == set()


def test_who_asks_is_told_when_the_last_byte_was_taken(world: World) -> None:
    server, inner, client, out = connected(world)
    sent = fill(world, out)
    client.close()
    world.turn(5)
    asked = Asked(world)
    world.turn(5)
    assert asked.answers == []
    got = 0
    while data := server.receive(inner, 50_000):
        got += len(data)
        assert asked.answers == [] or got == sent
    assert got == sent
    server.close()
    world.until(lambda: asked.answers)
    assert asked.answers[0][0]


def test_who_asks_is_told_that_nobody_takes_what_is_left(world: World) -> None:
    server, _, client, out = connected(world)
    fill(world, out)
    client.close()
    world.turn(5)
    asked = Asked(world)
    begun = world.router.loop.now
    world.until(lambda: world.forward(0.1) or asked.answers)
    assert not asked.answers[0][0]
    assert 900_000_000 < asked.answers[0][1] - begun < 3_000_000_000
    server.close()


def test_what_nobody_takes_is_given_up_and_the_receiver_told(world: World) -> None:
    server, inner, client, out = connected(world)
    sent = fill(world, out)
    client.close()
    world.turn(5)
    assert len(world.router.sockets.left) == 1
    world.forward(2.5 * LEFT_IDLE_NS / 1e9)
    assert world.router.sockets.left == set()
    assert world.router.sockets.counts["LeftDataGivenUp"] == 1
    assert len(server.receive(inner, sent)) < sent
    assert server.event("error")[1] == 104


def test_what_is_taken_too_slowly_is_given_up_in_the_end(world: World) -> None:
    server, inner, client, out = connected(world)
    sent = fill(world, out)
    client.close()
    got = 0
    for _ in range(13):
        got += len(server.receive(inner, 200_000))
        world.forward(LEFT_MOST_NS / 12 / 1e9)
    assert world.router.sockets.left == set() and got < sent


def test_every_datagram_of_a_client_that_ended_is_sent(world: World) -> None:
    server, client = world.client(world.namespace("server")), world.client(world.namespace("client"))
    there, here = opened(server, 1, *DGRAM), opened(client, 1, *DGRAM)
    server.call("bind", 1, address("0.0.0.0", 53))
    here.send(d.Datagram(b"", SERVER, 53).header() + b"first")
    assert bytes(message(world, there).payload) == b"first"  # the neighbour is known now, and no queue limits
    for number in range(150):
        here.send(d.Datagram(b"", SERVER, 53).header() + b"%d" % number)
    client.close()
    got: list[bytes] = []

    def read() -> bool:
        try:
            got.append(bytes(d.parse_untrusted(there.recv(1000)).payload))
        except BlockingIOError:
            return False
        return len(got) == 150

    world.until(read)
    assert got == [b"%d" % number for number in range(150)]
