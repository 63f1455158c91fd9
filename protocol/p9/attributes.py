"""Qid, Attributes and SetAttributes: the fixed-size records of 9P2000.L.

`Attributes` is exactly the body of Rgetattr (153 bytes), which is also the record the extension messages repeat. It is
a named tuple because `Struct.unpack` already makes a tuple: wrapping costs one C call. Device numbers use the kernel's
"new" encoding, equal to os.makedev() for major < 4096; times are (seconds, nanoseconds) since the epoch.
Source: diod protocol.md (getattr), Linux fs/9p/vfs_inode_dotl.c.
"""

from __future__ import annotations

import stat as _stat
from struct import Struct
from typing import Final, NamedTuple

from protocol.p9 import constants as c
from protocol.records import record

QID: Final = Struct("<BIQ")
ATTRIBUTES: Final = Struct("<QBIQIIIQQQQQqQqQqQqQQQ")
ATTRIBUTES_BYTES: Final = 153
SETATTR_BODY: Final = Struct("<IIIIQqQqQ")

assert QID.size == 13
assert ATTRIBUTES.size == ATTRIBUTES_BYTES
assert SETATTR_BODY.size == 56


class Qid(NamedTuple):
    """What a server calls a file: `path` is unique among live files of one attach, `kind` is a QT* bit set."""

    kind: int
    version: int
    path: int


class Attributes(NamedTuple):
    """All that stat(2)/statx(2) tells of a file, as the server reports it. `valid` is a GETATTR_* mask."""

    valid: int
    qid_kind: int
    qid_version: int
    qid_path: int
    mode: int
    uid: int
    gid: int
    nlink: int
    rdev: int
    size_bytes: int
    block_size_bytes: int
    blocks: int  # of 512 bytes
    atime_sec: int
    atime_nsec: int
    mtime_sec: int
    mtime_nsec: int
    ctime_sec: int
    ctime_nsec: int
    btime_sec: int
    btime_nsec: int
    generation: int
    data_version: int

    @property
    def qid(self) -> Qid:
        """The file's qid."""
        return Qid(self.qid_kind, self.qid_version, self.qid_path)

    @property
    def atime_ns(self) -> int:
        """Last access, nanoseconds since the epoch."""
        return self.atime_sec * 1_000_000_000 + self.atime_nsec

    @property
    def mtime_ns(self) -> int:
        """Last modification, nanoseconds since the epoch."""
        return self.mtime_sec * 1_000_000_000 + self.mtime_nsec

    @property
    def ctime_ns(self) -> int:
        """Last status change, nanoseconds since the epoch."""
        return self.ctime_sec * 1_000_000_000 + self.ctime_nsec

    @property
    def btime_ns(self) -> int:
        """Birth time, nanoseconds since the epoch; 0 unless GETATTR_BTIME is in `valid`."""
        return self.btime_sec * 1_000_000_000 + self.btime_nsec

    @property
    def is_directory(self) -> bool:
        """Whether the mode says S_IFDIR."""
        return self.mode & 0o170000 == 0o040000

    @property
    def is_symlink(self) -> bool:
        """Whether the mode says S_IFLNK."""
        return self.mode & 0o170000 == 0o120000

    @property
    def is_regular(self) -> bool:
        """Whether the mode says S_IFREG."""
        return self.mode & 0o170000 == 0o100000


@record
class SetAttributes:
    """The body of Tsetattr: `valid` is a SETATTR_* mask, other members count only where their bit is set."""

    valid: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size_bytes: int = 0
    atime_sec: int = 0
    atime_nsec: int = 0
    mtime_sec: int = 0
    mtime_nsec: int = 0


class StatFs(NamedTuple):
    """The body of Rstatfs, statfs(2). `fsid` is one 64-bit number."""

    fs_type: int
    block_size_bytes: int
    blocks: int
    blocks_free: int
    blocks_available: int
    files: int
    files_free: int
    fsid: int
    name_max_bytes: int


def qid_kind_of_mode(mode: int) -> int:
    """QT* bits for a st_mode. Cannot fail."""
    kind = mode & 0o170000
    if kind == _stat.S_IFDIR:
        return c.QTDIR
    if kind == _stat.S_IFLNK:
        return c.QTSYMLINK
    return c.QTFILE
