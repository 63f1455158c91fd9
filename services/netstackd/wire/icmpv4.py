"""ICMP for IPv4 (RFC 792, RFC 1122 section 3.2.2, RFC 1191, RFC 1812 section 4.3).

type | code | checksum | rest of the header 32 | data
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from services.netstackd.wire.checksum import checksum

HEADER: Final = Struct("!BBHI")
HEADER_LENGTH: Final = 8

ECHO_REPLY: Final = 0
DESTINATION_UNREACHABLE: Final = 3
SOURCE_QUENCH: Final = 4
REDIRECT: Final = 5
ECHO_REQUEST: Final = 8
TIME_EXCEEDED: Final = 11
PARAMETER_PROBLEM: Final = 12
TIMESTAMP: Final = 13
TIMESTAMP_REPLY: Final = 14

ERRORS: Final = frozenset(
    {DESTINATION_UNREACHABLE, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM},
)

# Codes of DESTINATION_UNREACHABLE.
NET_UNREACHABLE: Final = 0
HOST_UNREACHABLE: Final = 1
PROTOCOL_UNREACHABLE: Final = 2
PORT_UNREACHABLE: Final = 3
FRAGMENTATION_NEEDED: Final = 4
SOURCE_ROUTE_FAILED: Final = 5
NET_PROHIBITED: Final = 9
HOST_PROHIBITED: Final = 10
ADMIN_PROHIBITED: Final = 13

# Codes of TIME_EXCEEDED.
TTL_EXCEEDED: Final = 0
REASSEMBLY_EXCEEDED: Final = 1

# Codes of REDIRECT.
REDIRECT_HOST: Final = 1


def message(kind: int, code: int, rest: int, data: bytes) -> bytes:
    """A message with its checksum."""
    total = HEADER.pack(kind, code, 0, rest) + data
    return total[:2] + checksum(total).to_bytes(2, "big") + total[4:]


def echo(kind: int, ident: int, sequence: int, data: bytes) -> bytes:
    """ECHO_REQUEST or ECHO_REPLY."""
    return message(kind, 0, ident << 16 | sequence, data)
