"""Shortcuts: how packets of a forwarded TCP flow go from link to link without the stack, once it has seen one of them.

Like the flowtable of Linux's netfilter: the way through routing, tracking, filter and translation is the same for all
ordinary segments of a flow, so the first that goes it leaves a recipe, and its successors are rewritten where they were
received and sent from there. A large segment is then copied in and out, and nothing else is done to its payload.

    learn(packet, way, neighbour)   the stack is about to send a forwarded packet: remember how
    cutter(iface, link)             what the link asks for each frame: whether it was sent on

A recipe holds for what is checked frame by frame in `cut`: plain IPv4 and TCP with ACK and PSH alone, the same offload
header, an established connection, a fresh neighbour, and nothing of the routing, the filter or the interfaces changed
since. Everything else - and whoever wants to see packets (captures, packet sockets) - goes through the stack, which is
right in every case. Order is kept: what would overtake packets that wait in the batch, in the outgoing interface or in
its link is not sent on.

Bytes are those of an Ethernet frame: 0 link header, 14 IPv4, 34 TCP.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from services.netstackd.counters import COUNTER
from services.netstackd.filter.connection import TCP_ESTABLISHED, Direction
from services.netstackd.filter.rules import ACCEPT, CompiledRule
from services.netstackd.links.base import ALL_OFFLOADS, NO_VNET, VnetLink, apply_vnet, vnet_header
from services.netstackd.links.packet_socket import PacketLink
from services.netstackd.network.interface import ETHERNET, Interface
from services.netstackd.network.neighbours import Neighbour
from services.netstackd.network.routes import Destination
from services.netstackd.storage.packet import CSUM_PARTIAL, Packet
from services.netstackd.wire.numbers import PROTO_TCP

if TYPE_CHECKING:
    from services.netstackd.filter.conntrack import Tracker
    from services.netstackd.stack import Stack

#: Links whose frames are bytes in one buffer, with an offload header beside them.
CUTTABLE: Final = (VnetLink, PacketLink)
MAX_RECIPES: Final = 4096  # of one interface; then they are learned anew

# Destination, EtherType, the words of the IPv4 header up to its checksum, then both addresses and both ports.
_FRAME: Final = Struct("!6s6xHHHHHHH12s")
_LIFE_TO_PORTS: Final = Struct("!HH12s")  # time to live and protocol, checksum, addresses and ports: bytes 22 to 37
_FLOW: Final = Struct("!IIHH")
_WORD: Final = Struct("!H")
_LEARNED_FLAGS: Final = (0x10, 0x18)  # ACK, ACK and PSH
_NEEDS_CSUM: Final = 1

_RECEIVES: Final = COUNTER["IpInReceives"]
_FORWARDED: Final = COUNTER["IpForwDatagrams"]

Cut = Callable[[bytearray, int, bytearray, int], bool]


class Recipe:
    """What is done to the segments of one flow that came in on one interface. headers: offload header -> words of the
    TCP header. old_sum: of the addresses that they come with."""

    __slots__ = (
        "compiled",
        "delta",
        "delta_all",
        "direction",
        "flow",
        "generation",
        "headers",
        "link",
        "link_header",
        "mtu",
        "neighbour",
        "old_sum",
        "out",
    )

    def __init__(self, old: tuple[int, int, int, int], new: tuple[int, int, int, int]) -> None:
        self.flow = _FLOW.pack(*new)
        self.old_sum = old[0] + old[1]
        self.delta = (new[0] + new[1] - self.old_sum) % 65535
        self.delta_all = (self.delta + new[2] + new[3] - old[2] - old[3]) % 65535
        self.headers: dict[bytes, int] = {}
        self.direction: Direction | None = None
        self.compiled: CompiledRule | None = None
        self.out: Interface
        self.link: VnetLink
        self.link_header: bytes
        self.mtu = 0
        self.neighbour: Neighbour
        self.generation = 0


class Shortcuts:
    """See the module docstring. `captures`: as Loop has them. `count`: packets that went this way."""

    def __init__(self, stack: Stack, tracker: Tracker, captures: Mapping[Interface, Any]) -> None:
        self._stack = stack
        self._tracker = tracker
        self._captures = captures
        self._recipes: dict[Interface, dict[bytes, Recipe]] = {}
        self.count = 0

    def learn(self, packet: Packet, way: Destination, neighbour: Neighbour) -> None:
        """Remember how `packet`, which is about to leave, went through."""
        iface, out = packet.iface, way.out
        recipes = self._recipes.get(iface)  # type: ignore[arg-type]
        if recipes is None or packet.tcp_flags not in _LEARNED_FLAGS or packet.l4 != 34 or packet.body is not None:
            return
        assert out is not None
        link = out.link
        stack = self._stack
        if type(link) not in CUTTABLE or out.kind != ETHERNET or link.offload != ALL_OFFLOADS or out is iface:
            return
        if packet.mark or packet.end < 54 or len(neighbour.header) != 14:
            return
        direction = packet.ct
        compiled: CompiledRule | None = None
        old = new = (packet.src, packet.dst, packet.sport, packet.dport)
        if type(direction) is Direction:
            old = direction.key[:4]
            if not direction.connection.assured:
                return  # which rules concern it changes yet
            if stack.hooks.forward is not None:
                memory: Any = direction.steps
                if memory is None or not memory[4] or not memory[4][0].plain:
                    return
                compiled = memory[4][0]
                if compiled.rule.action != ACCEPT:
                    return
        elif direction is not None or stack.hooks.prerouting is not None or stack.hooks.forward is not None:
            return
        else:
            direction = None
        key = _FLOW.pack(*old)
        recipe = recipes.get(key)
        generation = stack.routing4.generation
        if recipe is None or recipe.generation != generation or recipe.neighbour is not neighbour:
            if len(recipes) >= MAX_RECIPES:
                recipes.clear()
            recipe = recipes[key] = Recipe(old, new)
        elif recipe.flow != _FLOW.pack(*new):
            recipe = recipes[key] = Recipe(old, new)
        recipe.direction, recipe.compiled = direction, compiled
        recipe.out, recipe.link, recipe.mtu = out, link, way.mtu
        recipe.neighbour, recipe.link_header, recipe.generation = neighbour, neighbour.header, generation
        header = NO_VNET if packet.csum != CSUM_PARTIAL and not packet.gso_type else vnet_header(packet)
        if len(recipe.headers) > 16:
            recipe.headers.clear()
        recipe.headers[header] = packet.head[46] >> 4

    def cutter(self, iface: Interface) -> Cut:
        """For the link of `iface`. The function takes a receive buffer, how many bytes of it a frame has, its offload
        header and the time; True: the frame was sent on, and the buffer is free."""
        stack, tracker, captures = self._stack, self._tracker, self._captures
        routing, values = stack.routing4, stack.counters.values
        recipes = self._recipes.setdefault(iface, {})
        unpack, pack, get = _FRAME.unpack_from, _LIFE_TO_PORTS.pack_into, recipes.get
        writev = os.writev

        def cut(buffer: bytearray, count: int, header: bytearray, now: int) -> bool:
            destination, kind, word, total, ident, offset, life, checksum, flow = unpack(buffer)
            recipe = get(flow)
            if recipe is None:
                return False
            end = total + 14
            if (
                kind != 0x0800
                or word >> 8 != 0x45
                or offset & 0x3FFF
                or life & 0xFF != PROTO_TCP
                or life < 0x200
                or end > count
                or total < 40
                or destination != iface.mac
                or (word + total + ident + offset + life + checksum + recipe.old_sum) % 65535
                or buffer[47] & 0xF7 != 0x10
                or recipe.headers.get(bytes(header)) != buffer[46] >> 4
                or (total > recipe.mtu and not header[1])
            ):
                return False
            out, link, neighbour = recipe.out, recipe.link, recipe.neighbour
            if (
                recipe.generation != routing.generation
                or neighbour.usable_until <= now
                or neighbour.header is not recipe.link_header
                or out.link is not link
                or not out.running
                or out.tx
                or link.backlog
                or not iface.up
                or stack.taps
                or captures
            ):
                return False
            direction = recipe.direction
            if direction is not None:
                connection = direction.connection
                if connection.state != TCP_ESTABLISHED or connection.deadline <= now:
                    return False  # among them: it has ended (connection.ENDED)
                direction.seen = buffer[42:50]
                connection.deadline = now + connection.timeout
                direction.packets += 1
                direction.bytes += total
                tracker.found += 1
                compiled = recipe.compiled
                if compiled is not None:
                    compiled.packets += 1
                    compiled.bytes += total
                if recipe.delta_all or recipe.delta:
                    old = buffer[50] << 8 | buffer[51]
                    if header[0] & _NEEDS_CSUM:  # the field holds the sum of the pseudo header
                        field = (old + recipe.delta) % 65535
                    else:
                        field = 65535 - (65535 - old + recipe.delta_all) % 65535
                    buffer[50] = field >> 8
                    buffer[51] = field & 255
            # RFC 1624: the word that holds the time to live goes down by 0x100
            checksum = 65535 - (65535 - checksum + recipe.delta - 0x100) % 65535
            pack(buffer, 22, life - 0x100, checksum, recipe.flow)
            buffer[:14] = recipe.link_header
            values[_RECEIVES] += 1
            values[_FORWARDED] += 1
            self.count += 1
            counters = link.counters
            try:
                writev(link.fd, (header, memoryview(buffer)[:end]))
            except BlockingIOError:
                link.keep_for_later((_packet_of(buffer, end, header),))
                return True
            except OSError as error:
                link.refused(error)
                return True
            counters.tx_packets += 1
            counters.tx_bytes += end
            out.tx_packets, out.tx_bytes = counters.tx_packets, counters.tx_bytes
            return True

        return cut

    def forget(self, iface: Interface) -> None:
        """The interface is gone."""
        self._recipes.pop(iface, None)


def _packet_of(buffer: bytearray, end: int, header: bytearray) -> Packet:
    """A frame that is ready to be sent, as a packet that waits in a link."""
    packet = Packet(buffer[:end], end)
    packet.version, packet.proto = 4, PROTO_TCP
    packet.l3, packet.l4 = 14, 34
    packet.payload = 34 + (buffer[46] >> 4) * 4
    apply_vnet(packet, header)
    return packet
