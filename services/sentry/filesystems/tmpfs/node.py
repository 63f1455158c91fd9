"""What all tmpfs inodes share: attributes, extended attributes, the end of the last link.

Names are in directory.py, contents in regular.py. Every inode is charged to its superblock while it has a link or an
open file.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from protocol.abi import stat_h as st
from protocol.abi.xattr_h import XATTR_CREATE, XATTR_REPLACE
from services.sentry.errors import LinuxError
from services.sentry.filesystems.special_file import open_special
from services.sentry.vfs.inode import Inode
from services.sentry.vfs.published import before_change

if TYPE_CHECKING:
    from services.sentry.filesystems.tmpfs.superblock import TmpfsSuperblock
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["TmpfsNode", "TmpfsSpecial", "TmpfsSymlink", "owner_of_new"]


def owner_of_new(directory: Inode, mode: int, cred: Credentials) -> tuple[int, int, int]:
    """(mode, uid, gid) of a file made in `directory`: a set-group-id directory passes its group on (inode(7))."""
    if directory.mode & st.S_ISGID:
        if mode & st.S_IFMT == st.S_IFDIR:
            mode |= st.S_ISGID
        return mode, cred.fsuid, directory.gid
    return mode, cred.fsuid, cred.fsgid


class TmpfsNode(Inode):
    """`xattrs`: names with prefix -> value, None until the first one."""

    __slots__ = ("tmpfs", "xattrs")

    def __init__(self, superblock: TmpfsSuperblock, mode: int, uid: int, gid: int) -> None:
        """ENOSPC: nr_inodes is reached."""
        super().__init__(superblock, superblock.charge_inode(), mode, uid, gid, superblock.now())
        self.tmpfs = superblock
        self.xattrs: dict[bytes, bytes] | None = None

    def stat_cell(self) -> list[bytes | None] | None:
        return self.own_cell()

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
        if self.published:
            before_change(self, mode)
        if size is not None:
            self.resize(size)
        if mode is not None:
            self.mode = self.mode & st.S_IFMT | mode & 0o7777
        if uid is not None:
            self.uid = uid
        if gid is not None:
            self.gid = gid
        if atime_ns is not None:
            self.atime_ns = atime_ns
        if mtime_ns is not None:
            self.mtime_ns = mtime_ns
        self.ctime_ns = self.tmpfs.now() if ctime_ns is None else ctime_ns
        self.shown[0] = None

    def resize(self, size: int) -> None:
        raise LinuxError(errno.EINVAL)

    def release_last_link(self) -> None:
        self.tmpfs.uncharge_inode()

    # --- extended attributes ---
    def get_xattr(self, name: bytes) -> bytes:
        value = (self.xattrs or {}).get(name)
        if value is None:
            raise LinuxError(errno.EOPNOTSUPP if name.startswith(b"system.") else errno.ENODATA)
        return value

    def set_xattr(self, name: bytes, value: bytes, flags: int) -> None:
        if not name.startswith((b"user.", b"trusted.", b"security.")):
            raise LinuxError(errno.EOPNOTSUPP)
        xattrs = self.xattrs
        if xattrs is None:
            xattrs = self.xattrs = {}
        if flags & XATTR_CREATE and name in xattrs:
            raise LinuxError(errno.EEXIST)
        if flags & XATTR_REPLACE and name not in xattrs:
            raise LinuxError(errno.ENODATA)
        xattrs[name] = value
        self.ctime_ns = self.tmpfs.now()
        self.shown[0] = None

    def list_xattr(self) -> list[bytes]:
        return list(self.xattrs or ())

    def remove_xattr(self, name: bytes) -> None:
        if self.xattrs is None or name not in self.xattrs:
            raise LinuxError(errno.EOPNOTSUPP if name.startswith(b"system.") else errno.ENODATA)
        del self.xattrs[name]
        self.ctime_ns = self.tmpfs.now()
        self.shown[0] = None


class TmpfsSymlink(TmpfsNode):
    """A symbolic link; its size is its target's length."""

    __slots__ = ("target",)

    def __init__(self, superblock: TmpfsSuperblock, target: bytes, uid: int, gid: int) -> None:
        super().__init__(superblock, st.S_IFLNK | 0o777, uid, gid)
        self.target = target
        self.size = len(target)

    def readlink(self) -> bytes:
        return self.target


class TmpfsSpecial(TmpfsNode):
    """A FIFO, a socket, a device node."""

    __slots__ = ()

    def __init__(self, superblock: TmpfsSuperblock, mode: int, uid: int, gid: int, rdev: int) -> None:
        super().__init__(superblock, mode, uid, gid)
        self.rdev = rdev

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return open_special(self, dentry, flags, task)
