"""UDP (RFC 768, RFC 1122 section 4.1, RFC 8085): sockets, and who gets which datagram.

A datagram for one host goes to the socket connected to its sender, else to the best bound one: a bound address counts
more than any, a bound interface more than none (Linux's compute_score); sockets of equal merit with SO_REUSEPORT share
by flow. One for a group or to everybody goes to all that match. No checksum (zero) is good over IPv4 and refused over
IPv6.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from struct import Struct
from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from services.netstackd.counters import COUNTER
from services.netstackd.errors import NetError
from services.netstackd.network.icmp import PORT_UNREACHABLE
from services.netstackd.network.interface import OFFLOAD_CSUM, OFFLOAD_USO
from services.netstackd.network.routes import BROADCAST, Destination
from services.netstackd.storage.packet import CSUM_PARTIAL, GSO_UDP, Packet, Payload
from services.netstackd.transport.base import AF_INET, AF_INET6, DatagramSocket, SocketAddress
from services.netstackd.transport.ports import Binding, Ports
from services.netstackd.wire.numbers import IPV4_BROADCAST, PROTO_UDP, is_multicast
from services.netstackd.wire.udp import header_checksummed, parse_udp_untrusted

if TYPE_CHECKING:
    from services.netstackd.network.icmp import IcmpError
    from services.netstackd.network.interface import Interface
    from services.netstackd.stack import Stack

MAX_PAYLOAD: Final = 65507

_HEADER: Final = Struct("!HHHH")
_IN: Final = {4: COUNTER["UdpInDatagrams"], 6: COUNTER["Udp6InDatagrams"]}
_NO_PORT: Final = {4: COUNTER["UdpNoPorts"], 6: COUNTER["Udp6NoPorts"]}
_ERRORS: Final = {4: COUNTER["UdpInErrors"], 6: COUNTER["Udp6InErrors"]}
_CSUM_ERRORS: Final = {4: COUNTER["UdpInCsumErrors"], 6: COUNTER["Udp6InCsumErrors"]}
_BUFFER_ERRORS: Final = {4: COUNTER["UdpRcvbufErrors"], 6: COUNTER["Udp6RcvbufErrors"]}
_OUT: Final = {4: COUNTER["UdpOutDatagrams"], 6: COUNTER["Udp6OutDatagrams"]}
_DROP_CHECKSUM: Final = COUNTER["DropUdpChecksum"]
_DROP_NO_PORT: Final = COUNTER["DropUdpNoPort"]

Flow = tuple[int, int, int, int]  # (source, destination, source port, destination port) of what is received


class Udp:
    """One per stack: the sockets of both versions."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self.ports = Ports(stack.rng, stack.secret)
        self._connected: dict[int, dict[Flow, UdpSocket]] = {4: {}, 6: {}}
        self._connected4 = self._connected[4]
        self._connected6 = self._connected[6]
        # Asked for datagrams to no socket that came in where any destination is accepted: whether it takes them.
        self.forwarder: Callable[[Packet], bool] | None = None

    # -- receiving --

    def input(self, packet: Packet) -> None:
        """A datagram for this host."""
        version = packet.version
        reason = parse_udp_untrusted(packet)
        if reason:
            self._count[reason] += 1
            self._count[_ERRORS[version]] += 1
            if reason == _DROP_CHECKSUM:
                self._count[_CSUM_ERRORS[version]] += 1
            return
        flow = (packet.src, packet.dst, packet.sport, packet.dport)
        socket = (self._connected4 if version == 4 else self._connected6).get(flow)
        if socket is None:
            dst = packet.dst
            if is_multicast(version, dst) or (version == 4 and self._stack.is_broadcast(dst)):
                self._input_group(packet)
                return
            forwarder, iface = self.forwarder, packet.iface
            if forwarder is not None and (iface is None or not iface.accept_any):
                forwarder = None
            if forwarder is not None and self._stack.interface_of(version, dst) is None:
                if not forwarder(packet):
                    self._no_port(packet)
                return
            socket = self.lookup(version, packet.src, dst, packet.sport, packet.dport, iface)
            if socket is None:
                if forwarder is not None and forwarder(packet):
                    return
                self._no_port(packet)
                return
        if socket.enqueue(packet):
            self._count[_IN[version]] += 1
        else:
            self._count[_BUFFER_ERRORS[version]] += 1
            self._count[_ERRORS[version]] += 1

    def _no_port(self, packet: Packet) -> None:
        """RFC 1122 section 4.1.3.1."""
        self._count[_DROP_NO_PORT] += 1
        self._count[_NO_PORT[packet.version]] += 1
        self._stack.send_unreachable(packet, PORT_UNREACHABLE)

    def _input_group(self, packet: Packet) -> None:
        """Multicast and broadcast: a copy for every socket that matches."""
        receivers = [socket for socket in self._on_port(packet) if self._matches_group(socket, packet)]
        if not receivers:
            self._count[_NO_PORT[packet.version]] += 1
            self._count[_DROP_NO_PORT] += 1
        for socket in receivers:
            # Each queue needs a packet of its own only in that nobody writes to it: they share this one.
            if socket.enqueue(packet):
                self._count[_IN[packet.version]] += 1
            else:
                self._count[_BUFFER_ERRORS[packet.version]] += 1
                self._count[_ERRORS[packet.version]] += 1

    def _on_port(self, packet: Packet) -> Iterator[UdpSocket]:
        for binding in self.ports.on(packet.dport):
            if isinstance(binding.owner, UdpSocket):
                yield binding.owner

    def _matches_group(self, socket: UdpSocket, packet: Packet) -> bool:
        binding = socket.binding
        version = packet.version
        if binding is None or not covers(binding, version, packet.dst):
            return False
        if socket.device is not None and socket.device is not packet.iface:
            return False
        if socket.remote is not None:
            remote_version, remote = socket.to_wire(socket.remote[0])
            if (remote_version, remote, socket.remote[1]) != (version, packet.src, packet.sport):
                return False
        return not is_multicast(version, packet.dst) or socket.accepts_group(packet)

    def lookup(
        self, version: int, src: int, dst: int, sport: int, dport: int, iface: Interface | None
    ) -> UdpSocket | None:
        """The socket for a datagram to one host, None when there is none."""
        best: list[UdpSocket] = []
        best_score = -1
        for binding in self.ports.on(dport):
            socket = binding.owner
            if not isinstance(socket, UdpSocket) or not covers(binding, version, dst):
                continue
            if socket.device is not None and socket.device is not iface:
                continue
            score = 0
            if socket.remote is not None:
                remote_version, remote = socket.to_wire(socket.remote[0])
                if (remote_version, remote, socket.remote[1]) != (version, src, sport):
                    continue
                score += 8
            if binding.address:
                score += 4
            if socket.device is not None:
                score += 4
            if binding.version == version:
                score += 1
            if score > best_score:
                best_score = score
                best = [socket]
            elif score == best_score:
                best.append(socket)
        if not best:
            return None
        if len(best) > 1 and best[-1].reuse_port:
            return best[hash((self._stack.flow_seed, src, dst, sport, dport)) % len(best)]
        return best[-1]  # the one bound last (SO_REUSEADDR), as Linux's list is walked

    def input_error(self, error: IcmpError) -> bool:
        """An ICMP error about a datagram that we sent; whether there is a socket that could have sent it."""
        socket = self._connected[error.version].get((error.dst, error.src, error.dport, error.sport))
        if socket is None:
            socket = self.lookup(error.version, error.dst, error.src, error.dport, error.sport, error.iface)
        if socket is None:
            return False
        socket.queue_error(error)
        return True

    # -- the sockets' side --

    def has_flow(self, flow: Flow, version: int) -> bool:
        """Whether a socket is connected so."""
        return flow in self._connected[version]

    def connect(self, socket: UdpSocket, flow: Flow, version: int) -> None:
        """Enter a connected socket."""
        self._connected[version][flow] = socket

    def disconnect(self, socket: UdpSocket, flow: Flow, version: int) -> None:
        """Take it out."""
        table = self._connected[version]
        if table.get(flow) is socket:
            del table[flow]

    def sockets(self) -> list[UdpSocket]:
        """All that are bound."""
        return [binding.owner for binding in self.ports if isinstance(binding.owner, UdpSocket)]


def covers(binding: Binding, version: int, address: int) -> bool:
    """Whether a binding takes packets of this version to this address."""
    if binding.version == version:
        return not binding.address or binding.address == address
    return binding.version == 6 and version == 4 and not binding.address and not binding.v6only


@mypyc_attr(allow_interpreted_subclasses=True)
class UdpSocket(DatagramSocket):
    """A UDP socket; see base.py for what receiving gives."""

    def __init__(self, stack: Stack, family: int, protocol: int = PROTO_UDP) -> None:
        super().__init__(stack, family, protocol)
        self.binding: Binding | None = None
        self._flow: Flow | None = None
        self._flow_version = 0
        self._way: Destination | None = None  # of the connected peer, good while the generation is
        self._source = 0
        self._generation = -1
        self.segment_size = 0  # UDP_SEGMENT
        self._local_by_connect = False

    def bind(self, address: SocketAddress) -> None:
        """bind(2); port 0 chooses one. NetError: EINVAL (bound), EADDRNOTAVAIL, EADDRINUSE."""
        self.require_open()
        if self.binding is not None:
            raise NetError(errno.EINVAL, "already bound")
        value, port, scope = address
        version, wire = self.to_wire(value)
        self._check_local(version, wire, scope)
        if version == 4 and self.family == AF_INET6 and self.v6only:
            raise NetError(errno.EINVAL, "an IPv4 address on an IPv6-only socket")
        if not self._claim(version, wire, port):
            raise NetError(errno.EADDRINUSE, f"port {port} is in use")
        self.local = value

    def _check_local(self, version: int, address: int, scope: int) -> None:
        if not address or self.freebind or is_multicast(version, address):
            return
        if version == 4 and (address == IPV4_BROADCAST or self.stack.is_broadcast(address)):
            return
        if self.stack.is_local(version, address, scope):
            return
        raise NetError(errno.EADDRNOTAVAIL, "not an address of this host")

    def _claim(self, version: int, address: int, port: int, remote: tuple[int, int] | None = None) -> bool:
        binding = Binding(
            version,
            address,
            port,
            device=self.device,
            reuse_address=self.reuse_address,
            reuse_port=self.reuse_port,
            v6only=self.v6only,
            owner=self,
        )
        ports = self.stack.udp.ports
        if not port:

            def is_free(candidate: int) -> bool:
                binding.port = candidate
                return not any(binding.overlaps(other) for other in ports.on(candidate))

            if remote is None:
                binding.port = ports.choose_any(is_free)
            else:
                binding.port = ports.choose(address, remote[0], remote[1], is_free)
            if not binding.port:
                return False
        if not ports.add(binding):
            return False
        self.binding = binding
        self.local_port = binding.port
        return True

    def _autobind(self, version: int, remote: int, port: int) -> None:
        """A socket that sends before it was bound gets a port, and any address."""
        own = 4 if self.family == AF_INET else 6
        if not self._claim(own, 0, 0, (remote, port)):
            raise NetError(errno.EAGAIN, "no port is free")

    def connect(self, address: SocketAddress | None) -> None:
        """connect(2): send there, and receive from there alone; None undoes it. NetError: ENETUNREACH and what else
        the route says, EACCES (a broadcast address without SO_BROADCAST)."""
        self.require_open()
        self._disconnect()
        if address is None:
            return
        self.remote = address
        try:
            version, destination, port, scope = self.resolve(address)
            if self.binding is None:
                self._autobind(version, destination, port)
            way = self._route(version, destination, scope)
        except NetError:
            self.remote = None
            raise
        source = way.source
        if not self.local:
            self.local = self.from_wire(version, source)
            self._local_by_connect = True
            if self.binding is not None:
                self.stack.udp.ports.move(self.binding, version, source)
        self._flow = (destination, self.local_for(version), port, self.local_port)
        self._flow_version = version
        self.stack.udp.connect(self, self._flow, version)

    def _disconnect(self) -> None:
        if self._flow is not None:
            self.stack.udp.disconnect(self, self._flow, self._flow_version)
            self._flow = None
        if self._local_by_connect:
            self._local_by_connect = False
            self.local = 0
            if self.binding is not None:
                self.stack.udp.ports.move(self.binding, self.version, 0)
        self.remote = None
        self._way = None

    def _route(self, version: int, destination: int, scope: int, source: int = 0) -> Destination:
        routing = self.stack.routing(version)
        source = source or self.local_for(version)
        if source and (is_multicast(version, source) or (version == 4 and self.stack.is_broadcast(source))):
            source = 0
        oif = self.output_device(version, destination, scope)
        flow = hash((self.stack.flow_seed, source, destination, self.local_port)) & 0xFFFFFFFF
        way = routing.output(destination, source, oif, self.mark, self.tos, flow)
        if way.error:
            raise NetError(way.error, "no route")
        if way.kind == BROADCAST and not self.broadcast:
            raise NetError(errno.EACCES, "SO_BROADCAST is not set")
        return way

    def send(
        self,
        data: Payload,
        address: SocketAddress | None = None,
        *,
        source: int = 0,
        device: Interface | None = None,
        ttl: int = 0,
        tos: int = -1,
    ) -> int:
        """sendto(2), sendmsg(2): the number of bytes sent. `source`, `device`, `ttl` and `tos` are what control
        messages
        may say (IP_PKTINFO, IP_TTL, IP_TOS). NetError: EMSGSIZE, EDESTADDRREQ, EINVAL (port 0), what routes say."""
        self.require_open()
        if self.error:
            self.raise_error()
        length = len(data)
        if length > MAX_PAYLOAD:
            raise NetError(errno.EMSGSIZE, "longer than a datagram can be")
        stack = self.stack
        usual = address is None and not source and device is None
        if usual and self._way is not None and self._generation == stack.routing(self._flow_version).generation:
            flow = self._flow
            assert flow is not None
            return self._emit(self._flow_version, self._way, self._source, flow[0], flow[2], data, ttl, tos)
        version, destination, port, scope = self.resolve(address)
        if not port:
            raise NetError(errno.EINVAL, "port 0")
        if self.binding is None:
            self._autobind(version, destination, port)
        if device is not None:
            scope = device.index
        way = self._route(version, destination, scope, source)
        src = way.source
        if self.local and not source:
            src = self.local_for(version) or src
            if is_multicast(version, src) or (version == 4 and stack.is_broadcast(src)):
                src = way.source
        if usual and self._flow is not None:
            self._way, self._source = way, src
            self._generation = stack.routing(version).generation
        return self._emit(version, way, src, destination, port, data, ttl, tos)

    def _emit(
        self, version: int, way: Destination, src: int, dst: int, port: int, data: Payload, ttl: int, tos: int
    ) -> int:
        stack = self.stack
        length = len(data)
        out = way.out
        assert out is not None
        mtu = way.mtu or 65535
        overhead = 28 + len(self.options) if version == 4 else 48
        gso_size = self.segment_size if 0 < self.segment_size < length else 0
        if gso_size and not out.offload & OFFLOAD_USO:
            return self._emit_segments(version, way, src, dst, port, data, ttl, tos)
        fits = length + overhead <= mtu or bool(gso_size)
        body: Payload | None = None
        csum = 0
        if version == 4 and self.no_check:
            transport = _HEADER.pack(self.local_port, port, length + 8, 0) + data
        elif fits and out.offload & OFFLOAD_CSUM:
            # The link sums: the field holds the pseudo header's part (RFC 768).
            pseudo = (src + dst + PROTO_UDP + length + 8) % 65535 or 65535
            transport = _HEADER.pack(self.local_port, port, length + 8, pseudo)
            body = bytes(data)
            csum = CSUM_PARTIAL
        else:
            transport = header_checksummed(src, dst, self.local_port, port, data)
            if length > 256:
                body = bytes(data)
            else:
                transport += data
        ttl = ttl or self.hop_limit(version, dst)
        tos = self.tos if tos < 0 else tos
        stack.counters.values[_OUT[version]] += 1
        if version == 4:
            wanted = self.pmtu_discover
            dont_fragment = wanted in (2, 3) or (wanted == 1 and fits)
        else:
            dont_fragment = self.dont_fragment6
        number = (stack.ipv4 if version == 4 else stack.ipv6).send(
            way,
            src,
            dst,
            PROTO_UDP,
            transport,
            body,
            ttl=ttl,
            tos=tos,
            dont_fragment=dont_fragment,
            options=self.options if version == 4 else b"",
            mark=self.mark,
            owner=self,
            loop=self.multicast_loop,
            csum=csum,
            gso_size=gso_size,
            gso_type=GSO_UDP if gso_size else 0,
        )
        if number:
            raise NetError(number, "could not be sent")
        return length

    def _emit_segments(
        self, version: int, way: Destination, src: int, dst: int, port: int, data: Payload, ttl: int, tos: int
    ) -> int:
        """UDP_SEGMENT where the link does not cut: one datagram for each piece."""
        size, self.segment_size = self.segment_size, 0
        try:
            for at in range(0, len(data), size):
                self._emit(version, way, src, dst, port, data[at : at + size], ttl, tos)
        finally:
            self.segment_size = size
        return len(data)

    def release(self) -> None:
        """See DatagramSocket."""
        self._disconnect()
        if self.binding is not None:
            self.stack.udp.ports.remove(self.binding)
            self.binding = None
