"""pidfd: a descriptor that refers to a process (pidfd_open(2), clone(2) CLONE_PIDFD).

Owns nothing of the process: it keeps the ThreadGroup, whose `pidfd_queue` is awakened when it becomes a zombie.
Polling shows POLLIN from then on. What can be done through it (signals, waiting, fetching descriptors) is the callers'.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from services.sentry.errors import LinuxError
from services.sentry.vfs.anonymous import anon_inode
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.thread_group import ThreadGroup

__all__ = ["PidFile", "open_pidfd", "pidfd_group"]


class PidFile(OpenFile):
    """The open file behind a pidfd. `group` stays the process it was opened for, also when its pid is used again."""

    __slots__ = ("group",)

    pollable = True
    steady = True

    def __init__(self, group: ThreadGroup, flags: int) -> None:
        super().__init__(anon_inode(group.kernel), fc.O_RDWR | (flags & fc.O_NONBLOCK))
        self.group = group
        self.queue = group.pidfd_queue

    def poll(self) -> int:
        if self.group.is_reaped:
            return po.POLLIN | po.POLLRDNORM | po.POLLHUP
        return po.POLLIN | po.POLLRDNORM if self.group.is_zombie else 0

    def proc_link(self) -> bytes:
        return b"anon_inode:[pidfd]"

    def fdinfo(self) -> bytes:
        pid = -1 if self.group.is_reaped else self.group.pid
        return b"Pid:\t%d\nNSpid:\t%d\n" % (pid, pid)


def open_pidfd(task: Task, group: ThreadGroup, flags: int = 0) -> int:
    """A new close-on-exec descriptor of `task` for `group`. EMFILE."""
    return task.files.allocate(PidFile(group, flags), cloexec=True)


def pidfd_group(task: Task, fd: int) -> ThreadGroup:
    """The process behind `fd`. EBADF: no pidfd."""
    file = task.files.get(fd)
    if not isinstance(file, PidFile):
        raise LinuxError(errno.EBADF)
    return file.group
