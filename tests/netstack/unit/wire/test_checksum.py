"""The Internet checksum against the definition in RFC 1071, and its incremental forms against a full computation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.netstackd.storage.packet import CSUM_NONE, CSUM_PARTIAL, Packet
from services.netstackd.wire.checksum import checksum, fold, ones_sum, update, update_partial, verify
from services.netstackd.wire.numbers import PROTO_TCP, PROTO_UDP
from services.netstackd.wire.offload import complete_checksum


def reference(data: bytes, initial: int = 0) -> int:
    """RFC 1071 section 4.1, word by word."""
    total = initial
    if len(data) % 2:
        data += b"\0"
    for at in range(0, len(data), 2):
        total += data[at] << 8 | data[at + 1]
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_checksum_rfc_1071_example_has_its_sum() -> None:
    data = bytes.fromhex("0001f203f4f5f6f7")  # RFC 1071 section 3
    assert fold(ones_sum(data)) == 0xDDF2
    assert checksum(data) == 0x220D


def test_checksum_ipv4_header_known_vector() -> None:
    header = bytes.fromhex("450000730000400040110000c0a80001c0a800c7")
    assert checksum(header) == 0xB861


@given(st.binary(max_size=5000), st.integers(0, 1 << 130))
def test_checksum_any_bytes_equals_the_definition(data: bytes, initial: int) -> None:
    assert checksum(data, initial) == reference(data, initial)


def test_checksum_all_zeros_and_all_ones_keep_the_two_zeros_apart() -> None:
    assert checksum(bytes(20)) == 0xFFFF
    assert checksum(b"\xff" * 20) == 0
    assert not verify(bytes(8))


@given(st.binary(min_size=2, max_size=3000))
def test_verify_accepts_what_checksum_made_and_nothing_else(data: bytes) -> None:
    data += bytes(len(data) % 2)
    bare = data[:-2] + b"\0\0"
    good = bare[:-2] + checksum(bare).to_bytes(2, "big")
    assert verify(good) or not any(good)
    bad = bytes((good[0] ^ 1,)) + good[1:]
    assert not verify(bad)


@given(st.binary(min_size=32, max_size=64), st.integers(0, 7), st.binary(min_size=4, max_size=4))
def test_update_changed_word_equals_full_recomputation(data: bytes, place: int, new: bytes) -> None:
    data = data[: len(data) & ~1]
    at = place * 4
    changed = data[:at] + new + data[at + 4 :]
    old_value, new_value = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(new, "big")
    if not any(data) or not any(changed):
        return  # sums of nothing but zeros do not occur in headers (RFC 1624 section 3)
    assert update(checksum(data), old_value, new_value) == checksum(changed)
    partial = update_partial(fold(ones_sum(data)), old_value, new_value)
    assert partial == fold(ones_sum(changed))


@given(
    st.sampled_from((PROTO_TCP, PROTO_UDP)),
    st.integers(20, 61),
    st.binary(max_size=999),
    st.binary(max_size=999),
    st.integers(0, (1 << 32) - 1),
)
def test_complete_checksum_partial_packet_verifies(
    proto: int, header: int, data: bytes, body: bytes, pseudo: int
) -> None:
    field = 16 if proto == PROTO_TCP else 6
    transport = bytearray(b"\x11" * header)
    length = header + len(data) + len(body)
    transport[field : field + 2] = fold(pseudo + proto + length).to_bytes(2, "big")
    packet = Packet(bytes(transport) + data, header + len(data))
    packet.proto = proto
    packet.csum = CSUM_PARTIAL
    if body:
        packet.body = memoryview(body)
    complete_checksum(packet)
    assert packet.csum == CSUM_NONE
    assert (pseudo + proto + length + ones_sum(packet.network_bytes())) % 65535 == 0
