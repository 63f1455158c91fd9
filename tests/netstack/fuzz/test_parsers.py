"""Every parser of received bytes on whole, cut, extended, mutated and random input: no exception, nothing read beyond
the end, the same answer whatever lies behind it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.netstackd.storage.packet import Packet
from services.netstackd.wire import (
    arp,
    dhcpv6,
    ethernet,
    igmp,
    ipv4,
    ipv4_options,
    ipv6,
    ipv6_extensions,
    mld,
    ndp,
    tcp,
    tcp_options,
    udp,
)
from tests.netstack.interpreted import attributes


def packet_parser(parse: Callable[[Packet], int], version: int, proto: int) -> Callable[[bytes, bytes], object]:
    """Run a packet parser on data at an offset of 14, with `behind` after its end."""

    def run(data: bytes, behind: bytes) -> object:
        packet = Packet(bytes(14) + data + behind, 14 + len(data))
        packet.l3 = packet.l4 = 14
        packet.version, packet.proto, packet.src, packet.dst, packet.tos = version, proto, 1, 2, 0
        reason = parse(packet)
        assert packet.end <= 14 + len(data)
        assert 14 <= packet.l4 <= 14 + len(data)
        assert reason or packet.payload <= packet.end
        return reason, packet.end, packet.l4, packet.payload, packet.sport, packet.dport, packet.fragment

    return run


def walk(strict: bool) -> Callable[[bytes, bytes], object]:
    def run(data: bytes, behind: bytes) -> object:
        packet = Packet(data + behind, len(data))
        if ipv6.parse_ipv6_untrusted(packet):
            return None
        outcome = ipv6_extensions.walk_untrusted(packet, packet.proto, strict=strict)
        assert packet.l4 <= packet.end
        return outcome, packet.l4, packet.proto, packet.fragment

    return run


def bytes_parser(parse: Callable[[bytes], object]) -> Callable[[bytes, bytes], object]:
    def run(data: bytes, behind: bytes) -> object:
        found = parse(data)
        return [getattr(found, name) for name in attributes(type(found))] or found

    return run


def options4(data: bytes, behind: bytes) -> object:
    wrong, route = ipv4_options.check_untrusted(data[:40])
    if wrong < 0:
        recorded = ipv4_options.record(data[:40], 0x01020304, 5)
        assert len(recorded) == len(data[:40])
        assert len(ipv4_options.copied(data[:40])) <= 40
    return wrong, route


UDP = udp.header_checksummed(1, 2, 3, 4, b"payload") + b"payload"
TCP = tcp.header(1, 2, 3, 4, 16, 5, options=bytes((1, 1, 8, 10)) + bytes(8)) + b"data"
PREFIX = 0x20010DB8 << 96
RA = (
    bytes((134, 0, 0, 0, 64, 0, 7, 8))
    + bytes(8)
    + ndp.prefix_option(PREFIX, 64, 0xC0, 9, 8)
    + ndp.rdnss_option([1], 5)
    + ndp.dnssl_option(["example.org"], 5)
    + ndp.route_option(PREFIX, 48, 1, 9)
)
CHAIN = (
    bytes((60, 0, 5, 2, 0, 0, 1, 0))
    + bytes((43, 0, 1, 4, 0, 0, 0, 0))
    + bytes((44, 0, 0, 0, 0, 0, 0, 0))
    + bytes((17, 0, 0, 1, 0, 0, 0, 9))
    + UDP
)


def dhcpv6_again(data: bytes) -> bytes | None:
    """What was read, written again."""
    found = dhcpv6.parse_dhcpv6_untrusted(data)
    return found.encode() if found is not None else None


def dhcpv6_request() -> bytes:
    message = dhcpv6.Dhcpv6Message(dhcpv6.REQUEST, b"abc")
    message.options = {dhcpv6.CLIENT_ID: b"client", dhcpv6.OPTION_REQUEST: b"\0\x17"}
    for kind, length in ((dhcpv6.IA_NA, 128), (dhcpv6.IA_PD, 64)):
        association = dhcpv6.Association(kind, 7)
        association.leases, association.status = [(5 << 64, length, 1, 2)], 0
        message.associations.append(association)
    return message.encode()


PARSERS: dict[str, tuple[Callable[[bytes, bytes], object], bytes]] = {
    "ipv4": (
        packet_parser(ipv4.parse_ipv4_untrusted, 4, 0),
        ipv4.header(1, 2, 17, len(UDP), options=b"\x94\4\0\0") + UDP,
    ),
    "ipv6": (packet_parser(ipv6.parse_ipv6_untrusted, 6, 0), ipv6.header(1, 2, 17, len(UDP)) + UDP),
    "udp4": (packet_parser(udp.parse_udp_untrusted, 4, 17), UDP),
    "udp6": (packet_parser(udp.parse_udp_untrusted, 6, 17), UDP),
    "tcp": (packet_parser(tcp.check_tcp_untrusted, 4, 6), TCP),
    "walk": (walk(False), ipv6.header(1, 2, 0, len(CHAIN)) + CHAIN),
    "walk strictly": (walk(True), ipv6.header(1, 2, 0, len(CHAIN)) + CHAIN),
    "ipv4 options": (options4, bytes((7, 7, 4, 0, 0, 0, 0, 68, 12, 5, 1)) + bytes(9)),
    "ethernet": (bytes_parser(ethernet.parse_ethernet_untrusted), ethernet.header(b"\1" * 6, b"\2" * 6, 0x800, 5)),
    "arp": (
        lambda data, behind: arp.parse_arp_untrusted(data + behind, 0, len(data)),
        arp.build(1, b"\1" * 6, 1, b"\2" * 6, 2),
    ),
    "tcp options": (
        lambda data, behind: repr(tcp_options.parse_options_untrusted(data + behind, 0, len(data), True)),
        bytes((2, 4, 5, 180, 4, 2, 8, 10)) + bytes(8) + bytes((1, 3, 3, 7)),
    ),
    "tcp options later": (
        lambda data, behind: repr(tcp_options.parse_options_untrusted(data + behind, 0, len(data), False)),
        bytes((1, 1, 5, 18)) + bytes(16),
    ),
    "igmp": (bytes_parser(igmp.parse_igmp_untrusted), igmp.v2_message(0x16, 5)),
    "igmp query": (bytes_parser(igmp.parse_query_untrusted), igmp.v3_query(5, 100, (1, 2, 3))),
    "igmp report": (bytes_parser(igmp.parse_v3_report_untrusted), igmp.v3_report([(1, 2, (3,)), (4, 5, ())])),
    "mld query": (bytes_parser(mld.parse_query_untrusted), bytes(8) + mld.v2_query_body(1, (2, 3))),
    "mld report": (bytes_parser(mld.parse_v2_report_untrusted), bytes(6) + b"\0\1" + mld.v2_report([(1, 2, (3,))])[1]),
    "neighbour": (bytes_parser(ndp.parse_target_untrusted), bytes(8) + ndp.solicitation(5, b"\2" * 6, b"\1" * 6)),
    "dhcpv6": (bytes_parser(dhcpv6_again), dhcpv6_request()),
    "redirect": (bytes_parser(ndp.parse_redirect_untrusted), bytes(8) + ndp.redirect(5, 6, b"\2" * 6, bytes(50))),
    "router": (bytes_parser(ndp.parse_router_advertisement_untrusted), RA),
}


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_parser_cut_at_every_byte_does_not_raise(name: str) -> None:
    parse, good = PARSERS[name]
    for end in range(len(good) + 1):
        parse(good[:end], b"")


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_parser_answer_does_not_depend_on_what_lies_behind(name: str) -> None:
    parse, good = PARSERS[name]
    for end in range(len(good) + 1):
        assert parse(good[:end], b"") == parse(good[:end], b"\xff" * 64) == parse(good[:end], bytes(64))


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_parser_mutated_input_does_not_raise(name: str) -> None:
    parse, good = PARSERS[name]
    rng = random.Random(name)
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            action = rng.randrange(4)
            if action == 0 and data:
                data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 127, 128, 254, 255, rng.randrange(256)))
            elif action == 1 and data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            elif action == 2 and data:
                del data[rng.randrange(len(data)) :]
            else:
                at = rng.randrange(len(data) + 1)
                data[at:at] = rng.randbytes(rng.randrange(9))
        parse(bytes(data), rng.randbytes(4))


@pytest.mark.parametrize("name", sorted(PARSERS))
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_parser_random_input_does_not_raise(name: str, data: bytes) -> None:
    parse, _ = PARSERS[name]
    parse(data, b"")
