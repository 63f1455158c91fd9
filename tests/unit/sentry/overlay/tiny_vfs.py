"""Two worlds with one set of operations: a host directory through `os`, and a file system of the Sentry through its
inodes, with the checks of existence and kind that the VFS makes above them. Equal answers are what the tests ask for.

Paths are tuples of names; a final link is not followed. Every operation returns a value or raises OSError /
LinuxError; `outcome` makes both comparable.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from services.sentry.errors import LinuxError

Names = tuple[bytes, ...]
CRED: Any = SimpleNamespace(fsuid=0, fsgid=0, groups=(), cap_effective=-1)
RECENT_NS = 10**15  # set times are below it, real ones above: those of two worlds differ
NONE: Any = None


def outcome(call: Callable[..., object], *args: object) -> object:
    """What a call returns, or ('errno', name)."""
    try:
        return call(*args)
    except (OSError, LinuxError) as error:
        return "errno", errno.errorcode[error.errno or 0]


def _shown(mode: int, uid: int, gid: int, nlink: int, size: int, mtime_ns: int) -> tuple[int, ...]:
    is_dir = stat.S_ISDIR(mode)
    return mode, uid, gid, nlink, 0 if is_dir else size, 0 if is_dir else min(mtime_ns, RECENT_NS)


class HostWorld:
    """A directory of the host."""

    def __init__(self, top: str) -> None:
        self.top = os.fsencode(top)
        self.handles: dict[int, int] = {}

    def at(self, names: Names) -> bytes:
        return b"/".join((self.top, *names))

    def stat(self, names: Names) -> object:
        s = os.lstat(self.at(names))
        return _shown(s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_size, s.st_mtime_ns)

    def list(self, names: Names) -> object:
        return sorted(os.listdir(self.at(names)))

    def create(self, names: Names, mode: int) -> None:
        os.close(os.open(self.at(names), os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    def mkfifo(self, names: Names) -> None:
        os.mkfifo(self.at(names), 0o640)

    def mkdir(self, names: Names, mode: int) -> None:
        os.mkdir(self.at(names), mode)

    def symlink(self, names: Names, target: bytes) -> None:
        os.symlink(target, self.at(names))

    def readlink(self, names: Names) -> object:
        return os.readlink(self.at(names))

    def link(self, old: Names, new: Names) -> None:
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def unlink(self, names: Names) -> None:
        os.unlink(self.at(names))

    def rmdir(self, names: Names) -> None:
        os.rmdir(self.at(names))

    def rename(self, old: Names, new: Names) -> None:
        os.rename(self.at(old), self.at(new))

    def chmod(self, names: Names, mode: int) -> None:
        if not os.path.islink(self.at(names)):
            os.chmod(self.at(names), mode)

    def chown(self, names: Names, uid: int, gid: int) -> None:
        os.lchown(self.at(names), uid, gid)

    def utime(self, names: Names, when: int) -> None:
        os.utime(self.at(names), ns=(when, when), follow_symlinks=False)

    def open(self, names: Names, number: int, flags: int) -> None:
        fd = os.open(self.at(names), flags | os.O_NOFOLLOW | os.O_NONBLOCK)
        if stat.S_ISFIFO(os.fstat(fd).st_mode) or stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            return
        self.close(number)
        self.handles[number] = fd

    def close(self, number: int) -> None:
        if number in self.handles:
            os.close(self.handles.pop(number))

    def read(self, number: int, count: int, offset: int) -> object:
        return os.pread(self.handles[number], count, offset) if number in self.handles else None

    def read_on(self, number: int, count: int) -> object:
        return os.read(self.handles[number], count) if number in self.handles else None

    def write(self, number: int, data: bytes, offset: int) -> object:
        return os.pwrite(self.handles[number], data, offset) if number in self.handles else None

    def write_on(self, number: int, data: bytes) -> object:
        return os.write(self.handles[number], data) if number in self.handles else None

    def truncate(self, number: int, size: int) -> None:
        if number in self.handles:
            os.ftruncate(self.handles[number], size)

    def fstat(self, number: int) -> object:
        if number not in self.handles:
            return None
        s = os.fstat(self.handles[number])
        return _shown(s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_size, s.st_mtime_ns)


class SentryWorld:
    """A root inode of the Sentry. Inodes are looked up anew every time, as with an empty dentry cache."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.handles: dict[int, Any] = {}

    def get(self, names: Names) -> Any:
        return self.walk(names)[0]

    def walk(self, names: Names, follow: bool = False) -> tuple[Any, Names]:
        """The inode and its true path; links in the middle are followed, a final one if `follow`."""
        inode, true = self.root, ()
        rest = list(names)
        links = 0
        while rest:
            if not inode.is_dir:
                raise LinuxError(errno.ENOTDIR)
            name = rest.pop(0)
            child = inode.lookup(name)
            if child.is_symlink and (rest or follow):
                links += 1
                if links > 40:
                    raise LinuxError(errno.ELOOP)
                rest = [*child.readlink().split(b"/"), *rest]
            else:
                inode, true = child, (*true, name)
        return inode, true

    def parent(self, names: Names) -> Any:
        return self.parent_and_path(names)[0]

    def parent_and_path(self, names: Names) -> tuple[Any, Names]:
        parent, true = self.walk(names[:-1], follow=True)
        if not parent.is_dir:
            raise LinuxError(errno.ENOTDIR)
        return parent, (*true, names[-1])

    def child(self, parent: Any, name: bytes) -> Any:
        try:
            return parent.lookup(name)
        except LinuxError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    def fresh(self, names: Names) -> Any:
        parent = self.parent(names)
        if self.child(parent, names[-1]) is not None:
            raise LinuxError(errno.EEXIST)
        return parent

    def show(self, inode: Any) -> object:
        inode.refresh()
        return _shown(inode.mode, inode.uid, inode.gid, inode.nlink, inode.size, inode.mtime_ns)

    def stat(self, names: Names) -> object:
        return self.show(self.get(names))

    def list(self, names: Names) -> object:
        inode = self.get(names)
        if not inode.is_dir:
            raise LinuxError(errno.ENOTDIR)
        found = sorted(entry[0] for _, entry in inode.entries(0))
        for _, (name, number, kind) in inode.entries(0):
            child = inode.lookup(name)
            assert (child.ino, child.mode >> 12 & 15) == (number, kind)
        return found

    def create(self, names: Names, mode: int) -> None:
        self.fresh(names).create(names[-1], stat.S_IFREG | mode, CRED)

    def mkfifo(self, names: Names) -> None:
        self.fresh(names).create(names[-1], stat.S_IFIFO | 0o640, CRED)

    def mkdir(self, names: Names, mode: int) -> None:
        self.fresh(names).mkdir(names[-1], mode, CRED)

    def symlink(self, names: Names, target: bytes) -> None:
        self.fresh(names).symlink(names[-1], target, CRED)

    def readlink(self, names: Names) -> object:
        return self.get(names).readlink()

    def link(self, old: Names, new: Names) -> None:
        inode = self.get(old)
        parent = self.fresh(new)
        if inode.is_dir:
            raise LinuxError(errno.EPERM)
        parent.link(new[-1], inode)

    def unlink(self, names: Names) -> None:
        parent, inode = self.parent(names), self.get(names)
        if inode.is_dir:
            raise LinuxError(errno.EISDIR)
        parent.unlink(names[-1], inode)
        self.settle(inode)

    def settle(self, inode: Any) -> None:
        """What the VFS does when a last name goes and nobody has the file open."""
        if not inode.nlink and not inode.open_files:
            inode.release_last_link()

    def rmdir(self, names: Names) -> None:
        parent, inode = self.parent(names), self.get(names)
        if not inode.is_dir:
            raise LinuxError(errno.ENOTDIR)
        parent.rmdir(names[-1], inode)

    def rename(self, old: Names, new: Names) -> None:
        (old_parent, old), (new_parent, new) = self.parent_and_path(old), self.parent_and_path(new)
        inode = self.get(old)
        replaced = self.child(new_parent, new[-1])
        if inode is replaced:
            return
        if len(new) > len(old) and new[: len(old)] == old:
            raise LinuxError(errno.EINVAL)
        if len(old) > len(new) and old[: len(new)] == new:
            raise LinuxError(errno.ENOTEMPTY)
        if replaced is not None:
            if inode.is_dir and not replaced.is_dir:
                raise LinuxError(errno.ENOTDIR)
            if replaced.is_dir and not inode.is_dir:
                raise LinuxError(errno.EISDIR)
        old_parent.rename(old[-1], inode, new_parent, new[-1], replaced, 0)
        if replaced is not None:
            self.settle(replaced)

    def chmod(self, names: Names, mode: int) -> None:
        inode = self.get(names)
        if not inode.is_symlink:
            inode.set_attributes(mode=mode)

    def chown(self, names: Names, uid: int, gid: int) -> None:
        self.get(names).set_attributes(uid=uid, gid=gid)

    def utime(self, names: Names, when: int) -> None:
        self.get(names).set_attributes(atime_ns=when, mtime_ns=when)

    def open(self, names: Names, number: int, flags: int) -> None:
        inode = self.get(names)
        if inode.is_symlink:
            raise LinuxError(errno.ELOOP)
        if inode.is_dir and flags & os.O_ACCMODE:
            raise LinuxError(errno.EISDIR)
        if inode.file_type == stat.S_IFIFO and flags & os.O_ACCMODE == os.O_WRONLY:
            raise LinuxError(errno.ENXIO)
        if not inode.is_regular:
            return
        if flags & os.O_TRUNC:
            inode.set_attributes(size=0)
        file = inode.open(NONE, flags, NONE).add_reference()
        self.close(number)
        self.handles[number] = file

    def close(self, number: int) -> None:
        if number in self.handles:
            self.handles.pop(number).close_reference()

    def _check(self, file: Any, wanted: str) -> None:
        if not getattr(file, wanted):
            raise LinuxError(errno.EBADF if wanted != "writable_size" else errno.EINVAL)

    def read(self, number: int, count: int, offset: int) -> object:
        if number not in self.handles:
            return None
        self._check(self.handles[number], "readable")
        return self.handles[number].pread(count, offset)

    def read_on(self, number: int, count: int) -> object:
        if number not in self.handles:
            return None
        self._check(self.handles[number], "readable")
        return self.handles[number].read(count)

    def write(self, number: int, data: bytes, offset: int) -> object:
        if number not in self.handles:
            return None
        self._check(self.handles[number], "writable")
        file = self.handles[number]
        if file.flags & os.O_APPEND:
            offset = file.inode.size  # as the system-call layer does
        return file.pwrite(data, offset)

    def write_on(self, number: int, data: bytes) -> object:
        if number not in self.handles:
            return None
        self._check(self.handles[number], "writable")
        return self.handles[number].write(data)

    def truncate(self, number: int, size: int) -> None:
        if number in self.handles:
            if not self.handles[number].writable:
                raise LinuxError(errno.EINVAL)
            self.handles[number].inode.set_attributes(size=size)

    def fstat(self, number: int) -> object:
        return self.show(self.handles[number].inode) if number in self.handles else None


def build_tree(top: str) -> None:
    """The tree that both worlds begin with."""
    os.makedirs(f"{top}/a/b/c")
    os.makedirs(f"{top}/d/a")
    for name, text in (("f", b"top"), ("a/f", b"in a" * 100), ("a/b/f", b"in b"), ("d/a/g", b"x" * 5000)):
        with open(f"{top}/{name}", "wb") as file:
            file.write(text)
        os.utime(f"{top}/{name}", ns=(1, 1))
    os.link(f"{top}/f", f"{top}/a/g")
    os.symlink("a/f", f"{top}/g")
    os.utime(f"{top}/g", ns=(1, 1), follow_symlinks=False)
    os.chmod(f"{top}/a/f", 0o600)
    os.chown(f"{top}/d", 3, 4)


def snapshot(top: str) -> list[object]:
    """Everything of a tree that must not change, for equality."""
    found: list[object] = []
    for path, directories, files in os.walk(top):
        directories.sort()
        for name in sorted(directories + files) + ["."]:
            full = os.path.join(path, name)
            s = os.lstat(full)
            data = b""
            if stat.S_ISREG(s.st_mode):
                with open(full, "rb") as file:
                    data = file.read()
            found.append(
                (full, s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, data)
            )
    return found
