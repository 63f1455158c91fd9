"""Mounts and mount namespaces: which superblock shows at which dentry (mount(2), mount_namespaces(7)).

A `Mount` shows the tree below `root` of a superblock at (`parent`, `mountpoint`). `MountNamespace.table` finds the
mount on top of a place; stacked mounts chain, each on the root of the one below. Propagation types are accepted and
recorded, and every mount behaves as private. All changes clear the path caches of the kernel.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import mount_h as mt
from services.sentry.errors import LinuxError
from services.sentry.vfs.path_walk import Path

if TYPE_CHECKING:
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.path_cache import PathCaches
    from services.sentry.vfs.superblock import Superblock

__all__ = ["MOUNT_FLAGS", "MOUNT_LIMIT", "Mount", "MountNamespace"]

MOUNT_FLAGS: Final = (
    mt.MS_RDONLY
    | mt.MS_NOSUID
    | mt.MS_NODEV
    | mt.MS_NOEXEC
    | mt.MS_NOATIME
    | mt.MS_NODIRATIME
    | mt.MS_RELATIME
    | mt.MS_NOSYMFOLLOW
)
"""What belongs to a mount; every other flag of mount(2) belongs to the superblock or is a command."""
MOUNT_LIMIT: Final = 100_000
"""fs.mount-max."""


class Mount:
    """flags: MS_* of MOUNT_FLAGS. `parent` is None for a namespace's root and for a detached mount."""

    __slots__ = (
        "flags",
        "id",
        "mountpoint",
        "namespace",
        "parent",
        "propagation",
        "root",
        "source",
        "superblock",
    )

    def __init__(self, superblock: Superblock, root: Dentry, flags: int, source: bytes, mount_id: int) -> None:
        self.superblock = superblock
        self.root = root
        self.flags = flags
        self.source = source
        self.id = mount_id
        self.parent: Mount | None = None
        self.mountpoint: Dentry = root
        self.namespace: MountNamespace | None = None
        self.propagation = mt.MS_PRIVATE
        superblock.mounts += 1

    def __repr__(self) -> str:
        return f"Mount({self.id}, {self.superblock.type_name!r})"

    @property
    def read_only(self) -> bool:
        return bool((self.flags | self.superblock.flags) & mt.MS_RDONLY)

    def options(self) -> bytes:
        """The flags as the fourth field of /proc/self/mounts, e.g. b'rw,nosuid,relatime'."""
        words = [b"ro" if self.flags & mt.MS_RDONLY else b"rw"]
        words += [name for flag, name in _OPTION_NAMES if self.flags & flag]
        return b",".join(words)


_OPTION_NAMES: Final = (
    (mt.MS_NOSUID, b"nosuid"),
    (mt.MS_NODEV, b"nodev"),
    (mt.MS_NOEXEC, b"noexec"),
    (mt.MS_NOATIME, b"noatime"),
    (mt.MS_NODIRATIME, b"nodiratime"),
    (mt.MS_RELATIME, b"relatime"),
    (mt.MS_NOSYMFOLLOW, b"nosymfollow"),
)


class MountNamespace:
    """The mounts that a set of tasks sees. `root` is the bottom one; copies share path caches and the id counter."""

    __slots__ = ("_ids", "caches", "mounts", "root", "table")

    def __init__(
        self, superblock: Superblock, flags: int = mt.MS_RELATIME, *, like: MountNamespace | None = None
    ) -> None:
        self.caches: PathCaches = superblock.caches
        self._ids: list[int] = like._ids if like else [20]
        self.table: dict[tuple[Mount, Dentry], Mount] = {}
        self.mounts: dict[int, Mount] = {}
        self.root = self.new_mount(superblock, superblock.root, flags, superblock.source)
        self.mounts[self.root.id] = self.root
        self.root.namespace = self

    # --- finding ---
    def root_path(self) -> Path:
        """The topmost root: where '/' of the first task is."""
        return self.top(Path(self.root, self.root.root))

    def top(self, path: Path) -> Path:
        """What is seen at `path`: the root of the topmost mount on it, or itself."""
        mount, dentry = path.mount, path.dentry
        while dentry.mounted:
            above = self.table.get((mount, dentry))
            if above is None:
                break
            mount, dentry = above, above.root
        return Path(mount, dentry)

    def subtree(self, mount: Mount) -> Iterator[Mount]:
        """`mount` and what is mounted below it, to any depth, parents first."""
        below: dict[Mount, list[Mount]] = {}
        for each in self.mounts.values():
            if each.parent is not None:
                below.setdefault(each.parent, []).append(each)
        to_show = [mount]
        while to_show:
            found = to_show.pop()
            yield found
            to_show += reversed(below.get(found, ()))

    # --- changing ---
    def new_mount(self, superblock: Superblock, root: Dentry, flags: int, source: bytes) -> Mount:
        """A detached mount."""
        self._ids[0] += 1
        return Mount(superblock, root, flags & MOUNT_FLAGS, source, self._ids[0])

    def attach(self, mount: Mount, where: Path) -> None:
        """Put a detached mount on top of `where`. ENOTDIR: directory on a file or the reverse; ENOENT: removed."""
        where = self.top(where)
        here, there = where.dentry.inode, mount.root.inode
        if here is None or there is None or where.dentry.deleted:
            raise LinuxError(errno.ENOENT)
        if here.is_dir != there.is_dir:
            raise LinuxError(errno.ENOTDIR)
        if len(self.mounts) >= MOUNT_LIMIT:
            raise LinuxError(errno.ENOSPC)
        self._connect(mount, where.mount, where.dentry)
        self.caches.clear()

    def mount(self, superblock: Superblock, where: Path, flags: int, source: bytes) -> Mount:
        """Show a superblock at `where`."""
        mount = self.new_mount(superblock, superblock.root, flags, source)
        try:
            self.attach(mount, where)
        except LinuxError:
            self._forget(mount)
            raise
        return mount

    def bind(self, source: Path, where: Path, *, recursive: bool) -> Mount:
        """mount --bind and --rbind: show the tree at `source` once more at `where`."""
        mount = self._clone(source.mount, source.dentry)
        self.attach(mount, where)
        if recursive:
            copies = {source.mount: mount}
            for child in list(self.subtree(source.mount))[1:]:
                if child is mount or child.parent not in copies:
                    continue
                if child.parent is source.mount and not child.mountpoint.is_below(source.dentry):
                    continue
                copies[child] = self._clone(child, child.root)
                self._connect(copies[child], copies[child.parent], child.mountpoint)
            self.caches.clear()
        return mount

    def move(self, source: Path, where: Path) -> None:
        """MS_MOVE. EINVAL: `source` is no mount root or the namespace's root; ELOOP: into itself."""
        mount = source.mount
        if source.dentry is not mount.root or mount.parent is None:
            raise LinuxError(errno.EINVAL)
        where = self.top(where)
        if where.mount in set(self.subtree(mount)):
            raise LinuxError(errno.ELOOP)
        self._disconnect(mount)
        self._connect(mount, where.mount, where.dentry)
        self.caches.clear()

    def unmount(self, mount: Mount, *, detach: bool, busy: Callable[[Mount], bool]) -> None:
        """umount2(2). EINVAL: the namespace's root; EBUSY: mounts below it, or `busy` says that it is in use."""
        if mount.parent is None:
            raise LinuxError(errno.EBUSY if mount is self.root else errno.EINVAL)
        below = list(self.subtree(mount))
        if not detach and (len(below) > 1 or busy(mount)):
            raise LinuxError(errno.EBUSY)
        for each in reversed(below):
            self._disconnect(each)
            self._forget(each)
        self.caches.clear()

    def pivot(self, new_root: Path, put_old: Path, old_root: Path) -> None:
        """pivot_root(2): `new_root` becomes the root, the old root moves to `put_old` (the caller checked)."""
        new, old = new_root.mount, old_root.mount
        self._disconnect(new)
        place, at = old.parent, old.mountpoint
        if place is not None:
            self._disconnect(old)
            self._connect(new, place, at)
        else:
            self.root = new
            self.mounts[new.id] = new
            new.namespace = self
        self._connect(old, put_old.mount, put_old.dentry)
        self.caches.clear()

    def remount(self, mount: Mount, flags: int) -> None:
        """MS_REMOUNT of the mount's own flags."""
        mount.flags = flags & MOUNT_FLAGS
        self.caches.clear()

    def copy(self) -> tuple[MountNamespace, dict[Mount, Mount]]:
        """CLONE_NEWNS: the same tree of mounts in a namespace of its own, and old mount -> new mount."""
        fresh = MountNamespace(self.root.superblock, self.root.flags, like=self)
        fresh.root.root = fresh.root.mountpoint = self.root.root
        fresh.root.source = self.root.source
        moved = {self.root: fresh.root}
        for mount in list(self.subtree(self.root))[1:]:
            assert mount.parent is not None
            twin = moved[mount] = fresh._clone(mount, mount.root)
            fresh._connect(twin, moved[mount.parent], mount.mountpoint)
        return fresh, moved

    # --- links ---
    def _clone(self, mount: Mount, root: Dentry) -> Mount:
        twin = self.new_mount(mount.superblock, root, mount.flags, mount.source)
        twin.propagation = mount.propagation
        return twin

    def _connect(self, mount: Mount, parent: Mount, dentry: Dentry) -> None:
        mount.parent, mount.mountpoint, mount.namespace = parent, dentry, self
        dentry.mounted += 1
        if dentry.dynamic:
            dentry.parent.children[dentry.name] = dentry
        self.table[parent, dentry] = mount
        self.mounts[mount.id] = mount

    def _disconnect(self, mount: Mount) -> None:
        if mount.parent is not None:
            mount.mountpoint.mounted -= 1
            self.table.pop((mount.parent, mount.mountpoint), None)
        self.mounts.pop(mount.id, None)
        mount.parent, mount.namespace = None, None

    def _forget(self, mount: Mount) -> None:
        superblock = mount.superblock
        superblock.mounts -= 1
        if superblock.mounts == 0:
            superblock.release()
