"""Streams: a TCP socket of the stack and the client's data socket, a pair of which one end is here.

    net to client   what the connection received goes to the data socket straight from where it lies in the frames; what
                    does not fit stays there, so that the window closes (`_deliver`)
    client to net   read from the data socket only as far as the send buffer has room (`_collect`)

After `rings` the bytes go through memory that the client shares (ring_data.py), and the data socket carries doorbells
and the end of file. Nothing is looked at that nobody has told of: the client's doorbell comes when it produces while tx
is armed, and it is armed unless a full segment waits to be sent anyway; then the next acknowledgement is what tells.
That, or LOOK_NS, is what a busy stream's ring is looked at after, too (`_doze`).
Bytes move to and from rings in the middle of a flush, right before the connection's segments leave (`_exchange`): so an
acknowledgement says what has been read already, and one pass is enough.

The data socket is watched for edges, so that nothing is told to epoll while data flows: `readable` holds until a read
came short, and only a full socket adds EPOLLOUT, until it has room again. A stream that has more to do than BATCH_BYTES
in one go is noted again and served after others.

Life: CONNECTING or made by a listener; CONNECTED, with a data socket; CLOSING after `close`, while the data socket is
emptied and then our FIN waits for its acknowledgement; DEAD after an error, until `close`.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import select
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from protocol.errors import ProtocolViolation
from protocol.rings import SLEEPS, mapping_bytes
from protocol.rpc.codec import Fd
from services.netstackd.edge.placement import Placement, placement_of
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.socket_service import limits
from services.netstackd.socket_service.addresses import to_client, to_stack
from services.netstackd.socket_service.answers import SOON_NS, Patience
from services.netstackd.socket_service.ring_data import RingData
from services.netstackd.socket_service.shared_memory_unsafe import map_untrusted
from services.netstackd.transport.base import MSG_OOB, SHUT_RD
from services.netstackd.transport.tcp import output, states
from services.netstackd.transport.tcp.window import is_read_news
from services.netstackd.transport.tcp_socket import TcpSocket

if TYPE_CHECKING:
    from services.netstackd.socket_service.session import Session
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.transport.tcp.segment import Payload

READ_BYTES: Final = 1 << 16  # at once from a data socket
BATCH_BYTES: Final = 1 << 18  # in each direction before others are served
TAKEN_BYTES: Final = 1 << 20  # at once from a ring: they stay where they are
WRITE_PARTS: Final = 64  # pieces of one write; IOV_MAX is 1024

IDLE: Final = 0  # opened, bound or listening
CONNECTING: Final = 1
CONNECTED: Final = 2
CLOSING: Final = 3
DEAD: Final = 4
GONE: Final = 5

_BELL: Final = b"\0"
_SIOCOUTQ: Final = 0x5411  # linux/sockios.h; of a Unix socket: what the other end has not read

_EDGES: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_ENDS: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_ACKED: Final = 1 << states.CLOSED | 1 << states.FIN_WAIT_2 | 1 << states.TIME_WAIT


class Stream:
    """See the module docstring."""

    def __init__(self, session: Session, number: int, tcp: TcpSocket) -> None:
        self.session = session
        self.number = number
        self.tcp = self.raw = tcp
        self.family = tcp.family
        self.state = IDLE
        self.queued = False
        self.failed = 0  # errno of a bind that nobody waited for
        self.backlog = 0
        self.outstanding = 0  # accepted connections that the client has not taken
        self._rings: RingData | None = None
        self._placement: Placement | None = None
        self._ring_broken = False
        self._asleep = False  # tx is armed: the doorbell rings when there is something in it
        self._dozing = False  # it is not: acknowledgements and time have us look at it
        self._fresh = False  # something was taken since we last dozed off
        self._look_at = 0  # no dozing behind it
        self._expected = False  # `answers` looks whether there is
        self._patience = Patience(SOON_NS)
        self._moved = False  # bytes came into rx that the client was not told of
        self._room = False  # the client waits for room in tx, which there is
        self._data: _socket.socket | None = None
        self._fd = -1
        self._endpoint: Endpoint | None = None
        self._readable = False
        self._ended = False  # the client sends no more: an end of file is there or near
        self._end_read = False  # it was read; there may be more in a ring
        self._hung_up = False  # the client has closed its end (or both directions are shut down)
        self._collected_all = False
        self._write_blocked = False
        self._finished = False  # our end was shut down: the network sends no more
        self._told_error = False
        self._delivered = 0
        self._collected = 0
        self._urgent: deque[tuple[int, int]] = deque()  # offset, byte
        tcp.subscribe(self._on_event)

    def _on_event(self, sock: object, events: int) -> None:
        if not self.queued:  # SocketService.note, spelled out
            self.queued = True
            self.session.service.ready.append(self)

    # -- what the client asks for --

    def bind(self, address: list[Any]) -> list[Any]:
        """bind(2)."""
        self.tcp.bind(to_stack(self.family, address))
        return to_client(self.family, self.tcp.name())

    def prefer(self, address: list[Any]) -> None:
        """The name that a connection is to have, if it can."""
        self.tcp.prefer(to_stack(self.family, address))

    def connect(self, address: list[Any] | None) -> None:
        """connect(2); the outcome comes as an event."""
        self._check_failed()
        if address is None:
            raise NetError(errno.EINVAL, "a stream has no association to dissolve")
        if self.state == DEAD:
            raise NetError(errno.ECONNABORTED, "could not connect: open another socket")
        try:
            self.tcp.connect(to_stack(self.family, address))
        except NetError as error:
            if error.errno != errno.EINPROGRESS:
                raise
        self.state = CONNECTING

    def listen(self, backlog: int) -> list[Any]:
        """listen(2)."""
        self._check_failed()
        self.tcp.listen(backlog)
        listener = self.tcp.listener
        assert listener is not None
        self.backlog = listener.backlog
        self.session.service.note(self)
        return to_client(self.family, self.tcp.name())

    def _check_failed(self) -> None:
        if self.failed:
            raise NetError(self.failed, "could not be bound")

    def taken(self, count: int) -> None:
        """The client has room for more accepted connections."""
        self.outstanding = max(self.outstanding - count, 0)
        listener = self.tcp.listener
        if listener is not None and listener.queue:
            self.session.service.note(self)

    def shutdown(self, how: int) -> None:
        """shutdown(2) of a listener, or of a connection that is not there yet."""
        if self._data is None or how == SHUT_RD:
            self.tcp.shutdown(how)
        else:
            raise NetError(errno.EINVAL, "shut the data socket down")

    def urgent(self, byte: int, offset: int) -> None:
        """One byte out of band behind `offset` bytes of the stream."""
        if self._endpoint is None:
            raise NetError(errno.ENOTCONN, "not connected")
        if self._collected_all:
            raise NetError(errno.EPIPE, "shut down for writing")
        self._urgent.append((offset, byte))
        self.session.service.note(self)

    def rings(self, rx_size: int, tx_size: int, sent: int, fd: int) -> int:
        """`rings` of the contract; the bytes delivered until now. `fd` stays the caller's."""
        session = self.session
        if self.state != CONNECTED or self._data is None:
            raise NetError(errno.ENOTCONN, "not connected")
        if self._rings is not None:
            raise NetError(errno.EALREADY, "there are rings")
        if sent < self._collected:
            raise NetError(errno.EINVAL, f"{self._collected} bytes came already")
        size = mapping_bytes(rx_size, tx_size)
        if session.rings >= limits.MAX_RINGS or session.rings_bytes + size > limits.MAX_RINGS_BYTES:
            session.service.count("RingsRefused")
            most = f"more than {limits.MAX_RINGS} streams or {limits.MAX_RINGS_BYTES} bytes have rings"
            raise NetError(errno.ENOSPC, most)
        self._rings = RingData(map_untrusted(fd, size), rx_size, tx_size, sent)
        session.rings += 1
        session.rings_bytes += size
        endpoint = self._endpoint
        assert endpoint is not None
        endpoint.sndbuf = max(endpoint.sndbuf, tx_size)  # room is told by it
        endpoint.user_space = rx_size
        endpoint.taker = self._put_at_once
        endpoint.before_flush = self._exchange
        path: Any = endpoint.route
        if path.way.out is not None:
            self._placement = placement_of(session.service.loop, session.stack, path.way.out)
            if self._placement is not None:
                self._placement.add(endpoint, self)
        if self._write_blocked:
            self._write_blocked = False
            session.service.loop.watch(self._fd, _EDGES, self._on_data_socket)
        session.service.note(self)
        return self._delivered

    def describe(self) -> dict[str, Any]:
        """A row for `sockets`."""
        tcp, endpoint = self.tcp, self._endpoint or self.tcp.endpoint
        listener = tcp.listener
        state = states.LISTEN if listener is not None else endpoint.state if endpoint is not None else states.CLOSED
        return {
            "state": state,
            "local": to_client(self.family, tcp.name()),
            "remote": to_client(self.family, tcp.remote) if tcp.remote is not None else None,
            "receive_queue": len(listener.queue) if listener else endpoint.receive.size if endpoint else 0,
            "send_queue": endpoint.outstanding() if endpoint is not None else 0,
            "backlog": self.backlog,
        }

    # -- the life of a connection --

    def accept_into(self, endpoint: Endpoint) -> None:
        """A connection that a listener has made."""
        self._endpoint = endpoint
        endpoint.on_event = self._on_event
        self.state = CONNECTED

    def pump(self, now: int) -> None:
        """Do all that can be done now."""
        state = self.state
        try:
            if state == CONNECTED or state == CLOSING:
                try:
                    self._transfer(now)
                except ProtocolViolation:  # in its rings
                    self._violated()
            elif state == CONNECTING:
                self._look_at_connect(now)
            elif state == IDLE and self.tcp.listener is not None:
                self._accept()
        except Exception as error:
            self.session.service.failed(self.session, error)

    def _look_at_connect(self, now: int) -> None:
        endpoint = self.tcp.endpoint
        if endpoint is None or endpoint.state == states.SYN_SENT:
            return
        if endpoint.state == states.CLOSED:
            self._die(endpoint.take_error() or errno.ECONNABORTED)
            return
        if endpoint.state == states.SYN_RECEIVED:
            return
        self._endpoint = endpoint
        self.state = CONNECTED
        if not self.open_data("connected", [self.number]):
            self.abort()
            return
        self._transfer(now)

    def open_data(self, event: str, front: list[Any]) -> bool:
        """Make the data socket and tell the client; False (and told) when the process has no descriptor left."""
        session = self.session
        try:
            # Not socket.socketpair, which asks the host for the names of both ends.
            ours, theirs = _socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
        except OSError as error:
            session.service.count("DataSocketsRefused")
            session.tell("error", [front[0], error.errno or errno.ENFILE])
            return False
        remote = self.tcp.remote
        assert remote is not None
        names = [to_client(self.family, self.tcp.name()), to_client(self.family, remote)]
        self._data, self._fd = ours, ours.fileno()
        if self._endpoint is not None:
            self._endpoint.taker = self._take_at_once
        session.service.loop.watch(self._fd, _EDGES, self._on_data_socket)
        session.tell(event, [*front, *names, Fd(theirs.detach())])
        return True

    def _accept(self) -> None:
        """Hand over connections, as many as the client has room for."""
        session, listener = self.session, self.tcp.listener
        while listener is not None and listener.queue and self.outstanding <= self.backlog:
            child = self.tcp.accept()
            endpoint = child.endpoint
            assert endpoint is not None
            if session.is_full():
                endpoint.abort(session.now)
                session.touch()
                continue
            stream = Stream(session, session.next_number(), child)
            stream.accept_into(endpoint)
            session.enter(stream.number, stream)
            if not stream.open_data("accepted", [self.number, stream.number]):
                stream.release()
                continue
            self.outstanding += 1
            session.service.note(stream)

    def _on_data_socket(self, events: int, now: int) -> None:
        if events & select.EPOLLIN:
            self._readable = True
        if events & _ENDS:
            self._readable = self._ended = True
            if events & select.EPOLLHUP:
                self._hung_up = True
        if events & select.EPOLLOUT and self._write_blocked:
            self._write_blocked = False
            self.session.service.loop.watch(self._fd, _EDGES, self._on_data_socket)
        self.pump(now)

    def _transfer(self, now: int) -> None:
        endpoint = self._endpoint
        assert endpoint is not None
        rings = self._rings
        if self._ring_broken:
            raise ProtocolViolation("found in a flush")
        if self._data is not None:
            if rings is not None and self._collected >= rings.sent:
                self._collect_ring(rings, endpoint, now)
            elif self._readable:
                self._collect(endpoint, now)
            elif self._urgent:
                self._send_urgent(endpoint)
        if self._data is not None and self.state == CONNECTED:
            if rings is not None:
                self._deliver_ring(rings, endpoint)
            else:
                self._deliver(endpoint)
        if self.state == CLOSING:
            self._go_on_closing(endpoint)

    # -- client to network --

    def _collect(self, endpoint: Endpoint, now: int) -> None:
        """Read what the send buffer has room for."""
        data = self._data
        assert data is not None
        budget = BATCH_BYTES
        rings = self._rings
        while self._readable and not self._collected_all:
            most = READ_BYTES
            if rings is not None:
                most = min(most, rings.sent - self._collected)
                if not most:
                    self.session.service.note(self)  # the rest is in the ring
                    return
            want = min(endpoint.room(), most)
            if self._urgent:
                if not self._send_urgent(endpoint):
                    return
                if self._urgent:
                    want = min(want, self._urgent[0][0] - self._collected)
            if want <= 0:
                if not endpoint.send_shutdown:
                    endpoint.write_blocked = True  # POLLOUT is told when there is room again
                    return
                want = most  # nobody takes it any more: what comes is thrown away, as after a reset
            try:
                received = data.recv(want)
            except BlockingIOError:
                self._readable = False
                return
            except OSError as error:
                # closed with unread data in it: Linux resets such a connection (RFC 2525 2.17)
                self.session.service.count("ResetsByUnreadData" if error.errno == errno.ECONNRESET else "DataErrors")
                self._reset()
                return
            if not received:
                if rings is not None:
                    raise ProtocolViolation("less was sent than was said")
                self._collected_all, self._readable = True, False
                if self.state == CONNECTED:
                    endpoint.shutdown_write(now)
                self.session.touch()
                return
            size = len(received)
            self._collected += size
            if not endpoint.send_shutdown:
                endpoint.write(received)
                self.session.touch()
            if size < want and not self._ended:
                self._readable = False
                return
            budget -= size
            if budget <= 0:
                self.session.service.note(self)
                return

    def _send_urgent(self, endpoint: Endpoint) -> bool:
        """Urgent bytes whose place has come. False: there is no room for one now."""
        while self._urgent and self._urgent[0][0] <= self._collected:
            try:
                self.tcp.send(bytes((self._urgent[0][1],)), MSG_OOB)
            except WouldBlock:
                return False
            except NetError:
                self._urgent.clear()
                return True
            self._urgent.popleft()
            self.session.touch()
        return True

    # -- network to client --

    def _deliver(self, endpoint: Endpoint) -> None:
        """Write what was received to the data socket."""
        data = self._data
        assert data is not None
        receive = endpoint.receive
        budget = BATCH_BYTES
        while not self._write_blocked:
            if endpoint.urgent_state:
                self._deliver_around_mark(endpoint)
                if self._data is None:
                    return
                if endpoint.urgent_state:
                    break
            if not receive.size:
                break
            try:
                sent = data.sendmsg(receive.parts(WRITE_PARTS), (), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._block()
                break
            except OSError:
                self._reader_is_gone(endpoint)
                return
            endpoint.consume(sent)
            self._delivered += sent
            if endpoint.queued:
                self.session.touch()
            budget -= sent
            if budget <= 0:
                self.session.service.note(self)
                break
        self._look_for_end(endpoint)

    def _take_at_once(self, payload: Payload) -> int:
        """Endpoint.taker: a small segment goes on as it comes. What is in the way is `_deliver`'s to find out about."""
        if self._write_blocked or self._data is None or self.state != CONNECTED:
            return 0
        try:
            sent = self._data.send(payload, socket.MSG_NOSIGNAL)
        except OSError:
            return 0
        self._delivered += sent
        return sent

    def _deliver_around_mark(self, endpoint: Endpoint) -> None:
        """Near an urgent byte: tell of it, and let reads stop at the mark as recv(2) does."""
        value = endpoint.read_urgent()
        if value >= 0:
            offset = self._delivered + max(endpoint.urgent_seq - endpoint.copied_seq, 0)
            self.session.tell("urgent", [self.number, value, offset])
        data, rings = self._data, self._rings
        assert data is not None
        while endpoint.urgent_state:
            chunk = endpoint.read(READ_BYTES, peek=True)
            if isinstance(chunk, int) or not chunk:
                return
            try:
                sent = data.send(chunk, socket.MSG_NOSIGNAL) if rings is None else rings.write(chunk)
            except BlockingIOError:
                self._block()
                return
            except OSError:
                self._reader_is_gone(endpoint)
                return
            if not sent:
                return  # a full ring
            endpoint.read(sent)
            self._delivered += sent
            self.session.touch()

    def _block(self) -> None:
        """The data socket is full: be told when it is not."""
        self._write_blocked = True
        self.session.service.loop.watch(self._fd, _EDGES | select.EPOLLOUT, self._on_data_socket)

    def _reader_is_gone(self, endpoint: Endpoint) -> None:
        """The client has closed its end and data came for it: a reset, as for a closed socket (RFC 9293 3.10.7.4)."""
        self.session.service.count("ResetsByClosedReader")
        self._reset()

    def _look_for_end(self, endpoint: Endpoint) -> None:
        """After an error the client is told at once; an end of file, or the loss of the data socket, comes after all
        data."""
        if endpoint.error and not self._told_error:
            self._told_error = True
            self.session.tell("error", [self.number, endpoint.take_error()])
        if endpoint.receive.size and not self._write_blocked:
            return
        if self._told_error:
            if not endpoint.receive.size:
                self._close_data()
                self.state = DEAD
        elif endpoint.fin_received and not endpoint.receive.size and not self._finished and self._data is not None:
            self._finished = True
            try:
                self._data.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the other end is closed already

    # -- through rings --

    def _exchange(self, now: int) -> None:
        """In a flush: take what the client has produced, and give it what came. The rest of it is `_transfer`'s."""
        rings, endpoint = self._rings, self._endpoint
        if rings is None or endpoint is None or self._data is None or self._ring_broken:
            return
        try:
            self._dozing = False
            if self._collected >= rings.sent and not self._urgent:
                taken = self._take(rings, endpoint, TAKEN_BYTES, self._unit(endpoint, now))
                if not self._asleep and not self._end_read and taken < TAKEN_BYTES:
                    self._doze(endpoint, now)
            if self.state == CONNECTED and not self._hung_up and endpoint.receive.size and not endpoint.urgent_state:
                self._give(rings, endpoint)
            endpoint.user_unread = rings.unread()
        except ProtocolViolation:
            self._ring_broken = True
        if self._moved or self._room or self._ring_broken or not (self._asleep or self._dozing):
            self.session.service.note(self)
        elif endpoint.send.first != endpoint.send.end:
            endpoint.write_blocked = True  # be told of acknowledgements

    def _unit(self, endpoint: Endpoint, now: int) -> int:
        """Of a busy stream whole large segments are taken: more comes before the rest of one would have been sent, and
        a short one costs as much. With TCP_NODELAY nothing waits."""
        if now >= self._look_at or endpoint.options.nodelay:
            return 1
        unit = output.large_limit(endpoint, endpoint.mss)
        return unit if unit >= limits.BUSY_BYTES else 1

    def _take(self, rings: RingData, endpoint: Endpoint, limit: int, unit: int = 1) -> int:
        """Queue what the client has produced; give it the place of what is acknowledged."""
        if rings.release(endpoint.send.first):
            self._room = True
        if endpoint.send_shutdown or self._collected_all:
            return 0
        taken = rings.take(endpoint, limit, unit)
        if taken:
            self._collected += taken
            self._asleep = False
            self._fresh = True
            self._patience.answered(self.session.service.loop.clock)
            if self._expected:
                self._expected = False
                self.session.service.answers.answered(self)
        return taken

    def _give(self, rings: RingData, endpoint: Endpoint) -> int:
        """Copy what was received into the ring."""
        count = rings.deliver(endpoint, BATCH_BYTES)
        if count:
            self._delivered += count
            self._moved = True
        return count

    def _put_at_once(self, payload: Payload) -> int:
        """As `_take_at_once`, into the ring."""
        rings = self._rings
        if rings is None or self._data is None or self.state != CONNECTED or self._hung_up or self._ring_broken:
            return 0
        try:
            if rings.put(payload):
                self._delivered += len(payload)
                self._tell(rings)
                return len(payload)
        except ProtocolViolation:
            self._ring_broken = True
            self.session.service.note(self)
        return 0

    def _tell(self, rings: RingData) -> None:
        """Bytes were put into the ring: wake who waits for them."""
        flag = rings.reader_waits()
        if flag & SLEEPS:
            self._wake(rings)
        if flag & ~SLEEPS:
            self._ring()

    def place(self) -> tuple[int, memoryview, int]:
        """See placement.Reader."""
        rings = self._rings
        assert rings is not None
        if self.state == CONNECTED and not self._hung_up and not self._ring_broken:
            try:
                return rings.place()
            except ProtocolViolation:
                self._ring_broken = True
                self.session.service.note(self)
        return 0, memoryview(b""), 0

    def placed(self, size: int) -> None:
        """See placement.Reader."""
        rings = self._rings
        assert rings is not None
        rings.placed(size)
        self._delivered += size
        self._moved = True
        self.session.service.note(self)
        self.session.touch()

    def _collect_ring(self, rings: RingData, endpoint: Endpoint, now: int) -> None:
        """As `_collect`, from tx. While it is armed and silent there is nothing in it."""
        if self._readable:
            self._asleep = self._dozing = False
            self._hear()
        while not (self._asleep or self._dozing) or self._urgent:
            limit = TAKEN_BYTES
            if self._urgent:
                if not self._send_urgent(endpoint):
                    break
                if self._urgent:
                    limit = self._urgent[0][0] - self._collected
            taken = self._take(rings, endpoint, limit)
            if taken:
                self.session.touch()
                if taken == limit:
                    continue
            if endpoint.send_shutdown or self._collected_all:
                break
            if self._end_read:
                self._collected_all = True
                self._end_of_ring(rings, endpoint, now)
                break
            if endpoint.send.end - endpoint.snd_nxt >= endpoint.mss or self._expected:
                break
            if self._doze(endpoint, now):
                break
            if rings.sleep():
                self._asleep = True
                break
        if endpoint.send.first != endpoint.send.end:
            endpoint.write_blocked = True  # be told of acknowledgements

    def _doze(self, endpoint: Endpoint, now: int) -> bool:
        """A doorbell costs the client and us as much as 64 KB do. So he is not asked for one while acknowledgements are
        sure to come soon (RFC 5681 4.2: of every second segment) and have us look; but for no longer than LOOK_NS after
        bytes came last, which is also as long as we sleep then. False: not now."""
        if self._fresh:
            self._fresh = False
            self._look_at = now + limits.LOOK_NS
        if now >= self._look_at or endpoint.send.end - endpoint.snd_una < limits.BUSY_BYTES:
            return False
        self._dozing = True
        endpoint.look_again(self._look_at)
        return True

    def _hear(self) -> None:
        """Read doorbells; what they tell of is looked at anyway."""
        data = self._data
        assert data is not None
        for _ in range(4):
            try:
                got = len(data.recv(READ_BYTES))
            except BlockingIOError:
                self._readable = False
                return
            except OSError:
                got = 0  # closed, doorbells unread
                self._hung_up = True
            if not got:
                self._readable, self._end_read = False, True
                return
            if got < READ_BYTES and not self._ended:
                self._readable = False
                return
        self.session.service.note(self)
        self.session.touch()

    def _end_of_ring(self, rings: RingData, endpoint: Endpoint, now: int) -> None:
        """The client sends no more, and perhaps has closed its end."""
        if self._hung_up and not self._finished and rings.unread():
            self.session.service.count("ResetsByUnreadData")
            self._reset()
        elif self.state == CONNECTED:
            endpoint.shutdown_write(now)
            self.session.touch()

    def _deliver_ring(self, rings: RingData, endpoint: Endpoint) -> None:
        """As `_deliver`, to rx; and the doorbell for both directions."""
        if endpoint.urgent_state:
            before = self._delivered
            self._deliver_around_mark(endpoint)
            self._moved |= self._delivered != before
        if endpoint.receive.size and not endpoint.urgent_state:
            if self._hung_up and not self._finished:
                self._reader_is_gone(endpoint)
                return
            count = self._give(rings, endpoint)
            if endpoint.queued:
                self.session.touch()
            if count >= BATCH_BYTES:
                self.session.service.note(self)
        if 2 * endpoint.user_unread > rings.rx_size:
            endpoint.user_unread = rings.unread()
            if is_read_news(endpoint):
                endpoint.read_since_ack = True
                endpoint.wake()
                self.session.touch()
        if self._moved:
            self._moved = False
            self._tell(rings)
        if self._room:
            self._room = False
            self._ring()
        self._look_for_end(endpoint)

    def _wake(self, rings: RingData) -> None:
        """Wake the client's thread, and perhaps look for what it does then."""
        service = self.session.service
        if not self._expected:
            self._patience.asked(service.loop.clock())
            if self._patience and service.answers.expect(self):
                self._expected, self._asleep, self._dozing = True, False, False
                rings.stay_awake()
        rings.wake()

    @property
    def fd(self) -> int:
        """See answers.Answering."""
        return self._fd

    def has_answered(self) -> bool:
        """See answers.Answering."""
        rings = self._rings
        try:
            return rings is None or rings.has_more()
        except ProtocolViolation:
            return True  # to be found again by who may act on it

    def gave_up(self) -> bool:
        """See answers.Answering."""
        rings = self._rings
        self._expected = False
        self._patience.vain()
        try:
            if rings is None or not rings.sleep():
                return False
        except ProtocolViolation:
            return False
        self._asleep = True
        return True

    def _ring(self) -> None:
        """Wake the client."""
        assert self._data is not None
        try:
            self._data.send(_BELL, socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it has doorbells to read, or has gone

    def _violated(self) -> None:
        """The client has written nonsense into its rings: that costs it this connection."""
        self.session.service.count("RingViolations")
        if not self._told_error:
            self._told_error = True
            self.session.tell("error", [self.number, errno.ECONNRESET])
        self._reset()

    # -- ends --

    def _die(self, number: int) -> None:
        self.session.tell("error", [self.number, number])
        self._close_data()
        self.state = DEAD

    def _close_data(self) -> None:
        data, self._data = self._data, None
        if self._endpoint is not None:
            self._endpoint.taker = None
        if self._expected:
            self._expected = False
            self.session.service.answers.forget(self)
        if data is not None:
            self.session.service.loop.forget(self._fd)
            data.close()

    def close(self) -> None:
        """`close` of the contract."""
        state = self.state
        endpoint = self._endpoint
        if state == CONNECTED and endpoint is not None and self._data is not None:
            self.state = CLOSING
            self._readable = True  # look once more: what is there is still to be sent
            self.session.service.note(self)
            return
        if state in (CLOSING, GONE):
            return
        self._let_go()

    def _go_on_closing(self, endpoint: Endpoint) -> None:
        """After `close`: empty the data socket, then close the connection."""
        if self._data is not None:
            if (self._readable or self._urgent) and not self._collected_all and not endpoint.send_shutdown:
                return
            rings = self._rings
            if rings.unread() if rings is not None else not self._ended and _unread(self._fd):
                self.session.service.count("ResetsByUnreadData")
                self._reset()
                return
            self._close_data()
            self._let_go()
        elif _ACKED >> endpoint.state & 1:
            self._gone()

    def _let_go(self) -> None:
        """Close the stack's socket; `gone` comes when our FIN is acknowledged."""
        endpoint = self._endpoint or self.tcp.endpoint
        self._close_data()
        self.tcp.close()
        if self.session.stack.has_to_flush():
            self.session.touch()
        if endpoint is None or _ACKED >> endpoint.state & 1:
            self._gone()
            return
        self.state = CLOSING
        self._endpoint = endpoint
        endpoint.on_event = self._on_event

    def abort(self) -> None:
        """`abort` of the contract."""
        if self.state != GONE:
            self._reset()
            self._let_go()

    def _reset(self) -> None:
        """Reset the connection; the id stays the client's until `close`."""
        endpoint = self._endpoint or self.tcp.endpoint
        if endpoint is not None and endpoint.state != states.CLOSED:
            endpoint.abort(self.session.now)
            endpoint.take_error()
        self.session.touch()
        self._close_data()
        if self.state == CLOSING:
            self._let_go()
        else:
            self.state = DEAD

    def progress(self) -> tuple[int, int]:
        """Something that grows while data of the client's goes on its way."""
        endpoint = self._endpoint or self.tcp.endpoint
        return self._collected, endpoint.snd_una if endpoint is not None else 0

    def release(self) -> None:
        """The namespace ends, or the client has been gone for long: nothing of this is kept."""
        self._close_data()
        endpoint = self._endpoint or self.tcp.endpoint
        if endpoint is not None and endpoint.state != states.CLOSED:
            endpoint.abort(self.session.now)
        self.tcp.close()
        self._gone()

    def _gone(self) -> None:
        if self.state != GONE:
            self.state = GONE
            rings, self._rings = self._rings, None
            if self._placement is not None and self._endpoint is not None:
                self._placement.remove(self._endpoint)
            if rings is not None:
                self.session.rings -= 1
                self.session.rings_bytes -= rings.bytes
            self.session.forget(self.number)


def _unread(fd: int) -> bool:
    """Whether the client has left data unread in its data socket, which it may not have closed yet."""
    left = bytearray(4)
    fcntl.ioctl(fd, _SIOCOUTQ, left)
    return any(left)
