"""The conversation with the socket service: requests in order, answers, notifications (protocol/netstack/messages.py).

What the Sentry asks is written at `flush`, so that what belongs together goes in one write. Three ways to ask:
`notify` (no answer; a failure comes as `error`), `request` with `answer` later (or never: `forget`), and `call`, which
is both. Waiting for an answer stalls the sandbox, as a request to the Gofer does; so it has a time limit, after which
the connection counts as lost. Notifications are handed to `events` in order, also those that come while one waits.

Nothing that arrives is trusted: what is not as the protocol says ends the connection (`lost`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from protocol.control.msgpack_subset import Fd, Unpacker, pack, pack_with_fds
from protocol.errors import ProtocolViolation
from protocol.netstack.messages import EVENTS, check_event_untrusted
from services.sentry.errors import LinuxError

__all__ = ["Client", "Transport"]

#: How long an answer may take, and the first one, from a service that may just be starting.
PATIENCE_NS: Final = 10_000_000_000
FIRST_PATIENCE_NS: Final = 60_000_000_000
#: What may wait to be written: the service does not read any more when this is not enough.
_MAX_UNSENT_BYTES: Final = 4 << 20
_FORGOTTEN: Final = object()


class Transport(Protocol):
    """As channel_unsafe.Channel."""

    fd: int

    def send(self, data: bytes | bytearray) -> int: ...
    def send_with_fd(self, data: bytes, fd: int) -> int: ...
    def receive(self) -> tuple[bytes, list[int]] | None: ...
    def wait(self, *, writing: bool, timeout_ns: int) -> bool: ...
    def close(self) -> None: ...


def close_fds(value: object) -> None:
    """Close every descriptor in a message that nobody wants."""
    if isinstance(value, Fd):
        if value.number >= 0:
            os.close(value.number)
    elif isinstance(value, list):
        for item in value:
            close_fds(item)
    elif isinstance(value, dict):
        for item in value.values():
            close_fds(item)


class Client:
    """One connection. `events(method, params)` gets notifications, `lost()` is called once when the connection ends."""

    def __init__(
        self, transport: Transport, events: Callable[[str, Sequence[Any]], None], lost: Callable[[], None]
    ) -> None:
        self.transport = transport
        self.alive = True
        self._events = events
        self._lost = lost
        self._unpacker = Unpacker(fds=True)
        self._unsent = bytearray()
        self._next = 0
        self._answers: dict[int, Any] = {}  # request -> None until answered, then (error, result)

    # --- asking ---
    def notify(self, method: str, *params: object) -> None:
        """Ask without wanting an answer."""
        self._unsent += pack([2, method, params])

    def request(self, method: str, *params: object) -> int:
        """Ask; the number is for `answer` or `forget`."""
        self._next = number = (self._next + 1) & 0xFFFFFFFF
        self._answers[number] = None
        self._unsent += pack([0, number, method, params])
        return number

    def forget(self, number: int) -> None:
        """The answer is not wanted, whatever it is."""
        self._answers[number] = _FORGOTTEN

    def answer(self, number: int, patience_ns: int = PATIENCE_NS) -> Any:
        """The result of a request. The errno of its failure; ENETDOWN: the connection is lost."""
        self.flush()
        while self.alive and self._answers.get(number) is None:
            if not self.receive() and self.alive:
                if not self.transport.wait(writing=bool(self._unsent), timeout_ns=patience_ns):
                    self.end()
                elif self._unsent:
                    self.flush()
        found = self._answers.pop(number, None)
        if found is None:
            raise LinuxError(errno.ENETDOWN, "the network stack is gone")
        error, result = found
        if error is not None:
            close_fds(result)
            raise LinuxError(*_checked_error(error))
        return result

    def call(self, method: str, *params: object) -> Any:
        """`request` and `answer`."""
        return self.answer(self.request(method, *params))

    def call_with_fd(self, fd: int, method: str, *params: object) -> Any:
        """As `call`, with a descriptor as the last parameter. ENOBUFS: there was no room to send it at once."""
        self.flush()
        self._next = number = (self._next + 1) & 0xFFFFFFFF
        data, _ = pack_with_fds([0, number, method, [*params, Fd(fd)]])
        if not self.alive or self._unsent:
            raise LinuxError(errno.ENOBUFS)
        try:
            taken = self.transport.send_with_fd(data, fd)
        except OSError:
            taken = 0
        if not taken:
            raise LinuxError(errno.ENOBUFS)
        self._unsent += data[taken:]
        self._answers[number] = None
        return self.answer(number)

    def flush(self) -> None:
        """Write what was asked. What finds no room waits for the next time, or for `has_unsent`."""
        unsent = self._unsent
        if not self.alive:
            unsent.clear()
            return
        try:
            while unsent:
                taken = self.transport.send(bytes(unsent))
                if not taken:
                    break
                del unsent[:taken]
        except OSError:
            # Its last words are still to be read: they say what became of sockets.
            unsent.clear()
            return
        if len(unsent) > _MAX_UNSENT_BYTES:
            self.end()

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    # --- hearing ---
    def receive(self) -> bool:
        """Take in all that came; whether there was anything."""
        some = False
        while self.alive and self.receive_some():
            some = True
        return some

    def receive_some(self) -> bool:
        """Take in what one call of the host gives; whether there was anything."""
        got = self.transport.receive()
        if got is None:
            return False
        data, fds = got
        try:
            self._unpacker.feed(data, fds)
            if data:
                self._take()
                return True
        except ProtocolViolation:
            pass
        self.end()
        return True

    def _take(self) -> None:
        """ProtocolViolation: the messages make no sense."""
        while self.alive and (message := self._unpacker.next_untrusted()) is not Unpacker.NOTHING:
            match message:
                case [1, int() as number, error, result] if number in self._answers:
                    self._settle(number, error, result)
                case [2, str() as method, list() as params] if method in EVENTS:
                    try:
                        check_event_untrusted(method, params)
                    except ProtocolViolation:
                        close_fds(params)
                        raise
                    self._events(method, params)
                case _:
                    close_fds(message)
                    raise ProtocolViolation("netstack: neither an answer nor a notification")

    def _settle(self, number: int, error: object, result: object) -> None:
        waiting = self._answers[number]
        if waiting is None:
            self._answers[number] = (error, result)
            return
        close_fds(result)
        if waiting is not _FORGOTTEN:
            raise ProtocolViolation("netstack: answered twice")
        del self._answers[number]

    # --- the end ---
    def end(self) -> None:
        """The connection is over, for whatever reason: descriptors that nobody took go with it."""
        if not self.alive:
            return
        self.alive = False
        for fd in self._unpacker.take_unclaimed():
            os.close(fd)
        for answer in self._answers.values():
            if isinstance(answer, tuple):
                close_fds(answer[1])
        self._answers.clear()
        self._unsent.clear()
        self._lost()
        self.transport.close()


def _checked_error(error: object) -> tuple[int, str]:
    """[errno, why] as sent; EIO for what is no errno."""
    match error:
        case [int() as number, str() as why] if 0 < number < 4096:
            return number, why
        case _:
            return errno.EIO, "netstack"
