"""What stands for a datagram socket at the socket service: an id and a host socket that carries one datagram a message.

The header of protocol/netstack/datagrams.py is in front of each. The host socket is watched edge-triggered; `unsure`
says that there may be something to read. Datagrams are read when the socket is asked (receive, poll), a few at a time,
so that what is not asked for waits, and is dropped, at the service.
"""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING, Any, Final

from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from protocol.errors import ProtocolViolation
from protocol.netstack import datagrams as dg
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.sockets.base import READABLE, WRITABLE
from services.sentry.sockets.inet.addresses import Endpoint, full6
from services.sentry.sockets.inet.netstack.channel_unsafe import unsent_bytes
from services.sentry.sockets.inet.netstack.options import forward_all, forward_group, forward_option
from services.sentry.sockets.inet.udp import Datagram

if TYPE_CHECKING:
    from services.sentry.sockets.inet.netstack.provider import NetstackProvider

__all__ = ["FarDatagrams"]

_EDGE: Final = select.EPOLLIN | select.EPOLLET
_BATCH: Final = 16
_MOST: Final = 256


class FarDatagrams:
    """A datagram socket there. socket: whoever has `deliver(Datagram)` and `error_arrived(errno, Datagram, bytes)`."""

    __slots__ = ("alive", "blocked", "connected", "fd", "number", "provider", "socket", "unsure")

    def __init__(self, provider: NetstackProvider, socket: Any) -> None:
        self.provider = provider
        self.socket = socket
        self.alive = False
        self.unsure = self.blocked = False
        self.connected: Endpoint | None = None
        self.fd = -1
        self.number = 0

    # --- opening ---
    def bind(self) -> None:
        """Open it if need be, with the name and the peer that the socket has. EADDRINUSE and such; ENETDOWN."""
        socket = self.socket
        provider = self.provider
        if not self.alive:
            self._open()
        elif socket.remote_endpoint() == self.connected:
            return
        wanted = socket.remote_endpoint()
        if wanted != self.connected:
            provider.connection.call("connect", self.number, None if wanted is None else self._addr(wanted))
            self.connected = wanted

    def _addr(self, endpoint: Endpoint) -> list[object]:
        """As a socket of its family speaks: IPv4 mapped on one of AF_INET6."""
        address = endpoint.address
        if self.socket.domain == so.AF_INET6 and len(address) == 4:
            address = full6(address)
        return [address, endpoint.port, endpoint.scope]

    def _open(self) -> None:
        socket, provider = self.socket, self.provider
        client = provider.connection
        self.number = provider.new_id(self)
        opening = client.request("open", self.number, socket.domain, socket.kind, socket.protocol)
        forward_all(provider, self.number, socket, socket.domain)
        local = socket.local if any(socket.local) else b""
        port = 0 if socket.kind == so.SOCK_RAW else socket.local_port
        binding = client.request("bind", self.number, self._addr(Endpoint(local, port, socket.scope)))
        self.connected = None
        try:
            fd = provider.descriptor(client.answer(opening))
        except (LinuxError, ProtocolViolation) as error:
            client.forget(binding)
            provider.sockets.pop(self.number, None)
            raise LinuxError(getattr(error, "errno", errno.EIO)) from None
        try:
            client.answer(binding)
            taken = provider.accepts(fd, so.SOCK_SEQPACKET)
            fd = fd if taken else -1
            if not taken:
                raise LinuxError(errno.ENOBUFS, "no room for the socket, or it is none")
        except LinuxError:
            if fd >= 0:
                os.close(fd)
            provider.sockets.pop(self.number, None)
            provider.notify("close", self.number)
            provider.flush()
            raise
        self.fd = fd
        self.alive = self.unsure = True
        socket.far = self
        host_poll = socket.kernel.host_poll
        if host_poll is not None:
            host_poll.watch(fd, _EDGE, self._ready)

    # --- news ---
    def _ready(self, bits: int) -> None:
        """host_poll's callback."""
        woken = 0
        if bits & ~select.EPOLLOUT:
            self.unsure = True
            woken = READABLE
        if self.blocked and bits & (select.EPOLLOUT | select.EPOLLHUP):
            self.blocked = False
            if self.fd >= 0:
                self.socket.kernel.host_poll.watch(self.fd, _EDGE, self._ready)
            woken |= WRITABLE
        if woken and self.socket.queue.entries:
            self.socket.queue.wake(woken)

    def failed(self, error: int) -> None:
        """The service: SO_ERROR, or what became of a send."""
        socket = self.socket
        socket.error = error
        if socket.queue.entries:
            socket.queue.wake(po.POLLERR | READABLE)

    def lost(self) -> None:
        """The service is gone."""
        self._drop()

    # --- receiving ---
    def fill(self) -> None:
        """Deliver what came: some of it, or on until something is for the socket, as a filter may want little."""
        inbox = self.socket.inbox
        for count in range(_MOST):
            if count >= _BATCH and inbox:
                return
            if not self.unsure or self.fd < 0 or self.socket.inbox_bytes > self.socket.receive_buffer:
                return
            try:
                message = os.read(self.fd, dg.MAX_MESSAGE_BYTES)
            except BlockingIOError:
                self.unsure = False
                return
            except OSError:
                message = b""
            if not message:
                self.unsure = False
                return
            try:
                came = dg.parse_untrusted(message)
            except ProtocolViolation:
                continue  # one message that makes no sense is one datagram less
            self._came(came)
        if self.unsure and not inbox:
            self.socket.queue.wake(READABLE)  # others are to be served, too: whoever waits goes on with it

    def _came(self, came: dg.Datagram) -> None:
        socket = self.socket
        peer = Endpoint(_plain(came.address), came.port, came.scope)
        payload = bytes(came.payload)
        if came.flags & dg.ERROR_QUEUE:
            if len(payload) >= dg.ERROR_BYTES:
                extended, offender = payload[: dg.EXTENDED_ERROR.size], payload[dg.EXTENDED_ERROR.size : dg.ERROR_BYTES]
                data = payload[dg.ERROR_BYTES :]
                own = Endpoint(socket.local, socket.local_port)
                about = Datagram(data, own, peer, came.ttl, came.tos, came.interface)
                socket.error_arrived(extended, offender, about)
            return
        destination = _plain(came.pktinfo) or socket.local
        own = Endpoint(destination, socket.local_port)
        socket.deliver(Datagram(payload, peer, own, came.ttl, came.tos, came.interface))

    # --- sending ---
    def send(self, datagram: Datagram, destination: Endpoint) -> None:
        """WouldBlock: no room. What becomes of it later comes by `failed`."""
        if self.blocked:
            raise WouldBlock
        address = destination.address
        source = datagram.source.address
        if self.socket.domain == so.AF_INET6:
            address, source = full6(address), full6(source) if source else b""
        header = dg.Datagram(
            b"",
            address,
            destination.port,
            destination.scope,
            flags=dg.SET_TOS,
            tos=datagram.traffic,
            ttl=datagram.hops,
            interface=datagram.interface,
            pktinfo=source,
        ).header()
        self.write(header + datagram.data)

    def write(self, message: bytes) -> None:
        """One message with its header. WouldBlock; ENETDOWN, EMSGSIZE."""
        if self.provider.flushes_soon:  # options that are to hold for this message
            self.provider.flush()
        try:
            os.write(self.fd, message)
        except BlockingIOError:
            self.blocked = True
            self.socket.kernel.host_poll.watch(self.fd, _EDGE | select.EPOLLOUT, self._ready)
            raise WouldBlock from None
        except OSError as error:
            raise LinuxError(errno.EMSGSIZE if error.errno == errno.EMSGSIZE else errno.ENETDOWN) from None

    def unsent_bytes(self) -> int:
        return unsent_bytes(self.fd) if self.fd >= 0 else 0

    # --- the end and options ---
    def shut_down(self, how: int) -> None:
        """shutdown(2): `how` is SHUT_RD and so on."""
        if self.alive:
            self.provider.attempt("shutdown", self.number, how)
            self.provider.flush_soon()

    def close(self) -> None:
        if self.alive:
            self.provider.sockets.pop(self.number, None)
            self.provider.notify("close", self.number)
            self.provider.flush_soon()
        self._drop()

    def _drop(self) -> None:
        self.alive = self.unsure = self.blocked = False
        self.connected = None
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.provider.give_back(fd)

    def option_changed(self, level: int, name: int) -> None:
        if self.alive:
            forward_option(self.provider, self.number, self.socket, level, name)

    def raw_option(self, level: int, name: int, value: bytes) -> None:
        """An option of a raw socket whose value is bytes."""
        if self.alive:
            self.provider.hint(self.number, level, name, value)
            self.provider.flush_soon()

    def group_changed(self, group: bytes, interface: int, joined: bool) -> None:
        if self.alive:
            forward_group(self.provider, self.number, group, interface, joined)


_MAPPED: Final = bytes(10) + b"\xff\xff"


def _plain(address: bytes) -> bytes:
    """Mapped addresses as IPv4."""
    return address[12:] if address[:12] == _MAPPED else address
