"""A blocking client of the control socket, for the command line."""

from __future__ import annotations

import array
import socket
from collections.abc import Callable
from typing import Any

from protocol.errors import ProtocolViolation
from protocol.rpc.codec import MAX_FDS, Notification, Response
from protocol.rpc.connection import RpcConnection
from services.netstackd.commands.common import CommandError


class Control:
    """`with Control(path) as control: control.call(method, *params)`. CommandError says what the router refused.

    Descriptors in a result are the caller's.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection = RpcConnection()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Control:
        try:
            self._sock.connect(self._path)
        except OSError as error:
            self._sock.close()
            hint = "is netstackd running, with control.socket set? --socket PATH names another"
            raise CommandError(f"{self._path}: {error.strerror or error} ({hint})") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def call(self, method: str, *params: Any, told: Callable[[Any], None] | None = None) -> Any:
        """The result. `told`: called with the parameter of every notification that comes before it."""
        msgid, (data, fds) = self._connection.call(method, params)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self._sock.sendmsg([data], rights)
            if sent < len(data):  # an empty send fails when a router that was to stop has answered and gone
                self._sock.sendall(data[sent:])
            return self._wait(msgid, told)
        except OSError as error:
            raise CommandError(f"{self._path}: {error.strerror or error}") from None
        except ProtocolViolation as violation:
            raise CommandError(f"{self._path}: {violation.why}") from None

    def watch(self, told: Callable[[Any], None]) -> None:
        """Notifications, until the router ends."""
        self._wait(-1, told)

    def _wait(self, msgid: int, told: Callable[[Any], None] | None) -> Any:
        while True:
            data, fds, _, _ = socket.recv_fds(self._sock, 65536, MAX_FDS)
            if not data:
                if msgid < 0:
                    return None
                raise CommandError(f"{self._path}: the router ended before it answered")
            for message in self._connection.receive_untrusted(data, fds):
                if isinstance(message, Notification):
                    if told is not None and message.params:
                        told(message.params[0])
                elif isinstance(message, Response) and self._connection.is_wanted(message):
                    if message.error is not None:
                        error = message.error
                        raise CommandError(str(error[1]) if isinstance(error, list) and len(error) > 1 else str(error))
                    return message.result
