"""The rows of `ctl ss` on virtual time: TCP's states, queues and timers, and the other kinds of sockets."""

from __future__ import annotations

from typing import Any

import pytest

from services.netstackd.control.socket_table import socket_rows
from services.netstackd.errors import NetError
from services.netstackd.sockets import TcpSocket, open_socket
from services.netstackd.transport.base import AF_INET, AF_INET6, SOCK_RAW, SOCK_STREAM
from tests.netstack.unit.hosts import Pair, ip


def rows(pair: Pair, host: Any, protocol: str = "tcp") -> list[dict[str, Any]]:
    return [row for row in socket_rows(host.stack, pair.world.now) if row["protocol"] == protocol]


def connected() -> tuple[Pair, TcpSocket, TcpSocket, TcpSocket]:
    pair = Pair()
    pair.run(2)
    listener = open_socket(pair.b.stack, AF_INET6, SOCK_STREAM)
    client = open_socket(pair.a.stack, AF_INET, SOCK_STREAM)
    assert isinstance(listener, TcpSocket) and isinstance(client, TcpSocket)
    listener.bind((0, 80, 0))
    listener.listen(7)
    with pytest.raises(NetError):
        client.connect((ip("10.0.0.2"), 80, 0))
    pair.settle()
    assert rows(pair, pair.b)[0]["recv_q"] == 1  # waits to be accepted
    return pair, listener, client, listener.accept()


def test_a_listener_and_its_connection() -> None:
    pair, _, client, _ = connected()
    listening, established = rows(pair, pair.b)
    assert (listening["state"], listening["local"], listening["recv_q"], listening["send_q"]) == (
        "LISTEN",
        "[::]:80",
        0,
        7,
    )
    assert established["state"] == "ESTABLISHED" and established["local"] == "10.0.0.2:80"
    assert established["remote"] == f"10.0.0.1:{client.local_port}" and established["info"]["snd_cwnd"] == 10
    assert established["timer"] == ""


def test_queues_and_timers_show_what_waits() -> None:
    pair, _, client, server = connected()
    client.send(b"x" * 1000)
    pair.settle()
    assert rows(pair, pair.b)[1]["recv_q"] == 1000
    server.receive(400)
    assert rows(pair, pair.b)[1]["recv_q"] == 600
    pair.world.frames.clear()
    pair.b.stack.set_carrier(pair.ib, False)
    client.send(b"y" * 500)
    pair.a.stack.flush(pair.world.now)
    row = rows(pair, pair.a)[0]
    assert row["send_q"] >= 500 and row["timer"].split()[0] in ("retransmit", "tail")


def test_ends_are_shown_until_they_are_over() -> None:
    pair, listener, client, server = connected()
    client.close()
    pair.run(1)
    assert [row["state"] for row in rows(pair, pair.a)] == ["FIN_WAIT_2"]
    assert [row["state"] for row in rows(pair, pair.b)] == ["LISTEN", "CLOSE_WAIT"]
    server.close()
    pair.settle()
    (waits,) = rows(pair, pair.a)
    assert waits["state"] == "TIME_WAIT" and waits["timer"].startswith("timewait ")
    listener.close()
    assert rows(pair, pair.b) == []


def test_datagram_and_raw_sockets() -> None:
    pair = Pair()
    pair.run(2)
    pair.b.udp(4, 53)
    raw = open_socket(pair.b.stack, AF_INET, SOCK_RAW, 89)
    pair.a.udp(4).send(b"12345", (ip("10.0.0.2"), 53, 0))
    pair.settle()
    (one,) = rows(pair, pair.b, "udp")
    assert one["local"] == "0.0.0.0:53" and one["recv_q"] > 5
    assert [row["local"] for row in rows(pair, pair.b, "raw")] == ["0.0.0.0:89"]
    raw.close()
    assert rows(pair, pair.b, "raw") == []
