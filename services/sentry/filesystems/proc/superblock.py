"""How the tables of tree.py become nodes: the root, a directory per process and thread, descriptors, namespaces.

A task's directory is made when it is first looked at and kept while the task lives; its files are made one by one.
Every access checks that the task is still there: ESRCH once it is gone.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import stat_h as st
from protocol.abi.dirent_h import DT_DIR, DT_LNK, DT_REG
from services.sentry.errors import LinuxError
from services.sentry.filesystems.proc import net, tree
from services.sentry.filesystems.proc.access import check_may_read, files_of, owner
from services.sentry.filesystems.proc.rows import SystemRow, TaskRow
from services.sentry.filesystems.proc.task import links, stat_
from services.sentry.filesystems.proc.task.maps import MemFile
from services.sentry.filesystems.synthetic import (
    DynamicDir,
    MagicLink,
    Node,
    StaticDir,
    Symlink,
    SyntheticSuperblock,
    TaskTextFile,
    TextFile,
    WritableTextFile,
)
from services.sentry.vfs.directory_file import DirectoryFile
from services.sentry.vfs.path_walk import Path, anonymous_path

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import DirectoryEntry, Inode
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["ProcSuperblock"]

PROC_MAGIC: Final = 0x9FA0
NSFS_MAGIC: Final = 0x6E736673
TASK_INO: Final = 1 << 20  # inode numbers of a task's files: (tid + 1) * TASK_INO + slot


class ProcSuperblock(SyntheticSuperblock):
    """One procfs."""

    __slots__ = ("_directories", "_namespaces", "_nsfs", "_system")
    no_new_names = errno.ENOENT  # as proc_lookup: there is not even a name to fill

    def __init__(self, kernel: Kernel, source: bytes, flags: int, options: bytes) -> None:
        super().__init__(
            kernel, b"proc", PROC_MAGIC, source=source or b"proc", flags=flags, options=options, dynamic=True
        )
        self._directories: dict[tuple[int, bool], TaskDirectory] = {}
        self._namespaces: dict[int, Inode] = {}
        self._nsfs: SyntheticSuperblock | None = None
        root = DynamicDir(self, self._find, self._names)
        self._system = self._make_system()
        self.set_root(root)

    # --- the root ---
    def _make_system(self) -> StaticDir:
        top = StaticDir(self)
        for path, row in tree.SYSTEM_FILES.items():
            _directory_of(self, top, path).add(path.rpartition(b"/")[2], _system_file(self, row))
        for path in tree.EMPTY_DIRECTORIES:
            _directory_of(self, top, path + b"/")
        for path, target in tree.SYMLINKS.items():
            top.add(path, Symlink(self, target))
        top.add(b"self", Symlink(self, lambda reader: b"%d" % reader.group.pid))
        top.add(b"thread-self", Symlink(self, lambda reader: b"%d/task/%d" % (reader.group.pid, reader.tid)))
        return top

    def _find(self, name: bytes) -> Inode | None:
        if not name.isdigit():
            return self._system.children.get(name)
        if name[:1] == b"0":
            return None
        return self.task_directory(int(name), whole_group=True)

    def _names(self) -> Iterator[DirectoryEntry]:
        yield from ((name, child.ino, (child.mode & 0o170000) >> 12) for name, child in self._system.children.items())
        for pid in sorted(self.kernel.groups):
            yield b"%d" % pid, (pid + 1) * TASK_INO, DT_DIR

    # --- tasks ---
    def task_directory(self, tid: int, *, whole_group: bool) -> TaskDirectory | None:
        """The directory of a process (`whole_group`; any thread's number will do) or of a thread; None: no such."""
        kernel = self.kernel
        group = kernel.groups.get(tid) if whole_group else None
        target = group.leader if group is not None else kernel.tasks.get(tid)
        key = (tid, whole_group)
        if target is None:
            self._directories.pop(key, None)
            return None
        found = self._directories.get(key)
        if found is None or found.target is not target:
            if len(self._directories) > 2 * len(kernel.tasks) + 256:
                self._forget_dead()
            found = self._directories[key] = TaskDirectory(self, target, whole_group)
        found.refresh()
        return found

    def _forget_dead(self) -> None:
        self._directories = {key: each for key, each in self._directories.items() if each.is_alive}

    def namespace_inode(self, number: int) -> Inode:
        """The file behind /proc/PID/ns/*."""
        found = self._namespaces.get(number)
        if found is None:
            if self._nsfs is None:
                self._nsfs = SyntheticSuperblock(self.kernel, b"nsfs", NSFS_MAGIC)
            found = self._namespaces[number] = TextFile(self._nsfs, bytes, 0o444, ino=number)
        return found


def _directory_of(superblock: SyntheticSuperblock, top: StaticDir, path: bytes) -> StaticDir:
    """The directory that holds the last component of `path`, made with its parents where it is missing."""
    directory = top
    for part in path.split(b"/")[:-1]:
        child = directory.children.get(part)
        if not isinstance(child, StaticDir):
            child = StaticDir(superblock)
            directory.add(part, child)
        directory = child
    return directory


def _system_file(superblock: SyntheticSuperblock, row: SystemRow) -> Inode:
    if row.store is None:
        return TaskTextFile(superblock, row.render, row.mode)
    return WritableTextFile(superblock, row.render, row.store, row.mode)


# --- a task's files ---
class TaskFile(TextFile):
    """A text about `target` for whoever reads it."""

    __slots__ = ("row", "target")

    def __init__(self, superblock: SyntheticSuperblock, row: TaskRow, target: Task, ino: int) -> None:
        uid, gid = owner(target)
        super().__init__(superblock, bytes, row.mode, uid=uid, gid=gid, ino=ino)
        self.row = row
        self.target = target

    def refresh(self) -> None:
        self.uid, self.gid = owner(self.target)

    def text(self, task: Task) -> bytes:
        _check_alive(self.target)
        return self.row.render(task, self.target)

    def store(self, task: Task, data: bytes) -> None:
        _check_alive(self.target)
        if self.row.store is None:
            raise LinuxError(errno.EIO)
        self.row.store(task, self.target, data)

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        if self.row.guarded:
            check_may_read(task, self.target)
        return super().open(dentry, flags, task)


class MemNode(Node):
    """/proc/PID/mem."""

    __slots__ = ("target",)

    def __init__(self, superblock: SyntheticSuperblock, target: Task, ino: int) -> None:
        uid, gid = owner(target)
        super().__init__(superblock, st.S_IFREG | 0o600, uid=uid, gid=gid, ino=ino)
        self.target = target

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        check_may_read(task, self.target)
        return MemFile(self, flags, self.target)


def _check_alive(target: Task) -> None:
    """ESRCH: the task was waited for."""
    if target.group.is_reaped or (target.tid not in target.kernel.tasks and target is not target.group.leader):
        raise LinuxError(errno.ESRCH)


class TaskDirectory(Node):
    """/proc/PID (`whole_group`) or /proc/PID/task/TID. Children are made at first use."""

    __slots__ = ("children", "owner_superblock", "target", "whole_group")

    def __init__(self, superblock: ProcSuperblock, target: Task, whole_group: bool) -> None:
        base = (target.tid + 1) * TASK_INO + (0 if whole_group else TASK_INO // 2)
        super().__init__(superblock, st.S_IFDIR | 0o555, ino=base)
        self.owner_superblock = superblock
        self.target = target
        self.whole_group = whole_group
        self.children: dict[bytes, Inode] = {}
        self.nlink = 9 if whole_group else 8
        self.refresh()

    def refresh(self) -> None:
        self.uid, self.gid = owner(self.target)

    @property
    def is_alive(self) -> bool:
        return not self.target.group.is_reaped

    def lookup(self, name: bytes) -> Inode:
        child = self.children.get(name)
        if child is None:
            child = self.children[name] = self._make(name)
        child.refresh()
        return child

    def entries(self, start: int) -> Iterator[tuple[int, DirectoryEntry]]:
        names = _GROUP_NAMES if self.whole_group else _THREAD_NAMES
        for index, name in enumerate(names[start:], start + 1):
            if name in _DIRECTORIES:
                kind = DT_DIR
            else:
                kind = DT_LNK if name in links.LINKS else DT_REG
            yield index, (name, self._ino(name), kind)

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return DirectoryFile(self, flags, dentry)

    def _ino(self, name: bytes) -> int:
        return self.ino + 1 + _SLOTS[name]

    def _make(self, name: bytes) -> Inode:
        """The child called `name`. ENOENT: there is none."""
        superblock, target = self.owner_superblock, self.target
        row = tree.TASK_FILES.get(name)
        if row is not None and b"/" not in name and not (row.thread_only if self.whole_group else row.group_only):
            return TaskFile(superblock, row, target, self._ino(name))
        if name == b"stat":
            render = stat_.group_stat if self.whole_group else stat_.thread_stat
            return TaskFile(superblock, TaskRow(render), target, self._ino(name))
        get = links.LINKS.get(name)
        if get is not None:
            return self._link(name, get)
        if name == b"fd":
            return DescriptorDirectory(superblock, target, self._ino(name))
        if name == b"fdinfo":
            return DescriptorInfoDirectory(superblock, target, self._ino(name))
        if name == b"mem":
            return MemNode(superblock, target, self._ino(name))
        if name == b"task" and self.whole_group:
            return self._tasks()
        if name == b"net":
            return self._net()
        if name == b"ns":
            return self._namespaces()
        if name == b"attr":
            return self._attributes()
        raise LinuxError(errno.ENOENT)

    def _link(self, name: bytes, get: Callable[[Task], Path]) -> Inode:
        follow, text = links.guarded(get, self.target)
        return MagicLink(self.owner_superblock, follow, text, ino=self._ino(name))

    def _attributes(self) -> Inode:
        directory = StaticDir(self.owner_superblock, ino=self._ino(b"attr"))
        for name, row in tree.TASK_FILES.items():
            if name.startswith(b"attr/"):
                directory.add(name[5:], TaskFile(self.owner_superblock, row, self.target, 0))
        return directory

    def _net(self) -> Inode:
        directory = StaticDir(self.owner_superblock, ino=self._ino(b"net"))
        for name, render in net.FILES.items():
            directory.add(name, TaskTextFile(self.owner_superblock, render))
        directory.add(b"stat", StaticDir(self.owner_superblock))
        return directory

    def _namespaces(self) -> Inode:
        superblock, target = self.owner_superblock, self.target
        directory = StaticDir(superblock, mode=0o511, ino=self._ino(b"ns"))
        for name, (kind, _) in links.NAMESPACES.items():

            def follow(reader: Task, name: bytes = name) -> Path:
                check_may_read(reader, target)
                return anonymous_path(reader, superblock.namespace_inode(links.namespace_number(name, target)))

            def text(reader: Task, name: bytes = name, kind: bytes = kind) -> bytes:
                check_may_read(reader, target)
                return b"%b:[%d]" % (kind, links.namespace_number(name, target))

            directory.add(name, MagicLink(superblock, follow, text))
        return directory

    def _tasks(self) -> Inode:
        group, superblock = self.target.group, self.owner_superblock

        def find(name: bytes) -> Inode | None:
            if not name.isdigit() or int(name) not in group.tasks:
                return None
            return superblock.task_directory(int(name), whole_group=False)

        def names() -> Iterator[DirectoryEntry]:
            for tid in sorted(group.tasks):
                yield b"%d" % tid, (tid + 1) * TASK_INO + TASK_INO // 2, DT_DIR

        return DynamicDir(superblock, find, names, ino=self._ino(b"task"))


_DIRECTORIES: Final = frozenset((b"attr", b"fd", b"fdinfo", b"net", b"ns", b"task"))
_SPECIAL: Final = (b"stat", b"mem", *links.LINKS, *sorted(_DIRECTORIES))
_SLOTS: Final = {name: slot for slot, name in enumerate((*tree.TASK_FILES, *_SPECIAL))}


def _names(whole_group: bool) -> tuple[bytes, ...]:
    files = [
        name
        for name, row in tree.TASK_FILES.items()
        if b"/" not in name and not (row.thread_only if whole_group else row.group_only)
    ]
    return tuple(sorted((*files, *(name for name in _SPECIAL if whole_group or name != b"task"))))


_GROUP_NAMES: Final = _names(True)
_THREAD_NAMES: Final = _names(False)


# --- descriptors ---
class DescriptorDirectory(Node):
    """/proc/PID/fd: a magic link per open descriptor; its size is their number (since Linux 6.2)."""

    __slots__ = ("target",)

    def __init__(self, superblock: SyntheticSuperblock, target: Task, ino: int, mode: int = 0o500) -> None:
        super().__init__(superblock, st.S_IFDIR | mode, ino=ino)
        self.target = target
        self.nlink = 2
        self.refresh()

    def refresh(self) -> None:
        self.uid, self.gid = owner(self.target)
        files = files_of(self.target)
        self.size = len(files) if files is not None else 0

    def open_file(self, name: bytes) -> OpenFile:
        """ENOENT: not open."""
        files = files_of(self.target)
        if not name.isdigit() or (name[:1] == b"0" and len(name) > 1) or files is None:
            raise LinuxError(errno.ENOENT)
        file = files.files.get(int(name))
        if file is None:
            raise LinuxError(errno.ENOENT)
        return file

    def lookup(self, name: bytes) -> Inode:
        self.open_file(name)
        return DescriptorLink(self, name)

    def entries(self, start: int) -> Iterator[tuple[int, DirectoryEntry]]:
        """Cookies are descriptor numbers + 1, so closing some while reading skips none."""
        files = files_of(self.target)
        for fd in sorted(files.files) if files is not None else ():
            if fd >= start:
                yield fd + 1, (b"%d" % fd, self.ino + 1024 + fd, self._kind)

    _kind = DT_LNK

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        check_may_read(task, self.target)
        return DirectoryFile(self, flags, dentry)


class DescriptorLink(Node):
    """/proc/PID/fd/N. Its permission bits show how the file was opened."""

    __slots__ = ("directory", "name")

    def __init__(self, directory: DescriptorDirectory, name: bytes) -> None:
        superblock = directory.superblock
        assert isinstance(superblock, SyntheticSuperblock)
        file = directory.open_file(name)
        path_only = bool(file.flags & fc.O_PATH)
        mode = (0o500 if file.readable and not path_only else 0) | (0o300 if file.writable and not path_only else 0)
        super().__init__(
            superblock,
            st.S_IFLNK | mode,
            uid=directory.uid,
            gid=directory.gid,
            ino=directory.ino + 1024 + int(name),
        )
        self.directory = directory
        self.name = name
        self.size = 64

    def follow(self, task: Task) -> Path | None:
        check_may_read(task, self.directory.target)
        return links.file_path(task, self.directory.open_file(self.name))

    def readlink_for(self, task: Task) -> bytes:
        check_may_read(task, self.directory.target)
        return links.file_text(task, self.directory.open_file(self.name))


class DescriptorInfoDirectory(DescriptorDirectory):
    """/proc/PID/fdinfo (proc_pid_fdinfo(5))."""

    __slots__ = ()
    _kind = DT_REG

    def __init__(self, superblock: SyntheticSuperblock, target: Task, ino: int) -> None:
        super().__init__(superblock, target, ino, 0o555)

    def lookup(self, name: bytes) -> Inode:
        self.open_file(name)
        superblock = self.superblock
        assert isinstance(superblock, SyntheticSuperblock)
        row = TaskRow(lambda reader, target: self._text(name), guarded=True)
        return TaskFile(superblock, row, self.target, self.ino + 1024 + int(name))

    def _text(self, name: bytes) -> bytes:
        file = self.open_file(name)
        flags = file.flags | (fc.O_CLOEXEC if int(name) in self.target.files.cloexec else 0)
        mount = file.path.mount.id if file.path is not None else 15
        head = b"pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n" % (file.offset, flags, mount, file.inode.ino)
        return head + file.fdinfo()
