"""A connection without a host socket: its bytes come and go in messages of the control connection.

So begin those that a listener has accepted, for most are short, and a host socket costs more than what passes by it.
When there is more than a little, or it has become a conversation, a host socket is asked for (`leave_messages`), and
streams.py goes on. What has come lies in the socket's inbox; the service sends no more than MAX_CARRIED bytes so.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from protocol.abi import socket_h as so
from protocol.abi import tcp_h as tcp
from protocol.control.msgpack_subset import Fd
from protocol.errors import ProtocolViolation
from protocol.netstack.messages import MAX_CARRIED
from services.sentry.errors import LinuxError
from services.sentry.sockets.base import READABLE

if TYPE_CHECKING:
    from services.sentry.sockets.inet.netstack.provider import NetstackProvider
    from services.sentry.sockets.inet.netstack.stream_rings import StreamRings
    from services.sentry.sockets.inet.netstack.streams import FarEnd
    from services.sentry.sockets.inet.tcp import TcpSocket

__all__ = ["MOST_CARRIED", "OFFERS", "CarriedStream"]

MOST_CARRIED: Final = 12  # messages with data of one connection; its host socket costs about as much as so many
OFFERS: Final = 8  # times that a stub is given the rings: each costs as much as some calls


class CarriedStream:
    """What every stream has, and what it does while it is carried. See streams.FarStream for the attributes."""

    __slots__ = (
        "alive",
        "asked",
        "blocked",
        "carried",
        "closed",
        "end",
        "ending",
        "fd",
        "late",
        "leaving",
        "messages",
        "number",
        "offers",
        "provider",
        "received",
        "rings",
        "sent",
        "socket",
        "tried",
        "unasked",
        "unsure",
        "urgent_at",
        "urgent_byte",
    )

    def __init__(self, provider: NetstackProvider, socket: TcpSocket, number: int) -> None:
        self.provider = provider
        self.socket = socket
        self.fd = -1
        self.alive = True
        self.unsure = self.ending = self.blocked = self.closed = False
        self.carried = self.leaving = False
        self.messages = 0
        self.late = False  # the service does not know of TCP_NODELAY yet
        self.rings: StreamRings | None = None
        self.tried = False  # to get rings
        self.asked = 0  # how many reads of a program that could use them itself came here
        self.end: FarEnd | None = None
        self.offers = OFFERS
        self.received = self.sent = self.unasked = 0
        self.urgent_at = -1
        self.urgent_byte = b""
        self.number = number

    # --- carried by messages ---
    def carry(self, first: bytes) -> None:
        """It has no host socket yet; `first` came already. ProtocolViolation."""
        self.carried = True
        if first:
            self.arrived(first)

    def arrived(self, data: bytes) -> None:
        """The service: the next bytes of a carried stream; b"": a FIN. ProtocolViolation."""
        if self.closed:
            return
        if not self.carried or self.ending:
            raise ProtocolViolation("netstack: carries what does not exist")
        if not data:
            self._end_carried()
            return
        self.received += len(data)
        if self.received > MAX_CARRIED or self.received > self.urgent_at >= 0:
            raise ProtocolViolation("netstack: carries too much")
        socket = self.socket
        socket.inbox.append(data)
        socket.inbox_bytes += len(data)
        if self.received == self.urgent_at:
            self._place_urgent()
        self.messages += 1
        host_poll = socket.kernel.host_poll
        busy = self.messages >= MOST_CARRIED or 2 * self.received > MAX_CARRIED
        if busy and not self.leaving and host_poll is not None:
            self.leaving = True
            host_poll.defer(self.leave_messages)
        if socket.queue.entries:
            socket.queue.wake(READABLE)

    def _end_carried(self) -> None:
        self.ending = True
        socket = self.socket
        if self.alive and socket.state != tcp.TCP_CLOSE and not socket.done:
            socket.fin_arrived()

    def send_carried(self, data: bytes) -> int:
        """As `send`, in a message. 0: a host socket is needed."""
        if self.sent + len(data) > MAX_CARRIED or self.messages >= MOST_CARRIED:
            return 0
        self.messages += 1
        self.provider.notify("send", self.number, data)
        self.provider.flush()
        self.sent += len(data)
        return len(data)

    def leave_messages(self) -> None:
        """Have the rest of the stream come and go by a host socket."""
        provider = self.provider
        client = provider.client
        if client is None or not self.carried or not self.alive:
            return
        try:
            answer = client.call("socket", self.number)
        except LinuxError:
            if self.alive:  # else it is over, and why was said before
                self._give_up()
            return
        if not isinstance(answer, Fd):
            client.end()
            return
        if self.closed or not self.alive:
            os.close(answer.number)
            return
        self.carried = False
        if not provider.accepts(answer.number, so.SOCK_STREAM):
            self._give_up()
            return
        self.take(answer.number)
        if self.socket.queue.entries:
            self.socket.queue.wake(READABLE)

    def _give_up(self) -> None:
        """One of the two sides has no room for the host socket."""
        self.abort()
        self.socket.reset(errno.ENOBUFS)

    # --- of what goes on by a host socket ---
    def take(self, fd: int) -> None:
        """The host socket of the connection."""
        raise NotImplementedError

    def abort(self) -> None:
        """A reset, now."""
        raise NotImplementedError

    def _place_urgent(self) -> None:
        """What is at the end of the inbox goes before the urgent byte."""
        raise NotImplementedError
