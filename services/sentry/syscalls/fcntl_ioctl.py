"""fcntl(2) and the ioctl(2) requests that every kind of file answers alike; the rest goes to the file.

Record locks: fcntl_locking(2), mechanism in vfs/file_locks.py.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import ioctl_h as io
from services.sentry.errors import LinuxError
from services.sentry.files.async_notice import Owner, follow_async, owner_of
from services.sentry.filesystems.tmpfs import TmpfsRegular
from services.sentry.kernel.waiter import ANY, Wait
from services.sentry.syscalls.arguments import fd_arg, s32, u32
from services.sentry.syscalls.table import Row
from services.sentry.vfs.file_locks import EOF, LockWaits, locks_of
from services.sentry.vfs.permissions import owner_or_capable
from services.sentry.vfs.published import revoke

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["ROWS", "Owner"]

_SETTABLE: Final = fc.O_APPEND | fc.O_NONBLOCK | fc.O_DIRECT | fc.O_NOATIME | fc.O_ASYNC
_PATH_COMMANDS: Final = (fc.F_DUPFD, fc.F_DUPFD_CLOEXEC, fc.F_GETFD, fc.F_SETFD, fc.F_GETFL, fc.F_DUPFD_QUERY)
_ALL_SEALS: Final = 0x3F


def sys_fcntl(task: Task, fd: int, cmd: int, arg: int) -> Outcome:
    fd, cmd = fd_arg(fd), u32(cmd)
    file = task.files.get(fd)
    if file.flags & fc.O_PATH and cmd not in _PATH_COMMANDS:
        raise LinuxError(errno.EBADF)
    handler = _COMMANDS.get(cmd)
    if handler is None:
        raise LinuxError(errno.EINVAL)
    return handler(task, fd, file, cmd, arg)


# --- descriptors and flags ---
def _dup(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    return task.files.dup(fd, s32(arg) if arg <= 0xFFFFFFFF else -1, cmd == fc.F_DUPFD_CLOEXEC)


def _dup_query(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    return int(task.files.get(fd_arg(arg)) is file)


def _created_query(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    return 0


def _getfd(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    return int(fd in task.files.cloexec)


def _setfd(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    task.files.set_cloexec(fd, bool(arg & fc.FD_CLOEXEC))
    return 0


def _getfl(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    return file.flags


def _setfl(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    if arg & fc.O_NOATIME and not file.flags & fc.O_NOATIME and not owner_or_capable(file.inode, task.cred):
        raise LinuxError(errno.EPERM)
    if file.inode.published:
        revoke(file.inode)
    file.set_flags(file.flags & ~_SETTABLE | arg & _SETTABLE)
    follow_async(task.kernel, file, fd)
    return 0


# --- record locks ---
def _range_of(file: OpenFile, raw: bytes) -> tuple[int, int, int, int]:
    """(type, start, end, pid) of a struct flock. EINVAL: a bad type, whence or range; EOVERFLOW."""
    kind, whence, start, length, pid = fc.FLOCK.unpack(raw)
    if kind not in (fc.F_RDLCK, fc.F_WRLCK, fc.F_UNLCK):
        raise LinuxError(errno.EINVAL)
    if whence == fc.SEEK_CUR:
        start += file.offset
    elif whence == fc.SEEK_END:
        file.inode.refresh()
        start += file.inode.size
    elif whence != fc.SEEK_SET:
        raise LinuxError(errno.EINVAL)
    if length < 0:
        start, end = start + length, start
    else:
        end = start + length if length else EOF
    if start < 0:
        raise LinuxError(errno.EINVAL)
    if start >= EOF or end > EOF:
        raise LinuxError(errno.EOVERFLOW)
    return kind, start, end, pid


def _lock_owner(task: Task, file: OpenFile, cmd: int) -> tuple[object, int]:
    """The owner identity and the pid that F_GETLK shows for it."""
    if cmd in (fc.F_OFD_GETLK, fc.F_OFD_SETLK, fc.F_OFD_SETLKW):
        return file, -1
    return task.files, task.group.pid


def _getlk(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    kind, start, end, pid = _range_of(file, task.mm.read(arg, fc.FLOCK.size))
    if kind == fc.F_UNLCK or (cmd == fc.F_OFD_GETLK and pid):
        raise LinuxError(errno.EINVAL)
    owner, _ = _lock_owner(task, file, cmd)
    held = locks_of(file.inode).blocker(start, end, kind, owner)
    if held is None:
        task.mm.write(arg, fc.F_UNLCK.to_bytes(2, "little"))
    else:
        length = 0 if held.end == EOF else held.end - held.start
        task.mm.write(arg, fc.FLOCK.pack(held.kind, fc.SEEK_SET, held.start, length, held.pid))
    return 0


def _setlk(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    kind, start, end, pid = _range_of(file, task.mm.read(arg, fc.FLOCK.size))
    ofd = cmd in (fc.F_OFD_SETLK, fc.F_OFD_SETLKW)
    if ofd and pid:
        raise LinuxError(errno.EINVAL)
    if (kind == fc.F_RDLCK and not file.readable) or (kind == fc.F_WRLCK and not file.writable):
        raise LinuxError(errno.EBADF)
    owner, shown = _lock_owner(task, file, cmd)
    locks = locks_of(file.inode)
    waits = task.kernel.part(LockWaits)
    waiting = cmd in (fc.F_SETLKW, fc.F_OFD_SETLKW)

    def attempt() -> Outcome:
        held = locks.blocker(start, end, kind, owner) if kind != fc.F_UNLCK else None
        if held is not None:
            if not waiting:
                raise LinuxError(errno.EAGAIN)
            if not ofd:
                waits.begin(owner, held.owner)
            return Wait(attempt, ((locks.queue, ANY),), on_signal=given_up)
        waits.end(owner)
        locks.put(start, end, kind, owner, shown)
        if ofd:
            file.locks_owner = file
        return 0

    def given_up() -> None:
        waits.end(owner)

    return attempt()


# --- signals about a file ---
def _setown(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    who = s32(arg)
    if who == -0x80000000:
        raise LinuxError(errno.EINVAL)
    kind = fc.F_OWNER_PGRP if who < 0 else fc.F_OWNER_PID
    set_owner(task, file, kind, abs(who))
    return 0


def set_owner(task: Task, file: OpenFile, kind: int, who: int) -> None:
    """F_SETOWN and F_SETOWN_EX, FIOSETOWN. ESRCH: nobody has that number; 0 clears."""
    kernel = task.kernel
    by_kind: dict[int, Mapping[int, object]] = {
        fc.F_OWNER_TID: kernel.tasks,
        fc.F_OWNER_PID: kernel.groups,
        fc.F_OWNER_PGRP: kernel.process_groups,
    }
    if who and who not in by_kind[kind]:
        raise LinuxError(errno.ESRCH)
    cred = task.cred
    file.async_owner = Owner(kind, who, owner_of(file).signal, cred.ruid, cred.euid)


def _getown(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    owner = owner_of(file)
    return -owner.id & 0xFFFFFFFFFFFFFFFF if owner.kind == fc.F_OWNER_PGRP and owner.id else owner.id


def _setown_ex(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    kind, who = fc.F_OWNER_EX.unpack(task.mm.read(arg, fc.F_OWNER_EX.size))
    if kind not in (fc.F_OWNER_TID, fc.F_OWNER_PID, fc.F_OWNER_PGRP):
        raise LinuxError(errno.EINVAL)
    set_owner(task, file, kind, who)
    return 0


def _getown_ex(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    owner = owner_of(file)
    task.mm.write(arg, fc.F_OWNER_EX.pack(owner.kind, owner.id))
    return 0


def _getowner_uids(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    owner = owner_of(file)
    task.mm.write(arg, owner.uid.to_bytes(4, "little") + owner.euid.to_bytes(4, "little"))
    return 0


def _setsig(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    if arg > 64:
        raise LinuxError(errno.EINVAL)
    file.async_owner = owner_of(file)._replace(signal=arg)
    return 0


def _getsig(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    return owner_of(file).signal


# --- pipes, seals, hints, leases ---
def _setpipe_size(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    resize = getattr(file, "set_capacity", None)
    if resize is None:
        raise LinuxError(errno.EBADF)
    return int(resize(u32(arg), task))


def _getpipe_size(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    capacity = getattr(file, "get_capacity", None)
    if capacity is None:
        raise LinuxError(errno.EBADF)
    return int(capacity())


def _add_seals(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    if not isinstance(file.inode, TmpfsRegular):
        raise LinuxError(errno.EINVAL)
    if not file.writable:
        raise LinuxError(errno.EPERM)
    if arg & ~_ALL_SEALS:
        raise LinuxError(errno.EINVAL)
    file.inode.add_seals(arg)
    return 0


def _get_seals(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    if not isinstance(file.inode, TmpfsRegular):
        raise LinuxError(errno.EINVAL)
    return file.inode.seals


def _get_hint(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    task.mm.write(arg, bytes(8))
    return 0


def _set_hint(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    """Hints are advice about storage there is none of: checked and forgotten."""
    if int.from_bytes(task.mm.read(arg, 8), "little") > fc.RWH_WRITE_LIFE_EXTREME:
        raise LinuxError(errno.EINVAL)
    return 0


def _setlease(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    """No leases are given: fcntl(2) F_SETLEASE fails as on a file in use."""
    if not file.inode.is_regular or s32(arg) not in (fc.F_RDLCK, fc.F_WRLCK, fc.F_UNLCK):
        raise LinuxError(errno.EINVAL)
    raise LinuxError(errno.EAGAIN)


def _getlease(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    return fc.F_UNLCK


def _notify(task: Task, fd: int, file: OpenFile, cmd: int, arg: int) -> Outcome:
    raise LinuxError(errno.EINVAL if file.inode.is_dir else errno.ENOTDIR)


_COMMANDS: Final[dict[int, Callable[..., Outcome]]] = {
    fc.F_DUPFD: _dup,
    fc.F_DUPFD_CLOEXEC: _dup,
    fc.F_DUPFD_QUERY: _dup_query,
    fc.F_CREATED_QUERY: _created_query,
    fc.F_GETFD: _getfd,
    fc.F_SETFD: _setfd,
    fc.F_GETFL: _getfl,
    fc.F_SETFL: _setfl,
    fc.F_GETLK: _getlk,
    fc.F_OFD_GETLK: _getlk,
    fc.F_SETLK: _setlk,
    fc.F_SETLKW: _setlk,
    fc.F_OFD_SETLK: _setlk,
    fc.F_OFD_SETLKW: _setlk,
    fc.F_SETOWN: _setown,
    fc.F_GETOWN: _getown,
    fc.F_SETOWN_EX: _setown_ex,
    fc.F_GETOWN_EX: _getown_ex,
    fc.F_GETOWNER_UIDS: _getowner_uids,
    fc.F_SETSIG: _setsig,
    fc.F_GETSIG: _getsig,
    fc.F_SETPIPE_SZ: _setpipe_size,
    fc.F_GETPIPE_SZ: _getpipe_size,
    fc.F_ADD_SEALS: _add_seals,
    fc.F_GET_SEALS: _get_seals,
    fc.F_GET_RW_HINT: _get_hint,
    fc.F_SET_RW_HINT: _set_hint,
    fc.F_GET_FILE_RW_HINT: _get_hint,
    fc.F_SET_FILE_RW_HINT: _set_hint,
    fc.F_SETLEASE: _setlease,
    fc.F_GETLEASE: _getlease,
    fc.F_NOTIFY: _notify,
}


# --- ioctl ---
def sys_ioctl(task: Task, fd: int, request: int, arg: int) -> Outcome:
    fd, request = fd_arg(fd), u32(request)
    file = task.files.get(fd)
    if file.flags & fc.O_PATH:
        raise LinuxError(errno.EBADF)
    handler = _REQUESTS.get(request)
    if handler is not None:
        return handler(task, fd, file, arg)
    if file.inode.is_regular:
        answer = _regular_ioctl(task, file, request, arg)
        if answer is not None:
            return answer
    return file.ioctl(task, request, arg)


def _regular_ioctl(task: Task, file: OpenFile, request: int, arg: int) -> int | None:
    """FIONREAD and cloning on regular files (ioctl_ficlone(2)); None: not one of them."""
    if request == io.FIONREAD:
        file.inode.refresh()
        task.mm.write_u32(arg, (file.inode.size - file.offset) & 0xFFFFFFFF)
        return 0
    if request in (io.FICLONE, io.FICLONERANGE, io.FIDEDUPERANGE):
        raise LinuxError(errno.EOPNOTSUPP)
    return None


def _fioclex(task: Task, fd: int, file: OpenFile, arg: int) -> Outcome:
    task.files.set_cloexec(fd, True)
    return 0


def _fionclex(task: Task, fd: int, file: OpenFile, arg: int) -> Outcome:
    task.files.set_cloexec(fd, False)
    return 0


def _flag(task: Task, file: OpenFile, arg: int, flag: int) -> Outcome:
    on = task.mm.read_u32(arg)
    if file.inode.published:
        revoke(file.inode)
    file.set_flags(file.flags | flag if on else file.flags & ~flag)
    return 0


def _fionbio(task: Task, fd: int, file: OpenFile, arg: int) -> Outcome:
    return _flag(task, file, arg, fc.O_NONBLOCK)


def _fioasync(task: Task, fd: int, file: OpenFile, arg: int) -> Outcome:
    _flag(task, file, arg, fc.O_ASYNC)
    follow_async(task.kernel, file, fd)
    return 0


def _fioqsize(task: Task, fd: int, file: OpenFile, arg: int) -> Outcome:
    inode = file.inode
    if not (inode.is_regular or inode.is_dir or inode.is_symlink):
        raise LinuxError(errno.ENOTTY)
    inode.refresh()
    task.mm.write_u64(arg, inode.size)
    return 0


_REQUESTS: Final[dict[int, Callable[..., Outcome]]] = {
    io.FIOCLEX: _fioclex,
    io.FIONCLEX: _fionclex,
    io.FIONBIO: _fionbio,
    io.FIOASYNC: _fioasync,
    io.FIOQSIZE: _fioqsize,
}

ROWS: Final = (
    Row("fcntl", sys_fcntl, "fd int int", note="no leases, no dnotify; write hints are forgotten"),
    Row("ioctl", sys_ioctl, "fd int ptr"),
)
