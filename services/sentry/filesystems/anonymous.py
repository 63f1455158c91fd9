"""Superblocks that are never mounted, behind descriptors without a name: anon_inodefs, pipefs, sockfs.

`AnonymousFilesystems` belongs to the kernel, made once; vfs/anonymous.py is what other folders call.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from protocol.abi import stat_h as st
from protocol.abi.statfs_h import ANON_INODE_FS_MAGIC, PIPEFS_MAGIC, SOCKFS_MAGIC
from services.sentry.errors import LinuxError
from services.sentry.filesystems.special_file import open_special
from services.sentry.vfs.inode import Inode
from services.sentry.vfs.superblock import Superblock

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["AnonymousFilesystems", "AnonymousInode"]


class AnonymousInode(Inode):
    """fchmod(2) and fchown(2) work on pipes and sockets, and change nothing but what stat shows."""

    __slots__ = ()

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
        if mode is not None:
            self.mode = self.mode & ~0o7777 | mode
        if uid is not None:
            self.uid = uid
        if gid is not None:
            self.gid = gid
        if atime_ns is not None:
            self.atime_ns = atime_ns
        if mtime_ns is not None:
            self.mtime_ns = mtime_ns
        if ctime_ns is not None:
            self.ctime_ns = ctime_ns

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        """Through /proc/PID/fd: another end of the same pipe. ENXIO: sockets and the other kinds, as on Linux."""
        if self.mode & st.S_IFMT != st.S_IFIFO:
            raise LinuxError(errno.ENXIO)
        return open_special(self, dentry, flags, task)


class AnonymousFilesystems:
    """anon: one shared inode; pipes and sockets: an inode each, numbered from one counter as Linux does."""

    __slots__ = ("_last_ino", "anon", "anon_inode", "pipes", "sockets")

    def __init__(self, kernel: Kernel) -> None:
        self.anon = Superblock(kernel, b"anon_inodefs", ANON_INODE_FS_MAGIC)
        self.pipes = Superblock(kernel, b"pipefs", PIPEFS_MAGIC)
        self.sockets = Superblock(kernel, b"sockfs", SOCKFS_MAGIC)
        self._last_ino = 1024
        self.anon_inode = AnonymousInode(self.anon, 1, 0o600, 0, 0, self.anon.now())

    def next_ino(self) -> int:
        self._last_ino += 1
        return self._last_ino

    def pipe(self, cred: Credentials | None = None) -> Inode:
        """The inode of a new pipe: S_IFIFO|0600, owned by `cred`."""
        superblock = self.pipes
        uid, gid = (cred.fsuid, cred.fsgid) if cred else (0, 0)
        return AnonymousInode(superblock, self.next_ino(), st.S_IFIFO | 0o600, uid, gid, superblock.now())

    def socket(self, cred: Credentials | None = None) -> Inode:
        """The inode of a new socket: S_IFSOCK|0777."""
        superblock = self.sockets
        uid, gid = (cred.fsuid, cred.fsgid) if cred else (0, 0)
        inode = AnonymousInode(superblock, self.next_ino(), st.S_IFSOCK | 0o777, uid, gid)
        inode.atime_ns = inode.mtime_ns = inode.ctime_ns = superblock.now()
        return inode
