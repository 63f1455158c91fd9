"""A whole stack under broken frames: nothing escapes, every packet that goes nowhere has its counter, tables stay
bounded, and what worked before works afterwards."""

from __future__ import annotations

import random

import pytest

from services.netstackd.network.fragments import HIGH_BYTES
from services.netstackd.network.neighbours import LIMIT
from services.netstackd.network.routing import CACHE_LIMIT
from services.netstackd.sockets import AF_INET, AF_INET6, SOCK_RAW, SOCK_STREAM, open_socket
from services.netstackd.storage.packet import Packet
from services.netstackd.wire import arp, ethernet, icmpv4, icmpv6, igmp, ipv4, ipv6, ndp, tcp, udp
from services.netstackd.wire.numbers import ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6
from tests.netstack.unit.hosts import MILLISECOND, Pair, ip, received

PEER = b"\2\0\0\0\0\x63"


def seeds(pair: Pair) -> list[bytes]:
    """Good frames of every kind, to host b."""
    mac = pair.ib.mac
    a4, b4, a6, b6 = ip("10.0.0.99"), ip("10.0.0.2"), ip("fd00::99"), ip("fd00::2")
    datagram4 = udp.header_checksummed(a4, b4, 9, 53, b"q" * 40) + b"q" * 40
    datagram6 = udp.header_checksummed(a6, b6, 9, 53, b"q" * 40) + b"q" * 40
    syn = tcp.header(9, 80, 1, 0, tcp.SYN, 1000, options=bytes((2, 4, 5, 180)))
    syn4 = syn[:16] + tcp.checksum_of(a4, b4, syn).to_bytes(2, "big") + syn[18:]
    quote = ipv4.header(b4, a4, 17, 8) + udp.header(53, 9, 0)
    quote6 = ipv6.header(b6, a6, 17, 8) + udp.header(53, 9, 0)
    payloads4 = [
        (17, datagram4),
        (6, syn4),
        (1, icmpv4.echo(8, 1, 2, b"x" * 30)),
        (1, icmpv4.message(3, 4, 576, quote)),
        (1, icmpv4.message(3, 3, 0, quote)),
        (1, icmpv4.message(5, 1, ip("10.0.0.7"), quote)),
        (2, igmp.v3_query(0, 10)),
        (253, b"unknown"),
    ]
    payloads6 = [
        (17, datagram6),
        (58, icmpv6.echo(a6, b6, 128, 1, 2, b"x" * 30)),
        (58, icmpv6.message(a6, b6, 2, 0, 1280, quote6)),
        (58, icmpv6.message(a6, b6, 135, 0, 0, ndp.solicitation(b6, PEER))),
        (58, icmpv6.message(a6, b6, 136, 0, 0x60000000, ndp.advertisement(a6, PEER))),
        (0, bytes((17, 0, 5, 2, 0, 0, 1, 0)) + datagram6),
        (44, bytes((17, 0, 0, 1, 0, 0, 0, 9)) + datagram6[:40]),
        (44, bytes((17, 0, 0, 40, 0, 0, 0, 9)) + datagram6[40:]),
    ]
    frames = [
        ethernet.header(mac, PEER, ETHERTYPE_IPV4) + ipv4.header(a4, b4, proto, len(data)) + data
        for proto, data in payloads4
    ]
    frames += [
        ethernet.header(mac, PEER, ETHERTYPE_IPV4)
        + ipv4.header(a4, b4, 17, 24, ident=5, fragment=0x2000)
        + datagram4[:24],
        ethernet.header(mac, PEER, ETHERTYPE_IPV4) + ipv4.header(a4, b4, 17, 24, ident=5, fragment=3) + datagram4[24:],
        ethernet.header(mac, PEER, ETHERTYPE_IPV4, tag=7) + ipv4.header(a4, b4, 17, len(datagram4)) + datagram4,
    ]
    frames += [
        ethernet.header(mac, PEER, ETHERTYPE_IPV6) + ipv6.header(a6, b6, proto, len(data), hop_limit=255) + data
        for proto, data in payloads6
    ]
    frames.append(ethernet.header(mac, PEER, ETHERTYPE_ARP) + arp.build(1, PEER, a4, bytes(6), b4))
    return frames


def mutate(rng: random.Random, frame: bytes) -> bytes:
    data = bytearray(frame)
    for _ in range(rng.randrange(1, 4)):
        action = rng.randrange(5)
        at = rng.randrange(len(data)) if data else 0
        if action <= 1 and data:
            data[at] = rng.choice((0, 255, 1, rng.randrange(256)))
        elif action == 2 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif action == 3:
            del data[at:]
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 40))
    if rng.random() < 0.5 and len(data) >= 34 and data[12:14] == b"\x08\0" and data[14] & 15 >= 5:
        size = (data[14] & 15) * 4
        if len(data) >= 14 + size:
            ipv4.write_checksum(data, 14)  # let the rest of the damage be seen
    return bytes(data)


def works(pair: Pair, port: int) -> bool:
    """Whether a datagram still passes both ways."""
    server, client = pair.b.udp(4, port), pair.a.udp(4)
    client.connect((ip("10.0.0.2"), port, 0))
    client.send(b"still there?")
    pair.world.run(0.2)
    message = server.receive()
    server.send(b"yes", message.address)
    pair.world.run(0.2)
    answer = received(client)
    server.close()
    client.close()
    return message.data == b"still there?" and answer == [b"yes"]


@pytest.mark.parametrize("seed", range(6))
def test_stack_mutated_frames_do_no_harm(seed: int) -> None:
    rng = random.Random(seed)
    pair = Pair(seed=seed + 1)
    pair.run(3)
    stack = pair.b.stack
    for family, kind, proto in ((AF_INET, SOCK_RAW, 1), (AF_INET6, SOCK_RAW, 58), (AF_INET, SOCK_RAW, 253)):
        open_socket(stack, family, kind, proto)
    listener = open_socket(stack, AF_INET6, SOCK_STREAM)
    listener.bind((0, 80, 0))  # type: ignore[call-arg, arg-type]
    listener.listen(10)  # type: ignore[union-attr]
    pair.b.udp(6, 53)
    frames = seeds(pair)
    now = pair.world.now
    for _ in range(60):
        batch = [mutate(rng, rng.choice(frames)) for _ in range(64)]
        stack.receive(pair.ib, [Packet(frame, len(frame)) for frame in batch], now)
        now += 37 * MILLISECOND
        stack.advance(now)
        stack.flush(now)
        pair.ib.tx.clear()
    pair.world.now = now
    assert len(stack.neighbours4) <= LIMIT and len(stack.neighbours6) <= LIMIT
    assert stack.reassembly.bytes <= HIGH_BYTES
    assert works(pair, 4000)


def test_stack_random_frames_do_no_harm() -> None:
    rng = random.Random(5)
    pair = Pair()
    pair.run(3)
    for ethertype in (0x800, 0x806, 0x86DD, 0x8100, 0x88A8, 0x1234):
        for _ in range(300):
            frame = ethernet.header(pair.ib.mac, PEER, ethertype) + rng.randbytes(rng.randrange(120))
            pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)
    pair.ib.tx.clear()
    assert works(pair, 4000)


def test_stack_fragment_flood_is_bounded_and_counted() -> None:
    pair = Pair()
    pair.run(3)
    src, dst = ip("10.0.0.99"), ip("10.0.0.2")
    payload = bytes(1400)
    for ident in range(6000):
        packet = ipv4.header(src + ident % 50, dst, 17, len(payload), ident=ident, fragment=0x2000) + payload
        frame = ethernet.header(pair.ib.mac, PEER, ETHERTYPE_IPV4) + packet
        pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)
        assert pair.b.stack.reassembly.bytes <= HIGH_BYTES + 2000
    assert pair.b.count("DropFragmentMemory") > 0
    assert works(pair, 4000)
    pair.run(31)
    assert len(pair.b.stack.reassembly) == 0 and pair.b.stack.reassembly.bytes == 0


def test_stack_neighbour_flood_is_bounded_and_counted() -> None:
    pair = Pair()
    pair.run(3)
    assert works(pair, 4000)  # so that they know each other
    table = pair.b.stack.neighbours4
    peer = table.find(pair.ib, ip("10.0.0.1"))
    assert peer is not None
    table.confirm(peer)
    for number in range(3000):
        frame = ethernet.header(ethernet.BROADCAST, PEER, ETHERTYPE_ARP)
        frame += arp.build(1, PEER, ip("10.0.0.0") + 3 + number % 250 + (number // 250 << 8), bytes(6), ip("10.0.0.2"))
        pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)
        pair.ib.tx.clear()
        assert len(pair.b.stack.neighbours4) <= LIMIT
    assert pair.b.count("NeighEntriesEvicted") > 0
    assert table.find(pair.ib, ip("10.0.0.1")) is peer  # a flood pushes out what it made itself
    assert works(pair, 4000)


def test_stack_spoofed_sources_do_not_grow_the_route_cache() -> None:
    pair = Pair()
    pair.run(3)
    for number in range(CACHE_LIMIT + 500):
        frame = ethernet.header(pair.ib.mac, PEER, ETHERTYPE_IPV4) + ipv4.header(
            0x0B000000 + number, ip("10.0.0.2"), 99, 0
        )
        pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)
    assert len(pair.ib.input_cache4) <= CACHE_LIMIT
    assert works(pair, 4000)
