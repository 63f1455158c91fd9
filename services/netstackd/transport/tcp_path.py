"""TcpPath: how the segments of one connection become packets and leave. It is TCP's `Route` (tcp/context.py).

A path holds the route decision for its two ends and asks for a new one when the routing's generation has moved on. A
segment becomes one packet with head room for a link header, its payload left where it is (`Packet.body`), its checksum
left to the link (CSUM_PARTIAL), and with `gso_size` set one packet for many segments.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from services.netstackd.network.interface import LOOPBACK
from services.netstackd.network.neighbours import REACHABLE, SECOND
from services.netstackd.network.routes import UNICAST, Destination
from services.netstackd.storage.packet import (
    CSUM_PARTIAL,
    GSO_TCP4,
    GSO_TCP6,
    HEADROOM,
    Packet,
    PacketRun,
)
from services.netstackd.transport.tcp.segment import Payload, Segment, separate
from services.netstackd.wire.numbers import PROTO_TCP
from services.netstackd.wire.tcp_options import TIMESTAMP_WORD, emit_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.netstackd.network.interface import Interface
    from services.netstackd.stack import Stack
    from services.netstackd.storage.packet import Payload as Body

# Headroom, IP header and TCP header in one.
_V4: Final = Struct(f"!{HEADROOM}xHHHHHHIIHHIIHHHH")
_V6: Final = Struct(f"!{HEADROOM}xIHBBQQQQHHIIHHHH")
_V4_STAMPED: Final = Struct(_V4.format + "III")  # with the timestamp option behind it
_V6_STAMPED: Final = Struct(_V6.format + "III")
_L4_V4: Final = HEADROOM + 20
_L4_V6: Final = HEADROOM + 40
_FLOW4: Final = Struct("!IHIH")
_FLOW6: Final = Struct("!QQHQQH")
_LOW: Final = 0xFFFFFFFFFFFFFFFF
_DF: Final = 0x4000
MIN_IPV4_MTU: Final = 576
RUN_MAX: Final = 16  # a megabyte of large segments
LARGEST: Final = 65535 - 120  # payload of one packet: less the longest headers

# A confirmation of a reachable neighbour is worth its cost only when the last one is this old.
_CONFIRM_INTERVAL: Final = SECOND


def flow_bytes(version: int, local: int, local_port: int, remote: int, remote_port: int) -> bytes:
    """The name of a connection, for keyed hashes and tables."""
    if version == 4:
        return _FLOW4.pack(local, local_port, remote, remote_port)
    return _FLOW6.pack(local >> 64, local & _LOW, local_port, remote >> 64, remote & _LOW, remote_port)


def flow_of(flow: bytes) -> tuple[int, int, int, int, int]:
    """(version, local, local port, remote, remote port) of a name."""
    if len(flow) == _FLOW4.size:
        local, local_port, remote, remote_port = _FLOW4.unpack(flow)
        return 4, local, local_port, remote, remote_port
    high, low, local_port, remote_high, remote_low, remote_port = _FLOW6.unpack(flow)
    return 6, high << 64 | low, local_port, remote_high << 64 | remote_low, remote_port


class TcpPath:
    """See the module. `way` may be a failure: what is sent then is lost, as the network might lose it."""

    __slots__ = (
        "_generation",
        "_routing",
        "_stack",
        "device",
        "gso_max",
        "local",
        "local_port",
        "mark",
        "peer",
        "pmtu_discover",
        "remote",
        "remote_port",
        "run_max",
        "tos",
        "ttl",
        "version",
        "way",
    )

    def __init__(
        self,
        stack: Stack,
        version: int,
        local: int,
        local_port: int,
        remote: int,
        remote_port: int,
        *,
        device: Interface | None = None,
        mark: int = 0,
        tos: int = 0,
        ttl: int = 0,
    ) -> None:
        self._stack = stack
        self._routing = stack.routing4 if version == 4 else stack.routing6
        self.version = version
        self.local = local
        self.local_port = local_port
        self.remote = remote
        self.remote_port = remote_port
        self.device = device
        self.mark = mark
        self.tos = tos
        self.ttl = ttl
        self.pmtu_discover = True
        width = 4 if version == 4 else 16
        self.peer = local.to_bytes(width, "big") + remote.to_bytes(width, "big")
        self.gso_max = self.run_max = 0
        self._generation = -1
        self.way: Destination
        self.refresh()

    def refresh(self) -> Destination:
        """Ask the routing anew."""
        routing = self._routing
        flow = hash((self._stack.flow_seed, self.local, self.remote, self.local_port, self.remote_port)) & 0xFFFFFFFF
        way = self.way = routing.output(self.remote, self.local, self.device, self.mark, self.tos, flow)
        self._generation = routing.generation
        out = way.out
        self.gso_max = 0 if out is None else LARGEST if out.kind == LOOPBACK else max(out.gso_max - 120, 0)
        self.run_max = RUN_MAX if out is not None and out.device.takes_runs and self.gso_max else 0
        return way

    def _mtu(self) -> int:
        way = self.way if self._generation == self._routing.generation else self.refresh()
        return way.mtu or (MIN_IPV4_MTU if self.version == 4 else 1280)

    def mss_for_path(self) -> int:
        """See Route."""
        return self._mtu() - (40 if self.version == 4 else 60)

    def advertised_mss(self) -> int:
        """See Route."""
        way = self.way if self._generation == self._routing.generation else self.refresh()
        out = way.out
        if out is None:
            return self.mss_for_path()
        mtu = out.mtu if self.version == 4 else out.effective_mtu6
        return min(mtu, 65535) - (40 if self.version == 4 else 60)

    def confirm(self) -> None:
        """See Route."""
        neighbour = self.way.neighbour
        if neighbour is None:
            return
        stack = self._stack
        if neighbour.state == REACHABLE and stack.now - neighbour.confirmed < _CONFIRM_INTERVAL:
            return
        (stack.neighbours4 if self.version == 4 else stack.neighbours6).confirm(neighbour)

    def send_run(self, endpoint: object, segment: Segment, payloads: Sequence[Payload], pushed: bool) -> None:
        """See Route. One packet stands for all of them where nobody looks at packets on their way."""
        stack = self._stack
        hooks = stack.hooks
        if not self.pmtu_discover or stack.taps or hooks.output is not None or hooks.postrouting is not None:
            for each in separate(segment, payloads, pushed):
                self.send(endpoint, each)
            return
        following: list[Body] = list(payloads[:0:-1])
        self.send(endpoint, segment, following, pushed)
        (stack.ipv4 if self.version == 4 else stack.ipv6).count_sent(len(following))

    def send(
        self, endpoint: object, segment: Segment, following: list[Body] | None = None, pushed: bool = False
    ) -> None:
        """See Route. Of a run, `following` are the payloads behind the segment's, the last one first."""
        way = self.way if self._generation == self._routing.generation else self.refresh()
        out = way.out
        if way.error or out is None:
            return
        options = b""
        length = 20
        stamped = False  # the timestamp is the only option, as almost always: it is packed along
        if segment.syn is not None or segment.sack_blocks:
            options = emit_options(segment.ts_val, segment.ts_ecr, segment.sack_blocks, segment.syn)
            length += len(options)
        elif segment.ts_val >= 0:
            stamped = True
            length = 32
        payload = segment.payload
        size = len(payload)
        tcp_length = length + size
        flags = segment.flags
        word = length << 10 | flags
        local, remote, tos = self.local, self.remote, self.tos | segment.ecn
        pseudo = (local + remote + PROTO_TCP + tcp_length) % 65535 or 65535
        gso_size = segment.gso_size
        if gso_size and size <= gso_size:
            gso_size = 0
        stack = self._stack
        if self.version == 4:
            total = 20 + tcp_length
            ttl = self.ttl or stack.ipv4.default_ttl
            fragment, ident = _DF, 0
            if not self.pmtu_discover:
                fragment, ident = 0, stack.ipv4.next_ident(local, remote, PROTO_TCP)
            first = 0x4500 | tos
            life = ttl << 8 | PROTO_TCP
            field = 65535 - (first + total + ident + fragment + life + local + remote) % 65535
            l4 = _L4_V4
            if stamped:
                head = bytearray(_V4_STAMPED.pack(
                    first, total, ident, fragment, life, field, local, remote, self.local_port, self.remote_port,
                    segment.seq, segment.ack, word, segment.window, pseudo, segment.urgent,
                    TIMESTAMP_WORD, segment.ts_val, segment.ts_ecr,
                ))  # fmt: skip
            else:
                head = bytearray(_V4.pack(
                    first, total, ident, fragment, life, field, local, remote, self.local_port, self.remote_port,
                    segment.seq, segment.ack, word, segment.window, pseudo, segment.urgent,
                ))  # fmt: skip
        else:
            ttl = self.ttl or out.hop_limit6
            first = 0x60000000 | tos << 20
            l4 = _L4_V6
            if stamped:
                head = bytearray(_V6_STAMPED.pack(
                    first, tcp_length, PROTO_TCP, ttl, local >> 64, local & _LOW, remote >> 64, remote & _LOW,
                    self.local_port, self.remote_port, segment.seq, segment.ack, word, segment.window, pseudo,
                    segment.urgent, TIMESTAMP_WORD, segment.ts_val, segment.ts_ecr,
                ))  # fmt: skip
            else:
                head = bytearray(_V6.pack(
                    first, tcp_length, PROTO_TCP, ttl, local >> 64, local & _LOW, remote >> 64, remote & _LOW,
                    self.local_port, self.remote_port, segment.seq, segment.ack, word, segment.window, pseudo,
                    segment.urgent,
                ))  # fmt: skip
        if options:
            head += options
        end = len(head)
        if following is None:
            packet = Packet(head, end)
        else:
            packet = PacketRun(head, end, following, segment.seq, size, pushed)
        packet.version = self.version
        packet.l2 = packet.l3 = HEADROOM
        packet.l4 = l4
        packet.payload = end
        if size:
            packet.body = payload
        packet.proto = PROTO_TCP
        packet.src = local
        packet.dst = remote
        packet.sport = self.local_port
        packet.dport = self.remote_port
        packet.tcp_flags = flags
        packet.tos = tos
        packet.ttl = ttl
        packet.mark = self.mark
        packet.csum = CSUM_PARTIAL
        if gso_size:
            packet.gso_size = gso_size
            packet.gso_type = GSO_TCP4 if self.version == 4 else GSO_TCP6
        (stack.ipv4 if self.version == 4 else stack.ipv6).transmit(packet, way)

    @property
    def on_loopback(self) -> bool:
        """Whether both ends are on this host."""
        return self.way.kind != UNICAST
