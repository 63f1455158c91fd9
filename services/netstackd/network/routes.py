"""Routes: where a destination is reached. Several tables, rules that choose among them, metrics, equal-cost paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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

TABLE_DEFAULT: Final = 253
TABLE_MAIN: Final = 254
TABLE_LOCAL: Final = 255


class NextHop:
    """One way of a route: out of `iface`, to `gateway` (0: the destination itself is on the link)."""

    __slots__ = ("gateway", "iface", "weight")

    def __init__(self, iface: Interface, gateway: int = 0, weight: int = 1) -> None:
        self.iface = iface
        self.gateway = gateway
        self.weight = weight


class Route:
    """One entry of a table. `expires`: nanoseconds of the stack's clock (routes told by routers), or None."""

    __slots__ = (
        "expires",
        "kind",
        "metric",
        "mtu",
        "next_hops",
        "prefix",
        "prefix_length",
        "preference",
        "protocol",
        "scope",
        "source",
        "table",
        "total_weight",
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
        self.prefix = prefix
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
        self.total_weight = sum(hop.weight for hop in next_hops)


class Destination:
    """A route decision that is ready to use. Valid while its owner's generation is the current one."""

    __slots__ = ("error", "kind", "mtu", "neighbour", "next_hop", "out", "route", "source")

    def __init__(self, kind: int, out: Interface | None, next_hop: int, route: Route | None) -> None:
        self.kind = kind
        self.out = out
        self.next_hop = next_hop
        self.route = route
        self.source = 0
        self.mtu = 0
        self.neighbour: Neighbour | None = None
        self.error = 0  # errno for local senders when kind is BLACKHOLE, UNREACHABLE or PROHIBIT, or there is no route
