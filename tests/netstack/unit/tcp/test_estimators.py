"""rtt, prr, rack, the congestion controllers: arithmetic with explicit times, no connection."""

from __future__ import annotations

import random

import pytest

from services.netstackd.transport.tcp.congestion import registry
from services.netstackd.transport.tcp.congestion.base import Controller
from services.netstackd.transport.tcp.congestion.cubic import BETA, RENO_ALPHA, C, Cubic
from services.netstackd.transport.tcp.congestion.hystart import CSS_ROUNDS, RTT_SAMPLES, HyStart
from services.netstackd.transport.tcp.congestion.reno import Reno
from services.netstackd.transport.tcp.parameters import MILLISECOND, SECOND
from services.netstackd.transport.tcp.prr import ProportionalReduction
from services.netstackd.transport.tcp.rack import Rack
from services.netstackd.transport.tcp.rtt import RttEstimator
from services.netstackd.transport.tcp.scoreboard import EVER_RETRANSMITTED, Sent

MS = MILLISECOND
MSS = 1000


def estimator() -> RttEstimator:
    return RttEstimator(200 * MS, 120 * SECOND)


# -------------------------------------------------------------------- RFC 6298


def test_rtt_before_any_sample_the_time_out_is_a_second() -> None:
    assert estimator().rto == SECOND


def test_rtt_first_sample() -> None:
    rtt = estimator()
    rtt.sample(400 * MS, 10, 20, 0)
    assert (rtt.srtt, rtt.rttvar) == (400 * MS, 200 * MS)
    assert rtt.rto == 1200 * MS
    assert rtt.min_rtt == 400 * MS


def test_rtt_moves_by_an_eighth_and_a_quarter() -> None:
    rtt = estimator()
    rtt.sample(400 * MS, 10, 20, 0)
    rtt.sample(800 * MS, 15, 20, 0)
    assert rtt.srtt == 450 * MS
    assert rtt.rttvar == (200 + (400 - 200) // 4) * MS


def test_rtt_a_faster_path_does_not_raise_the_time_out() -> None:
    rtt = estimator()
    for index in range(50):
        rtt.sample(400 * MS, index * 10, index * 10 + 10, 0)
    before = rtt.rto
    rtt.sample(100 * MS, 600, 610, 0)
    assert rtt.rto <= before


def test_rtt_variance_never_falls_below_the_floor() -> None:
    rtt = estimator()
    for index in range(200):
        rtt.sample(10 * MS, index * 10, index * 10 + 10, 0)
    assert rtt.rto == 210 * MS


def test_rtt_back_off_doubles_up_to_the_maximum() -> None:
    rtt = estimator()
    assert [rtt.backed_off(count) for count in (0, 1, 2)] == [SECOND, 2 * SECOND, 4 * SECOND]
    assert rtt.backed_off(10) == rtt.backed_off(1000) == 120 * SECOND


def test_rtt_minimum_is_forgotten_after_five_minutes() -> None:
    rtt = estimator()
    rtt.sample(10 * MS, 1, 2, 0)
    rtt.sample(50 * MS, 2, 3, 299 * SECOND)
    assert rtt.min_rtt == 10 * MS
    rtt.sample(50 * MS, 3, 4, 301 * SECOND)
    assert rtt.min_rtt == 50 * MS


def test_rtt_loss_of_a_syn_without_a_sample() -> None:
    rtt = estimator()
    rtt.set_after_syn_loss(3 * SECOND)
    assert rtt.rto == 3 * SECOND
    rtt.sample(10 * MS, 1, 2, 0)
    rtt.set_after_syn_loss(3 * SECOND)
    assert rtt.rto < SECOND


# -------------------------------------------------------------------- RFC 9937


def test_prr_sends_in_proportion_above_ssthresh() -> None:
    """RFC 6937 section 4's example: half of the window, one segment for every other delivered."""
    prr = ProportionalReduction()
    prr.begin(20 * MSS)
    flight = 19 * MSS
    sent = 0
    for _ in range(8):
        flight -= MSS
        cwnd = prr.window(MSS, flight, 10 * MSS, MSS, False)
        while flight + MSS <= cwnd:
            flight += MSS
            prr.out += MSS
            sent += 1
    assert sent == 4


def test_prr_first_retransmission_is_always_allowed() -> None:
    prr = ProportionalReduction()
    prr.begin(20 * MSS)
    assert prr.window(0, 20 * MSS, 10 * MSS, MSS, False) == 21 * MSS


def test_prr_conserves_packets_below_ssthresh() -> None:
    prr = ProportionalReduction()
    prr.begin(20 * MSS)
    prr.out = MSS
    prr.delivered = MSS
    assert prr.window(3 * MSS, 4 * MSS, 10 * MSS, MSS, False) == 7 * MSS


def test_prr_grows_by_one_more_on_a_safe_ack() -> None:
    prr = ProportionalReduction()
    prr.begin(20 * MSS)
    prr.out = MSS
    prr.delivered = MSS
    assert prr.window(3 * MSS, 4 * MSS, 10 * MSS, MSS, True) == 8 * MSS


def test_prr_never_exceeds_ssthresh_from_below() -> None:
    prr = ProportionalReduction()
    prr.begin(20 * MSS)
    prr.out = MSS
    assert prr.window(9 * MSS, 8 * MSS, 10 * MSS, MSS, True) == 10 * MSS


# -------------------------------------------------------------------- RFC 8985


def record(order: int, sent_at: int, flags: int = 0) -> Sent:
    return Sent(0, MSS, sent_at, order, flags)


def test_rack_remembers_the_latest_sent_of_what_arrived() -> None:
    rack = Rack(3)
    rack.on_delivered(record(5, 100 * MS), 10 * MS, -1, 150 * MS)
    rack.on_delivered(record(3, 90 * MS), 10 * MS, -1, 151 * MS)
    assert (rack.order, rack.rtt) == (5, 50 * MS)


def test_rack_ignores_a_retransmission_answered_too_fast() -> None:
    rack = Rack(3)
    rack.on_delivered(record(5, 100 * MS, EVER_RETRANSMITTED), 40 * MS, -1, 110 * MS)
    assert rack.order == -1


def test_rack_ignores_an_ack_whose_echo_is_of_the_original() -> None:
    rack = Rack(3)
    rack.on_delivered(record(5, 100 * MS, EVER_RETRANSMITTED), 10 * MS, 200 * MS, 150 * MS)
    assert rack.order == -1
    rack.on_delivered(record(5, 100 * MS, EVER_RETRANSMITTED), 10 * MS, 50 * MS, 150 * MS)
    assert rack.order == 5


def test_rack_window_widens_once_a_round_trip_and_shrinks_after_sixteen_recoveries() -> None:
    rack = Rack(3)
    rack.on_dsack(100, 200)
    rack.on_dsack(150, 250)
    assert rack.reo_wnd_mult == 2
    rack.on_dsack(200, 300)
    assert rack.reo_wnd_mult == 3
    for _ in range(15):
        rack.on_recovery_end()
    assert rack.reo_wnd_mult == 3
    rack.on_recovery_end()
    assert rack.reo_wnd_mult == 1


# -------------------------------------------------------------------- congestion control


def avoid(cc: Controller, seconds: float, rtt: int, now: int) -> int:
    """Acknowledge full windows for so long; the clock after it."""
    end = now + round(seconds * SECOND)
    sequence = 0
    while now < end:
        now += rtt
        window = cc.cwnd
        for _ in range(window // cc.mss):
            sequence += cc.mss
            cc.on_ack(cc.mss, rtt, now, sequence, sequence + window)
    return now


@pytest.mark.parametrize("name", sorted(registry.ALGORITHMS))
def test_every_controller_keeps_the_contract(name: str) -> None:
    cc = registry.make(name, MSS, 10)
    assert cc.name == name and cc.cwnd == 10 * MSS and cc.in_slow_start()
    cc.on_ack(2 * MSS, 10 * MS, SECOND, 2 * MSS, 12 * MSS)
    assert cc.cwnd == 12 * MSS
    before = cc.cwnd
    cc.on_congestion(SECOND)
    assert cc.cwnd == before and 2 * MSS <= cc.ssthresh < before
    cc.cwnd = cc.ssthresh
    cc.undo(SECOND)
    assert cc.cwnd == before and cc.ssthresh > before
    cc.cwnd = MSS
    cc.on_congestion(SECOND)
    assert cc.ssthresh == 2 * MSS
    cc.on_timeout(SECOND)
    rng = random.Random(1)
    for _ in range(500):
        cc.on_ack(rng.randrange(1, 3 * MSS), rng.randrange(0, 50) * MS, SECOND, 0, 0)
        assert cc.cwnd >= MSS


@pytest.mark.parametrize("name", sorted(registry.ALGORITHMS))
def test_a_new_segment_size_keeps_the_number_of_segments(name: str) -> None:
    cc = registry.make(name, MSS, 10)
    cc.on_congestion(0)
    threshold = cc.ssthresh // MSS
    cc.set_mss(500)
    assert (cc.cwnd, cc.ssthresh // 500) == (5000, threshold)


def test_reno_adds_a_segment_each_round_trip() -> None:
    cc = Reno(MSS, 10)
    cc.ssthresh = 10 * MSS
    avoid(cc, 1.0, 100 * MS, 0)
    assert cc.cwnd == 20 * MSS


def test_reno_slow_start_ends_at_ssthresh() -> None:
    cc = Reno(MSS, 10)
    cc.ssthresh = 12 * MSS
    cc.on_ack(5 * MSS, 0, 0, 0, 0)
    assert cc.cwnd == 12 * MSS


def test_cubic_returns_to_the_last_maximum_after_k() -> None:
    """RFC 9438 equations 1 and 2: K = cbrt(W_max (1 - beta) / C)."""
    cc = Cubic(MSS, 10)
    cc.cwnd = 200 * MSS
    cc.on_congestion(0)
    cc.cwnd = cc.ssthresh
    assert cc.cwnd == round(200 * MSS * BETA)
    k = (200 * (1 - BETA) / C) ** (1 / 3)
    now = avoid(cc, k, 100 * MS, SECOND)
    assert cc.cwnd / MSS == pytest.approx(200, rel=0.03)
    avoid(cc, k, 100 * MS, now)
    assert cc.cwnd / MSS == pytest.approx(200 + C * k**3, rel=0.15)


def test_cubic_is_flat_around_the_maximum() -> None:
    cc = Cubic(MSS, 10)
    cc.cwnd = 1000 * MSS
    cc.on_congestion(0)
    cc.cwnd = cc.ssthresh
    k = (1000 * (1 - BETA) / C) ** (1 / 3)
    now = avoid(cc, k - 1, 50 * MS, SECOND)
    near = cc.cwnd
    avoid(cc, 1.0, 50 * MS, now)
    assert (cc.cwnd - near) / MSS < 5


def test_cubic_grows_no_slower_than_reno() -> None:
    """RFC 9438 4.3: with a small window the Reno-friendly estimate leads."""
    cc = Cubic(MSS, 10)
    cc.cwnd = 10 * MSS
    cc.on_congestion(0)
    cc.cwnd = cc.ssthresh
    avoid(cc, 0.5, 10 * MS, SECOND)
    assert cc.cwnd / MSS >= 7 + RENO_ALPHA * 50 * 0.5


def test_cubic_fast_convergence() -> None:
    """RFC 9438 4.7: below the last maximum the next one is set lower still."""
    cc = Cubic(MSS, 10)
    cc.cwnd = 100 * MSS
    cc.on_congestion(0)
    cc.cwnd = 80 * MSS
    cc.on_congestion(0)
    assert cc._w_max == pytest.approx(80 * (1 + BETA) / 2)


def test_cubic_time_without_sending_is_no_time_of_growth() -> None:
    one, other = Cubic(MSS, 10), Cubic(MSS, 10)
    for cc in (one, other):
        cc.cwnd = 100 * MSS
        cc.on_congestion(0)
        cc.cwnd = cc.ssthresh
        avoid(cc, 0.5, 100 * MS, SECOND)
    one.on_send_after_idle(30 * SECOND)
    avoid(one, 0.5, 100 * MS, 32 * SECOND)
    avoid(other, 0.5, 100 * MS, 2 * SECOND)
    assert one.cwnd == pytest.approx(other.cwnd, rel=0.05)


def test_idle_halves_the_window_for_each_time_out() -> None:
    cc = Reno(MSS, 10)
    cc.cwnd = 80 * MSS
    cc.on_idle(2 * SECOND + 1, SECOND, 10 * MSS)
    assert cc.cwnd == 20 * MSS
    cc.on_idle(100 * SECOND, SECOND, 10 * MSS)
    assert cc.cwnd == 10 * MSS


def rounds(hystart: HyStart, start: int, delays: list[int]) -> int:
    """One round of samples for each delay; the sequence number after it."""
    sequence = start
    for delay in delays:
        end = sequence + 100
        for step in range(10):
            hystart.growth(MSS, delay, sequence + 1 + step * 10, end)
        sequence = end
    return sequence


def test_hystart_slows_when_the_round_trip_grows_and_leaves_after_five_rounds() -> None:
    """RFC 9406 4.2."""
    hystart = HyStart()
    sequence = rounds(hystart, 0, [40 * MS, 40 * MS])
    assert not hystart.in_css
    sequence = rounds(hystart, sequence, [46 * MS])
    assert hystart.in_css and not hystart.exited
    assert hystart.growth(4000, 46 * MS, sequence + 1, sequence + 100) == 1000
    rounds(hystart, sequence + 100, [46 * MS] * CSS_ROUNDS)
    assert hystart.exited


def test_hystart_goes_on_when_the_rise_was_a_passing_one() -> None:
    hystart = HyStart()
    sequence = rounds(hystart, 0, [40 * MS, 40 * MS, 46 * MS])
    assert hystart.in_css
    rounds(hystart, sequence, [40 * MS])
    assert not hystart.in_css and not hystart.exited


def test_hystart_needs_eight_samples() -> None:
    hystart = HyStart()
    sequence = rounds(hystart, 0, [40 * MS, 40 * MS])
    for step in range(RTT_SAMPLES - 1):
        hystart.growth(MSS, 90 * MS, sequence + 1 + step, sequence + 100)
    assert not hystart.in_css
    hystart.growth(MSS, 90 * MS, sequence + 50, sequence + 100)
    assert hystart.in_css


def test_cubic_leaves_slow_start_where_hystart_says() -> None:
    cc = Cubic(MSS, 10)
    sequence = 0
    for delay in [40 * MS] * 2 + [50 * MS] * 8:
        end = sequence + 100
        for step in range(10):
            cc.on_ack(MSS, delay, SECOND, sequence + 1 + step * 10, end)
        sequence = end
    assert not cc.in_slow_start()
