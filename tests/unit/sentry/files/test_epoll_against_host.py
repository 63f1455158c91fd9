"""Random epoll use over pipes, eventfds and socket pairs: every epoll_wait equal to the host kernel's."""

from __future__ import annotations

import os
import random
import select
import socket
import struct

import pytest

from protocol.abi import epoll_h as ep
from protocol.abi import fcntl_h as fc
from protocol.abi import socket_h as so
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.syscalls import event_fds as ef
from services.sentry.syscalls import polling as pl
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.files.fake_tasks import Guest

READS = (ep.EPOLLIN, ep.EPOLLIN | ep.EPOLLRDHUP, ep.EPOLLIN | ep.EPOLLRDNORM)


class Both:
    """The same descriptors here (`ours`) and on the host; index i names a pair of ends: 2i is read, 2i+1 written."""

    def __init__(self) -> None:
        self.guest = Guest()
        self.ours: list[int] = []
        self.hosts: list[int] = []
        at = self.guest.alloc(8)
        for kind in ("pipe", "socket", "event", "pipe"):
            if kind == "pipe":
                assert self.guest.call(ef.sys_pipe2, at, fc.O_NONBLOCK) == 0
                self.hosts += os.pipe2(os.O_NONBLOCK)
            elif kind == "socket":
                assert self.guest.call(sk.sys_socketpair, 1, 1 | so.SOCK_NONBLOCK, 0, at) == 0
                ends = socket.socketpair()
                for end in ends:
                    end.setblocking(False)
                self.hosts += [end.detach() for end in ends]
            else:
                fd = self.guest.call(ef.sys_eventfd2, 0, fc.O_NONBLOCK)
                assert fd is not None
                self.guest.mm.write(at, struct.pack("<ii", fd, self.guest.task.files.dup(fd)))
                host = os.eventfd(0, os.EFD_NONBLOCK)
                self.hosts += [host, os.dup(host)]
            self.ours += struct.unpack("<ii", self.guest.get(at, 8))
        self.epfd = self.guest.call(pl.sys_epoll_create1, 0)
        self.host_epoll = select.epoll()
        self.open = set(range(len(self.ours)))

    def move(self, index: int, data: bytes | int) -> None:
        """Write bytes to an end, or read a count from one; both kernels must agree."""
        file = self.guest.task.files.get(self.ours[index])
        got: object
        want: object
        try:
            got = file.write(data) if isinstance(data, bytes) else file.read(data)
        except WouldBlock:
            got = 11
        except LinuxError as error:
            got = error.errno
        try:
            host = self.hosts[index]
            want = os.write(host, data) if isinstance(data, bytes) else os.read(host, data)
        except OSError as error:
            want = error.errno
        assert got == want

    def control(self, operation: int, index: int, events: int) -> None:
        at = self.guest.put(struct.pack("<IQ", events, index))
        assert self.epfd is not None
        got = self.guest.call(pl.sys_epoll_ctl, self.epfd, operation, self.ours[index], at)
        host = self.hosts[index]
        try:
            if operation == ep.EPOLL_CTL_ADD:
                self.host_epoll.register(host, events)
            elif operation == ep.EPOLL_CTL_MOD:
                self.host_epoll.modify(host, events)
            else:
                self.host_epoll.unregister(host)
            want = 0
        except OSError as error:
            want = -int(error.errno or 0)
        assert got == want

    def wait(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        at = self.guest.alloc(12 * 32)
        assert self.epfd is not None
        count = self.guest.call(pl.sys_epoll_wait, self.epfd, at, 32, 0)
        assert count is not None and count >= 0
        ours = [(data, bits) for bits, data in struct.iter_unpack("<IQ", self.guest.get(at, 12 * count))]
        hosts = [(self.hosts.index(fd), bits) for fd, bits in self.host_epoll.poll(0)]
        return sorted(ours), sorted(hosts)

    def standing(self) -> list[tuple[int, int]] | None:
        """What the next asking is said to give."""
        assert self.epfd is not None
        epoll = self.guest.task.files.get(self.epfd)
        stands = epoll.standing()
        return None if stands is None else sorted((data, bits) for bits, data in struct.iter_unpack("<IQ", stands))

    def close(self, index: int) -> None:
        self.guest.task.files.close(self.ours[index], self.guest.task)
        os.close(self.hosts[index])
        self.hosts[index] = -1 - index
        self.open.discard(index)


@pytest.mark.parametrize("seed", range(40))
def test_waits_equal_the_hosts(seed: int) -> None:
    rng = random.Random(seed)
    both = Both()
    log: list[object] = []
    try:
        for _ in range(150):
            index = rng.choice(sorted(both.open))
            action = rng.choices("awrmdxW", [3, 8, 8, 2, 1, 0.3, 8])[0]
            log.append((action, index))
            if action in "am":
                events = rng.choice(READS) | rng.choice([0, 0, ep.EPOLLET, ep.EPOLLONESHOT])
                if index == 5 or (index in (2, 3) and rng.random() < 0.3):
                    events |= ep.EPOLLOUT
                both.control(ep.EPOLL_CTL_ADD if action == "a" else ep.EPOLL_CTL_MOD, index, events)
            elif action == "d":
                both.control(ep.EPOLL_CTL_DEL, index, 0)
            elif action == "w" and (index & 1 or index == 2):
                data = struct.pack("<Q", rng.choice([1, 5])) if index == 5 else rng.randbytes(rng.choice([1, 8, 500]))
                both.move(index, data)
            elif action == "r" and (not index & 1 or index == 3):
                both.move(index, rng.choice([8, 100, 4000]))
            elif action == "x" and len(both.open) > 4 and index not in (4, 5):
                both.close(index)
            else:
                stands = both.standing()
                ours, hosts = both.wait()
                assert ours == hosts, str(log[-25:])
                assert stands is None or stands == hosts, str(log[-25:])
                again = both.standing()
                assert again is None or again == both.wait()[1], str(log[-25:])
    finally:
        for index in both.open:
            os.close(both.hosts[index])
        both.host_epoll.close()
