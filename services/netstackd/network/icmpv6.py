"""ICMPv6 (RFC 4443); `icmp.py` has what both versions share. Neighbour discovery and MLD messages are passed on."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.icmp import ErrorLimit, Icmp, IcmpCounters, IcmpError
from services.netstackd.storage.packet import TO_HOST, Packet
from services.netstackd.wire import icmpv6 as wire
from services.netstackd.wire.ipv6_extensions import EXTENSIONS, fragment_fields
from services.netstackd.wire.numbers import PROTO_FRAGMENT, PROTO_ICMPV6, is_multicast

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

QUOTE_LIMIT: Final = 1280 - 40 - 8  # RFC 4443 section 2.4 (c): the whole error fits the minimum MTU

_UNKNOWN: Final = COUNTER["DropIcmpUnknownType"]

# errno of DESTINATION_UNREACHABLE by code, and whether it is fatal (net/ipv6/icmp.c, tab_unreach).
UNREACHABLE_ERRORS: Final = (
    (errno.ENETUNREACH, False),
    (errno.EACCES, True),
    (errno.EHOSTUNREACH, False),
    (errno.EHOSTUNREACH, False),
    (errno.ECONNREFUSED, True),
    (errno.EACCES, True),
    (errno.EACCES, True),
)


class Icmp6(Icmp):
    """One per stack."""

    version: ClassVar[int] = 6
    proto: ClassVar[int] = PROTO_ICMPV6
    quote_limit: ClassVar[int] = QUOTE_LIMIT
    echo_request: ClassVar[int] = wire.ECHO_REQUEST
    echo_reply: ClassVar[int] = wire.ECHO_REPLY
    destination_unreachable: ClassVar[int] = wire.DESTINATION_UNREACHABLE
    time_exceeded: ClassVar[int] = wire.TIME_EXCEEDED
    counters: ClassVar[IcmpCounters] = IcmpCounters(
        "Icmp6",
        {
            wire.DESTINATION_UNREACHABLE: "DestUnreachs",
            wire.PACKET_TOO_BIG: "PktTooBigs",
            wire.TIME_EXCEEDED: "TimeExcds",
            wire.PARAMETER_PROBLEM: "ParmProblems",
            wire.ECHO_REQUEST: "Echos",
            wire.ECHO_REPLY: "EchoReplies",
            wire.ROUTER_SOLICITATION: "RouterSolicits",
            wire.ROUTER_ADVERTISEMENT: "RouterAdvertisements",
            wire.NEIGHBOUR_SOLICITATION: "NeighborSolicits",
            wire.NEIGHBOUR_ADVERTISEMENT: "NeighborAdvertisements",
            wire.REDIRECT: "Redirects",
            wire.MLDV2_REPORT: "MLDv2Reports",
        },
    )

    def __init__(self, stack: Stack) -> None:
        limited = self.counters.limited_host  # Linux counts both limits as one here
        super().__init__(stack, ErrorLimit(stack, limited, limited))

    # -- receiving --

    def _input_other(self, packet: Packet, kind: int) -> None:
        if kind < wire.FIRST_INFORMATIONAL:
            self._input_error(packet, kind)
        elif wire.ROUTER_SOLICITATION <= kind <= wire.REDIRECT:
            self._stack.ndp.input(packet, kind)
        elif wire.MLD_QUERY <= kind <= wire.MLD_DONE or kind == wire.MLDV2_REPORT:
            self._stack.multicast6.input(packet)
        else:
            self._count[_UNKNOWN] += 1  # RFC 4443 section 2.4 (b)

    def _is_to_group(self, packet: Packet) -> bool:
        return is_multicast(6, packet.dst)

    def _info(self, kind: int, rest: int) -> int:
        """The MTU, or the pointer of a parameter problem."""
        return rest

    def _read_quote_untrusted(self, error: IcmpError, quote: bytes) -> bool:
        if len(quote) < 48 or quote[0] >> 4 != 6:
            return False
        error.src = int.from_bytes(quote[8:24], "big")
        error.dst = int.from_bytes(quote[24:40], "big")
        kind = quote[6]
        at = 40
        for _ in range(8):
            if kind not in EXTENSIONS:
                break
            if at + 8 > len(quote):
                return False
            following = quote[at]
            if kind == PROTO_FRAGMENT:
                if fragment_fields(quote, at)[2]:
                    return False
                at += 8
            else:
                at += quote[at + 1] * 8 + 8
            kind = following
        if at + 8 > len(quote):
            return False
        error.set_transport(kind, quote[at:])
        return True

    def _classify(self, error: IcmpError) -> bool:
        """See Icmp (net/ipv6/icmp.c, icmpv6_err_convert)."""
        if error.type == wire.DESTINATION_UNREACHABLE:
            error.errno, error.fatal = UNREACHABLE_ERRORS[error.code] if error.code < 7 else (errno.EPROTO, False)
        elif error.type == wire.PACKET_TOO_BIG:
            error.errno = errno.EMSGSIZE
        elif error.type == wire.PARAMETER_PROBLEM:
            error.errno, error.fatal = errno.EPROTO, True
        elif error.type == wire.TIME_EXCEEDED:
            error.errno = errno.EHOSTUNREACH
        else:
            error.errno = errno.EPROTO
        return True

    # -- sending --

    def message(self, src: int, dst: int, kind: int, code: int, rest: int, data: bytes) -> bytes:
        """See Icmp."""
        return wire.message(src, dst, kind, code, rest, data)

    def send_too_big(self, packet: Packet, mtu: int) -> None:
        """See Icmp."""
        self.send_error(packet, wire.PACKET_TOO_BIG, 0, mtu)

    def send_parameter_problem(self, packet: Packet, code: int, pointer: int) -> None:
        """The byte at `pointer`, counted from its IPv6 header, is wrong."""
        self.send_error(packet, wire.PARAMETER_PROBLEM, code, pointer)

    def _may_be_told(self, packet: Packet, kind: int, code: int) -> bool:
        if packet.src == 0 or is_multicast(6, packet.src):
            return False
        if is_multicast(6, packet.dst) or packet.kind != TO_HOST:
            # What path MTU discovery needs, and options that every receiver must know, are told of groups as well.
            if kind != wire.PACKET_TOO_BIG and not (kind == wire.PARAMETER_PROBLEM and code == wire.BAD_OPTION):
                return False
        if packet.proto == PROTO_ICMPV6 and not packet.fragment and packet.end > packet.l4:
            about = packet.head[packet.l4]
            return about >= wire.FIRST_INFORMATIONAL and about != wire.REDIRECT
        return True

    def _error_tos(self, packet: Packet) -> int:
        return 0
