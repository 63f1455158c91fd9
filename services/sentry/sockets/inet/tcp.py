"""SOCK_STREAM sockets of AF_INET and AF_INET6: TCP's states and rules as programs see them (tcp(7), RFC 9293).

Life: made -> [bind] -> listen -> accept..., or made -> connect -> data -> shutdown, close. `state` is the TCP state
(TCP_CLOSE when there is no connection); `phase` is what Linux keeps beside it in struct socket, whether a connect(2) is
under way. Both ends of a local connection are here and know each other as `peer`: an end's inbox is its receive queue
and the peer's send queue in one. FIN and RST are calls of `fin_arrived` and `reset`. A listener makes the server's end
at once and keeps it in `pending`; a connect that finds it full stays in SYN_SENT in `waiting`.

A connection beyond this host has no `peer` but a `far` (netstack/streams.py), which moves its bytes: `far.fill` puts
what came into the inbox, and from there on all is the same.

The everyday read and write are byte_stream.py's. What Linux does there is cited by function of net/ipv4/tcp*.c.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import in_h
from protocol.abi import ioctl_h as io
from protocol.abi import poll_h as po
from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.abi import tcp_h as tcp
from protocol.abi.layout import I32
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.files.async_notice import urgent_notice
from services.sentry.files.local_rings import LocalEnd
from services.sentry.kernel.waiter import ANY
from services.sentry.sockets.base import READABLE, RECEIVE_SHUT, SEND_SHUT, Incoming, Outgoing
from services.sentry.sockets.byte_stream import MAX_CHUNK, OVERHEAD_BYTES, ByteStream
from services.sentry.sockets.inet.addresses import ANY4, ANY6, Endpoint, is_link_local6, is_multicast
from services.sentry.sockets.inet.endpoint import InetSocket
from services.sentry.sockets.inet.network import InetNetwork, TimeWait
from services.sentry.sockets.inet.tcp_options import get_tcp_option, set_tcp_option

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.timers import TimerHandle
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.sockets.inet.network import Connection

__all__ = ["TcpSocket", "Urgent"]

_BOTH: Final = RECEIVE_SHUT | SEND_SHUT
_WRITABLE: Final = po.POLLOUT | po.POLLWRNORM
#: net.ipv4.tcp_wmem[1] and tcp_rmem[1], and what the send buffer of a loopback connection grows to at once.
_SEND_BUFFER: Final = 16_384
_RECEIVE_BUFFER: Final = 131_072
_CONNECTED_SEND_BUFFER: Final = 2_626_560
#: How long connect(2) tries before ETIMEDOUT: six SYNs again, from one second on, doubling.
_CONNECT_NS: Final = 127_000_000_000

UNCONNECTED: Final = 0
CONNECTING: Final = 1
CONNECTED: Final = 2

_SENDING: Final = (tcp.TCP_ESTABLISHED, tcp.TCP_CLOSE_WAIT)
_DEFER_ACCEPT: Final = (in_h.IPPROTO_TCP, tcp.TCP_DEFER_ACCEPT)
_INQ: Final = (in_h.IPPROTO_TCP, tcp.TCP_INQ)


#: What a socket has that does not listen; listen(2) gives it its own.
_NOBODY: Final[deque[TcpSocket]] = deque((), 0)
_NO_CLIENTS: Final[dict[TcpSocket, None]] = {}


class Urgent:
    """The byte sent with MSG_OOB, at its place in the inbox. `taken`: recv(MSG_OOB) got it already."""

    __slots__ = ("data", "taken")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.taken = False


class TcpSocket(InetSocket, ByteStream):
    """See the module.

    done: the peer's FIN came (SOCK_DONE); no_space: a writer or poll(2) found no room, so room is news; urgent: the
    Urgent item in the inbox; deferred: TCP_DEFER_ACCEPT holds this end back until data comes; record: what stands for
    a closed end in FIN_WAIT2.
    """

    __slots__ = (
        "backlog",
        "deadline",
        "dead",
        "deferred",
        "done",
        "inbox",
        "inbox_bytes",
        "listener",
        "moved",
        "no_space",
        "out",
        "peer",
        "pending",
        "phase",
        "record",
        "ring_end",
        "state",
        "urgent",
        "waiting",
    )

    pollable = True
    writes_all = True
    keeps_boundaries = False
    has_urgent_data = True
    discards = True
    late_connect_errno = errno.EINPROGRESS
    OPEN: ClassVar[int] = tcp.TCP_ESTABLISHED
    ROOM_BITS: ClassVar[int] = _WRITABLE
    ROOM: ClassVar[float] = 1 / 3
    WOKEN: ClassVar[float] = 1 / 3

    def __init__(self, kernel: Kernel, cred: Credentials, network: InetNetwork, domain: int, flags: int) -> None:
        super().__init__(kernel, cred, network, network.tcp, domain, so.SOCK_STREAM, in_h.IPPROTO_TCP, flags)
        self.send_buffer = _SEND_BUFFER
        self.receive_buffer = _RECEIVE_BUFFER
        self.state = tcp.TCP_CLOSE
        self.phase = UNCONNECTED
        self.inbox = deque()
        self.inbox_bytes = self.moved = 0
        self.peer = self.out = self.ring_end = None
        self.backlog = 0
        self.pending: deque[TcpSocket] = _NOBODY
        self.waiting: dict[TcpSocket, None] = _NO_CLIENTS
        self.listener: TcpSocket | None = None
        self.deadline: TimerHandle | None = None
        self.record: TimeWait | None = None
        self.urgent: Urgent | None = None
        self.done = self.dead = self.no_space = self.deferred = False

    @property
    def connection(self) -> Connection:
        return (self.local, self.local_port, self.remote, self.remote_port)

    def may_bind(self) -> bool:
        return self.state == tcp.TCP_CLOSE

    def is_listening(self) -> bool:
        return self.state == tcp.TCP_LISTEN

    def peer_address(self) -> bytes:
        """ENOTCONN: none, not yet, or not any more."""
        if not self.remote_port or self.state in (tcp.TCP_CLOSE, tcp.TCP_SYN_SENT):
            raise LinuxError(errno.ENOTCONN)
        return self.pack(self.remote, self.remote_port)

    # --- listening ---
    def listen(self, task: Task, backlog: int) -> None:
        """listen(2). EINVAL: connected or connecting; EADDRINUSE: another listens there."""
        if self.phase != UNCONNECTED or self.state not in (tcp.TCP_CLOSE, tcp.TCP_LISTEN):
            raise LinuxError(errno.EINVAL)
        self.backlog = backlog
        if self.state == tcp.TCP_LISTEN:
            self._admit_waiting()
            self._listen_everywhere()
            return
        self.auto_bind()
        self.state = tcp.TCP_LISTEN
        if self.ports.conflicts(self, self.claim, self.local_port):
            self.state = tcp.TCP_CLOSE
            raise LinuxError(errno.EADDRINUSE)
        self.shut = 0
        self.pending, self.waiting = deque(), {}
        self.network.listeners.setdefault(self.local_port, []).append(self)
        try:
            self._listen_everywhere()
        except LinuxError:
            self._stop_listening()
            raise

    def _listen_everywhere(self) -> None:
        for provider in self.network.providers:
            provider.listen(self)

    def is_full(self) -> bool:
        """No connection more is taken (sk_acceptq_is_full)."""
        return len(self.pending) > self.backlog

    def admit(self, client: TcpSocket) -> None:
        """Make the server's end of `client`'s connection and connect the two."""
        local = Endpoint(client.remote, client.remote_port)
        server = self.admitted(local, Endpoint(client.local, client.local_port, client.scope))
        seconds = self.settings.get(_DEFER_ACCEPT, 0)
        server.deferred = bool(seconds)
        server.peer = client
        client.established(server)
        if seconds:
            at = self.kernel.clock.monotonic_ns() + seconds * 1_000_000_000
            server.deadline = self.kernel.timers.call_at(at, server.undefer)
        else:
            self.offer(server)

    def admitted(self, local: Endpoint, remote: Endpoint) -> TcpSocket:
        """The server's end of a connection, not offered for accept(2) yet."""
        server = TcpSocket(self.kernel, self.cred, self.network, self.domain, 0)
        server.local = server.claim = local.address
        server.remote, server.remote_port, server.scope = remote
        server.phase = CONNECTED
        if self.options:
            server.options.update(self.options)
        if self.settings:
            server.settings.update(self.settings)
        server.linger = self.linger
        server.plain_receive = self.plain_receive
        server.send_timeout_ns, server.receive_timeout_ns = self.send_timeout_ns, self.receive_timeout_ns
        server.send_buffer, server.receive_buffer = self.send_buffer, self.receive_buffer
        server.v6_only = self.v6_only
        network = self.network
        server.own_port(local.port)
        network.connections[server.connection] = server
        network.counted["PassiveOpens"] += 1
        server.listener = self
        server.state = tcp.TCP_ESTABLISHED
        if not self.options.get(so.SO_BUF_LOCK, 0) & 1:
            server.send_buffer = _CONNECTED_SEND_BUFFER
        return server

    def offer(self, server: TcpSocket) -> None:
        """`server` may be accepted."""
        self.pending.append(server)
        if self.queue.entries:
            self.queue.wake(READABLE)

    def undefer(self) -> None:
        """Data came, or TCP_DEFER_ACCEPT's time is over: the connection may be accepted."""
        if self.deferred:
            self.deferred = False
            self._cancel_deadline()
            self.changed()
            if self.listener is not None and self.listener.state == tcp.TCP_LISTEN:
                self.listener.offer(self)

    def accept(self, task: Task, flags: int) -> TcpSocket:
        """accept(2). EINVAL: not listening; WouldBlock: nobody connected."""
        if self.state != tcp.TCP_LISTEN:
            raise LinuxError(errno.EINVAL)
        if not self.pending:
            raise WouldBlock
        server = self.pending.popleft()
        server.listener = None
        server.flags |= flags & fc.O_NONBLOCK
        if server.far is not None and self.far is not None:
            self.far.taken()
        if self.waiting:
            self._admit_waiting()
        return server

    def _admit_waiting(self) -> None:
        while self.waiting and not self.is_full():
            client = next(iter(self.waiting))
            del self.waiting[client]
            self.admit(client)

    def _stop_listening(self) -> None:
        """Who connected and was not accepted is reset; who still tries is refused (inet_csk_listen_stop)."""
        self.state = tcp.TCP_CLOSE
        listeners = self.network.listeners[self.local_port]
        listeners.remove(self)
        if not listeners:
            del self.network.listeners[self.local_port]
        if self.far is not None:
            self.far.close()
            self.far = None
        pending, self.pending = self.pending, _NOBODY
        for server in pending:
            server.listener = None
            server.abort()
            server.close_reference()
        waiting, self.waiting = self.waiting, _NO_CLIENTS
        for client in waiting:
            client.reset(errno.ECONNREFUSED)

    # --- connecting ---
    def connect(self, task: Task, address: bytes) -> None:
        """connect(2), with AF_UNSPEC a disconnect (__inet_stream_connect).

        EINPROGRESS, EALREADY: it does not block; WouldBlock: it goes on; EISCONN; ECONNREFUSED and what became of it.
        """
        if self.is_unspec(address):
            self._disconnect()
            self.phase = UNCONNECTED
            return
        nonblock = self.flags & fc.O_NONBLOCK
        if self.phase == CONNECTED or (self.phase == UNCONNECTED and self.state != tcp.TCP_CLOSE):
            raise LinuxError(errno.EISCONN)
        if self.phase == UNCONNECTED:
            self._start(self.parse(address))
            self.phase = CONNECTING
            if nonblock:
                raise LinuxError(errno.EINPROGRESS)
        elif self.state == tcp.TCP_SYN_SENT and nonblock:
            raise LinuxError(errno.EALREADY)
        if self.state == tcp.TCP_SYN_SENT:
            raise WouldBlock
        if self.state == tcp.TCP_CLOSE:
            error = self.take_error() or errno.ECONNABORTED
            self.phase = UNCONNECTED
            self._disconnect()
            raise LinuxError(error)
        self.phase = CONNECTED

    def _start(self, wanted: Endpoint) -> None:
        """Send the SYN. ENETUNREACH, EADDRNOTAVAIL, EINVAL."""
        network = self.network
        destination = self.destination_of(wanted)
        address = destination.address
        if is_multicast(address):
            raise LinuxError(errno.ENETUNREACH)
        if is_link_local6(address) and not wanted.scope:
            raise LinuxError(errno.EINVAL)
        route = network.route(address, destination.scope or self.bound_interface)
        if route.kind in (rt.RTN_BROADCAST, rt.RTN_MULTICAST):
            raise LinuxError(errno.ENETUNREACH)
        source = self.local if any(self.local) else route.source
        port = self.local_port if self.owns_port else 0
        if not port:
            port = network.tcp.choose_for_connection(
                lambda port: network.is_taken((source, port, address, destination.port))
            )
            self.auto = True
            self.own_port(port)
        elif network.is_taken((source, port, address, destination.port)):
            raise LinuxError(errno.EADDRNOTAVAIL)
        self.local = self.claim = source
        self.remote, self.remote_port, self.scope = address, destination.port, destination.scope
        self.state = tcp.TCP_SYN_SENT
        self.shut = 0
        self.done = False
        network.connections[self.connection] = self
        network.counted["ActiveOpens"] += 1
        route.provider.connect(self, destination)
        if self.state == tcp.TCP_SYN_SENT:
            at = self.kernel.clock.monotonic_ns() + _CONNECT_NS
            self.deadline = self.kernel.timers.call_at(at, self._give_up)

    def _give_up(self) -> None:
        self.deadline = None
        if self.state == tcp.TCP_SYN_SENT:
            self._stop_waiting()
            if self.far is not None:
                self.far.abort()
            self.reset(errno.ETIMEDOUT)

    def _stop_waiting(self) -> None:
        """A connect that a full listener kept is over."""
        for listener in self.network.listeners.get(self.remote_port, ()):
            listener.waiting.pop(self, None)

    def _cancel_deadline(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def established(self, peer: TcpSocket | None) -> None:
        """The provider: the connection stands, `peer` is its other end; None: `far` has it."""
        self._cancel_deadline()
        self.state = tcp.TCP_ESTABLISHED
        self.peer = peer
        if not self.options.get(so.SO_BUF_LOCK, 0) & 1:
            self.send_buffer = _CONNECTED_SEND_BUFFER
        self.changed()
        if self.queue.entries:
            self.queue.wake(ANY)

    def renamed(self, port: int) -> None:
        """The provider: the connection has another local port than was asked for."""
        connections = self.network.connections
        connections.pop(self.connection, None)
        self.give_up_port()
        self.own_port(port)
        connections[self.connection] = self

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        return self.write_stream(mm, addr, count)

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int | None:
        return self.read_stream(mm, addr, count)

    def option_set(self, level: int, name: int) -> None:
        self.dissolve()
        super().option_set(level, name)

    def changed(self) -> None:
        """Recompute who may write the short way, at both ends."""
        self.dissolve()
        peer = self.peer
        if peer is not None:
            self.out = peer if self._plain(peer) else None
            peer.out = self if peer._plain(self) else None

    def _plain(self, peer: TcpSocket) -> bool:
        return (
            self.state in _SENDING
            and not self.shut & SEND_SHUT
            and not self.error
            and not peer.dead
            and not peer.deferred
            and peer.state != tcp.TCP_CLOSE
            and peer.shut != _BOTH
        )

    # --- the end of a connection ---
    def _leave(self) -> None:
        """TCP_CLOSE: the pair of addresses is free, and the port unless bind(2) gave it (tcp_set_state)."""
        network = self.network
        self.state = tcp.TCP_CLOSE
        connection = self.connection
        if network.connections.get(connection) is self:
            del network.connections[connection]
        if not self.user_port:
            self.give_up_port()
            self.auto = False
        self._cancel_deadline()

    def _forget_address(self) -> None:
        """After `_leave`, when the socket may be used once more."""
        if not self.user_address:
            self.local = ANY4 if self.domain == so.AF_INET else ANY6
        self.claim = self.claim_of(self.local)

    def fin_arrived(self) -> None:
        """The peer sends no more (tcp_fin)."""
        self.shut |= RECEIVE_SHUT
        self.done = True
        if self.state == tcp.TCP_ESTABLISHED:
            self.state = tcp.TCP_CLOSE_WAIT
        elif self.record is not None:
            self.network.other_side_ended(self.record)
        elif self.state == tcp.TCP_FIN_WAIT2:
            self._leave()
            self.shut = _BOTH
            self.network.linger(self, tcp.TCP_TIME_WAIT)
        self.changed()
        if self.queue.entries:
            self.queue.wake(ANY)

    def _send_fin(self) -> None:
        """Close this direction; the peer acknowledges at once (tcp_close_state, tcp_send_fin)."""
        if self.state == tcp.TCP_ESTABLISHED:
            self.state = tcp.TCP_FIN_WAIT2
        elif self.state == tcp.TCP_CLOSE_WAIT:
            self._leave()
            self.shut = _BOTH
        else:
            return
        peer = self.peer
        if peer is not None:
            peer.fin_arrived()  # it looks anew who may write, at both ends
        else:
            self.far.send_fin()

    def reset(self, error: int = 0) -> None:
        """A RST came (tcp_reset). `error`: another reason than what the state says. What was received can be read."""
        if self.state == tcp.TCP_CLOSE:
            return
        if not error:
            error = errno.EPIPE if self.state == tcp.TCP_CLOSE_WAIT else errno.ECONNRESET
        was_connecting = self.state == tcp.TCP_SYN_SENT
        self.network.counted["AttemptFails" if was_connecting else "EstabResets"] += 1
        self.error = error
        self._leave()
        if was_connecting:
            self._forget_address()
        self.shut = _BOTH
        self.changed()
        if self.record is not None:
            self.network.forget(self.record)
        if self.queue.entries:
            self.queue.wake(ANY)

    def abort(self) -> None:
        """Send a RST and close."""
        self.network.counted["OutRsts"] += 1
        self._leave()
        peer = self.peer
        if self.far is not None:
            self.far.abort()
        elif peer is not None and peer is not self:
            peer.reset()

    def _disconnect(self) -> None:
        """connect(2) with AF_UNSPEC, shutdown(2) of a listener, a failed connect (tcp_disconnect)."""
        state = self.state
        error = 0
        if state == tcp.TCP_LISTEN:
            self._stop_listening()
        elif state == tcp.TCP_SYN_SENT:
            self._stop_waiting()
            self._leave()
            error = errno.ECONNRESET
        elif state != tcp.TCP_CLOSE:
            self.abort()
            error = errno.ECONNRESET
        if state != tcp.TCP_LISTEN:
            self.inbox.clear()
            self.inbox_bytes = 0
            self.urgent = None
            self.remote = ANY4 if self.domain == so.AF_INET else ANY6
            self.remote_port = 0
            self._forget_address()
        if not self.user_port:
            self.give_up_port()
        if self.far is not None:
            self.far.abort()
            self.far = None
        self.peer = self.out = None
        self.error = error
        self.shut = 0
        self.done = False
        if self.queue.entries:
            self.queue.wake(ANY)

    def shutdown(self, how: int) -> None:
        """shutdown(2). ENOTCONN: there is no connection (inet_shutdown, tcp_shutdown)."""
        if self.phase == CONNECTING:
            self.phase = CONNECTED if self.state not in (tcp.TCP_SYN_SENT, tcp.TCP_CLOSE) else UNCONNECTED
        if self.state == tcp.TCP_SYN_SENT or (self.state == tcp.TCP_LISTEN and how & RECEIVE_SHUT):
            self._disconnect()
            return
        closed = self.state == tcp.TCP_CLOSE
        self.shut |= how
        if how & SEND_SHUT and not closed and self.state != tcp.TCP_LISTEN:
            self._send_fin()
        self.changed()
        if self.queue.entries:
            self.queue.wake(ANY)
        if closed:
            raise LinuxError(errno.ENOTCONN)

    def release(self) -> None:
        """close(2) of the last descriptor: FIN, or RST when data was never read or SO_LINGER says so (tcp_close)."""
        if self.dead:
            return
        self.dissolve()
        self.network.sockets[self.protocol_name] -= 1
        self.dead = True
        if self.state == tcp.TCP_LISTEN:
            self._stop_listening()
        elif self.state == tcp.TCP_SYN_SENT:
            self._stop_waiting()
            self._leave()
        elif self.state != tcp.TCP_CLOSE:
            self.shut = _BOTH
            if self.inbox_bytes or self.linger == (1, 0):
                self.abort()  # what is unread beyond the inbox, the far end sees for itself
            else:
                self._send_fin()
                if self.state == tcp.TCP_FIN_WAIT2:
                    record = self.network.linger(self, tcp.TCP_FIN_WAIT2)
                    if record is None:
                        self._leave()
                    self.record = record
        self.give_up_port()
        if self.far is not None:
            self.far.close()
        if self.inbox:
            self.inbox.clear()
            self.inbox_bytes = 0
        peer = self.peer
        if peer is not None and peer.dead:
            self.peer = peer.peer = None  # nobody needs them any more, and a circle would wait for the collector
        if self.linger[0] and self.linger[1] and self.still_sends():
            self.kernel.lingering = self
        if self.queue.entries:
            self.queue.wake(ANY)

    def still_sends(self) -> bool:
        """After close(2): the other side has not acknowledged all of it (sk_stream_wait_close)."""
        if self.far is not None:
            return bool(self.far.is_closing())
        self.no_space = True  # so that the peer's next read says so
        return self.unsent_bytes() > 0

    # --- sending ---
    def may_write_far(self) -> bool:
        return (
            self.far is not None
            and self.far.rings is not None
            and not self.error
            and not self.shut & SEND_SHUT
            and self.state in _SENDING
        )

    def check_room(self) -> None:
        peer = self.peer
        assert peer is not None
        if peer.inbox_bytes + OVERHEAD_BYTES * len(peer.inbox) >= self.send_buffer:
            self.no_space = True
            raise WouldBlock

    def wake_sender(self, peer: TcpSocket) -> None:
        """A third of the buffer is free again (__sk_stream_is_writeable), and somebody found none before."""
        if peer.no_space and (self.inbox_bytes + OVERHEAD_BYTES * len(self.inbox)) * 3 <= peer.send_buffer * 2:
            peer.no_space = False
            peer.queue.wake(_WRITABLE)

    def send(self, data: bytes, message: Outgoing) -> int:
        """A prefix of `data` (tcp_sendmsg_locked). An address is ignored. EPIPE: no connection; the pending error.

        EOPNOTSUPP: MSG_FASTOPEN.
        """
        if message.flags & so.MSG_FASTOPEN:
            raise LinuxError(errno.EOPNOTSUPP)
        if self.ring_end is not None:
            taken = self.send_by_ring(data, message._replace(address=b""))
            if taken >= 0:
                return taken
        if self.state == tcp.TCP_SYN_SENT and not self.error:
            raise WouldBlock
        if self.error or self.shut & SEND_SHUT or self.state not in _SENDING:
            raise LinuxError(self.take_error() or errno.EPIPE)
        if not data:
            return 0
        if self.far is not None:
            return int(self.far.send(data[:MAX_CHUNK], bool(message.flags & so.MSG_OOB and len(data) <= MAX_CHUNK)))
        peer = self.peer
        assert peer is not None
        if peer.dead or peer.shut == _BOTH:
            # Nobody is there to read it: the answer is a RST (tcp_rcv_state_process, RFC 9293 3.5.2).
            self._refused_by(peer)
            return len(data)
        self.check_room()
        chunk = data[:MAX_CHUNK]
        if message.flags & so.MSG_OOB and len(chunk) == len(data):
            peer.urgent_arrived(chunk)
        else:
            peer.inbox.append(chunk)
            peer.inbox_bytes += len(chunk)
        if peer.deferred:
            peer.undefer()
        if peer.queue.entries:
            peer.queue.wake(READABLE)
        return len(chunk)

    def _refused_by(self, peer: TcpSocket) -> None:
        peer.reset()
        self.reset()

    def urgent_arrived(self, data: bytes) -> None:
        """Data whose last byte is urgent. An earlier urgent byte becomes ordinary, or goes when it is next to be read
        (tcp_check_urg)."""
        old = self.urgent
        if old is not None:
            if self.inbox[0] is old and not self._inline():
                self.inbox.popleft()
                self.inbox_bytes -= 1
            else:
                self.inbox[self.inbox.index(old)] = old.data
        if len(data) > 1:
            self.inbox.append(data[:-1])
        self.urgent = Urgent(data[-1:])
        self.inbox.append(self.urgent)
        self.inbox_bytes += len(data)
        urgent_notice(self.kernel, self)
        if self.queue.entries:
            self.queue.wake(po.POLLPRI)

    # --- receiving ---
    def _inline(self) -> bool:
        return bool(self.options.get(so.SO_OOBINLINE))

    def _nothing(self) -> Incoming:
        """What a receive from an empty inbox gives (tcp_recvmsg_locked)."""
        if not self.done:
            if self.error:
                raise LinuxError(self.take_error())
            if not self.shut & RECEIVE_SHUT:
                if self.state == tcp.TCP_CLOSE:
                    raise LinuxError(errno.ENOTCONN)
                raise WouldBlock
        return Incoming(b"", 0)

    def receive(self, count: int, flags: int) -> Incoming:
        """Up to `count` bytes, not past an urgent byte. ENOTCONN; the pending error; WouldBlock."""
        if self.state == tcp.TCP_LISTEN:
            raise LinuxError(errno.ENOTCONN)
        if flags & so.MSG_OOB:
            return self._receive_urgent(flags)
        if flags & so.MSG_ERRQUEUE:
            raise LinuxError(errno.EAGAIN)
        if not count:
            return Incoming(b"", 0)
        if self.ring_end is not None:
            brought = self.receive_by_ring(count, flags)
            if brought is not None:
                return Incoming(brought, len(brought))
        far = self.far
        if far is not None and far.unsure and self.inbox_bytes < count:
            far.fill(count - self.inbox_bytes)
        if not self.inbox:
            return self._nothing()
        if not self.plain_receive and self._too_little(count, flags):
            raise WouldBlock
        if flags & so.MSG_PEEK:
            return self._peek(count)
        data = self._take(count)
        if not data:
            return self._nothing()
        self.inbox_bytes -= len(data)
        if self.peek_offset > 0:
            self.peek_offset = max(self.peek_offset - len(data), 0)
        peer = self.peer
        if peer is not None and peer.no_space:
            self.wake_sender(peer)
        control: tuple[tuple[int, int, bytes], ...] = ()
        if self.settings.get(_INQ):
            control = ((in_h.IPPROTO_TCP, tcp.TCP_CM_INQ, I32.pack(self.unread_bytes())),)
        return Incoming(data, len(data), b"", control=control)

    def _too_little(self, count: int, flags: int) -> bool:
        """SO_RCVLOWAT: a call that may wait wants more than is there, and more may come."""
        if flags & so.MSG_DONTWAIT or self.flags & fc.O_NONBLOCK or self.error or self.shut & RECEIVE_SHUT:
            return False
        return self.inbox_bytes < min(self.options.get(so.SO_RCVLOWAT, 1), count) and self.state != tcp.TCP_CLOSE

    def _take(self, count: int) -> bytes:
        """Bytes out of the inbox, up to `count` and to an urgent byte. At an urgent byte: past it, or with it first."""
        inbox = self.inbox
        parts: list[bytes] = []
        left = count
        while inbox and left:
            item = inbox[0]
            if type(item) is Urgent:
                if parts:
                    break
                self.urgent = None
                if self._inline():
                    inbox[0] = item.data
                else:
                    inbox.popleft()
                    self.inbox_bytes -= 1
                continue
            assert isinstance(item, bytes)
            if len(item) > left:
                parts.append(item[:left])
                inbox[0] = item[left:]
                break
            parts.append(item)
            left -= len(item)
            inbox.popleft()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _peek(self, count: int) -> Incoming:
        """MSG_PEEK: nothing leaves. SO_PEEK_OFF moves where it starts."""
        skip = max(self.peek_offset, 0)
        parts: list[bytes] = []
        left = count
        for item in self.inbox:
            if type(item) is Urgent:
                if parts:
                    break
                if not self._inline():
                    continue
                data = item.data
            else:
                assert isinstance(item, bytes)
                data = item
            if skip >= len(data):
                skip -= len(data)
                continue
            if not left:
                break
            piece = data[skip : skip + left]
            skip = 0
            parts.append(piece)
            left -= len(piece)
        data = b"".join(parts)
        if not data:
            return self._nothing()
        if self.peek_offset >= 0:
            self.peek_offset += len(data)
        return Incoming(data, len(data))

    def _receive_urgent(self, flags: int) -> Incoming:
        """recv(2) with MSG_OOB (tcp_recv_urg). EINVAL: there is none, it was read, or it is in line; ENOTCONN."""
        urgent = self.urgent
        if self._inline() or urgent is None or urgent.taken:
            raise LinuxError(errno.EINVAL)
        if self.state == tcp.TCP_CLOSE and not self.done:
            raise LinuxError(errno.ENOTCONN)
        if not flags & so.MSG_PEEK:
            urgent.taken = True
        return Incoming(urgent.data, 1, flags=so.MSG_OOB)

    # --- readiness ---
    def _has_room(self) -> bool:
        peer = self.peer
        if peer is None:
            return self.far is None or bool(self.far.has_room())
        return bool((peer.inbox_bytes + OVERHEAD_BYTES * len(peer.inbox)) * 3 <= self.send_buffer * 2)

    def _is_readable(self) -> bool:
        waiting = self.inbox_bytes
        if waiting and self.urgent is not None and not self._inline() and self.inbox[0] is self.urgent:
            waiting -= 1
        return waiting >= self.options.get(so.SO_RCVLOWAT, 1)

    def poll(self) -> int:
        """As tcp_poll."""
        peer = self.out
        state = self.state
        if peer is not None and state == tcp.TCP_ESTABLISHED and not self.shut and self.plain_receive:
            if self.urgent is None and not self.error:  # the everyday case of what follows
                bits = READABLE if self.inbox_bytes else 0
                if (peer.inbox_bytes + OVERHEAD_BYTES * len(peer.inbox)) * 3 <= self.send_buffer * 2:
                    return bits | _WRITABLE
                self.no_space = True
                return bits
        if state == tcp.TCP_LISTEN:
            return READABLE if self.pending else 0
        if type(self.ring_end) is LocalEnd:
            return self.poll_rings(self.ring_end)
        far = self.far
        arrived = False
        if far is not None and far.unsure and not self._is_readable():
            if so.SO_RCVLOWAT in self.options:
                far.fill(1)
            else:
                arrived = far.has_arrived()
            state = self.state
        shut = self.shut
        bits = po.POLLHUP if shut == _BOTH or state == tcp.TCP_CLOSE else 0
        if shut & RECEIVE_SHUT:
            bits |= READABLE | po.POLLRDHUP
        if state != tcp.TCP_SYN_SENT:
            if arrived or (self.inbox_bytes and self._is_readable()):
                bits |= READABLE
            if shut & SEND_SHUT or self._has_room():
                bits |= _WRITABLE
            else:
                self.no_space = True
            if self.urgent is not None and not self.urgent.taken:
                bits |= po.POLLPRI
        if self.error:
            bits |= po.POLLERR
        return bits

    # --- options and ioctls ---
    def get_option(self, task: Task, level: int, name: int) -> bytes:
        if level == in_h.IPPROTO_TCP:
            return get_tcp_option(self, name)
        return super().get_option(task, level, name)

    def set_option(self, task: Task, level: int, name: int, value: bytes) -> None:
        if level == in_h.IPPROTO_TCP:
            set_tcp_option(task, self, name, value)
        else:
            super().set_option(task, level, name, value)

    def unread_bytes(self) -> int:
        """Up to the urgent byte, if there is one (tcp_inq)."""
        if self.state == tcp.TCP_LISTEN:
            raise LinuxError(errno.EINVAL)
        if self.urgent is None or self._inline():
            return self.arrived_bytes() + (self.far.unread_bytes() if self.far is not None else 0)
        before = 0
        for item in self.inbox:
            if type(item) is Urgent:
                break
            assert isinstance(item, bytes)
            before += len(item)
        return before

    def unsent_bytes(self) -> int:
        """What the peer's receive window does not hold yet; all else was acknowledged."""
        if self.state == tcp.TCP_LISTEN:
            raise LinuxError(errno.EINVAL)
        peer = self.peer
        if peer is None:
            return int(self.far.unsent_bytes()) if self.far is not None else 0
        return int(max(peer.arrived_bytes() - peer.receive_buffer, 0))

    def at_mark(self) -> bool:
        """SIOCATMARK: the next byte is the urgent one."""
        return self.urgent is not None and bool(self.inbox) and self.inbox[0] is self.urgent

    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        if request == io.SIOCATMARK:
            task.mm.write(arg, I32.pack(self.at_mark()))
            return 0
        if request == io.SIOCOUTQNSD:
            task.mm.write(arg, I32.pack(self.unsent_bytes()))
            return 0
        return super().ioctl(task, request, arg)
