"""The tree that one export of local directories is: its root and numbering, and the directory fds in use.

Objects. A `Directory` is one open O_PATH directory, shared by all nodes that need it (looked up by device, inode and
mount) and counted; it knows the nodes that were reached through it by name, so that a rename through the gofer carries
them along.

Numbers: a qid path is the inode number on the export's own device; other devices mounted below get their own high bits.
"""

from __future__ import annotations

import os
from typing import Any, Final

from protocol.p9 import constants as c
from protocol.p9.attributes import Attributes
from services.gofer import host_calls_unsafe as host
from services.gofer.backends.base import MODE_DIRECTORY, MODE_SYMLINK, MODE_TYPE

__all__ = ["Directory", "Export"]

_KNOWN_DEVICES_MAX: Final = 0x7FFE
_INODE_BITS: Final = 48
_ATTRIBUTES_VALID: Final = c.GETATTR_BASIC


class Export:
    """One exported tree: its root and how its inodes are numbered.

    `file`: (O_PATH fd, name) of the one file in `root` that is exported, for an export that is no directory; attaching
    gives that file, and nothing leads from it to its directory.
    """

    __slots__ = ("_devices", "device", "file", "read_only", "root")

    def __init__(
        self, root: Directory, device: tuple[int, int], read_only: bool, file: tuple[int, bytes] | None
    ) -> None:
        self.root = root
        self.file = file
        self.device = device
        self.read_only = read_only
        self._devices: dict[tuple[int, int], int] = {}

    def path_of(self, device: tuple[int, int], ino: int) -> int:
        """The qid path of an inode; see the module docstring."""
        if device == self.device:
            return ino
        index = self._devices.get(device)
        if index is None:
            index = min(len(self._devices) + 1, _KNOWN_DEVICES_MAX)
            self._devices[device] = index
        return (ino ^ (index << _INODE_BITS)) & 0xFFFFFFFFFFFFFFFF

    def attributes(self, st: host.Statx) -> Attributes:
        """struct statx as the wire's record."""
        return Attributes._make(self.fields(st))

    def fields(self, st: tuple[int, ...]) -> tuple[int, ...]:
        """The same without names for what goes in and comes out."""
        (
            mask,
            blksize,
            _,
            nlink,
            uid,
            gid,
            mode,
            ino,
            size,
            blocks,
            _,
            atime_sec,
            atime_nsec,
            btime_sec,
            btime_nsec,
            ctime_sec,
            ctime_nsec,
            mtime_sec,
            mtime_nsec,
            rdev_major,
            rdev_minor,
            dev_major,
            dev_minor,
            _,
        ) = st
        device = (dev_major, dev_minor)
        kind = mode & MODE_TYPE
        return (
            _ATTRIBUTES_VALID | (c.GETATTR_BTIME if mask & host.STATX_BTIME else 0),
            c.QTDIR if kind == MODE_DIRECTORY else c.QTSYMLINK if kind == MODE_SYMLINK else 0,
            (ctime_sec ^ ctime_nsec << 2) & 0xFFFFFFFF,
            ino if device == self.device else self.path_of(device, ino),
            mode,
            uid,
            gid,
            nlink,
            os.makedev(rdev_major, rdev_minor) if rdev_major or rdev_minor else 0,
            size,
            blksize,
            blocks,
            atime_sec,
            atime_nsec,
            mtime_sec,
            mtime_nsec,
            ctime_sec,
            ctime_nsec,
            btime_sec,
            btime_nsec,
            0,
            0,
        )


class Directory:
    """One O_PATH directory fd, counted. `children`: live nodes by the name they were reached under."""

    __slots__ = ("children", "fd", "key", "refs", "table")

    def __init__(
        self, fd: int, key: tuple[int, int, int, int], table: dict[tuple[int, int, int, int], Directory]
    ) -> None:
        self.fd = fd
        self.key = key
        self.refs = 1
        self.children: dict[bytes, list[Any]] = {}  # HostNode
        self.table = table
        table[key] = self

    def drop(self) -> None:
        """Give one reference up."""
        self.refs -= 1
        if not self.refs:
            if self.table.get(self.key) is self:
                del self.table[self.key]
            os.close(self.fd)

    def adopt(self, fd: int, st: host.Statx) -> Directory:
        """The directory behind the O_PATH `fd` (which is taken over): the one already held, or a new one."""
        key = (st.dev_major, st.dev_minor, st.ino, st.mnt_id)
        known = self.table.get(key)
        if known is None:
            return Directory(fd, key, self.table)
        os.close(fd)
        known.refs += 1
        return known
