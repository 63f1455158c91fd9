"""One sysfs: the tables of tree.py as nodes, made when it is mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.sentry.filesystems.synthetic import StaticDir, Symlink, SyntheticSuperblock, TextFile
from services.sentry.filesystems.sysfs import tree

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.inode import Inode

__all__ = ["SysfsSuperblock"]

SYSFS_MAGIC: Final = 0x62656572


class SysfsFile(TextFile):
    """A constant text; its size shows as a page, as in sysfs."""

    __slots__ = ("contents",)

    def __init__(self, superblock: SyntheticSuperblock, contents: bytes) -> None:
        self.contents = contents
        super().__init__(superblock, lambda: self.contents)
        self.size = 4096


class SysfsSuperblock(SyntheticSuperblock):
    """Read-only; cgroup2 may be mounted on fs/cgroup."""

    __slots__ = ()

    def __init__(self, kernel: Kernel, source: bytes, flags: int) -> None:
        super().__init__(kernel, b"sysfs", SYSFS_MAGIC, source=source or b"sysfs", flags=flags)
        top = StaticDir(self)
        for path in tree.DIRECTORIES:
            self._directory(top, path)
        for path, text in tree.files(kernel):
            self._place(top, path, SysfsFile(self, text + b"\n"))
        for path, target in tree.symlinks(kernel):
            self._place(top, path, Symlink(self, target))
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
