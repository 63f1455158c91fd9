"""The broker in this process: what it answers, refuses, and does about nonsense; its lists."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.abi import socket_h as so
from protocol.netstack.messages import COUNTERS, check_snapshot_untrusted
from protocol.rpc.codec import Fd, Notification, Response
from protocol.rpc.connection import RpcConnection
from protocol.sealing.rows import distinct_calls
from services.hostnet import host_filter
from services.hostnet.broker import Broker
from services.hostnet.loop import Loop
from services.hostnet.snapshot import HostNetwork

INET, STREAM, DGRAM = socket.AF_INET, socket.SOCK_STREAM, socket.SOCK_DGRAM
LOCALHOST = bytes((127, 0, 0, 1))


class Client:
    """The Sentry's side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(20)
        self.connection = RpcConnection()
        self.events: list[Notification] = []
        self.answers: dict[int, Response] = {}
        self.came: list[int] = []

    def receive(self) -> None:
        data, fds, _, _ = socket.recv_fds(self.sock, 65536, 16)
        assert data, "the broker hung up"
        self.came += fds
        for message in self.connection.receive_untrusted(data, fds):
            if isinstance(message, Response):
                self.answers[message.msgid] = message
            else:
                assert isinstance(message, Notification)
                self.events.append(message)

    def call(self, method: str, *params: Any) -> Any:
        number, (data, _) = self.connection.call(method, params)
        self.sock.sendall(data)
        while number not in self.answers:
            self.receive()
        answer = self.answers.pop(number)
        return answer.result if answer.error is None else -answer.error[0]

    def socket(self, fd: Fd) -> socket.socket:
        """A socket that came, for the test to close."""
        self.came.remove(fd.number)
        return socket.socket(fileno=fd.number)

    def event(self, method: str) -> Any:
        while True:
            for event in self.events:
                if event.method == method:
                    self.events.remove(event)
                    return event.params
            self.receive()


@pytest.fixture
def client() -> Iterator[Client]:
    ours, theirs = socket.socketpair()
    loop = Loop()
    broker = Broker(loop, theirs, HostNetwork())
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    made = Client(ours)
    yield made
    ours.close()
    for fd in made.came:
        os.close(fd)
    thread.join(20)
    assert not thread.is_alive()
    broker.close()
    loop.close()


def test_the_list_of_host_calls_is_bounded_and_makes_internet_sockets_alone() -> None:
    assert len(distinct_calls(host_filter.ROWS)) <= host_filter.MAX_DISTINCT_CALLS
    families = {row.args[0].value for row in host_filter.ROWS if row.name == "socket"}
    assert families == {socket.AF_INET, socket.AF_INET6}
    assert not {"open", "openat", "execve", "fork", "clone", "ptrace", "mount"} & {r.name for r in host_filter.ROWS}


def test_greeting_and_snapshot(client: Client) -> None:
    assert client.call("hello", 1, None) == {"version": 1, "namespace": "host", "shared": True}
    assert client.call("hello", 2, None) == -errno.EPROTONOSUPPORT
    assert client.call("hello", 1, "other") == -errno.ENOENT
    snapshot = client.call("network")
    check_snapshot_untrusted(snapshot)
    assert "lo" not in [one["name"] for one in snapshot["interfaces"]]


def test_listening_and_connecting_hand_over_host_sockets(client: Client) -> None:
    assert client.call("open", 1, INET, STREAM, 6) is None
    assert client.call("open", 1, INET, STREAM, 6) == -errno.EEXIST
    assert client.call("bind", 1, [LOCALHOST, 0, 0]) == [LOCALHOST, 0, 0]
    _, port, _ = client.call("listen", 1, 1)
    client.call("open", 2, INET, STREAM, 0)
    assert client.call("connect", 2, [LOCALHOST, port, 0]) is None
    number, local, remote, fd = client.event("connected")
    assert (number, remote) == (2, [LOCALHOST, port, 0]) and isinstance(fd, Fd)
    listener, accepted, _, peer, other = client.event("accepted")
    assert (listener, peer) == (1, local) and accepted >= 1 << 31
    with client.socket(fd) as near, client.socket(other) as far:
        near.send(b"abc")
        far.settimeout(10)
        assert far.recv(9) == b"abc" and near.gettimeout() is None
        assert client.call("get", 2, 6, 11)["state"] == 1  # TCP_INFO, ESTABLISHED
    assert client.call("close", 2) is None and client.event("gone") == [2]
    # Two are outstanding at a backlog of 1, and the third waits in the host until one was taken.
    links = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    assert client.event("accepted")[0] == 1
    client.call("hello", 1, None)
    assert not [event for event in client.events if event.method == "accepted"]
    client.call("taken", 1, 1)
    assert client.event("accepted")[0] == 1
    # `leave` is `close` without `gone`.
    assert client.call("leave", accepted) is None and client.call("leave", accepted) == -errno.EBADF
    assert not [event for event in client.events if event.method == "gone"]
    for link in links:
        link.close()


def test_counters_are_those_of_the_hosts_interfaces(client: Client) -> None:
    snapshot = {each["index"]: each["name"] for each in client.call("network")["interfaces"]}
    counted = client.call("counters")
    assert {row[0] for row in counted} == set(snapshot)
    for index, *values in counted:
        for name, value in zip(COUNTERS, values, strict=True):
            shown = int(Path(f"/sys/class/net/{snapshot[index]}/statistics/{name}").read_text())
            assert shown - 1_000_000 <= value <= shown, (snapshot[index], name)  # traffic goes on meanwhile


def test_a_port_that_the_sentry_chose_and_the_host_has_taken_is_replaced(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as taken:
        for port in range(40000, 60000):
            try:
                taken.bind(("127.0.0.1", port))
                break
            except OSError:
                continue
        taken.listen()
        client.call("open", 5, INET, STREAM, 6)
        client.call("prefer", 5, [LOCALHOST, port, 0])
        client.call("connect", 5, [LOCALHOST, server.getsockname()[1], 0])
        assert client.event("connected")[1][1] != port
        client.call("open", 7, INET, STREAM, 6)
        client.call("bind", 7, [LOCALHOST, port, 0])
        assert client.call("connect", 7, [LOCALHOST, server.getsockname()[1], 0]) == -errno.EADDRINUSE
        client.call("open", 6, INET, STREAM, 6)
        client.call("bind", 6, [LOCALHOST, server.getsockname()[1], 0])
        assert client.call("listen", 6, 5) == -errno.EADDRINUSE


def test_what_is_not_for_a_sandbox_is_refused(client: Client) -> None:
    assert client.call("open", 1, socket.AF_PACKET, socket.SOCK_RAW, 0) == -errno.EAFNOSUPPORT
    assert client.call("open", 1, INET, socket.SOCK_RAW, 1) == -errno.EPERM
    assert client.call("configure", "link_set", {"interface": 1, "up": 0}) == -errno.EPERM
    client.call("open", 1, INET, STREAM, 6)
    for level, name in ((so.SOL_SOCKET, 36), (so.SOL_SOCKET, 26), (0, 19), (6, 31)):  # MARK, ATTACH_FILTER, ...
        assert client.call("set", 1, level, name, 1) == -errno.ENOPROTOOPT
        assert client.call("get", 1, level, name) == -errno.ENOPROTOOPT
    assert client.call("set", 1, 6, 1, 1) is None and client.call("get", 1, 6, 1) == 1  # TCP_NODELAY
    assert client.call("bind", 77, [b"", 1, 0]) == -errno.EBADF
    assert client.call("rings", 1, 65536, 65536, 0, None) == -errno.EOPNOTSUPP


def test_datagrams_have_their_header(client: Client) -> None:
    fd = client.call("open", 3, INET, DGRAM, 17)
    _, port, _ = client.call("bind", 3, [LOCALHOST, 0, 0])
    with client.socket(fd) as data, socket.socket(INET, DGRAM) as other:
        data.settimeout(10)
        other.settimeout(10)
        other.bind(("127.0.0.1", 0))
        other.sendto(b"in", ("127.0.0.1", port))
        message = data.recv(100)
        assert message[0] == 4 and message[8:12] == LOCALHOST and message[48:] == b"in" and message[25] == 64
        assert int.from_bytes(message[2:4], "little") == other.getsockname()[1]
        data.send(message[:48] + b"out")
        assert other.recvfrom(99) == (b"out", ("127.0.0.1", port))
    client.call("close", 3)


@pytest.mark.parametrize("seed", range(20))
def test_nonsense_ends_the_broker_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    ours, theirs = socket.socketpair()
    loop = Loop()
    broker = Broker(loop, theirs, HostNetwork())
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    frames = [b"\x94\x00\x01\xa4open\x94\x01\x02\x01\x06", rng.randbytes(rng.randrange(1, 200)), b"\x93\x02\xa1x\x90"]
    ours.sendall(b"".join(rng.sample(frames, 3)) + b"\xc1")
    thread.join(20)
    assert not thread.is_alive()
    broker.close()
    loop.close()
    ours.close()
