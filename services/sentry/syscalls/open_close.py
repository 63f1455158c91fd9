"""open(2) and creat(2), openat2(2), close(2), dup(2), memfd_create(2), file handles."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, cast

from protocol.abi import fcntl_h as fc
from protocol.abi import memfd_h as mf
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.filesystems.tmpfs import make_memfd
from services.sentry.kernel.first_paths import OPENAT, note_call
from services.sentry.kernel.published_files import take_away
from services.sentry.kernel.waiter import ANY, Wait
from services.sentry.mm.opened_file import offer
from services.sentry.syscalls.arguments import AT_FDCWD, fd_arg, s32, u32
from services.sentry.syscalls.table import Row
from services.sentry.vfs.attributes import pack_inode
from services.sentry.vfs.opening import open_name
from services.sentry.vfs.path_walk import start_of
from services.sentry.vfs.permissions import allowed

if TYPE_CHECKING:
    from services.sentry.files.pipe import PipeFile
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["ROWS"]

# Flags with which a cached path is not opened straight away.
_SLOW: Final = fc.O_CREAT | fc.O_PATH | fc.O_TRUNC | fc.O_NOFOLLOW | fc.O_NOATIME | 0o20000000 | fc.O_ACCMODE
_KNOWN: Final = (
    fc.O_ACCMODE
    | fc.O_CREAT
    | fc.O_EXCL
    | fc.O_NOCTTY
    | fc.O_TRUNC
    | fc.O_APPEND
    | fc.O_NONBLOCK
    | fc.O_SYNC
    | fc.O_ASYNC
    | fc.O_DIRECT
    | fc.O_LARGEFILE
    | fc.O_TMPFILE
    | fc.O_NOFOLLOW
    | fc.O_NOATIME
    | fc.O_CLOEXEC
    | fc.O_PATH
)
_RESOLVE: Final = 0x3F
_TMPFILE: Final = 0o20000000


def sys_openat(task: Task, dirfd: int, path: int, flags: int, mode: int) -> Outcome:
    name = task.mm.read_cstring(path)
    if not flags & _SLOW:
        mm = task.mm
        if mm.trapped is not None and mm.changes is not None:
            note_call(task, OPENAT, name, u32(flags))
        fs = task.fs
        cred = task.cred
        if fs.cache_cred is cred and (dirfd & 0xFFFFFFFF == 0xFFFFFF9C or name[:1] == b"/"):
            entry = fs.followed.get(name)
            if entry is not None:
                place, dentry, seq = entry
                inode = dentry.inode
                if dentry.seq == seq and inode is not None:
                    bits = inode.mode
                    kind = bits & 0o170000
                    if (kind == 0o100000 and not flags & 0o200000) or kind == 0o040000:
                        if bits & 0o444 != 0o444 and not allowed(inode, cred, 4):
                            raise LinuxError(errno.EACCES)
                        table = task.files
                        if len(table.files) >= table.limit and not table.free_slots(1):
                            raise LinuxError(errno.EMFILE)
                        file = inode.open(dentry, flags | 0o100000, task)
                        if file.path is None:
                            file.path = place
                        fd = table.allocate(file, flags & 0o2000000 != 0)
                        if mm.trapped is not None and mm.changes is not None and kind == 0o100000:
                            offer(task, fd, file, name, inode.shown[0] or pack_inode(inode))
                        return fd
    return _open(task, s32(dirfd), name, u32(flags) & _KNOWN | fc.O_LARGEFILE, mode)


def _open(task: Task, dirfd: int, name: bytes, flags: int, mode: int, how: int = 0) -> Outcome:
    if not flags & (fc.O_CREAT | _TMPFILE):
        mode = 0
    elif flags & _TMPFILE and (flags & fc.O_TMPFILE != fc.O_TMPFILE or flags & fc.O_CREAT):
        raise LinuxError(errno.EINVAL)
    table = task.files
    if len(table.files) >= table.limit and not table.free_slots(1):
        raise LinuxError(errno.EMFILE)
    if dirfd == AT_FDCWD or (name[:1] == b"/" and not how):
        base = task.fs.cwd
    else:
        base = start_of(task, dirfd)
    return _install(task, open_name(task, base, name, flags, mode, how), flags)


def _install(task: Task, file: OpenFile, flags: int) -> Outcome:
    """Give the file its number; a FIFO whose other end is missing waits for it first (fifo(7))."""
    if file.inode.mode & 0o170000 == 0o010000 and not flags & fc.O_PATH:
        fifo = cast("PipeFile", file)
        if fifo.open_pending():
            file.add_reference()

            def opened() -> Outcome:
                if fifo.open_pending():
                    return Wait(opened, ((file.queue, ANY),), on_signal=interrupted)
                fd = task.files.allocate(file, bool(flags & fc.O_CLOEXEC))
                file.close_reference()
                return fd

            def interrupted() -> None:
                file.close_reference()

            return Wait(opened, ((file.queue, ANY),), on_signal=interrupted)
    return task.files.allocate(file, bool(flags & fc.O_CLOEXEC))


def sys_open(task: Task, path: int, flags: int, mode: int) -> Outcome:
    return sys_openat(task, 0xFFFFFF9C, path, flags, mode)


def sys_creat(task: Task, path: int, mode: int) -> Outcome:
    return sys_openat(task, 0xFFFFFF9C, path, fc.O_CREAT | fc.O_WRONLY | fc.O_TRUNC, mode)


def sys_openat2(task: Task, dirfd: int, path: int, how_addr: int, size: int) -> Outcome:
    if size < fc.OPEN_HOW.size:
        raise LinuxError(errno.EINVAL)
    if size > 4096:
        raise LinuxError(errno.E2BIG)
    raw = task.mm.read(how_addr, size)
    if any(raw[fc.OPEN_HOW.size :]):
        raise LinuxError(errno.E2BIG)
    flags, mode, how = fc.OPEN_HOW.unpack_from(raw)
    if flags & ~_KNOWN or how & ~_RESOLVE or mode & ~0o7777:
        raise LinuxError(errno.EINVAL)
    if mode and not flags & (fc.O_CREAT | _TMPFILE):
        raise LinuxError(errno.EINVAL)
    if how & fc.RESOLVE_BENEATH and how & fc.RESOLVE_IN_ROOT:
        raise LinuxError(errno.EINVAL)
    if flags & fc.O_PATH and flags & ~(fc.O_PATH | fc.O_DIRECTORY | fc.O_NOFOLLOW | fc.O_CLOEXEC | fc.O_LARGEFILE):
        raise LinuxError(errno.EINVAL)
    name = task.mm.read_cstring(path)
    if how & fc.RESOLVE_CACHED:
        if flags & (fc.O_TRUNC | fc.O_CREAT | _TMPFILE):
            raise LinuxError(errno.EAGAIN)
        how &= ~fc.RESOLVE_CACHED
    return _open(task, s32(dirfd), name, flags | fc.O_LARGEFILE, mode, how)


# --- closing and duplicating ---
def sys_close(task: Task, fd: int) -> Outcome:
    kernel = task.kernel
    kernel.lingering = None
    task.files.close(fd & 0xFFFFFFFF, task)
    if kernel.lingering is not None:
        return _linger(kernel.lingering)
    return take_away(task, 0) if task.files.published.stale else 0


def _linger(socket: Any) -> Outcome:
    """SO_LINGER: until all is acknowledged, or its time is over (socket(7)). The descriptor is closed in any case."""

    def attempt() -> int:
        if socket.still_sends():
            raise WouldBlock
        return 0

    seconds = socket.linger[1] & 0xFFFFFFFF
    deadline = socket.kernel.clock.monotonic_ns() + seconds * 1_000_000_000
    return Wait(
        attempt, ((socket.queue, ANY),), deadline_ns=deadline, on_timeout=lambda: 0, on_signal=lambda: 0, restart=0
    )


def sys_close_range(task: Task, first: int, last: int, flags: int) -> Outcome:
    first, last, flags = u32(first), u32(last), u32(flags)
    if flags & ~(fc.CLOSE_RANGE_UNSHARE | fc.CLOSE_RANGE_CLOEXEC) or first > last:
        raise LinuxError(errno.EINVAL)
    if flags & fc.CLOSE_RANGE_UNSHARE:
        task.files.unshared_for(task)
    if flags & fc.CLOSE_RANGE_CLOEXEC:
        table = task.files
        table.cloexec.update(fd for fd in table.files if first <= fd <= last)
    else:
        task.files.close_range(first, last, task)
    return take_away(task, 0)


def sys_dup(task: Task, fd: int) -> Outcome:
    return task.files.dup(fd_arg(fd))


def sys_dup2(task: Task, old: int, new: int) -> Outcome:
    return take_away(task, task.files.dup2(fd_arg(old), fd_arg(new), False, task))


def sys_dup3(task: Task, old: int, new: int, flags: int) -> Outcome:
    old, new, flags = fd_arg(old), fd_arg(new), u32(flags)
    if flags & ~fc.O_CLOEXEC or old == new:
        raise LinuxError(errno.EINVAL)
    return take_away(task, task.files.dup2(old, new, bool(flags), task))


# --- nameless files, handles ---
def sys_memfd_create(task: Task, name_addr: int, flags: int) -> Outcome:
    flags = u32(flags)
    if flags & mf.MFD_HUGETLB:
        raise LinuxError(errno.ENOSYS if flags & ~0xFC00001F else errno.ENOMEM)
    if flags & ~0x1F or flags & mf.MFD_EXEC and flags & mf.MFD_NOEXEC_SEAL:
        raise LinuxError(errno.EINVAL)
    try:
        name = task.mm.read_cstring(name_addr, mf.MFD_NAME_MAX + 1)
    except LinuxError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise LinuxError(errno.EINVAL) from None
        raise
    cred = task.cred
    noexec = bool(flags & mf.MFD_NOEXEC_SEAL)
    file = make_memfd(
        task.kernel,
        name,
        cred.fsuid,
        cred.fsgid,
        sealable=bool(flags & mf.MFD_ALLOW_SEALING) or noexec,
        mode=0o666 if noexec else 0o777,
    )
    if noexec:
        file.node.seals |= fc.F_SEAL_EXEC
    return task.files.allocate(file, bool(flags & mf.MFD_CLOEXEC))


def sys_name_to_handle_at(task: Task, dirfd: int, path: int, handle: int, mount_id: int, flags: int) -> Outcome:
    """No file system here gives handles (name_to_handle_at(2) EOPNOTSUPP)."""
    raise LinuxError(errno.EOPNOTSUPP)


def sys_open_by_handle_at(task: Task, mount_fd: int, handle: int, flags: int) -> Outcome:
    raise LinuxError(errno.EOPNOTSUPP if task.cred.cap_effective & 4 else errno.EPERM)


ROWS: Final = (
    Row("openat", sys_openat, "fd path flags mode"),
    Row("open", sys_open, "path flags mode"),
    Row("creat", sys_creat, "path mode"),
    Row("openat2", sys_openat2, "fd path ptr size"),
    Row("close", sys_close, "fd"),
    Row("close_range", sys_close_range, "int int flags"),
    Row("dup", sys_dup, "fd"),
    Row("dup2", sys_dup2, "fd fd"),
    Row("dup3", sys_dup3, "fd fd flags"),
    Row("memfd_create", sys_memfd_create, "path flags", note="no huge pages"),
    Row("name_to_handle_at", sys_name_to_handle_at, "fd path ptr ptr flags", "partial", "always EOPNOTSUPP"),
    Row("open_by_handle_at", sys_open_by_handle_at, "fd ptr flags", "partial", "always EOPNOTSUPP"),
)
