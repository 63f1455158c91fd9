"""IP as both versions have it: the last steps to a protocol of this host, and the way out of a packet of ours.

`ipv4.py` and `ipv6.py` say what is theirs alone. Each has its own `input` and `send`, which every packet goes through:
they differ in every other line, and a call more for what they share would be paid by each packet.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.interface import ETHERNET, TX_QUEUE_LIMIT
from services.netstackd.network.routes import UNICAST, Destination
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.numbers import PROTO_NONE
from services.netstackd.wire.offload import complete_checksum

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

_UNKNOWN: Final = COUNTER["DropProtocolUnknown"]

Handler = Callable[[Packet], None]


class Ip:
    """One per stack and version. What is not implemented here is in the version's own class."""

    version: ClassVar[int]
    header_length: ClassVar[int]  # of a header with no options or extensions

    def __init__(self, stack: Stack, prefix: str) -> None:
        """`prefix`: that of the version's counters."""
        self._stack = stack
        self._count = stack.counters.values
        self._hooks = stack.hooks
        self._routing = stack.routing(self.version)
        self._raw_sockets = stack.raw.sockets[self.version]
        self.handlers: list[Handler | None] = [None] * 256  # by protocol number
        self._delivers = COUNTER[f"{prefix}InDelivers"]
        self._unknown_protos = COUNTER[f"{prefix}InUnknownProtos"]
        self._out = COUNTER[f"{prefix}OutRequests"]
        self._out_no_routes = COUNTER[f"{prefix}OutNoRoutes"]
        self._frag_ok = COUNTER[f"{prefix}FragOKs"]
        self._frag_creates = COUNTER[f"{prefix}FragCreates"]

    # -- received --

    def deliver(self, packet: Packet) -> None:
        """A packet for this host: put it together, act on its extensions, ask the input hook, and hand it to its
        protocol."""
        if packet.fragment or packet.l4 - packet.l3 != self.header_length:
            whole = self._complete(packet)
            if whole is None:
                return
            packet = whole
        hook = self._hooks.input
        if hook is not None and not hook(packet):
            return
        taken = False
        if self._raw_sockets:
            taken = self._stack.raw.deliver(packet)
        handler = self.handlers[packet.proto]
        if handler is not None:
            self._count[self._delivers] += 1
            handler(packet)
        elif taken or (packet.proto == PROTO_NONE and self.version == 6):  # RFC 8200 section 4.7
            self._count[self._delivers] += 1
        else:
            self._count[self._unknown_protos] += 1
            self._count[_UNKNOWN] += 1
            self._refuse_protocol(packet)

    def _complete(self, packet: Packet) -> Packet | None:
        """A fragment, or a packet with options or extension headers: the whole packet, None when there is none (yet)
        or it must not be delivered."""
        raise NotImplementedError

    def _refuse_protocol(self, packet: Packet) -> None:
        """Tell its sender that nobody speaks its protocol."""
        raise NotImplementedError

    # -- sent --

    def transmit(self, packet: Packet, way: Destination) -> int:
        """Send a local packet whose header is complete through the output and postrouting hooks; 0 or an errno."""
        self._count[self._out] += 1
        hooks = self._hooks
        out = way.out
        assert out is not None
        packet.out = out
        packet.next_hop = way.next_hop
        if hooks.output is not None:
            dst, mark = packet.dst, packet.mark
            if not hooks.output(packet):
                return errno.EPERM
            if packet.dst != dst or packet.mark != mark:  # NAT: route it again
                way = self._routing.output(packet.dst, packet.src, mark=packet.mark, tos=packet.tos)
                if way.error or way.out is None:
                    self._count[self._out_no_routes] += 1
                    return way.error
                out = packet.out = way.out
        if hooks.postrouting is not None and not hooks.postrouting(packet):
            return errno.EPERM
        if not packet.gso_size and way.mtu:
            size = packet.end - packet.l3  # len(packet), without its frame
            if packet.body is not None:
                size += len(packet.body)
            if size > way.mtu:
                return self._send_too_long(packet, way)
        stack = self._stack
        neighbour = way.neighbour
        if (
            neighbour is not None
            and neighbour.usable_until > stack.now
            and way.kind == UNICAST
            and out.kind == ETHERNET
            and out.running
            and not stack.taps
            and len(out.tx) < TX_QUEUE_LIMIT
        ):  # what LinkOutput does for almost every packet, spelled out
            header = neighbour.header
            start = packet.l3 - len(header)
            if start >= 0 and type(packet.head) is bytearray:
                packet.head[start : packet.l3] = header
                packet.l2 = start
                neighbour.used = stack.now
                tx = out.tx
                if not tx:
                    stack.sending[out] = None
                tx.append(packet)
                return 0
        stack.link_output.send(packet, way)
        return 0

    def count_sent(self, count: int) -> None:
        """A packet that was given to `transmit` stood for `count` more."""
        self._count[self._out] += count

    def _send_too_long(self, packet: Packet, way: Destination) -> int:
        """A packet of ours that is longer than the way's MTU: in fragments, where that is allowed; 0 or an errno."""
        self.send_fragments(packet, way, way.mtu)
        return 0

    def send_fragments(self, packet: Packet, way: Destination, size: int) -> None:
        """Send it in fragments of at most `size` bytes each."""
        complete_checksum(packet)
        pieces = self._cut(packet, size)
        self._count[self._frag_ok] += 1
        self._count[self._frag_creates] += len(pieces)
        for piece in pieces:
            self._stack.link_output.send(piece, way)

    def _cut(self, packet: Packet, size: int) -> list[Packet]:
        """The fragments."""
        raise NotImplementedError
