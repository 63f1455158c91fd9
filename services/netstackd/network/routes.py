"""Routes: where a destination is reached. Several tables, rules that choose among them, metrics, equal-cost paths.

A table finds the longest prefix by one dict per prefix length that is in use; under one prefix routes stand in the
order of their metric. The rules (RFC-less; as Linux's `ip rule`) say which tables are asked in which order. What came
out is a `Destination`, which `routing` keeps in its caches: so a look-up here happens once per destination and change
of routes.
`changed` is called after every change, to drop what was remembered.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.errors import NetError
from services.netstackd.wire.numbers import mask

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface
    from services.netstackd.network.neighbours import Neighbour

# Route.kind (RTN_*).
UNICAST: Final = 1
LOCAL: Final = 2
BROADCAST: Final = 3
MULTICAST: Final = 5
BLACKHOLE: Final = 6
UNREACHABLE: Final = 7
PROHIBIT: Final = 8
THROW: Final = 9
# Destination.kind alone
NO_ROUTE: Final = 32  # nothing leads there, or the packet must not go there: `reason` says
MULTIPATH: Final = 33  # one of `paths`, by flow

KIND_NAMES: Final = {
    UNICAST: "unicast",
    LOCAL: "local",
    BROADCAST: "broadcast",
    MULTICAST: "multicast",
    BLACKHOLE: "blackhole",
    UNREACHABLE: "unreachable",
    PROHIBIT: "prohibit",
    THROW: "throw",
}

TABLE_DEFAULT: Final = 253
TABLE_MAIN: Final = 254
TABLE_LOCAL: Final = 255

# errno for a local sender, drop reason for a packet that is forwarded (net/ipv4/fib_semantics.c, fib_props).
_FAILURES: Final = {
    BLACKHOLE: (errno.EINVAL, COUNTER["DropRouteBlackhole"]),
    UNREACHABLE: (errno.EHOSTUNREACH, COUNTER["DropRouteUnreachable"]),
    PROHIBIT: (errno.EACCES, COUNTER["DropRouteProhibit"]),
    NO_ROUTE: (errno.ENETUNREACH, COUNTER["DropNoRoute"]),
}


class NextHop:
    """One way of a route: out of `iface`, to `gateway` (0: the destination itself is on the link)."""

    __slots__ = ("gateway", "iface", "onlink", "weight")

    def __init__(self, iface: Interface, gateway: int = 0, weight: int = 1, onlink: bool = False) -> None:
        self.iface = iface
        self.gateway = gateway
        self.weight = weight
        self.onlink = onlink


class Route:
    """One entry of a table. `expires`: nanoseconds of the stack's clock (routes told by routers), or None."""

    __slots__ = (
        "expires",
        "kind",
        "metric",
        "mtu",
        "next_hops",
        "preference",
        "prefix",
        "prefix_length",
        "protocol",
        "scope",
        "source",
        "table",
        "version",
    )

    def __init__(
        self,
        version: int,
        prefix: int,
        prefix_length: int,
        next_hops: tuple[NextHop, ...] = (),
        *,
        kind: int = UNICAST,
        metric: int = 0,
        table: int = TABLE_MAIN,
        source: int = 0,
        mtu: int = 0,
        protocol: str = "static",
        scope: int = 0,
        expires: int | None = None,
        preference: int = 0,
    ) -> None:
        self.version = version
        self.prefix = prefix & mask(version, prefix_length)
        self.prefix_length = prefix_length
        self.next_hops = next_hops
        self.kind = kind
        self.metric = metric
        self.table = table
        self.source = source  # preferred source address; 0: by the rules
        self.mtu = mtu  # 0: the interface's
        self.protocol = protocol
        self.scope = scope
        self.expires = expires
        self.preference = preference  # RFC 4191: 1 high, 0 medium, -1 low

    def same_place(self, other: Route) -> bool:
        """Whether `other` could not stand beside this one: same prefix, metric and way."""
        if self.prefix != other.prefix or self.prefix_length != other.prefix_length or self.metric != other.metric:
            return False
        if self.version == 4 and self.kind not in (LOCAL, BROADCAST):
            return True
        return self.ways() == other.ways()

    def ways(self) -> list[tuple[int, int]]:
        """(interface index, gateway) of every next hop."""
        return [(hop.iface.index, hop.gateway) for hop in self.next_hops]


class Destination:
    """A route decision that is ready to use, until the routes change.

    kind    UNICAST (send or forward), LOCAL, BROADCAST, MULTICAST, MULTIPATH (choose one of `paths`), or one of the
            failures: BLACKHOLE, UNREACHABLE, PROHIBIT, NO_ROUTE, with `error` and `reason`
    """

    __slots__ = ("error", "kind", "mtu", "neighbour", "next_hop", "out", "paths", "reason", "route", "source")

    def __init__(self, kind: int, out: Interface | None, next_hop: int, route: Route | None, mtu: int = 0) -> None:
        self.kind = kind
        self.out = out
        self.next_hop = next_hop
        self.route = route
        self.source = 0
        self.mtu = mtu
        self.neighbour: Neighbour | None = None
        self.error = 0  # errno for local senders
        self.reason = 0  # drop reason for received packets
        self.paths: tuple[Destination, ...] = ()

    def choose(self, flow: int) -> Destination:
        """The path of a MULTIPATH destination for a flow's hash."""
        return self.paths[flow % len(self.paths)]


def failure(kind: int, route: Route | None = None, reason: int = 0) -> Destination:
    """A Destination that leads nowhere."""
    destination = Destination(kind, None, 0, route)
    destination.error, destination.reason = _FAILURES[kind]
    if reason:
        destination.reason = reason
    return destination


class Rule:
    """One rule: which packets look into which table. `table` None: `kind` is the answer. 0 and None match anything."""

    __slots__ = (
        "dst",
        "dst_length",
        "iif",
        "invert",
        "kind",
        "mark",
        "mark_mask",
        "oif",
        "priority",
        "src",
        "src_length",
        "table",
        "tos",
    )

    def __init__(
        self,
        priority: int,
        table: int | None,
        *,
        kind: int = UNICAST,
        src: int = 0,
        src_length: int = 0,
        dst: int = 0,
        dst_length: int = 0,
        iif: str | None = None,
        oif: str | None = None,
        mark: int = 0,
        mark_mask: int = 0,
        tos: int = 0,
        invert: bool = False,
    ) -> None:
        self.priority = priority
        self.table = table
        self.kind = kind
        self.src = src
        self.src_length = src_length
        self.dst = dst
        self.dst_length = dst_length
        self.iif = iif
        self.oif = oif
        self.mark = mark
        self.mark_mask = mark_mask or (0xFFFFFFFF if mark else 0)
        self.tos = tos
        self.invert = invert

    def matches(self, version: int, key: Key) -> bool:
        """Whether a packet with these properties is to follow the rule."""
        found = (
            (not self.src_length or (key.src ^ self.src) & mask(version, self.src_length) == 0)
            and (not self.dst_length or (key.dst ^ self.dst) & mask(version, self.dst_length) == 0)
            and (self.iif is None or (key.iif is not None and key.iif.name == self.iif))
            and (self.oif is None or (key.oif is not None and key.oif.name == self.oif))
            and (key.mark ^ self.mark) & self.mark_mask == 0
            and (not self.tos or key.tos & 0x1C == self.tos)
        )
        return found != self.invert


class Key:
    """What a route is looked up by."""

    __slots__ = ("dst", "iif", "mark", "oif", "src", "tos")

    def __init__(
        self,
        dst: int,
        src: int = 0,
        oif: Interface | None = None,
        iif: Interface | None = None,
        mark: int = 0,
        tos: int = 0,
    ) -> None:
        self.dst = dst
        self.src = src
        self.oif = oif
        self.iif = iif
        self.mark = mark
        self.tos = tos


class Table:
    """One table of one version."""

    __slots__ = ("_by_length", "_lengths", "version")

    def __init__(self, version: int) -> None:
        self.version = version
        self._by_length: dict[int, dict[int, list[Route]]] = {}
        self._lengths: list[tuple[int, int]] = []  # (mask, length), longest first

    def __iter__(self) -> Iterator[Route]:
        """Every entry, as of now, the shortest prefixes first."""
        return iter(
            [
                route
                for _, length in reversed(self._lengths)
                for routes in self._by_length[length].values()
                for route in routes
            ]
        )

    def candidates(self, dst: int) -> Iterator[Route]:
        """The routes that cover `dst`, longest prefix first, by metric under one prefix."""
        by_length = self._by_length
        for netmask, length in self._lengths:
            routes = by_length[length].get(dst & netmask)
            if routes is not None:
                yield from routes

    def find(self, route: Route) -> Route | None:
        """The entry that stands in this route's place."""
        routes = self._by_length.get(route.prefix_length, {}).get(route.prefix, ())
        return next((other for other in routes if other.same_place(route)), None)

    def insert(self, route: Route) -> None:
        """Add. Among equals (metric, RFC 4191 preference) a later one stands behind."""
        prefixes = self._by_length.get(route.prefix_length)
        if prefixes is None:
            prefixes = self._by_length[route.prefix_length] = {}
            self._lengths.append((mask(self.version, route.prefix_length), route.prefix_length))
            self._lengths.sort(key=lambda pair: -pair[1])
        routes = prefixes.setdefault(route.prefix, [])
        routes.append(route)
        routes.sort(key=lambda entry: (entry.metric, -entry.preference))

    def remove(self, route: Route) -> bool:
        """Remove this very object; whether it was there."""
        prefixes = self._by_length.get(route.prefix_length, {})
        routes = prefixes.get(route.prefix, [])
        if not any(entry is route for entry in routes):
            return False
        routes[:] = [entry for entry in routes if entry is not route]
        if not routes:
            del prefixes[route.prefix]
            if not prefixes:
                del self._by_length[route.prefix_length]
                self._lengths = [pair for pair in self._lengths if pair[1] != route.prefix_length]
        return True


class Routes:
    """All tables and rules of one version."""

    def __init__(self, version: int, changed: Callable[[], None]) -> None:
        self.version = version
        self.tables: dict[int, Table] = {}
        self.rules = [Rule(0, TABLE_LOCAL), Rule(32766, TABLE_MAIN), Rule(32767, TABLE_DEFAULT)]
        self.by_addresses = True  # no rule asks for a mark or type of service: addresses and interfaces decide
        self._changed = changed

    def table(self, number: int) -> Table:
        """Made when it is first spoken of."""
        table = self.tables.get(number)
        if table is None:
            table = self.tables[number] = Table(self.version)
        return table

    def all(self) -> Iterator[Route]:
        """Every route of every table."""
        for table in list(self.tables.values()):
            yield from table

    def add(self, route: Route, *, replace: bool = False, append: bool = False) -> None:
        """Add a route. NetError: EEXIST (one stands there, and neither `replace` nor `append` behind it), EINVAL (a way
        is needed and missing)."""
        if route.kind == UNICAST and not route.next_hops:
            raise NetError(errno.EINVAL, "a unicast route needs a way")
        table = self.table(route.table)
        present = table.find(route)
        if present is not None and not append:
            if not replace:
                raise NetError(errno.EEXIST, "there is a route with this prefix and metric")
            table.remove(present)
        table.insert(route)
        self._changed()

    def remove(self, route: Route) -> None:
        """Remove a route: this object, or the one in its place. NetError: ESRCH."""
        table = self.table(route.table)
        if not table.remove(route):
            present = table.find(route)
            if present is None:
                raise NetError(errno.ESRCH, "no such route")
            table.remove(present)
        self._changed()

    def forget_interface(self, iface: Interface) -> None:
        """Remove the routes that use `iface`; of those with several ways, that way."""
        for table in self.tables.values():
            for route in list(table):
                ways = tuple(hop for hop in route.next_hops if hop.iface is not iface)
                if len(ways) == len(route.next_hops):
                    continue
                if ways:
                    route.next_hops = ways
                else:
                    table.remove(route)
        self._changed()

    def expire(self, now: int) -> int | None:
        """Remove what has expired; returns when the next one will, or None."""
        following: int | None = None
        gone = False
        for table in self.tables.values():
            for route in list(table):
                if route.expires is None:
                    continue
                if route.expires <= now:
                    table.remove(route)
                    gone = True
                elif following is None or route.expires < following:
                    following = route.expires
        if gone:
            self._changed()
        return following

    def add_rule(self, rule: Rule) -> None:
        """Add a rule; among equal priorities the older comes first."""
        self.rules.append(rule)
        self._rules_changed()

    def remove_rule(self, rule: Rule) -> None:
        """Remove this very rule. NetError: ENOENT."""
        if not any(entry is rule for entry in self.rules):
            raise NetError(errno.ENOENT, "no such rule")
        self.rules = [entry for entry in self.rules if entry is not rule]
        self._rules_changed()

    def _rules_changed(self) -> None:
        self.rules.sort(key=lambda entry: entry.priority)
        self.by_addresses = not any(rule.mark or rule.mark_mask or rule.tos for rule in self.rules)
        self._changed()

    def lookup(self, key: Key) -> Destination:
        """The decision for `key`: follow the rules, then prefix, then metric; ways whose interface is down are passed
        over, and with `key.oif` all that do not leave there."""
        for rule in self.rules:
            if not rule.matches(self.version, key):
                continue
            if rule.table is None:
                return failure(rule.kind)
            table = self.tables.get(rule.table)
            if table is None:
                continue
            for route in table.candidates(key.dst):
                if route.kind == THROW:
                    break
                found = self._use(route, key)
                if found is not None:
                    return found
        return failure(NO_ROUTE)

    def _use(self, route: Route, key: Key) -> Destination | None:
        if route.kind in _FAILURES:
            return failure(route.kind, route)
        oif = key.oif
        ways = [
            hop
            for hop in route.next_hops
            if hop.iface.running and (oif is None or hop.iface is oif or (route.kind == LOCAL and key.iif is None))
        ]
        if not ways:
            return None
        if len(ways) == 1:
            return self._decide(route, ways[0], key.dst)
        multi = Destination(MULTIPATH, ways[0].iface, 0, route)
        multi.paths = tuple(
            self._decide(route, hop, key.dst) for hop in ways for _ in range(max(1, min(hop.weight, 256)))
        )
        return multi

    def _decide(self, route: Route, hop: NextHop, dst: int) -> Destination:
        mtu = hop.iface.mtu if self.version == 4 else hop.iface.effective_mtu6
        if route.mtu:
            mtu = min(mtu, route.mtu)
        destination = Destination(route.kind, hop.iface, hop.gateway or dst, route, mtu)
        destination.source = route.source
        return destination
