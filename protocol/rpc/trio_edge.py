"""MessagePack-RPC over a Unix stream socket under trio: moves bytes and fds, runs handlers, wakes callers.

`RpcChannel(sock)` takes a connected socket (trio's or plain). `await channel.serve(handlers)` must be running for
calls in either direction to make progress; it returns when the peer hangs up, and raises ProtocolViolation when it
misbehaves (the channel is closed then). Handlers: `async def handler(*params) -> result`, each in a task of its own;
OSError becomes [errno, text], any other Exception [0, text] and a line to `log`. Received fds arrive as `Fd` and are
close-on-exec; those of refused or abandoned messages are closed here.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import trio

from protocol.errors import ProtocolViolation
from protocol.rpc.codec import MAX_FDS, Fd, Notification, Request, Response, Value
from protocol.rpc.connection import Outgoing, RpcConnection, RpcError

RECEIVE_BYTES: Final = 65536
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(MAX_FDS * 4)

Handler = Callable[..., Awaitable[Value]]


class RpcClosed(Exception):
    """The channel is closed, by us or by the peer."""


def fds_in(value: Value) -> Iterator[int]:
    """Every fd in a received value."""
    if isinstance(value, Fd):
        yield value.number
    elif isinstance(value, list):
        for item in value:
            yield from fds_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from fds_in(item)


def close_fds(value: Value) -> None:
    """Close every fd in a received value that nobody will use."""
    for fd in fds_in(value):
        os.close(fd)


class _Waiting:
    """One caller: the event it sleeps on and the answer it finds."""

    __slots__ = ("event", "response")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.response: Response | None = None


class RpcChannel:
    """See the module docstring."""

    def __init__(self, sock: socket.socket | trio.socket.SocketType, log: Callable[[str], None] | None = None) -> None:
        self._sock = trio.socket.from_stdlib_socket(sock) if isinstance(sock, socket.socket) else sock
        self._connection = RpcConnection()
        self._waiting: dict[int, _Waiting] = {}
        self._sending = trio.Lock()
        self._closed = False
        self._log = log or (lambda line: None)

    async def call(self, method: str, *params: Value) -> Value:
        """Call the peer and wait for its answer. RpcError it refused; RpcClosed it is gone. Cancelling abandons the
        call.
        """
        if self._closed:
            raise RpcClosed("channel is closed")
        msgid, outgoing = self._connection.call(method, params)
        waiting = self._waiting[msgid] = _Waiting()
        try:
            await self._send(outgoing)
            await waiting.event.wait()
        finally:
            self._waiting.pop(msgid, None)
            if waiting.response is None:
                self._connection.abandon(msgid)
        if waiting.response is None:
            raise RpcClosed("channel was closed before the answer came")
        if waiting.response.error is not None:
            raise RpcError(waiting.response.error)
        return waiting.response.result

    async def notify(self, method: str, *params: Value) -> None:
        """Call the peer without wanting an answer."""
        await self._send(self._connection.notify(method, params))

    async def _send(self, outgoing: Outgoing) -> None:
        """One message, whole. Cancelled or failed in the middle, the channel is closed: the stream is torn."""
        data, fds = outgoing
        async with self._sending:
            if self._closed:
                raise RpcClosed("channel is closed")
            sent = 0
            try:
                if fds:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"@{len(fds)}i", *fds))]
                    sent = await self._sock.sendmsg([data], rights)
                while sent < len(data):
                    sent += await self._sock.send(data[sent:])
            except (OSError, trio.ClosedResourceError) as error:
                self.close()
                raise RpcClosed(f"send: {error}") from None
            finally:
                if 0 < sent < len(data):
                    self.close()

    async def serve(self, handlers: Mapping[str, Handler]) -> None:
        """Receive until the peer hangs up; see the module docstring."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    received = await self._receive()
                    if received is None:
                        break
                    for event in self._connection.receive_untrusted(*received):
                        self._dispatch(event, handlers, nursery)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:  # not except*: before Python 3.11.4 that wraps what is raised in it
            found, others = group.split(ProtocolViolation)
            if found is None or others is not None:
                raise
            raise ProtocolViolation(_first_why(found)) from None
        finally:
            self.close()

    async def _receive(self) -> tuple[bytes, list[int]] | None:
        """What one receive gives, None at the end."""
        try:
            data, ancillary, flags, _ = await self._sock.recvmsg(
                RECEIVE_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
            )
        except (OSError, trio.ClosedResourceError):
            return None
        fds: list[int] = []
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                count = len(payload) // 4
                fds += struct.unpack(f"@{count}i", payload[: count * 4])
        if flags & socket.MSG_CTRUNC:
            close_fds([Fd(fd) for fd in fds])
            raise ProtocolViolation("more fds than a message may carry")
        if not data:
            close_fds([Fd(fd) for fd in fds])
            return None
        return data, fds

    def _dispatch(
        self, event: Request | Response | Notification, handlers: Mapping[str, Handler], nursery: trio.Nursery
    ) -> None:
        if isinstance(event, Response):
            waiting = self._waiting.get(event.msgid)
            if self._connection.is_wanted(event) and waiting is not None:
                waiting.response = event
                waiting.event.set()
            else:
                close_fds([event.error, event.result])
            return
        nursery.start_soon(self._run, event, handlers.get(event.method))

    async def _run(self, event: Request | Notification, handler: Handler | None) -> None:
        """One handler, to its answer."""
        connection = self._connection
        msgid = event.msgid if isinstance(event, Request) else None
        outgoing: Outgoing | None = None
        try:
            if handler is None:
                close_fds(event.params)
                raise OSError(38, f"no method {event.method}")
            result = await handler(*event.params)
            if msgid is not None:
                outgoing = connection.answer(msgid, result)
        except OSError as error:
            if msgid is not None:
                outgoing = connection.refuse(msgid, error.errno or 5, error.strerror or str(error))
        except Exception as error:
            self._log(f"rpc: {event.method}: {type(error).__name__}: {error}")
            if msgid is not None:
                outgoing = connection.refuse(msgid, 0, f"{type(error).__name__}: {error}")
        if outgoing is not None:
            try:
                await self._send(outgoing)
            except RpcClosed:
                pass

    def close(self) -> None:
        """Close the socket, wake every caller, close fds nobody claimed. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._sock.close()
        for fd in self._connection.take_unclaimed():
            os.close(fd)
        for waiting in self._waiting.values():
            waiting.event.set()


def _first_why(group: BaseExceptionGroup[ProtocolViolation]) -> str:
    """The reason of the first violation in a (nested) group."""
    inner = group.exceptions[0]
    return _first_why(inner) if isinstance(inner, BaseExceptionGroup) else inner.why
