"""Device numbers to openers: what open(2) of a character device node leads to, on whatever file system the node is.

Owns the literal table and nothing else. A file system whose inode is a device node returns `open_device(...)` from its
`Inode.open`. There are no block devices in a sandbox.
"""

from __future__ import annotations

import errno
import os
import stat as stat_mod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from services.sentry.devices import kmsg, null_zero, random_bytes
from services.sentry.devices.terminal import openers as terminals
from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["DEVICES", "Device", "Opener", "find", "open_device"]

Opener = Callable[["Inode", "Dentry", int, "Task"], "OpenFile"]


class Device(NamedTuple):
    """One character device: its usual name below /dev, its usual permission bits, how it is opened."""

    name: bytes
    mode: int
    opener: Opener


# (major, minor, is a character device) -> device. Numbers: Linux Documentation/admin-guide/devices.txt.
DEVICES: Final[Mapping[tuple[int, int, bool], Device]] = {
    (1, 3, True): Device(b"null", 0o666, null_zero.open_null),
    (1, 5, True): Device(b"zero", 0o666, null_zero.open_zero),
    (1, 7, True): Device(b"full", 0o666, null_zero.open_full),
    (1, 8, True): Device(b"random", 0o666, random_bytes.open_random),
    (1, 9, True): Device(b"urandom", 0o666, random_bytes.open_random),
    (1, 11, True): Device(b"kmsg", 0o644, kmsg.open_kmsg),
    (5, 0, True): Device(b"tty", 0o666, terminals.open_controlling),
    (5, 1, True): Device(b"console", 0o600, terminals.open_console),
    (5, 2, True): Device(b"ptmx", 0o666, terminals.open_ptmx),
}


def find(rdev: int, is_char: bool) -> Device:
    """The device of a number. ENXIO: no such device (open(2))."""
    device = DEVICES.get((os.major(rdev), os.minor(rdev), is_char))
    if device is None:
        raise LinuxError(errno.ENXIO, f"device {os.major(rdev)}:{os.minor(rdev)}")
    return device


def open_device(inode: Inode, dentry: Dentry, flags: int, task: Task) -> OpenFile:
    """An open file of the device that `inode` (a device node) names. ENXIO: no such device."""
    return find(inode.rdev, stat_mod.S_ISCHR(inode.mode)).opener(inode, dentry, flags, task)
