"""The sandbox's own socket, by which later commands reach its monitor.

Owns: `Clients`: listening, requests in, answers out. Only root and the user that owns the monitor may speak
(SO_PEERCRED); what they send is checked all the same.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

from protocol.control.messages import REQUEST, TO_MONITOR, Decoder, Message, response
from protocol.errors import ProtocolViolation
from services.supervisor.monitor.monitor import Monitor, Phase

_READ_BYTES = 65_536
_MAX_CLIENTS = 64
_ESRCH = 3
_EBUSY = 16


class Clients:
    """The listening socket `listener` and the connections it accepted."""

    def __init__(self, listener: socket.socket, state: Callable[[], dict[str, object]]) -> None:
        self._listener = listener
        self._listener.setblocking(False)
        self._state = state
        self._monitor: Monitor | None = None
        self._open: dict[int, tuple[socket.socket, Decoder]] = {}

    def attach(self, monitor: Monitor) -> None:
        """Be watched by `monitor` from now on."""
        self._monitor = monitor
        monitor.loop.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Hang up on everyone."""
        for connection, _ in self._open.values():
            connection.close()
        self._open.clear()
        self._listener.close()

    def _accept(self) -> None:
        assert self._monitor is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()) or len(self._open) >= _MAX_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        fd = connection.fileno()
        self._open[fd] = (connection, Decoder(TO_MONITOR))
        self._monitor.loop.watch(fd, lambda: self._read(fd))

    def _read(self, fd: int) -> None:
        connection, decoder = self._open[fd]
        try:
            data = connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        messages: list[Message] = []
        try:
            messages = decoder.feed_untrusted(data) if data else []
        except ProtocolViolation:
            data = b""
        for message in messages:
            if message.kind == REQUEST:
                self._handle(fd, message)
        if not data:
            self._drop(fd)

    def _drop(self, fd: int) -> None:
        found = self._open.pop(fd, None)
        if found is not None:
            assert self._monitor is not None
            self._monitor.loop.unwatch(fd)
            found[0].close()

    def _answer(self, fd: int, number: int, error: object, result: object) -> None:
        if fd in self._open:
            try:
                self._open[fd][0].sendall(response(number, error, result))
            except OSError:
                self._drop(fd)

    def _handle(self, fd: int, message: Message) -> None:
        monitor = self._monitor
        assert monitor is not None
        number = message.number

        def answered(reply: Message) -> None:
            self._answer(fd, number, reply.error, reply.result)

        match message.method:
            case "status":
                self._answer(fd, number, None, self._state())
            case "shutdown":
                self._answer(fd, number, None, None)
                monitor.shut_down(137)
            case "start" if monitor.phase is Phase.RUNNING:
                self._answer(fd, number, [_EBUSY, "it runs already"], None)
            case _ if monitor.phase is Phase.BOOTING:
                self._answer(fd, number, [_EBUSY, "it is still being created"], None)
            case "start":
                monitor.start(answered)
            case "signal" if monitor.phase is Phase.READY:
                self._signal_created(fd, message)
            case "signal" | "processes":
                monitor.request(message.method, message.params, answered)

    def _signal_created(self, fd: int, message: Message) -> None:
        """Nothing of the guest runs yet: a signal whose default is to end ends it, others are lost as on a blocked
        init process."""
        assert self._monitor is not None
        self._answer(fd, message.number, None, None)
        if message.params[0] in (1, 2, 3, 6, 9, 15):
            self._monitor.shut_down(128 + message.params[0])
