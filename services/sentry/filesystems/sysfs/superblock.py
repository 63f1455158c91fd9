"""One sysfs: the tables of tree.py as nodes, made when it is mounted, and the network interfaces of net.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.sentry.filesystems.synthetic import StaticDir, Symlink, SyntheticSuperblock, TextFile
from services.sentry.filesystems.sysfs import tree
from services.sentry.filesystems.sysfs.net import NetDirectories

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.inode import Inode

__all__ = ["SysfsSuperblock"]

SYSFS_MAGIC: Final = 0x62656572
PAGE_BYTES: Final = 4096  # what each file says that its size is


class SysfsFile(TextFile):
    """A constant text; its size shows as a page, as in sysfs."""

    __slots__ = ("contents",)

    def __init__(self, superblock: SyntheticSuperblock, contents: bytes) -> None:
        self.contents = contents
        super().__init__(superblock, lambda: self.contents)
        self.size = PAGE_BYTES


class SysfsSuperblock(SyntheticSuperblock):
    """Read-only."""

    __slots__ = ()

    def __init__(self, kernel: Kernel, source: bytes, flags: int) -> None:
        super().__init__(kernel, b"sysfs", SYSFS_MAGIC, source=source or b"sysfs", flags=flags, dynamic=True)
        top = StaticDir(self)
        for path in tree.DIRECTORIES:
            self._directory(top, path)
        for path, text in tree.files(kernel):
            self._place(top, path, SysfsFile(self, text + b"\n"))
        for path, target in tree.symlinks(kernel):
            self._place(top, path, Symlink(self, target))
        net = NetDirectories(self, PAGE_BYTES)
        self._place(top, b"class/net", net.classes)
        self._place(top, b"devices/virtual/net", net.devices)
        self.set_root(top)

    def _directory(self, top: StaticDir, path: bytes) -> StaticDir:
        directory = top
        for part in path.split(b"/"):
            child = directory.children.get(part)
            if not isinstance(child, StaticDir):
                child = StaticDir(self)
                directory.add(part, child)
            directory = child
        return directory

    def _place(self, top: StaticDir, path: bytes, node: Inode) -> None:
        head, _, name = path.rpartition(b"/")
        self._directory(top, head).add(name, node)
