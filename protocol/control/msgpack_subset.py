"""A small MessagePack codec in pure Python, for the few small messages of the control plane.

Owns: `pack`, and `Unpacker` for a byte stream. It covers nil, bool, int, str, bin, array and map of the public
specification (github.com/msgpack/msgpack/blob/master/spec.md); floats and extension types are refused. The `msgpack`
package does the same faster, but importing it costs a third of what `supervisor do` may spend before it forks; what
these two write, the other reads.
"""

from __future__ import annotations

from typing import Any, Final

from protocol.errors import ProtocolViolation

#: Largest single message, largest string and deepest nesting that a peer may send.
MAX_MESSAGE: Final = 1 << 20
MAX_DEPTH: Final = 16


def pack(value: object) -> bytes:
    """`value` (None, bool, int, str, bytes, list, tuple, dict of these) as MessagePack. Raises TypeError otherwise,
    OverflowError for an integer outside 64 bits."""
    out = bytearray()
    _pack(value, out)
    return bytes(out)


def _pack(value: object, out: bytearray) -> None:
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
    elif isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        _pack_size(len(data), out, 0, -1, (0xC4, 0xC5, 0xC6))
        out += data
    elif isinstance(value, list | tuple):
        _pack_size(len(value), out, 0x90, 15, (None, 0xDC, 0xDD))
        for item in value:
            _pack(item, out)
    elif isinstance(value, dict):
        _pack_size(len(value), out, 0x80, 15, (None, 0xDE, 0xDF))
        for key, item in value.items():
            _pack(key, out)
            _pack(item, out)
    else:
        raise TypeError(f"cannot pack {type(value).__name__}")


def _pack_int(value: int, out: bytearray) -> None:
    if 0 <= value < 128:
        out.append(value)
    elif -32 <= value < 0:
        out.append(value & 0xFF)
    elif value >= 0:
        for tag, width in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
            if value < 1 << (8 * width) or width == 8:
                out.append(tag)
                out += value.to_bytes(width, "big")
                return
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
    """Splits a byte stream into values. `feed` bytes, then take `next_untrusted` until it returns `NOTHING`."""

    NOTHING: Final = object()

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._data = bytearray()
        self._at = 0
        self._limit = limit

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        self._data += data

    def next_untrusted(self) -> Any:
        """The next value, or NOTHING when it is not complete yet. Raises ProtocolViolation for what is not
        MessagePack, is larger than the limit or nested too deeply; the stream is then of no use any more."""
        self._at = 0
        try:
            value = self._value(0)
        except _Short:
            if len(self._data) > self._limit:
                raise ProtocolViolation(f"message: longer than {self._limit} bytes") from None
            return self.NOTHING
        del self._data[: self._at]
        return value

    def _take(self, size: int) -> bytes:
        if size > self._limit:
            raise ProtocolViolation(f"message: longer than {self._limit} bytes")
        end = self._at + size
        if end > len(self._data):
            raise _Short
        part = bytes(self._data[self._at : end])
        self._at = end
        return part

    def _number(self, width: int, signed: bool = False) -> int:
        return int.from_bytes(self._take(width), "big", signed=signed)

    def _value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ProtocolViolation("message: nested too deeply")
        tag = self._take(1)[0]
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
        raise ProtocolViolation(f"message: type {tag:#x} is not used here")

    def _text(self, size: int) -> str:
        return self._take(size).decode("utf-8", "surrogateescape")

    def _array(self, count: int, depth: int) -> list[Any]:
        self._check_count(count)
        return [self._value(depth + 1) for _ in range(count)]

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
