"""UDP: datagrams come and go on a host socket, each with a header (protocol/netstack/datagrams.py)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from anyio.abc import UnreliableObjectStream
from anyio.lowlevel import checkpoint

from protocol.errors import ProtocolViolation
from protocol.netstack import datagrams as d
from sentrio.net._addresses import attributes, resolve, to_tuple
from sentrio.net._connection import Connection, failure

Packet = tuple[bytes, tuple[str, int]]


class _Datagrams:
    """What both kinds share: the data socket, and errors that came for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.number = connection.register(self)
        self._data: socket.socket | None = None
        self._error = 0
        self._local: list[Any] = [b"", 0, 0]
        self._remote: list[Any] | None = None
        self._waiting: anyio.CancelScope | None = None  # of who waits for a datagram: an error may come instead
        self._sending = anyio.Lock()
        self._receiving = anyio.Lock()

    def handle(self, event: str, params: list[Any]) -> None:
        """See _connection.Socket."""
        if event == "error":
            self._error = params[1]
            if self._waiting is not None:
                self._waiting.cancel()

    async def open(self, family: int, local: list[Any] | None, remote: list[Any] | None) -> None:
        """Make the socket. OSError."""
        connection, number = self._connection, self.number
        try:
            fd = await connection.call("open", number, family, socket.SOCK_DGRAM, 0)
            self._data = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=fd.number)
            if local is not None or remote is None:
                self._local = await connection.call("bind", number, local or [b"", 0, 0])
            if remote is not None:
                self._local = await connection.call("connect", number, remote)
                self._remote = remote
        except BaseException:
            self._close()
            raise

    def _check(self) -> socket.socket:
        if self._data is None:
            raise anyio.ClosedResourceError
        if self._connection.lost:
            raise anyio.BrokenResourceError from failure(errno.ECONNRESET, "netstackd is gone")
        self._connection.read_available()
        if self._error:
            number, self._error = self._error, 0
            raise failure(number)
        return self._data

    async def receive_message(self) -> d.Datagram:
        """The next datagram. OSError: what became of one that was sent (ECONNREFUSED)."""
        await checkpoint()
        async with self._receiving:
            while True:
                data = self._check()
                try:
                    message = data.recv(d.MAX_MESSAGE_BYTES)
                except BlockingIOError:
                    with anyio.CancelScope() as self._waiting:
                        await anyio.wait_readable(data)
                    self._waiting = None
                    continue
                except OSError as error:
                    raise anyio.BrokenResourceError from error
                if not message:
                    raise anyio.BrokenResourceError from failure(errno.ECONNRESET, "netstackd is gone")
                try:
                    return d.parse_untrusted(message)
                except ProtocolViolation as violation:
                    raise anyio.BrokenResourceError from violation

    async def send_message(self, header: bytes, payload: bytes) -> None:
        """Send one; waits while there is no room. OSError."""
        await checkpoint()
        async with self._sending:
            while True:
                data = self._check()
                try:
                    data.sendmsg((header, payload), (), socket.MSG_NOSIGNAL)
                    return
                except BlockingIOError:
                    await anyio.wait_writable(data)
                except OSError as error:
                    if error.errno == errno.EMSGSIZE:
                        raise
                    raise anyio.BrokenResourceError from error

    def _close(self) -> None:
        data, self._data = self._data, None
        self._connection.forget(self.number)
        self._connection.notify_soon("close", self.number)
        if data is not None:
            anyio.notify_closing(data)
            data.close()

    async def aclose(self) -> None:
        """Close; what was sent leaves."""
        if self._data is not None:
            self._close()
        await checkpoint()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """family, local_address and local_port of anyio.abc.SocketAttribute; connected, the remote ones as well."""
        return attributes(self._local, self._remote)


class UDPSocket(_Datagrams, UnreliableObjectStream[Packet]):
    """As anyio.abc.UDPSocket: items are (data, (host, port))."""

    async def receive(self) -> Packet:
        """The next datagram and who sent it. OSError: an error of the socket."""
        message = await self.receive_message()
        return bytes(message.payload), to_tuple([message.address, message.port, message.scope])

    async def send(self, item: Packet) -> None:
        """Send `data` to `(host, port)`. OSError."""
        data, (host, port) = item
        _, (address, _, scope) = (await resolve(host, port))[0]
        await self.send_message(d.Datagram(b"", address, port, scope).header(), data)

    async def sendto(self, data: bytes, host: str, port: int) -> None:
        """The same."""
        await self.send((data, (host, port)))


class ConnectedUDPSocket(_Datagrams, UnreliableObjectStream[bytes]):
    """As anyio.abc.ConnectedUDPSocket: items are bytes."""

    async def receive(self) -> bytes:
        """The next datagram of the peer. OSError: an error of the socket (ECONNREFUSED)."""
        return bytes((await self.receive_message()).payload)

    async def send(self, item: bytes) -> None:
        """Send a datagram to the peer. OSError."""
        await self.send_message(d.TO_PEER, item)
