"""Duplicate detection, address conflict detection, SLAAC, router discovery, lifetimes, source selection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.netstackd.errors import NetError
from services.netstackd.network.addresses import Address, interface_identifier, is_reserved_identifier
from services.netstackd.network.interface import Interface
from services.netstackd.network.routes import UNICAST, Key
from services.netstackd.network.source_selection import common_prefix, label, scope, select_v6
from services.netstackd.storage.packet import Packet
from services.netstackd.wire import arp, ethernet, icmpv6, ipv6, ndp
from services.netstackd.wire.numbers import ETHERTYPE_ARP, ETHERTYPE_IPV6, IPV6_ALL_NODES
from tests.netstack.unit.hosts import SECOND, Host, World, ip

ROUTER = ip("fe80::99")
ROUTER_MAC = b"\2\0\0\0\0\x99"
PREFIX = ip("2001:db8:1::")


def lone(**settings: int) -> tuple[World, Host, Interface]:
    world = World()
    host = world.host("a")
    iface = host.interface(**settings)
    world.join((host, iface))
    return world, host, iface


def advertise(
    host: Host,
    iface: Interface,
    *options: bytes,
    lifetime: int = 1800,
    flags: int = 0,
    src: int = ROUTER,
    hops: int = 64,
) -> None:
    rest, body = ndp.router_advertisement(hops, flags, lifetime, 0, 0)
    body += ndp.option(ndp.SOURCE_LINK, ROUTER_MAC) + b"".join(options)
    message = icmpv6.message(src, IPV6_ALL_NODES, icmpv6.ROUTER_ADVERTISEMENT, 0, rest, body)
    frame = ethernet.header(ethernet.multicast_address(6, IPV6_ALL_NODES), ROUTER_MAC, ETHERTYPE_IPV6)
    frame += ipv6.header(src, IPV6_ALL_NODES, 58, len(message), hop_limit=255) + message
    host.stack.receive(iface, [Packet(frame, len(frame))], host.world.now)
    host.world.settle()


def prefix(valid: int = 7200 * 2, preferred: int = 3600, flags: int = 0xC0) -> bytes:
    return ndp.prefix_option(PREFIX, 64, flags, valid, preferred)


def usable(iface: Interface, version: int = 6) -> list[Address]:
    return [a for a in iface.addresses if a.version == version and a.usable]


def test_interface_identifier_is_modified_eui_64() -> None:
    assert interface_identifier(bytes.fromhex("00163e123456")) == 0x02163EFFFE123456  # RFC 4291 appendix A


def test_link_local_address_is_probed_then_used_and_routers_are_solicited() -> None:
    world, host, iface = lone()
    host.up(iface)
    assert usable(iface) == []
    world.run(8)
    assert [a.address for a in usable(iface)] == [ip("fe80::ff:fe00:101")]
    kinds = [f.data[54] for f in world.sent(ethertype=ETHERTYPE_IPV6) if f.data[20] == 58]
    assert kinds.count(icmpv6.NEIGHBOUR_SOLICITATION) == 1
    assert kinds.count(icmpv6.ROUTER_SOLICITATION) >= 2
    probe = next(f.data for f in world.sent() if f.data[20] == 58 and f.data[54] == 135)
    assert probe[22:38] == bytes(16)  # from the unspecified address
    assert probe[78] == ndp.NONCE


@pytest.mark.parametrize("by", ["solicitation", "advertisement"])
def test_dad_somebody_else_has_the_address_and_it_is_never_used(by: str) -> None:
    world, host, iface = lone(router_solicitations=0)
    host.up(iface)
    host.address(iface, "fd00::5/64")
    address = ip("fd00::5")
    target = next(a for a in iface.addresses if a.address == address)
    group = ip("ff02::1:ff00:5")
    if by == "solicitation":
        message = icmpv6.message(0, group, 135, 0, 0, ndp.solicitation(address, None))
        packet = ipv6.header(0, group, 58, len(message), hop_limit=255) + message
    else:
        message = icmpv6.message(address, IPV6_ALL_NODES, 136, 0, 0x20 << 24, ndp.advertisement(address, ROUTER_MAC))
        packet = ipv6.header(address, IPV6_ALL_NODES, 58, len(message), hop_limit=255) + message
    frame = ethernet.header(b"\x33\x33\0\0\0\1", ROUTER_MAC, ETHERTYPE_IPV6) + packet
    host.stack.receive(iface, [Packet(frame, len(frame))], world.now)
    world.run(3)
    assert target.dad_failed and not target.usable
    assert not host.stack.is_local(6, address)
    assert host.count("NeighDadConflicts") == 1


def test_dad_two_hosts_that_want_the_same_address_do_not_both_get_it() -> None:
    world = World()
    a, b = world.host("a"), world.host("b")
    ia, ib = a.up(a.interface()), b.up(b.interface())
    world.join((a, ia), (b, ib))
    a.address(ia, "fd00::5/64")
    b.address(ib, "fd00::5/64")
    world.run(3)
    states = [next(x for x in i.addresses if x.address == ip("fd00::5")).dad_failed for i in (ia, ib)]
    assert True in states  # who hears the other's probe while it is tentative (RFC 4862 section 5.4.3)
    assert len(usable(ia)) + len(usable(ib)) == 3  # and both link-local addresses


def test_dad_own_probe_on_a_looped_link_is_no_conflict() -> None:
    world, host, iface = lone(router_solicitations=0)
    host.up(iface)
    world.run(0.01)
    looped: list[Packet] = []
    for _ in range(200):
        world.run(0.02)
        for frame in world.frames:
            looped.append(Packet(frame.data, len(frame.data)))
        world.frames.clear()
        host.stack.receive(iface, looped, world.now)
        looped.clear()
    assert len(usable(iface)) == 1  # RFC 7527


def test_acd_probes_then_announces_and_a_conflict_ends_it() -> None:
    world, host, iface = lone()
    host.up(iface)
    host.address(iface, "10.0.0.5/24", detect=True)
    world.run(9)
    frames = list(world.sent(ethertype=ETHERTYPE_ARP))
    senders = [int.from_bytes(f.data[28:32], "big") for f in frames]
    assert senders == [0, 0, 0, ip("10.0.0.5"), ip("10.0.0.5")]  # RFC 5227 section 1.1: three probes, two announcements
    assert all(
        SECOND <= later.at - sooner.at <= 2 * SECOND for sooner, later in zip(frames[:2], frames[1:3], strict=True)
    )
    assert [a.address for a in usable(iface, 4)] == [ip("10.0.0.5")]
    host.address(iface, "10.0.0.6/24", detect=True)
    world.run(1.5)
    reply = ethernet.header(iface.mac, ROUTER_MAC, ETHERTYPE_ARP)
    reply += arp.build(arp.REPLY, ROUTER_MAC, ip("10.0.0.6"), iface.mac, 0)
    host.stack.receive(iface, [Packet(reply, len(reply))], world.now)
    world.run(10)
    assert [a.address for a in usable(iface, 4)] == [ip("10.0.0.5")]


def test_acd_defends_once_and_gives_up_the_second_time() -> None:
    world, host, iface = lone()
    host.up(iface)
    host.address(iface, "10.0.0.5/24", detect=True)
    world.run(9)
    world.frames.clear()
    claim = ethernet.header(ethernet.BROADCAST, ROUTER_MAC, ETHERTYPE_ARP)
    claim += arp.build(arp.REQUEST, ROUTER_MAC, ip("10.0.0.5"), bytes(6), ip("10.0.0.5"))
    host.stack.receive(iface, [Packet(claim, len(claim))], world.now)
    world.run(1)
    assert len(list(world.sent(ethertype=ETHERTYPE_ARP))) == 1
    assert len(usable(iface, 4)) == 1
    host.stack.receive(iface, [Packet(claim, len(claim))], world.now)
    world.run(1)
    assert usable(iface, 4) == []


def test_slaac_advertisement_brings_address_routes_mtu_hops_and_servers() -> None:
    world, host, iface = lone(accept_ra_rt_info_max_plen=64)
    host.up(iface)
    world.run(3)
    more = ip("2001:db8:99::")
    advertise(
        host,
        iface,
        prefix(),
        ndp.mtu_option(1400),
        ndp.rdnss_option([ip("2001:db8::53")], 600),
        ndp.dnssl_option(["example.org"], 600),
        ndp.route_option(more, 48, 1, 900),
        hops=42,
    )
    world.run(3)
    address = PREFIX | interface_identifier(iface.mac)
    assert address in [a.address for a in usable(iface)]
    assert (iface.hop_limit6, iface.effective_mtu6) == (42, 1400)
    link = host.stack.slaac.link(iface)
    assert host.stack.slaac.servers(iface) == [ip("2001:db8::53")] and list(link.search) == ["example.org"]
    way = host.stack.routing6.output(ip("2001:db8:5::1"))
    assert (way.kind, way.next_hop, way.source, way.mtu) == (UNICAST, ROUTER, address, 1400)
    assert host.stack.routing6.output(ip("2001:db8:1::77")).next_hop == ip("2001:db8:1::77")
    specific = host.stack.routing6.routes.lookup(Key(more)).route
    assert specific is not None and specific.prefix_length == 48
    neighbour = host.stack.neighbours6.find(iface, ROUTER)
    assert neighbour is not None and neighbour.router and neighbour.link == ROUTER_MAC
    world.run(601)
    assert host.stack.slaac.servers(iface) == []
    world.run(1300)
    assert host.stack.routing6.output(ip("2001:db8:5::1")).error  # the router's lifetime is over


def test_slaac_router_with_lifetime_zero_is_no_default_router_any_more() -> None:
    world, host, iface = lone()
    host.up(iface)
    world.run(3)
    advertise(host, iface, prefix())
    world.run(2)
    assert not host.stack.routing6.output(ip("2001:db8:5::1")).error
    advertise(host, iface, prefix(), lifetime=0)
    assert host.stack.routing6.output(ip("2001:db8:5::1")).error


def test_slaac_router_preference_decides() -> None:
    world, host, iface = lone()
    host.up(iface)
    world.run(3)
    advertise(host, iface, prefix(), flags=3 << 3)  # low
    advertise(host, iface, flags=1 << 3, src=ip("fe80::98"))  # high
    advertise(host, iface, src=ip("fe80::97"))
    world.run(2)
    assert host.stack.routing6.output(ip("2001:db8:5::1")).next_hop == ip("fe80::98")


def test_slaac_lifetimes_deprecate_then_remove() -> None:
    world, host, iface = lone()
    host.up(iface)
    world.run(3)
    advertise(host, iface, prefix(valid=8000, preferred=100))
    world.run(2)
    address = next(a for a in iface.addresses if a.prefix == PREFIX)
    assert not address.deprecated
    world.run(100)
    assert address.deprecated and address.usable
    world.run(7900)
    assert address not in iface.addresses


def test_slaac_short_lifetime_does_not_cut_below_two_hours() -> None:
    world, host, iface = lone()
    host.up(iface)
    world.run(3)
    advertise(host, iface, prefix(valid=20000, preferred=10000))
    world.run(2)
    address = next(a for a in iface.addresses if a.prefix == PREFIX)
    advertise(host, iface, prefix(valid=60, preferred=30))
    assert address.valid_until == world.now + 7200 * SECOND  # RFC 4862 section 5.5.3 (e)
    assert address.preferred_until == world.now + 30 * SECOND


def test_slaac_forwarding_interface_ignores_advertisements() -> None:
    world, host, iface = lone(forwarding6=1)
    host.up(iface)
    world.run(3)
    advertise(host, iface, prefix())
    assert all(a.prefix != PREFIX for a in iface.addresses)
    assert host.count("DropNdpNotForUs") == 1


def test_slaac_stable_identifier_is_opaque_stable_and_another_in_each_prefix() -> None:
    found = []
    for _ in range(2):
        world, host, iface = lone(addr_gen_mode=2)
        host.up(iface)
        world.run(3)
        advertise(host, iface, prefix(), ndp.prefix_option(PREFIX + (1 << 64), 64, 0xC0, 9000, 900))
        world.run(3)
        found.append(sorted(a.address for a in usable(iface)))
    assert found[0] == found[1] and len(found[0]) == 3
    identifiers = {a & (1 << 64) - 1 for a in found[0]}
    assert len(identifiers) == 3
    assert interface_identifier(b"\2\0\0\0\1\2") not in identifiers


def test_slaac_temporary_addresses_are_preferred_renewed_and_go_with_their_prefix() -> None:
    world, host, iface = lone(use_tempaddr=2)
    host.up(iface)
    world.run(3)
    advertise(host, iface, prefix(valid=ndp.INFINITE, preferred=ndp.INFINITE), lifetime=9000)
    world.run(3)
    temporary = [a for a in usable(iface) if a.temporary]
    assert len(temporary) == 1
    assert host.stack.routing6.output(ip("2001:db8:5::1")).source == temporary[0].address
    assert temporary[0].valid_until is not None and temporary[0].valid_until <= world.now + 2 * 86400 * SECOND
    world.run(90000)  # more than its preferred lifetime of a day
    later = [a for a in usable(iface) if a.temporary and not a.deprecated]
    assert len(later) == 1 and later[0] is not temporary[0]
    assert temporary[0].deprecated


def test_reserved_identifiers_are_known() -> None:
    assert is_reserved_identifier(0)
    assert is_reserved_identifier(0x02005EFFFE005213)
    assert is_reserved_identifier(0xFDFFFFFFFFFFFF80)
    assert not is_reserved_identifier(0xFE00000000000000)


def test_address_is_refused_twice_and_where_it_cannot_be() -> None:
    _, host, iface = lone()
    host.up(iface, "10.0.0.1/24")
    for value in ("10.0.0.1/24", "224.0.0.1/24", "0.0.0.0/24"):
        with pytest.raises(NetError):
            host.address(iface, value)
    with pytest.raises(NetError):
        host.stack.remove_address(iface, 4, ip("10.0.0.2"))


def test_address_removed_takes_its_routes_along_but_not_those_of_its_subnet() -> None:
    _, host, iface = lone()
    host.up(iface, "10.0.0.1/24", "10.0.0.9/24")
    host.stack.remove_address(iface, 4, ip("10.0.0.1"))
    assert not host.stack.is_local(4, ip("10.0.0.1"))
    assert host.stack.routing4.output(ip("10.0.0.5")).source == ip("10.0.0.9")
    host.stack.remove_address(iface, 4, ip("10.0.0.9"))
    assert host.stack.routing4.output(ip("10.0.0.5")).error
    assert not host.stack.is_broadcast(ip("10.0.0.255"))


def test_interface_down_and_up_again_has_its_routes_anew() -> None:
    world, host, iface = lone()
    host.up(iface, "10.0.0.1/24")
    host.stack.set_up(iface, False)
    assert host.stack.routing4.output(ip("10.0.0.5")).error and not host.stack.is_local(4, ip("10.0.0.1"))
    host.stack.set_up(iface, True)
    world.run(3)
    assert host.stack.routing4.output(ip("10.0.0.5")).out is iface
    assert host.stack.is_local(4, ip("10.0.0.1"))
    assert len(usable(iface)) == 1  # the link-local address was made anew


@pytest.mark.parametrize(
    ("address", "value"),
    [("::1", 0), ("::ffff:10.1.1.1", 4), ("2001:db8::1", 1), ("2001::1", 5), ("2002::1", 2), ("fd00::1", 13)],
)
def test_policy_label_follows_rfc_6724(address: str, value: int) -> None:
    assert label(ip(address)) == value


def test_policy_scope_and_common_prefix() -> None:
    assert [scope(ip(a)) for a in ("ff02::1", "ff0e::1", "fe80::1", "fec0::1", "2001::1", "::1")] == [
        2,
        14,
        2,
        5,
        14,
        2,
    ]
    assert common_prefix(ip("2001:db8::1"), ip("2001:db8::2"), 128) == 126
    assert common_prefix(ip("2001:db8::1"), ip("2001:db8::1"), 64) == 64


SELECTION: list[tuple[str, str, list[str], str]] = [
    # RFC 6724 section 10.1, what has no address of another interface
    ("appropriate scope", "2001:db8:1::1", ["2001:db8:3::1", "fe80::1"], "2001:db8:3::1"),
    ("scope of a group", "ff05::1", ["2001:db8:3::1", "fe80::1"], "2001:db8:3::1"),
    ("same address", "2001:db8:1::1", ["2001:db8:1::1", "2001:db8:2::1"], "2001:db8:1::1"),
    ("link local", "fe80::1", ["fe80::2", "2001:db8:1::1"], "fe80::2"),
    ("longest prefix", "2001:db8:1::1", ["2001:db8:1::2", "2001:db8:3::2"], "2001:db8:1::2"),
    (
        "matching label",
        "2002:c633:6401::1",
        ["2002:c633:6401::d5e3:7953:13eb:22e8", "2001:db8:1::2"],
        "2002:c633:6401::d5e3:7953:13eb:22e8",
    ),
    ("label before prefix", "2001:db8:1::1", ["2001::1", "2600::1"], "2600::1"),
    ("unique local", "fd11:1::1", ["2001:db8:1::2", "fd11:2::2"], "fd11:2::2"),
]


@pytest.mark.parametrize(("name", "dst", "sources", "chosen"), SELECTION, ids=[row[0] for row in SELECTION])
def test_source_selection_follows_rfc_6724(name: str, dst: str, sources: list[str], chosen: str) -> None:
    for order in (sources, sources[::-1]):
        iface = Interface("eth0")
        iface.up = True
        iface.addresses = [Address(iface, 6, ip(source), 64) for source in order]
        assert select_v6(ip(dst), iface, [iface], False) == ip(chosen), name


def change(mutate: Callable[[Address, Address], None], prefer_temporary: bool = False) -> int:
    iface = Interface("eth0")
    first, second = Address(iface, 6, ip("2001:db8::1"), 64), Address(iface, 6, ip("2001:db8::2"), 64)
    iface.addresses = [first, second]
    mutate(first, second)
    return select_v6(ip("2001:db8:9::9"), iface, [iface], prefer_temporary) & 0xF


def test_source_selection_avoids_deprecated_tentative_and_prefers_temporary_when_told() -> None:
    assert change(lambda first, second: setattr(first, "deprecated", True)) == 2
    assert change(lambda first, second: setattr(first, "tentative", True)) == 2
    assert change(lambda first, second: setattr(first, "temporary", True)) == 2
    assert change(lambda first, second: setattr(second, "temporary", True), True) == 2
