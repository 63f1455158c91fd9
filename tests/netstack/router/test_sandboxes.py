"""Namespaces and the socket service of the sealed program, as the supervisor and a client use them."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

from protocol.netstack import messages as m
from protocol.rpc.codec import Fd, Notification, Response
from protocol.rpc.connection import RpcConnection
from services.netstackd.commands.connection import Control
from tests.netstack.networks import Router, World

CONFIG = """
[[interface]]
name = "virtual"
kind = "bridge"
addresses = ["10.0.2.2/24"]
[network]
interface = "virtual"
"""


class Client:
    """A blocking client of the socket service."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(10)
        self.connection = RpcConnection()
        self.events: list[Notification] = []
        assert self.call("hello", m.VERSION, None)["version"] == m.VERSION

    def _read(self) -> list[Any]:
        data, fds, _, _ = socket.recv_fds(self.sock, 65536, 16)
        assert data, "the conversation was ended"
        return list(self.connection.receive_untrusted(data, fds))

    def call(self, method: str, *params: Any) -> Any:
        """A request; its result."""
        number, (data, _) = self.connection.call(method, params)
        self.sock.sendall(data)
        while True:
            result: Any = None
            found = False
            for message in self._read():
                if isinstance(message, Response):
                    assert self.connection.is_wanted(message) and message.msgid == number
                    assert message.error is None, message.error
                    result, found = message.result, True
                else:
                    self.events.append(message)
            if found:
                return result

    def event(self, method: str) -> Any:
        """The parameters of the next event, which is to be this one."""
        while not self.events:
            self.events += self._read()
        event = self.events.pop(0)
        assert event.method == method, event
        return event.params


def data_socket(value: Fd) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=value.number)
    sock.settimeout(10)
    return sock


def namespace(router: Router, name: str) -> Client:
    """Join as the supervisor does; the client end."""
    with Control(router.socket) as control:
        answer = control.call("namespace_add", name)
    return Client(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=answer["fd"].number))


def exchange(server: Client, client: Client, host: str) -> None:
    """A connection between two namespaces, and some bytes."""
    server.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    server.call("bind", 1, [b"", 80, 0])
    server.call("listen", 1, 5)
    client.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    client.call("connect", 1, [socket.inet_aton(host), 80, 0])
    here = data_socket(client.event("connected")[3])
    there = data_socket(server.event("accepted")[4])
    here.sendall(b"hello")
    assert there.recv(5) == b"hello"
    there.close()
    assert here.recv(1) == b""
    here.close()


def test_namespaces_reach_each_other_through_the_sealed_router(world: World) -> None:
    router = world.router(CONFIG)
    one, two = namespace(router, "one"), namespace(router, "two")
    exchange(one, two, "10.0.2.1")
    shown = router.ctl("ns").out
    assert "two" in shown and "10.0.2.3/24" in shown
    assert router.ctl("ns", "add", "kept", "--address", "10.0.2.77/24").out == "10.0.2.77/24\n"
    assert "10.0.2.77/24" in router.ctl("ns", "show").out
    router.ctl("ping", "10.0.2.77", "-c", "1")
    router.ctl("ns", "del", "kept")
    assert router.ctl("ns", "del", "kept", check=False).status == 1
    one.sock.close()
    two.sock.close()


def test_killed_router_is_back_within_a_second_and_namespaces_can_join_again(world: World) -> None:
    router = world.router(CONFIG + '[sockets]\nlisten = "' + str(world.path / "sockets") + '"\n')
    client = namespace(router, "one")
    killed = router.child()
    began = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    assert client.sock.recv(1) == b"", "the end of the connection says that everything is lost"
    again = namespace(router, "one")
    took = time.monotonic() - began
    assert took < 10, took  # within one on a machine that is not busy
    assert router.child() != killed
    two = namespace(router, "two")
    exchange(again, two, "10.0.2.1")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(world.path / "sockets"))
    assert Client(sock).call("network")["interfaces"][0]["name"] == "virtual"
    for ended in (sock, client.sock, again.sock, two.sock):
        ended.close()


def test_connection_made_beforehand_is_served_when_it_is_handed_over(world: World) -> None:
    router = world.router(CONFIG)
    ours, theirs = socket.socketpair()
    ours.sendall(RpcConnection().call("hello", [m.VERSION, None])[1][0])
    with Control(router.socket) as control:
        answer = control.call("namespace_add", "early", {"connection": Fd(theirs.fileno()), "domain": "lab"})
    theirs.close()
    assert "fd" not in answer
    ours.settimeout(10)
    (response,) = read_answer(ours)
    assert response.result == {"version": m.VERSION, "namespace": "early", "rings": True, "carries": True}
    ours.close()


def read_answer(sock: socket.socket) -> list[Any]:
    """The messages of the next read of a connection on which one request is open."""
    connection = RpcConnection()
    connection.call("hello", [])
    return list(connection.receive_untrusted(sock.recv(65536)))
