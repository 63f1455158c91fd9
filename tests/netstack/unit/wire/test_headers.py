"""Base headers: what is built is parsed back, and each thing that can be wrong has its reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.netstackd.counters import NAMES
from services.netstackd.storage.packet import CSUM_VALID, Packet
from services.netstackd.wire import arp, ethernet, igmp, ipv4, ipv4_options, ipv6, mld, ndp, sequence, tcp, udp
from services.netstackd.wire.icmpv6 import BAD_FIELD, BAD_NEXT_HEADER, BAD_OPTION
from services.netstackd.wire.ipv6_extensions import fragment_header, walk_untrusted

ADDRESS4 = st.integers(0, (1 << 32) - 1)
ADDRESS6 = st.integers(0, (1 << 128) - 1)
BYTE = st.integers(0, 255)


def parsed4(data: bytes) -> tuple[Packet, str]:
    packet = Packet(data, len(data))
    return packet, NAMES[ipv4.parse_ipv4_untrusted(packet)]


def parsed6(data: bytes) -> tuple[Packet, str]:
    packet = Packet(data, len(data))
    return packet, NAMES[ipv6.parse_ipv6_untrusted(packet)]


@given(ADDRESS4, ADDRESS4, BYTE, BYTE, BYTE, st.binary(max_size=60), st.binary(max_size=8))
def test_ipv4_header_built_is_parsed_back(
    src: int, dst: int, proto: int, ttl: int, tos: int, payload: bytes, padding: bytes
) -> None:
    data = ipv4.header(src, dst, proto, len(payload), ttl=ttl, tos=tos) + payload
    packet, reason = parsed4(data + padding)
    assert reason == ""
    assert (packet.src, packet.dst, packet.proto, packet.ttl, packet.tos) == (src, dst, proto, ttl, tos)
    assert packet.head[packet.l4 : packet.end] == payload
    assert not packet.fragment


def test_ipv4_header_with_options_keeps_them_and_finds_ports() -> None:
    options = bytes((7, 7, 4, 0, 0, 0, 0))
    datagram = udp.header(1000, 2000, 0)
    packet, reason = parsed4(ipv4.header(1, 2, 17, 8, options=options) + datagram)
    assert reason == ""
    assert packet.options == options + b"\0"
    assert (packet.sport, packet.dport) == (1000, 2000)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d[:19], "DropIpv4Short"),
        (lambda d: b"\x65" + d[1:], "DropIpv4Version"),
        (lambda d: b"\x44" + d[1:], "DropIpv4HeaderLength"),
        (lambda d: b"\x4f" + d[1:], "DropIpv4HeaderLength"),
        (lambda d: d[:2] + b"\x00\x13" + d[4:], "DropIpv4TotalLength"),
        (lambda d: d[:2] + b"\x00\x50" + d[4:], "DropIpv4TotalLength"),
        (lambda d: d[:8] + b"\x41" + d[9:], "DropIpv4Checksum"),
    ],
)
def test_ipv4_header_wrong_field_has_its_reason(change: object, reason: str) -> None:
    data = ipv4.header(1, 2, 17, 8) + bytes(8)
    assert parsed4(change(data))[1] == reason  # type: ignore[operator]


@given(ADDRESS6, ADDRESS6, st.sampled_from((6, 17, 58, 99)), BYTE, BYTE, st.binary(max_size=60), st.binary(max_size=8))
def test_ipv6_header_built_is_parsed_back(
    src: int, dst: int, proto: int, hops: int, tos: int, payload: bytes, padding: bytes
) -> None:
    data = ipv6.header(src, dst, proto, len(payload), hop_limit=hops, traffic_class=tos, flow_label=0x12345) + payload
    packet, reason = parsed6(data + padding)
    assert reason == ""
    assert (packet.src, packet.dst, packet.proto, packet.ttl, packet.tos) == (src, dst, proto, hops, tos)
    assert packet.head[packet.l4 : packet.end] == payload
    assert ipv6.flow_label(packet) == 0x12345


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d[:39], "DropIpv6Short"),
        (lambda d: b"\x40" + d[1:], "DropIpv6Version"),
        (lambda d: d[:4] + b"\x00\x09" + d[6:], "DropIpv6PayloadLength"),
    ],
)
def test_ipv6_header_wrong_field_has_its_reason(change: object, reason: str) -> None:
    data = ipv6.header(1, 2, 17, 8) + bytes(8)
    assert parsed6(change(data))[1] == reason  # type: ignore[operator]


def extension(kind_after: int, body: bytes) -> bytes:
    body += bytes(-(len(body) + 2) % 8)
    return bytes((kind_after, (len(body) + 2) // 8 - 1)) + body


def walk(chain: bytes, first: int, dst: int = 5, strict: bool = True) -> tuple[Packet, str, int, int]:
    data = ipv6.header(1, dst, first, len(chain)) + chain
    packet, reason = parsed6(data)
    assert reason == ""
    drop, code, pointer, _ = walk_untrusted(packet, first, strict=strict)
    return packet, NAMES[drop], code, pointer


def test_extension_headers_chain_ends_at_transport_with_ports() -> None:
    chain = extension(60, bytes(6)) + extension(43, bytes(6)) + extension(17, bytes((0, 0))) + udp.header(9, 10, 0)
    packet, reason, code, _ = walk(chain, 0)
    assert (reason, code) == ("", -1)
    assert (packet.proto, packet.sport, packet.dport) == (17, 9, 10)
    assert packet.l4 == 40 + 24


@pytest.mark.parametrize(
    ("kind", "dst", "reason", "code"),
    [
        (0x1E, 5, "", -1),  # 00: skip
        (0x5E, 5, "DropIpv6UnknownOption", -1),  # 01: discard
        (0x9E, 5, "DropIpv6UnknownOption", BAD_OPTION),  # 10: discard and say so
        (0x9E, 0xFF02 << 112 | 1, "DropIpv6UnknownOption", BAD_OPTION),  # ... also to a group
        (0xDE, 5, "DropIpv6UnknownOption", BAD_OPTION),  # 11: say so
        (0xDE, 0xFF02 << 112 | 1, "DropIpv6UnknownOption", -1),  # ... but not to a group
    ],
)
def test_extension_headers_unknown_option_is_acted_on_by_its_high_bits(
    kind: int, dst: int, reason: str, code: int
) -> None:
    chain = extension(59, bytes((kind, 4, 0, 0, 0, 0)))
    for first in (0, 60):
        _, found, said, pointer = walk(chain, first, dst)
        assert (found, said) == (reason, code)
        if code >= 0:
            assert pointer == 42  # RFC 4443 section 3.4: the option's type
    _, found, _, _ = walk(chain, 60, dst, strict=False)
    assert found == ""  # destination options are none of a router's business


def test_extension_headers_hop_by_hop_not_first_is_an_unknown_next_header() -> None:
    chain = extension(0, bytes(6)) + extension(59, bytes(6))
    assert walk(chain, 60)[1:] == ("DropIpv6ExtensionHeader", BAD_NEXT_HEADER, 40)


def test_extension_headers_routing_with_segments_left_is_refused_by_its_destination() -> None:
    chain = extension(59, bytes((0, 1, 0, 0, 0, 0)))
    assert walk(chain, 43)[1:] == ("DropIpv6RoutingHeader", BAD_FIELD, 42)
    assert walk(chain, 43, strict=False)[1] == ""


def test_extension_headers_too_many_end_the_walk() -> None:
    chain = extension(60, bytes(6)) * 20
    assert walk(chain, 60)[1] == "DropIpv6ExtensionHeader"


def test_extension_headers_atomic_fragment_is_passed_over() -> None:
    chain = fragment_header(17, 0, False, 7) + udp.header(9, 10, 0)
    packet, reason, _, _ = walk(chain, 44)
    assert (reason, packet.fragment, packet.proto, packet.dport) == ("", False, 17, 10)


def test_udp_zero_checksum_is_good_over_ipv4_and_refused_over_ipv6() -> None:
    datagram = udp.header(1, 2, 4) + b"data"
    packet, _ = parsed4(ipv4.header(1, 2, 17, len(datagram)) + datagram)
    assert NAMES[udp.parse_udp_untrusted(packet)] == ""
    packet, _ = parsed6(ipv6.header(1, 2, 17, len(datagram)) + datagram)
    assert NAMES[udp.parse_udp_untrusted(packet)] == "DropUdpChecksum"


@given(ADDRESS4, ADDRESS4, st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=100))
def test_udp_checksummed_header_verifies_and_is_never_zero(
    src: int, dst: int, sport: int, dport: int, payload: bytes
) -> None:
    datagram = udp.header_checksummed(src, dst, sport, dport, payload) + payload
    assert datagram[6:8] != b"\0\0"
    packet, _ = parsed4(ipv4.header(src, dst, 17, len(datagram)) + datagram)
    assert NAMES[udp.parse_udp_untrusted(packet)] == ""
    assert packet.payload_view() == payload


@pytest.mark.parametrize(("length", "reason"), [(7, "DropUdpLength"), (13, "DropUdpLength"), (12, ""), (10, "")])
def test_udp_length_field_bounds_the_datagram(length: int, reason: str) -> None:
    datagram = udp.HEADER.pack(1, 2, length, 0) + b"data"
    packet, _ = parsed4(ipv4.header(1, 2, 17, len(datagram)) + datagram)
    assert NAMES[udp.parse_udp_untrusted(packet)] == reason
    if not reason:
        assert packet.end - packet.payload == length - 8


def test_tcp_checksum_and_offset_are_checked() -> None:
    bare = tcp.header(1, 2, 3, 4, tcp.ACK, 5, options=bytes(4)) + b"x"
    whole = bare[:16] + tcp.checksum_of(1, 2, bare).to_bytes(2, "big") + bare[18:]
    packet, _ = parsed4(ipv4.header(1, 2, 6, len(whole)) + whole)
    assert NAMES[tcp.check_tcp_untrusted(packet)] == ""
    assert (packet.sport, packet.dport, packet.tcp_flags) == (1, 2, tcp.ACK)
    assert packet.payload_view() == b"x"
    for at, value, reason in ((0, 9, "DropTcpChecksum"), (12, 0x40, "DropTcpHeader"), (12, 0xF0, "DropTcpHeader")):
        broken = bytearray(whole)
        broken[at] = value
        packet, _ = parsed4(ipv4.header(1, 2, 6, len(broken)) + bytes(broken))
        assert NAMES[tcp.check_tcp_untrusted(packet)] == reason
    packet, _ = parsed4(ipv4.header(1, 2, 6, len(bare)) + bare)
    packet.csum = CSUM_VALID
    assert NAMES[tcp.check_tcp_untrusted(packet)] == ""


def test_ethernet_tag_is_taken_off() -> None:
    header = ethernet.header(b"\1" * 6, b"\2" * 6, 0x800, tag=0x2005)
    assert ethernet.parse_ethernet_untrusted(header + b"x") == (b"\1" * 6, b"\2" * 6, 0x800, 0x2005, 18)
    assert ethernet.parse_ethernet_untrusted(header[:17]) is None
    assert ethernet.from_text("02:00:00:00:00:0a") == b"\2\0\0\0\0\x0a"
    with pytest.raises(ValueError):
        ethernet.from_text("02:00:00")


def test_ethernet_multicast_addresses_follow_rfc_1112_and_2464() -> None:
    assert ethernet.multicast_address(4, 0xE0808001).hex() == "01005e008001"
    assert ethernet.multicast_address(6, 0xFF02 << 112 | 0x1FF123456).hex() == "3333ff123456"


@given(st.sampled_from((1, 2)), st.binary(min_size=6, max_size=6), ADDRESS4, ADDRESS4, st.binary(max_size=20))
def test_arp_built_is_parsed_back(operation: int, link: bytes, sender: int, target: int, padding: bytes) -> None:
    data = arp.build(operation, link, sender, b"\3" * 6, target)
    assert arp.parse_arp_untrusted(data + padding, 0, len(data + padding)) == (
        operation,
        link,
        sender,
        b"\3" * 6,
        target,
    )


def test_router_advertisement_built_is_parsed_back() -> None:
    rest, body = ndp.router_advertisement(64, ndp.RA_OTHER | 1 << 3, 1800, 30000, 1000)
    prefix = 0x20010DB8 << 96
    body += ndp.prefix_option(prefix, 64, ndp.PREFIX_ON_LINK | ndp.PREFIX_AUTONOMOUS, 86400, 3600)
    body += ndp.mtu_option(1400) + ndp.option(ndp.SOURCE_LINK, b"\2" * 6)
    body += ndp.rdnss_option([prefix | 0x53], 600) + ndp.dnssl_option(["example.org", "a.b"], 700)
    body += ndp.route_option(prefix | 1 << 64, 48, -1, 900) + ndp.route_option(0, 0, 1, 10)
    told = ndp.parse_router_advertisement_untrusted(bytes((134, 0, 0, 0)) + rest.to_bytes(4, "big") + body)
    assert told is not None
    assert (told.hop_limit, told.lifetime_s, told.reachable_ms, told.retrans_ms) == (64, 1800, 30000, 1000)
    assert (told.preference, told.mtu, told.link) == (1, 1400, b"\2" * 6)
    assert told.prefixes == [(prefix, 64, 0xC0, 86400, 3600)]
    assert told.servers == [(prefix | 0x53, 600)]
    assert told.search == [("example.org", 700), ("a.b", 700)]
    assert told.routes == [(prefix, 48, -1, 900), (0, 0, 1, 10)]


def test_router_advertisement_option_of_length_zero_condemns_the_message() -> None:
    message = bytes((134, 0)) + bytes(14) + bytes((1, 0)) + bytes(6)
    assert ndp.parse_router_advertisement_untrusted(message) is None


def test_prefix_option_preferred_above_valid_is_left_out() -> None:
    message = bytes((134, 0)) + bytes(14) + ndp.prefix_option(1 << 64, 64, 0xC0, 10, 11)
    told = ndp.parse_router_advertisement_untrusted(message)
    assert told is not None and told.prefixes == []


@pytest.mark.parametrize(("code", "value"), [(0, 0), (127, 127), (0x80, 128), (0xFF, 31744)])
def test_igmp_floating_point_code_follows_rfc_3376(code: int, value: int) -> None:
    assert igmp.floating(code) == value


@pytest.mark.parametrize(("code", "value"), [(32767, 32767), (0x8000, 32768), (0xFFFF, 8387584)])
def test_mld_floating_point_code_follows_rfc_3810(code: int, value: int) -> None:
    assert mld.floating(code) == value


def test_igmp_queries_of_each_version_are_told_apart() -> None:
    group = 0xE1010101
    for message, version, response in (
        (igmp.v2_message(igmp.QUERY, group), 1, 0),
        (igmp.v2_message(igmp.QUERY, group, 25), 2, 2500),
        (igmp.v3_query(group, 100, (1, 2)), 3, 10000),
    ):
        assert igmp.parse_igmp_untrusted(message) == (igmp.QUERY, group)
        query = igmp.parse_query_untrusted(message)
        assert query is not None
        assert (query.version, query.group, query.max_response_ms) == (version, group, response)
        assert query.sources == ((1, 2) if version == 3 else ())


@given(
    st.lists(st.tuples(st.integers(1, 6), ADDRESS4, st.lists(ADDRESS4, max_size=4).map(tuple)), min_size=1, max_size=6)
)
def test_igmp_report_built_is_parsed_back(records: igmp.Records) -> None:
    message = igmp.v3_report(records)
    assert igmp.parse_igmp_untrusted(message) is not None
    assert igmp.parse_v3_report_untrusted(message) == records


def test_ipv4_options_record_route_and_timestamp_are_filled_in() -> None:
    options = bytes((7, 7, 4, 0, 0, 0, 0)) + bytes((68, 12, 5, 1)) + bytes(8) + b"\0"
    assert ipv4_options.check_untrusted(options) == (-1, False)
    out = ipv4_options.record(options, 0x0A000001, 1234)
    assert out[:7] == bytes((7, 7, 8, 10, 0, 0, 1))
    assert out[7:19] == bytes((68, 12, 13, 1, 10, 0, 0, 1)) + (1234).to_bytes(4, "big")
    again = ipv4_options.record(out, 0x0A000002, 5678)
    assert again[:7] == out[:7]  # full
    assert again[10] == 0x11  # one overflow


@pytest.mark.parametrize(
    ("options", "wrong", "source_route"),
    [
        (bytes((131, 3, 4, 0)), -1, True),
        (bytes((137, 7, 4, 1, 2, 3, 4, 0)), -1, True),
        (bytes((7, 2, 0, 0)), 1, False),
        (bytes((7, 9, 4, 0)), 1, False),
        (bytes((1, 7)), 1, False),
        (bytes((68, 4, 4, 0)), 2, False),
        (bytes((148, 4, 0, 0)), -1, False),
        (bytes((0, 255, 255, 255)), -1, False),
    ],
)
def test_ipv4_options_are_checked(options: bytes, wrong: int, source_route: bool) -> None:
    assert ipv4_options.check_untrusted(options) == (wrong, source_route)


def test_ipv4_options_copied_into_fragments_are_those_with_the_bit() -> None:
    options = bytes((7, 3, 4)) + bytes((148, 4, 0, 0)) + b"\x01"
    assert ipv4_options.copied(options) == bytes((148, 4, 0, 0))


@given(st.integers(0, sequence.MASK), st.integers(-(1 << 30), 1 << 30))
def test_sequence_comparisons_hold_across_the_wrap(start: int, step: int) -> None:
    end = sequence.add(start, step)
    assert sequence.diff(end, start) == step
    assert sequence.less(start, end) == (step > 0)
    assert sequence.less_equal(start, end) == (step >= 0)
    assert sequence.maximum(start, end) == (end if step >= 0 else start)
    assert sequence.minimum(start, end) == (start if step >= 0 else end)
    assert sequence.in_window(end, start, 1 << 31) == (0 <= step)
    assert sequence.between(start, end, sequence.add(start, 1 << 30)) == (0 <= step)
