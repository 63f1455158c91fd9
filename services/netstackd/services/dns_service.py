"""The DNS forwarder on a stack: UDP and TCP port 53 of some of its addresses.

TCP clients are bounded in number and in time; each may ask several questions at once (RFC 7766 section 6.2.1.1).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.network.interface import Interface
from services.netstackd.services.dns_forwarder import Ask, DnsForwarder, Names
from services.netstackd.services.dns_upstream import Framed, framed
from services.netstackd.stack import Stack
from services.netstackd.transport.base import AF_INET, AF_INET6, Message, Socket
from services.netstackd.transport.tcp_socket import TcpSocket
from services.netstackd.transport.udp import UdpSocket

SECOND: Final = 1_000_000_000
PORT: Final = 53
MAX_TCP: Final = 64
TCP_IDLE: Final = 10 * SECOND
MAX_UNSENT: Final = 1 << 18
_LARGEST: Final = 65535
_BATCH: Final = 64


class DnsService:
    """See the module docstring. NetError: an address is not ours, or its port is in use."""

    def __init__(
        self, stack: Stack, listen: Sequence[tuple[int, int]], names: Names, rng: random.Random, ask: Ask, cache: int
    ) -> None:
        self._stack = stack
        self.machine = DnsForwarder(names, rng, ask, cache)
        self._timer = stack.timers.new(self._wake)
        self._look = stack.timers.new(self._turn)
        self._sockets: list[UdpSocket | TcpSocket] = []
        self._clients: set[_TcpClient] = set()
        try:
            for version, address in listen:
                self._listen(AF_INET if version == 4 else AF_INET6, address)
        except NetError:
            self.close()
            raise

    def _listen(self, family: int, address: int) -> None:
        datagrams = UdpSocket(self._stack, family)
        self._sockets.append(datagrams)
        datagrams.bind((address, PORT, 0))
        datagrams.subscribe(self._ready)
        stream = TcpSocket(self._stack, family)
        self._sockets.append(stream)
        stream.bind((address, PORT, 0))
        stream.listen(MAX_TCP)
        stream.subscribe(self._ready)

    def _ready(self, socket: Socket, mask: int) -> None:
        self._look.set(self._stack.now)

    def _turn(self, now: int) -> None:
        for socket in self._sockets:
            if isinstance(socket, UdpSocket):
                self._datagrams(socket, now)
            else:
                self._accept(socket, now)
        self.schedule(now)

    def _datagrams(self, socket: UdpSocket, now: int) -> None:
        for _ in range(_BATCH):
            try:
                message = socket.receive()
            except WouldBlock:
                return
            except NetError:
                continue
            if message.address is not None:
                reply = partial(self._reply, socket, message)
                self.machine.query(bytes(message.data), message.address[0], False, reply, now)
        self._look.set(now)

    @staticmethod
    def _reply(socket: UdpSocket, question: Message, answer: bytes) -> None:
        try:
            socket.send(answer, question.address)
        except NetError:
            pass  # the client has gone, or asks for more than its link takes

    def _accept(self, socket: TcpSocket, now: int) -> None:
        while True:
            try:
                accepted = socket.accept()
            except (WouldBlock, NetError):
                return
            if len(self._clients) >= MAX_TCP:
                accepted.close()
                continue
            self._clients.add(_TcpClient(self, self._stack, accepted))

    # -- time --

    def schedule(self, now: int) -> None:
        """Set the timer after something was asked."""
        deadline = self.machine.deadline
        if deadline is not None:
            self._timer.set(max(deadline, now + 1))

    def _wake(self, now: int) -> None:
        self.machine.wake(now)
        self.schedule(now)

    def interface_gone(self, iface: Interface) -> None:
        """Nothing of ours depends on one interface."""

    def forget(self, client: _TcpClient) -> None:
        """A TCP client has ended."""
        self._clients.discard(client)

    def status(self) -> dict[str, Any]:
        """For people."""
        cache = self.machine.cache
        return {**self.machine.counters, "entries": len(cache)}

    def close(self) -> None:
        """The end."""
        self._timer.cancel()
        self._look.cancel()
        self.machine.close()
        for socket in self._sockets:
            socket.close()
        for client in list(self._clients):
            client.end()


class _TcpClient:
    """One connection."""

    def __init__(self, service: DnsService, stack: Stack, socket: TcpSocket) -> None:
        self._service = service
        self._stack = stack
        self._socket = socket
        self._framed = Framed()
        self._unsent = b""
        self._over = False
        self._idle = stack.timers.new(lambda now: self.end())
        self._look = stack.timers.new(self._step)
        socket.subscribe(lambda *_: self._look.set(stack.now))
        self._look.set(stack.now)

    def _step(self, now: int) -> None:
        self._idle.set(now + TCP_IDLE)
        self._write()
        for _ in range(_BATCH):
            if self._over:
                return
            try:
                data = self._socket.receive(_LARGEST)
            except WouldBlock:
                break
            except NetError:
                data = b""
            if not data:
                self.end()
                return
            remote = self._socket.remote
            for message in self._framed.feed(data):
                self._service.machine.query(message, remote[0] if remote else 0, True, self._reply, now)
        self._service.schedule(now)

    def _reply(self, answer: bytes) -> None:
        if self._over:
            return
        self._unsent += framed(answer)
        if len(self._unsent) > MAX_UNSENT:
            self.end()
        else:
            self._write()

    def _write(self) -> None:
        try:
            while self._unsent and not self._over:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except WouldBlock:
            pass
        except NetError:
            self.end()

    def end(self) -> None:
        """The end."""
        if self._over:
            return
        self._over = True
        self._idle.cancel()
        self._look.cancel()
        self._socket.close()
        self._service.forget(self)
