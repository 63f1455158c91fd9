"""A small MessagePack codec in pure Python, for the few small messages of the control plane.

Owns: `pack`, and `Unpacker` for a byte stream. It covers nil, bool, int, str, bin, array and map of the public
specification (github.com/msgpack/msgpack/blob/master/spec.md); floats and extension types are refused, but for
descriptors where they are asked for (`pack_with_fds`, `Unpacker(fds=True)`), written as by protocol/rpc/codec.py. The
`msgpack` package does the same faster, but importing it costs a third of what `supervisor do` may spend before it
forks; what these two write, the other reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from protocol.errors import ProtocolViolation

#: Largest single message, largest string and deepest nesting that a peer may send.
MAX_MESSAGE: Final = 1 << 20
MAX_DEPTH: Final = 16
#: Most descriptors of one message, and the extension type that stands for one: its single byte is the descriptor's
#: position among those sent beside the message (protocol/rpc/codec.py).
MAX_FDS: Final = 64
FD_EXT: Final = 0x46


class Fd:
    """A descriptor as a value of a message. Sent: it stays the sender's. Received: it is the receiver's to close."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"Fd({self.number})"


def pack(value: object) -> bytes:
    """`value` (None, bool, int, str, bytes, list, tuple, dict of these) as MessagePack. Raises TypeError otherwise,
    OverflowError for an integer outside 64 bits."""
    out = bytearray()
    _pack(value, out, None)
    return bytes(out)


def pack_with_fds(value: object) -> tuple[bytes, list[int]]:
    """As `pack`, for a value with `Fd`s in it: (bytes, descriptors to send beside them)."""
    out = bytearray()
    fds: list[int] = []
    _pack(value, out, fds)
    return bytes(out), fds


def _pack(value: object, out: bytearray, fds: list[int] | None) -> None:
    if value is None:
        out.append(0xC0)
    elif value is True:
        out.append(0xC3)
    elif value is False:
        out.append(0xC2)
    elif isinstance(value, int):
        _pack_int(value, out)
    elif isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        _pack_size(len(data), out, 0xA0, 31, (0xD9, 0xDA, 0xDB))
        out += data
    elif isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        _pack_size(len(data), out, 0, -1, (0xC4, 0xC5, 0xC6))
        out += data
    elif isinstance(value, (list, tuple)):
        _pack_size(len(value), out, 0x90, 15, (None, 0xDC, 0xDD))
        for item in value:
            _pack(item, out, fds)
    elif isinstance(value, dict):
        _pack_size(len(value), out, 0x80, 15, (None, 0xDE, 0xDF))
        for key, item in value.items():
            _pack(key, out, fds)
            _pack(item, out, fds)
    elif isinstance(value, Fd) and fds is not None:
        if len(fds) >= MAX_FDS:
            raise ValueError(f"more than {MAX_FDS} descriptors in one message")
        out += bytes((0xD4, FD_EXT, len(fds)))  # fixext 1
        fds.append(value.number)
    else:
        raise TypeError(f"cannot pack {type(value).__name__}")


def _pack_int(value: int, out: bytearray) -> None:
    if 0 <= value < 128:
        out.append(value)
    elif -32 <= value < 0:
        out.append(value & 0xFF)
    elif value >= 0:
        if value < 1 << 8:
            tag, width = 0xCC, 1
        elif value < 1 << 16:
            tag, width = 0xCD, 2
        elif value < 1 << 32:
            tag, width = 0xCE, 4
        else:
            tag, width = 0xCF, 8
        out.append(tag)
        out += value.to_bytes(width, "big")
    else:
        for tag, width in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
            if value >= -(1 << (8 * width - 1)) or width == 8:
                out.append(tag)
                out += value.to_bytes(width, "big", signed=True)
                return


def _pack_size(size: int, out: bytearray, fixed: int, fixed_max: int, tags: tuple[int | None, int, int]) -> None:
    if size <= fixed_max:
        out.append(fixed | size)
    elif tags[0] is not None and size < 1 << 8:
        out += bytes((tags[0], size))
    elif size < 1 << 16:
        out.append(tags[1])
        out += size.to_bytes(2, "big")
    else:
        out.append(tags[2])
        out += size.to_bytes(4, "big")


class _Short(Exception):
    """More bytes are needed."""


class Unpacker:
    """Splits a byte stream into values. `feed` bytes, then take `next_untrusted` until it returns `NOTHING`.

    With `fds`, descriptors that came are held in order until the message that names them is whole; the receiver closes
    what `take_unclaimed` gives back at the end.
    """

    NOTHING: ClassVar[object] = object()

    def __init__(self, limit: int = MAX_MESSAGE, *, fds: bool = False) -> None:
        self._data = b""
        self._start = 0  # of the next value
        self._at = 0
        self._limit = limit
        self._with_fds = fds
        self._fds: list[int] = []
        self._named: dict[int, Fd] = {}

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Append what was received; takes over `fds`. ProtocolViolation: more of them than messages may name."""
        left = self._data[self._start :]
        self._data = left + data if left else bytes(data)
        self._start = 0
        if fds:
            self._fds += fds
            if len(self._fds) > 2 * MAX_FDS:
                raise ProtocolViolation("more descriptors came than messages name")

    def take_unclaimed(self) -> list[int]:
        """The descriptors that no message has named; they are the caller's now."""
        fds, self._fds = self._fds, []
        return fds

    def next_untrusted(self) -> Any:
        """The next value, or NOTHING when it is not complete yet. Raises ProtocolViolation for what is not
        MessagePack, is larger than the limit or nested too deeply; the stream is then of no use any more."""
        start = self._at = self._start
        if start == len(self._data):
            return Unpacker.NOTHING
        if self._named:
            self._named = {}
        try:
            value = self._value(0)
        except _Short:
            if len(self._data) - start > self._limit:
                raise ProtocolViolation(f"message: longer than {self._limit} bytes") from None
            return Unpacker.NOTHING
        self._start = self._at
        if self._named:
            self._claim()
        return value

    def _claim(self) -> None:
        """Give the descriptors named by the message that is whole now to its Fds: each of the first n exactly once."""
        count = len(self._named)
        if count > len(self._fds) or max(self._named) >= count:
            raise ProtocolViolation("message: names a descriptor that did not come")
        for position, fd in self._named.items():
            fd.number = self._fds[position]
        del self._fds[:count]

    def _fd(self) -> Fd:
        kind, position = self._take(2)
        if kind != FD_EXT:
            raise ProtocolViolation(f"message: extension type {kind:#x} is not used here")
        if position in self._named:
            raise ProtocolViolation("message: names one descriptor twice")
        fd = self._named[position] = Fd(-1)
        return fd

    def _take(self, size: int) -> bytes:
        if size > self._limit:
            raise ProtocolViolation(f"message: longer than {self._limit} bytes")
        end = self._at + size
        if end > len(self._data):
            raise _Short
        part = self._data[self._at : end]
        self._at = end
        return part

    def _number(self, width: int, signed: bool = False) -> int:
        return int.from_bytes(self._take(width), "big", signed=signed)

    def _value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ProtocolViolation("message: nested too deeply")
        at, data = self._at, self._data
        if at == len(data):
            raise _Short
        tag = data[at]
        self._at = at + 1
        if tag < 0x80:
            return tag
        if tag >= 0xE0:
            return tag - 0x100
        if tag < 0x90:
            return self._map(tag & 15, depth)
        if tag < 0xA0:
            return self._array(tag & 15, depth)
        if tag < 0xC0:
            return self._text(tag & 31)
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if 0xCC <= tag <= 0xCF:
            return self._number(1 << (tag - 0xCC))
        if 0xD0 <= tag <= 0xD3:
            return self._number(1 << (tag - 0xD0), signed=True)
        if 0xC4 <= tag <= 0xC6:
            return self._take(self._number(1 << (tag - 0xC4)))
        if 0xD9 <= tag <= 0xDB:
            return self._text(self._number(1 << (tag - 0xD9)))
        if 0xDC <= tag <= 0xDD:
            return self._array(self._number(2 << (tag - 0xDC)), depth)
        if 0xDE <= tag <= 0xDF:
            return self._map(self._number(2 << (tag - 0xDE)), depth)
        if tag == 0xD4 and self._with_fds:
            return self._fd()
        raise ProtocolViolation(f"message: type {tag:#x} is not used here")

    def _text(self, size: int) -> str:
        return self._take(size).decode("utf-8", "surrogateescape")

    def _array(self, count: int, depth: int) -> list[Any]:
        """What messages are full of, small numbers and bytes, texts and numbers, is read here; the rest by `_value`."""
        self._check_count(count)
        if count and depth >= MAX_DEPTH:
            raise ProtocolViolation("message: nested too deeply")
        data, limit = self._data, self._limit
        end = len(data)
        at = self._at
        made: list[Any] = []
        for _ in range(count):
            if at >= end:
                raise _Short
            tag = data[at]
            at += 1
            if tag < 0x80:
                made.append(tag)
            elif 0xA0 <= tag < 0xC0 and tag & 31 <= limit:
                stop = at + (tag & 31)
                if stop > end:
                    raise _Short
                made.append(data[at:stop].decode("utf-8", "surrogateescape"))
                at = stop
            elif 0xCC <= tag <= 0xCF:
                stop = at + (1 << (tag - 0xCC))
                if stop > end:
                    raise _Short
                made.append(int.from_bytes(data[at:stop], "big"))
                at = stop
            elif tag == 0xC4 and at < end and data[at] <= limit:
                stop = at + 1 + data[at]
                if stop > end:
                    raise _Short
                made.append(data[at + 1 : stop])
                at = stop
            else:
                self._at = at - 1
                made.append(self._value(depth + 1))
                at = self._at
        self._at = at
        return made

    def _map(self, count: int, depth: int) -> dict[Any, Any]:
        self._check_count(count * 2)
        made: dict[Any, Any] = {}
        for _ in range(count):
            key = self._value(depth + 1)
            if not isinstance(key, str | int | bytes):
                raise ProtocolViolation("message: a map key that is neither text nor number")
            made[key] = self._value(depth + 1)
        return made

    def _check_count(self, count: int) -> None:
        if count > self._limit:
            raise ProtocolViolation(f"message: {count} items, more than {self._limit} bytes can hold")


_CONSTANTS: Final[dict[int, bool | None]] = {0xC0: None, 0xC2: False, 0xC3: True}
