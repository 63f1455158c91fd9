"""sendfile(2), splice(2), tee(2), vmsplice(2), copy_file_range(2). The mechanism is in files/splice.py."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import splice_h as sp
from protocol.abi.limits import MAX_RW_COUNT
from services.sentry.errors import LinuxError
from services.sentry.files.pipe import PipeFile
from services.sentry.files.splice import Blocked, Side, move
from services.sentry.kernel.waiter import Wait
from services.sentry.syscalls.arguments import fd_arg, s64, u32
from services.sentry.syscalls.blocking import READ_MASK, WRITE_MASK, broken_pipe
from services.sentry.syscalls.read_write import before_write, sys_readv, sys_writev
from services.sentry.syscalls.table import Row

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["ROWS"]

_FLAGS: Final = sp.SPLICE_F_MOVE | sp.SPLICE_F_NONBLOCK | sp.SPLICE_F_MORE | sp.SPLICE_F_GIFT


class _Transfer:
    """One call: its two sides, how far it is, where the offsets go when it ends.

    `whole`: go on until `count` or the end of the source (sendfile); otherwise stop at what is there (splice).
    """

    __slots__ = ("count", "done", "nonblocking", "sink", "sink_addr", "source", "source_addr", "task", "whole")

    def __init__(
        self, task: Task, source: Side, sink: Side, count: int, *, whole: bool, nonblocking: bool = False
    ) -> None:
        self.task = task
        self.source = source
        self.sink = sink
        self.count = count
        self.whole = whole
        self.nonblocking = nonblocking
        self.done = 0
        self.source_addr = 0
        self.sink_addr = 0

    def step(self) -> Outcome:
        try:
            while True:
                before = self.done
                self.done = move(self.source, self.sink, self.count, self.done)
                if not self.whole or self.done == self.count or self.done == before:
                    break
                self._probe()
        except Blocked as blocked:
            return self._wait(blocked)
        except LinuxError as error:
            if error.errno == errno.EPIPE:
                broken_pipe(self.task)
            if not self.done:
                raise
        return self.finish()

    def _probe(self) -> None:
        """After a partial `move`: find out which side blocks, by an attempt that counts from zero."""
        self.count -= self.done
        moved, self.done = self.done, 0
        try:
            self.done = move(self.source, self.sink, self.count)
        finally:
            self.done += moved
            self.count += moved

    def _wait(self, blocked: Blocked) -> Outcome:
        if self.nonblocking or blocked.file.flags & fc.O_NONBLOCK:
            if self.done:
                return self.finish()
            raise LinuxError(errno.EAGAIN)
        mask = WRITE_MASK if blocked.sink else READ_MASK
        return Wait(self.step, ((blocked.file.queue, mask),), on_signal=self.interrupted)

    def interrupted(self) -> int | None:
        return self.finish() if self.done else None

    def finish(self) -> int:
        """Write the moved offsets back; the result of the call."""
        for addr, side in ((self.source_addr, self.source), (self.sink_addr, self.sink)):
            if addr and side.offset is not None:
                self.task.mm.write_u64(addr, side.offset)
        return self.done


def _file(task: Task, fd: int, *, write: bool) -> OpenFile:
    file = task.files.get(fd_arg(fd))
    if not (file.writable if write else file.readable):
        raise LinuxError(errno.EBADF)
    return file


def _side(task: Task, file: OpenFile, addr: int) -> Side:
    """A side with an optional offset pointer. ESPIPE: the file has no positions; EINVAL: negative."""
    if not addr:
        return Side(file)
    if not file.seekable:
        raise LinuxError(errno.ESPIPE)
    offset = s64(task.mm.read_u64(addr))
    if offset < 0:
        raise LinuxError(errno.EINVAL)
    return Side(file, offset)


def _limited(task: Task, file: OpenFile, sink: Side, count: int) -> int:
    """RLIMIT_FSIZE and set-user-id bits of the file written to."""
    if not file.seekable:
        return count
    return before_write(task, file, file.offset if sink.offset is None else sink.offset, count)


def sys_sendfile(task: Task, out_fd: int, in_fd: int, offset: int, count: int) -> Outcome:
    source_file = _file(task, in_fd, write=False)
    source = _side(task, source_file, offset)
    target = _file(task, out_fd, write=True)
    if not source_file.inode.is_regular:
        raise LinuxError(errno.EINVAL)
    if target.flags & fc.O_APPEND and target.seekable:
        raise LinuxError(errno.EINVAL)
    sink = Side(target)
    count = _limited(task, target, sink, min(count, MAX_RW_COUNT))
    transfer = _Transfer(task, source, sink, count, whole=True)
    transfer.source_addr = offset
    return transfer.step()


def sys_splice(task: Task, in_fd: int, off_in: int, out_fd: int, off_out: int, count: int, flags: int) -> Outcome:
    flags = u32(flags)
    if flags & ~_FLAGS:
        raise LinuxError(errno.EINVAL)
    if not count:
        return 0
    source_file = _file(task, in_fd, write=False)
    target = _file(task, out_fd, write=True)
    in_pipe, out_pipe = isinstance(source_file, PipeFile), isinstance(target, PipeFile)
    if not in_pipe and not out_pipe:
        raise LinuxError(errno.EINVAL)
    if (in_pipe and off_in) or (out_pipe and off_out):
        raise LinuxError(errno.ESPIPE)
    if isinstance(source_file, PipeFile) and isinstance(target, PipeFile) and source_file.pipe is target.pipe:
        raise LinuxError(errno.EINVAL)
    source = _side(task, source_file, off_in)
    sink = _side(task, target, off_out)
    if target.flags & fc.O_APPEND and target.seekable:
        raise LinuxError(errno.EINVAL)
    if source_file.inode.is_dir or target.inode.is_dir:
        raise LinuxError(errno.EINVAL)
    count = _limited(task, target, sink, min(count, MAX_RW_COUNT))
    transfer = _Transfer(task, source, sink, count, whole=False, nonblocking=bool(flags & sp.SPLICE_F_NONBLOCK))
    transfer.source_addr, transfer.sink_addr = off_in, off_out
    return transfer.step()


def sys_tee(task: Task, in_fd: int, out_fd: int, count: int, flags: int) -> Outcome:
    flags = u32(flags)
    if flags & ~_FLAGS:
        raise LinuxError(errno.EINVAL)
    if not count:
        return 0
    source = _file(task, in_fd, write=False)
    target = _file(task, out_fd, write=True)
    if not isinstance(source, PipeFile) or not isinstance(target, PipeFile) or source.pipe is target.pipe:
        raise LinuxError(errno.EINVAL)
    limit = min(count, MAX_RW_COUNT)
    transfer = _Transfer(
        task, _TeeSide(source), Side(target), limit, whole=False, nonblocking=bool(flags & sp.SPLICE_F_NONBLOCK)
    )
    return transfer.step()


class _TeeSide(Side):
    """A pipe that keeps what it gives: `offset` counts what this call has shown already."""

    __slots__ = ("shown",)

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        self.shown = 0

    def give(self, count: int) -> bytes:
        assert isinstance(self.file, PipeFile)
        return self.file.peek(self.shown + count)[self.shown :]

    def taken(self, count: int) -> None:
        self.shown += count


def sys_vmsplice(task: Task, fd: int, iov: int, count: int, flags: int) -> Outcome:
    """Into a pipe: as writev(2) (the pages are copied, never gifted); out of one: as readv(2)."""
    if u32(flags) & ~_FLAGS:
        raise LinuxError(errno.EINVAL)
    file = task.files.get(fd_arg(fd))
    if not isinstance(file, PipeFile):
        raise LinuxError(errno.EBADF)
    nonblocking = flags & sp.SPLICE_F_NONBLOCK and not file.flags & fc.O_NONBLOCK
    if nonblocking:
        file.flags |= fc.O_NONBLOCK
    try:
        return sys_writev(task, fd, iov, count) if file.writable else sys_readv(task, fd, iov, count)
    finally:
        if nonblocking:
            file.flags &= ~fc.O_NONBLOCK


def sys_copy_file_range(
    task: Task, in_fd: int, off_in: int, out_fd: int, off_out: int, count: int, flags: int
) -> Outcome:
    source_file = _file(task, in_fd, write=False)
    target = _file(task, out_fd, write=True)
    if u32(flags):
        raise LinuxError(errno.EINVAL)
    if source_file.inode.is_dir or target.inode.is_dir:
        raise LinuxError(errno.EISDIR)
    if not source_file.inode.is_regular or not target.inode.is_regular:
        raise LinuxError(errno.EINVAL)
    if target.flags & fc.O_APPEND:
        raise LinuxError(errno.EBADF)
    if source_file.inode.superblock is not target.inode.superblock:
        raise LinuxError(errno.EXDEV)
    source, sink = _side(task, source_file, off_in), _side(task, target, off_out)
    start = source_file.offset if source.offset is None else source.offset
    end = target.offset if sink.offset is None else sink.offset
    source_file.inode.refresh()
    count = max(0, min(count, MAX_RW_COUNT, source_file.inode.size - start))
    if source_file.inode is target.inode and start < end + count and end < start + count:
        raise LinuxError(errno.EINVAL)
    count = _limited(task, target, sink, count)
    transfer = _Transfer(task, source, sink, count, whole=True)
    transfer.source_addr, transfer.sink_addr = off_in, off_out
    return transfer.step()


ROWS: Final = (
    Row("sendfile", sys_sendfile, "fd fd ptr count"),
    Row("splice", sys_splice, "fd ptr fd ptr count flags"),
    Row("tee", sys_tee, "fd fd count flags"),
    Row("vmsplice", sys_vmsplice, "fd iovec int flags", note="pages are copied"),
    Row("copy_file_range", sys_copy_file_range, "fd ptr fd ptr count flags"),
)
