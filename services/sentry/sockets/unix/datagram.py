"""SOCK_DGRAM unix sockets: reliable, in order, with boundaries and sender addresses (unix(7)).

A receiver takes at most `MAX_QUEUE` waiting datagrams from senders that are not its own peer
(net.unix.max_dgram_qlen); a sender that finds it full waits on its own queue and is noted in the receiver's `blocked`.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, cast

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.sockets.base import RECEIVE_SHUT, SEND_SHUT, Incoming, Outgoing
from services.sentry.sockets.byte_stream import OVERHEAD_BYTES
from services.sentry.sockets.unix.collector import land
from services.sentry.sockets.unix.endpoint import (
    CLOSED,
    CONNECTED,
    READABLE,
    WRITABLE,
    Message,
    UnixSocket,
)
from services.sentry.sockets.unix.names import look_up

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["MAX_QUEUE", "UnixDatagram", "join_datagrams"]

#: net.unix.max_dgram_qlen.
MAX_QUEUE: Final = 10
_BOTH: Final = RECEIVE_SHUT | SEND_SHUT
_UNSPEC: Final = so.SA_FAMILY.pack(so.AF_UNSPEC)


class UnixDatagram(UnixSocket):
    """`charge`: bytes this socket sent that nobody has read; `blocked`: senders to wake when this one has room."""

    __slots__ = ("blocked", "charge")

    steady = True

    def __init__(self, task: Task, kind: int, protocol: int, flags: int) -> None:
        super().__init__(task, kind, protocol, flags)
        self.charge = 0
        self.blocked: dict[UnixDatagram, None] = {}

    # --- connecting ---
    def connect(self, task: Task, address: bytes) -> None:
        """Set or (AF_UNSPEC) clear the default destination. EPERM: it is connected to another; what look_up reports."""
        if len(address) < 2:
            raise LinuxError(errno.EINVAL)
        if address[:2] == _UNSPEC:
            self._set_peer(None)
            return
        if self.pass_cred and not self.address:
            self.table.autobind(self)
        target = cast("UnixDatagram", look_up(task, self.table, self.kind, address))
        if target.peer is not None and target.peer is not self:
            raise LinuxError(errno.EPERM)
        self._set_peer(target)
        self.peer_cred, self.peer_groups = target.cred, target.groups

    def _set_peer(self, target: UnixDatagram | None) -> None:
        """What an old peer sent is thrown away (net/unix/af_unix.c unix_dgram_disconnected)."""
        old = self.peer
        self.peer = target
        self.state = CONNECTED if target is not None else CLOSED
        if old is not None and old is not target:
            if self.inbox:
                self.drop_inbox()
                self._wake_blocked()
                if not old.dead and old.peer is self:
                    old.error = errno.ECONNRESET
            old.blocked.pop(self, None)
        if self.queue.entries:
            self.queue.wake(WRITABLE)

    def shutdown(self, how: int) -> None:
        """shutdown(2): this socket alone; its peer learns nothing."""
        self.shut |= how
        if self.queue.entries:
            hang_up = po.POLLHUP if self.shut == _BOTH else 0
            self.queue.wake(READABLE | WRITABLE | po.POLLRDHUP | hang_up)

    def hang_up(self) -> None:
        if self.peer is not None:
            self.peer.blocked.pop(self, None)
        self._wake_blocked()

    def _wake_blocked(self) -> None:
        blocked, self.blocked = self.blocked, {}
        for sender in blocked:
            if sender.queue.entries:
                sender.queue.wake(WRITABLE)

    # --- data ---
    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        if count > self.message_limit():
            raise LinuxError(errno.EMSGSIZE)
        return self.send(mm.read(addr, count) if count else b"", Outgoing(sender=self.writer(mm)))

    def is_full(self, sender: UnixDatagram) -> bool:
        """Whether `sender` must wait: the queue bound, which does not hold between two mutual peers."""
        return len(self.inbox) > MAX_QUEUE and self.peer is not sender

    def _check_room(self, data: bytes) -> None:
        """What Linux checks before it looks for the destination. EMSGSIZE, EPIPE, the pending error; WouldBlock."""
        if len(data) > self.message_limit():
            raise LinuxError(errno.EMSGSIZE)
        if self.error:
            raise LinuxError(self.take_error())
        self.may_send()
        if self.charge >= self.send_buffer:
            raise WouldBlock

    def send_to(self, target: UnixDatagram, data: bytes, message: Outgoing) -> int:
        """Send to `target`, found by the caller, once _check_room passed. ECONNREFUSED, EPERM, EPIPE, WouldBlock."""
        if target.dead:
            if self.peer is target:
                self._set_peer(None)
            raise LinuxError(errno.ECONNREFUSED)
        if target.peer is not None and target.peer is not self:
            raise LinuxError(errno.EPERM)
        if target.shut & RECEIVE_SHUT:
            raise LinuxError(errno.EPIPE)
        if target.is_full(self):
            target.blocked[self] = None
            raise WouldBlock
        cred = self._credentials(message, target)
        target.inbox.append(Message(data, cred, self._launch(message), message.uid, self.address, self))
        target.inbox_bytes += len(data)
        self.charge += len(data) + OVERHEAD_BYTES
        if target.queue.entries:
            target.queue.wake(READABLE)
        return len(data)

    def send(self, data: bytes, message: Outgoing) -> int:
        """To the connected peer. ENOTCONN: none; ECONNREFUSED: it is gone; EPERM, EPIPE, EMSGSIZE, WouldBlock."""
        self._check_room(data)
        if self.peer is None:
            raise LinuxError(errno.ENOTCONN)
        return self.send_to(self.peer, data, message)

    def send_message(self, task: Task, data: bytes, message: Outgoing) -> int:
        """To message.address, or the peer. What look_up and send report."""
        if self.pass_cred and not self.address:
            self.table.autobind(self)
        if not message.address:
            return self.send(data, message)
        self._check_room(data)
        target = cast("UnixDatagram", look_up(task, self.table, self.kind, message.address))
        return self.send_to(target, data, message)

    def consumed(self, message: Message) -> None:
        sender = message.sender
        if isinstance(sender, UnixDatagram):
            sender.charge -= len(message.data) + OVERHEAD_BYTES
            if sender.queue.entries and sender.charge * 4 <= sender.send_buffer:
                sender.queue.wake(WRITABLE)

    def receive(self, count: int, flags: int) -> Incoming:
        """One datagram, cut to `count` (MSG_TRUNC), with its sender's address."""
        if self.error:
            raise LinuxError(self.take_error())
        at = 0
        skip = 0
        if flags & so.MSG_PEEK and self.peek_offset >= 0:
            at, skip = self._peek_position()
        if at >= len(self.inbox):
            if self.shut & RECEIVE_SHUT and not (flags & so.MSG_DONTWAIT or self.flags & fc.O_NONBLOCK):
                return Incoming(b"", 0)  # only a call that would wait sees the end (__skb_wait_for_more_packets)
            raise WouldBlock
        item = self.inbox[at]
        assert isinstance(item, Message)
        data = item.data[skip:]
        marks = so.MSG_TRUNC if len(data) > count else 0
        if flags & so.MSG_PEEK:
            for file in item.files:
                file.add_reference()
            if self.peek_offset >= 0:
                self.peek_offset += min(len(data), count)
            return Incoming(data[:count], len(data), item.address, item.cred, item.files, marks)
        self.inbox.popleft()
        self.inbox_bytes -= len(data)
        if self.peek_offset > 0:
            self.peek_offset = max(self.peek_offset - len(data), 0)
        files = land(self.table, item) if item.files else ()
        self.consumed(item)
        if self.blocked and len(self.inbox) <= MAX_QUEUE:
            self._wake_blocked()
        return Incoming(data[:count], len(data), item.address, item.cred, files, marks)

    def _peek_position(self) -> tuple[int, int]:
        """(index, offset in it) that SO_PEEK_OFF points at."""
        skip = self.peek_offset
        for index, item in enumerate(self.inbox):
            assert isinstance(item, Message)
            if skip < len(item.data) or (not skip and not item.data):
                return index, skip
            skip -= len(item.data)
        return len(self.inbox), 0

    # --- readiness ---
    def poll(self) -> int:
        """As net/unix/af_unix.c unix_dgram_poll."""
        bits = READABLE if self.inbox else 0
        if self.error:
            bits |= po.POLLERR
        if self.shut:
            if self.shut == _BOTH:
                bits |= po.POLLHUP
            if self.shut & RECEIVE_SHUT:
                bits |= READABLE | po.POLLRDHUP
        if self.charge * 4 <= self.send_buffer:
            peer = self.peer
            if peer is None or not peer.is_full(self) or peer.dead:
                bits |= WRITABLE
            else:
                peer.blocked[self] = None
        return bits

    def unread_bytes(self) -> int:
        """The length of the next datagram."""
        if not self.inbox:
            return 0
        item = self.inbox[0]
        return len(item.data) if isinstance(item, Message) else 0

    def unsent_bytes(self) -> int:
        return self.charge


def join_datagrams(first: UnixDatagram, second: UnixDatagram) -> None:
    """socketpair(2)."""
    first.peer, second.peer = second, first
    first.state = second.state = CONNECTED
