"""Path resolution: path_resolution(7), openat2(2). The one place where bytes become a (mount, dentry).

`find` is the fast way for paths relative to the root or the working directory: it uses the whole-path cache. `walk` and
`walk_parent` take any starting place and RESOLVE_* flags. `full_name` goes the other way (d_path).
Everything raises LinuxError: ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EXDEV (RESOLVE_*), and what lookups report.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.abi import fcntl_h as fc
from protocol.abi.limits import MAXSYMLINKS, NAME_MAX, PATH_MAX
from protocol.abi.mount_h import MS_NOSYMFOLLOW
from services.sentry.errors import LinuxError
from services.sentry.vfs.path_cache import AbsentParent, remember
from services.sentry.vfs.permissions import check

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.mounts import Mount

__all__ = [
    "Path",
    "Resolution",
    "anonymous_path",
    "descriptor_path",
    "find",
    "find_parent",
    "full_name",
    "name_from",
    "path_at",
    "resolve",
    "start_of",
    "walk",
    "walk_parent",
]

ENOENT: Final = errno.ENOENT
CREATING: Final = 1 << 16
"""Added to RESOLVE_* by open(2) with O_CREAT: a last name before a slash gives EISDIR, existing or not."""


class Path:
    """A place in the tree: a dentry as seen through a mount. Not changed once it is made."""

    __slots__ = ("dentry", "mount")

    def __init__(self, mount: Mount, dentry: Dentry) -> None:
        self.mount = mount
        self.dentry = dentry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Path) and self.dentry is other.dentry and self.mount is other.mount

    def __hash__(self) -> int:
        return hash((id(self.mount), id(self.dentry)))


class Resolution(NamedTuple):
    """Where a walk ended.

    path       the place; its dentry may be negative. With parent=True: the directory of the last component.
    last       with parent=True: the last component, b'' for a path of slashes only; may be b'.' or b'..'.
    slash      the path ended in a slash (or its last symbolic link's target did): only a directory will do.
    cacheable  nothing dynamic was met on the way.
    """

    path: Path
    last: bytes
    slash: bool
    cacheable: bool


def find(task: Task, name: bytes, follow: bool = True) -> Path:
    """The existing file at `name`, relative to the task's root or working directory. ENOENT: absent."""
    fs = task.fs
    cred = task.cred
    if fs.cache_cred is not cred:
        fs.adopt(cred)
    entries = fs.followed if follow else fs.unfollowed
    entry = entries.get(name)
    if entry is not None:
        path, dentry, seq = entry
        if dentry.seq == seq:
            if dentry.inode is None:
                raise LinuxError(ENOENT)
            return path
        del entries[name]
    try:
        found = resolve(task, fs.cwd, name, follow)
    except AbsentParent as absent:
        remember(entries, name, absent.path)
        raise
    path = found.path
    inode = path.dentry.inode
    if found.slash and inode is not None and inode.mode & 0o170000 != 0o040000:
        raise LinuxError(errno.ENOTDIR)
    if found.cacheable:
        remember(entries, name, path)
    if inode is None:
        raise LinuxError(ENOENT)
    return path


def walk(task: Task, base: Path, name: bytes, follow_last: bool = True, flags: int = 0) -> Path:
    """The existing file at `name` starting from `base`; `flags` are RESOLVE_* of openat2(2)."""
    if not flags:
        above = base.dentry
        child = above.children.get(name)  # only single names are keys
        if child is not None and not above.dynamic and not child.mounted:
            inode, directory = child.inode, above.inode
            if inode is not None and directory is not None:
                if not follow_last or inode.mode & 0o170000 != 0o120000:
                    if directory.mode & 0o111 != 0o111:
                        check(directory, task.cred, 1)
                    return Path(base.mount, child)
    found = resolve(task, base, name, follow_last, flags)
    inode = found.path.dentry.inode
    if inode is None:
        raise LinuxError(ENOENT)
    if found.slash and inode.mode & 0o170000 != 0o040000:
        raise LinuxError(errno.ENOTDIR)
    return found.path


def walk_parent(task: Task, base: Path, name: bytes, flags: int = 0) -> tuple[Path, bytes]:
    """The directory of the last component, and that component without trailing slashes (b'' for '/' itself)."""
    found = resolve(task, base, name, False, flags, parent=True)
    return found.path, found.last


def find_parent(task: Task, base: Path, name: bytes) -> Resolution:
    """As resolve(parent=True), by the whole-path cache where possible; ENAMETOOLONG also for the last name."""
    head, _, last = name.rpartition(b"/")
    if last in (b"", b".", b".."):
        return resolve(task, base, name, False, parent=True)
    if name[:1] == b"/":
        path = find(task, head) if head else task.fs.root
    elif not head:
        path = base
    elif base is task.fs.cwd:
        path = find(task, head)
    else:
        path = walk(task, base, head)
    inode = path.dentry.inode
    if inode is None or inode.mode & 0o170000 != 0o040000:
        raise LinuxError(errno.ENOTDIR)
    if inode.mode & 0o111 != 0o111:
        check(inode, task.cred, 1)
    if len(last) > NAME_MAX:
        raise LinuxError(errno.ENAMETOOLONG)
    return Resolution(path, last, False, False)


def start_of(task: Task, dirfd: int) -> Path:
    """The place a relative path starts from. EBADF: no such descriptor; ENOTDIR: it has no path."""
    if dirfd == fc.AT_FDCWD:
        return task.fs.cwd
    file = task.files.get(dirfd)
    if file.path is None:
        raise LinuxError(errno.ENOTDIR)
    return file.path


def path_at(task: Task, dirfd: int, name: bytes, follow: bool = True, empty_ok: bool = False) -> Path:
    """The existing file that the *at(2) calls name. `empty_ok`: AT_EMPTY_PATH, the file of `dirfd` itself."""
    if name[:1] == b"/" or (dirfd == fc.AT_FDCWD and name):
        return find(task, name, follow)
    if not name:
        if not empty_ok:
            raise LinuxError(ENOENT)
        if dirfd == fc.AT_FDCWD:
            return task.fs.cwd
        return descriptor_path(task, dirfd)
    return walk(task, start_of(task, dirfd), name, follow)


def descriptor_path(task: Task, fd: int) -> Path:
    """The Path of an open file; kinds without one get a nameless dentry on their own superblock."""
    file = task.files.get(fd)
    if file.path is not None:
        return file.path
    return anonymous_path(task, file.inode)


def anonymous_path(task: Task, inode: object) -> Path:
    """A place for an inode that has no name (a pipe, a socket, a memfd), good for attribute calls."""
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.mounts import Mount

    assert isinstance(inode, Inode)
    dentry = Dentry(b"", None, inode, inode.superblock)
    mount = Mount(inode.superblock, dentry, 0, b"none", 0)
    inode.superblock.mounts -= 1
    return Path(mount, dentry)


def resolve(task: Task, base: Path, name: bytes, follow: bool, flags: int = 0, *, parent: bool = False) -> Resolution:
    """Walk `name` from `base` (or the root). The last component may be absent; every earlier one must exist.

    `follow`: follow a symbolic link in the last component. `parent`: stop before looking the last component up.
    """
    if not name:
        raise LinuxError(ENOENT)
    if len(name) >= PATH_MAX:
        raise LinuxError(errno.ENAMETOOLONG)
    fs = task.fs
    table = fs.mounts.table
    cred = task.cred
    privileged = cred.cap_effective & 6  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: may search any directory
    root = base if flags & (fc.RESOLVE_BENEATH | fc.RESOLVE_IN_ROOT) else fs.root
    root_mount, root_dentry = root.mount, root.dentry
    if name[0] == 47:
        if flags & fc.RESOLVE_BENEATH:
            raise LinuxError(errno.EXDEV)
        mount, dentry = root_mount, root_dentry
        if flags & fc.RESOLVE_NO_XDEV and mount is not base.mount:
            raise LinuxError(errno.EXDEV)
    else:
        mount, dentry = base.mount, base.dentry
    slash = name[-1] == 47
    cacheable = not flags and not dentry.dynamic
    links = 0
    stack = [part for part in reversed(name.split(b"/")) if part]
    while stack:
        component = stack.pop()
        inode = dentry.inode
        assert inode is not None
        mode = inode.mode
        if mode & 0o170000 != 0o040000:
            raise LinuxError(errno.ENOTDIR)
        if not privileged and mode & 0o111 != 0o111:
            check(inode, cred, 1)
        if parent and not stack:
            return Resolution(Path(mount, dentry), component, slash, cacheable)
        if component == b".":
            continue
        if component == b"..":
            mount, dentry = _ascend(mount, dentry, root_mount, root_dentry, flags)
            while dentry.mounted:
                above = table.get((mount, dentry))
                if above is None:
                    break
                mount, dentry = above, above.root
            continue
        if flags and flags & CREATING and slash and not stack:
            raise LinuxError(errno.EISDIR)
        if len(component) > NAME_MAX:
            raise LinuxError(errno.ENAMETOOLONG)
        if dentry.dynamic:
            cacheable = False
            child = dentry.lookup(component)
        else:
            found = dentry.children.get(component)
            if found is None:
                if stack:
                    _bring(inode, component, stack)
                found = dentry.lookup(component)
            child = found
        inode = child.inode
        if inode is None:
            if not stack:
                return Resolution(Path(mount, child), component, slash, cacheable)
            if cacheable:
                raise AbsentParent(Path(mount, child))
            raise LinuxError(ENOENT)
        if child.mounted:
            crossed = mount
            dentry = child
            while dentry.mounted:
                above = table.get((mount, dentry))
                if above is None:
                    break
                mount, dentry = above, above.root
            if flags & fc.RESOLVE_NO_XDEV and mount is not crossed:
                raise LinuxError(errno.EXDEV)
            if dentry.dynamic:
                cacheable = False
            continue
        if inode.mode & 0o170000 == 0o120000 and (stack or follow or slash):
            links += 1
            if links > MAXSYMLINKS or flags & fc.RESOLVE_NO_SYMLINKS or mount.flags & MS_NOSYMFOLLOW:
                raise LinuxError(errno.ELOOP)
            target = inode.follow(task)
            if target is not None:
                if flags & fc.RESOLVE_NO_MAGICLINKS:
                    raise LinuxError(errno.ELOOP)
                if flags & (fc.RESOLVE_BENEATH | fc.RESOLVE_IN_ROOT) or (
                    flags & fc.RESOLVE_NO_XDEV and target.mount is not mount
                ):
                    raise LinuxError(errno.EXDEV)
                mount, dentry = target.mount, target.dentry
                cacheable = False
                continue
            text = inode.readlink_for(task)
            if not text:
                raise LinuxError(ENOENT)
            if text[0] == 47:
                if flags & fc.RESOLVE_BENEATH or (flags & fc.RESOLVE_NO_XDEV and root_mount is not mount):
                    raise LinuxError(errno.EXDEV)
                mount, dentry = root_mount, root_dentry
            if not stack and text[-1] == 47:
                slash = True
            stack += [part for part in reversed(text.split(b"/")) if part]
            if parent and not stack:
                return Resolution(Path(mount, dentry), b"", slash, cacheable)
            continue
        dentry = child
    return Resolution(Path(mount, dentry), b"", slash, cacheable)


PREFETCH: Final = 16
"""Components of a path that one look-up asks for at most: what fits one walk (9P)."""


def _bring(inode: Inode, component: bytes, stack: list[bytes]) -> None:
    """Have a remote file system learn in one round trip what the rest of the path leads to; the walk comes after."""
    lookup_path = getattr(inode, "lookup_path", None)
    if lookup_path is None:
        return
    names = [component]
    for name in reversed(stack):
        if name in (b".", b"..") or len(name) > NAME_MAX or len(names) == PREFETCH:
            break
        names.append(name)
    if len(names) > 1 and len(component) <= NAME_MAX:
        with suppress(LinuxError):  # the walk itself will meet it, if it comes that far
            lookup_path(names)


def _ascend(mount: Mount, dentry: Dentry, root_mount: Mount, root_dentry: Dentry, flags: int) -> tuple[Mount, Dentry]:
    """One '..': stays at the root, leaves a mount through its mount point."""
    while True:
        if dentry is root_dentry and mount is root_mount:
            if flags & fc.RESOLVE_BENEATH:
                raise LinuxError(errno.EXDEV)
            return mount, dentry
        if dentry is not mount.root:
            dentry.ascended = True
            return mount, dentry.parent
        if mount.parent is None:
            return mount, dentry
        if flags & fc.RESOLVE_NO_XDEV:
            raise LinuxError(errno.EXDEV)
        mount, dentry = mount.parent, mount.mountpoint


def full_name(path: Path, root: Path) -> bytes:
    """The absolute name of `path` as seen from `root` (d_path); " (deleted)" is appended when it is gone.

    What is not below `root` is named from the top of its own tree of mounts.
    """
    name, _ = name_from(path, root)
    return name + b" (deleted)" if path.dentry.deleted else name


def name_from(path: Path, root: Path) -> tuple[bytes, bool]:
    """The name of `path` without regard to deletion, and whether it is below `root` (getcwd(2) "(unreachable)")."""
    mount, dentry = path.mount, path.dentry
    root_mount, root_dentry = root.mount, root.dentry
    parts: list[bytes] = []
    reached = True
    while dentry is not root_dentry or mount is not root_mount:
        if dentry is mount.root:
            if mount.parent is None:
                reached = False
                break
            mount, dentry = mount.parent, mount.mountpoint
            continue
        if dentry.parent is dentry:
            reached = False
            break
        parts.append(dentry.name)
        dentry = dentry.parent
    return b"/" + b"/".join(reversed(parts)), reached
