"""Checksums, cutting and merging in software: what comes out is right by a plain computation, and loses nothing."""

from __future__ import annotations

import random

import pytest

from services.netstackd.links.segmentation import Merger, locate, prepare, segments
from services.netstackd.network.interface import OFFLOAD_ALL, OFFLOAD_CSUM
from services.netstackd.storage.packet import CSUM_NONE, CSUM_PARTIAL, CSUM_VALID, GSO_TCP6, GSO_UDP, Packet
from services.netstackd.wire.offload import complete_checksum
from tests.netstack.links import frames

A, B = 0x0A000001, 0x0A000002
A6, B6 = 0xFD << 120 | 1, 0xFD << 120 | 2


def test_large_tcp_segments_are_each_valid_and_carry_all_bytes() -> None:
    payload = random.Random(1).randbytes(10_001)
    made = segments(frames.large(payload, 1448), partial=False)
    assert len(made) == 7
    whole = [frames.whole(packet) for packet in made]
    assert all(frames.is_good(frame) for frame in whole)
    assert b"".join(frame[54:] for frame in whole) == payload
    assert [int.from_bytes(frame[38:42], "big") for frame in whole] == [1000 + 1448 * index for index in range(7)]
    assert [int.from_bytes(frame[18:20], "big") for frame in whole] == [7 + index for index in range(7)]


def test_flags_of_a_large_segment_are_where_they_belong() -> None:
    made = segments(frames.large(bytes(3000), 1000, flags=0x99), partial=False)  # CWR ACK PSH FIN
    assert [packet.head[47] for packet in made] == [0x90, 0x10, 0x19]


def test_partial_segments_hold_the_pseudo_sum_of_their_own_length() -> None:
    made = segments(frames.large(bytes(range(256)) * 10, 1000), partial=True)
    assert all(packet.csum == CSUM_PARTIAL for packet in made)
    for packet in made:
        complete_checksum(packet)
    assert all(frames.is_good(frames.whole(packet)) for packet in made)


def test_large_ipv6_segments_are_valid() -> None:
    segment = frames.tcp(A6, B6, 1, 2, bytes(5000), version=6, partial=True)
    packet = frames.packet(frames.ETHERNET6 + frames.ipv6(A6, B6, 6, segment))
    packet.csum, packet.gso_size, packet.gso_type = CSUM_PARTIAL, 1400, GSO_TCP6
    made = segments(packet, partial=False)
    assert len(made) == 4 and all(frames.is_good(frames.whole(one)) for one in made)


def test_large_udp_becomes_datagrams() -> None:
    packet = frames.packet(frames.ETHERNET + frames.ipv4(A, B, 17, frames.udp(A, B, 5, 6, bytes(2500))))
    packet.csum, packet.gso_size, packet.gso_type = CSUM_PARTIAL, 1000, GSO_UDP
    made = prepare([packet], OFFLOAD_CSUM)
    assert [int.from_bytes(one.head[38:40], "big") for one in made] == [1008, 1008, 508]
    made = prepare([packet], 0)
    assert all(frames.is_good(frames.whole(one)) for one in made)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 999, 1000, 40_001])
def test_a_completed_checksum_is_right_wherever_the_body_begins(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    packet = frames.large(payload, 0)
    for cut in (54, 55, 60):
        twin = packet.copy()
        if cut < twin.end:
            twin.body = bytes(twin.head[cut : twin.end])
            twin.end = cut
        complete_checksum(twin)
        assert twin.csum == CSUM_NONE and frames.is_good(frames.whole(twin))


def test_a_link_with_every_offload_gets_the_packets_as_they_are() -> None:
    packets = [frames.large(bytes(9000), 1448), frames.large(b"x", 0)]
    assert prepare(packets, OFFLOAD_ALL) is packets


def merge(packets: list[Packet]) -> list[Packet]:
    """What a link does with the frames of a batch."""
    merger = Merger()
    out: list[Packet] = []
    for packet in packets:
        if packet.csum == CSUM_NONE:
            out.append(packet)
            continue
        buffer = bytearray(packet.head)
        joined = merger.take(buffer, memoryview(buffer), packet.end, packet.csum)
        if joined is not None:
            out.append(joined)
    merger.finish()
    return out


def _train(count: int, size: int = 1000, *, last: int | None = None, csum: int = CSUM_VALID) -> list[Packet]:
    rng = random.Random(3)
    packets = []
    for index in range(count):
        payload = rng.randbytes(last if last is not None and index == count - 1 else size)
        flags = 0x18 if index == count - 1 else 0x10
        segment = frames.tcp(A, B, 1000, 80, payload, seq=0xFFFFFF00 + index * size & 0xFFFFFFFF, flags=flags)
        frame = frames.ETHERNET + frames.ipv4(A, B, 6, segment, ident=index)
        packet = Packet(bytearray(frame), len(frame))
        packet.csum = csum
        packets.append(packet)
    return packets


def test_segments_that_follow_each_other_are_merged_and_cut_again_the_same() -> None:
    packets = _train(10, last=300)
    before = [bytes(packet.head) for packet in packets]
    merged = merge(packets)
    assert len(merged) == 1 and merged[0].gso_size == 1000 and merged[0].csum == CSUM_PARTIAL
    assert locate(merged[0])
    again = [frames.whole(packet) for packet in segments(merged[0], partial=False)]
    assert [frame[38:] for frame in again] == [frame[38:] for frame in before]


def test_ipv6_segments_are_merged_and_cut_again_the_same_and_other_flow_labels_are_not() -> None:
    packets = []
    for index in range(6):
        segment = frames.tcp(
            A6, B6, 1000, 80, bytes((index,)) * 1000, seq=1000 * index, version=6, options=b"\x01" * 12
        )
        frame = frames.ETHERNET6 + frames.ipv6(A6, B6, 6, segment)
        if index == 5:
            frame = frame[:17] + b"\x05" + frame[18:]
        packets.append(Packet(bytearray(frame), len(frame)))
        packets[-1].csum = CSUM_VALID
    merged = merge(packets)
    assert [packet.gso_size for packet in merged] == [1000, 0] and merged[0].gso_type == GSO_TCP6
    assert locate(merged[0])
    again = [frames.whole(packet) for packet in segments(merged[0], partial=False)]
    assert again == [bytes(packet.head) for packet in packets[:5]]


@pytest.mark.parametrize(
    "what", ["gap", "unvouched", "other flow between", "window", "fin", "longer than the first", "fragment"]
)
def test_what_does_not_belong_together_is_not_merged(what: str) -> None:
    packets = _train(4, csum=CSUM_NONE if what == "unvouched" else CSUM_VALID)
    third = packets[2].head
    assert isinstance(third, bytearray)
    expected = 2
    if what == "gap":
        third[41] ^= 1
        expected = 3
    elif what == "unvouched":
        expected = 4
    elif what == "other flow between":
        third[34] ^= 1
        expected = 3
    elif what == "window":
        third[49] ^= 1
        expected = 3
    elif what == "fin":
        third[47] |= 1
        expected = 3
    elif what == "longer than the first":
        packets = _train(1, 500) + _train(2, 1000)[1:]
        packets[1].head[38:42] = (0xFFFFFF00 + 500 & 0xFFFFFFFF).to_bytes(4, "big")  # type: ignore[index]
    elif what == "fragment":
        third[20] |= 0x20
        expected = 3
    data = sorted(bytes(packet.head[54 : packet.end]) for packet in packets)
    merged = merge(packets)
    assert len(merged) == expected
    assert sum(packet.end - 54 for packet in merged) == sum(map(len, data))


def test_locate_finds_tcp_and_udp_behind_a_tag_and_cuts_padding_off() -> None:
    inner = frames.ipv4(A, B, 17, frames.udp(A, B, 5, 6, b"hi"))
    frame = frames.ETHERNET[:12] + bytes.fromhex("81000005") + b"\x08\x00" + inner + bytes(20)
    packet = Packet(bytearray(frame), len(frame))
    assert locate(packet)
    assert (packet.l3, packet.l4, packet.payload, packet.proto, packet.end) == (18, 38, 46, 17, 48)


@pytest.mark.parametrize("seed", range(30))
def test_locate_never_leaves_the_frame(seed: int) -> None:
    rng = random.Random(seed)
    good = frames.ETHERNET + frames.ipv4(A, B, 6, frames.tcp(A, B, 1, 2, b"data"))
    for _ in range(300):
        frame = bytearray(good[: rng.randrange(len(good) + 1)])
        for _ in range(rng.randrange(4)):
            if frame:
                frame[rng.randrange(len(frame))] = rng.randrange(256)
        packet = Packet(frame, len(frame))
        if locate(packet):
            assert packet.l3 < packet.l4 < packet.payload <= packet.end <= len(frame)
