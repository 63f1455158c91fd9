"""The tmpfs superblock: quotas of pages and inodes, mount options (tmpfs(5)), nameless files (memfd_create(2))."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import mount_h as mt
from protocol.abi.statfs_h import RAMFS_MAGIC, TMPFS_MAGIC
from services.sentry.errors import LinuxError
from services.sentry.filesystems.tmpfs.directory import TmpfsDirectory
from services.sentry.filesystems.tmpfs.regular import TmpfsFile, TmpfsRegular
from services.sentry.vfs.superblock import Statfs, Superblock

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel

__all__ = ["TmpfsSuperblock", "make", "make_memfd"]

PAGE: Final = 4096
UNITS: Final = {b"k": 10, b"m": 20, b"g": 30, b"t": 40, b"p": 50, b"e": 60}
DEFAULT_MEMORY: Final = 4 << 30


class TmpfsSuperblock(Superblock):
    """max_pages, max_inodes: 0 means unlimited.

    `moved`: how many small files are in host memory for being read or written often (TmpfsRegular).
    """

    __slots__ = ("last_ino", "max_inodes", "max_pages", "moved", "root_mode", "used_inodes", "used_pages")

    def __init__(
        self,
        kernel: Kernel,
        source: bytes = b"tmpfs",
        flags: int = 0,
        options: bytes = b"",
        type_name: bytes = b"tmpfs",
    ) -> None:
        """EINVAL: an option that does not exist or a bad value."""
        magic = RAMFS_MAGIC if type_name == b"ramfs" else TMPFS_MAGIC
        super().__init__(kernel, type_name, magic, source=source, flags=flags)
        memory = int(getattr(kernel, "memory_bytes", 0)) or DEFAULT_MEMORY
        self.prunable = False
        self.last_ino = 0
        self.moved = 0
        self.used_pages = 0
        self.used_inodes = 0
        self.max_pages = 0 if type_name == b"ramfs" else memory // 2 // PAGE
        self.max_inodes = self.max_pages
        self.root_mode = 0o1777 if type_name == b"tmpfs" else 0o755
        uid, gid = self._parse(options, memory)
        self.set_root(TmpfsDirectory(self, self.root_mode, uid, gid))

    # --- options ---
    def _parse(self, options: bytes, memory: int) -> tuple[int, int]:
        """Apply tmpfs(5) options; the owner of the root. EINVAL."""
        uid = gid = 0
        shown = []
        for option in options.split(b","):
            if not option:
                continue
            name, _, value = option.partition(b"=")
            try:
                if name == b"size":
                    self.max_pages = _size(value, memory)
                elif name == b"nr_blocks":
                    self.max_pages = _number(value)
                elif name == b"nr_inodes":
                    self.max_inodes = _number(value)
                elif name == b"mode":
                    self.root_mode = int(value, 8) & 0o7777
                elif name == b"uid":
                    uid = int(value)
                elif name == b"gid":
                    gid = int(value)
                elif name not in (b"huge", b"mpol", b"inode32", b"inode64", b"noswap", b"seclabel"):
                    raise LinuxError(errno.EINVAL, f"tmpfs option {name!r}")
            except ValueError:
                raise LinuxError(errno.EINVAL, f"tmpfs option {option!r}") from None
            if name == b"size":
                option = b"size=%dk" % (self.max_pages * 4)
            shown.append(option)
        self.options = b",".join(shown)
        return uid, gid

    def remount(self, flags: int, options: bytes) -> None:
        """EINVAL: a limit below what is in use."""
        old = self.max_pages, self.max_inodes, self.options, self.root_mode
        self._parse(options or self.options, int(getattr(self.kernel, "memory_bytes", 0)) or DEFAULT_MEMORY)
        if 0 < self.max_pages < self.used_pages or 0 < self.max_inodes < self.used_inodes:
            self.max_pages, self.max_inodes, self.options, self.root_mode = old
            raise LinuxError(errno.EINVAL)
        self.flags = flags

    # --- quotas ---
    def charge(self, pages: int) -> int:
        """As memory_data.Quota."""
        if self.max_pages and self.used_pages + pages > self.max_pages:
            pages = max(0, self.max_pages - self.used_pages)
        self.used_pages += pages
        return pages

    def uncharge(self, pages: int) -> None:
        self.used_pages -= pages

    def charge_inode(self) -> int:
        """The number of a new inode. ENOSPC: the limit is reached."""
        if self.max_inodes and self.used_inodes >= self.max_inodes:
            raise LinuxError(errno.ENOSPC)
        self.used_inodes += 1
        self.last_ino += 1
        return self.last_ino

    def uncharge_inode(self) -> None:
        self.used_inodes -= 1

    def statfs(self) -> Statfs:
        free = max(0, self.max_pages - self.used_pages)
        return Statfs(self.max_pages, free, free, self.max_inodes, max(0, self.max_inodes - self.used_inodes))


class MemfdSuperblock(TmpfsSuperblock):
    """The kernel's own tmpfs behind memfd_create(2) and shared anonymous memory: one per kernel, never mounted."""

    __slots__ = ()

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.max_pages = self.max_inodes = 0


def make(kernel: Kernel, source: bytes, flags: int, options: bytes) -> Superblock:
    """The constructor of the registry."""
    return TmpfsSuperblock(kernel, source, flags & mt.MS_RDONLY, options)


def make_memfd(kernel: Kernel, name: bytes, uid: int, gid: int, *, sealable: bool, mode: int = 0o777) -> TmpfsFile:
    """An open nameless file, read-write (memfd_create(2)); its /proc/self/fd link shows "/memfd:NAME (deleted)"."""
    superblock = kernel.part(MemfdSuperblock)
    inode = TmpfsRegular(superblock, mode, uid, gid, name.decode("utf-8", "replace").replace("\0", "?")[:200])
    inode.nlink = 0
    inode.seals = 0 if sealable else fc.F_SEAL_SEAL
    return MemfdFile(inode, fc.O_RDWR | fc.O_LARGEFILE, name)


class MemfdFile(TmpfsFile):
    """An open memfd; `name` without the prefix."""

    __slots__ = ("name",)

    def __init__(self, inode: TmpfsRegular, flags: int, name: bytes) -> None:
        super().__init__(inode, flags)
        self.name = name

    def proc_link(self) -> bytes:
        return b"/memfd:" + self.name + b" (deleted)"


def _number(value: bytes) -> int:
    """A count with an optional unit suffix (tmpfs(5)). ValueError."""
    unit = UNITS.get(value[-1:].lower())
    return int(value) if unit is None else int(value[:-1]) << unit


def _size(value: bytes, memory: int) -> int:
    """size=: bytes with a unit, or a percentage of memory, in pages. ValueError."""
    if value.endswith(b"%"):
        return memory * int(value[:-1]) // 100 // PAGE
    return (_number(value) + PAGE - 1) // PAGE
