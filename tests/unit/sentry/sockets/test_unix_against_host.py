"""Random conversations over unix socket pairs, step by step equal to the host kernel's."""

from __future__ import annotations

import random
import select
import socket
import struct
from collections.abc import Callable

import pytest

from protocol.abi import socket_h as so
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.files.fake_tasks import Guest

FLAGS = so.MSG_DONTWAIT | so.MSG_NOSIGNAL
MASK = 0x2000 | 0x3FF  # every poll bit that a socket shows


class Ours:
    def __init__(self, kind: int) -> None:
        self.guest = Guest()
        at = self.guest.alloc(8)
        assert self.guest.call(sk.sys_socketpair, 1, kind, 0, at) == 0
        self.fds: list[int] = list(struct.unpack("<ii", self.guest.get(at, 8)))

    def send(self, end: int, data: bytes) -> int | None:
        return self.guest.call(sk.sys_sendto, self.fds[end], self.guest.put(data), len(data), FLAGS, 0, 0)

    def recv(self, end: int, count: int, flags: int) -> bytes | int | None:
        at = self.guest.alloc(count)
        got = self.guest.call(sk.sys_recvfrom, self.fds[end], at, count, FLAGS | flags, 0, 0)
        return got if got is None or got < 0 else self.guest.get(at, got)

    def shutdown(self, end: int, how: int) -> int | None:
        return self.guest.call(sk.sys_shutdown, self.fds[end], how)

    def poll(self, end: int) -> int:
        return int(self.guest.task.files.get(self.fds[end]).poll() & MASK)

    def unread(self, end: int) -> int:
        at = self.guest.alloc(4)
        self.guest.task.files.get(self.fds[end]).ioctl(self.guest.task, 0x541B, at)
        return self.guest.mm.read_u32(at)

    def error(self, end: int) -> int:
        at = self.guest.put(struct.pack("<i", 4))
        value = self.guest.alloc(4)
        self.guest.call(sk.sys_getsockopt, self.fds[end], 1, so.SO_ERROR, value, at)
        return self.guest.mm.read_u32(value)

    def close(self, end: int) -> None:
        self.guest.task.files.close(self.fds[end], self.guest.task)


class Hosts:
    def __init__(self, kind: int) -> None:
        self.ends = socket.socketpair(socket.AF_UNIX, kind)

    def _call(self, call: Callable[[], bytes | int | None]) -> bytes | int | None:
        try:
            return call()
        except OSError as error:
            return -int(error.errno or 0)

    def send(self, end: int, data: bytes) -> bytes | int | None:
        return self._call(lambda: self.ends[end].send(data, FLAGS))

    def recv(self, end: int, count: int, flags: int) -> bytes | int | None:
        return self._call(lambda: self.ends[end].recv(count, FLAGS | flags))

    def shutdown(self, end: int, how: int) -> bytes | int | None:
        return self._call(lambda: self.ends[end].shutdown(how)) or 0

    def poll(self, end: int) -> int:
        poller = select.poll()
        poller.register(self.ends[end], MASK)
        found = poller.poll(0)
        return found[0][1] if found else 0

    def unread(self, end: int) -> int:
        import fcntl

        return int(struct.unpack("<i", fcntl.ioctl(self.ends[end], 0x541B, bytes(4)))[0])

    def error(self, end: int) -> int:
        return self.ends[end].getsockopt(1, so.SO_ERROR)

    def close(self, end: int) -> None:
        self.ends[end].close()


@pytest.mark.parametrize("kind", [so.SOCK_STREAM, so.SOCK_SEQPACKET, so.SOCK_DGRAM])
@pytest.mark.parametrize("seed", range(25))
def test_conversation_equals_the_hosts(kind: int, seed: int) -> None:
    rng = random.Random(seed)
    ours, hosts = Ours(kind), Hosts(kind)
    open_ends = [0, 1]
    log: list[object] = []
    try:
        for _ in range(120):
            end = rng.choice(open_ends)
            action = rng.choices("srpuwec", [8, 8, 3, 3, 0.4, 1, 0.3])[0]
            if action == "s":
                data = rng.randbytes(rng.choice([1, 3, 50, 700, 0]))
                step: tuple[object, object] = (ours.send(end, data), hosts.send(end, data))
            elif action == "r":
                count = rng.choice([1, 2, 100, 2000])
                flags = rng.choice([0, 0, 0, so.MSG_PEEK])
                step = (ours.recv(end, count, flags), hosts.recv(end, count, flags))
            elif action == "u":
                step = (ours.unread(end), hosts.unread(end))
            elif action == "w":
                how = rng.randrange(3)
                step = (ours.shutdown(end, how), hosts.shutdown(end, how))
            elif action == "e":
                step = (ours.error(end), hosts.error(end))
            elif action == "c" and len(open_ends) == 2:
                open_ends.remove(end)
                step = (ours.close(end), hosts.close(end))
            else:
                step = (hex(ours.poll(end)), hex(hosts.poll(end)))
            log.append((action, end, step))
            assert step[0] == step[1], log[-12:]
    finally:
        for end in open_ends:
            hosts.close(end)
