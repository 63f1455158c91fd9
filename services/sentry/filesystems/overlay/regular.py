"""Regular files of an overlay: the data lies in the lower until it is first to be changed, then in the upper.

Copy-up happens when a lower file is opened for writing or truncated. The data goes in large
pieces from the donated host fd to the upper's memory file (small files through the file objects): holes stay holes, a
truncation copies only what remains. An open file follows its inode: descriptors that were opened on the lower read the
new data after a copy-up (Linux keeps them on the old file: overlayfs.rst "Non-standard behavior"). Only memory
mappings that were made before keep showing the lower's pages.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from protocol.abi import fcntl_h as fc
from services.sentry.errors import LinuxError
from services.sentry.filesystems.overlay.node import OverlayInode
from services.sentry.filesystems.overlay.open_regular import OverlayFile
from services.sentry.vfs.inode import NOT_SHOWN, Donated, Inode

if TYPE_CHECKING:
    from services.sentry.filesystems.overlay.superblock import OverlaySuperblock
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["OverlayRegular"]

PIECE_BYTES = 256 * 1024  # a copy-up moves so much at a time: it stays in the second-level cache
DIRECT_BYTES = 1 << 20  # from here on host fds are used on both sides
_ZEROS = bytes(PIECE_BYTES)


class OverlayRegular(OverlayInode):
    """`upper`: the upper inode that holds the data, None while the lower does. `opens`: files open on the lower, which
    take themselves out when they are released."""

    __slots__ = ("opens", "upper")

    def __init__(self, overlay: OverlaySuperblock, ino: int, lower: Inode | None, mode: int = 0) -> None:
        self.upper: Inode | None = None
        super().__init__(overlay, ino, lower, mode)
        self.opens: dict[OverlayFile, None] | None = None

    def __del__(self) -> None:
        """Without names, users and open files the data goes, whoever forgot to say so."""
        if getattr(self, "upper", None) is not None:
            with suppress(Exception):
                self.release_last_link()

    # --- attributes ---
    def donated(self) -> Donated | None:
        """The lower's, as long as the data lies there."""
        return self.lower.donated() if self.upper is None and self.lower is not None else None

    @property
    def size(self) -> int:
        """Bytes; always that of the data, since writes go past this inode and appending needs it."""
        upper = self.upper
        return self._size if upper is None else upper.size

    @size.setter
    def size(self, value: int) -> None:
        self._size = value

    def refresh(self) -> None:
        upper = self.upper
        if upper is None:
            super().refresh()
            return
        upper.refresh()
        self.blocks = upper.blocks
        self.mode = upper.mode  # a write may have cleared set-user-id
        self.atime_ns = upper.atime_ns
        self.mtime_ns = upper.mtime_ns
        self.ctime_ns = upper.ctime_ns
        self.shown[0] = None

    def stat_cell(self) -> list[bytes | None] | None:
        """Shared with the upper inode that holds the data, because its files change that inode's attributes."""
        upper = self.upper
        if upper is None:
            return super().stat_cell()
        cell = upper.stat_cell()
        self.shown = NOT_SHOWN if cell is None else cell
        return cell

    def set_attributes(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
    ) -> None:
        """As Inode.set_attributes. Only a size makes the data go up, and then no more of it than stays."""
        if size is not None and self.upper is None:
            self.copy_up(size)
        if self.upper is None:
            super().set_attributes(mode=mode, uid=uid, gid=gid, atime_ns=atime_ns, mtime_ns=mtime_ns, ctime_ns=ctime_ns)
            return
        if ctime_ns is None:
            ctime_ns = self.overlay.now()
        if size is not None and mtime_ns is None:
            mtime_ns = ctime_ns  # a truncation to the size it has counts as well (open(2), O_TRUNC)
        self.upper.set_attributes(
            mode=mode, uid=uid, gid=gid, size=size, atime_ns=atime_ns, mtime_ns=mtime_ns, ctime_ns=ctime_ns
        )
        if uid is not None:
            self.uid = uid
        if gid is not None:
            self.gid = gid
        self.shown[0] = None
        self.refresh()

    def touch_ctime(self) -> None:
        if self.upper is None:
            super().touch_ctime()
            return
        self.ctime_ns = self.overlay.now()
        self.upper.set_attributes(ctime_ns=self.ctime_ns)
        self.shown[0] = None

    # --- data ---
    def store(self) -> None:
        """Make the upper inode that holds the data, with this file's attributes. ENOSPC: the upper is full."""
        self.upper = self.overlay.new_data(self.mode)
        self.upper.set_attributes(
            uid=self.uid, gid=self.gid, atime_ns=self.atime_ns, mtime_ns=self.mtime_ns, ctime_ns=self.ctime_ns
        )

    def copy_up(self, limit: int | None = None) -> None:
        """Move the data (its first `limit` bytes) up and switch every open file over. ENOSPC, EIO: unchanged."""
        self.own()
        lower = cast(Inode, self.lower)
        upper = self.overlay.new_data(self.mode)
        try:
            size = self.size if limit is None else min(limit, self.size)
            if size:
                self._copy(lower, upper, size)
            upper.set_attributes(
                mode=self.mode & 0o7777,
                uid=self.uid,
                gid=self.gid,
                size=size,
                atime_ns=self.atime_ns,
                mtime_ns=self.mtime_ns,
                ctime_ns=self.ctime_ns,
            )
        except LinuxError:
            self.overlay.drop_data(upper)
            raise
        if self.xattrs is None:
            self._own_xattrs()
        self.upper = upper
        self.blocks = upper.blocks
        self.shown[0] = None
        opens, self.opens = self.opens, None
        for file in opens or ():
            file.switch(upper.open_data(file.flags))

    def _copy(self, lower: Inode, upper: Inode, size: int) -> None:
        """The first `size` bytes, holes left out."""
        source = lower.open_data(fc.O_RDONLY).add_reference()
        sink = upper.open_data(fc.O_WRONLY).add_reference()
        try:
            sparse = lower.blocks * 512 < size
            if size >= DIRECT_BYTES and self._copy_directly(source, sink, upper, size, sparse):
                return
            at = 0
            while at < size:
                if sparse:
                    at = _next_data(source, at, size)
                data = source.pread(min(PIECE_BYTES, size - at), at)
                if not data:
                    break  # the host made it shorter meanwhile
                if data != _ZEROS[: len(data)]:
                    _write_all(sink, data, at)
                at += len(data)
        finally:
            source.close_reference()
            sink.close_reference()

    def _copy_directly(self, source: OpenFile, sink: OpenFile, upper: Inode, size: int, sparse: bool) -> bool:
        """From host fd to host fd. False: one of the two has none. ENOSPC: the upper has not enough room."""
        try:
            below = source.mmap_backing()
            room = upper.superblock.statfs()
            if room.blocks and room.blocks_available * upper.superblock.block_size < min(size, self.blocks * 512):
                raise LinuxError(errno.ENOSPC, "copy-up")
            upper.set_attributes(size=size)
            above = sink.mmap_backing()
        except LinuxError as error:
            if error.errno != errno.ENODEV:
                raise
            return False
        at = 0
        try:
            while at < size:
                if sparse:
                    at = _next_data(source, at, size)
                data = os.pread(below.host_fd, min(PIECE_BYTES, size - at), below.base + at)
                if not data:
                    break  # the host made it shorter meanwhile
                view = memoryview(data)
                if data == _ZEROS[: len(data)]:
                    at += len(data)
                    continue
                while view:
                    done = os.pwrite(above.host_fd, view, above.base + at)
                    view = view[done:]
                    at += done
        except OSError as error:
            raise LinuxError(error.errno or errno.EIO, "copy-up") from None
        upper.refresh()
        return True

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return self.open_data(flags)

    def open_data(self, flags: int) -> OpenFile:
        """A file on the data where it lies now; opening for writing copies up first. ENOSPC: the upper is full."""
        if self.upper is None:
            if self.lower is None:
                raise LinuxError(errno.ESTALE, "the last name and user of this file went")
            if flags & fc.O_ACCMODE == fc.O_RDONLY:
                file = OverlayFile(self, flags, self.lower.open_data(flags))
                opens = self.opens
                if opens is None:
                    opens = self.opens = {}
                opens[file] = None
                return file
            self.copy_up(0 if flags & fc.O_TRUNC else None)
        upper = self.upper
        assert upper is not None
        return OverlayFile(self, flags, upper.open_data(flags))

    def release_last_link(self) -> None:
        upper, self.upper = self.upper, None
        if upper is not None:
            self.overlay.drop_data(upper)


def _write_all(sink: OpenFile, data: bytes, at: int) -> None:
    """ENOSPC where the sink takes nothing more."""
    view = memoryview(data)
    while view:
        done = sink.pwrite(view, at)
        if done <= 0:
            raise LinuxError(errno.ENOSPC, "copy-up")
        view = view[done:]
        at += done


def _next_data(source: OpenFile, at: int, size: int) -> int:
    """Where the next data of a sparse file begins (lseek(2), SEEK_DATA on its host fd), or `at` if nobody can tell."""
    try:
        backing = source.mmap_backing()
        return min(os.lseek(backing.host_fd, at + backing.base, os.SEEK_DATA) - backing.base, size)
    except OSError as error:
        return size if error.errno == errno.ENXIO else at
    except LinuxError:
        return at
