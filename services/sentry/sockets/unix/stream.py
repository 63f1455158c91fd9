"""Connection-based unix sockets: SOCK_STREAM, and SOCK_SEQPACKET which keeps message boundaries (unix(7)).

Life: made -> [bind] -> listen -> accept..., or made -> connect -> data -> shutdown, close; socketpair(2) joins two.
connect(2) makes the server's socket at once ("embryo") and queues it at the listener in `pending`; data may be sent to
it before it is accepted. The hot path, one byte sent and read, is byte_stream.py's: `out` is the peer while there is no
shutdown and there are no credentials to pass.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.files.local_rings import LocalEnd
from services.sentry.sockets.base import RECEIVE_SHUT, SEND_SHUT, Incoming, Outgoing, WouldBlockOn, ucred_of
from services.sentry.sockets.byte_stream import MAX_CHUNK, OVERHEAD_BYTES, ByteStream
from services.sentry.sockets.unix.collector import land
from services.sentry.sockets.unix.endpoint import (
    CLOSED,
    CONNECTED,
    LISTENING,
    READABLE,
    WRITABLE,
    Message,
    UnixSocket,
)
from services.sentry.sockets.unix.names import look_up

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["UnixSeqpacket", "UnixStream", "join_pair"]

_BOTH: Final = RECEIVE_SHUT | SEND_SHUT


class UnixStream(UnixSocket, ByteStream):
    """A stream socket. `pending`: connections not yet accepted (listening); `backlog` bounds them."""

    __slots__ = ("backlog", "moved", "out", "pending", "ring_end")

    steady = True
    writes_all = True
    keeps_boundaries = False
    OPEN: ClassVar[int] = CONNECTED

    def __init__(self, task: Task, kind: int, protocol: int, flags: int) -> None:
        super().__init__(task, kind, protocol, flags)
        self.backlog = 0
        self.pending: deque[UnixStream] = deque()
        self.out = None
        self.ring_end = None
        self.moved = 0

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        return self.write_stream(mm, addr, count)

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int | None:
        return self.read_stream(mm, addr, count)

    def option_set(self, level: int, name: int) -> None:
        self.dissolve()
        super().option_set(level, name)

    def changed(self) -> None:
        """Recompute `out` of both ends."""
        self.dissolve()
        peer = self.peer
        if peer is not None:
            plain = self.state == CONNECTED and not self.pass_cred and not peer.pass_cred
            self.out = peer if plain and not self.shut & SEND_SHUT and not peer.dead else None
            peer.out = self if plain and not peer.shut & SEND_SHUT and not self.dead else None

    # --- connecting ---
    def listen(self, task: Task, backlog: int) -> None:
        """listen(2). EINVAL: no name, or connected. Credentials shown to clients are those of now."""
        if not self.address or self.state == CONNECTED:
            raise LinuxError(errno.EINVAL)
        grew = backlog > self.backlog
        self.backlog = backlog
        self.state = LISTENING
        self.cred = self.peer_cred = ucred_of(task)
        self.groups = self.peer_groups = task.cred.groups
        if grew:
            self.queue.wake(WRITABLE)

    def connect(self, task: Task, address: bytes) -> None:
        """connect(2). EINVAL: listening; EISCONN; ECONNREFUSED and what look_up reports; WouldBlock: full."""
        if len(address) < 2:
            raise LinuxError(errno.EINVAL)
        if self.pass_cred and not self.address:
            self.table.autobind(self)
        listener = look_up(task, self.table, self.kind, address)
        if listener.state != LISTENING or listener.shut & RECEIVE_SHUT or not isinstance(listener, UnixStream):
            raise LinuxError(errno.ECONNREFUSED)
        if len(listener.pending) > listener.backlog:
            if self.state == CLOSED:
                raise WouldBlockOn(listener.queue, WRITABLE)
        if self.state == CONNECTED:
            raise LinuxError(errno.EISCONN)
        if self.state == LISTENING:
            raise LinuxError(errno.EINVAL)
        server = type(self)(task, self.kind, self.protocol, 0)
        server.address = listener.address
        server.pass_cred = listener.pass_cred
        server.cred, server.groups = listener.cred, listener.groups
        server.peer_cred, server.peer_groups = ucred_of(task), task.cred.groups
        self.cred, self.groups = server.peer_cred, server.peer_groups
        self.peer_cred, self.peer_groups = listener.peer_cred, listener.peer_groups
        self.shut = 0
        join_pair(self, server)
        listener.pending.append(server)
        if listener.queue.entries:
            listener.queue.wake(READABLE)
        if self.queue.entries:
            self.queue.wake(WRITABLE)

    def accept(self, task: Task, flags: int) -> UnixStream:
        """accept(2). EINVAL: not listening, or shut down; WouldBlock: nobody connected."""
        if self.state != LISTENING:
            raise LinuxError(errno.EINVAL)
        if not self.pending:
            if self.shut & RECEIVE_SHUT:
                raise LinuxError(errno.EINVAL)
            raise WouldBlock
        server = self.pending.popleft()
        server.flags |= flags & fc.O_NONBLOCK
        if self.queue.entries:
            self.queue.wake(WRITABLE)
        return server

    def is_listening(self) -> bool:
        return self.state == LISTENING

    def _unbind(self) -> None:
        # A connection accepted from a listener shows the listener's name but does not own it.
        if self.bound_inode is not None or self.table.abstract.get((self.kind, self.address[2:])) is self:
            super()._unbind()

    def shutdown(self, how: int) -> None:
        """shutdown(2): `how` is RECEIVE_SHUT | SEND_SHUT; the peer's other direction goes with it."""
        self.shut |= how
        peer = self.peer
        if peer is not None:
            peer.shut |= (SEND_SHUT if how & RECEIVE_SHUT else 0) | (RECEIVE_SHUT if how & SEND_SHUT else 0)
            _wake_shut(peer)
        self.changed()
        _wake_shut(self)

    def hang_up(self) -> None:
        self.dissolve()
        peer = self.peer
        if peer is not None and self.state == CONNECTED:
            peer.shut = _BOTH
            first = self.inbox[0] if self.inbox else b""
            empty = isinstance(first, Message) and not first.data
            if len(self.inbox) > empty:  # data that was never read; an empty first packet is none (unix_release_sock)
                peer.error = errno.ECONNRESET
            self.changed()
            _wake_shut(peer)
        if self.pending:
            pending, self.pending = self.pending, deque()
            for embryo in pending:
                client = embryo.peer
                embryo.release()
                if client is not None:
                    client.error = errno.ECONNRESET
                    _wake_shut(client)

    # --- data ---
    def wake_sender(self, peer: UnixStream) -> None:
        """The peer may write again once a quarter of its buffer is in use (net/unix/af_unix.c unix_writable)."""
        if (self.inbox_bytes + OVERHEAD_BYTES * len(self.inbox)) * 4 <= peer.send_buffer:
            peer.queue.wake(WRITABLE)

    def _check_connected(self, message: Outgoing) -> UnixStream:
        if message.address:
            raise LinuxError(errno.EISCONN if self.state == CONNECTED else errno.EOPNOTSUPP)
        peer: UnixStream | None = self.peer
        if peer is None or self.state != CONNECTED:
            raise LinuxError(errno.ENOTCONN)
        if self.shut & SEND_SHUT or peer.dead or peer.shut & RECEIVE_SHUT:
            raise LinuxError(errno.EPIPE)
        return peer

    def send(self, data: bytes, message: Outgoing) -> int:
        """A prefix of `data` (65536 bytes at most); descriptors and credentials go with its first byte.

        EISCONN, EOPNOTSUPP: an address; ENOTCONN; EPIPE; WouldBlock.
        """
        if self.ring_end is not None:
            taken = self.send_by_ring(data, message)
            if taken >= 0:
                return taken
        peer = self._check_connected(message)
        if not data:
            return 0
        self.check_room()
        chunk = data[:MAX_CHUNK]
        cred = self._credentials(message, peer)
        if cred is None and not message.files:
            peer.inbox.append(chunk)
        else:
            peer.inbox.append(Message(chunk, cred, self._launch(message), message.uid))
        peer.inbox_bytes += len(chunk)
        if peer.queue.entries:
            peer.queue.wake(READABLE)
        return len(chunk)

    def _nothing(self) -> Incoming:
        """What a receive from an empty inbox gives: the pending error once, the end, or WouldBlock."""
        if self.error:
            raise LinuxError(self.take_error())
        if self.shut & RECEIVE_SHUT:
            return Incoming(b"", 0)
        raise WouldBlock

    def receive(self, count: int, flags: int) -> Incoming:
        """Up to `count` bytes: never across different senders' credentials, never past a byte that brought descriptors.

        EINVAL: not connected.
        """
        if self.state != CONNECTED:
            raise LinuxError(errno.EINVAL)
        if self.ring_end is not None:
            brought = self.receive_by_ring(count, flags)
            if brought is not None:
                return Incoming(brought, len(brought), self.peer.address if self.peer else b"")
        if not self.inbox:
            return self._nothing()
        if flags & so.MSG_PEEK:
            return self._peek(count)
        inbox = self.inbox
        waiting = len(inbox)
        parts: list[bytes | memoryview] = []
        left = count
        cred = None
        files: tuple[OpenFile, ...] = ()
        while inbox and left > 0 and not files:
            item = inbox[0]
            if isinstance(item, Message):
                if parts and self.pass_cred and item.cred != cred:
                    break  # never glue messages of different writers (unix_stream_read_generic)
                cred = item.cred
                if item.files:
                    files = land(self.table, item)
                taken = item.data[:left]
                item.data = item.data[left:]
                if not item.data:
                    inbox.popleft()
            else:
                if parts and self.pass_cred and cred is not None:
                    break
                taken = bytes(item[:left])
                if len(item) > left:
                    inbox[0] = memoryview(item)[left:] if len(item) > 512 else bytes(item[left:])
                else:
                    inbox.popleft()
            parts.append(taken)
            left -= len(taken)
        data = b"".join(parts)
        self.inbox_bytes -= len(data)
        if self.peek_offset > 0:
            self.peek_offset = max(self.peek_offset - len(data), 0)
        peer = self.peer
        if peer is not None and peer.queue.entries and len(inbox) < waiting:
            self.wake_sender(peer)
        return Incoming(data, len(data), peer.address if peer else b"", cred, files)

    def _peek(self, count: int) -> Incoming:
        """MSG_PEEK: nothing leaves; descriptors are given once more. SO_PEEK_OFF moves where it starts."""
        skip = max(self.peek_offset, 0)
        parts: list[bytes] = []
        cred = None
        files: tuple[OpenFile, ...] = ()
        left = count
        for item in self.inbox:
            whole = item.data if isinstance(item, Message) else item
            if skip >= len(whole):
                skip -= len(whole)
                continue
            if left <= 0:
                break
            if isinstance(item, Message):
                if parts and self.pass_cred and item.cred != cred:
                    break
                cred = item.cred
                files = item.files
            taken = bytes(whole[skip : skip + left])
            skip = 0
            parts.append(taken)
            left -= len(taken)
            if files:
                break
        if not parts and count:
            return self._nothing()
        data = b"".join(parts)
        if self.peek_offset >= 0:
            self.peek_offset += len(data)
        for file in files:
            file.add_reference()
        return Incoming(data, len(data), self.peer.address if self.peer else b"", cred, files)

    # --- readiness ---
    def has_room(self) -> bool:
        peer = self.peer
        if self.state == LISTENING:
            return False
        return peer is None or (peer.inbox_bytes + OVERHEAD_BYTES * len(peer.inbox)) * 4 <= self.send_buffer

    def poll(self) -> int:
        """As net/unix/af_unix.c unix_poll."""
        if type(self.ring_end) is LocalEnd:
            return self.poll_rings(self.ring_end)
        bits = READABLE if self.inbox or self.pending else 0
        if self.error:
            bits |= po.POLLERR
        if self.shut:
            if self.shut == _BOTH:
                bits |= po.POLLHUP
            if self.shut & RECEIVE_SHUT:
                bits |= READABLE | po.POLLRDHUP
        if self.state == CLOSED:
            bits |= po.POLLHUP
        if self.has_room():
            bits |= WRITABLE
        return bits

    def unread_bytes(self) -> int:
        if self.state == LISTENING:
            raise LinuxError(errno.EINVAL)
        return self.arrived_bytes()

    def unsent_bytes(self) -> int:
        if self.state == LISTENING:
            raise LinuxError(errno.EINVAL)
        peer = self.peer
        return peer.arrived_bytes() + OVERHEAD_BYTES * len(peer.inbox) if peer is not None else 0


class UnixSeqpacket(UnixStream):
    """SOCK_SEQPACKET: connected like a stream, sent and received in whole packets like datagrams."""

    __slots__ = ()

    writes_all = False
    keeps_boundaries = True

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        if count > self.message_limit():
            raise LinuxError(errno.EMSGSIZE)
        return self.send(mm.read(addr, count) if count else b"", Outgoing(sender=self.writer(mm)))

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        data = self.read(count)
        if data:
            mm.write(addr, data)
        return len(data)

    def send(self, data: bytes, message: Outgoing) -> int:
        """The whole packet. ENOTCONN, EPIPE, EMSGSIZE, WouldBlock. An address is ignored, as Linux does."""
        if self.error:
            raise LinuxError(self.take_error())
        peer = self._check_connected(message._replace(address=b""))
        if len(data) > self.message_limit():
            raise LinuxError(errno.EMSGSIZE)
        self.check_room()
        cred = self._credentials(message, peer)
        peer.inbox.append(Message(data, cred, self._launch(message), message.uid))
        peer.inbox_bytes += len(data)
        if peer.queue.entries:
            peer.queue.wake(READABLE)
        return len(data)

    def receive(self, count: int, flags: int) -> Incoming:
        """One packet, cut to `count` (MSG_TRUNC). ENOTCONN."""
        if self.state != CONNECTED:
            raise LinuxError(errno.ENOTCONN)
        if self.error or not self.inbox:
            return self._nothing()
        item = self.inbox[0]
        assert isinstance(item, Message)
        data = item.data
        marks = so.MSG_TRUNC if len(data) > count else 0
        peer = self.peer
        address = peer.address if peer else b""
        if flags & so.MSG_PEEK:
            for file in item.files:
                file.add_reference()
            return Incoming(data[:count], len(data), address, item.cred, item.files, marks)
        self.inbox.popleft()
        self.inbox_bytes -= len(data)
        files = land(self.table, item) if item.files else ()
        if peer is not None and peer.queue.entries:
            self.wake_sender(peer)
        return Incoming(data[:count], len(data), address, item.cred, files, marks)


def join_pair(first: UnixStream, second: UnixStream) -> None:
    """Connect two sockets with each other (socketpair(2), and the end of connect(2))."""
    first.peer, second.peer = second, first
    first.state = second.state = CONNECTED
    first.changed()


def _wake_shut(socket: UnixStream) -> None:
    if socket.queue.entries:
        hang_up = po.POLLHUP if socket.shut == _BOTH else 0
        socket.queue.wake(READABLE | WRITABLE | po.POLLRDHUP | po.POLLERR | hang_up)
