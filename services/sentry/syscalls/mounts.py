"""mount(2), umount2(2), pivot_root(2). The mechanism is in vfs/mounts.py, the types in filesystems/registry.py.

The new mount API has no rows: programs fall back to mount(2) on ENOSYS.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import mount_h as mt
from protocol.abi.capability_h import CAP_SYS_ADMIN
from services.sentry.errors import LinuxError
from services.sentry.filesystems.registry import make_superblock
from services.sentry.mm.opened_file import settle_files
from services.sentry.syscalls.arguments import s32
from services.sentry.syscalls.table import Row
from services.sentry.vfs.mounts import MOUNT_FLAGS, Mount
from services.sentry.vfs.path_walk import Path, find

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome

__all__ = ["ROWS"]

_PROPAGATION: Final = mt.MS_SHARED | mt.MS_PRIVATE | mt.MS_SLAVE | mt.MS_UNBINDABLE
_ATIME: Final = mt.MS_NOATIME | mt.MS_NODIRATIME | mt.MS_RELATIME


def _require_admin(task: Task) -> None:
    if not task.cred.cap_effective >> CAP_SYS_ADMIN & 1:
        raise LinuxError(errno.EPERM)


def _text(task: Task, addr: int) -> bytes:
    """An optional string of at most a page."""
    return task.mm.read_cstring(addr) if addr else b""


def _options(task: Task, addr: int) -> bytes:
    """The data argument: up to a page, ended by a NUL or by the end of mapped memory (mount(2))."""
    if not addr:
        return b""
    return bytes(task.mm.read_some(addr, 4096)).split(b"\0", 1)[0]


def _mount_flags(flags: int) -> int:
    """The mount's own flags; relatime unless told otherwise (mount(2))."""
    own = flags & MOUNT_FLAGS
    if flags & mt.MS_STRICTATIME:
        return own & ~_ATIME
    if not flags & mt.MS_NOATIME:
        own |= mt.MS_RELATIME
    return own


def sys_mount(task: Task, source: int, target: int, kind: int, flags: int, data: int) -> Outcome:
    if flags & mt.MS_MGC_MSK == mt.MS_MGC_VAL:
        flags &= ~mt.MS_MGC_MSK
    type_name = _text(task, kind)
    device = _text(task, source)
    options = _options(task, data)
    where = find(task, task.mm.read_cstring(target))
    _require_admin(task)
    namespace = task.fs.mounts
    if flags & mt.MS_REMOUNT:
        return _remount(task, where, flags, options)
    if flags & mt.MS_BIND:
        if not device:
            raise LinuxError(errno.EINVAL)
        namespace.bind(find(task, device), where, recursive=bool(flags & mt.MS_REC))
        return 0
    if flags & _PROPAGATION:
        return _set_propagation(task, where, flags)
    if flags & mt.MS_MOVE:
        if not device:
            raise LinuxError(errno.EINVAL)
        namespace.move(find(task, device), where)
        return 0
    if not type_name:
        raise LinuxError(errno.EINVAL)
    superblock = make_superblock(task.kernel, type_name, device or b"none", flags, options)
    namespace.mount(superblock, where, _mount_flags(flags), device or b"none")
    return 0


def _remount(task: Task, where: Path, flags: int, options: bytes) -> Outcome:
    mount = where.mount
    if where.dentry is not mount.root:
        raise LinuxError(errno.EINVAL)
    own = flags & MOUNT_FLAGS
    if not flags & (_ATIME | mt.MS_STRICTATIME):
        own |= mount.flags & _ATIME  # unmentioned: kept (mount(2) MS_REMOUNT)
    elif not flags & (mt.MS_NOATIME | mt.MS_STRICTATIME):
        own |= mt.MS_RELATIME
    if flags & mt.MS_RDONLY and not mount.flags & mt.MS_RDONLY and _written_through(task, mount, flags):
        raise LinuxError(errno.EBUSY)
    if not flags & mt.MS_BIND:
        superblock = mount.superblock
        superblock.remount(superblock.flags & ~mt.MS_RDONLY | flags & mt.MS_RDONLY, options)
    task.fs.mounts.remount(mount, own)
    return 0


def _set_propagation(task: Task, where: Path, flags: int) -> Outcome:
    """Accepted and shown; every mount acts as private."""
    kind = flags & _PROPAGATION
    if kind & (kind - 1) or flags & ~(_PROPAGATION | mt.MS_REC | mt.MS_SILENT):
        raise LinuxError(errno.EINVAL)
    if where.dentry is not where.mount.root:
        raise LinuxError(errno.EINVAL)
    namespace = task.fs.mounts
    for mount in namespace.subtree(where.mount) if flags & mt.MS_REC else (where.mount,):
        mount.propagation = kind
    return 0


def _written_through(task: Task, mount: Mount, flags: int) -> bool:
    """Whether a file is open for writing through this mount (on the whole superblock without MS_BIND)."""
    whole = not flags & mt.MS_BIND
    for other in task.kernel.tasks.values():
        settle_files(other)
        for file in other.files.files.values():
            path = file.path
            if path is not None and file.writable and file.inode.is_regular:
                if path.mount is mount or (whole and path.mount.superblock is mount.superblock):
                    return True
    return False


def _in_use(task: Task, mount: Mount) -> bool:
    """Whether a task's root, directory, program or open file is on the mount."""
    for other in task.kernel.tasks.values():
        fs = other.fs
        if fs.root.mount is mount or fs.cwd.mount is mount:
            return True
        settle_files(other)
        if any(file.path is not None and file.path.mount is mount for file in other.files.files.values()):
            return True
        program = getattr(other.group, "exec_path", None)
        if program is not None and program.mount is mount:
            return True
    return False


def sys_umount2(task: Task, target: int, flags: int) -> Outcome:
    flags = s32(flags)
    if flags & ~(mt.MNT_FORCE | mt.MNT_DETACH | mt.MNT_EXPIRE | mt.UMOUNT_NOFOLLOW):
        raise LinuxError(errno.EINVAL)
    _require_admin(task)
    where = find(task, task.mm.read_cstring(target), not flags & mt.UMOUNT_NOFOLLOW)
    if where.dentry is not where.mount.root:
        raise LinuxError(errno.EINVAL)
    if flags & mt.MNT_EXPIRE:
        if flags & (mt.MNT_FORCE | mt.MNT_DETACH):
            raise LinuxError(errno.EINVAL)
        if _in_use(task, where.mount):
            raise LinuxError(errno.EBUSY)
        raise LinuxError(errno.EAGAIN)
    if where.mount is task.fs.root.mount and not flags & mt.MNT_DETACH:
        raise LinuxError(errno.EBUSY)
    task.fs.mounts.unmount(where.mount, detach=bool(flags & mt.MNT_DETACH), busy=lambda mount: _in_use(task, mount))
    return 0


def sys_pivot_root(task: Task, new_root: int, put_old: int) -> Outcome:
    """EINVAL: not mount points or not below each other; EBUSY: on the current root; ENOTDIR, EPERM."""
    _require_admin(task)
    new = find(task, task.mm.read_cstring(new_root))
    old_place = find(task, task.mm.read_cstring(put_old))
    root = task.fs.root
    for place in (new, old_place):
        if place.dentry.inode is None or not place.dentry.inode.is_dir:
            raise LinuxError(errno.ENOTDIR)
    if new.mount is root.mount or old_place.mount is root.mount:
        raise LinuxError(errno.EBUSY)
    if root.dentry is not root.mount.root or new.dentry is not new.mount.root or new.mount.parent is None:
        raise LinuxError(errno.EINVAL)
    if not _is_under(old_place, new) or not _is_under(new, root):
        raise LinuxError(errno.EINVAL)
    task.fs.mounts.pivot(new, old_place, root)
    for other in task.kernel.tasks.values():  # whoever stood at the old root stands at the new one
        fs = other.fs
        if fs.mounts is task.fs.mounts:
            if fs.root == root:
                fs.root = new
            if fs.cwd == root:
                fs.cwd = new
    return 0


def _is_under(path: Path, ancestor: Path) -> bool:
    """Whether `path` is `ancestor` or below it, across mounts."""
    mount, dentry = path.mount, path.dentry
    while mount is not ancestor.mount:
        if mount.parent is None:
            return False
        mount, dentry = mount.parent, mount.mountpoint
    return dentry.is_below(ancestor.dentry)


ROWS: Final = (
    Row("mount", sys_mount, "path path path flags ptr", note="propagation is recorded, mounts act as private"),
    Row("umount2", sys_umount2, "path flags", note="MNT_EXPIRE never expires"),
    Row("pivot_root", sys_pivot_root, "path path"),
)
