"""wire/tcp_options: what is written is read back; hostile bytes are survived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.netstackd.wire.tcp_options import (
    MAX_OPTION_BYTES,
    NO_OPTIONS,
    SynOptions,
    emit_options,
    options_length,
    parse_options_untrusted,
)

u32 = st.integers(0, 0xFFFFFFFF)


def fields(syn: SynOptions | None) -> tuple[object, ...] | None:
    return None if syn is None else (syn.mss, syn.wscale, syn.sack_permitted, syn.fast_open)


@given(u32, u32, st.lists(st.tuples(u32, u32), max_size=3), st.booleans())
def test_timestamps_and_blocks_come_back(value: int, echo: int, blocks: list[tuple[int, int]], stamped: bool) -> None:
    ts_val = value if stamped else -1
    data = emit_options(ts_val, echo, tuple(blocks), None)
    assert len(data) % 4 == 0 and len(data) <= MAX_OPTION_BYTES
    assert len(data) == options_length(ts_val, len(blocks), None)
    read = parse_options_untrusted(data, 0, len(data), False)
    assert read == (ts_val, echo if stamped else 0, tuple(blocks), None)


@given(
    st.integers(0, 65535),
    st.integers(-1, 14),
    st.booleans(),
    st.sampled_from((None, b"", b"abcd", b"12345678")),
    st.one_of(st.just(-1), u32),
)
def test_the_options_of_a_syn_come_back(mss: int, wscale: int, sack: bool, cookie: bytes | None, ts_val: int) -> None:
    syn = SynOptions(mss, wscale, sack, cookie)
    data = emit_options(ts_val, 7, (), syn)
    assert len(data) % 4 == 0 and len(data) <= MAX_OPTION_BYTES
    assert len(data) == options_length(ts_val, 0, syn)
    value, _, blocks, read = parse_options_untrusted(data, 0, len(data), True)
    assert value == ts_val and blocks == ()
    assert fields(read) == fields(syn)


@given(st.binary(max_size=60), st.integers(0, 60), st.booleans())
def test_any_bytes_are_survived(data: bytes, start: int, is_syn: bool) -> None:
    end = len(data)
    start = min(start, end)
    value, echo, blocks, syn = parse_options_untrusted(data, start, end, is_syn)
    assert -1 <= value <= 0xFFFFFFFF and 0 <= echo <= 0xFFFFFFFF and len(blocks) <= 4 * 3
    assert (syn is not None) == is_syn


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # a kind without a length
        b"\x08\x0a\x00",  # a length beyond the end
        b"\x08\x00\x01\x02",  # a length of zero
        b"\x08\x01\x01\x02",
        b"\x08\x0b" + bytes(9),  # timestamps of another size
        b"\x05\x03\x00",  # SACK of no block
        b"\x05\x0b" + bytes(9),  # SACK of one block and a byte
        b"\x00\x08\x0a" + bytes(8),  # after the end of the list
        b"\xfd\x04ab",  # unknown
    ],
)
def test_malformed_options_say_nothing(data: bytes) -> None:
    assert parse_options_untrusted(data, 0, len(data), False) == NO_OPTIONS


def test_what_precedes_a_malformed_option_counts() -> None:
    data = emit_options(5, 6, (), None) + b"\x05\xff"
    assert parse_options_untrusted(data, 0, len(data), False) == (5, 6, (), None)


def test_an_unknown_option_is_skipped() -> None:
    data = b"\xfd\x04ab" + b"\x08\x0a" + (9).to_bytes(4, "big") + (8).to_bytes(4, "big")
    assert parse_options_untrusted(data, 0, len(data), False) == (9, 8, (), None)


def test_options_of_a_syn_mean_nothing_elsewhere() -> None:
    data = emit_options(-1, 0, (), SynOptions(1460, 7, True))
    assert parse_options_untrusted(data, 0, len(data), False) == NO_OPTIONS


def test_sack_blocks_mean_nothing_in_a_syn() -> None:
    data = emit_options(-1, 0, ((1, 2),), None)
    assert parse_options_untrusted(data, 0, len(data), True)[2] == ()


@pytest.mark.parametrize("cookie", [b"abc", b"abcde", bytes(18)])
def test_a_cookie_of_a_wrong_size_is_none(cookie: bytes) -> None:
    data = bytes((34, 2 + len(cookie))) + cookie
    read = parse_options_untrusted(data, 0, len(data), True)[3]
    assert read is not None and read.fast_open is None


def test_nothing_beyond_the_end_is_read() -> None:
    data = emit_options(5, 6, (), None)
    for end in range(len(data)):
        assert parse_options_untrusted(data, 0, end, False)[0] == -1
