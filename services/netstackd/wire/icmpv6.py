"""ICMPv6 (RFC 4443); neighbour discovery is in `ndp`, listener discovery in `mld`."""

from __future__ import annotations

from typing import Final

from services.netstackd.wire.checksum import checksum
from services.netstackd.wire.icmpv4 import HEADER
from services.netstackd.wire.numbers import PROTO_ICMPV6

HEADER_LENGTH: Final = 8

DESTINATION_UNREACHABLE: Final = 1
PACKET_TOO_BIG: Final = 2
TIME_EXCEEDED: Final = 3
PARAMETER_PROBLEM: Final = 4
ECHO_REQUEST: Final = 128
ECHO_REPLY: Final = 129
MLD_QUERY: Final = 130
MLD_REPORT: Final = 131
MLD_DONE: Final = 132
ROUTER_SOLICITATION: Final = 133
ROUTER_ADVERTISEMENT: Final = 134
NEIGHBOUR_SOLICITATION: Final = 135
NEIGHBOUR_ADVERTISEMENT: Final = 136
REDIRECT: Final = 137
MLDV2_REPORT: Final = 143

# Types below this are errors (RFC 4443 section 2.1).
FIRST_INFORMATIONAL: Final = 128

# Codes of DESTINATION_UNREACHABLE (RFC 4443 section 3.1).
NO_ROUTE: Final = 0
ADMIN_PROHIBITED: Final = 1
BEYOND_SCOPE: Final = 2
ADDRESS_UNREACHABLE: Final = 3
PORT_UNREACHABLE: Final = 4
POLICY_FAIL: Final = 5
REJECT_ROUTE: Final = 6

HOP_LIMIT_EXCEEDED: Final = 0
REASSEMBLY_EXCEEDED: Final = 1

# Codes of PARAMETER_PROBLEM (RFC 4443 section 3.4).
BAD_FIELD: Final = 0
BAD_NEXT_HEADER: Final = 1
BAD_OPTION: Final = 2


def message(src: int, dst: int, kind: int, code: int, rest: int, data: bytes) -> bytes:
    """A message with its checksum over the pseudo header."""
    total = HEADER.pack(kind, code, 0, rest) + data
    field = checksum(total, src + dst + PROTO_ICMPV6 + len(total))
    return total[:2] + field.to_bytes(2, "big") + total[4:]


def echo(src: int, dst: int, kind: int, ident: int, sequence: int, data: bytes) -> bytes:
    """ECHO_REQUEST or ECHO_REPLY."""
    return message(src, dst, kind, 0, ident << 16 | sequence, data)
