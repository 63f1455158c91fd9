"""execve(2) and execveat(2): argument decoding; kernel/execute.py does the work."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from services.sentry.errors import LinuxError
from services.sentry.kernel.execute import execute, read_arguments
from services.sentry.syscalls.arguments import s32, u32
from services.sentry.syscalls.table import Row
from services.sentry.vfs.path_walk import path_at

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome

__all__ = ["ROWS"]


def sys_execve(task: Task, path: int, argv: int, envp: int) -> Outcome:
    """execve(2)."""
    name = task.mm.read_cstring(path)
    return execute(task, path_at(task, fc.AT_FDCWD, name), name, *read_arguments(task, argv, envp))


def sys_execveat(task: Task, dirfd: int, path: int, argv: int, envp: int, flags: int) -> Outcome:
    """execveat(2). EINVAL: unknown flags; ELOOP: a symbolic link with AT_SYMLINK_NOFOLLOW."""
    flags = u32(flags)
    if flags & ~(fc.AT_EMPTY_PATH | fc.AT_SYMLINK_NOFOLLOW):
        raise LinuxError(errno.EINVAL)
    fd = s32(dirfd)
    name = task.mm.read_cstring(path)
    found = path_at(task, fd, name, not flags & fc.AT_SYMLINK_NOFOLLOW, bool(flags & fc.AT_EMPTY_PATH))
    inode = found.dentry.inode
    if inode is not None and inode.is_symlink:
        raise LinuxError(errno.ELOOP)
    if fd != fc.AT_FDCWD and not name.startswith(b"/"):
        name = b"/dev/fd/%d" % fd + (b"/" + name if name else b"")
    return execute(task, found, name, *read_arguments(task, argv, envp))


ROWS: Final = (
    Row("execve", sys_execve, "path argv envp"),
    Row("execveat", sys_execveat, "dirfd path argv envp flags"),
)
