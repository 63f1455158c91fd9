"""read(2), write(2) and their positioned and vectored forms, lseek(2).

The two hottest handlers are written out: one dictionary access, one call of the open file. Everything unusual (a
transfer beyond CHUNK, blocking, limits, partial copies) is in functions below them.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi.limits import MAX_RW_COUNT
from protocol.abi.resource_h import RLIM_INFINITY
from protocol.abi.splice_h import RWF_APPEND, RWF_DSYNC, RWF_HIPRI, RWF_NOAPPEND, RWF_NOWAIT, RWF_SYNC
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel.published_files import offer_window
from services.sentry.kernel.published_rings import offer_ring
from services.sentry.kernel.signals import SigInfo, send_signal_task
from services.sentry.syscalls.arguments import fd_arg, s32, s64
from services.sentry.syscalls.blocking import READ_MASK, broken_pipe, transfer, wait_to_read, write_all
from services.sentry.syscalls.table import Row
from services.sentry.vfs.opening import stripped_mode
from services.sentry.vfs.user_copy import check_user_range, read_some

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["ROWS", "before_write"]

CHUNK: Final = 1 << 20
"""Larger transfers go in pieces of this size, so that a huge count costs no huge buffer."""
SIGXFSZ: Final = 25
_MAX_OFFSET: Final = (1 << 63) - 1
_RLIMIT_FSIZE: Final = 1


def file_of(task: Task, fd: int) -> OpenFile:
    """The file behind a raw descriptor argument. EBADF."""
    return task.files.get(fd_arg(fd))


# --- plain reads and writes ---
def sys_read(task: Task, fd: int, addr: int, count: int) -> Outcome:
    try:
        file = task.files.files[fd]
    except KeyError:
        file = file_of(task, fd)
    if not file.readable:
        raise LinuxError(errno.EBADF)
    if count > CHUNK:
        return _read_large(task, file, addr, count)
    try:
        done = file.read_user(task.mm, addr, count)
        if done is not None:
            return done if file.ring_end is None else offer_ring(task, fd, file, done)
    except WouldBlock:
        pass
    return wait_to_read(task, file, addr, count)


def sys_write(task: Task, fd: int, addr: int, count: int) -> Outcome:
    try:
        file = task.files.files[fd]
    except KeyError:
        file = file_of(task, fd)
    if not file.writable:
        raise LinuxError(errno.EBADF)
    done = 0
    if count <= CHUNK:
        if file.seekable:
            inode = file.inode
            if inode.mode & 0o6000 or task.group.rlimits[_RLIMIT_FSIZE][0] != RLIM_INFINITY:
                position = inode.size if file.flags & fc.O_APPEND else file.offset
                count = before_write(task, file, position, count)
        try:
            done = file.write_user(task.mm, addr, count)
        except WouldBlock:
            if file.flags & fc.O_NONBLOCK:
                raise LinuxError(errno.EAGAIN) from None
        except LinuxError as error:
            if error.errno == errno.EPIPE and file.writes_all:
                broken_pipe(task)
            raise
        else:
            if done == count or not file.writes_all:
                return done if file.ring_end is None else offer_ring(task, fd, file, done)
    if not done:
        check_user_range(addr, count)
    return _write_rest(task, file, addr, min(count, MAX_RW_COUNT), done)


def _read_large(task: Task, file: OpenFile, addr: int, count: int) -> Outcome:
    """Pieces of CHUNK until one comes back short."""
    check_user_range(addr, count)
    count = min(count, MAX_RW_COUNT)
    mm = task.mm

    def attempt() -> int:
        done = 0
        while done < count:
            step = min(CHUNK, count - done)
            try:
                moved = file.read_user(mm, addr + done, step)
            except (WouldBlock, LinuxError):
                if done:
                    break
                raise
            if moved is None:
                if done:
                    break
                raise WouldBlock
            done += moved
            if moved < step:
                break
        return done

    return transfer(task, file, READ_MASK, attempt)


def _write_rest(task: Task, file: OpenFile, addr: int, count: int, done: int) -> Outcome:
    mm = task.mm
    if file.seekable:
        position = file.inode.size if file.flags & fc.O_APPEND else file.offset
        count = before_write(task, file, position, count)
    return write_all(task, file, count, lambda at: file.write_user(mm, addr + at, min(CHUNK, count - at)), done=done)


def before_write(task: Task, file: OpenFile, position: int, count: int) -> int:
    """How much of `count` may be written at `position` of a regular file; its set-user-id bits go.

    EFBIG with SIGXFSZ: RLIMIT_FSIZE is reached (getrlimit(2)).
    """
    inode = file.inode
    if not inode.is_regular or not count:
        return count
    limit = task.group.rlimits[_RLIMIT_FSIZE][0]
    if limit != RLIM_INFINITY and position + count > limit:
        if position >= limit:
            send_signal_task(task, SigInfo(SIGXFSZ, 0, task.group.pid, task.cred.ruid))
            raise LinuxError(errno.EFBIG)
        count = limit - position
    if inode.mode & 0o6000:
        mode = stripped_mode(task, inode.mode)
        if mode is not None:
            inode.set_attributes(mode=mode)
    return count


# --- at a position ---
def _positioned(task: Task, fd: int, offset: int, *, write: bool) -> tuple[OpenFile, int]:
    """EINVAL: a negative offset; EBADF: not open this way; ESPIPE: no positions."""
    offset = s64(offset)
    if offset < 0:
        raise LinuxError(errno.EINVAL)
    file = file_of(task, fd)
    if not file.seekable and not file.inode.is_dir:
        raise LinuxError(errno.EBADF if file.flags & fc.O_PATH else errno.ESPIPE)
    if not (file.writable if write else file.readable):
        raise LinuxError(errno.EBADF)
    return file, offset


def _check_end(addr: int, count: int, at: int) -> None:
    """EINVAL: the end would be beyond what an offset can say (rw_verify_area); EFAULT: so would that of the buffer."""
    if addr:
        check_user_range(addr, count)
    if at + count > _MAX_OFFSET:
        raise LinuxError(errno.EINVAL)


def sys_pread64(task: Task, fd: int, addr: int, count: int, offset: int) -> Outcome:
    file, at = _positioned(task, fd, offset, write=False)
    if at + count > _MAX_OFFSET:
        _check_end(addr, count, at)
    if count <= CHUNK:
        try:
            done = file.pread_user(task.mm, addr, count, at)
        except WouldBlock:
            pass
        else:
            return offer_window(task, fd, file, done)
    return _read_pieces(task, file, [(addr, min(count, MAX_RW_COUNT))], at, False)


def sys_pwrite64(task: Task, fd: int, addr: int, count: int, offset: int) -> Outcome:
    file, at = _positioned(task, fd, offset, write=True)
    if at + count > _MAX_OFFSET:
        _check_end(addr, count, at)
    if count <= CHUNK and not file.flags & fc.O_APPEND and file.seekable:
        # The everyday case in few frames; a regular file takes less only when there is no room for more.
        if file.inode.mode & 0o6000 or task.group.rlimits[_RLIMIT_FSIZE][0] != RLIM_INFINITY:
            count = before_write(task, file, at, count)
        return offer_window(task, fd, file, file.pwrite_user(task.mm, addr, count, at))
    return _write_pieces(task, file, [(addr, min(count, MAX_RW_COUNT))], at, False)


# --- vectors ---
def _vector(task: Task, addr: int, count: int) -> list[tuple[int, int]]:
    """The iovecs, cut to MAX_RW_COUNT bytes in all and to pieces of CHUNK. EINVAL: too many or too long."""
    vector = task.mm.read_iovecs(addr, s32(count))
    pieces = []
    room = MAX_RW_COUNT
    for base, length in vector:
        length = min(length, room)
        room -= length
        while length > CHUNK:
            pieces.append((base, CHUNK))
            base += CHUNK
            length -= CHUNK
        if length:
            pieces.append((base, length))
    return pieces


def _read_pieces(
    task: Task, file: OpenFile, pieces: list[tuple[int, int]], at: int | None, nonblocking: bool
) -> Outcome:
    """readv: fill the pieces in order until one comes back short. `at` None: the file position."""
    mm = task.mm
    if at is not None:
        _check_end(0, sum(length for _, length in pieces), at)
    split = [part for piece in pieces for part in _split(*piece)]

    def attempt() -> int:
        done = 0
        for base, length in split:
            try:
                if at is None:
                    moved = file.read_user(mm, base, length)
                else:
                    moved = file.pread_user(mm, base, length, at + done)
            except (WouldBlock, LinuxError):
                if done:
                    break
                raise
            if moved is None:
                if done:
                    break
                raise WouldBlock
            done += moved
            if moved < length:
                break
        return done

    if not split:
        return (file.read_user(mm, 0, 0) or 0) if at is None and file.inode.is_dir else 0
    return transfer(task, file, READ_MASK, attempt, nonblocking=nonblocking)


def _split(base: int, length: int) -> list[tuple[int, int]]:
    if length <= CHUNK:
        return [(base, length)]
    return [(base + at, min(CHUNK, length - at)) for at in range(0, length, CHUNK)]


def _write_pieces(
    task: Task, file: OpenFile, pieces: list[tuple[int, int]], at: int | None, nonblocking: bool, append: bool = False
) -> Outcome:
    """writev: several short pieces are joined into one write, so that pipes and datagrams take them whole."""
    mm = task.mm
    total = sum(length for _, length in pieces)
    if at is not None:
        _check_end(0, total, at)
    if file.seekable:
        if at is not None and (append or file.flags & fc.O_APPEND):
            at = file.inode.size  # Linux appends whatever the offset (pwrite(2), "Bugs")
        position = file.offset if at is None else at
        if at is None and (append or file.flags & fc.O_APPEND):
            position = file.inode.size
        total = before_write(task, file, position, total)
    if len(pieces) > 1 and total <= CHUNK:
        return _write_joined(task, file, _joined(task, file, pieces)[:total], at)
    split = [part for piece in pieces for part in _split(*piece)]
    starts: list[int] = []
    position = 0
    for _, length in split:
        starts.append(position)
        position += length

    def put(done: int) -> int:
        index = max(i for i, start in enumerate(starts) if start <= done)
        inside = done - starts[index]
        base, length = split[index][0] + inside, min(split[index][1] - inside, total - done)
        if at is None:
            return file.write_user(mm, base, length)
        return file.pwrite_user(mm, base, length, at + done)

    return write_all(task, file, total, put, nonblocking=nonblocking)


def _joined(task: Task, file: OpenFile, pieces: list[tuple[int, int]]) -> bytes:
    """The bytes of the pieces. A file takes what lies before an unmapped page; others take all or nothing. EFAULT."""
    mm = task.mm
    data = []
    for base, length in pieces:
        try:
            data.append(mm.read(base, length))
        except LinuxError:
            if not file.seekable:
                raise
            try:
                data.append(read_some(mm, base, length))
            except LinuxError:
                if not data:
                    raise
            break
    return b"".join(data)


def _write_joined(task: Task, file: OpenFile, data: bytes, at: int | None) -> Outcome:
    def put(done: int) -> int:
        if at is None:
            return file.write(memoryview(data)[done:] if done else data)
        return file.pwrite(memoryview(data)[done:] if done else data, at + done)

    if not data:
        return 0
    return write_all(task, file, len(data), put)


def sys_readv(task: Task, fd: int, iov: int, count: int) -> Outcome:
    file = file_of(task, fd)
    if not file.readable:
        raise LinuxError(errno.EBADF)
    return _read_pieces(task, file, _vector(task, iov, count), None, False)


def sys_writev(task: Task, fd: int, iov: int, count: int) -> Outcome:
    file = file_of(task, fd)
    if not file.writable:
        raise LinuxError(errno.EBADF)
    return _write_pieces(task, file, _vector(task, iov, count), None, False)


def sys_preadv(task: Task, fd: int, iov: int, count: int, low: int, high: int) -> Outcome:
    file, at = _positioned(task, fd, low, write=False)
    return _read_pieces(task, file, _vector(task, iov, count), at, False)


def sys_pwritev(task: Task, fd: int, iov: int, count: int, low: int, high: int) -> Outcome:
    file, at = _positioned(task, fd, low, write=True)
    return _write_pieces(task, file, _vector(task, iov, count), at, False)


def sys_preadv2(task: Task, fd: int, iov: int, count: int, low: int, high: int, flags: int) -> Outcome:
    flags = s32(flags)
    if flags & ~(RWF_HIPRI | RWF_NOWAIT | RWF_DSYNC | RWF_SYNC):
        raise LinuxError(errno.EOPNOTSUPP)
    if s64(low) == -1:
        file, at = file_of(task, fd), None
        if not file.readable:
            raise LinuxError(errno.EBADF)
    else:
        file, at = _positioned(task, fd, low, write=False)
    return _read_pieces(task, file, _vector(task, iov, count), at, bool(flags & RWF_NOWAIT))


def sys_pwritev2(task: Task, fd: int, iov: int, count: int, low: int, high: int, flags: int) -> Outcome:
    flags = s32(flags)
    if flags & ~(RWF_HIPRI | RWF_NOWAIT | RWF_DSYNC | RWF_SYNC | RWF_APPEND | RWF_NOAPPEND):
        raise LinuxError(errno.EOPNOTSUPP)
    if s64(low) == -1:
        file, at = file_of(task, fd), None
        if not file.writable:
            raise LinuxError(errno.EBADF)
    else:
        file, at = _positioned(task, fd, low, write=True)
    vector = _vector(task, iov, count)
    if flags & RWF_APPEND and file.seekable:
        if at is None:
            file.offset = file.inode.size
        else:
            at = file.inode.size
    return _write_pieces(task, file, vector, at, bool(flags & RWF_NOWAIT))


def sys_lseek(task: Task, fd: int, offset: int, whence: int) -> Outcome:
    try:
        file = task.files.files[fd]
    except KeyError:
        file = file_of(task, fd)
    if file.flags & fc.O_PATH:
        raise LinuxError(errno.EBADF)
    return file.seek(offset - 0x10000000000000000 if offset & 0x8000000000000000 else offset, whence & 0xFFFFFFFF)


ROWS: Final = (
    Row("read", sys_read, "fd buf_out count"),
    Row("write", sys_write, "fd buf count"),
    Row("pread64", sys_pread64, "fd buf_out count offset"),
    Row("pwrite64", sys_pwrite64, "fd buf count offset"),
    Row("readv", sys_readv, "fd iovec int"),
    Row("writev", sys_writev, "fd iovec int"),
    Row("preadv", sys_preadv, "fd iovec int offset int"),
    Row("pwritev", sys_pwritev, "fd iovec int offset int"),
    Row("preadv2", sys_preadv2, "fd iovec int offset int flags"),
    Row("pwritev2", sys_pwritev2, "fd iovec int offset int flags", note="RWF_ATOMIC and RWF_DONTCACHE give EOPNOTSUPP"),
    Row("lseek", sys_lseek, "fd offset int"),
)
