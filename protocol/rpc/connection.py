"""One MessagePack-RPC conversation without its socket: ids, who waits for what, limits. Sans-IO.

Both sides may call. `call()` and friends return bytes (with fds) to send; `receive()` turns received bytes into events
for the caller: a Request or Notification to serve, or an Answer to one of our calls. A ProtocolViolation ends the
conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from protocol.errors import ProtocolViolation
from protocol.rpc.codec import Decoder, Encoder, Message, Request, Response, Value

MAX_UNANSWERED: Final = 1024  # of each side

Outgoing: TypeAlias = tuple[bytes, list[int]]
Event: TypeAlias = Message


class RpcError(Exception):
    """The peer answered a call with an error. `error` is what it sent: by our convention [errno or 0, text]."""

    def __init__(self, error: Value) -> None:
        super().__init__(str(error))
        self.error = error

    @property
    def errno(self) -> int:
        """The Linux errno the peer gave, 0 when it gave none."""
        value = self.error
        return value[0] if isinstance(value, list) and value and type(value[0]) is int else 0

    @property
    def why(self) -> str:
        """The text the peer gave."""
        value = self.error
        return str(value[1]) if isinstance(value, list) and len(value) > 1 else str(value)


class Statistics(NamedTuple):
    """Calls of ours without an answer, and of the peer's."""

    ours: int
    theirs: int


class RpcConnection:
    """See the module docstring."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._encoder = Encoder()
        self._next_id = 0
        self._ours: set[int] = set()
        self._abandoned: set[int] = set()
        self._theirs: set[int] = set()

    def call(self, method: str, params: Sequence[Value]) -> tuple[int, Outgoing]:
        """Begin a call. Returns (msgid, what to send). RuntimeError when too many are unanswered."""
        if len(self._ours) + len(self._abandoned) >= MAX_UNANSWERED:
            raise RuntimeError(f"{MAX_UNANSWERED} calls are unanswered")
        while self._next_id in self._ours or self._next_id in self._abandoned:
            self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        msgid = self._next_id
        self._next_id = (msgid + 1) & 0xFFFFFFFF
        outgoing = self._encoder.request(msgid, method, params)
        self._ours.add(msgid)
        return msgid, outgoing

    def abandon(self, msgid: int) -> None:
        """Nobody waits for this call any more; its answer is dropped when it comes (its fds are the event's
        reader's).
        """
        if msgid in self._ours:
            self._ours.remove(msgid)
            self._abandoned.add(msgid)

    def notify(self, method: str, params: Sequence[Value]) -> Outgoing:
        """A call without an answer."""
        return self._encoder.notification(method, params)

    def answer(self, msgid: int, result: Value) -> Outgoing:
        """The result of the peer's request `msgid`."""
        outgoing = self._encoder.response(msgid, None, result)
        self._theirs.discard(msgid)
        return outgoing

    def refuse(self, msgid: int, errno: int, why: str) -> Outgoing:
        """The error of the peer's request `msgid`, as [errno, why]."""
        self._theirs.discard(msgid)
        return self._encoder.response(msgid, [errno, why], None)

    def receive_untrusted(self, data: bytes, fds: Sequence[int] = ()) -> Iterator[Event]:
        """Events in order; takes over `fds`. Raises ProtocolViolation, after which the conversation is over.

        Answers to abandoned calls come out as well, so that their fds can be closed: `is_wanted` tells them apart
        first.
        """
        self.feed(data, fds)
        while (message := self.next_untrusted()) is not None:
            yield message

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """`receive_untrusted` in two steps; then take messages until there is none. ProtocolViolation."""
        self._decoder.feed(data, fds)

    def next_untrusted(self) -> Event | None:
        """The next event of what was fed."""
        message = self._decoder.next_untrusted()
        if isinstance(message, Request):
            if message.msgid in self._theirs:
                raise ProtocolViolation(f"request {message.msgid} came twice")
            if len(self._theirs) >= MAX_UNANSWERED:
                raise ProtocolViolation(f"more than {MAX_UNANSWERED} requests are unanswered")
            self._theirs.add(message.msgid)
        elif isinstance(message, Response) and message.msgid not in self._ours | self._abandoned:
            raise ProtocolViolation(f"response {message.msgid} answers no request")
        return message

    def is_wanted(self, response: Response) -> bool:
        """Settle a response: whether somebody still waits for it. Exactly once per response."""
        if response.msgid in self._ours:
            self._ours.remove(response.msgid)
            return True
        self._abandoned.discard(response.msgid)
        return False

    def take_unclaimed(self) -> list[int]:
        """Fds that came without a message that names them; the caller closes them at the end."""
        return self._decoder.take_unclaimed()

    def statistics(self) -> Statistics:
        """Unanswered calls."""
        return Statistics(len(self._ours), len(self._theirs))
