"""/dev/kmsg: the sandbox's own kernel log, one record per read (Linux Documentation/ABI/testing/dev-kmsg).

Records are made at open: a short boot story of the sandbox itself, nothing of the host. Writes go to `kernel.log`.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from protocol.abi import poll_h as po
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import Inode

__all__ = ["BOOT_MESSAGES", "KmsgFile", "open_kmsg"]

BOOT_MESSAGES: Final = (
    (0, 0, b"Linux version 6.12.0 (sentrio)"),
    (1500, 6, b"Command line: quiet"),
    (90000, 6, b"Calibrating delay loop... skipped"),
    (180000, 6, b"devtmpfs: initialized"),
    (250000, 6, b"random: crng init done"),
    (400000, 6, b"Run /sbin/init as init process"),
)
LINE_LIMIT: Final = 1024


class KmsgFile(OpenFile):
    """`offset` counts records."""

    __slots__ = ("records", "_log")
    pollable = True

    def __init__(self, inode: Inode, flags: int, log: object) -> None:
        super().__init__(inode, flags)
        self.records = [
            b"%d,%d,%d,-;%s\n" % (level, number, when_us, text)
            for number, (when_us, level, text) in enumerate(BOOT_MESSAGES)
        ]
        self._log = log

    def read(self, count: int) -> bytes:
        """One whole record. EINVAL: it does not fit. WouldBlock: none left."""
        if self.offset >= len(self.records):
            raise WouldBlock
        record = self.records[self.offset]
        if len(record) > count:
            raise LinuxError(errno.EINVAL, "kmsg record")
        self.offset += 1
        return record

    def write(self, data: bytes | memoryview) -> int:
        if len(data) > LINE_LIMIT:
            raise LinuxError(errno.EINVAL, "kmsg line")
        info = getattr(self._log, "info", None)
        if info is not None:
            info("guest kmsg: %s", bytes(data).rstrip(b"\n").decode("utf-8", "replace"))
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        if offset:
            raise LinuxError(errno.ESPIPE)
        if whence == os.SEEK_SET:
            self.offset = 0
        elif whence in (os.SEEK_END, os.SEEK_DATA):
            self.offset = len(self.records) if whence == os.SEEK_END else 0
        else:
            raise LinuxError(errno.EINVAL)
        return 0

    def poll(self) -> int:
        ready = po.POLLOUT | po.POLLWRNORM
        return ready | po.POLLIN | po.POLLRDNORM if self.offset < len(self.records) else ready


def open_kmsg(inode: Inode, dentry: Dentry, flags: int, task: Task) -> KmsgFile:
    return KmsgFile(inode, flags, getattr(task.kernel, "log", None))
