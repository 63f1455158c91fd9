"""Overlay directories: the merged view of the lowers, and on top of it what was added, hidden and moved.

A directory is three things: the lower directories it merges (topmost first, none for a new one), `names` (what was put
here) and `whiteouts` (lower names that no longer show). A name in `names` wins; else one in `whiteouts` is absent; else
the lowers answer. Nothing else exists: a removed and made-again directory is opaque because the new one merges nothing,
a renamed one takes its lowers along because it refers to inodes, not paths, so rename(2) of a lower or merged directory
needs no EXDEV and copies nothing. Linux: overlayfs.rst "whiteouts and opaque directories", "Changes to underlying".

Listing order: each lower's own order, topmost first, then `names` in order of arrival. Cookies: below `LAYER_SPAN`
times the number of layers the lower's own (its layer in the high bits), from `ADDED` on those of `names`; neither kind
moves when entries come or go.
"""

from __future__ import annotations

import errno
import stat as stat_mod
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from services.sentry.errors import LinuxError
from services.sentry.filesystems.name_order import NameOrder
from services.sentry.filesystems.overlay.node import OverlayInode
from services.sentry.filesystems.overlay.regular import OverlayRegular
from services.sentry.vfs.directory_file import DirectoryFile, Listing
from services.sentry.vfs.inode import DirectoryEntry, Inode

if TYPE_CHECKING:
    from services.sentry.filesystems.overlay.superblock import OverlaySuperblock
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["OverlayDirectory"]

LAYER_SPAN = 1 << 56
ADDED = 1 << 62
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4


class OverlayDirectory(OverlayInode):
    """See the module docstring. `first`: the only lower, or None when there are none or several (then see `lowers`)."""

    __slots__ = ("first", "listing", "lowers", "names", "order", "shadowed", "whiteouts")

    def __init__(self, overlay: OverlaySuperblock, ino: int, lowers: tuple[Inode, ...], mode: int = 0) -> None:
        super().__init__(overlay, ino, lowers[0] if lowers else None, mode)
        self.lowers = lowers
        self.first = lowers[0] if len(lowers) == 1 else None
        self.names: dict[bytes, OverlayInode] = {}
        self.whiteouts: set[bytes] | frozenset[bytes] = frozenset()
        self.order: NameOrder | None = None
        self.listing: Listing | None = None
        self.shadowed: list[frozenset[bytes]] | None = None
        if not lowers:
            self.nlink = 2
            self.size = 4096
        elif len(lowers) > 1:
            self.nlink = 1  # not counted, as on Linux: find(1) and others take 1 as "unknown"

    @property
    def pristine(self) -> bool:
        """Whether this directory shows exactly what its only lower shows."""
        return self.first is not None and not self.names and not self.whiteouts

    # --- reading ---
    def keep_listing(self, listing: Listing | None) -> bool:
        """False: a lower may change."""
        fixed = self.overlay.lowers_fixed
        if fixed:
            self.listing = listing
        return fixed

    def lookup(self, name: bytes) -> Inode:
        """The child called `name`. ENOENT: absent, removed here, or hidden by a layer's whiteout."""
        if self.names:
            child = self.names.get(name)
            if child is not None:
                return child
        if name in self.whiteouts:
            raise LinuxError(errno.ENOENT)
        first = self.first
        if first is not None:
            return self.overlay.wrap(first.lookup(name))
        return self.overlay.wrap_merged(self.lowers, name)

    def lookup_path(self, names: list[bytes]) -> list[Inode]:
        """The inodes of a path below here, as far as it goes through unchanged lower directories; see GoferInode."""
        first = self.first
        ask = getattr(first, "lookup_path", None)
        if first is None or ask is None or names[0] in self.names or names[0] in self.whiteouts:
            return [self.lookup(names[0])]
        found: list[Inode] = []
        for lower in ask(names):
            node = self.overlay.wrap(lower)
            found.append(node)
            if isinstance(node, OverlayDirectory) and not node.pristine:
                break
        return found

    def entries(self, start: int) -> Iterator[tuple[int, DirectoryEntry]]:
        """As Inode.entries; see the module docstring for order and cookies."""
        first = self.first
        if first is not None and self.pristine and start < LAYER_SPAN and not self.overlay.number_of_layer(first):
            return first.entries(start)
        return self._merged_entries(start)

    def _merged_entries(self, start: int) -> Iterator[tuple[int, DirectoryEntry]]:
        layers = len(self.lowers)
        if start < ADDED:
            for index in range(start // LAYER_SPAN, layers):
                base = index * LAYER_SPAN
                yield from self._lower_entries(index, max(start - base, 0), base)
        order = self.order
        if order is None:
            return
        for cookie, name in order.following(max(start - ADDED, 0)):
            child = self.names[name]
            yield ADDED + cookie, (name, child.ino, child.mode >> 12 & 15)

    def _lower_entries(self, index: int, start: int, base: int) -> Iterator[tuple[int, DirectoryEntry]]:
        """Entries of one lower that nothing above hides."""
        overlay = self.overlay
        lower = self.lowers[index]
        number = overlay.number_of_layer(lower)
        hidden = self._hidden_by_upper_layers(index)
        for cookie, entry in lower.entries(start):
            name = entry[0]
            if name in self.whiteouts or name in hidden or name in self.names:
                continue
            if len(self.lowers) > 1 and self.overlay.is_whiteout(lower, entry):
                continue
            yield base + cookie, (name, number | entry[1] if number else entry[1], entry[2])

    def _hidden_by_upper_layers(self, index: int) -> frozenset[bytes]:
        """The names that the layers above number `index` show or white out. Lowers do not change: made once."""
        if index == 0:
            return frozenset()
        if self.shadowed is None:
            self.shadowed = []
            seen: frozenset[bytes] = frozenset()
            for lower in self.lowers:
                self.shadowed.append(seen)
                seen = seen | {entry[0] for _, entry in lower.entries(0)}
        return self.shadowed[index]

    def _is_empty(self) -> bool:
        if self.names:
            return False
        return next(self.entries(0), None) is None

    # --- what every change is made of ---
    def _put(self, name: bytes, child: OverlayInode) -> None:
        """Show `child` as `name`. If a lower shows that name, the caller has hidden it."""
        if self.order is None:
            self.order = NameOrder()
        self.listing = None
        self.names[name] = child
        self.order.add(name)

    def _hide(self, name: bytes) -> None:
        """Show nothing as `name`."""
        self.listing = None
        if self.names.pop(name, None) is not None:
            cast(NameOrder, self.order).discard(name)
            return
        if isinstance(self.whiteouts, frozenset):
            self.whiteouts = set()
        self.whiteouts.add(name)

    def _changed(self, subdirectories: int = 0) -> None:
        """The listing changed now, by so many subdirectories."""
        self.own()
        self.mtime_ns = self.ctime_ns = self.overlay.now()
        if self.nlink > 1:
            self.nlink += subdirectories
        self.shown[0] = None

    def _adopt(self, name: bytes, child: OverlayInode, cred: Credentials) -> OverlayInode:
        """Give a new inode its owner (inode_init_owner(): setgid directories pass their group on) and its name."""
        child.uid = cred.fsuid
        child.gid = cred.fsgid
        if self.mode & stat_mod.S_ISGID:
            child.gid = self.gid
            if child.is_dir:
                child.mode |= stat_mod.S_ISGID
        if isinstance(child, OverlayRegular):
            child.store()
        self._put(name, child)
        self._changed(1 if child.is_dir else 0)
        return child

    # --- changing ---
    def create(self, name: bytes, mode: int, cred: Credentials, rdev: int = 0) -> Inode:
        """As Inode.create. ENOSPC: the upper is full."""
        overlay = self.overlay
        kind = OverlayRegular if stat_mod.S_ISREG(mode) else OverlayInode
        child = kind(overlay, overlay.new_ino(), None, mode)
        child.rdev = rdev
        return self._adopt(name, child, cred)

    def mkdir(self, name: bytes, mode: int, cred: Credentials) -> Inode:
        """As Inode.mkdir. The new directory is opaque: nothing of a lower shows through."""
        overlay = self.overlay
        child = OverlayDirectory(overlay, overlay.new_ino(), (), stat_mod.S_IFDIR | mode & 0o7777)
        return self._adopt(name, child, cred)

    def symlink(self, name: bytes, target: bytes, cred: Credentials) -> Inode:
        overlay = self.overlay
        child = OverlayInode(overlay, overlay.new_ino(), None, stat_mod.S_IFLNK | 0o777)
        child.target = target
        child.size = len(target)
        return self._adopt(name, child, cred)

    def link(self, name: bytes, target: Inode) -> None:
        child = cast(OverlayInode, target)
        child.linked()
        self._put(name, child)
        self._changed()

    def unlink(self, name: bytes, child: Inode) -> None:
        self._hide(name)
        cast(OverlayInode, child).unlinked()
        self._changed()

    def rmdir(self, name: bytes, child: Inode) -> None:
        """ENOTEMPTY: it has entries."""
        directory = cast(OverlayDirectory, child)
        if not directory._is_empty():
            raise LinuxError(errno.ENOTEMPTY)
        self._hide(name)
        directory.removed()
        self._changed(-1)

    def removed(self) -> None:
        """The last name of this directory went; whoever has it open sees it empty."""
        self.own()
        self.nlink = 0
        self.ctime_ns = self.overlay.now()
        self.shown[0] = None
        if self.lower is not None:
            self.overlay.pinned.pop(id(self.lower), None)

    def rename(
        self, name: bytes, child: Inode, new_dir: Inode, new_name: bytes, replaced: Inode | None, flags: int
    ) -> None:
        """As Inode.rename, any directory included (no EXDEV). ENOTEMPTY: `replaced` has entries."""
        moved, target = cast(OverlayInode, child), cast(OverlayDirectory, new_dir)
        victim = cast("OverlayInode | None", replaced)
        if flags & RENAME_EXCHANGE:
            self._exchange(name, moved, target, new_name, cast(OverlayInode, victim))
            return
        if moved is victim:
            return  # two names of one file: nothing is to be done (rename(2))
        if isinstance(victim, OverlayDirectory) and not victim._is_empty():
            raise LinuxError(errno.ENOTEMPTY)
        moved.pin()
        self._hide(name)
        if victim is not None:
            target._hide(new_name)
            if isinstance(victim, OverlayDirectory):
                victim.removed()
            else:
                victim.unlinked()
        target._put(new_name, moved)
        if flags & RENAME_WHITEOUT:
            self._put(name, OverlayInode(self.overlay, self.overlay.new_ino(), None, stat_mod.S_IFCHR))
        subdirectory = 1 if moved.is_dir else 0
        self._changed(-subdirectory)
        target._changed(subdirectory - (1 if victim is not None and victim.is_dir else 0))
        moved.touch_ctime()

    def _exchange(
        self, name: bytes, moved: OverlayInode, target: OverlayDirectory, new_name: bytes, other: OverlayInode
    ) -> None:
        """renameat2(2), RENAME_EXCHANGE."""
        moved.pin()
        other.pin()
        self._hide(name)
        target._hide(new_name)
        self._put(name, other)
        target._put(new_name, moved)
        difference = (1 if other.is_dir else 0) - (1 if moved.is_dir else 0)
        self._changed(difference)
        target._changed(-difference)
        moved.touch_ctime()
        other.touch_ctime()

    def tmpfile(self, mode: int, cred: Credentials) -> Inode:
        """An unnamed regular file, which link() may name (open(2), O_TMPFILE)."""
        overlay = self.overlay
        child = OverlayRegular(overlay, overlay.new_ino(), None, stat_mod.S_IFREG | mode & 0o7777)
        child.uid, child.gid, child.nlink = cred.fsuid, cred.fsgid, 0
        child.store()
        return child

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return DirectoryFile(self, flags, dentry)
