"""Large segments in a row leave by one call of the route (output.send_run)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.netstackd.transport.tcp import output
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.segment import FIN, PSH, Payload, Segment, separate
from tests.netstack.bench_tcp import Void, established


class Recorder(Void):
    """runs: (segments, whether the last is pushed) of each call; flags and sizes: of all segments."""

    def __init__(self, gso_max: int) -> None:
        super().__init__(gso_max)
        self.run_max = 4
        self.runs: list[tuple[int, bool]] = []
        self.segments: list[Segment] = []

    def send(self, endpoint: object, segment: Segment) -> None:
        self.segments.append(segment)

    def send_run(self, endpoint: object, segment: Segment, payloads: Sequence[Payload], pushed: bool) -> None:
        self.runs.append((len(payloads), pushed))
        self.segments += separate(segment, payloads, pushed)


def sender() -> tuple[Endpoint, Recorder, int, int]:
    """With large windows. (endpoint, its route, the size of a large segment, now)"""
    endpoint, _, _, now = established(65_000)
    route = Recorder(65_000)
    endpoint.route = route
    endpoint.cc.cwnd = endpoint.snd_wnd = 1 << 24
    return endpoint, route, output.large_limit(endpoint, endpoint.mss), now


@pytest.mark.parametrize(
    ("units", "more", "runs"),
    [(1, 0, []), (2, 0, [(2, True)]), (3, 100, [(3, False)]), (6, 0, [(4, False), (2, True)]), (5, 0, [(4, False)])],
)
def test_the_last_is_pushed_when_no_more_is_queued(units: int, more: int, runs: list[tuple[int, bool]]) -> None:
    endpoint, route, size, now = sender()
    total = units * size + more
    endpoint.send.share(memoryview(bytes(total)), total)
    first = endpoint.snd_nxt
    output.push(endpoint, now)
    assert route.runs == runs
    assert [len(each.payload) for each in route.segments] == [size] * units + ([more] if more else [])
    assert [bool(each.flags & PSH) for each in route.segments] == [False] * (len(route.segments) - 1) + [True]
    assert endpoint.snd_nxt == first + total == endpoint.sent[-1].end
    assert [each.end - each.seq for each in endpoint.sent] == [len(each.payload) for each in route.segments]


def test_a_fin_goes_with_the_last_which_is_in_no_run() -> None:
    endpoint, route, size, now = sender()
    endpoint.send.share(memoryview(bytes(3 * size)), 3 * size)
    endpoint.shutdown_write(now)
    output.push(endpoint, now)
    assert route.runs == [(2, False)]
    assert [each.flags & (PSH | FIN) for each in route.segments] == [0, 0, PSH | FIN]


def test_windows_end_a_run() -> None:
    endpoint, route, size, now = sender()
    endpoint.snd_wnd = 2 * size + size // 2
    endpoint.send.share(memoryview(bytes(4 * size)), 4 * size)
    output.push(endpoint, now)
    assert route.runs == [(2, False)]
    assert endpoint.snd_nxt <= endpoint.snd_una + endpoint.snd_wnd
