"""Streams without a data socket: a short connection's bytes within messages (`carry` of the contract).

A connection whose listener has said `carry` begins so, and goes on with a data socket when the client asks for one.
Bytes of the client wait here when the send buffer has no room for them; there are never many. While messages wait for
a client that does not read them, no data is added to them (`Session.holds`), and the window closes.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from protocol.netstack.messages import MAX_CARRIED
from protocol.rpc.codec import Fd
from services.netstackd.errors import NetError
from services.netstackd.socket_service.stream_base import CONNECTED, WRITE_PARTS, StreamBase

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.transport.tcp.segment import Payload


class CarriedStream(StreamBase):
    """See the module docstring."""

    def carry(self) -> None:
        """`carry` of the contract."""
        self.carries = True

    def send(self, data: bytes) -> None:
        """`send` of the contract."""
        if not self._carried or self._fin_said or self.state != CONNECTED:
            raise NetError(errno.ENOTCONN, "nothing is carried there")
        if self._collected + len(self._unsent) + len(data) > MAX_CARRIED:
            raise NetError(errno.EMSGSIZE, f"no more than {MAX_CARRIED} bytes are carried")
        self._unsent += data
        self.session.service.note(self)

    def open_late(self) -> Fd:
        """`socket` of the contract: the client's end. OSError."""
        endpoint = self._endpoint
        if not self._carried or self.state != CONNECTED or endpoint is None:
            raise NetError(errno.ENOTCONN, "nothing is carried there")
        theirs = self._make_data(endpoint)
        self._carried = False
        if self._finished:
            assert self._data is not None
            self._data.shutdown(socket.SHUT_WR)
        self.session.service.note(self)
        return Fd(theirs.detach())

    def finish(self, received: int) -> None:
        """`finish` of the contract."""
        self._untaken = received < self._delivered
        self.close()

    def _begin_carried(self, listener: int, endpoint: Endpoint) -> None:
        """Tell the client of a connection, with what has come already."""
        self._carried = True
        first = b"" if endpoint.urgent_state else self._take_carried(endpoint)
        self.session.tell("accepted", [listener, self.number, *self._names(), first])
        endpoint.taker = self._tell_at_once

    def _take_carried(self, endpoint: Endpoint) -> bytes:
        """What came and may be told in a message now."""
        limit = MAX_CARRIED - self._delivered
        if limit <= 0 or not endpoint.receive.size or self.session.holds(self):
            return b""
        data = b""
        for part in endpoint.receive.parts(WRITE_PARTS):
            data += bytes(memoryview(part)[: limit - len(data)])
            if len(data) == limit:
                break
        endpoint.consume(len(data))
        self._delivered += len(data)
        if endpoint.queued:
            self.session.touch()
        return data

    def _deliver_carried(self, endpoint: Endpoint) -> None:
        """As `_deliver`, in messages."""
        if endpoint.urgent_state:
            self._deliver_around_mark(endpoint)
        if not endpoint.urgent_state:
            while data := self._take_carried(endpoint):
                self.session.tell("data", [self.number, data])
        self._look_for_end(endpoint)

    def _tell_at_once(self, payload: Payload) -> int:
        """As `_take_at_once`, in a message."""
        size = len(payload)
        if not self._carried or self.state != CONNECTED or self._delivered + size > MAX_CARRIED:
            return 0
        if not size or self.session.holds(self):  # a message without bytes would be a FIN
            return 0
        self.session.tell("data", [self.number, bytes(payload)])
        self._delivered += size
        return size

    def _push_carried(self, endpoint: Endpoint, now: int) -> None:
        """Send on what the client has put into messages, and its FIN behind that."""
        unsent = self._unsent
        while unsent or self._urgent:
            limit = len(unsent)
            if self._urgent:
                if not self._send_urgent(endpoint):
                    return
                if self._urgent:
                    limit = min(limit, self._urgent[0][0] - self._collected)
            if not limit:
                break
            if endpoint.send_shutdown or endpoint.error:
                taken = limit  # nobody takes it any more: it is thrown away, as after a reset
            else:
                taken = endpoint.write(bytes(unsent[:limit]))
                self.session.touch()
                if taken <= 0:
                    return  # POLLOUT is told when there is room
            self._collected += taken
            del unsent[:taken]
        if self._fin_said and not self._collected_all:
            self._collected_all = True
            if self.state == CONNECTED:
                endpoint.shutdown_write(now)
            self.session.touch()
