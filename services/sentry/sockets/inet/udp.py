"""SOCK_DGRAM sockets of AF_INET and AF_INET6: UDP (udp(7), RFC 768).

A datagram that nobody takes comes back as an error (ICMP port unreachable): a connected socket gets ECONNREFUSED from
its next call, one with IP_RECVERR finds it in its error queue too. A full receive buffer drops what comes, as UDP may.

What is to come from beyond this host, a provider must know of: `_tell` says who owns which port with which peer, and
`far` (netstack/datagrams.py) is what it made of that; `far.fill` delivers what came there.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.abi import fcntl_h as fc
from protocol.abi import in_h
from protocol.abi import poll_h as po
from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.abi import tcp_h as udp
from protocol.abi import time_h as tm
from protocol.abi.layout import I32, U16
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel.waiter import ANY
from services.sentry.sockets.base import READABLE, RECEIVE_SHUT, SEND_SHUT, WRITABLE, Incoming, Outgoing
from services.sentry.sockets.inet.addresses import (
    ANY4,
    ANY6,
    UNSPEC,
    Endpoint,
    full6,
    is_link_local6,
    is_multicast,
    pack4,
    parse4_untrusted,
)
from services.sentry.sockets.inet.endpoint import InetSocket
from services.sentry.sockets.inet.ip_options import IntOption, get_int, set_int
from services.sentry.sockets.inet.multicast import leave_all, outgoing_interface
from services.sentry.sockets.packet_filter import PacketView, run

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.sockets.inet.network import InetNetwork
    from services.sentry.sockets.inet.ports import PortTable
    from services.sentry.sockets.inet.provider import Route

__all__ = ["Datagram", "Header", "UdpSocket"]

#: The longest payload: 65535 less the UDP header, and over IPv4 less the IP header too.
_MAX_PAYLOAD6: Final = 65_527
_MAX_PAYLOAD4: Final = 65_507
#: What a queued datagram costs beyond its bytes (struct sk_buff).
_OVERHEAD_BYTES: Final = 768
_MAX_ERRORS: Final = 64
_BOTH: Final = RECEIVE_SHUT | SEND_SHUT
_IP: Final = in_h.IPPROTO_IP
_IPV6: Final = in_h.IPPROTO_IPV6
_LEVEL: Final = in_h.IPPROTO_UDP
_MAX_SEGMENTS: Final = 128

_OPTIONS: Final[dict[int, IntOption]] = {
    udp.UDP_NO_CHECK6_TX: IntOption(),
    udp.UDP_NO_CHECK6_RX: IntOption(),
    udp.UDP_SEGMENT: IntOption(0, 0, 0xFFFF),
    udp.UDP_GRO: IntOption(),
    udp.UDP_CORK: IntOption(),
}
_CORK: Final = (_LEVEL, udp.UDP_CORK)
_SEGMENT: Final = (_LEVEL, udp.UDP_SEGMENT)

#: struct sock_extended_err (linux/errqueue.h): ee_errno, ee_origin, ee_type, ee_code, ee_info, ee_data.
_EXTENDED_ERROR: Final = struct.Struct("<I4BII")
_ORIGIN_ICMP: Final = 2
_ORIGIN_ICMP6: Final = 3
_UNREACHABLE4: Final = (3, 3)  # destination unreachable, port (RFC 792)
_UNREACHABLE6: Final = (1, 4)  # RFC 4443


class Datagram(NamedTuple):
    """One UDP datagram. `destination`: the address it was sent to; hops: TTL or hop limit; traffic: TOS or class."""

    data: bytes
    source: Endpoint
    destination: Endpoint
    hops: int
    traffic: int
    interface: int
    stamp_ns: int = 0


class Header(NamedTuple):
    """What the control messages of a send ask for."""

    source: bytes = b""
    interface: int = 0
    hops: int = -1
    traffic: int = -1
    segment: int = 0


class UdpSocket(InetSocket):
    """`connected`: connect(2) gave it a destination; errors: the error queue; corked: what MSG_MORE holds back.

    Raw and ICMP sockets (raw.py) are made of it.
    """

    __slots__ = ("connected", "corked", "errors", "inbox", "inbox_bytes")

    pollable = True

    filters_packets = True
    #: A destination is nothing without a port.
    needs_port = True

    def __init__(
        self,
        kernel: Kernel,
        cred: Credentials,
        network: InetNetwork,
        domain: int,
        flags: int,
        *,
        ports: PortTable | None = None,
        kind: int = so.SOCK_DGRAM,
        protocol: int = in_h.IPPROTO_UDP,
    ) -> None:
        super().__init__(kernel, cred, network, ports or network.udp, domain, kind, protocol, flags)
        self.connected = False
        self.inbox: deque[Datagram] = deque()
        self.inbox_bytes = 0
        self.errors: deque[tuple[Datagram, bytes]] = deque()
        self.corked: tuple[Endpoint, bytearray] | None = None

    # --- names beyond this host ---
    def bind(self, task: Task, address: bytes) -> None:
        super().bind(task, address)
        self._tell()

    def auto_bind(self) -> None:
        if not self.owns_port:
            super().auto_bind()
            self._tell()

    def _tell(self) -> None:
        """The providers: name or peer changed. EADDRINUSE and such: the port is given back."""
        try:
            for provider in self.network.providers:
                provider.bound(self)
        except LinuxError:
            self.give_up_port()
            self.local_port = 0
            raise

    def remote_endpoint(self) -> Endpoint | None:
        """The peer; None: not connected."""
        return Endpoint(self.remote, self.remote_port, self.scope) if self.connected else None

    # --- connecting ---
    def _parse_destination(self, raw: bytes) -> Endpoint:
        """An AF_INET6 socket takes IPv4 addresses too, unless IPV6_V6ONLY forbids."""
        if self.domain == so.AF_INET6 and raw[:2] == so.SA_FAMILY.pack(so.AF_INET):
            if self.v6_only:
                raise LinuxError(errno.EAFNOSUPPORT)
            return parse4_untrusted(raw)
        return self.parse(raw)

    def connect(self, task: Task, address: bytes) -> None:
        """Set or (AF_UNSPEC) clear the default destination. ENETUNREACH; EACCES: broadcast; EINVAL, EAFNOSUPPORT."""
        if self.is_unspec(address):
            self._disconnect()
            return
        wanted = self.destination_of(self._parse_destination(address))
        super().auto_bind()
        if is_link_local6(wanted.address) and not wanted.scope and not outgoing_interface(self, 16):
            raise LinuxError(errno.EINVAL)
        way = self._way(wanted, _PLAIN)
        if not any(self.local):
            self.local = self.claim = way.source
        self.remote, self.remote_port, self.scope = wanted
        self.connected = True
        self._tell()

    def _disconnect(self) -> None:
        """What bind(2) gave stays (__udp_disconnect)."""
        self.connected = False
        self.remote = ANY4 if self.domain == so.AF_INET else ANY6
        self.remote_port = 0
        if not self.user_address:
            self.local = self.remote
            self.claim = self.claim_of(self.local)
        if not self.user_port:
            self.give_up_port()
            self.local_port = 0
        if self.far is not None:
            self.far.close()
            self.far = None
        if self.owns_port:
            self._tell()

    def peer_address(self) -> bytes:
        if not self.remote_port and (self.needs_port or not self.connected):
            raise LinuxError(errno.ENOTCONN)
        return self.pack(self.remote, self.remote_port)

    def shutdown(self, how: int) -> None:
        """shutdown(2). ENOTCONN: not connected; it takes effect all the same (inet_shutdown)."""
        self.shut |= how
        if self.queue.entries:
            self.queue.wake(ANY)
        if self.far is not None:
            self.far.shut_down(how - 1)
        if not self.connected:
            raise LinuxError(errno.ENOTCONN)

    def release(self) -> None:
        self.network.sockets[self.protocol_name] -= 1
        self.give_up_port()
        leave_all(self)
        if self.far is not None:
            self.far.close()
        self.inbox.clear()
        if self.queue.entries:
            self.queue.wake(ANY)

    # --- sending ---
    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        if count > _MAX_PAYLOAD6:
            raise LinuxError(errno.EMSGSIZE)
        return self.send(mm.read(addr, count) if count else b"", Outgoing())

    def send(self, data: bytes, message: Outgoing) -> int:
        """One datagram (udp_sendmsg). EDESTADDRREQ; EMSGSIZE; EPIPE; EACCES: broadcast; ENETUNREACH; pending errors."""
        if len(data) > 0xFFFF:
            raise LinuxError(errno.EMSGSIZE)
        if self.corked is not None:
            return self._append_corked(data, message.flags)
        wanted = self._destination(message.address)
        header = self._header(message.control) if message.control else _PLAIN
        limit = _MAX_PAYLOAD4 if len(wanted.address) == 4 else _MAX_PAYLOAD6
        if len(data) > limit:
            raise LinuxError(errno.EMSGSIZE)
        self.auto_bind()
        way = self._way(wanted, header)
        if self.error:
            raise LinuxError(self.take_error())
        if self.shut & SEND_SHUT:
            raise LinuxError(errno.EPIPE)
        if message.flags & so.MSG_MORE or self.settings.get(_CORK):
            self.corked = (wanted, bytearray(data))
            return len(data)
        segment = header.segment or self.settings.get(_SEGMENT, 0)
        if segment and len(data) > segment:
            if len(data) > segment * _MAX_SEGMENTS:
                raise LinuxError(errno.EINVAL)
            for at in range(0, len(data), segment):
                self._emit(data[at : at + segment], wanted, way, header)
        else:
            self._emit(data, wanted, way, header)
        return len(data)

    def _destination(self, raw: bytes) -> Endpoint:
        """EINVAL: port 0; EDESTADDRREQ: neither given nor connected."""
        if raw:
            if self.domain == so.AF_INET:
                wanted = parse4_untrusted(raw, unspec_any=True)
            elif raw[:2] == UNSPEC:
                return self._destination(b"")
            else:
                wanted = self._parse_destination(raw)
            if not wanted.port and self.needs_port:
                raise LinuxError(errno.EINVAL)
            return self.destination_of(wanted)
        if not self.connected:
            raise LinuxError(errno.EDESTADDRREQ)
        return Endpoint(self.remote, self.remote_port, self.scope)

    def _way(self, wanted: Endpoint, header: Header) -> Route:
        """The route, with the source address that goes with it. ENETUNREACH; EACCES: broadcast without SO_BROADCAST."""
        address = wanted.address
        interface = header.interface or wanted.scope or self.bound_interface
        if not interface and is_multicast(address):
            interface = outgoing_interface(self, len(address))
        route = self.network.route(address, interface)
        if route.kind == rt.RTN_BROADCAST and not self.options.get(so.SO_BROADCAST):
            raise LinuxError(errno.EACCES)
        source = header.source
        if not source:
            local = self.local
            if len(local) != len(address) or not any(local) or is_multicast(local):
                return route
            source = local
        return route if source == route.source else route._replace(source=source)

    def _emit(self, data: bytes, wanted: Endpoint, way: Route, header: Header) -> None:
        address = wanted.address
        multi = is_multicast(address)
        if len(address) == 4:
            hops_key = (_IP, in_h.IP_MULTICAST_TTL if multi else in_h.IP_TTL)
            class_key = (_IP, in_h.IP_TOS)
        else:
            hops_key = (_IPV6, in_h.IPV6_MULTICAST_HOPS if multi else in_h.IPV6_UNICAST_HOPS)
            class_key = (_IPV6, in_h.IPV6_TCLASS)
        settings = self.settings
        hops = header.hops if header.hops >= 0 else settings.get(hops_key, 1 if multi else 64)
        traffic = header.traffic if header.traffic >= 0 else settings.get(class_key, 0)
        source = Endpoint(way.source, self.local_port)
        datagram = Datagram(data, source, wanted, hops, traffic, way.interface.ifindex)
        counted = self.network.counted
        counted["OutDatagrams"] += 1
        if not way.provider.send(self, datagram, wanted):
            counted["NoPorts"] += 1
            self.unreachable(datagram)

    def _append_corked(self, data: bytes, flags: int) -> int:
        """MSG_MORE, UDP_CORK: the datagram grows until a send without them. EMSGSIZE."""
        assert self.corked is not None
        wanted, held = self.corked
        if len(held) + len(data) > (_MAX_PAYLOAD4 if len(wanted.address) == 4 else _MAX_PAYLOAD6):
            raise LinuxError(errno.EMSGSIZE)
        held += data
        if not flags & so.MSG_MORE and not self.settings.get(_CORK):
            self._uncork()
        return len(data)

    def _uncork(self) -> None:
        if self.corked is not None:
            wanted, held = self.corked
            self.corked = None
            self._emit(bytes(held), wanted, self._way(wanted, _PLAIN), _PLAIN)

    def _header(self, control: tuple[tuple[int, int, bytes], ...]) -> Header:
        """EINVAL: a malformed message; those of other levels are passed over (ip_cmsg_send, ip6_datagram_send_ctl)."""
        header = _PLAIN
        for level, kind, payload in control:
            if level == _IP:
                header = self._header4(header, kind, payload)
            elif level == _IPV6 and self.domain == so.AF_INET6:
                header = self._header6(header, kind, payload)
            elif level == _LEVEL and kind == udp.UDP_SEGMENT:
                if len(payload) != 2:
                    raise LinuxError(errno.EINVAL)
                header = header._replace(segment=U16.unpack(payload)[0])
        return header

    def _header4(self, header: Header, kind: int, payload: bytes) -> Header:
        if kind == in_h.IP_PKTINFO and len(payload) == in_h.IN_PKTINFO.size:
            index, source, _ = in_h.IN_PKTINFO.unpack(payload)
            return header._replace(interface=index, source=self._own(source))
        if kind == in_h.IP_TTL and len(payload) == 4 and 1 <= I32.unpack(payload)[0] <= 255:
            return header._replace(hops=I32.unpack(payload)[0])
        if kind == in_h.IP_TOS and len(payload) in (1, 4):
            return header._replace(traffic=payload[0])
        raise LinuxError(errno.EINVAL)

    def _header6(self, header: Header, kind: int, payload: bytes) -> Header:
        if kind == in_h.IPV6_PKTINFO and len(payload) >= in_h.IN6_PKTINFO.size:
            source, index = in_h.IN6_PKTINFO.unpack_from(payload)
            return header._replace(interface=index, source=self._own(source))
        if kind in (in_h.IPV6_HOPLIMIT, in_h.IPV6_2292HOPLIMIT) and len(payload) == 4:
            hops = I32.unpack(payload)[0]
            if -1 <= hops <= 255:
                return header._replace(hops=hops)
        if kind == in_h.IPV6_TCLASS and len(payload) == 4:
            traffic = I32.unpack(payload)[0]
            if -1 <= traffic <= 255:
                return header._replace(traffic=traffic)
        raise LinuxError(errno.EINVAL)

    def _own(self, source: bytes) -> bytes:
        """A source address given with a send. EINVAL: it is not this host's."""
        if not any(source):
            return b""
        if self.network.kind_of(source) != rt.RTN_LOCAL:
            raise LinuxError(errno.EINVAL)
        return source

    def unreachable(self, datagram: Datagram) -> None:
        """The provider: nobody is at the destination's port (udp_err)."""
        four = len(datagram.destination.address) == 4
        wanted = self.settings.get((_IP, in_h.IP_RECVERR) if four else (_IPV6, in_h.IPV6_RECVERR))
        if not wanted and not self.connected:
            return
        if wanted and len(self.errors) < _MAX_ERRORS:
            origin, kind = (_ORIGIN_ICMP, _UNREACHABLE4) if four else (_ORIGIN_ICMP6, _UNREACHABLE6)
            extended = _EXTENDED_ERROR.pack(errno.ECONNREFUSED, origin, *kind, 0, 0, 0)
            offender = self.pack(datagram.destination.address, 0)
            self.errors.append((datagram, extended + offender))
        self.error = errno.ECONNREFUSED
        if self.queue.entries:
            self.queue.wake(po.POLLERR)

    def error_arrived(self, extended: bytes, offender: bytes, about: Datagram) -> None:
        """The network stack: a struct sock_extended_err about a datagram, and the address of who sent it."""
        if len(self.errors) < _MAX_ERRORS:
            address = offender[:4] if len(about.destination.address) == 4 else offender
            self.errors.append((about, extended + self.pack(address, 0)))
            if not self.error:
                self.error = I32.unpack_from(extended)[0]
        if self.queue.entries:
            self.queue.wake(po.POLLERR)

    # --- receiving ---
    def _fill(self) -> None:
        """Take in what came from beyond this host, if nothing else is to be read first."""
        far = self.far
        if far is not None and far.unsure and not self.inbox:
            far.fill()

    def hears(self, group: bytes) -> bool:
        """Whether a datagram to `group` is for this socket: a member, or any's (ip_mc_sf_allow, IP_MULTICAST_ALL)."""
        if any(joined == group for joined, _ in self.groups):
            return True
        key = (_IP, in_h.IP_MULTICAST_ALL) if len(group) == 4 else (_IPV6, in_h.IPV6_MULTICAST_ALL)
        return bool(self.settings.get(key, 1)) and any(joined == group for joined, _ in self.network.groups)

    def filter_head(self, datagram: Datagram) -> bytes:
        """What a packet filter sees before the data: the UDP header."""
        length = (len(datagram.data) + 8) & 0xFFFF
        return struct.pack(">4H", datagram.source.port, datagram.destination.port, length, 0)

    def deliver(self, datagram: Datagram) -> None:
        """A datagram came. It is dropped when as much waits as SO_RCVBUF allows."""
        if self.inbox_bytes > self.receive_buffer:
            self.network.counted["RcvbufErrors"] += 1
            return
        if self.program is not None:
            head = self.filter_head(datagram)
            taken = run(self.program, PacketView(head + datagram.data))
            if not taken:
                return
            datagram = datagram._replace(data=datagram.data[: max(taken - len(head), 0)])
        self.network.counted["InDatagrams"] += 1
        if self.options.get(so.SO_TIMESTAMP) or self.options.get(so.SO_TIMESTAMPNS):
            datagram = datagram._replace(stamp_ns=self.kernel.clock.realtime_ns())
        self.inbox.append(datagram)
        self.inbox_bytes += len(datagram.data) + _OVERHEAD_BYTES
        if self.queue.entries:
            self.queue.wake(READABLE)

    def receive(self, count: int, flags: int) -> Incoming:
        """One datagram, cut to `count` (MSG_TRUNC). The pending error; WouldBlock."""
        if self.far is not None:
            self._fill()
        if flags & so.MSG_ERRQUEUE:
            return self._receive_error(count)
        if self.error:
            raise LinuxError(self.take_error())
        at = skip = 0
        if flags & so.MSG_PEEK and self.peek_offset >= 0:
            at, skip = self._peek_position()
        if at >= len(self.inbox):
            if self.shut & RECEIVE_SHUT and not (flags & so.MSG_DONTWAIT or self.flags & fc.O_NONBLOCK):
                return Incoming(b"", 0)  # only a call that would wait sees the end (__skb_wait_for_more_packets)
            raise WouldBlock
        datagram = self.inbox[at]
        data = datagram.data[skip:] if skip else datagram.data
        if not flags & so.MSG_PEEK:
            self.inbox.popleft()
            self.inbox_bytes -= len(data) + _OVERHEAD_BYTES
            if self.peek_offset > 0:
                self.peek_offset = max(self.peek_offset - len(data), 0)
        elif self.peek_offset >= 0:
            self.peek_offset += min(len(data), count)
        source = datagram.source
        control = self._control(datagram) if self.settings or datagram.stamp_ns else ()
        marks = so.MSG_TRUNC if len(data) > count else 0
        return Incoming(data[:count], len(data), self.pack(source.address, source.port), flags=marks, control=control)

    def _peek_position(self) -> tuple[int, int]:
        """(index, offset in it) that SO_PEEK_OFF points at."""
        skip = self.peek_offset
        for index, datagram in enumerate(self.inbox):
            if skip < len(datagram.data) or (not skip and not datagram.data):
                return index, skip
            skip -= len(datagram.data)
        return len(self.inbox), 0

    def _receive_error(self, count: int) -> Incoming:
        """MSG_ERRQUEUE: the datagram that failed, with its destination and struct sock_extended_err. EAGAIN."""
        if not self.errors:
            raise LinuxError(errno.EAGAIN)
        datagram, extended = self.errors.popleft()
        self.error = I32.unpack_from(self.errors[0][1])[0] if self.errors else 0  # sock_dequeue_err_skb
        destination = datagram.destination
        level, kind = (_IP, in_h.IP_RECVERR) if self.domain == so.AF_INET else (_IPV6, in_h.IPV6_RECVERR)
        marks = so.MSG_ERRQUEUE | (so.MSG_TRUNC if len(datagram.data) > count else 0)
        return Incoming(
            datagram.data[:count],
            len(datagram.data),
            self.pack(destination.address, destination.port),
            flags=marks,
            control=((level, kind, extended),),
        )

    def _control(self, datagram: Datagram) -> tuple[tuple[int, int, bytes], ...]:
        """The control messages that were asked for (ip_cmsg_recv, ip6_datagram_recv_ctl)."""
        found: list[tuple[int, int, bytes]] = []
        if datagram.stamp_ns:
            seconds, rest = divmod(datagram.stamp_ns, tm.NSEC_PER_SEC)
            if self.options.get(so.SO_TIMESTAMPNS):
                found.append((so.SOL_SOCKET, so.SCM_TIMESTAMPNS, tm.TIMESPEC.pack(seconds, rest)))
            else:
                stamp = tm.TIMEVAL.pack(seconds, rest // tm.NSEC_PER_USEC)
                found.append((so.SOL_SOCKET, so.SCM_TIMESTAMP, stamp))
        get = self.settings.get
        destination = datagram.destination
        address = destination.address
        if len(address) == 4:
            if get((_IP, in_h.IP_PKTINFO)):
                own = address if self.network.kind_of(address) == rt.RTN_LOCAL else b"\x7f\0\0\1"
                found.append((_IP, in_h.IP_PKTINFO, in_h.IN_PKTINFO.pack(datagram.interface, own, address)))
            if get((_IP, in_h.IP_RECVTTL)):
                found.append((_IP, in_h.IP_TTL, I32.pack(datagram.hops)))
            if get((_IP, in_h.IP_RECVTOS)):
                found.append((_IP, in_h.IP_TOS, bytes((datagram.traffic,))))
            if get((_IP, in_h.IP_RECVORIGDSTADDR)):
                found.append((_IP, in_h.IP_ORIGDSTADDR, pack4(address, destination.port)))
        if self.domain == so.AF_INET6:
            if get((_IPV6, in_h.IPV6_RECVPKTINFO)):
                info = in_h.IN6_PKTINFO.pack(full6(address), datagram.interface)
                found.append((_IPV6, in_h.IPV6_PKTINFO, info))
            if len(address) == 16:
                if get((_IPV6, in_h.IPV6_RECVHOPLIMIT)):
                    found.append((_IPV6, in_h.IPV6_HOPLIMIT, I32.pack(datagram.hops)))
                if get((_IPV6, in_h.IPV6_RECVTCLASS)):
                    found.append((_IPV6, in_h.IPV6_TCLASS, I32.pack(datagram.traffic)))
                # What RFC 2292 called them: ping(8) still asks so.
                if get((_IPV6, in_h.IPV6_2292PKTINFO)):
                    info = in_h.IN6_PKTINFO.pack(address, datagram.interface)
                    found.append((_IPV6, in_h.IPV6_2292PKTINFO, info))
                if get((_IPV6, in_h.IPV6_2292HOPLIMIT)):
                    found.append((_IPV6, in_h.IPV6_2292HOPLIMIT, I32.pack(datagram.hops)))
        return tuple(found)

    # --- readiness and options ---
    def poll(self) -> int:
        """As udp_poll and datagram_poll: within this host sending never waits: what is sent is delivered or dropped."""
        bits = WRITABLE
        if self.far is not None:
            self._fill()
            if self.far.blocked:
                bits = 0
        if self.inbox:
            bits |= READABLE
        if self.error or self.errors:
            bits |= po.POLLERR
        if self.shut:
            if self.shut == _BOTH:
                bits |= po.POLLHUP
            if self.shut & RECEIVE_SHUT:
                bits |= READABLE | po.POLLRDHUP
        return bits

    def get_option(self, task: Task, level: int, name: int) -> bytes:
        if level != _LEVEL:
            return super().get_option(task, level, name)
        row = _OPTIONS.get(name)
        if row is None:
            if name == udp.UDP_ENCAP:
                return I32.pack(0)
            raise LinuxError(errno.ENOPROTOOPT)
        return get_int(self, (level, name), row)

    def set_option(self, task: Task, level: int, name: int, value: bytes) -> None:
        """At level IPPROTO_UDP beside the rest: UDP_CORK, UDP_SEGMENT. EINVAL; ENOPROTOOPT."""
        if level != _LEVEL:
            super().set_option(task, level, name, value)
            return
        if len(value) < 4:
            raise LinuxError(errno.EINVAL)
        row = _OPTIONS.get(name)
        number = int(I32.unpack_from(value)[0])
        if row is None:
            if name == udp.UDP_ENCAP and not number:
                return
            raise LinuxError(errno.ENOPROTOOPT)
        set_int(task, self, (level, name), row, number)
        if name == udp.UDP_CORK and not number:
            self._uncork()

    def unread_bytes(self) -> int:
        """The length of the next datagram."""
        self._fill()
        return len(self.inbox[0].data) if self.inbox else 0

    def unsent_bytes(self) -> int:
        return int(self.far.unsent_bytes()) if self.far is not None else 0


_PLAIN: Final = Header()
