"""What is made of the stack's secret: sequence numbers, timestamp offsets, SYN cookies, fast open cookies; and the
stack-wide limit on challenge ACKs."""

from __future__ import annotations

import random

import pytest

from services.netstackd.transport.tcp import fast_open, syncookies
from services.netstackd.transport.tcp.context import TcpContext
from services.netstackd.transport.tcp.isn import initial_sequence, timestamp_offset
from services.netstackd.transport.tcp.parameters import MILLISECOND, SECOND
from services.netstackd.transport.tcp.segment import ACK, FIN, MASK, RST, SYN, Segment, reset_for


def context(secret: bytes = b"secret") -> TcpContext:
    return TcpContext(random.Random(1), secret)


# -------------------------------------------------------------------- RFC 6528


def test_isn_grows_with_the_clock_for_one_connection() -> None:
    c = context()
    start = initial_sequence(c, b"flow", 10**12)
    later = initial_sequence(c, b"flow", 10**12 + SECOND)
    assert (later - start) & MASK == SECOND >> 6


def test_isn_of_another_connection_tells_nothing() -> None:
    c = context()
    values = {initial_sequence(c, b"flow%d" % index, 10**12) for index in range(200)}
    assert len(values) == 200
    ordered = sorted(values)
    assert max(b - a for a, b in zip(ordered, ordered[1:], strict=False)) > 1 << 20


def test_isn_and_offset_depend_on_the_secret() -> None:
    one, other = context(b"one"), context(b"other")
    assert initial_sequence(one, b"flow", 10**12) != initial_sequence(other, b"flow", 10**12)
    assert timestamp_offset(one, b"flow") != timestamp_offset(other, b"flow")
    assert timestamp_offset(one, b"flow") == timestamp_offset(one, b"flow")


# -------------------------------------------------------------------- SYN cookies


@pytest.mark.parametrize("mss", [100, 536, 1000, 1219, 1220, 1460, 1461, 8960, 65495])
def test_cookie_keeps_the_largest_mss_of_its_table_that_fits(mss: int) -> None:
    c = context()
    now = 10**15
    cookie = syncookies.make(c, b"flow", 77, mss, now)
    kept = syncookies.check(c, b"flow", 77, cookie, now)
    assert kept == max((size for size in syncookies.MSS_TABLE if size <= mss), default=536)


def test_cookie_is_good_for_two_periods() -> None:
    c = context()
    now = 50 * syncookies.PERIOD
    cookie = syncookies.make(c, b"flow", 77, 1460, now)
    assert syncookies.check(c, b"flow", 77, cookie, now + 2 * syncookies.PERIOD - 1)
    assert not syncookies.check(c, b"flow", 77, cookie, now + 2 * syncookies.PERIOD)
    assert not syncookies.check(c, b"flow", 77, cookie, now - 1)


def test_cookie_is_of_one_connection_one_isn_and_one_secret() -> None:
    c = context()
    now = 10**15
    cookie = syncookies.make(c, b"flow", 77, 1460, now)
    assert syncookies.check(c, b"flow", 77, cookie, now)
    assert not syncookies.check(c, b"other", 77, cookie, now)
    assert not syncookies.check(c, b"flow", 78, cookie, now)
    assert not syncookies.check(context(b"x"), b"flow", 77, cookie, now)


def test_no_changed_cookie_is_believed() -> None:
    c = context()
    now = 10**15
    cookie = syncookies.make(c, b"flow", 77, 1460, now)
    assert not any(syncookies.check(c, b"flow", 77, cookie ^ 1 << bit, now) for bit in range(32))


@pytest.mark.parametrize("wscale", [-1, 0, 7, 14])
@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize("ecn", [False, True])
def test_timestamp_of_a_cookie_brings_the_options_back(wscale: int, sack: bool, ecn: bool) -> None:
    for now in range(10**15, 10**15 + 200 * MILLISECOND, 7 * MILLISECOND):
        for offset in (0, 12345, MASK):
            value = syncookies.timestamp(offset, wscale, sack, ecn, now)
            assert syncookies.options_of(offset, value) == (wscale, sack, ecn)
            behind = (now // MILLISECOND + offset - value) & MASK
            assert behind < 64, "the timestamp must not run ahead of the clock, nor far behind"


# -------------------------------------------------------------------- RFC 7413, 5961


def test_fast_open_cookie_is_of_two_addresses() -> None:
    c = context()
    cookie = fast_open.server_cookie(c, b"a-b")
    assert len(cookie) == fast_open.COOKIE_BYTES
    assert cookie == fast_open.server_cookie(c, b"a-b")
    assert cookie != fast_open.server_cookie(c, b"a-c")
    assert cookie != fast_open.server_cookie(context(b"x"), b"a-b")


def test_challenges_are_limited_for_the_stack_and_the_limit_varies() -> None:
    c = context()
    c.parameters.challenge_ack_limit = 100
    counts = []
    for second in range(20):
        count = 0
        while c.may_challenge(second * SECOND):
            count += 1
        counts.append(count)
    assert all(50 <= count < 150 for count in counts)
    assert len(set(counts)) > 5


# -------------------------------------------------------------------- RFC 9293 3.10.7.1


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (Segment(5, 9, ACK, 0, b"xy"), (9, 0, RST)),
        (Segment(5, 0, SYN, 0), (0, 6, RST | ACK)),
        (Segment(5, 0, FIN, 0, b"xy"), (0, 8, RST | ACK)),
        (Segment(MASK, 0, SYN, 0, b"x"), (0, 1, RST | ACK)),
        (Segment(5, 9, RST | ACK, 0), None),
    ],
)
def test_reset_for_what_belongs_to_nobody(segment: Segment, expected: tuple[int, int, int] | None) -> None:
    reset = reset_for(segment)
    assert (None if reset is None else (reset.seq, reset.ack, reset.flags)) == expected
