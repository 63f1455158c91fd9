"""MessagePack-RPC messages to bytes and back. Sans-IO.

Source: msgpack-rpc spec: request [0, msgid, method, params], response [1, msgid, error, result], notification
[2, method, params]; one MessagePack object each, back to back on the stream, no length prefix.

Fds: a `Fd` anywhere in params, error or result becomes extension type FD_EXT with the fd's position (one byte) among
those sent beside the message; the receiver puts the fd it got at that position there. So a message itself says how
many fds belong to it, and a peer that knows no fds sees an ordinary extension value.
`Decoder` trusts nothing: it raises only ProtocolViolation and never holds more than MAX_MESSAGE_BYTES.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgpack  # type: ignore[import-untyped]

from protocol.errors import ProtocolViolation

MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_ITEMS: Final = 16384  # of one array or map
MAX_METHOD_BYTES: Final = 128
MAX_FDS: Final = 64  # of one message
MAX_MSGID: Final = 0xFFFFFFFF
FD_EXT: Final = 0x46  # application extension type of a donated fd

_PLACES: Final = tuple(msgpack.ExtType(FD_EXT, bytes([index])) for index in range(MAX_FDS))

# nested lists, dicts with string keys, str, bytes, int, float, bool, None and Fd
Value: TypeAlias = Any


class Fd:
    """A host fd as a value. Sent: stays the sender's. Received: the receiver's to close."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fd) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __repr__(self) -> str:
        return f"Fd({self.number})"


class Request:
    """A call that wants an answer. `msgid`: 0..2^32-1, unique among the sender's unanswered requests."""

    __slots__ = ("method", "msgid", "params")

    def __init__(self, msgid: int, method: str, params: Sequence[Value]) -> None:
        self.msgid = msgid
        self.method = method
        self.params = params

    def __repr__(self) -> str:
        return f"Request({self.msgid}, {self.method!r}, {self.params!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Request)
            and (self.msgid, self.method) == (other.msgid, other.method)
            and self.params == other.params
        )


class Response:
    """The answer: `error` is None exactly when `result` counts."""

    __slots__ = ("error", "msgid", "result")

    def __init__(self, msgid: int, error: Value, result: Value) -> None:
        self.msgid = msgid
        self.error = error
        self.result = result

    def __repr__(self) -> str:
        return f"Response({self.msgid}, {self.error!r}, {self.result!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Response)
            and self.msgid == other.msgid
            and (self.error, self.result) == (other.error, other.result)
        )


class Notification:
    """A call without an answer."""

    __slots__ = ("method", "params")

    def __init__(self, method: str, params: Sequence[Value]) -> None:
        self.method = method
        self.params = params

    def __repr__(self) -> str:
        return f"Notification({self.method!r}, {self.params!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Notification) and self.method == other.method and self.params == other.params


Message: TypeAlias = Request | Response | Notification


class Encoder:
    """Messages to (bytes, fds to send beside them). A conversation keeps one: it holds the memory that messages are
    packed in. Raises ValueError/TypeError for values MessagePack cannot carry: a caller's bug.
    """

    __slots__ = ("_fds", "_packer")

    def __init__(self) -> None:
        self._fds: list[int] = []
        self._packer = msgpack.Packer(default=self._pack_fd, use_bin_type=True)

    def _pack_fd(self, value: object) -> msgpack.ExtType:
        if not isinstance(value, Fd):
            raise TypeError(f"{type(value).__name__} cannot be sent")
        fds = self._fds
        if len(fds) >= MAX_FDS:
            raise ValueError(f"more than {MAX_FDS} fds in one message")
        fds.append(value.number)
        return _PLACES[len(fds) - 1]

    def request(self, msgid: int, method: str, params: Sequence[Value]) -> tuple[bytes, list[int]]:
        """A Request."""
        return self._pack([0, msgid, method, list(params)])

    def response(self, msgid: int, error: Value, result: Value) -> tuple[bytes, list[int]]:
        """A Response."""
        return self._pack([1, msgid, error, result])

    def notification(self, method: str, params: Sequence[Value]) -> tuple[bytes, list[int]]:
        """A Notification."""
        return self._pack([2, method, list(params)])

    def _pack(self, body: list[Value]) -> tuple[bytes, list[int]]:
        self._fds = []
        data: bytes = self._packer.pack(body)
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"message of {len(data)} bytes, limit is {MAX_MESSAGE_BYTES}")
        return data, self._fds


def encode(message: Message) -> tuple[bytes, list[int]]:
    """One message, as by an Encoder."""
    encoder = Encoder()
    if isinstance(message, Request):
        return encoder.request(message.msgid, message.method, message.params)
    if isinstance(message, Response):
        return encoder.response(message.msgid, message.error, message.result)
    return encoder.notification(message.method, message.params)


class _Slot:
    """Where a received fd belongs."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class Decoder:
    """Bytes and fds in, messages out.

    feed() what one receive gave, then take messages until the iterator ends. Fds are held in order of arrival until the
    message that names them is whole; `take_unclaimed()` gives back those that never were (to be closed) at the end.
    """

    def __init__(self) -> None:
        self._fds: list[int] = []
        self._slots = 0
        self._unpacker = msgpack.Unpacker(
            raw=False,
            strict_map_key=False,
            use_list=True,
            max_buffer_size=MAX_MESSAGE_BYTES,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_str_len=MAX_MESSAGE_BYTES,
            max_bin_len=MAX_MESSAGE_BYTES,
            max_ext_len=1,
            ext_hook=self._extension,
        )

    def _extension(self, code: int, data: bytes) -> _Slot:
        if code != FD_EXT or len(data) != 1:
            raise ProtocolViolation(f"extension type {code} is unknown")
        self._slots += 1
        return _Slot(data[0])

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Append what was received; takes over `fds`. ProtocolViolation when a message outgrows the limits."""
        self._fds += fds
        if len(self._fds) > 2 * MAX_FDS:
            raise ProtocolViolation("more fds came than messages name")
        try:
            self._unpacker.feed(data)
        except msgpack.BufferFull:
            raise ProtocolViolation(f"message exceeds {MAX_MESSAGE_BYTES} bytes") from None

    def take_unclaimed(self) -> list[int]:
        """The fds no message has claimed; they are the caller's now."""
        fds, self._fds = self._fds, []
        return fds

    def messages_untrusted(self) -> Iterator[Message]:
        """Whole messages in order. ProtocolViolation ends the stream for good."""
        while (message := self.next_untrusted()) is not None:
            yield message

    def next_untrusted(self) -> Message | None:
        """The next whole message, or None. ProtocolViolation ends the stream for good."""
        self._slots = 0
        try:
            body = self._unpacker.unpack()
        except msgpack.OutOfData:
            return None
        except ProtocolViolation:
            raise
        except Exception as error:  # msgpack's own errors share no base: FormatError, StackError, ValueError, ...
            raise ProtocolViolation(f"not MessagePack: {type(error).__name__}") from None
        if (
            not self._slots
            and type(body) is list
            and len(body) == 3
            and body[0] == 2
            and type(body[0]) is int
            and type(body[1]) is str
            and 0 < len(body[1]) <= MAX_METHOD_BYTES >> 2
            and type(body[2]) is list
        ):  # as _message has it, for what comes most
            return Notification(body[1], body[2])
        return self._message(body)

    def _message(self, body: object) -> Message:
        if not isinstance(body, list) or not body:
            raise ProtocolViolation("message is not an array")
        count = self._slots
        if count:
            if count > len(self._fds):
                raise ProtocolViolation(f"message names {count} fds, {len(self._fds)} came")
            fds = self._fds[:count]
            body = [_fill(item, fds) for item in body]
            if any(fd >= 0 for fd in fds):
                raise ProtocolViolation("message names one fd twice")
            del self._fds[:count]
        return _typed(body)


def _fill(value: Value, fds: list[int]) -> Value:
    """`value` with every slot replaced by its Fd; a taken position becomes -1 in `fds`."""
    if isinstance(value, _Slot):
        if value.index >= len(fds) or fds[value.index] < 0:
            raise ProtocolViolation("message names an fd that did not come, or one twice")
        fd = Fd(fds[value.index])
        fds[value.index] = -1
        return fd
    if isinstance(value, list):
        return [_fill(item, fds) for item in value]
    if isinstance(value, Mapping):
        if any(isinstance(key, _Slot) for key in value):
            raise ProtocolViolation("an fd is no map key")
        return {key: _fill(item, fds) for key, item in value.items()}
    return value


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_MSGID


def _is_method(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.encode()) <= MAX_METHOD_BYTES


def _typed(body: list[Value]) -> Message:
    """The array as one of the three kinds. ProtocolViolation when it is none."""
    kind = body[0]
    if type(kind) is not int:
        raise ProtocolViolation("message type is no integer")
    if kind == 0 and len(body) == 4 and _is_id(body[1]) and _is_method(body[2]) and isinstance(body[3], list):
        return Request(body[1], body[2], body[3])
    if kind == 1 and len(body) == 4 and _is_id(body[1]):
        return Response(body[1], body[2], body[3])
    if kind == 2 and len(body) == 3 and _is_method(body[1]) and isinstance(body[2], list):
        return Notification(body[1], body[2])
    raise ProtocolViolation(f"message of type {kind} has the wrong shape")
