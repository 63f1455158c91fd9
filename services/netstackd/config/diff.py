"""What differs between two configurations, in lines for people: + added, - removed, ~ changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from services.netstackd.config.model import Config


def _named(
    title: str, old: Sequence[Any], new: Sequence[Any], key: Callable[[Any], Any], label: Callable[[Any], str]
) -> list[str]:
    """Things that have a key: those added, removed, and changed field by field."""
    before, after = {key(item): item for item in old}, {key(item): item for item in new}
    lines = [f"- {title} {label(before[one])}" for one in before if one not in after]
    lines += [f"+ {title} {label(after[one])}" for one in after if one not in before]
    for one in before:
        if one in after and before[one] != after[one]:
            fields = ", ".join(_changed(before[one], after[one]))
            lines.append(f"~ {title} {label(after[one])}: {fields}")
    return lines


def _changed(old: Any, new: Any) -> list[str]:
    """Names of the fields that differ."""
    return [name for name in type(old).__match_args__ if getattr(old, name) != getattr(new, name)]


def differences(old: Config, new: Config) -> list[str]:
    """All of them; [] when the two mean the same."""
    lines: list[str] = []
    if old.forwarding != new.forwarding:
        lines.append(f"~ forwarding: {'on' if new.forwarding else 'off'}")
    lines += _named("interface", old.interfaces, new.interfaces, lambda spec: spec.name, lambda spec: str(spec.name))
    lines += [f"- route {_route(route)}" for route in old.routes if route not in new.routes]
    lines += [f"+ route {_route(route)}" for route in new.routes if route not in old.routes]
    lines += [f"- rule {rule.priority}" for rule in old.rules if rule not in new.rules]
    lines += [f"+ rule {rule.priority}" for rule in new.rules if rule not in old.rules]
    lines += _named(
        "filter rule",
        old.policy.rules,
        new.policy.rules,
        lambda rule: (rule.chain, rule.name),
        lambda rule: f"{rule.chain}/{rule.name}",
    )
    kept = [(rule.chain, rule.name) for rule in old.policy.rules if rule in new.policy.rules]
    order = [(rule.chain, rule.name) for rule in new.policy.rules if rule in old.policy.rules]
    if kept != order:
        lines.append("~ filter rules: another order")
    for chain in sorted(set(old.policy.policies) | set(new.policy.policies)):
        before, after = old.policy.policies.get(chain, "accept"), new.policy.policies.get(chain, "accept")
        if before != after:
            lines.append(f"~ filter policy {chain}: {before} to {after}")
    lines += _named("set", old.policy.sets, new.policy.sets, lambda spec: spec.name, lambda spec: str(spec.name))
    lines += _named(
        "translation",
        old.policy.nat,
        new.policy.nat,
        lambda rule: (rule.name, rule.kind, rule.match.dports),
        lambda rule: f"{rule.kind} {rule.name}",
    )
    for field in ("chains", "timeouts", "limits", "mss", "drop_invalid", "track"):
        if getattr(old.policy, field) != getattr(new.policy, field):
            lines.append(f"~ {field}")
    lines += _named(
        "dhcp server", old.dhcp_servers, new.dhcp_servers, lambda spec: spec.interface, lambda spec: str(spec.interface)
    )
    lines += _named(
        "dhcpv6 server",
        old.dhcpv6_servers,
        new.dhcpv6_servers,
        lambda spec: spec.interface,
        lambda spec: str(spec.interface),
    )
    lines += _named(
        "router advertisement",
        old.advertisements,
        new.advertisements,
        lambda spec: spec.interface,
        lambda spec: str(spec.interface),
    )
    for field in (
        "lease_file",
        "slirp",
        "publishes",
        "dns",
        "network",
        "control",
        "control_mode",
        "sockets",
        "sockets_mode",
        "log_level",
        "log_format",
    ):
        if getattr(old, field) != getattr(new, field):
            lines.append(f"~ {field.replace('_', ' ')}")
    return lines


def _route(route: Any) -> str:
    from services.netstackd.config.text import address_text, prefix_text

    text = prefix_text(*route.prefix)
    if route.via is not None:
        text += f" via {address_text(*route.via)}"
    if route.interface:
        text += f" dev {route.interface}"
    return f"{text} metric {route.metric}" if route.metric else text
