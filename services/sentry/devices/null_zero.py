"""/dev/null, /dev/zero and /dev/full (null(4), full(4)).

These are the shortest paths of the system, so `read_user` and `write_user` are overridden and touch as little as they
can: a write never looks at guest memory (nor does Linux's: a bad buffer is no error while it is within user space), a
read of /dev/null neither. Once used, a descriptor of theirs is published: the guest's stub then answers itself.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from services.sentry.errors import LinuxError
from services.sentry.vfs.open_file import Backing, OpenFile
from services.sentry.vfs.user_copy import check_user_range, write_some

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import Inode

__all__ = ["FullFile", "NullFile", "ZeroFile", "open_full", "open_null", "open_zero"]

CHUNK: Final = 0x10000
ZEROS: Final = bytes(CHUNK)
ONE_ZERO: Final = b"\0"


class _MemoryDevice(OpenFile):
    """What the three share: any position is fine and means nothing (Linux null_lseek sets it to 0)."""

    __slots__ = ()
    seekable = True
    takes_everything = True

    def seek(self, offset: int, whence: int) -> int:
        self.offset = 0
        return 0

    def write(self, data: bytes | memoryview) -> int:
        return len(data)

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        if mm.published is not None:
            mm.published.offer(self)
        check_user_range(addr, count)
        return count

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        return len(data)

    def pwrite_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        return count


class NullFile(_MemoryDevice):
    """Reads give end of file, writes vanish."""

    __slots__ = ()
    gives_nothing = True

    def read(self, count: int) -> bytes:
        return b""

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        if mm.published is not None:
            mm.published.offer(self)
        check_user_range(addr, count)
        return 0

    def pread(self, count: int, offset: int) -> bytes:
        return b""

    def pread_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        return 0


class _ZeroReads(_MemoryDevice):
    """Reads give zero bytes without end."""

    __slots__ = ()
    gives_zeros = True

    def read(self, count: int) -> bytes:
        return bytes(count)

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """Zeros into guest memory, copied from one prepared buffer. EFAULT: nothing could be written."""
        if mm.published is not None:
            mm.published.offer(self)
        if count == 1:
            mm.write(addr, ONE_ZERO)
            return 1
        done = 0
        while done < count:
            part = min(count - done, CHUNK)
            zeros = ZEROS if part == CHUNK else ZEROS[:part]
            try:
                mm.write(addr + done, zeros)
                done += part
            except LinuxError:
                try:
                    return done + write_some(mm, addr + done, zeros)
                except LinuxError:
                    if done:
                        return done
                    raise
        return done

    def pread(self, count: int, offset: int) -> bytes:
        return bytes(count)

    def pread_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        return self.read_user(mm, addr, count)


class ZeroFile(_ZeroReads):
    """/dev/zero: writes vanish; a mapping of it is anonymous memory (mmap(2), null(4))."""

    __slots__ = ()

    def mmap_backing(self) -> Backing:
        """`host_fd` -1: the mapping is anonymous."""
        return Backing(-1, 0, True, self)


class FullFile(_ZeroReads):
    """/dev/full: writes fail as on a full disk (full(4))."""

    __slots__ = ()
    takes_everything = False

    def write(self, data: bytes | memoryview) -> int:
        raise LinuxError(errno.ENOSPC, "/dev/full")

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        raise LinuxError(errno.ENOSPC, "/dev/full")

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        raise LinuxError(errno.ENOSPC, "/dev/full")

    def pwrite_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        raise LinuxError(errno.ENOSPC, "/dev/full")


def open_null(inode: Inode, dentry: Dentry, flags: int, task: Task) -> NullFile:
    return NullFile(inode, flags)


def open_zero(inode: Inode, dentry: Dentry, flags: int, task: Task) -> ZeroFile:
    return ZeroFile(inode, flags)


def open_full(inode: Inode, dentry: Dentry, flags: int, task: Task) -> FullFile:
    return FullFile(inode, flags)
