"""Every 9P message survives the wire whole, byte by byte and refused with trailing bytes; broken frames only
violate.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import ProtocolViolation
from protocol.p9 import constants as c
from protocol.p9.attributes import ATTRIBUTES, Attributes, Qid
from protocol.p9.codec import FrameSplitter, decode_untrusted, encode
from protocol.p9.directory import (
    LISTING_HEAD,
    decode_entries_untrusted,
    decode_listings_untrusted,
    decode_records_untrusted,
    encode_entry,
    encode_entry_attributes,
)
from protocol.p9.messages import TABLE, Kind, Message

u8, u16 = st.integers(0, 2**8 - 1), st.integers(0, 2**16 - 1)
u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
qids = st.builds(Qid, u8, u32, u64)
attributes = st.builds(
    Attributes,
    u64,
    u8,
    u32,
    u64,
    u32,
    u32,
    u32,
    u64,
    u64,
    u64,
    u64,
    u64,
    i64,
    u64,
    i64,
    u64,
    i64,
    u64,
    i64,
    u64,
    u64,
    u64,
)
strings = st.binary(max_size=300)
FIELDS: dict[Kind, st.SearchStrategy[object]] = {
    Kind.U8: u8,
    Kind.U16: u16,
    Kind.U32: u32,
    Kind.U64: u64,
    Kind.I64: i64,
    Kind.QID: qids,
    Kind.STRING: strings,
    Kind.DATA: st.binary(max_size=2000),
    Kind.NAMES: st.lists(strings, max_size=c.MAX_WALK_NAMES),
    Kind.QIDS: st.lists(qids, max_size=c.MAX_WALK_NAMES),
    Kind.ATTRIBUTES: attributes,
    Kind.ATTRIBUTES_LIST: st.lists(attributes, max_size=4),
    Kind.FIDS: st.lists(u32, max_size=50),
}


def messages_of(number: int) -> st.SearchStrategy[Message]:
    row = TABLE[number]
    return st.tuples(*(FIELDS[kind] for kind in row.kinds)).map(lambda values: row.cls(*values))


any_message = st.sampled_from(sorted(TABLE)).flatmap(messages_of)


@pytest.mark.parametrize("number", sorted(TABLE))
def test_message_encoded_then_decoded_is_equal(number: int) -> None:
    @settings(max_examples=15, deadline=None)
    @given(messages_of(number), u16)
    def check(message: Message, tag: int) -> None:
        frame = encode(message, tag)
        assert frame[4] == number
        assert decode_untrusted(frame) == (tag, message)
        with pytest.raises(ProtocolViolation):
            decode_untrusted(frame + b"\0")
        with pytest.raises(ProtocolViolation):  # a body one byte longer than its fields
            decode_untrusted((len(frame) + 1).to_bytes(4, "little") + frame[4:] + b"\0")
        with pytest.raises(ProtocolViolation):
            decode_untrusted(frame[:-1])
        if len(frame) > c.HEADER_BYTES:
            with pytest.raises(ProtocolViolation):
                decode_untrusted((len(frame) - 1).to_bytes(4, "little") + frame[4:-1])

    check()


@settings(max_examples=60, deadline=None)
@given(st.lists(any_message, min_size=1, max_size=5), st.integers(1, 50))
def test_splitter_fed_in_pieces_yields_the_same_frames(sent: list[Message], piece: int) -> None:
    frames = [encode(message, tag) for tag, message in enumerate(sent)]
    stream = b"".join(frames)
    for step in {1, piece, len(stream)}:
        splitter = FrameSplitter()
        got: list[bytes] = []
        for at in range(0, len(stream), step):
            splitter.feed(stream[at : at + step])
            got += splitter.frames_untrusted()
        assert got == frames
        assert splitter.pending_bytes == 0


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_frame_decodes_or_violates(data: st.DataObject) -> None:
    frame = bytearray(encode(data.draw(any_message), 1))
    for _ in range(data.draw(st.integers(1, 6))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(u8)
    if data.draw(st.booleans()):
        frame[0:4] = len(frame).to_bytes(4, "little")
    try:
        decode_untrusted(bytes(frame))
    except ProtocolViolation as violation:
        assert violation.why


@settings(max_examples=300, deadline=None)
@given(u8, st.binary(max_size=200))
def test_random_body_decodes_or_violates(number: int, body: bytes) -> None:
    frame = (7 + len(body)).to_bytes(4, "little") + bytes([number]) + b"\0\0" + body
    try:
        decode_untrusted(frame)
    except ProtocolViolation as violation:
        assert violation.why


@given(st.binary(max_size=400))
def test_random_directory_data_decodes_or_violates(data: bytes) -> None:
    whole: Any = lambda data: decode_listings_untrusted(LISTING_HEAD.pack(0, 1, len(data)) + data, 1)  # noqa: E731
    for decode in (decode_entries_untrusted, decode_records_untrusted, whole):
        try:
            decode(data)
        except ProtocolViolation as violation:
            assert violation.why


@pytest.mark.parametrize("size", [0, 6, c.MAX_MSIZE_BYTES + 1, 2**32 - 1])
def test_splitter_size_out_of_range_violates_before_buffering(size: int) -> None:
    splitter = FrameSplitter()
    splitter.feed(size.to_bytes(4, "little") + b"\x64\0\0")
    with pytest.raises(ProtocolViolation):
        list(splitter.frames_untrusted())


def test_walk_with_too_many_names_violates() -> None:
    body = bytes(8) + (17).to_bytes(2, "little") + b"\x01\x00a" * 17
    frame = (7 + len(body)).to_bytes(4, "little") + bytes([c.TWALK]) + b"\0\0" + body
    with pytest.raises(ProtocolViolation, match="limit is 16"):
        decode_untrusted(frame)


def test_directory_entries_round_trip() -> None:
    record = Attributes(*range(1, 23))
    data = encode_entry(b"a", (0x80, 1, 2), 3, 4) + encode_entry(b"bb", (0, 1, 2), 9, 8)
    assert [(entry.name, entry.offset, entry.kind) for entry in decode_entries_untrusted(data)] == [
        (b"a", 3, 4),
        (b"bb", 9, 8),
    ]
    packed = ATTRIBUTES.pack(*record)
    entries = [encode_entry_attributes(name, packed, cookie, 6) for cookie, name in enumerate((b".", b"x", b".."), 5)]
    assert decode_records_untrusted(b"".join(entries), dots=True) == ({b"x": packed}, 7)
    assert decode_records_untrusted(b"") == ({}, 0)


def listing_of(*names: bytes) -> bytes:
    record = ATTRIBUTES.pack(*range(1, 23))
    entries = b"".join(encode_entry_attributes(name, record, 5, 6) for name in names)
    return LISTING_HEAD.pack(0, 1, len(entries)) + entries


def test_listings_round_trip() -> None:
    failed = LISTING_HEAD.pack(2, 1, 0)
    first, second, third = decode_listings_untrusted(listing_of(b"a", b"bb") + failed + listing_of(), 3)
    assert (first.errno, first.complete, list(first.entries)) == (0, True, [b"a", b"bb"])
    assert Attributes._make(ATTRIBUTES.unpack(first.entries[b"bb"])) == Attributes(*range(1, 23))
    assert (second.errno, second.entries) == (2, {}) and third.entries == {}


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0"])
def test_listing_with_what_is_no_name_violates(name: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="name"):
        decode_listings_untrusted(listing_of(b"x", name, b"y"), 1)


def test_listing_cut_off_anywhere_violates() -> None:
    whole = listing_of(b"a", b"bb")
    for end in range(1, len(whole)):
        with pytest.raises(ProtocolViolation):
            decode_listings_untrusted(whole[:end], 1)
    inside = whole[LISTING_HEAD.size : -1]
    with pytest.raises(ProtocolViolation, match="cut off"):
        decode_listings_untrusted(LISTING_HEAD.pack(0, 1, len(inside)) + inside, 1)


def test_directory_entry_with_slash_in_name_violates() -> None:
    with pytest.raises(ProtocolViolation):
        decode_entries_untrusted(encode_entry(b"../x", (0, 0, 0), 1, 8))
