"""The socket service on the router's loop: its clients, and what their sockets have to say after each flush.

The contract with clients is protocol/netstack/messages.py. `session.py` is one client, `streams.py` and `datagrams.py`
move data between a socket of the stack and the client's data socket. Sockets of the stack tell of readiness in the
middle of a flush, when nothing may be done about it; they note themselves in `ready`, and `pump` serves them when the
flush is over (Loop.on_flushed). What they do then may touch their stack, which the loop flushes in the next round.

Clients are bounded in number, in sockets, and in what waits to be sent to them. One that sends nonsense is dropped with
a logged reason and its sockets closed; nobody else notices.
"""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Protocol

from protocol.logs import traceback_text
from services.netstackd.socket_service import limits
from services.netstackd.socket_service.answers import Answers
from services.netstackd.socket_service.session import Session

if TYPE_CHECKING:
    from services.netstackd.edge.log import EventLog
    from services.netstackd.edge.loop import Loop
    from services.netstackd.namespaces import Namespace, Namespaces
    from services.netstackd.socket_service.session import Session


class Pumped(Protocol):
    """What may stand in `ready`."""

    queued: bool

    def pump(self, now: int) -> None:
        """Do what can be done."""


class SocketService:
    """See the module docstring. `counts`: what happened, by name, for `ctl ns`."""

    def __init__(self, loop: Loop, namespaces: Namespaces, log: EventLog) -> None:
        self.loop = loop
        self.namespaces = namespaces
        self.log = log
        self.sessions: set[Session] = set()
        self.left: set[Session] = set()  # of clients that ended, with sockets that have still to send
        self.ready: list[Pumped] = []
        self.answers = Answers(loop)
        self.counts: dict[str, int] = {}
        self._listeners: list[socket.socket] = []
        self._apart: Session | None = None  # who was asked to stay on some processors
        loop.on_flushed = self.pump

    def count(self, name: str) -> None:
        """One more of something."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def note(self, thing: Pumped) -> None:
        """Serve `thing` after the flush that is going on, or after the next."""
        if not thing.queued:
            thing.queued = True
            self.ready.append(thing)

    def pump(self, now: int) -> None:
        """See Loop.on_flushed."""
        for _ in range(limits.PUMP_ROUNDS):
            ready = self.ready
            if not ready:
                return
            self.ready = []
            for thing in ready:
                thing.queued = False
                thing.pump(now)

    # -- clients --

    def listen(self, listener: socket.socket) -> None:
        """Serve who connects: clients of the router's own namespace, which they may not change."""
        listener.setblocking(False)
        self._listeners.append(listener)
        self.loop.watch(listener.fileno(), select.EPOLLIN, lambda events, now: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        self.adopt(sock, self.namespaces.root)

    def adopt(self, sock: socket.socket, namespace: Namespace) -> Session | None:
        """Serve a connection of a namespace; None (and closed) when there are too many."""
        if len(self.sessions) >= limits.MAX_CLIENTS:
            sock.close()
            self.count("ClientsRefused")
            self.log.event("warning", "socket-client-dropped", why=f"more than {limits.MAX_CLIENTS} clients")
            return None
        sock.setblocking(False)
        session = Session(self, sock, namespace)
        self.leave_processors(frozenset())
        self.sessions.add(session)
        self.count("Clients")
        return session

    def leave_processors(self, left: frozenset[int]) -> None:
        """See Processors.on_move. Of several clients nobody knows which it was."""
        asked, self._apart = self._apart, None
        if left and len(self.sessions) == 1:
            self._apart = next(iter(self.sessions))
        told = self._apart or asked
        if told is not None and told in self.sessions:
            told.tell("apart", [sorted(left) if told is self._apart else []])

    def connect(self, namespace: Namespace) -> socket.socket:
        """A new connection of a namespace: the client's end. OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.adopt(ours, namespace)
        return theirs

    def failed(self, session: Session, error: Exception) -> None:
        """Serving a client has met a bug: it ends that client and nothing else."""
        self.log.event("error", "bug", why=traceback_text(error))
        session.drop("a bug in serving it")
