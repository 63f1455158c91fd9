"""A small file system in memory, complete enough to be the lower and the upper of an overlay in tests.

Regular files live in memfds, so that copy-up meets real host fds.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from services.sentry.errors import LinuxError
from services.sentry.filesystems.name_order import NameOrder
from services.sentry.vfs.inode import DirectoryEntry, Inode
from services.sentry.vfs.open_file import Backing, OpenFile
from services.sentry.vfs.superblock import Superblock


def nameless(superblock: Any) -> dict[int, MemoryInode]:
    made: dict[int, MemoryInode] = superblock.nameless
    return made


class MemoryInode(Inode):
    """One file; everything is in plain attributes."""

    __slots__ = ("children", "fd", "order", "released", "target", "xattrs")

    def __init__(self, superblock: Superblock, mode: int) -> None:
        counter: Any = superblock
        counter.numbers += 1
        super().__init__(superblock, counter.numbers, mode, now_ns=time.time_ns())
        self.children: dict[bytes, MemoryInode] = {}
        self.order = NameOrder()
        self.target = b""
        self.xattrs: dict[bytes, bytes] = {}
        self.released = False
        self.fd = os.memfd_create("test") if stat.S_ISREG(mode) else -1
        if stat.S_ISDIR(mode):
            self.nlink = 2

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def refresh(self) -> None:
        if self.fd >= 0:
            self.size = os.fstat(self.fd).st_size
            self.blocks = os.fstat(self.fd).st_blocks

    def set_attributes(
        self, *, mode: Any = None, uid: Any = None, gid: Any = None, size: Any = None, **times: Any
    ) -> None:
        if mode is not None:
            self.mode = self.mode & 0o170000 | mode
        self.uid = self.uid if uid is None else uid
        self.gid = self.gid if gid is None else gid
        if size is not None:
            os.ftruncate(self.fd, size)
        for name, value in times.items():
            if value is not None:
                setattr(self, name, value)
        self.refresh()

    def lookup(self, name: bytes) -> Inode:
        try:
            return self.children[name]
        except KeyError:
            raise LinuxError(errno.ENOENT) from None

    def entries(self, start: int) -> Iterator[tuple[int, DirectoryEntry]]:
        for cookie, name in self.order.following(start):
            child = self.children[name]
            yield cookie, (name, child.ino, child.mode >> 12 & 15)

    def add(self, name: bytes, mode: int, data: bytes = b"") -> MemoryInode:
        """Make a file, for setting a test up."""
        child = self.children[name] = MemoryInode(self.superblock, mode)
        self.order.add(name)
        if child.is_symlink:
            child.target = data
            child.size = len(data)
        elif child.is_dir:
            self.nlink += 1
        elif data:
            os.pwrite(child.fd, data, 0)
            child.refresh()
        return child

    def create(self, name: bytes, mode: int, cred: Any, rdev: int = 0) -> Inode:
        assert name not in self.children
        return self.add(name, mode)

    def unlink(self, name: bytes, child: Inode) -> None:
        assert self.children[name] is child
        del self.children[name]
        self.order.discard(name)
        child.nlink -= 1

    def tmpfile(self, mode: int, cred: Any) -> Inode:
        """Shows in `nameless` of the file system until it is released."""
        made = MemoryInode(self.superblock, mode)
        made.nlink = 0
        nameless(self.superblock)[made.ino] = made
        return made

    def release_last_link(self) -> None:
        self.released = True
        nameless(self.superblock).pop(self.ino, None)

    def readlink(self) -> bytes:
        return self.target

    def open_data(self, flags: int) -> OpenFile:
        return MemoryFile(self, flags)

    def open(self, dentry: Any, flags: int, task: Any) -> OpenFile:
        return MemoryFile(self, flags)

    def get_xattr(self, name: bytes) -> bytes:
        if name not in self.xattrs:
            raise LinuxError(errno.ENODATA)
        return self.xattrs[name]

    def list_xattr(self) -> list[bytes]:
        return list(self.xattrs)


class MemoryFile(OpenFile):
    """An open memfd."""

    __slots__ = ()

    seekable = True

    @property
    def _fd(self) -> int:
        inode: Any = self.inode
        return int(inode.fd)

    def read(self, count: int) -> bytes:
        data = self.pread(count, self.offset)
        self.offset += len(data)
        return data

    def pread(self, count: int, offset: int) -> bytes:
        return os.pread(self._fd, count, offset)

    def write(self, data: bytes | memoryview) -> int:
        if self.flags & os.O_APPEND:
            self.offset = os.fstat(self._fd).st_size
        done = self.pwrite(data, self.offset)
        self.offset += done
        return done

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        quota: Any = self.inode.superblock
        if quota.full:
            raise LinuxError(errno.ENOSPC)
        if not data:
            return 0
        self.inode.mtime_ns = self.inode.ctime_ns = time.time_ns()
        return os.pwrite(self._fd, data, offset)

    def mmap_backing(self) -> Backing:
        return Backing(self._fd, 0, self.writable, self.inode)

    def seek(self, offset: int, whence: int) -> int:
        self.offset = offset + (self.offset if whence == 1 else 0) + (os.fstat(self._fd).st_size if whence == 2 else 0)
        return self.offset


class MemorySuperblock(Superblock):
    """`full`: writes give ENOSPC. `nameless`: the files that tmpfile made, by number, while they are there."""

    __slots__ = ("full", "nameless", "numbers")

    def __init__(self, kernel: Any) -> None:
        super().__init__(kernel, b"memory", 1)
        self.numbers = 0
        self.full = False
        self.nameless: dict[int, MemoryInode] = {}
        self.set_root(MemoryInode(self, stat.S_IFDIR | 0o755))

    @property
    def top(self) -> MemoryInode:
        assert isinstance(self.root.inode, MemoryInode)
        return self.root.inode


CRED: Any = SimpleNamespace(fsuid=0, fsgid=0, groups=(), cap_effective=-1)
