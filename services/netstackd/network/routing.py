"""Routing decisions: what becomes of a received packet, and how a local one leaves. Both are remembered.

Received packets: by (source, destination) in a cache of the interface they came in on (`Interface.input_cache4/6`).
That covers martian checks, reverse path filter, rules and the route itself in one dict look-up. Local packets: by
destination, source, interface, mark and type of service. Whatever can change an answer calls `changed`, which empties
the caches and bumps `generation`, by which sockets see that the decision they hold is old. Caches are bounded and
emptied when full: a flood of new addresses costs the slow path, not memory.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.interface import LOOPBACK, Interface
from services.netstackd.network.path_mtu import PathMtuCache
from services.netstackd.network.routes import (
    BROADCAST,
    LOCAL,
    MULTICAST,
    MULTIPATH,
    NO_ROUTE,
    UNICAST,
    Destination,
    Key,
    Routes,
    failure,
)
from services.netstackd.network.source_selection import select_v4, select_v6
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.numbers import IPV4_BROADCAST, is_link_local_v6, is_loopback, is_multicast

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

CACHE_LIMIT: Final = 8192

_NOT_FOR_US: Final = COUNTER["DropNotForUs"]
_NOT_JOINED: Final = COUNTER["DropMulticastNotJoined"]
_MARTIAN_SOURCE: Final = {4: COUNTER["DropIpv4MartianSource"], 6: COUNTER["DropIpv6MartianSource"]}
_MARTIAN_DESTINATION: Final = {4: COUNTER["DropIpv4MartianDestination"], 6: COUNTER["DropIpv6MartianDestination"]}
_REVERSE_PATH: Final = {4: COUNTER["DropIpv4ReversePath"], 6: COUNTER["DropIpv6ReversePath"]}

OutputKey = tuple[int, int, int, int, int]


class Routing:
    """One version's decisions."""

    def __init__(self, stack: Stack, version: int) -> None:
        self._stack = stack
        self.version = version
        self.generation = 0
        self.routes = Routes(version, self.changed)
        self.path_mtu = PathMtuCache(version, self.changed)
        self._output: dict[OutputKey, Destination] = {}

    def changed(self) -> None:
        """Forget every remembered decision."""
        self.generation += 1
        self._output.clear()
        for iface in self._stack.interfaces.values():
            (iface.input_cache4 if self.version == 4 else iface.input_cache6).clear()

    # -- received packets --

    def input(self, packet: Packet, iface: Interface) -> Destination:
        """What becomes of a received packet: LOCAL, BROADCAST and MULTICAST are ours, UNICAST is to be forwarded, and a
        failure has a `reason`. The caller has looked into the cache before."""
        decision = self._decide_input(packet, iface)
        if self.routes.by_addresses:
            cache = iface.input_cache4 if self.version == 4 else iface.input_cache6
            if len(cache) >= CACHE_LIMIT:
                cache.clear()
            cache[packet.src, packet.dst] = decision
        return decision

    def _decide_input(self, packet: Packet, iface: Interface) -> Destination:
        version = self.version
        src = packet.src
        dst = packet.dst
        if is_multicast(version, src) or (version == 4 and src == IPV4_BROADCAST):
            return failure(NO_ROUTE, reason=_MARTIAN_SOURCE[version])
        inside = iface.kind == LOOPBACK
        if not inside and is_loopback(version, src) and not (version == 4 and iface.route_localnet):
            return failure(NO_ROUTE, reason=_MARTIAN_SOURCE[version])
        if is_multicast(version, dst):
            return self._input_multicast(packet, iface)
        if version == 4:
            if dst == IPV4_BROADCAST:
                return Destination(BROADCAST, iface, 0, None)
            if dst >> 24 == 0 or dst >> 28 == 0xF:
                return failure(NO_ROUTE, reason=_MARTIAN_DESTINATION[4])
            if src >> 24 == 0:
                # RFC 1122 section 3.2.1.3: only while an address is being asked for, which goes to a broadcast address.
                return failure(NO_ROUTE, reason=_MARTIAN_SOURCE[4])
        elif dst == 0:
            return failure(NO_ROUTE, reason=_MARTIAN_DESTINATION[6])
        if not inside and is_loopback(version, dst) and not (version == 4 and iface.route_localnet):
            return failure(NO_ROUTE, reason=_MARTIAN_DESTINATION[version])
        scoped = version == 6 and is_link_local_v6(dst)
        key = Key(dst, src, iface if scoped else None, iface, packet.mark, packet.tos)
        found = self.routes.lookup(key)
        if found.kind == LOCAL or found.kind == BROADCAST:
            wrong = 0 if inside else self._check_source(packet, iface)
            return failure(NO_ROUTE, reason=wrong) if wrong else found
        if iface.accept_any and found.kind == NO_ROUTE:
            return self._accept_any(packet, iface)
        forwarding = iface.forwarding4 if version == 4 else iface.forwarding6
        if not forwarding or inside:
            return failure(NO_ROUTE, reason=_NOT_FOR_US)
        wrong = self._check_source(packet, iface)
        if wrong:
            return failure(NO_ROUTE, reason=wrong)
        if version == 6 and (scoped or is_link_local_v6(src) or src == 0):
            # RFC 4291 section 2.5.6: never beyond the link. (RFC 4443 lets us say "beyond scope" for the source.)
            return failure(NO_ROUTE, reason=_MARTIAN_SOURCE[6])
        return found

    def _accept_any(self, packet: Packet, iface: Interface) -> Destination:
        """No route knows the destination, and the interface takes such packets for ours: when both ends can be talked
        to beyond a link, and an answer finds its way back there."""
        version = self.version
        if version == 6 and (is_link_local_v6(packet.dst) or is_link_local_v6(packet.src) or packet.src == 0):
            return failure(NO_ROUTE, reason=_MARTIAN_SOURCE[6])
        back = self.routes.lookup(Key(packet.src, 0, None, None, packet.mark))
        if back.kind != UNICAST or back.out is not iface:
            return failure(NO_ROUTE, reason=_REVERSE_PATH[version])
        return Destination(LOCAL, iface, 0, None)

    def _input_multicast(self, packet: Packet, iface: Interface) -> Destination:
        multicast = self._stack.multicast4 if self.version == 4 else self._stack.multicast6
        if not multicast.wanted(iface, packet.dst):
            return failure(NO_ROUTE, reason=_NOT_JOINED)
        return Destination(MULTICAST, iface, 0, None)

    def _check_source(self, packet: Packet, iface: Interface) -> int:
        """A drop reason when the source cannot have come in here (RFC 1812 section 5.3.7, RFC 3704), else 0."""
        version = self.version
        src = packet.src
        if version == 6 and is_link_local_v6(src):
            return 0
        back = self.routes.lookup(Key(src, 0, None, None, packet.mark))
        if back.kind == LOCAL and not iface.accept_local:
            return _MARTIAN_SOURCE[version]
        if back.kind == BROADCAST:
            return _MARTIAN_SOURCE[version]
        if iface.rp_filter == 0:
            return 0
        ways = back.paths if back.kind == MULTIPATH else (back,)
        if back.kind not in (UNICAST, MULTIPATH, LOCAL):
            return _REVERSE_PATH[version]
        if iface.rp_filter == 1 and all(way.out is not iface for way in ways):
            return _REVERSE_PATH[version]
        return 0

    # -- local packets --

    def output(
        self, dst: int, src: int = 0, oif: Interface | None = None, mark: int = 0, tos: int = 0, flow: int = 0
    ) -> Destination:
        """How a local packet leaves. `source` of the answer is the address to send from; `flow` chooses among equal
        ways. A failure has `error`, an errno."""
        key = (dst, src, 0 if oif is None else oif.index, mark, tos & 0x1C)
        found = self._output.get(key)
        if found is None:
            found = self._decide_output(dst, src, oif, mark, tos)
            if len(self._output) >= CACHE_LIMIT:
                self._output.clear()
            self._output[key] = found
        return found.choose(flow) if found.kind == MULTIPATH else found

    def _decide_output(self, dst: int, src: int, oif: Interface | None, mark: int, tos: int) -> Destination:
        version = self.version
        if version == 4 and dst == IPV4_BROADCAST:
            return self._output_group(dst, src, oif, mark, tos, BROADCAST)
        if is_multicast(version, dst):
            return self._output_group(dst, src, oif, mark, tos, MULTICAST)
        found = self.routes.lookup(Key(dst, src, oif, None, mark, tos))
        if found.kind == NO_ROUTE and oif is not None and oif.running and (version == 4 or is_link_local_v6(dst)):
            # Bound to an interface without a route there: assume that it is on the link, as Linux does for IPv4.
            found = Destination(UNICAST, oif, dst, None, oif.mtu if version == 4 else oif.effective_mtu6)
        if found.kind == LOCAL:
            loopback = self._stack.loopback
            if loopback is None or not loopback.up:
                return failure(NO_ROUTE)
            found.out = loopback
            found.next_hop = dst
            found.mtu = loopback.mtu
        for way in found.paths or (found,):
            self._complete(way, dst, src)
        return found

    def _complete(self, way: Destination, dst: int, src: int) -> None:
        if way.error or way.out is None:
            return
        learned = self.path_mtu.get(dst, self._stack.now)
        if learned:
            way.mtu = min(way.mtu, learned)
        if src:
            way.source = src
        elif way.kind == LOCAL:
            way.source = dst
        elif not way.source:
            way.source = self.select_source(dst, way.out, way.next_hop)
        if self.version == 6 and not way.source and not src:
            way.error = errno.EADDRNOTAVAIL

    def _output_group(self, dst: int, src: int, oif: Interface | None, mark: int, tos: int, kind: int) -> Destination:
        """Multicast and limited broadcast: out of the given interface, that of the source, or where a route leads."""
        version = self.version
        out = oif
        if out is None and src:
            out = self._stack.interface_of(version, src)
        if out is None or out.kind == LOOPBACK:
            found = self.routes.lookup(Key(dst, 0, oif, None, mark, tos))
            if found.out is None and version == 6:
                found.out = next((i for i in self._stack.interfaces.values() if i.running and i.kind != LOOPBACK), None)
            if found.out is not None:
                out = found.out
        if out is None or not out.running:
            return failure(NO_ROUTE)
        way = Destination(kind, out, dst, None, out.mtu if version == 4 else out.effective_mtu6)
        way.source = src or self.select_source(dst, out, dst)
        return way

    def select_source(self, dst: int, out: Interface, next_hop: int) -> int:
        """The address to send from, 0 when there is none."""
        interfaces = self._stack.interfaces.values()
        if self.version == 4:
            return select_v4(next_hop, out, interfaces)
        return select_v6(dst, out, interfaces, out.use_tempaddr > 1)

    def flow_hash(self, packet: Packet) -> int:
        """A number for choosing among equal ways: the same for all packets of a flow (layer 4 where it is seen)."""
        seed = self._stack.flow_seed
        return hash((seed, packet.src, packet.dst, packet.proto, packet.sport, packet.dport)) & 0xFFFFFFFF
