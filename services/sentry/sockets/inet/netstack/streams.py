"""What stands for a TCP socket at the socket service: an id, and, once connected, a host socket that carries the bytes.

The host socket is watched edge-triggered and once, so an idle connection costs nothing and a busy one no call of its
own to watch it: `unsure` says that there may be something to read, until a read found less than it asked for. What
poll(2) must know exactly, `look` finds out by reading ahead into the socket's inbox. Only a writer that found no room
has the host tell when there is some.

An end of file is a FIN, unless `error` on the control connection, which is read first, says otherwise. Urgent bytes
come by the control connection with their place in the stream; `urgent_at` is the place of one that was not reached yet.

A connection that a listener accepted is *carried* at first: it has no host socket, and what it moves is in messages
(`arrived`, `send_carried`). When that is more than a little, or has become a conversation, a host socket is asked for
(`leave_messages`).

A connection that turns out to be busy is given rings (stream_rings.py): then its bytes come and go through shared
memory, and the host socket only says that there is something to look at, and the end.
"""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING, Any, Final

from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from protocol.abi import tcp_h as tcp
from protocol.abi.fcntl_h import O_NONBLOCK
from protocol.errors import ProtocolViolation
from protocol.netstack.messages import MAX_OFFSET, MIN_SERVER_ID, SHUT_WR
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.files.ring_end import RingEnd, is_alone
from services.sentry.sockets.base import READABLE, SEND_SHUT
from services.sentry.sockets.inet.netstack.carried_stream import CarriedStream
from services.sentry.sockets.inet.netstack.channel_unsafe import (
    shut_down_writing,
    unread_bytes,
    unsent_bytes,
    wait_for,
)
from services.sentry.sockets.inet.netstack.options import forward_all, forward_group, forward_option
from services.sentry.sockets.inet.netstack.stream_rings import (
    BUSY_BYTES,
    BUSY_READS,
    RX_BYTES,
    RX_PLACE,
    StreamRings,
)
from services.sentry.sockets.inet.netstack.tcp_info import number_of, pack_untrusted

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.sockets.inet.addresses import Endpoint
    from services.sentry.sockets.inet.netstack.provider import NetstackProvider
    from services.sentry.sockets.inet.tcp import TcpSocket

__all__ = ["FarStream", "open_stream"]

_TCP: Final = 6
_NODELAY: Final = (_TCP, tcp.TCP_NODELAY)
_AT_ONCE: Final = 536  # bytes that are one segment anywhere (RFC 9293 3.7.1)
_READ_AHEAD: Final = 65_536
_MAX_READ: Final = 1 << 20
_EDGE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_COMING: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_ENDS: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_WRITABLE: Final = po.POLLOUT | po.POLLWRNORM
#: So much is written before the host is asked whether there is room: less than its smallest default buffer holds, with
#: what it counts beside the bytes of each write.
_UNASKED_BYTES: Final = 98_304
_WRITE_OVERHEAD: Final = 1024
_DOORBELLS: Final = 4096  # read at once


def open_stream(provider: NetstackProvider, number: int, socket: TcpSocket, family: int, name: str = "bind") -> None:
    """Ask for a stream socket with the options that `socket` has, bound to its address and port; or, with "prefer" for
    `name`, to connect from there if it can. Not written yet."""
    provider.notify("open", number, family, so.SOCK_STREAM, _TCP)
    forward_all(provider, number, socket, family)
    provider.notify(name, number, [socket.local if any(socket.local) else b"", socket.local_port, socket.scope])


class FarEnd(RingEnd):
    """What a guest's stub may do by itself with the rings of a connection."""

    __slots__ = ("far", "rings")

    def __init__(self, far: FarStream, rings: StreamRings) -> None:
        super().__init__(rings.fd, rings.length, RX_PLACE, rings.tx_place(), True)
        self.far = far
        self.rings = rings

    def moved(self) -> None:
        self.far.stub_moved()

    def withdrawn(self) -> None:
        """Whoever uses the rings takes the positions over first."""
        self.rings.wake_sleeper()

    def may_wait(self) -> bool:
        return not self.far.socket.receive_timeout_ns

    def watched(self) -> None:
        self.far.socket.dissolve()  # an edge is due for all that comes, and a stub that reads asks for none


class FarStream(CarriedStream):
    """A connection. fd: the host socket, -1 before and after; received, sent: bytes of the stream that came and went.

    alive: it may still carry data; closed: the service was told that its id is not needed any more. carried: its bytes
    come and go in messages, of which there were `messages`; leaving: that is to end soon.
    """

    __slots__ = ()

    def __init__(self, provider: NetstackProvider, socket: TcpSocket, number: int = 0) -> None:
        super().__init__(provider, socket, number)
        if number:
            provider.sockets[number] = self
        else:
            self.number = provider.new_id(self)
        socket.far = self

    # --- beginning ---
    def connect(self, destination: Endpoint) -> None:
        """Ask for the connection; `connected` or `failed` follows."""
        family = so.AF_INET if len(destination.address) == 4 else so.AF_INET6
        # A port that no program asked for need not be free out there: a connection that we have forgotten may have it,
        # or one of the host's own.
        open_stream(self.provider, self.number, self.socket, family, "bind" if self.socket.user_port else "prefer")
        self.provider.notify("connect", self.number, list(destination))

    def connected(self, local: Endpoint, fd: int) -> None:
        """The service: it stands."""
        socket = self.socket
        if self.fd >= 0 or not self.alive or socket.state != tcp.TCP_SYN_SENT:
            os.close(fd)
            return
        if not self.provider.accepts(fd, so.SOCK_STREAM):
            return
        self.take(fd)
        if local.port and local.port != socket.local_port:
            socket.renamed(local.port)
        socket.established(None)

    def take(self, fd: int) -> None:
        """The host socket of the connection."""
        self.fd = fd
        self.unsure = True
        host_poll = self.socket.kernel.host_poll
        if host_poll is not None:
            host_poll.watch(fd, _EDGE, self._ready)

    # --- news ---
    def _ready(self, bits: int) -> None:
        """host_poll's callback."""
        if self.fd < 0:
            return
        socket = self.socket
        woken = 0
        if bits & _COMING:
            self.unsure = True
            woken = READABLE
            if self.rings is not None and self.received >= self.rings.delivered:
                woken |= self._hear(self.rings)
            if bits & _ENDS and not self.ending:
                self._end(0, bits)
            if self.urgent_at >= 0:
                self.fill(_MAX_READ)  # on to its place, and so to POLLPRI
        if self.blocked and bits & (select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR):
            self.blocked = socket.no_space = False
            self.unasked = 0
            if self.fd >= 0:
                socket.kernel.host_poll.watch(self.fd, _EDGE, self._ready)
            woken |= _WRITABLE
        if woken and socket.queue.entries:
            socket.queue.wake(woken)

    def _hear(self, rings: StreamRings) -> int:
        """The doorbell rang: it is taken off, and the bit is returned if somebody waited for the room that there is."""
        try:
            os.read(self.fd, _DOORBELLS)
        except OSError:  # nothing, or a reset, which `_end` looks into
            pass
        self._adopt(rings)
        if not self.blocked or not self._has_ring_room(rings):
            return 0
        self.blocked = self.socket.no_space = False
        return _WRITABLE

    def _end(self, error: int = 0, bits: int = -1) -> None:
        """The other side sends no more; the control connection, or else `error`, says if that is more than a FIN. bits:
        those of the host socket, as they were just now."""
        self.ending = True
        client = self.provider.client
        if client is not None:
            client.receive()
        socket = self.socket
        if self.alive and not error and not socket.shut & SEND_SHUT and self._has_hung_up(bits):
            error = errno.ECONNRESET
        if self.alive and error:
            self.failed(error)
        elif self.alive and socket.state != tcp.TCP_CLOSE and not socket.done:
            socket.fin_arrived()

    def _has_hung_up(self, bits: int) -> bool:
        """Whether the other end of the host socket is closed, as its poll(2) `bits` say (-1: look). A FIN leaves it
        half open, and what else ends a connection is told first: so this is the service's death, of which the control
        connection, closed a moment later, does not tell yet.
        """
        return bool((wait_for(self.fd, 0, 0) if bits < 0 else bits) & select.POLLHUP)

    def failed(self, error: int) -> None:
        """The service: it was refused, or is dead. What came before can still be read."""
        if not self.alive:
            return
        self.alive = False
        self.socket.reset(error)
        if self.fd < 0:
            self.close()

    def lost(self) -> None:
        """The service is gone, and with it the connection."""
        self.closed = True
        self.failed(errno.ENETUNREACH if self.socket.state == tcp.TCP_SYN_SENT else errno.ECONNRESET)

    def gone(self) -> None:
        """The last trace at the service is over but for TIME_WAIT."""
        self.closed = True
        socket = self.socket
        if socket.record is not None:
            socket.network.other_side_ended(socket.record)
        if not socket.dead:
            self.failed(errno.ECONNRESET)
        self.alive = False
        socket.queue.wake()

    # --- reading ---
    def fill(self, count: int) -> None:
        """Put what came into the inbox, about `count` bytes at most."""
        if not self.unsure or self.fd < 0:
            return
        self.socket.dissolve()  # what comes behind the inbox is not to be read before it
        limit = min(max(count, _READ_AHEAD), _MAX_READ)
        if self.urgent_at >= 0:
            limit = min(limit, self.urgent_at - self.received)
        data = self._read(limit)
        if data:
            self.socket.inbox.append(data)
            self.socket.inbox_bytes += len(data)
            if self.received == self.urgent_at:
                self._place_urgent()

    def has_arrived(self) -> bool:
        """Whether there is something to read, without reading ahead; where there are no rings, by reading ahead."""
        rings = self.rings
        if rings is None or self.received < rings.delivered or self.urgent_at >= 0 or self.socket.inbox:
            self.fill(1)
            return False
        self._adopt(rings)
        try:
            if rings.has_arrived():
                return True
        except ProtocolViolation:
            self._violated()
        self.unsure = False
        return False

    def _read(self, limit: int) -> bytes:
        """What came, up to `limit` bytes; b"": nothing now, or no more ever."""
        rings = self.rings
        if rings is not None:
            if self.received >= rings.delivered:
                return self._take(rings, limit)
            limit = min(limit, rings.delivered - self.received)
        try:
            data = os.read(self.fd, limit)
        except BlockingIOError:
            self.unsure = False
            return b""
        except OSError as error:  # the reason is on the control connection, if it has one
            self.unsure = False
            if not self.ending:
                self._end(error.errno or errno.ECONNRESET)
            return b""
        if not data:
            self.unsure = False
            if not self.ending:
                self._end()
            return b""
        if len(data) < limit and not self.ending and rings is None:
            self.unsure = False  # more would be an edge
        self.received += len(data)
        if self.received >= BUSY_BYTES and not self.tried:
            self._ask_for_rings()
        return data

    def _take(self, rings: StreamRings, limit: int) -> bytes:
        """As `_read`, from the ring."""
        self._adopt(rings)
        try:
            data = rings.take(limit)
            if data:
                self.received += len(data)
                rings.ring_for_room(self.fd)
                return data
        except ProtocolViolation:
            self._violated()
        self.unsure = False
        return b""

    def _take_user(self, rings: StreamRings, mm: AddressSpace, addr: int, count: int) -> int:
        """As `_take`, to the guest. EFAULT."""
        self._adopt(rings)
        try:
            done = rings.copy_out(mm, addr, count)
            if done:
                self.received += done
                rings.ring_for_room(self.fd)
                self._offer(rings)
                return done
        except ProtocolViolation:
            self._violated()
        self.unsure = False
        return 0

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """read(2) while the inbox is empty: from the host socket to the guest. WouldBlock; the pending error."""
        if self.unsure and self.fd >= 0 and self.urgent_at < 0:
            rings = self.rings
            if rings is not None and self.received >= rings.delivered:
                data, done = b"", self._take_user(rings, mm, addr, count)
                if done:
                    return done
            else:
                data = self._read(min(count, _MAX_READ))
            if data:
                try:
                    mm.write(addr, data)
                except LinuxError:
                    self.socket.inbox.append(data)  # bytes leave only once they reached guest memory
                    self.socket.inbox_bytes += len(data)
                    raise
                if rings is None and not self.tried:
                    self._count_read(mm)
                return len(data)
        data = self.socket.read(count)
        if data:
            mm.write(addr, data)
        return len(data)

    def unread_bytes(self) -> int:
        """Beyond the inbox."""
        if self.fd < 0:
            return 0
        rings = self.rings
        if rings is None:
            return unread_bytes(self.fd)
        self._adopt(rings)
        try:
            return max(rings.delivered - self.received, 0) + rings.rx.used()
        except ProtocolViolation:
            self._violated()
            return 0

    # --- urgent data ---
    def urgent(self, byte: int, offset: int) -> None:
        """The service: a byte is urgent, which is not among those of the host socket: it comes behind `offset` of them.

        They were delivered before, so that they can be read now and the byte be put in its place.
        """
        if not self.alive or (self.fd < 0 and not self.carried):
            return
        self.socket.dissolve()
        if self.rings is not None:
            self._adopt(self.rings)
        if self.urgent_at >= 0:
            self._place_urgent()
        self.urgent_at = max(offset, self.received)
        self.urgent_byte = bytes((byte,))
        self.unsure = not self.carried
        while self.unsure and self.received < self.urgent_at:
            self.fill(_MAX_READ)
        if self.received == self.urgent_at:
            self._place_urgent()

    def _place_urgent(self) -> None:
        """What is at the end of the inbox goes before the urgent byte."""
        self.urgent_at = -1
        self.unsure = not self.carried
        self.socket.urgent_arrived(self.urgent_byte)

    # --- writing ---
    def send(self, data: bytes, urgent: bool) -> int:
        """How many bytes were taken. WouldBlock: no room; EPIPE and what the service says: the connection is over."""
        if self.fd < 0 and not self.carried:
            raise LinuxError(errno.EPIPE)
        if urgent:
            return self._send_urgent(data)
        provider = self.provider
        if self.late and (self.sent or len(data) > _AT_ONCE):
            self._tell_late()
        if self.carried:
            taken = self.send_carried(data)
            if taken or not data:
                return taken
            self.leave_messages()
            if self.fd < 0:
                raise LinuxError(self.socket.take_error() or errno.EPIPE)
        if provider.flushes_soon:  # options that are to hold for these bytes
            provider.flush()
        if self.sent >= BUSY_BYTES and not self.tried:
            self._ask_for_rings()
        if self.rings is not None:
            return self._put(self.rings, self.rings.put, data)
        if self.blocked:
            raise WouldBlock
        try:
            taken = os.write(self.fd, data)
        except BlockingIOError:
            self._wait_for_room()
            raise WouldBlock from None
        except OSError as error:
            client = provider.client
            if client is not None:
                client.receive()
            reason = error.errno or errno.EPIPE
            if reason == errno.EPIPE and self.alive and self._has_hung_up(-1):
                reason = errno.ECONNRESET
            self.failed(reason)
            raise LinuxError(self.socket.take_error() or errno.EPIPE) from None
        self.sent += taken
        self.unasked += taken + _WRITE_OVERHEAD
        return taken

    def _put(self, rings: StreamRings, put: Callable[..., int], *what: Any) -> int:
        """As `send`, into the ring: `put` is rings.put or rings.copy_in, `what` its arguments but the last."""
        self._adopt(rings)
        try:
            taken = put(*what, self.fd)
            if not taken and rings.has_room():  # since a moment ago
                taken = put(*what, self.fd)
        except ProtocolViolation:
            self._violated()
            raise LinuxError(self.socket.take_error() or errno.EPIPE) from None
        if not taken:
            self.blocked = self.socket.no_space = True
            raise WouldBlock
        self.sent += taken
        return taken

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """As `send`, from guest memory straight into the ring, which there is. EFAULT."""
        rings = self.rings
        assert rings is not None
        if self.provider.flushes_soon:
            self.provider.flush()
        taken = self._put(rings, rings.copy_in, mm, addr, count)
        self._offer(rings)
        return taken

    def _send_urgent(self, data: bytes) -> int:
        """What is before the last byte first; the byte has its place when the service has answered."""
        if len(data) > 1:
            taken = self.send(data[:-1], False)
            if taken < len(data) - 1:
                return taken
        if self.late:
            self._tell_late()  # the byte is not among those sent
        self.provider.connection.call("urgent", self.number, data[-1], self.sent)
        return len(data)

    def has_room(self) -> bool:
        """POLLOUT."""
        if self.rings is not None and self.fd >= 0:
            self.blocked = not self._has_ring_room(self.rings)
            return not self.blocked
        if self.blocked:
            return False
        if self.unasked < _UNASKED_BYTES or self.fd < 0:
            return True
        if wait_for(self.fd, select.POLLOUT, 0):
            self.unasked = 0
            return True
        self._wait_for_room()
        return False

    def _has_ring_room(self, rings: StreamRings) -> bool:
        self._adopt(rings)
        try:
            return rings.has_room()
        except ProtocolViolation:
            self._violated()
            return True  # to hear of it

    def _wait_for_room(self) -> None:
        self.blocked = self.socket.no_space = True
        self.socket.kernel.host_poll.watch(self.fd, _EDGE | select.EPOLLOUT, self._ready)

    def unsent_bytes(self) -> int:
        """What was written and the other side has not acknowledged."""
        if self.rings is not None:
            self._adopt(self.rings)
        found = self._info()
        if found is not None:
            return max(self.sent - number_of(found, "bytes_acked"), 0)
        return unsent_bytes(self.fd) if self.fd >= 0 else 0

    def tcp_info(self) -> bytes | None:
        """struct tcp_info; None: the service has none any more."""
        found = self._info()
        return None if found is None else pack_untrusted(found, self.socket.state)

    def _info(self) -> dict[str, object] | None:
        if not self.alive or (self.fd < 0 and not self.carried):
            return None
        try:
            found = self.get_option(_TCP, tcp.TCP_INFO)
        except LinuxError:
            return None
        return found if isinstance(found, dict) else None

    # --- rings ---
    def _count_read(self, mm: AddressSpace) -> None:
        """One more read came here. When these are many, rings spare them the way, if the guest's stub may use them, and
        wait by itself: who waits by poll(2), or in several threads, would come here as often as before."""
        self.asked += 1
        if self.asked < BUSY_READS or self.socket.epoll_links or self.socket.flags & O_NONBLOCK:
            return
        if not self.socket.receive_timeout_ns and is_alone(mm, self.socket):
            self._ask_for_rings()

    def _ask_for_rings(self) -> None:
        """The connection is busy: have its bytes move through shared memory from here on, if the service agrees."""
        self.tried = True
        provider = self.provider
        client = provider.client
        if client is None or not provider.has_rings or self.ending or not self.alive or self.urgent_at >= 0:
            return
        if self.late:
            self._tell_late()
        try:
            rings = StreamRings(self.sent)
        except OSError:
            return
        try:
            delivered = client.call_with_fd(rings.fd, "rings", self.number, RX_BYTES, rings.tx.size, self.sent)
        except LinuxError:
            return
        if self.fd < 0 or not self.alive:  # it ended meanwhile
            return
        if type(delivered) is not int or not self.received <= delivered <= MAX_OFFSET:
            client.end()
            return
        rings.delivered = delivered
        self.rings = rings
        self.unsure = True
        if self.blocked:
            self.blocked = self.socket.no_space = False
            self.socket.kernel.host_poll.watch(self.fd, _EDGE, self._ready)
        if self.socket.queue.entries:  # who waits already looks again, and so has the service ring
            self.socket.queue.wake(READABLE | _WRITABLE)

    def _adopt(self, rings: StreamRings) -> None:
        """Know what a guest's stub has read and written since the last time."""
        if rings.shared:
            came, went = rings.adopt()
            self.received += came
            self.sent += went

    def _offer(self, rings: StreamRings) -> None:
        """A plain call went through the rings: the guest's stub may do such calls from now on, if all is plain."""
        socket = self.socket
        if (
            socket.ring_end is None
            and self.offers
            and self.received >= rings.delivered
            and not socket.inbox
            and self.urgent_at < 0
            and self.alive
            and not self.ending
            and socket.state == tcp.TCP_ESTABLISHED
            and not socket.shut
            and not socket.error
            and socket.plain_receive
            and socket.peek_offset < 0
            and not socket.epoll_links
        ):
            self.offers -= 1
            if self.end is None:
                self.end = FarEnd(self, rings)
            rings.shared = True
            socket.ring_end = self.end

    def stub_moved(self) -> None:
        """A guest's stub moved a position for which the service waits, or says so."""
        rings = self.rings
        if rings is None or self.fd < 0:
            return
        self._adopt(rings)
        try:
            rings.ring_for_room(self.fd)
        except ProtocolViolation:
            self._violated()
            return
        rings.ring_for_data(self.fd)

    def _violated(self) -> None:
        """The service does not keep to the rules of rings: this connection is over."""
        self.failed(errno.ECONNRESET)
        self.abort()

    # --- the end ---
    def send_fin(self) -> None:
        """Nothing more is written (shutdown(2)). When the socket is being closed, `close` says it."""
        if self.socket.dead:
            return
        if self.carried:
            self.provider.notify("shutdown", self.number, SHUT_WR)
            self.provider.flush_soon()
        elif self.fd >= 0:
            shut_down_writing(self.fd)

    def close(self) -> None:
        """The socket is closed: what was written is still sent, then a FIN. Unread data makes it a reset."""
        self._finish("close")

    def abort(self) -> None:
        """A reset, now."""
        self.alive = False
        self._finish("abort")

    def _finish(self, method: str) -> None:
        provider = self.provider
        if not self.closed:
            self.closed = True
            told = method == "abort" or not self._is_of_no_interest()
            if not told:
                del provider.sockets[self.number]
            if method == "abort":
                provider.notify(method, self.number)
            elif self.carried:
                provider.notify("finish", self.number, self.received, int(told))
            else:
                provider.notify("close" if told else "leave", self.number)
            if method == "abort":
                provider.flush()  # first: the end of the host socket alone would be a FIN
            else:
                provider.flush_soon()
        self.carried = False
        fd, self.fd = self.fd, -1
        if fd >= 0:
            provider.give_back(fd)
        self.socket.dissolve()
        self.end = self.rings = None

    def _is_of_no_interest(self) -> bool:
        """Nobody waits for its end: the id is not ours to use again, no FIN is to come, close(2) does not linger."""
        socket = self.socket
        return (
            self.alive
            and self.number >= MIN_SERVER_ID
            and socket.dead
            and socket.record is None
            and not (socket.linger[0] and socket.linger[1])
        )

    def is_closing(self) -> bool:
        """After `close`: what was written, or the FIN, is not acknowledged yet."""
        return self.alive and self.provider.sockets.get(self.number) is self

    def option_changed(self, level: int, name: int) -> None:
        """A server's first answer is often its last, and leaves at once anyway when it is a segment at most: nothing is
        in flight that it would have to wait for (RFC 9293 3.7.4). So TCP_NODELAY is told before what comes behind it,
        if that comes.
        """
        if self.alive:
            if (level, name) == _NODELAY and (self.fd >= 0 or self.carried) and not self.sent:
                self.late = True
            else:
                forward_option(self.provider, self.number, self.socket, level, name)

    def _tell_late(self) -> None:
        self.late = False
        forward_option(self.provider, self.number, self.socket, *_NODELAY)

    def group_changed(self, group: bytes, interface: int, joined: bool) -> None:
        if self.alive:
            forward_group(self.provider, self.number, group, interface, joined)

    def get_option(self, level: int, name: int) -> object:
        """What the service says: an int, bytes, a map. Its errno."""
        if not self.alive:
            raise LinuxError(errno.ENOTCONN)
        if self.late:
            self._tell_late()
        return self.provider.connection.call("get", self.number, level, name)
