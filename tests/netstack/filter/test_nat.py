"""Translation: what comes out is right by a plain computation, ports are kept or found, errors are translated back."""

from __future__ import annotations

import random

import pytest

from services.netstackd.filter.connection import Direction, Limits
from services.netstackd.filter.match import Match
from services.netstackd.filter.nat import DNAT, MASQUERADE, SNAT, NatRule
from services.netstackd.filter.pipeline import SETTLING_NS, Firewall, Policy
from services.netstackd.links.segmentation import segments
from services.netstackd.network.interface import Interface
from services.netstackd.sockets import AF_INET, TcpSocket
from services.netstackd.stack import Stack
from services.netstackd.storage.packet import CSUM_PARTIAL, Packet
from services.netstackd.wire.offload import complete_checksum
from tests.netstack.links import frames

LAN_HOST, OTHER_HOST, ROUTER_LAN = 0x0A000002, 0x0A000003, 0x0A000001
WAN, SERVER = 0xCB007101, 0xC6336407
SYN, ACK = 2, 16


class World:
    """A firewall between `lan` and `wan`, without a stack's routing: the test says where packets go."""

    def __init__(self, *rules: NatRule, limits: Limits | None = None) -> None:
        self.stack = Stack(random.Random(1), b"s" * 32)
        self.stack.now = 10**9
        self.lan, self.wan = Interface("lan"), Interface("wan")
        own = {"lan": ROUTER_LAN, "wan": WAN}
        self.firewall = Firewall(
            self.stack,
            random.Random(2),
            lambda iface, version, hop: own[iface.name],
            lambda names, version, address: any(own[name] == address for name in names),
            lambda packet, how: None,
            lambda prefix, packet, rule: None,
        )
        self.firewall.apply(Policy(nat=rules, limits=limits or Limits()))

    def pass_on(self, packet: Packet, source: Interface, out: Interface) -> bytes | None:
        """Through the router; the frame that comes out, None when it is dropped."""
        packet.iface = source
        if not self.firewall.prerouting(packet):
            return None
        packet.out, packet.next_hop = out, 0
        if not self.firewall.postrouting(packet):
            return None
        return frames.whole(packet)


MASQ = NatRule("masq", MASQUERADE, Match(out_interfaces=frozenset({"wan"}), version=4))


def tcp_packet(src: int, dst: int, sport: int, dport: int, flags: int = SYN, payload: bytes = b"") -> Packet:
    return frames.packet(
        frames.ETHERNET + frames.ipv4(src, dst, 6, frames.tcp(src, dst, sport, dport, payload, flags=flags))
    )


def udp_packet(src: int, dst: int, sport: int, dport: int, payload: bytes = b"abc") -> Packet:
    return frames.packet(frames.ETHERNET + frames.ipv4(src, dst, 17, frames.udp(src, dst, sport, dport, payload)))


def ends(frame: bytes) -> tuple[int, int, int, int]:
    number = int.from_bytes
    return (
        number(frame[26:30], "big"),
        number(frame[30:34], "big"),
        number(frame[34:36], "big"),
        number(frame[36:38], "big"),
    )


def test_masquerade_rewrites_both_ways_with_good_checksums_and_keeps_the_port() -> None:
    world = World(MASQ)
    out = world.pass_on(tcp_packet(LAN_HOST, SERVER, 1000, 80), world.lan, world.wan)
    assert out is not None and ends(out) == (WAN, SERVER, 1000, 80) and frames.is_good(out)
    back = world.pass_on(tcp_packet(SERVER, WAN, 80, 1000, SYN | ACK), world.wan, world.lan)
    assert back is not None and ends(back) == (SERVER, LAN_HOST, 80, 1000) and frames.is_good(back)


def to_router(world: World, flags: int = ACK) -> bool:
    """A segment from the server to our outer address; whether it reaches the stack, which would answer with a reset."""
    packet = tcp_packet(SERVER, WAN, 80, 1000, flags)
    packet.iface = world.wan
    return world.firewall.prerouting(packet) and packet.dst == WAN and world.firewall.input(packet)


def test_after_a_restart_the_outer_side_is_not_reset_until_the_inner_one_has_spoken() -> None:
    world = World(MASQ)
    assert not to_router(world) and world.firewall.tracker.count == 0
    assert world.stack.counters.get("DropNatUnknown") == 1
    assert to_router(world, SYN)  # a connection to ourselves
    world = World(MASQ)
    assert not to_router(world)
    out = world.pass_on(tcp_packet(LAN_HOST, SERVER, 1000, 80, ACK), world.lan, world.wan)
    assert out is not None and ends(out) == (WAN, SERVER, 1000, 80)  # the port it had before
    back = world.pass_on(tcp_packet(SERVER, WAN, 80, 1000, ACK), world.wan, world.lan)
    assert back is not None and ends(back) == (SERVER, LAN_HOST, 80, 1000)


def test_after_a_restart_segments_for_our_own_listener_reach_it() -> None:
    """The handshake's last one, say, whose entry was thrown out of a full table meanwhile."""
    world = World(MASQ)
    own_listener = TcpSocket(world.stack, AF_INET)
    own_listener.bind((0, 1000, 0))
    assert not to_router(world)
    own_listener.listen(5)
    assert to_router(world) and world.stack.counters.get("DropNatUnknown") == 1


def test_later_and_where_nothing_is_hidden_what_belongs_to_nobody_is_reset() -> None:
    world = World(MASQ)
    world.stack.now += SETTLING_NS
    assert to_router(world) and world.stack.counters.get("DropNatUnknown") == 0
    assert to_router(World(NatRule("in", DNAT, Match(dports=((8080, 8080),)), to=(LAN_HOST, LAN_HOST))))


@pytest.mark.parametrize("seed", range(20))
def test_checksums_stay_good_whatever_the_addresses_ports_and_payload(seed: int) -> None:
    rng = random.Random(seed)
    new = rng.getrandbits(32) | 1
    world = World(NatRule("snat", SNAT, Match(version=4), to=(new, new), ports=(1, 65535), random_ports=True))
    for _ in range(50):
        src, dst = rng.getrandbits(32), rng.getrandbits(32)
        ports = rng.randrange(1, 65536), rng.randrange(1, 65536)
        make = rng.choice((tcp_packet, udp_packet))
        packet = make(src, dst, *ports, payload=rng.randbytes(rng.randrange(60)))
        out = world.pass_on(packet, world.lan, world.wan)
        assert out is not None and frames.is_good(out) and ends(out)[0] == new


def test_an_unfinished_checksum_stays_unfinished_and_right() -> None:
    world = World(NatRule("snat", SNAT, Match(version=4), to=(WAN, WAN), ports=(2000, 2000)))
    packet = frames.large(bytes(range(250)) * 20, 1448)
    assert world.pass_on(packet, world.lan, world.wan) is not None
    assert packet.csum == CSUM_PARTIAL and packet.gso_size == 1448
    made = segments(packet, partial=False)
    assert len(made) == 4 and all(frames.is_good(frames.whole(one)) for one in made)
    complete_checksum(packet)
    assert frames.is_good(frames.whole(packet)) and ends(frames.whole(packet))[0] == WAN


def test_a_udp_checksum_of_zero_stays_zero() -> None:
    world = World(MASQ)
    packet = udp_packet(LAN_HOST, SERVER, 1000, 53)
    packet.head[40:42] = b"\0\0"  # type: ignore[index]
    out = world.pass_on(packet, world.lan, world.wan)
    assert out is not None and out[40:42] == b"\0\0"


def test_two_hosts_with_one_port_get_different_ones() -> None:
    world = World(MASQ)
    first = world.pass_on(udp_packet(LAN_HOST, SERVER, 5000, 53), world.lan, world.wan)
    second = world.pass_on(udp_packet(OTHER_HOST, SERVER, 5000, 53), world.lan, world.wan)
    assert first is not None and second is not None
    assert ends(first)[2] == 5000 and ends(second)[2] not in (5000, 0) and ends(second)[2] >= 1024
    back = world.pass_on(udp_packet(SERVER, WAN, 53, ends(second)[2]), world.wan, world.lan)
    assert back is not None and ends(back)[1] == OTHER_HOST and ends(back)[3] == 5000 and frames.is_good(back)


def test_privileged_ports_stay_privileged() -> None:
    world = World(MASQ)
    ports = []
    for host in range(5):
        out = world.pass_on(udp_packet(LAN_HOST + host, SERVER, 500, 500), world.lan, world.wan)
        assert out is not None
        ports.append(ends(out)[2])
    assert ports[0] == 500 and all(1 <= port <= 511 for port in ports) and len(set(ports)) == 5


def test_no_free_port_drops_and_counts() -> None:
    world = World(NatRule("snat", SNAT, Match(version=4), to=(WAN, WAN), ports=(2000, 2003)))
    results = [world.pass_on(udp_packet(LAN_HOST, SERVER, 100 + n, 53), world.lan, world.wan) for n in range(6)]
    assert sum(result is not None for result in results) == 4
    assert world.stack.counters.get("DropNatNoPort") == 2


def test_a_forwarded_port_reaches_the_inner_host_and_answers_come_from_outside() -> None:
    forward = NatRule(
        "web",
        DNAT,
        Match(version=4, protocols=frozenset({6}), dports=((8080, 8090),)),
        to=(LAN_HOST, LAN_HOST),
        ports=(80, 90),
        shift_from=8080,
        own_addresses_of=frozenset({"wan"}),
    )
    world = World(forward)
    out = world.pass_on(tcp_packet(SERVER, WAN, 1000, 8083), world.wan, world.lan)
    assert out is not None and ends(out) == (SERVER, LAN_HOST, 1000, 83) and frames.is_good(out)
    back = world.pass_on(tcp_packet(LAN_HOST, SERVER, 83, 1000, SYN | ACK), world.lan, world.wan)
    assert back is not None and ends(back) == (WAN, SERVER, 8083, 1000) and frames.is_good(back)
    other = world.pass_on(tcp_packet(SERVER, WAN, 1000, 8091), world.wan, world.lan)
    assert other is not None and ends(other)[1] == WAN
    inside = world.pass_on(tcp_packet(OTHER_HOST, WAN, 1000, 8083), world.lan, world.wan)
    assert inside is not None and ends(inside)[1] == WAN  # no hairpin asked for


def test_hairpin_answers_inside_and_comes_back_through_the_router() -> None:
    forward = NatRule(
        "web",
        DNAT,
        Match(version=4, dports=((8080, 8080),)),
        to=(LAN_HOST, LAN_HOST),
        ports=(80, 80),
        hairpin=True,
        own_addresses_of=frozenset({"wan"}),
    )
    world = World(forward, MASQ)
    out = world.pass_on(tcp_packet(OTHER_HOST, WAN, 1000, 8080), world.lan, world.lan)
    assert out is not None and ends(out) == (ROUTER_LAN, LAN_HOST, 1000, 80) and frames.is_good(out)
    back = world.pass_on(tcp_packet(LAN_HOST, ROUTER_LAN, 80, 1000, SYN | ACK), world.lan, world.lan)
    assert back is not None and ends(back) == (WAN, OTHER_HOST, 8080, 1000) and frames.is_good(back)


def test_one_to_one_maps_address_by_address_both_ways() -> None:
    first_out = 0xCB007110
    inner, outer = (LAN_HOST, LAN_HOST + 3), (first_out, first_out + 3)
    world = World(
        NatRule("out", SNAT, Match(version=4, sources=((4, *inner),)), to=outer, one_to_one=inner),
        NatRule("in", DNAT, Match(version=4, destinations=((4, *outer),)), to=inner, one_to_one=outer),
    )
    out = world.pass_on(udp_packet(LAN_HOST + 2, SERVER, 1, 2), world.lan, world.wan)
    assert out is not None and ends(out)[0] == first_out + 2
    back = world.pass_on(tcp_packet(SERVER, first_out + 1, 5, 6), world.wan, world.lan)
    assert back is not None and ends(back)[1] == LAN_HOST + 1


def test_endpoint_independent_mapping_is_shared_open_and_ends_with_its_last_connection() -> None:
    rule = NatRule("cone", MASQUERADE, Match(out_interfaces=frozenset({"wan"}), version=4), endpoint_independent=True)
    world = World(rule)
    one = world.pass_on(udp_packet(LAN_HOST, SERVER, 4000, 53), world.lan, world.wan)
    two = world.pass_on(udp_packet(LAN_HOST, SERVER + 1, 4000, 99), world.lan, world.wan)
    assert one is not None and two is not None and ends(one)[2] == ends(two)[2] == 4000
    other = world.pass_on(udp_packet(OTHER_HOST, SERVER, 4000, 53), world.lan, world.wan)
    assert other is not None and ends(other)[2] != 4000 and ends(other)[2] % 2 == 0
    stranger = world.pass_on(udp_packet(SERVER + 9, WAN, 7, 4000), world.wan, world.lan)
    assert stranger is not None and ends(stranger) == (SERVER + 9, LAN_HOST, 7, 4000)
    assert len(world.firewall.nat.mappings()) == 2
    world.firewall.forget(list(world.firewall.tracker.connections()))
    assert world.firewall.nat.mappings() == []
    late = world.pass_on(udp_packet(SERVER + 9, WAN, 7, 4000), world.wan, world.lan)
    assert late is not None and ends(late)[1] == WAN


def test_pings_of_two_hosts_with_one_identifier_are_told_apart() -> None:
    world = World(MASQ)

    def ping(src: int, dst: int, kind: int, ident: int) -> Packet:
        body = bytes((kind, 0, 0, 0)) + ident.to_bytes(2, "big") + b"\0\1"
        body = body[:2] + (0xFFFF - frames.sum16(body)).to_bytes(2, "big") + body[4:]
        return frames.packet(frames.ETHERNET + frames.ipv4(src, dst, 1, body))

    one = world.pass_on(ping(LAN_HOST, SERVER, 8, 9), world.lan, world.wan)
    two = world.pass_on(ping(OTHER_HOST, SERVER, 8, 9), world.lan, world.wan)
    assert one is not None and two is not None and frames.is_good(one) and frames.is_good(two)
    assert one[38:40] == b"\0\x09" and two[38:40] != one[38:40]
    back = world.pass_on(ping(SERVER, WAN, 0, int.from_bytes(two[38:40], "big")), world.wan, world.lan)
    assert back is not None and ends(back)[1] == OTHER_HOST and back[38:40] == b"\0\x09" and frames.is_good(back)


def test_an_icmp_error_from_outside_comes_back_to_the_sender_with_its_own_quote() -> None:
    world = World(MASQ)
    world.pass_on(udp_packet(OTHER_HOST, SERVER, 5000, 53), world.lan, world.wan)
    sent = udp_packet(LAN_HOST, SERVER, 5000, 53)
    original = bytes(sent.head[14:])
    out = world.pass_on(sent, world.lan, world.wan)
    assert out is not None and ends(out)[2] != 5000
    hop = 0xC0000201
    body = bytes((11, 0, 0, 0, 0, 0, 0, 0)) + out[14:]
    body = body[:2] + (0xFFFF - frames.sum16(body)).to_bytes(2, "big") + body[4:]
    error = world.pass_on(frames.packet(frames.ETHERNET + frames.ipv4(hop, WAN, 1, body)), world.wan, world.lan)
    assert error is not None and frames.is_good(error)
    assert int.from_bytes(error[26:30], "big") == hop and int.from_bytes(error[30:34], "big") == LAN_HOST
    assert error[42:] == original


def test_an_error_of_the_forwarded_host_itself_comes_from_the_outer_address() -> None:
    forward = NatRule("dns", DNAT, Match(version=4), to=(LAN_HOST, LAN_HOST), own_addresses_of=frozenset({"wan"}))
    world = World(forward)
    original = bytes(udp_packet(SERVER, WAN, 1, 53).head[14:])
    out = world.pass_on(udp_packet(SERVER, WAN, 1, 53), world.wan, world.lan)
    assert out is not None and ends(out)[1] == LAN_HOST
    body = bytes((3, 3, 0, 0, 0, 0, 0, 0)) + out[14:]
    body = body[:2] + (0xFFFF - frames.sum16(body)).to_bytes(2, "big") + body[4:]
    packet = frames.packet(frames.ETHERNET + frames.ipv4(LAN_HOST, SERVER, 1, body))
    error = world.pass_on(packet, world.lan, world.wan)
    assert error is not None and frames.is_good(error)
    assert int.from_bytes(error[26:30], "big") == WAN and error[42:] == original


def test_ipv6_is_translated_too() -> None:
    inner, outer, server = (0xFD << 120) | 5, (0x20 << 120) | 7, (0x20 << 120) | 9
    world = World(NatRule("nat66", SNAT, Match(version=6), to=(outer, outer)))
    frame = frames.ETHERNET6 + frames.ipv6(inner, server, 17, frames.udp(inner, server, 1000, 53, b"hello", 6))
    out = world.pass_on(frames.packet(frame), world.lan, world.wan)
    assert out is not None and frames.is_good(out) and out[22:38] == outer.to_bytes(16, "big")
    frame = frames.ETHERNET6 + frames.ipv6(server, outer, 17, frames.udp(server, outer, 53, 1000, b"x", 6))
    back = world.pass_on(frames.packet(frame), world.wan, world.lan)
    assert back is not None and frames.is_good(back) and back[38:54] == inner.to_bytes(16, "big")


def test_a_dropped_first_packet_leaves_nothing_behind() -> None:
    world = World(MASQ)
    packet = udp_packet(LAN_HOST, SERVER, 1, 2)
    packet.iface = world.lan
    assert world.firewall.prerouting(packet) and isinstance(packet.ct, Direction)
    assert world.firewall.tracker.count == 0
