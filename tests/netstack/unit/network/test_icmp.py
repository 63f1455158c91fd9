"""Echo, errors to sockets, protocols that nobody speaks."""

from __future__ import annotations

import errno

import pytest

from services.netstackd.errors import NetError
from services.netstackd.storage.packet import Packet
from services.netstackd.wire import ethernet, icmpv4, ipv4, ipv6
from services.netstackd.wire.numbers import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from tests.netstack.unit.hosts import Pair, ip

VERSIONS = (4, 6)
SRC = {4: ip("10.0.0.1"), 6: ip("fd00::1")}
DST = {4: ip("10.0.0.2"), 6: ip("fd00::2")}


def ready() -> Pair:
    pair = Pair()
    pair.run(12)
    pair.world.frames.clear()
    return pair


def to_b(pair: Pair, packet: bytes, *, group: bool = False) -> None:
    ethertype = ETHERTYPE_IPV4 if packet[0] >> 4 == 4 else ETHERTYPE_IPV6
    frame = ethernet.header(ethernet.BROADCAST if group else pair.ib.mac, pair.ia.mac, ethertype) + packet
    pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)
    pair.settle()


@pytest.mark.parametrize("size", [0, 56, 1472, 1473, 9000, 65000])
def test_echo_request_of_any_size_comes_back_whole(size: int) -> None:
    from services.netstackd.sockets import AF_INET, SOCK_DGRAM, PingSocket, open_socket

    pair = ready()
    socket = open_socket(pair.a.stack, AF_INET, SOCK_DGRAM, 1)
    assert isinstance(socket, PingSocket)
    data = bytes(i & 255 for i in range(size))
    socket.send(bytes((8, 0, 0, 0, 0, 0, 0, 9)) + data, (DST[4], 0, 0))
    pair.settle()
    reply = socket.receive().data
    assert (reply[0], reply[6:8], reply[8:]) == (0, b"\0\x09", data)


def test_echo_request_to_a_broadcast_address_is_not_answered_unless_told() -> None:
    pair = ready()
    echo = icmpv4.echo(8, 1, 1, b"x")
    packet = ipv4.header(SRC[4], ip("10.0.0.255"), 1, len(echo)) + echo
    to_b(pair, packet, group=True)
    assert pair.b.count("DropIcmpBroadcastEcho") == 1 and pair.b.count("IcmpOutEchoReps") == 0
    pair.b.stack.icmp4.echo_ignore_groups = False
    to_b(pair, packet, group=True)
    assert pair.b.count("IcmpOutEchoReps") == 1
    answer = [f.data for f in pair.world.sent(pair.b, ETHERTYPE_IPV4)][-1]
    assert answer[26:30] == DST[4].to_bytes(4, "big")  # never from the broadcast address


@pytest.mark.parametrize("version", VERSIONS)
def test_icmp_bad_checksum_is_dropped(version: int) -> None:
    pair = ready()
    if version == 4:
        echo = bytearray(icmpv4.echo(8, 1, 1, b"x"))
        echo[3] ^= 1
        to_b(pair, ipv4.header(SRC[4], DST[4], 1, len(echo)) + echo)
    else:
        to_b(pair, ipv6.header(SRC[6], DST[6], 58, 8) + bytes((128, 0, 0, 1, 0, 0, 0, 0)))
    assert pair.b.count("DropIcmpChecksum") == 1
    assert pair.b.count("IcmpInCsumErrors" if version == 4 else "Icmp6InCsumErrors") == 1


def test_timestamp_request_is_answered() -> None:
    pair = ready()
    message = icmpv4.message(icmpv4.TIMESTAMP, 0, 0x00010002, bytes((0, 0, 0, 5)) + bytes(8))
    to_b(pair, ipv4.header(SRC[4], DST[4], 1, len(message)) + message)
    answer = [f.data for f in pair.world.sent(pair.b, ETHERTYPE_IPV4)][-1]
    assert answer[34] == icmpv4.TIMESTAMP_REPLY and answer[42:46] == bytes((0, 0, 0, 5)) and answer[46] & 0x80


@pytest.mark.parametrize("version", VERSIONS)
def test_datagram_to_a_closed_port_becomes_connection_refused(version: int) -> None:
    pair = ready()
    client = pair.a.udp(version)
    client.connect((DST[version], 9, 0))
    told: list[int] = []
    client.subscribe(lambda socket, mask: told.append(mask))
    client.send(b"anybody?")
    pair.settle()
    assert told and client.poll() & 8
    with pytest.raises(NetError) as refused:
        client.receive()
    assert refused.value.errno == errno.ECONNREFUSED
    assert client.error == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_error_queue_has_errno_origin_offender_and_what_was_sent(version: int) -> None:
    pair = ready()
    client = pair.a.udp(version)
    client.receive_errors = client.receive_errors6 = True
    client.send(b"anybody?", (DST[version], 9, 0))
    pair.settle()
    message = client.receive(flags=0x2000)
    error = message.error
    assert error is not None and message.data == b"anybody?"
    assert message.address is not None and message.address[:2] == (DST[version], 9)
    expected = (errno.ECONNREFUSED, 2, 3, 3) if version == 4 else (errno.ECONNREFUSED, 3, 1, 4)
    assert (error.errno, error.origin, error.type, error.code) == expected
    assert error.offender == DST[version]


def test_unconnected_socket_without_the_option_hears_of_no_error() -> None:
    pair = ready()
    client = pair.a.udp()
    client.send(b"anybody?", (DST[4], 9, 0))
    pair.settle()
    assert client.error == 0 and not client.errors


def test_protocol_unreachable_is_told() -> None:
    pair = ready()
    to_b(pair, ipv4.header(SRC[4], DST[4], 253, 8) + bytes(8))
    assert pair.b.count("DropProtocolUnknown") == 1 and pair.b.count("IpInUnknownProtos") == 1
    sent = [f.data for f in pair.world.sent(pair.b, ETHERTYPE_IPV4)][-1]
    assert (sent[34], sent[35]) == (3, 2)


def test_unknown_next_header_is_a_parameter_problem_that_points_at_it() -> None:
    pair = ready()
    to_b(pair, ipv6.header(SRC[6], DST[6], 253, 8) + bytes(8))
    to_b(pair, ipv6.header(SRC[6], DST[6], 60, 16) + bytes((253, 0, 1, 4, 0, 0, 0, 0)) + bytes(8))
    sent = [f.data for f in pair.world.sent(pair.b, ETHERTYPE_IPV6) if f.data[54] == 4]
    assert [(s[55], int.from_bytes(s[58:62], "big")) for s in sent] == [(1, 6), (1, 40)]


def test_no_next_header_is_the_silent_end() -> None:
    pair = ready()
    to_b(pair, ipv6.header(SRC[6], DST[6], 59, 8) + bytes(8))
    assert not list(pair.world.sent(pair.b, ETHERTYPE_IPV6))


def test_error_quote_is_bounded() -> None:
    pair = ready()
    to_b(pair, ipv4.header(SRC[4], DST[4], 253, 1400) + bytes(1400))
    sent = [f.data for f in pair.world.sent(pair.b, ETHERTYPE_IPV4)][-1]
    assert len(sent) - 14 == 576  # RFC 1812 section 4.3.2.3
    to_b(pair, ipv6.header(SRC[6], DST[6], 253, 1400) + bytes(1400))
    sent = [f.data for f in pair.world.sent(pair.b, ETHERTYPE_IPV6)][-1]
    assert len(sent) - 14 == 1280  # RFC 4443 section 2.4 (c)
