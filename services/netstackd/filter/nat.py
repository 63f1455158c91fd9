"""Address translation: which new connections get other addresses and ports, and how packets are rewritten.

A rule looks at the first packet of a connection. Destination rules (port forwards, one-to-one inwards) before routing,
source rules (masquerade, pools, one-to-one outwards) before the packet leaves. What they decide becomes `Rewrite`s of
the connection's two directions: later packets cost one look-up in conntrack and one rewrite, whatever the rules are.

Ports (RFC 4787, RFC 5382, RFC 5508): a source port is kept when no other connection needs it, else one of its class
(below 512, below 1024, above) is taken from the rule's range. With `endpoint_independent` all connections of one inner
address and port share one outer port whatever they talk to, and anybody may talk to that (full cone), as long as one of
them lives. ICMP queries have their identifier for a port. Hairpin: a forwarded port answers inside too; the client is
then hidden behind the router, so that answers come back through it.

Checksums are updated, never computed anew (RFC 1624); unfinished ones (CSUM_PARTIAL) hold a plain sum of the pseudo
header, which only the addresses change.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from protocol.records import record
from services.netstackd.counters import COUNTER, Counters
from services.netstackd.filter.connection import (
    PROTO_ICMPV6,
    Connection,
    Direction,
    Key,
    Related,
    Rewrite,
    quote_untrusted,
)
from services.netstackd.filter.conntrack import Tracker
from services.netstackd.filter.match import Classifier, Match
from services.netstackd.network.interface import Interface
from services.netstackd.storage.packet import CSUM_PARTIAL, Packet
from services.netstackd.wire.checksum import checksum
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_TCP, PROTO_UDP

MASQUERADE: Final = "masquerade"
SNAT: Final = "snat"
DNAT: Final = "dnat"
ACCEPT: Final = "accept"  # do not translate what an earlier rule like this names
MAX_PORT_TRIES: Final = 128
_NO_PORT: Final = COUNTER["DropNatNoPort"]
_SUM_AND_ADDRESSES: Final = Struct("!HII")  # of an IPv4 header, from its checksum on
_FIELD: Final = {PROTO_TCP: 16, PROTO_UDP: 6, PROTO_ICMP: 2, PROTO_ICMPV6: 2}

AddressChooser = Callable[[Interface, int, int], int | None]  # (interface, version, next hop) -> our address there


@record(frozen=True)
class NatRule:
    """See the module docstring. `to`: first and last new address; `ports`: first and last new port, (0, 0): as they
    were.

    `own_addresses_of`: a destination rule that means the own addresses of these interfaces, from there or, with
    `hairpin`, from anywhere. `shift_from`: port `shift_from` becomes the first of `ports`, and so on (a forwarded
    range). `one_to_one`: first and last address of a range that is mapped address by address to the range that begins
    at `to`.
    """

    name: str
    kind: str
    match: Match = Match()
    to: tuple[int, int] = (0, 0)
    ports: tuple[int, int] = (0, 0)
    shift_from: int = 0
    endpoint_independent: bool = False
    hairpin: bool = False
    own_addresses_of: frozenset[str] = frozenset()
    one_to_one: tuple[int, int] = (0, 0)
    random_ports: bool = False


class CompiledNatRule:
    """A rule with its counters (connections, not packets)."""

    __slots__ = ("connections", "match", "rule")

    def __init__(self, rule: NatRule) -> None:
        self.rule = rule
        self.match = rule.match
        self.connections = 0


class _Mapping:
    """An endpoint-independent mapping: inner (address, port) as (outer address, port), with its connections counted."""

    __slots__ = ("inner", "outer", "users")

    def __init__(self, inner: tuple[int, int, int, int], outer: tuple[int, int, int, int]) -> None:
        self.inner = inner  # version, protocol, address, port
        self.outer = outer
        self.users = 0


class Nat:
    """See the module docstring."""

    def __init__(
        self,
        tracker: Tracker,
        counters: Counters,
        rng: random.Random,
        rules: Sequence[NatRule],
        address_on: AddressChooser,
        is_own: Callable[[frozenset[str], int, int], bool],
    ) -> None:
        self._tracker = tracker
        self._counters = counters
        self._rng = rng
        self._address_on = address_on
        self._is_own = is_own
        self._by_inner: dict[tuple[int, int, int, int], _Mapping] = {}
        self._by_outer: dict[tuple[int, int, int, int], _Mapping] = {}
        self.configure(rules)

    def configure(self, rules: Sequence[NatRule]) -> None:
        """Use other rules for connections that begin from now on."""
        self.rules = [CompiledNatRule(rule) for rule in rules]
        self._destination = Classifier([one for one in self.rules if one.rule.kind == DNAT])
        self._source = Classifier([one for one in self.rules if one.rule.kind != DNAT])
        self._any_destination = bool(self._destination.rules)
        self._any_source = bool(self._source.rules)
        self.hides_sources = any(rule.kind != ACCEPT for rule in rules if rule.kind != DNAT)

    # -- decisions, once a connection --

    def choose_destination(self, packet: Packet, connection: Connection) -> None:
        """Before routing: whether the connection goes somewhere else."""
        if self._by_outer:
            mapping = self._by_outer.get((packet.version, packet.proto, packet.dst, packet.dport))
            if mapping is not None:
                self._set_destination(connection, mapping.inner[2], mapping.inner[3])
                self._use(mapping, connection)
                return
        if not self._any_destination:
            return
        for compiled in self._destination.candidates(packet):
            rule = compiled.rule
            if rule.own_addresses_of and not self._fits_own(rule, packet):
                continue
            address, last = rule.to
            if rule.one_to_one != (0, 0):
                address += packet.dst - rule.one_to_one[0]
            elif last > address:
                address += self._hash(packet.src, 0) % (last - address + 1)
            port = packet.dport
            if rule.ports[0]:
                port = rule.ports[0] + packet.dport - rule.shift_from if rule.shift_from else rule.ports[0]
            self._set_destination(connection, address, port)
            connection.hairpin = rule.hairpin
            compiled.connections += 1
            return

    def preview_destination(self, packet: Packet, connection: Connection) -> None:
        """`choose_destination` for a connection that will not begin: counts nothing, holds nothing."""
        counts = [compiled.connections for compiled in self.rules]
        self.choose_destination(packet, connection)
        self.abandon(connection)
        for compiled, before in zip(self.rules, counts, strict=True):
            compiled.connections = before

    def preview_source(self, packet: Packet, connection: Connection) -> int | None:
        """The address that `choose_source` would choose; None: the packet's own."""
        if connection.hairpin and packet.out is not None and packet.out is packet.iface:
            return self._address_on(packet.out, packet.version, packet.next_hop)
        for compiled in self._source.candidates(packet):
            if compiled.rule.kind == ACCEPT:
                return None
            address = self._source_address(compiled.rule, packet)
            if address is not None:
                return address
        return None

    def _fits_own(self, rule: NatRule, packet: Packet) -> bool:
        """A forward on an interface means that interface's addresses, from there or, with hairpin, from anywhere."""
        iface = packet.iface
        if not rule.hairpin and (iface is None or iface.name not in rule.own_addresses_of):
            return False
        return self._is_own(rule.own_addresses_of, packet.version, packet.dst)

    def choose_source(self, packet: Packet, connection: Connection) -> bool:
        """Before the first packet leaves: whether it gets another source. False, counted: no port is free."""
        out = packet.out
        if connection.hairpin and out is not None and out is packet.iface:
            address = self._address_on(out, packet.version, packet.next_hop)
            if address is not None:
                return self._set_source(connection, address, (0, 0), False)
        if self._any_source:
            for compiled in self._source.candidates(packet):
                rule = compiled.rule
                if rule.kind == ACCEPT:
                    break
                address = self._source_address(rule, packet)
                if address is None:
                    continue
                if rule.endpoint_independent and packet.proto in (PROTO_TCP, PROTO_UDP):
                    done = self._set_independent_source(connection, address, rule.ports)
                else:
                    done = self._set_source(connection, address, rule.ports, rule.random_ports)
                if done:
                    compiled.connections += 1
                return done
        reply = connection.reply
        if self._tracker.is_free(connection.version, reply.key):
            return True
        # not translated, but somebody's translated connection looks the same from outside: take another port
        return self._set_source(connection, packet.src, (0, 0), False)

    def _source_address(self, rule: NatRule, packet: Packet) -> int | None:
        if rule.kind == MASQUERADE:
            out = packet.out
            return None if out is None else self._address_on(out, packet.version, packet.next_hop)
        first, last = rule.to
        if rule.one_to_one != (0, 0):
            return first + packet.src - rule.one_to_one[0]
        # one inner address always gets the same outer one (paired pooling, RFC 4787 4.1)
        return first if first == last else first + self._hash(packet.src, 1) % (last - first + 1)

    @staticmethod
    def _hash(value: int, salt: int) -> int:
        return (value * 0x9E3779B1 + salt >> 7) & 0x7FFFFFFF

    def _set_destination(self, connection: Connection, address: int, port: int) -> None:
        """Packets of the original direction go to `address` and `port`."""
        original = connection.original
        src, dst, sport, dport, proto = original.key
        if proto in (PROTO_ICMP, PROTO_ICMPV6):
            connection.reply.key = (address, *connection.reply.key[1:])
            port = dport = 0
        else:
            connection.reply.key = (address, src, port, sport, proto)
        original.pre = Rewrite(False, connection.version, (dst, dport), (address, port))
        connection.reply.post = Rewrite(True, connection.version, (address, port), (dst, dport))

    def _set_source(self, connection: Connection, address: int, ports: tuple[int, int], scatter: bool) -> bool:
        """Packets of the original direction come from `address`, and a port that is free."""
        port = connection.original.key[2]
        chosen = self._free_port(connection, address, port, ports, scatter)
        if chosen is None:
            self._counters.values[_NO_PORT] += 1
            return False
        self._write_source(connection, address, chosen)
        return True

    def _write_source(self, connection: Connection, address: int, port: int) -> None:
        src, _, sport, _, proto = connection.original.key
        reply = connection.reply
        reply.key = self._reply_key(connection, address, port)
        if proto not in (PROTO_TCP, PROTO_UDP, PROTO_ICMP, PROTO_ICMPV6):
            sport = port = 0
        if (address, port) == (src, sport):
            return
        connection.original.post = Rewrite(True, connection.version, (src, sport), (address, port))
        reply.pre = Rewrite(False, connection.version, (address, port), (src, sport))

    @staticmethod
    def _reply_key(connection: Connection, address: int, port: int) -> Key:
        """What answers would look like if packets came from `address` and `port`."""
        source, _, sport, dport, proto = connection.reply.key
        if proto in (PROTO_ICMP, PROTO_ICMPV6):
            return (source, address, port, dport, proto)
        return (source, address, sport, port, proto)

    def _free_port(
        self, connection: Connection, address: int, port: int, ports: tuple[int, int], scatter: bool
    ) -> int | None:
        """The port to use: the same, when that is free; else another of the range or of its class."""
        tracker, version, proto = self._tracker, connection.version, connection.proto
        outer = self._by_outer
        first, last = ports
        within = not first or first <= port <= last

        def free(candidate: int) -> bool:
            return (version, proto, address, candidate) not in outer and tracker.is_free(
                version, self._reply_key(connection, address, candidate)
            )

        if within and not scatter and free(port):
            return port
        if proto not in (PROTO_TCP, PROTO_UDP, PROTO_ICMP, PROTO_ICMPV6):
            return None
        if not first:
            first, last = _port_class(port, proto)
        span = last - first + 1
        start = self._rng.randrange(span)
        for step in range(min(MAX_PORT_TRIES, span)):
            candidate = first + (start + step) % span
            if free(candidate):
                return candidate
        return None

    # -- endpoint-independent mappings --

    def _set_independent_source(self, connection: Connection, address: int, ports: tuple[int, int]) -> bool:
        src, _, sport, _, proto = connection.original.key
        inner = (connection.version, proto, src, sport)
        mapping = self._by_inner.get(inner)
        if mapping is None:
            chosen = self._unshared_port(connection, address, sport, ports)
            if chosen is None:
                self._counters.values[_NO_PORT] += 1
                return False
            mapping = _Mapping(inner, (connection.version, proto, address, chosen))
            self._by_inner[inner] = mapping
            self._by_outer[mapping.outer] = mapping
        self._write_source(connection, mapping.outer[2], mapping.outer[3])
        if not self._tracker.is_free(connection.version, connection.reply.key):
            self._counters.values[_NO_PORT] += 1
            if not mapping.users:
                self._forget(mapping)
            return False
        self._use(mapping, connection)
        return True

    def _unshared_port(self, connection: Connection, address: int, port: int, ports: tuple[int, int]) -> int | None:
        """A port that no other mapping has; of equal parity where it can be (RFC 4787 4.2.2)."""
        version, proto, outer = connection.version, connection.proto, self._by_outer
        first, last = ports if ports[0] else _port_class(port, proto)
        if first <= port <= last and (version, proto, address, port) not in outer:
            return port
        span = last - first + 1
        start = self._rng.randrange(span)
        for parity in (True, False):
            for step in range(min(2 * MAX_PORT_TRIES, span)):
                candidate = first + (start + step) % span
                if ((candidate ^ port) & 1 == 0) is parity and (version, proto, address, candidate) not in outer:
                    return candidate
        return None

    def _use(self, mapping: _Mapping, connection: Connection) -> None:
        mapping.users += 1
        connection.mapping = mapping
        connection.release = self._release

    def _release(self, connection: Connection) -> None:
        """The last connection of a mapping takes it along."""
        mapping = connection.mapping
        assert isinstance(mapping, _Mapping)
        mapping.users -= 1
        if not mapping.users:
            self._forget(mapping)

    def _forget(self, mapping: _Mapping) -> None:
        self._by_inner.pop(mapping.inner, None)
        self._by_outer.pop(mapping.outer, None)

    def abandon(self, connection: Connection) -> None:
        """A connection that was never confirmed gives back what it holds."""
        if connection.release is not None:
            connection.release(connection)
            connection.release = None

    def mappings(self) -> list[tuple[tuple[int, int, int, int], tuple[int, int, int, int], int]]:
        """(inner, outer, connections) of the endpoint-independent mappings."""
        return [(mapping.inner, mapping.outer, mapping.users) for mapping in self._by_inner.values()]


def _port_class(port: int, proto: int) -> tuple[int, int]:
    """The ports that may stand for `port`: privileged ones stay so. Any identifier may stand for another."""
    if proto in (PROTO_ICMP, PROTO_ICMPV6):
        return 0, 65535
    if port < 512:
        return 1, 511
    return (600, 1023) if port < 1024 else (1024, 65535)


# -- rewriting packets --


def rewrite(packet: Packet, how: Rewrite) -> None:
    """Give the packet another source or destination, in its head and in its fields."""
    head = packet.head
    if type(head) is not bytearray:
        head = packet.writable()
    l3, l4, proto = packet.l3, packet.l4, packet.proto
    if packet.version == 4:
        old, source, destination = _SUM_AND_ADDRESSES.unpack_from(head, l3 + 10)
        field = 65535 - (65535 - old + how.delta_address) % 65535
        if field == 65535:
            field = 0
        if how.is_source:
            _SUM_AND_ADDRESSES.pack_into(head, l3 + 10, field, how.address, destination)
        else:
            _SUM_AND_ADDRESSES.pack_into(head, l3 + 10, field, source, how.address)
    else:
        at = l3 + 8 if how.is_source else l3 + 24
        head[at : at + 16] = how.address_bytes
    if proto == PROTO_TCP or proto == PROTO_UDP:
        delta, checksum_at = how.delta_all, l4 + 16 if proto == PROTO_TCP else l4 + 6
        port = how.port
        at = l4 if how.is_source else l4 + 2
        head[at] = port >> 8
        head[at + 1] = port & 255
        if how.is_source:
            packet.sport = port
        else:
            packet.dport = port
        old = head[checksum_at] << 8 | head[checksum_at + 1]
        if packet.csum == CSUM_PARTIAL:
            field = (old + how.delta_address) % 65535
        elif not old and proto == PROTO_UDP:
            field = 0  # the sender made none (RFC 768)
        else:
            field = 65535 - (65535 - old + delta) % 65535
        head[checksum_at] = field >> 8
        head[checksum_at + 1] = field & 255
    elif proto == PROTO_ICMP or proto == PROTO_ICMPV6:
        _rewrite_icmp(head, l4, proto, how)
    if how.is_source:
        packet.src = how.address
    else:
        packet.dst = how.address


def _rewrite_icmp(head: bytearray, l4: int, proto: int, how: Rewrite) -> None:
    """The identifier of a query, and ICMPv6's checksum, which covers the addresses (RFC 4443 2.3)."""
    delta = how.delta_address if proto == PROTO_ICMPV6 else 0
    if how.port != how.old_port:
        delta += how.port - how.old_port
        head[l4 + 4] = how.port >> 8
        head[l4 + 5] = how.port & 255
    if delta:
        field = 65535 - (65535 - (head[l4 + 2] << 8 | head[l4 + 3]) + delta) % 65535
        head[l4 + 2] = field >> 8
        head[l4 + 3] = field & 255


def rewrite_error(packet: Packet, related: Related) -> None:
    """Translate an ICMP error on its way in: its destination, and what it quotes (RFC 5508 4.2).

    The quoted packet went the other way: as it left the router, so it must become what its sender had sent.
    """
    direction = related.direction
    cause = direction.other
    restored = cause.key
    if cause.pre is None and cause.post is None:
        return
    _restore_quote(packet, restored, cause)
    if not related.made_here and direction.pre is not None and packet.dst == direction.pre.old_address:
        _rewrite_address(packet, direction.pre)
    _finish_icmp(packet)


def rewrite_error_source(packet: Packet, related: Related) -> None:
    """On its way out: an error that the other end itself sent comes from the address its peer knows it by."""
    post = related.direction.post
    if post is not None and not related.made_here and packet.src == post.old_address:
        _rewrite_address(packet, post)
        _finish_icmp(packet)


def _rewrite_address(packet: Packet, how: Rewrite) -> None:
    """The address alone: an ICMP error has no port of its own."""
    head, l3 = packet.writable(), packet.l3
    if packet.version == 4:
        at = l3 + 12 if how.is_source else l3 + 16
        head[at : at + 4] = how.address_bytes
        field = (65535 - (65535 - (head[l3 + 10] << 8 | head[l3 + 11]) + how.delta_address) % 65535) % 65535
        head[l3 + 10], head[l3 + 11] = field >> 8, field & 255
    else:
        at = l3 + 8 if how.is_source else l3 + 24
        head[at : at + 16] = how.address_bytes
    if how.is_source:
        packet.src = how.address
    else:
        packet.dst = how.address


def _restore_quote(packet: Packet, key: Key, cause: Direction) -> None:
    """Make the quoted packet what `key` says, whatever stage of its translation the quote shows."""
    quote = quote_untrusted(packet)
    if quote is None or quote.proto != cause.connection.proto:
        return
    head = packet.writable()
    src, dst, sport, dport, proto = key
    size = 4 if quote.version == 4 else 16
    at = quote.l3 + (12 if quote.version == 4 else 8)
    head[at : at + 2 * size] = src.to_bytes(size, "big") + dst.to_bytes(size, "big")
    delta = src - quote.src + dst - quote.dst
    if quote.version == 4:
        _add(head, quote.l3 + 10, delta)
    l4 = quote.l4
    if proto in (PROTO_TCP, PROTO_UDP):
        delta += sport - quote.sport + dport - quote.dport
        head[l4], head[l4 + 1], head[l4 + 2], head[l4 + 3] = sport >> 8, sport & 255, dport >> 8, dport & 255
        field = l4 + _FIELD[proto]
        if field + 2 <= quote.end and (proto == PROTO_TCP or head[field] or head[field + 1]):
            _add(head, field, delta)
    elif proto in (PROTO_ICMP, PROTO_ICMPV6):
        head[l4 + 4], head[l4 + 5] = sport >> 8, sport & 255
        _add(head, l4 + 2, sport - quote.sport + (delta if proto == PROTO_ICMPV6 else 0))


def _add(head: bytearray, at: int, delta: int) -> None:
    """RFC 1624 for the checksum field at `at`, what it covers having grown by `delta`."""
    field = 65535 - (65535 - (head[at] << 8 | head[at + 1]) + delta) % 65535
    head[at], head[at + 1] = field >> 8, field & 255


def _finish_icmp(packet: Packet) -> None:
    """Compute the checksum of an ICMP error anew: errors are short and rare."""
    head, l4 = packet.writable(), packet.l4
    head[l4 + 2] = head[l4 + 3] = 0
    body = packet.body
    data = bytes(memoryview(head)[l4 : packet.end]) + (bytes(body) if body is not None else b"")
    initial = 0 if packet.proto == PROTO_ICMP else packet.src + packet.dst + PROTO_ICMPV6 + len(data)
    field = checksum(data, initial)
    head[l4 + 2], head[l4 + 3] = field >> 8, field & 255
