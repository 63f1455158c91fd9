"""Links that need no host: bridge, faults, shape, pair and pcap, with a clock that the test moves."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.netstackd.links.base import FRAME_BYTES, VNET_BYTES, Link, VnetLink
from services.netstackd.links.bridge import Bridge
from services.netstackd.links.fault import FaultLink, Faults
from services.netstackd.links.loopback import PairLink, open_pair
from services.netstackd.links.pcap import PcapError, PcapWriter, link_type_untrusted, read_pcap_untrusted
from services.netstackd.links.shaper import Shape, ShapedLink
from services.netstackd.network.interface import ETHERNET
from services.netstackd.storage.packet import CSUM_PARTIAL, Packet
from tests.netstack.links import frames

SECOND = 10**9


class Sink(Link):
    """A port that remembers what it was given."""

    def __init__(self, name: str, mtu: int = 1500) -> None:
        super().__init__(name, "sink", fd=-1, mac=b"", mtu=mtu, offload=0, framing=ETHERNET)
        self.sent: list[tuple[int, bytes]] = []

    def send(self, packets: Sequence[Packet], now: int) -> None:
        self.sent += [(now, packet.frame_bytes()) for packet in packets]

    def receive(self, limit: int, now: int) -> list[Packet]:
        return []


def mac(number: int) -> bytes:
    return bytes((2, 0, 0, 0, number >> 8, number & 255))


def frame(destination: bytes, source: bytes, size: int = 60) -> Packet:
    data = bytearray(destination + source + b"\x88\xb5" + bytes(size - 14))
    return Packet(data, len(data))


def make_bridge(**options: int) -> tuple[Bridge, list[Sink]]:
    ports = [Sink(f"p{number}") for number in range(3)]
    return Bridge("br0", ports, mac=mac(99), **options), ports  # type: ignore[arg-type]


def test_a_bridge_floods_what_it_does_not_know_and_not_what_it_does() -> None:
    bridge, (one, two, three) = make_bridge()
    assert bridge.receive_from(one, [frame(mac(2), mac(1))], 0) == []
    assert (len(one.sent), len(two.sent), len(three.sent)) == (0, 1, 1)
    bridge.receive_from(two, [frame(mac(1), mac(2))], 1)
    assert (len(one.sent), len(two.sent), len(three.sent)) == (1, 1, 1)
    bridge.receive_from(one, [frame(mac(2), mac(1))], 2)
    assert (len(two.sent), len(three.sent)) == (2, 1)
    bridge.receive_from(three, [frame(mac(1), mac(1))], 3)  # the station moved
    bridge.receive_from(two, [frame(mac(1), mac(2))], 4)
    assert (len(one.sent), len(three.sent)) == (1, 2)
    bridge.receive_from(three, [frame(mac(1), mac(3))], 5)  # to where it came from
    assert (len(one.sent), len(two.sent), len(three.sent)) == (1, 2, 2)


def test_a_bridge_gives_the_stack_what_is_for_it_and_a_copy_of_what_is_for_all() -> None:
    bridge, ports = make_bridge()
    own, group = frame(mac(99), mac(1)), frame(b"\xff" * 6, mac(1))
    local = bridge.receive_from(ports[0], [own, group, frame(b"\x01\x80\xc2\0\0\0", mac(1))], 0)
    assert local[0] is own and local[1] is not group and local[1].frame_bytes() == group.frame_bytes()
    assert len(local) == 2 and len(ports[1].sent) == 1
    bridge.send([frame(mac(1), mac(99)), frame(b"\xff" * 6, mac(99))], 1)
    assert [len(port.sent) for port in ports] == [2, 2, 2]


def test_a_bridge_forgets_and_is_bounded() -> None:
    bridge, ports = make_bridge(ageing_ns=10 * SECOND, max_entries=50)
    for number in range(101, 300):
        bridge.receive_from(ports[0], [frame(b"\xff" * 6, mac(number))], 0)
    assert len(bridge.stations(0)) == 50 and bridge.fdb_full == 149
    bridge.receive_from(ports[1], [frame(b"\xff" * 6, mac(500))], 11 * SECOND)
    assert bridge.stations(11 * SECOND) == [(mac(500), "p1", 0)]
    flooded = bridge.flooded
    bridge.receive_from(ports[1], [frame(mac(101), mac(500))], 12 * SECOND)
    assert bridge.flooded == flooded + 1


def test_a_bridge_does_not_send_what_a_port_cannot_take() -> None:
    bridge, ports = make_bridge()
    bridge.receive_from(ports[0], [frame(b"\xff" * 6, mac(1), 1519), frame(b"\xff" * 6, mac(1), 1518)], 0)
    assert len(ports[1].sent) == 1 and ports[1].counters.tx_dropped == 1


def drive(link: Link, until: int) -> None:
    """Call the link when it asks for it."""
    now = 0
    while link.deadline is not None and link.deadline <= until:
        now = max(now, link.deadline)
        link.receive(64, now)


def test_faults_repeat_with_their_seed_and_come_near_their_chances() -> None:
    runs = []
    for _ in range(2):
        sink = Sink("s")
        faults = Faults(loss=0.1, duplicate=0.05, corrupt=0.1, delay_ns=SECOND, jitter_ns=SECOND)
        link = FaultLink(sink, random.Random(4), tx=faults)
        for number in range(1000):
            link.send([frame(mac(1), mac(number))], 0)
        drive(link, 10 * SECOND)
        runs.append(sink.sent)
        assert 60 < link.counters.tx_dropped < 140
    assert runs[0] == runs[1] and 880 < len(runs[0]) < 1020
    assert all(SECOND <= at <= 2 * SECOND for at, _ in runs[0])
    clean = {bytes(frame(mac(1), mac(number)).head) for number in range(1000)}
    assert 60 < sum(data not in clean for _, data in runs[0]) < 150
    assert [data for _, data in runs[0]] != sorted(data for _, data in runs[0])


def test_a_rate_sends_one_after_the_other_and_drops_at_the_tail() -> None:
    sink = Sink("s")
    link = FaultLink(sink, random.Random(1), tx=Faults(rate_bps=8000, queue=5))
    link.send([frame(mac(1), mac(number), 100) for number in range(8)], 0)
    drive(link, 10 * SECOND)
    assert [at for at, _ in sink.sent] == [SECOND // 10 * (number + 1) for number in range(5)]
    assert link.counters.tx_dropped == 3


def test_a_corrupted_segment_is_noticed_by_its_checksum() -> None:
    sink = Sink("s")
    link = FaultLink(sink, random.Random(2), tx=Faults(corrupt=1.0))
    for _ in range(200):
        link.send([frames.large(b"payload" * 20, 0)], 0)
    bad = [data for _, data in sink.sent if data[:14] == frames.ETHERNET and not frames.is_good(data)]
    assert len(sink.sent) == 200 and len(bad) > 150


def test_a_shape_lets_its_burst_through_and_then_its_rate() -> None:
    sink = Sink("s")
    link = ShapedLink(sink, Shape(rate_bps=8_000_000, burst_bytes=70_000, queue_bytes=200_000))
    link.send([frame(mac(1), mac(2), 1000) for _ in range(300)], SECOND)
    assert len(sink.sent) == 70 and link.counters.tx_dropped == 30
    drive(link, 3 * SECOND)
    assert len(sink.sent) == 270
    last = sink.sent[-1][0] - SECOND
    assert abs(last - 200 * SECOND // 1000) < SECOND // 500  # 200 kilobytes at one megabyte a second


def test_what_is_put_around_a_link_follows_its_descriptor_and_its_end() -> None:
    sink = Sink("s")
    link = ShapedLink(FaultLink(sink, random.Random(1)), Shape(rate_bps=1000))
    assert link.fd == -1 and link.broken is None and not link.wants_write
    sink.fd, sink.broken = 7, "gone"
    sink.backlog.append(frame(mac(1), mac(2)))
    assert link.fd == 7 and link.broken == "gone" and link.wants_write and link.counters is sink.counters


def test_a_pair_hands_over_unfinished_packets_as_they_are() -> None:
    left, right = open_pair("l", "r", macs=(mac(1), mac(2)))
    packet = frames.large(bytes(5000), 1448)
    left.send([packet], 5)
    assert right.deadline == 5
    (got,) = right.receive(64, 5)
    assert got.csum == CSUM_PARTIAL and got.gso_size == 1448 and got.frame_bytes() == packet.frame_bytes()
    assert right.deadline is None and isinstance(left, PairLink)
    left.send([frame(mac(2), mac(1)) for _ in range(1500)], 6)
    assert left.counters.tx_dropped == 500


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    writer = PcapWriter(os.open(path, os.O_WRONLY | os.O_CREAT), wall=10 * SECOND, snap=100)
    packets = [frame(mac(1), mac(2)), frames.large(bytes(300), 0)]
    writer.record(packets, 7)
    writer.close()
    read = list(read_pcap_untrusted(path.read_bytes()))
    assert [at for at, _ in read] == [10 * SECOND + 7] * 2
    assert read[0][1] == packets[0].frame_bytes() and len(read[1][1]) == 100
    assert packets[1].csum == CSUM_PARTIAL  # the original is as it was


@pytest.mark.parametrize("seed", range(10))
def test_no_bytes_make_the_pcap_reader_fail_otherwise(seed: int) -> None:
    rng = random.Random(seed)
    good = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 1, 2, 3, 3) + b"abc"
    assert list(read_pcap_untrusted(good)) == [(1_000_002_000, b"abc")]
    for _ in range(200):
        data = bytearray(good[: rng.randrange(len(good) + 1)])
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        for reader in (lambda data: list(read_pcap_untrusted(data)), link_type_untrusted):
            try:
                reader(bytes(data))
            except PcapError:
                pass


def test_a_receive_buffer_is_used_again_only_when_nothing_of_its_frame_is_left() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = VnetLink("link", "test", fd=ours.fileno(), mac=bytes(6), mtu=1500, offload=0, framing=ETHERNET)
    number = 0

    def receive() -> Packet:
        nonlocal number
        number += 1
        theirs.send(bytes(VNET_BYTES) + bytes([number]) * 20_000)
        (packet,) = link.receive(8, 0)
        assert packet.frame_bytes() == bytes([number]) * 20_000
        return packet

    buffers = [receive().head for _ in range(2)]  # the test holds on to them
    views = [memoryview(receive().head)[:20_000] for _ in range(40)]  # to views alone, and to more than are kept
    assert [bytes(view[:1]) for view in views] == [bytes([each]) for each in range(3, 43)]
    assert buffers[0][0] == 1 and buffers[1][0] == 2
    del views, buffers
    receive()
    for _ in range(20):
        head = receive().head
        assert any(head is each for each in link._kept)
        del head
    grown = receive()
    assert isinstance(grown.head, bytearray)
    grown.head[12:12] = b"\x81\x00\x00\x05"
    del grown
    for _ in range(3):
        assert len(receive().head) == FRAME_BYTES
    ours.close()
    theirs.close()
