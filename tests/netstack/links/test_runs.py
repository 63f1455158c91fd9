"""Segments in a row as one packet (storage/packet.py PacketRun): what a link that takes them sends, and one that does
not gets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from services.netstackd.edge.loop import Loop
from services.netstackd.links.base import ALL_OFFLOADS, VNET_BYTES, Link, VnetLink
from services.netstackd.network.interface import ETHERNET, OFFLOAD_CSUM
from services.netstackd.storage.packet import CSUM_PARTIAL, GSO_TCP4, HEADROOM, Packet, PacketRun, spread
from tests.netstack.links import frames
from tests.netstack.unit.hosts import Pair

SIZE = 2000


def run_of(count: int, seq: int = 0xFFFFF000) -> PacketRun:
    """So many segments of SIZE bytes, each of its own number."""
    bodies = [bytes((number,)) * SIZE for number in range(count)]
    made = frames.large(bodies[0], 1000, seq=seq)
    head = bytearray(HEADROOM - 14) + made.head[: made.payload]
    packet = PacketRun(head, len(head), bodies[:0:-1], seq, SIZE)
    packet.body = bodies[0]
    packet.version, packet.proto, packet.csum = 4, 6, CSUM_PARTIAL
    packet.l2, packet.l3, packet.l4, packet.payload = HEADROOM - 14, HEADROOM, HEADROOM + 20, len(head)
    packet.gso_size, packet.gso_type = 1000, GSO_TCP4
    return packet


def expected_of(count: int) -> list[bytes]:
    seqs = [(0xFFFFF000 + number * SIZE) & 0xFFFFFFFF for number in range(count)]
    front = bytes(run_of(1).head[HEADROOM - 14 :])
    return [
        front[:38] + seq.to_bytes(4, "big") + front[42:] + bytes((number,)) * SIZE for number, seq in enumerate(seqs)
    ]


@pytest.fixture
def wire() -> Iterator[tuple[VnetLink, socket.socket]]:
    """A link, and what is at its other end, which takes a few frames."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.setblocking(False)
    link = VnetLink(
        "wire", "test", fd=os.dup(ours.fileno()), mac=bytes(6), mtu=1500, offload=ALL_OFFLOADS, framing=ETHERNET
    )
    with ours, theirs:
        yield link, theirs
        link.close()


def arrived(theirs: socket.socket) -> list[bytes]:
    got = []
    try:
        while True:
            got.append(theirs.recv(70_000))
    except BlockingIOError:
        return got


def test_a_run_leaves_as_the_segments_it_stands_for(wire: tuple[VnetLink, socket.socket]) -> None:
    link, theirs = wire
    link.send([run_of(3), Packet(b"another frame", 13)], 0)
    got = arrived(theirs)
    assert [each[VNET_BYTES:] for each in got] == [*expected_of(3), b"another frame"]
    assert len({each[:VNET_BYTES] for each in got[:3]}) == 1 and got[0][1], "each says that it is large"
    assert link.counters.tx_packets == 4 and link.counters.tx_bytes == sum(len(each) - VNET_BYTES for each in got)


def test_what_the_host_does_not_take_of_a_run_waits(wire: tuple[VnetLink, socket.socket]) -> None:
    link, theirs = wire
    got: list[bytes] = []
    link.send([run_of(200), Packet(b"behind", 6)], 0)
    assert link.wants_write
    while link.wants_write:
        got += arrived(theirs)
        link.writable(0)
    got += arrived(theirs)
    assert [each[VNET_BYTES:] for each in got] == [*expected_of(200), b"behind"]
    assert link.counters.tx_packets == 201


def test_a_link_without_all_offloads_cuts_each_segment_of_a_run(wire: tuple[VnetLink, socket.socket]) -> None:
    link, theirs = wire
    link.offload = OFFLOAD_CSUM
    link.send([run_of(3)], 0)
    got = [each[VNET_BYTES:] for each in arrived(theirs)]
    assert b"".join(each[54:] for each in got) == b"".join(each[54:] for each in expected_of(3))
    assert [len(each) - 54 for each in got] == [1000] * 6


def test_spread_leaves_other_packets_alone() -> None:
    plain = [Packet(b"one", 3), Packet(b"two", 3)]
    assert spread(plain) is plain
    mixed = spread([plain[0], run_of(2), plain[1]])
    assert [mixed[0], mixed[3]] == plain and [each.frame_bytes() for each in mixed[1:3]] == expected_of(2)


class Plain(Link):
    """Knows nothing of runs."""

    def __init__(self) -> None:
        super().__init__("plain", "test", fd=-1, mac=bytes(6), mtu=1500, offload=ALL_OFFLOADS, framing=ETHERNET)
        self.sent: list[Packet] = []

    def send(self, packets: object, now: int) -> None:
        assert isinstance(packets, list)
        self.sent += packets


class Capture:
    failed = None

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def record(self, packets: object, now: int) -> None:
        assert isinstance(packets, list)
        self.seen += [each.frame_bytes() for each in packets]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("captured", [False, True])
def test_the_loop_shows_runs_only_to_links_that_take_them(captured: bool) -> None:
    pair = Pair()
    stack, iface, link = pair.a.stack, pair.ia, Plain()
    loop = Loop(stack, lambda: 0, lambda _link, _iface: None)
    try:
        iface.link = link
        capture = Capture()
        if captured:
            link.takes_runs = True  # type: ignore[misc]
            loop.captures[iface] = [capture]
        stack.flush(0)
        iface.tx[:] = [run_of(3)]
        stack.sending[iface] = None
        loop.flush(0)
        assert [each.frame_bytes() for each in link.sent] == expected_of(3) and not iface.tx
        assert capture.seen == (expected_of(3) if captured else [])
    finally:
        iface.link = None
        loop.close()
