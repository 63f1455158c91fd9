"""Open regular files of an overlay: the overlay's inode and path outside, the layer's own file object inside.

The data methods are the inner file's. A copy-up exchanges the inner file (`switch`), position and flags included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sentry.vfs.open_file import KEPT_FLAGS, OpenFile, WindowSource
from services.sentry.vfs.published import revoke

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.sentry.filesystems.overlay.regular import OverlayRegular
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.open_file import Backing

__all__ = ["OverlayFile"]


class OverlayFile(OpenFile):
    """See the module docstring. Owns one reference on the inner file."""

    __slots__ = ("_gave_backing", "_inner", "_mapped", "_moved")

    seekable = True

    def __init__(self, inode: OverlayRegular, flags: int, inner: OpenFile) -> None:
        # The base class's fields (but the position), as in TmpfsFile: every frame of an open counts.
        inner.refs += 1
        self._inner = inner
        self._gave_backing = False
        self._mapped: list[OpenFile] | None = None
        self._moved: Callable[[], None] | None = None
        self.inode = inode
        self.flags = flags & KEPT_FLAGS
        mode = flags & 3
        self.readable = mode != 1
        self.writable = mode != 0
        self.path = None
        self.refs = 0
        self.queue = inner.queue
        self.async_owner = None
        self.async_entry = None
        self.locks_owner = None
        self.epoll_links = None
        inode.open_files += 1
        if mode:
            inode.writers += 1

    # --- the data: the inner file's ---
    def read(self, count: int) -> bytes:
        return self._inner.read(count)

    def write(self, data: bytes | memoryview) -> int:
        return self._inner.write(data)

    def pread(self, count: int, offset: int) -> bytes:
        return self._inner.pread(count, offset)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        return self._inner.pwrite(data, offset)

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int | None:
        return self._inner.read_user(mm, addr, count)

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        return self._inner.write_user(mm, addr, count)

    def pread_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        return self._inner.pread_user(mm, addr, count, offset)

    def pwrite_user(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        return self._inner.pwrite_user(mm, addr, count, offset)

    def seek(self, offset: int, whence: int) -> int:
        return self._inner.seek(offset, whence)

    def truncate(self, size: int) -> None:
        self._inner.truncate(size)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        self._inner.allocate(mode, offset, length)

    def sync(self) -> None:
        self._inner.sync()

    def poll(self) -> int:
        return self._inner.poll()

    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        return self._inner.ioctl(task, request, arg)

    def mmap_backing(self) -> Backing:
        backing = self._inner.mmap_backing()
        self._gave_backing = True
        return backing

    def window_source(self) -> WindowSource | None:
        return self._inner.window_source()

    def fdinfo(self) -> bytes:
        return self._inner.fdinfo()

    @property
    def offset(self) -> int:
        """The position, which is the inner file's."""
        return self._inner.offset

    @offset.setter
    def offset(self, value: int) -> None:
        self._inner.offset = value

    def when_moved(self, call: Callable[[], None]) -> None:
        self._moved = call

    def switch(self, inner: OpenFile) -> None:
        """Go on with `inner`, at the same position. A file that gave a backing stays open: mappings use its host fd."""
        moved, self._moved = self._moved, None
        if moved is not None:
            moved()
        if self.inode.published:
            revoke(self.inode)
        old = self._inner
        inner.offset = old.offset
        self._inner = inner.add_reference()
        if self._gave_backing:
            self._gave_backing = False
            self._mapped = [*(self._mapped or ()), old]
        else:
            old.close_reference()

    def set_flags(self, flags: int) -> None:
        self.flags = flags
        self._inner.set_flags(flags)

    def release(self) -> None:
        opens = self.inode.opens  # type: ignore[attr-defined]
        if opens is not None:
            opens.pop(self, None)
        self._inner.close_reference()
        if self._mapped is not None:
            for inner in self._mapped:
                inner.close_reference()
