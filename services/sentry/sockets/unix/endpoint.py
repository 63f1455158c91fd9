"""What stream, seqpacket and datagram unix sockets share: names, credentials, the inbox, descriptors in flight.

A socket's `inbox` holds what was sent to it and not yet read. An item is plain bytes (a stream's ordinary data, the hot
case) or a `Message`. Sending costs room that is counted against the sender's SO_SNDBUF until the receiver takes it.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import socket_h as so
from services.sentry.errors import LinuxError
from services.sentry.kernel.waiter import ANY
from services.sentry.sockets.base import (
    NOBODY,
    READABLE,
    SEND_SHUT,
    WRITABLE,
    Outgoing,
    Socket,
    Ucred,
    ucred_of,
    ucred_real,
)
from services.sentry.sockets.unix.collector import close_all, collect_soon, land, take_off
from services.sentry.sockets.unix.names import UNNAMED, UnixTable, bind_in_file_system, exists, parse_address
from services.sentry.vfs.anonymous import socket_inode

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["CLOSED", "CONNECTED", "LISTENING", "READABLE", "WRITABLE", "Message", "UnixSocket"]


CLOSED: Final = 0
LISTENING: Final = 1
CONNECTED: Final = 2


class Message:
    """One queued item with more than bytes to it. `files` hold a reference each, charged to user `uid`."""

    __slots__ = ("address", "cred", "data", "files", "sender", "uid")

    def __init__(
        self,
        data: bytes,
        cred: Ucred | None = None,
        files: tuple[OpenFile, ...] = (),
        uid: int = 0,
        address: bytes = b"",
        sender: UnixSocket | None = None,
    ) -> None:
        self.data = data
        self.cred = cred
        self.files = files
        self.uid = uid
        self.address = address
        self.sender = sender


class UnixSocket(Socket):
    """`peer`: the other end, or a datagram socket's default destination; it stays set after the peer's release.

    cred: who made the socket; peer_cred: SO_PEERCRED; in_flight: references held by queued messages; dead: released.
    """

    __slots__ = (
        "address",
        "bound_inode",
        "cred",
        "dead",
        "groups",
        "in_flight",
        "inbox",
        "inbox_bytes",
        "pass_cred",
        "peer",
        "peer_cred",
        "peer_groups",
        "state",
        "table",
    )

    domain = so.AF_UNIX
    peer: Any  # a socket of the same kind, or None
    inbox: deque[bytes | memoryview | Message]

    def __init__(self, task: Task, kind: int, protocol: int, flags: int) -> None:
        kernel = task.kernel
        super().__init__(kernel, socket_inode(kernel, task.cred), kind, protocol, flags)
        self.table = kernel.part(UnixTable)
        self.address = b""
        self.bound_inode: Inode | None = None
        self.cred = ucred_of(task)
        self.groups = task.cred.groups
        self.peer_cred = NOBODY
        self.peer_groups: tuple[int, ...] = ()
        self.state = CLOSED
        self.peer = None
        self.inbox = deque()
        self.inbox_bytes = 0
        self.pass_cred = False
        self.in_flight = 0
        self.dead = False

    # --- names ---
    def bind(self, task: Task, address: bytes) -> None:
        """bind(2). EINVAL: bound already, bad address; EADDRINUSE; errors of creating a file. Nameless: autobind."""
        if address == UNNAMED:
            if not self.address:
                self.table.autobind(self)
            return
        name = parse_address(address)
        if self.address:
            # Linux makes the file first and only then looks whether the socket has a name already (unix_bind_bsd).
            raise LinuxError(errno.EADDRINUSE if name[:1] != b"\0" and exists(task, name) else errno.EINVAL)
        if name[:1] == b"\0":
            if (self.kind, name) in self.table.abstract:
                raise LinuxError(errno.EADDRINUSE)
            self.table.abstract[self.kind, name] = self
            self.address = UNNAMED + name
            return
        self.bound_inode = bind_in_file_system(task, self, name)
        self.address = UNNAMED + name + b"\0"

    def local_address(self) -> bytes:
        return self.address or UNNAMED

    def peer_address(self) -> bytes:
        if self.peer is None or self.state != CONNECTED:
            raise LinuxError(errno.ENOTCONN)
        return self.peer.address or UNNAMED

    def _unbind(self) -> None:
        if self.bound_inode is not None:
            if self.bound_inode.socket is self:
                self.bound_inode.socket = None
            self.bound_inode = None
        elif self.address:
            key = (self.kind, self.address[2:])
            if self.table.abstract.get(key) is self:
                del self.table.abstract[key]

    # --- credentials ---
    def get_option(self, task: Task, level: int, name: int) -> bytes:
        """SO_PEERGROUPS: the peer's supplementary groups; others as the base."""
        if level == so.SOL_SOCKET and name == so.SO_PEERGROUPS:
            if self.peer_cred == NOBODY:
                raise LinuxError(errno.ENODATA)
            return struct.pack(f"<{len(self.peer_groups)}I", *self.peer_groups)
        return super().get_option(task, level, name)

    def pass_credentials(self, on: bool) -> None:
        self.pass_cred = on
        self.changed()

    def passes_credentials(self) -> bool:
        return self.pass_cred

    def peer_credentials(self) -> Ucred:
        return self.peer_cred

    def changed(self) -> None:
        """Something a fast path relies on changed; kinds that have one recompute it."""

    def writer(self, mm: AddressSpace) -> Ucred | None:
        """Who writes from `mm`, for write(2), which does not say; None when nobody asks."""
        if self.pass_cred or (self.peer is not None and self.peer.pass_cred):
            for task in self.kernel.tasks.values():
                if task.mm_or_none is mm:
                    return ucred_real(task)
        return None

    def _credentials(self, message: Outgoing, target: UnixSocket) -> Ucred | None:
        """What the receiver may be told of the sender: only when one of the two asks (unix(7), SO_PASSCRED)."""
        if message.cred is not None:
            return message.cred
        if self.pass_cred or target.pass_cred:
            return message.sender or self.cred
        return None

    # --- the inbox ---
    def _launch(self, message: Outgoing) -> tuple[OpenFile, ...]:
        """The descriptors of `message`, now in flight."""
        if message.files:
            take_off(self.table, message.files, message.uid)
        return message.files

    def drop_inbox(self) -> None:
        """Throw away what was never read; descriptors in it are closed."""
        inbox, self.inbox = self.inbox, deque()
        self.inbox_bytes = 0
        for item in inbox:
            if isinstance(item, Message):
                self.consumed(item)
                if item.files:
                    close_all(self.table, land(self.table, item))
        self.changed()

    def consumed(self, message: Message) -> None:
        """A message left the inbox: datagram senders get their room back."""

    # --- life ---
    def close_reference(self) -> None:
        """Beside the base's: when only messages still refer to the socket, it may be garbage."""
        super().close_reference()
        if 0 < self.refs <= self.in_flight:
            collect_soon(self.table)

    def release(self) -> None:
        """The last reference went. Never raises."""
        if self.dead:
            return
        self.dead = True
        self._unbind()
        self.hang_up()
        self.drop_inbox()
        if self.queue.entries:
            self.queue.wake(ANY)
        if self.table.in_flight:
            collect_soon(self.table)

    def hang_up(self) -> None:
        """Tell peers and those who wait; called once, by release."""

    def message_limit(self) -> int:
        """The longest datagram or packet (net/unix/af_unix.c: sk_sndbuf - 32)."""
        return self.send_buffer - 32

    def set_flags(self, flags: int) -> None:
        self.flags = (flags & ~fc.O_ACCMODE) | fc.O_RDWR

    def may_send(self) -> None:
        """EPIPE: shutdown(2) closed this side for writing."""
        if self.shut & SEND_SHUT:
            raise LinuxError(errno.EPIPE)
