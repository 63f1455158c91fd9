"""Unix sockets bound in the file system: the inode, permissions, unlinking, kinds; on a real tmpfs."""

from __future__ import annotations

import errno
import stat
import struct

from protocol.abi import fcntl_h as fc
from protocol.abi import socket_h as so
from services.sentry.filesystems.registry import make_superblock
from services.sentry.kernel.credentials import Credentials
from services.sentry.syscalls import event_fds as ef
from services.sentry.syscalls import open_close as oc
from services.sentry.syscalls import paths as pa
from services.sentry.syscalls import sockets as sk
from services.sentry.vfs.fs_context import FsContext
from services.sentry.vfs.mounts import MountNamespace
from services.sentry.vfs.path_walk import find
from tests.unit.sentry.files.fake_tasks import FlatMemory, Guest


class Memory(FlatMemory):
    trapped = None

    def read_cstring(self, addr: int, limit: int = 4096) -> bytes:
        return self.read(addr, limit).partition(b"\0")[0]


class Tree(Guest):
    def __init__(self) -> None:
        super().__init__()
        self.mm = self.task.mm = Memory()
        superblock = make_superblock(self.kernel, b"tmpfs", b"tmpfs", 0, b"")
        mounts = MountNamespace(superblock)
        root = mounts.root_path()
        self.task.fs = FsContext(mounts, root, root, 0o022)

    def address(self, name: bytes) -> tuple[int, int]:
        raw = b"\1\0" + name
        return self.put(raw), len(raw)

    def bound(self, name: bytes, kind: int = so.SOCK_STREAM) -> int:
        fd = self.socket(kind)
        assert self.call(sk.sys_bind, fd, *self.address(name)) == 0
        return fd

    def socket(self, kind: int = so.SOCK_STREAM) -> int:
        fd = self.call(sk.sys_socket, 1, kind, 0)
        assert fd is not None
        return fd

    def connect(self, name: bytes, kind: int = so.SOCK_STREAM) -> int | None:
        return self.call(sk.sys_connect, self.socket(kind), *self.address(name))


def test_bind_makes_a_socket_inode_that_connect_finds() -> None:
    tree = Tree()
    listener = tree.bound(b"/srv\0junk")
    inode = find(tree.task, b"/srv").dentry.inode
    assert inode is not None and stat.S_ISSOCK(inode.mode) and inode.mode & 0o777 == 0o755
    assert tree.connect(b"/srv") == -errno.ECONNREFUSED
    assert tree.call(sk.sys_listen, listener, 5) == 0
    assert tree.connect(b"srv") == 0
    name, length = tree.alloc(128), tree.put(struct.pack("<i", 128))
    assert tree.call(sk.sys_getsockname, listener, name, length) == 0
    assert tree.get(name, tree.mm.read_u32(length)) == b"\1\0/srv\0"
    assert tree.call(oc.sys_open, tree.put(b"/srv\0"), 0, 0) == -errno.ENXIO


def test_names_that_cannot_be_bound_or_connected() -> None:
    tree = Tree()
    tree.bound(b"/srv")
    fd = tree.socket()
    assert tree.call(sk.sys_bind, fd, *tree.address(b"/srv")) == -errno.EADDRINUSE
    assert tree.call(sk.sys_bind, fd, *tree.address(b"/none/srv")) == -errno.ENOENT
    assert tree.call(sk.sys_bind, fd, *tree.address(b"x" * 109)) == -errno.EINVAL
    assert tree.connect(b"/absent") == -errno.ENOENT
    assert tree.connect(b"/") == -errno.ECONNREFUSED
    assert tree.connect(b"/srv", so.SOCK_DGRAM) == -errno.EPROTOTYPE


def test_closed_or_unlinked_names_refuse() -> None:
    tree = Tree()
    listener = tree.bound(b"/srv")
    tree.call(sk.sys_listen, listener, 5)
    tree.task.files.close(listener, tree.task)
    assert tree.connect(b"/srv") == -errno.ECONNREFUSED
    assert tree.call(pa.sys_unlink, tree.put(b"/srv\0")) == 0
    assert tree.connect(b"/srv") == -errno.ENOENT
    tree.bound(b"/srv")


def test_connecting_needs_write_permission() -> None:
    tree = Tree()
    listener = tree.bound(b"/srv")
    tree.call(sk.sys_listen, listener, 5)
    tree.task.cred = Credentials.for_user(1000, 1000)
    assert tree.connect(b"/srv") == -errno.EACCES


def test_fifo_open_meets_its_partner_through_the_calls() -> None:
    tree = Tree()
    assert tree.call(pa.sys_mknod, tree.put(b"/fifo\0"), stat.S_IFIFO | 0o644, 0) == 0
    assert tree.call(oc.sys_open, tree.put(b"/fifo\0"), fc.O_WRONLY | fc.O_NONBLOCK, 0) == -errno.ENXIO
    assert tree.call(oc.sys_open, tree.put(b"/fifo\0"), fc.O_RDONLY, 0) is None
    other = Guest(tree.kernel)
    other.mm = other.task.mm = tree.mm
    other.task.fs = tree.task.fs
    other.next = 1 << 19
    writer = other.call(oc.sys_open, other.put(b"/fifo\0"), fc.O_WRONLY, 0)
    assert writer is not None and writer >= 0
    reader = tree.wake()
    assert reader is not None and reader >= 0
    other.task.files.get(writer).write(b"met")
    assert tree.task.files.get(reader).read(9) == b"met"
    assert tree.call(ef.sys_pipe, tree.alloc(8)) == 0
