"""Open directories: getdents64(2), lseek(2) on a directory. One class for every file system.

The entries are listed once, when reading starts at 0, and served from that list: what is added or removed meanwhile may
or may not show (readdir(3)), and a large directory costs linear time over all calls. A file system that tells of
every change keeps the list with the inode (`Inode.keep_listing`), for the next who reads the directory. Cookies: 0 '.',
1 '..', then those of the file system plus 2.
"""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from protocol.abi import fcntl_h as fc
from protocol.abi.dirent_h import DT_DIR, pack_dirent64
from services.sentry.errors import LinuxError
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import DirectoryEntry, Inode

__all__ = ["DirectoryFile", "Listing"]

MAX_OFFSET = 0x7FFFFFFFFFFFFFFF
KEPT = 64
"""Listings that the directories of one superblock keep: those made last."""


class Listing:
    """What a directory shows, '.' and '..' included: `entries`, and the same as struct linux_dirent64 in `packed`.

    cookies  the position of each entry, and that of the end
    ends     where each entry's record ends in `packed`
    """

    __slots__ = ("cookies", "ends", "entries", "packed", "parent_ino")

    def __init__(self, inode: Inode, parent_ino: int) -> None:
        self.parent_ino = parent_ino
        found = list(inode.entries(0))
        self.entries: list[DirectoryEntry] = [(b".", inode.ino, DT_DIR), (b"..", parent_ino, DT_DIR)]
        self.entries += [entry for _, entry in found]
        self.cookies = [0, 1, 2]
        self.cookies += [cookie + 2 for cookie, _ in found]
        following = self.cookies[1:]
        records = [
            pack_dirent64(ino, then, kind, name)
            for (name, ino, kind), then in zip(self.entries, following, strict=True)
        ]
        self.packed = b"".join(records)
        self.ends = list(accumulate(map(len, records)))


class DirectoryFile(OpenFile):
    """offset: the cookie of the next entry."""

    __slots__ = ("dentry", "listing")

    def __init__(self, inode: Inode, flags: int, dentry: Dentry) -> None:
        super().__init__(inode, flags)
        self.dentry = dentry
        self.listing: Listing | None = None

    def _list(self) -> Listing:
        """What is read from `offset` on. ENOENT: the directory was removed."""
        if self.dentry.deleted:
            raise LinuxError(errno.ENOENT)
        listing = self.listing
        if listing is not None and self.offset:
            return listing
        inode = self.inode
        parent_ino = (self.dentry.parent.inode or inode).ino
        listing = inode.listing
        if listing is None or listing.parent_ino != parent_ino:
            inode.refresh()
            listing = Listing(inode, parent_ino)
            if inode.keep_listing(listing):
                listed = inode.superblock.listed
                listed.append(inode)
                if len(listed) > KEPT:
                    listed.popleft().keep_listing(None)
        self.listing = listing
        return listing

    def read_entries(self) -> Iterator[tuple[int, DirectoryEntry]]:
        """Entries from `offset` on. ENOENT: the directory was removed."""
        listing = self._list()
        entries, cookies = listing.entries, listing.cookies
        first = bisect_left(cookies, self.offset, 0, len(entries))
        return zip(cookies[first + 1 :], entries[first:], strict=True)

    def read_packed(self, room: int) -> tuple[bytes, int]:
        """As OpenFile.read_packed. ENOENT: the directory was removed."""
        listing = self._list()
        ends = listing.ends
        first = bisect_left(listing.cookies, self.offset, 0, len(ends))
        if first == len(ends):
            return b"", self.offset
        start = ends[first - 1] if first else 0
        stop = bisect_right(ends, start + room, first)
        if stop == first:
            raise LinuxError(errno.EINVAL)
        return listing.packed[start : ends[stop - 1]], listing.cookies[stop]

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
