"""Inherited host descriptors as guest files: the standard streams when they are pipes, files, sockets or devices.

A host fd is shared with whoever gave it, so O_NONBLOCK is never set on it: poll(2) is asked first, and at most PIPE_BUF
bytes are written at a time, which a writable pipe takes without blocking (pipe(7)). Regular files go straight through,
with the host's own file position (a shell's `< file` continues where the guest stopped reading).

Host calls used: read, write, pread64, pwrite64, lseek, fstat, ftruncate, fsync, poll. Terminals are devices/terminal's.
"""

from __future__ import annotations

import os
import select
import stat as stat_mod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from protocol.abi import fcntl_h as fc
from protocol.abi import ioctl_h as io
from protocol.abi import poll_h as po
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.vfs.anonymous import pipe_inode, socket_inode
from services.sentry.vfs.inode import Inode
from services.sentry.vfs.open_file import Backing, OpenFile
from services.sentry.vfs.superblock import Superblock

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome

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
    """Attributes follow the host's fstat(2); owner and times are shown, but owner and mode cannot be changed."""

    __slots__ = ("fd",)

    def __init__(self, superblock: Superblock, ino: int, fd: int) -> None:
        super().__init__(superblock, ino, os.fstat(fd).st_mode)
        self.fd = fd
        self.refresh()

    def refresh(self) -> None:
        found = os.fstat(self.fd)
        self.mode = found.st_mode
        self.size = found.st_size
        self.blocks = found.st_blocks
        self.rdev = found.st_rdev if stat_mod.S_ISCHR(found.st_mode) else 0
        self.atime_ns, self.mtime_ns, self.ctime_ns = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns

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

    def inode(self, fd: int) -> HostInode:
        self.count += 1
        return HostInode(self.superblock, self.count, fd)


class HostFile(OpenFile):
    """What regular files and streams share. The fd is closed with the last reference."""

    __slots__ = ("fd",)

    def __init__(self, inode: Inode, flags: int, fd: int) -> None:
        super().__init__(inode, flags)
        self.fd = fd

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

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

    __slots__ = ("_poller", "_watched")
    pollable = True

    def __init__(self, inode: Inode, flags: int, fd: int) -> None:
        super().__init__(inode, flags, fd)
        self._watched = 0
        wanted = (po.POLLIN if self.readable else 0) | (po.POLLOUT if self.writable else 0)
        self._poller = select.poll()
        self._poller.register(fd, wanted)

    def _host_bits(self) -> int:
        found = self._poller.poll(0)
        return found[0][1] if found else 0

    def read(self, count: int) -> bytes:
        if not self._host_bits() & (po.POLLIN | GONE):
            self._watch(po.POLLIN)
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
                self._watch(po.POLLOUT)
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
                self._watch(missing)
        return ready

    def _watch(self, mask: int) -> None:
        """Have the waiters on `queue` woken once the host fd is ready."""
        host_poll = self.inode.superblock.kernel.host_poll
        if host_poll is None or self._watched & mask == mask:
            return
        if self._watched:
            host_poll.unwatch(self.fd)
        self._watched |= mask
        host_poll.watch(self.fd, self._watched, self._ready)

    def _ready(self, mask: int = READABLE | WRITABLE) -> None:
        """host_poll's callback. One event ends the watch; who still waits asks again."""
        self._unwatch()
        woken = mask & GONE
        if mask & (po.POLLIN | po.POLLHUP | po.POLLERR):
            woken |= READABLE
        if mask & (po.POLLOUT | po.POLLERR):
            woken |= WRITABLE
        self.queue.wake(woken)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = 0
            self.inode.superblock.kernel.host_poll.unwatch(self.fd)

    def release(self) -> None:
        if self.fd >= 0:
            self._unwatch()
        super().release()

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
    mode = os.fstat(fd).st_mode
    if stat_mod.S_ISREG(mode):
        return HostRegularFile(kernel.part(HostFiles).inode(fd), flags, fd)
    inode: Inode
    if stat_mod.S_ISFIFO(mode):
        inode = pipe_inode(kernel)
    elif stat_mod.S_ISSOCK(mode):
        inode = socket_inode(kernel)
    else:
        inode = kernel.part(HostFiles).inode(fd)
    return HostStreamFile(inode, flags, fd)
