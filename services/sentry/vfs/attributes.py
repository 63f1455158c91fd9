"""Attributes: struct stat and statx as bytes, and the rules of chmod(2), chown(2), utimensat(2), truncate(2)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import stat_h as st
from protocol.abi.capability_h import CAP_FSETID
from services.sentry.errors import LinuxError
from services.sentry.kernel.signals import SigInfo, send_signal_task
from services.sentry.vfs.opening import truncate_inode
from services.sentry.vfs.operations import want_write
from services.sentry.vfs.permissions import WRITE, check, in_group, may_chown, may_keep_setgid, owner_or_capable

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.mounts import Mount
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["change_mode", "change_owner", "change_times", "pack_inode", "pack_inode_x", "set_length"]

SECOND: Final = 1_000_000_000
_STAT_PACK: Final = st.STAT.pack
UTIME_NOW: Final = 0x3FFFFFFF
UTIME_OMIT: Final = 0x3FFFFFFE
RLIM_INFINITY: Final = 0xFFFFFFFFFFFFFFFF
SIGXFSZ: Final = 25


def pack_inode(inode: Inode) -> bytes:
    """A struct stat (stat(2)), packed anew: callers look at `inode.shown` first. It is kept there if it may be."""
    inode.refresh()
    superblock = inode.superblock
    modified = inode.mtime_ns
    changed = inode.ctime_ns
    msec, mnsec = divmod(modified, SECOND)
    if changed == modified:
        csec, cnsec = msec, mnsec
    else:
        csec, cnsec = divmod(changed, SECOND)
    accessed = inode.atime_ns
    if accessed == modified:
        asec, ansec = msec, mnsec
    else:
        asec, ansec = divmod(accessed, SECOND)
    packed = _STAT_PACK(
        superblock.dev,
        inode.ino,
        inode.nlink,
        inode.mode,
        inode.uid,
        inode.gid,
        inode.rdev,
        inode.size,
        superblock.block_size,
        inode.blocks,
        asec,
        ansec,
        msec,
        mnsec,
        csec,
        cnsec,
    )
    cell = inode.stat_cell()
    if cell is not None:
        cell[0] = packed
    return packed


def pack_inode_x(inode: Inode, mount: Mount | None, mount_root: bool) -> bytes:
    """A struct statx (statx(2)): the basic fields, btime and the mount id."""
    inode.refresh()
    superblock = inode.superblock
    mask = st.STATX_BASIC_STATS | st.STATX_MNT_ID
    if inode.btime_ns:
        mask |= st.STATX_BTIME
    return st.pack_statx(
        mask,
        superblock.dev,
        inode.ino,
        inode.mode,
        inode.nlink,
        inode.uid,
        inode.gid,
        inode.rdev,
        inode.size,
        superblock.block_size,
        inode.blocks,
        inode.atime_ns,
        inode.btime_ns,
        inode.ctime_ns,
        inode.mtime_ns,
        st.STATX_ATTR_MOUNT_ROOT if mount_root else 0,
        st.STATX_ATTR_MOUNT_ROOT | st.STATX_ATTR_AUTOMOUNT | st.STATX_ATTR_IMMUTABLE | st.STATX_ATTR_APPEND,
        mount.id if mount else 0,
    )


def _search_changed(inode: Inode) -> None:
    """Who may search a directory changed: cached paths through it are void."""
    if inode.is_dir:
        inode.superblock.invalidate_paths()


def change_mode(task: Task, inode: Inode, mount: Mount | None, mode: int) -> None:
    """chmod(2). EROFS; EPERM: not the owner; EOPNOTSUPP: a symbolic link. S_ISGID goes if the group is foreign."""
    if mount is not None:
        want_write(mount)
    if inode.is_symlink:
        raise LinuxError(errno.EOPNOTSUPP)
    cred = task.cred
    if not owner_or_capable(inode, cred):
        raise LinuxError(errno.EPERM)
    mode &= 0o7777
    if mode & st.S_ISGID and not may_keep_setgid(cred, inode.gid):
        mode &= ~st.S_ISGID
    searchable = (inode.mode ^ mode) & 0o111
    inode.set_attributes(mode=mode, ctime_ns=inode.superblock.now())
    if searchable:
        _search_changed(inode)


def change_owner(task: Task, inode: Inode, mount: Mount | None, uid: int, gid: int) -> None:
    """chown(2); -1 leaves one alone. EROFS, EPERM. An executable loses S_ISUID and S_ISGID."""
    if mount is not None:
        want_write(mount)
    cred = task.cred
    if not may_chown(inode, cred, uid, gid):
        raise LinuxError(errno.EPERM)
    mode: int | None = None
    if not inode.is_dir and inode.mode & 0o6000 and (uid != -1 or gid != -1):
        left = inode.mode & 0o7777 & ~st.S_ISUID
        if left & st.S_ISGID and (
            left & st.S_IXGRP or not (in_group(cred, inode.gid) or cred.cap_effective >> CAP_FSETID & 1)
        ):
            left &= ~st.S_ISGID
        if left != inode.mode & 0o7777:
            mode = left
    changed = uid not in (-1, inode.uid) or gid not in (-1, inode.gid)
    inode.set_attributes(
        mode=mode,
        uid=None if uid == -1 else uid,
        gid=None if gid == -1 else gid,
        ctime_ns=inode.superblock.now(),
    )
    if changed:
        _search_changed(inode)


def change_times(
    task: Task, inode: Inode, mount: Mount | None, times: tuple[tuple[int, int], tuple[int, int]] | None
) -> None:
    """utimensat(2): (seconds, ns) of access and modification, with UTIME_NOW and UTIME_OMIT; None: both now.

    EACCES, EPERM: not the owner (setting to now needs only write permission); EINVAL: ns out of range; EROFS.
    """
    now = inode.superblock.now()
    if times is None:
        times = ((0, UTIME_NOW), (0, UTIME_NOW))
    if all(ns == UTIME_OMIT for _, ns in times):
        return
    for _, ns in times:
        if not (0 <= ns < SECOND or ns in (UTIME_NOW, UTIME_OMIT)):
            raise LinuxError(errno.EINVAL)
    if mount is not None:
        want_write(mount)
    if not owner_or_capable(inode, task.cred):
        if any(ns != UTIME_NOW for _, ns in times):
            raise LinuxError(errno.EPERM)
        check(inode, task.cred, WRITE)
    values: list[int | None] = []
    for seconds, ns in times:
        if ns == UTIME_OMIT:
            values.append(None)
        else:
            values.append(now if ns == UTIME_NOW else seconds * SECOND + ns)
    inode.set_attributes(atime_ns=values[0], mtime_ns=values[1], ctime_ns=now)


def check_file_limit(task: Task, size: int) -> None:
    """EFBIG with SIGXFSZ: `size` is beyond RLIMIT_FSIZE."""
    limit = task.group.rlimits[1][0]
    if limit != RLIM_INFINITY and size > limit:
        send_signal_task(task, SigInfo(SIGXFSZ, 0, task.group.pid, task.cred.ruid))
        raise LinuxError(errno.EFBIG)


def set_length(task: Task, inode: Inode, mount: Mount | None, size: int, file: OpenFile | None = None) -> None:
    """truncate(2) (`file` None: checks permission), ftruncate(2). EISDIR, EINVAL, EACCES, EROFS, ETXTBSY, EFBIG."""
    if file is None:
        if inode.is_dir:
            raise LinuxError(errno.EISDIR)
        if not inode.is_regular:
            raise LinuxError(errno.EINVAL)
        check(inode, task.cred, WRITE)
        if mount is not None:
            want_write(mount)
        if inode.deny_write:
            raise LinuxError(errno.ETXTBSY)
    if size > inode.size:
        check_file_limit(task, size)
    truncate_inode(task, inode, size)
