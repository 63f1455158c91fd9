"""What the path allows is used, and losses are repaired without waiting for the time-out where that can be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp.parameters import MILLISECOND, SECOND, Options, Parameters
from services.netstackd.transport.tcp.segment import Segment
from tests.netstack.netsim.transfer import Outcome, transfer
from tests.netstack.netsim.world import PathRules, World

MEGABIT = 125_000  # bytes per second


def upload(
    size: int,
    forth: PathRules,
    back: PathRules | None = None,
    parameters: Callable[[Parameters], None] = lambda _: None,
    seed: int = 1,
) -> tuple[World, Outcome]:
    p, q = Parameters(), Parameters()
    parameters(p)
    parameters(q)
    world = World(seed, forth, back or PathRules(delay=forth.delay, mss=forth.mss, gso=forth.gso), (p, q))
    outcome = transfer(world, size, 0, chunk=65536)
    assert outcome.finished
    assert bytes(outcome.server.received) == outcome.client.expected(size)
    return world, outcome


def count(world: World, name: str) -> int:
    return world.client.context.counters[COUNTER[name]]


def rate_of(outcome: Outcome, size: int) -> float:
    return size * 1e9 / outcome.duration


class Losing:
    """Loses the n-th data packets, counted from 1, retransmissions among them."""

    def __init__(self, *ordinals: int) -> None:
        self.ordinals = set(ordinals)
        self.seen = 0

    def __call__(self, segment: Segment, _ordinal: int) -> bool:
        if not segment.payload:
            return False
        self.seen += 1
        return self.seen in self.ordinals


@pytest.mark.parametrize("algorithm", ["cubic", "reno"])
def test_a_bottleneck_with_a_queue_is_filled(algorithm: str) -> None:
    def choose(p: Parameters) -> None:
        p.congestion = algorithm

    rate = 20 * MEGABIT
    forth = PathRules(delay=20 * MILLISECOND, rate=rate, queue_bytes=rate // 25)
    size = 10_000_000
    world, outcome = upload(size, forth, parameters=choose)
    assert rate_of(outcome, size) > 0.85 * rate * 1448 / 1520
    assert count(world, "TcpExtTCPTimeouts") == 0


def test_a_long_fat_path_opens_its_window_to_the_buffers_limit() -> None:
    # 200 Mbit/s, 80 ms: two megabytes in flight, far beyond the 64 KB the receiver starts with.
    size = 25_000_000
    rate = 200 * MEGABIT
    forth = PathRules(delay=40 * MILLISECOND, rate=rate, queue_bytes=rate // 12)
    world, outcome = upload(size, forth)
    assert rate_of(outcome, size) > 0.4 * rate
    assert count(world, "TcpExtTCPTimeouts") == 0


def test_one_lost_segment_costs_one_retransmission_and_no_time_out() -> None:
    world, outcome = upload(400_000, PathRules(drop=Losing(50)))
    assert count(world, "TcpRetransSegs") == 1
    assert count(world, "TcpExtTCPTimeouts") == 0
    assert count(world, "TcpExtTCPSackRecovery") == 1


def test_a_burst_of_losses_is_repaired_in_one_recovery() -> None:
    world, outcome = upload(600_000, PathRules(drop=Losing(*range(100, 130, 2))))
    assert count(world, "TcpRetransSegs") == 15
    assert count(world, "TcpExtTCPTimeouts") == 0
    assert count(world, "TcpExtTCPSackRecovery") == 1


def test_a_lost_retransmission_is_noticed_without_a_time_out() -> None:
    lost: list[int] = []

    def drop(segment: Segment, _ordinal: int) -> bool:
        # The segment that was the 60th, and its first retransmission.
        if not segment.payload:
            return False
        lost.append(segment.seq)
        return lost.count(lost[59]) <= 2 and segment.seq == lost[59] if len(lost) >= 60 else False

    world, outcome = upload(600_000, PathRules(drop=drop))
    assert count(world, "TcpRetransSegs") == 2
    assert count(world, "TcpExtTCPTimeouts") == 0


def test_a_lost_tail_is_probed_before_the_time_out() -> None:
    # 10 segments leave at once; the last is lost, and nothing follows that could raise a duplicate ack.
    world, outcome = upload(14480, PathRules(drop=Losing(10)))
    assert count(world, "TcpExtTCPLossProbes") == 1
    assert count(world, "TcpExtTCPTimeouts") == 0
    assert outcome.duration < 200 * MILLISECOND


def test_without_sack_three_duplicates_retransmit() -> None:
    def no_sack(p: Parameters) -> None:
        p.sack = False

    world, outcome = upload(400_000, PathRules(drop=Losing(50)), parameters=no_sack)
    assert count(world, "TcpRetransSegs") == 1
    assert count(world, "TcpExtTCPRenoRecovery") == 1
    assert count(world, "TcpExtTCPTimeouts") == 0


def test_without_sack_several_holes_are_repaired_one_a_round_trip() -> None:
    def no_sack(p: Parameters) -> None:
        p.sack = False

    world, outcome = upload(400_000, PathRules(drop=Losing(50, 53, 57)), parameters=no_sack)
    assert count(world, "TcpRetransSegs") == 3
    assert count(world, "TcpExtTCPTimeouts") == 0


def test_reordering_is_learned_and_not_taken_for_loss() -> None:
    forth = PathRules(delay=20 * MILLISECOND, reorder=0.05, reorder_delay=4 * MILLISECOND)
    world, outcome = upload(3_000_000, forth)
    assert count(world, "TcpRetransSegs") < 30
    assert count(world, "TcpExtTCPTimeouts") == 0
    assert count(world, "TcpExtTCPSACKReorder") > 0


def test_a_pause_of_the_path_is_recognised_as_no_loss() -> None:
    """F-RTO (RFC 5682): all packets of half a second are late, none is lost; the window comes back."""
    forth = PathRules(delay=20 * MILLISECOND, rate=10 * MEGABIT, queue_bytes=1 << 20)
    world = World(1, forth, PathRules(delay=20 * MILLISECOND))

    def stall(_: object) -> None:
        world.forth.free_at = world.now + 700 * MILLISECOND

    world.at(world.now + 300 * MILLISECOND, stall, None)
    outcome = transfer(world, 2_000_000, 0, chunk=65536)
    assert outcome.finished
    assert count(world, "TcpExtTCPTimeouts") >= 1
    assert count(world, "TcpExtTCPSpuriousRTOs") + count(world, "TcpExtTCPLossUndo") >= 1
    assert count(world, "TcpRetransSegs") < 10


def test_one_percent_loss_keeps_a_fair_rate_without_time_outs() -> None:
    world, outcome = upload(5_000_000, PathRules(delay=10 * MILLISECOND, loss=0.01), seed=3)
    assert count(world, "TcpExtTCPTimeouts") <= 1
    assert rate_of(outcome, 5_000_000) > 5 * MEGABIT


def test_ecn_marks_instead_of_drops() -> None:
    def ecn(p: Parameters) -> None:
        p.ecn = 1

    rate = 20 * MEGABIT
    forth = PathRules(delay=20 * MILLISECOND, rate=rate, queue_bytes=rate // 10, mark_above=rate // 40)
    world, outcome = upload(6_000_000, forth, parameters=ecn)
    assert world.forth.count.marked > 0
    assert count(world, "TcpRetransSegs") == 0
    assert rate_of(outcome, 6_000_000) > 0.8 * rate


def test_a_pacing_rate_below_the_bottleneck_never_fills_a_shallow_queue() -> None:
    rate = 20 * MEGABIT
    overflowed = []
    for limit in (rate * 9 // 10, 0):
        forth = PathRules(delay=20 * MILLISECOND, rate=rate, queue_bytes=16_000)
        world = World(1, forth, PathRules(delay=20 * MILLISECOND))
        client_options = Options(Parameters())
        client_options.max_pacing_rate = limit
        outcome = transfer(world, 3_000_000, 0, chunk=65536, options=client_options)
        assert outcome.finished
        overflowed.append(world.forth.count.overflowed)
        if limit:
            assert rate_of(outcome, 3_000_000) > 0.7 * limit
    assert overflowed[0] == 0
    assert overflowed[1] > 0


def test_a_path_mtu_black_hole_is_found() -> None:
    forth = PathRules(delay=5 * MILLISECOND, blackhole_above=1200)
    world, outcome = upload(100_000, forth)
    assert count(world, "TcpExtTCPMTUPFail") >= 1
    assert outcome.duration < 20 * SECOND


def test_large_segments_pass_whole() -> None:
    forth = PathRules(delay=1 * MILLISECOND, gso=64000)
    world, outcome = upload(20_000_000, forth)
    assert world.forth.count.packets < 20_000_000 // 1448 / 10
