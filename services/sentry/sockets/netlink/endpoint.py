"""Netlink sockets: a request is a datagram to the kernel, whose answer is in the inbox when sendto(2) returns.

Only the kernel is talked to: a message for another process gives ECONNREFUSED. Members of NETLINK_ROUTE's multicast
groups are told what changes (notices.py). Dumps come in several datagrams, each
not longer than what programs read at once.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import netlink_h as nl
from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from protocol.abi.layout import I32, U32
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel.waiter import ANY
from services.sentry.sockets.base import READABLE, WRITABLE, Incoming, Outgoing, Socket
from services.sentry.sockets.inet.network import InetNetwork
from services.sentry.sockets.netlink import route, sock_diag
from services.sentry.sockets.netlink.messages import Reply, Request, error, message, requests_untrusted
from services.sentry.sockets.netlink.notices import Notices
from services.sentry.vfs.anonymous import socket_inode

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["NetlinkSocket", "NetlinkTable", "create"]

#: The longest datagram of a dump (NLMSG_GOODSIZE of programs that read 8 KiB at once).
_DUMP_BYTES: Final = 4096
_MAX_REQUEST_BYTES: Final = 65_536
_MAX_GROUPS: Final = 1024
#: Messages to groups that wait to be read, about what SO_RCVBUF holds.
_MAX_TOLD: Final = 256
_TOLD: Final = Request(0, 0, 0, 0, b"", b"")
#: KOBJECT_UEVENT has no requests: one listens, and nothing happens.
_PROTOCOLS: Final = (nl.NETLINK_ROUTE, nl.NETLINK_SOCK_DIAG, nl.NETLINK_KOBJECT_UEVENT)
_FLAGS: Final = (
    nl.NETLINK_PKTINFO, nl.NETLINK_BROADCAST_ERROR, nl.NETLINK_NO_ENOBUFS, nl.NETLINK_LISTEN_ALL_NSID,
    nl.NETLINK_CAP_ACK, nl.NETLINK_EXT_ACK, nl.NETLINK_GET_STRICT_CHK,
)  # fmt: skip


class NetlinkTable:
    """Port ids in use, per kernel: (protocol, port id) -> socket; members: sockets of NETLINK_ROUTE in some group."""

    __slots__ = ("_kernel", "_notices", "members", "ports")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._notices: Notices | None = None
        self.ports: dict[tuple[int, int], NetlinkSocket] = {}
        self.members: dict[NetlinkSocket, None] = {}

    def follow(self, socket: NetlinkSocket) -> None:
        """Its groups are others than before."""
        if socket.protocol != nl.NETLINK_ROUTE:
            return
        if socket.groups:
            self.members[socket] = None
            if self._notices is None:
                self._notices = Notices(self._kernel.part(InetNetwork), self._tell)
        else:
            self.members.pop(socket, None)

    def _tell(self, group: int, reply: Reply) -> None:
        for socket in self.members:
            if socket.groups & group:
                socket.told(group, reply)


class NetlinkSocket(Socket):
    """port: its address, 0 until it has one; groups: multicast groups joined, as a mask; flags of SOL_NETLINK."""

    __slots__ = ("destination", "groups", "inbox", "port", "settings", "table")

    domain = so.AF_NETLINK
    pollable = True

    def __init__(self, task: Task, kind: int, protocol: int, flags: int) -> None:
        super().__init__(task.kernel, socket_inode(task.kernel, task.cred), kind, protocol, flags)
        self.table = task.kernel.part(NetlinkTable)
        self.port = 0
        self.groups = 0
        self.destination = 0
        self.inbox: deque[bytes] = deque()
        self.settings: dict[int, int] = {}

    # --- names ---
    def _parse(self, address: bytes) -> tuple[int, int]:
        """(port id, groups). EINVAL."""
        if len(address) < nl.SOCKADDR_NL.size:
            raise LinuxError(errno.EINVAL)
        family, port, groups = nl.SOCKADDR_NL.unpack_from(address)
        if family != so.AF_NETLINK:
            raise LinuxError(errno.EINVAL)
        return port, groups

    def bind(self, task: Task, address: bytes) -> None:
        """bind(2). EINVAL: another port id than before; EADDRINUSE."""
        port, groups = self._parse(address)
        if self.port:
            if port not in (0, self.port):
                raise LinuxError(errno.EINVAL)
        elif port:
            self._take(port)
        else:
            self._auto_bind(task)
        self.groups = groups
        self.table.follow(self)

    def _take(self, port: int) -> None:
        key = (self.protocol, port)
        if key in self.table.ports:
            raise LinuxError(errno.EADDRINUSE)
        self.table.ports[key] = self
        self.port = port

    def _auto_bind(self, task: Task) -> None:
        """The process id, or a free number far from all of them (netlink_autobind)."""
        port = task.group.pid
        while (self.protocol, port) in self.table.ports:
            port = 0x80000000 | int.from_bytes(self.kernel.random(4), "little")
        self._take(port)

    def connect(self, task: Task, address: bytes) -> None:
        """The default destination; AF_UNSPEC: the kernel. EPERM: another process."""
        if address[:2] == so.SA_FAMILY.pack(so.AF_UNSPEC):
            self.destination = 0
            return
        port, _ = self._parse(address)
        if not self.port:
            self._auto_bind(task)
        self.destination = port

    def local_address(self) -> bytes:
        return nl.SOCKADDR_NL.pack(so.AF_NETLINK, self.port, self.groups)

    def peer_address(self) -> bytes:
        return nl.SOCKADDR_NL.pack(so.AF_NETLINK, self.destination, 0)

    def release(self) -> None:
        if self.port:
            self.table.ports.pop((self.protocol, self.port), None)
        self.table.members.pop(self, None)
        if self.queue.entries:
            self.queue.wake(ANY)

    # --- requests ---
    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        if count > _MAX_REQUEST_BYTES:
            raise LinuxError(errno.EMSGSIZE)
        task = next(task for task in self.kernel.tasks.values() if task.mm_or_none is mm)
        return self.send_message(task, mm.read(addr, count) if count else b"", Outgoing())

    def send_message(self, task: Task, data: bytes, message: Outgoing) -> int:
        """Requests to the kernel, answered at once. ECONNREFUSED: to another process; EMSGSIZE; ENODATA: nothing."""
        if not data:
            raise LinuxError(errno.ENODATA)
        if len(data) > _MAX_REQUEST_BYTES:
            raise LinuxError(errno.EMSGSIZE)
        port = self._parse(message.address)[0] if message.address else self.destination
        if not self.port:
            self._auto_bind(task)
        if port:
            raise LinuxError(errno.ECONNREFUSED)
        for request in requests_untrusted(data):
            if request.flags & nl.NLM_F_REQUEST and request.kind >= nl.NLMSG_MIN_TYPE:
                self._answer(task, request._replace(sender=self.port))
            elif request.flags & nl.NLM_F_ACK:
                self._put(error(request._replace(sender=self.port), 0))
        return len(data)

    def _answer(self, task: Task, request: Request) -> None:
        network = task.kernel.part(InetNetwork)
        try:
            if self.protocol == nl.NETLINK_ROUTE:
                replies, dump = route.answer(task, network, request)
            elif self.protocol == nl.NETLINK_SOCK_DIAG:
                replies, dump = sock_diag.answer(network, request), True
            else:
                raise LinuxError(errno.EOPNOTSUPP)
            if dump:
                self._put_dump(request, replies)
                return
            for reply in replies:
                self._put(message(reply, request))
        except LinuxError as failure:
            self._put(error(request, failure.errno))
            return
        if request.flags & nl.NLM_F_ACK:
            self._put(error(request, 0))

    def _put_dump(self, request: Request, replies: Iterable[Reply]) -> None:
        """NLM_F_MULTI messages, several to a datagram; NLMSG_DONE, with the errno if it failed, in one of its own."""
        held = bytearray()
        failed = 0
        try:
            for reply in replies:
                packed = message(reply, request, nl.NLM_F_MULTI)
                if held and len(held) + len(packed) > _DUMP_BYTES:
                    self._put(bytes(held))
                    held.clear()
                held += packed
        except LinuxError as failure:
            failed = failure.errno
        if held:
            self._put(bytes(held))
        self._put(message(Reply(nl.NLMSG_DONE, I32.pack(-failed)), request, nl.NLM_F_MULTI))

    def told(self, group: int, reply: Reply) -> None:
        """A message to a group it is in. ENOBUFS for the next receive when too many wait (netlink_overrun)."""
        if len(self.inbox) >= _MAX_TOLD:
            if not self.settings.get(nl.NETLINK_NO_ENOBUFS):
                self.error = errno.ENOBUFS
        else:
            self._put(message(reply, _TOLD))

    def _put(self, datagram: bytes) -> None:
        self.inbox.append(datagram)
        if self.queue.entries:
            self.queue.wake(READABLE)

    # --- answers ---
    def receive(self, count: int, flags: int) -> Incoming:
        """One datagram, cut to `count` (MSG_TRUNC), from the kernel. WouldBlock."""
        if self.error:
            raise LinuxError(self.take_error())
        if not self.inbox:
            raise WouldBlock
        datagram = self.inbox[0] if flags & so.MSG_PEEK else self.inbox.popleft()
        marks = so.MSG_TRUNC if len(datagram) > count else 0
        kernel = nl.SOCKADDR_NL.pack(so.AF_NETLINK, 0, 0)
        control: tuple[tuple[int, int, bytes], ...] = ()
        if self.settings.get(nl.NETLINK_PKTINFO):
            control = ((so.SOL_NETLINK, nl.NETLINK_PKTINFO, U32.pack(0)),)
        return Incoming(datagram[:count], len(datagram), kernel, flags=marks, control=control)

    def poll(self) -> int:
        return WRITABLE | (READABLE if self.inbox else 0) | (po.POLLERR if self.error else 0)

    def unread_bytes(self) -> int:
        return len(self.inbox[0]) if self.inbox else 0

    def unsent_bytes(self) -> int:
        return 0

    # --- options ---
    def get_option(self, task: Task, level: int, name: int) -> bytes:
        """ENOPROTOOPT: no such option."""
        if level != so.SOL_NETLINK:
            raise LinuxError(errno.ENOPROTOOPT)
        if name == nl.NETLINK_LIST_MEMBERSHIPS:
            return U32.pack(self.groups)
        if name not in _FLAGS:
            raise LinuxError(errno.ENOPROTOOPT)
        return I32.pack(self.settings.get(name, 0))

    def set_option(self, task: Task, level: int, name: int, value: bytes) -> None:
        """EINVAL: too short, no such group; ENOPROTOOPT."""
        if level != so.SOL_NETLINK:
            raise LinuxError(errno.ENOPROTOOPT)
        if len(value) < 4:
            raise LinuxError(errno.EINVAL)
        (number,) = I32.unpack_from(value)
        if name in (nl.NETLINK_ADD_MEMBERSHIP, nl.NETLINK_DROP_MEMBERSHIP):
            if not 1 <= number <= _MAX_GROUPS:
                raise LinuxError(errno.EINVAL)
            bit = 1 << (number - 1) & 0xFFFFFFFF
            self.groups = self.groups | bit if name == nl.NETLINK_ADD_MEMBERSHIP else self.groups & ~bit
            self.table.follow(self)
        elif name in _FLAGS:
            self.settings[name] = int(bool(number))
        else:
            raise LinuxError(errno.ENOPROTOOPT)

    def set_flags(self, flags: int) -> None:
        self.flags = (flags & ~fc.O_ACCMODE) | fc.O_RDWR


def create(task: Task, kind: int, protocol: int, flags: int) -> NetlinkSocket:
    """The AF_NETLINK row of the family registry. ESOCKTNOSUPPORT: the kind; EPROTONOSUPPORT: the protocol."""
    if kind not in (so.SOCK_RAW, so.SOCK_DGRAM):
        raise LinuxError(errno.ESOCKTNOSUPPORT)
    if protocol not in _PROTOCOLS:
        raise LinuxError(errno.EPROTONOSUPPORT)
    return NetlinkSocket(task, kind, protocol, flags)
