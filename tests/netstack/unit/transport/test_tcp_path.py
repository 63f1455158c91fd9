"""TcpPath: what a connection knows of its way, and that it asks again when routes, links or path MTUs change."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.netstackd.network.routes import NextHop, Route
from services.netstackd.storage.packet import Packet, PacketRun, spread
from services.netstackd.transport.base import SOCK_DGRAM
from services.netstackd.transport.packet_tap import ETH_P_ALL, PacketSocket
from services.netstackd.transport.tcp.segment import ACK, ECT_0, PSH, Segment
from services.netstackd.transport.tcp_path import TcpPath
from tests.netstack.unit.hosts import Pair, ip

OURS = {4: ip("10.0.0.1"), 6: ip("fd00::1")}
PEER = {4: ip("10.0.0.2"), 6: ip("fd00::2")}
FAR = {4: ip("192.0.2.1"), 6: ip("2001:db8::1")}
HEADERS = {4: 40, 6: 60}
VERSIONS = (4, 6)


def ready(version: int, remote: int | None = None) -> tuple[Pair, TcpPath]:
    pair = Pair()
    pair.run(2)
    target = PEER[version] if remote is None else remote
    return pair, TcpPath(pair.a.stack, version, OURS[version], 4000, target, 80)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_segment_size_follows_the_links_mtu(version: int) -> None:
    pair, path = ready(version)
    assert path.mss_for_path() == path.advertised_mss() == 1500 - HEADERS[version]
    pair.a.stack.set_mtu(pair.ia, 1400)
    assert path.mss_for_path() == path.advertised_mss() == 1400 - HEADERS[version]
    pair.a.stack.set_mtu(pair.ia, 9000)
    assert path.mss_for_path() == path.advertised_mss() == 9000 - HEADERS[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_smaller_path_mtu_is_seen_until_it_expires_and_our_offer_stays(version: int) -> None:
    pair, path = ready(version)
    stack = pair.a.stack
    stack.routing(version).path_mtu.learn(PEER[version], 1300, stack.now, 1500)
    stack.schedule_expiry()
    assert path.mss_for_path() == 1300 - HEADERS[version]
    assert path.advertised_mss() == 1500 - HEADERS[version]  # what the peer may send is another matter (RFC 6691)
    pair.run(11 * 60)  # net.ipv4.route.mtu_expires
    assert path.mss_for_path() == 1500 - HEADERS[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_another_route_with_an_mtu_of_its_own_is_taken_up_and_left(version: int) -> None:
    pair, path = ready(version)
    stack = pair.a.stack
    length = 32 if version == 4 else 128
    route = Route(version, PEER[version], length, (NextHop(pair.ia),), mtu=1350)
    stack.add_route(route)
    assert path.mss_for_path() == 1350 - HEADERS[version]
    stack.remove_route(route)
    assert path.mss_for_path() == 1500 - HEADERS[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_route_the_least_mtu_is_assumed_until_there_is_one(version: int) -> None:
    pair, path = ready(version, FAR[version])
    assert path.way.error
    assert path.mss_for_path() == (576 if version == 4 else 1280) - HEADERS[version]
    assert path.advertised_mss() == path.mss_for_path()
    pair.a.stack.add_route(Route(version, 0, 0, (NextHop(pair.ia, PEER[version]),)))
    assert path.mss_for_path() == 1500 - HEADERS[version] and not path.way.error
    assert path.way.next_hop == PEER[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_way_is_kept_as_long_as_nothing_changes(version: int) -> None:
    pair, path = ready(version)
    before = path.way
    path.mss_for_path()
    path.advertised_mss()
    assert path.way is before
    pair.a.stack.routes_changed(10 - version)  # the other version's
    path.mss_for_path()
    assert path.way is before
    pair.a.stack.routes_changed(version)
    path.mss_for_path()
    assert path.way is not before


# --- segments in a row ---


def resolved(version: int) -> tuple[Pair, TcpPath]:
    """As `ready`, and the peer's link address is known."""
    pair, path = ready(version)
    path.send(None, Segment(1, 1, ACK, 1))
    pair.run(1)
    return pair, path


def sent(pair: Pair, action: Callable[[], None]) -> list[Packet]:
    """What it puts before the link."""
    pair.ia.tx.clear()
    action()
    return list(pair.ia.tx)


def whole(packets: list[Packet]) -> list[bytes]:
    return [each.frame_bytes() for each in spread(packets)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_is_one_packet_that_stands_for_what_each_alone_would_be(version: int) -> None:
    pair, path = resolved(version)
    counters = pair.a.stack.counters.values
    payloads = [bytes((number,)) * 2800 for number in range(5)]
    first = Segment(0xFFFFFFFF - 3000, 5, ACK, 700, payloads[0], 77, 78, ecn=ECT_0, gso_size=1400)

    def one_by_one() -> None:
        for number, payload in enumerate(payloads):
            seq = (first.seq + 2800 * number) & 0xFFFFFFFF
            flags = ACK | PSH if number == 4 else ACK
            path.send(None, Segment(seq, 5, flags, 700, payload, 77, 78, ecn=ECT_0, gso_size=1400))

    before = list(counters)
    expected = whole(sent(pair, one_by_one))
    middle = list(counters)
    run = sent(pair, lambda: path.send_run(None, first, payloads, True))
    assert len(run) == 1 and type(run[0]) is PacketRun and len(expected) == 5
    assert whole(run) == expected
    assert [b - a for a, b in zip(before, middle, strict=True)] == [
        b - a for a, b in zip(middle, counters, strict=True)
    ], "they count as ever"
    for made in spread(sent(pair, lambda: path.send_run(None, first, payloads, True))):
        assert type(made) is Packet and made.gso_size == 1400


@pytest.mark.parametrize("who", ["output", "postrouting", "tap", "identification"])
def test_who_looks_at_packets_sees_each_of_a_run(who: str) -> None:
    pair, path = resolved(4)
    stack = pair.a.stack
    seen: list[Packet] = []

    tap = PacketSocket(stack, SOCK_DGRAM, ETH_P_ALL) if who == "tap" else None
    if tap is not None:
        tap.bind(ETH_P_ALL, None)
    elif who == "identification":
        path.pmtu_discover = False
    else:
        setattr(stack.hooks, who, lambda packet: (seen.append(packet), True)[1])
    payloads = [bytes((number,)) * 1000 for number in range(3)]
    run = sent(pair, lambda: path.send_run(None, Segment(9, 5, ACK, 700, payloads[0]), payloads, False))
    assert [type(each) for each in run] == [Packet] * 3 and [each.body for each in run] == payloads
    if who == "identification":
        assert len({bytes(each.head[each.l3 + 4 : each.l3 + 6]) for each in run}) == 3
    else:
        assert len(seen if tap is None else tap.queue) == 3


def test_only_links_that_take_runs_are_offered_them() -> None:
    pair, path = resolved(4)
    assert path.run_max == 0
    pair.ia.takes_runs = True
    path.refresh()
    assert path.run_max == 0, "without large segments a run would be of small ones"
    pair.ia.gso_max = 65536
    path.refresh()
    assert path.run_max > 1
    pair.ia.takes_runs = False
    path.refresh()
    assert path.run_max == 0
