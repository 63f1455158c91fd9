"""Synthetic nodes: directories from a table or from functions, files whose text a function renders, links.

A text is rendered once per open file, at the first read and again when reading restarts at offset 0, so that a reader
sees one consistent snapshot (as seq_file does). Sizes are 0, as in procfs. chmod and chown are refused unless a node
is made with `fixed=False`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from protocol.abi import fcntl_h as fc
from protocol.abi import stat_h as st
from protocol.abi.dirent_h import type_of_mode
from services.sentry.errors import LinuxError
from services.sentry.vfs.directory_file import DirectoryFile
from services.sentry.vfs.inode import DirectoryEntry, Inode
from services.sentry.vfs.open_file import OpenFile
from services.sentry.vfs.superblock import Superblock

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.path_walk import Path

__all__ = [
    "DynamicDir",
    "MagicLink",
    "Node",
    "StaticDir",
    "Symlink",
    "SyntheticSuperblock",
    "TaskTextFile",
    "TextFile",
    "TextOpenFile",
    "WritableTextFile",
]


class SyntheticSuperblock(Superblock):
    """A superblock that numbers its own inodes."""

    __slots__ = ("_last_ino",)

    def next_ino(self) -> int:
        """A fresh inode number, from 1."""
        last: int = getattr(self, "_last_ino", 0) + 1
        self._last_ino = last
        return last


class Node(Inode):
    """An inode of a synthetic file system. `ino` 0 takes the superblock's next number."""

    __slots__ = ("fixed",)

    def __init__(
        self,
        superblock: SyntheticSuperblock,
        mode: int,
        *,
        uid: int = 0,
        gid: int = 0,
        ino: int = 0,
        fixed: bool = True,
    ) -> None:
        super().__init__(superblock, ino or superblock.next_ino(), mode, uid, gid, superblock.now())
        self.fixed = fixed

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
        """A new size is ignored (O_TRUNC by a shell); owner and mode change only for nodes that are not fixed."""
        if self.fixed and (mode is not None or uid is not None or gid is not None):
            raise LinuxError(errno.EPERM)
        if mode is not None:
            self.mode = self.mode & ~0o7777 | mode
        if uid is not None:
            self.uid = uid
        if gid is not None:
            self.gid = gid
        if atime_ns is not None:
            self.atime_ns = atime_ns
        if mtime_ns is not None:
            self.mtime_ns = mtime_ns
        if ctime_ns is not None:
            self.ctime_ns = ctime_ns

    def create(self, name: bytes, mode: int, cred: Credentials, rdev: int = 0) -> Inode:
        raise LinuxError(self.superblock.no_new_names)

    def mkdir(self, name: bytes, mode: int, cred: Credentials) -> Inode:
        raise LinuxError(self.superblock.no_new_names)

    def symlink(self, name: bytes, target: bytes, cred: Credentials) -> Inode:
        raise LinuxError(self.superblock.no_new_names)


class StaticDir(Node):
    """A directory with a fixed table of children, which `add` extends."""

    __slots__ = ("children",)

    def __init__(
        self,
        superblock: SyntheticSuperblock,
        children: Mapping[bytes, Inode] | None = None,
        mode: int = 0o555,
        *,
        uid: int = 0,
        gid: int = 0,
        ino: int = 0,
    ) -> None:
        super().__init__(superblock, st.S_IFDIR | mode, uid=uid, gid=gid, ino=ino)
        self.children: dict[bytes, Inode] = dict(children or {})
        self.nlink = 2 + sum(child.is_dir for child in self.children.values())

    def add(self, name: bytes, child: Inode) -> None:
        self.children[name] = child
        self.nlink += child.is_dir

    def lookup(self, name: bytes) -> Inode:
        child = self.children.get(name)
        if child is None:
            raise LinuxError(errno.ENOENT)
        return child

    def entries(self, start: int) -> Iterator[tuple[int, DirectoryEntry]]:
        for index, (name, child) in enumerate(list(self.children.items())[start:], start + 1):
            yield index, (name, child.ino, type_of_mode(child.mode))

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return DirectoryFile(self, flags, dentry)


class DynamicDir(Node):
    """A directory computed at each access.

    find(name)  the child's inode, or None. It should give the same object again while the thing it shows lives.
    names()     (name, inode number, DT_* type) of every child.
    """

    __slots__ = ("_find", "_names")

    def __init__(
        self,
        superblock: SyntheticSuperblock,
        find: Callable[[bytes], Inode | None],
        names: Callable[[], Iterable[DirectoryEntry]],
        mode: int = 0o555,
        *,
        uid: int = 0,
        gid: int = 0,
        ino: int = 0,
    ) -> None:
        super().__init__(superblock, st.S_IFDIR | mode, uid=uid, gid=gid, ino=ino)
        self._find = find
        self._names = names
        self.nlink = 2

    def lookup(self, name: bytes) -> Inode:
        child = self._find(name)
        if child is None:
            raise LinuxError(errno.ENOENT)
        return child

    def entries(self, start: int) -> Iterator[tuple[int, DirectoryEntry]]:
        yield from enumerate(list(self._names())[start:], start + 1)

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return DirectoryFile(self, flags, dentry)


class TextFile(Node):
    """A read-only file whose contents `render()` returns."""

    __slots__ = ("render",)

    def __init__(
        self,
        superblock: SyntheticSuperblock,
        render: Callable[[], bytes],
        mode: int = 0o444,
        *,
        uid: int = 0,
        gid: int = 0,
        ino: int = 0,
    ) -> None:
        super().__init__(superblock, st.S_IFREG | mode, uid=uid, gid=gid, ino=ino)
        self.render = render

    def text(self, task: Task) -> bytes:
        """The contents for the task that opened the file."""
        return self.render()

    def store(self, task: Task, data: bytes) -> None:
        """One write(2). EINVAL: what the kernel says to nonsense."""
        raise LinuxError(errno.EIO)

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return TextOpenFile(self, flags, task)


class TaskTextFile(TextFile):
    """As TextFile, for contents that depend on who opened it: `render(task)`."""

    __slots__ = ("render_for",)

    def __init__(
        self,
        superblock: SyntheticSuperblock,
        render: Callable[[Task], bytes],
        mode: int = 0o444,
        *,
        uid: int = 0,
        gid: int = 0,
        ino: int = 0,
    ) -> None:
        super().__init__(superblock, bytes, mode, uid=uid, gid=gid, ino=ino)
        self.render_for = render

    def text(self, task: Task) -> bytes:
        return self.render_for(task)


class WritableTextFile(TaskTextFile):
    """A file that can also be written: `store(task, data)` gets the bytes of each write(2) (sysctls, uid_map)."""

    __slots__ = ("store_for",)

    def __init__(
        self,
        superblock: SyntheticSuperblock,
        render: Callable[[Task], bytes],
        store: Callable[[Task, bytes], None],
        mode: int = 0o644,
        *,
        uid: int = 0,
        gid: int = 0,
        ino: int = 0,
    ) -> None:
        super().__init__(superblock, render, mode, uid=uid, gid=gid, ino=ino)
        self.store_for = store

    def store(self, task: Task, data: bytes) -> None:
        self.store_for(task, data)


class TextOpenFile(OpenFile):
    """An open text: the snapshot that this description reads, and the task that opened it."""

    __slots__ = ("node", "snapshot", "task")

    seekable = True

    def __init__(self, node: TextFile, flags: int, task: Task) -> None:
        super().__init__(node, flags)
        self.node = node
        self.task = task
        self.snapshot: bytes | None = None

    def read(self, count: int) -> bytes:
        data = self.pread(count, self.offset)
        self.offset += len(data)
        return data

    def pread(self, count: int, offset: int) -> bytes:
        text = self.snapshot
        if text is None or offset == 0:
            text = self.snapshot = self.node.text(self.task)
        return text[offset : offset + count]

    def write(self, data: bytes | memoryview) -> int:
        self.node.store(self.task, bytes(data))
        self.snapshot = None
        self.offset += len(data)
        return len(data)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        self.node.store(self.task, bytes(data))
        self.snapshot = None
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        if whence == fc.SEEK_CUR:
            offset += self.offset
        elif whence != fc.SEEK_SET:
            raise LinuxError(errno.EINVAL)
        if offset < 0:
            raise LinuxError(errno.EINVAL)
        self.offset = offset
        return offset

    def truncate(self, size: int) -> None:
        """Ignored, as for procfs files that can be written."""


class Symlink(Node):
    """A symbolic link with a fixed target, or one that depends on the reader (/proc/self)."""

    __slots__ = ("target",)

    def __init__(
        self,
        superblock: SyntheticSuperblock,
        target: bytes | Callable[[Task], bytes],
        *,
        uid: int = 0,
        gid: int = 0,
        ino: int = 0,
    ) -> None:
        super().__init__(superblock, st.S_IFLNK | 0o777, uid=uid, gid=gid, ino=ino)
        self.target = target

    def readlink(self) -> bytes:
        return self.target if isinstance(self.target, bytes) else b""

    def readlink_for(self, task: Task) -> bytes:
        return self.target if isinstance(self.target, bytes) else self.target(task)


class MagicLink(Node):
    """/proc/PID/{exe,cwd,root,fd/N,ns/*}: leads to a Path directly.

    target(task)  the Path, or LinuxError (ENOENT: nothing there; EACCES: not allowed).
    text(task)    what readlink(2) shows.
    """

    __slots__ = ("_target", "_text")

    def __init__(
        self,
        superblock: SyntheticSuperblock,
        target: Callable[[Task], Path],
        text: Callable[[Task], bytes],
        mode: int = 0o777,
        *,
        uid: int = 0,
        gid: int = 0,
        ino: int = 0,
    ) -> None:
        super().__init__(superblock, st.S_IFLNK | mode, uid=uid, gid=gid, ino=ino)
        self._target = target
        self._text = text

    def follow(self, task: Task) -> Path | None:
        return self._target(task)

    def readlink_for(self, task: Task) -> bytes:
        return self._text(task)
