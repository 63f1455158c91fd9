"""Open directories: getdents64(2), lseek(2) on a directory. One class for every file system.

The entries are listed once, when reading starts at 0, and served from that list: what is added or removed meanwhile may
or may not show (readdir(3)), and a large directory costs linear time over all calls. Cookies: 0 '.', 1 '..', then those
of the file system plus 2.
"""

from __future__ import annotations

import errno
from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING

from protocol.abi import fcntl_h as fc
from protocol.abi.dirent_h import DT_DIR
from services.sentry.errors import LinuxError
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import DirectoryEntry, Inode

__all__ = ["DirectoryFile"]

MAX_OFFSET = 0x7FFFFFFFFFFFFFFF


class DirectoryFile(OpenFile):
    """offset: the cookie of the next entry."""

    __slots__ = ("cookies", "dentry", "listing")

    def __init__(self, inode: Inode, flags: int, dentry: Dentry) -> None:
        super().__init__(inode, flags)
        self.dentry = dentry
        self.listing: list[DirectoryEntry] | None = None
        self.cookies: list[int] = []

    def _list(self) -> list[DirectoryEntry]:
        inode = self.inode
        inode.refresh()
        parent = self.dentry.parent.inode or inode
        listing: list[DirectoryEntry] = [(b".", inode.ino, DT_DIR), (b"..", parent.ino, DT_DIR)]
        cookies = [0, 1]
        at = 0
        for cookie, entry in inode.entries(0):
            listing.append(entry)
            cookies.append(at + 2)
            at = cookie
        cookies.append(at + 2)
        self.listing, self.cookies = listing, cookies
        return listing

    def read_entries(self) -> Iterator[tuple[int, DirectoryEntry]]:
        """Entries from `offset` on. ENOENT: the directory was removed."""
        if self.dentry.deleted:
            raise LinuxError(errno.ENOENT)
        listing = self.listing
        if listing is None or self.offset == 0:
            listing = self._list()
        first = bisect_left(self.cookies, self.offset, 0, len(listing))
        return zip(self.cookies[first + 1 :], listing[first:], strict=True)

    def seek(self, offset: int, whence: int) -> int:
        if whence == fc.SEEK_CUR:
            offset += self.offset
        elif whence != fc.SEEK_SET:
            raise LinuxError(errno.EINVAL)
        if not 0 <= offset <= MAX_OFFSET:
            raise LinuxError(errno.EINVAL)
        if offset == 0:
            self.listing = None
        self.offset = offset
        return offset

    def read(self, count: int) -> bytes:
        raise LinuxError(errno.EISDIR)

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        raise LinuxError(errno.EISDIR)

    def pread(self, count: int, offset: int) -> bytes:
        raise LinuxError(errno.EISDIR)

    def pread_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        raise LinuxError(errno.EISDIR)

    def sync(self) -> None:
        """Nothing is delayed."""

    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        raise LinuxError(errno.ENOTTY)
