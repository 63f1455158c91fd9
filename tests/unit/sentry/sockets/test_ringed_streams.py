"""Unix and loopback TCP streams whose buffers are rings: streams as others, until anything else happens to them."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator

import pytest

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from services.sentry.files.async_notice import follow_async
from services.sentry.files.local_rings import LocalEnd, LocalRings
from services.sentry.sockets import ringed_stream
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.sockets.test_unix_sockets import DONTWAIT, Net

LOOPBACK = b"\x02\x00\x1f\x90\x7f\x00\x00\x01" + bytes(8)
READABLE, WRITABLE = po.POLLIN | po.POLLRDNORM, po.POLLOUT | po.POLLWRNORM


@pytest.fixture(autouse=True)
def everyone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ringed_stream, "may_publish", lambda mm, file: True)
    before = LocalRings.count
    yield
    LocalRings.count = before


def unix_pair(net: Net) -> tuple[int, int]:
    return net.pair()


def tcp_pair(net: Net) -> tuple[int, int]:
    listener, client = (net.call(sk.sys_socket, so.AF_INET, so.SOCK_STREAM, 0) for _ in range(2))
    assert listener is not None and client is not None
    at = net.put(LOOPBACK)
    assert net.call(sk.sys_bind, listener, at, 16) == 0
    assert net.call(sk.sys_listen, listener, 1) == 0
    assert net.call(sk.sys_connect, client, at, 16) == 0
    server = net.call(sk.sys_accept, listener, 0, 0)
    assert server is not None
    return client, server


@pytest.fixture(params=[unix_pair, tcp_pair], ids=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> tuple[Net, int, int]:
    net = Net()
    make: Callable[[Net], tuple[int, int]] = request.param
    first, second = make(net)
    heat(net, first, second)
    return net, first, second


def heat(net: Net, first: int, second: int) -> None:
    data, room = net.put(b"h" * 600), net.alloc(600)
    for _ in range(2000):
        if net.file(first).ring_end is not None:
            break
        assert net.call(sk.sys_sendto, first, data, 600, 0, 0, 0) == 600
        assert net.call(sk.sys_recvfrom, second, room, 600, 0, 0, 0) == 600
    while net.recv(second) != -errno.EAGAIN:
        pass
    assert type(net.file(first).ring_end) is type(net.file(second).ring_end) is LocalEnd


def has_rings(net: Net, *fds: int) -> bool:
    return all(type(net.file(fd).ring_end) is LocalEnd for fd in fds)


def test_streams_in_rings_are_streams(pair: tuple[Net, int, int]) -> None:
    net, first, second = pair
    assert net.send(first, b"there") == 5
    assert net.send(second, b"and back", so.MSG_NOSIGNAL) == 8
    assert net.file(first).poll() & (READABLE | WRITABLE) == READABLE | WRITABLE
    assert net.file(second).unread_bytes() == 5
    assert net.recv(second, 3) == b"the"
    assert net.recv(second) == b"re"
    assert net.recv(second) == -errno.EAGAIN
    assert net.sendmsg(first, b"vectors") == 7
    assert net.recv(second, flags=so.MSG_WAITALL | DONTWAIT) == b"vectors"
    assert net.recv(first) == b"and back"
    assert net.file(first).poll() & (READABLE | WRITABLE) == WRITABLE
    assert has_rings(net, first, second)


def test_a_full_ring_waits_and_wakes(pair: tuple[Net, int, int]) -> None:
    net, first, second = pair
    sender = net.file(first)
    sent = 0
    while (taken := net.send(first, b"x" * 4096, DONTWAIT)) not in (None, -errno.EAGAIN):
        assert taken is not None
        sent += taken
    assert sent <= sender.ring_end.outgoing.limit
    assert not sender.poll() & po.POLLOUT
    got = 0
    while not sender.poll() & po.POLLOUT:
        data = net.recv(second)
        assert isinstance(data, bytes)
        got += len(data)
    assert sent / 4 < got <= sent
    assert has_rings(net, first, second)


def peek(net: Net, first: int, second: int) -> None:
    assert net.recv(second, 2, DONTWAIT | so.MSG_PEEK) == b"le"


def option(net: Net, first: int, second: int) -> None:
    value = net.put(struct.pack("<i", 1))
    assert net.call(sk.sys_setsockopt, second, so.SOL_SOCKET, so.SO_RCVLOWAT, value, 4) == 0


def asynchronous(net: Net, first: int, second: int) -> None:
    file = net.file(second)
    file.flags |= fc.O_ASYNC
    follow_async(net.task.kernel, file, second)


def shut(net: Net, first: int, second: int) -> None:
    assert net.call(sk.sys_shutdown, first, 1) == 0


def closed(net: Net, first: int, second: int) -> None:
    net.close(first)


@pytest.mark.parametrize("what", [peek, option, asynchronous, shut, closed])
def test_whatever_else_happens_ends_the_rings(
    pair: tuple[Net, int, int], what: Callable[[Net, int, int], None]
) -> None:
    net, first, second = pair
    assert net.send(first, b"left") == 4
    sockets = net.file(first), net.file(second)
    what(net, first, second)
    assert not any(isinstance(socket.ring_end, LocalEnd) for socket in sockets)
    assert net.recv(second) == b"left"
    if what in (shut, closed):
        assert net.recv(second) == b""
    else:
        assert net.send(first, b"more") == 4
        assert net.recv(second) == b"more"


def test_descriptors_go_with_their_bytes() -> None:
    net = Net()
    first, second = net.pair()
    heat(net, first, second)
    assert net.send(first, b"before") == 6
    rights = struct.pack("<QiiI4x", 20, so.SOL_SOCKET, so.SCM_RIGHTS, first)
    assert net.sendmsg(first, b"with", rights) == 4
    assert not has_rings(net, first)
    assert net.recv(second) == b"beforewith"


def test_unread_bytes_reset_a_connection() -> None:
    net = Net()
    first, second = tcp_pair(net)
    heat(net, first, second)
    assert net.send(first, b"never read") == 10
    net.close(second)
    assert net.recv(first) == -errno.ECONNRESET
