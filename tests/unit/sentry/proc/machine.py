"""A kernel with a tree of /dev, /dev/pts, /proc and /sys, and tasks whose memory is one flat range."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.filesystems.registry import make_superblock
from services.sentry.filesystems.tmpfs import TmpfsSuperblock
from services.sentry.kernel.clocks import VirtualClock
from services.sentry.kernel.credentials import Credentials
from services.sentry.kernel.fd_table import FdTable
from services.sentry.kernel.kernel import Kernel
from services.sentry.kernel.sessions import ProcessGroup, join_group
from services.sentry.kernel.task import Task
from services.sentry.mm.address_space import AddressSpace
from services.sentry.mm.vma_set import Vma
from services.sentry.vfs.fs_context import FsContext
from services.sentry.vfs.mounts import MountNamespace
from services.sentry.vfs.open_file import OpenFile
from services.sentry.vfs.opening import open_name
from services.sentry.vfs.path_walk import walk

BASE = 0x10000


class Memory(AddressSpace):
    """[BASE, BASE + 1 MiB), readable and writable without a guest."""

    __slots__ = ("data",)

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray(1 << 20)
        self.vmas.insert(Vma(BASE, BASE + (1 << 20), 3, name=b"[heap]"))
        self.total_pages = 256

    def _at(self, addr: int, count: int) -> int:
        if not 0 <= addr - BASE <= len(self.data) - count:
            raise LinuxError(errno.EFAULT)
        return addr - BASE

    def read(self, addr: int, count: int) -> bytes:
        at = self._at(addr, count)
        return bytes(self.data[at : at + count])

    def read_some(self, addr: int, count: int) -> bytes:
        at = self._at(addr, 1)
        return bytes(self.data[at : at + count])

    def write(self, addr: int, data: Any) -> None:
        at = self._at(addr, len(data))
        self.data[at : at + len(data)] = data

    def read_u32(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 4), "little")

    def write_u32(self, addr: int, value: int) -> None:
        self.write(addr, value.to_bytes(4, "little"))


class Config:
    hostname = "box"
    cpu_count = 2
    memory_bytes = 1 << 30
    cpu_fields = {"vendor_id": "AuthenticAMD", "model name": "Test CPU", "flags": "fpu sse2 fsgsbase", "secret": "x"}


class Machine:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.kernel = Kernel(Config(), self.clock)
        top = TmpfsSuperblock(self.kernel, options=b"mode=755")
        self.namespace = MountNamespace(top)
        self.kernel.mounts = self.namespace
        self.task = self.new_process()
        for name, where in ((b"devtmpfs", b"/dev"), (b"devpts", b"/dev/pts"), (b"proc", b"/proc"), (b"sysfs", b"/sys")):
            if where != b"/dev/pts":
                root = self.namespace.root_path().dentry.inode
                assert root is not None
                root.mkdir(where[1:], 0o755, self.task.cred)
            superblock = make_superblock(self.kernel, name, name, 0, b"")
            self.namespace.mount(superblock, walk(self.task, self.task.fs.root, where), 0, name)

    def new_process(self, uid: int = 0, of: Task | None = None, *, own_group: bool = False) -> Task:
        """A process, in a session of its own or (`of`) in that task's session, its child."""
        root = self.namespace.root_path()
        fs = FsContext(self.namespace, root, root)
        task = self.kernel.new_init(Credentials.for_user(uid, uid), fs, FdTable(1024))
        task.mm = Memory()
        task.comm = b"program"
        if of is not None:
            group = task.group
            target = of.group.process_group
            assert target is not None
            if group.process_group is not None:
                join_group(self.kernel, group, target)
            if group.parent is not None:
                group.parent.children.pop(group.pid, None)
            group.parent = of.group
            of.group.children[group.pid] = group
            if own_group:
                fresh = ProcessGroup(group.pid, of.group.session)
                self.kernel.process_groups[group.pid] = fresh
                join_group(self.kernel, group, fresh)
        return task

    def open(self, name: bytes, flags: int = 0, task: Task | None = None) -> OpenFile:
        task = task or self.task
        return open_name(task, task.fs.cwd, name, flags, 0).add_reference()

    def read(self, name: bytes, task: Task | None = None) -> bytes:
        file = self.open(name, 0, task)
        found = b""
        while part := file.read(65536):
            found += part
        file.close_reference()
        return found

    def write(self, name: bytes, data: bytes, task: Task | None = None) -> None:
        file = self.open(name, 1, task)
        file.write(data)
        file.close_reference()

    def names(self, name: bytes, task: Task | None = None) -> list[bytes]:
        file = self.open(name, 0o200000, task)
        found: list[bytes] = []
        while entries := list(file.read_entries()):
            found += [entry[0] for _, entry in entries]
            file.offset = entries[-1][0]
        file.close_reference()
        return [name for name in found if name not in (b".", b"..")]

    def readlink(self, name: bytes, task: Task | None = None) -> bytes:
        task = task or self.task
        inode = walk(task, task.fs.root, name, False).dentry.inode
        assert inode is not None
        return inode.readlink_for(task)

    def tree(self, name: bytes) -> Iterator[tuple[bytes, int]]:
        """Every path below a directory with its mode, links not followed."""
        for child in self.names(name):
            path = name.rstrip(b"/") + b"/" + child
            inode = walk(self.task, self.task.fs.root, path, False).dentry.inode
            assert inode is not None
            yield path, inode.mode
            if inode.is_dir:
                yield from self.tree(path)


def blocks(call: Any, *args: Any) -> bool:
    """Whether the call would block."""
    try:
        call(*args)
    except WouldBlock:
        return True
    return False


def errno_of(call: Any, *args: Any) -> int:
    """The errno the call fails with, 0 if it does not."""
    try:
        call(*args)
    except LinuxError as error:
        return error.errno
    return 0
