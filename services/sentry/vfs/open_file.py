"""Open file descriptions ("struct file"): what a descriptor refers to, shared by dup(2), fork(2) and SCM_RIGHTS.

Every kind of open file (regular, directory, pipe, socket, epoll, device...) is a subclass of `OpenFile`. An operation
never blocks: it transfers what it can, raises `WouldBlock` when that is nothing, and the system-call layer parks the
task on `queue` (syscalls/blocking.py does this once for all kinds). Whoever changes readiness calls `queue.wake(mask)`.
Reference counts: a descriptor table slot, a message in flight and a mapping each hold one; `close_reference` releases
at 0.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from services.sentry.errors import LinuxError
from services.sentry.kernel.waiter import WaitQueue
from services.sentry.vfs.file_locks import drop_description_locks, drop_owner_locks
from services.sentry.vfs.inode import Inode
from services.sentry.vfs.published import revoke_writing

if TYPE_CHECKING:
    from services.sentry.files.epoll import EpollItem
    from services.sentry.files.ring_end import RingEnd
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome, WaitEntry
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.inode import DirectoryEntry
    from services.sentry.vfs.path_walk import Path

__all__ = ["KEPT_FLAGS", "Backing", "OpenFile", "WindowSource"]

KEPT_FLAGS: Final = ~(fc.O_CREAT | fc.O_EXCL | fc.O_NOCTTY | fc.O_TRUNC | fc.O_CLOEXEC)
"""Of open(2)'s flags, those that F_GETFL shows."""


class Backing(NamedTuple):
    """What a file gives mmap(2): a host fd the Sentry holds, and where the file's byte 0 lies in it.

    `max_prot_write`: whether a shared writable mapping of it is allowed. `identity` keys shared futexes.
    `count_writable`: told 1 for every shared area that may become writable and -1 when it goes (memfd seals).
    """

    host_fd: int
    base: int
    max_prot_write: bool
    identity: Any
    count_writable: Callable[[int], None] | None = None


class WindowSource(NamedTuple):
    """What a regular file gives to those who serve reads and writes of it from a mapping (kernel/published_files.py).

    Bytes [0, size) lie at 0 of `host_fd`, none of them in a hole. `node`: the inode whose data and times these are: it
    calls vfs/published.py before they change otherwise. `writable`: a mapping may be written, and `node` is told when.
    `keeps_reads`: its access time is kept here.
    """

    host_fd: int
    size: int
    writable: bool
    node: Inode
    keeps_reads: bool


class OpenFile:
    """Base of every kind. Subclasses override what they support; the defaults answer as Linux does for "not this kind".

    readable/writable  from the access mode; the system-call layer checks them (EBADF) before it calls.
    flags              O_* status flags as fcntl(F_GETFL) shows them (O_CLOEXEC belongs to the descriptor, not here).
    offset             file position; only seekable kinds use it.
    path               where it was opened (None for anonymous kinds); `inode` always stands.
    """

    __slots__ = (
        "_offset",
        "async_entry",
        "async_owner",
        "epoll_links",
        "flags",
        "inode",
        "locks_owner",
        "path",
        "queue",
        "readable",
        "refs",
        "writable",
    )

    seekable = False  # pread/pwrite/lseek make sense
    # What a platform may answer itself once it was told (kernel/published_files.py): a write takes all it is given and
    # looks at nothing; a read is always at the end of file; a read gives zeros without end.
    takes_everything: bool = False
    gives_nothing: bool = False
    gives_zeros: bool = False
    writes_all: bool = False  # a blocking write goes on until all is written, and EPIPE sends SIGPIPE (pipe(7))
    receive_timeout_ns: int = 0  # of sockets: SO_RCVTIMEO and SO_SNDTIMEO, 0: none
    send_timeout_ns: int = 0
    #: Where the bytes lie while they lie in rings (kernel/published_rings.py); of kinds that never have any, None.
    ring_end: RingEnd | None = None

    def __init__(self, inode: Inode, flags: int, path: Path | None = None) -> None:
        self.inode = inode
        self.flags = flags & KEPT_FLAGS
        mode = flags & fc.O_ACCMODE
        self.readable = mode != fc.O_WRONLY
        self.writable = mode != fc.O_RDONLY
        self.path = path
        self._offset = 0
        self.refs = 0
        self.queue = WaitQueue()
        self.async_owner: object | None = None
        self.async_entry: WaitEntry | None = None  # with O_ASYNC: what sends SIGIO (files/async_notice.py)
        self.locks_owner: object | None = None  # record locks held through this description (vfs/file_locks.py)
        inode.open_files += 1
        if mode:
            inode.writers += 1
            if inode.published:
                revoke_writing(inode)
        self.epoll_links: dict[EpollItem, None] | None = None  # the epoll items that watch this description

    @property
    def offset(self) -> int:
        return self._offset

    @offset.setter
    def offset(self, value: int) -> None:
        self._offset = value

    # --- life ---
    def when_moved(self, call: Callable[[], None]) -> None:
        """Have `call` called if the data goes to another host file than `Inode.donated` said. Mostly it never does."""

    def add_reference(self) -> OpenFile:
        self.refs += 1
        return self

    def close_reference(self) -> None:
        """One holder less. The last one ends it: epolls, locks and the unlinked inode go with it."""
        self.refs = refs = self.refs - 1
        if refs <= 0:
            if self.epoll_links:
                for item in list(self.epoll_links):
                    item.detach()
            if self.flags & fc.O_ASYNC and self.async_entry is not None:
                self.queue.remove(self.async_entry)
            if self.locks_owner is not None:
                drop_description_locks(self)
            self.release()
            inode = self.inode
            if self.flags & fc.O_ACCMODE:
                inode.writers -= 1
            inode.open_files -= 1
            if not inode.open_files and not inode.nlink:
                inode.release_last_link()

    def release(self) -> None:
        """The last reference went. Never raises."""

    def flush(self, task: Task) -> None:
        """close(2) of one descriptor: POSIX locks go. Called only if the inode has `locks`."""
        if self.inode.locks is not None:
            drop_owner_locks(self.inode, task.files)

    # --- data: never block ---
    def read(self, count: int) -> bytes:
        """Up to `count` bytes from the position (advanced) or the stream; b'' at the end. WouldBlock: none yet."""
        raise LinuxError(errno.EINVAL)

    def write(self, data: bytes | memoryview) -> int:
        """Bytes taken (may be fewer). WouldBlock: none now. EPIPE: the caller raises SIGPIPE."""
        raise LinuxError(errno.EINVAL)

    def pread(self, count: int, offset: int) -> bytes:
        raise LinuxError(errno.ESPIPE)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        raise LinuxError(errno.ESPIPE)

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int | None:
        """read(2) straight into guest memory. Override where a copy or a loss on EFAULT can be saved.

        None means WouldBlock, which costs as much as all else a read does: for kinds that are often waited for.
        """
        data = self.read(count)
        mm.write(addr, data)
        return len(data)

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        return self.write(mm.read(addr, count))

    def pread_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        data = self.pread(count, offset)
        mm.write(addr, data)
        return len(data)

    def pwrite_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        return self.pwrite(mm.read(addr, count), offset)

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2): the new position. ESPIPE for streams."""
        raise LinuxError(errno.ESPIPE)

    def truncate(self, size: int) -> None:
        raise LinuxError(errno.EINVAL)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        """fallocate(2)."""
        raise LinuxError(errno.EOPNOTSUPP)

    def sync(self) -> None:
        """fsync(2). EINVAL for kinds that have no storage."""
        raise LinuxError(errno.EINVAL)

    # --- directories ---
    def read_entries(self) -> Iterable[tuple[int, DirectoryEntry]]:
        """Entries from `offset` on, with '.' and '..' first: (next offset, entry). ENOTDIR for other kinds.

        The caller stops when its buffer is full and then sets `offset`.
        """
        raise LinuxError(errno.ENOTDIR)

    def read_packed(self, room: int) -> tuple[bytes, int]:
        """The entries from `offset` on as struct linux_dirent64, `room` bytes at most, and the offset behind them.

        ENOTDIR for other kinds; EINVAL: not even one fits. b'' at the end. The caller then sets `offset`.
        """
        raise LinuxError(errno.ENOTDIR)

    # --- readiness ---
    def poll(self) -> int:
        """poll(2) bits true now."""
        return po.POLLIN | po.POLLOUT | po.POLLRDNORM | po.POLLWRNORM

    pollable = False  # whether epoll_ctl(2) accepts it (EPERM otherwise)
    # Whether `poll` says the same until this kernel does something: it looks at no clock, at nothing of the host's, and
    # does not depend on who asks (kernel/standing_answers.py).
    steady = False

    # --- the rest ---
    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        raise LinuxError(errno.ENOTTY)

    def mmap_backing(self) -> Backing:
        """ENODEV: cannot be mapped."""
        raise LinuxError(errno.ENODEV)

    def window_source(self) -> WindowSource | None:
        """Its contents as memory, None: they cannot be had so."""
        return None

    def set_flags(self, flags: int) -> None:
        """fcntl(F_SETFL), already masked to what may change."""
        self.flags = flags

    def proc_link(self) -> bytes:
        """What readlink(/proc/self/fd/N) shows for kinds without a path, e.g. b'pipe:[123]'."""
        return b"anon_inode:[unknown]"

    def fdinfo(self) -> bytes:
        """Extra lines of /proc/PID/fdinfo/N."""
        return b""
