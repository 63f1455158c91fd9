"""Connections whose first bytes are in messages (`carry`), until their client asks for a data socket."""

from __future__ import annotations

import errno
import select
import socket
import struct
from typing import Any

import pytest

from protocol.netstack import messages as m
from tests.netstack.socket_service.client import Client, Refused, World, address

STREAM = (socket.AF_INET, socket.SOCK_STREAM, 0)


class Carried:
    """A listener that carries, and a connection to it. `there`: its id; `got`: what was told of it, in order."""

    def __init__(self, world: World, early: bytes = b"") -> None:
        self.world = world
        self.server = world.client(world.namespace("server"))
        self.client = world.client(world.namespace("client"))
        self.server.call("open", 1, *STREAM)
        self.server.call("bind", 1, address("0.0.0.0", 80))
        self.server.call("carry", 1)
        self.server.call("listen", 1, 8)
        self.there, self.first = 0, b""
        self.here = self.connect(early)

    def connect(self, early: bytes = b"") -> socket.socket:
        self.client.notify("open", 7, *STREAM)
        self.client.notify("connect", 7, address("10.0.2.15", 80))
        here = self.client.open_data(self.client.event("connected")[3])
        if early:
            here.send(early)
        listener, self.there, _, _, self.first = self.server.event("accepted")
        assert listener == 1 and isinstance(self.first, bytes)
        return here

    def told(self, count: int) -> bytes:
        """That many bytes, or all before the FIN."""
        got = bytearray()
        while len(got) < count:
            number, data = self.server.event("data")
            assert number == self.there
            if not data:
                break
            got += data
        return bytes(got)

    def silence(self) -> None:
        """Nothing more is told of it."""
        self.world.turn(20)
        self.server.read()
        assert [event for event in self.server.events if event.method == "data"] == []


@pytest.fixture
def carried(world: World) -> Carried:
    return Carried(world)


def test_bytes_and_both_fins_go_in_messages(carried: Carried) -> None:
    server, here = carried.server, carried.here
    here.send(b"request")
    assert carried.first + carried.told(7 - len(carried.first)) == b"request"
    server.notify("send", carried.there, b"ans")
    server.notify("send", carried.there, b"wer")
    server.notify("shutdown", carried.there, m.SHUT_WR)
    assert carried.client.receive(here, 100) == b"answer"
    here.shutdown(socket.SHUT_WR)
    assert server.event("data") == [carried.there, b""]
    server.notify("finish", carried.there, 7, 1)
    assert server.event("gone") == [carried.there]


def test_an_end_that_nobody_waits_for_is_not_told(carried: Carried) -> None:
    carried.server.notify("finish", carried.there, 0, 0)
    assert carried.client.receive(carried.here, 1) == b""
    carried.here.close()
    carried.client.notify("close", 7)
    assert carried.client.event("gone") == [7]
    carried.silence()
    assert carried.server.events == [] and [row["id"] for row in carried.server.call("sockets")] == [1]


def test_what_came_before_it_was_accepted_comes_with_it(world: World) -> None:
    carried = Carried(world)
    carried.server.call("listen", 1, 0)
    other = world.client(world.namespace("other"))
    other.notify("open", 7, *STREAM)
    other.notify("connect", 7, address("10.0.2.15", 80))
    data = other.open_data(other.event("connected")[3])
    data.send(b"early")
    world.turn(20)
    carried.server.notify("taken", 1, 1)  # until then it waits with us
    listener, number, _, _, first = carried.server.event("accepted")
    assert (listener, bytes(first)) == (1, b"early") and number != carried.there


@pytest.mark.parametrize("after", [0, 5])
def test_beyond_what_is_carried_all_waits_for_the_socket(carried: Carried, after: int) -> None:
    sent = bytes(range(256)) * 40
    carried.here.send(sent)
    got = carried.first + carried.told(m.MAX_CARRIED - len(carried.first))
    assert got == sent[: m.MAX_CARRIED]
    carried.silence()
    carried.server.notify("send", carried.there, b"y" * after)
    there = carried.server.open_data(carried.server.call("socket", carried.there))
    assert carried.server.receive(there, len(sent) - len(got)) == sent[len(got) :]
    there.send(b"z" * 9000)
    assert carried.client.receive(carried.here, after + 9000) == b"y" * after + b"z" * 9000
    carried.here.shutdown(socket.SHUT_WR)
    assert carried.server.receive(there, 1) == b""
    carried.silence()


def test_fins_that_were_told_hold_for_the_socket(carried: Carried) -> None:
    carried.here.shutdown(socket.SHUT_WR)
    assert carried.server.event("data") == [carried.there, b""]
    there = carried.server.open_data(carried.server.call("socket", carried.there))
    assert carried.server.receive(there, 1) == b""
    carried.server.write(there, b"late")
    there.shutdown(socket.SHUT_WR)
    assert carried.client.receive(carried.here, 100) == b"late"


def test_a_fin_that_was_said_right_before_the_socket_was_asked_for_is_sent(carried: Carried) -> None:
    carried.server.notify("send", carried.there, b"all")
    carried.server.notify("shutdown", carried.there, m.SHUT_WR)
    there = carried.server.open_data(carried.server.call("socket", carried.there))
    assert carried.client.receive(carried.here, 100) == b"all"
    carried.here.send(b"unread")
    carried.world.until(lambda: select.select([there], [], [], 0)[0])
    carried.server.data.remove(there)
    there.close()
    carried.server.notify("close", carried.there)
    assert carried.client.event("error") == [7, errno.EPIPE]  # a reset behind a FIN (tcp_reset)


def test_more_than_is_carried_is_refused(carried: Carried) -> None:
    server = carried.server
    server.call("send", carried.there, bytes(m.MAX_CARRIED - 1))
    with pytest.raises(Refused) as refused:
        server.call("send", carried.there, b"ab")
    assert refused.value.errno == errno.EMSGSIZE
    server.call("send", carried.there, b"a")
    assert carried.client.receive(carried.here, m.MAX_CARRIED) == bytes(m.MAX_CARRIED - 1) + b"a"


@pytest.mark.parametrize(
    ("method", "params"), [("send", [b"x"]), ("socket", []), ("finish", [0, 1]), ("shutdown", [m.SHUT_WR])]
)
def test_what_was_gone_already_ends_nothing_else(carried: Carried, method: str, params: list[Any]) -> None:
    carried.server.notify("abort", carried.there)
    assert carried.server.event("gone") == [carried.there]
    carried.server.notify(method, carried.there, *params)
    assert carried.server.call("hint", 1, 1, 1, 0) is None
    with pytest.raises(Refused) as refused:
        carried.server.call(method, carried.there, *params)
    assert refused.value.errno == errno.EBADF


@pytest.mark.parametrize(("method", "params"), [("send", [b"x"]), ("socket", [])])
def test_only_what_is_carried_has_messages(carried: Carried, method: str, params: list[Any]) -> None:
    for number in (1, 7):
        with pytest.raises(Refused) as refused:
            (carried.server if number == 1 else carried.client).call(method, number, *params)
        assert refused.value.errno == errno.ENOTCONN
    carried.client.call("open", 9, socket.AF_INET, socket.SOCK_DGRAM, 0)
    with pytest.raises(Refused) as refused:
        carried.client.call(method, 9, *params)
    assert refused.value.errno == errno.EOPNOTSUPP
    carried.server.open_data(carried.server.call("socket", carried.there))
    with pytest.raises(Refused) as refused:
        carried.server.call(method, carried.there, *params)
    assert refused.value.errno == errno.ENOTCONN


@pytest.mark.parametrize(("taken", "reset"), [(4, True), (5, False)])
def test_bytes_that_the_client_did_not_take_make_its_end_a_reset(carried: Carried, taken: int, reset: bool) -> None:
    carried.here.send(b"12345")
    assert carried.first + carried.told(5 - len(carried.first)) == b"12345"
    carried.server.notify("finish", carried.there, taken, 0)
    assert carried.client.receive(carried.here, 1) == b""
    carried.world.turn(5)
    carried.client.read()
    errors = [list(event.params) for event in carried.client.events if event.method == "error"]
    assert errors == ([[7, errno.ECONNRESET]] if reset else [])


def test_a_reset_is_told_behind_what_came(carried: Carried) -> None:
    carried.here.send(b"last words")
    assert carried.first + carried.told(10 - len(carried.first)) == b"last words"
    carried.client.call("set", 7, socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    carried.client.notify("close", 7)
    assert carried.server.event("error") == [carried.there, errno.ECONNRESET]
    carried.server.notify("send", carried.there, b"to nobody")
    carried.server.notify("finish", carried.there, 10, 1)
    assert carried.server.event("gone") == [carried.there]


def test_a_client_that_does_not_read_is_told_no_data_and_all_of_it_later(carried: Carried) -> None:
    server = carried.server
    session = next(each for each in carried.world.router.sockets.sessions if each.namespace.name == "server")
    server.call("open", 2, socket.AF_INET, socket.SOCK_STREAM, 0)
    while not session._out.waiting:
        session.tell("error", [2, 1])
    waiting = session._out.waiting
    carried.here.send(b"x" * 3000)
    carried.world.turn(20)
    assert session._out.waiting == waiting
    assert carried.first + carried.told(3000 - len(carried.first)) == b"x" * 3000


def test_urgent_bytes_keep_their_place(carried: Carried) -> None:
    server, here = carried.server, carried.here
    carried.client.call("urgent", 7, ord("!"), 0)
    here.send(b"abc")
    assert server.event("urgent") == [carried.there, ord("!"), 0]
    assert carried.first + carried.told(3 - len(carried.first)) == b"abc"
    server.notify("send", carried.there, b"12")
    server.call("urgent", carried.there, ord("?"), 2)
    server.notify("send", carried.there, b"34")
    assert carried.client.event("urgent") == [7, ord("?"), 2]
    assert carried.client.receive(here, 4) == b"1234"


def test_an_urgent_byte_behind_all_that_is_carried_is_no_fin(carried: Carried) -> None:
    carried.here.send(b"x" * m.MAX_CARRIED)
    assert carried.first + carried.told(m.MAX_CARRIED - len(carried.first)) == b"x" * m.MAX_CARRIED
    carried.client.call("urgent", 7, ord("!"), m.MAX_CARRIED + 3)
    carried.here.send(b"abc")
    assert carried.server.event("urgent")[:2] == [carried.there, ord("!")]
    carried.silence()
    there = carried.server.open_data(carried.server.call("socket", carried.there))
    assert carried.server.receive(there, 3) == b"abc"


def test_a_small_send_buffer_only_delays(world: World) -> None:
    carried = Carried(world)
    carried.server.call("set", carried.there, socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    parts = [bytes((value,)) * 1000 for value in range(4)]
    for part in parts:
        carried.server.notify("send", carried.there, part)
    carried.server.notify("finish", carried.there, len(carried.first), 1)
    assert carried.client.receive(carried.here, 5000) == b"".join(parts)


def test_a_client_that_ends_leaves_what_it_had_sent(carried: Carried) -> None:
    client: Client = carried.server
    client.notify("send", carried.there, b"farewell")
    client.sock.close()
    assert carried.client.receive(carried.here, 100) == b"farewell"
