"""open(2) of the terminal device nodes: /dev/tty, /dev/console, /dev/ptmx (tty(4), console(4), pts(4))."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from services.sentry.devices.terminal.terminal import controlling_terminal
from services.sentry.devices.terminal.terminal_file import TerminalFile, open_terminal
from services.sentry.devices.terminal.terminals import Terminals
from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.filesystems.devpts.superblock import DevptsSuperblock
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["open_console", "open_controlling", "open_ptmx"]


def open_controlling(inode: Inode, dentry: Dentry, flags: int, task: Task) -> OpenFile:
    """/dev/tty: the controlling terminal of the caller's session. ENXIO: it has none."""
    terminal = controlling_terminal(task.group.session)
    if terminal is None:
        raise LinuxError(errno.ENXIO, "no controlling terminal")
    return TerminalFile(inode, flags, terminal)


def open_console(inode: Inode, dentry: Dentry, flags: int, task: Task) -> OpenFile:
    """/dev/console. ENODEV: the sandbox has no terminal. It never becomes the controlling terminal by itself."""
    console = task.kernel.part(Terminals).console
    if console is None:
        raise LinuxError(errno.ENODEV, "no console")
    return open_terminal(inode, flags | 0o400, task, console)  # O_NOCTTY


def open_ptmx(inode: Inode, dentry: Dentry, flags: int, task: Task) -> OpenFile:
    """A new pty; its slave appears in the devpts that the node is on, else the one at /dev/pts. ENODEV: none."""
    from services.sentry.filesystems.devpts.superblock import DevptsSuperblock

    superblock: object = inode.superblock
    if not isinstance(superblock, DevptsSuperblock):
        superblock = _mounted_at_dev_pts(task)
    if not isinstance(superblock, DevptsSuperblock):
        raise LinuxError(errno.ENODEV, "no devpts is mounted")
    return superblock.open_master(inode, flags, task)


def _mounted_at_dev_pts(task: Task) -> DevptsSuperblock | None:
    from services.sentry.filesystems.devpts.superblock import DevptsSuperblock
    from services.sentry.vfs.path_walk import walk

    try:
        found: object = walk(task, task.fs.root, b"/dev/pts").mount.superblock
    except LinuxError:
        found = None
    if isinstance(found, DevptsSuperblock):
        return found
    return task.kernel.part(Terminals).devpts
