"""<linux/stat.h>, <asm/stat.h>: file types and modes, struct stat and struct statx for x86-64, and device numbers.

Device numbers pass through the kernel in the "new" encoding (include/linux/kdev_t.h): twelve bits of major, twenty of
minor, the same for st_dev, st_rdev and mknod's argument.
"""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# File type bits of st_mode.
S_IFMT: Final[int] = 0o170000
S_IFSOCK: Final[int] = 0o140000
S_IFLNK: Final[int] = 0o120000
S_IFREG: Final[int] = 0o100000
S_IFBLK: Final[int] = 0o60000
S_IFDIR: Final[int] = 0o40000
S_IFCHR: Final[int] = 0o20000
S_IFIFO: Final[int] = 0o10000
S_ISUID: Final[int] = 0o4000
S_ISGID: Final[int] = 0o2000
S_ISVTX: Final[int] = 0o1000
S_IRWXU: Final[int] = 0o700
S_IRUSR: Final[int] = 0o400
S_IWUSR: Final[int] = 0o200
S_IXUSR: Final[int] = 0o100
S_IRWXG: Final[int] = 0o70
S_IRGRP: Final[int] = 0o40
S_IWGRP: Final[int] = 0o20
S_IXGRP: Final[int] = 0o10
S_IRWXO: Final[int] = 7
S_IROTH: Final[int] = 4
S_IWOTH: Final[int] = 2
S_IXOTH: Final[int] = 1

# statx(2): stx_mask.
STATX_TYPE: Final[int] = 0x00000001
STATX_MODE: Final[int] = 0x00000002
STATX_NLINK: Final[int] = 0x00000004
STATX_UID: Final[int] = 0x00000008
STATX_GID: Final[int] = 0x00000010
STATX_ATIME: Final[int] = 0x00000020
STATX_MTIME: Final[int] = 0x00000040
STATX_CTIME: Final[int] = 0x00000080
STATX_INO: Final[int] = 0x00000100
STATX_SIZE: Final[int] = 0x00000200
STATX_BLOCKS: Final[int] = 0x00000400
STATX_BASIC_STATS: Final[int] = 0x000007FF
STATX_BTIME: Final[int] = 0x00000800
STATX_MNT_ID: Final[int] = 0x00001000
STATX_DIOALIGN: Final[int] = 0x00002000
STATX__RESERVED: Final[int] = 0x80000000
STATX_ALL: Final[int] = 0x00000FFF

# Linux 6.8 and later.
STATX_MNT_ID_UNIQUE: Final[int] = 0x00004000
STATX_SUBVOL: Final[int] = 0x00008000
STATX_WRITE_ATOMIC: Final[int] = 0x00010000
STATX_DIO_READ_ALIGN: Final[int] = 0x00020000

# statx(2): stx_attributes.
STATX_ATTR_COMPRESSED: Final[int] = 0x00000004
STATX_ATTR_IMMUTABLE: Final[int] = 0x00000010
STATX_ATTR_APPEND: Final[int] = 0x00000020
STATX_ATTR_NODUMP: Final[int] = 0x00000040
STATX_ATTR_ENCRYPTED: Final[int] = 0x00000800
STATX_ATTR_AUTOMOUNT: Final[int] = 0x00001000
STATX_ATTR_MOUNT_ROOT: Final[int] = 0x00002000
STATX_ATTR_VERITY: Final[int] = 0x00100000
STATX_ATTR_DAX: Final[int] = 0x00200000

# struct stat: st_dev, st_ino, st_nlink, st_mode, st_uid, st_gid, st_rdev, st_size, st_blksize, st_blocks, then seconds
# and nanoseconds of atime, mtime and ctime.
STAT: Final = layout("struct stat", "QQQIII4xQqqqqqqqqq24x", 144)
# struct statx: stx_mask, stx_blksize, stx_attributes, stx_nlink, stx_uid, stx_gid, stx_mode, stx_ino, stx_size,
# stx_blocks, stx_attributes_mask, seconds and nanoseconds of atime, btime, ctime and mtime, stx_rdev_major,
# stx_rdev_minor, stx_dev_major, stx_dev_minor, stx_mnt_id, stx_dio_mem_align, stx_dio_offset_align.
STATX: Final = layout("struct statx", "IIQIIIH2xQQQQqI4xqI4xqI4xqI4xIIIIQII96x", 256)

NANOSECONDS: Final[int] = 1_000_000_000


def pack_stat(
    dev: int,
    ino: int,
    mode: int,
    nlink: int,
    uid: int,
    gid: int,
    rdev: int,
    size: int,
    blksize: int,
    blocks: int,
    atime_ns: int,
    mtime_ns: int,
    ctime_ns: int,
) -> bytes:
    """A struct stat. `dev` and `rdev` are encoded device numbers (makedev); times are nanoseconds since the epoch."""
    asec, ansec = divmod(atime_ns, NANOSECONDS)
    msec, mnsec = divmod(mtime_ns, NANOSECONDS)
    csec, cnsec = divmod(ctime_ns, NANOSECONDS)
    return STAT.pack(
        dev, ino, nlink, mode, uid, gid, rdev, size, blksize, blocks, asec, ansec, msec, mnsec, csec, cnsec
    )


def pack_statx(
    mask: int,
    dev: int,
    ino: int,
    mode: int,
    nlink: int,
    uid: int,
    gid: int,
    rdev: int,
    size: int,
    blksize: int,
    blocks: int,
    atime_ns: int,
    btime_ns: int,
    ctime_ns: int,
    mtime_ns: int,
    attributes: int = 0,
    attributes_mask: int = 0,
    mnt_id: int = 0,
) -> bytes:
    """A struct statx. Units as in pack_stat; `mask` says which fields are valid (STATX_BASIC_STATS and more)."""
    asec, ansec = divmod(atime_ns, NANOSECONDS)
    bsec, bnsec = divmod(btime_ns, NANOSECONDS)
    csec, cnsec = divmod(ctime_ns, NANOSECONDS)
    msec, mnsec = divmod(mtime_ns, NANOSECONDS)
    return STATX.pack(
        mask,
        blksize,
        attributes,
        nlink,
        uid,
        gid,
        mode,
        ino,
        size,
        blocks,
        attributes_mask,
        asec,
        ansec,
        bsec,
        bnsec,
        csec,
        cnsec,
        msec,
        mnsec,
        major(rdev),
        minor(rdev),
        major(dev),
        minor(dev),
        mnt_id,
        0,
        0,
    )


def makedev(major_number: int, minor_number: int) -> int:
    """The encoded device number that struct stat carries (new_encode_dev, widened as glibc's makedev does)."""
    return (
        (minor_number & 0xFF)
        | (major_number & 0xFFF) << 8
        | (minor_number & ~0xFF & 0xFFFFFFFF) << 12
        | (major_number & ~0xFFF & 0xFFFFFFFF) << 32
    )


def major(device: int) -> int:
    """The major number of an encoded device number."""
    return (device >> 8) & 0xFFF | (device >> 32) & ~0xFFF & 0xFFFFFFFF


def minor(device: int) -> int:
    """The minor number of an encoded device number."""
    return device & 0xFF | (device >> 12) & ~0xFF & 0xFFFFFFFF


def is_directory(mode: int) -> bool:
    """Whether st_mode says directory."""
    return mode & S_IFMT == S_IFDIR


def is_regular(mode: int) -> bool:
    """Whether st_mode says regular file."""
    return mode & S_IFMT == S_IFREG


def is_symlink(mode: int) -> bool:
    """Whether st_mode says symbolic link."""
    return mode & S_IFMT == S_IFLNK


def is_fifo(mode: int) -> bool:
    """Whether st_mode says FIFO."""
    return mode & S_IFMT == S_IFIFO


def is_socket(mode: int) -> bool:
    """Whether st_mode says socket."""
    return mode & S_IFMT == S_IFSOCK


def is_character_device(mode: int) -> bool:
    """Whether st_mode says character device."""
    return mode & S_IFMT == S_IFCHR


def is_block_device(mode: int) -> bool:
    """Whether st_mode says block device."""
    return mode & S_IFMT == S_IFBLK
