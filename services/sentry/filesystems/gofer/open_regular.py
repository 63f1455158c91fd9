"""Open regular files of a Gofer: reads and writes on the donated host fd, so that data never passes the Gofer.

`HostFile` owns one donated fd and closes it when nothing refers to it any more: the inode that caches it, the open
files, and through them the mappings. The fd's own position is never used. Without donation (a foreign 9P server) data
goes by Tread and Twrite on an open fid, in `RemoteData`, which has the same methods.

Host calls on donated fds: pread64, preadv, pwrite64, fstat, lseek (SEEK_DATA and SEEK_HOLE), ftruncate, fallocate,
fsync.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from services.sentry.errors import LinuxError
from services.sentry.vfs.open_file import KEPT_FLAGS, Backing, OpenFile, WindowSource

if TYPE_CHECKING:
    from services.sentry.filesystems.gofer.inode import GoferInode
    from services.sentry.filesystems.gofer.superblock import GoferSuperblock
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["GoferFile", "HostFile", "RemoteData"]

SMALL_BYTES: Final = 64 * 1024
"""Up to here a read makes a bytes object (the allocator keeps such blocks); beyond it goes through one fixed buffer."""
BUFFER_BYTES: Final = 512 * 1024
MAX_OFFSET: Final = 0x7FFFFFFFFFFFFFFF
SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE = range(5)


def _refused(error: OSError) -> LinuxError:
    return LinuxError(error.errno or errno.EIO, "donated host file")


class HostFile:
    """One donated fd. `writable`: opened read-write by the Gofer."""

    __slots__ = ("fd", "writable")

    def __init__(self, fd: int, writable: bool) -> None:
        self.fd = fd
        self.writable = writable

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.fd)

    def pread(self, count: int, offset: int) -> bytes:
        """os.pread, errors as LinuxError."""
        try:
            return os.pread(self.fd, count, offset)
        except OSError as error:
            raise _refused(error) from None

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        """os.pwrite, errors as LinuxError."""
        try:
            return os.pwrite(self.fd, data, offset)
        except OSError as error:
            raise _refused(error) from None


class RemoteData:
    """The same over a fid that the Gofer has open: for servers that donate nothing."""

    __slots__ = ("epoch", "fid", "gofer", "writable")

    fd = -1

    def __init__(self, gofer: GoferSuperblock, fid: int, writable: bool) -> None:
        self.gofer = gofer
        self.fid = fid
        self.epoch = gofer.epoch
        self.writable = writable

    def __del__(self) -> None:
        if self.epoch == self.gofer.epoch:
            self.gofer.drop_fid(self.fid)

    def _check(self) -> None:
        if self.epoch != self.gofer.epoch:
            raise LinuxError(errno.EIO, "opened on a gofer that is gone")

    def pread(self, count: int, offset: int) -> bytes:
        """By Tread. EIO: the Gofer is gone, or another one since."""
        self._check()
        return self.gofer.call(self.gofer.client.read, self.fid, offset, count)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        """By Twrite."""
        self._check()
        return self.gofer.call(self.gofer.client.write, self.fid, offset, data)


class GoferFile(OpenFile):
    """`node` is the inode whose data this is (`inode` may be an overlay's); `host` carries the data."""

    __slots__ = ("fd", "host", "node")

    seekable = True

    def __init__(self, inode: GoferInode, flags: int, host: HostFile | RemoteData) -> None:
        # The base class's fields, as in TmpfsFile: every frame of an open counts, and the queue is never woken.
        self.inode = inode
        self.node = inode
        self.host = host
        self.fd = host.fd
        self.flags = flags & KEPT_FLAGS
        mode = flags & 3
        self.readable = mode != 1
        self.writable = mode != 0
        self.path = None
        self.offset = 0
        self.refs = 0
        self.queue = inode.gofer.quiet_queue
        self.async_owner = None
        self.async_entry = None
        self.locks_owner = None
        self.epoll_links = None
        inode.open_files += 1
        if mode:
            inode.writers += 1

    def release(self) -> None:
        node = self.node
        if node.open_files <= 1 and node.qid_path not in node.gofer.donated:
            node.closed()

    # --- reading ---
    def read(self, count: int) -> bytes:
        data = self.pread(count, self.offset)
        self.offset += len(data)
        return data

    def pread(self, count: int, offset: int) -> bytes:
        """Up to `count` bytes. EIO: the host refuses."""
        if self.fd < 0:
            return self.host.pread(count, offset)
        try:
            return os.pread(self.fd, count, offset)
        except OSError as error:
            raise _refused(error) from None

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        done = self.pread_user(mm, addr, count, self.offset)
        self.offset += done
        return done

    def pread_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        """Into guest memory. EFAULT only when nothing was transferred (read(2) gives the partial count otherwise)."""
        if count <= SMALL_BYTES:
            try:
                data = os.pread(self.fd, count, offset) if self.fd >= 0 else self.host.pread(count, offset)
            except OSError as error:
                raise _refused(error) from None
            if data:
                mm.write(addr, data)
            return len(data)
        return self._pread_user_large(mm, addr, count, offset)

    def _pread_user_large(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        done = 0
        buffer = self.node.gofer.buffer
        while done < count:
            want = min(count - done, BUFFER_BYTES)
            try:
                if self.fd >= 0:
                    got = os.preadv(self.fd, [buffer[:want]], offset + done)
                else:
                    data = self.host.pread(want, offset + done)
                    got = len(data)
                    buffer[:got] = data
            except OSError as error:
                raise _refused(error) from None
            if not got:
                break
            try:
                mm.write(addr + done, buffer[:got])
            except LinuxError:
                if not done:
                    raise
                break
            done += got
        return done

    # --- writing ---
    def write(self, data: bytes | memoryview) -> int:
        """At the position, or at the end with O_APPEND."""
        if self.flags & fc.O_APPEND:
            self.offset = self.node.current_size()
        done = self.pwrite(data, self.offset)
        self.offset += done
        return done

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        """ENOSPC, EIO, EFBIG: as the host says. O_APPEND makes it ignore `offset`, as Linux does (pwrite(2), BUGS)."""
        if self.flags & fc.O_APPEND:
            offset = self.node.current_size()
        done = self.host.pwrite(data, offset)
        self.node.written(offset + done)
        return done

    def truncate(self, size: int) -> None:
        self.node.set_attributes(size=size)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        """EOPNOTSUPP: the host's file system cannot, or a mode beyond plain allocation."""
        if self.fd < 0 or mode:
            raise LinuxError(errno.EOPNOTSUPP)
        try:
            os.posix_fallocate(self.fd, offset, length)
        except OSError as error:
            raise _refused(error) from None
        self.node.written(offset + length)

    def sync(self) -> None:
        """Data and attributes are on the host's disk."""
        if self.fd >= 0 and self.host.writable:
            try:
                os.fsync(self.fd)
            except OSError as error:
                raise _refused(error) from None

    # --- position ---
    def seek(self, offset: int, whence: int) -> int:
        """EINVAL: before the start, or no such whence. ENXIO: no data (or hole) from there on."""
        if whence == SEEK_CUR:
            offset += self.offset
        elif whence == SEEK_END:
            offset += self.node.current_size()
        elif whence in (SEEK_DATA, SEEK_HOLE):
            offset = self._seek_extent(offset, whence)
        elif whence != SEEK_SET:
            raise LinuxError(errno.EINVAL)
        if offset < 0:
            raise LinuxError(errno.EINVAL)
        if offset > MAX_OFFSET:
            raise LinuxError(errno.EOVERFLOW)
        self.offset = offset
        return offset

    def _seek_extent(self, offset: int, whence: int) -> int:
        size = self.node.current_size()
        if not 0 <= offset < size:
            raise LinuxError(errno.ENXIO)
        if self.fd < 0:
            return offset if whence == SEEK_DATA else size
        try:
            return os.lseek(self.fd, offset, whence)
        except OSError as error:
            raise _refused(error) from None

    # --- the rest ---
    def window_source(self) -> WindowSource | None:
        """For reading: what changes a file's data through a mapping does not move its times on the host."""
        if self.fd < 0 or self.node.gofer.revalidates:
            return None
        return WindowSource(self.fd, os.fstat(self.fd).st_size, False, self.node, False)

    def mmap_backing(self) -> Backing:
        """The donated fd; shared writable mappings only of what was opened for writing. ENODEV: nothing was donated."""
        if self.fd < 0:
            raise LinuxError(errno.ENODEV)
        if self.writable:
            self.node.mapped_shared()
        return Backing(self.fd, 0, self.writable and self.host.writable, self.node)
