"""Overlay inodes: the part that all kinds share, and symbolic links, FIFOs, sockets and device nodes.

An overlay inode stands for one file of the merged tree for as long as anything about it differs from the lower file, or
anybody uses it; its inode number never changes, not by copy-up nor by rename (what Linux calls xino). What is changed
is kept where it is cheapest, since the upper vanishes with the sandbox:

- attributes and extended attributes in this object (Linux: metacopy), never in the lower;
- the data of regular files in inodes of the upper superblock (`regular.py`);
- the shape of the tree in the directories' own maps (`directory.py`): no whiteout files, no opaque marks, no redirects.

State must outlive the dentry cache: `pin()` keeps an inode that has a lower file until its last link is gone, and the
superblock's table of wrappers leads every lookup of that lower file, through any of its names, to it.
Source: Linux Documentation/filesystems/overlayfs.rst (6.12), overlay of "Non-directories", "Metadata only copy up",
xino.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

from services.sentry.errors import LinuxError
from services.sentry.filesystems.special_file import open_special
from services.sentry.vfs.inode import NOT_SHOWN, Inode

if TYPE_CHECKING:
    from services.sentry.filesystems.overlay.superblock import OverlaySuperblock
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["OverlayInode"]

XATTR_CREATE = 1
XATTR_REPLACE = 2


class OverlayInode(Inode):
    """Base of all kinds, and itself what a symbolic link, FIFO, socket or device node is.

    lower   the lower inode shown here, or None for what was made in this overlay.
    owned   whether the attribute slots are this object's own (else they repeat the lower's).
    xattrs  all extended attributes, once one was changed here; else the lower's are shown.
    """

    __slots__ = ("lower", "overlay", "owned", "target", "xattrs")

    def __init__(self, overlay: OverlaySuperblock, ino: int, lower: Inode | None, mode: int = 0) -> None:
        # Inode.__init__ is not called: it would set every slot twice, and this is the hot part of a first lookup
        self.superblock = overlay
        self.overlay = overlay
        self.ino = ino
        self.lower = lower
        self.shown = NOT_SHOWN
        self.locks = self.pipe = self.socket = self.watches = self.published = None
        self.open_files = self.writers = self.deny_write = 0
        self.xattrs: dict[bytes, bytes] | None = None
        self.target: bytes | None = None
        if lower is None:
            self.owned = True
            self.mode = mode
            self.uid = self.gid = self.rdev = self.size = self.blocks = 0
            self.nlink = 1
            self.atime_ns = self.mtime_ns = self.ctime_ns = self.btime_ns = overlay.now()
        else:
            self.owned = False
            self.mode = lower.mode
            self._show(lower)

    def _show(self, lower: Inode) -> None:
        """Repeat the attributes of `lower` (all but the type, which cannot change)."""
        self.uid = lower.uid
        self.gid = lower.gid
        self.nlink = lower.nlink
        self.rdev = lower.rdev
        self.size = lower.size
        self.blocks = lower.blocks
        self.atime_ns = lower.atime_ns
        self.mtime_ns = lower.mtime_ns
        self.ctime_ns = lower.ctime_ns
        self.btime_ns = lower.btime_ns
        self.shown[0] = None

    def stat_cell(self) -> list[bytes | None] | None:
        """None: the lower may change by itself."""
        return self.own_cell() if (self.owned or self.overlay.lowers_fixed) and not self.published else None

    def refresh(self) -> None:
        """Repeat the lower's attributes if those may have changed under us and none was changed here."""
        if self.owned or self.overlay.lowers_fixed:
            return
        lower = cast(Inode, self.lower)
        lower.refresh()
        self.mode = self.mode & 0o170000 | lower.mode & 0o7777
        self.shown[0] = None
        self._show(lower)

    # --- state that has to stay ---
    def own(self) -> None:
        """From here on the attribute slots belong to this object."""
        if not self.owned:
            self.refresh()
            self.owned = True
            self.pin()

    def pin(self) -> None:
        """Keep this object although nobody uses it: it says more than its lower file does. Idempotent."""
        if self.lower is not None and self.nlink > 0:
            self.overlay.pinned[id(self.lower)] = self

    def linked(self) -> None:
        """One more name."""
        self.own()
        self.nlink += 1
        self.shown[0] = None
        self.touch_ctime()

    def unlinked(self) -> None:
        """One name less. Without names only open files lead here, and they hold their own reference."""
        self.own()
        self.nlink -= 1
        self.shown[0] = None
        self.touch_ctime()
        if self.nlink <= 0 and self.lower is not None:
            self.overlay.pinned.pop(id(self.lower), None)

    def touch_ctime(self) -> None:
        """The status changed now."""
        self.own()
        self.ctime_ns = self.overlay.now()
        self.shown[0] = None

    # --- attributes ---
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
        """As Inode.set_attributes. Copies no data: attributes are kept here. EINVAL: a size for what has none."""
        if size is not None:
            raise LinuxError(errno.EISDIR if self.is_dir else errno.EINVAL, "size of what is not a regular file")
        self.own()
        if mode is not None:
            self.mode = self.mode & 0o170000 | mode & 0o7777
        if uid is not None:
            self.uid = uid
        if gid is not None:
            self.gid = gid
        if atime_ns is not None:
            self.atime_ns = atime_ns
        if mtime_ns is not None:
            self.mtime_ns = mtime_ns
        self.ctime_ns = self.overlay.now() if ctime_ns is None else ctime_ns
        self.shown[0] = None

    # --- symbolic links ---
    def readlink(self) -> bytes:
        """The target. EINVAL: not a symbolic link."""
        if self.target is not None:
            return self.target
        if self.lower is None:
            raise LinuxError(errno.EINVAL)
        return self.lower.readlink()

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        """FIFOs and devices are the Sentry's own, wherever their node lies. ENXIO: sockets, unknown devices."""
        return open_special(self, dentry, flags, task)

    # --- extended attributes (xattr(7)); the lower is asked until the first change, then never again ---
    def get_xattr(self, name: bytes) -> bytes:
        """ENODATA: there is none of that name."""
        if self.xattrs is None:
            if self.lower is None:
                raise LinuxError(errno.ENODATA)
            return self.lower.get_xattr(name)
        try:
            return self.xattrs[name]
        except KeyError:
            raise LinuxError(errno.ENODATA) from None

    def list_xattr(self) -> list[bytes]:
        if self.xattrs is None:
            return [] if self.lower is None else self.lower.list_xattr()
        return list(self.xattrs)

    def set_xattr(self, name: bytes, value: bytes, flags: int) -> None:
        """EEXIST, ENODATA: as XATTR_CREATE and XATTR_REPLACE ask."""
        xattrs = self._own_xattrs()
        if flags & XATTR_CREATE and name in xattrs:
            raise LinuxError(errno.EEXIST)
        if flags & XATTR_REPLACE and name not in xattrs:
            raise LinuxError(errno.ENODATA)
        xattrs[name] = bytes(value)
        self.touch_ctime()

    def remove_xattr(self, name: bytes) -> None:
        """ENODATA: there is none of that name."""
        if self._own_xattrs().pop(name, None) is None:
            raise LinuxError(errno.ENODATA)
        self.touch_ctime()

    def _own_xattrs(self) -> dict[bytes, bytes]:
        if self.xattrs is None:
            copied: dict[bytes, bytes] = {}
            for name in self._lower_xattr_names():
                try:
                    copied[name] = cast(Inode, self.lower).get_xattr(name)
                except LinuxError as error:
                    if error.errno not in (errno.ENODATA, errno.EPERM, errno.EACCES):
                        raise
            self.xattrs = copied
            self.pin()
        return self.xattrs

    def _lower_xattr_names(self) -> list[bytes]:
        if self.lower is None:
            return []
        try:
            return self.lower.list_xattr()
        except LinuxError as error:
            if error.errno == errno.EOPNOTSUPP:
                return []
            raise
