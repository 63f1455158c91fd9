"""tmpfs regular files and their open descriptions; memfds are the same with seals (memfd_create(2), fcntl(2))."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import mount_h as mt
from protocol.abi import stat_h as st
from services.sentry.errors import LinuxError
from services.sentry.filesystems.tmpfs.memory_data import MAX_FILE_SIZE, MemoryData
from services.sentry.filesystems.tmpfs.node import TmpfsNode
from services.sentry.vfs.open_file import KEPT_FLAGS, Backing, OpenFile, WindowSource
from services.sentry.vfs.published import fold, revoke, revoke_writing

if TYPE_CHECKING:
    from services.sentry.filesystems.tmpfs.superblock import TmpfsSuperblock
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.path_walk import Path

__all__ = ["TmpfsFile", "TmpfsRegular"]

MOVED_MAX: Final = 256
"""Small files that may take a host descriptor each for being read and written often."""
WRITE_SEALS: Final = fc.F_SEAL_WRITE | fc.F_SEAL_FUTURE_WRITE


class TmpfsRegular(TmpfsNode):
    """`data` holds the bytes; `size` and `blocks` follow it. `seals`: F_SEAL_*, F_SEAL_SEAL alone on ordinary files.

    `shared_writable`: shared mappings that may write (told through Backing); F_SEAL_WRITE gives EBUSY then.
    `moved`: to host memory for a window's sake alone; the superblock counts these.
    """

    __slots__ = ("data", "moved", "seals", "shared_writable")

    def __init__(self, superblock: TmpfsSuperblock, mode: int, uid: int, gid: int, name: str = "tmpfs") -> None:
        super().__init__(superblock, st.S_IFREG | mode & 0o7777, uid, gid)
        self.data = MemoryData(superblock, name)
        self.seals = fc.F_SEAL_SEAL
        self.shared_writable = 0
        self.moved = False

    def refresh(self) -> None:
        if self.published:
            fold(self)
        self.data.settle()
        self.blocks = self.data.pages * 8
        self.shown[0] = None

    def stat_cell(self) -> list[bytes | None] | None:
        """None: the host counts the pages (sparse and mapped files), or guests change the times (published ones)."""
        return self.own_cell() if self.data.counts_pages and not self.published else None

    def touch_written(self) -> None:
        """After a change of contents."""
        self.size = self.data.size
        self.mtime_ns = self.ctime_ns = self.tmpfs.now()
        self.shown[0] = None

    def resize(self, size: int) -> None:
        """EPERM: a seal; EFBIG: too long."""
        old = self.data.size
        if (size < old and self.seals & fc.F_SEAL_SHRINK) or (size > old and self.seals & fc.F_SEAL_GROW):
            raise LinuxError(errno.EPERM)
        if size > MAX_FILE_SIZE:
            raise LinuxError(errno.EFBIG)
        if self.published:
            revoke(self)
        self.data.truncate(size)
        self.touch_written()

    def check_write(self, end: int) -> None:
        """EPERM: a seal forbids writing up to `end`."""
        if self.seals & WRITE_SEALS or (self.seals & fc.F_SEAL_GROW and end > self.size):
            raise LinuxError(errno.EPERM)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        """fallocate(2): KEEP_SIZE and PUNCH_HOLE only, as Linux tmpfs. EOPNOTSUPP, EPERM (seals), ENOSPC, EFBIG."""
        if mode & ~(fc.FALLOC_FL_KEEP_SIZE | fc.FALLOC_FL_PUNCH_HOLE):
            raise LinuxError(errno.EOPNOTSUPP)
        if mode & fc.FALLOC_FL_PUNCH_HOLE:
            if self.seals & WRITE_SEALS:
                raise LinuxError(errno.EPERM)
            if self.published:
                revoke(self)
            self.data.punch(offset, length)
        else:
            if self.seals & fc.F_SEAL_GROW and offset + length > self.size:
                raise LinuxError(errno.EPERM)
            if offset + length > MAX_FILE_SIZE:
                raise LinuxError(errno.EFBIG)
            self.data.allocate(offset, length, bool(mode & fc.FALLOC_FL_KEEP_SIZE))
        self.touch_written()

    def add_seals(self, seals: int) -> None:
        """fcntl(F_ADD_SEALS). EPERM: sealed against it; EBUSY: F_SEAL_WRITE while writable mappings exist."""
        if self.seals & fc.F_SEAL_SEAL:
            raise LinuxError(errno.EPERM)
        if seals & fc.F_SEAL_WRITE and self.shared_writable:
            raise LinuxError(errno.EBUSY)
        self.seals |= seals

    def count_writable(self, change: int) -> None:
        """A shared mapping that may be written came (1) or went (-1)."""
        self.shared_writable += change

    def release_last_link(self) -> None:
        self.data.release()
        if self.moved:
            self.tmpfs.moved -= 1
        super().release_last_link()

    def open_data(self, flags: int) -> OpenFile:
        return TmpfsFile(self, flags)

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return TmpfsFile(self, flags)


class TmpfsFile(OpenFile):
    """`fresh`: reading may have to update the access time (decided at the first read, see mount(2) MS_RELATIME)."""

    __slots__ = ("data", "fresh", "node")

    seekable = True

    def __init__(self, inode: TmpfsRegular, flags: int, path: Path | None = None) -> None:
        # The base class's fields, set here because every frame of an open counts; the queue is the superblock's,
        # since a regular file never changes readiness.
        self.inode = inode
        self.node = inode
        self.data = inode.data
        self.flags = flags & KEPT_FLAGS
        mode = flags & 3
        self.readable = mode != 1
        self.writable = mode != 0
        self.path = path
        self.offset = 0
        self.refs = 0
        self.queue = inode.tmpfs.quiet_queue
        self.async_owner = None
        self.async_entry = None
        self.locks_owner = None
        self.epoll_links = None
        self.fresh = not flags & fc.O_NOATIME
        inode.open_files += 1
        if mode:
            inode.writers += 1
            if inode.published:
                revoke_writing(inode)

    def _accessed(self) -> None:
        """Linux's relatime: the access time moves when it is not later than the last change."""
        path = self.path
        inode = self.inode
        if inode.published:
            fold(inode)
        if path is not None and path.mount.flags & mt.MS_NOATIME:
            self.fresh = False
        elif inode.atime_ns <= inode.mtime_ns or inode.atime_ns <= inode.ctime_ns:
            inode.atime_ns = self.node.tmpfs.now()
            inode.shown[0] = None

    # --- reading ---
    def read(self, count: int) -> bytes:
        data = self.pread(count, self.offset)
        self.offset += len(data)
        return data

    def pread(self, count: int, offset: int) -> bytes:
        inode = self.inode
        if self.fresh and (inode.atime_ns <= inode.mtime_ns or inode.atime_ns <= inode.ctime_ns or inode.published):
            self._accessed()
        return self.data.read(offset, count)

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        inode = self.inode
        if self.fresh and (inode.atime_ns <= inode.mtime_ns or inode.atime_ns <= inode.ctime_ns or inode.published):
            self._accessed()
        done = self.data.read_to(mm, addr, count, self.offset)
        self.offset += done
        return done

    def pread_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        inode = self.inode
        if self.fresh and (inode.atime_ns <= inode.mtime_ns or inode.atime_ns <= inode.ctime_ns or inode.published):
            self._accessed()
        return self.data.read_to(mm, addr, count, offset)

    # --- writing ---
    def write(self, data: bytes | memoryview) -> int:
        offset = self.data.size if self.flags & fc.O_APPEND else self.offset
        done = self.pwrite(data, offset)
        self.offset = offset + done
        return done

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        node = self.node
        if node.seals & ~fc.F_SEAL_SEAL:
            node.check_write(offset + len(data))
        done = self.data.write(data, offset)
        if done:
            node.touch_written()
        return done

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        offset = self.data.size if self.flags & fc.O_APPEND else self.offset
        done = self.pwrite_user(mm, addr, count, offset)
        self.offset = offset + done
        return done

    def pwrite_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        node = self.node
        if node.seals & ~fc.F_SEAL_SEAL:
            node.check_write(offset + count)
        data = self.data
        done = data.write_from(mm, addr, count, offset)
        node.shown[0] = None
        if done:
            node.size = data.size
            node.mtime_ns = node.ctime_ns = node.tmpfs.now()
        return done

    # --- position and length ---
    def seek(self, offset: int, whence: int) -> int:
        if whence == fc.SEEK_SET:
            pass
        elif whence == fc.SEEK_CUR:
            offset += self.offset
        elif whence == fc.SEEK_END:
            offset += self.data.size
        elif whence in (fc.SEEK_DATA, fc.SEEK_HOLE):
            offset = self.data.seek(offset, whence)
        else:
            raise LinuxError(errno.EINVAL)
        if not 0 <= offset <= MAX_FILE_SIZE:
            raise LinuxError(errno.EINVAL)
        self.offset = offset
        return offset

    def truncate(self, size: int) -> None:
        self.node.resize(size)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        self.node.allocate(mode, offset, length)

    def sync(self) -> None:
        """There is no storage behind it."""

    def mmap_backing(self) -> Backing:
        """Moves the contents to host memory. `max_prot_write` is false on a file sealed against writing."""
        node = self.node
        node.shown[0] = None  # from now on the host counts the pages
        return Backing(self.data.export(), 0, not node.seals & WRITE_SEALS, node, node.count_writable)

    def window_source(self) -> WindowSource | None:
        """Moves the contents to host memory. For reading alone if seals may be put on it: nobody could take a mapping
        away from who has it.
        """
        node, data = self.node, self.data
        if not data.size or not data.dense or data.holes:
            return None
        host = data.host
        if host is None:
            superblock = node.tmpfs
            if superblock.moved >= MOVED_MAX:
                return None
            try:
                host = data.to_host()
            except LinuxError:
                return None
            node.moved = True
            superblock.moved += 1
        keeps_reads = self.fresh and not (self.path is not None and self.path.mount.flags & mt.MS_NOATIME)
        return WindowSource(host.fd, data.size, node.seals == fc.F_SEAL_SEAL, node, keeps_reads)
