"""Messages to frames and back, compiled once from the table in `messages.py`. Sans-IO.

`encode(message, tag)` trusts its caller (a value out of range is a bug: struct.error/ValueError).
`decode_untrusted(frame)` trusts nothing: it raises only `ProtocolViolation`, checks every count against a named limit
and against the bytes that are really there before anything is allocated, and refuses trailing bytes.
`FrameSplitter` cuts a byte stream into frames. Read the limits in `constants.py` first.

Runs of fixed-size fields become one precompiled `struct.Struct`; only variable fields have code of their own. The hot
messages are not packed here but in `client.py` and the gofer's handlers, straight from and to the buffer; property
tests hold both encodings equal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final, TypeAlias

from protocol.errors import ProtocolViolation
from protocol.p9 import constants as c
from protocol.p9.attributes import ATTRIBUTES, ATTRIBUTES_BYTES, QID, Attributes, Qid
from protocol.p9.messages import TABLE, Kind, Message, Row

HEADER: Final = Struct("<IBH")
U16: Final = Struct("<H")
U32: Final = Struct("<I")

Buffer: TypeAlias = bytes | bytearray | memoryview
Value: TypeAlias = object
# a step: read fields at an offset, append them to the list, return the offset behind them
_ReadStep: TypeAlias = Callable[[Buffer, int, int, list[Value]], int]
_WriteStep: TypeAlias = Callable[[list[Value], list[bytes]], None]


def read_string_untrusted(buffer: Buffer, offset: int, end: int) -> tuple[bytes, int]:
    """A length[2] string at `offset`, not reaching beyond `end`. Returns (bytes, offset behind it)."""
    start = offset + 2
    if start > end:
        raise ProtocolViolation("string: length is cut off")
    length: int = U16.unpack_from(buffer, offset)[0]
    if length > c.MAX_STRING_BYTES:
        raise ProtocolViolation(f"string: {length} bytes, limit is {c.MAX_STRING_BYTES}")
    stop = start + length
    if stop > end:
        raise ProtocolViolation("string: body is cut off")
    return bytes(buffer[start:stop]), stop


def read_names_untrusted(buffer: Buffer, offset: int, end: int) -> tuple[list[bytes], int]:
    """count[2] strings at `offset`. Returns (names, offset behind them)."""
    if offset + 2 > end:
        raise ProtocolViolation("names: count is cut off")
    count: int = U16.unpack_from(buffer, offset)[0]
    if count > c.MAX_WALK_NAMES:
        raise ProtocolViolation(f"names: {count} names, limit is {c.MAX_WALK_NAMES}")
    offset += 2
    names: list[bytes] = []
    for _ in range(count):
        start = offset + 2
        if start > end:
            raise ProtocolViolation("names: a length is cut off")
        offset = start + U16.unpack_from(buffer, offset)[0]
        if offset > end:
            raise ProtocolViolation("names: a name is cut off")
        if offset - start > c.MAX_STRING_BYTES:
            raise ProtocolViolation(f"names: a name of {offset - start} bytes, limit is {c.MAX_STRING_BYTES}")
        names.append(bytes(buffer[start:offset]))
    return names, offset


def _read_qid(buffer: Buffer, offset: int, end: int, out: list[Value]) -> int:
    if offset + 13 > end:
        raise ProtocolViolation("qid: cut off")
    out.append(Qid._make(QID.unpack_from(buffer, offset)))
    return offset + 13


def _read_string(buffer: Buffer, offset: int, end: int, out: list[Value]) -> int:
    value, offset = read_string_untrusted(buffer, offset, end)
    out.append(value)
    return offset


def _read_names(buffer: Buffer, offset: int, end: int, out: list[Value]) -> int:
    value, offset = read_names_untrusted(buffer, offset, end)
    out.append(value)
    return offset


def _read_data(buffer: Buffer, offset: int, end: int, out: list[Value]) -> int:
    start = offset + 4
    if start > end:
        raise ProtocolViolation("data: count is cut off")
    count: int = U32.unpack_from(buffer, offset)[0]
    stop = start + count
    if stop > end:  # also bounds the copy: `end` lies inside a frame of at most msize bytes
        raise ProtocolViolation(f"data: {count} bytes announced, {end - start} are there")
    out.append(bytes(buffer[start:stop]))
    return stop


def _read_attributes(buffer: Buffer, offset: int, end: int, out: list[Value]) -> int:
    if offset + ATTRIBUTES_BYTES > end:
        raise ProtocolViolation("attributes: cut off")
    out.append(Attributes._make(ATTRIBUTES.unpack_from(buffer, offset)))
    return offset + ATTRIBUTES_BYTES


def _counted_records(buffer: Buffer, offset: int, end: int, size: int, limit: int, what: str) -> tuple[int, int]:
    """The count[2] before `size`-byte records, checked. Returns (offset of the first, offset behind the last)."""
    start = offset + 2
    if start > end:
        raise ProtocolViolation(f"{what}: count is cut off")
    count: int = U16.unpack_from(buffer, offset)[0]
    if count > limit:
        raise ProtocolViolation(f"{what}: {count} records, limit is {limit}")
    stop = start + count * size
    if stop > end:
        raise ProtocolViolation(f"{what}: records are cut off")
    return start, stop


def _read_qids(buffer: Buffer, offset: int, end: int, out: list[Value]) -> int:
    start, stop = _counted_records(buffer, offset, end, 13, c.MAX_WALK_NAMES, "qids")
    out.append([Qid._make(QID.unpack_from(buffer, at)) for at in range(start, stop, 13)])
    return stop


def read_attributes_list_untrusted(buffer: Buffer, offset: int, end: int) -> tuple[list[Attributes], int]:
    """count[2] attribute records at `offset`. Returns (records, offset behind them)."""
    start, stop = _counted_records(buffer, offset, end, ATTRIBUTES_BYTES, c.MAX_WALK_NAMES, "attributes")
    make, unpack = Attributes._make, ATTRIBUTES.unpack_from
    return [make(unpack(buffer, at)) for at in range(start, stop, ATTRIBUTES_BYTES)], stop


def _read_attributes_list(buffer: Buffer, offset: int, end: int, out: list[Value]) -> int:
    value, offset = read_attributes_list_untrusted(buffer, offset, end)
    out.append(value)
    return offset


def read_fids_untrusted(buffer: Buffer, offset: int, end: int) -> tuple[tuple[int, ...], int]:
    """count[2] fid[4]* at `offset`. Returns (fids, offset behind them)."""
    start, stop = _counted_records(buffer, offset, end, 4, c.MAX_FORGET_FIDS, "fids")
    return struct.unpack_from(f"<{(stop - start) // 4}I", buffer, start), stop


def _read_fids(buffer: Buffer, offset: int, end: int, out: list[Value]) -> int:
    value, offset = read_fids_untrusted(buffer, offset, end)
    out.append(list(value))
    return offset


def _fixed_reader(fixed: Struct) -> _ReadStep:
    size = fixed.size

    def read(buffer: Buffer, offset: int, end: int, out: list[Value]) -> int:
        stop = offset + size
        if stop > end:
            raise ProtocolViolation("fixed fields are cut off")
        out += fixed.unpack_from(buffer, offset)
        return stop

    return read


def _checked_string(value: Value) -> bytes:
    if not isinstance(value, bytes) or len(value) > c.MAX_STRING_BYTES:
        raise ValueError(f"not a string of at most {c.MAX_STRING_BYTES} bytes")
    return U16.pack(len(value)) + value


def _checked_list(value: Value, limit: int) -> list[Value]:
    if not isinstance(value, list) or len(value) > limit:
        raise ValueError(f"not a list of at most {limit} items")
    return value


def _write_qid(values: list[Value], out: list[bytes]) -> None:
    value = values.pop()
    assert isinstance(value, tuple)
    out.append(QID.pack(*value))


def _write_string(values: list[Value], out: list[bytes]) -> None:
    out.append(_checked_string(values.pop()))


def _write_data(values: list[Value], out: list[bytes]) -> None:
    value = values.pop()
    assert isinstance(value, (bytes, bytearray, memoryview))
    out += (U32.pack(len(value)), bytes(value))


def _write_attributes(values: list[Value], out: list[bytes]) -> None:
    value = values.pop()
    assert isinstance(value, tuple)
    out.append(ATTRIBUTES.pack(*value))


def _write_names(values: list[Value], out: list[bytes]) -> None:
    names = _checked_list(values.pop(), c.MAX_WALK_NAMES)
    out.append(U16.pack(len(names)))
    out += [_checked_string(name) for name in names]


def _write_qids(values: list[Value], out: list[bytes]) -> None:
    qids = _checked_list(values.pop(), c.MAX_WALK_NAMES)
    out.append(U16.pack(len(qids)))
    for qid in qids:
        assert isinstance(qid, tuple)
        out.append(QID.pack(*qid))


def _write_attributes_list(values: list[Value], out: list[bytes]) -> None:
    records = _checked_list(values.pop(), c.MAX_WALK_NAMES)
    out.append(U16.pack(len(records)))
    for record in records:
        assert isinstance(record, tuple)
        out.append(ATTRIBUTES.pack(*record))


def _write_fids(values: list[Value], out: list[bytes]) -> None:
    fids = _checked_list(values.pop(), c.MAX_FORGET_FIDS)
    out += (U16.pack(len(fids)), struct.pack(f"<{len(fids)}I", *fids))


def _fixed_writer(fixed: Struct, count: int) -> _WriteStep:
    def write(values: list[Value], out: list[bytes]) -> None:
        run = values[-count:]
        del values[-count:]
        run.reverse()
        out.append(fixed.pack(*run))

    return write


_READERS: Final[dict[Kind, _ReadStep]] = {
    Kind.QID: _read_qid,
    Kind.STRING: _read_string,
    Kind.DATA: _read_data,
    Kind.NAMES: _read_names,
    Kind.QIDS: _read_qids,
    Kind.ATTRIBUTES: _read_attributes,
    Kind.ATTRIBUTES_LIST: _read_attributes_list,
    Kind.FIDS: _read_fids,
}
_WRITERS: Final[dict[Kind, _WriteStep]] = {
    Kind.QID: _write_qid,
    Kind.STRING: _write_string,
    Kind.DATA: _write_data,
    Kind.NAMES: _write_names,
    Kind.QIDS: _write_qids,
    Kind.ATTRIBUTES: _write_attributes,
    Kind.ATTRIBUTES_LIST: _write_attributes_list,
    Kind.FIDS: _write_fids,
}


class _Plan:
    """One compiled row: the steps that read and write its fields."""

    __slots__ = ("cls", "names", "number", "readers", "writers")

    def __init__(self, row: Row) -> None:
        self.number = row.number
        self.cls = row.cls
        self.names: tuple[str, ...] = tuple(getattr(row.cls, "__match_args__", ()))
        assert len(self.names) == len(row.kinds), row
        self.readers: list[_ReadStep] = []
        self.writers: list[_WriteStep] = []
        run = ""
        for kind in (*row.kinds, None):
            if kind is not None and len(kind.value) == 1:
                run += kind.value
                continue
            if run:
                fixed = Struct("<" + run)
                self.readers.append(_fixed_reader(fixed))
                self.writers.append(_fixed_writer(fixed, len(run)))
                run = ""
            if kind is not None:
                self.readers.append(_READERS[kind])
                self.writers.append(_WRITERS[kind])


_PLANS: Final[dict[int, _Plan]] = {number: _Plan(row) for number, row in TABLE.items()}
_PLAN_OF: Final[dict[type[Message], _Plan]] = {plan.cls: plan for plan in _PLANS.values()}


def encode(message: Message, tag: int) -> bytes:
    """The whole frame of `message`, header included. `tag`: 0..65535.

    Raises ValueError or struct.error when a field does not fit the wire: a bug of the caller, never of a peer.
    """
    plan = _PLAN_OF[type(message)]
    values = [getattr(message, name) for name in plan.names]
    values.reverse()
    out = [b""]
    for write in plan.writers:
        write(values, out)
    out[0] = HEADER.pack(c.HEADER_BYTES + sum(map(len, out)), plan.number, tag)
    return b"".join(out)


def decode_body_untrusted(number: int, buffer: Buffer, offset: int, end: int) -> Message:
    """The message of type `number` whose body is buffer[offset:end]. Raises ProtocolViolation."""
    plan = _PLANS.get(number)
    if plan is None:
        raise ProtocolViolation(f"message type {number} is unknown")
    values: list[Value] = []
    for read in plan.readers:
        offset = read(buffer, offset, end, values)
    if offset != end:
        raise ProtocolViolation(f"message type {number}: {end - offset} trailing bytes")
    return plan.cls(*values)


def decode_untrusted(frame: Buffer) -> tuple[int, Message]:
    """One whole frame to (tag, message). Raises ProtocolViolation and nothing else."""
    if len(frame) < c.HEADER_BYTES:
        raise ProtocolViolation("frame: header is cut off")
    size, number, tag = HEADER.unpack_from(frame)
    if size != len(frame):
        raise ProtocolViolation(f"frame: size says {size}, {len(frame)} bytes are there")
    return tag, decode_body_untrusted(number, frame, c.HEADER_BYTES, size)


class FrameSplitter:
    """Cuts a byte stream into frames of at most `msize_bytes`.

    feed() bytes as they come, then take frames from the iterator until it ends (= more bytes are needed). A bad size
    raises ProtocolViolation from the iterator before the frame is buffered further; the stream is then unusable.
    """

    __slots__ = ("_buffer", "msize_bytes")

    def __init__(self, msize_bytes: int = c.MAX_MSIZE_BYTES) -> None:
        self.msize_bytes = msize_bytes
        self._buffer = bytearray()

    def feed(self, data: Buffer) -> None:
        """Append received bytes."""
        self._buffer += data

    @property
    def pending_bytes(self) -> int:
        """Bytes held of a frame that is not yet whole."""
        return len(self._buffer)

    def frames_untrusted(self) -> Iterator[bytes]:
        """Whole frames, in order. Raises ProtocolViolation for a size that is too small or over msize."""
        buffer = self._buffer
        at = 0
        try:
            while len(buffer) - at >= c.HEADER_BYTES:
                size: int = U32.unpack_from(buffer, at)[0]
                if not c.HEADER_BYTES <= size <= self.msize_bytes:
                    raise ProtocolViolation(f"frame: size {size} is not in {c.HEADER_BYTES}..{self.msize_bytes}")
                if len(buffer) - at < size:
                    return
                frame = bytes(buffer[at : at + size])
                at += size
                yield frame
        finally:
            del buffer[:at]
