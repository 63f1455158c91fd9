"""Multicast listener discovery (v1: RFC 2710, v2: RFC 3810). Messages are ICMPv6; these are the parts behind its
header.

A version 2 report's records look like IGMPv3's, with wider addresses: `igmp.Records` and the record types serve both.
"""

from __future__ import annotations

from services.netstackd.wire.igmp import Query, Records, parse_records_untrusted


def parse_query_untrusted(message: bytes) -> Query | None:
    """A query from the ICMPv6 type on; 24 bytes are version 1, 28 and more version 2 (RFC 3810 section 8.1)."""
    if len(message) < 24:
        return None
    code = int.from_bytes(message[4:6], "big")
    group = int.from_bytes(message[8:24], "big")
    if len(message) == 24:
        return Query(1, group, code)
    if len(message) < 28:
        return None
    count = int.from_bytes(message[26:28], "big")
    if len(message) < 28 + 16 * count:
        return None
    sources = tuple(int.from_bytes(message[at : at + 16], "big") for at in range(28, 28 + 16 * count, 16))
    return Query(2, group, floating(code), sources)


def floating(code: int) -> int:
    """The value of a 16-bit maximum response code in milliseconds (RFC 3810 section 5.1.3)."""
    return code if code < 32768 else (code & 0xFFF | 0x1000) << (code >> 12 & 7) + 3


def v1_body(group: int) -> bytes:
    """Behind the ICMP header of a version 1 report or done message."""
    return group.to_bytes(16, "big")


def v2_query_body(group: int, sources: tuple[int, ...] = ()) -> bytes:
    """Behind the ICMP header of a version 2 query with robustness 2 and interval 125 s."""
    tail = b"".join(source.to_bytes(16, "big") for source in sources)
    return group.to_bytes(16, "big") + bytes((2, 125)) + len(sources).to_bytes(2, "big") + tail


def v2_report(records: Records) -> tuple[int, bytes]:
    """(rest of the ICMP header, what follows) of a version 2 report."""
    body = b"".join(
        bytes((kind, 0))
        + len(sources).to_bytes(2, "big")
        + group.to_bytes(16, "big")
        + b"".join(source.to_bytes(16, "big") for source in sources)
        for kind, group, sources in records
    )
    return len(records), body


def parse_v2_report_untrusted(message: bytes) -> Records | None:
    """The records of a version 2 report, from the ICMPv6 type on."""
    return parse_records_untrusted(message, 16)
