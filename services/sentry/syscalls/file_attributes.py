"""Attributes of files and file systems: the stat, chmod, chown, utime, truncate, statfs and sync families.

The hot path of newfstatat is written out (a cached path costs one dictionary access); rules are in vfs/attributes.py.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import mount_h as mt
from protocol.abi import stat_h as st
from protocol.abi.statfs_h import pack_statfs
from protocol.abi.time_h import TIMESPEC, TIMEVAL
from services.sentry.errors import LinuxError
from services.sentry.kernel.standing_answers import SAMPLE, offer_stat
from services.sentry.kernel.waiter import ANY, Wait
from services.sentry.syscalls.arguments import AT_FDCWD, CWD_FORMS, fd_arg, s32, s64, u32
from services.sentry.syscalls.table import Row
from services.sentry.vfs.attributes import (
    UTIME_OMIT,
    change_mode,
    change_owner,
    change_times,
    check_file_limit,
    pack_inode,
    pack_inode_x,
    set_length,
)
from services.sentry.vfs.file_locks import locks_of
from services.sentry.vfs.path_walk import Path, find, path_at

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.mounts import Mount
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["ROWS"]

NO_ENTRY: Final = -errno.ENOENT
"""Returned, not raised, where absence is an everyday answer: an exception costs as much as all the rest."""
_AT_STAT: Final = fc.AT_SYMLINK_NOFOLLOW | fc.AT_NO_AUTOMOUNT | fc.AT_EMPTY_PATH | fc.AT_STATX_SYNC_TYPE
_ID_NONE: Final = 0xFFFFFFFF


def _inode_at(task: Task, dirfd: int, name: bytes, flags: int) -> tuple[Inode, Mount | None, Path | None]:
    """The inode that (dirfd, name, AT_*) names; open files without a path give only their inode."""
    if not name and flags & fc.AT_EMPTY_PATH and dirfd != AT_FDCWD:
        file = task.files.get(dirfd)
        path = file.path
        return file.inode, path.mount if path else None, path
    path = path_at(task, dirfd, name, not flags & fc.AT_SYMLINK_NOFOLLOW, bool(flags & fc.AT_EMPTY_PATH))
    inode = path.dentry.inode
    assert inode is not None
    return inode, path.mount, path


# --- stat ---
def sys_newfstatat(task: Task, dirfd: int, path: int, buf: int, flags: int) -> Outcome:
    mm = task.mm
    name = mm.read_cstring(path)
    if flags == 0x1000 and not name:  # AT_EMPTY_PATH: how C libraries spell fstat(2)
        files = task.files
        file = files.files.get(dirfd)
        if file is not None:
            opened = file.inode
            packed = opened.shown[0]
            if packed is None:
                mm.write(buf, pack_inode(opened))
                return 0
            mm.write(buf, packed)
            asked = files.stats = files.stats + 1
            if not asked % SAMPLE:
                offer_stat(task, dirfd, packed)
            return 0
    fs = task.fs
    if (flags == 0 or flags == 0x100) and fs.cache_cred is task.cred:
        entry = (fs.unfollowed if flags else fs.followed).get(name)
        if entry is not None and (dirfd in CWD_FORMS or name[0] == 47):
            _, dentry, seq = entry
            if dentry.seq == seq:
                inode = dentry.inode
                if inode is None:
                    return NO_ENTRY
                mm.write(buf, inode.shown[0] or pack_inode(inode))
                return 0
    flags = s32(flags)
    if flags & ~_AT_STAT:
        raise LinuxError(errno.EINVAL)
    found, _, _ = _inode_at(task, s32(dirfd), name, flags)
    mm.write(buf, found.shown[0] or pack_inode(found))
    return 0


def sys_stat(task: Task, path: int, buf: int) -> Outcome:
    return sys_newfstatat(task, 0xFFFFFF9C, path, buf, 0)


def sys_lstat(task: Task, path: int, buf: int) -> Outcome:
    return sys_newfstatat(task, 0xFFFFFF9C, path, buf, fc.AT_SYMLINK_NOFOLLOW)


def sys_fstat(task: Task, fd: int, buf: int) -> Outcome:
    files = task.files
    try:
        file = files.files[fd]
    except KeyError:
        file = files.get(fd_arg(fd))
    inode = file.inode
    packed = inode.shown[0]
    if packed is None:
        task.mm.write(buf, pack_inode(inode))
        return 0
    task.mm.write(buf, packed)
    asked = files.stats = files.stats + 1
    if not asked % SAMPLE:
        offer_stat(task, fd, packed)
    return 0


def sys_statx(task: Task, dirfd: int, path: int, flags: int, mask: int, buf: int) -> Outcome:
    flags = s32(flags)
    if flags & ~_AT_STAT or flags & fc.AT_STATX_SYNC_TYPE == fc.AT_STATX_SYNC_TYPE or mask & st.STATX__RESERVED:
        raise LinuxError(errno.EINVAL)
    if path == 0 and flags & fc.AT_EMPTY_PATH:
        name = b""
    else:
        name = task.mm.read_cstring(path)
    inode, mount, place = _inode_at(task, s32(dirfd), name, flags)
    root = place is not None and place.dentry is place.mount.root
    task.mm.write(buf, pack_inode_x(inode, mount, root))
    return 0


# --- mode, owner, times ---
def _chmod(task: Task, dirfd: int, path: int, mode: int, flags: int) -> Outcome:
    inode, mount, _ = _inode_at(task, s32(dirfd), task.mm.read_cstring(path), flags)
    change_mode(task, inode, mount, mode)
    return 0


def sys_chmod(task: Task, path: int, mode: int) -> Outcome:
    return _chmod(task, AT_FDCWD, path, mode, 0)


def sys_fchmodat(task: Task, dirfd: int, path: int, mode: int) -> Outcome:
    return _chmod(task, dirfd, path, mode, 0)


def sys_fchmodat2(task: Task, dirfd: int, path: int, mode: int, flags: int) -> Outcome:
    flags = u32(flags)
    if flags & ~(fc.AT_SYMLINK_NOFOLLOW | fc.AT_EMPTY_PATH):
        raise LinuxError(errno.EINVAL)
    return _chmod(task, dirfd, path, mode, flags)


def _open_inode(task: Task, fd: int) -> tuple[OpenFile, Mount | None]:
    """The file of a descriptor for fchmod and the like. EBADF: none, or O_PATH."""
    file = task.files.get(fd_arg(fd))
    if file.flags & fc.O_PATH:
        raise LinuxError(errno.EBADF)
    return file, file.path.mount if file.path else None


def sys_fchmod(task: Task, fd: int, mode: int) -> Outcome:
    file, mount = _open_inode(task, fd)
    change_mode(task, file.inode, mount, mode)
    return 0


def _id(value: int) -> int:
    value &= 0xFFFFFFFF
    return -1 if value == _ID_NONE else value


def sys_fchownat(task: Task, dirfd: int, path: int, uid: int, gid: int, flags: int) -> Outcome:
    flags = s32(flags)
    if flags & ~(fc.AT_SYMLINK_NOFOLLOW | fc.AT_EMPTY_PATH):
        raise LinuxError(errno.EINVAL)
    inode, mount, _ = _inode_at(task, s32(dirfd), task.mm.read_cstring(path), flags)
    change_owner(task, inode, mount, _id(uid), _id(gid))
    return 0


def sys_chown(task: Task, path: int, uid: int, gid: int) -> Outcome:
    return sys_fchownat(task, AT_FDCWD, path, uid, gid, 0)


def sys_lchown(task: Task, path: int, uid: int, gid: int) -> Outcome:
    return sys_fchownat(task, AT_FDCWD, path, uid, gid, fc.AT_SYMLINK_NOFOLLOW)


def sys_fchown(task: Task, fd: int, uid: int, gid: int) -> Outcome:
    file, mount = _open_inode(task, fd)
    change_owner(task, file.inode, mount, _id(uid), _id(gid))
    return 0


_Times = tuple[tuple[int, int], tuple[int, int]]


def _set_times(task: Task, dirfd: int, path: int, times: _Times | None, flags: int) -> Outcome:
    if path == 0 and dirfd != AT_FDCWD:
        file, mount = _open_inode(task, dirfd)
        change_times(task, file.inode, mount, times)
        return 0
    inode, mount, _ = _inode_at(task, dirfd, task.mm.read_cstring(path), flags)
    change_times(task, inode, mount, times)
    return 0


def sys_utimensat(task: Task, dirfd: int, path: int, times_addr: int, flags: int) -> Outcome:
    flags = s32(flags)
    times: _Times | None = None
    if times_addr:
        raw = task.mm.read(times_addr, 32)
        access, modification = TIMESPEC.unpack_from(raw), TIMESPEC.unpack_from(raw, 16)
        if access[1] == modification[1] == UTIME_OMIT:
            return 0
        times = access, modification
    if flags & ~(fc.AT_SYMLINK_NOFOLLOW | fc.AT_EMPTY_PATH):
        raise LinuxError(errno.EINVAL)
    return _set_times(task, s32(dirfd), path, times, flags)


def _timevals(task: Task, addr: int) -> _Times | None:
    """A pair of struct timeval; None for a null pointer. EINVAL: microseconds out of range."""
    if not addr:
        return None
    raw = task.mm.read(addr, 32)
    first, second = TIMEVAL.unpack_from(raw), TIMEVAL.unpack_from(raw, 16)
    if not (0 <= first[1] < 1_000_000 and 0 <= second[1] < 1_000_000):
        raise LinuxError(errno.EINVAL)
    return (first[0], first[1] * 1000), (second[0], second[1] * 1000)


def sys_futimesat(task: Task, dirfd: int, path: int, times: int) -> Outcome:
    return _set_times(task, s32(dirfd), path, _timevals(task, times), 0)


def sys_utimes(task: Task, path: int, times: int) -> Outcome:
    return _set_times(task, AT_FDCWD, path, _timevals(task, times), 0)


def sys_utime(task: Task, path: int, times_addr: int) -> Outcome:
    times: _Times | None = None
    if times_addr:
        raw = task.mm.read(times_addr, 16)
        access, modification = (int.from_bytes(raw[at : at + 8], "little", signed=True) for at in (0, 8))
        times = (access, 0), (modification, 0)
    return _set_times(task, AT_FDCWD, path, times, 0)


# --- length ---
def sys_truncate(task: Task, path: int, length: int) -> Outcome:
    size = s64(length)
    if size < 0:
        raise LinuxError(errno.EINVAL)
    inode, mount, _ = _inode_at(task, AT_FDCWD, task.mm.read_cstring(path), 0)
    set_length(task, inode, mount, size)
    return 0


def sys_ftruncate(task: Task, fd: int, length: int) -> Outcome:
    size = s64(length)
    if size < 0:
        raise LinuxError(errno.EINVAL)
    file = task.files.get(fd_arg(fd))
    if file.flags & fc.O_PATH:
        raise LinuxError(errno.EBADF)
    if not file.writable or not file.inode.is_regular:
        raise LinuxError(errno.EINVAL)
    set_length(task, file.inode, None, size, file)
    return 0


def sys_fallocate(task: Task, fd: int, mode: int, offset: int, length: int) -> Outcome:
    start, size, mode = s64(offset), s64(length), s32(mode)
    file = task.files.get(fd_arg(fd))
    if start < 0 or size <= 0:
        raise LinuxError(errno.EINVAL)
    if mode & ~0x7F or mode & fc.FALLOC_FL_PUNCH_HOLE and not mode & fc.FALLOC_FL_KEEP_SIZE:
        raise LinuxError(errno.EOPNOTSUPP)
    if not file.writable:
        raise LinuxError(errno.EBADF)
    inode = file.inode
    if not inode.is_regular:
        kinds = {st.S_IFDIR: errno.EISDIR, st.S_IFIFO: errno.ESPIPE}
        raise LinuxError(kinds.get(inode.file_type, errno.ENODEV))
    if start + size > 0x7FFFFFFFFFFFFFFF:
        raise LinuxError(errno.EFBIG)
    if not mode & (fc.FALLOC_FL_KEEP_SIZE | fc.FALLOC_FL_PUNCH_HOLE) and start + size > inode.size:
        check_file_limit(task, start + size)
    file.allocate(mode, start, size)
    return 0


def sys_umask(task: Task, mask: int) -> Outcome:
    old = task.fs.umask
    task.fs.umask = mask & 0o777
    return old


# --- file systems ---
def _statfs(task: Task, inode: Inode, mount: Mount | None, buf: int) -> Outcome:
    superblock = inode.superblock
    counts = superblock.statfs()
    flags = _mount_flags(mount.flags | superblock.flags) if mount else 0
    task.mm.write(
        buf,
        pack_statfs(
            superblock.magic,
            superblock.block_size,
            counts.blocks,
            counts.blocks_free,
            counts.blocks_available,
            counts.files,
            counts.files_free,
            superblock.dev,
            counts.name_length,
            superblock.block_size,
            flags,
        ),
    )
    return 0


def _mount_flags(flags: int) -> int:
    """MS_* as f_flags of statfs(2)."""
    shown = flags & (mt.MS_RDONLY | mt.MS_NOSUID | mt.MS_NODEV | mt.MS_NOEXEC | mt.MS_NOATIME | mt.MS_NODIRATIME)
    return shown | (mt.ST_RELATIME if flags & mt.MS_RELATIME else 0)


def sys_statfs(task: Task, path: int, buf: int) -> Outcome:
    place = find(task, task.mm.read_cstring(path))
    assert place.dentry.inode is not None
    return _statfs(task, place.dentry.inode, place.mount, buf)


def sys_fstatfs(task: Task, fd: int, buf: int) -> Outcome:
    file = task.files.get(fd_arg(fd))
    return _statfs(task, file.inode, file.path.mount if file.path else None, buf)


def sys_ustat(task: Task, dev: int, buf: int) -> Outcome:
    device = u32(dev)
    for mount in task.fs.mounts.mounts.values():
        if mount.superblock.dev == device:
            counts = mount.superblock.statfs()
            task.mm.write(
                buf,
                (counts.blocks_free & 0xFFFFFFFF).to_bytes(8, "little")
                + counts.files_free.to_bytes(8, "little")
                + bytes(16),
            )
            return 0
    raise LinuxError(errno.EINVAL)


# --- storage ---
def sys_sync(task: Task) -> Outcome:
    for superblock in {mount.superblock for mount in task.fs.mounts.mounts.values()}:
        superblock.sync()
    return 0


def sys_syncfs(task: Task, fd: int) -> Outcome:
    file, _ = _open_inode(task, fd)
    file.inode.superblock.sync()
    return 0


def sys_fsync(task: Task, fd: int) -> Outcome:
    file, _ = _open_inode(task, fd)
    file.sync()
    return 0


def sys_sync_file_range(task: Task, fd: int, offset: int, length: int, flags: int) -> Outcome:
    file, _ = _open_inode(task, fd)
    start, size = s64(offset), s64(length)
    if u32(flags) & ~7 or start < 0 or size < 0 or start + size > 0x7FFFFFFFFFFFFFFF:
        raise LinuxError(errno.EINVAL)
    if file.inode.file_type not in (st.S_IFREG, st.S_IFDIR, st.S_IFLNK, st.S_IFBLK):
        raise LinuxError(errno.ESPIPE)
    if flags & 7 and file.inode.is_regular:
        file.sync()
    return 0


def sys_fadvise64(task: Task, fd: int, offset: int, length: int, advice: int) -> Outcome:
    file, _ = _open_inode(task, fd)
    if file.inode.file_type == st.S_IFIFO:
        raise LinuxError(errno.ESPIPE)
    if s64(length) < 0 or not 0 <= s32(advice) <= fc.POSIX_FADV_NOREUSE:
        raise LinuxError(errno.EINVAL)
    return 0


def sys_readahead(task: Task, fd: int, offset: int, count: int) -> Outcome:
    file, _ = _open_inode(task, fd)
    if not file.readable:
        raise LinuxError(errno.EBADF)
    if not file.inode.is_regular:
        raise LinuxError(errno.EINVAL)
    return 0


def sys_flock(task: Task, fd: int, operation: int) -> Outcome:
    """flock(2): EWOULDBLOCK with LOCK_NB, else waits."""
    operation = s32(operation)
    file, _ = _open_inode(task, fd)
    kind = operation & ~fc.LOCK_NB
    locks = locks_of(file.inode)
    if kind == fc.LOCK_UN:
        locks.unflock(file)
        return 0
    if kind not in (fc.LOCK_SH, fc.LOCK_EX):
        raise LinuxError(errno.EINVAL)
    exclusive = kind == fc.LOCK_EX

    def attempt() -> Outcome:
        if locks.flock_blocked(file, exclusive):
            if operation & fc.LOCK_NB:
                raise LinuxError(errno.EAGAIN)
            return Wait(attempt, ((locks.queue, ANY),))
        locks.flock(file, exclusive)
        file.locks_owner = file
        return 0

    if locks.flock_blocked(file, exclusive) and file in locks.flocks and not operation & fc.LOCK_NB:
        locks.unflock(file)  # a conversion is not atomic: the old lock goes before waiting (flock(2))
    return attempt()


ROWS: Final = (
    Row("newfstatat", sys_newfstatat, "fd path stat_out flags"),
    Row("stat", sys_stat, "path stat_out"),
    Row("lstat", sys_lstat, "path stat_out"),
    Row("fstat", sys_fstat, "fd stat_out"),
    Row("statx", sys_statx, "fd path flags flags ptr"),
    Row("chmod", sys_chmod, "path mode"),
    Row("fchmod", sys_fchmod, "fd mode"),
    Row("fchmodat", sys_fchmodat, "fd path mode"),
    Row("fchmodat2", sys_fchmodat2, "fd path mode flags"),
    Row("chown", sys_chown, "path int int"),
    Row("lchown", sys_lchown, "path int int"),
    Row("fchown", sys_fchown, "fd int int"),
    Row("fchownat", sys_fchownat, "fd path int int flags"),
    Row("utime", sys_utime, "path ptr"),
    Row("utimes", sys_utimes, "path ptr"),
    Row("futimesat", sys_futimesat, "fd path ptr"),
    Row("utimensat", sys_utimensat, "fd path timespec flags"),
    Row("truncate", sys_truncate, "path offset"),
    Row("ftruncate", sys_ftruncate, "fd offset"),
    Row("fallocate", sys_fallocate, "fd flags offset offset"),
    Row("umask", sys_umask, "mode"),
    Row("statfs", sys_statfs, "path ptr"),
    Row("fstatfs", sys_fstatfs, "fd ptr"),
    Row("ustat", sys_ustat, "int ptr"),
    Row("sync", sys_sync, ""),
    Row("syncfs", sys_syncfs, "fd"),
    Row("fsync", sys_fsync, "fd"),
    Row("fdatasync", sys_fsync, "fd"),
    Row("sync_file_range", sys_sync_file_range, "fd offset offset flags"),
    Row("fadvise64", sys_fadvise64, "fd offset offset int"),
    Row("readahead", sys_readahead, "fd offset count"),
    Row("flock", sys_flock, "fd flags"),
)
