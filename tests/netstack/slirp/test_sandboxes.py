"""Sandboxes on the virtual network of the preset slirp: out to the host, published, gone; run by an ordinary user."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from protocol.rpc.codec import Fd
from services.netstackd.commands.connection import Control
from tests.netstack.networks import World, wait_until
from tests.netstack.router.test_sandboxes import Client, data_socket
from tests.netstack.slirp.conftest import OUTSIDE, Slirp, enter
from tests.netstack.slirp.test_real import ECHO

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")


def join(slirp: Slirp, name: str) -> Client:
    with Control(slirp.socket) as control:
        answer = control.call("namespace_add", name)
    return Client(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=answer["fd"].number))


def test_sandbox_goes_out_and_is_published_until_it_is_gone(world: World) -> None:
    slirp = Slirp(world, world.path, ports=())
    process = world.start(slirp.host, sys.executable, "-c", ECHO, OUTSIDE, "7000")
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    web = join(slirp, "web")
    assert slirp.json("ns")[1]["addresses"][0].startswith("10.0.2.15")

    web.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    web.call("connect", 1, [socket.inet_aton(OUTSIDE), 7000, 0])
    with data_socket(web.event("connected")[3]) as out:
        out.sendall(b"from inside")
        assert out.recv(100) == b"from inside"
        out.shutdown(socket.SHUT_WR)
        assert out.recv(100) == b""

    web.call("open", 2, socket.AF_INET, socket.SOCK_STREAM, 0)
    web.call("bind", 2, [b"", 80, 0])
    web.call("listen", 2, 5)
    slirp.ctl("publish", "8080:web:80")
    with enter(slirp.host):
        bound = socket.create_server((OUTSIDE, 8081))
    with bound, Control(slirp.socket) as control:
        what = {"protocol": "tcp", "namespace": "web", "guest_port": 80, "host": OUTSIDE, "port": 8081}
        assert control.call("publish", {**what, "socket": Fd(bound.fileno())})["port"] == 8081
    clients, kept = [], []
    for port in (8080, 8081):
        with enter(slirp.host):
            client = socket.create_connection((OUTSIDE, port), 10)
        clients.append(client)
        wait_until(lambda: any(event.method == "accepted" for event in web.events) or web.events.extend(web._read()))
        accepted = next(event for event in web.events if event.method == "accepted")
        web.events.clear()
        assert accepted.params[3][:2] == [socket.inet_aton(OUTSIDE), client.getsockname()[1]]
        with data_socket(accepted.params[4]) as inside:
            client.sendall(b"hello")
            assert inside.recv(100) == b"hello"
            inside.sendall(b"world")
            assert client.recv(100) == b"world"
            kept.append(socket.fromfd(inside.fileno(), inside.family, inside.type))  # it stays open

    slirp.ctl("ns", "del", "web")
    clients[1].settimeout(10)
    with pytest.raises(ConnectionResetError):
        clients[1].recv(1)
    assert slirp.json("published") == []
    with enter(slirp.host), pytest.raises(ConnectionRefusedError):
        socket.create_connection((OUTSIDE, 8080), 5)
    for client in clients:
        client.close()
    for sock in (*kept, web.sock):
        sock.close()
