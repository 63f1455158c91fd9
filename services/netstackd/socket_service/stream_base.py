"""What every stream of the socket service has, whatever carries its bytes: state, urgent bytes, how ends are told.

carried_stream.py, ringed_stream.py and streams.py build on each other, in this order, and all on this.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from protocol.netstack.messages import MAX_CARRIED
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.socket_service.addresses import to_client
from services.netstackd.socket_service.answers import SOON_NS, Patience
from services.netstackd.transport.base import MSG_OOB
from services.netstackd.transport.tcp_socket import TcpSocket

if TYPE_CHECKING:
    import _socket

    from services.netstackd.edge.placement import Placement
    from services.netstackd.socket_service.ring_data import RingData
    from services.netstackd.socket_service.session import Session
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.transport.tcp.segment import Payload

READ_BYTES: Final = 1 << 16  # at once from a data socket
BATCH_BYTES: Final = 1 << 18  # in each direction before others are served
WRITE_PARTS: Final = 64  # pieces of one write; IOV_MAX is 1024

IDLE: Final = 0  # opened, bound or listening
CONNECTING: Final = 1
CONNECTED: Final = 2
CLOSING: Final = 3
DEAD: Final = 4
GONE: Final = 5

EDGES: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET


class StreamBase:
    """See the module docstring. Of a connection: `_endpoint` is its TCP; `_collected` and `_delivered` count the bytes
    that came from the client and went to it."""

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
        self.carries = False  # those of this listener begin in messages
        self._carried = False  # this one does
        self._unsent = bytearray()  # came in messages, and finds no room yet
        self._fin_said = False  # a message has: behind what came in messages
        self._untaken = False  # the client has closed it without taking all that it was told
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

    def _names(self) -> list[list[Any]]:
        remote = self.tcp.remote
        assert remote is not None
        return [to_client(self.family, self.tcp.name()), to_client(self.family, remote)]

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

    def _deliver_around_mark(self, endpoint: Endpoint) -> None:
        """Near an urgent byte: tell of it, and let reads stop at the mark as recv(2) does."""
        value = endpoint.read_urgent()
        if value >= 0:
            offset = self._delivered + max(endpoint.urgent_seq - endpoint.copied_seq, 0)
            self.session.tell("urgent", [self.number, value, offset])
        data, rings = self._data, self._rings
        while endpoint.urgent_state:
            chunk = endpoint.read(READ_BYTES, peek=True)
            if isinstance(chunk, int) or not chunk:
                return
            try:
                if rings is not None:
                    sent = rings.write(chunk)
                elif data is not None:
                    sent = data.send(chunk, socket.MSG_NOSIGNAL)
                else:
                    sent = self._tell_at_once(chunk[: MAX_CARRIED - self._delivered])
            except BlockingIOError:
                self._block()
                return
            except OSError:
                self._reader_is_gone(endpoint)
                return
            if not sent:
                return  # a full ring, or nothing that a message may carry now
            endpoint.read(sent)
            if not self._carried:  # there it is counted already
                self._delivered += sent
            self.session.touch()

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
        elif endpoint.fin_received and not endpoint.receive.size and not self._finished and self._carried:
            self._finished = True
            self.session.tell("data", [self.number, b""])
        elif endpoint.fin_received and not endpoint.receive.size and not self._finished and self._data is not None:
            self._finished = True
            try:
                self._data.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the other end is closed already

    # -- of what is built on it --

    def pump(self, now: int) -> None:
        """Do all that can be done now."""
        raise NotImplementedError

    def _make_data(self, endpoint: Endpoint) -> _socket.socket:
        """Make the data socket; the client's end. OSError."""
        raise NotImplementedError

    def _close_data(self) -> None:
        """There is no data socket any more, and nothing else that carries."""
        raise NotImplementedError

    def _on_data_socket(self, events: int, now: int) -> None:
        """The loop's watcher of the data socket."""
        raise NotImplementedError

    def _tell_at_once(self, payload: Payload) -> int:
        """Endpoint.taker of a carried stream: how many bytes went in a message."""
        raise NotImplementedError

    def _block(self) -> None:
        """The data socket is full: be told when it is not."""
        raise NotImplementedError

    def _reader_is_gone(self, endpoint: Endpoint) -> None:
        """The client has closed its end, and data came for it."""
        raise NotImplementedError

    def close(self) -> None:
        """`close` of the contract."""
        raise NotImplementedError

    def _reset(self) -> None:
        """Reset the connection; the id stays the client's until `close`."""
        raise NotImplementedError
