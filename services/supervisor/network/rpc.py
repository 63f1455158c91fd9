"""A connection to a netstackd's control socket: requests with descriptors out, answers in.

Owns: `ControlConnection`. MessagePack-RPC as protocol/rpc has it, through the small codec of protocol/control, whose
import costs little. Requests may be sent before the other side serves; it answers them in order.
"""

from __future__ import annotations

import array
import os
import socket
import time
from typing import Any

from protocol.control.msgpack_subset import MAX_FDS, Fd, Unpacker, pack_with_fds
from protocol.errors import ProtocolViolation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Answered = Callable[[Any, Any], None]

_READ_BYTES = 65_536
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * 4)


class ControlConnection:
    """Speaks on `sock`, which it owns and makes non-blocking. `notified(method, params)` gets notifications;
    `asked(method, params)` answers what netstackd asks of its keeper, or raises OSError."""

    def __init__(
        self,
        sock: socket.socket,
        notified: Callable[[str, list[Any]], None] | None = None,
        asked: Callable[[str, list[Any]], object] | None = None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._notified = notified
        self._asked = asked
        self._unpacker = Unpacker(fds=True)
        self._answers: dict[int, Answered] = {}
        self._requests = 0

    def fileno(self) -> int:
        """The descriptor to poll, -1 when closed."""
        return self._sock.fileno()

    def request(self, method: str, params: list[object], answered: Answered | None = None) -> None:
        """Send a request; `answered(error, result)` when the answer comes. Nothing is raised when the other side is
        gone: then `receive` says so."""
        self._requests += 1
        if answered is not None:
            self._answers[self._requests] = answered
        self._send([0, self._requests, method, params])

    def _send(self, message: list[object]) -> None:
        """Messages here are far smaller than a socket's buffer, and a part of one would be useless."""
        data, fds = pack_with_fds(message)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)
        except OSError:
            pass

    def receive(self) -> bool:
        """Take what has come; False when the other side is gone or talks nonsense."""
        while self._sock.fileno() >= 0:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(_READ_BYTES, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return True
            except OSError:
                return False
            fds = array.array("i")
            for level, kind, payload in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
            if not data:
                return False
            try:
                self._unpacker.feed(data, fds)
                while (value := self._unpacker.next_untrusted()) is not Unpacker.NOTHING:
                    self._handle_untrusted(value)
            except ProtocolViolation:
                return False
        return False

    def call(self, method: str, params: list[object], limit_s: float) -> Any:
        """A request whose answer is waited for. OSError: refused (its errno and text), gone, or too late."""
        import select

        outcome: list[tuple[Any, Any]] = []
        self.request(method, params, lambda error, result: outcome.append((error, result)))
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        deadline = time.monotonic() + limit_s
        while not outcome:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError(110, "netstackd does not answer")
            if not self.receive() and not outcome:
                raise ConnectionResetError(104, "netstackd hung up")
        error, result = outcome[0]
        if error is not None:
            raise OSError(*errno_of(error))
        return result

    def close(self) -> None:
        """Hang up; who still waits for an answer gets none."""
        self._sock.close()
        for fd in self._unpacker.take_unclaimed():
            os.close(fd)

    def _handle_untrusted(self, value: object) -> None:
        match value:
            case [1, int() as number, error, result]:
                answered = self._answers.pop(number, None)
                if answered is not None:
                    answered(error, result)
                else:
                    _close_fds(result)
            case [2, str() as method, list() as params]:
                if self._notified is not None:
                    self._notified(method, params)
            case [0, int() as number, str() as method, list() as params]:
                self._answer(number, method, params)
            case _:
                raise ProtocolViolation("message: neither request, response nor notification")

    def _answer(self, number: int, method: str, params: list[Any]) -> None:
        try:
            if self._asked is None:
                raise OSError(38, "nothing is served here")
            self._send([1, number, None, self._asked(method, params)])
        except OSError as error:
            self._send([1, number, [error.errno or 5, error.strerror or str(error)], None])
        finally:
            _close_fds(params)


def errno_of(error: object) -> tuple[int, str]:
    """(errno, why) of what a peer gave as error."""
    match error:
        case [int() as number, str() as why, *_]:
            return number, why
        case _:
            return 5, str(error)[:200]


def _close_fds(value: object) -> None:
    """Close the descriptors of a message that nobody wants."""
    if isinstance(value, Fd):
        os.close(value.number)
    elif isinstance(value, list):
        for item in value:
            _close_fds(item)
    elif isinstance(value, dict):
        for item in value.values():
            _close_fds(item)
