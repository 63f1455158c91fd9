"""<linux/dirent.h>: struct linux_dirent64 and the older linux_dirent, packed one record at a time."""

from __future__ import annotations

from struct import Struct
from typing import Final

from protocol.abi.layout import layout

DT_UNKNOWN: Final[int] = 0
DT_FIFO: Final[int] = 1
DT_CHR: Final[int] = 2
DT_DIR: Final[int] = 4
DT_BLK: Final[int] = 6
DT_REG: Final[int] = 8
DT_LNK: Final[int] = 10
DT_SOCK: Final[int] = 12
DT_WHT: Final[int] = 14

# struct linux_dirent64 before its name: d_ino, d_off, d_reclen, d_type.
DIRENT64_HEAD: Final = layout("struct linux_dirent64", "QqHB", 19)
# struct linux_dirent before its name: d_ino, d_off, d_reclen; d_type is the record's last byte.
DIRENT_HEAD: Final = layout("struct linux_dirent", "QQH", 18)


def type_of_mode(mode: int) -> int:
    """The d_type of a file with st_mode `mode` (the file type bits, shifted down: IFTODT)."""
    return (mode & 0o170000) >> 12


def pack_dirent64(ino: int, next_offset: int, kind: int, name: bytes) -> bytes:
    """One linux_dirent64 record, NUL-terminated and padded to eight bytes.

    `next_offset` is the directory position just after this entry; `kind` is a DT_* value.
    """
    length = len(name)
    record = _DIRENT64.get(length) or _dirent64(length)
    return record.pack(ino, next_offset, record.size, kind, name)


_DIRENT64: Final[dict[int, Struct]] = {}  # by the name's length


def _dirent64(length: int) -> Struct:
    size = (DIRENT64_HEAD.size + length + 1 + 7) & ~7
    record = _DIRENT64[length] = Struct(f"{DIRENT64_HEAD.format}{size - DIRENT64_HEAD.size}s")
    return record


def pack_dirent(ino: int, next_offset: int, kind: int, name: bytes) -> bytes:
    """One linux_dirent record (getdents(2)): as pack_dirent64, with the type in the last byte."""
    length = (DIRENT_HEAD.size + len(name) + 2 + 7) & ~7
    head = DIRENT_HEAD.pack(ino, next_offset, length)
    return (head + name).ljust(length - 1, b"\0") + bytes((kind,))
