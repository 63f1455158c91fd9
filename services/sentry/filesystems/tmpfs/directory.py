"""tmpfs directories: names to inodes in order of arrival, with a cookie each that never moves (telldir(3))."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import stat_h as st
from protocol.abi.dirent_h import type_of_mode
from protocol.abi.fcntl_h import RENAME_EXCHANGE, RENAME_WHITEOUT
from services.sentry.errors import LinuxError
from services.sentry.filesystems.tmpfs.node import TmpfsNode, TmpfsSpecial, TmpfsSymlink, owner_of_new
from services.sentry.filesystems.tmpfs.regular import TmpfsRegular
from services.sentry.vfs.directory_file import DirectoryFile, Listing

if TYPE_CHECKING:
    from services.sentry.filesystems.tmpfs.superblock import TmpfsSuperblock
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import DirectoryEntry, Inode
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["TmpfsDirectory"]

ENTRY_BYTES: Final = 20
"""What an entry adds to a directory's size (mm/shmem.c BOGO_DIRENT_SIZE)."""


class TmpfsDirectory(TmpfsNode):
    """children: name -> (cookie, inode), ascending cookies."""

    __slots__ = ("children", "last_cookie", "listing")

    def __init__(self, superblock: TmpfsSuperblock, mode: int, uid: int, gid: int) -> None:
        super().__init__(superblock, st.S_IFDIR | mode & 0o7777, uid, gid)
        self.children: dict[bytes, tuple[int, Inode]] = {}
        self.last_cookie = 0
        self.listing: Listing | None = None
        self.nlink = 2
        self.size = 2 * ENTRY_BYTES

    # --- names ---
    def keep_listing(self, listing: Listing | None) -> bool:
        self.listing = listing
        return True

    def lookup(self, name: bytes) -> Inode:
        found = self.children.get(name)
        if found is None:
            raise LinuxError(errno.ENOENT)
        return found[1]

    def entries(self, start: int) -> Iterator[tuple[int, DirectoryEntry]]:
        for name, (cookie, child) in list(self.children.items()):
            if cookie > start:
                yield cookie, (name, child.ino, type_of_mode(child.mode))

    def add(self, name: bytes, child: Inode, now: int) -> None:
        self.listing = None
        self.last_cookie += 1
        self.children[name] = (self.last_cookie, child)
        self.size += ENTRY_BYTES
        self.mtime_ns = self.ctime_ns = now
        self.shown[0] = None

    def remove(self, name: bytes, now: int) -> None:
        self.listing = None
        del self.children[name]
        self.size -= ENTRY_BYTES
        self.mtime_ns = self.ctime_ns = now
        self.shown[0] = None

    # --- making ---
    def create(self, name: bytes, mode: int, cred: Credentials, rdev: int = 0) -> Inode:
        mode, uid, gid = owner_of_new(self, mode, cred)
        child: Inode
        if mode & st.S_IFMT == st.S_IFREG:
            child = TmpfsRegular(self.tmpfs, mode, uid, gid)
        else:
            child = TmpfsSpecial(self.tmpfs, mode, uid, gid, rdev)
        self.add(name, child, child.ctime_ns)
        return child

    def mkdir(self, name: bytes, mode: int, cred: Credentials) -> Inode:
        mode, uid, gid = owner_of_new(self, st.S_IFDIR | mode, cred)
        child = TmpfsDirectory(self.tmpfs, mode, uid, gid)
        self.add(name, child, child.ctime_ns)
        self.nlink += 1
        self.shown[0] = None
        return child

    def symlink(self, name: bytes, target: bytes, cred: Credentials) -> Inode:
        _, uid, gid = owner_of_new(self, 0, cred)
        child = TmpfsSymlink(self.tmpfs, target, uid, gid)
        self.add(name, child, child.ctime_ns)
        return child

    def link(self, name: bytes, target: Inode) -> None:
        now = self.tmpfs.now()
        target.nlink += 1
        target.ctime_ns = now
        target.shown[0] = None
        self.add(name, target, now)

    def tmpfile(self, mode: int, cred: Credentials) -> Inode:
        mode, uid, gid = owner_of_new(self, mode, cred)
        child = TmpfsRegular(self.tmpfs, mode, uid, gid)
        child.nlink = 0
        return child

    # --- removing ---
    def unlink(self, name: bytes, child: Inode) -> None:
        now = self.tmpfs.now()
        self.remove(name, now)
        child.nlink -= 1
        child.ctime_ns = now
        child.shown[0] = None

    def rmdir(self, name: bytes, child: Inode) -> None:
        assert isinstance(child, TmpfsDirectory)
        if child.children:
            raise LinuxError(errno.ENOTEMPTY)
        self.remove(name, self.tmpfs.now())
        child.nlink = 0
        self.nlink -= 1
        self.shown[0] = child.shown[0] = None

    def rename(
        self, name: bytes, child: Inode, new_dir: Inode, new_name: bytes, replaced: Inode | None, flags: int
    ) -> None:
        assert isinstance(new_dir, TmpfsDirectory)
        now = self.tmpfs.now()
        if flags & RENAME_EXCHANGE:
            assert replaced is not None
            self.listing = new_dir.listing = None
            self.children[name] = (self.children[name][0], replaced)
            new_dir.children[new_name] = (new_dir.children[new_name][0], child)
            delta = replaced.is_dir - child.is_dir
            self.nlink += delta
            new_dir.nlink -= delta
            replaced.ctime_ns = now
            replaced.shown[0] = None
        else:
            if isinstance(replaced, TmpfsDirectory):
                new_dir.rmdir(new_name, replaced)
            elif replaced is not None:
                new_dir.unlink(new_name, replaced)
            whiteout = None
            if flags & RENAME_WHITEOUT:
                whiteout = TmpfsSpecial(self.tmpfs, st.S_IFCHR, 0, 0, 0)
            self.remove(name, now)
            new_dir.add(new_name, child, now)
            if whiteout is not None:
                self.add(name, whiteout, now)
            if child.is_dir:
                self.nlink -= 1
                new_dir.nlink += 1
        child.ctime_ns = now
        child.shown[0] = None
        self.mtime_ns = self.ctime_ns = new_dir.mtime_ns = new_dir.ctime_ns = now
        self.shown[0] = new_dir.shown[0] = None

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return DirectoryFile(self, flags, dentry)
