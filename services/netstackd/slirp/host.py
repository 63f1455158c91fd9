"""What the engine needs of the host: sockets that are connected or listening, made by somebody else.

Nothing here waits. A call that cannot go on raises BlockingIOError, one that fails OSError with the host's errno.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Callable
from typing import Final, Protocol

from services.netstackd.storage.packet import Payload

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
FAILED: Final = select.EPOLLERR | select.EPOLLHUP

TCP: Final = "tcp"
UDP: Final = "udp"
ECHO: Final = "echo"  # ICMP datagram socket; messages begin with the ICMP header

Client = tuple[int, int, int]  # version, address, port
Ready = Callable[[int], None]  # (READABLE, WRITABLE, FAILED bits)


class HostSocket(Protocol):
    """A connected (or connecting) socket of the host, non-blocking."""

    def watch(self, ready: Ready, *, edge: bool = False) -> None:
        """Call `ready` when it can be read or (`edge` alone) written, or failed. `edge`: once for each change, until
        a call raised BlockingIOError."""

    def receive(self, limit: int) -> bytes:
        """recv(2); b"" at the end of a stream."""

    def send(self, data: Payload) -> int:
        """send(2)."""

    def shutdown_write(self) -> None:
        """No more data will be sent: FIN."""

    def close(self, *, reset: bool = False) -> None:
        """The end; `reset` sends a RST instead of what is unsent."""


class HostPort(Protocol):
    """A socket of the host that is bound to an address: a TCP listener or an unconnected UDP socket, non-blocking."""

    version: int
    address: int
    port: int

    def watch(self, ready: Ready) -> None:
        """Call `ready` while there is something to accept or receive."""

    def accept(self) -> tuple[HostSocket, Client]:
        """TCP: a connection and whose it is."""

    def receive_from(self, limit: int) -> tuple[bytes, Client]:
        """UDP: a datagram and whose it is."""

    def send_to(self, data: Payload, client: Client) -> int:
        """UDP: to a client."""

    def close(self) -> None:
        """The end."""


class Host(Protocol):
    """Who makes them. `done` is called once, perhaps at once, with what was made or with an errno."""

    def connect(
        self, kind: str, version: int, address: int, port: int, done: Callable[[HostSocket | int], None]
    ) -> None:
        """A socket of `kind` that connects to an address. A TCP socket comes before its connection stands: it is
        writable when it does, FAILED when it never will, and `receive` then raises why."""

    def listen(self, kind: str, version: int, address: int, port: int, done: Callable[[HostPort | int], None]) -> None:
        """A TCP listener or a bound UDP socket; address 0 for all, port 0 for any."""

    def port(self, fd: int, kind: str) -> HostPort:
        """A listening or bound socket that was handed over as a descriptor, which it owns from now on. OSError."""


class NoHost:
    """A Host that has nothing: before there is one, and in configurations that want none."""

    def connect(
        self, kind: str, version: int, address: int, port: int, done: Callable[[HostSocket | int], None]
    ) -> None:
        """See Host."""
        done(errno.EAGAIN)

    def listen(self, kind: str, version: int, address: int, port: int, done: Callable[[HostPort | int], None]) -> None:
        """See Host."""
        done(errno.EAGAIN)

    def port(self, fd: int, kind: str) -> HostPort:
        """See Host."""
        raise OSError(errno.EAGAIN, "there is no host")
