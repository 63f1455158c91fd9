"""Open regular files of an overlay: the overlay's inode and path outside, the layer's own file object inside.

The data methods of this class are instance slots that hold the inner file's bound methods, so a read of an unmodified
lower file runs the lower's code with no frame in between. A copy-up exchanges the inner file (`switch`), position and
flags included.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from services.sentry.vfs.open_file import KEPT_FLAGS, OpenFile, WindowSource
from services.sentry.vfs.published import revoke

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.sentry.filesystems.overlay.regular import OverlayRegular

__all__ = ["OverlayFile"]

_BOUND = (
    "allocate",
    "fdinfo",
    "ioctl",
    "mmap_backing",
    "poll",
    "pread",
    "pread_user",
    "pwrite",
    "pwrite_user",
    "read",
    "read_user",
    "seek",
    "sync",
    "truncate",
    "write",
    "write_user",
)


class OverlayFile(OpenFile):
    """See the module docstring. Owns one reference on the inner file."""

    __slots__ = ("_inner", "_mapped", "_moved", *_BOUND)

    seekable = True

    def __init__(self, inode: OverlayRegular, flags: int, inner: OpenFile) -> None:
        # The base class's fields (but the position), as in TmpfsFile: every frame of an open counts.
        inner.refs += 1
        self._inner = inner
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

    def __getattr__(self, name: str) -> object:
        """A data method that is used for the first time: an empty slot leads here."""
        if name not in _BOUND:
            raise AttributeError(name)
        method = getattr(self._inner, name)
        setattr(self, name, method)
        return method

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
        mapped = _is_bound(self, "mmap_backing")
        for name in _BOUND:
            with suppress(AttributeError):
                delattr(self, name)
        self._inner = inner.add_reference()
        if mapped:
            self._mapped = [*(self._mapped or ()), old]
        else:
            old.close_reference()

    def window_source(self) -> WindowSource | None:
        return self._inner.window_source()

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


def _is_bound(file: OverlayFile, name: str) -> bool:
    """Whether a data method was used since the last `switch`."""
    try:
        object.__getattribute__(file, name)
    except AttributeError:
        return False
    return True
