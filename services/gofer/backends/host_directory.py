"""Local directories, each beneath an O_PATH root, as gofer exports (entry point `directory`).

Every step is openat2(2) of one component with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS on a
directory fd that was itself reached so; everything else is an *at call on such an fd, or on (directory fd, one checked
name). /proc is never needed. FIFOs, sockets and devices are told of in attributes, created where allowed, and not
opened.

A `HostNode` holds an fd of its object (O_PATH, or the open file itself after walk_open/create) and its (directory,
name); directories are shared (host_tree.py). An O_PATH fd cannot be opened for reading without /proc, so `open` opens
the name again and compares identities: ESTALE when the host put another object there behind our back, ENOENT when it
was unlinked before any open. What is open is in host_open_files.py.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from protocol.p9 import constants as c
from protocol.p9.attributes import Attributes, SetAttributes, StatFs
from services.gofer import host_calls_unsafe as host
from services.gofer.backends.base import (
    MODE_DIRECTORY,
    MODE_REGULAR,
    MODE_SYMLINK,
    MODE_TYPE,
    Backend,
    Node,
    Opened,
    OpenFile,
    Walk,
    check_name,
)
from services.gofer.backends.host_open_files import (
    ALWAYS,
    MAX_I64,
    OpenDirectory,
    OpenRegular,
    host_flags_of,
    open_directory_fd,
    open_noatime,
    refuse_kind,
)
from services.gofer.backends.host_tree import Directory, Export
from services.gofer.errors import ConfigurationError, LinuxError

_T = TypeVar("_T")

_PATH_FLAGS: Final = os.O_PATH | os.O_NOFOLLOW


class HostNode(Node):
    """See the module docstring. `name` is empty for a root and for what was unlinked."""

    __slots__ = ("_export", "_fd", "_identity", "_kind", "_refs", "directory", "name", "parent")

    def __init__(
        self,
        export: Export,
        fd: int,
        st: host.Statx,
        parent: Directory | None,
        name: bytes,
        directory: Directory | None,
    ) -> None:
        """Takes over `fd` (of what is no directory) or a reference to `directory`; takes a new one of `parent`."""
        self._export = export
        self._fd = fd
        self._identity = (st.dev_major, st.dev_minor, st.ino)
        self._kind = st.mode & MODE_TYPE
        self._refs = 1
        self.directory = directory
        self.parent = parent
        self.name = name
        if parent is not None:
            parent.refs += 1
            siblings = parent.children.get(name)
            if siblings is None:
                parent.children[name] = [self]
            else:
                siblings.append(self)

    # --- references --------------------------------------------------------------------------------------------------

    def share(self) -> HostNode:
        self._refs += 1
        return self

    def release(self) -> None:
        self._refs -= 1
        if self._refs:
            return
        self._leave_parent()
        if self.directory is not None:
            self.directory.drop()
        else:
            os.close(self._fd)

    def _leave_parent(self) -> None:
        parent = self.parent
        if parent is None:
            return
        siblings = parent.children.get(self.name)
        if siblings is not None and self in siblings:
            siblings.remove(self)
            if not siblings:
                del parent.children[self.name]
        self.parent = None
        parent.drop()

    def _move_to(self, parent: Directory, name: bytes) -> None:
        parent.refs += 1
        self._leave_parent()
        self.parent, self.name = parent, name
        parent.children.setdefault(name, []).append(self)

    def _dir(self) -> Directory:
        if self.directory is None:
            raise LinuxError(errno.ENOTDIR, "not a directory")
        return self.directory

    def _writable_dir(self) -> Directory:
        if self._export.read_only:
            raise LinuxError(errno.EROFS, "export is read-only")
        return self._dir()

    def _at(self) -> tuple[int, bytes]:
        """(directory fd, name) that lead to this object, for calls which take no O_PATH fd."""
        if self.directory is not None:
            return self.directory.fd, b"."
        if self.parent is None or not self.name:
            raise LinuxError(errno.ENOENT, "object has no name any more")
        st = host.statx_at(self.parent.fd, self.name)
        if (st.dev_major, st.dev_minor, st.ino) != self._identity:
            raise LinuxError(errno.ESTALE, "another object has taken the name")
        return self.parent.fd, self.name

    @property
    def fd(self) -> int:
        """An fd of the object, perhaps O_PATH; stays owned here."""
        return self._fd if self.directory is None else self.directory.fd

    # --- walking -----------------------------------------------------------------------------------------------------

    def walk(self, name: bytes) -> tuple[HostNode, Attributes]:
        parent = self._dir()
        fd = host.openat2(parent.fd, name, _PATH_FLAGS)
        try:
            st = host.statx_fd(fd)
        except OSError:
            os.close(fd)
            raise
        directory = parent.adopt(fd, st) if st.mode & MODE_TYPE == MODE_DIRECTORY else None
        return HostNode(self._export, fd, st, parent, name, directory), self._export.attributes(st)

    def walk_many(self, names: Sequence[bytes]) -> Walk:
        if len(names) != 1:  # one name is nearly all that a cached tree asks for
            return super().walk_many(names)
        try:
            check_name(names[0])
            node, attributes = self.walk(names[0])
        except OSError as error:
            return Walk(error.errno or errno.EIO, [], b"", None)
        if attributes[4] & MODE_TYPE == MODE_SYMLINK:
            try:
                return Walk(0, [attributes], node.read_link(), node)
            except OSError as error:
                node.release()
                return Walk(error.errno or errno.EIO, [], b"", None)
        return Walk(0, [attributes], b"", node)

    def walk_open(self, names: Sequence[bytes], flags: int) -> Opened:
        """Opens the last name itself, with no O_PATH fd in between: statx(name), openat2(name), statx(fd)."""
        if not names:
            return super().walk_open(names, flags)
        steps: list[Attributes] = []
        above: HostNode = self
        if len(names) > 1:
            code, steps, target, node = super().walk_many(names[:-1])
            if node is None:
                return Opened(code, steps, target, None, None)
            assert isinstance(node, HostNode)
            if node.directory is None:
                node.release()
                return Opened(errno.ENOTDIR, steps, target, None, None)
            above = node
        target = b""
        try:
            name = names[-1]
            check_name(name)
            parent = above._dir()
            st = host.statx_at(parent.fd, name)
            kind = st.mode & MODE_TYPE
            if kind != MODE_REGULAR and kind != MODE_DIRECTORY:
                steps.append(self._export.attributes(st))
                if kind == MODE_SYMLINK:
                    target = os.readlink(name, dir_fd=parent.fd)
                raise refuse_kind(kind)
            try:
                opened, st, file = _open_name(self._export, parent, name, flags)
            except OSError:
                steps.append(self._export.attributes(st))
                raise
            steps.append(self._export.attributes(st))
            return Opened(0, steps, b"", opened, file)
        except OSError as error:
            return Opened(error.errno or errno.EIO, steps, target, None, None)
        finally:
            if above is not self:
                above.release()

    def opened_directory(self, fd: int) -> OpenDirectory:
        """This directory, open as `fd`."""
        return OpenDirectory(fd, self._export, self._identity[:2], self.attributes, self._attributes_above)

    def _attributes_above(self) -> Attributes:
        return self._export.attributes(host.statx_fd((self.parent or self._dir()).fd))

    def list_whole(self, name: bytes | None, room: int) -> list[bytes] | None:
        if name is not None:
            check_name(name)
        fd = open_directory_fd(self._dir().fd, b"." if name is None else name, c.L_DIRECTORY, self._export)
        file = self.opened_directory(fd)
        try:
            records, whole = file.pack(0, room, dots=False)
        finally:
            file.close()
        return records if whole else None

    # --- opening -----------------------------------------------------------------------------------------------------

    def open(self, flags: int) -> OpenFile:
        if self.directory is not None:
            return self.opened_directory(open_directory_fd(self.directory.fd, b".", flags, self._export))
        if self._kind != MODE_REGULAR:
            raise refuse_kind(self._kind)
        if flags & c.L_DIRECTORY:
            raise LinuxError(errno.ENOTDIR, "open: not a directory")
        host_flags = host_flags_of(flags, self._export.read_only) & ~os.O_TRUNC
        parent_fd, name = self._at()
        fd = open_noatime(parent_fd, name, host_flags)
        try:
            st = host.statx_fd(fd)
            if (st.dev_major, st.dev_minor, st.ino) != self._identity:
                raise LinuxError(errno.ESTALE, "another object has taken the name")
            if flags & c.L_TRUNC:  # only now: the wrong file must not lose its content
                os.ftruncate(fd, 0)
        except OSError:
            os.close(fd)
            raise
        return OpenRegular(fd, True)

    def create(self, name: bytes, flags: int, mode: int, gid: int) -> tuple[HostNode, OpenFile, Attributes]:
        parent = self._writable_dir()
        host_flags = host_flags_of(flags & ~(c.L_TRUNC | c.L_DIRECTORY), False)
        for _ in range(8):
            try:
                fd = host.openat2(parent.fd, name, host_flags | os.O_CREAT | os.O_EXCL, mode & 0o7777)
                break
            except FileExistsError:
                if flags & c.L_EXCL:
                    raise
            try:  # it is there: open it as any other, which refuses what must not be opened
                kind = host.statx_at(parent.fd, name).mode & MODE_TYPE
                if kind == MODE_DIRECTORY:
                    raise LinuxError(errno.EISDIR, "create: a directory has the name")
                if kind != MODE_REGULAR:
                    raise refuse_kind(kind)
                node, st, file = _open_name(self._export, parent, name, flags & ~c.L_DIRECTORY)
                return node, file, self._export.attributes(st)
            except FileNotFoundError:
                continue
        else:
            raise LinuxError(errno.EAGAIN, "create: the name comes and goes")
        try:
            _give_group(fd, gid)
            st = host.statx_fd(fd)
        except OSError:
            os.close(fd)
            raise
        return HostNode(self._export, fd, st, parent, name, None), OpenRegular(fd, False), self._export.attributes(st)

    # --- attributes --------------------------------------------------------------------------------------------------

    def attributes(self) -> Attributes:
        return self._export.attributes(host.statx_fd(self._fd if self.directory is None else self.directory.fd))

    def read_link(self) -> bytes:
        if self._kind != MODE_SYMLINK:
            raise LinuxError(errno.EINVAL, "readlink: not a symlink")
        return os.readlink(b"", dir_fd=self._fd)

    def stat_fs(self) -> StatFs:
        kind, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, _, _ = host.fstatfs(self.fd)
        return StatFs(kind & 0xFFFFFFFF, bsize & 0xFFFFFFFF, blocks, bfree, bavail, files, ffree, fsid, namelen)

    def set_attributes(self, change: SetAttributes, file: OpenFile | None) -> None:
        self._refuse_read_only()
        valid, fd = change.valid, self.fd
        if valid & (c.SETATTR_UID | c.SETATTR_GID):
            uid = change.uid if valid & c.SETATTR_UID else -1
            host.fchown_path(fd, uid, change.gid if valid & c.SETATTR_GID else -1)
        if valid & c.SETATTR_MODE:
            host.fchmod_path(fd, change.mode & 0o7777)
        if valid & c.SETATTR_SIZE:
            self._truncate(change.size_bytes, file)
        if valid & (c.SETATTR_ATIME | c.SETATTR_MTIME):
            atime_nsec = mtime_nsec = host.UTIME_OMIT
            if valid & c.SETATTR_ATIME:
                atime_nsec = change.atime_nsec if valid & c.SETATTR_ATIME_SET else host.UTIME_NOW
            if valid & c.SETATTR_MTIME:
                mtime_nsec = change.mtime_nsec if valid & c.SETATTR_MTIME_SET else host.UTIME_NOW
            host.utimens_path(fd, change.atime_sec, atime_nsec, change.mtime_sec, mtime_nsec)

    def _truncate(self, size_bytes: int, file: OpenFile | None) -> None:
        if size_bytes > MAX_I64:
            raise LinuxError(errno.EINVAL, "truncate: size is negative")
        if isinstance(file, OpenRegular):
            try:
                os.ftruncate(file.fd, size_bytes)
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EBADF):  # EINVAL: open for reading only
                    raise
        writable = self.open(os.O_WRONLY)
        assert isinstance(writable, OpenRegular)
        try:
            os.ftruncate(writable.fd, size_bytes)
        finally:
            writable.close()

    def _with_fd(self, call: Callable[[int], _T]) -> _T:
        """`call` on a readable fd of the object: how xattrs are reached where the kernel has no *xattrat (before
        6.13).
        """
        if self._kind not in (MODE_REGULAR, MODE_DIRECTORY):
            raise LinuxError(errno.EOPNOTSUPP, "xattr: neither a file nor a directory")
        fd = host.openat2(*self._at(), ALWAYS)
        try:
            return call(fd)
        finally:
            os.close(fd)

    def get_xattr(self, name: bytes) -> bytes:
        try:
            return host.getxattrat(*self._at(), name)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
        return self._with_fd(lambda fd: os.getxattr(fd, name))

    def list_xattr(self) -> bytes:
        try:
            return host.listxattrat(*self._at())
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
        return self._with_fd(lambda fd: b"".join(os.fsencode(name) + b"\0" for name in os.listxattr(fd)))

    def set_xattr(self, name: bytes, value: bytes, flags: int) -> None:
        self._refuse_read_only()
        try:
            return host.setxattrat(*self._at(), name, value, flags)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
        return self._with_fd(lambda fd: os.setxattr(fd, name, value, flags))

    def remove_xattr(self, name: bytes) -> None:
        self._refuse_read_only()
        try:
            return host.removexattrat(*self._at(), name)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
        return self._with_fd(lambda fd: os.removexattr(fd, name))

    def _refuse_read_only(self) -> None:
        if self._export.read_only:
            raise LinuxError(errno.EROFS, "export is read-only")

    # --- names -------------------------------------------------------------------------------------------------------

    def _made(self, parent: Directory, name: bytes, gid: int) -> Attributes:
        """The attributes of what was just made, its group set."""
        if gid != c.NOFID:
            fd = host.openat2(parent.fd, name, _PATH_FLAGS)
            try:
                _give_group(fd, gid)
                return self._export.attributes(host.statx_fd(fd))
            finally:
                os.close(fd)
        return self._export.attributes(host.statx_at(parent.fd, name))

    def make_directory(self, name: bytes, mode: int, gid: int) -> Attributes:
        parent = self._writable_dir()
        os.mkdir(name, mode & 0o7777, dir_fd=parent.fd)
        return self._made(parent, name, gid)

    def make_node(self, name: bytes, mode: int, major: int, minor: int, gid: int) -> Attributes:
        parent = self._writable_dir()
        os.mknod(name, mode & 0o177777, os.makedev(major, minor), dir_fd=parent.fd)
        return self._made(parent, name, gid)

    def make_symlink(self, name: bytes, target: bytes, gid: int) -> Attributes:
        parent = self._writable_dir()
        if not target or b"\0" in target:
            raise LinuxError(errno.ENOENT, "symlink: the target is empty or holds NUL")
        os.symlink(target, name, dir_fd=parent.fd)
        return self._made(parent, name, gid)

    def link(self, name: bytes, other: Node) -> None:
        parent = self._writable_dir()
        if not isinstance(other, HostNode) or other._export is not self._export:
            raise LinuxError(errno.EXDEV, "link: across exports")
        if other.directory is not None:
            raise LinuxError(errno.EPERM, "link: a directory")
        source_fd, source = other._at()
        os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=parent.fd, follow_symlinks=False)

    def unlink(self, name: bytes, remove_directory: bool) -> None:
        parent = self._writable_dir()
        if remove_directory:
            os.rmdir(name, dir_fd=parent.fd)
        else:
            os.unlink(name, dir_fd=parent.fd)
        _forget_name(parent, name)

    def rename(self, name: bytes, new_directory: Node, new_name: bytes) -> None:
        parent = self._writable_dir()
        if not isinstance(new_directory, HostNode) or new_directory._export is not self._export:
            raise LinuxError(errno.EXDEV, "rename: across exports")
        target = new_directory._writable_dir()
        os.rename(name, new_name, src_dir_fd=parent.fd, dst_dir_fd=target.fd)
        if parent is target and name == new_name:
            return
        moved = parent.children.get(name, ())
        replaced = target.children.get(new_name, ())
        if moved and replaced and moved[0]._identity == replaced[0]._identity:
            return  # two names of one object: rename(2) does nothing
        _forget_name(target, new_name)
        for node in list(moved):
            node._move_to(target, new_name)

    def location(self) -> tuple[HostNode, bytes]:
        if self._export.file is not None:
            raise LinuxError(errno.EBUSY, "object is an export of its own")
        if self.parent is None or not self.name:
            raise LinuxError(errno.ENOENT, "object has no name")
        parent = self.parent
        parent.refs += 1
        return HostNode(self._export, parent.fd, host.statx_fd(parent.fd), None, b"", parent), self.name


def _forget_name(parent: Directory, name: bytes) -> None:
    """The name is gone: nodes reached under it live on without one."""
    for node in list(parent.children.get(name, ())):
        node._leave_parent()
        node.name = b""


def _give_group(fd: int, gid: int) -> None:
    """Set the group of a new object where the host lets us; it keeps the host's choice where not."""
    if gid == c.NOFID:
        return
    try:
        host.fchown_path(fd, -1, gid)
    except PermissionError:
        pass


def _open_name(export: Export, parent: Directory, name: bytes, flags: int) -> tuple[HostNode, host.Statx, OpenFile]:
    """Open `name`, seen a moment ago to be a file or directory. What it is in truth is asked of the fd again."""
    host_flags = host_flags_of(flags, export.read_only)
    fd = open_noatime(parent.fd, name, host_flags)
    try:
        st = host.statx_fd(fd)
        kind = st.mode & MODE_TYPE
        if kind == MODE_REGULAR:
            return HostNode(export, fd, st, parent, name, None), st, OpenRegular(fd, False)
        if kind != MODE_DIRECTORY:
            raise refuse_kind(kind)
        path_fd = host.openat2(fd, b".", os.O_PATH | os.O_DIRECTORY)
        node = HostNode(export, path_fd, st, parent, name, parent.adopt(path_fd, st))
        return node, st, node.opened_directory(fd)
    except OSError:
        os.close(fd)
        raise


class HostDirectory(Backend):
    """Exports of local directories and files: {name: (path, read_only)}. ConfigurationError: one cannot be opened."""

    def __init__(self, exports: Mapping[bytes, tuple[str, bool]]) -> None:
        self._exports: dict[bytes, Export] = {}
        for name, (path, read_only) in exports.items():
            # each export has a table of its own: a directory that two exports share must not be one object
            table: dict[tuple[int, int, int, int], Directory] = {}
            file: tuple[int, bytes] | None = None
            try:
                directory = path
                if not os.path.isdir(path):
                    directory, base = os.path.split(os.path.realpath(path))
                    file = (os.open(path, os.O_PATH | os.O_CLOEXEC), os.fsencode(base))
                fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                self.close()
                raise ConfigurationError(f"export {path}: {error.strerror}") from None
            st = host.statx_fd(fd)
            root = Directory(fd, (st.dev_major, st.dev_minor, st.ino, st.mnt_id), table)
            if file is not None:
                st = host.statx_fd(file[0])
            self._exports[name] = Export(root, (st.dev_major, st.dev_minor), read_only, file)

    def attach(self, name: bytes) -> Node:
        export = self._exports.get(name)
        if export is None:
            raise LinuxError(errno.ENOENT, "attach: no export of that name")
        if export.file is not None:
            fd = host.openat2(export.root.fd, export.file[1], _PATH_FLAGS)
            return HostNode(export, fd, host.statx_fd(fd), export.root, export.file[1], None)
        export.root.refs += 1
        return HostNode(export, export.root.fd, host.statx_fd(export.root.fd), None, b"", export.root)

    def close(self) -> None:
        for export in self._exports.values():
            export.root.drop()
            if export.file is not None:
                os.close(export.file[0])
        self._exports.clear()

    def kept_fds(self) -> tuple[int, ...]:
        files = [export.file[0] for export in self._exports.values() if export.file is not None]
        return (*(export.root.fd for export in self._exports.values()), *files)

    def landlock_rules(self) -> tuple[tuple[int, bool], ...]:
        return tuple(
            (export.root.fd if export.file is None else export.file[0], not export.read_only)
            for export in self._exports.values()
        )

    @property
    def writable(self) -> bool:
        return any(not export.read_only for export in self._exports.values())
