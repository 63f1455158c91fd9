"""Open files and directories of the host, for host_directory.py, and how a name is opened.

Nothing is followed: neither links nor what a FIFO or a device would make us wait for.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from struct import Struct
from typing import TYPE_CHECKING, Final

from protocol.p9 import constants as c
from protocol.p9.attributes import Attributes
from protocol.p9.directory import ENTRY_ATTRIBUTES, ENTRY_ATTRIBUTES_BYTES
from services.gofer import host_calls_unsafe as host
from services.gofer.backends.base import MODE_SYMLINK, MODE_TYPE, Entry, OpenFile
from services.gofer.errors import LinuxError

if TYPE_CHECKING:
    from services.gofer.backends.host_tree import Export

__all__ = [
    "ALWAYS",
    "MAX_I64",
    "OpenDirectory",
    "OpenRegular",
    "host_flags_of",
    "open_directory_fd",
    "open_noatime",
    "refuse_kind",
]

_FLOCK: Final = Struct("@hhqqi4x")  # struct flock of a 64-bit Linux
_F_OFD_GETLK: Final = 36
_F_OFD_SETLK: Final = 37
_LOCK_TO_HOST: Final = {
    c.LOCK_TYPE_RDLCK: fcntl.F_RDLCK,
    c.LOCK_TYPE_WRLCK: fcntl.F_WRLCK,
    c.LOCK_TYPE_UNLCK: fcntl.F_UNLCK,
}
_LOCK_FROM_HOST: Final = {value: key for key, value in _LOCK_TO_HOST.items()}
MAX_I64: Final = (1 << 63) - 1

_DOTS: Final = (b".", b"..")

# L_* bits that reach the host, by the host's own values. O_DIRECT does not (our buffers are not aligned), nor do flags
# that mean nothing for a file server (NOCTTY, FASYNC, CLOEXEC, LARGEFILE).
_FLAGS: Final = tuple(
    (bit, flag)
    for bit, flag in (
        (c.L_TRUNC, os.O_TRUNC),
        (c.L_APPEND, os.O_APPEND),
        (c.L_DSYNC, os.O_DSYNC),
        (c.L_SYNC, os.O_SYNC),
        (c.L_DIRECTORY, os.O_DIRECTORY),
        (c.L_NOATIME, os.O_NOATIME),
    )
)
_FLAG_BITS: Final = sum({bit for bit, _ in _FLAGS} - {c.L_DSYNC}) | c.L_DSYNC
ALWAYS: Final = os.O_NOFOLLOW | os.O_NONBLOCK


def host_flags_of(flags: int, read_only: bool) -> int:
    """L_* to the host's O_*. EROFS for what would change a read-only export, EINVAL for access mode 3."""
    access = flags & c.L_ACCMODE
    if access == 3:
        raise LinuxError(errno.EINVAL, "open: access mode 3")
    if read_only and (access or flags & c.L_TRUNC):
        raise LinuxError(errno.EROFS, "open: export is read-only")
    result = access | ALWAYS
    if flags & _FLAG_BITS:
        for bit, flag in _FLAGS:
            if flags & bit == bit:
                result |= flag
    return result


def refuse_kind(mode: int) -> LinuxError:
    if mode & MODE_TYPE == MODE_SYMLINK:
        return LinuxError(errno.ELOOP, "open: a symlink")
    return LinuxError(errno.ENXIO, "open: neither a file nor a directory")


def open_noatime(dir_fd: int, name: bytes, host_flags: int) -> int:
    """openat2; O_NOATIME, which only the owner may use, is dropped where refused."""
    try:
        return host.openat2(dir_fd, name, host_flags)
    except PermissionError:
        if not host_flags & os.O_NOATIME:
            raise
        return host.openat2(dir_fd, name, host_flags & ~os.O_NOATIME)


def open_directory_fd(dir_fd: int, name: bytes, flags: int, export: Export) -> int:
    if flags & c.L_ACCMODE or flags & c.L_TRUNC:
        raise LinuxError(errno.EISDIR, "open: a directory for writing")
    return open_noatime(dir_fd, name, host_flags_of(flags, export.read_only) | os.O_DIRECTORY)


class OpenRegular(OpenFile):
    """An open regular file. `owned`: the fd is this object's; else it is its node's, which outlives it."""

    __slots__ = ("_owned", "fd")

    def __init__(self, fd: int, owned: bool) -> None:
        self.fd = fd
        self._owned = owned

    def close(self) -> None:
        if self._owned:
            self._owned = False
            os.close(self.fd)

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self.fd, count, offset) if offset <= MAX_I64 else b""

    def write(self, offset: int, data: memoryview) -> int:
        if offset + len(data) > MAX_I64:
            raise LinuxError(errno.EFBIG, "write: beyond the largest offset")
        return os.pwrite(self.fd, data, offset)

    def sync(self, data_only: bool) -> None:
        (os.fdatasync if data_only else os.fsync)(self.fd)

    def donate(self) -> int | None:
        return self.fd

    def _flock(self, kind: int, start: int, length: int) -> bytes:
        if kind not in _LOCK_TO_HOST or start > MAX_I64 or length > MAX_I64:
            raise LinuxError(errno.EINVAL, "lock: kind or range is out of bounds")
        return _FLOCK.pack(_LOCK_TO_HOST[kind], os.SEEK_SET, start, length, 0)

    def lock(self, kind: int, start: int, length: int) -> int:
        try:
            fcntl.fcntl(self.fd, _F_OFD_SETLK, self._flock(kind, start, length))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return c.LOCK_BLOCKED
            raise
        return c.LOCK_SUCCESS

    def get_lock(self, kind: int, start: int, length: int) -> tuple[int, int, int, int]:
        found = fcntl.fcntl(self.fd, _F_OFD_GETLK, self._flock(kind, start, length))
        host_kind, _, found_start, found_length, pid = _FLOCK.unpack(found)
        return _LOCK_FROM_HOST[host_kind], found_start, found_length, max(pid, 0)


class OpenDirectory(OpenFile):
    """An open directory. Keeps the last batch of entries, so that reading on costs nothing but the new batches.

    `device`: that of its inode numbers; `itself`, `above`: what gives the attributes of "." and "..".
    """

    __slots__ = ("_above", "_batch", "_device", "_export", "_fd", "_index_of", "_itself")

    def __init__(
        self,
        fd: int,
        export: Export,
        device: tuple[int, int],
        itself: Callable[[], Attributes],
        above: Callable[[], Attributes],
    ) -> None:
        self._fd = fd
        self._export = export
        self._device = device
        self._itself = itself
        self._above = above
        self._batch: list[host.RawEntry] = []
        self._index_of: dict[int, int] | None = None  # of its cookies, once somebody goes on from one

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, offset: int, count: int) -> bytes:
        raise LinuxError(errno.EISDIR, "read: a directory")

    def sync(self, data_only: bool) -> None:
        (os.fdatasync if data_only else os.fsync)(self._fd)

    def _raw_entries(self, cookie: int) -> Iterator[host.RawEntry]:
        index = 0
        if cookie and self._batch:
            if self._index_of is None:
                self._index_of = {entry[1]: number for number, entry in enumerate(self._batch, 1)}
            index = self._index_of.get(cookie, 0)
        if not index:
            if cookie > MAX_I64:
                raise LinuxError(errno.EINVAL, "readdir: no such position")
            os.lseek(self._fd, cookie, os.SEEK_SET)
            self._fill()
        while self._batch:
            yield from self._batch[index:] if index else self._batch
            self._fill()
            index = 0

    def _fill(self) -> None:
        self._batch = host.getdents64(self._fd)
        self._index_of = None

    def entries(self, cookie: int) -> Iterator[Entry]:
        export, device, kinds = self._export, self._device, _QID_OF_DTYPE
        for ino, position, kind, name in self._raw_entries(cookie):
            yield Entry(name, (kinds.get(kind, 0), 0, export.path_of(device, ino)), position, kind)

    def packed_entries(self, cookie: int, room: int) -> list[bytes]:
        return self.pack(cookie, room, dots=True)[0]

    def pack(self, cookie: int, room: int, *, dots: bool) -> tuple[list[bytes], bool]:
        """As `packed_entries`, and whether these are all; without `dots`, "." and ".." are left out."""
        fields, pack, fd = self._export.fields, ENTRY_ATTRIBUTES.pack, self._fd
        records: list[bytes] = []
        for _, position, kind, name in self._raw_entries(cookie):
            length = len(name)
            try:
                if name not in _DOTS:
                    st: tuple[int, ...] = fields(host.statx_fields_at(fd, name))
                elif dots:
                    st = self.entry_attributes(name)
                else:
                    continue
            except FileNotFoundError:
                continue
            room -= ENTRY_ATTRIBUTES_BYTES + length
            if room < 0:
                return records, False
            records.append(pack(*st, position, kind, length) + name)
        return records, True

    def entry_attributes(self, name: bytes) -> Attributes:
        if name == b".":
            return self._itself()
        if name == b"..":  # never asked of the host: above a root it is none of the client's business
            return self._above()
        return self._export.attributes(host.statx_at(self._fd, name))


_QID_OF_DTYPE: Final = {4: c.QTDIR, 10: c.QTSYMLINK}
