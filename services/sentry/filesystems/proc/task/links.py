"""Magic links of a task: exe, cwd, root, fd/N, map_files, ns/* (proc(5)). Each is a (target, text) pair of functions.

All are guarded as ptrace(2) says. ENOENT: there is nothing (a kernel thread's exe, a closed descriptor, a dead task).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.sentry.errors import LinuxError
from services.sentry.filesystems.proc.access import check_may_read, fs_of, mm_of
from services.sentry.vfs.path_walk import Path, anonymous_path, full_name

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["LINKS", "NAMESPACES", "file_path", "file_text", "namespace_number"]


def _exe(target: Task) -> Path:
    path = target.group.exec_path
    if path is None or mm_of(target) is None:
        raise LinuxError(errno.ENOENT)
    return path


def _cwd(target: Task) -> Path:
    fs = fs_of(target)
    if fs is None or target.group.is_dead:
        raise LinuxError(errno.ENOENT)
    return fs.cwd


def _root(target: Task) -> Path:
    fs = fs_of(target)
    if fs is None or target.group.is_dead:
        raise LinuxError(errno.ENOENT)
    return fs.root


#: name -> where it leads.
LINKS: Final[dict[bytes, Callable[[Task], Path]]] = {b"exe": _exe, b"cwd": _cwd, b"root": _root}


def guarded(get: Callable[[Task], Path], target: Task) -> tuple[Callable[[Task], Path], Callable[[Task], bytes]]:
    """The functions of a MagicLink to `get(target)`."""

    def follow(reader: Task) -> Path:
        check_may_read(reader, target)
        return get(target)

    def text(reader: Task) -> bytes:
        check_may_read(reader, target)
        return full_name(get(target), reader.fs.root)

    return follow, text


def file_path(reader: Task, file: OpenFile) -> Path:
    """Where /proc/PID/fd/N leads: the file's place, or a nameless one for its inode."""
    return file.path if file.path is not None else anonymous_path(reader, file.inode)


def file_text(reader: Task, file: OpenFile) -> bytes:
    """What readlink(2) of /proc/PID/fd/N shows."""
    return full_name(file.path, reader.fs.root) if file.path is not None else file.proc_link()


#: name of the link below ns -> (kind shown, number of the initial namespace). namespaces(7).
NAMESPACES: Final[dict[bytes, tuple[bytes, int]]] = {
    b"cgroup": (b"cgroup", 4026531835),
    b"ipc": (b"ipc", 4026531839),
    b"mnt": (b"mnt", 4026531832),
    b"net": (b"net", 4026531833),
    b"pid": (b"pid", 4026531836),
    b"pid_for_children": (b"pid", 4026531836),
    b"time": (b"time", 4026531834),
    b"time_for_children": (b"time", 4026531834),
    b"user": (b"user", 4026531837),
    b"uts": (b"uts", 4026531838),
}
_FIRST_OTHER: Final = 4026532200


def namespace_number(name: bytes, target: Task) -> int:
    """The inode number of a namespace of `target`: equal exactly for tasks in the same one."""
    _, number = NAMESPACES[name]
    init = target.kernel.init_group.leader
    if name == b"uts" and target.uts is not target.kernel.uts:
        return _FIRST_OTHER + (id(target.uts) >> 4) % 100_000_000
    mounts, first = getattr(target.fs, "mounts", None), getattr(init.fs, "mounts", None)
    if name == b"mnt" and mounts is not None and first is not None and mounts is not first:
        return _FIRST_OTHER + (id(mounts) >> 4) % 100_000_000
    return number
