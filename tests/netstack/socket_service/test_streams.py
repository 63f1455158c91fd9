"""Streams through the service: two clients in namespaces of their own, joined by the virtual network."""

from __future__ import annotations

import errno
import random
import select
import socket
import struct
from typing import Any

import pytest

from protocol.netstack import messages as m
from tests.netstack.socket_service.client import Client, Refused, World, address

STREAM = (socket.AF_INET, socket.SOCK_STREAM, 0)


class Pair:
    """A listener at `server`, and a connection from `client` to it."""

    def __init__(self, world: World, family: int = socket.AF_INET) -> None:
        self.world = world
        self.server = world.client(world.namespace("server"))
        self.client = world.client(world.namespace("client"))
        any_address = "0.0.0.0" if family == socket.AF_INET else "::"
        host = "10.0.2.15" if family == socket.AF_INET else "fd00:2::1"
        self.server.call("open", 1, family, socket.SOCK_STREAM, 0)
        self.server.call("bind", 1, address(any_address, 80))
        self.server.call("listen", 1, 8)
        self.client.notify("open", 7, family, socket.SOCK_STREAM, 0)
        self.client.notify("connect", 7, address(host, 80))
        number, self.local, self.remote, fd = self.client.event("connected")
        assert number == 7
        self.here = self.client.open_data(fd)
        listener, self.number, self.server_local, self.server_remote, fd = self.server.event("accepted")
        assert listener == 1
        self.there = self.server.open_data(fd)

    def server_stack(self) -> Any:
        return self.world.router.namespaces.find("server").stack


@pytest.fixture
def pair(world: World) -> Pair:
    """Connected."""
    return Pair(world)


def state_of(client: Client, number: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = client.call("sockets")
    return next(row for row in rows if row["id"] == number)


def test_a_reader_has_its_bytes_before_their_acknowledgement_is_sent(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = pair.server_stack()
    (link,) = [iface.link for iface in stack.interfaces.values() if iface.link is not None]
    send = type(link).send
    seen: list[bool] = []

    def watched(self: Any, packets: Any, now: int) -> None:
        if self is link:
            seen.append(bool(select.select([pair.there], [], [], 0)[0]))
        send(self, packets, now)

    monkeypatch.setattr(type(link), "send", watched)
    pair.here.send(b"x")
    pair.world.until(lambda: seen)
    assert seen == [True]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_both_ends_know_each_other_and_data_goes_both_ways(world: World, family: int) -> None:
    pair = Pair(world, family)
    assert pair.local == pair.server_remote
    assert pair.remote == pair.server_local
    assert pair.number >= m.MIN_SERVER_ID
    data = random.Random(1).randbytes(3_000_000)
    sent = 0
    got = bytearray()
    while len(got) < len(data):
        try:
            sent += pair.here.send(data[sent : sent + 100_000]) if sent < len(data) else 0
        except BlockingIOError:
            pass
        world.turn()
        try:
            got += pair.there.recv(1 << 20)
        except BlockingIOError:
            pass
    assert bytes(got) == data
    pair.there.send(b"thank you")
    assert pair.client.receive(pair.here, 9) == b"thank you"


def test_reader_that_does_not_read_holds_the_writer_and_costs_no_turns(pair: Pair) -> None:
    """Back-pressure through both data sockets and the connection, and an idle loop under it."""
    total = 0
    quiet = 0
    while quiet < 50:
        try:
            total += pair.here.send(bytes(65536))
            quiet = 0
        except BlockingIOError:
            quiet += 1
        pair.world.turn()
    assert total < 20_000_000
    loop = pair.world.router.loop
    pair.world.turn(20)
    assert loop._timeout() != 0, "the loop would spin"
    got = len(pair.server.receive(pair.there, total))
    assert got == total


def test_shutdown_is_a_fin_after_the_data_and_the_other_direction_goes_on(pair: Pair) -> None:
    pair.client.write(pair.here, b"x" * 500_000)
    pair.here.shutdown(socket.SHUT_WR)
    assert len(pair.server.receive(pair.there, 500_001)) == 500_000
    pair.server.write(pair.there, b"still here")
    assert pair.client.receive(pair.here, 10) == b"still here"
    pair.there.shutdown(socket.SHUT_WR)
    assert pair.client.receive(pair.here, 1) == b""
    assert not [event for event in pair.client.events if event.method == "error"]


def test_close_sends_what_is_in_the_data_socket_then_fin_then_gone(pair: Pair) -> None:
    pair.here.send(b"last words")
    pair.client.notify("close", 7)
    pair.here.close()
    assert pair.server.receive(pair.there, 11) == b"last words"
    assert pair.client.event("gone") == [7]
    pair.client.call("open", 7, *STREAM)


def test_leave_is_a_close_of_which_nothing_more_is_heard(pair: Pair) -> None:
    pair.there.send(b"last words")
    pair.server.notify("leave", pair.number)
    pair.there.close()
    assert pair.client.receive(pair.here, 11) == b"last words"
    pair.client.notify("close", 7)
    pair.here.close()
    assert pair.client.event("gone") == [7]
    pair.world.until(lambda: [row["state"] for row in pair.server.call("sockets")] == [10])  # the listener
    pair.server.notify("leave", pair.number)  # it is not there any more: nobody is told
    assert pair.server.call("sockets")
    assert not [event for event in pair.server.events if event.method in ("gone", "error")]


def test_close_while_the_data_socket_is_still_open_sends_all_the_same(pair: Pair) -> None:
    pair.here.send(b"last words")
    pair.client.notify("close", 7)
    assert pair.server.receive(pair.there, 11) == b"last words"
    assert pair.client.event("gone") == [7]


def test_data_socket_closed_with_unread_data_resets(pair: Pair) -> None:
    pair.server.write(pair.there, b"never read")
    pair.world.turn(10)
    pair.here.close()
    assert pair.server.event("error") == [pair.number, errno.ECONNRESET]
    assert pair.server.receive(pair.there, 1) == b""


def test_close_with_unread_data_in_a_data_socket_that_is_still_open_resets(pair: Pair) -> None:
    pair.server.write(pair.there, b"never read")
    pair.world.turn(10)
    pair.client.notify("close", 7)
    assert pair.server.event("error") == [pair.number, errno.ECONNRESET]
    assert pair.client.event("gone") == [7]


def test_data_for_a_closed_data_socket_resets(pair: Pair) -> None:
    pair.client.notify("close", 7)
    pair.here.close()
    pair.client.event("gone")
    pair.server.write(pair.there, b"to nobody")
    assert pair.server.event("error")[0] == pair.number


def test_abort_resets_and_the_error_comes_before_the_end_of_the_data(pair: Pair) -> None:
    pair.client.notify("abort", 7)
    assert pair.client.event("gone") == [7]
    assert pair.server.event("error") == [pair.number, errno.ECONNRESET]
    assert pair.server.receive(pair.there, 1) == b""
    with pytest.raises(OSError):
        for _ in range(10):
            pair.there.send(b"x")
            pair.world.turn()


def test_linger_of_zero_makes_close_a_reset(pair: Pair) -> None:
    pair.client.call("set", 7, socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair.client.notify("close", 7)
    assert pair.server.event("error") == [pair.number, errno.ECONNRESET]


def test_connect_to_nobody_is_refused(world: World) -> None:
    client = world.client(world.namespace("one"))
    client.call("open", 1, *STREAM)
    client.call("connect", 1, address("10.0.2.2", 81))
    assert client.event("error") == [1, errno.ECONNREFUSED]
    with pytest.raises(Refused) as refused:
        client.call("connect", 1, address("10.0.2.2", 81))
    assert refused.value.errno == errno.ECONNABORTED
    client.notify("close", 1)
    assert client.event("gone") == [1]


def test_connect_without_a_route_fails_at_once_also_as_a_notification(world: World) -> None:
    client = world.client(world.namespace("one", addresses=[(4, 0x0A000240, 24)]))
    client.call("configure", "route_delete", {"destination": bytes(4), "length": 0})
    client.call("open", 1, *STREAM)
    with pytest.raises(Refused) as refused:
        client.call("connect", 1, address("192.0.2.1", 80))
    assert refused.value.errno == errno.ENETUNREACH
    client.notify("connect", 1, address("192.0.2.1", 80))
    assert client.event("error") == [1, errno.ENETUNREACH]


def test_connect_that_nobody_answers_times_out(world: World) -> None:
    client = world.client(world.namespace("one"))
    client.call("open", 1, *STREAM)
    client.call("connect", 1, address("10.0.2.99", 80))
    world.forward(10)
    assert client.event("error") == [1, errno.EHOSTUNREACH]


def test_bind_that_failed_as_a_notification_fails_listen_too(world: World) -> None:
    client = world.client(world.namespace("one"))
    client.notify("open", 1, *STREAM)
    client.notify("bind", 1, address("192.0.2.1", 80))
    with pytest.raises(Refused) as refused:
        client.call("listen", 1, 5)
    assert refused.value.errno == errno.EADDRNOTAVAIL
    assert client.event("error") == [1, errno.EADDRNOTAVAIL]


def test_preferred_port_is_had_unless_a_connection_has_that_pair_of_ends(pair: Pair) -> None:
    """Also one whose client is gone, in FIN_WAIT_2, as the other side has not closed."""
    port = pair.local[1]
    pair.client.notify("close", 7)
    pair.here.close()
    assert pair.client.event("gone") == [7]
    pair.client.notify("open", 8, *STREAM)
    pair.client.notify("prefer", 8, [pair.local[0], port, 0])
    pair.client.notify("connect", 8, pair.remote)
    _, local, _, fd = pair.client.event("connected")
    pair.client.open_data(fd)
    assert local[0] == pair.local[0] and local[1] != port
    pair.server.call("open", 2, *STREAM)
    pair.server.call("bind", 2, address("", 81))
    pair.server.call("listen", 2, 8)
    pair.client.notify("open", 9, *STREAM)
    pair.client.notify("prefer", 9, [pair.local[0], port, 0])
    pair.client.notify("connect", 9, [pair.remote[0], 81, 0])
    _, local, _, fd = pair.client.event("connected")
    pair.client.open_data(fd)
    assert local == pair.local, "to another port it is another pair"


def test_preferred_address_of_another_host_fails_connect(world: World) -> None:
    client = world.client(world.namespace("one"))
    client.notify("open", 1, *STREAM)
    client.notify("prefer", 1, address("192.0.2.1", 40000))
    client.notify("connect", 1, address("10.0.2.2", 80))
    assert client.event("error") == [1, errno.EADDRNOTAVAIL]


def test_accepted_connections_wait_for_credit(world: World) -> None:
    server, client = world.client(world.namespace("server")), world.client(world.namespace("client"))
    server.call("open", 1, *STREAM)
    server.call("bind", 1, address("", 80))
    server.call("listen", 1, 1)
    for number in range(1, 5):
        client.call("open", number, *STREAM)
        client.call("connect", number, address("10.0.2.15", 80))
    for _ in range(2):
        server.event("accepted")
    world.turn(20)
    server.read()
    assert not [event for event in server.events if event.method == "accepted"]
    server.notify("taken", 1, 2)
    for _ in range(2):
        server.event("accepted")


def test_listener_that_is_closed_refuses(pair: Pair) -> None:
    pair.server.notify("close", 1)
    assert pair.server.event("gone") == [1]
    pair.client.call("open", 8, *STREAM)
    pair.client.call("connect", 8, address("10.0.2.15", 80))
    assert pair.client.event("error") == [8, errno.ECONNREFUSED]
    pair.here.send(b"the connection stays")
    assert pair.server.receive(pair.there, 20) == b"the connection stays"


def test_urgent_byte_has_its_place(pair: Pair) -> None:
    number = pair.client.send("urgent", 7, ord("!"), 6)
    pair.here.send(b"beforebe")  # more than was there when the byte was sent: the place decides
    pair.client.answer(number)
    pair.here.send(b"hind")
    assert pair.server.event("urgent") == [pair.number, ord("!"), 6]
    assert pair.server.receive(pair.there, 12) == b"beforebehind"


def test_client_that_ends_closes_its_connections(pair: Pair) -> None:
    pair.here.send(b"good bye")
    pair.client.close()
    assert pair.server.receive(pair.there, 9) == b"good bye"
    pair.there.close()
    pair.server.notify("close", pair.number)
    pair.server.event("gone")
    namespaces = pair.world.router.namespaces
    pair.world.until(lambda: "client" not in namespaces.all and not namespaces._ending)


def test_options_come_back(pair: Pair) -> None:
    pair.client.call("set", 7, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert pair.client.call("get", 7, socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    pair.client.call("set", 7, socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
    assert pair.client.call("get", 7, socket.SOL_SOCKET, socket.SO_LINGER) == struct.pack("ii", 1, 5)
    assert pair.client.call("get", 7, socket.IPPROTO_TCP, socket.TCP_INFO)["state"] == 1
    with pytest.raises(Refused) as refused:
        pair.client.call("set", 7, socket.IPPROTO_TCP, 9999, 1)
    assert refused.value.errno == errno.ENOPROTOOPT


def test_sockets_shows_states_and_queues(pair: Pair) -> None:
    assert state_of(pair.server, 1)["state"] == 10
    row = state_of(pair.client, 7)
    assert (row["state"], row["local"], row["remote"]) == (1, pair.local, pair.remote)


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_data_socket_that_is_closed_with_unread_bytes_resets_also_behind_its_own_fin(
    pair: Pair, half_closed: bool
) -> None:
    if half_closed:
        pair.there.shutdown(socket.SHUT_WR)
        assert pair.client.receive(pair.here, 1) == b""
    pair.here.send(b"unread")
    pair.world.until(lambda: select.select([pair.there], [], [], 0)[0])
    pair.server.data.remove(pair.there)
    pair.there.close()
    pair.server.notify("close", pair.number)
    assert pair.client.event("error") == [7, errno.EPIPE if half_closed else errno.ECONNRESET]
