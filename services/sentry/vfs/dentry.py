"""Dentries: names in a tree and what they lead to, present or absent.

A positive dentry has an inode; a negative one remembers that the name does not exist. `seq` changes whenever what the
dentry stands for changes (it became positive, was removed, or moved): the whole-path cache compares it, which makes
creating, unlinking and renaming plain files free of any global invalidation. Changes that reach below a directory (it
was renamed, it had been left by '..', a symbolic link went) clear the path caches of the kernel instead.

Dentries of a dynamic superblock are not trusted: every lookup asks the inode, and children are held weakly.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import MutableMapping
from itertools import islice
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from services.sentry.errors import LinuxError
from services.sentry.vfs.referable import Referable

if TYPE_CHECKING:
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.superblock import Superblock

__all__ = ["Dentry"]

NEGATIVE_LIMIT: Final = 16384
"""Absent names that one superblock remembers; beyond it the oldest quarter is dropped."""
POSITIVE_LIMIT: Final = 65536
"""Present names likewise, where the file system can be asked again; those in use stay."""


def _references(dentry: object) -> int:
    return sys.getrefcount(dentry)


def _of_the_unused() -> int:
    """What `_references` says of a dentry that only its parent's table and a local variable know, compiled or not."""
    children = {b"": object()}
    old = children[b""]
    return _references(old)


_UNUSED: Final = _of_the_unused()


class Dentry(Referable):
    """name, parent (itself at a root), inode (None: absent), children by name, mounted: how many mounts stand on it.

    deleted   the name is gone: d_path adds " (deleted)".
    ascended  some cached path left this directory through '..'.
    """

    __slots__ = (
        "__weakref__",
        "ascended",
        "children",
        "deleted",
        "dynamic",
        "inode",
        "mounted",
        "name",
        "parent",
        "seq",
        "superblock",
    )

    def __init__(self, name: bytes, parent: Dentry | None, inode: Inode | None, superblock: Superblock) -> None:
        self.name = name
        self.parent: Dentry = parent or self
        self.inode = inode
        self.superblock = superblock
        self.dynamic = superblock.dynamic
        self.children: MutableMapping[bytes, Dentry] = WeakValueDictionary() if self.dynamic else {}
        self.mounted = 0
        self.seq = 0
        self.deleted = False
        self.ascended = False

    def __repr__(self) -> str:
        return f"Dentry({self.name!r}, {self.inode!r})"

    # --- lookup ---
    def lookup(self, name: bytes) -> Dentry:
        """The child called `name`, negative if there is none. Permissions and kind were checked by the caller."""
        child = self.children.get(name)
        if child is not None and not self.dynamic:
            return child
        inode: Inode | None
        try:
            assert self.inode is not None
            inode = self.inode.lookup(name)
        except LinuxError as error:
            if error.errno != errno.ENOENT:
                raise
            inode = None
        if child is not None:
            if child.inode is inode or child.mounted:
                return child
            child.drop()
        child = Dentry(name, self, inode, self.superblock)
        if self.deleted and inode is None:
            return child
        if inode is not None:
            self.children[name] = child
            if self.superblock.prunable:
                remember_present(child)
        elif not self.dynamic:
            self.remember_absent(name, child)
        return child

    def remember_absent(self, name: bytes, child: Dentry) -> None:
        self.children[name] = child
        negatives = self.superblock.negatives
        negatives.append((self, name))
        if len(negatives) > NEGATIVE_LIMIT:
            for _ in range(NEGATIVE_LIMIT // 4):
                parent, old_name = negatives.popleft()
                old = parent.children.get(old_name)
                if old is not None and old.inode is None:
                    old.drop()

    # --- changes, called after the file system carried them out ---
    def instantiate(self, inode: Inode) -> None:
        """A negative dentry became positive: something was created under this name."""
        self.inode = inode
        self.seq += 1
        self.deleted = False
        self.parent.children[self.name] = self
        if self.superblock.prunable:
            remember_present(self)

    def drop(self) -> None:
        """Take the dentry out of the tree without saying that the file is gone (pruning, invalidation from outside)."""
        self.seq += 1
        if self.parent.children.get(self.name) is self:
            del self.parent.children[self.name]
        if self.inode is not None:
            self.superblock.positives.pop(self, None)
            if self.children:
                self.superblock.invalidate_paths()

    def unlinked(self) -> None:
        """The name was removed: this dentry stays with those who hold it, a negative one takes its place."""
        self.seq += 1
        self.deleted = True
        self.superblock.positives.pop(self, None)
        inode = self.inode
        if self.ascended or (inode is not None and inode.mode & 0o170000 == 0o120000):
            self.superblock.invalidate_paths()
        if self.children:
            for child in list(self.children.values()):  # absent names only: the directory was empty
                child.seq += 1
            self.children.clear()
        parent = self.parent
        if parent.dynamic:
            if parent.children.get(self.name) is self:
                del parent.children[self.name]
        else:
            parent.remember_absent(self.name, Dentry(self.name, parent, None, self.superblock))

    def moved(self, new_parent: Dentry, new_name: bytes) -> None:
        """rename(2) put this name elsewhere; a negative dentry takes the old place. What stood there was `unlinked`."""
        parent = self.parent
        if parent.children.get(self.name) is self:
            if parent.dynamic:
                del parent.children[self.name]
            else:
                parent.remember_absent(self.name, Dentry(self.name, parent, None, self.superblock))
        self._place(new_parent, new_name)

    def exchanged(self, other: Dentry) -> None:
        """renameat2(2) RENAME_EXCHANGE."""
        parent, name = self.parent, self.name
        self._place(other.parent, other.name)
        other._place(parent, name)

    def _place(self, parent: Dentry, name: bytes) -> None:
        old = parent.children.get(name)
        if old is not None and old is not self:
            old.seq += 1
        self.seq += 1
        self.parent, self.name = parent, name
        parent.children[name] = self
        inode = self.inode
        if inode is not None and inode.mode & 0o170000 in (0o040000, 0o120000):
            self.superblock.invalidate_paths()

    def is_below(self, ancestor: Dentry) -> bool:
        """Whether `ancestor` is this dentry or one of its parents (within one superblock)."""
        dentry = self
        while dentry is not ancestor:
            if dentry.parent is dentry:
                return False
            dentry = dentry.parent
        return True


def remember_present(dentry: Dentry) -> None:
    """Note a present name of a prunable superblock; when there are too many, forget the oldest that nobody uses."""
    superblock = dentry.superblock
    positives = superblock.positives
    positives[dentry] = None
    if len(positives) <= POSITIVE_LIMIT or len(positives) <= superblock.prune_at:
        return
    superblock.invalidate_paths()  # cached paths hold references
    oldest = list(islice(positives, len(positives) // 4))
    for old in oldest:
        del positives[old]
    oldest.reverse()
    while oldest:
        old = oldest.pop()
        if old.parent.children.get(old.name) is not old:
            continue
        if old.mounted or old.children or _references(old) > _UNUSED:
            if old.children and all(child.inode is None for child in old.children.values()):
                for child in list(old.children.values()):
                    child.drop()
            positives[old] = None
        else:
            old.drop()
    superblock.prune_at = len(positives) + len(positives) // 4  # where most are in use, do not look again too soon
