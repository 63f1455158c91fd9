"""Names of unix sockets: struct sockaddr_un, the abstract namespace, sockets in the file system (unix(7)).

`UnixTable` is one per kernel (`kernel.part(UnixTable)`): abstract names, and the accounting of descriptors in flight
that collector.py uses. A file-system name is an S_IFSOCK inode whose `socket` slot refers to the bound socket.
"""

from __future__ import annotations

import errno
import stat as stat_mod
from collections import deque
from typing import TYPE_CHECKING, Final

from protocol.abi import socket_h as so
from protocol.abi import un_h as un
from services.sentry.errors import LinuxError
from services.sentry.vfs.operations import make_node
from services.sentry.vfs.path_walk import find
from services.sentry.vfs.permissions import WRITE, check

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.sockets.unix.endpoint import UnixSocket
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["UNNAMED", "UnixTable", "bind_in_file_system", "exists", "look_up", "parse_address"]

_FAMILY: Final = so.SA_FAMILY.pack(so.AF_UNIX)
#: What getsockname(2) gives for a socket without a name.
UNNAMED: Final = _FAMILY
_AUTOBIND_LIMIT: Final = 1 << 20  # autobound names are five hexadecimal digits


class UnixTable:
    """Per-kernel state of unix sockets.

    abstract         (kind, name with its leading NUL) -> bound socket; each kind of socket has its own names, as Linux.
    in_flight        sockets referred to by queued messages (their own `in_flight` counts them).
    in_flight_of     uid -> descriptors in flight, of any kind of file (ETOOMANYREFS).
    closing          what was in flight and is to be closed (None: nothing is being closed).
    closes           how many may have made garbage since it was last looked for.
    """

    __slots__ = ("abstract", "closes", "closing", "collecting", "in_flight", "in_flight_of", "next_autobind")

    def __init__(self, kernel: Kernel) -> None:
        self.abstract: dict[tuple[int, bytes], UnixSocket] = {}
        self.in_flight: dict[UnixSocket, None] = {}
        self.in_flight_of: dict[int, int] = {}
        self.next_autobind = 0
        self.collecting = False
        self.closing: deque[OpenFile] | None = None
        self.closes = 0

    def autobind(self, socket: UnixSocket) -> None:
        """Give `socket` a free abstract name (unix(7), "Autobind feature"). ENOSPC: all are taken."""
        for _ in range(_AUTOBIND_LIMIT):
            name = b"\0%05x" % self.next_autobind
            self.next_autobind = (self.next_autobind + 1) % _AUTOBIND_LIMIT
            if (socket.kind, name) not in self.abstract:
                self.abstract[socket.kind, name] = socket
                socket.address = _FAMILY + name
                return
        raise LinuxError(errno.ENOSPC)


def parse_address(address: bytes) -> bytes:
    """The name in a struct sockaddr_un: abstract ones keep their leading NUL, others end at the first NUL.

    EINVAL: too short, too long, or another family.
    """
    if not un.SUN_PATH_OFFSET < len(address) <= un.SOCKADDR_UN.size or address[:2] != _FAMILY:
        raise LinuxError(errno.EINVAL)
    name = address[un.SUN_PATH_OFFSET :]
    if name[0] == 0:
        return name
    return name.partition(b"\0")[0]


def look_up(task: Task, table: UnixTable, kind: int, address: bytes) -> UnixSocket:
    """The socket bound to `address`, for a caller of `kind`.

    ECONNREFUSED: nobody is bound there; EPROTOTYPE: a socket of another kind is; EACCES: no write permission on the
    inode; errors of path resolution; EINVAL: not an address.
    """
    name = parse_address(address)
    if name[:1] == b"\0":
        found = table.abstract.get((kind, name))
        if found is None:
            raise LinuxError(errno.ECONNREFUSED)
        return found
    inode = find(task, name).dentry.inode
    if inode is None:
        raise LinuxError(errno.ENOENT)
    check(inode, task.cred, WRITE)
    bound: UnixSocket | None = inode.socket  # type: ignore[assignment]  # only unix sockets are put there
    if not stat_mod.S_ISSOCK(inode.mode) or bound is None:
        raise LinuxError(errno.ECONNREFUSED)
    if bound.kind != kind:
        raise LinuxError(errno.EPROTOTYPE)
    return bound


def exists(task: Task, name: bytes) -> bool:
    """Whether something of this name is there (a link that leads nowhere counts). Errors of the path's walk."""
    try:
        inode = find(task, name, False).dentry.inode
    except LinuxError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return inode is not None


def bind_in_file_system(task: Task, socket: UnixSocket, name: bytes) -> Inode:
    """Create the S_IFSOCK inode `name` for `socket`. EADDRINUSE: the name exists; errors of creating a file."""
    try:
        inode = make_node(task, task.fs.cwd, name, stat_mod.S_IFSOCK | 0o777, 0).inode
    except LinuxError as error:
        if error.errno == errno.EEXIST:
            raise LinuxError(errno.EADDRINUSE) from None
        raise
    assert inode is not None
    inode.socket = socket
    return inode
