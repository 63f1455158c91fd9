"""The control channel to the monitor: protocol/control/messages.py over a Unix stream socket, driven by HostPoll.

Routes messages to the functions it is given; decides nothing. The end of the channel means: end at once.
"""

from __future__ import annotations

import array
import socket
from collections.abc import Callable
from typing import Any

from protocol.control import messages
from protocol.control.msgpack_subset import MAX_FDS
from protocol.errors import ProtocolViolation
from services.sentry.errors import LinuxError, explain

__all__ = ["ControlChannel"]

_READ_SIZE = 1 << 16
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * 4)


class ControlChannel:
    """`handlers`: method -> function(*params) giving the result; LinuxError becomes [errno, why]."""

    def __init__(self, sock: socket.socket, handlers: dict[str, Callable[..., Any]], gone: Callable[[], None]) -> None:
        self._sock = sock
        self._handlers = handlers
        self._gone = gone
        self._decoder = messages.Decoder(messages.TO_SENTRY, fds=True)
        self.fd = sock.fileno()

    def notify(self, method: str, *params: object) -> None:
        """Send a notification; a monitor that is gone is noticed by `readable`."""
        self._send(messages.notification(method, *params))

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError:
            self._gone()

    def readable(self, _bits: int = 0) -> None:
        """Take what has come. Called by HostPoll."""
        fds = array.array("i")
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ_SIZE, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, ancillary = b"", []
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        if not data:
            self._gone()
            return
        try:
            arrived = self._decoder.feed_untrusted(data, fds)
        except ProtocolViolation:
            self._gone()
            return
        for message in arrived:
            if message.kind == messages.REQUEST:
                self._answer(message)

    def _answer(self, message: messages.Message) -> None:
        error: object = None
        result: object = None
        try:
            result = self._handlers[message.method](*message.params)
        except LinuxError as failed:
            error = [failed.errno, explain(failed)]
        except KeyError:
            error = [38, "not implemented"]
        self._send(messages.response(message.number, error, result))
