"""The control socket's server: MessagePack-RPC (protocol/rpc) on the router's own loop.

Moves bytes and descriptors; what methods do is in `methods.py`. A method returns its result, or a `Later` that answers
when it is ready (a ping's replies). Clients are bounded in number and in what waits to be sent to them; one that sends
nonsense is dropped with a logged reason, and the rest goes on.
"""

from __future__ import annotations

import array
import os
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from protocol.errors import ProtocolViolation
from protocol.logs import traceback_text
from protocol.rpc.codec import MAX_FDS, Fd, Notification, Request, Response
from protocol.rpc.connection import RpcConnection
from services.netstackd.edge.log import EventLog
from services.netstackd.edge.loop import Loop
from services.netstackd.edge.outbox import Outbox
from services.netstackd.errors import NetError

MAX_CLIENTS: Final = 64
MAX_OUT_BYTES: Final = 8 << 20
_RECEIVE_BYTES: Final = 65536
_ANCILLARY: Final = socket.CMSG_SPACE(MAX_FDS * 4)

Method = Callable[..., Any]


class MethodError(Exception):
    """A request that cannot be done: what, why, what to do."""

    def __init__(self, why: str, number: int = 22) -> None:
        super().__init__(why)
        self.why = why
        self.number = number


class Later:
    """An answer that comes later: the method keeps it and calls `answer` or `refuse` once."""

    def __init__(self) -> None:
        self.done: Callable[[Any, str | None], None] | None = None
        self._early: tuple[Any, str | None] | None = None

    def answer(self, result: Any) -> None:
        """The result."""
        self._finish(result, None)

    def refuse(self, why: str) -> None:
        """An error."""
        self._finish(None, why)

    def _finish(self, result: Any, why: str | None) -> None:
        if self.done is None:
            self._early = (result, why)
        else:
            self.done(result, why)

    def when_done(self, done: Callable[[Any, str | None], None]) -> None:
        """The server's: where the answer goes."""
        self.done = done
        if self._early is not None:
            done(*self._early)


class Client:
    """One connection."""

    def __init__(self, server: ControlServer, sock: socket.socket) -> None:
        self._server = server
        self.sock = sock
        self.connection = RpcConnection()
        self._out = Outbox(sock)
        self._writing = False
        self.closed = False
        self.on_close: Callable[[], None] | None = None
        self.calls: dict[int, Callable[[Any, Any], None]] = {}

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message; what does not go at once waits. `fds` are the message's, closed when it has left."""
        if self.closed:
            for fd in fds:
                os.close(fd)
            return
        if not self._out.add(data, fds):
            self._server.drop(self, "")
        elif self._out.waiting > MAX_OUT_BYTES:
            self._server.drop(self, "reads too slowly")
        else:
            self._follow()

    def _follow(self) -> None:
        """Wait for room exactly while something waits."""
        if bool(self._out) != self._writing:
            self._writing = bool(self._out)
            self._server.watch(self, self._writing)

    def is_closed(self) -> bool:
        """Whether the connection has ended (perhaps just now)."""
        return self.closed

    def flush(self) -> None:
        """Send what waits, as far as it goes."""
        if not self._out.flush():
            self._server.drop(self, "")
        else:
            self._follow()

    def forget(self) -> None:
        """The connection is over: what waits is never sent."""
        self._out.clear()

    def call(self, method: str, params: Sequence[Any], done: Callable[[Any, Any], None]) -> None:
        """Call the other side; `done(error, result)` when it answers."""
        msgid, (data, fds) = self.connection.call(method, params)
        self.calls[msgid] = done
        self.send(data, fds)

    def notify(self, method: str, params: Sequence[Any]) -> None:
        """Tell the other side."""
        data, fds = self.connection.notify(method, params)
        self.send(data, fds)


class ControlServer:
    """See the module docstring."""

    def __init__(self, loop: Loop, methods: Mapping[str, Method], log: EventLog) -> None:
        self._loop = loop
        self._methods = methods
        self._log = log
        self._listener: socket.socket | None = None
        self.clients: set[Client] = set()

    def listen(self, listener: socket.socket) -> None:
        """Serve who connects to a socket that listens already."""
        listener.setblocking(False)
        self._listener = listener
        self._loop.watch(listener.fileno(), select.EPOLLIN, self._accept)

    def adopt(self, sock: socket.socket) -> Client:
        """Serve a connection that exists."""
        sock.setblocking(False)
        client = Client(self, sock)
        self.clients.add(client)
        self.watch(client, False)
        return client

    def watch(self, client: Client, writing: bool) -> None:
        """Wait for what the client wants."""
        mask = select.EPOLLIN | (select.EPOLLOUT if writing else 0)
        self._loop.watch(client.sock.fileno(), mask, lambda events, now: self._ready(client, events))

    def drop(self, client: Client, why: str) -> None:
        """End a connection; `why` is logged when it is not empty."""
        if client.closed:
            return
        client.closed = True
        self.clients.discard(client)
        self._loop.unwatch(client.sock.fileno())
        client.sock.close()
        client.forget()
        for fd in client.connection.take_unclaimed():
            os.close(fd)
        if client.on_close is not None:
            client.on_close()
        if why:
            self._log.event("warning", "control-client-dropped", why=why)

    def _accept(self, events: int, now: int) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self.clients) >= MAX_CLIENTS:
            sock.close()
            self._log.event("warning", "control-client-dropped", why=f"more than {MAX_CLIENTS} clients")
            return
        self.adopt(sock)

    def _ready(self, client: Client, events: int) -> None:
        if events & select.EPOLLOUT:
            client.flush()
        if client.is_closed() or not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            data, ancillary, _, _ = client.sock.recvmsg(_RECEIVE_BYTES, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            self.drop(client, "")
            return
        fds: list[int] = []
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(payload[: len(payload) - len(payload) % 4])
                fds += received
        if not data:
            for fd in fds:
                os.close(fd)
            self.drop(client, "")
            return
        try:
            for message in client.connection.receive_untrusted(data, fds):
                if isinstance(message, Response):
                    self._answered(client, message)
                else:
                    self._serve(client, message)
                if client.is_closed():
                    return
        except ProtocolViolation as violation:
            self.drop(client, violation.why)

    @staticmethod
    def _answered(client: Client, message: Response) -> None:
        wanted = client.connection.is_wanted(message)
        done = client.calls.pop(message.msgid, None)
        if wanted and done is not None:
            done(message.error, message.result)

    def _serve(self, client: Client, message: Request | Notification) -> None:
        """Run a method and answer."""
        msgid = message.msgid if isinstance(message, Request) else None
        method = self._methods.get(message.method)
        result: Any = None
        why: str | None = None
        number = 22
        try:
            if method is None:
                raise MethodError(f"no method {message.method[:40]}", 38)
            result = method(client, *message.params)
        except MethodError as error:
            why, number = error.why, error.number
        except NetError as error:
            why, number = str(error), error.errno
        except (TypeError, ValueError, KeyError) as error:
            why = f"{message.method}: wrong parameters ({error})"
        except Exception as error:  # a bug in answering a question is no reason to stop moving packets
            self._log.event("error", "bug", why=traceback_text(error))
            why, number = f"{message.method}: a bug: {type(error).__name__} (the log says where)", 5
        if why is not None:
            for value in message.params:
                if isinstance(value, Fd):
                    os.close(value.number)
        if msgid is None:
            return
        if isinstance(result, Later):
            result.when_done(lambda value, problem: self._answer(client, msgid, value, problem, 5))
        else:
            self._answer(client, msgid, result, why, number)

    @staticmethod
    def _answer(client: Client, msgid: int, result: Any, why: str | None, number: int) -> None:
        if client.closed:
            return
        if why is None:
            data, fds = client.connection.answer(msgid, result)
        else:
            data, fds = client.connection.refuse(msgid, number, why)
        client.send(data, fds)
