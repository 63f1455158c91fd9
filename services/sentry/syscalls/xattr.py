"""Extended attributes: xattr(7), setxattr(2), getxattr(2), listxattr(2), removexattr(2)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import xattr_h as xa
from protocol.abi.capability_h import CAP_SETFCAP, CAP_SYS_ADMIN
from services.sentry.errors import LinuxError
from services.sentry.syscalls.arguments import fd_arg, u32
from services.sentry.syscalls.table import Row
from services.sentry.vfs.operations import want_write
from services.sentry.vfs.path_walk import find
from services.sentry.vfs.permissions import READ, WRITE, check, owner_or_capable

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.mounts import Mount

__all__ = ["ROWS"]

_Target = tuple["Inode", "Mount | None"]


def _at(task: Task, path: int, follow: bool) -> _Target:
    place = find(task, task.mm.read_cstring(path), follow)
    assert place.dentry.inode is not None
    return place.dentry.inode, place.mount


def _of(task: Task, fd: int) -> _Target:
    file = task.files.get(fd_arg(fd))
    if file.flags & fc.O_PATH:
        raise LinuxError(errno.EBADF)
    return file.inode, file.path.mount if file.path else None


_LABELS: Final = frozenset((b"security.selinux", b"security.SMACK64", b"security.apparmor"))
"""Of security modules that this kernel does not have: the host's labels mean nothing here."""
_PREFIXES: Final = frozenset((xa.XATTR_TRUSTED_PREFIX, xa.XATTR_USER_PREFIX, xa.XATTR_SECURITY_PREFIX))


def _name(task: Task, addr: int) -> bytes:
    """ERANGE: empty or longer than 255 bytes."""
    try:
        name = task.mm.read_cstring(addr, xa.XATTR_NAME_MAX + 1)
    except LinuxError as error:
        raise LinuxError(errno.ERANGE if error.errno == errno.ENAMETOOLONG else error.errno) from None
    if not name:
        raise LinuxError(errno.ERANGE)
    return name


def _permit(task: Task, inode: Inode, name: bytes, *, write: bool) -> None:
    """The rules of xattr(7) by name space. EPERM, EACCES, ENODATA (trusted attributes hide), EOPNOTSUPP."""
    cred = task.cred
    if name.startswith(xa.XATTR_TRUSTED_PREFIX):
        if not cred.cap_effective >> CAP_SYS_ADMIN & 1:
            raise LinuxError(errno.EPERM if write else errno.ENODATA)
    elif name.startswith(xa.XATTR_USER_PREFIX):
        if not (inode.is_regular or inode.is_dir):
            raise LinuxError(errno.EPERM if write else errno.ENODATA)
        if write and inode.is_dir and inode.mode & 0o1000 and not owner_or_capable(inode, cred):
            raise LinuxError(errno.EPERM)
        check(inode, cred, WRITE if write else READ)
    elif name in _LABELS:
        raise LinuxError(errno.EOPNOTSUPP)
    elif name.startswith(xa.XATTR_SECURITY_PREFIX):
        needed = CAP_SETFCAP if name == b"security.capability" else CAP_SYS_ADMIN
        if write and not cred.cap_effective >> needed & 1:
            raise LinuxError(errno.EPERM)
    else:  # system.*: there are no access control lists (as on a file system mounted with noacl)
        raise LinuxError(errno.EOPNOTSUPP)
    if name in _PREFIXES:
        raise LinuxError(errno.EINVAL)


def _set(task: Task, target: _Target, name: int, value: int, size: int, flags: int) -> Outcome:
    inode, mount = target
    flags = u32(flags)
    if flags & ~(xa.XATTR_CREATE | xa.XATTR_REPLACE):
        raise LinuxError(errno.EINVAL)
    key = _name(task, name)
    if size > xa.XATTR_SIZE_MAX:
        raise LinuxError(errno.E2BIG)
    data = task.mm.read(value, size) if size else b""
    if mount is not None:
        want_write(mount)
    _permit(task, inode, key, write=True)
    inode.set_xattr(key, data, flags)
    return 0


def _get(task: Task, target: _Target, name: int, value: int, size: int) -> Outcome:
    inode, _ = target
    key = _name(task, name)
    _permit(task, inode, key, write=False)
    data = inode.get_xattr(key)
    if size:
        if len(data) > size:
            raise LinuxError(errno.ERANGE)
        task.mm.write(value, data)
    return len(data)


def _list(task: Task, target: _Target, buf: int, size: int) -> Outcome:
    inode, _ = target
    trusted = task.cred.cap_effective >> CAP_SYS_ADMIN & 1
    names = [
        name
        for name in inode.list_xattr()
        if (trusted or not name.startswith(xa.XATTR_TRUSTED_PREFIX))
        and name not in _LABELS
        and not name.startswith(xa.XATTR_SYSTEM_PREFIX)
    ]
    data = b"".join(name + b"\0" for name in names)
    if len(data) > xa.XATTR_LIST_MAX:
        raise LinuxError(errno.E2BIG)
    if size:
        if len(data) > size:
            raise LinuxError(errno.ERANGE)
        if data:
            task.mm.write(buf, data)
    return len(data)


def _remove(task: Task, target: _Target, name: int) -> Outcome:
    inode, mount = target
    key = _name(task, name)
    if mount is not None:
        want_write(mount)
    _permit(task, inode, key, write=True)
    inode.remove_xattr(key)
    return 0


def sys_setxattr(task: Task, path: int, name: int, value: int, size: int, flags: int) -> Outcome:
    return _set(task, _at(task, path, True), name, value, size, flags)


def sys_lsetxattr(task: Task, path: int, name: int, value: int, size: int, flags: int) -> Outcome:
    return _set(task, _at(task, path, False), name, value, size, flags)


def sys_fsetxattr(task: Task, fd: int, name: int, value: int, size: int, flags: int) -> Outcome:
    return _set(task, _of(task, fd), name, value, size, flags)


def sys_getxattr(task: Task, path: int, name: int, value: int, size: int) -> Outcome:
    return _get(task, _at(task, path, True), name, value, size)


def sys_lgetxattr(task: Task, path: int, name: int, value: int, size: int) -> Outcome:
    return _get(task, _at(task, path, False), name, value, size)


def sys_fgetxattr(task: Task, fd: int, name: int, value: int, size: int) -> Outcome:
    return _get(task, _of(task, fd), name, value, size)


def sys_listxattr(task: Task, path: int, buf: int, size: int) -> Outcome:
    return _list(task, _at(task, path, True), buf, size)


def sys_llistxattr(task: Task, path: int, buf: int, size: int) -> Outcome:
    return _list(task, _at(task, path, False), buf, size)


def sys_flistxattr(task: Task, fd: int, buf: int, size: int) -> Outcome:
    return _list(task, _of(task, fd), buf, size)


def sys_removexattr(task: Task, path: int, name: int) -> Outcome:
    return _remove(task, _at(task, path, True), name)


def sys_lremovexattr(task: Task, path: int, name: int) -> Outcome:
    return _remove(task, _at(task, path, False), name)


def sys_fremovexattr(task: Task, fd: int, name: int) -> Outcome:
    return _remove(task, _of(task, fd), name)


ROWS: Final = (
    Row("setxattr", sys_setxattr, "path ptr ptr size flags"),
    Row("lsetxattr", sys_lsetxattr, "path ptr ptr size flags"),
    Row("fsetxattr", sys_fsetxattr, "fd ptr ptr size flags"),
    Row("getxattr", sys_getxattr, "path ptr ptr size"),
    Row("lgetxattr", sys_lgetxattr, "path ptr ptr size"),
    Row("fgetxattr", sys_fgetxattr, "fd ptr ptr size"),
    Row("listxattr", sys_listxattr, "path ptr size"),
    Row("llistxattr", sys_llistxattr, "path ptr size"),
    Row("flistxattr", sys_flistxattr, "fd ptr size"),
    Row("removexattr", sys_removexattr, "path ptr"),
    Row("lremovexattr", sys_lremovexattr, "path ptr"),
    Row("fremovexattr", sys_fremovexattr, "fd ptr"),
)
