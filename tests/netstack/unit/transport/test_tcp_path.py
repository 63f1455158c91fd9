"""TcpPath: what a connection knows of its way, and that it asks again when routes, links or path MTUs change."""

from __future__ import annotations

import pytest

from services.netstackd.network.routes import NextHop, Route
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
