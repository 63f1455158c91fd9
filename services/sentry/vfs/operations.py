"""What the path calls do: make, remove, link and rename names, after every check that Linux makes (fs/namei.c).

Each function takes a Task and resolved places or (base, name), checks existence, kind, permission and read-only mounts
in the order that decides which errno a program sees, calls the inode, and brings the dentries up to date.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from protocol.abi import fcntl_h as fc
from protocol.abi import stat_h as st
from protocol.abi.capability_h import CAP_FOWNER, CAP_MKNOD
from services.sentry.errors import LinuxError
from services.sentry.vfs.path_walk import Path, find_parent
from services.sentry.vfs.permissions import EXECUTE, READ, WRITE, allowed, check, check_sticky

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.mounts import Mount

__all__ = [
    "forget_if_unused",
    "link",
    "make_directory",
    "make_node",
    "make_symlink",
    "remove_directory",
    "rename",
    "unlink",
    "want_write",
]


def want_write(mount: Mount) -> None:
    """EROFS: nothing may change through this mount."""
    if (mount.flags | mount.superblock.flags) & 1:
        raise LinuxError(errno.EROFS)


def forget_if_unused(inode: Inode) -> None:
    """After a link went: storage may go with the last one, unless the file is open."""
    if not inode.nlink and not inode.open_files:
        inode.release_last_link()


def _directory(dentry: Dentry) -> Inode:
    inode = dentry.inode
    assert inode is not None
    return inode


# --- making names ---
def _prepare(task: Task, base: Path, name: bytes, *, directory: bool) -> tuple[Path, Dentry]:
    """The parent and the negative dentry to fill. EEXIST, ENOENT (slash after a new file's name), EROFS, EACCES."""
    found = find_parent(task, base, name)
    parent, last = found.path, found.last
    if last in (b"", b".", b".."):
        raise LinuxError(errno.EEXIST)
    if len(last) > 255:
        raise LinuxError(errno.ENAMETOOLONG)
    child = parent.dentry.lookup(last)
    if child.inode is not None:
        raise LinuxError(errno.EEXIST)
    if found.slash and not directory:
        raise LinuxError(errno.ENOENT)
    want_write(parent.mount)
    may_create(parent.dentry, task.cred)
    return parent, child


def may_create(parent: Dentry, cred: Credentials) -> None:
    """EACCES: no write or search permission; ENOENT: the directory was removed."""
    if parent.deleted:
        raise LinuxError(errno.ENOENT)
    check(_directory(parent), cred, WRITE | EXECUTE)


def make_directory(task: Task, base: Path, name: bytes, mode: int) -> None:
    """mkdirat(2)."""
    parent, child = _prepare(task, base, name, directory=True)
    mode &= 0o1777 & ~task.fs.umask
    child.instantiate(_directory(parent.dentry).mkdir(child.name, mode, task.cred))


def make_node(task: Task, base: Path, name: bytes, mode: int, rdev: int) -> Dentry:
    """mknodat(2), and bind(2) of a unix socket. EPERM: a device without CAP_MKNOD; EINVAL: an impossible type."""
    kind = mode & st.S_IFMT or st.S_IFREG
    if kind == st.S_IFDIR:
        raise LinuxError(errno.EPERM)
    if kind not in (st.S_IFREG, st.S_IFIFO, st.S_IFSOCK, st.S_IFCHR, st.S_IFBLK):
        raise LinuxError(errno.EINVAL)
    parent, child = _prepare(task, base, name, directory=False)
    whiteout = kind == st.S_IFCHR and rdev == 0
    if kind in (st.S_IFCHR, st.S_IFBLK) and not whiteout and not task.cred.cap_effective >> CAP_MKNOD & 1:
        raise LinuxError(errno.EPERM)
    mode = kind | mode & 0o7777 & ~task.fs.umask
    child.instantiate(_directory(parent.dentry).create(child.name, mode, task.cred, rdev))
    return child


def make_symlink(task: Task, target: bytes, base: Path, name: bytes) -> None:
    """symlinkat(2). ENOENT: an empty target."""
    if not target:
        raise LinuxError(errno.ENOENT)
    parent, child = _prepare(task, base, name, directory=False)
    child.instantiate(_directory(parent.dentry).symlink(child.name, target, task.cred))


def link(task: Task, source: Path, base: Path, name: bytes) -> None:
    """linkat(2). EXDEV: another mount; EPERM: a directory, or not the caller's to link; ENOENT: unlinked source."""
    parent, child = _prepare(task, base, name, directory=False)
    inode = _directory(source.dentry)
    if parent.mount is not source.mount:
        raise LinuxError(errno.EXDEV)
    cred = task.cred
    if not _may_link(inode, cred):
        raise LinuxError(errno.EPERM)
    if inode.is_dir:
        raise LinuxError(errno.EPERM)
    if not inode.nlink and source.dentry.name != b"#%d" % inode.ino:  # O_TMPFILE files may get their first name
        raise LinuxError(errno.ENOENT)
    _directory(parent.dentry).link(child.name, inode)
    child.instantiate(inode)


def _may_link(inode: Inode, cred: Credentials) -> bool:
    """fs.protected_hardlinks (proc_sys_fs(5)): the owner, or a plain file that the caller may read and write."""
    if cred.fsuid == inode.uid or cred.cap_effective >> CAP_FOWNER & 1:
        return True
    mode = inode.mode
    special = mode & st.S_ISUID or mode & (st.S_ISGID | st.S_IXGRP) == st.S_ISGID | st.S_IXGRP
    return inode.is_regular and not special and allowed(inode, cred, READ | WRITE)


# --- removing names ---
def _may_delete(parent: Dentry, child: Dentry, cred: Credentials, *, directory: bool) -> Inode:
    """EACCES, EPERM (sticky), ENOTDIR, EISDIR, EBUSY (something is mounted on it)."""
    inode = child.inode
    if inode is None:
        raise LinuxError(errno.ENOENT)
    above = _directory(parent)
    check(above, cred, WRITE | EXECUTE)
    if above.mode & st.S_ISVTX:
        check_sticky(above, inode, cred)
    if directory and not inode.is_dir:
        raise LinuxError(errno.ENOTDIR)
    if not directory and inode.is_dir:
        raise LinuxError(errno.EISDIR)
    if child.mounted:
        raise LinuxError(errno.EBUSY)
    return inode


def unlink(task: Task, base: Path, name: bytes) -> None:
    """unlinkat(2) without AT_REMOVEDIR."""
    found = find_parent(task, base, name)
    if found.last in (b"", b".", b".."):
        raise LinuxError(errno.EISDIR)
    parent = found.path
    want_write(parent.mount)
    child = parent.dentry.lookup(found.last)
    if found.slash and child.inode is not None:
        raise LinuxError(errno.EISDIR if child.inode.is_dir else errno.ENOTDIR)
    inode = _may_delete(parent.dentry, child, task.cred, directory=False)
    _directory(parent.dentry).unlink(child.name, inode)
    child.unlinked()
    forget_if_unused(inode)


def remove_directory(task: Task, base: Path, name: bytes) -> None:
    """rmdir(2). EINVAL: '.'; ENOTEMPTY: '..' or entries; EBUSY: the root or a mount point."""
    found = find_parent(task, base, name)
    refused = {b"": errno.EBUSY, b".": errno.EINVAL, b"..": errno.ENOTEMPTY}.get(found.last)
    if refused:
        raise LinuxError(refused)
    parent = found.path
    want_write(parent.mount)
    child = parent.dentry.lookup(found.last)
    inode = _may_delete(parent.dentry, child, task.cred, directory=True)
    if task.fs.root.dentry is child:
        raise LinuxError(errno.EBUSY)
    _directory(parent.dentry).rmdir(child.name, inode)
    child.unlinked()
    forget_if_unused(inode)


# --- rename ---
def rename(task: Task, old_base: Path, old_name: bytes, new_base: Path, new_name: bytes, flags: int) -> None:
    """renameat2(2)."""
    if flags & ~(fc.RENAME_NOREPLACE | fc.RENAME_EXCHANGE | fc.RENAME_WHITEOUT) or (
        flags & fc.RENAME_EXCHANGE and flags & (fc.RENAME_NOREPLACE | fc.RENAME_WHITEOUT)
    ):
        raise LinuxError(errno.EINVAL)
    exchange = bool(flags & fc.RENAME_EXCHANGE)
    old = find_parent(task, old_base, old_name)
    new = find_parent(task, new_base, new_name)
    old_parent, new_parent = old.path.dentry, new.path.dentry
    if old.path.mount is not new.path.mount:
        raise LinuxError(errno.EXDEV)
    if old.last in (b"", b".", b".."):
        raise LinuxError(errno.EBUSY)
    if new.last in (b"", b".", b".."):
        raise LinuxError(errno.EEXIST if flags & fc.RENAME_NOREPLACE else errno.EBUSY)
    want_write(old.path.mount)
    if len(new.last) > 255:
        raise LinuxError(errno.ENAMETOOLONG)
    source = old_parent.lookup(old.last)
    inode = source.inode
    if inode is None:
        raise LinuxError(errno.ENOENT)
    target = new_parent.lookup(new.last)
    replaced = target.inode
    if flags & fc.RENAME_NOREPLACE and replaced is not None:
        raise LinuxError(errno.EEXIST)
    if exchange and replaced is None:
        raise LinuxError(errno.ENOENT)
    if not inode.is_dir and (old.slash or (not exchange and new.slash)):
        raise LinuxError(errno.ENOTDIR)
    if exchange and new.slash and replaced is not None and not replaced.is_dir:
        raise LinuxError(errno.ENOTDIR)
    if new_parent.is_below(source):
        raise LinuxError(errno.EINVAL)
    if replaced is not None and old_parent.is_below(target):
        raise LinuxError(errno.EINVAL if exchange else errno.ENOTEMPTY)
    if replaced is inode:
        return
    cred = task.cred
    _may_delete(old_parent, source, cred, directory=inode.is_dir)
    if replaced is None:
        may_create(new_parent, cred)
    else:
        _may_delete(new_parent, target, cred, directory=replaced.is_dir if exchange else inode.is_dir)
    if old_parent is not new_parent:
        if inode.is_dir:
            check(inode, cred, WRITE)
        if exchange and replaced is not None and replaced.is_dir:
            check(replaced, cred, WRITE)
    if flags & fc.RENAME_WHITEOUT and not cred.cap_effective >> CAP_MKNOD & 1:
        raise LinuxError(errno.EPERM)
    _directory(old_parent).rename(source.name, inode, _directory(new_parent), target.name, replaced, flags)
    if exchange:
        source.exchanged(target)
        return
    if replaced is not None:
        target.unlinked()
        forget_if_unused(replaced)
    source.moved(new_parent, target.name)
    if flags & fc.RENAME_WHITEOUT:
        left = old_parent.children.get(old.last)
        if left is not None and left.inode is None:
            left.drop()
