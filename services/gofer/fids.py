"""The fids of one connection: which number stands for which object, open file or extended attribute.

A Fid owns one reference of its node, and its open file. The table is bounded; what it holds is given up by `clunk` or
`clear`, and by nothing else.
"""

from __future__ import annotations

import errno
from typing import Final

from services.gofer.backends.base import Node, OpenFile
from services.gofer.errors import LinuxError

MAX_FIDS: Final = 65536


class XattrRead:
    """What Txattrwalk bound a fid to: the value, whole."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value


class XattrWrite:
    """What Txattrcreate turned a fid into: a value that is gathered, and set when the fid is clunked."""

    __slots__ = ("flags", "name", "size", "value")

    def __init__(self, name: bytes, size: int, flags: int) -> None:
        self.name = name
        self.size = size
        self.flags = flags
        self.value = bytearray()


class Fid:
    """One bound fid. `file` is None until it is opened; `xattr` is None unless it stands for an extended attribute."""

    __slots__ = ("file", "node", "xattr")

    def __init__(self, node: Node, file: OpenFile | None = None) -> None:
        self.node = node
        self.file = file
        self.xattr: XattrRead | XattrWrite | None = None

    def release(self) -> None:
        """Give up what the fid holds, the file before its node."""
        if self.file is not None:
            self.file.close()
        self.node.release()


class FidTable:
    """Fid numbers of one connection."""

    __slots__ = ("fids", "max_fids")

    def __init__(self, max_fids: int = MAX_FIDS) -> None:
        self.fids: dict[int, Fid] = {}
        self.max_fids = max_fids

    def get(self, number: int) -> Fid:
        """The fid of that number; EBADF when it is not bound."""
        fid = self.fids.get(number)
        if fid is None:
            raise LinuxError(errno.EBADF, "fid is not bound")
        return fid

    def check_free(self, number: int) -> None:
        """Refuse a number that is bound (EBADF, as Linux servers answer) or one fid too many (ENFILE)."""
        if number in self.fids:
            raise LinuxError(errno.EBADF, "fid is bound already")
        if len(self.fids) >= self.max_fids:
            raise LinuxError(errno.ENFILE, "too many fids")

    def clunk(self, number: int) -> Fid:
        """Unbind; the caller releases what comes back. EBADF."""
        fid = self.fids.pop(number, None)
        if fid is None:
            raise LinuxError(errno.EBADF, "fid is not bound")
        return fid

    def clear(self) -> None:
        """Give everything up."""
        fids, self.fids = self.fids, {}
        for fid in fids.values():
            fid.release()
