"""open(2) and its kin: from a name and flags to an open file description (not yet in any descriptor table)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import mount_h as mt
from protocol.abi import stat_h as st
from services.sentry.errors import LinuxError
from services.sentry.vfs.dentry import Dentry
from services.sentry.vfs.open_file import OpenFile
from services.sentry.vfs.operations import may_create, want_write
from services.sentry.vfs.path_walk import CREATING, Path, find, find_parent, resolve, walk
from services.sentry.vfs.permissions import check, owner_or_capable

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.inode import Inode

__all__ = ["PathFile", "open_existing", "open_name"]

_TMPFILE: Final = fc.O_TMPFILE & ~fc.O_DIRECTORY
# What the access mode asks for: O_RDONLY, O_WRONLY, O_RDWR, and 3 (open(2): read and write permission, no access).
_WANT: Final = (4, 2, 6, 6)


class PathFile(OpenFile):
    """An O_PATH description: a place, no access (open(2) O_PATH). The calls it allows look at `path` and `inode`."""

    __slots__ = ()

    def __init__(self, path: Path, flags: int) -> None:
        inode = path.dentry.inode
        assert inode is not None
        super().__init__(inode, flags & (fc.O_PATH | fc.O_DIRECTORY | fc.O_NOFOLLOW), path)
        self.readable = self.writable = False


def open_name(task: Task, base: Path, name: bytes, flags: int, mode: int, how: int = 0) -> OpenFile:
    """openat2(2): `how` are RESOLVE_* flags, `mode` the permission bits of a new file before umask."""
    if flags & fc.O_PATH:
        found = walk(task, base, name, not flags & fc.O_NOFOLLOW, how)
        inode = found.dentry.inode
        if flags & fc.O_DIRECTORY and not (inode and inode.is_dir):
            raise LinuxError(errno.ENOTDIR)
        return PathFile(found, flags)
    if flags & _TMPFILE:
        return _open_tmpfile(task, walk(task, base, name, True, how), flags, mode)
    if not flags & fc.O_CREAT:
        if how or (base is not task.fs.cwd and name[:1] != b"/"):
            path = walk(task, base, name, not flags & fc.O_NOFOLLOW, how)
        else:
            path = find(task, name, not flags & fc.O_NOFOLLOW)
        return open_existing(task, path, flags)
    if flags & fc.O_DIRECTORY:
        raise LinuxError(errno.EINVAL)  # since Linux 6.3, whatever the path
    follow = not flags & (fc.O_EXCL | fc.O_NOFOLLOW)
    plain = _place_for(task, base, name) if not how else None
    path = plain or resolve(task, base, name, follow, how | CREATING).path
    if path.dentry.inode is not None:
        if flags & fc.O_EXCL:
            raise LinuxError(errno.EEXIST)
        return open_existing(task, path, flags)
    return _create(task, path, flags, mode)


def _place_for(task: Task, base: Path, name: bytes) -> Path | None:
    """Where O_CREAT of a plain name leads: an absent or a plain existing file. None: the general walk must decide."""
    if name[-1:] in (b"/", b"."):
        return None
    above = find_parent(task, base, name)
    parent = above.path.dentry
    if parent.dynamic:
        return None
    child = parent.lookup(above.last)
    inode = child.inode
    if inode is not None and (child.mounted or inode.mode & 0o170000 == 0o120000):
        return None
    return Path(above.path.mount, child)


def _create(task: Task, path: Path, flags: int, mode: int) -> OpenFile:
    dentry = path.dentry
    parent = dentry.parent
    if parent.deleted:
        raise LinuxError(errno.ENOENT)
    want_write(path.mount)
    may_create(parent, task.cred)
    directory = parent.inode
    assert directory is not None
    inode = directory.create(dentry.name, st.S_IFREG | mode & 0o7777 & ~task.fs.umask, task.cred)
    dentry.instantiate(inode)
    file = inode.open(dentry, flags, task)
    file.path = path
    return file


def open_existing(task: Task, path: Path, flags: int) -> OpenFile:
    """Open the file at `path` (open(2) after resolution). EACCES, EISDIR, ENOTDIR, ELOOP, EROFS, ETXTBSY, EPERM."""
    inode = path.dentry.inode
    if inode is None:
        raise LinuxError(errno.ENOENT)
    kind = inode.mode & 0o170000
    access = flags & fc.O_ACCMODE
    if kind == st.S_IFLNK:
        raise LinuxError(errno.ELOOP)
    if kind == st.S_IFDIR:
        if access or flags & (fc.O_CREAT | fc.O_TRUNC):
            raise LinuxError(errno.EISDIR)
    elif flags & fc.O_DIRECTORY:
        raise LinuxError(errno.ENOTDIR)
    elif kind in (st.S_IFCHR, st.S_IFBLK) and path.mount.flags & mt.MS_NODEV:
        raise LinuxError(errno.EACCES)
    want = _WANT[access]
    truncate = flags & fc.O_TRUNC and kind == st.S_IFREG
    if truncate:
        want |= 2
    check(inode, task.cred, want)
    if want & 2 and kind in (st.S_IFREG, st.S_IFDIR):
        want_write(path.mount)
        if inode.deny_write:
            raise LinuxError(errno.ETXTBSY)
    if flags & fc.O_NOATIME and not owner_or_capable(inode, task.cred):
        raise LinuxError(errno.EPERM)
    file = inode.open(path.dentry, flags, task)
    if file.path is None:
        file.path = path
    if truncate:
        try:
            truncate_inode(task, inode, 0)
        except LinuxError:
            file.add_reference().close_reference()
            raise
    return file


def truncate_inode(task: Task, inode: Inode, size: int) -> None:
    """Set the length: set-user-id bits go, mtime and ctime move (truncate(2))."""
    now = inode.superblock.now()
    mode = stripped_mode(task, inode.mode)
    inode.set_attributes(size=size, mode=mode, mtime_ns=now, ctime_ns=now)


def stripped_mode(task: Task, mode: int) -> int | None:
    """The permission bits after a write by `task` (inode(7)): without S_ISUID and an executable S_ISGID. None: same."""
    if not mode & 0o6000 or task.cred.cap_effective >> 4 & 1:  # CAP_FSETID
        return None
    left = mode & 0o7777 & ~st.S_ISUID
    if mode & st.S_IXGRP:
        left &= ~st.S_ISGID
    return left if left != mode & 0o7777 else None


def _open_tmpfile(task: Task, path: Path, flags: int, mode: int) -> OpenFile:
    """O_TMPFILE: an unnamed file in the directory at `path`. With O_EXCL it can never get a name."""
    directory = path.dentry.inode
    assert directory is not None
    if not directory.is_dir:
        raise LinuxError(errno.ENOTDIR)
    if not flags & fc.O_ACCMODE:
        raise LinuxError(errno.EINVAL)
    want_write(path.mount)
    check(directory, task.cred, 3)
    inode = directory.tmpfile(st.S_IFREG | mode & 0o7777 & ~task.fs.umask, task.cred)
    name = b"" if flags & fc.O_EXCL else b"#%d" % inode.ino
    dentry = Dentry(name, path.dentry, inode, path.dentry.superblock)
    dentry.deleted = True
    file = inode.open(dentry, flags & ~fc.O_EXCL, task)
    file.path = Path(path.mount, dentry)
    return file
