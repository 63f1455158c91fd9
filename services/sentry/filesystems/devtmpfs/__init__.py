"""devtmpfs: /dev as a tmpfs that starts with the sandbox's device nodes and the usual links and directories."""

from __future__ import annotations

import os
import stat as stat_mod
from typing import TYPE_CHECKING, Final

from services.sentry.devices.registry import DEVICES
from services.sentry.devices.terminal.terminals import Terminals
from services.sentry.filesystems.tmpfs import TmpfsSuperblock
from services.sentry.kernel.credentials import Credentials

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.superblock import Superblock

__all__ = ["make", "populate"]

LINKS: Final = (
    (b"core", b"/proc/kcore"),
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
)
DIRECTORIES: Final = ((b"pts", 0o755), (b"shm", 0o1777), (b"mqueue", 0o1777))
CONSOLE: Final = (5, 1, True)
TTY_GROUP: Final = 5


def make(kernel: Kernel, source: bytes, flags: int, options: bytes) -> Superblock:
    """A new instance, filled. Options as tmpfs(5). EINVAL: a bad one."""
    superblock = TmpfsSuperblock(kernel, source or b"devtmpfs", flags, options or b"mode=755", b"devtmpfs")
    populate(superblock, kernel)
    return superblock


def populate(superblock: TmpfsSuperblock, kernel: Kernel) -> None:
    """Make the nodes of devices/registry.py, the console only where there is one, links and mount points."""
    root = superblock.root.inode
    assert root is not None
    owner = Credentials.for_user(0, 0)
    has_console = kernel.part(Terminals).console is not None
    for (major, minor, is_char), device in DEVICES.items():
        if (major, minor, is_char) == CONSOLE and not has_console:
            continue
        kind = stat_mod.S_IFCHR if is_char else stat_mod.S_IFBLK
        node = root.create(device.name, kind | device.mode, owner, os.makedev(major, minor))
        if major == 5:
            node.gid = TTY_GROUP
    for name, target in LINKS:
        root.symlink(name, target, owner)
    for name, mode in DIRECTORIES:
        root.mkdir(name, mode, owner)
