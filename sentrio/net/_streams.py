"""TCP: connections and listeners. The data of a connection is a host socket of its own; see protocol/netstack."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from anyio.abc import ByteStream, Listener, SocketAttribute, TaskGroup, UNIXSocketStream
from anyio.lowlevel import checkpoint

from protocol.rpc.codec import Fd
from sentrio.net._addresses import attributes
from sentrio.net._connection import Connection, failure


class Fate:
    """What becomes of a connection, from the moment that it is heard of: the errno that ended it, or 0."""

    def __init__(self) -> None:
        self.error = 0

    def handle(self, event: str, params: list[Any]) -> None:
        """See _connection.Socket."""
        if event == "error":
            self.error = self.error or params[1]


class TCPStream(ByteStream):
    """A connection, as anyio.abc.SocketStream but without a socket that could be looked at."""

    def __init__(
        self,
        connection: Connection,
        number: int,
        fate: Fate,
        data: UNIXSocketStream,
        local: list[Any],
        remote: list[Any],
    ) -> None:
        """For the library alone: `Network.connect_tcp` and listeners make streams."""
        self._connection = connection
        self._number = number
        self._fate = fate
        self._data = data
        self._names = attributes(local, remote)
        self._closed = False

    def _reason(self, usual: int) -> int:
        """The errno that ended the connection, as far as it has been told; 0 or `usual` when nothing was."""
        self._connection.read_available()
        return self._fate.error or usual

    async def _look_closer(self) -> int:
        """After an end of file without a reason: a FIN leaves the other end of the data socket open. When it is closed,
        netstackd may have died, whose sockets close in any order: then a question has no answer. An errno or 0."""
        sock = self._data.extra(SocketAttribute.raw_socket)
        look = select.poll()
        look.register(sock, select.POLLIN)
        if look.poll(0)[0][1] & select.POLLHUP and not self._closed:
            try:
                await self.get_option(socket.SOL_SOCKET, socket.SO_ERROR)
            except OSError:
                return self._fate.error or errno.ECONNRESET
        return 0

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Some bytes. EndOfStream after the peer's FIN; BrokenResourceError when the connection was lost, its reason
        (reset, timed out) as the cause."""
        try:
            return await self._data.receive(max_bytes)
        except anyio.EndOfStream:
            reason = self._reason(0) or await self._look_closer()
            if reason:
                raise anyio.BrokenResourceError from failure(reason)
            raise
        except anyio.BrokenResourceError:
            raise anyio.BrokenResourceError from failure(self._reason(errno.ECONNRESET))

    async def send(self, item: bytes) -> None:
        """All of `item`. BrokenResourceError when the connection was lost or shut down."""
        try:
            await self._data.send(item)
        except anyio.BrokenResourceError:
            raise anyio.BrokenResourceError from failure(self._reason(errno.EPIPE))

    async def send_eof(self) -> None:
        """A FIN behind all that was sent."""
        await self._data.send_eof()

    async def aclose(self) -> None:
        """Close. What was sent is delivered still; data that nobody received resets the connection (close(2))."""
        if self._closed:
            return
        self._closed = True
        self._connection.forget(self._number)
        try:
            await self._data.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                await self._connection.notify("close", self._number)

    async def set_option(self, level: int, name: int, value: int | bytes) -> None:
        """setsockopt(2). OSError."""
        await self._connection.call("set", self._number, level, name, value)

    async def get_option(self, level: int, name: int) -> Any:
        """getsockopt(2): int, bytes or text; TCP_INFO a dictionary. OSError."""
        return await self._connection.call("get", self._number, level, name)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """family, local_address, local_port, remote_address, remote_port of anyio.abc.SocketAttribute."""
        return self._names


async def wrap(
    connection: Connection, number: int, fate: Fate, local: list[Any], remote: list[Any], fd: Fd
) -> TCPStream:
    """A stream of what `connected` or `accepted` told; owns the descriptor."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd.number)
    try:
        data = await UNIXSocketStream.from_socket(sock)
    except BaseException:
        sock.close()
        connection.forget(number)
        connection.notify_soon("abort", number)
        raise
    return TCPStream(connection, number, fate, data, local, remote)


class Connecting(Fate):
    """A connection that is being made: waits for the outcome."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.number = connection.register(self)
        self._done = anyio.Event()
        self._outcome: list[Any] = []

    def handle(self, event: str, params: list[Any]) -> None:
        """See _connection.Socket."""
        super().handle(event, params)
        if event == "connected":
            self._outcome = params[1:]
        if self._outcome or self.error:
            self._done.set()

    async def connect(self, family: int, address: list[Any], source: list[Any] | None) -> TCPStream:
        """The stream. OSError."""
        connection, number = self._connection, self.number
        try:
            await connection.call("open", number, family, socket.SOCK_STREAM, 0)
            if source is not None:
                await connection.call("bind", number, source)
            await connection.call("connect", number, address)
            await self._done.wait()
            if not self._outcome:
                raise failure(self.error)
        except BaseException:
            connection.forget(number)
            if self._outcome:
                os.close(self._outcome[2].number)
            connection.notify_soon("abort", number)
            raise
        return await wrap(connection, number, self, *self._outcome)


class TCPListener(Listener[TCPStream]):
    """A listening socket, as anyio.abc.SocketListener."""

    def __init__(self, connection: Connection) -> None:
        """For the library alone."""
        self._connection = connection
        self.number = connection.register(self)
        self._accepted: deque[tuple[Fate, list[Any]]] = deque()
        self._arrived = anyio.Event()
        self._error = 0
        self._closed = False
        self._local: list[Any] = [b"", 0, 0]

    def handle(self, event: str, params: list[Any]) -> None:
        """See _connection.Socket."""
        if event == "accepted":
            fate = Fate()
            self._connection.register(fate, params[1])
            self._accepted.append((fate, params[1:]))
        elif event == "error":
            self._error = params[1]
        self._arrived.set()

    async def open(self, family: int, address: list[Any], backlog: int, reuse_port: bool) -> None:
        """Begin to listen. OSError."""
        connection, number = self._connection, self.number
        try:
            await connection.call("open", number, family, socket.SOCK_STREAM, 0)
            await connection.call("set", number, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                await connection.call("set", number, socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            await connection.call("bind", number, address)
            self._local = await connection.call("listen", number, backlog)
        except BaseException:
            self._close()
            raise

    async def accept(self) -> TCPStream:
        """The next connection. ClosedResourceError; BrokenResourceError when netstackd is gone."""
        while not self._accepted:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._error:
                raise anyio.BrokenResourceError from failure(self._error)
            self._arrived = anyio.Event()
            await self._arrived.wait()
        fate, (number, *about) = self._accepted.popleft()
        self._connection.notify_soon("taken", self.number, 1)
        return await wrap(self._connection, number, fate, *about)

    async def serve(self, handler: Callable[[TCPStream], Any], task_group: TaskGroup | None = None) -> None:
        """Accept for ever; `handler(stream)` runs in a task of `task_group` (or of one of its own) and closes it."""
        if task_group is None:
            async with anyio.create_task_group() as own:
                await self.serve(handler, own)
        else:
            while True:
                task_group.start_soon(handler, await self.accept())

    def _close(self) -> None:
        self._closed = True
        self._connection.forget(self.number)
        for _, (number, _, _, fd) in self._accepted:
            os.close(fd.number)
            self._connection.forget(number)
            self._connection.notify_soon("abort", number)
        self._accepted.clear()
        self._connection.notify_soon("close", self.number)
        self._arrived.set()

    async def aclose(self) -> None:
        """Listen no more; connections that nobody accepted are reset."""
        if not self._closed:
            self._close()
        await checkpoint()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """family, local_address and local_port of anyio.abc.SocketAttribute."""
        return attributes(self._local, None)
