"""What all sockets have in common: readiness, errors, options, and the queue of received datagrams.

A socket address is (address, port, scope): the address an int of the socket's own family (an IPv6 socket speaks to IPv4
in mapped addresses, ::ffff:a.b.c.d), the scope an interface index or 0. Methods never wait: they raise `WouldBlock`,
and `subscribe` tells of readiness. A subscriber is called with the poll bits that may newly hold, possibly while a
batch is being worked through: it must only note that there is something to look at.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from select import POLLERR, POLLHUP, POLLIN, POLLOUT
from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from services.netstackd.counters import COUNTER
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.network.routes import BROADCAST, Destination
from services.netstackd.storage.packet import Packet

if TYPE_CHECKING:
    from services.netstackd.network.icmp import IcmpError
    from services.netstackd.network.interface import Interface
    from services.netstackd.network.multicast import Multicast
    from services.netstackd.stack import Stack

AF_UNSPEC: Final = 0
AF_INET: Final = 2
AF_INET6: Final = 10
AF_PACKET: Final = 17
SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SOCK_RAW: Final = 3

MSG_OOB: Final = 0x01
MSG_PEEK: Final = 0x02
MSG_DONTROUTE: Final = 0x04
MSG_TRUNC: Final = 0x20
MSG_ERRQUEUE: Final = 0x2000

SHUT_RD: Final = 0
SHUT_WR: Final = 1
SHUT_RDWR: Final = 2

DEFAULT_BUFFER: Final = 212992  # net.core.rmem_default, wmem_default
MAX_BUFFER: Final = 212992  # net.core.rmem_max, wmem_max: doubled like Linux's when set
MIN_BUFFER: Final = 2304
OVERHEAD: Final = 512  # charged to the receive buffer for each datagram beside its bytes
ERROR_QUEUE_LIMIT: Final = 64

# Origins of an extended error (linux/errqueue.h).
ORIGIN_LOCAL: Final = 1
ORIGIN_ICMP: Final = 2
ORIGIN_ICMP6: Final = 3

MAPPED: Final = 0xFFFF << 32

SocketAddress = tuple[int, int, int]
Subscriber = Callable[["Socket", int], None]

_OVERFLOW: Final = COUNTER["DropSocketReceiveBuffer"]

# Levels and names of options that are not options of one protocol.
SOL_IP: Final = 0
SOL_SOCKET: Final = 1
SOL_TCP: Final = 6
SOL_UDP: Final = 17
SOL_IPV6: Final = 41
SOL_RAW: Final = 255
SOL_PACKET: Final = 263
SOL_ICMPV6: Final = 58


class Message:
    """What a receive call gives. `packet` has the rest: time to live, interface, class."""

    __slots__ = ("address", "data", "error", "flags", "packet")

    def __init__(self, data: bytes, address: SocketAddress | None, flags: int, packet: Packet | None) -> None:
        self.data = data
        self.address = address
        self.flags = flags
        self.packet = packet
        self.error: ExtendedError | None = None


class ExtendedError:
    """struct sock_extended_err and the address of who said it."""

    __slots__ = ("code", "errno", "info", "offender", "origin", "type")

    def __init__(self, number: int, origin: int, kind: int, code: int, info: int, offender: int) -> None:
        self.errno = number
        self.origin = origin
        self.type = kind
        self.code = code
        self.info = info
        self.offender = offender


@mypyc_attr(allow_interpreted_subclasses=True)
class Socket:
    """The part that every kind shares."""

    type = SOCK_DGRAM

    def __init__(self, stack: Stack, family: int, protocol: int) -> None:
        self.stack = stack
        self.family = family
        self.version = 4 if family == AF_INET else 6
        self.protocol = protocol
        self.closed = False
        self.error = 0  # SO_ERROR
        self.device: Interface | None = None  # SO_BINDTODEVICE
        self.mark = 0
        self.priority = 0
        self.rcvbuf = DEFAULT_BUFFER
        self.sndbuf = DEFAULT_BUFFER
        self.reuse_address = False
        self.reuse_port = False
        self._subscriber: Subscriber | None = None

    def subscribe(self, subscriber: Subscriber | None) -> None:
        """Be told of readiness: `subscriber(socket, poll bits)`. One at a time; None for nobody."""
        self._subscriber = subscriber

    def wake(self, mask: int) -> None:
        """Tell the subscriber."""
        if self._subscriber is not None:
            self._subscriber(self, mask)

    def take_error(self) -> int:
        """SO_ERROR: the pending error, forgotten with that."""
        number, self.error = self.error, 0
        return number

    def raise_error(self) -> None:
        """Raise the pending error, if there is one."""
        if self.error:
            raise NetError(self.take_error(), "pending error")

    def require_open(self) -> None:
        """NetError: EBADF after close."""
        if self.closed:
            raise NetError(errno.EBADF, "the socket is closed")

    def poll(self) -> int:
        """What holds now, as poll(2) says it."""
        raise NotImplementedError

    def close(self) -> None:
        """Give up everything. A second time does nothing."""
        raise NotImplementedError

    def from_wire(self, version: int, address: int) -> int:
        """An address of a packet as this socket's family writes it."""
        return MAPPED | address if version == 4 and self.family == AF_INET6 else address

    def to_wire(self, address: int) -> tuple[int, int]:
        """(version, address) of an address that this socket was given."""
        if self.family == AF_INET:
            return 4, address
        if address >> 32 == 0xFFFF:
            return 4, address & 0xFFFFFFFF
        return 6, address


@mypyc_attr(allow_interpreted_subclasses=True)
class DatagramSocket(Socket):
    """A socket with a queue of received packets: UDP, ping, raw."""

    def __init__(self, stack: Stack, family: int, protocol: int) -> None:
        super().__init__(stack, family, protocol)
        self.local = 0  # as its family writes it
        self.local_port = 0
        self.remote: SocketAddress | None = None
        self.queue: deque[Packet] = deque()
        self.queued = 0  # bytes charged
        self.errors: deque[Message] = deque()
        self.shut_read = False
        self.shut_write = False
        self.dropped = 0  # SO_RXQ_OVFL
        # IP level
        self.tos = 0
        self.ttl = -1  # -1: the default
        self.multicast_ttl = 1
        self.multicast_loop = True
        self.multicast_device: Interface | None = None
        self.multicast_all = True
        self.broadcast = False
        self.pmtu_discover = 1  # IP_PMTUDISC_WANT
        self.receive_errors = False  # IP_RECVERR
        self.receive_errors6 = False
        self.receive_info = False  # IP_PKTINFO, IPV6_RECVPKTINFO
        self.receive_ttl = False
        self.receive_tos = False
        self.v6only = False
        self.dont_fragment6 = False
        self.options = b""  # IP_OPTIONS
        self.freebind = False
        self.no_check = False
        # (interface index, version, group): (exclude, sources)
        self.memberships: dict[tuple[int, int, int], tuple[bool, frozenset[int]]] = {}

    def poll(self) -> int:
        """See Socket. There is always room to send: what does not fit a link's queue is dropped there."""
        mask = POLLOUT
        if self.queue or self.shut_read:
            mask |= POLLIN
        if self.error or self.errors:
            mask |= POLLERR
        if self.shut_read and self.shut_write:
            mask |= POLLHUP
        return mask

    # -- receiving --

    def enqueue(self, packet: Packet) -> bool:
        """Queue a packet whose `payload` and `end` say what the user is to get; False when there is no room."""
        cost = packet.end - packet.payload + OVERHEAD
        if self.queued + cost > self.rcvbuf or self.shut_read:
            self.stack.counters.values[_OVERFLOW] += 1
            self.dropped += 1
            return False
        self.queued += cost
        self.queue.append(packet)
        if self._subscriber is not None:
            self._subscriber(self, POLLIN)
        return True

    def receive(self, limit: int = 65536, flags: int = 0) -> Message:
        """The next datagram, cut to `limit` bytes (then flags has MSG_TRUNC). WouldBlock: there is none.

        MSG_PEEK leaves it; MSG_ERRQUEUE takes from the queue of errors instead.
        """
        if flags & MSG_ERRQUEUE:
            if not self.errors:
                raise WouldBlock("no error is queued")
            return self.errors.popleft()
        if self.error:
            self.raise_error()
        queue = self.queue
        if not queue:
            if self.shut_read:
                return Message(b"", None, 0, None)
            raise WouldBlock("nothing to read")
        if flags & MSG_PEEK:
            packet = queue[0]
        else:
            packet = queue.popleft()
            self.queued -= packet.end - packet.payload + OVERHEAD
        start, end = packet.payload, packet.end
        cut = 0
        if end - start > limit:
            end = start + limit
            cut = MSG_TRUNC
        data = bytes(memoryview(packet.head)[start:end])
        return Message(data, self.source_of(packet), cut, packet)

    def source_of(self, packet: Packet) -> SocketAddress:
        """Who sent a packet."""
        src = packet.src
        version = packet.version
        iface = packet.iface
        scope = iface.index if iface is not None and version == 6 and src >> 118 == 0x3FA else 0
        return (self.from_wire(version, src), packet.sport, scope)

    def queue_error(self, error: IcmpError) -> None:
        """An ICMP error about a packet of ours (ip(7) IP_RECVERR): queued when asked for, else only fatal ones of a
        connected socket become its pending error."""
        wanted = self.receive_errors if error.version == 4 else self.receive_errors6
        fatal = error.fatal or (error.errno == errno.EMSGSIZE and self.pmtu_discover > 0)
        if wanted:
            message = Message(error.payload, (self.from_wire(error.version, error.dst), error.dport, 0), 0, None)
            local = error.iface is None and error.errno == errno.EMSGSIZE
            origin = ORIGIN_LOCAL if local else ORIGIN_ICMP if error.version == 4 else ORIGIN_ICMP6
            offender = self.from_wire(error.version, error.offender)
            message.error = ExtendedError(error.errno, origin, error.type, error.code, error.info, offender)
            if len(self.errors) < ERROR_QUEUE_LIMIT:
                self.errors.append(message)
        elif self.remote is None or not fatal:
            return
        self.error = error.errno
        self.wake(POLLERR)

    # -- helpers for sending --

    def resolve(self, address: SocketAddress | None) -> tuple[int, int, int, int]:
        """(version, destination, port, scope) of a send. NetError: EDESTADDRREQ, ENETUNREACH (a mapped address with
        IPV6_V6ONLY), EPIPE."""
        if self.shut_write:
            raise NetError(errno.EPIPE, "shut down for writing")
        target = address if address is not None else self.remote
        if target is None:
            raise NetError(errno.EDESTADDRREQ, "no destination")
        value, port, scope = target
        version, destination = self.to_wire(value)
        if version == 4 and self.family == AF_INET6 and self.v6only:
            raise NetError(errno.ENETUNREACH, "an IPv4 destination on an IPv6-only socket")
        if destination == 0:  # "this host": Linux sends it to loopback
            destination = 0x7F000001 if version == 4 else 1
        return version, destination, port, scope

    def output_device(self, version: int, destination: int, scope: int) -> Interface | None:
        """The interface that a packet must leave by, or None when the routes decide."""
        if self.device is not None:
            return self.device
        if scope:
            return self.stack.interfaces.get(scope)
        group = destination >> 28 == 0xE if version == 4 else destination >> 120 == 0xFF
        return self.multicast_device if group else None

    def local_for(self, version: int) -> int:
        """The bound address as `version` writes it, 0 when none of that version is bound."""
        if not self.local:
            return 0
        own, address = self.to_wire(self.local)
        return address if own == version else 0

    def hop_limit(self, version: int, destination: int) -> int:
        """The time to live for a destination, -1 for the default."""
        group = destination >> 28 == 0xE if version == 4 else destination >> 120 == 0xFF
        if group:
            return self.multicast_ttl
        return self.ttl if self.ttl > 0 else -1

    def way_to(self, address: SocketAddress | None, source: int, device: Interface | None) -> tuple[Destination, int]:
        """(the way to a destination of this socket's own version, that destination). NetError: see `resolve`; EINVAL
        (the other version), EACCES (a broadcast address without SO_BROADCAST), what routes say."""
        version, destination, _, scope = self.resolve(address)
        if version != self.version:
            raise NetError(errno.EINVAL, "the destination is of the other version")
        oif = device or self.output_device(version, destination, scope)
        way = self.stack.routing(version).output(destination, source or self.local, oif, self.mark, self.tos)
        if way.error:
            raise NetError(way.error, "no route")
        if way.kind == BROADCAST and not self.broadcast:
            raise NetError(errno.EACCES, "SO_BROADCAST is not set")
        return way, destination

    def send_message(self, way: Destination, dst: int, proto: int, message: bytes, ttl: int, tos: int) -> int:
        """Hand a message to IP as the socket's options want it sent; 0 or an errno."""
        if self.version == 4:
            options, dont_fragment = self.options, self.pmtu_discover in (2, 3)
        else:
            options, dont_fragment = b"", self.dont_fragment6
        return self.stack.ip(self.version).send(
            way,
            way.source,
            dst,
            proto,
            message,
            ttl=ttl,
            tos=tos,
            dont_fragment=dont_fragment,
            options=options,
            mark=self.mark,
            owner=self,
            loop=self.multicast_loop,
        )

    # -- multicast --

    def join(self, version: int, group: int, iface: Interface) -> None:
        """Become a member of a group. NetError: EADDRINUSE (is one), ENOBUFS."""
        key = (iface.index, version, group)
        if key in self.memberships:
            raise NetError(errno.EADDRINUSE, "already a member")
        self._set_membership(key, iface, (True, frozenset()))

    def leave(self, version: int, group: int, iface: Interface) -> None:
        """No longer be a member. NetError: EADDRNOTAVAIL."""
        key = (iface.index, version, group)
        if key not in self.memberships:
            raise NetError(errno.EADDRNOTAVAIL, "not a member")
        del self.memberships[key]
        self._multicast(version).leave(iface, group, self)

    def change_source(
        self, version: int, group: int, iface: Interface, source: int, *, allow: bool, any_source: bool
    ) -> None:
        """Block or unblock a source of an any-source membership, or add or drop one of a source-specific membership
        (RFC 3678 section 4.1.2 and 4.1.3). NetError: EINVAL, EADDRNOTAVAIL."""
        key = (iface.index, version, group)
        present = self.memberships.get(key)
        if any_source:
            if present is None or not present[0]:
                raise NetError(errno.EINVAL, "not a member for any source")
            if (source in present[1]) != allow:
                raise NetError(errno.EADDRNOTAVAIL, "the source is in that state")
            changed = present[1] - {source} if allow else present[1] | {source}
            self._set_membership(key, iface, (True, changed))
            return
        if present is not None and present[0]:
            raise NetError(errno.EINVAL, "a member for any source")
        sources = present[1] if present is not None else frozenset()
        if (source in sources) == allow:
            raise NetError(errno.EADDRNOTAVAIL, "the source is in that state")
        changed = sources | {source} if allow else sources - {source}
        if changed:
            self._set_membership(key, iface, (False, changed))
        else:
            self.leave(version, group, iface)

    def _set_membership(self, key: tuple[int, int, int], iface: Interface, wanted: tuple[bool, frozenset[int]]) -> None:
        if not self._multicast(key[1]).join(iface, key[2], self, wanted):
            raise NetError(errno.ENOBUFS, "too many groups on the interface")
        self.memberships[key] = wanted

    def _multicast(self, version: int) -> Multicast:
        return self.stack.multicast4 if version == 4 else self.stack.multicast6

    def accepts_group(self, packet: Packet) -> bool:
        """Whether a multicast packet is for this socket: by its own membership, or (IP_MULTICAST_ALL) by anybody's."""
        iface = packet.iface
        if iface is None:
            return True
        wanted = self.memberships.get((iface.index, packet.version, packet.dst))
        if wanted is None:
            return self.multicast_all
        exclude, sources = wanted
        return (packet.src in sources) != exclude

    def leave_all(self) -> None:
        """Give up every membership."""
        for index, version, group in list(self.memberships):
            iface = self.stack.interfaces.get(index)
            if iface is not None:
                self._multicast(version).leave(iface, group, self)
        self.memberships.clear()

    def shutdown(self, how: int) -> None:
        """shutdown(2). NetError: ENOTCONN."""
        if self.remote is None:
            raise NetError(errno.ENOTCONN, "not connected")
        self.shut_read = self.shut_read or how in (SHUT_RD, SHUT_RDWR)
        self.shut_write = self.shut_write or how in (SHUT_WR, SHUT_RDWR)
        self.wake(POLLIN | POLLOUT)

    def connect(self, address: SocketAddress | None) -> None:
        """connect(2): send there when nothing else is said, and receive from there alone; None undoes it."""
        self.require_open()
        self.remote = address

    def close(self) -> None:
        """See Socket."""
        if self.closed:
            return
        self.closed = True
        self.release()
        self.leave_all()
        self.queue.clear()
        self.wake(POLLIN | POLLOUT)

    def release(self) -> None:
        """Give up what others find this socket by (called once, by `close`)."""
        raise NotImplementedError

    def name(self) -> SocketAddress:
        """getsockname(2)."""
        return (self.local, self.local_port, 0)

    def peer(self) -> SocketAddress:
        """getpeername(2). NetError: ENOTCONN."""
        if self.remote is None:
            raise NetError(errno.ENOTCONN, "not connected")
        return self.remote
