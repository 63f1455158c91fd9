"""Reassembly of both versions: order, overlaps, duplicates, limits, time; and fragments of our own."""

from __future__ import annotations

import gc
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.netstackd.network.fragments import HIGH_BYTES
from services.netstackd.storage.packet import Packet
from services.netstackd.wire import ethernet, icmpv4, icmpv6, ipv4, ipv6, udp
from services.netstackd.wire.ipv6_extensions import fragment_header
from services.netstackd.wire.numbers import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from tests.netstack.unit.hosts import Pair, ip, received

SRC = {4: ip("10.0.0.1"), 6: ip("fd00::1")}
DST = {4: ip("10.0.0.2"), 6: ip("fd00::2")}
VERSIONS = (4, 6)


def ready() -> Pair:
    pair = Pair()
    pair.run(12)
    pair.world.frames.clear()
    return pair


def datagram(version: int, size: int) -> bytes:
    payload = bytes(i * 7 & 255 for i in range(size))
    return udp.header_checksummed(SRC[version], DST[version], 5000, 7, payload) + payload


def cut(version: int, data: bytes, ident: int, pieces: list[tuple[int, int]]) -> list[bytes]:
    """Packets with these [start, end) of `data`."""
    packets = []
    for start, end in pieces:
        more = end < len(data)
        piece = data[start:end]
        if version == 4:
            word = start // 8 | (0x2000 if more else 0)
            packets.append(ipv4.header(SRC[4], DST[4], 17, len(piece), ident=ident, fragment=word) + piece)
        else:
            piece = fragment_header(17, start, more, ident) + piece
            packets.append(ipv6.header(SRC[6], DST[6], 44, len(piece)) + piece)
    return packets


def deliver(pair: Pair, packets: list[bytes]) -> None:
    for packet in packets:
        ethertype = ETHERTYPE_IPV4 if packet[0] >> 4 == 4 else ETHERTYPE_IPV6
        frame = ethernet.header(pair.ib.mac, pair.ia.mac, ethertype) + packet
        pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)
    pair.settle()


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 30), size=st.integers(100, 4000))
def test_fragments_in_any_order_with_duplicates_make_the_datagram(version: int, seed: int, size: int) -> None:
    pair = ready()
    server = pair.b.udp(version, 7)
    rng = random.Random(seed)
    data = datagram(version, size)
    cuts = sorted({0, len(data), *(rng.randrange(1, len(data)) & ~7 for _ in range(5))})
    packets = cut(version, data, seed & 0xFFFF, list(zip(cuts[:-1], cuts[1:], strict=True)))
    packets += rng.sample(packets, len(packets) // 2) if len(packets) > 2 else []
    rng.shuffle(packets)
    deliver(pair, packets)
    assert received(server) == [data[8:]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "pieces",
    [
        [(0, 64), (56, 208)],
        [(0, 64), (64, 128), (32, 72)],
        [(64, 208), (0, 72)],
        [(0, 128), (64, 96)],
        [(0, 64), (0, 72)],
    ],
)
def test_fragments_that_overlap_condemn_the_datagram(version: int, pieces: list[tuple[int, int]]) -> None:
    pair = ready()
    server = pair.b.udp(version, 7)
    data = datagram(version, 200)
    deliver(pair, cut(version, data, 1, pieces))
    deliver(pair, cut(version, data, 1, [(0, 64), (64, 128), (128, 208)]))
    assert received(server) == []
    assert pair.b.count("DropFragmentOverlap") >= 1
    deliver(pair, cut(version, data, 2, [(0, 64), (64, 208)]))
    assert len(received(server)) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments_past_the_told_end_condemn_the_datagram(version: int) -> None:
    pair = ready()
    server = pair.b.udp(version, 7)
    data = datagram(version, 200)
    last = cut(version, data[:128], 1, [(64, 128)])
    deliver(pair, last + cut(version, data, 1, [(128, 136), (0, 64)]))
    assert received(server) == [] and pair.b.count("DropFragmentOverlap") >= 1


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments_incomplete_time_out_and_the_sender_is_told_when_the_first_came(version: int) -> None:
    pair = ready()
    data = datagram(version, 200)
    deliver(pair, cut(version, data, 1, [(0, 64)]))
    deliver(pair, cut(version, data, 2, [(64, 128)]))
    assert len(pair.b.stack.reassembly) == 2
    pair.run(29 if version == 4 else 59)
    assert len(pair.b.stack.reassembly) == 2
    pair.run(2)
    assert len(pair.b.stack.reassembly) == 0 and pair.b.stack.reassembly.bytes == 0
    assert pair.b.count("DropFragmentTimeout") == 2
    name = "IcmpOutTimeExcds" if version == 4 else "Icmp6OutTimeExcds"
    assert pair.b.count(name) == 1
    sent = [f.data for f in pair.world.sent(pair.b)][-1]
    at = 34 if version == 4 else 54
    assert (sent[at], sent[at + 1]) == ((icmpv4.TIME_EXCEEDED if version == 4 else icmpv6.TIME_EXCEEDED), 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments_beyond_64_kib_are_refused(version: int) -> None:
    pair = ready()
    data = bytes(65600)
    deliver(pair, cut(version, data, 1, [(65472, 65600)]))
    assert pair.b.count("DropFragmentTooLong") == 1
    assert len(pair.b.stack.reassembly) == 0
    assert pair.b.count("Icmp6OutParmProblems") == (version == 6)  # RFC 8200 section 4.5


@pytest.mark.parametrize("version", VERSIONS)
def test_fragments_of_odd_length_that_are_not_the_last_are_refused(version: int) -> None:
    pair = ready()
    deliver(pair, cut(version, datagram(version, 200), 1, [(0, 61)]))
    assert pair.b.count("DropFragmentMalformed") == 1 and len(pair.b.stack.reassembly) == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_sending_more_than_the_mtu_makes_fragments_that_fit(version: int) -> None:
    pair = ready()
    server = pair.b.udp(version, 7)
    payload = random.Random(1).randbytes(40000)
    pair.a.udp(version).send(payload, (DST[version], 7, 0))
    pair.settle()
    assert received(server) == [payload]
    sizes = [len(f.data) for f in pair.world.sent(pair.a) if f.packet.fragment]
    assert len(sizes) == 28 and max(sizes) <= 1514
    assert pair.a.count("IpFragOKs" if version == 4 else "Ip6FragOKs") == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_largest_datagram_there_can_be_arrives(version: int) -> None:
    pair = ready()
    server = pair.b.udp(version, 7)
    payload = bytes(65507)
    pair.a.udp(version).send(payload, (DST[version], 7, 0))
    pair.settle()
    assert received(server) == [payload]


def test_fragments_are_put_together_before_prerouting_when_the_hook_needs_it() -> None:
    pair = ready()
    pair.b.udp(4, 7)
    seen: list[tuple[int, bool]] = []
    hooks = pair.b.stack.hooks

    def look(packet: Packet) -> bool:
        seen.append((packet.dport, packet.fragment))
        return True

    hooks.prerouting = look
    packets = cut(4, datagram(4, 200), 1, [(64, 208), (0, 64)])
    deliver(pair, packets)
    assert seen == [(0, True), (7, True)]
    hooks.defragment = True
    seen.clear()
    deliver(pair, packets)
    assert seen == [(7, False)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_flood_of_small_first_fragments_takes_what_the_limit_says_in_memory(version: int) -> None:
    pair = ready()
    gc.collect()
    tracemalloc.start()
    try:
        for ident in range(8000):
            frame = cut(version, datagram(version, 40), ident, [(0, 16)])[0]
            frame = ethernet.header(pair.ib.mac, pair.ia.mac, 0x0800 if version == 4 else 0x86DD) + frame
            pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)
        taken = tracemalloc.get_traced_memory()[0]  # no collector is needed
    finally:
        tracemalloc.stop()
    assert pair.b.count("DropFragmentMemory") > 1000 and pair.b.stack.reassembly.bytes <= HIGH_BYTES
    assert taken < 1.5 * HIGH_BYTES
