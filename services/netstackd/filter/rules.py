"""The packet filter: chains of rules, compiled to what a packet runs through.

A `Rule` is data: static conditions (`Match`), dynamic ones, and an action. `Chain` compiles them: it keeps for each
kind of packet the rules that can concern it (match.Classifier), and for a connection that goes on remembers them at
its Direction, so that an established connection costs one comparison and one rule. The first rule that fits and has a
final action decides; none does: the chain's policy.

Actions: accept, drop, reject (with an ICMP error or a TCP reset), `continue` for rules that only count, log, or add to
a set, `jump` to a chain of the user's, and `return`: the chain that jumped goes on, as it does behind the last rule.
In input, forward and output, `return` leaves it to the policy. Each rule counts packets and bytes. The configuration
sees to it that chains do not jump in circles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from protocol.records import record
from services.netstackd.filter.connection import PROTO_ICMPV6, STATE_NAMES, Direction
from services.netstackd.filter.match import Classifier, Match
from services.netstackd.filter.sets import AddressSet
from services.netstackd.network.icmp import HOST_UNREACHABLE, NO_ROUTE, PORT_UNREACHABLE, PROHIBITED
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_TCP

ACCEPT: Final = "accept"
DROP: Final = "drop"
REJECT: Final = "reject"
CONTINUE: Final = "continue"
JUMP: Final = "jump"
RETURN: Final = "return"
ACTIONS: Final = (ACCEPT, DROP, REJECT, CONTINUE, JUMP, RETURN)
_VERDICTS: Final = frozenset({ACCEPT, DROP, REJECT})
CHAINS: Final = ("input", "forward", "output")

# How a rule may reject: name -> (ICMPv4 code of type 3, ICMPv6 code of type 1). TCP reset has none.
REJECT_CODES: Final[dict[str, tuple[int, int]]] = {
    "port-unreachable": PORT_UNREACHABLE,
    "host-unreachable": HOST_UNREACHABLE,
    "net-unreachable": NO_ROUTE,
    "admin-prohibited": PROHIBITED,
    "tcp-reset": PORT_UNREACHABLE,  # of other protocols: a port-unreachable error
}

SECOND: Final = 1_000_000_000
MAX_LIMITED_SOURCES: Final = 8192

Predicate: TypeAlias = Callable[[Packet], bool]


@record(frozen=True)
class Limit:
    """At most `rate` packets per `per_ns` in the long run and `burst` at once; `per_source`: for each source."""

    rate: int
    per_ns: int
    burst: int = 5
    per_source: bool = False


@record(frozen=True)
class Rule:
    """See the module docstring. Sets are named without their "@". `tcp_flags`: (those looked at, those set)."""

    name: str
    chain: str
    action: str
    match: Match = Match()
    source_set: str = ""
    destination_set: str = ""
    not_source_set: bool = False
    not_destination_set: bool = False
    tcp_flags: tuple[int, int] | None = None
    icmp_types: frozenset[tuple[int, int]] = frozenset()  # (protocol, type)
    marks: frozenset[int] = frozenset()
    limit: Limit | None = None
    reject_with: str = "port-unreachable"
    log: str = ""
    add_source_to: str = ""
    jump_to: str = ""


class CompiledRule:
    """A rule with its counters and its dynamic conditions in one function (None: there are none).

    `final`: it decides. `plain`: it decides at once, there is nothing to ask or to do beside counting. `target`: the
    chain that it jumps to, set once all chains are there.
    """

    __slots__ = (
        "add_to",
        "bytes",
        "conditions",
        "final",
        "index",
        "match",
        "packets",
        "plain",
        "predicate",
        "rule",
        "target",
    )

    def __init__(self, index: int, rule: Rule, sets: Mapping[str, AddressSet], now: Callable[[], int]) -> None:
        self.index = index
        self.rule = rule
        self.match = rule.match
        parts = _conditions(rule, sets, now)
        self.conditions = _all(parts)  # but for the limit
        if rule.limit is not None:
            parts.append(_limiter(rule.limit, now))  # last, so that only what fits uses it up
        self.predicate = _all(parts)
        self.add_to = sets.get(rule.add_source_to)
        self.final = rule.action in _VERDICTS
        self.plain = self.final and self.predicate is None and self.add_to is None and not rule.log
        self.target: Chain | None = None
        self.packets = 0
        self.bytes = 0


class Chain:
    """One chain, ready to run. `now` is the clock of the stack; `log(prefix, packet, rule)` is told what rules log."""

    __slots__ = (
        "_classifier",
        "_log",
        "_now",
        "has_states",
        "name",
        "policy",
        "policy_bytes",
        "policy_packets",
        "rules",
    )

    def __init__(
        self,
        name: str,
        rules: list[Rule],
        policy: str,
        sets: Mapping[str, AddressSet],
        now: Callable[[], int],
        log: Callable[[str, Packet, str], None],
    ) -> None:
        self.name = name
        self.policy = policy
        self._now = now
        self._log = log
        self.rules = [CompiledRule(index, rule, sets, now) for index, rule in enumerate(rules)]
        self._classifier = Classifier(self.rules)
        self.policy_packets = 0
        self.policy_bytes = 0
        self.has_states = any(rule.match.states for rule in rules)

    def decide(self, packet: Packet) -> CompiledRule | None:
        """The rule that decides about the packet, counted; None: the policy does."""
        ct = packet.ct
        candidates: tuple[CompiledRule, ...]
        if type(ct) is Direction:
            memory: Any = ct.steps
            if (
                memory is not None
                and memory[0] is self
                and memory[1] is packet.out
                and memory[2] is packet.iface
                and memory[3] == ct.state
            ):
                candidates = memory[4]
            else:
                candidates = self._classifier.candidates(packet)
                ct.steps = (self, packet.out, packet.iface, ct.state, candidates)
        else:
            candidates = self._classifier.candidates(packet)
        body = packet.body
        size = packet.end - packet.l3 + (len(body) if body is not None else 0)
        if candidates:
            first = candidates[0]
            if first.plain:  # "established, accept", nearly always
                first.packets += 1
                first.bytes += size
                return first
        return self._run(candidates, packet, size)

    def _run(self, candidates: tuple[CompiledRule, ...], packet: Packet, size: int) -> CompiledRule | None:
        """The first of `candidates` that decides; None: none did, which the chain counts for its policy."""
        for compiled in candidates:
            predicate = compiled.predicate
            if predicate is None or predicate(packet):
                compiled.packets += 1
                compiled.bytes += size
                if compiled.add_to is not None:
                    compiled.add_to.add(packet.version, packet.src, 32 if packet.version == 4 else 128, self._now())
                if compiled.rule.log:
                    self._log(compiled.rule.log, packet, compiled.rule.name)
                if compiled.final:
                    return compiled
                target = compiled.target
                if target is not None:
                    found = target._run(target._classifier.candidates(packet), packet, size)
                    if found is not None:
                        return found
                elif compiled.rule.action == RETURN:
                    break
        self.policy_packets += 1
        self.policy_bytes += size
        return None

    def explain(self, packet: Packet) -> tuple[list[str], CompiledRule | None]:
        """How `decide` would decide, and in words what each rule said; nothing is counted or limited."""
        steps: list[str] = []
        candidates = set(map(id, self._classifier.candidates(packet)))
        for compiled in self.rules:
            label = f"{self.name} rule {compiled.index + 1} ({compiled.rule.name})"
            if id(compiled) not in candidates:
                steps.append(f"{label}: {_why_not(compiled.match, packet)}")
                continue
            conditions = compiled.conditions
            if conditions is not None and not conditions(packet):
                steps.append(f"{label}: fits but for its set, flags, types or marks")
                continue
            steps.append(f"{label}: fits" + (", within its limit" if compiled.rule.limit is not None else ""))
            if compiled.final:
                return steps, compiled
            if compiled.target is not None:
                more, found = compiled.target.explain(packet)
                steps += more
                if found is not None:
                    return steps, found
            elif compiled.rule.action == RETURN:
                break
        return steps, None


def _why_not(match: Match, packet: Packet) -> str:
    """The first static condition that the packet does not satisfy, in words."""
    state = packet.ct.state if packet.ct is not None else 0
    if match.states and not match.states & state:
        return f"the connection is {STATE_NAMES.get(state, 'untracked')}"
    if match.version and match.version != packet.version:
        return f"it is about IPv{match.version}"
    if match.protocols and packet.proto not in match.protocols:
        return "another protocol"
    checks = (
        (
            match.in_interfaces,
            Match(in_interfaces=match.in_interfaces, not_in_interfaces=match.not_in_interfaces),
            "came in elsewhere",
        ),
        (
            match.out_interfaces,
            Match(out_interfaces=match.out_interfaces, not_out_interfaces=match.not_out_interfaces),
            "leaves elsewhere",
        ),
        (match.sources, Match(sources=match.sources, not_sources=match.not_sources), "another source"),
        (
            match.destinations,
            Match(destinations=match.destinations, not_destinations=match.not_destinations),
            "another destination",
        ),
        (match.sports, Match(sports=match.sports), "another source port"),
        (match.dports, Match(dports=match.dports), "another destination port"),
    )
    return next((why for asked, part, why in checks if asked and not part.fits(packet)), "does not fit")


def _all(parts: Sequence[Predicate]) -> Predicate | None:
    """Several conditions as one function; None when there are none."""
    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        first, second = parts
        return lambda packet: first(packet) and second(packet)
    fixed = tuple(parts)
    return lambda packet: all(part(packet) for part in fixed)


def _conditions(rule: Rule, sets: Mapping[str, AddressSet], now: Callable[[], int]) -> list[Predicate]:
    parts: list[Predicate] = []
    if rule.tcp_flags is not None:
        looked_at, wanted = rule.tcp_flags

        def has_flags(packet: Packet) -> bool:
            at = packet.l4 + 13
            return packet.proto == PROTO_TCP and packet.end > at and packet.head[at] & looked_at == wanted

        parts.append(has_flags)
    if rule.icmp_types:
        types = rule.icmp_types

        def is_type(packet: Packet) -> bool:
            proto = packet.proto
            if proto not in (PROTO_ICMP, PROTO_ICMPV6) or packet.end <= packet.l4:
                return False
            return (proto, packet.head[packet.l4]) in types

        parts.append(is_type)
    if rule.marks:
        marks = rule.marks
        parts.append(lambda packet: packet.mark in marks)
    if rule.source_set:
        sources, wanted_in = sets[rule.source_set], not rule.not_source_set
        parts.append(lambda packet: sources.holds(packet.version, packet.src, now()) is wanted_in)
    if rule.destination_set:
        destinations, wanted_out = sets[rule.destination_set], not rule.not_destination_set
        parts.append(lambda packet: destinations.holds(packet.version, packet.dst, now()) is wanted_out)
    return parts


def _limiter(limit: Limit, now: Callable[[], int]) -> Predicate:
    """A token bucket: tokens are nanoseconds of credit, `cost` for a packet."""
    cost = limit.per_ns // limit.rate
    most = cost * limit.burst
    if not limit.per_source:
        credit, stamp = most, now()

        def within(packet: Packet) -> bool:
            nonlocal credit, stamp
            time = now()
            credit = min(most, credit + time - stamp)
            stamp = time
            if credit < cost:
                return False
            credit -= cost
            return True

        return within

    buckets: dict[tuple[int, int], tuple[int, int]] = {}

    def within_for_source(packet: Packet) -> bool:
        time = now()
        key = (packet.version, packet.src)
        known = buckets.pop(key, None)
        have = most if known is None else min(most, known[0] + time - known[1])
        if known is None and len(buckets) >= MAX_LIMITED_SOURCES:
            del buckets[next(iter(buckets))]  # the source that was silent longest
        fits = have >= cost
        buckets[key] = (have - cost if fits else have, time)
        return fits

    return within_for_source
