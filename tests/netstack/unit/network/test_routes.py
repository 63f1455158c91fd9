"""Tables, rules, metrics, equal-cost paths, and what routing decides about received and local packets."""

from __future__ import annotations

import errno
import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.netstackd.errors import NetError
from services.netstackd.network import routes as kinds
from services.netstackd.network.interface import Interface
from services.netstackd.network.routes import Destination, Key, NextHop, Route, Routes, Rule
from tests.netstack.unit.hosts import Host, World, ip


def up(name: str, index: int) -> Interface:
    iface = Interface(name)
    iface.index = index
    iface.up = True
    return iface


ETH0, ETH1 = up("eth0", 1), up("eth1", 2)


def table() -> Routes:
    return Routes(4, lambda: None)


def route(prefix: str, *hops: NextHop, **options: int) -> Route:
    network = ipaddress.ip_network(prefix)
    return Route(network.version, int(network.network_address), network.prefixlen, hops, **options)  # type: ignore[arg-type]


def way(routes: Routes, dst: str, **key: object) -> Destination:
    return routes.lookup(Key(ip(dst), **key))  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 32), st.integers(0, (1 << 32) - 1)), max_size=30),
    st.integers(0, (1 << 32) - 1),
)
def test_lookup_finds_the_longest_prefix_that_covers(prefixes: list[tuple[int, int]], dst: int) -> None:
    routes = table()
    networks = set()
    for length, value in prefixes:
        network = ipaddress.ip_network((value, length), strict=False)
        if network not in networks:
            networks.add(network)
            routes.add(route(str(network), NextHop(ETH0)))
    covering = [n.prefixlen for n in networks if ipaddress.ip_address(dst) in n]
    found = routes.lookup(Key(dst)).route
    assert (found.prefix_length if found else None) == max(covering, default=None)


def test_metric_decides_under_one_prefix_and_removal_uncovers_the_next() -> None:
    routes = table()
    better, worse = route("10.0.0.0/8", NextHop(ETH0), metric=5), route("10.0.0.0/8", NextHop(ETH1), metric=10)
    routes.add(worse)
    routes.add(better)
    assert way(routes, "10.1.1.1").out is ETH0
    routes.remove(better)
    assert way(routes, "10.1.1.1").out is ETH1
    with pytest.raises(NetError) as missing:
        routes.remove(better)
    assert missing.value.errno == errno.ESRCH


def test_same_prefix_and_metric_is_refused_unless_replaced() -> None:
    routes = table()
    routes.add(route("10.0.0.0/8", NextHop(ETH0)))
    with pytest.raises(NetError) as twice:
        routes.add(route("10.0.0.0/8", NextHop(ETH1)))
    assert twice.value.errno == errno.EEXIST
    routes.add(route("10.0.0.0/8", NextHop(ETH1)), replace=True)
    assert way(routes, "10.1.1.1").out is ETH1
    with pytest.raises(NetError) as nowhere:
        routes.add(route("10.0.0.0/8"))
    assert nowhere.value.errno == errno.EINVAL


def test_way_whose_interface_is_down_is_passed_over() -> None:
    routes = table()
    dead = up("dead", 3)
    routes.add(route("10.0.0.0/24", NextHop(dead)))
    routes.add(route("10.0.0.0/8", NextHop(ETH0)))
    assert way(routes, "10.0.0.1").out is dead
    dead.carrier = False
    assert way(routes, "10.0.0.1").out is ETH0


def test_interface_given_restricts_the_ways() -> None:
    routes = table()
    routes.add(route("0.0.0.0/0", NextHop(ETH0, ip("10.0.0.1"))))
    routes.add(route("0.0.0.0/0", NextHop(ETH1, ip("10.1.0.1")), metric=100))
    assert way(routes, "9.9.9.9", oif=ETH1).next_hop == ip("10.1.0.1")


@pytest.mark.parametrize(
    ("kind", "number", "reason"),
    [
        (kinds.BLACKHOLE, errno.EINVAL, "DropRouteBlackhole"),
        (kinds.UNREACHABLE, errno.EHOSTUNREACH, "DropRouteUnreachable"),
        (kinds.PROHIBIT, errno.EACCES, "DropRouteProhibit"),
    ],
)
def test_route_that_leads_nowhere_says_so(kind: int, number: int, reason: str) -> None:
    from services.netstackd.counters import NAMES

    routes = table()
    routes.add(route("10.0.0.0/8", kind=kind))
    found = way(routes, "10.0.0.1")
    assert (found.kind, found.error, NAMES[found.reason]) == (kind, number, reason)
    assert way(routes, "11.0.0.1").error == errno.ENETUNREACH


def test_throw_goes_on_with_the_next_rule() -> None:
    routes = table()
    routes.add(route("10.0.0.0/8", kind=kinds.THROW, table=100))
    routes.add(route("0.0.0.0/0", NextHop(ETH0), table=100))
    routes.add(route("10.0.0.0/8", NextHop(ETH1)))
    routes.add_rule(Rule(100, 100))
    assert way(routes, "10.0.0.1").out is ETH1
    assert way(routes, "11.0.0.1").out is ETH0


@pytest.mark.parametrize(
    ("rule", "hit", "miss"),
    [
        ({"src": ip("10.5.0.0"), "src_length": 16}, {"src": ip("10.5.1.1")}, {"src": ip("10.6.1.1")}),
        ({"mark": 7}, {"mark": 7}, {"mark": 8}),
        ({"mark": 0x10, "mark_mask": 0xF0}, {"mark": 0x1F}, {"mark": 0x2F}),
        ({"iif": "eth0"}, {"iif": ETH0}, {"iif": ETH1}),
        ({"oif": "eth1"}, {"oif": ETH1}, {}),
        ({"tos": 0x10}, {"tos": 0x10}, {"tos": 0}),
        ({"iif": "eth0", "invert": True}, {"iif": ETH1}, {"iif": ETH0}),
        ({"dst": ip("9.9.9.0"), "dst_length": 24}, {}, None),
    ],
)
def test_rule_chooses_the_table(
    rule: dict[str, object], hit: dict[str, object], miss: dict[str, object] | None
) -> None:
    routes = table()
    routes.add(route("0.0.0.0/0", NextHop(ETH1), table=100))
    routes.add(route("0.0.0.0/0", NextHop(ETH0), metric=1))
    routes.add(route("0.0.0.0/0", NextHop(ETH1), metric=2))
    chosen = Rule(100, 100, **rule)  # type: ignore[arg-type]
    assert routes.by_addresses
    routes.add_rule(chosen)
    assert routes.by_addresses is not bool(rule.keys() & {"mark", "mark_mask", "tos"})
    found = way(routes, "9.9.9.9", **hit)
    assert found.route is not None and found.route.table == 100
    if miss is not None:
        found = way(routes, "9.9.9.9", **miss)
        assert found.route is not None and found.route.table == kinds.TABLE_MAIN
    routes.remove_rule(chosen)
    assert routes.by_addresses
    with pytest.raises(NetError):
        routes.remove_rule(chosen)


def test_rule_that_forbids_needs_no_table() -> None:
    routes = table()
    routes.add(route("0.0.0.0/0", NextHop(ETH0)))
    routes.add_rule(Rule(10, None, kind=kinds.PROHIBIT, src=ip("10.0.0.0"), src_length=8))
    assert way(routes, "9.9.9.9", src=ip("10.1.1.1")).error == errno.EACCES
    assert way(routes, "9.9.9.9", src=ip("11.1.1.1")).out is ETH0


def test_equal_cost_ways_share_flows_by_weight_and_keep_each_flow() -> None:
    routes = table()
    routes.add(route("0.0.0.0/0", NextHop(ETH0, ip("10.0.0.1"), 3), NextHop(ETH1, ip("10.1.0.1"), 1)))
    multi = way(routes, "9.9.9.9")
    assert multi.kind == kinds.MULTIPATH
    chosen = [multi.choose(hash((5, flow))) for flow in range(4000)]
    share = sum(path.out is ETH0 for path in chosen) / len(chosen)
    assert 0.7 < share < 0.8
    assert multi.choose(17) is multi.choose(17)
    ETH1.carrier = False
    try:
        assert way(routes, "9.9.9.9").out is ETH0
    finally:
        ETH1.carrier = True


def test_expired_route_goes() -> None:
    routes = table()
    routes.add(route("10.0.0.0/8", NextHop(ETH0), expires=100))
    routes.add(route("11.0.0.0/8", NextHop(ETH0), expires=200))
    assert routes.expire(99) == 100
    assert routes.expire(100) == 200
    assert way(routes, "10.0.0.1").error and not way(routes, "11.0.0.1").error
    assert routes.expire(200) is None


def host() -> tuple[Host, Interface, Interface]:
    world = World()
    made = world.host("a")
    return made, made.up(made.interface("eth0"), "10.0.0.1/24"), made.up(made.interface("eth1"), "10.1.0.1/24")


def test_gateway_must_be_on_the_link_of_its_way() -> None:
    a, eth0, eth1 = host()
    for hop in (NextHop(eth1, ip("10.0.0.9")), NextHop(eth0, ip("99.0.0.1"))):
        with pytest.raises(NetError) as wrong:
            a.stack.add_route(Route(4, 0, 0, (hop,)))
        assert wrong.value.errno == errno.ENETUNREACH
    a.stack.add_route(Route(4, 0, 0, (NextHop(eth0, ip("99.0.0.1"), onlink=True),)))
    assert a.stack.routing4.output(ip("8.8.8.8")).next_hop == ip("99.0.0.1")


def test_output_decision_changes_with_the_routes_and_not_before() -> None:
    a, eth0, eth1 = host()
    routing = a.stack.routing4
    a.stack.add_route(Route(4, 0, 0, (NextHop(eth0, ip("10.0.0.9")),), metric=10))
    first = routing.output(ip("8.8.8.8"))
    assert routing.output(ip("8.8.8.8")) is first and first.source == ip("10.0.0.1")
    generation = routing.generation
    a.stack.add_route(Route(4, 0, 0, (NextHop(eth1, ip("10.1.0.9")),), source=ip("10.0.0.1")))
    assert routing.generation != generation
    second = routing.output(ip("8.8.8.8"))
    assert (second.out, second.source) == (eth1, ip("10.0.0.1"))  # the preferred source
    assert routing.output(ip("8.8.8.8"), oif=eth0).out is eth0


def test_output_to_own_address_goes_by_loopback_and_broadcast_is_known() -> None:
    a, eth0, _ = host()
    routing = a.stack.routing4
    assert routing.output(ip("10.0.0.1")).out is a.lo
    assert routing.output(ip("127.1.2.3")).source == ip("127.1.2.3")
    assert routing.output(ip("10.0.0.255")).kind == kinds.BROADCAST
    assert routing.output(ip("255.255.255.255"), oif=eth0).kind == kinds.BROADCAST
    assert routing.output(ip("224.1.1.1"), src=ip("10.1.0.1")).out is not eth0
    assert a.stack.is_broadcast(ip("10.0.0.255")) and not a.stack.is_broadcast(ip("10.0.0.254"))


def test_rules_with_marks_act_on_local_packets() -> None:
    a, eth0, eth1 = host()
    a.stack.add_route(Route(4, 0, 0, (NextHop(eth0, ip("10.0.0.9")),)))
    a.stack.add_route(Route(4, 0, 0, (NextHop(eth1, ip("10.1.0.9")),), table=100))
    a.stack.add_rule(4, Rule(100, 100, mark=5))
    assert a.stack.routing4.output(ip("8.8.8.8")).out is eth0
    assert a.stack.routing4.output(ip("8.8.8.8"), mark=5).out is eth1
