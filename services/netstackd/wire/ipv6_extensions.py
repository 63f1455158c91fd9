"""IPv6 extension headers (RFC 8200 section 4): finding the transport header, and acting on options.

`walk_untrusted` follows the chain once. A node that forwards looks at hop-by-hop options alone; the destination looks
at everything (`strict`). It never reads past the packet's end, and a chain is at most CHAIN_LIMIT headers long.
"""

from __future__ import annotations

from typing import Final

from services.netstackd.counters import COUNTER
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.icmpv6 import BAD_FIELD, BAD_NEXT_HEADER, BAD_OPTION
from services.netstackd.wire.ipv6 import read_ports
from services.netstackd.wire.numbers import (
    PROTO_DESTINATION_OPTIONS,
    PROTO_FRAGMENT,
    PROTO_HOP_BY_HOP,
    PROTO_ROUTING,
    is_multicast,
)

EXTENSIONS: Final = frozenset({PROTO_HOP_BY_HOP, PROTO_ROUTING, PROTO_FRAGMENT, PROTO_DESTINATION_OPTIONS})
CHAIN_LIMIT: Final = 16

PAD1: Final = 0
PADN: Final = 1
ROUTER_ALERT: Final = 5

_HEADER: Final = COUNTER["DropIpv6ExtensionHeader"]
_OPTION: Final = COUNTER["DropIpv6UnknownOption"]
_ROUTING: Final = COUNTER["DropIpv6RoutingHeader"]

# What a walk comes to: (drop reason or 0, code of a parameter problem to send or -1, its pointer, offset in head of the
# fragment header or 0). The pointer counts from the IPv6 header.
Outcome = tuple[int, int, int, int]


def walk_untrusted(packet: Packet, first: int, *, strict: bool) -> Outcome:
    """Follow the chain that begins with next-header value `first` behind the base header of a parsed packet.

    Sets `proto`, `l4` and `payload` to the first header that is none of the known extensions (also when the chain is
    cut short and not strict: then to the header that is cut), and ports and `fragment`. A fragment header ends the walk
    unless it is that of a whole packet (an atomic fragment, RFC 6946), which is passed over.
    """
    head = packet.head
    l3 = packet.l3
    at = l3 + 40
    end = packet.end
    kind = first
    field = l3 + 6  # where `kind` stands
    packet.sport = packet.dport = packet.tcp_flags = 0
    for count in range(CHAIN_LIMIT):
        if kind not in EXTENSIONS:
            break
        if kind == PROTO_HOP_BY_HOP and count:
            # RFC 8200 section 4.3: only right behind the base header; else it is an unrecognised next header (4.0).
            return (_HEADER, BAD_NEXT_HEADER, field - l3, 0) if strict else _stop(packet, kind, at)
        if at + 8 > end:
            return (_HEADER, -1, 0, 0) if strict else _stop(packet, kind, at)
        following = head[at]
        if kind == PROTO_FRAGMENT:
            word = head[at + 2] << 8 | head[at + 3]
            if word & 0xFFF9:
                packet.fragment = True
                packet.proto = following
                packet.l4 = packet.payload = at + 8
                if word & 0xFFF8 == 0:
                    read_ports(packet, at + 8, end)
                return 0, -1, 0, at
            size = 8
        else:
            size = head[at + 1] * 8 + 8
            if at + size > end:
                return (_HEADER, -1, 0, 0) if strict or kind == PROTO_HOP_BY_HOP else _stop(packet, kind, at)
            if kind == PROTO_ROUTING:
                # Types 0 (RFC 5095) and all others are not for us: unless nothing is left to do, an error (4.4).
                if strict and head[at + 3]:
                    return _ROUTING, BAD_FIELD, at + 2 - l3, 0
            elif strict or kind == PROTO_HOP_BY_HOP:
                outcome = _check_options(packet, at + 2, at + size)
                if outcome is not None:
                    return outcome
        field = at
        at += size
        kind = following
    else:
        return _HEADER, -1, 0, 0
    packet.proto = kind
    packet.l4 = packet.payload = at
    read_ports(packet, at, end)
    return 0, -1, field - l3, 0


def _stop(packet: Packet, kind: int, at: int) -> Outcome:
    """The chain cannot be followed, and need not be here."""
    packet.proto = kind
    packet.l4 = packet.payload = min(at, packet.end)
    return 0, -1, 0, 0


def _check_options(packet: Packet, at: int, end: int) -> Outcome | None:
    """Act on the options in head[at:end] by the two highest bits of those we do not know (RFC 8200 section 4.2)."""
    head = packet.head
    while at < end:
        kind = head[at]
        if kind == PAD1:
            at += 1
            continue
        if at + 2 > end or at + 2 + head[at + 1] > end:
            return _HEADER, -1, 0, 0
        if kind != PADN and kind != ROUTER_ALERT:
            action = kind >> 6
            if action == 1:
                return _OPTION, -1, 0, 0
            if action == 2 or (action == 3 and not is_multicast(6, packet.dst)):
                return _OPTION, BAD_OPTION, at - packet.l3, 0
            if action == 3:
                return _OPTION, -1, 0, 0
        at += 2 + head[at + 1]
    return None


def fragment_header(following: int, offset: int, more: bool, ident: int) -> bytes:
    """RFC 8200 section 4.5. `offset` in bytes, a multiple of eight."""
    return bytes((following, 0)) + (offset | more).to_bytes(2, "big") + ident.to_bytes(4, "big")


def fragment_fields(head: bytes | bytearray, at: int) -> tuple[int, int, int, bool]:
    """(next header, identification, offset in bytes, more fragments) of the fragment header at `at`."""
    word = head[at + 2] << 8 | head[at + 3]
    return head[at], int.from_bytes(head[at + 4 : at + 8], "big"), word & 0xFFF8, word & 1 != 0


def router_alert(value: int = 0) -> bytes:
    """Content of a hop-by-hop header with a router alert (RFC 2711), whose next header is the first byte to set."""
    return bytes((ROUTER_ALERT, 2)) + value.to_bytes(2, "big") + bytes((PADN, 0))
