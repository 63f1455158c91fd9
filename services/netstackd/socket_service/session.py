"""One client of the socket service: its connection, its sockets by id, the methods of protocol/netstack/messages.py.

Messages are served strictly in order, each whole before the next. What does not fit into the client's socket waits,
bounded; descriptors that wait with it are closed here when they have left.
"""

from __future__ import annotations

import array
import errno
import os
import select
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from protocol.errors import ProtocolViolation
from protocol.netstack import messages as m
from protocol.rpc.codec import MAX_FDS, Fd, Notification, Request, Response
from protocol.rpc.connection import RpcConnection
from services.netstackd.edge.outbox import Outbox
from services.netstackd.errors import NetError
from services.netstackd.socket_service import limits, snapshot
from services.netstackd.socket_service.configure import configure
from services.netstackd.socket_service.datagrams import DatagramPump
from services.netstackd.socket_service.options import read_option, write_option
from services.netstackd.socket_service.streams import Stream
from services.netstackd.sockets import TcpSocket, open_socket

if TYPE_CHECKING:
    from services.netstackd.namespaces import Namespace
    from services.netstackd.socket_service.server import SocketService
    from services.netstackd.socket_service.stream_base import StreamBase

_RECEIVE_BYTES: Final = 65536
_ANCILLARY: Final = socket.CMSG_SPACE(MAX_FDS * 4)
AnySocket = Stream | DatagramPump


class Session:
    """See the module docstring."""

    def __init__(self, service: SocketService, sock: socket.socket, namespace: Namespace) -> None:
        self.service = service
        self.namespace = namespace
        self.stack = namespace.stack
        self.sockets: dict[int, AnySocket] = {}
        self.touch: Callable[[], None] = partial(service.loop.touch, self.stack)  # it has something to flush
        self.closed = False
        self.queued = False
        self.rings = self.rings_bytes = 0  # of streams whose bytes go through rings
        self._sock = sock
        self._fds = 0  # received, and not closed yet
        self._connection = RpcConnection()
        self._out = Outbox(sock)
        self._writing = False
        self._greeted = False
        self._watches_network = False
        self._last_snapshot: dict[str, Any] | None = None
        self._next_number = m.MIN_SERVER_ID
        self._unasked: set[int] = set()  # sockets whose end the client does not wait for
        self._held: dict[StreamBase, None] = {}  # data that waits until messages have left
        self._left: dict[int, tuple[int, int]] = {}  # of a client that left: how far each socket was
        self._left_at = 0
        self._methods: dict[str, Callable[..., Any]] = {
            "hello": self._hello,
            "network": self._network,
            "neighbours": lambda: snapshot.neighbours(self.stack),
            "counters": lambda: snapshot.counters(self.stack),
            "open": self._open,
            "bind": lambda number, address: self._socket(number).bind(address),
            "prefer": lambda number, address: self._socket(number).prefer(address),
            "connect": lambda number, address: self._socket(number).connect(address),
            "listen": lambda number, backlog: self._socket(number).listen(backlog),
            "carry": lambda number: self._stream(number).carry(),
            "send": lambda number, data: self._stream(number).send(data),
            "socket": lambda number: self._stream(number).open_late(),
            "finish": self._finish,
            "taken": lambda number, count: self._socket(number).taken(count),
            "shutdown": lambda number, how: self._socket(number).shutdown(how),
            "set": lambda number, level, name, value: write_option(self._socket(number).raw, level, name, value),
            "hint": self._hint,
            "get": lambda number, level, name: read_option(self._socket(number).raw, level, name),
            "urgent": lambda number, byte, offset: self._socket(number).urgent(byte, offset),
            "rings": self._use_rings,
            "close": lambda number: self._socket(number).close(),
            "leave": self._leave,
            "abort": lambda number: self._socket(number).abort(),
            "sockets": self._list,
            "configure": self._configure,
        }
        service.loop.watch(sock.fileno(), select.EPOLLIN, self._on_ready)
        service.namespaces.attach(namespace)
        namespace.on_gone.append(self._namespace_gone)

    @property
    def now(self) -> int:
        """The loop's."""
        return self.service.loop.now

    def is_full(self) -> bool:
        """Whether the client has as many sockets as it may."""
        return len(self.sockets) >= limits.MAX_SOCKETS

    def next_number(self) -> int:
        """An id for an accepted connection."""
        while True:
            number = self._next_number
            self._next_number = number + 1 if number < m.MAX_ID else m.MIN_SERVER_ID
            if number not in self.sockets:
                return number

    def forget(self, number: int) -> None:
        """A socket is gone."""
        if self.sockets.pop(number, None) is not None:
            self.namespace.sockets -= 1
            if number in self._unasked:
                self._unasked.remove(number)
            else:
                self.tell("gone", [number])

    def enter(self, number: int, thing: AnySocket) -> None:
        """A socket more."""
        self.sockets[number] = thing
        self.namespace.sockets += 1

    # -- sending --

    def tell(self, event: str, params: Sequence[Any]) -> None:
        """A notification. Descriptors in it are the message's, closed when it has left."""
        if self.closed:
            for value in params:
                if isinstance(value, Fd):
                    os.close(value.number)
            return
        self._send(*self._connection.notify(event, params))

    def holds(self, stream: StreamBase) -> bool:
        """Whether no data is to be told now; then `stream` is pumped when it is."""
        if not self._out.waiting:
            return False
        self._held[stream] = None
        return True

    def _send(self, data: bytes, fds: list[int]) -> None:
        if self.closed:
            for fd in fds:
                os.close(fd)
            return
        if not self._out.add(data, fds):
            self.drop("")
        elif self._out.waiting > limits.MAX_OUT_BYTES:
            self.drop("reads too slowly")
        elif self._out.waiting or self._writing:
            self._follow()

    def _follow(self) -> None:
        """Wait for room exactly while something waits."""
        if bool(self._out) != self._writing:
            self._writing = bool(self._out)
            mask = select.EPOLLIN | (select.EPOLLOUT if self._writing else 0)
            self.service.loop.watch(self._sock.fileno(), mask, self._on_ready)

    # -- receiving --

    def _on_ready(self, events: int, now: int) -> None:
        if events & select.EPOLLOUT:
            if self._out.flush():
                self._follow()
                if not self._out.waiting and self._held:
                    held, self._held = self._held, {}
                    for stream in held:
                        self.service.note(stream)
            else:
                self.drop("")
        if self.closed or not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_RECEIVE_BYTES, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        fds = _descriptors(ancillary) if ancillary else ()
        self._fds += len(fds)
        if not data:
            self.drop("")
            return
        self.touch()
        try:
            connection = self._connection
            connection.feed(data, fds)
            while (message := connection.next_untrusted()) is not None:
                try:
                    if isinstance(message, Response):
                        raise ProtocolViolation("an answer to nothing")
                    self._serve(message)
                finally:
                    if self._fds:  # what came with a message is there while it is served
                        self._close_all(message.result if isinstance(message, Response) else message.params)
                if self.is_closed():
                    return
        except ProtocolViolation as violation:
            self.drop(violation.why)

    def _close_all(self, value: Any) -> None:
        """Close the descriptors in a message."""
        if isinstance(value, Fd):
            os.close(value.number)
            self._fds -= 1
        elif isinstance(value, dict):
            self._close_all(list(value.values()))
        elif isinstance(value, list):
            for item in value:
                self._close_all(item)

    def is_closed(self) -> bool:
        """Whether the connection has ended (perhaps just now)."""
        return self.closed

    def _serve(self, message: Request | Notification) -> None:
        """Run one method; its answer, or the error that a notification causes."""
        method, params = message.method, message.params
        m.check_call_untrusted(method, params)
        if not self._greeted and method != "hello":
            raise ProtocolViolation("no hello")
        result: Any = None
        failure: NetError | None = None
        try:
            result = self._methods[method](*params)
        except NetError as error:
            failure = error
        except OSError as error:  # no descriptor left for a data socket
            failure = NetError(error.errno or errno.ENFILE, "no data socket")
            self.service.count("DataSocketsRefused")
        if isinstance(message, Request):
            if failure is not None:
                self._send(*self._connection.refuse(message.msgid, failure.errno, str(failure)))
            else:
                data, fds = self._connection.answer(message.msgid, result)
                self._send(data, fds)
        else:
            if failure is not None and method in m.ABOUT_SOCKET:
                self._note_failure(method, params[0], failure.errno)
            if isinstance(result, Fd):  # a data socket that nobody can receive
                os.close(result.number)

    def _note_failure(self, method: str, number: int, code: int) -> None:
        """A notification failed. A name that nobody waited for makes what builds on it fail as well."""
        thing = self.sockets.get(number)
        if thing is None:
            if method in ("close", "leave", "finish", "abort", "send", "shutdown"):
                return  # it was gone already
        elif method in ("bind", "prefer"):
            thing.failed = code
        self.tell("error", [number, code])

    # -- methods --

    def _hello(self, version: int, name: str | None) -> dict[str, Any]:
        if version != m.VERSION:
            raise ProtocolViolation(f"version {version}, this is {m.VERSION}")
        if name is not None and name != self.namespace.name:
            raise NetError(errno.EPERM, "the connection is for another namespace")
        self._greeted = True
        return {"version": m.VERSION, "namespace": self.namespace.name, "rings": True, "carries": True}

    def _network(self) -> dict[str, Any]:
        if not self._watches_network:
            self._watches_network = True
            self.namespace.watchers.append(self._network_changed)
        self._last_snapshot = made = snapshot.snapshot(self.namespace)
        return made

    def _network_changed(self) -> None:
        self.service.note(self)

    def pump(self, now: int) -> None:
        """The network has changed since: tell, once for all that changed in this turn."""
        if self.closed:
            return
        made = snapshot.snapshot(self.namespace)
        if made != self._last_snapshot:
            self._last_snapshot = made
            self.tell("network", [made])

    def _hint(self, number: int, level: int, name: int, value: int | bytes) -> None:
        try:
            write_option(self._socket(number).raw, level, name, value)
        except NetError:
            pass

    def _open(self, number: int, family: int, kind: int, protocol: int) -> Fd | None:
        if number in self.sockets:
            raise NetError(errno.EEXIST, f"socket {number} is open")
        if self.is_full():
            self.service.count("SocketsRefused")
            raise NetError(errno.EMFILE, f"more than {limits.MAX_SOCKETS} sockets")
        sock = open_socket(self.stack, family, kind, protocol)
        if isinstance(sock, TcpSocket):
            self.enter(number, Stream(self, number, sock))
            return None
        try:
            pump = DatagramPump(self, number, sock)
        except OSError:
            sock.close()
            raise
        self.enter(number, pump)
        return Fd(pump.theirs.detach())

    def _socket(self, number: int) -> AnySocket:
        found = self.sockets.get(number)
        if found is None:
            raise NetError(errno.EBADF, f"no socket {number}")
        return found

    def _stream(self, number: int) -> Stream:
        stream = self._socket(number)
        if not isinstance(stream, Stream):
            raise NetError(errno.EOPNOTSUPP, "not a stream")
        return stream

    def _leave(self, number: int) -> None:
        thing = self._socket(number)
        self._unasked.add(number)
        thing.close()

    def _finish(self, number: int, received: int, told: int) -> None:
        stream = self._stream(number)
        if not told:
            self._unasked.add(number)
        stream.finish(received)

    def _use_rings(self, number: int, rx_size: int, tx_size: int, sent: int, file: Any) -> int:
        if not isinstance(file, Fd):
            raise ProtocolViolation("rings: no descriptor")
        return self._stream(number).rings(rx_size, tx_size, sent, file.number)

    def _list(self) -> list[dict[str, Any]]:
        rows = []
        for number, thing in self.sockets.items():
            sock = thing.raw
            rows.append({
                "id": number, "family": sock.family, "type": sock.type, "protocol": sock.protocol, **thing.describe(),
            })  # fmt: skip
        return rows

    def _configure(self, verb: str, what: dict[str, Any]) -> None:
        if self.namespace.is_root:
            raise NetError(errno.EPERM, "the router's own namespace is changed by its configuration")
        configure(self.stack, verb, what)

    # -- the end --

    def _namespace_gone(self) -> None:
        self.drop("its namespace was removed" if not self.closed else "")
        for thing in list(self.sockets.values()):
            thing.release()
        self.service.left.discard(self)

    def drop(self, why: str) -> None:
        """End the conversation: sockets are closed as a process that ends closes them. `why` is logged, if any."""
        if self.closed:
            return
        self.closed = True
        service = self.service
        service.sessions.discard(self)
        service.loop.unwatch(self._sock.fileno())
        self._sock.close()
        self._out.clear()
        self._held.clear()
        for fd in self._connection.take_unclaimed():
            os.close(fd)
        if self._watches_network:
            self.namespace.watchers.remove(self._network_changed)
        if why:
            service.count("ClientsDropped")
            service.log.event("warning", "socket-client-dropped", namespace=self.namespace.name, why=why)
        for thing in list(self.sockets.values()):
            thing.close()
        self.touch()
        self._left_at = self.now
        self._look_at_left(self.now)
        service.namespaces.release(self.namespace)

    def _look_at_left(self, now: int) -> None:
        """What a client that left had still to send is given up when nothing of it went for LEFT_IDLE_NS, and all of it
        after LEFT_MOST_NS; Linux has no such end while a receiver takes something."""
        if self.namespace.gone:
            return
        left = {number: thing.progress() for number, thing in self.sockets.items()}
        for number, progress in left.items():
            if progress == self._left.get(number) or now - self._left_at >= limits.LEFT_MOST_NS:
                self.service.count("LeftDataGivenUp")
                self.sockets[number].release()
        self._left = left
        if self.sockets:
            self.service.left.add(self)
            self.stack.timers.after(now + limits.LEFT_IDLE_NS, self._look_at_left)
        else:
            self._forget_namespace()

    def progress(self) -> int:
        """Something that grows while what a client left goes on its way."""
        return sum(sum(thing.progress()) for thing in self.sockets.values())

    def _forget_namespace(self) -> None:
        self.service.left.discard(self)
        if self._namespace_gone in self.namespace.on_gone:
            self.namespace.on_gone.remove(self._namespace_gone)


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """Those that came beside a message (unix(7), SCM_RIGHTS)."""
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return fds.tolist()
