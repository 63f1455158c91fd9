"""Streams: a TCP socket of the stack and the client's data socket, a pair of which one end is here.

    net to client   what the connection received goes to the data socket straight from where it lies in the frames; what
                    does not fit stays there, so that the window closes (`_deliver`)
    client to net   read from the data socket only as far as the send buffer has room (`_collect`)

Before there is a data socket the bytes of an accepted connection may be in messages (carried_stream.py), and after
`rings` they go through memory that the client shares (ringed_stream.py).

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
from typing import TYPE_CHECKING, Any, Final

from protocol.errors import ProtocolViolation
from protocol.rpc.codec import Fd
from services.netstackd.errors import NetError
from services.netstackd.socket_service.addresses import to_client, to_stack
from services.netstackd.socket_service.ringed_stream import RingedStream
from services.netstackd.socket_service.stream_base import (
    BATCH_BYTES,
    CLOSING,
    CONNECTED,
    CONNECTING,
    DEAD,
    EDGES,
    GONE,
    IDLE,
    READ_BYTES,
    WRITE_PARTS,
)
from services.netstackd.transport.base import SHUT_RD
from services.netstackd.transport.tcp import states

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.transport.tcp.segment import Payload

_SIOCOUTQ: Final = 0x5411  # linux/sockios.h; of a Unix socket: what the other end has not read

_ENDS: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_ACKED: Final = 1 << states.CLOSED | 1 << states.FIN_WAIT_2 | 1 << states.TIME_WAIT


class Stream(RingedStream):
    """See the module docstring."""

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
        if self._carried and how != SHUT_RD:
            self._fin_said = True
            self.session.service.note(self)
        elif self._data is None or how == SHUT_RD:
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
        assert self._endpoint is not None
        try:
            theirs = self._make_data(self._endpoint)
        except OSError as error:
            session.service.count("DataSocketsRefused")
            session.tell("error", [front[0], error.errno or errno.ENFILE])
            return False
        session.tell(event, [*front, *self._names(), Fd(theirs.detach())])
        return True

    def _make_data(self, endpoint: Endpoint) -> _socket.socket:
        """Make the data socket; the client's end. OSError."""
        # Not socket.socketpair, which asks the host for the names of both ends.
        ours, theirs = _socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0)
        self._data, self._fd = ours, ours.fileno()
        endpoint.taker = self._take_at_once
        self.session.service.loop.watch(self._fd, EDGES, self._on_data_socket)
        return theirs

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
            if self.carries:
                stream._begin_carried(self.number, endpoint)
            elif not stream.open_data("accepted", [self.number, stream.number]):
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
            self.session.service.loop.watch(self._fd, EDGES, self._on_data_socket)
        self.pump(now)

    def _transfer(self, now: int) -> None:
        endpoint = self._endpoint
        assert endpoint is not None
        rings = self._rings
        if self._ring_broken:
            raise ProtocolViolation("found in a flush")
        if self._carried or self._unsent or self._fin_said:
            self._push_carried(endpoint, now)
        if self._carried:
            if self.state == CONNECTED:
                self._deliver_carried(endpoint)
        elif self._data is not None and not self._unsent:
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

    def _block(self) -> None:
        """The data socket is full: be told when it is not."""
        self._write_blocked = True
        self.session.service.loop.watch(self._fd, EDGES | select.EPOLLOUT, self._on_data_socket)

    def _reader_is_gone(self, endpoint: Endpoint) -> None:
        """The client has closed its end and data came for it: a reset, as for a closed socket (RFC 9293 3.10.7.4)."""
        self.session.service.count("ResetsByClosedReader")
        self._reset()

    # -- ends --

    def _die(self, number: int) -> None:
        self.session.tell("error", [self.number, number])
        self._close_data()
        self.state = DEAD

    def _close_data(self) -> None:
        data, self._data = self._data, None
        self._carried = False
        self._unsent.clear()
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
        if state == CONNECTED and endpoint is not None and (self._data is not None or self._carried):
            self.state = CLOSING
            self._readable = True  # look once more: what is there is still to be sent
            self.session.service.note(self)
            return
        if state in (CLOSING, GONE):
            return
        self._let_go()

    def _go_on_closing(self, endpoint: Endpoint) -> None:
        """After `close`: empty the data socket, then close the connection."""
        if self._untaken and self.state == CLOSING and (self._carried or self._data is not None):
            self.session.service.count("ResetsByUnreadData")
            self._reset()
        elif self._carried:
            if (self._unsent or self._urgent) and not endpoint.send_shutdown:
                return
            self._close_data()
            self._let_go()
        elif self._data is not None:
            if (self._readable or self._urgent or self._unsent) and not (self._collected_all or endpoint.send_shutdown):
                return
            if self._left_unread(self._data):
                self.session.service.count("ResetsByUnreadData")
                self._reset()
                return
            self._close_data()
            self._let_go()
        elif _ACKED >> endpoint.state & 1:
            self._gone()

    def _left_unread(self, data: _socket.socket) -> bool:
        """Whether the client closes and has not read all that it was given: that is a reset (RFC 2525 2.17)."""
        rings = self._rings
        if rings is not None:
            return rings.unread() > 0
        if not self._ended:  # it has not closed its end yet
            return _unread(self._fd)
        try:
            data.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False

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
