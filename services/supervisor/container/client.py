"""The command line's side of a sandbox's own socket.

Owns: `ask`: one request, one answer. Sockets are reached through a directory descriptor, for a socket's path may have
only 107 bytes (unix(7)) and a state root may be deeper.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from protocol.control.messages import RESPONSE, Decoder, request
from protocol.errors import ProtocolViolation
from services.supervisor.container.store import SOCKET_NAME, Store
from services.supervisor.errors import STATUS_FAILURE, SupervisorError, os_reason

_TIMEOUT_S = 30.0


class Refused(SupervisorError):
    """The sandbox answered with an error; `errno` is its number."""

    def __init__(self, what: str, why: str, errno: int, status: int = STATUS_FAILURE) -> None:
        super().__init__(what, why, status=status)
        self.errno = errno


def listen(directory: str) -> socket.socket:
    """The monitor's listening socket in a container's directory. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{fd}/{SOCKET_NAME}")
    finally:
        os.close(fd)
    listener.listen(16)
    return listener


def ask(store: Store, container_id: str, method: str, *params: object) -> Any:
    """Send one request to the container's monitor and return the result. Raises Refused for an error it answered with,
    SupervisorError when it cannot be asked."""
    what = f"container {container_id}"
    try:
        fd = os.open(store.directory(container_id), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SupervisorError(what, f"cannot be reached: {os_reason(error)}") from None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_TIMEOUT_S)
    try:
        connection.connect(f"/proc/self/fd/{fd}/{SOCKET_NAME}")
        connection.sendall(request(1, method, *params))
        return _answer(connection, what)
    except TimeoutError:
        raise SupervisorError(what, f"its monitor did not answer within {_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise SupervisorError(what, f"its monitor cannot be reached: {os_reason(error)}") from None
    finally:
        connection.close()
        os.close(fd)


def _answer(connection: socket.socket, what: str) -> Any:
    decoder = Decoder({})
    while data := connection.recv(65_536):
        try:
            messages = decoder.feed_untrusted(data)
        except ProtocolViolation as error:
            raise SupervisorError(what, f"its monitor sent a bad answer: {error.why}") from None
        for message in messages:
            if message.kind == RESPONSE:
                if message.error is not None:
                    errno, why = message.error
                    raise Refused(what, str(why), int(errno))
                return message.result
    raise SupervisorError(what, "its monitor ended before it answered")
