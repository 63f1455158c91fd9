"""IGMP (v2: RFC 2236, v3: RFC 3376)."""

from __future__ import annotations

from struct import Struct
from typing import Final

from services.netstackd.wire.checksum import checksum, verify

QUERY: Final = 0x11
V1_REPORT: Final = 0x12
V2_REPORT: Final = 0x16
V2_LEAVE: Final = 0x17
V3_REPORT: Final = 0x22

# Group record types (RFC 3376 section 4.2.12), the same numbers in MLDv2 (RFC 3810 section 5.2.12).
MODE_IS_INCLUDE: Final = 1
MODE_IS_EXCLUDE: Final = 2
CHANGE_TO_INCLUDE: Final = 3
CHANGE_TO_EXCLUDE: Final = 4
ALLOW_NEW_SOURCES: Final = 5
BLOCK_OLD_SOURCES: Final = 6

_V2: Final = Struct("!BBHI")
_V3_QUERY: Final = Struct("!BBHIBBH")

Records = list[tuple[int, int, tuple[int, ...]]]  # (record type, group, sources)


class Query:
    """A query of any version. `max_response_ms` 0 for version 1 (the caller takes 10 seconds)."""

    __slots__ = ("group", "max_response_ms", "sources", "version")

    def __init__(self, version: int, group: int, max_response_ms: int, sources: tuple[int, ...] = ()) -> None:
        self.version = version
        self.group = group
        self.max_response_ms = max_response_ms
        self.sources = sources


def parse_igmp_untrusted(data: bytes) -> tuple[int, int] | None:
    """(type, group) of a message with a good checksum."""
    if len(data) < 8 or not verify(data):
        return None
    return data[0], int.from_bytes(data[4:8], "big")


def parse_query_untrusted(data: bytes) -> Query | None:
    """A query; its version follows from its length and code (RFC 3376 section 7.1)."""
    if len(data) < 8:
        return None
    _, code, _, group = _V2.unpack_from(data)
    if len(data) == 8:
        return Query(1, group, 0) if code == 0 else Query(2, group, code * 100)
    if len(data) < 12:
        return None
    count = int.from_bytes(data[10:12], "big")
    if len(data) < 12 + 4 * count:
        return None
    sources = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(12, 12 + 4 * count, 4))
    return Query(3, group, floating(code) * 100, sources)


def floating(code: int) -> int:
    """The value of an 8-bit code: itself below 128, else mantissa and exponent (RFC 3376 section 4.1.1)."""
    return code if code < 128 else (code & 15 | 16) << (code >> 4 & 7) + 3


def v2_message(kind: int, group: int, code: int = 0) -> bytes:
    """A version 1 or 2 message."""
    return _V2.pack(kind, code, checksum(_V2.pack(kind, code, 0, group)), group)


def v3_query(group: int, max_response_tenths: int, sources: tuple[int, ...] = ()) -> bytes:
    """A version 3 query with robustness 2 and interval 125 s."""
    tail = b"".join(source.to_bytes(4, "big") for source in sources)
    bare = _V3_QUERY.pack(QUERY, max_response_tenths, 0, group, 2, 125, len(sources)) + tail
    return bare[:2] + checksum(bare).to_bytes(2, "big") + bare[4:]


def v3_report(records: Records) -> bytes:
    """A version 3 report."""
    body = b"".join(
        bytes((kind, 0))
        + len(sources).to_bytes(2, "big")
        + group.to_bytes(4, "big")
        + b"".join(source.to_bytes(4, "big") for source in sources)
        for kind, group, sources in records
    )
    bare = bytes((V3_REPORT, 0, 0, 0, 0, 0)) + len(records).to_bytes(2, "big") + body
    return bare[:2] + checksum(bare).to_bytes(2, "big") + bare[4:]


def parse_v3_report_untrusted(data: bytes) -> Records | None:
    """The records of a version 3 report (for tools and tests, and for snooping)."""
    return parse_records_untrusted(data, 4)


def parse_records_untrusted(data: bytes, width: int) -> Records | None:
    """The group records of an IGMPv3 (width 4) or MLDv2 (width 16) report."""
    if len(data) < 8:
        return None
    records: Records = []
    at = 8
    for _ in range(int.from_bytes(data[6:8], "big")):
        if at + 4 + width > len(data):
            return None
        kind, auxiliary = data[at], data[at + 1]
        count = int.from_bytes(data[at + 2 : at + 4], "big")
        group = int.from_bytes(data[at + 4 : at + 4 + width], "big")
        at += 4 + width
        after = at + count * width
        if after + auxiliary * 4 > len(data):
            return None
        records.append(
            (kind, group, tuple(int.from_bytes(data[p : p + width], "big") for p in range(at, after, width)))
        )
        at = after + auxiliary * 4
    return records
