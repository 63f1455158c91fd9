"""Superblocks: one mounted instance of a file system, whatever number of mounts show it.

Owns the device number, the root inode and its dentry, the counters behind statfs(2), and the bounded memory of absent
names. File systems subclass it. Life: made by a constructor of filesystems/registry.py, attached by vfs/mounts.py, kept
as long as a mount or an open file refers to it; `release` is called when its last mount went.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from protocol.abi.stat_h import makedev
from services.sentry.kernel.waiter import WaitQueue
from services.sentry.vfs.dentry import Dentry
from services.sentry.vfs.path_cache import PathCaches

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.inode import Inode

__all__ = ["DEFAULT_BLOCK_SIZE", "Statfs", "Superblock"]

DEFAULT_BLOCK_SIZE: Final = 4096


class Statfs(NamedTuple):
    """Counters of statfs(2): blocks in units of the block size, then inodes."""

    blocks: int = 0
    blocks_free: int = 0
    blocks_available: int = 0
    files: int = 0
    files_free: int = 0
    name_length: int = 255


class DeviceNumbers:
    """One per kernel: device numbers of file systems without a device, major 0, from minor 20 up."""

    __slots__ = ("last",)

    def __init__(self, kernel: Kernel) -> None:
        self.last = 19

    def next(self) -> int:
        self.last += 1
        return makedev(0, self.last)


class Superblock:
    """One instance of a file system.

    type_name  as /proc/filesystems shows it, e.g. b"tmpfs".
    dev        device number of st_dev (allocated by the kernel: anonymous, major 0).
    dynamic    names may come and go by themselves: every lookup asks the inode, no path through it is cached.
    flags      MS_* of the instance (MS_RDONLY counts for every mount of it).
    quiet_queue  the wait queue of all its regular files: none ever changes readiness.
    no_new_names  the error of whoever wants to make a file in one whose names are not the guests'.
    """

    no_new_names: ClassVar[int] = errno.EPERM

    __slots__ = (
        "block_size",
        "caches",
        "dev",
        "dynamic",
        "flags",
        "kernel",
        "listed",
        "magic",
        "mounts",
        "negatives",
        "now",
        "options",
        "positives",
        "prunable",
        "prune_at",
        "quiet_queue",
        "root",
        "source",
        "type_name",
    )

    def __init__(
        self,
        kernel: Kernel,
        type_name: bytes,
        magic: int,
        *,
        source: bytes = b"none",
        flags: int = 0,
        options: bytes = b"",
        dynamic: bool = False,
        dev: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.type_name = type_name
        self.magic = magic
        self.source = source
        self.flags = flags
        self.options = options
        self.dynamic = dynamic
        self.dev = kernel.part(DeviceNumbers).next() if dev is None else dev
        self.block_size = DEFAULT_BLOCK_SIZE
        self.now: Callable[[], int] = kernel.clock.realtime_ns
        self.caches = kernel.part(PathCaches)
        self.negatives: deque[tuple[Dentry, bytes]] = deque()
        self.positives: dict[Dentry, None] = {}
        self.prune_at = 0
        self.prunable = not dynamic  # whether unused names may be forgotten and looked up again
        self.mounts = 0
        self.listed: deque[Inode] = deque()  # directories that keep a listing, the oldest first
        self.quiet_queue = WaitQueue()
        self.root: Dentry

    def set_root(self, inode: Inode) -> Dentry:
        """Make `inode` the root directory (or, for a bind of one file, the only file)."""
        self.root = Dentry(b"", None, inode, self)
        return self.root

    def statfs(self) -> Statfs:
        """What statfs(2) reports; file systems without storage report zeros."""
        return Statfs()

    def show_options(self) -> bytes:
        """Options of /proc/mounts beyond the flags, with a leading comma, e.g. b',size=64k'."""
        return self.options and b"," + self.options

    def remount(self, flags: int, options: bytes) -> None:
        """mount(2) MS_REMOUNT. EINVAL: an option that cannot change."""
        self.flags = flags

    def sync(self) -> None:
        """syncfs(2)."""

    def release(self) -> None:
        """The last mount went; open files may still use the inodes."""

    def invalidate_paths(self) -> None:
        """Forget every cached whole path: a directory moved, a symbolic link went, search permission changed."""
        self.caches.clear()
