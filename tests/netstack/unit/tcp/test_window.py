"""The receiver's decisions (transport/tcp/window.py): window, acknowledgements, buffers; on a bare record of fields."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp.parameters import DELAYED_ACK_MAX, DELAYED_ACK_MIN, MILLISECOND, NEVER, Parameters
from tests.netstack.interpreted import interpreted

window = interpreted("services.netstackd.transport.tcp.window")
MSS = 1000
MS = MILLISECOND


def endpoint(**fields: Any) -> Any:
    """An endpoint as far as window.py looks at one: 64,000 bytes of buffer, of which 32,000 may be offered and are."""
    made = SimpleNamespace(
        rcvbuf=64_000,
        options=SimpleNamespace(window_clamp=0, rcvbuf=0, sndbuf=0),
        p=Parameters(),
        receive=SimpleNamespace(size=0),
        user_unread=0,
        user_space=NEVER,
        assembler=None,
        rcv_nxt=100_000,
        rcv_edge=132_000,
        rcv_wscale=0,
        rcv_mss=MSS,
        advertised_mss=MSS,
        last_ack_sent=100_000,
        counters=Counter(),
        ack_now=False,
        ack_pushed=0,
        ack_due_at=NEVER,
        ato=0,
        quick_acks=0,
        pingpong=0,
        last_data_received=0,
        rcv_rtt=0,
        rcv_rtt_at=0,
        rcv_rtt_seq=1 << 40,
        rcv_space=0,
        rcv_space_seq=100_000,
        rcv_space_at=0,
        copied_seq=100_000,
        read_since_ack=True,
        fin_received=False,
        deadline=NEVER,
        rtt=SimpleNamespace(srtt=0, rto=200 * MS),
        armed=[],
        sndbuf=16_384,
        cc=SimpleNamespace(cwnd=10 * MSS),
        mss=MSS,
        woken=0,
    )
    made.arm = made.armed.append
    made.wake = lambda: setattr(made, "woken", made.woken + 1)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def size(value: int) -> Any:
    return SimpleNamespace(size=value, ranges=[(0, 1)])


# -- the window --


@pytest.mark.parametrize(
    ("fields", "offered"),
    [
        ({"rcv_edge": 100_000}, 32_000),  # half of the buffer
        ({"rcv_edge": 100_000, "user_unread": 12_000}, 20_000),  # what the user holds and has not read
        ({"rcv_edge": 100_000, "user_space": 20_000, "user_unread": 8_000}, 12_000),  # what he can hold
        ({"rcv_edge": 100_000, "receive": size(10_000)}, 22_000),
        ({"rcv_edge": 100_000, "receive": size(10_000), "assembler": size(2_000)}, 20_000),
        ({"rcv_edge": 131_500}, 31_500),  # not a segment more: the edge stays (RFC 9293 3.8.6.2.2)
        ({"rcv_edge": 131_000}, 32_000),  # a whole one
        ({"rcv_edge": 120_000, "receive": size(31_500)}, 20_000),  # never back
        ({"rcv_edge": 100_000, "receive": size(31_500)}, 0),  # half a segment is left: none is offered
        ({"rcv_edge": 90_000, "receive": size(31_500)}, 0),  # beyond the edge already
        ({"rcv_edge": 100_000, "rcv_wscale": 7}, 32_000),
        ({"rcv_edge": 100_000, "rcvbuf": 64_100, "rcv_wscale": 7}, 32_000),  # what the scale can express
        ({"rcv_edge": 100_000, "rcvbuf": 1 << 20}, 65_535),  # the field's limit without a scale
        ({"rcv_edge": 100_000, "rcvbuf": 1_000}, 500),  # a buffer below a segment is offered all the same
    ],
)
def test_the_window_selected(fields: dict[str, Any], offered: int) -> None:
    assert window.select(endpoint(**fields)) == offered


def test_a_clamp_bounds_what_is_offered() -> None:
    one = endpoint(rcv_edge=100_000)
    one.options.window_clamp = 5_000
    assert window.select(one) == 5_000 == window.offered_space(one) and window.initial_window(one, MSS) == 5_000


def test_the_field_moves_the_edge_and_counts_closing_and_opening() -> None:
    one = endpoint(rcv_edge=100_000, receive=size(32_000))
    assert window.field(one) == 0 and one.rcv_edge == 100_000
    one.receive.size = 0
    assert window.field(one) == 32_000 and one.rcv_edge == 132_000
    assert one.counters[COUNTER["TcpExtTCPFromZeroWindowAdv"]] == 1
    one.rcv_nxt, one.receive.size = 132_000, 32_000
    assert window.field(one) == 0 and one.counters[COUNTER["TcpExtTCPToZeroWindowAdv"]] == 1
    assert one.rcv_edge == 132_000


def test_an_edge_that_was_offered_is_kept_when_the_scale_cannot_express_it() -> None:
    one = endpoint(rcv_edge=100_000 + 1_000, rcv_wscale=7, receive=size(31_500))
    assert window.field(one) == 8 and one.rcv_edge == 100_000 + 1024  # rounded up, never down


def test_the_scale_is_for_the_largest_buffer_there_may_be() -> None:
    one = endpoint()
    largest = one.p.rmem[2]
    assert window.MAX_WINDOW << window.wanted_scale(one) >= largest // 2
    one.options.window_clamp = 60_000
    assert window.wanted_scale(one) == 0
    one.options.window_clamp = 1 << 40
    one.rcvbuf = 1 << 40
    assert window.wanted_scale(one) == 14


def test_the_initial_window_is_whole_segments_and_not_scaled() -> None:
    assert window.initial_window(endpoint(), 1460) == 32_000 - 32_000 % 1460
    assert window.initial_window(endpoint(rcvbuf=1 << 20), 1460) == 65_535 - 65_535 % 1460
    assert window.initial_window(endpoint(rcvbuf=1_000), 1460) == 500


# -- acknowledgements --


def test_the_delay_follows_the_rate_of_arrival() -> None:
    one = endpoint()
    window.on_data(one, MSS, False, 1_000 * MS)
    assert one.ato == DELAYED_ACK_MIN and one.quick_acks == 16  # the beginning of a connection
    window.on_data(one, MSS, False, 1_005 * MS)
    assert one.ato == DELAYED_ACK_MIN  # within half of the least: towards it
    one.ato = 100 * MS
    window.on_data(one, MSS, False, 1_065 * MS)
    assert one.ato == 110 * MS  # half of what it was and the gap
    one.quick_acks = 0
    window.on_data(one, MSS, False, 1_300 * MS)
    assert one.ato == 110 * MS and one.quick_acks == 16  # longer than a time-out: the peer starts anew


def test_a_larger_segment_teaches_the_peers_size_but_no_more_than_our_offer() -> None:
    one = endpoint(rcv_mss=536, advertised_mss=1_460)
    window.on_data(one, 1_200, False, 0)
    assert one.rcv_mss == 1_200
    window.on_data(one, 40_000, False, 0)
    assert one.rcv_mss == 1_460


def test_small_pushed_segments_are_counted_up_to_two() -> None:
    one = endpoint()
    for pushes in (1, 2, 2):
        window.on_data(one, 10, True, 0)
        assert one.ack_pushed == pushes


@pytest.mark.parametrize(
    ("fields", "at_once"),
    [
        ({}, False),
        ({"quick_acks": 2}, True),
        ({"quick_acks": 2, "pingpong": 1}, False),  # answers carry it
        ({"rcv_nxt": 101_001}, True),  # more than a segment is owed (RFC 5681 4.2)
        ({"rcv_nxt": 101_000}, False),
        ({"assembler": size(5)}, True),  # a hole
    ],
)
def test_an_ack_goes_at_once_or_waits(fields: dict[str, Any], at_once: bool) -> None:
    one = endpoint(**fields)
    window.schedule_ack(one, 0)
    assert one.ack_now is at_once and (one.ack_due_at == NEVER) is at_once


def test_a_delayed_ack_keeps_within_its_bounds_and_the_round_trip() -> None:
    one = endpoint(ato=1)
    window.delay_ack(one, 0)
    assert one.ack_due_at == DELAYED_ACK_MIN and one.armed == [DELAYED_ACK_MIN]
    one = endpoint(ato=10_000 * MS)
    window.delay_ack(one, 0)
    assert one.ack_due_at == DELAYED_ACK_MAX
    one = endpoint(ato=10_000 * MS, rtt=SimpleNamespace(srtt=60 * MS, rto=200 * MS))
    window.delay_ack(one, 0)
    assert one.ack_due_at == 60 * MS
    window.delay_ack(one, 1)
    assert one.ack_due_at == 60 * MS and not one.ack_now  # it is not put off
    one.ato = 100 * MS
    window.delay_ack(one, 50 * MS)
    assert one.ack_now  # about to fire


def test_the_end_of_a_delay_makes_the_next_one_longer_or_shorter() -> None:
    one = endpoint(ato=50 * MS)
    window.on_delayed_ack_timer(one)
    assert one.ato == 100 * MS
    window.on_delayed_ack_timer(one)
    window.on_delayed_ack_timer(one)
    assert one.ato == 200 * MS  # not beyond the time-out
    one.pingpong = 1
    window.on_delayed_ack_timer(one)
    assert (one.ato, one.pingpong) == (DELAYED_ACK_MIN, 0)


def test_an_ack_that_left_settles_what_was_owed() -> None:
    one = endpoint(ack_now=True, ack_due_at=5, ack_pushed=2, quick_acks=1, rcv_nxt=105_000, ato=9)
    window.on_ack_sent(one)
    assert (one.ack_now, one.ack_due_at, one.ack_pushed, one.last_ack_sent) == (False, NEVER, 0, 105_000)
    assert (one.quick_acks, one.ato) == (0, DELAYED_ACK_MIN)  # the last quick one: delays begin


def test_quickack_by_option() -> None:
    one = endpoint(quick_acks=5, ack_due_at=7)
    window.set_quickack(one, 0)
    assert (one.quick_acks, one.pingpong, one.woken) == (0, 1, 0)
    window.set_quickack(one, 1)
    assert one.pingpong == 0 and one.ack_now and one.woken == 1


# -- reading, and the size of buffers --


def test_reading_tells_the_peer_when_the_window_has_doubled() -> None:
    one = endpoint(rcv_edge=100_000 + 4_000, receive=size(28_000))
    window.after_read(one, 0)
    assert not one.ack_now  # nothing was freed yet
    one.receive.size = 0
    window.after_read(one, 0)
    assert one.ack_now and not one.read_since_ack
    ended = endpoint(rcv_edge=100_000, fin_received=True)
    window.after_read(ended, 0)
    assert not ended.ack_now  # nothing more will come


def test_reading_everything_sends_the_ack_that_waits_for_small_pushed_segments() -> None:
    one = endpoint(ack_due_at=50, ack_pushed=1)
    window.after_read(one, 0)
    assert one.ack_now
    talking = endpoint(ack_due_at=50, ack_pushed=1, pingpong=1)
    window.after_read(talking, 0)
    assert not talking.ack_now  # an answer is expected to carry it


def test_the_receive_buffer_grows_with_what_the_user_takes_in_a_round_trip() -> None:
    one = endpoint(rcv_rtt=10 * MS, copied_seq=100_000 + 60_000)
    window.after_read(one, 10 * MS)
    first = one.rcvbuf
    assert first == 2 * (2 * 60_000 + 16 * MSS) and one.rcv_space == 60_000
    one.copied_seq += 50_000
    window.after_read(one, 20 * MS)
    assert one.rcvbuf == first  # less than before
    one.copied_seq += 120_000
    window.after_read(one, 25 * MS)
    assert one.rcvbuf == first  # not a round trip later
    window.after_read(one, 30 * MS)
    assert first < one.rcvbuf <= one.p.rmem[2]
    one.copied_seq += 1 << 30
    window.after_read(one, 40 * MS)
    assert one.rcvbuf == one.p.rmem[2]


def test_a_buffer_that_the_user_has_set_stays() -> None:
    one = endpoint(rcv_rtt=10 * MS, copied_seq=100_000 + 60_000)
    one.options.rcvbuf = 64_000
    window.after_read(one, 10 * MS)
    assert one.rcvbuf == 64_000 and one.rcv_space == 60_000


def test_the_receivers_round_trip_is_the_time_of_a_window() -> None:
    one = endpoint(ato=DELAYED_ACK_MIN, rcv_rtt_seq=0)
    window.on_data(one, MSS, False, 10 * MS)
    assert (one.rcv_rtt, one.rcv_rtt_at, one.rcv_rtt_seq) == (0, 10 * MS, 132_000)
    one.rcv_nxt, one.rcv_edge = 132_000, 164_000
    window.on_data(one, MSS, False, 40 * MS)
    assert one.rcv_rtt == 30 * MS
    one.rcv_nxt = 164_000
    window.on_data(one, MSS, False, 120 * MS)
    assert one.rcv_rtt == 30 * MS + (50 * MS >> 3)  # slower ones count an eighth, faster ones at once


def test_the_send_buffer_follows_the_congestion_window() -> None:
    one = endpoint()
    window.send_buffer_after_ack(one)
    assert one.sndbuf == 4 * 10 * MSS
    one.cc.cwnd = 1 << 30
    window.send_buffer_after_ack(one)
    assert one.sndbuf == one.p.wmem[2]
    one.cc.cwnd = MSS
    window.send_buffer_after_ack(one)
    assert one.sndbuf == one.p.wmem[2]  # it does not shrink
    fixed = endpoint()
    fixed.options.sndbuf = 16_384
    window.send_buffer_after_ack(fixed)
    assert fixed.sndbuf == 16_384
