"""/dev/random and /dev/urandom (random(4)): both give the host kernel's generator, as on Linux since 5.6.

Writes are accepted and mixed into nothing: the generator needs no entropy from a guest, and Linux credits none either.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as cap
from protocol.abi import ioctl_h as io
from services.sentry.errors import LinuxError
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import Inode

__all__ = ["ENTROPY_BITS", "RandomFile", "open_random"]

ENTROPY_BITS: Final = 256  # the pool is always full (random(4), since Linux 5.18)
MAX_READ: Final = 0x1FFFFFF  # one read(2) gives at most 32 MiB - 1 (random(4))


class RandomFile(OpenFile):
    """Never blocks; reads of up to 256 bytes are never short (random(4))."""

    __slots__ = ()
    seekable = True
    pollable = True

    def read(self, count: int) -> bytes:
        return os.urandom(min(count, MAX_READ))

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """EFAULT: nothing could be written."""
        if count <= 4096:
            mm.write(addr, os.urandom(count))
            return count
        count = min(count, MAX_READ)
        done = 0
        while done < count:
            part = min(count - done, 0x10000)
            try:
                mm.write(addr + done, os.urandom(part))
            except LinuxError:
                if done:
                    return done
                raise
            done += part
        return done

    def pread(self, count: int, offset: int) -> bytes:
        return os.urandom(min(count, MAX_READ))

    def write(self, data: bytes | memoryview) -> int:
        return len(data)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        return 0

    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        """random(4) "ioctls". EPERM without CAP_SYS_ADMIN, EINVAL for unknown requests (as Linux's random_ioctl)."""
        if request == io.RNDGETENTCNT:
            mm = task.mm_or_none
            assert mm is not None
            mm.write_u32(arg, ENTROPY_BITS)
            return 0
        if request in (io.RNDADDTOENTCNT, io.RNDADDENTROPY, io.RNDZAPENTCNT, io.RNDCLEARPOOL, io.RNDRESEEDCRNG):
            if not task.cred.has_cap(cap.CAP_SYS_ADMIN):
                raise LinuxError(errno.EPERM, "random pool")
            return 0
        raise LinuxError(errno.EINVAL, "random ioctl")


def open_random(inode: Inode, dentry: Dentry, flags: int, task: Task) -> RandomFile:
    return RandomFile(inode, flags)
