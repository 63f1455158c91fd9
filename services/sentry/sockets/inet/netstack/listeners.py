"""What stands for a listening TCP socket at the socket service."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from protocol.abi import socket_h as so
from protocol.errors import ProtocolViolation
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.netstack.options import forward_group, forward_option
from services.sentry.sockets.inet.netstack.streams import FarStream, open_stream

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.sockets.inet.addresses import Endpoint
    from services.sentry.sockets.inet.netstack.provider import NetstackProvider
    from services.sentry.sockets.inet.tcp import TcpSocket

__all__ = ["FarListener"]


class FarListener:
    """A listening socket. untold: connections that were accepted and that the service was not told of yet."""

    __slots__ = ("alive", "number", "provider", "socket", "untold")

    unsure = False  # there is nothing to read
    rings = None

    def __init__(self, provider: NetstackProvider, socket: TcpSocket) -> None:
        self.provider = provider
        self.socket = socket
        self.alive = True
        self.untold = 0
        self.number = provider.new_id(self)
        socket.far = self

    def listen(self) -> None:
        """EADDRINUSE and such."""
        socket = self.socket
        open_stream(self.provider, self.number, socket, socket.domain)
        if self.provider.has_carries:
            self.provider.notify("carry", self.number)
        self.resize()

    def resize(self) -> None:
        try:
            self.provider.connection.call("listen", self.number, self.socket.backlog)
        except LinuxError:
            self.close()
            raise

    def accepted(self, number: int, local: Endpoint, remote: Endpoint, fd: int) -> None:
        """The service: somebody connected."""
        if number in self.provider.sockets:
            os.close(fd)
            return
        sound = self._may_accept(local, remote)
        if not sound:
            os.close(fd)
        if not sound or not self.provider.accepts(fd, so.SOCK_STREAM):
            self._refuse(number)
            return
        server = self.socket.admitted(local, remote)
        FarStream(self.provider, server, number).take(fd)
        self.socket.offer(server)

    def accepted_carried(self, number: int, local: Endpoint, remote: Endpoint, first: bytes) -> None:
        """The same, of a connection whose bytes come in messages; `first` are there. ProtocolViolation."""
        if not self.provider.has_carries:
            raise ProtocolViolation("netstack: carries what it was not asked to")
        if number in self.provider.sockets:
            return
        if not self._may_accept(local, remote):
            self._refuse(number)
            return
        server = self.socket.admitted(local, remote)
        FarStream(self.provider, server, number).carry(first)
        self.socket.offer(server)

    def _may_accept(self, local: Endpoint, remote: Endpoint) -> bool:
        """Whether that can be a connection of ours, and there is room. Beyond the backlog, none should come."""
        listener = self.socket
        sound = len(local.address) == len(remote.address) != 0
        return sound and len(listener.pending) <= listener.backlog and self.alive

    def _refuse(self, number: int) -> None:
        self.provider.notify("abort", number)
        self.provider.flush_soon()

    def taken(self) -> None:
        """One of its connections was accepted. Told by halves of the queue: the other half is enough to go on with."""
        self.untold += 1
        if self.untold * 2 >= self.socket.backlog:
            self.provider.notify("taken", self.number, self.untold)
            self.untold = 0
            self.provider.flush_soon()

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """ENOTCONN."""
        return len(self.socket.read(count))

    def failed(self, error: int) -> None:
        """What `listen` answers too."""

    def lost(self) -> None:
        self.alive = False

    def close(self) -> None:
        if self.alive:
            self.alive = False
            self.provider.sockets.pop(self.number, None)
            self.provider.notify("close", self.number)
            self.provider.flush_soon()

    def option_changed(self, level: int, name: int) -> None:
        if self.alive:
            forward_option(self.provider, self.number, self.socket, level, name)

    def group_changed(self, group: bytes, interface: int, joined: bool) -> None:
        if self.alive:
            forward_group(self.provider, self.number, group, interface, joined)
