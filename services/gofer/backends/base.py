"""What a gofer implementation fulfils: `Backend` gives roots, a `Node` is one file system object, an `OpenFile` an
open one.

Life of a Node: from `Backend.attach`, `walk`, `create` or `share`; used; `release()` exactly once for each of these.
Life of an OpenFile: from `open`/`create`; `close()` once, before its node is released. Nothing else may be called
afterwards. Every method may raise OSError (LinuxError for the implementation's own refusals): its errno goes to the
client as it is. Names are single components already checked by `check_name`: never empty, ".", "..", with a slash or
NUL, or too long. Nothing here follows a symlink, ever. `tests/unit/gofer/test_directory_backend.py` shows what is
expected of an implementation.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from protocol.p9 import constants as c
from protocol.p9.attributes import ATTRIBUTES, Attributes, SetAttributes, StatFs
from protocol.p9.directory import encode_entry_attributes
from services.gofer.errors import LinuxError

MODE_TYPE = 0o170000
MODE_DIRECTORY = 0o040000
MODE_REGULAR = 0o100000
MODE_SYMLINK = 0o120000


def check_name(name: bytes) -> None:
    """Refuse what is not one plain component: EINVAL, or ENAMETOOLONG."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise LinuxError(errno.EINVAL, "name is empty, a dot name, or holds a slash or NUL")
    if len(name) > c.MAX_NAME_BYTES:
        raise LinuxError(errno.ENAMETOOLONG, "name is longer than 255 bytes")


class Entry(NamedTuple):
    """One name in a directory. `cookie` is what a later readdir starts behind; `kind` is DT_*."""

    name: bytes
    qid: tuple[int, int, int]
    cookie: int
    kind: int


class Walk(NamedTuple):
    """How far a walk got: one record per step, `errno` 0 and a node when all were walked, `target` of a final
    symlink.
    """

    errno: int
    steps: list[Attributes]
    target: bytes
    node: Node | None


class Opened(NamedTuple):
    """As Walk, ending in an open file."""

    errno: int
    steps: list[Attributes]
    target: bytes
    node: Node | None
    file: OpenFile | None


class OpenFile(ABC):
    """An open file or directory."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Give it up. Never raises."""

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`, empty at the end. EBADF not open for reading, EISDIR. pread(2)."""
        raise LinuxError(errno.EBADF, "file cannot be read")

    def write(self, offset: int, data: memoryview) -> int:
        """Write at `offset` (at the end with L_APPEND); returns bytes written. EBADF not open for writing.
        pwrite(2).
        """
        raise LinuxError(errno.EBADF, "file cannot be written")

    def sync(self, data_only: bool) -> None:
        """What was written is durable when this returns. fsync(2)."""
        raise LinuxError(errno.EINVAL, "file cannot be synced")

    def entries(self, cookie: int) -> Iterator[Entry]:
        """Names behind `cookie` (0: from the start), "." and ".." included. ENOTDIR. Continuing is O(1) per entry."""
        raise LinuxError(errno.ENOTDIR, "not a directory")

    def entry_attributes(self, name: bytes) -> Attributes:
        """Attributes of a name that `entries` gave. ENOENT when it has vanished since."""
        raise LinuxError(errno.ENOTDIR, "not a directory")

    def packed_entries(self, cookie: int, room: int) -> list[bytes]:
        """As many of `entries` as fit in `room` bytes, with attributes, packed by `encode_entry_attributes`. What
        vanishes meanwhile is left out.
        """
        records: list[bytes] = []
        for _, record in _packed(self, cookie):
            room -= len(record)
            if room < 0:
                break
            records.append(record)
        return records

    def donate(self) -> int | None:
        """A host fd to hand to the client, still owned here; None when this kind of file is not donated."""
        return None

    def lock(self, kind: int, start: int, length: int) -> int:
        """Take or drop a byte-range lock without waiting; returns LOCK_*. fcntl(2), open file description locks."""
        raise LinuxError(errno.ENOLCK, "file cannot be locked")

    def get_lock(self, kind: int, start: int, length: int) -> tuple[int, int, int, int]:
        """(kind, start, length, pid) of the first conflicting lock; kind LOCK_TYPE_UNLCK when there is none."""
        raise LinuxError(errno.ENOLCK, "file cannot be locked")


def _packed(file: OpenFile, cookie: int) -> Iterator[tuple[bytes, bytes]]:
    """(name, packed entry) from `cookie` on."""
    for name, _, position, kind in file.entries(cookie):
        try:
            attributes = file.entry_attributes(name)
        except FileNotFoundError:
            continue
        yield name, encode_entry_attributes(name, ATTRIBUTES.pack(*attributes), position, kind)


class Node(ABC):
    """One file system object, by identity: it stays that object when its name is changed or removed."""

    __slots__ = ()

    @abstractmethod
    def share(self) -> Node:
        """The same object once more (a fid was cloned); each is released on its own. Cannot fail."""

    @abstractmethod
    def release(self) -> None:
        """Give this reference up. Never raises."""

    @abstractmethod
    def attributes(self) -> Attributes:
        """The object's attributes now."""

    @abstractmethod
    def walk(self, name: bytes) -> tuple[Node, Attributes]:
        """The object that `name` is in this directory. ENOENT, ENOTDIR."""

    @abstractmethod
    def open(self, flags: int) -> OpenFile:
        """Open with `flags` (L_*). EISDIR, ELOOP a symlink, ENXIO what is neither file nor directory, EROFS, EACCES."""

    @abstractmethod
    def read_link(self) -> bytes:
        """The text of a symlink. EINVAL when it is none."""

    @abstractmethod
    def stat_fs(self) -> StatFs:
        """The file system that holds the object."""

    def walk_many(self, names: Sequence[bytes]) -> Walk:
        """Walk several names; see Walk. No names: this object itself, with one record."""
        if not names:
            return Walk(0, [self.attributes()], b"", self.share())
        node: Node = self.share()
        steps: list[Attributes] = []
        target = b""
        try:
            for name in names:
                check_name(name)
                if steps and not steps[-1].is_directory:
                    raise LinuxError(errno.ENOTDIR, "walk: not a directory")
                child, attributes = node.walk(name)
                node.release()
                node = child
                steps.append(attributes)
                if attributes.is_symlink:
                    target = node.read_link()
        except OSError as error:
            node.release()
            return Walk(error.errno or errno.EIO, steps, target, None)
        return Walk(0, steps, target, node)

    def walk_open(self, names: Sequence[bytes], flags: int) -> Opened:
        """walk_many, then open."""
        code, steps, target, node = self.walk_many(names)
        if node is None:
            return Opened(code, steps, target, None, None)
        try:
            return Opened(0, steps, target, node, node.open(flags))
        except OSError as error:
            node.release()
            return Opened(error.errno or errno.EIO, steps, target, None, None)

    def list_whole(self, name: bytes | None, room: int) -> list[bytes] | None:
        """The entries of the directory `name` in this one (None: of this one) but "." and "..", as
        `encode_entry_attributes` packs them. None: they need more than `room` bytes. What vanishes meanwhile is left
        out. ENOTDIR, ELOOP: no directory.
        """
        code, _, _, node, file = self.walk_open([] if name is None else [name], c.L_DIRECTORY)
        if node is None or file is None:
            raise LinuxError(code or errno.EIO, "listing: cannot be opened")
        records: list[bytes] = []
        try:
            for entry, record in _packed(file, 0):
                if entry in (b".", b".."):
                    continue
                room -= len(record)
                if room < 0:
                    return None
                records.append(record)
        finally:
            file.close()
            node.release()
        return records

    def create(self, name: bytes, flags: int, mode: int, gid: int) -> tuple[Node, OpenFile, Attributes]:
        """Create (or open, without L_EXCL) a regular file in this directory. `gid` NOFID: the host's rule. EEXIST."""
        raise LinuxError(errno.EROFS, "read-only")

    def make_directory(self, name: bytes, mode: int, gid: int) -> Attributes:
        """mkdir(2). EEXIST."""
        raise LinuxError(errno.EROFS, "read-only")

    def make_node(self, name: bytes, mode: int, major: int, minor: int, gid: int) -> Attributes:
        """mknod(2). EPERM for devices the implementation does not make."""
        raise LinuxError(errno.EROFS, "read-only")

    def make_symlink(self, name: bytes, target: bytes, gid: int) -> Attributes:
        """symlink(2). `target` is any text; it is never resolved here."""
        raise LinuxError(errno.EROFS, "read-only")

    def link(self, name: bytes, other: Node) -> None:
        """Give `other` (of the same backend) the further name `name` in this directory. EXDEV across exports.
        link(2).
        """
        raise LinuxError(errno.EROFS, "read-only")

    def unlink(self, name: bytes, remove_directory: bool) -> None:
        """unlink(2) or rmdir(2). Objects that are held stay usable."""
        raise LinuxError(errno.EROFS, "read-only")

    def rename(self, name: bytes, new_directory: Node, new_name: bytes) -> None:
        """rename(2), atomically. Held objects follow their new name."""
        raise LinuxError(errno.EROFS, "read-only")

    def location(self) -> tuple[Node, bytes]:
        """The directory (a new reference) and name this object was last known under. ENOENT when it has none."""
        raise LinuxError(errno.EOPNOTSUPP, "objects have no known name")

    def set_attributes(self, change: SetAttributes, file: OpenFile | None) -> None:
        """Apply `change`: owner, then mode, then size (through `file` where that is open for writing), then times."""
        raise LinuxError(errno.EROFS, "read-only")

    def get_xattr(self, name: bytes) -> bytes:
        """getxattr(2). ENODATA."""
        raise LinuxError(errno.EOPNOTSUPP, "no extended attributes")

    def list_xattr(self) -> bytes:
        """NUL-terminated names. listxattr(2)."""
        raise LinuxError(errno.EOPNOTSUPP, "no extended attributes")

    def set_xattr(self, name: bytes, value: bytes, flags: int) -> None:
        """setxattr(2)."""
        raise LinuxError(errno.EOPNOTSUPP, "no extended attributes")

    def remove_xattr(self, name: bytes) -> None:
        """removexattr(2). ENODATA."""
        raise LinuxError(errno.EOPNOTSUPP, "no extended attributes")


class Backend(ABC):
    """A set of exports. Built before the seal; everything it will ever need is open or imported when it returns."""

    @abstractmethod
    def attach(self, name: bytes) -> Node:
        """The root of export `name`. ENOENT when there is none of that name."""

    @abstractmethod
    def close(self) -> None:
        """Give everything up. Never raises."""

    def kept_fds(self) -> tuple[int, ...]:
        """Host fds that must survive the seal."""
        return ()

    def landlock_rules(self) -> tuple[tuple[int, bool], ...]:
        """(directory fd, writable) of everything that Landlock must go on allowing."""
        return ()

    @property
    def writable(self) -> bool:
        """Whether any export may be written; chooses the host filter."""
        return False
