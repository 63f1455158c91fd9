"""TCP's place in the stack: which segment belongs to which connection or listener, and everybody's timers.

Connections are found by (source, destination, source port, destination port) of what they receive, in one dict look-up.
Listeners are found as Linux scores them: bound to the address before any address, bound to the interface before none,
of the segment's own version before a dual-stack IPv6 one; equals with SO_REUSEPORT share by flow. What belongs to
nobody is answered by a reset (RFC 9293 section 3.10.7.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from services.netstackd.counters import COUNTER
from services.netstackd.network.interface import Interface
from services.netstackd.storage.packet import TO_HOST, Packet
from services.netstackd.storage.timers import Timer
from services.netstackd.transport.ports import Binding, Ports
from services.netstackd.transport.tcp.context import Schedulable, TcpContext
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.listen import Listener
from services.netstackd.transport.tcp.parameters import NEVER
from services.netstackd.transport.tcp.segment import NOT_ECT, Segment, reset_for
from services.netstackd.transport.tcp.time_wait import TimeWait
from services.netstackd.transport.tcp_path import TcpPath, flow_bytes, flow_of
from services.netstackd.transport.udp import covers
from services.netstackd.wire import icmpv4, icmpv6
from services.netstackd.wire.numbers import is_multicast
from services.netstackd.wire.tcp import HEADER, SYN, check_tcp_untrusted
from services.netstackd.wire.tcp_options import NO_OPTIONS, parse_options_untrusted

if TYPE_CHECKING:
    from services.netstackd.network.icmp import IcmpError
    from services.netstackd.stack import Stack

Connection = Endpoint | TimeWait
Key = tuple[int, int, int, int]  # source, destination, source port, destination port of what is received
Forwarder = Callable[[Packet, Segment, Key, TimeWait | None], bool]

_IN_ERRS: Final = COUNTER["TcpInErrs"]
_IN_SEGS: Final = COUNTER["TcpInSegs"]
_CSUM_ERRORS: Final = COUNTER["TcpInCsumErrors"]
_OUT_RSTS: Final = COUNTER["TcpOutRsts"]
_OUT_SEGS: Final = COUNTER["TcpOutSegs"]
_MIN_TTL: Final = COUNTER["TcpExtTCPMinTTLDrop"]
_DROP_CHECKSUM: Final = COUNTER["DropTcpChecksum"]
_NO_SOCKET: Final = COUNTER["DropTcpNoSocket"]
_NOT_UNICAST: Final = COUNTER["DropNotUnicast"]

# ICMP to the kinds of tcp/path_mtu.py.
_FRAG_NEEDED: Final = 1
_KINDS4: Final = {
    (icmpv4.DESTINATION_UNREACHABLE, icmpv4.NET_UNREACHABLE): 2,
    (icmpv4.DESTINATION_UNREACHABLE, icmpv4.HOST_UNREACHABLE): 3,
    (icmpv4.DESTINATION_UNREACHABLE, icmpv4.PROTOCOL_UNREACHABLE): 4,
    (icmpv4.DESTINATION_UNREACHABLE, icmpv4.PORT_UNREACHABLE): 5,
    (icmpv4.DESTINATION_UNREACHABLE, icmpv4.FRAGMENTATION_NEEDED): _FRAG_NEEDED,
    (icmpv4.DESTINATION_UNREACHABLE, icmpv4.NET_PROHIBITED): 6,
    (icmpv4.DESTINATION_UNREACHABLE, icmpv4.HOST_PROHIBITED): 6,
    (icmpv4.DESTINATION_UNREACHABLE, icmpv4.ADMIN_PROHIBITED): 6,
}
_KINDS6: Final = {
    (icmpv6.DESTINATION_UNREACHABLE, icmpv6.NO_ROUTE): 2,
    (icmpv6.DESTINATION_UNREACHABLE, icmpv6.ADMIN_PROHIBITED): 6,
    (icmpv6.DESTINATION_UNREACHABLE, icmpv6.ADDRESS_UNREACHABLE): 3,
    (icmpv6.DESTINATION_UNREACHABLE, icmpv6.PORT_UNREACHABLE): 5,
}
_TTL_EXCEEDED: Final = 7
_PARAMETER_PROBLEM: Final = 8


class ListenerOwner(Protocol):
    """What the binding of a listening socket points to."""

    listener: Listener | None
    min_ttl: int
    reuse_port: bool

    def path_for(self, version: int, packet: Packet) -> TcpPath:
        """A path back to the sender of `packet`, with the socket's settings."""


class Demux:
    """One per stack."""

    def __init__(self, stack: Stack, context: TcpContext) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self.context = context
        context.schedule = self._schedule
        context.on_done = self._on_done
        self.connections4: dict[Key, Connection] = {}
        self.connections6: dict[Key, Connection] = {}
        self.ports = Ports(stack.rng, stack.secret)
        self.port_use: dict[int, int] = {}  # local port: connections that use it
        self.guards_ttl = False  # some socket has IP_MINTTL
        # Asked for segments to no socket that came in where any destination is accepted: whether it takes them.
        self.forwarder: Forwarder | None = None
        self._alarms: dict[Schedulable, Timer] = {}

    # -- received --

    def input(self, packet: Packet) -> None:
        """A segment for this host. Not in a frame to everybody or to a group (RFC 1122 4.2.3.10)."""
        if packet.kind != TO_HOST:
            self._count[_NOT_UNICAST] += 1
            return
        reason = check_tcp_untrusted(packet)
        if reason:
            count = self._count
            count[reason] += 1
            count[_IN_ERRS] += 1
            if reason == _DROP_CHECKSUM:
                count[_CSUM_ERRORS] += 1
            return
        head = packet.head
        l4 = packet.l4
        payload = packet.payload
        end = packet.end
        sport, dport, seq, ack, word, window, _, urgent = HEADER.unpack_from(head, l4)
        if payload - l4 == 20:
            ts_val, ts_ecr, blocks, syn = NO_OPTIONS
            if word & SYN:
                syn = parse_options_untrusted(head, payload, payload, True)[3]
        else:
            ts_val, ts_ecr, blocks, syn = parse_options_untrusted(head, l4 + 20, payload, word & SYN != 0)
        segment = Segment(
            seq,
            ack,
            word & 0xFF,
            window,
            memoryview(head)[payload:end] if payload < end else b"",
            ts_val,
            ts_ecr,
            blocks,
            urgent,
            packet.tos & 3,
            packet.gso_size,
            syn,
        )
        key = (packet.src, packet.dst, sport, dport)
        self.dispatch(packet, segment, key, (self.connections4 if packet.version == 4 else self.connections6).get(key))

    def dispatch(self, packet: Packet, segment: Segment, key: Key, connection: Connection | None) -> None:
        """A sound segment of `key`, whose connection this is, if there is one."""
        if connection is None:
            self._unconnected(packet, segment, key, None)
        elif self.guards_ttl and isinstance(connection, Endpoint) and not self._ttl_suffices(packet, connection.owner):
            return
        elif not connection.on_segment(segment, self._stack.now):
            assert isinstance(connection, TimeWait)
            self._remove(packet.version, key, connection)
            self._unconnected(packet, segment, key, connection)

    def _unconnected(self, packet: Packet, segment: Segment, key: Key, reuse: TimeWait | None) -> None:
        """A segment of no known connection: a listener's, or an error."""
        version = packet.version
        if is_multicast(version, packet.dst) or self._stack.is_broadcast(packet.dst):
            self._count[_NOT_UNICAST] += 1  # RFC 1122 section 4.2.3.10
            return
        forwarder, iface = self.forwarder, packet.iface
        if forwarder is not None and (iface is None or not iface.accept_any):
            forwarder = None
        foreign = forwarder is not None and self._stack.interface_of(version, packet.dst) is None
        owner = None if foreign else self._find_listener(version, key, iface)
        if owner is None and forwarder is not None and forwarder(packet, segment, key, reuse):
            self._count[_IN_SEGS] += 1
            return
        if owner is not None and not self._ttl_suffices(packet, owner):
            return
        if owner is None or owner.listener is None:
            self._count[_IN_SEGS] += 1
            self._count[_NO_SOCKET] += 1
            self.send_reset(packet, segment)
            return
        flow = flow_bytes(version, packet.dst, packet.dport, packet.src, packet.sport)
        listener = owner.listener
        request = listener.requests.get(flow)
        path = owner.path_for(version, packet) if request is None else request.route
        endpoint = listener.on_segment(segment, flow, path, self._stack.now, reuse)
        if endpoint is not None:
            self.enter(version, key, endpoint)

    def _ttl_suffices(self, packet: Packet, owner: ListenerOwner | None) -> bool:
        """IP_MINTTL (RFC 5082): what has come a longer way than the socket allows is dropped."""
        if owner is None or packet.ttl >= owner.min_ttl:
            return True
        self._count[_MIN_TTL] += 1
        return False

    def _find_listener(self, version: int, key: Key, iface: Interface | None) -> ListenerOwner | None:
        _, dst, _, dport = key
        best: list[ListenerOwner] = []
        best_score = -1
        for binding in self.ports.on(dport):
            if not binding.listening or not covers(binding, version, dst):
                continue
            if binding.device is not None and binding.device is not iface:
                continue
            score = (2 if binding.device is not None else 0) + (2 if binding.address else 0)
            score += binding.version == version
            owner: ListenerOwner = binding.owner  # type: ignore[assignment]
            if score > best_score:
                best_score = score
                best = [owner]
            elif score == best_score:
                best.append(owner)
        if not best:
            return None
        if len(best) > 1 and best[0].reuse_port:
            return best[hash((self._stack.flow_seed, *key)) % len(best)]
        return best[0]

    def send_reset(self, packet: Packet, segment: Segment | None = None) -> None:
        """Answer a received segment by a reset, from the address it was sent to (also when that is not ours, for a
        filter that rejects what it forwards)."""
        if segment is None:
            if check_tcp_untrusted(packet):
                return
            _, _, seq, ack, word, _, _, _ = HEADER.unpack_from(packet.head, packet.l4)
            data = memoryview(packet.head)[packet.payload : packet.end]
            segment = Segment(seq, ack, word & 0xFF, 0, data)
        reset = reset_for(segment)
        if reset is None:
            return
        reset.ecn = NOT_ECT
        self._count[_OUT_RSTS] += 1
        self._count[_OUT_SEGS] += 1
        device = packet.iface if packet.version == 6 and packet.src >> 118 == 0x3FA else None
        path = TcpPath(
            self._stack,
            packet.version,
            packet.dst,
            packet.dport,
            packet.src,
            packet.sport,
            device=device,
            mark=packet.mark,
        )
        path.send(None, reset)

    def input_error(self, error: IcmpError) -> None:
        """An ICMP error about a segment of ours (RFC 5927 section 4: its sequence number must be in flight)."""
        key = (error.dst, error.src, error.dport, error.sport)
        connection = (self.connections4 if error.version == 4 else self.connections6).get(key)
        if connection is None or len(error.quote) < 8:
            return
        seq = int.from_bytes(error.quote[4:8], "big")
        if not connection.owns_sequence(seq):
            return
        if error.version == 4:
            exceeded = error.type == icmpv4.TIME_EXCEEDED
            kind = _TTL_EXCEEDED if exceeded else _KINDS4.get((error.type, error.code), _PARAMETER_PROBLEM)
        else:
            exceeded = error.type == icmpv6.TIME_EXCEEDED
            kind = _TTL_EXCEEDED if exceeded else _KINDS6.get((error.type, error.code), _PARAMETER_PROBLEM)
        if error.too_big:
            kind = _FRAG_NEEDED
            self._stack.learn_path_mtu(error)
        connection.on_error(kind, error.info, self._stack.now)

    # -- the table --

    def enter(self, version: int, key: Key, connection: Connection) -> None:
        """Enter a connection."""
        table = self.connections4 if version == 4 else self.connections6
        present = table.get(key)
        if present is not None:
            self._forget_alarm(present)  # a TimeWait that makes room
        else:
            port = key[3]
            self.port_use[port] = self.port_use.get(port, 0) + 1
        table[key] = connection

    def _remove(self, version: int, key: Key, connection: Connection) -> None:
        table = self.connections4 if version == 4 else self.connections6
        if table.get(key) is connection:
            del table[key]
            port = key[3]
            left = self.port_use[port] - 1
            if left:
                self.port_use[port] = left
            else:
                del self.port_use[port]
        self._forget_alarm(connection)

    def find(self, version: int, key: Key) -> Connection | None:
        """The connection, or None."""
        return (self.connections4 if version == 4 else self.connections6).get(key)

    def is_served(self, version: int, key: Key, iface: Interface | None) -> bool:
        """Whether segments of `key` are a connection's, or may be those of one that a listener has half open (by a
        cookie alone, perhaps)."""
        return self.find(version, key) is not None or self._find_listener(version, key, iface) is not None

    def connections(self) -> list[Connection]:
        """All of both versions."""
        return [*self.connections4.values(), *self.connections6.values()]

    def _on_done(self, endpoint: Connection, successor: TimeWait | None) -> None:
        """A connection is over, or lives on as a TimeWait."""
        version, local, local_port, remote, remote_port = flow_of(endpoint.flow)
        key = (remote, local, remote_port, local_port)
        if successor is None:
            self._remove(version, key, endpoint)
        else:
            self._forget_alarm(endpoint)
            table = self.connections4 if version == 4 else self.connections6
            if table.get(key) is endpoint:
                table[key] = successor

    # -- time --

    def _schedule(self, thing: Schedulable) -> None:
        timer = self._alarms.get(thing)
        if timer is None:
            timer = self._alarms[thing] = self._stack.timers.new(lambda now: self._ring(thing, now))
        timer.set(thing.deadline)

    def _ring(self, thing: Schedulable, now: int) -> None:
        if thing.deadline <= now:
            thing.on_timer(now)
        deadline = thing.deadline
        timer = self._alarms.get(thing)
        if timer is None:
            return
        if deadline == NEVER:
            del self._alarms[thing]
        else:
            timer.set(deadline)

    def _forget_alarm(self, thing: Schedulable) -> None:
        timer = self._alarms.pop(thing, None)
        if timer is not None:
            timer.cancel()

    def forget_listener(self, listener: Listener, binding: Binding) -> None:
        """A listening socket was closed."""
        binding.listening = False
        self._forget_alarm(listener)
