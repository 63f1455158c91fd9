"""Anonymous host memory behind a file: a memfd, its mapping into this process, and its holes.

Owns the descriptor and the mapping; knows nothing of inodes or quotas. `ensure` makes bytes reachable, `resize` cuts.
While no guest maps it the host file is longer than the guest's, so that growing rarely costs a host call; from
`make_exact` on both lengths agree, so that a guest's access beyond the end faults as it must.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

__all__ = ["HOST_SYSCALLS", "HostMemory"]

HOST_SYSCALLS: Final = (
    ("memfd_create", "the memory of a file that is mapped, sparse or large"),
    ("ftruncate", "its length"),
    ("mmap", "reaching it without a copy"),
    ("fcntl", "F_DUPFD_CLOEXEC: the interpreter's mmap holds a descriptor of its own"),
    ("munmap", "letting go of an outgrown mapping"),
    ("madvise", "MADV_REMOVE: punching holes"),
    ("fallocate", "reserving pages (posix_fallocate)"),
    ("fstat", "how many pages are in use"),
    ("lseek", "SEEK_DATA and SEEK_HOLE"),
    ("pread64", "reading sparse or very large files without filling their holes"),
    ("pwrite64", "writing very large files"),
    ("close", "the end of the file"),
)

PAGE: Final = 4096
MAP_LIMIT: Final = 1 << 32
"""Files up to this length are mapped into the Sentry; longer ones are read and written by call."""
MADV_REMOVE: Final = 9


class HostMemory:
    """fd; `map` (None: not mapped) covers bytes [0, map_length); `length` is the host file's."""

    __slots__ = ("exact", "fd", "length", "map", "map_length")

    def __init__(self, name: str) -> None:
        """OSError: the host gives no memory or descriptor."""
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC)
        self.length = 0
        self.map: mmap.mmap | None = None
        self.map_length = 0
        self.exact = False

    def __del__(self) -> None:
        fd = getattr(self, "fd", -1)
        if fd >= 0:
            os.close(fd)

    def ensure(self, end: int) -> None:
        """Bytes up to `end` exist and, below MAP_LIMIT, are mapped."""
        if end > self.map_length:
            if end > MAP_LIMIT:
                self.map = None
                self.map_length = 0
            else:
                target = min(max(2 * self.map_length, -(-end // PAGE) * PAGE, 1 << 16), MAP_LIMIT)
                os.ftruncate(self.fd, max(target, self.length))
                self.map = mmap.mmap(self.fd, target, mmap.MAP_SHARED)
                self.map_length = target
                if self.exact:
                    os.ftruncate(self.fd, max(end, self.length))
                    self.length = max(end, self.length)
                else:
                    self.length = max(target, self.length)
                return
        if end > self.length:
            self.length = end if self.exact or not self.map_length else self.map_length
            os.ftruncate(self.fd, self.length)

    def resize(self, size: int) -> None:
        """Cut or extend to exactly `size`; what was beyond is gone, a later extension reads as zeros."""
        os.ftruncate(self.fd, size)
        self.length = size

    def make_exact(self, size: int) -> None:
        """From now on the host file is as long as the guest's."""
        if not self.exact:
            self.exact = True
            self.resize(size)

    def read(self, offset: int, end: int, dense: bool) -> bytes:
        """Bytes [offset, end), which exist. Reading a hole through the mapping would allocate it, hence `dense`."""
        if dense and self.map is not None and end <= self.map_length:
            return self.map[offset:end]
        return os.pread(self.fd, end - offset, offset)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Store `data` at `offset`; `ensure` was called."""
        end = offset + len(data)
        if self.map is not None and end <= self.map_length:
            self.map[offset:end] = data
            return
        done = 0
        view = memoryview(data)
        while done < len(view):
            done += os.pwrite(self.fd, view[done:], offset + done)

    def punch(self, offset: int, end: int) -> None:
        """Free [offset, end), page-aligned and inside the file: it reads as zeros."""
        if self.map is not None and end <= self.map_length:
            self.map.madvise(MADV_REMOVE, offset, end - offset)
            return
        window = mmap.mmap(self.fd, end - offset, mmap.MAP_SHARED, offset=offset)
        window.madvise(MADV_REMOVE)
        window.close()

    def reserve(self, offset: int, end: int) -> None:
        """Allocate the pages of [offset, end). OSError: no memory."""
        os.posix_fallocate(self.fd, offset, end - offset)

    def pages(self) -> int:
        """Pages in use."""
        return os.fstat(self.fd).st_blocks // 8

    def seek(self, offset: int, whence: int) -> int:
        """SEEK_DATA, SEEK_HOLE. OSError(ENXIO): none."""
        return os.lseek(self.fd, offset, whence)
