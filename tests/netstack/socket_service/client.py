"""A router in this process, and clients of its socket service that turn its loop until their answer is there."""

from __future__ import annotations

import array
import os
import random
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from protocol.netstack import messages as m
from protocol.rpc.codec import Fd, Notification, Response
from protocol.rpc.connection import RpcConnection
from services.netstackd.app import Router
from services.netstackd.config.load import load
from services.netstackd.edge.log import EventLog
from services.netstackd.namespaces import Namespace

CONFIG = """
[router]
forwarding = true
[[interface]]
name = "virtual"
kind = "bridge"
addresses = ["10.0.2.2/24", "fd00:2::2/64"]
dad_transmits = 0
[network]
interface = "virtual"
pool = "10.0.2.15-10.0.2.127"
domain = "box"
"""


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, why)
        self.errno = code


class World:
    """A router on a clock that the test may push forward."""

    def __init__(self, config: str = CONFIG) -> None:
        self.offset = 0
        self.log = EventLog(time.time_ns, "error", "text")
        self.errors: list[dict[str, object]] = []  # what was logged as one
        self.log.watchers.append(lambda event: self.errors.append(event) if event["level"] == "error" else None)
        self.router = Router(
            load("test", config),
            {},
            clock=lambda: time.monotonic_ns() + self.offset,
            wall=time.time_ns,
            rng=random.Random(7),
            secret=bytes(range(32)),
            log=self.log,
        )
        self.clients: list[Client] = []

    def turn(self, count: int = 1) -> None:
        """Turn the loop without waiting."""
        for _ in range(count):
            self.router.loop.turn(0)

    def until(self, condition: Callable[[], Any], limit: float = 5.0) -> Any:
        """Turn until `condition` gives something true, and return that."""
        end = time.monotonic() + limit
        while True:
            found = condition()
            if found:
                return found
            assert time.monotonic() < end, "it did not come to that"
            self.router.loop.turn(0.01)

    def forward(self, seconds: float) -> None:
        """Let time pass, timers firing in their order."""
        for _ in range(100):
            self.offset += int(seconds * 1e7)
            self.turn(2)

    def namespace(self, name: str, **options: Any) -> Namespace:
        """A namespace on the virtual network."""
        return self.router.namespaces.add(name, **options)

    def client(self, namespace: Namespace, hello: bool = True) -> Client:
        """A connection of a namespace."""
        client = Client(self, self.router.sockets.connect(namespace))
        self.clients.append(client)
        if hello:
            assert client.call("hello", m.VERSION, None)["namespace"] == namespace.name
        return client

    def close(self) -> None:
        """Close what tests left open."""
        for client in self.clients:
            client.close()
        self.turn(3)
        self.router.loop.close()


class Client:
    """The other end of a session."""

    def __init__(self, world: World, sock: socket.socket) -> None:
        self.world = world
        self.sock = sock
        sock.setblocking(False)
        self.connection = RpcConnection()
        self.events: list[Notification] = []
        self.answers: dict[int, Response] = {}
        self.ended = False
        self.data: list[socket.socket] = []

    def send(self, method: str, *params: Any) -> int:
        """A request; its number."""
        number, (data, fds) = self.connection.call(method, params)
        if fds:
            assert socket.send_fds(self.sock, [data], fds) == len(data)
        else:
            self.sock.sendall(data)
        return number

    def notify(self, method: str, *params: Any) -> None:
        """A notification."""
        self.sock.sendall(self.connection.notify(method, params)[0])

    def read(self) -> None:
        """Take in what is there."""
        while not self.ended:
            try:
                data, ancillary, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(256))
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            fds: list[int] = []
            for _, _, payload in ancillary:
                received = array.array("i")
                received.frombytes(payload)
                fds += received
            if not data:
                self.ended = True
                return
            for message in self.connection.receive_untrusted(data, fds):
                if isinstance(message, Response):
                    assert self.connection.is_wanted(message)
                    self.answers[message.msgid] = message
                else:
                    assert isinstance(message, Notification)
                    m.check_event_untrusted(message.method, message.params)
                    self.events.append(message)

    def answer(self, number: int) -> Any:
        """The result of a request. Refused."""

        def find() -> bool:
            self.read()
            return number in self.answers or self.ended

        self.world.until(find)
        assert number in self.answers, "the conversation was ended"
        response = self.answers.pop(number)
        if response.error is not None:
            raise Refused(*response.error)
        return response.result

    def call(self, method: str, *params: Any) -> Any:
        """A request and its result. Refused."""
        return self.answer(self.send(method, *params))

    def event(self, method: str, number: int | None = None) -> Sequence[Any]:
        """The parameters of the next such event, taken out of the list."""

        def find() -> list[Notification]:
            self.read()
            return [
                event
                for event in self.events
                if event.method == method and (number is None or event.params[0] == number)
            ]

        found = self.world.until(find)[0]
        self.events.remove(found)
        params: Sequence[Any] = found.params
        return params

    def open_data(self, value: Fd, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """The data socket that a message carried."""
        assert not os.get_blocking(value.number)
        sock = socket.socket(socket.AF_UNIX, kind, 0, fileno=value.number)
        sock.setblocking(False)
        self.data.append(sock)
        return sock

    def receive(self, sock: socket.socket, size: int) -> bytes:
        """Exactly `size` bytes of a data socket, or fewer at its end."""
        got = bytearray()

        def read() -> bool:
            try:
                data = sock.recv(size - len(got))
            except BlockingIOError:
                return False
            got.extend(data)
            return not data or len(got) == size

        if size:
            self.world.until(read, 20)
        return bytes(got)

    def write(self, sock: socket.socket, data: bytes) -> None:
        """All of `data` into a data socket."""
        view = memoryview(data)
        while view:
            try:
                view = view[sock.send(view) :]
            except BlockingIOError:
                self.world.turn()

    def close(self) -> None:
        """The client's process ends."""
        for sock in self.data:
            sock.close()
        self.sock.close()


def address(text: str, port: int = 0) -> list[Any]:
    """An addr of the contract."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return [socket.inet_pton(family, text) if text else b"", port, 0]
