"""Inodes: what every file system implements. Names are bytes; times are ns since the epoch; errors are LinuxError.

Read next: vfs/dentry.py (names and their cache), vfs/path_walk.py (resolution, permissions, mounts), vfs/open_file.py.
The VFS checks permissions, existence and name rules *before* it calls an operation here: an implementation only does
the thing and reports what its own storage refuses. It keeps the attribute slots below true after every operation.
"""

from __future__ import annotations

import errno
import stat as stat_mod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from services.sentry.errors import LinuxError
from services.sentry.vfs.referable import Referable

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.directory_file import Listing
    from services.sentry.vfs.open_file import OpenFile
    from services.sentry.vfs.path_walk import Path
    from services.sentry.vfs.published import Published
    from services.sentry.vfs.superblock import Superblock

__all__ = ["NOT_SHOWN", "DirectoryEntry", "Donated", "Inode"]

DirectoryEntry = tuple[bytes, int, int]  # name, inode number, DT_* type

NOT_SHOWN: Final[list[bytes | None]] = [None]
"""What `Inode.shown` is as long as nothing is kept there. It always holds None, so that anybody may "void" it."""


class Donated(Protocol):
    """A host file: `fd` is its descriptor as long as this object lives."""

    fd: int

    def pread(self, count: int, offset: int) -> bytes:
        """Up to `count` bytes. Errors as LinuxError."""
        raise NotImplementedError


class Inode(Referable):
    """One file of one file system. Attribute slots are what stat(2) shows; `mode` holds type and permission bits.

    shown   one cell: the struct stat that was packed last, None once an attribute changed since. A file system that
            keeps one (`stat_cell`) stores None there whenever it stores to an attribute slot of the inode.
    listing of a directory: what was read of it last (vfs/directory_file.py), if its file system keeps that; None since
            a name came, went or changed.
    """

    __slots__ = (
        "_size",
        "atime_ns",
        "blocks",
        "btime_ns",
        "ctime_ns",
        "deny_write",
        "gid",
        "ino",
        "locks",
        "mode",
        "mtime_ns",
        "nlink",
        "open_files",
        "pipe",
        "published",
        "rdev",
        "shown",
        "socket",
        "superblock",
        "uid",
        "watches",
        "writers",
        "__weakref__",
    )

    listing: Listing | None = None

    def __init__(
        self, superblock: Superblock, ino: int, mode: int, uid: int = 0, gid: int = 0, now_ns: int = 0
    ) -> None:
        self.superblock = superblock
        self.ino = ino
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.nlink = 1
        self.rdev = 0
        self._size = 0
        self.blocks = 0  # of 512 bytes
        self.atime_ns = self.mtime_ns = self.ctime_ns = self.btime_ns = now_ns
        self.shown = NOT_SHOWN
        self.locks: object | None = None  # vfs/file_locks.py, made on first use
        self.pipe: object | None = None  # the Pipe behind a FIFO (files/pipe.py)
        self.socket: object | None = None  # the unix socket bound here (sockets/unix/)
        self.watches: object | None = None
        self.published: dict[Published, None] | None = None  # where guests read it without asking (vfs/published.py)
        self.open_files = 0  # open file descriptions (kept by OpenFile); with nlink 0 it decides release_last_link
        self.writers = 0  # those open for writing: execve(2) gives ETXTBSY
        self.deny_write = 0  # running programs: opening for writing gives ETXTBSY

    @property
    def size(self) -> int:
        """Bytes of data; of a directory, what stat(2) is to show."""
        return self._size

    @size.setter
    def size(self, value: int) -> None:
        self._size = value

    # --- kind ---
    @property
    def is_dir(self) -> bool:
        return self.mode & 0o170000 == 0o040000

    @property
    def is_regular(self) -> bool:
        return self.mode & 0o170000 == 0o100000

    @property
    def is_symlink(self) -> bool:
        return self.mode & 0o170000 == 0o120000

    @property
    def file_type(self) -> int:
        return stat_mod.S_IFMT(self.mode)

    # --- attributes ---
    def refresh(self) -> None:
        """Bring the attribute slots up to date before they are shown (dynamic and shared files)."""

    def stat_cell(self) -> list[bytes | None] | None:
        """`shown`, made fit to keep a struct stat. None: attributes may change without a store to their slots."""
        return None

    def donated(self) -> Donated | None:
        """The host's file that a description which is opened for reading now reads and maps, if that is all that
        reading does. None: it is not at hand, or times move, or others change it.
        """
        return None

    def own_cell(self) -> list[bytes | None]:
        """`shown`, now a cell of this inode's."""
        cell = self.shown
        if cell is NOT_SHOWN:
            cell = self.shown = [None]
        return cell

    def set_attributes(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
    ) -> None:
        """Change attributes; None leaves one alone. `mode` is permission bits only; `size` truncates or extends.

        EPERM/EROFS where the file system refuses, EFBIG, ENOSPC. Suid clearing and permission checks are done above.
        """
        raise LinuxError(errno.EPERM, "attributes are fixed")

    # --- directories ---
    def keep_listing(self, listing: Listing | None) -> bool:
        """Keep it as `listing` until a change. False: this file system's directories change without saying so."""
        return False

    def lookup(self, name: bytes) -> Inode:
        """The child called `name`. ENOENT: none. Never called with b'.' or b'..'."""
        raise LinuxError(errno.ENOENT)

    def entries(self, start: int) -> Iterator[tuple[int, DirectoryEntry]]:
        """Entries from cookie `start` (0: the first), without '.' and '..': (cookie of the next one, entry).

        Cookies stay valid while entries are added and removed (getdents64(2), telldir(3)).
        """
        raise LinuxError(errno.ENOTDIR)

    def create(self, name: bytes, mode: int, cred: Credentials, rdev: int = 0) -> Inode:
        """Make a regular file, FIFO, socket or device node (type in `mode`; umask applied above)."""
        raise LinuxError(errno.EROFS)

    def mkdir(self, name: bytes, mode: int, cred: Credentials) -> Inode:
        raise LinuxError(errno.EROFS)

    def symlink(self, name: bytes, target: bytes, cred: Credentials) -> Inode:
        raise LinuxError(errno.EROFS)

    def link(self, name: bytes, target: Inode) -> None:
        """Hard link; `target` is of the same superblock (checked above)."""
        raise LinuxError(errno.EROFS)

    def unlink(self, name: bytes, child: Inode) -> None:
        raise LinuxError(errno.EROFS)

    def rmdir(self, name: bytes, child: Inode) -> None:
        """ENOTEMPTY if it has entries."""
        raise LinuxError(errno.EROFS)

    def rename(
        self, name: bytes, child: Inode, new_dir: Inode, new_name: bytes, replaced: Inode | None, flags: int
    ) -> None:
        """Move `child`; `flags` as renameat2(2). `replaced`: what stood at the target, already checked for kind."""
        raise LinuxError(errno.EROFS)

    def tmpfile(self, mode: int, cred: Credentials) -> Inode:
        """An unnamed regular file (open(2) O_TMPFILE)."""
        raise LinuxError(errno.EOPNOTSUPP)

    # --- symbolic links ---
    def readlink(self) -> bytes:
        raise LinuxError(errno.EINVAL)

    def readlink_for(self, task: Task) -> bytes:
        """The target as `task` sees it (/proc/self); what the VFS calls."""
        return self.readlink()

    def follow(self, task: Task) -> Path | None:
        """A magic link (/proc/self/fd/N, exe, cwd): the Path it leads to, or None for an ordinary link."""
        return None

    # --- contents ---
    def open_data(self, flags: int) -> OpenFile:
        """A regular file, opened for its data alone: nobody sees a name or an opener. Errors as of `open`."""
        raise LinuxError(errno.EINVAL)

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        """An open file description for this inode (permissions checked above; the VFS sets `path` afterwards and
        carries out O_TRUNC through set_attributes).
        """
        raise LinuxError(errno.ENXIO)

    def release_last_link(self) -> None:
        """Called when nlink reached 0 and no open file is left: storage may go."""

    # --- extended attributes: names with their prefix, e.g. b'user.x' ---
    def get_xattr(self, name: bytes) -> bytes:
        raise LinuxError(errno.EOPNOTSUPP)

    def set_xattr(self, name: bytes, value: bytes, flags: int) -> None:
        raise LinuxError(errno.EOPNOTSUPP)

    def list_xattr(self) -> list[bytes]:
        return []

    def remove_xattr(self, name: bytes) -> None:
        raise LinuxError(errno.EOPNOTSUPP)
