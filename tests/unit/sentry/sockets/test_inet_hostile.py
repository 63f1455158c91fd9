"""Bytes no program should send: addresses, options, control messages and netlink requests at random never raise more
than an errno."""

from __future__ import annotations

import random
import struct

import pytest

from protocol.abi import netlink_h as nl
from protocol.abi import socket_h as so
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.files.fake_tasks import Guest

LEVELS = (0, 1, 6, 17, 41, 270)


def some_bytes(rng: random.Random) -> bytes:
    size = rng.choice([0, 1, 2, 3, 4, 7, 8, 11, 12, 16, 20, 24, 28, 40, 136, 200])
    return rng.choice([rng.randbytes, lambda count: bytes(count)])(size)


def some_address(rng: random.Random) -> bytes:
    family = rng.choice([so.AF_INET, so.AF_INET6, so.AF_UNSPEC, so.AF_NETLINK, rng.randrange(1 << 16)])
    host = rng.choice([b"\x7f\0\0\1", bytes(4), rng.randbytes(4), bytes(10) + b"\xff\xff\x7f\0\0\1", rng.randbytes(20)])
    return (struct.pack("<HH", family, rng.choice([0, 1, 0x5000])) + host + bytes(24))[
        : rng.choice([1, 2, 8, 12, 16, 24, 28])
    ]


@pytest.mark.parametrize("seed", range(40))
def test_calls_on_inet_sockets_with_random_bytes(seed: int) -> None:
    rng = random.Random(seed)
    guest = Guest()
    kinds = [(family, kind) for family in (so.AF_INET, so.AF_INET6) for kind in (so.SOCK_STREAM, so.SOCK_DGRAM)]
    fds = []
    for family, kind in kinds * 2:
        made = guest.call(sk.sys_socket, family, kind | so.SOCK_NONBLOCK, 0)
        assert made is not None and made >= 0
        fds.append(made)
    for _ in range(300):
        fd = rng.choice(fds)
        action = rng.randrange(9)
        raw = some_bytes(rng)
        address = some_address(rng)
        at = guest.put(address)
        if action == 0:
            guest.call(sk.sys_bind, fd, at, len(address))
        elif action == 1:
            guest.call(sk.sys_connect, fd, at, len(address))
        elif action == 2:
            guest.call(sk.sys_listen, fd, rng.choice([0, 1, 1 << 31]))
        elif action in (3, 4):
            guest.call(sk.sys_setsockopt, fd, rng.choice(LEVELS), rng.randrange(110), guest.put(raw), len(raw))
        elif action == 5:
            length = guest.put(struct.pack("<i", rng.choice([0, 1, 4, 300])))
            guest.call(sk.sys_getsockopt, fd, rng.choice(LEVELS), rng.randrange(110), guest.alloc(300), length)
        elif action == 6:
            kind = so.CMSGHDR.pack(rng.choice([16, 20, 28, 36]), rng.choice([0, 17, 41, 1]), rng.randrange(110))
            control = guest.put(kind + raw)
            iov = guest.put(struct.pack("<QQ", guest.put(b"data"), 4))
            header = so.MSGHDR.pack(rng.choice([0, at]), len(address), iov, 1, control, 16 + len(raw), 0)
            guest.call(sk.sys_sendmsg, fd, guest.put(header), rng.choice([0, 1, so.MSG_MORE]) | so.MSG_NOSIGNAL)
        elif action == 7:
            flags = rng.choice([0, 1, 2, so.MSG_ERRQUEUE, so.MSG_TRUNC, so.MSG_WAITALL])
            guest.call(sk.sys_recvfrom, fd, guest.alloc(64), 64, flags, 0, 0)
        else:
            guest.call(sk.sys_shutdown, fd, rng.randrange(3))
        guest.task.files.get(fd).poll()
    for fd in fds:
        guest.task.files.close(fd, guest.task)


@pytest.mark.parametrize("protocol", [nl.NETLINK_ROUTE, nl.NETLINK_SOCK_DIAG])
@pytest.mark.parametrize("seed", range(30))
def test_random_netlink_requests_are_answered_or_refused(protocol: int, seed: int) -> None:
    rng = random.Random(seed)
    guest = Guest()
    fd = guest.call(sk.sys_socket, so.AF_NETLINK, so.SOCK_RAW | so.SOCK_NONBLOCK, protocol)
    assert fd is not None and fd >= 0
    for _ in range(200):
        body = some_bytes(rng)
        if body and rng.random() < 0.7:
            body = bytes([rng.choice([0, 2, 10]), rng.choice([6, 17, 32])]) + body[2:]
        kind = rng.choice([rng.randrange(130), 18, 20, 22, 26, 34])
        flags = rng.choice([1, 0x301, 5, 0x305, 0])
        length = 16 + len(body) + rng.choice([0, 0, 0, 4, -3])
        request = struct.pack("<IHHII", max(length, 0), kind, flags, 1, 0) + body
        sent = guest.call(sk.sys_sendto, fd, guest.put(request), len(request), 0, 0, 0)
        assert sent == len(request)
        for _ in range(10):
            got = guest.call(sk.sys_recvfrom, fd, guest.alloc(9000), 9000, 0, 0, 0)
            if got is None or got < 0:
                break
