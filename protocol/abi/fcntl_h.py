"""<fcntl.h>, <linux/fcntl.h>, <linux/openat2.h>, <linux/falloc.h>, <linux/close_range.h>: open and fcntl for x86-64.

O_* are the values of the system call, so O_LARGEFILE is the kernel's 0o100000 (glibc hides it as 0).
"""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# open(2), octal as in the header.
O_ACCMODE: Final[int] = 3
O_RDONLY: Final[int] = 0
O_WRONLY: Final[int] = 1
O_RDWR: Final[int] = 2
O_CREAT: Final[int] = 0o100
O_EXCL: Final[int] = 0o200
O_NOCTTY: Final[int] = 0o400
O_TRUNC: Final[int] = 0o1000
O_APPEND: Final[int] = 0o2000
O_NONBLOCK: Final[int] = 0o4000
O_DSYNC: Final[int] = 0o10000
O_DIRECT: Final[int] = 0o40000
O_LARGEFILE: Final[int] = 0o100000
O_DIRECTORY: Final[int] = 0o200000
O_NOFOLLOW: Final[int] = 0o400000
O_NOATIME: Final[int] = 0o1000000
O_CLOEXEC: Final[int] = 0o2000000
O_SYNC: Final[int] = 0o4010000
O_PATH: Final[int] = 0o10000000
O_TMPFILE: Final[int] = 0o20200000
O_NDELAY: Final[int] = 0o4000

O_ASYNC: Final[int] = 0o20000

# fcntl(2) commands.
F_DUPFD: Final[int] = 0
F_GETFD: Final[int] = 1
F_SETFD: Final[int] = 2
F_GETFL: Final[int] = 3
F_SETFL: Final[int] = 4
F_GETLK: Final[int] = 5
F_SETLK: Final[int] = 6
F_SETLKW: Final[int] = 7
F_SETOWN: Final[int] = 8
F_GETOWN: Final[int] = 9
F_SETSIG: Final[int] = 10
F_GETSIG: Final[int] = 11
F_SETOWN_EX: Final[int] = 15
F_GETOWN_EX: Final[int] = 16
F_GETOWNER_UIDS: Final[int] = 17
F_OFD_GETLK: Final[int] = 36
F_OFD_SETLK: Final[int] = 37
F_OFD_SETLKW: Final[int] = 38
F_SETLEASE: Final[int] = 1024
F_GETLEASE: Final[int] = 1025
F_CANCELLK: Final[int] = 1029
F_DUPFD_CLOEXEC: Final[int] = 1030
F_NOTIFY: Final[int] = 1026
F_SETPIPE_SZ: Final[int] = 1031
F_GETPIPE_SZ: Final[int] = 1032
F_ADD_SEALS: Final[int] = 1033
F_GET_SEALS: Final[int] = 1034
F_GET_RW_HINT: Final[int] = 1035
F_SET_RW_HINT: Final[int] = 1036
F_GET_FILE_RW_HINT: Final[int] = 1037
F_SET_FILE_RW_HINT: Final[int] = 1038

# Linux 6.10 and later.
F_CREATED_QUERY: Final[int] = 1028
F_DUPFD_QUERY: Final[int] = 1027

# Arguments of those.
F_OWNER_TID: Final[int] = 0
F_OWNER_PID: Final[int] = 1
F_OWNER_PGRP: Final[int] = 2
FD_CLOEXEC: Final[int] = 1
F_RDLCK: Final[int] = 0
F_WRLCK: Final[int] = 1
F_UNLCK: Final[int] = 2
F_EXLCK: Final[int] = 4
F_SHLCK: Final[int] = 8
RWH_WRITE_LIFE_NOT_SET: Final[int] = 0
RWH_WRITE_LIFE_NONE: Final[int] = 1
RWH_WRITE_LIFE_SHORT: Final[int] = 2
RWH_WRITE_LIFE_MEDIUM: Final[int] = 3
RWH_WRITE_LIFE_LONG: Final[int] = 4
RWH_WRITE_LIFE_EXTREME: Final[int] = 5

LOCK_SH: Final[int] = 1
LOCK_EX: Final[int] = 2
LOCK_NB: Final[int] = 4
LOCK_UN: Final[int] = 8
LOCK_MAND: Final[int] = 0x20
LOCK_READ: Final[int] = 0x40
LOCK_WRITE: Final[int] = 0x80
LOCK_RW: Final[int] = 0xC0
F_SEAL_SEAL: Final[int] = 1
F_SEAL_SHRINK: Final[int] = 2
F_SEAL_GROW: Final[int] = 4
F_SEAL_WRITE: Final[int] = 8
F_SEAL_FUTURE_WRITE: Final[int] = 0x10
DN_ACCESS: Final[int] = 1
DN_MODIFY: Final[int] = 2
DN_CREATE: Final[int] = 4
DN_DELETE: Final[int] = 8
DN_RENAME: Final[int] = 0x10
DN_ATTRIB: Final[int] = 0x20
DN_MULTISHOT: Final[int] = 0x80000000

# Added in Linux 6.3.
F_SEAL_EXEC: Final[int] = 0x20

# *at(2): directory argument and flags.
AT_FDCWD: Final[int] = -100

AT_SYMLINK_NOFOLLOW: Final[int] = 0x100
AT_EACCESS: Final[int] = 0x200
AT_REMOVEDIR: Final[int] = 0x200
AT_SYMLINK_FOLLOW: Final[int] = 0x400
AT_NO_AUTOMOUNT: Final[int] = 0x800
AT_EMPTY_PATH: Final[int] = 0x1000
AT_STATX_SYNC_TYPE: Final[int] = 0x6000
AT_STATX_SYNC_AS_STAT: Final[int] = 0
AT_STATX_FORCE_SYNC: Final[int] = 0x2000
AT_STATX_DONT_SYNC: Final[int] = 0x4000
AT_RECURSIVE: Final[int] = 0x8000

# renameat2(2).
RENAME_NOREPLACE: Final[int] = 1
RENAME_EXCHANGE: Final[int] = 2
RENAME_WHITEOUT: Final[int] = 4

# fallocate(2).
FALLOC_FL_KEEP_SIZE: Final[int] = 1
FALLOC_FL_PUNCH_HOLE: Final[int] = 2
FALLOC_FL_NO_HIDE_STALE: Final[int] = 4
FALLOC_FL_COLLAPSE_RANGE: Final[int] = 8
FALLOC_FL_ZERO_RANGE: Final[int] = 0x10
FALLOC_FL_INSERT_RANGE: Final[int] = 0x20
FALLOC_FL_UNSHARE_RANGE: Final[int] = 0x40

# posix_fadvise(2).
POSIX_FADV_NORMAL: Final[int] = 0
POSIX_FADV_RANDOM: Final[int] = 1
POSIX_FADV_SEQUENTIAL: Final[int] = 2
POSIX_FADV_WILLNEED: Final[int] = 3
POSIX_FADV_DONTNEED: Final[int] = 4
POSIX_FADV_NOREUSE: Final[int] = 5

# close_range(2).
CLOSE_RANGE_UNSHARE: Final[int] = 2
CLOSE_RANGE_CLOEXEC: Final[int] = 4

# openat2(2).
RESOLVE_NO_XDEV: Final[int] = 1
RESOLVE_NO_MAGICLINKS: Final[int] = 2
RESOLVE_NO_SYMLINKS: Final[int] = 4
RESOLVE_BENEATH: Final[int] = 8
RESOLVE_IN_ROOT: Final[int] = 0x10
RESOLVE_CACHED: Final[int] = 0x20

# struct flock (x86-64): l_type, l_whence, l_start, l_len, l_pid.
FLOCK: Final = layout("struct flock", "hh4xqqi4x", 32)
# struct f_owner_ex: type, pid.
F_OWNER_EX: Final = layout("struct f_owner_ex", "ii", 8)
# struct open_how: flags, mode, resolve.
OPEN_HOW: Final = layout("struct open_how", "QQQ", 24)
# struct file_handle: handle_bytes, handle_type; f_handle follows.
FILE_HANDLE: Final = layout("struct file_handle", "Ii", 8)

# lseek(2) whence (linux/fs.h).
SEEK_SET: Final[int] = 0
SEEK_CUR: Final[int] = 1
SEEK_END: Final[int] = 2
SEEK_DATA: Final[int] = 3
SEEK_HOLE: Final[int] = 4

# access(2) modes (unistd.h).
F_OK: Final[int] = 0
X_OK: Final[int] = 1
W_OK: Final[int] = 2
R_OK: Final[int] = 4
