"""Random conversations over TCP connections on the loopback, step by step equal to the host kernel's."""

from __future__ import annotations

import errno
import random
import socket
import struct
import time
from collections.abc import Callable

import pytest

from protocol.abi import socket_h as so
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.files.fake_tasks import Guest
from tests.unit.sentry.sockets import test_unix_against_host as pairs

SIOCATMARK = 0x8905
LATE_S = 2.0


class OurPair(pairs.Ours):
    """Two ends of one connection, made by socket, bind, listen, connect and accept."""

    def __init__(self, domain: int, any_address: bytes) -> None:
        self.guest = guest = Guest()
        raw = guest.put(any_address)
        length = guest.put(struct.pack("<i", len(any_address)))
        listener, client = guest.call(sk.sys_socket, domain, 1, 0), guest.call(sk.sys_socket, domain, 1, 0)
        assert listener is not None and client is not None
        assert guest.call(sk.sys_listen, listener, 1) == 0
        assert guest.call(sk.sys_getsockname, listener, raw, length) == 0
        assert guest.call(sk.sys_connect, client, raw, len(any_address)) == 0
        server = guest.call(sk.sys_accept, listener, 0, 0)
        assert server is not None
        self.fds = [client, server]

    def urgent(self, end: int, data: bytes) -> int | None:
        at = self.guest.put(data)
        return self.guest.call(sk.sys_sendto, self.fds[end], at, len(data), pairs.FLAGS | so.MSG_OOB, 0, 0)

    def mark(self, end: int) -> int:
        at = self.guest.alloc(4)
        self.guest.task.files.get(self.fds[end]).ioctl(self.guest.task, SIOCATMARK, at)
        return self.guest.mm.read_u32(at)

    def inline(self, end: int, on: int) -> int | None:
        at = self.guest.put(struct.pack("<i", on))
        return self.guest.call(sk.sys_setsockopt, self.fds[end], so.SOL_SOCKET, so.SO_OOBINLINE, at, 4)


class HostPair(pairs.Hosts):
    def __init__(self, family: int, host: str) -> None:
        with socket.socket(family) as listener:
            listener.bind((host, 0))
            listener.listen(1)
            client = socket.create_connection(listener.getsockname()[:2])
            self.ends = (client, listener.accept()[0])
        for end in self.ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def urgent(self, end: int, data: bytes) -> bytes | int | None:
        return self._call(lambda: self.ends[end].send(data, pairs.FLAGS | so.MSG_OOB))

    def mark(self, end: int) -> int:
        import fcntl

        return int(struct.unpack("<i", fcntl.ioctl(self.ends[end], SIOCATMARK, bytes(4)))[0])

    def inline(self, end: int, on: int) -> int:
        self.ends[end].setsockopt(so.SOL_SOCKET, so.SO_OOBINLINE, on)
        return 0


def same(ours: object, hosts: Callable[[], object]) -> tuple[object, object]:
    """The host's answer once it is ours, or what it was in the end: segments of a busy host may be late."""
    end = time.monotonic() + LATE_S
    answer = hosts()
    while answer != ours and time.monotonic() < end:
        time.sleep(0.002)
        answer = hosts()
    return ours, answer


def received(ours: object, hosts: Callable[[], object]) -> tuple[object, object]:
    """The host's answer, asked again as long as there is nothing yet."""
    end = time.monotonic() + LATE_S
    answer = hosts()
    while answer != ours and answer == -errno.EAGAIN and time.monotonic() < end:
        time.sleep(0.002)
        answer = hosts()
    return ours, answer


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seed", range(30))
def test_conversation_equals_the_hosts(family: int, seed: int) -> None:
    rng = random.Random(seed)
    if family == 4:
        ours = OurPair(so.AF_INET, struct.pack("<H14x", so.AF_INET))
        hosts = HostPair(socket.AF_INET, "127.0.0.1")
    else:
        ours = OurPair(so.AF_INET6, struct.pack("<H26x", so.AF_INET6))
        hosts = HostPair(socket.AF_INET6, "::1")
    open_ends = [0, 1]
    log: list[object] = []
    try:
        for _ in range(120):
            end = rng.choice(open_ends)
            action = rng.choices("srpuwecom", [8, 8, 3, 3, 0.4, 1, 0.3, 0.8, 1])[0]
            step: tuple[object, object]
            if action == "s":
                data = rng.randbytes(rng.choice([1, 3, 50, 700, 0]))
                step = (ours.send(end, data), hosts.send(end, data))
            elif action == "o":
                data = rng.randbytes(rng.choice([1, 4]))
                step = (ours.urgent(end, data), hosts.urgent(end, data))
            elif action == "r":
                count = rng.choice([1, 2, 100, 2000])
                flags = rng.choice([0, 0, 0, so.MSG_PEEK, so.MSG_OOB])
                wanted = ours.recv(end, count, flags)
                step = received(wanted, lambda end=end, count=count, flags=flags: hosts.recv(end, count, flags))
            elif action == "u":
                step = same(ours.unread(end), lambda end=end: hosts.unread(end))
            elif action == "m":
                step = same(ours.mark(end), lambda end=end: hosts.mark(end))
            elif action == "w":
                how = rng.randrange(3)
                step = (ours.shutdown(end, how), hosts.shutdown(end, how))
            elif action == "e":
                step = (ours.error(end), hosts.error(end))
            elif action == "c" and len(open_ends) == 2:
                open_ends.remove(end)
                step = (ours.close(end), hosts.close(end))
            else:
                step = same(hex(ours.poll(end)), lambda end=end: hex(hosts.poll(end)))
            log.append((action, end, step))
            assert step[0] == step[1], "\n".join(map(repr, log[-16:]))
    finally:
        for end in open_ends:
            hosts.close(end)
