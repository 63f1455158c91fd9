"""ICMP for IPv4 (RFC 792, RFC 1122 section 3.2.2, RFC 1812 section 4.3); `icmp.py` has what both versions share."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.icmp import (
    REDIRECT_LIFETIME,
    REDIRECT_LIMIT,
    ErrorLimit,
    Icmp,
    IcmpCounters,
    IcmpError,
)
from services.netstackd.network.path_mtu import plateau_below
from services.netstackd.network.routes import UNICAST, NextHop, Route
from services.netstackd.storage.packet import TO_HOST, Packet
from services.netstackd.wire import icmpv4 as wire
from services.netstackd.wire.numbers import IPV4_BROADCAST, PROTO_ICMP, is_multicast

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

QUOTE_LIMIT: Final = 576 - 20 - 8  # RFC 1812 section 4.3.2.3: the whole error fits 576 bytes

_LIMITED_GLOBAL: Final = COUNTER["IcmpOutRateLimitGlobal"]
_SHORT: Final = COUNTER["DropIcmpShort"]
_QUOTE: Final = COUNTER["DropIcmpQuote"]
_UNKNOWN: Final = COUNTER["DropIcmpUnknownType"]

# errno of DESTINATION_UNREACHABLE by code, and whether it ends a connection attempt (net/ipv4/icmp.c,
# icmp_err_convert).
UNREACHABLE_ERRORS: Final = (
    (errno.ENETUNREACH, False),
    (errno.EHOSTUNREACH, False),
    (errno.ENOPROTOOPT, True),
    (errno.ECONNREFUSED, True),
    (errno.EMSGSIZE, False),
    (errno.EOPNOTSUPP, False),
    (errno.ENETUNREACH, True),
    (errno.EHOSTDOWN, True),
    (errno.ENONET, True),
    (errno.ENETUNREACH, True),
    (errno.EHOSTUNREACH, True),
    (errno.ENETUNREACH, False),
    (errno.EHOSTUNREACH, False),
    (errno.EHOSTUNREACH, True),
    (errno.EHOSTUNREACH, True),
    (errno.EHOSTUNREACH, True),
)


class Icmp4(Icmp):
    """One per stack."""

    version: ClassVar[int] = 4
    proto: ClassVar[int] = PROTO_ICMP
    quote_limit: ClassVar[int] = QUOTE_LIMIT
    echo_request: ClassVar[int] = wire.ECHO_REQUEST
    echo_reply: ClassVar[int] = wire.ECHO_REPLY
    destination_unreachable: ClassVar[int] = wire.DESTINATION_UNREACHABLE
    time_exceeded: ClassVar[int] = wire.TIME_EXCEEDED
    counters: ClassVar[IcmpCounters] = IcmpCounters(
        "Icmp",
        {
            wire.ECHO_REPLY: "EchoReps",
            wire.DESTINATION_UNREACHABLE: "DestUnreachs",
            wire.REDIRECT: "Redirects",
            wire.ECHO_REQUEST: "Echos",
            wire.TIME_EXCEEDED: "TimeExcds",
            wire.PARAMETER_PROBLEM: "ParmProbs",
        },
    )

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, ErrorLimit(stack, _LIMITED_GLOBAL, self.counters.limited_host))
        self.echo_ignore_groups = True  # net.ipv4.icmp_echo_ignore_broadcasts
        self._redirects: list[Route] = []

    # -- receiving --

    def _input_other(self, packet: Packet, kind: int) -> None:
        if kind == wire.REDIRECT:
            self._input_redirect(packet)
        elif kind in wire.ERRORS:
            self._input_error(packet, kind)
        elif kind == wire.TIMESTAMP:
            self._answer_timestamp(packet)
        elif kind != wire.TIMESTAMP_REPLY:
            self._count[_UNKNOWN] += 1  # RFC 1122 section 3.2.2: silently discarded (raw sockets have had it)

    def _is_to_group(self, packet: Packet) -> bool:
        return packet.dst == IPV4_BROADCAST or is_multicast(4, packet.dst) or packet.kind != TO_HOST

    def _answer_timestamp(self, packet: Packet) -> None:
        """RFC 1122 section 3.2.2.8; non-standard times (the high bit), as there is no clock of the day here."""
        if packet.end - packet.l4 < 20 or packet.kind != TO_HOST:
            self._count[_SHORT] += 1
            return
        stamp = (self._stack.now // 1_000_000 & 0x7FFFFFFF | 0x80000000).to_bytes(4, "big")
        head, l4 = packet.head, packet.l4
        self._reply(packet, wire.TIMESTAMP_REPLY, head[l4 + 4 : l4 + 8], bytes(head[l4 + 8 : l4 + 12]) + stamp * 2)

    def _info(self, kind: int, rest: int) -> int:
        """The MTU, or the pointer of a parameter problem."""
        return rest & 0xFFFF if kind == wire.DESTINATION_UNREACHABLE else rest >> 24

    def _read_quote_untrusted(self, error: IcmpError, quote: bytes) -> bool:
        size = (quote[0] & 15) * 4 if quote else 0
        if size < 20 or quote[0] >> 4 != 4 or size + 8 > len(quote):
            return False
        error.src = int.from_bytes(quote[12:16], "big")
        error.dst = int.from_bytes(quote[16:20], "big")
        if error.too_big and error.info == 0:  # a router that knows no RFC 1191 (section 5)
            error.info = plateau_below(int.from_bytes(quote[2:4], "big"))
        error.set_transport(quote[9], quote[size:])
        return True

    def _classify(self, error: IcmpError) -> bool:
        if error.type == wire.DESTINATION_UNREACHABLE:
            if error.code >= len(UNREACHABLE_ERRORS):
                self._count[_QUOTE] += 1
                return False
            error.errno, error.fatal = UNREACHABLE_ERRORS[error.code]
        elif error.type == wire.PARAMETER_PROBLEM:
            error.errno, error.fatal = errno.EPROTO, True
        return error.type != wire.SOURCE_QUENCH  # RFC 6633: ignored

    def _input_redirect(self, packet: Packet) -> None:
        """RFC 1122 section 3.2.2.2: believed when it comes from the gateway in use and names one on the same link."""
        error = self._read_error(packet, wire.REDIRECT)
        iface = packet.iface
        stack = self._stack
        if error is None or iface is None or not iface.accept_redirects4 or iface.forwarding4:
            return
        current = stack.routing4.output(error.dst)
        if current.kind != UNICAST or current.out is not iface or current.next_hop != packet.src:
            return
        gateway = int.from_bytes(packet.head[packet.l4 + 4 : packet.l4 + 8], "big")
        found = stack.routing4.output(gateway)
        if found.kind != UNICAST or found.out is not iface or found.next_hop != gateway or gateway == packet.src:
            return
        if len(self._redirects) >= REDIRECT_LIMIT:
            stack.remove_route(self._redirects.pop(0), missing_ok=True)
        expires = stack.now + REDIRECT_LIFETIME
        route = Route(4, error.dst, 32, (NextHop(iface, gateway),), protocol="redirect", expires=expires)
        self._redirects.append(route)
        stack.add_route(route, replace=True)

    # -- sending --

    def message(self, src: int, dst: int, kind: int, code: int, rest: int, data: bytes) -> bytes:
        """See Icmp."""
        return wire.message(kind, code, rest, data)

    def send_too_big(self, packet: Packet, mtu: int) -> None:
        """See Icmp."""
        self.send_error(packet, wire.DESTINATION_UNREACHABLE, wire.FRAGMENTATION_NEEDED, mtu)

    def send_parameter_problem(self, packet: Packet, pointer: int) -> None:
        """The byte at `pointer` of its header is wrong."""
        self.send_error(packet, wire.PARAMETER_PROBLEM, 0, pointer << 24)

    def send_redirect(self, packet: Packet, gateway: int) -> None:
        """Its sender should use `gateway`, on its own link (RFC 1812 section 5.2.7.2)."""
        self.send_error(packet, wire.REDIRECT, wire.REDIRECT_HOST, gateway)

    def _may_be_told(self, packet: Packet, kind: int, code: int) -> bool:
        src, dst = packet.src, packet.dst
        if packet.kind != TO_HOST or src >> 24 == 0 or is_multicast(4, src) or src == IPV4_BROADCAST:
            return False
        if is_multicast(4, dst) or dst == IPV4_BROADCAST:
            return False
        head = packet.head
        if packet.fragment and (head[packet.l3 + 6] & 0x1F or head[packet.l3 + 7]):
            return False  # not the first fragment
        # Never about an error.
        return packet.proto != PROTO_ICMP or (packet.end > packet.l4 and head[packet.l4] not in wire.ERRORS)

    def _error_tos(self, packet: Packet) -> int:
        return packet.tos & 0x1E | 0xC0  # precedence 6, internetwork control (RFC 1812 section 4.3.2.5)
