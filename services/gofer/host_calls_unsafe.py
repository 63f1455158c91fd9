"""Host calls that the os module does not offer, by ctypes: openat2, statx, *at calls on O_PATH fds, getdents64.

No logic: arguments in, bytes or numbers out, OSError with the host's errno. None of them needs /proc. Buffers are
module state of one thread: the gofer is single-threaded, and each is copied out before the next call.
Sources: openat2(2), statx(2), fchmodat2(2), utimensat(2), getdents64(2), fstatfs(2), setxattrat(2) (Linux 6.13).
"""

from __future__ import annotations

import ctypes
import os
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

HOST_SYSCALLS: Final = (
    "openat2",
    "statx",
    "fchmodat2",
    "fchownat",
    "utimensat",
    "getdents64",
    "fstatfs",
    "setxattrat",
    "getxattrat",
    "listxattrat",
    "removexattrat",
)

# numbers newer than 424 are the same on every architecture; the older ones are looked up by machine
_NUMBERS: Final = {
    "x86_64": {"statx": 332, "fchownat": 260, "utimensat": 280, "getdents64": 217, "fstatfs": 138},
    "aarch64": {"statx": 291, "fchownat": 54, "utimensat": 88, "getdents64": 61, "fstatfs": 44},
}[os.uname().machine]
_SYS_OPENAT2: Final = 437
_SYS_FCHMODAT2: Final = 452
_SYS_SETXATTRAT: Final = 463
_SYS_GETXATTRAT: Final = 464
_SYS_LISTXATTRAT: Final = 465
_SYS_REMOVEXATTRAT: Final = 466
_SYS_STATX: Final = _NUMBERS["statx"]
_SYS_FCHOWNAT: Final = _NUMBERS["fchownat"]
_SYS_UTIMENSAT: Final = _NUMBERS["utimensat"]
_SYS_GETDENTS64: Final = _NUMBERS["getdents64"]
_SYS_FSTATFS: Final = _NUMBERS["fstatfs"]

O_PATH: Final = os.O_PATH
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_STRICT: Final = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS

AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_NO_AUTOMOUNT: Final = 0x800
AT_EMPTY_PATH: Final = 0x1000
STATX_BASIC_STATS: Final = 0x7FF
STATX_BTIME: Final = 0x800
STATX_MNT_ID: Final = 0x1000
STATX_WANTED: Final = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID

UTIME_NOW: Final = 0x3FFFFFFF
UTIME_OMIT: Final = 0x3FFFFFFE

# struct statx (include/uapi/linux/stat.h), up to stx_mnt_id
_STATX: Final = Struct("<IIQIIIH2xQQQQqI4xqI4xqI4xqI4xIIIIQ")
_STATFS: Final = Struct("<qqQQQQQQqqq")
_HOW: Final = Struct("<QQQ")
_TIMES: Final = Struct("<qqqq")
_XATTR_ARGS: Final = Struct("<QII")
_DIRENT: Final = Struct("<QqHB")
_DIRENT_HEADER_BYTES: Final = 19

GETDENTS_BYTES: Final = 65536
XATTR_SIZE_MAX: Final = 65536

# PyDLL keeps the GIL: these calls are short, and giving it up costs more than most of them take
_libc: Final = ctypes.PyDLL(None, use_errno=True)
_at: Final = _libc["syscall"]
_at.restype = ctypes.c_long
_at.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_long]
_six: Final = ctypes.PyDLL(None, use_errno=True)["syscall"]
_six.restype = ctypes.c_long
_six.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_char_p, *[ctypes.c_long] * 4]

_how_buffer: Final = ctypes.create_string_buffer(_HOW.size)
_how_address: Final = ctypes.addressof(_how_buffer)
_stat_buffer: Final = ctypes.create_string_buffer(256)
_stat_address: Final = ctypes.addressof(_stat_buffer)
_big_buffer: Final = ctypes.create_string_buffer(max(GETDENTS_BYTES, XATTR_SIZE_MAX))
_big_address: Final = ctypes.addressof(_big_buffer)


class Statx(NamedTuple):
    """struct statx, as the kernel filled it in. Times in (seconds, nanoseconds)."""

    mask: int
    blksize: int
    attributes: int
    nlink: int
    uid: int
    gid: int
    mode: int
    ino: int
    size: int
    blocks: int
    attributes_mask: int
    atime_sec: int
    atime_nsec: int
    btime_sec: int
    btime_nsec: int
    ctime_sec: int
    ctime_nsec: int
    mtime_sec: int
    mtime_nsec: int
    rdev_major: int
    rdev_minor: int
    dev_major: int
    dev_minor: int
    mnt_id: int


RawEntry: TypeAlias = tuple[int, int, int, bytes]
"""One struct linux_dirent64: ino, cookie (the position behind it), kind (DT_*), name."""


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def openat2(dir_fd: int, name: bytes, flags: int, mode: int = 0, resolve: int = RESOLVE_STRICT) -> int:
    """openat2(2); always close-on-exec. Returns the fd."""
    _HOW.pack_into(_how_buffer, 0, flags | os.O_CLOEXEC, mode, resolve)
    fd: int = _at(_SYS_OPENAT2, dir_fd, name, _how_address, 24, 0)
    if fd < 0:
        raise _error()
    return fd


def statx_fd(fd: int) -> Statx:
    """statx(2) of what `fd` (O_PATH or not) refers to."""
    if _at(_SYS_STATX, fd, b"", AT_EMPTY_PATH, STATX_WANTED, _stat_address) < 0:
        raise _error()
    return Statx._make(_STATX.unpack_from(_stat_buffer))


def statx_at(dir_fd: int, name: bytes) -> Statx:
    """statx(2) of one name in a directory, never through a symlink or an automount."""
    return Statx._make(statx_fields_at(dir_fd, name))


def statx_fields_at(dir_fd: int, name: bytes) -> tuple[int, ...]:
    """The same as a plain tuple: what a listing makes for each entry."""
    if _at(_SYS_STATX, dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_WANTED, _stat_address) < 0:
        raise _error()
    return _STATX.unpack_from(_stat_buffer)


def fchmod_path(fd: int, mode: int) -> None:
    """fchmodat2(2) with AT_EMPTY_PATH (Linux 6.6): chmod of an O_PATH fd. ENOSYS before that."""
    if _at(_SYS_FCHMODAT2, fd, b"", mode, AT_EMPTY_PATH, 0) < 0:
        raise _error()


def fchown_path(fd: int, uid: int, gid: int) -> None:
    """fchownat(2) with AT_EMPTY_PATH; -1 leaves a side alone."""
    if _at(_SYS_FCHOWNAT, fd, b"", uid, gid, AT_EMPTY_PATH) < 0:
        raise _error()


def utimens_path(fd: int, atime_sec: int, atime_nsec: int, mtime_sec: int, mtime_nsec: int) -> None:
    """utimensat(2) with AT_EMPTY_PATH (Linux 5.8); UTIME_NOW and UTIME_OMIT as nanoseconds have their meaning."""
    _TIMES.pack_into(_stat_buffer, 0, atime_sec, atime_nsec, mtime_sec, mtime_nsec)
    if _at(_SYS_UTIMENSAT, fd, b"", _stat_address, AT_EMPTY_PATH, 0) < 0:
        raise _error()


def fstatfs(fd: int) -> tuple[int, ...]:
    """fstatfs(2): type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags."""
    if _at(_SYS_FSTATFS, fd, ctypes.cast(_stat_address, ctypes.c_char_p), 0, 0, 0) < 0:
        raise _error()
    return _STATFS.unpack_from(_stat_buffer)


def getdents64(fd: int) -> list[RawEntry]:
    """The next batch of entries of an open directory; empty at its end. getdents64(2)."""
    got: int = _at(_SYS_GETDENTS64, fd, ctypes.cast(_big_address, ctypes.c_char_p), GETDENTS_BYTES, 0, 0)
    if got < 0:
        raise _error()
    data = ctypes.string_at(_big_address, got)
    entries: list[RawEntry] = []
    at = 0
    unpack = _DIRENT.unpack_from
    while at < got:
        ino, cookie, length, kind = unpack(data, at)
        start = at + _DIRENT_HEADER_BYTES
        entries.append((ino, cookie & 0xFFFFFFFFFFFFFFFF, kind, data[start : data.index(b"\0", start)]))
        at += length
    return entries


def _xattr(number: int, dir_fd: int, path: bytes, name: bytes, args: bytes) -> int:
    """One of set/getxattrat: the xattr's name and the struct xattr_args are both pointers."""
    c_name = ctypes.create_string_buffer(name)
    c_args = ctypes.create_string_buffer(args)
    got: int = _six(
        number, dir_fd, path, AT_SYMLINK_NOFOLLOW, ctypes.addressof(c_name), ctypes.addressof(c_args), len(args)
    )
    if got < 0:
        raise _error()
    return got


def getxattrat(dir_fd: int, path: bytes, name: bytes) -> bytes:
    """getxattrat(2), not following a symlink. ENOSYS before Linux 6.13."""
    got = _xattr(_SYS_GETXATTRAT, dir_fd, path, name, _XATTR_ARGS.pack(_big_address, XATTR_SIZE_MAX, 0))
    return ctypes.string_at(_big_address, got)


def setxattrat(dir_fd: int, path: bytes, name: bytes, value: bytes, flags: int) -> None:
    """setxattrat(2), not following a symlink. ENOSYS before Linux 6.13."""
    c_value = ctypes.create_string_buffer(value, max(1, len(value)))
    _xattr(_SYS_SETXATTRAT, dir_fd, path, name, _XATTR_ARGS.pack(ctypes.addressof(c_value), len(value), flags))


def listxattrat(dir_fd: int, path: bytes) -> bytes:
    """listxattrat(2): NUL-terminated names. ENOSYS before Linux 6.13."""
    got: int = _six(_SYS_LISTXATTRAT, dir_fd, path, AT_SYMLINK_NOFOLLOW, _big_address, XATTR_SIZE_MAX, 0)
    if got < 0:
        raise _error()
    return ctypes.string_at(_big_address, got)


def removexattrat(dir_fd: int, path: bytes, name: bytes) -> None:
    """removexattrat(2), not following a symlink. ENOSYS before Linux 6.13."""
    c_name = ctypes.create_string_buffer(name)
    if _six(_SYS_REMOVEXATTRAT, dir_fd, path, AT_SYMLINK_NOFOLLOW, ctypes.addressof(c_name), 0, 0) < 0:
        raise _error()
