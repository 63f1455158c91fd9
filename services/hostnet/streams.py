"""TCP sockets of the host for the sandbox: a connection's host socket is its data socket, handed to the Sentry itself.

Owns: `Stream`, `Listener`. The broker keeps a descriptor of each connection for what the Sentry has no calls for:
options, urgent bytes, the reset of an `abort`. Data, FIN, readiness and back-pressure never pass through here; that a
connection was reset the Sentry learns from the host socket as well.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import TYPE_CHECKING, Final

from protocol.netstack.messages import SHUT_RD
from protocol.rpc.codec import Fd
from services.hostnet.addresses import WireAddress, to_host, to_wire
from services.hostnet.errors import Refused

if TYPE_CHECKING:
    from services.hostnet.broker import Broker

_LINGER_NOT: Final = (1).to_bytes(4, "little") + bytes(4)  # struct linger: on, 0 seconds


class Stream:
    """One that is to connect, or is connected. `bind` waits until it is known what for."""

    def __init__(self, broker: Broker, number: int, sock: socket.socket, family: int) -> None:
        self.number = number
        self.sock = sock
        self.family = family
        self._broker = broker
        self._bind_to: WireAddress | None = None
        self._any_port = False
        self._connecting = False

    def bind(self, address: WireAddress) -> WireAddress:
        """Remember it; what is wrong with it is said by `connect` or `listen`."""
        to_host(self.family, address)
        self._bind_to = address
        return address

    def prefer(self, address: WireAddress) -> None:
        """As `bind`, but no program asked for the port: when it is taken on the host, that chooses another."""
        self.bind(address)
        self._any_port = True

    def connect(self, address: WireAddress | None) -> None:
        """Begin; `connected` or `error` follows."""
        if address is None or self._connecting:
            raise Refused(errno.EISCONN if address is not None else errno.EINVAL)
        destination = to_host(self.family, address)
        self._bind()
        self._connecting = True
        error = self.sock.connect_ex(destination)
        if error not in (0, errno.EINPROGRESS):
            raise Refused(error)
        self._broker.loop.watch(self.sock.fileno(), select.EPOLLOUT, self._settled)

    def _bind(self) -> None:
        address = self._bind_to
        if address is None or (not address[0] and not address[1]):
            return
        if self._any_port:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.sock.bind(to_host(self.family, address))
        except OSError as error:
            if not self._any_port or error.errno != errno.EADDRINUSE:
                raise
            self.sock.bind(to_host(self.family, [address[0], 0, address[2]]))

    def _settled(self, _events: int) -> None:
        self._broker.loop.unwatch(self.sock.fileno())
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            local, remote = to_wire(self.sock.getsockname()), to_wire(self.sock.getpeername())
        except OSError as failed:
            error = error or failed.errno or errno.EIO
        if error:
            self._broker.notify("error", [self.number, error])
            return
        self._broker.notify("connected", [self.number, local, remote, Fd(self.sock.fileno())])
        self.established()

    def established(self) -> None:
        """It stands: urgent bytes are looked for."""
        self._broker.loop.watch(self.sock.fileno(), select.EPOLLPRI | select.EPOLLET, self._urgent_came)

    def _urgent_came(self, events: int) -> None:
        if not events & select.EPOLLPRI:
            return
        try:
            byte = self.sock.recv(1, socket.MSG_OOB | socket.MSG_DONTWAIT)
        except OSError:
            return  # read in line, or gone
        if byte:
            # Its place among what the Sentry has yet to read is the host kernel's secret: it is said to be here.
            self._broker.notify("urgent", [self.number, byte[0], 0])

    def urgent(self, byte: int) -> None:
        """Send it: what the Sentry wrote before it is before it in the same socket."""
        self.sock.send(bytes((byte,)), socket.MSG_OOB | socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def shutdown(self, how: int) -> None:
        """shutdown(2)."""
        self.sock.shutdown(how)

    def close(self, reset: bool = False) -> None:
        """Let go; with `reset` the connection is reset, else the host sends what is written, then a FIN."""
        self._broker.loop.unwatch(self.sock.fileno())
        if reset:
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            except OSError:
                pass
        self.sock.close()

    def listener(self, backlog: int) -> Listener:
        """The listening socket that this becomes. The errno of bind(2) and listen(2)."""
        if self._bind_to is not None:
            # Servers are started again at once everywhere; the Sentry has its own rules for who may share a port.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind(to_host(self.family, self._bind_to))
        return Listener(self._broker, self.number, self.sock, self.family, backlog)


class Listener:
    """A listening socket. At most backlog + 1 connections that the Sentry has not taken are outstanding."""

    def __init__(self, broker: Broker, number: int, sock: socket.socket, family: int, backlog: int) -> None:
        self.number = number
        self.sock = sock
        self.family = family
        self._broker = broker
        self._outstanding = 0
        self._room = 0
        self.listen(backlog)

    def listen(self, backlog: int) -> WireAddress:
        """listen(2), again to change the backlog."""
        self._room = max(0, min(backlog, 4096)) + 1
        self.sock.listen(backlog)
        self._watch()
        return to_wire(self.sock.getsockname())

    def _watch(self) -> None:
        mask = select.EPOLLIN if self._outstanding < self._room else 0
        self._broker.loop.watch(self.sock.fileno(), mask, self._accept)

    def taken(self, count: int) -> None:
        """The Sentry's program accepted so many."""
        self._outstanding = max(0, self._outstanding - count)
        self._watch()

    def _accept(self, _events: int) -> None:
        while self._outstanding < self._room:
            try:
                sock, remote = self.sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ECONNABORTED, errno.EPROTO, errno.EPERM):
                    continue  # accept(2): of the one connection, not of the listener
                self._broker.log(f"accept: {os.strerror(error.errno or 0)}")
                self._outstanding = self._room  # EMFILE and such: until a connection was taken
                break
            sock.setblocking(False)
            self._outstanding += 1
            self._broker.accepted(self, sock, to_wire(sock.getsockname()), to_wire(remote))
        self._watch()

    def shutdown(self, how: int) -> None:
        """SHUT_RD: it stops listening."""
        self.sock.shutdown(how)
        if how == SHUT_RD:
            self._broker.loop.unwatch(self.sock.fileno())

    def close(self, reset: bool = False) -> None:
        """Stop; who waits in the host's queue is reset by it."""
        self._broker.loop.unwatch(self.sock.fileno())
        self.sock.close()
