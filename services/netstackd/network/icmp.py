"""ICMP as both versions have it: echoes, errors sent and received (RFC 792, RFC 1122 section 3.2.2, RFC 4443).

`icmpv4.py` and `icmpv6.py` say what is theirs alone: numbers, what is told to whom, what a quote looks like.

Errors are limited as Linux limits them: GLOBAL_RATE a second with a burst of GLOBAL_BURST for the whole stack, and
one a second with a burst of HOST_BURST for each destination; those that path MTU discovery needs are exempt. What is
received about a packet of ours becomes an `IcmpError` and is handed to the transport that sent it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.interface import LOOPBACK, Interface
from services.netstackd.network.neighbours import SECOND
from services.netstackd.network.routes import LOCAL, UNICAST, Destination
from services.netstackd.storage.packet import CSUM_NONE, Packet
from services.netstackd.wire import icmpv4, icmpv6
from services.netstackd.wire.checksum import ones_sum
from services.netstackd.wire.numbers import is_link_local_v6

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

GLOBAL_RATE: Final = 1000  # net.ipv4.icmp_msgs_per_sec
GLOBAL_BURST: Final = 50  # net.ipv4.icmp_msgs_burst
HOST_INTERVAL: Final = SECOND  # net.ipv4.icmp_ratelimit
HOST_BURST: Final = 6
HOST_LIMIT: Final = 1024  # destinations remembered
REDIRECT_LIFETIME: Final = 600 * SECOND
REDIRECT_LIMIT: Final = 256

# Codes of DESTINATION_UNREACHABLE that mean the same: (ICMP, ICMPv6), as Stack.send_unreachable takes them.
NO_ROUTE: Final = (icmpv4.NET_UNREACHABLE, icmpv6.NO_ROUTE)
HOST_UNREACHABLE: Final = (icmpv4.HOST_UNREACHABLE, icmpv6.ADDRESS_UNREACHABLE)
PORT_UNREACHABLE: Final = (icmpv4.PORT_UNREACHABLE, icmpv6.PORT_UNREACHABLE)
PROHIBITED: Final = (icmpv4.ADMIN_PROHIBITED, icmpv6.ADMIN_PROHIBITED)

_SHORT: Final = COUNTER["DropIcmpShort"]
_CHECKSUM: Final = COUNTER["DropIcmpChecksum"]
_BROADCAST_ECHO: Final = COUNTER["DropIcmpBroadcastEcho"]
_QUOTE: Final = COUNTER["DropIcmpQuote"]


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
        return is_too_big(self.version, self.type, self.code)

    def set_transport(self, proto: int, quoted: bytes) -> None:
        """The quoted packet from its transport header on, of which there are eight bytes or more."""
        self.proto = proto
        self.quote = quoted
        self.payload = quoted[8:]
        self.sport = int.from_bytes(quoted[:2], "big")
        self.dport = int.from_bytes(quoted[2:4], "big")


def is_too_big(version: int, kind: int, code: int) -> bool:
    """Whether a message is the one that path MTU discovery lives by."""
    if version == 4:
        return kind == icmpv4.DESTINATION_UNREACHABLE and code == icmpv4.FRAGMENTATION_NEEDED
    return kind == icmpv6.PACKET_TOO_BIG


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


class IcmpCounters:
    """Slots of one version's counters. `names` are those that Linux gives the types behind `In` and `Out`; not every
    type is counted in both directions."""

    def __init__(self, prefix: str, names: dict[int, str]) -> None:
        self.in_messages: Final = COUNTER[f"{prefix}InMsgs"]
        self.in_errors: Final = COUNTER[f"{prefix}InErrors"]
        self.in_checksum_errors: Final = COUNTER[f"{prefix}InCsumErrors"]
        self.out_messages: Final = COUNTER[f"{prefix}OutMsgs"]
        self.limited_host: Final = COUNTER[f"{prefix}OutRateLimitHost"]
        self.in_by_type: Final = _slots(f"{prefix}In", names)
        self.out_by_type: Final = _slots(f"{prefix}Out", names)


def _slots(prefix: str, names: dict[int, str]) -> dict[int, int]:
    return {kind: COUNTER[prefix + name] for kind, name in names.items() if prefix + name in COUNTER}


class Icmp:
    """One per stack and version. What is not implemented here is in the version's own class."""

    version: ClassVar[int]
    proto: ClassVar[int]
    counters: ClassVar[IcmpCounters]
    quote_limit: ClassVar[int]  # bytes of a packet that an error about it quotes
    echo_request: ClassVar[int]
    echo_reply: ClassVar[int]
    destination_unreachable: ClassVar[int]
    time_exceeded: ClassVar[int]

    def __init__(self, stack: Stack, limit: ErrorLimit) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self._limit = limit
        self._routing = stack.routing(self.version)
        self.echo_ignore_all = False
        self.echo_ignore_groups = False  # requests to groups and to everybody
        self.forwarder: Callable[[Packet], None] | None = None  # takes echo requests to foreign addresses (slirp)

    # -- receiving --

    def input(self, packet: Packet) -> None:
        """A message for us."""
        count = self._count
        counters = self.counters
        count[counters.in_messages] += 1
        head = packet.head
        l4, end = packet.l4, packet.end
        if end - l4 < 8:
            count[_SHORT] += 1
            count[counters.in_errors] += 1
            return
        if packet.csum == CSUM_NONE:
            pseudo_header = 0 if self.version == 4 else packet.src + packet.dst + self.proto + end - l4
            if (pseudo_header + ones_sum(memoryview(head)[l4:end])) % 65535:
                count[_CHECKSUM] += 1
                count[counters.in_checksum_errors] += 1
                count[counters.in_errors] += 1
                return
        kind = head[l4]
        packet.payload = l4 + 8
        slot = counters.in_by_type.get(kind)
        if slot is not None:
            count[slot] += 1
        if kind == self.echo_request:
            self._answer_echo(packet)
        elif kind == self.echo_reply:
            self._stack.ping.deliver(packet)
        else:
            self._input_other(packet, kind)

    def _input_other(self, packet: Packet, kind: int) -> None:
        """A message that is no echo."""
        raise NotImplementedError

    def _answer_echo(self, packet: Packet) -> None:
        """RFC 1122 section 3.2.2.6, RFC 4443 section 4.2: everything is returned as it came."""
        group = self._is_to_group(packet)
        if self.echo_ignore_all or (group and self.echo_ignore_groups):
            self._count[_BROADCAST_ECHO] += 1
            return
        iface = packet.iface
        if iface is not None and iface.accept_any and not group:
            if self._stack.interface_of(self.version, packet.dst) is None:
                if self.forwarder is not None:
                    self.forwarder(packet)
                return
        data = bytes(memoryview(packet.head)[packet.payload : packet.end])
        self._reply(packet, self.echo_reply, packet.head[packet.l4 + 4 : packet.l4 + 8], data)

    def _is_to_group(self, packet: Packet) -> bool:
        """Whether an echo request is for more than this host."""
        raise NotImplementedError

    def _reply(self, packet: Packet, kind: int, rest: bytes | bytearray, data: bytes) -> None:
        """Send an answer to `packet` from the address it was sent to, an own one where that is a group's."""
        way, source = self._way_back(packet)
        if way is not None:
            number = int.from_bytes(rest, "big")
            self.send(way, source, packet.src, kind, 0, number, data, tos=packet.tos, mark=packet.mark)

    def _way_back(self, packet: Packet) -> tuple[Destination | None, int]:
        """(way to the sender of `packet`, address to send from); None where there is no way or address."""
        stack = self._stack
        src = packet.src
        source = 0 if stack.interface_of(self.version, packet.dst) is None else packet.dst
        oif = packet.iface if self.version == 6 and is_link_local_v6(src) else None
        way = self._routing.output(src, source, oif, mark=packet.mark)
        source = source or way.source
        return (None if way.error or not source else way), source

    def _input_error(self, packet: Packet, kind: int) -> None:
        """An error about a packet that we sent: find out which, and tell its transport (RFC 1122 section 3.2.2,
        RFC 4443 section 2.4 (d))."""
        error = self._read_error(packet, kind)
        if error is None:
            return
        iface = packet.iface
        ours = self._stack.interface_of(self.version, error.src) is not None
        if not ours and not (iface is not None and iface.accept_any):
            self._count[_QUOTE] += 1  # not about a packet of ours
            self._count[self.counters.in_errors] += 1
        elif self._classify(error):
            self._stack.icmp_error(error)

    def _read_error(self, packet: Packet, kind: int) -> IcmpError | None:
        """A received error with what it quotes; None, and counted, when that tells nothing."""
        head, l4 = packet.head, packet.l4
        rest = int.from_bytes(head[l4 + 4 : l4 + 8], "big")
        error = IcmpError(self.version, kind, head[l4 + 1], self._info(kind, rest), packet.src, packet.iface)
        if self._read_quote_untrusted(error, bytes(memoryview(head)[packet.payload : packet.end])):
            return error
        self._count[_QUOTE] += 1
        self._count[self.counters.in_errors] += 1
        return None

    def _info(self, kind: int, rest: int) -> int:
        """What of the header's last four bytes is for `IcmpError.info`."""
        raise NotImplementedError

    def _read_quote_untrusted(self, error: IcmpError, quote: bytes) -> bool:
        """Put addresses and transport header of the quoted packet into `error`; False when they are not there."""
        raise NotImplementedError

    def _classify(self, error: IcmpError) -> bool:
        """Give it its errno; False when nobody is to be told."""
        raise NotImplementedError

    # -- sending --

    def counted(self, kind: int) -> None:
        """Count a message that is sent."""
        self._count[self.counters.out_messages] += 1
        slot = self.counters.out_by_type.get(kind)
        if slot is not None:
            self._count[slot] += 1

    def send(
        self,
        way: Destination,
        src: int,
        dst: int,
        kind: int,
        code: int,
        rest: int,
        data: bytes,
        *,
        ttl: int = -1,
        tos: int = 0,
        mark: int = 0,
        loop: bool = True,
    ) -> int:
        """Send a message of the stack's own; 0 or an errno. The rest as for IP."""
        self.counted(kind)
        message = self.message(src, dst, kind, code, rest, data)
        ip = self._stack.ip(self.version)
        return ip.send(way, src, dst, self.proto, message, ttl=ttl, tos=tos, mark=mark, loop=loop)

    def message(self, src: int, dst: int, kind: int, code: int, rest: int, data: bytes) -> bytes:
        """A message with its checksum."""
        raise NotImplementedError

    def echo(self, src: int, dst: int, kind: int, ident: int, sequence: int, data: bytes) -> bytes:
        """An echo request or reply."""
        return self.message(src, dst, kind, 0, ident << 16 | sequence, data)

    def send_unreachable(self, packet: Packet, code: int) -> None:
        """`packet` cannot go on (RFC 792, RFC 4443 section 3.1)."""
        self.send_error(packet, self.destination_unreachable, code, 0)

    def send_too_big(self, packet: Packet, mtu: int) -> None:
        """It is longer than `mtu` and must not be fragmented (RFC 1191 section 4, RFC 4443 section 3.2)."""
        raise NotImplementedError

    def send_time_exceeded(self, packet: Packet, code: int) -> None:
        """Its time to live (code 0) or its reassembly time (code 1) is over."""
        self.send_error(packet, self.time_exceeded, code, 0)

    def send_error(self, packet: Packet, kind: int, code: int, rest: int) -> None:
        """Send an error about `packet`, where that is allowed (RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.7,
        RFC 4443 section 2.4 (e) and (f))."""
        iface = packet.iface
        if iface is None:
            self._local_error(packet, kind, code, rest)
            return
        if not self._may_be_told(packet, kind, code):
            return
        way, source = self._way_back(packet)
        if way is None or way.kind not in (UNICAST, LOCAL):
            return
        limited = iface.kind != LOOPBACK and not is_too_big(self.version, kind, code)
        if limited and not self._limit.allow(packet.src):
            return
        quote = packet.network_bytes()[: self.quote_limit]
        self.send(way, source, packet.src, kind, code, rest, quote, tos=self._error_tos(packet), mark=packet.mark)

    def _may_be_told(self, packet: Packet, kind: int, code: int) -> bool:
        """Whether the sender of `packet` may get such an error about it."""
        raise NotImplementedError

    def _error_tos(self, packet: Packet) -> int:
        """The traffic class of an error about `packet`."""
        raise NotImplementedError

    def _local_error(self, packet: Packet, kind: int, code: int, rest: int) -> None:
        """The packet is our own: no message has to travel."""
        error = IcmpError(self.version, kind, code, self._info(kind, rest), packet.src, None)
        quote = packet.network_bytes()[: self.quote_limit]
        if self._read_quote_untrusted(error, quote) and self._classify(error):
            self._stack.icmp_error(error)
