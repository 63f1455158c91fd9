"""Numbers of 9P2000.L and of the sentrio extension, and every size limit the codec enforces.

Sources: the 9P2000.L description of diod (protocol.md), intro(5) of Plan 9 for the base protocol, Linux
include/net/9p/9p.h (6.x). Frame layout: size[4] type[1] tag[2] body, little endian, size includes itself.

The extension ("9P2000.L.sentrio") uses types 200-215. With it, and only with it, the server answers requests strictly
in the order they were sent, so a client may pipeline dependent requests.
"""

from __future__ import annotations

from typing import Final

VERSION_PLAIN: Final = b"9P2000.L"
VERSION_EXTENDED: Final = b"9P2000.L.sentrio"
VERSION_UNKNOWN: Final = b"unknown"

NOTAG: Final = 0xFFFF
NOFID: Final = 0xFFFFFFFF
NONUNAME: Final = 0xFFFFFFFF

# --- limits, all in bytes unless the name says otherwise -------------------------------------------------------------
HEADER_BYTES: Final = 7
MIN_MSIZE_BYTES: Final = 4096
DEFAULT_MSIZE_BYTES: Final = 512 * 1024
MAX_MSIZE_BYTES: Final = 1024 * 1024
MAX_WALK_NAMES: Final = 16  # MAXWELEM, walk(5); also bounds one extended walk
MAX_NAME_BYTES: Final = 255  # NAME_MAX; longer names are answered with ENAMETOOLONG, not treated as a violation
MAX_STRING_BYTES: Final = 4096  # PATH_MAX; symlink targets are the longest strings that pass
MAX_XATTR_VALUE_BYTES: Final = 65536  # XATTR_SIZE_MAX, xattr(7)
MAX_FORGET_FIDS: Final = 1024
READ_OVERHEAD_BYTES: Final = HEADER_BYTES + 4  # Rread: count[4]
WRITE_OVERHEAD_BYTES: Final = HEADER_BYTES + 16  # Twrite: fid[4] offset[8] count[4]

# --- message types ---------------------------------------------------------------------------------------------------
TLERROR: Final = 6
RLERROR: Final = 7
TSTATFS: Final = 8
RSTATFS: Final = 9
TLOPEN: Final = 12
RLOPEN: Final = 13
TLCREATE: Final = 14
RLCREATE: Final = 15
TSYMLINK: Final = 16
RSYMLINK: Final = 17
TMKNOD: Final = 18
RMKNOD: Final = 19
TRENAME: Final = 20
RRENAME: Final = 21
TREADLINK: Final = 22
RREADLINK: Final = 23
TGETATTR: Final = 24
RGETATTR: Final = 25
TSETATTR: Final = 26
RSETATTR: Final = 27
TXATTRWALK: Final = 30
RXATTRWALK: Final = 31
TXATTRCREATE: Final = 32
RXATTRCREATE: Final = 33
TREADDIR: Final = 40
RREADDIR: Final = 41
TFSYNC: Final = 50
RFSYNC: Final = 51
TLOCK: Final = 52
RLOCK: Final = 53
TGETLOCK: Final = 54
RGETLOCK: Final = 55
TLINK: Final = 70
RLINK: Final = 71
TMKDIR: Final = 72
RMKDIR: Final = 73
TRENAMEAT: Final = 74
RRENAMEAT: Final = 75
TUNLINKAT: Final = 76
RUNLINKAT: Final = 77
TVERSION: Final = 100
RVERSION: Final = 101
TAUTH: Final = 102
RAUTH: Final = 103
TATTACH: Final = 104
RATTACH: Final = 105
TFLUSH: Final = 108
RFLUSH: Final = 109
TWALK: Final = 110
RWALK: Final = 111
TREAD: Final = 116
RREAD: Final = 117
TWRITE: Final = 118
RWRITE: Final = 119
TCLUNK: Final = 120
RCLUNK: Final = 121
TREMOVE: Final = 122
RREMOVE: Final = 123
# extension
TWALKGETATTR: Final = 200
RWALKGETATTR: Final = 201
TWALKOPEN: Final = 202
RWALKOPEN: Final = 203
TOPENFD: Final = 204
ROPENFD: Final = 205
TREADDIRATTR: Final = 206
RREADDIRATTR: Final = 207
TCREATEFD: Final = 208
RCREATEFD: Final = 209
TFORGET: Final = 210  # one way: no reply exists
TLISTATTR: Final = 212
RLISTATTR: Final = 213
TOPENFDS: Final = 214
ROPENFDS: Final = 215

# --- qid types (the top byte of a Plan 9 mode) -----------------------------------------------------------------------
QTDIR: Final = 0x80
QTAPPEND: Final = 0x40
QTEXCL: Final = 0x20
QTSYMLINK: Final = 0x02
QTFILE: Final = 0x00

# --- Tgetattr request mask / Rgetattr valid mask ---------------------------------------------------------------------
GETATTR_MODE: Final = 0x1
GETATTR_NLINK: Final = 0x2
GETATTR_UID: Final = 0x4
GETATTR_GID: Final = 0x8
GETATTR_RDEV: Final = 0x10
GETATTR_ATIME: Final = 0x20
GETATTR_MTIME: Final = 0x40
GETATTR_CTIME: Final = 0x80
GETATTR_INO: Final = 0x100
GETATTR_SIZE: Final = 0x200
GETATTR_BLOCKS: Final = 0x400
GETATTR_BTIME: Final = 0x800
GETATTR_GEN: Final = 0x1000
GETATTR_DATA_VERSION: Final = 0x2000
GETATTR_BASIC: Final = 0x7FF
GETATTR_ALL: Final = 0x3FFF

# --- Tsetattr valid mask ---------------------------------------------------------------------------------------------
SETATTR_MODE: Final = 0x1
SETATTR_UID: Final = 0x2
SETATTR_GID: Final = 0x4
SETATTR_SIZE: Final = 0x8
SETATTR_ATIME: Final = 0x10
SETATTR_MTIME: Final = 0x20
SETATTR_CTIME: Final = 0x40
SETATTR_ATIME_SET: Final = 0x80  # else ATIME means "now"
SETATTR_MTIME_SET: Final = 0x100
SETATTR_ALL: Final = 0x1FF

# --- Tlock -----------------------------------------------------------------------------------------------------------
LOCK_TYPE_RDLCK: Final = 0
LOCK_TYPE_WRLCK: Final = 1
LOCK_TYPE_UNLCK: Final = 2
LOCK_FLAGS_BLOCK: Final = 1
LOCK_FLAGS_RECLAIM: Final = 2
LOCK_SUCCESS: Final = 0
LOCK_BLOCKED: Final = 1
LOCK_ERROR: Final = 2
LOCK_GRACE: Final = 3

# --- Tlopen / Tlcreate flags: 9P2000.L fixes the values of x86 Linux (include/net/9p/9p.h, P9_DOTL_*) -----------------
L_ACCMODE: Final = 0o3
L_CREATE: Final = 0o100
L_EXCL: Final = 0o200
L_NOCTTY: Final = 0o400
L_TRUNC: Final = 0o1000
L_APPEND: Final = 0o2000
L_NONBLOCK: Final = 0o4000
L_DSYNC: Final = 0o10000
L_FASYNC: Final = 0o20000
L_DIRECT: Final = 0o40000
L_LARGEFILE: Final = 0o100000
L_DIRECTORY: Final = 0o200000
L_NOFOLLOW: Final = 0o400000
L_NOATIME: Final = 0o1000000
L_CLOEXEC: Final = 0o2000000
L_SYNC: Final = 0o4000000

UNLINK_REMOVEDIR: Final = 0x200  # Tunlinkat flags: AT_REMOVEDIR

# --- extension: the `want` byte of Twalkopen, Topenfd and Tcreatefd ---------------------------------------------------
WANT_FD: Final = 0x1
