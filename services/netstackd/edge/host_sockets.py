"""Host sockets as the slirp engine wants them (slirp/host.py), over descriptors that the connector has made."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable
from typing import Any, Final

from services.netstackd.edge.loop import Loop
from services.netstackd.slirp.host import ECHO, TCP, Client, HostSocket, Ready
from services.netstackd.storage.packet import Payload
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_ICMPV6

_EDGE: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET | 0x2000  # EPOLLRDHUP
_NO_LINGER: Final = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 seconds


def open_descriptor(fd: int, kind: str, version: int) -> socket.socket:
    """A socket object for a descriptor, without asking the kernel what it is."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    if kind == TCP:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP, fd)
    protocol = socket.IPPROTO_UDP
    if kind == ECHO:
        protocol = PROTO_ICMP if version == 4 else PROTO_ICMPV6
    return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, protocol, fd)


def client_of(name: Any) -> Client:
    """(version, address, port) of what the socket module calls an address; an IPv4-mapped one is IPv4."""
    host, port = name[0].partition("%")[0], name[1]
    if ":" not in host:
        return 4, int.from_bytes(socket.inet_pton(socket.AF_INET, host), "big"), port
    address = int.from_bytes(socket.inet_pton(socket.AF_INET6, host), "big")
    return (4, address & 0xFFFFFFFF, port) if address >> 32 == 0xFFFF else (6, address, port)


class FdSocket:
    """A HostSocket."""

    __slots__ = ("_loop", "_sock", "_watched", "receive", "send")

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._watched = False
        self.receive: Callable[[int], bytes] = sock.recv
        self.send: Callable[[Payload], int] = lambda data: sock.send(data, socket.MSG_NOSIGNAL)

    def watch(self, ready: Ready, *, edge: bool = False) -> None:
        """See HostSocket."""
        self._watched = True
        self._loop.watch(self._sock.fileno(), _EDGE if edge else select.EPOLLIN, lambda events, now: ready(events))

    def shutdown_write(self) -> None:
        """See HostSocket."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """See HostSocket."""
        if self._watched:
            self._watched = False
            self._loop.unwatch(self._sock.fileno())
        if reset:
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            except OSError:
                pass
        self._sock.close()


class FdPort:
    """A HostPort."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._mapped = sock.family == socket.AF_INET6  # how it writes an IPv4 client's address
        self.version, self.address, self.port = client_of(sock.getsockname())

    @classmethod
    def of_descriptor(cls, loop: Loop, fd: int, kind: str) -> FdPort:
        """Over a descriptor that somebody handed over. OSError."""
        type_, protocol = (
            (socket.SOCK_STREAM, socket.IPPROTO_TCP) if kind == TCP else (socket.SOCK_DGRAM, socket.IPPROTO_UDP)
        )
        sock = socket.socket(-1, type_, protocol, fd)
        try:
            if sock.family not in (socket.AF_INET, socket.AF_INET6):
                raise OSError(errno.EAFNOSUPPORT, "no IP socket")
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        return cls(loop, sock)

    def watch(self, ready: Ready) -> None:
        """See HostPort."""
        self._loop.watch(self._sock.fileno(), select.EPOLLIN, lambda events, now: ready(events))

    def accept(self) -> tuple[HostSocket, Client]:
        """See HostPort."""
        sock, name = self._sock.accept()
        sock.setblocking(False)
        return FdSocket(self._loop, sock), client_of(name)

    def receive_from(self, limit: int) -> tuple[bytes, Client]:
        """See HostPort."""
        data, name = self._sock.recvfrom(limit)
        return data, client_of(name)

    def send_to(self, data: Payload, client: Client) -> int:
        """See HostPort."""
        version, address, port = client
        if version == 4:
            host = socket.inet_ntop(socket.AF_INET, address.to_bytes(4, "big"))
            return self._sock.sendto(data, (f"::ffff:{host}" if self._mapped else host, port))
        return self._sock.sendto(data, (socket.inet_ntop(socket.AF_INET6, address.to_bytes(16, "big")), port))

    def close(self) -> None:
        """See HostPort."""
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
