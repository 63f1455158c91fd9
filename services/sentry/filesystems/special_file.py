"""Opening what is not a regular file, directory or link: the Sentry's own FIFOs and devices, wherever the node lies.

A node on a host tree only names a kind and a number. Opening it never reaches the host: two sandboxes that show the
same FIFO do not talk through it, and a device number means the sandbox's device (fifo(7), mknod(2)).
"""

from __future__ import annotations

import errno
import stat as stat_mod
from typing import TYPE_CHECKING

from services.sentry.devices.registry import open_device
from services.sentry.errors import LinuxError
from services.sentry.files.pipe import open_fifo

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["open_special"]


def open_special(inode: Inode, dentry: Dentry, flags: int, task: Task) -> OpenFile:
    """ENXIO: a socket, or a device the sandbox does not have. ELOOP: a symbolic link (O_NOFOLLOW without O_PATH)."""
    kind = inode.mode & 0o170000
    if kind == stat_mod.S_IFIFO:
        return open_fifo(inode, flags, task)
    if kind in (stat_mod.S_IFCHR, stat_mod.S_IFBLK):
        return open_device(inode, dentry, flags, task)
    raise LinuxError(errno.ELOOP if kind == stat_mod.S_IFLNK else errno.ENXIO)
