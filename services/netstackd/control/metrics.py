"""Prometheus' text exposition of everything that the router counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.netstackd.app import Router


def _line(name: str, labels: dict[str, str], value: float) -> str:
    quoted = ",".join(
        '{}="{}"'.format(key, text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for key, text in labels.items()
    )
    return f"{name}{{{quoted}}} {value}" if quoted else f"{name} {value}"


def _family(name: str, kind: str, about: str, values: Iterable[tuple[dict[str, str], float]]) -> list[str]:
    return [
        f"# HELP {name} {about}",
        f"# TYPE {name} {kind}",
        *[_line(name, labels, value) for labels, value in values],
    ]


def prometheus(router: Router) -> str:
    """See the module docstring."""
    interfaces = [iface for iface in router.stack.interfaces.values() if iface.link is not None]
    lines: list[str] = []
    for field in (
        "rx_packets",
        "rx_bytes",
        "rx_errors",
        "rx_dropped",
        "tx_packets",
        "tx_bytes",
        "tx_errors",
        "tx_dropped",
    ):
        lines += _family(
            f"netstackd_link_{field}_total",
            "counter",
            f"{field.replace('_', ' ')} of an interface",
            [({"interface": iface.name}, getattr(iface.link.counters, field)) for iface in interfaces],
        )
    counters = router.stack.counters.as_dict()
    lines += _family(
        "netstackd_drops_total",
        "counter",
        "packets that went no further, by reason",
        [({"reason": name[4:]}, value) for name, value in counters.items() if name.startswith("Drop")],
    )
    lines += _family(
        "netstackd_snmp_total",
        "counter",
        "counters by the names Linux gives them",
        [({"name": name}, value) for name, value in counters.items() if not name.startswith("Drop")],
    )
    statistics = router.firewall.tracker.statistics()
    for name in ("connections", "limit"):
        lines += _family(
            f"netstackd_conntrack_{name}", "gauge", f"tracked connections: {name}", [({}, statistics[name])]
        )
    for name in ("found", "new", "invalid", "expired", "early_drop", "refused"):
        lines += _family(
            f"netstackd_conntrack_{name}_total", "counter", f"connection tracking: {name}", [({}, statistics[name])]
        )
    rules = [compiled for chain in router.firewall.chains.values() for compiled in chain.rules]
    for field in ("packets", "bytes"):
        values = [
            ({"chain": one.rule.chain, "rule": str(one.index + 1), "name": one.rule.name}, float(getattr(one, field)))
            for one in rules
        ]
        lines += _family(f"netstackd_filter_{field}_total", "counter", f"{field} that a rule fitted", values)
    lines += _family("netstackd_loop_turns_total", "counter", "turns of the event loop", [({}, router.loop.turns)])
    return "\n".join(lines) + "\n"
