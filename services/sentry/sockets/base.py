"""Sockets of every family: the operations the system calls use, and what all of them keep.

A `Socket` is an OpenFile. Operations never block (WouldBlock, waited for on `queue` with POLLIN or POLLOUT) and know
neither guest memory nor descriptors: syscalls/sockets.py decodes and encodes. Addresses are the bytes of a struct
sockaddr, exactly as long as they are; b'' is "none".
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from protocol.abi import fcntl_h as fc
from protocol.abi import ioctl_h as io
from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from protocol.abi.layout import I32
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.sockets.interface_ioctls import interface_ioctl
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome, WaitQueue
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.sockets.packet_filter import Instruction
    from services.sentry.vfs.inode import Inode

__all__ = [
    "DEFAULT_BUFFER_BYTES",
    "READABLE",
    "RECEIVE_SHUT",
    "SEND_SHUT",
    "WRITABLE",
    "Incoming",
    "Outgoing",
    "Socket",
    "Ucred",
    "WouldBlockOn",
    "ucred_of",
    "ucred_real",
]

#: net.core.wmem_default and rmem_default; also what SO_SNDBUF may be set to at most, before doubling (socket(7)).
DEFAULT_BUFFER_BYTES: Final = 212_992
RECEIVE_SHUT: Final = 1
SEND_SHUT: Final = 2
READABLE: Final = po.POLLIN | po.POLLRDNORM
WRITABLE: Final = po.POLLOUT | po.POLLWRNORM | po.POLLWRBAND


class WouldBlockOn(WouldBlock):
    """WouldBlock that another object's queue ends: a full listener's, for connect(2)."""

    __slots__ = ("mask", "queue")

    def __init__(self, queue: WaitQueue, mask: int) -> None:
        self.queue = queue
        self.mask = mask


class Ucred(NamedTuple):
    """struct ucred: the identity of a peer or sender (unix(7))."""

    pid: int
    uid: int
    gid: int


NOBODY: Final = Ucred(0, 0xFFFFFFFF, 0xFFFFFFFF)


def ucred_of(task: Task) -> Ucred:
    """As SO_PEERCRED shows `task`: effective ids."""
    return Ucred(task.group.pid, task.cred.euid, task.cred.egid)


def ucred_real(task: Task) -> Ucred:
    """As SCM_CREDENTIALS of a sender that gave none: real ids."""
    return Ucred(task.group.pid, task.cred.ruid, task.cred.rgid)


class Outgoing(NamedTuple):
    """What a send call carries beside its bytes.

    address: destination, b'' for none given; files: one reference each, owned by the caller until a send took them;
    cred: given by SCM_CREDENTIALS; sender: the calling task's own; control: messages of other levels, (level, type,
    payload).
    """

    address: bytes = b""
    files: tuple[OpenFile, ...] = ()
    cred: Ucred | None = None
    sender: Ucred | None = None
    flags: int = 0
    uid: int = 0
    control: tuple[tuple[int, int, bytes], ...] = ()


class Incoming(NamedTuple):
    """What a receive call got. `files` hold one reference each, now the caller's; `full_bytes`: the whole datagram.

    control: messages beside credentials and descriptors, (level, type, payload).
    """

    data: bytes
    full_bytes: int
    address: bytes = b""
    cred: Ucred | None = None
    files: tuple[OpenFile, ...] = ()
    flags: int = 0
    control: tuple[tuple[int, int, bytes], ...] = ()


class Socket(OpenFile):
    """Base of every family. `shut` holds RECEIVE_SHUT | SEND_SHUT; `error` the pending SO_ERROR, 0: none.

    receive_timeout_ns, send_timeout_ns: SO_RCVTIMEO and SO_SNDTIMEO, 0: none. `options`: settings that only need to be
    remembered; program: a packet filter; plain_receive: nothing but the next bytes is asked for (no SO_PEEK_OFF, no
    SO_RCVLOWAT).
    """

    __slots__ = (
        "error",
        "kernel",
        "kind",
        "linger",
        "options",
        "peek_offset",
        "plain_receive",
        "program",
        "protocol",
        "receive_buffer",
        "receive_timeout_ns",
        "send_buffer",
        "send_timeout_ns",
        "shut",
    )

    pollable = True
    domain = so.AF_UNSPEC
    #: A write to a closed peer raises SIGPIPE, and a blocking send goes on until all is written.
    writes_all = False
    keeps_boundaries = True
    #: MSG_OOB means something (tcp(7)); else it is EOPNOTSUPP.
    has_urgent_data = False
    #: MSG_TRUNC throws a stream's bytes away without a copy (tcp(7)).
    discards = False
    #: A packet filter (SO_ATTACH_FILTER) can be attached; `program` is the one that is.
    filters_packets = False
    #: What stands for a socket outside the Sentry (inet/provider.py Far), where a family has such.
    far: Any = None
    #: What connect(2) gives when SO_SNDTIMEO ended it.
    late_connect_errno = errno.EAGAIN

    def __init__(self, kernel: Kernel, inode: Inode, kind: int, protocol: int, flags: int) -> None:
        super().__init__(inode, fc.O_RDWR | (flags & fc.O_NONBLOCK))
        self.kernel = kernel
        self.kind = kind
        self.protocol = protocol
        self.error = 0
        self.shut = 0
        self.receive_timeout_ns = self.send_timeout_ns = 0
        self.send_buffer = self.receive_buffer = DEFAULT_BUFFER_BYTES
        self.peek_offset = -1
        self.plain_receive = True
        self.linger = (0, 0)
        self.options: dict[int, int] = {}
        self.program: tuple[Instruction, ...] | None = None

    # --- names and connections ---
    def bind(self, task: Task, address: bytes) -> None:
        raise LinuxError(errno.EOPNOTSUPP)

    def listen(self, task: Task, backlog: int) -> None:
        raise LinuxError(errno.EOPNOTSUPP)

    def accept(self, task: Task, flags: int) -> Socket:
        """The next connection. WouldBlock: none yet; EINVAL: not listening. `flags`: O_NONBLOCK for the new socket."""
        raise LinuxError(errno.EOPNOTSUPP)

    def connect(self, task: Task, address: bytes) -> None:
        """WouldBlock: the peer's queue of connections is full; it is tried again after a wake-up."""
        raise LinuxError(errno.EOPNOTSUPP)

    def shutdown(self, how: int) -> None:
        raise LinuxError(errno.EOPNOTSUPP)

    def local_address(self) -> bytes:
        raise LinuxError(errno.EOPNOTSUPP)

    def peer_address(self) -> bytes:
        """ENOTCONN: there is no peer."""
        raise LinuxError(errno.ENOTCONN)

    # --- data ---
    def send(self, data: bytes, message: Outgoing) -> int:
        """Bytes taken. WouldBlock: no room; EPIPE: SIGPIPE is the caller's, when `writes_all`."""
        raise LinuxError(errno.EOPNOTSUPP)

    def send_message(self, task: Task, data: bytes, message: Outgoing) -> int:
        """As send, for a caller that may resolve an address anew at each try."""
        return self.send(data, message)

    def receive(self, count: int, flags: int) -> Incoming:
        """One message, or what a stream has up to `count`. `flags`: MSG_PEEK and such. WouldBlock: nothing yet."""
        raise LinuxError(errno.EOPNOTSUPP)

    def take_error(self) -> int:
        """SO_ERROR: the pending error, cleared."""
        error, self.error = self.error, 0
        return error

    # --- options beyond sockets/options.py ---
    def get_option(self, task: Task, level: int, name: int) -> bytes:
        """ENOPROTOOPT, EOPNOTSUPP: unknown here."""
        raise LinuxError(errno.ENOPROTOOPT if level == so.SOL_SOCKET else errno.EOPNOTSUPP)

    def answer_option(self, level: int, name: int, asked: bytes) -> bytes | None:
        """An option whose value says what is asked; None: it is none of these. `asked`: at most four bytes of it."""
        return None

    def set_option(self, task: Task, level: int, name: int, value: bytes) -> None:
        raise LinuxError(errno.ENOPROTOOPT if level == so.SOL_SOCKET else errno.EOPNOTSUPP)

    def option_set(self, level: int, name: int) -> None:
        """An option was set, here or in sockets/options.py: for who passes it on."""

    def bind_device(self, name: bytes) -> None:
        """SO_BINDTODEVICE. ENODEV: no such interface."""
        if name:
            raise LinuxError(errno.ENODEV)

    def bound_device(self) -> bytes:
        return b""

    def pass_credentials(self, on: bool) -> None:
        """SO_PASSCRED."""
        raise LinuxError(errno.EOPNOTSUPP)

    def passes_credentials(self) -> bool:
        return False

    def peer_credentials(self) -> Ucred:
        """SO_PEERCRED."""
        return NOBODY

    def is_listening(self) -> bool:
        return False

    # --- the file ---
    def writer(self, mm: AddressSpace) -> Ucred | None:
        """Who writes from `mm`, for write(2), which does not say; None when nobody asks."""
        return None

    def unread_bytes(self) -> int:
        """ioctl(2) SIOCINQ. EINVAL: a listening socket."""
        raise LinuxError(errno.EINVAL)

    def unsent_bytes(self) -> int:
        """ioctl(2) SIOCOUTQ."""
        raise LinuxError(errno.EINVAL)

    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        """SIOCINQ and SIOCOUTQ, and what netdevice(7) asks of interfaces; ENOTTY for others."""
        if request == io.SIOCINQ:
            value = self.unread_bytes()
        elif request == io.SIOCOUTQ:
            value = self.unsent_bytes()
        elif request == io.SIOCATMARK:
            value = 0
        elif interface_ioctl(task, request, arg):
            return 0
        else:
            raise LinuxError(errno.ENOTTY)
        task.mm.write(arg, I32.pack(value))
        return 0

    def read(self, count: int) -> bytes:
        """read(2): as receive without flags; descriptors that came along are dropped. A count of 0 reads nothing."""
        if count == 0:
            return b""
        incoming = self.receive(count, 0)
        for file in incoming.files:
            file.close_reference()
        return incoming.data

    def write(self, data: bytes | memoryview) -> int:
        return self.send(bytes(data), Outgoing())

    def proc_link(self) -> bytes:
        return b"socket:[%d]" % self.inode.ino
