"""The conversation with one Sentry: the methods of the socket service (protocol/netstack/messages.py) on host sockets.

Owns the sockets by their ids. What the Sentry sends is checked before it is looked at; a message that is none ends the
process, and with it every socket.
"""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from protocol.errors import ProtocolViolation
from protocol.netstack.messages import MAX_ID, MIN_SERVER_ID, VERSION, check_call_untrusted
from protocol.rpc.codec import Fd, Notification, Request, Response
from protocol.rpc.connection import RpcConnection
from services.hostnet.addresses import WireAddress, to_wire
from services.hostnet.datagrams import Datagrams
from services.hostnet.errors import Refused
from services.hostnet.loop import Loop
from services.hostnet.options import get_option, set_option
from services.hostnet.snapshot import HostNetwork
from services.hostnet.streams import Listener, Stream

NAMESPACE: Final = "host"
MAX_SOCKETS: Final = 65_536
_NEW: Final = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_READ_BYTES: Final = 65_536
_MAX_UNSENT_BYTES: Final = 4 << 20
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
#: (type, protocol) that a sandbox may have; 0 is the type's own. Ping sockets as far as the host lets anyone have them.
_STREAMS: Final = ((socket.SOCK_STREAM, 0), (socket.SOCK_STREAM, socket.IPPROTO_TCP))
_DATAGRAMS: Final = (
    (socket.SOCK_DGRAM, 0),
    (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    (socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
    (socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6),
)

Socket = Stream | Listener | Datagrams


class Broker:
    """See the module docstring. `sock`: to the Sentry."""

    def __init__(self, loop: Loop, sock: socket.socket, host: HostNetwork) -> None:
        self.loop = loop
        self._sock = sock
        self._host = host
        self._connection = RpcConnection()
        self._sockets: dict[int, Socket] = {}
        self._next_id = MIN_SERVER_ID
        self._unsent: list[tuple[bytes, list[int]]] = []
        self._unsent_bytes = 0
        self._watched: dict[str, Any] | None = None
        self._after: list[Callable[[], None]] = []
        sock.setblocking(False)
        loop.watch(sock.fileno(), select.EPOLLIN, self._ready)
        loop.watch(host.fileno(), select.EPOLLIN, self._network_changed)

    # --- for the sockets ---
    def notify(self, method: str, params: Sequence[Any]) -> None:
        """Tell the Sentry. Descriptors in it must stay open until then, or be sent now."""
        self._send(*self._connection.notify(method, params))

    def accepted(self, listener: Listener, sock: socket.socket, local: WireAddress, remote: WireAddress) -> None:
        """Somebody connected to `listener`."""
        if len(self._sockets) >= MAX_SOCKETS:
            sock.close()
            return
        while self._next_id in self._sockets:
            self._next_id = self._next_id + 1 if self._next_id < MAX_ID else MIN_SERVER_ID
        number = self._next_id
        self._next_id = number + 1 if number < MAX_ID else MIN_SERVER_ID
        stream = self._sockets[number] = Stream(self, number, sock, listener.family)
        self.notify("accepted", [listener.number, number, local, remote, Fd(sock.fileno())])
        stream.established()

    def log(self, line: str) -> None:
        """One line."""
        sys.stderr.write(f"host network: {line}\n")

    def violated(self, violation: ProtocolViolation) -> None:
        """The Sentry does not speak the protocol: over."""
        self.log(f"the Sentry sent nonsense: {violation.why}")
        self.loop.stop()

    def close(self) -> None:
        """Let go of every socket: for who goes on living."""
        for one in self._sockets.values():
            one.close(reset=True)
        self._sockets.clear()
        for _, fds in self._unsent:
            for fd in fds:
                os.close(fd)
        self._sock.close()
        self._host.close()

    # --- the connection ---
    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ_BYTES, 1024, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):  # a client has none to give
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                for fd in fds:
                    os.close(fd)
        if not data:
            self.loop.stop()
            return
        try:
            for message in self._connection.receive_untrusted(data):
                if isinstance(message, Response):
                    raise ProtocolViolation("an answer that nobody asked for")
                check_call_untrusted(message.method, message.params)
                self._serve(message)
        except ProtocolViolation as violation:
            self.violated(violation)

    def _serve(self, message: Request | Notification) -> None:
        method, params = message.method, message.params
        number: int | None = None
        result: Any = None
        why = ""
        try:
            result = getattr(self, f"_do_{method}")(*params)
        except Refused as refused:
            number, why = refused.number, refused.why
        except OSError as error:
            number, why = error.errno or errno.EIO, error.strerror or str(error)
        if isinstance(message, Request):
            if number is None:
                self._send(*self._connection.answer(message.msgid, result))
            else:
                self._send(*self._connection.refuse(message.msgid, number, why))
        elif (
            number is not None
            and params
            and isinstance(params[0], int)
            and method not in ("close", "leave", "abort", "set")
        ):
            self.notify("error", [params[0], number])
        for step in self._after:
            step()
        self._after.clear()

    def _send(self, data: bytes, fds: Sequence[int]) -> None:
        # What waits must keep its descriptors, whatever becomes of the sockets meanwhile.
        if self._unsent:
            self._queue(data, [os.dup(fd) for fd in fds])
            return
        sent = self._transmit(data, fds)
        if sent < len(data):
            self._queue(data[sent:], [] if sent else [os.dup(fd) for fd in fds])

    def _transmit(self, data: bytes, fds: Sequence[int]) -> int:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            return self._sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            self.loop.stop()
            return len(data)

    def _queue(self, data: bytes, fds: list[int]) -> None:
        self._unsent.append((data, fds))
        self._unsent_bytes += len(data)
        if self._unsent_bytes > _MAX_UNSENT_BYTES:
            self.log("the Sentry does not read")
            self.loop.stop()
        self.loop.watch(self._sock.fileno(), select.EPOLLIN | select.EPOLLOUT, self._ready)

    def _flush(self) -> None:
        while self._unsent:
            data, fds = self._unsent[0]
            sent = self._transmit(data, fds)
            if not sent:
                return
            for fd in fds:
                os.close(fd)
            self._unsent_bytes -= sent
            if sent < len(data):
                self._unsent[0] = (data[sent:], [])
                return
            self._unsent.pop(0)
        self.loop.watch(self._sock.fileno(), select.EPOLLIN, self._ready)

    def _network_changed(self, _events: int) -> None:
        self._host.drain()
        if self._watched is not None:
            now = self._host.snapshot()
            if now != self._watched:
                self._watched = now
                self.notify("network", [now])

    # --- methods ---
    def _find(self, number: int) -> Socket:
        found = self._sockets.get(number)
        if found is None:
            raise Refused(errno.EBADF, f"no socket {number}")
        return found

    def _do_hello(self, version: int, name: str | None) -> dict[str, Any]:
        if version != VERSION:
            raise Refused(errno.EPROTONOSUPPORT, f"version {version}")
        if name not in (None, NAMESPACE):
            raise Refused(errno.ENOENT, f"no namespace {name}")
        # shared: the addresses of the interfaces are not the client's alone, so what it sends to them comes here.
        return {"version": VERSION, "namespace": NAMESPACE, "shared": True}

    def _do_network(self) -> dict[str, Any]:
        self._watched = self._host.snapshot()
        return self._watched

    def _do_neighbours(self) -> list[Any]:
        return []

    def _do_counters(self) -> list[list[int]]:
        return self._host.counters()

    def _do_open(self, number: int, family: int, kind: int, protocol: int) -> Fd | None:
        if number in self._sockets:
            raise Refused(errno.EEXIST, f"socket {number} is open")
        if len(self._sockets) >= MAX_SOCKETS:
            raise Refused(errno.ENFILE)
        if family not in _FAMILIES:
            raise Refused(errno.EAFNOSUPPORT)
        if (kind, protocol) in _STREAMS:
            self._sockets[number] = Stream(self, number, socket.socket(family, kind | _NEW, protocol), family)
            return None
        if (kind, protocol) not in _DATAGRAMS:
            raise Refused(errno.EPERM, "no raw and packet sockets with the host's network")
        made = self._sockets[number] = Datagrams(self, number, socket.socket(family, kind | _NEW, protocol), family)
        self._after.append(made.sent)
        return made.take_client_end()

    def _do_bind(self, number: int, address: WireAddress) -> WireAddress:
        found = self._find(number)
        if isinstance(found, Listener):
            raise Refused(errno.EINVAL)
        return found.bind(address)

    def _do_prefer(self, number: int, address: WireAddress) -> None:
        found = self._find(number)
        if not isinstance(found, Stream):
            raise Refused(errno.EINVAL)
        found.prefer(address)

    def _do_connect(self, number: int, address: WireAddress | None) -> WireAddress | None:
        found = self._find(number)
        if isinstance(found, Listener):
            raise Refused(errno.EINVAL)
        return found.connect(address)

    def _do_listen(self, number: int, backlog: int) -> WireAddress:
        found = self._find(number)
        if isinstance(found, Listener):
            return found.listen(backlog)
        if not isinstance(found, Stream):
            raise Refused(errno.EOPNOTSUPP)
        made = self._sockets[number] = found.listener(backlog)
        return to_wire(made.sock.getsockname())

    def _do_taken(self, number: int, count: int) -> None:
        found = self._find(number)
        if isinstance(found, Listener):
            found.taken(count)

    def _do_shutdown(self, number: int, how: int) -> None:
        self._find(number).shutdown(how)

    def _do_set(self, number: int, level: int, name: int, value: int | bytes) -> None:
        set_option(self._find(number).sock, level, name, value)

    def _do_hint(self, number: int, level: int, name: int, value: int | bytes) -> None:
        try:
            self._do_set(number, level, name, value)
        except (Refused, OSError):
            pass

    def _do_get(self, number: int, level: int, name: int) -> Any:
        return get_option(self._find(number).sock, level, name)

    def _do_urgent(self, number: int, byte: int, _offset: int) -> None:
        found = self._find(number)
        if not isinstance(found, Stream):
            raise Refused(errno.EOPNOTSUPP)
        found.urgent(byte)

    def _do_rings(self, *_: Any) -> None:
        raise Refused(errno.EOPNOTSUPP)  # nor does the greeting offer any: data sockets are the host's own

    def _do_close(self, number: int) -> None:
        self._end(number, False)

    def _do_abort(self, number: int) -> None:
        self._end(number, True)

    def _do_leave(self, number: int) -> None:
        self._end(number, False, told=False)

    def _end(self, number: int, reset: bool, *, told: bool = True) -> None:
        self._find(number).close(reset)
        del self._sockets[number]
        if told:
            self.notify("gone", [number])

    def _do_sockets(self) -> list[dict[str, Any]]:
        return []

    def _do_configure(self, _verb: str, _about: dict[str, Any]) -> None:
        raise Refused(errno.EPERM, "the host's network is the host's")
