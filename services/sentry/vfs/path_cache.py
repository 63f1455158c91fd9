"""The whole-path cache: path bytes -> where they lead, for one (root, working directory, credentials).

An entry (path, dentry, seq) holds as long as `dentry.seq == seq`; a negative dentry means ENOENT. What a sequence
number cannot tell (vfs/dentry.py) clears every cache of the kernel. `FsContext` keeps the two dictionaries of its cache
in reach, so that a hit costs one dictionary access and one comparison; every cache in use is found through a weak
registry, and the few used last are kept alive for the next process that runs in the same place.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias
from weakref import WeakValueDictionary

from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.path_walk import Path

__all__ = ["AbsentParent", "CacheEntry", "PathCache", "PathCaches"]

CacheEntry: TypeAlias = "tuple[Path, Dentry, int]"
ENTRY_LIMIT: Final = 8192
KEPT: Final = 16


class AbsentParent(LinuxError):
    """ENOENT because of a component before the last; carries the place of the negative dentry for the cache."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ENOENT)
        self.path = path


class PathCache:
    """followed: final symbolic links were followed; unfollowed: they were not."""

    __slots__ = ("__weakref__", "followed", "unfollowed")

    def __init__(self) -> None:
        self.followed: dict[bytes, CacheEntry] = {}
        self.unfollowed: dict[bytes, CacheEntry] = {}


class PathCaches:
    """All caches of one kernel, by root, working directory and what of the credentials decides about access."""

    __slots__ = ("by_key", "recent")

    def __init__(self, kernel: Kernel) -> None:
        self.by_key: WeakValueDictionary[tuple[object, ...], PathCache] = WeakValueDictionary()
        self.recent: deque[PathCache] = deque(maxlen=KEPT)

    def find(self, root: Path, cwd: Path, cred: Credentials) -> PathCache:
        key = (root, cwd, cred.fsuid, cred.fsgid, cred.groups, cred.cap_effective & 6)
        cache = self.by_key.get(key)
        if cache is None:
            cache = self.by_key[key] = PathCache()
        if not self.recent or self.recent[-1] is not cache:
            self.recent.append(cache)
        return cache

    def clear(self) -> None:
        for cache in list(self.by_key.values()):
            cache.followed.clear()
            cache.unfollowed.clear()


def remember(entries: dict[bytes, CacheEntry], name: bytes, path: Path) -> None:
    """Add one entry; a full dictionary starts over, which is cheaper than keeping an order."""
    if len(entries) >= ENTRY_LIMIT:
        entries.clear()
    entries[name] = (path, path.dentry, path.dentry.seq)
