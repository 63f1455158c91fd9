"""A router between two hosts: what passes, what is refused and how that is told."""

from __future__ import annotations

import errno

import pytest

from services.netstackd.network import routes as kinds
from services.netstackd.network.routes import NextHop, Route, Rule
from services.netstackd.storage.packet import Packet
from services.netstackd.wire import ethernet, icmpv4, icmpv6, ipv4, ipv6, udp
from services.netstackd.wire.numbers import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from tests.netstack.unit.hosts import Frame, Routed, ip, received

VERSIONS = (4, 6)
B = {4: ip("10.2.0.1"), 6: ip("fd02::1")}
A = {4: ip("10.1.0.1"), 6: ip("fd01::1")}
R_LEFT = {4: ip("10.1.0.254"), 6: ip("fd01::fe")}


def net(left_mtu: int = 1500, right_mtu: int = 1500) -> Routed:
    made = Routed(left_mtu, right_mtu)
    made.run(12)
    made.world.frames.clear()
    return made


def inject(n: Routed, packet: bytes, *, to: bytes | None = None) -> None:
    """Hand a packet to the router as if it came from a."""
    ethertype = ETHERTYPE_IPV4 if packet[0] >> 4 == 4 else ETHERTYPE_IPV6
    frame = ethernet.header(to or n.left.mac, n.ia.mac, ethertype) + packet
    n.r.stack.receive(n.left, [Packet(frame, len(frame))], n.world.now)
    n.settle()


def datagram(version: int, size: int = 20, *, ttl: int = 64, dst: int = 0, src: int = 0, flags: int = 0) -> bytes:
    src, dst = src or A[version], dst or B[version]
    body = udp.header_checksummed(src, dst, 5000, 7, bytes(size)) + bytes(size)
    if version == 4:
        return ipv4.header(src, dst, 17, len(body), ttl=ttl, fragment=flags) + body
    return ipv6.header(src, dst, 17, len(body), hop_limit=ttl) + body


def errors(n: Routed, version: int) -> list[tuple[int, int, int]]:
    """(type, code, rest) of the ICMP errors that the router sent to a."""
    found = []
    for frame in n.world.sent(n.r):
        at = 34 if version == 4 else 54
        proto = frame.data[23] if version == 4 else frame.data[20]
        if proto == (1 if version == 4 else 58) and frame.data[at] not in (135, 136):
            found.append((frame.data[at], frame.data[at + 1], int.from_bytes(frame.data[at + 4 : at + 8], "big")))
    return found


def on_right(n: Routed) -> list[Frame]:
    return [
        f
        for f in n.world.sent(n.r)
        if f.packet.out is n.right
        and f.data[12:14] in (b"\x08\0", b"\x86\xdd")
        and (f.data[23] if f.data[12] == 8 else f.data[20]) == 17
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_datagram_arrives_with_one_hop_less_and_a_good_checksum(version: int) -> None:
    n = net()
    server = n.b.udp(version, 7)
    client = n.a.udp(version)
    client.send(b"hello", (B[version], 7, 0))
    n.run(0.1)
    message = server.receive()
    assert message.data == b"hello" and message.packet is not None and message.packet.ttl == 63
    server.send(b"back", message.address)
    n.run(0.1)
    assert received(client) == [b"back"]
    name = "IpForwDatagrams" if version == 4 else "Ip6OutForwDatagrams"
    assert n.r.count(name) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_ttl_over_is_dropped_and_told(version: int) -> None:
    n = net()
    n.a.udp(version, 5000)
    inject(n, datagram(version, ttl=1))
    assert on_right(n) == []
    kind = icmpv4.TIME_EXCEEDED if version == 4 else icmpv6.TIME_EXCEEDED
    assert errors(n, version) == [(kind, 0, 0)]
    assert n.r.count("DropTtlExceeded") == 1
    sent = [f.data for f in n.world.sent(n.r) if f.packet.out is n.left]
    assert any(datagram(version, ttl=1)[:48] in frame[34:] for frame in sent)


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_no_route_is_told_as_unreachable_network(version: int) -> None:
    n = net()
    inject(n, datagram(version, dst=ip("99.0.0.1" if version == 4 else "fd99::1")))
    assert errors(n, version) == [(3 if version == 4 else 1, 0, 0)]
    assert n.r.count("DropNoRoute") == 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("kind", "reason", "told"),
    [
        (kinds.BLACKHOLE, "DropRouteBlackhole", {}),
        (kinds.UNREACHABLE, "DropRouteUnreachable", {4: (3, 1, 0), 6: (1, 0, 0)}),
        (kinds.PROHIBIT, "DropRouteProhibit", {4: (3, 13, 0), 6: (1, 1, 0)}),
    ],
)
def test_forward_refusing_route_acts_as_its_kind(
    version: int, kind: int, reason: str, told: dict[int, tuple[int, int, int]]
) -> None:
    n = net()
    n.r.stack.add_route(Route(version, B[version], 32 if version == 4 else 128, kind=kind))
    inject(n, datagram(version))
    assert n.r.count(reason) == 1
    assert errors(n, version) == ([told[version]] if told else [])


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_unresolved_neighbour_is_told_as_unreachable_host(version: int) -> None:
    n = net()
    inject(n, datagram(version, dst=ip("10.2.0.77" if version == 4 else "fd02::77")))
    n.run(4)
    assert errors(n, version) == [(3, 1, 0) if version == 4 else (1, 3, 0)]


def test_forward_ipv4_too_big_is_fragmented_and_put_together() -> None:
    n = net(right_mtu=576)
    server = n.b.udp(4, 7)
    payload = bytes(range(256)) * 5
    client = n.a.udp()
    client.pmtu_discover = 0
    client.send(payload, (B[4], 7, 0))
    n.run(0.1)
    assert received(server) == [payload]
    assert all(len(f.data) <= 576 + 14 for f in on_right(n)) and len(on_right(n)) == 3
    assert n.r.count("IpFragCreates") == 3 and n.b.count("IpReasmOKs") == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_too_big_and_not_to_be_fragmented_teaches_the_sender_the_path_mtu(version: int) -> None:
    n = net(right_mtu=1300)
    server = n.b.udp(version, 7)
    client = n.a.udp(version)
    client.connect((B[version], 7, 0))
    client.pmtu_discover = 2
    client.dont_fragment6 = True
    client.receive_errors = client.receive_errors6 = True
    client.send(bytes(1400))
    n.run(0.1)
    assert received(server) == []
    assert errors(n, version) == [(3, 4, 1300) if version == 4 else (2, 0, 1300)]
    error = client.receive(flags=0x2000).error
    assert error is not None and (error.errno, error.info) == (errno.EMSGSIZE, 1300)
    assert client.take_error() == errno.EMSGSIZE
    assert n.a.stack.routing(version).output(B[version]).mtu == 1300
    with pytest.raises(Exception) as refused:
        client.send(bytes(1400))
    assert getattr(refused.value, "errno", 0) == errno.EMSGSIZE
    client.send(bytes(1300 - 28 if version == 4 else 1300 - 48))
    n.run(0.1)
    assert len(received(server)) == 1
    n.run(601)  # RFC 1191 section 6.3
    assert n.a.stack.routing(version).output(B[version]).mtu == 1500


def test_forward_path_mtu_below_the_floor_is_not_believed() -> None:
    n = net()
    client = n.a.udp(4)
    client.connect((B[4], 7, 0))
    quote = ipv4.header(A[4], B[4], 17, 8, fragment=0x4000) + udp.header(client.local_port, 7, 0)
    for version_mtu in (68, 9000):
        message = icmpv4.message(3, 4, version_mtu, quote)
        frame = ethernet.header(n.ia.mac, n.left.mac, ETHERTYPE_IPV4)
        frame += ipv4.header(R_LEFT[4], A[4], 1, len(message)) + message
        n.a.stack.receive(n.ia, [Packet(frame, len(frame))], n.world.now)
    assert n.a.stack.routing4.output(B[4]).mtu == 552


def test_forward_icmp_about_a_packet_that_was_not_sent_is_ignored() -> None:
    n = net()
    quote = ipv4.header(A[4], B[4], 17, 8, fragment=0x4000) + udp.header(4444, 7, 0)
    message = icmpv4.message(3, 4, 600, quote)
    frame = ethernet.header(n.ia.mac, n.left.mac, ETHERTYPE_IPV4)
    frame += ipv4.header(R_LEFT[4], A[4], 1, len(message)) + message
    n.a.stack.receive(n.ia, [Packet(frame, len(frame))], n.world.now)
    assert n.a.stack.routing4.output(B[4]).mtu == 1500


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_switched_off_drops_with_its_reason(version: int) -> None:
    n = net()
    n.r.stack.configure(n.left, forwarding4=0, forwarding6=0)
    inject(n, datagram(version))
    assert on_right(n) == [] and errors(n, version) == []
    assert n.r.count("DropNotForUs") == 1


@pytest.mark.parametrize(
    ("src", "reason"),
    [
        ("127.0.0.1", "DropIpv4MartianSource"),
        ("224.0.0.1", "DropIpv4MartianSource"),
        ("255.255.255.255", "DropIpv4MartianSource"),
        ("10.2.0.254", "DropIpv4MartianSource"),  # the router's own
        ("10.2.0.255", "DropIpv4MartianSource"),
        ("0.0.0.1", "DropIpv4MartianSource"),
        ("ff02::1", "DropIpv6MartianSource"),
        ("::1", "DropIpv6MartianSource"),
        ("fe80::1", "DropIpv6MartianSource"),
        ("fd02::fe", "DropIpv6MartianSource"),
    ],
)
def test_forward_martian_source_is_dropped(src: str, reason: str) -> None:
    n = net()
    version = 6 if ":" in src else 4
    inject(n, datagram(version, src=ip(src)))
    assert n.r.count(reason) == 1 and on_right(n) == [] and errors(n, version) == []


def test_forward_martian_destination_is_dropped() -> None:
    n = net()
    for dst in ("127.0.0.1", "0.0.0.9", "241.0.0.1"):
        inject(n, datagram(4, dst=ip(dst)))
    inject(n, datagram(6, dst=1))
    assert n.r.count("DropIpv4MartianDestination") == 3 and n.r.count("DropIpv6MartianDestination") == 1


@pytest.mark.parametrize(
    ("mode", "src", "passes"),
    [
        (1, "10.1.0.7", True),
        (1, "10.2.0.7", False),
        (1, "99.0.0.1", False),
        (2, "10.2.0.7", True),
        (2, "99.0.0.1", False),
        (0, "99.0.0.1", True),
    ],
)
def test_forward_reverse_path_filter(mode: int, src: str, passes: bool) -> None:
    n = net()
    n.r.stack.configure(n.left, rp_filter=mode)
    inject(n, datagram(4, src=ip(src)))
    n.run(0.1)
    assert bool(on_right(n)) == passes
    assert n.r.count("DropIpv4ReversePath") == (not passes)


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_link_layer_broadcast_is_not_forwarded(version: int) -> None:
    n = net()
    inject(n, datagram(version), to=ethernet.BROADCAST)
    assert on_right(n) == [] and errors(n, version) == []
    assert n.r.count("DropNotUnicast") == 1


def test_forward_frame_for_another_host_is_dropped() -> None:
    n = net()
    inject(n, datagram(4), to=b"\2\0\0\0\0\x77")
    assert n.r.count("DropEthernetOtherHost") == 1 and on_right(n) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_back_out_of_the_same_link_redirects_the_sender_who_then_goes_straight(version: int) -> None:
    n = net()
    c = n.world.host("c")
    ic = c.up(c.interface(), "10.1.0.3/24", "fd01::3/64")
    n.left_wire.ends.append((c, ic))
    n.world.run(12)
    target = ip("10.9.0.1" if version == 4 else "fd09::1")
    prefix = 24 if version == 4 else 64
    gateway = ip("10.1.0.3" if version == 4 else "fd01::3")
    if version == 6:
        gateway = c.stack.addresses.link_local(ic)
    n.r.stack.add_route(Route(version, target, prefix, (NextHop(n.left, gateway),)))
    far = c.up(c.interface("far"), "10.9.0.1/24" if version == 4 else "fd09::1/64")
    assert far.up
    if version == 6:  # a redirect is believed from a link-local address alone, so the first hop must be one
        route = next(r for r in n.a.stack.routing6.routes.table(254) if r.prefix_length == 0)
        n.a.stack.remove_route(route)
        n.a.stack.add_route(Route(6, 0, 0, (NextHop(n.ia, n.r.stack.addresses.link_local(n.left)),)))
    server = c.udp(version, 7)
    client = n.a.udp(version)
    client.send(b"1", (target, 7, 0))
    n.run(0.5)
    assert received(server) == [b"1"]
    assert n.a.count("IcmpInRedirects" if version == 4 else "Icmp6InRedirects") >= 1
    assert n.a.stack.routing(version).output(target).next_hop == gateway
    forwarded = n.r.count("IpForwDatagrams" if version == 4 else "Ip6OutForwDatagrams")
    client.send(b"2", (target, 7, 0))
    n.run(0.5)
    assert received(server) == [b"2"]
    assert n.r.count("IpForwDatagrams" if version == 4 else "Ip6OutForwDatagrams") == forwarded


def test_forward_record_route_option_is_filled_in() -> None:
    n = net()
    option = bytes((7, 7, 4, 0, 0, 0, 0, 0))
    body = udp.header_checksummed(A[4], B[4], 5000, 7, b"x") + b"x"
    server = n.b.udp(4, 7)
    inject(n, ipv4.header(A[4], B[4], 17, len(body), options=option) + body)
    n.run(0.1)
    message = server.receive()
    assert message.packet is not None and message.packet.options[:7] == bytes((7, 7, 8, 10, 2, 0, 254))


@pytest.mark.parametrize(
    ("option", "reason"), [(b"\x83\7\4\1\2\3\4\0", "DropIpv4SourceRoute"), (b"\7\1\4\0", "DropIpv4Options")]
)
def test_forward_source_routes_and_broken_options_are_refused(option: bytes, reason: str) -> None:
    n = net()
    inject(n, ipv4.header(A[4], B[4], 17, 8, options=option) + bytes(8))
    assert n.r.count(reason) == 1 and on_right(n) == []
    assert errors(n, 4) == ([(12, 0, 21 << 24)] if reason == "DropIpv4Options" else [])


def test_forward_errors_to_one_host_are_limited() -> None:
    n = net()
    for _ in range(30):
        inject(n, datagram(4, ttl=1))
    assert len(errors(n, 4)) == 6  # a burst of six, then one a second
    assert n.r.count("IcmpOutRateLimitHost") == 24
    n.run(3)
    for _ in range(5):
        inject(n, datagram(4, ttl=1))
    assert len(errors(n, 4)) == 9


def test_forward_errors_to_all_hosts_are_limited() -> None:
    n = net()
    for host in range(80):
        inject(n, datagram(4, ttl=1, src=ip("10.1.0.2") + host))
    assert n.r.count("IcmpOutTimeExcds") == 50
    assert n.r.count("IcmpOutRateLimitGlobal") == 30


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_no_error_about_an_error(version: int) -> None:
    n = net()
    if version == 4:
        message = icmpv4.message(3, 3, 0, ipv4.header(B[4], A[4], 17, 8) + bytes(8))
        packet = ipv4.header(A[4], B[4], 1, len(message), ttl=1) + message
    else:
        quote = ipv6.header(B[6], A[6], 17, 8) + bytes(8)
        message = icmpv6.message(A[6], B[6], 1, 4, 0, quote)
        packet = ipv6.header(A[6], B[6], 58, len(message), hop_limit=1) + message
    inject(n, packet)
    assert n.r.count("DropTtlExceeded") == 1 and errors(n, version) == []


def test_forward_later_fragment_brings_no_error() -> None:
    n = net()
    inject(n, ipv4.header(A[4], B[4], 17, 8, ttl=1, fragment=5) + bytes(8))
    assert n.r.count("DropTtlExceeded") == 1 and errors(n, 4) == []


def test_forward_policy_by_incoming_interface() -> None:
    n = net()
    n.r.stack.add_rule(4, Rule(50, None, kind=kinds.PROHIBIT, iif="left"))
    inject(n, datagram(4))
    assert n.r.count("DropRouteProhibit") == 1
    assert n.left.input_cache4  # remembered, for the cache is that interface's


def test_forward_policy_by_mark_is_decided_for_each_packet() -> None:
    n = net()
    n.r.stack.add_rule(4, Rule(50, None, kind=kinds.PROHIBIT, mark=7, mark_mask=0xFF))
    inject(n, datagram(4))
    assert n.r.count("DropRouteProhibit") == 0
    assert not n.left.input_cache4  # nothing is remembered by addresses alone when other things decide


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_hooks_see_the_packet_in_order_and_may_drop_it(version: int) -> None:
    n = net()
    seen: list[str] = []
    hooks = n.r.stack.hooks

    def hook(name: str, verdict: bool = True):  # type: ignore[no-untyped-def]
        def look(packet: Packet) -> bool:
            if packet.proto == 17:
                seen.append(f"{name} {packet.out.name if packet.out else '-'}")
            return verdict or packet.proto != 17

        return look

    for name in ("prerouting", "input", "forward", "output", "postrouting"):
        setattr(hooks, name, hook(name))
    inject(n, datagram(version))
    assert seen == ["prerouting -", "forward right", "postrouting right"]
    n.run(0.1)
    for name in ("postrouting", "forward", "prerouting"):
        before = len(on_right(n))
        setattr(hooks, name, hook(name, False))
        inject(n, datagram(version))
        assert len(on_right(n)) == before


def test_forward_prerouting_may_change_the_destination() -> None:
    n = net()
    server = n.b.udp(4, 7)

    def redirect(packet: Packet) -> bool:
        if packet.dst == ip("203.0.113.5"):
            head = packet.writable()
            head[packet.l3 + 16 : packet.l3 + 20] = B[4].to_bytes(4, "big")
            ipv4.write_checksum(head, packet.l3)
            head[packet.l4 + 6 : packet.l4 + 8] = b"\0\0"
            packet.dst = B[4]
        return True

    n.r.stack.hooks.prerouting = redirect
    inject(n, datagram(4, dst=ip("203.0.113.5")))
    n.run(0.1)
    assert len(received(server)) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_large_segments_pass_whole_and_are_judged_by_their_segment_size(version: int) -> None:
    n = net()
    n.settle()
    table = n.r.stack.neighbours4 if version == 4 else n.r.stack.neighbours6
    table.set_permanent(n.right, B[version], n.ib.mac)
    body = bytes(12) + b"\x50" + bytes(7) + bytes(20000)
    header = (
        ipv4.header(A[4], B[4], 6, len(body), fragment=0x4000)
        if version == 4
        else ipv6.header(A[6], B[6], 6, len(body))
    )
    frame = ethernet.header(n.left.mac, n.ia.mac, ETHERTYPE_IPV4 if version == 4 else ETHERTYPE_IPV6) + header + body
    for size, passes in ((1400, True), (1460 if version == 4 else 1440, True), (1461, False)):
        packet = Packet(frame, len(frame))
        packet.csum, packet.gso_size, packet.gso_type = 2, size, 1 if version == 4 else 2
        n.r.stack.receive(n.left, [packet], n.world.now)
        out = list(n.right.tx)
        n.right.tx.clear()
        assert bool(out) == passes
        if passes:
            assert (out[0].gso_size, out[0].csum, len(out[0])) == (size, 2, len(header) + len(body))
            assert out[0].body is not None  # the payload was not copied


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("right_mtu", [1500, 1280])
def test_forward_fragments_put_together_for_a_hook_leave_in_fragments_no_larger(version: int, right_mtu: int) -> None:
    n = net(right_mtu=right_mtu)
    n.r.stack.hooks.prerouting = lambda packet: True
    n.r.stack.hooks.defragment = True
    n.ia.mtu = 1400 if right_mtu == 1500 else 1280
    n.a.stack.routes_changed()
    server = n.b.udp(version, 7)
    client = n.a.udp(version)
    client.pmtu_discover = 0
    client.send(bytes(5000), (B[version], 7, 0))
    n.run(0.1)
    assert received(server) == [bytes(5000)]
    assert n.r.count("IpReasmOKs" if version == 4 else "Ip6ReasmOKs") == 1
    sizes = [len(f.data) - 14 for f in n.world.sent(n.r) if f.packet.fragment]
    assert len(sizes) == (4 if right_mtu == 1500 else 5 if version == 6 else 4) and max(sizes) <= n.ia.mtu


def test_forward_ipv6_fragments_larger_than_the_way_out_are_too_big() -> None:
    n = net(right_mtu=1280)
    n.r.stack.hooks.prerouting = lambda packet: True
    n.r.stack.hooks.defragment = True
    client = n.a.udp(6)
    client.send(bytes(5000), (B[6], 7, 0))
    n.run(0.1)
    assert errors(n, 6) == [(2, 0, 1280)]


@pytest.mark.parametrize("version", VERSIONS)
def test_forward_fragments_that_would_fit_together_still_leave_no_larger_than_they_came(version: int) -> None:
    n = net()
    n.r.stack.hooks.prerouting = lambda packet: True
    n.r.stack.hooks.defragment = True
    n.ia.mtu = 1280
    n.a.stack.routes_changed()
    server = n.b.udp(version, 7)
    client = n.a.udp(version)
    client.pmtu_discover = 0
    client.send(bytes(1400), (B[version], 7, 0))
    n.run(0.1)
    assert received(server) == [bytes(1400)]
    sizes = [len(f.data) - 14 for f in n.world.sent(n.r) if f.packet.fragment]
    assert len(sizes) == 2 and max(sizes) <= 1280


def test_forward_scan_of_absent_hosts_does_not_push_out_a_neighbour_that_answers() -> None:
    n = net()
    server = n.b.udp(6, 7)
    inject(n, datagram(6))
    assert len(received(server)) == 1
    table = n.r.stack.neighbours6
    entry = table.find(n.right, B[6])
    for number in range(700):
        inject(n, datagram(6, dst=B[6] + 0x1000 + number))
    assert len(table) <= 512 and n.r.count("NeighEntriesEvicted") > 0
    assert table.find(n.right, B[6]) is entry
