"""The connector: what it makes, what it refuses, what a sealed one is still able to do."""

from __future__ import annotations

import array
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from protocol.rpc.codec import Fd, Response
from protocol.rpc.connection import RpcConnection
from protocol.sealing.rows import distinct_calls
from services.netstackd.edge.connector import HOST_FILTER, Connector, Refused, run_connector

LOOPBACK = socket.inet_aton("127.0.0.1")


@contextmanager
def running(connector: Connector) -> Iterator[tuple[socket.socket, int]]:
    """A sealed one, forked as the keeper forks it: (channel, pid)."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        run_connector(theirs, connector)
    theirs.close()
    ours.settimeout(10)
    try:
        yield ours, child
    finally:
        ours.close()
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            pass


class Caller:
    """Asks over a channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._connection = RpcConnection()

    def call(self, method: str, *params: Any) -> Any:
        """The socket, or [errno, why]."""
        _, (data, _) = self._connection.call(method, params)
        self._channel.sendall(data)
        while True:
            data, ancillary, _, _ = self._channel.recvmsg(65536, socket.CMSG_SPACE(64))
            assert data, "the connector has gone"
            fds = array.array("i")
            for _, _, payload in ancillary:
                fds.frombytes(payload)
            for message in self._connection.receive_untrusted(data, list(fds)):
                assert isinstance(message, Response)
                self._connection.is_wanted(message)
                if isinstance(message.result, Fd):
                    return socket.socket(fileno=message.result.number)
                return message.error


def test_sealed_connector_connects_listens_and_makes_datagram_sockets() -> None:
    with running(Connector(host_loopback=True)) as (channel, _), socket.create_server(("127.0.0.1", 0)) as server:
        caller = Caller(channel)
        port = server.getsockname()[1]
        with caller.call("connect", "tcp", LOOPBACK, port) as made, server.accept()[0] as accepted:
            assert not os.get_blocking(made.fileno())
            made.send(b"x")
            assert accepted.recv(1) == b"x"
        with caller.call("listen", "tcp", LOOPBACK, 0) as listener:
            with socket.create_connection(listener.getsockname()):
                pass
        with caller.call("listen", "udp", LOOPBACK, 0) as bound:
            with caller.call("connect", "udp", LOOPBACK, bound.getsockname()[1]) as connected:
                connected.send(b"datagram")
                bound.setblocking(True)
                assert bound.recv(100) == b"datagram"


def test_errors_are_the_hosts() -> None:
    with running(Connector()) as (channel, _), socket.create_server(("127.0.0.1", 0)) as server:
        caller = Caller(channel)
        assert caller.call("listen", "tcp", LOOPBACK, server.getsockname()[1])[0] == errno.EADDRINUSE
        assert caller.call("listen", "tcp", socket.inet_aton("203.0.113.9"), 0)[0] == errno.EADDRNOTAVAIL
        assert caller.call("connect", "tcp", LOOPBACK, 1)[0] == errno.EACCES
        assert caller.call("nonsense", "tcp", LOOPBACK, 1)[0] == errno.ENOSYS
        assert caller.call("connect", "raw", socket.inet_aton("203.0.113.9"), 1)[0] == errno.EINVAL
        assert caller.call("connect", "tcp", b"123", 1)[0] == errno.EINVAL
        assert caller.call("connect", "tcp", LOOPBACK, 70000)[0] == errno.EINVAL
        assert caller.call("connect", "tcp")[0] == errno.EINVAL


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "10.1.2.3",
        "::1", "::", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "fe80::1", "ff02::1", "::7f00:1",
    ],
)  # fmt: skip
def test_connector_refuses_what_never_leaves_whatever_it_is_asked(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connector = Connector([(4, 0x0A000000, 8)])
    for kind in ("tcp", "udp", "echo"):
        with pytest.raises(Refused) as refused:
            connector.serve("connect", [kind, socket.inet_pton(family, address), 80])
        assert refused.value.number == errno.EACCES


def test_resolvers_on_loopback_are_reached_only_for_names() -> None:
    with pytest.raises(Refused):
        Connector().serve("connect", ["udp", socket.inet_aton("127.0.0.53"), 53])
    with pytest.raises(Refused):
        Connector(dns=True).serve("connect", ["udp", socket.inet_aton("127.0.0.53"), 54])
    Connector(dns=True).serve("connect", ["udp", socket.inet_aton("127.0.0.53"), 53]).close()


def test_connector_ends_with_its_channel_and_on_nonsense() -> None:
    with running(Connector()) as (channel, child):
        channel.shutdown(socket.SHUT_WR)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with running(Connector()) as (channel, child):
        channel.send(b"\xc1garbage")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_the_list_is_short_and_opens_nothing() -> None:
    calls = distinct_calls(HOST_FILTER)
    assert len(calls) <= 20
    assert not calls & {
        "open", "openat", "execve", "fork", "clone", "clone3", "kill", "ptrace", "write", "accept4", "recvfrom",
        "mprotect", "ioctl", "sendto", "read", "socketpair",
    }  # fmt: skip


ATTEMPT = """
import os, socket, sys
from services.netstackd.edge.connector import Connector, run_connector
class Evil(Connector):
    def serve(self, method, params):
        {action}
        return super().serve(method, params)
ours, theirs = socket.socketpair()
if os.fork() == 0:
    ours.close()
    run_connector(theirs, Evil())
theirs.close()
from protocol.rpc.connection import RpcConnection
ours.sendall(RpcConnection().call("connect", ["tcp", b"1234", 1])[1][0])
ours.recv(100)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.parametrize(
    "action",
    [
        "open('/etc/passwd')",
        "os.fork()",
        "os.kill(os.getppid(), 0)",
        "socket.socket(socket.AF_UNIX)",
        "os.write(2, b'x')",
    ],
)
def test_seal_kills_what_the_connector_has_no_business_with(action: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPT.format(action=action)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.strip() == str(-signal.SIGSYS), done.stderr
