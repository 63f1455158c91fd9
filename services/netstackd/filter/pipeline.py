"""The hooks of the stack, in their order: tracking, translation, filter, MSS, confirmation.

    prerouting    track; new: choose a destination; rewrite the destination
    input         filter chain `input`; confirm
    forward       filter chain `forward`; clamp the MSS of SYNs
    output        track; filter chain `output`; (a connection of our own whose answers are translated back: rewrite)
    postrouting   new: choose a source, confirm; rewrite the source

A `Policy` is all that a configuration says about filter and translation. `Firewall.apply` changes to another one
between two packets: connections stay, sets of the same name keep their dynamic elements, rules of the same name keep
their counters. A hook that has nothing to do is None, so that a plain router pays nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from protocol.records import record
from services.netstackd.counters import COUNTER
from services.netstackd.filter.connection import (
    INVALID,
    NEW,
    SYN_SENT,
    UNTRACKED,
    Connection,
    Direction,
    Limits,
    Related,
    Timeouts,
)
from services.netstackd.filter.conntrack import Tracker
from services.netstackd.filter.match import Range
from services.netstackd.filter.mss import clamp
from services.netstackd.filter.nat import AddressChooser, Nat, NatRule, rewrite, rewrite_error, rewrite_error_source
from services.netstackd.filter.rules import ACCEPT, CHAINS, DROP, RETURN, Chain, CompiledRule, Rule
from services.netstackd.filter.sets import AddressSet, prefixes_of
from services.netstackd.network.interface import Interface
from services.netstackd.stack import Stack
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.numbers import PROTO_TCP

_BY_RULE: Final = COUNTER["DropFilterRule"]
_BY_POLICY: Final = COUNTER["DropFilterPolicy"]
_BY_INVALID: Final = COUNTER["DropConntrackInvalid"]
_UNKNOWN: Final = COUNTER["DropNatUnknown"]
SETTLING_NS: Final = 120_000_000_000  # after a start, in which connections from before are taken up again


@record(frozen=True)
class SetSpec:
    """A set as configured: its static members, and how long dynamic ones stay (None: for ever)."""

    name: str
    members: tuple[Range, ...] = ()
    timeout: int | None = None
    max_elements: int = 65536


@record(frozen=True)
class Policy:
    """See the module docstring. `chains`: the user's, beside CHAINS. `mss`: 0 leave it, -1 to the MTU of the way out,
    else an MTU."""

    rules: tuple[Rule, ...] = ()
    chains: tuple[str, ...] = ()
    policies: Mapping[str, str] = MappingProxyType({})
    sets: tuple[SetSpec, ...] = ()
    nat: tuple[NatRule, ...] = ()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    mss: int = 0
    drop_invalid: bool = True
    track: bool = False  # track connections although no rule asks for it

    @property
    def tracks(self) -> bool:
        """Whether connections have to be tracked."""
        return self.track or bool(self.nat) or any(rule.match.states for rule in self.rules)

    @property
    def filters(self) -> bool:
        """Whether there is anything to filter."""
        return bool(self.rules) or any(policy != ACCEPT for policy in self.policies.values())


class Firewall:
    """See the module docstring. `reject(packet, how)` answers the sender of a rejected packet."""

    def __init__(
        self,
        stack: Stack,
        rng: random.Random,
        address_on: AddressChooser,
        is_own: Callable[[frozenset[str], int, int], bool],
        reject: Callable[[Packet, str], None],
        log: Callable[[str, Packet, str], None],
    ) -> None:
        self._stack = stack
        self._reject = reject
        self._log = log
        self._began = stack.now
        self.tracker = Tracker(stack.counters, stack.timers, Timeouts(), Limits())
        self.nat = Nat(self.tracker, stack.counters, rng, (), address_on, is_own)
        self.sets: dict[str, AddressSet] = {}
        self.chains: dict[str, Chain] = {}
        self.policy = Policy()
        self.apply(self.policy)

    def _now(self) -> int:
        return self._stack.now

    def apply(self, policy: Policy) -> None:
        """Change to `policy`; see the module docstring."""
        sets = {spec.name: self._make_set(spec) for spec in policy.sets}
        counts = {
            (chain.name, compiled.rule.name): compiled for chain in self.chains.values() for compiled in chain.rules
        }
        chains = {
            name: Chain(
                name,
                [rule for rule in policy.rules if rule.chain == name],
                policy.policies.get(name, ACCEPT) if name in CHAINS else RETURN,
                sets,
                self._now,
                self._log,
            )
            for name in (*CHAINS, *policy.chains)
        }
        for chain in chains.values():
            for compiled in chain.rules:
                compiled.target = chains.get(compiled.rule.jump_to)
                before = counts.get((chain.name, compiled.rule.name))
                if before is not None:
                    compiled.packets, compiled.bytes = before.packets, before.bytes
        self.tracker.configure(policy.timeouts, policy.limits)
        if policy.nat != self.policy.nat:
            self.nat.configure(policy.nat)
        self.sets, self.chains, self.policy = sets, chains, policy
        self._input, self._forward, self._output = (chains[name] for name in CHAINS)
        self._install(policy)
        self._stack.routes_changed()  # what was decided for whole flows is to be decided anew

    def _make_set(self, spec: SetSpec) -> AddressSet:
        made = AddressSet(spec.name, spec.timeout, spec.max_elements)
        before = self.sets.get(spec.name)
        now = self._stack.now
        if before is not None and spec.timeout is not None:
            for version, address, length, left in before.elements(now):
                if left is not None:
                    made.add(version, address, length, now)
        for version, address, length in prefixes_of(spec.members):
            made.add(version, address, length, now, dynamic=False)
        return made

    def _install(self, policy: Policy) -> None:
        """Give the stack the hooks that have something to do."""
        hooks = self._stack.hooks
        tracks, filters = policy.tracks, policy.filters
        hooks.defragment = tracks
        hooks.prerouting = self.prerouting if tracks else None
        hooks.postrouting = self.postrouting if tracks else None
        hooks.input = self.input if tracks or filters else None
        hooks.forward = self.forward if filters or policy.mss else None
        hooks.output = self.output if tracks or filters else None

    # -- hooks --

    def prerouting(self, packet: Packet) -> bool:
        """See the module docstring."""
        ct = self.tracker.track(packet, self._stack.now)
        if type(ct) is Direction:
            if ct.state == NEW:
                connection = ct.connection
                if not connection.confirmed:
                    self.nat.choose_destination(packet, connection)
            pre = ct.pre
            if pre is not None:
                rewrite(packet, pre)
        elif type(ct) is Related:
            rewrite_error(packet, ct)
        elif ct.state == INVALID and self.policy.drop_invalid:
            self._stack.counters.values[_BY_INVALID] += 1
            return False
        return True

    def input(self, packet: Packet) -> bool:
        """See the module docstring."""
        if not self._passes(self._input, packet):
            return False
        ct = packet.ct
        if type(ct) is Direction and not ct.connection.confirmed:
            if self._may_have_been_translated(packet, ct.connection):
                self._stack.counters.values[_UNKNOWN] += 1
                ct.connection.end()
                return False
            return self.tracker.confirm(ct.connection, self._stack.now)
        return True

    def _may_have_been_translated(self, packet: Packet, connection: Connection) -> bool:
        """Whether a segment for ourselves, out of the middle of a connection that nobody here has, may belong to one
        that was translated before a restart. A reset would end that (as it does with Linux); dropped, it is sent again,
        and has its way back as soon as the inner side has said something. What our own sockets know or listen for is
        theirs: its entry may have been thrown out of a full table between the segments of a handshake."""
        return (
            connection.proto == PROTO_TCP
            and connection.state != SYN_SENT
            and self.nat.hides_sources
            and self._stack.now - self._began < SETTLING_NS
            and not self._stack.tcp.is_served(
                packet.version, (packet.src, packet.dst, packet.sport, packet.dport), packet.iface
            )
        )

    def forward(self, packet: Packet) -> bool:
        """See the module docstring."""
        chain = self._forward
        compiled = chain.decide(packet)
        action = chain.policy if compiled is None else compiled.rule.action
        if action != ACCEPT:
            return self._refuse(packet, compiled, action)
        mss = self.policy.mss
        if mss and packet.proto == PROTO_TCP and packet.out is not None:
            head, at = packet.head, packet.l4 + 13
            if packet.end > at and head[at] & 2:
                clamp(packet, packet.out.mtu if mss < 0 else min(mss, packet.out.mtu))
        return True

    def output(self, packet: Packet) -> bool:
        """See the module docstring."""
        if self.policy.tracks:
            ct = self.tracker.track(packet, self._stack.now)
            if type(ct) is Direction:
                if ct.pre is not None:
                    rewrite(packet, ct.pre)
            elif type(ct) is Related:
                rewrite_error(packet, ct)
        return self._passes(self._output, packet)

    def postrouting(self, packet: Packet) -> bool:
        """See the module docstring."""
        ct = packet.ct
        if type(ct) is Direction:
            connection = ct.connection
            if not connection.confirmed:
                if not self.nat.choose_source(packet, connection):
                    return False
                if not self.tracker.confirm(connection, self._stack.now):
                    self.nat.abandon(connection)
                    return False
            post = ct.post
            if post is not None:
                rewrite(packet, post)
        elif type(ct) is Related:
            rewrite_error_source(packet, ct)
        return True

    def _passes(self, chain: Chain, packet: Packet) -> bool:
        compiled = chain.decide(packet)
        action = chain.policy if compiled is None else compiled.rule.action
        return action == ACCEPT or self._refuse(packet, compiled, action)

    def _refuse(self, packet: Packet, compiled: CompiledRule | None, action: str) -> bool:
        """Count the drop and, for a reject, answer. Always False."""
        self._stack.counters.values[_BY_POLICY if compiled is None else _BY_RULE] += 1
        if action != DROP:
            self._reject(packet, compiled.rule.reject_with if compiled is not None else "port-unreachable")
        ct = packet.ct
        if type(ct) is Direction and not ct.connection.confirmed:
            self.nat.abandon(ct.connection)
            ct.connection.end()
        return False

    # -- for people --

    def connections_of(self, iface: Interface, address: int) -> list[Connection]:
        """Connections that were given `address` as their source: to be forgotten when it goes away."""
        return [
            connection
            for connection in self.tracker.connections()
            if connection.original.post is not None and connection.original.post.address == address
        ]

    def forget(self, connections: list[Connection]) -> None:
        """Remove connections by request."""
        for connection in connections:
            self.tracker.remove(connection)

    def explain(self, packet: Packet) -> tuple[list[str], str]:
        """What the filter says about a packet whose `iface`, `out` and fields are set: (steps, verdict)."""
        if packet.ct is None:
            key = (packet.src, packet.dst, packet.sport, packet.dport, packet.proto)
            direction = self.tracker.lookup(packet.version, key)
            if direction is None and self.policy.tracks:
                direction = Connection(packet.version, key, 0, 0).original
            packet.ct = direction
        chain = self.chains["forward" if packet.out is not None and packet.iface is not None else "input"]
        if packet.iface is None:
            chain = self.chains["output"]
        steps, compiled = chain.explain(packet)
        if compiled is None:
            return steps, f"{chain.policy} by the policy of chain {chain.name}"
        rule = compiled.rule
        return steps, f"{rule.action} by {rule.chain} rule {compiled.index + 1} ({rule.name})"


__all__ = ["Firewall", "Policy", "SetSpec", "UNTRACKED"]
