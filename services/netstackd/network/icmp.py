"""ICMP for IPv4: answers, errors sent and received (RFC 792, RFC 1122 section 3.2.2, RFC 1812 section 4.3).

Errors are limited as Linux limits them: GLOBAL_RATE a second with a burst of GLOBAL_BURST for the whole stack, and
one a second with a burst of HOST_BURST for each destination; those that path MTU discovery needs are exempt. What is
received about a packet of ours becomes an `IcmpError` and is handed to the transport that sent it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.interface import LOOPBACK, Interface
from services.netstackd.network.neighbours import SECOND
from services.netstackd.network.path_mtu import plateau_below
from services.netstackd.network.routes import LOCAL, UNICAST, NextHop, Route
from services.netstackd.storage.packet import CSUM_NONE, TO_HOST, Packet
from services.netstackd.wire import icmpv4 as wire
from services.netstackd.wire.checksum import ones_sum
from services.netstackd.wire.icmpv6 import PACKET_TOO_BIG
from services.netstackd.wire.numbers import IPV4_BROADCAST, PROTO_ICMP, is_multicast

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

GLOBAL_RATE: Final = 1000  # net.ipv4.icmp_msgs_per_sec
GLOBAL_BURST: Final = 50  # net.ipv4.icmp_msgs_burst
HOST_INTERVAL: Final = SECOND  # net.ipv4.icmp_ratelimit
HOST_BURST: Final = 6
HOST_LIMIT: Final = 1024  # destinations remembered
QUOTE_LIMIT_V4: Final = 576  # RFC 1812 section 4.3.2.3: the whole error packet
REDIRECT_LIFETIME: Final = 600 * SECOND
REDIRECT_LIMIT: Final = 256
REDIRECT_METRIC: Final = 0

_IN_MSGS: Final = COUNTER["IcmpInMsgs"]
_IN_ERRORS: Final = COUNTER["IcmpInErrors"]
_IN_CSUM: Final = COUNTER["IcmpInCsumErrors"]
_IN_BY_TYPE: Final = {
    wire.ECHO_REPLY: COUNTER["IcmpInEchoReps"],
    wire.DESTINATION_UNREACHABLE: COUNTER["IcmpInDestUnreachs"],
    wire.REDIRECT: COUNTER["IcmpInRedirects"],
    wire.ECHO_REQUEST: COUNTER["IcmpInEchos"],
    wire.TIME_EXCEEDED: COUNTER["IcmpInTimeExcds"],
    wire.PARAMETER_PROBLEM: COUNTER["IcmpInParmProbs"],
}
_OUT_MSGS: Final = COUNTER["IcmpOutMsgs"]
_OUT_BY_TYPE: Final = {
    wire.ECHO_REPLY: COUNTER["IcmpOutEchoReps"],
    wire.DESTINATION_UNREACHABLE: COUNTER["IcmpOutDestUnreachs"],
    wire.REDIRECT: COUNTER["IcmpOutRedirects"],
    wire.ECHO_REQUEST: COUNTER["IcmpOutEchos"],
    wire.TIME_EXCEEDED: COUNTER["IcmpOutTimeExcds"],
    wire.PARAMETER_PROBLEM: COUNTER["IcmpOutParmProbs"],
}
_LIMITED_GLOBAL: Final = COUNTER["IcmpOutRateLimitGlobal"]
_LIMITED_HOST: Final = COUNTER["IcmpOutRateLimitHost"]
_SHORT: Final = COUNTER["DropIcmpShort"]
_CHECKSUM: Final = COUNTER["DropIcmpChecksum"]
_BROADCAST_ECHO: Final = COUNTER["DropIcmpBroadcastEcho"]
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


class IcmpError:
    """What the network says about a packet of ours: `src` and `dst` are that packet's."""

    __slots__ = (
        "code",
        "dport",
        "dst",
        "errno",
        "fatal",
        "iface",
        "info",
        "offender",
        "payload",
        "proto",
        "quote",
        "sport",
        "src",
        "type",
        "version",
    )

    def __init__(self, version: int, kind: int, code: int, info: int, offender: int, iface: Interface | None) -> None:
        self.version = version
        self.type = kind
        self.code = code
        self.info = info  # the MTU of FRAGMENTATION_NEEDED and PACKET_TOO_BIG, the pointer of a parameter problem
        self.offender = offender  # who said it
        self.iface = iface
        self.errno = errno.EHOSTUNREACH
        self.fatal = False  # ends the conversation even when the socket did not ask for errors
        self.proto = 0
        self.src = 0
        self.dst = 0
        self.sport = 0
        self.dport = 0
        self.quote = b""  # what was quoted, from its transport header on
        self.payload = b""  # what was quoted behind that header: what a socket's error queue shows

    @property
    def too_big(self) -> bool:
        """Whether it says that the path's MTU is smaller (RFC 1191, RFC 8201); `info` is that MTU."""
        if self.version == 4:
            return self.type == wire.DESTINATION_UNREACHABLE and self.code == wire.FRAGMENTATION_NEEDED
        return self.type == PACKET_TOO_BIG


class ErrorLimit:
    """Token buckets: one for all, one per destination."""

    def __init__(self, stack: Stack, limited_global: int, limited_host: int) -> None:
        self._stack = stack
        self._limited = limited_global, limited_host
        self._tokens = GLOBAL_BURST * SECOND
        self._stamp = 0
        self._hosts: dict[int, tuple[int, int]] = {}  # destination: (nanoseconds saved up, when)

    def allow(self, destination: int) -> bool:
        """Whether an error may go to `destination` now; counts when not."""
        now = self._stack.now
        tokens = min(self._tokens + (now - self._stamp) * GLOBAL_RATE, GLOBAL_BURST * SECOND)
        self._stamp = now
        self._tokens = tokens
        count = self._stack.counters.values
        if tokens < SECOND:
            count[self._limited[0]] += 1
            return False
        hosts = self._hosts
        saved, stamp = hosts.pop(destination, (HOST_BURST * HOST_INTERVAL, now))
        saved = min(saved + now - stamp, HOST_BURST * HOST_INTERVAL)
        allowed = saved >= HOST_INTERVAL
        if len(hosts) >= HOST_LIMIT:
            del hosts[next(iter(hosts))]
        hosts[destination] = (saved - HOST_INTERVAL if allowed else saved, now)
        if allowed:
            self._tokens -= SECOND
        else:
            count[self._limited[1]] += 1
        return allowed


class Icmp4:
    """One per stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self._limit = ErrorLimit(stack, _LIMITED_GLOBAL, _LIMITED_HOST)
        self.echo_ignore_broadcasts = True
        self.echo_ignore_all = False
        self.forwarder: Callable[[Packet], None] | None = None  # takes echo requests to foreign addresses (slirp)
        self._redirects: list[Route] = []

    # -- receiving --

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
        if packet.csum == CSUM_NONE and ones_sum(memoryview(head)[l4:end]) % 65535:
            count[_CHECKSUM] += 1
            count[_IN_CSUM] += 1
            count[_IN_ERRORS] += 1
            return
        kind = head[l4]
        packet.payload = l4 + 8
        slot = _IN_BY_TYPE.get(kind)
        if slot is not None:
            count[slot] += 1
        if kind == wire.ECHO_REQUEST:
            self._answer_echo(packet)
        elif kind == wire.ECHO_REPLY:
            self._stack.ping.deliver(packet)
        elif kind in wire.ERRORS:
            self._input_error(packet, kind, head[l4 + 1], int.from_bytes(head[l4 + 4 : l4 + 8], "big"))
        elif kind == wire.TIMESTAMP:
            self._answer_timestamp(packet)
        elif kind != wire.TIMESTAMP_REPLY:
            count[_UNKNOWN] += 1  # RFC 1122 section 3.2.2: silently discarded (raw sockets have had it)

    def _answer_echo(self, packet: Packet) -> None:
        """RFC 1122 section 3.2.2.6: everything is returned as it came; to a group only when told to."""
        group = packet.dst == IPV4_BROADCAST or is_multicast(4, packet.dst) or packet.kind != TO_HOST
        if self.echo_ignore_all or (group and self.echo_ignore_broadcasts):
            self._count[_BROADCAST_ECHO] += 1
            return
        if packet.iface is not None and packet.iface.accept_any and self._stack.interface_of(4, packet.dst) is None:
            if self.forwarder is not None and not group:
                self.forwarder(packet)
            return
        data = bytes(memoryview(packet.head)[packet.payload : packet.end])
        rest = int.from_bytes(packet.head[packet.l4 + 4 : packet.l4 + 8], "big")
        message = wire.message(wire.ECHO_REPLY, 0, rest, data)
        self._reply(packet, wire.ECHO_REPLY, message)

    def _answer_timestamp(self, packet: Packet) -> None:
        """RFC 1122 section 3.2.2.8; non-standard times (the high bit), as there is no clock of the day here."""
        if packet.end - packet.l4 < 20 or packet.kind != TO_HOST:
            self._count[_SHORT] += 1
            return
        stamp = (self._stack.now // 1_000_000 & 0x7FFFFFFF | 0x80000000).to_bytes(4, "big")
        original = bytes(packet.head[packet.l4 + 8 : packet.l4 + 12])
        rest = int.from_bytes(packet.head[packet.l4 + 4 : packet.l4 + 8], "big")
        self._reply(packet, wire.TIMESTAMP_REPLY, wire.message(wire.TIMESTAMP_REPLY, 0, rest, original + stamp * 2))

    def _reply(self, packet: Packet, kind: int, message: bytes) -> None:
        """Send an answer to `packet` from the address it was sent to."""
        stack = self._stack
        source = 0 if stack.interface_of(4, packet.dst) is None else packet.dst
        route = stack.routing4.output(packet.src, source, mark=packet.mark)
        if route.error or not (source or route.source):
            return
        self.counted(kind)
        stack.ipv4.send(
            route, source or route.source, packet.src, PROTO_ICMP, message, tos=packet.tos, mark=packet.mark
        )

    def _input_error(self, packet: Packet, kind: int, code: int, rest: int) -> None:
        """An error about a packet that we sent: find out which, and tell its transport (RFC 1122 section 3.2.2)."""
        head = packet.head
        at, end = packet.payload, packet.end
        size = (head[at] & 15) * 4 if at < end else 0
        if end - at < 28 or head[at] >> 4 != 4 or size < 20 or at + size + 8 > end:
            self._count[_QUOTE] += 1
            self._count[_IN_ERRORS] += 1
            return
        info = rest & 0xFFFF if kind == wire.DESTINATION_UNREACHABLE else rest >> 24
        error = IcmpError(4, kind, code, info, packet.src, packet.iface)
        self._read_quote(error, bytes(memoryview(head)[at:end]), size)
        if kind == wire.REDIRECT:
            self._input_redirect(packet, error, rest)
            return
        foreign = self._stack.interface_of(4, error.src) is None
        if foreign and not (packet.iface is not None and packet.iface.accept_any):
            self._count[_QUOTE] += 1  # not about a packet of ours
            return
        if kind == wire.DESTINATION_UNREACHABLE:
            if code > 15:
                self._count[_QUOTE] += 1
                return
            error.errno, error.fatal = UNREACHABLE_ERRORS[code]
            if code == wire.FRAGMENTATION_NEEDED and error.info == 0:
                error.info = plateau_below(int.from_bytes(head[at + 2 : at + 4], "big"))
        elif kind == wire.PARAMETER_PROBLEM:
            error.errno, error.fatal = errno.EPROTO, True
        elif kind == wire.SOURCE_QUENCH:
            return  # RFC 6633: ignored
        self._stack.icmp_error(error)

    @staticmethod
    def _read_quote(error: IcmpError, quote: bytes, size: int) -> None:
        error.proto = quote[9]
        error.src = int.from_bytes(quote[12:16], "big")
        error.dst = int.from_bytes(quote[16:20], "big")
        error.quote = quote[size:]
        error.payload = quote[size + 8 :]
        error.sport = int.from_bytes(quote[size : size + 2], "big")
        error.dport = int.from_bytes(quote[size + 2 : size + 4], "big")

    def _input_redirect(self, packet: Packet, error: IcmpError, gateway: int) -> None:
        """RFC 1122 section 3.2.2.2: believed when it comes from the gateway in use and names one on the same link."""
        iface = packet.iface
        stack = self._stack
        if iface is None or not iface.accept_redirects4 or iface.forwarding4:
            return
        current = stack.routing4.output(error.dst)
        if current.kind != UNICAST or current.out is not iface or current.next_hop != packet.src:
            return
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

    def counted(self, kind: int) -> None:
        """Count a message that is sent."""
        self._count[_OUT_MSGS] += 1
        slot = _OUT_BY_TYPE.get(kind)
        if slot is not None:
            self._count[slot] += 1

    def send_unreachable(self, packet: Packet, code: int, mtu: int = 0) -> None:
        """`packet` cannot go on. `mtu` for FRAGMENTATION_NEEDED (RFC 1191 section 4)."""
        self.send_error(packet, wire.DESTINATION_UNREACHABLE, code, mtu)

    def send_time_exceeded(self, packet: Packet, code: int) -> None:
        """Its time to live (code 0) or its reassembly time (code 1) is over."""
        self.send_error(packet, wire.TIME_EXCEEDED, code, 0)

    def send_parameter_problem(self, packet: Packet, pointer: int) -> None:
        """The byte at `pointer` of its header is wrong."""
        self.send_error(packet, wire.PARAMETER_PROBLEM, 0, pointer << 24)

    def send_redirect(self, packet: Packet, gateway: int) -> None:
        """Its sender should use `gateway`, on its own link (RFC 1812 section 5.2.7.2)."""
        self.send_error(packet, wire.REDIRECT, wire.REDIRECT_HOST, gateway)

    def send_error(self, packet: Packet, kind: int, code: int, rest: int) -> None:
        """Send an error about `packet`, where that is allowed (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7)."""
        if packet.iface is None:
            self._local_error(packet, kind, code, rest)
            return
        src, dst = packet.src, packet.dst
        if packet.kind != TO_HOST or src >> 24 == 0 or is_multicast(4, src) or src == IPV4_BROADCAST:
            return
        if is_multicast(4, dst) or dst == IPV4_BROADCAST:
            return
        head = packet.head
        if (head[packet.l3 + 6] & 0x1F or head[packet.l3 + 7]) and packet.fragment:
            return  # not the first fragment
        if packet.proto == PROTO_ICMP and (packet.end <= packet.l4 or head[packet.l4] in wire.ERRORS):
            return  # never about an error
        stack = self._stack
        owner = stack.interface_of(4, dst)
        source = dst if owner is not None else 0
        route = stack.routing4.output(src, source, mark=packet.mark)
        if route.error or not (source or route.source) or route.kind not in (UNICAST, LOCAL):
            return
        limited = not (kind == wire.DESTINATION_UNREACHABLE and code == wire.FRAGMENTATION_NEEDED)
        if limited and packet.iface.kind != LOOPBACK and not self._limit.allow(src):
            return
        quote = packet.network_bytes()[: QUOTE_LIMIT_V4 - 28]
        self.counted(kind)
        tos = packet.tos & 0x1E | 0xC0  # precedence 6, internetwork control (RFC 1812 section 4.3.2.5)
        message = wire.message(kind, code, rest, quote)
        stack.ipv4.send(route, source or route.source, src, PROTO_ICMP, message, tos=tos, mark=packet.mark)

    def _local_error(self, packet: Packet, kind: int, code: int, rest: int) -> None:
        """The packet is our own: no message has to travel."""
        error = IcmpError(4, kind, code, rest & 0xFFFF, packet.src, None)
        if kind == wire.DESTINATION_UNREACHABLE:
            error.errno, error.fatal = UNREACHABLE_ERRORS[code]
        quote = packet.network_bytes()[:QUOTE_LIMIT_V4]
        size = (quote[0] & 15) * 4
        if len(quote) >= size + 8:
            self._read_quote(error, quote, size)
            self._stack.icmp_error(error)
