"""How a DNS forwarder reaches servers: by sockets of the stack it runs on, or by sockets of the host (slirp).

Each question has a socket of its own, so a port of its own. See dns_forwarder.Ask for what `ask` does.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.slirp.host import FAILED, READABLE, TCP, UDP, WRITABLE, Host, HostSocket
from services.netstackd.transport.base import AF_INET, AF_INET6, Socket
from services.netstackd.transport.tcp_socket import TcpSocket
from services.netstackd.transport.udp import UdpSocket

if TYPE_CHECKING:
    from services.netstackd.services.dns_forwarder import Done, Server
    from services.netstackd.stack import Stack

_LARGEST: Final = 65535
_BATCH: Final = 8


class Framed:
    """DNS over a stream (RFC 1035 section 4.2.2): messages behind their lengths."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Bytes that came; the messages that are whole with them."""
        buffer = self._buffer
        buffer += data
        messages = []
        while len(buffer) >= 2 and len(buffer) >= 2 + (size := buffer[0] << 8 | buffer[1]):
            messages.append(bytes(buffer[2 : 2 + size]))
            del buffer[: 2 + size]
        return messages


def framed(message: bytes) -> bytes:
    """A message behind its length."""
    return len(message).to_bytes(2, "big") + message


class HostUpstream:
    """By sockets of the host."""

    def __init__(self, stack: Stack, host: Callable[[], Host]) -> None:
        self._stack = stack
        self._host = host

    def ask(self, server: Server, data: bytes, tcp: bool, done: Done) -> Callable[[], None]:
        """See Ask."""
        exchange = _HostExchange(self._stack, framed(data) if tcp else data, tcp, done)
        self._host().connect(TCP if tcp else UDP, *server, exchange.opened)
        return exchange.end


class _HostExchange:
    def __init__(self, stack: Stack, data: bytes, tcp: bool, done: Done) -> None:
        self._stack = stack
        self._unsent = data
        self._tcp = tcp
        self._done = done
        self._framed = Framed()
        self._socket: HostSocket | None = None
        self._over = False

    def opened(self, result: HostSocket | int) -> None:
        """See Host.connect."""
        if isinstance(result, int):
            self._tell(None)
        elif self._over:
            result.close()
        else:
            self._socket = result
            result.watch(self._ready, edge=self._tcp)
            if not self._tcp:
                self._write(result)

    def _ready(self, events: int) -> None:
        socket = self._socket
        if socket is None:
            return
        if events & WRITABLE and not events & FAILED and self._unsent:
            self._write(socket)
        if events & (READABLE | FAILED):
            self._read(socket)

    def _write(self, socket: HostSocket) -> None:
        try:
            self._unsent = self._unsent[socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._tell(None)

    def _read(self, socket: HostSocket) -> None:
        for _ in range(_BATCH):
            if self._over:
                return
            try:
                data = socket.receive(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                self._tell(None)
                return
            if not self._tcp:
                self._tell(data)
                continue
            for message in self._framed.feed(data):
                self._tell(message)
            if not data:
                self._tell(None)
                return

    def _tell(self, answer: bytes | None) -> None:
        if not self._over:
            self._done(answer, self._stack.now)

    def end(self) -> None:
        """Nobody waits any more."""
        self._over = True
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()


class StackUpstream:
    """By sockets of the stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def ask(self, server: Server, data: bytes, tcp: bool, done: Done) -> Callable[[], None]:
        """See Ask."""
        version, address, port = server
        family = AF_INET if version == 4 else AF_INET6
        exchange = _StreamExchange if tcp else _DatagramExchange
        return exchange(self._stack, family, (address, port, 0), data, done).end


class _DatagramExchange:
    def __init__(self, stack: Stack, family: int, server: tuple[int, int, int], data: bytes, done: Done) -> None:
        self._stack = stack
        self._done = done
        self._socket = UdpSocket(stack, family)
        self._look = stack.timers.new(self._read)
        self._socket.subscribe(lambda *_: self._look.set(stack.now))
        try:
            self._socket.bind((0, 0, 0))  # a random port: one by connect would be the next to the last one's
            self._socket.connect(server)
            self._socket.send(data)
        except NetError:
            self._fail_later()

    def _fail_later(self) -> None:
        self._socket.error = self._socket.error or 1
        self._look.set(self._stack.now)

    def _read(self, now: int) -> None:
        while not self._socket.closed:
            try:
                self._done(bytes(self._socket.receive().data), now)
            except WouldBlock:
                return
            except NetError:
                self._done(None, now)
                return

    def end(self) -> None:
        """Nobody waits any more."""
        self._look.cancel()
        self._socket.close()


class _StreamExchange:
    def __init__(self, stack: Stack, family: int, server: tuple[int, int, int], data: bytes, done: Done) -> None:
        self._done = done
        self._stack = stack
        self._unsent = framed(data)
        self._framed = Framed()
        self._failed = False
        self._socket = TcpSocket(stack, family)
        self._look = stack.timers.new(self._step)
        self._socket.subscribe(self._ready)
        try:
            self._socket.connect(server)
        except NetError as error:
            if error.errno != errno.EINPROGRESS:
                self._failed = True
                self._look.set(stack.now)

    def _ready(self, socket: Socket, mask: int) -> None:
        self._look.set(self._stack.now)

    def _step(self, now: int) -> None:
        if self._failed:
            self._done(None, now)
            return
        try:
            while self._unsent and not self._socket.closed:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except WouldBlock:
            pass
        except NetError:
            self._done(None, now)
            return
        while not self._socket.closed:
            try:
                data = self._socket.receive(_LARGEST)
            except WouldBlock:
                return
            except NetError:
                data = b""
            for message in self._framed.feed(data):
                self._done(message, now)
            if not data:
                self._done(None, now)
                return

    def end(self) -> None:
        """Nobody waits any more."""
        self._look.cancel()
        endpoint = self._socket.endpoint
        if endpoint is not None:
            endpoint.options.linger = 0
        self._socket.close()
