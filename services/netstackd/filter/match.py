"""What a rule asks of a packet, as data, and the part of it that a `Classifier` can answer once for many packets.

A rule's conditions are of two kinds. *Static* ones depend on the interfaces, the connection's state, the protocol, the
addresses and the ports alone. All addresses and ports that the rules of a chain name cut the number lines into
intervals; two packets in the same intervals satisfy the same static conditions. So the rules that can concern a packet
are found by one look-up, however many there are. *Dynamic* conditions (sets, TCP flags, ICMP types, limits) are
closures, called only for rules whose static part fits.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from protocol.records import record
from services.netstackd.filter.connection import UNTRACKED
from services.netstackd.storage.packet import Packet

Range: TypeAlias = tuple[int, int, int]  # version, first address, last address
Ports: TypeAlias = tuple[int, int]  # first, last
MAX_MEMO: Final = 8192


@record(frozen=True)
class Match:
    """Static conditions; an empty one asks nothing. Those that begin with `not_` turn their namesake round."""

    in_interfaces: frozenset[str] = frozenset()
    out_interfaces: frozenset[str] = frozenset()
    version: int = 0
    protocols: frozenset[int] = frozenset()
    sources: tuple[Range, ...] = ()
    destinations: tuple[Range, ...] = ()
    sports: tuple[Ports, ...] = ()
    dports: tuple[Ports, ...] = ()
    states: int = 0
    not_in_interfaces: bool = False
    not_out_interfaces: bool = False
    not_sources: bool = False
    not_destinations: bool = False

    def fits(self, packet: Packet) -> bool:
        """Whether the packet satisfies all conditions. `packet.ct` counts only where states are asked for."""
        if self.version and packet.version != self.version:
            return False
        if self.protocols and packet.proto not in self.protocols:
            return False
        if self.in_interfaces:
            name = packet.iface.name if packet.iface is not None else ""
            if (name in self.in_interfaces) is self.not_in_interfaces:
                return False
        if self.out_interfaces:
            name = packet.out.name if packet.out is not None else ""
            if (name in self.out_interfaces) is self.not_out_interfaces:
                return False
        if self.sources and contains(self.sources, packet.version, packet.src) is self.not_sources:
            return False
        if self.destinations and contains(self.destinations, packet.version, packet.dst) is self.not_destinations:
            return False
        if self.sports and not contains_port(self.sports, packet.sport):
            return False
        if self.dports and not contains_port(self.dports, packet.dport):
            return False
        return not self.states or bool(self.states & (packet.ct.state if packet.ct is not None else UNTRACKED))


def contains(ranges: Sequence[Range], version: int, address: int) -> bool:
    """Whether one of the ranges holds the address."""
    return any(kind == version and first <= address <= last for kind, first, last in ranges)


def contains_port(ranges: Sequence[Ports], port: int) -> bool:
    """Whether one of the ranges holds the port."""
    return any(first <= port <= last for first, last in ranges)


class HasMatch(Protocol):
    """A rule."""

    @property
    def match(self) -> Match:
        """Its static conditions."""


R = TypeVar("R", bound=HasMatch)


class Classifier(Generic[R]):
    """Finds, for a packet, the rules whose static conditions it satisfies, in their order. See the module docstring."""

    __slots__ = ("_dports", "_dst", "_memo", "_sports", "_src", "_wants_ports", "rules")

    def __init__(self, rules: Sequence[R]) -> None:
        self.rules = tuple(rules)
        self._memo: dict[tuple[object, ...], tuple[R, ...]] = {}
        matches = [rule.match for rule in self.rules]
        self._src = {version: _bounds(matches, "sources", version) for version in (4, 6)}
        self._dst = {version: _bounds(matches, "destinations", version) for version in (4, 6)}
        self._sports = _port_bounds([match.sports for match in matches])
        self._dports = _port_bounds([match.dports for match in matches])
        self._wants_ports = bool(self._sports or self._dports)

    def candidates(self, packet: Packet) -> tuple[R, ...]:
        """The rules that can concern this packet."""
        version, ct = packet.version, packet.ct
        src, dst = self._src[version], self._dst[version]
        key = (
            packet.iface,
            packet.out,
            version,
            packet.proto,
            ct.state if ct is not None else UNTRACKED,
            bisect_right(src, packet.src) if src else 0,
            bisect_right(dst, packet.dst) if dst else 0,
            bisect_right(self._sports, packet.sport) if self._wants_ports else 0,
            bisect_right(self._dports, packet.dport) if self._wants_ports else 0,
        )
        memo = self._memo
        found = memo.get(key)
        if found is None:
            if len(memo) >= MAX_MEMO:
                memo.clear()
            found = memo[key] = tuple([rule for rule in self.rules if rule.match.fits(packet)])
        return found


def _bounds(matches: Sequence[Match], field: str, version: int) -> list[int]:
    """Where intervals begin: the first address of each range and the one behind its last."""
    bounds: set[int] = set()
    for match in matches:
        for kind, first, last in getattr(match, field):
            if kind == version:
                bounds |= {first, last + 1}
    return sorted(bounds)


def _port_bounds(fields: Sequence[Sequence[Ports]]) -> list[int]:
    bounds: set[int] = set()
    for ranges in fields:
        for first, last in ranges:
            bounds |= {first, last + 1}
    return sorted(bounds)
