"""The control connection to netstackd: requests, their answers, and events for the sockets that they are about.

One task (`run`) reads; whoever needs to know now what has been said already (an end of file may have a reason) reads as
well, by `read_available`, which does not wait. Messages are handled where they are read, in their order. What comes
with a descriptor and for nobody is closed here.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from itertools import chain, count
from typing import Any, Protocol

import anyio

from protocol.errors import ProtocolViolation
from protocol.netstack import messages as m
from protocol.rpc.codec import MAX_FDS, Fd, Notification, Response
from protocol.rpc.connection import RpcConnection

_RECEIVE_BYTES = 65536


class Socket(Protocol):
    """What is registered under an id."""

    def handle(self, event: str, params: list[Any]) -> None:
        """An event about it; descriptors in `params` are its own to close. Must not wait."""


class _Call:
    """A request that somebody waits for."""

    __slots__ = ("done", "response")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.response: Response | None = None


def failure(number: int, why: str = "") -> OSError:
    """An errno as the exception that the socket API raises (ConnectionRefusedError and so on)."""
    return OSError(number, f"{os.strerror(number)}{f' ({why})' if why else ''}")


class Connection:
    """See the module docstring."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rpc = RpcConnection()
        self._calls: dict[int, _Call] = {}
        self._sockets: dict[int, Socket] = {}
        self._ids: Iterator[int] = chain(range(1, m.MAX_CLIENT_ID), count(m.MAX_CLIENT_ID))
        self._leaving: set[int] = set()
        self._sending = anyio.Lock()
        self.lost = False

    # -- sockets --

    def register(self, sock: Socket, number: int = 0) -> int:
        """Send events about `number` (0: a new id) to `sock`. Returns the id. OSError: EMFILE."""
        while not number:
            candidate = next(self._ids)
            if candidate >= m.MAX_CLIENT_ID:
                self._ids = iter(range(1, m.MAX_CLIENT_ID + 1))
            elif candidate not in self._sockets and candidate not in self._leaving:
                number = candidate
        self._sockets[number] = sock
        return number

    def forget(self, number: int) -> None:
        """No more events; a client's id may not be used again before `gone`."""
        if self._sockets.pop(number, None) is not None and not self.lost:
            self._leaving.add(number)

    # -- sending --

    async def call(self, method: str, *params: Any) -> Any:
        """A request and its result. OSError: what netstackd says, ECONNRESET when it is gone."""
        if self.lost:
            raise failure(errno.ECONNRESET, "netstackd is gone")
        number, (data, _) = self._rpc.call(method, params)
        waiting = self._calls[number] = _Call()
        try:
            await self._send(data)
            await waiting.done.wait()
        except BaseException:
            # The request may have left: what it answers is thrown away, a descriptor closed.
            if self._calls.pop(number, None) is not None:
                self._rpc.abandon(number)
            if waiting.response is not None:
                _close_fds(waiting.response.result)
            raise
        response = waiting.response
        if response is None:
            raise failure(errno.ECONNRESET, "netstackd is gone")
        if response.error is not None:
            error = response.error
            code = error[0] if isinstance(error, list) and error and type(error[0]) is int and error[0] else errno.EIO
            raise failure(code, str(error[1]) if isinstance(error, list) and len(error) > 1 else "")
        return response.result

    async def notify(self, method: str, *params: Any) -> None:
        """A message without an answer; nothing happens when netstackd is gone."""
        if not self.lost:
            await self._send(self._rpc.notify(method, params)[0])

    def notify_soon(self, method: str, *params: Any) -> None:
        """The same for places that cannot wait. netstackd reads all the time, so there is room for a few bytes; when
        there is not, the connection ends rather than losing a message."""
        if self.lost:
            return
        data = self._rpc.notify(method, params)[0]
        try:
            if self._sending.locked() or self._sock.send(data, socket.MSG_NOSIGNAL) != len(data):
                self._lose()
        except OSError:
            self._lose()

    async def _send(self, data: bytes) -> None:
        """All of `data`. A message that was begun is ended, whatever becomes of its sender."""
        async with self._sending:
            view = memoryview(data)
            while view:
                try:
                    view = view[self._sock.send(view, socket.MSG_NOSIGNAL) :]
                except BlockingIOError:
                    with anyio.CancelScope(shield=len(view) != len(data)):
                        await anyio.wait_writable(self._sock)
                except OSError:
                    self._lose()
                    return

    # -- receiving --

    async def run(self) -> None:
        """Read until netstackd is gone."""
        while not self.lost:
            await anyio.wait_readable(self._sock)
            self.read_available()

    def read_available(self) -> None:
        """Handle every message that has arrived."""
        while not self.lost:
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, _RECEIVE_BYTES, MAX_FDS)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._lose()
                return
            try:
                for message in self._rpc.receive_untrusted(data, fds):
                    self._handle(message)
            except ProtocolViolation:
                self._lose()

    def _handle(self, message: object) -> None:
        if isinstance(message, Response):
            waiting = self._calls.pop(message.msgid, None)
            if not self._rpc.is_wanted(message) or waiting is None:
                _close_fds(message.result)
                return
            waiting.response = message
            waiting.done.set()
            return
        if not isinstance(message, Notification):
            raise ProtocolViolation("netstackd asks for something")
        m.check_event_untrusted(message.method, message.params)
        params = list(message.params)
        number = params[0] if message.method not in ("network", "apart") else 0
        if message.method == "gone":
            self._leaving.discard(number)
        found = self._sockets.get(number)
        if found is not None:
            found.handle(message.method, params)
            return
        # An accepted connection of a listener that is closed here: it is ours to end.
        if message.method == "accepted":
            self.notify_soon("abort", params[1])
        _close_fds(params)

    def _lose(self) -> None:
        """netstackd is gone, or not to be understood."""
        if self.lost:
            return
        self.lost = True
        for waiting in self._calls.values():
            waiting.done.set()
        self._calls.clear()
        for number, sock in list(self._sockets.items()):
            sock.handle("error", [number, errno.ECONNRESET])

    def close(self) -> None:
        """The end; nothing may use it any more."""
        self._lose()
        anyio.notify_closing(self._sock)
        self._sock.close()
        for fd in self._rpc.take_unclaimed():
            os.close(fd)


def _close_fds(value: Any) -> None:
    """Close every descriptor in a value."""
    if isinstance(value, Fd):
        os.close(value.number)
    elif isinstance(value, list | tuple):
        for item in value:
            _close_fds(item)
