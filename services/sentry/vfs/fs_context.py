"""A task's view of the tree: root, working directory, umask, mount namespace (struct fs_struct; clone(2) CLONE_FS).

Also holds its current slice of the whole-path cache (vfs/path_cache.py). `followed` and `unfollowed` are valid while
`cache_cred is task.cred`; every change of root, directory, namespace or credentials makes that false.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sentry.vfs.path_walk import Path

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.vfs.mounts import Mount, MountNamespace
    from services.sentry.vfs.path_cache import CacheEntry, PathCache

__all__ = ["FsContext"]


class FsContext:
    """root and cwd are Paths; umask holds permission bits."""

    __slots__ = ("_cache", "_cwd", "_mounts", "_root", "cache_cred", "followed", "umask", "unfollowed")

    def __init__(self, mounts: MountNamespace, root: Path, cwd: Path, umask: int = 0o022) -> None:
        self._mounts = mounts
        self._root = root
        self._cwd = cwd
        self.umask = umask
        self._cache: PathCache | None = None
        self.cache_cred: Credentials | None = None
        self.followed: dict[bytes, CacheEntry] = {}
        self.unfollowed: dict[bytes, CacheEntry] = {}

    @property
    def root(self) -> Path:
        return self._root

    @root.setter
    def root(self, path: Path) -> None:
        self._root = path
        self.cache_cred = None

    @property
    def cwd(self) -> Path:
        return self._cwd

    @cwd.setter
    def cwd(self, path: Path) -> None:
        self._cwd = path
        self.cache_cred = None

    @property
    def mounts(self) -> MountNamespace:
        return self._mounts

    def adopt(self, cred: Credentials) -> None:
        """Make the path cache that of `cred` at this root and directory."""
        self._cache = cache = self._mounts.caches.find(self._root, self._cwd, cred)
        self.followed = cache.followed
        self.unfollowed = cache.unfollowed
        self.cache_cred = cred

    def fork(self) -> FsContext:
        """A copy for a child without CLONE_FS."""
        child = FsContext(self._mounts, self._root, self._cwd, self.umask)
        child._cache = self._cache
        child.cache_cred = self.cache_cred
        child.followed = self.followed
        child.unfollowed = self.unfollowed
        return child

    def unshare_mounts(self) -> None:
        """CLONE_NEWNS: a private copy of the mount namespace; root and cwd move to the same places in it."""
        copy, moved = self._mounts.copy()
        self.enter(copy, moved)

    def enter(self, namespace: MountNamespace, moved: dict[Mount, Mount]) -> None:
        """Go over to `namespace`, whose mounts replace ours as `moved` says."""
        self._mounts = namespace
        self.root = Path(moved.get(self._root.mount, self._root.mount), self._root.dentry)
        self.cwd = Path(moved.get(self._cwd.mount, self._cwd.mount), self._cwd.dentry)
