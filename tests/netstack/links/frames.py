"""Frames for tests, built by the book: no code under test takes part."""

from __future__ import annotations

import struct

from services.netstackd.storage.packet import CSUM_PARTIAL, GSO_NONE, GSO_TCP4, Packet

ETHERNET = bytes.fromhex("020000000001 020000000002 0800".replace(" ", ""))
ETHERNET6 = ETHERNET[:12] + b"\x86\xdd"


def sum16(data: bytes) -> int:
    """RFC 1071, the slow and plain way."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ipv4(
    src: int, dst: int, proto: int, payload: bytes, *, ident: int = 7, ttl: int = 64, flags: int = 0x4000
) -> bytes:
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(payload), ident, flags, ttl, proto, 0, src, dst)
    return head[:10] + struct.pack("!H", 0xFFFF - sum16(head)) + head[12:] + payload


def pseudo(src: int, dst: int, proto: int, length: int, version: int = 4) -> bytes:
    if version == 4:
        return struct.pack("!IIBBH", src, dst, 0, proto, length)
    return src.to_bytes(16, "big") + dst.to_bytes(16, "big") + struct.pack("!IHBB", length, 0, 0, proto)


def tcp(
    src: int,
    dst: int,
    sport: int,
    dport: int,
    payload: bytes = b"",
    *,
    seq: int = 1000,
    ack: int = 1,
    flags: int = 0x10,
    window: int = 500,
    options: bytes = b"",
    version: int = 4,
    partial: bool = False,
) -> bytes:
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, offset, flags, window, 0, 0) + options
    sums = pseudo(src, dst, 6, len(head) + len(payload), version)
    field = sum16(sums) if partial else 0xFFFF - sum16(sums + head + payload)
    return head[:16] + struct.pack("!H", field) + head[18:] + payload


def udp(src: int, dst: int, sport: int, dport: int, payload: bytes = b"", version: int = 4) -> bytes:
    head = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)
    field = 0xFFFF - sum16(pseudo(src, dst, 17, 8 + len(payload), version) + head + payload)
    return head[:6] + struct.pack("!H", field or 0xFFFF) + payload


def ipv6(src: int, dst: int, proto: int, payload: bytes) -> bytes:
    return (
        struct.pack("!IHBB", 6 << 28, len(payload), proto, 64)
        + src.to_bytes(16, "big")
        + dst.to_bytes(16, "big")
        + payload
    )


def packet(frame: bytes, l3: int = 14) -> Packet:
    """A parsed packet, as the stack would have made it."""
    made = Packet(bytearray(frame), len(frame))
    made.l3 = l3
    made.version = frame[l3] >> 4
    if made.version == 4:
        made.l4 = l3 + 20
        made.proto = frame[l3 + 9]
        made.src, made.dst = struct.unpack_from("!II", frame, l3 + 12)
    else:
        made.l4 = l3 + 40
        made.proto = frame[l3 + 6]
        made.src = int.from_bytes(frame[l3 + 8 : l3 + 24], "big")
        made.dst = int.from_bytes(frame[l3 + 24 : l3 + 40], "big")
    made.payload = made.l4 + (8 if made.proto != 6 else frame[made.l4 + 12] >> 4 << 2)
    if made.proto in (6, 17):
        made.sport, made.dport = struct.unpack_from("!HH", frame, made.l4)
    return made


def large(payload: bytes, gso_size: int, *, flags: int = 0x10, seq: int = 1000) -> Packet:
    """A TCP packet of IPv4 that is to be cut."""
    segment = tcp(0x0A000001, 0x0A000002, 1000, 80, payload, seq=seq, flags=flags, partial=True)
    made = packet(ETHERNET + ipv4(0x0A000001, 0x0A000002, 6, segment))
    made.csum, made.gso_size, made.gso_type = CSUM_PARTIAL, gso_size, GSO_TCP4 if gso_size else GSO_NONE
    return made


def whole(made: Packet) -> bytes:
    return made.frame_bytes()


def is_good(frame: bytes, l3: int = 14) -> bool:
    """Whether lengths and checksums of an IP packet in a frame are right."""
    if frame[l3] >> 4 == 4:
        length = int.from_bytes(frame[l3 + 2 : l3 + 4], "big")
        if length != len(frame) - l3 or sum16(frame[l3 : l3 + 20]) != 0xFFFF:
            return False
        src, dst = struct.unpack_from("!II", frame, l3 + 12)
        proto, l4, version = frame[l3 + 9], l3 + 20, 4
    else:
        if int.from_bytes(frame[l3 + 4 : l3 + 6], "big") != len(frame) - l3 - 40:
            return False
        src = int.from_bytes(frame[l3 + 8 : l3 + 24], "big")
        dst = int.from_bytes(frame[l3 + 24 : l3 + 40], "big")
        proto, l4, version = frame[l3 + 6], l3 + 40, 6
    body = frame[l4:]
    if proto == 1:
        return sum16(body) == 0xFFFF
    return sum16(pseudo(src, dst, proto, len(body), version) + body) == 0xFFFF
