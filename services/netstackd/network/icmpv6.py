"""ICMPv6: answers, errors sent and received (RFC 4443); neighbour discovery and MLD messages are passed on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.icmp import ErrorLimit, IcmpError
from services.netstackd.network.interface import LOOPBACK
from services.netstackd.network.routes import LOCAL, UNICAST
from services.netstackd.storage.packet import CSUM_NONE, TO_HOST, Packet
from services.netstackd.wire import icmpv6 as wire
from services.netstackd.wire.checksum import ones_sum
from services.netstackd.wire.ipv6_extensions import EXTENSIONS, fragment_fields
from services.netstackd.wire.numbers import PROTO_FRAGMENT, PROTO_ICMPV6, is_link_local_v6, is_multicast

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

QUOTE_LIMIT: Final = 1280 - 40 - 8  # RFC 4443 section 2.4 (c): the whole error fits the minimum MTU

_IN_MSGS: Final = COUNTER["Icmp6InMsgs"]
_IN_ERRORS: Final = COUNTER["Icmp6InErrors"]
_IN_CSUM: Final = COUNTER["Icmp6InCsumErrors"]
_IN_BY_TYPE: Final = {
    wire.DESTINATION_UNREACHABLE: COUNTER["Icmp6InDestUnreachs"],
    wire.PACKET_TOO_BIG: COUNTER["Icmp6InPktTooBigs"],
    wire.TIME_EXCEEDED: COUNTER["Icmp6InTimeExcds"],
    wire.PARAMETER_PROBLEM: COUNTER["Icmp6InParmProblems"],
    wire.ECHO_REQUEST: COUNTER["Icmp6InEchos"],
    wire.ECHO_REPLY: COUNTER["Icmp6InEchoReplies"],
    wire.ROUTER_SOLICITATION: COUNTER["Icmp6InRouterSolicits"],
    wire.ROUTER_ADVERTISEMENT: COUNTER["Icmp6InRouterAdvertisements"],
    wire.NEIGHBOUR_SOLICITATION: COUNTER["Icmp6InNeighborSolicits"],
    wire.NEIGHBOUR_ADVERTISEMENT: COUNTER["Icmp6InNeighborAdvertisements"],
    wire.REDIRECT: COUNTER["Icmp6InRedirects"],
}
_OUT_MSGS: Final = COUNTER["Icmp6OutMsgs"]
_OUT_BY_TYPE: Final = {
    wire.DESTINATION_UNREACHABLE: COUNTER["Icmp6OutDestUnreachs"],
    wire.PACKET_TOO_BIG: COUNTER["Icmp6OutPktTooBigs"],
    wire.TIME_EXCEEDED: COUNTER["Icmp6OutTimeExcds"],
    wire.PARAMETER_PROBLEM: COUNTER["Icmp6OutParmProblems"],
    wire.ECHO_REQUEST: COUNTER["Icmp6OutEchos"],
    wire.ECHO_REPLY: COUNTER["Icmp6OutEchoReplies"],
    wire.ROUTER_SOLICITATION: COUNTER["Icmp6OutRouterSolicits"],
    wire.NEIGHBOUR_SOLICITATION: COUNTER["Icmp6OutNeighborSolicits"],
    wire.NEIGHBOUR_ADVERTISEMENT: COUNTER["Icmp6OutNeighborAdvertisements"],
    wire.REDIRECT: COUNTER["Icmp6OutRedirects"],
    wire.MLDV2_REPORT: COUNTER["Icmp6OutMLDv2Reports"],
}
_LIMITED: Final = COUNTER["Icmp6OutRateLimitHost"]
_SHORT: Final = COUNTER["DropIcmpShort"]
_CHECKSUM: Final = COUNTER["DropIcmpChecksum"]
_BROADCAST_ECHO: Final = COUNTER["DropIcmpBroadcastEcho"]
_QUOTE: Final = COUNTER["DropIcmpQuote"]
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


class Icmp6:
    """One per stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self._limit = ErrorLimit(stack, _LIMITED, _LIMITED)
        self.echo_ignore_all = False
        self.echo_ignore_multicast = False
        self.forwarder: Callable[[Packet], None] | None = None  # takes echo requests to foreign addresses (slirp)

    def input(self, packet: Packet) -> None:
        """A message for us."""
        count = self._count
        count[_IN_MSGS] += 1
        head = packet.head
        l4, end = packet.l4, packet.end
        if end - l4 < 8:
            count[_SHORT] += 1
            count[_IN_ERRORS] += 1
            return
        if packet.csum == CSUM_NONE:
            total = packet.src + packet.dst + PROTO_ICMPV6 + end - l4 + ones_sum(memoryview(head)[l4:end])
            if total % 65535:
                count[_CHECKSUM] += 1
                count[_IN_CSUM] += 1
                count[_IN_ERRORS] += 1
                return
        kind = head[l4]
        packet.payload = l4 + 8
        slot = _IN_BY_TYPE.get(kind)
        if slot is not None:
            count[slot] += 1
        if kind == wire.NEIGHBOUR_SOLICITATION or kind == wire.NEIGHBOUR_ADVERTISEMENT:
            self._stack.ndp.input(packet, kind)
        elif kind == wire.ECHO_REQUEST:
            self._answer_echo(packet)
        elif kind == wire.ECHO_REPLY:
            self._stack.ping.deliver(packet)
        elif kind < wire.FIRST_INFORMATIONAL:
            self._input_error(packet, kind, head[l4 + 1], int.from_bytes(head[l4 + 4 : l4 + 8], "big"))
        elif wire.ROUTER_SOLICITATION <= kind <= wire.REDIRECT:
            self._stack.ndp.input(packet, kind)
        elif wire.MLD_QUERY <= kind <= wire.MLD_DONE or kind == wire.MLDV2_REPORT:
            self._stack.multicast6.input(packet)
        else:
            count[_UNKNOWN] += 1  # RFC 4443 section 2.4 (b)

    def _answer_echo(self, packet: Packet) -> None:
        """RFC 4443 section 4.2; also to a request for a group, from an own address."""
        stack = self._stack
        group = is_multicast(6, packet.dst)
        if self.echo_ignore_all or (group and self.echo_ignore_multicast):
            self._count[_BROADCAST_ECHO] += 1
            return
        iface = packet.iface
        if iface is not None and iface.accept_any and not group and stack.interface_of(6, packet.dst) is None:
            if self.forwarder is not None:
                self.forwarder(packet)
            return
        source = 0 if group else packet.dst
        oif = packet.iface if is_link_local_v6(packet.src) else None
        route = stack.routing6.output(packet.src, source, oif, mark=packet.mark)
        if route.error:
            return
        data = bytes(memoryview(packet.head)[packet.payload : packet.end])
        rest = int.from_bytes(packet.head[packet.l4 + 4 : packet.l4 + 8], "big")
        source = source or route.source
        message = wire.message(source, packet.src, wire.ECHO_REPLY, 0, rest, data)
        self.counted(wire.ECHO_REPLY)
        stack.ipv6.send(route, source, packet.src, PROTO_ICMPV6, message, tos=packet.tos, mark=packet.mark)

    def _input_error(self, packet: Packet, kind: int, code: int, rest: int) -> None:
        """An error about a packet that we sent (RFC 4443 section 2.4 (d))."""
        head = packet.head
        quote = bytes(memoryview(head)[packet.payload : packet.end])
        error = IcmpError(6, kind, code, rest, packet.src, packet.iface)
        any_source = packet.iface is not None and packet.iface.accept_any
        known = _read_quote_untrusted(error, quote)
        if not known or not (any_source or self._stack.interface_of(6, error.src) is not None):
            self._count[_QUOTE] += 1
            self._count[_IN_ERRORS] += 1
            return
        _classify(error)
        self._stack.icmp_error(error)

    # -- sending --

    def counted(self, kind: int) -> None:
        """Count a message that is sent."""
        self._count[_OUT_MSGS] += 1
        slot = _OUT_BY_TYPE.get(kind)
        if slot is not None:
            self._count[slot] += 1

    def send_unreachable(self, packet: Packet, code: int) -> None:
        """`packet` cannot go on (RFC 4443 section 3.1)."""
        self.send_error(packet, wire.DESTINATION_UNREACHABLE, code, 0)

    def send_too_big(self, packet: Packet, mtu: int) -> None:
        """It is longer than `mtu` (RFC 4443 section 3.2): the one error that may also answer multicast."""
        self.send_error(packet, wire.PACKET_TOO_BIG, 0, mtu)

    def send_time_exceeded(self, packet: Packet, code: int) -> None:
        """Its hop limit (code 0) or its reassembly time (code 1) is over."""
        self.send_error(packet, wire.TIME_EXCEEDED, code, 0)

    def send_parameter_problem(self, packet: Packet, code: int, pointer: int) -> None:
        """The byte at `pointer`, counted from its IPv6 header, is wrong."""
        self.send_error(packet, wire.PARAMETER_PROBLEM, code, pointer)

    def send_error(self, packet: Packet, kind: int, code: int, rest: int) -> None:
        """Send an error about `packet`, where that is allowed (RFC 4443 section 2.4 (e) and (f))."""
        if packet.iface is None:
            self._local_error(packet, kind, code, rest)
            return
        src, dst = packet.src, packet.dst
        if src == 0 or is_multicast(6, src):
            return
        to_group = is_multicast(6, dst) or packet.kind != TO_HOST
        bad_option = kind == wire.PARAMETER_PROBLEM and code == wire.BAD_OPTION
        if to_group and kind != wire.PACKET_TOO_BIG and not bad_option:
            return
        head = packet.head
        if packet.proto == PROTO_ICMPV6 and not packet.fragment and packet.end > packet.l4:
            if head[packet.l4] < wire.FIRST_INFORMATIONAL or head[packet.l4] == wire.REDIRECT:
                return
        stack = self._stack
        ours = not to_group and stack.interface_of(6, dst) is not None
        source = dst if ours else 0
        oif = packet.iface if is_link_local_v6(src) else None
        route = stack.routing6.output(src, source, oif, mark=packet.mark)
        if route.error or route.kind not in (UNICAST, LOCAL):
            return
        if kind != wire.PACKET_TOO_BIG and packet.iface.kind != LOOPBACK and not self._limit.allow(src):
            return
        source = source or route.source
        quote = packet.network_bytes()[:QUOTE_LIMIT]
        message = wire.message(source, src, kind, code, rest, quote)
        self.counted(kind)
        stack.ipv6.send(route, source, src, PROTO_ICMPV6, message, mark=packet.mark)

    def _local_error(self, packet: Packet, kind: int, code: int, rest: int) -> None:
        """The packet is our own: no message has to travel."""
        error = IcmpError(6, kind, code, rest, packet.src, None)
        if _read_quote_untrusted(error, packet.network_bytes()[:QUOTE_LIMIT]):
            _classify(error)
            self._stack.icmp_error(error)


def _classify(error: IcmpError) -> None:
    """The errno of an error (net/ipv6/icmp.c, icmpv6_err_convert)."""
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


def _read_quote_untrusted(error: IcmpError, quote: bytes) -> bool:
    """Find the transport header in the quoted packet; False when it is not to be found."""
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
    error.proto = kind
    error.quote = quote[at:]
    error.payload = quote[at + 8 :]
    error.sport = int.from_bytes(quote[at : at + 2], "big")
    error.dport = int.from_bytes(quote[at + 2 : at + 4], "big")
    return True
