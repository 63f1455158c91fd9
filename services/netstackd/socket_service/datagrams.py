"""Datagram, ping, raw and packet sockets: messages with a header (protocol/netstack/datagrams.py) on a SEQPACKET pair.

What arrives waits in the stack's socket, whose buffer has Linux's size, until the data socket has room; what a client
sends goes out at once. An error of sending is told as `error`, as SO_ERROR would be.
"""

from __future__ import annotations

import errno
import select
import socket
from typing import TYPE_CHECKING, Any, Final

from protocol.errors import ProtocolViolation
from protocol.netstack import datagrams as d
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.network.interface import ETHERNET, LOOPBACK
from services.netstackd.socket_service.addresses import bytes_to_int, to_bytes, to_client, to_stack
from services.netstackd.sockets import PacketSocket, PingSocket, RawSocket, UdpSocket
from services.netstackd.storage.packet import TO_BROADCAST, TO_MULTICAST
from services.netstackd.transport.base import AF_INET, MSG_ERRQUEUE, Message
from services.netstackd.wire.ethernet import BROADCAST
from services.netstackd.wire.numbers import is_multicast

if TYPE_CHECKING:
    from services.netstackd.socket_service.session import Session

BATCH: Final = 64  # messages in each direction before others are served
MAX_LEFT: Final = 1024  # messages that are still sent of a socket that was closed; its buffer holds fewer
_BUFFER: Final = bytearray(d.MAX_MESSAGE_BYTES + 1)  # one for all: a message is used up before the next is read
_ARPHRD: Final = {ETHERNET: 1, LOOPBACK: 772}

AnyDatagram = UdpSocket | PingSocket | RawSocket | PacketSocket


class DatagramPump:
    """One socket of a client."""

    def __init__(self, session: Session, number: int, sock: AnyDatagram) -> None:
        """OSError: no descriptor is left."""
        self.session = session
        self.number = number
        self.sock = self.raw = sock
        self.family = sock.family
        self.queued = False
        self.failed = 0
        self._blocked = False
        self._closed = False
        self._more = False
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._data = ours
        self._fd = ours.fileno()
        self._view = memoryview(_BUFFER)
        session.service.loop.watch(self._fd, select.EPOLLIN, self._on_data_socket)
        sock.subscribe(self._on_event)

    def _on_event(self, sock: object, events: int) -> None:
        self.session.service.note(self)

    # -- what the client asks for --

    def bind(self, address: list[Any]) -> list[Any]:
        """bind(2); of a packet socket: EtherType and interface."""
        sock = self.sock
        if isinstance(sock, PacketSocket):
            _, protocol, index = address
            iface = sock.stack.interfaces.get(index) if index else None
            if index and iface is None:
                raise NetError(errno.ENODEV, "no such interface")
            sock.bind(protocol, iface)
            return [b"", sock.protocol, index]
        sock.bind(to_stack(self.family, address))
        return to_client(self.family, sock.name())

    def connect(self, address: list[Any] | None) -> list[Any]:
        """connect(2)."""
        sock = self.sock
        if isinstance(sock, PacketSocket):
            raise NetError(errno.EOPNOTSUPP, "packet sockets have no peer")
        sock.connect(None if address is None else to_stack(self.family, address))
        return to_client(self.family, sock.name())

    def prefer(self, address: list[Any]) -> None:
        """A name for a connection."""
        raise NetError(errno.EOPNOTSUPP, "not a stream")

    def listen(self, backlog: int) -> list[Any]:
        """listen(2) is for streams."""
        raise NetError(errno.EOPNOTSUPP, "not a stream")

    def taken(self, count: int) -> None:
        """Never asked for."""
        raise NetError(errno.EOPNOTSUPP, "not a stream")

    def urgent(self, byte: int, offset: int) -> None:
        """MSG_OOB is for streams."""
        raise NetError(errno.EOPNOTSUPP, "not a stream")

    def shutdown(self, how: int) -> None:
        """shutdown(2)."""
        if isinstance(self.sock, PacketSocket):
            raise NetError(errno.EOPNOTSUPP, "packet sockets have no peer")
        self.sock.shutdown(how)

    def describe(self) -> dict[str, Any]:
        """A row for `sockets`."""
        sock = self.sock
        row: dict[str, Any] = {"state": 7, "receive_queue": sock.queued, "send_queue": 0, "backlog": 0}
        if isinstance(sock, PacketSocket):
            return {**row, "local": [b"", sock.protocol, sock.iface.index if sock.iface else 0], "remote": None}
        remote = to_client(self.family, sock.remote) if sock.remote is not None else None
        return {
            **row,
            "state": 1 if remote else 7,
            "local": to_client(self.family, sock.name()),
            "remote": remote,
        }

    def close(self) -> None:
        """What the client has sent before is sent; then no more."""
        if self._closed:
            return
        for _ in range(MAX_LEFT // BATCH):
            if not self._collect() or not self._more:
                break
        self._shut()
        self.session.forget(self.number)

    abort = close

    def progress(self) -> tuple[int, int]:
        """See Stream: nothing is left after a close."""
        return 0, 0

    def release(self) -> None:
        """The client is gone."""
        self.close()

    def _shut(self) -> None:
        if not self._closed:
            self._closed = True
            self.session.service.loop.unwatch(self._fd)
            self._data.close()
            self.sock.close()
            self.session.touch()

    # -- moving messages --

    def pump(self, now: int) -> None:
        """Deliver what the socket of the stack has."""
        if not self._closed:
            try:
                self._deliver()
            except Exception as error:
                self.session.service.failed(self.session, error)

    def _on_data_socket(self, events: int, now: int) -> None:
        if events & select.EPOLLOUT:
            self._blocked = False
            self.session.service.loop.watch(self._fd, select.EPOLLIN, self._on_data_socket)
            self.pump(now)
        if events & ~select.EPOLLOUT and not self._closed:
            try:
                if not self._collect():
                    # The client has closed its end: it sends and receives no more, and `close` will say so.
                    self.session.service.loop.watch(self._fd, 0, lambda events, now: self._hung_up())
            except Exception as error:
                self.session.service.failed(self.session, error)

    def _hung_up(self) -> None:
        self.session.service.loop.unwatch(self._fd)

    def _collect(self) -> bool:
        """Send what the client has written, a batch at most; False when it has closed its end. `_more`: there may be
        more."""
        data, view, session = self._data, self._view, self.session
        self._more = False
        for _ in range(BATCH):
            try:
                size = data.recv_into(_BUFFER)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not size:
                return False
            session.touch()
            try:
                self._send(d.parse_untrusted(view[:size]), size)
            except NetError as error:
                session.tell("error", [self.number, error.errno])
            except ProtocolViolation as violation:
                session.drop(violation.why)
                return True
        self._more = True
        return True

    def _send(self, message: d.Datagram, size: int) -> None:
        if size > d.MAX_MESSAGE_BYTES:
            raise NetError(errno.EMSGSIZE, "longer than a datagram can be")
        sock = self.sock
        payload = bytes(message.payload)
        interfaces = sock.stack.interfaces
        if isinstance(sock, PacketSocket):
            iface = interfaces.get(message.scope) if message.scope else None
            if message.version == d.PACKET:
                protocol, _, _, length, link = d.LINK_TAIL.unpack(message.address)
                sock.send(payload, iface, protocol, link[: min(length, 6)] or BROADCAST)
            else:
                sock.send(payload, iface)
            return
        device = interfaces.get(message.interface) if message.interface else None
        if message.interface and device is None:
            raise NetError(errno.ENODEV, "no such interface")
        source = 0
        if message.pktinfo:
            raw = message.pktinfo if message.version != 0 or self.family != AF_INET else message.pktinfo[:4]
            source = sock.to_wire(bytes_to_int(self.family, raw))[1]
        address = None
        if message.version:
            address = bytes_to_int(self.family, message.address), message.port, message.scope
        tos = message.tos if message.flags & d.SET_TOS else -1
        sock.send(payload, address, source=source, device=device, ttl=message.ttl, tos=tos)

    def _deliver(self) -> None:
        sock, data = self.sock, self._data
        if self._blocked:
            return
        if not isinstance(sock, PacketSocket):
            while sock.errors:
                if not self._write(self._error_entry(sock.receive(flags=MSG_ERRQUEUE))):
                    return
            if sock.error:
                self.session.tell("error", [self.number, sock.take_error()])
        for _ in range(BATCH):
            if not sock.queue:
                return
            header, payload = self._frame(sock) if isinstance(sock, PacketSocket) else self._datagram(sock)
            try:
                data.sendmsg((header, payload), (), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._block()
                return
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    sock.queue.clear()
                    sock.queued = 0
                    return
                self.session.service.count("DatagramsTooLong")
            self._take(sock)
        self.session.service.note(self)

    def _take(self, sock: AnyDatagram) -> None:
        """The oldest is delivered: take it out of the queue."""
        try:
            sock.receive(0)
        except WouldBlock:
            pass

    def _block(self) -> None:
        self._blocked = True
        self.session.service.loop.watch(self._fd, select.EPOLLIN | select.EPOLLOUT, self._on_data_socket)

    def _write(self, message: bytes) -> bool:
        try:
            self._data.send(message, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self._block()
            return False
        except OSError:
            pass
        return True

    def _frame(self, sock: PacketSocket) -> tuple[bytes, bytes | memoryview]:
        frame, (ethertype, index, kind, link) = sock.queue[0]
        iface = sock.stack.interfaces.get(index)
        hatype = _ARPHRD.get(iface.kind, 65534) if iface is not None else 1
        tail = d.LINK_TAIL.pack(ethertype, hatype, kind, len(link), link)
        return d.Datagram(b"", tail, scope=index, interface=index).header(), frame

    def _datagram(self, sock: UdpSocket | PingSocket | RawSocket) -> tuple[bytes, bytes | memoryview]:
        packet = sock.queue[0]
        value, port, scope = sock.source_of(packet)
        version = packet.version
        address = to_bytes(self.family, value)
        flags = 0
        if packet.kind == TO_BROADCAST:
            flags = d.BROADCAST
        elif packet.kind == TO_MULTICAST or is_multicast(version, packet.dst):
            flags = d.MULTICAST
        iface = packet.iface
        header = d.HEADER.pack(
            version,
            flags,
            port,
            scope,
            address,
            packet.tos,
            packet.ttl,
            0,
            iface.index if iface is not None else 0,
            packet.dst.to_bytes(4 if version == 4 else 16, "big"),
        )
        return header, memoryview(packet.head)[packet.payload : packet.end]

    def _error_entry(self, message: Message) -> bytes:
        error = message.error
        assert error is not None and message.address is not None
        value, port, scope = message.address
        payload = d.EXTENDED_ERROR.pack(error.errno, error.origin, error.type, error.code, 0, error.info, 0)
        offender = to_bytes(self.family, error.offender) if error.offender else b""
        header = d.Datagram(b"", to_bytes(self.family, value), port, scope, flags=d.ERROR_QUEUE).header()
        return header + payload + offender.ljust(16, b"\0") + message.data
