"""Inherited host descriptors as guest files: the standard streams when they are pipes, files, sockets or devices.

A host fd is shared with whoever gave it, so O_NONBLOCK is never set on it: poll(2) is asked first, and at most PIPE_BUF
bytes are written at a time, which a writable pipe takes without blocking (pipe(7)). Regular files go straight through,
with the host's own file position (a shell's `< file` continues where the guest stopped reading).

Host calls used: read, write, pread64, pwrite64, lseek, fstat, ftruncate, fsync, poll. Terminals are devices/terminal's.
"""

from __future__ import annotations

import errno
import os
import select
import stat as stat_mod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from protocol.abi import fcntl_h as fc
from protocol.abi import ioctl_h as io
from protocol.abi import poll_h as po
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel.waiter import WaitQueue
from services.sentry.vfs.inode import Inode
from services.sentry.vfs.open_file import Backing, OpenFile
from services.sentry.vfs.superblock import Superblock

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.dentry import Dentry

__all__ = ["HostFile", "HostRegularFile", "HostStreamFile", "open_host_file"]

PIPE_BUF: Final = 4096
LARGEST: Final = 1 << 26  # bytes moved by one call
BURST: Final = 1 << 16  # bytes written to a stream by one call
READABLE: Final = po.POLLIN | po.POLLRDNORM
WRITABLE: Final = po.POLLOUT | po.POLLWRNORM
GONE: Final = po.POLLHUP | po.POLLERR

_T = TypeVar("_T")


def host(call: Callable[..., _T], *args: object) -> _T:
    """Run a host call; its OSError becomes the guest's."""
    try:
        return call(*args)
    except BlockingIOError:
        raise WouldBlock from None
    except OSError as error:
        raise LinuxError(error.errno or 5, "host file") from None


class HostInode(Inode):
    """A host fd and who waits for it. Attributes follow the host's fstat(2); owner and mode cannot be changed.

    `users`: open files that share `fd`.
    """

    __slots__ = ("fd", "host_flags", "queue", "users", "watched")

    def __init__(self, superblock: Superblock, ino: int, fd: int) -> None:
        super().__init__(superblock, ino, os.fstat(fd).st_mode)
        self.fd = fd
        self.users = 0
        self.queue = WaitQueue()  # of every open file that shares `fd`
        self.watched = 0  # poll bits that host_poll waits for
        self.host_flags = fc.O_RDWR
        self.refresh()

    def refresh(self) -> None:
        if self.fd < 0:
            return
        found = os.fstat(self.fd)
        self.mode = found.st_mode
        self.size = found.st_size
        self.blocks = found.st_blocks
        self.rdev = found.st_rdev if stat_mod.S_ISCHR(found.st_mode) else 0
        self.atime_ns, self.mtime_ns, self.ctime_ns = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns

    # --- readiness ---
    def watch(self, mask: int) -> None:
        """Have the waiters on `queue` woken once the host fd has one of the poll(2) bits of `mask`."""
        host_poll = self.superblock.kernel.host_poll
        if host_poll is None or self.watched & mask == mask:
            return
        self.watched |= mask
        host_poll.watch(self.fd, self.watched, self._ready)

    def unwatch(self) -> None:
        if self.watched:
            self.watched = 0
            self.superblock.kernel.host_poll.unwatch(self.fd)

    def _ready(self, mask: int) -> None:
        """host_poll's callback. One event ends the watch; who still waits asks again."""
        self.unwatch()
        woken = mask & GONE
        if mask & (po.POLLIN | po.POLLHUP | po.POLLERR):
            woken |= READABLE
        if mask & (po.POLLOUT | po.POLLERR):
            woken |= WRITABLE
        self.queue.wake(woken)

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        """Opened again, as /dev/stdin or /proc/self/fd/N: the same host fd. EACCES: not opened that way by the host."""
        had, wanted = self.host_flags & fc.O_ACCMODE, flags & fc.O_ACCMODE
        if stat_mod.S_ISSOCK(self.mode) or self.fd < 0:
            raise LinuxError(errno.ENXIO, "host socket")
        if had not in (fc.O_RDWR, wanted):
            raise LinuxError(errno.EACCES, "host file")
        return _file_of(self, flags & ~fc.O_TRUNC)

    def set_attributes(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
    ) -> None:
        if size is not None:
            host(os.ftruncate, self.fd, size)
        if mode is not None or uid is not None or gid is not None:
            raise LinuxError(1, "host file")


class HostFiles:
    """The superblock of host files of one kernel (`kernel.part(HostFiles)`)."""

    __slots__ = ("count", "superblock")

    def __init__(self, kernel: Kernel) -> None:
        self.superblock = Superblock(kernel, b"hostfs", 0x00C0FFEE)
        self.count = 0

    def inode(self, fd: int, flags: int) -> HostInode:
        self.count += 1
        made = HostInode(self.superblock, self.count, fd)
        made.host_flags = flags
        return made


class HostFile(OpenFile):
    """What regular files and streams share. The fd is closed with the last file that uses it."""

    __slots__ = ("fd", "host_inode")

    def __init__(self, inode: HostInode, flags: int) -> None:
        super().__init__(inode, flags)
        self.host_inode = inode
        self.fd = inode.fd
        self.queue = inode.queue
        inode.users += 1

    def release(self) -> None:
        if self.fd < 0:
            return
        self.fd = -1
        inode = self.host_inode
        inode.users -= 1
        if inode.users == 0:
            inode.unwatch()
            os.close(inode.fd)
            inode.fd = -1

    def proc_link(self) -> bytes:
        return b"host:[%d]" % self.inode.ino


class HostRegularFile(HostFile):
    """A regular file, read and written where the host's file position stands."""

    __slots__ = ()
    seekable = True

    def read(self, count: int) -> bytes:
        return host(os.read, self.fd, min(count, LARGEST))

    def write(self, data: bytes | memoryview) -> int:
        return host(os.write, self.fd, data)

    def pread(self, count: int, offset: int) -> bytes:
        return host(os.pread, self.fd, min(count, LARGEST), offset)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        return host(os.pwrite, self.fd, data, offset)

    def seek(self, offset: int, whence: int) -> int:
        self.offset = host(os.lseek, self.fd, offset, whence)
        return self.offset

    def truncate(self, size: int) -> None:
        host(os.ftruncate, self.fd, size)

    def sync(self) -> None:
        host(os.fsync, self.fd)

    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        if request == io.FIONREAD:
            left = os.fstat(self.fd).st_size - host(os.lseek, self.fd, 0, os.SEEK_CUR)
            task.mm.write_u32(arg, max(0, left))
            return 0
        return super().ioctl(task, request, arg)

    def mmap_backing(self) -> Backing:
        return Backing(self.fd, 0, self.writable, self.inode)


class HostStreamFile(HostFile):
    """A pipe, socket or character device of the host."""

    __slots__ = ("_poller",)
    pollable = True
    writes_all = True

    def __init__(self, inode: HostInode, flags: int) -> None:
        super().__init__(inode, flags)
        wanted = (po.POLLIN if self.readable else 0) | (po.POLLOUT if self.writable else 0)
        self._poller = select.poll()
        self._poller.register(self.fd, wanted)

    def _host_bits(self) -> int:
        found = self._poller.poll(0)
        return found[0][1] if found else 0

    def read(self, count: int) -> bytes:
        if not self._host_bits() & (po.POLLIN | GONE):
            self.host_inode.watch(po.POLLIN)
            raise WouldBlock
        return host(os.read, self.fd, min(count, LARGEST))

    def write(self, data: bytes | memoryview) -> int:
        """As much as fits without blocking. EPIPE: no reader."""
        taken = 0
        total = min(len(data), BURST)
        while taken < total or total == 0:
            if not self._host_bits() & (po.POLLOUT | po.POLLERR):
                if taken:
                    return taken
                self.host_inode.watch(po.POLLOUT)
                raise WouldBlock
            try:
                taken += host(os.write, self.fd, data[taken : min(taken + PIPE_BUF, total)])
            except (LinuxError, WouldBlock):
                if taken:
                    return taken
                raise
            if total == 0:
                break
        return taken

    def poll(self) -> int:
        bits = self._host_bits()
        ready = bits & GONE
        if bits & po.POLLIN:
            ready |= READABLE
        if bits & po.POLLOUT:
            ready |= WRITABLE
        if not ready & GONE:
            missing = (po.POLLIN if self.readable and not ready & READABLE else 0) | (
                po.POLLOUT if self.writable and not ready & WRITABLE else 0
            )
            if missing:
                self.host_inode.watch(missing)
        return ready

    def proc_link(self) -> bytes:
        kind = stat_mod.S_IFMT(self.inode.mode)
        if kind == stat_mod.S_IFIFO:
            return b"pipe:[%d]" % self.inode.ino
        if kind == stat_mod.S_IFSOCK:
            return b"socket:[%d]" % self.inode.ino
        return super().proc_link()


def open_host_file(kernel: Kernel, fd: int, flags: int | None = None) -> HostFile:
    """A guest file for the inherited host fd `fd` (kept; closed with the file). Not for terminals.

    `flags`: its open flags, when the caller knows them better than fcntl(2) F_GETFL (asked here, before sealing).
    """
    if flags is None:
        from fcntl import F_GETFL
        from fcntl import fcntl as host_fcntl

        flags = host_fcntl(fd, F_GETFL) & (fc.O_ACCMODE | fc.O_APPEND)
    return _file_of(kernel.part(HostFiles).inode(fd, flags), flags)


def _file_of(inode: HostInode, flags: int) -> HostFile:
    return HostRegularFile(inode, flags) if inode.is_regular else HostStreamFile(inode, flags)
