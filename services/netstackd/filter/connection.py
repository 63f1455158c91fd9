"""Connections as the tracker keeps them: their two directions, states, rewrites, and what an ICMP error quotes. Data
only.

Read first: conntrack.py, whose `Tracker` makes and moves these. `packet.ct` is one of Direction, Related,
Verdictless; each has `state`, a bit that rules ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from protocol.records import record
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_TCP, PROTO_UDP

SECOND: Final = 1_000_000_000
PROTO_ICMPV6: Final = 58

NEW: Final = 1
ESTABLISHED: Final = 2
RELATED: Final = 4
INVALID: Final = 8
UNTRACKED: Final = 16
STATE_NAMES: Final = {
    NEW: "new",
    ESTABLISHED: "established",
    RELATED: "related",
    INVALID: "invalid",
    UNTRACKED: "untracked",
}

# TCP states, in the order in which /proc/net/nf_conntrack numbers them
NONE: Final = 0
SYN_SENT: Final = 1
SYN_RECV: Final = 2
TCP_ESTABLISHED: Final = 3
FIN_WAIT: Final = 4
CLOSE_WAIT: Final = 5
LAST_ACK: Final = 6
TIME_WAIT: Final = 7
CLOSE: Final = 8
SYN_SENT2: Final = 9
TCP_STATE_NAMES: Final = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)

Key: TypeAlias = tuple[int, int, int, int, int]  # source, destination, source port, destination port, protocol


@record(frozen=True)
class Timeouts:
    """Nanoseconds without a packet after which a connection is forgotten, by protocol and state."""

    tcp_syn_sent: int = 120 * SECOND
    tcp_syn_recv: int = 60 * SECOND
    tcp_established: int = 432000 * SECOND
    tcp_unacknowledged: int = 300 * SECOND  # established as it seems, taken up in the middle, no answer seen
    tcp_fin_wait: int = 120 * SECOND
    tcp_close_wait: int = 60 * SECOND
    tcp_last_ack: int = 30 * SECOND
    tcp_time_wait: int = 120 * SECOND
    tcp_close: int = 10 * SECOND
    udp: int = 30 * SECOND
    udp_stream: int = 120 * SECOND
    icmp: int = 30 * SECOND
    icmpv6: int = 30 * SECOND
    generic: int = 600 * SECOND

    def tcp(self) -> tuple[int, ...]:
        """Indexed by TCP state."""
        syn = self.tcp_syn_sent
        return (
            syn,
            syn,
            self.tcp_syn_recv,
            self.tcp_established,
            self.tcp_fin_wait,
            self.tcp_close_wait,
            self.tcp_last_ack,
            self.tcp_time_wait,
            self.tcp_close,
            syn,
        )


@record(frozen=True)
class Limits:
    """How much is kept, and how strict to be. `tcp_loose`: take up connections whose beginning was not seen."""

    max_connections: int = 65536
    tcp_loose: bool = True


class Rewrite:
    """How one address and port of the packets of a direction change; made by filter/nat.py."""

    __slots__ = (
        "address",
        "address_bytes",
        "delta_address",
        "delta_all",
        "is_source",
        "old_address",
        "old_port",
        "port",
    )

    def __init__(self, is_source: bool, version: int, old: tuple[int, int], new: tuple[int, int]) -> None:
        self.is_source = is_source
        self.old_address, self.old_port = old
        self.address, self.port = new
        self.address_bytes = new[0].to_bytes(4 if version == 4 else 16, "big")
        self.delta_address = (new[0] - old[0]) % 65535
        self.delta_all = (self.delta_address + new[1] - old[1]) % 65535


class Direction:
    """One way of a connection. `key` is what its packets look like when they come in.

    `pre` and `post` are what to do to them on the way in (their destination) and out (their source). `steps` is the
    filter's memory of which rules can concern this direction. `seen`: the last acknowledgement, offset and window
    bytes.
    """

    __slots__ = (
        "bytes",
        "connection",
        "is_reply",
        "key",
        "packets",
        "post",
        "pre",
        "scale",
        "seen",
        "state",
        "steps",
    )

    def __init__(self, connection: Connection, key: Key, is_reply: bool) -> None:
        self.connection = connection
        self.key = key
        self.is_reply = is_reply
        self.state = NEW
        self.packets = 0
        self.bytes = 0
        self.pre: Rewrite | None = None
        self.post: Rewrite | None = None
        self.steps: object = None
        self.seen: bytes | bytearray = b""
        self.scale = 0

    @property
    def other(self) -> Direction:
        """The opposite direction."""
        connection = self.connection
        return connection.original if self.is_reply else connection.reply


class Connection:
    """See the module docstring. `hairpin`: it was forwarded back into the network it came from (filter/nat.py)."""

    __slots__ = (
        "assured",
        "bucket",
        "confirmed",
        "created",
        "deadline",
        "fin",
        "hairpin",
        "mapping",
        "mark",
        "original",
        "proto",
        "release",
        "reply",
        "state",
        "timeout",
        "version",
    )

    def __init__(self, version: int, key: Key, now: int, timeout: int) -> None:
        src, dst, sport, dport, proto = key
        self.version = version
        self.proto = proto
        self.original = Direction(self, key, False)
        if proto == PROTO_ICMP or proto == PROTO_ICMPV6:
            dport = ICMP_ANSWER.get((proto, dport >> 8), 0) << 8
            self.reply = Direction(self, (dst, src, sport, dport, proto), True)
        else:
            self.reply = Direction(self, (dst, src, dport, sport, proto), True)
        self.state = NONE
        self.fin = 0  # 1: the original side has sent its FIN, 2: the other side
        self.assured = False
        self.confirmed: bool = False
        self.hairpin = False
        self.mark = 0
        self.created = now
        self.timeout = timeout
        self.deadline = now + timeout
        self.bucket = 0
        self.mapping: object = None  # filter/nat.py's, to be given back at the end
        self.release: Callable[[Connection], None] | None = None

    def end(self) -> None:
        """It is over. Its directions let go of it, so that reference counts free it at once, not a collector after
        thousands (a flood makes them faster than that); packets on their way find `ENDED` in its place."""
        self.original.connection = self.reply.connection = ENDED

    @property
    def status(self) -> str:
        """The state's name, for people: a TCP state, REPLIED or UNREPLIED."""
        if self.proto == PROTO_TCP:
            return TCP_STATE_NAMES[self.state]
        return "REPLIED" if self.original.state == ESTABLISHED else "UNREPLIED"


class Related:
    """An ICMP error: `direction` is the one it travels with. `made_here`: by our own stack, not by a host beyond."""

    __slots__ = ("direction", "made_here", "state", "steps")

    def __init__(self, direction: Direction, made_here: bool = False) -> None:
        self.direction = direction
        self.made_here = made_here
        self.state = RELATED
        self.steps: object = None


class Verdictless:
    """A ct without a connection: invalid packets, and those that are not tracked."""

    __slots__ = ("state", "steps")

    def __init__(self, state: int) -> None:
        self.state = state
        self.steps: object = None


ICMP_ANSWER: Final = {  # (protocol, type of a query) -> type of its answer
    (PROTO_ICMP, 8): 0,
    (PROTO_ICMP, 13): 14,
    (PROTO_ICMP, 15): 16,
    (PROTO_ICMP, 17): 18,
    (PROTO_ICMPV6, 128): 129,
}
_EXTENSIONS: Final = frozenset({0, 43, 44, 60})

ENDED: Final = Connection(4, (0, 0, 0, 0, 0), 0, 0)  # in the place of connections that ended; packets pass as they are
ENDED.confirmed = True


class Quote:
    """The packet that an ICMP error quotes: where it is in the error's head, and what it was."""

    __slots__ = ("dport", "dst", "end", "l3", "l4", "proto", "sport", "src", "version")

    def __init__(self, version: int, l3: int, l4: int, end: int, proto: int, src: int, dst: int) -> None:
        self.version = version
        self.l3 = l3
        self.l4 = l4
        self.end = end
        self.proto = proto
        self.src = src
        self.dst = dst
        self.sport = self.dport = 0


def quote_untrusted(packet: Packet) -> Quote | None:
    """What the ICMP error `packet` quotes; None when it quotes too little."""
    head, at = packet.head, packet.l4 + 8
    end = packet.end
    if packet.version == 4:
        if end < at + 20 or head[at] >> 4 != 4:
            return None
        l4 = at + (head[at] & 15) * 4
        if l4 < at + 20 or (head[at + 6] & 0x1F) or head[at + 7]:
            return None  # a later fragment has no ports
        proto = head[at + 9]
        src, dst = int.from_bytes(head[at + 12 : at + 16], "big"), int.from_bytes(head[at + 16 : at + 20], "big")
    else:
        if end < at + 40 or head[at] >> 4 != 6:
            return None
        proto, l4 = head[at + 6], at + 40
        while proto in _EXTENSIONS:
            if l4 + 8 > end or (proto == 44 and (head[l4 + 2] or head[l4 + 3] & 0xF8)):
                return None
            proto, l4 = head[l4], l4 + (8 if proto == 44 else 8 + head[l4 + 1] * 8)
        src, dst = int.from_bytes(head[at + 8 : at + 24], "big"), int.from_bytes(head[at + 24 : at + 40], "big")
    if l4 + 8 > end:
        return None
    quote = Quote(packet.version, at, l4, end, proto, src, dst)
    if proto in (PROTO_TCP, PROTO_UDP):
        quote.sport, quote.dport = head[l4] << 8 | head[l4 + 1], head[l4 + 2] << 8 | head[l4 + 3]
    elif proto in (PROTO_ICMP, PROTO_ICMPV6):
        quote.sport, quote.dport = head[l4 + 4] << 8 | head[l4 + 5], head[l4] << 8
    return quote
