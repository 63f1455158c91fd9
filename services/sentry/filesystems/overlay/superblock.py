"""The overlay's superblock: its layers, the table of wrappers, inode numbers, the store of changed data.

Owns: `wrappers` (lower inode -> overlay inode, weak: what is in use), `pinned` (the same for those that differ from
their lower file, strong), and the nameless files of the upper that hold regular files' data.
Both tables are keyed by the identity of the lower inode object, which its wrapper keeps alive; so lowers must give one
object per file as long as it is referenced (gofer and tmpfs do), and two names of a lower file share one overlay
inode: hard links survive copy-up.

The upper is private and vanishes with the sandbox; nobody reads it as a tree. Lowers are never written.
Inode numbers: a lower file keeps its number, with its layer above bit 56 when there are several; new files count from
2**48. st_dev is the overlay's for all of them. Legal use: `make_overlay(...)`, then as any superblock.
"""

from __future__ import annotations

import errno
import stat as stat_mod
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from protocol.abi.capability_h import ALL_CAPABILITIES
from services.sentry.errors import LinuxError
from services.sentry.filesystems.overlay.directory import OverlayDirectory
from services.sentry.filesystems.overlay.node import OverlayInode
from services.sentry.filesystems.overlay.regular import OverlayRegular
from services.sentry.kernel.credentials import Credentials
from services.sentry.vfs.superblock import Statfs, Superblock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.inode import DirectoryEntry, Inode

__all__ = ["OverlaySuperblock", "make_overlay"]

OVERLAYFS_MAGIC = 0x794C7630  # statfs(2)
FIRST_NEW_INO = 1 << 48
LAYER_SHIFT = 56
DT_CHR = 2
OPAQUE = b"trusted.overlay.opaque"


_STORE_OWNER = Credentials(cap_effective=ALL_CAPABILITIES)  # the store's inodes are made for it, and get another then


class OverlaySuperblock(Superblock):
    """lowers_fixed: no lower changes by itself, so that what was copied from one stays true."""

    __slots__ = ("_layer_numbers", "_next_ino", "lowers", "lowers_fixed", "pinned", "upper", "wrappers")

    def __init__(self, kernel: Kernel, lowers: Sequence[Superblock], upper: Superblock, flags: int = 0) -> None:
        fixed = not any(lower.dynamic for lower in lowers)
        super().__init__(kernel, b"overlay", OVERLAYFS_MAGIC, source=b"overlay", flags=flags, dynamic=not fixed)
        self.lowers = tuple(lowers)
        self.upper = upper
        self.lowers_fixed = fixed
        self.wrappers: WeakValueDictionary[int, OverlayInode] = WeakValueDictionary()
        self.pinned: dict[int, OverlayInode] = {}
        self._next_ino = FIRST_NEW_INO
        self._layer_numbers: dict[int, int] | None = None
        if len(lowers) > 1:
            self._layer_numbers = {id(lower): index << LAYER_SHIFT for index, lower in enumerate(lowers)}
        roots: list[Inode] = []
        for lower in lowers:
            root = lower.root.inode
            if root is None or not root.is_dir:
                raise LinuxError(errno.ENOTDIR, "overlay layer")
            roots.append(root)
        self.set_root(self._directory(tuple(roots)))

    # --- inodes ---
    def number_of_layer(self, lower: Inode) -> int:
        """What to add to a lower inode's number."""
        if self._layer_numbers is None:
            return 0
        return self._layer_numbers.get(id(lower.superblock), 0)

    def new_ino(self) -> int:
        """A number no other file of this boot has."""
        self._next_ino += 1
        return self._next_ino

    def wrap(self, lower: Inode) -> OverlayInode:
        """The overlay inode that shows `lower` (a directory: `lower` alone)."""
        node = self.wrappers.get(id(lower))
        if node is not None:
            return node
        kind = lower.mode & 0o170000
        if kind == stat_mod.S_IFDIR:
            return self._directory((lower,))
        if kind == stat_mod.S_IFREG:
            node = OverlayRegular(self, self.number_of_layer(lower) | lower.ino, lower)
        else:
            node = OverlayInode(self, self.number_of_layer(lower) | lower.ino, lower)
        self.wrappers[id(lower)] = node
        return node

    def _directory(self, lowers: tuple[Inode, ...]) -> OverlayDirectory:
        top = lowers[0]
        node = OverlayDirectory(self, self.number_of_layer(top) | top.ino, lowers)
        self.wrappers[id(top)] = node
        return node

    # --- several layers ---
    def wrap_merged(self, lowers: tuple[Inode, ...], name: bytes) -> OverlayInode:
        """The overlay inode of `name` in a directory merged of `lowers`. ENOENT: in none, or whited out.

        The topmost layer that has the name decides what it is; directories below it are merged until one is opaque or
        something else stands in the way (overlayfs.rst, "Directories", "whiteouts and opaque directories").
        """
        found: list[Inode] = []
        for index, directory in enumerate(lowers):
            try:
                child = directory.lookup(name)
            except LinuxError as error:
                if error.errno != errno.ENOENT:
                    raise
                continue
            last = index == len(lowers) - 1
            if not child.is_dir or _is_whiteout(child):
                if found:
                    break
                if _is_whiteout(child):
                    raise LinuxError(errno.ENOENT)
                return self.wrap(child)
            found.append(child)
            if not last and _is_opaque(child):
                break
        if not found:
            raise LinuxError(errno.ENOENT)
        node = self.wrappers.get(id(found[0]))
        return node if node is not None else self._directory(tuple(found))

    def is_whiteout(self, directory: Inode, entry: DirectoryEntry) -> bool:
        """Whether a lower's entry only hides what is below it."""
        if entry[2] != DT_CHR:
            return False
        try:
            return _is_whiteout(directory.lookup(entry[0]))
        except LinuxError:
            return True

    # --- the store ---
    def new_data(self, mode: int) -> Inode:
        """An empty regular file of the upper, which no name leads to: the overlay's inode holds it. ENOSPC."""
        root = self.upper.root.inode
        if root is None:
            raise LinuxError(errno.EIO, "overlay upper")
        child = root.tmpfile(stat_mod.S_IFREG | mode & 0o7777, _STORE_OWNER)
        child.nlink = 1  # until drop_data: it must outlive its open files
        return child

    def drop_data(self, data: Inode) -> None:
        """Give up what `new_data` made: it goes with its last open file."""
        data.nlink = 0
        data.shown[0] = None
        if not data.open_files:
            data.release_last_link()

    def statfs(self) -> Statfs:
        """Space is the upper's (overlayfs.rst has it so)."""
        return self.upper.statfs()

    def sync(self) -> None:
        self.upper.sync()

    def release(self) -> None:
        for layer in (self.upper, *self.lowers):
            layer.release()


def _is_whiteout(inode: Inode) -> bool:
    """A character device 0:0 (overlayfs.rst, "whiteouts and opaque directories")."""
    return inode.mode & 0o170000 == stat_mod.S_IFCHR and inode.rdev == 0


def _is_opaque(directory: Inode) -> bool:
    try:
        return directory.get_xattr(OPAQUE) == b"y"
    except LinuxError:
        return False


def make_overlay(kernel: Kernel, lowers: Sequence[Superblock], upper: Superblock, flags: int = 0) -> Superblock:
    """One tree of `lowers` (topmost first, read only) with all changes in `upper`, which must be empty and ours alone.

    `flags`: MS_*. ENOTDIR: a layer's root is no directory.
    """
    return OverlaySuperblock(kernel, lowers, upper, flags)
