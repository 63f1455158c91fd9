"""Names: mkdir, rmdir, unlink, rename, link, symlink, readlink, mknod; working and root directory; access; directories.

Rules are in vfs/operations.py and vfs/path_walk.py.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import mount_h as mt
from protocol.abi.capability_h import CAP_DAC_READ_SEARCH, CAP_SYS_CHROOT
from protocol.abi.dirent_h import pack_dirent
from protocol.records import replace
from services.sentry.errors import LinuxError
from services.sentry.kernel.first_paths import ACCESS, note_call
from services.sentry.syscalls.arguments import AT_FDCWD, fd_arg, s32, u32
from services.sentry.syscalls.table import Row
from services.sentry.vfs import operations as ops
from services.sentry.vfs.path_walk import Path, descriptor_path, find, name_from, path_at, start_of
from services.sentry.vfs.permissions import EXECUTE, WRITE, acts_as_real, check

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.inode import Inode

__all__ = ["ROWS"]


def _base(task: Task, dirfd: int, name: bytes) -> Path:
    """Where a walk of `name` starts. EBADF, ENOTDIR: `dirfd`."""
    dirfd = s32(dirfd)
    if dirfd == AT_FDCWD or name[:1] == b"/":
        return task.fs.cwd
    return start_of(task, dirfd)


def _name(task: Task, dirfd: int, path: int) -> tuple[Path, bytes]:
    name = task.mm.read_cstring(path)
    return _base(task, dirfd, name), name


# --- making and removing ---
def sys_mkdirat(task: Task, dirfd: int, path: int, mode: int) -> Outcome:
    base, name = _name(task, dirfd, path)
    ops.make_directory(task, base, name, u32(mode))
    return 0


def sys_mkdir(task: Task, path: int, mode: int) -> Outcome:
    return sys_mkdirat(task, AT_FDCWD, path, mode)


def sys_mknodat(task: Task, dirfd: int, path: int, mode: int, dev: int) -> Outcome:
    base, name = _name(task, dirfd, path)
    ops.make_node(task, base, name, u32(mode), u32(dev))
    return 0


def sys_mknod(task: Task, path: int, mode: int, dev: int) -> Outcome:
    return sys_mknodat(task, AT_FDCWD, path, mode, dev)


def sys_unlinkat(task: Task, dirfd: int, path: int, flags: int) -> Outcome:
    flags = s32(flags)
    if flags & ~fc.AT_REMOVEDIR:
        raise LinuxError(errno.EINVAL)
    base, name = _name(task, dirfd, path)
    if flags:
        ops.remove_directory(task, base, name)
    else:
        ops.unlink(task, base, name)
    return 0


def sys_unlink(task: Task, path: int) -> Outcome:
    return sys_unlinkat(task, AT_FDCWD, path, 0)


def sys_rmdir(task: Task, path: int) -> Outcome:
    return sys_unlinkat(task, AT_FDCWD, path, fc.AT_REMOVEDIR)


def sys_renameat2(task: Task, old_dirfd: int, old: int, new_dirfd: int, new: int, flags: int) -> Outcome:
    old_base, old_name = _name(task, old_dirfd, old)
    new_base, new_name = _name(task, new_dirfd, new)
    ops.rename(task, old_base, old_name, new_base, new_name, u32(flags))
    return 0


def sys_renameat(task: Task, old_dirfd: int, old: int, new_dirfd: int, new: int) -> Outcome:
    return sys_renameat2(task, old_dirfd, old, new_dirfd, new, 0)


def sys_rename(task: Task, old: int, new: int) -> Outcome:
    return sys_renameat2(task, AT_FDCWD, old, AT_FDCWD, new, 0)


def sys_linkat(task: Task, old_dirfd: int, old: int, new_dirfd: int, new: int, flags: int) -> Outcome:
    flags = s32(flags)
    if flags & ~(fc.AT_SYMLINK_FOLLOW | fc.AT_EMPTY_PATH):
        raise LinuxError(errno.EINVAL)
    if flags & fc.AT_EMPTY_PATH and not task.cred.cap_effective >> CAP_DAC_READ_SEARCH & 1:
        raise LinuxError(errno.ENOENT)
    name = task.mm.read_cstring(old)
    source = path_at(task, s32(old_dirfd), name, bool(flags & fc.AT_SYMLINK_FOLLOW), bool(flags & fc.AT_EMPTY_PATH))
    base, new_name = _name(task, new_dirfd, new)
    ops.link(task, source, base, new_name)
    return 0


def sys_link(task: Task, old: int, new: int) -> Outcome:
    return sys_linkat(task, AT_FDCWD, old, AT_FDCWD, new, 0)


def sys_symlinkat(task: Task, target: int, dirfd: int, path: int) -> Outcome:
    text = task.mm.read_cstring(target)
    base, name = _name(task, dirfd, path)
    ops.make_symlink(task, text, base, name)
    return 0


def sys_symlink(task: Task, target: int, path: int) -> Outcome:
    return sys_symlinkat(task, target, AT_FDCWD, path)


def sys_readlinkat(task: Task, dirfd: int, path: int, buf: int, size: int) -> Outcome:
    size = s32(size)
    if size <= 0:
        raise LinuxError(errno.EINVAL)
    name = task.mm.read_cstring(path)
    place = path_at(task, s32(dirfd), name, False, True) if name or s32(dirfd) != AT_FDCWD else None
    if place is None:
        raise LinuxError(errno.ENOENT)
    inode = place.dentry.inode
    assert inode is not None
    if not inode.is_symlink:
        raise LinuxError(errno.EINVAL if name else errno.ENOENT)
    text = inode.readlink_for(task)[:size]
    if inode.atime_ns <= inode.mtime_ns and not place.mount.flags & mt.MS_NOATIME and not place.dentry.dynamic:
        inode.atime_ns = inode.superblock.now()
        inode.shown[0] = None
    task.mm.write(buf, text)
    return len(text)


def sys_readlink(task: Task, path: int, buf: int, size: int) -> Outcome:
    return sys_readlinkat(task, AT_FDCWD, path, buf, size)


# --- directories of the process ---
def _enter(task: Task, place: Path) -> Path:
    """A directory that the task may make its own. ENOTDIR, EACCES."""
    inode = place.dentry.inode
    if inode is None or not inode.is_dir:
        raise LinuxError(errno.ENOTDIR)
    check(inode, task.cred, EXECUTE)
    return place


def sys_chdir(task: Task, path: int) -> Outcome:
    task.fs.cwd = _enter(task, find(task, task.mm.read_cstring(path)))
    return 0


def sys_fchdir(task: Task, fd: int) -> Outcome:
    task.fs.cwd = _enter(task, descriptor_path(task, fd_arg(fd)))
    return 0


def sys_chroot(task: Task, path: int) -> Outcome:
    place = _enter(task, find(task, task.mm.read_cstring(path)))
    if not task.cred.cap_effective >> CAP_SYS_CHROOT & 1:
        raise LinuxError(errno.EPERM)
    task.fs.root = place
    return 0


def sys_getcwd(task: Task, buf: int, size: int) -> Outcome:
    cwd = task.fs.cwd
    if cwd.dentry.deleted:
        raise LinuxError(errno.ENOENT)
    name, reached = name_from(cwd, task.fs.root)
    text = (name if reached else b"(unreachable)" + name) + b"\0"
    if len(text) > size:
        raise LinuxError(errno.ERANGE)
    task.mm.write(buf, text)
    return len(text)


# --- access ---
def _real_credentials(cred: Credentials) -> Credentials:
    """access(2) asks for the real ids; a real user other than root then has no capabilities."""
    effective = cred.cap_effective
    if not cred.securebits & 4:
        effective = cred.cap_permitted if cred.ruid == 0 else 0
    return replace(cred, fsuid=cred.ruid, fsgid=cred.rgid, cap_effective=effective)


def sys_faccessat2(task: Task, dirfd: int, path: int, mode: int, flags: int) -> Outcome:
    want, flags = s32(mode), s32(flags)
    if want & ~7 or flags & ~(fc.AT_EACCESS | fc.AT_SYMLINK_NOFOLLOW | fc.AT_EMPTY_PATH):
        raise LinuxError(errno.EINVAL)
    return _access(task, s32(dirfd), task.mm.read_cstring(path), want, flags)


def _access(task: Task, dirfd: int, name: bytes, want: int, flags: int) -> int:
    mine = task.cred
    cred = mine
    if not flags & fc.AT_EACCESS and not acts_as_real(mine):
        cred = _real_credentials(mine)
    if cred is not mine:
        task.cred = cred
    try:
        place = path_at(task, dirfd, name, not flags & fc.AT_SYMLINK_NOFOLLOW, bool(flags & fc.AT_EMPTY_PATH))
    finally:
        if cred is not mine:
            task.cred = mine
    inode = place.dentry.inode
    assert inode is not None
    if want:
        _check_access(inode, place, cred, want)
    return 0


def _check_access(inode: Inode, place: Path, cred: Credentials, want: int) -> None:
    kind = inode.mode & 0o170000
    if want & EXECUTE and kind == 0o100000 and place.mount.flags & mt.MS_NOEXEC:
        raise LinuxError(errno.EACCES)
    check(inode, cred, want)
    if want & WRITE and kind in (0o100000, 0o040000, 0o120000):
        ops.want_write(place.mount)


def sys_faccessat(task: Task, dirfd: int, path: int, mode: int) -> Outcome:
    return sys_faccessat2(task, dirfd, path, mode, 0)


def sys_access(task: Task, path: int, mode: int) -> Outcome:
    want = s32(mode)
    if want & ~7:
        raise LinuxError(errno.EINVAL)
    name = task.mm.read_cstring(path)
    if task.mm.trapped is not None:
        note_call(task, ACCESS, name, want)
    return _access(task, AT_FDCWD, name, want, 0)


# --- reading directories ---
def sys_getdents64(task: Task, fd: int, buf: int, size: int) -> Outcome:
    file = task.files.get(fd_arg(fd))
    if not file.readable:
        raise LinuxError(errno.EBADF)
    data, following = file.read_packed(u32(size))
    if data:
        task.mm.write(buf, data)
        file.offset = following
    return len(data)


def sys_getdents(task: Task, fd: int, buf: int, size: int) -> Outcome:
    file = task.files.get(fd_arg(fd))
    if not file.readable:
        raise LinuxError(errno.EBADF)
    room = u32(size)
    records = []
    position = None
    for following, (name, ino, kind) in file.read_entries():
        record = pack_dirent(ino, following, kind, name)
        if len(record) > room:
            if position is None:
                raise LinuxError(errno.EINVAL)
            break
        room -= len(record)
        records.append(record)
        position = following
    if position is None:
        return 0
    data = b"".join(records)
    task.mm.write(buf, data)
    file.offset = position
    return len(data)


ROWS: Final = (
    Row("mkdir", sys_mkdir, "path mode"),
    Row("mkdirat", sys_mkdirat, "fd path mode"),
    Row("mknod", sys_mknod, "path mode int"),
    Row("mknodat", sys_mknodat, "fd path mode int"),
    Row("rmdir", sys_rmdir, "path"),
    Row("unlink", sys_unlink, "path"),
    Row("unlinkat", sys_unlinkat, "fd path flags"),
    Row("rename", sys_rename, "path path"),
    Row("renameat", sys_renameat, "fd path fd path"),
    Row("renameat2", sys_renameat2, "fd path fd path flags"),
    Row("link", sys_link, "path path"),
    Row("linkat", sys_linkat, "fd path fd path flags"),
    Row("symlink", sys_symlink, "path path"),
    Row("symlinkat", sys_symlinkat, "path fd path"),
    Row("readlink", sys_readlink, "path buf_out size"),
    Row("readlinkat", sys_readlinkat, "fd path buf_out size"),
    Row("chdir", sys_chdir, "path"),
    Row("fchdir", sys_fchdir, "fd"),
    Row("chroot", sys_chroot, "path"),
    Row("getcwd", sys_getcwd, "buf_out size"),
    Row("access", sys_access, "path mode"),
    Row("faccessat", sys_faccessat, "fd path mode"),
    Row("faccessat2", sys_faccessat2, "fd path mode flags"),
    Row("getdents", sys_getdents, "fd buf_out size"),
    Row("getdents64", sys_getdents64, "fd buf_out size"),
)
