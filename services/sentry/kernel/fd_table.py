"""The table of file descriptors of a process (open(2), dup(2), close(2)).

Owns which number refers to which open file description and the close-on-exec mark of each; each slot holds one
reference of its file. Shared by tasks made with CLONE_FILES (`users` counts them). `files` is read directly by hot
handlers.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.sentry.errors import LinuxError
from services.sentry.kernel.published_files import NOTHING_PUBLISHED, PublishedFiles, admit
from services.sentry.vfs.published import revoke_writing

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["FdTable"]


class FdTable:
    """fd -> OpenFile. `limit` is the soft RLIMIT_NOFILE of the processes that use it (setrlimit(2) keeps it true)."""

    __slots__ = ("_lowest", "cloexec", "files", "limit", "positioned", "published", "stats", "users")

    def __init__(self, limit: int = 1024) -> None:
        self.files: dict[int, OpenFile] = {}
        self.cloexec: set[int] = set()
        self.limit = limit
        self.users = 1
        self._lowest = 0  # no number below it is free
        self.published: PublishedFiles = NOTHING_PUBLISHED
        self.positioned = 0  # how many positioned calls came here,
        self.stats = 0  # and fstats that gave what is kept

    # --- looking up ---
    def get(self, fd: int) -> OpenFile:
        """The file at `fd`. EBADF: none."""
        file = self.files.get(fd)
        if file is None:
            raise LinuxError(errno.EBADF)
        return file

    def get_slot(self, fd: int) -> tuple[OpenFile, bool]:
        """(file, close-on-exec). EBADF: none."""
        return self.get(fd), fd in self.cloexec

    def items(self) -> Iterator[tuple[int, OpenFile]]:
        """(fd, file) in ascending order, as they were when iteration began."""
        return iter(sorted(self.files.items()))

    def __len__(self) -> int:
        return len(self.files)

    def __contains__(self, fd: int) -> bool:
        return fd in self.files

    # --- changing ---
    def allocate(self, file: OpenFile, cloexec: bool = False, minimum: int = 0) -> int:
        """Put `file` at the lowest free number >= minimum; the number. Takes a reference.

        EMFILE: the limit; a file that nobody else refers to is then released.
        """
        files = self.files
        fd = self._lowest if self._lowest > minimum else minimum
        while fd in files:
            fd += 1
        if fd >= self.limit:
            if file.refs <= 0:
                file.add_reference().close_reference()
            raise LinuxError(errno.EMFILE)
        if file.refs and file.inode.published:
            revoke_writing(file.inode)
        files[fd] = file
        file.refs += 1
        if minimum <= self._lowest:
            self._lowest = fd + 1
        if cloexec:
            self.cloexec.add(fd)
        return fd

    def lowest(self) -> int:
        """Which number `allocate` will give."""
        fd = self._lowest
        while fd in self.files:
            fd += 1
        return fd

    def free_slots(self, count: int) -> bool:
        """Whether `count` more numbers can be allocated (for calls that must install several or none)."""
        used = sum(1 for fd in self.files if fd < self.limit)
        return used + count <= self.limit

    def install(self, fd: int, file: OpenFile, cloexec: bool = False, task: Task | None = None) -> None:
        """Put `file` at exactly `fd`, closing what was there (dup2(2)). Takes a reference. EBADF: beyond the limit."""
        if not 0 <= fd < self.limit:
            raise LinuxError(errno.EBADF)
        self.put(fd, file, cloexec, task)

    def put(self, fd: int, file: OpenFile, cloexec: bool = False, task: Task | None = None) -> None:
        """As `install`, of a number that was within the limit when it was chosen."""
        old = self.files.get(fd)
        if fd in self.published:
            self.published.revoke(fd)
        file.refs += 1
        self.files[fd] = file
        if cloexec:
            self.cloexec.add(fd)
        else:
            self.cloexec.discard(fd)
        if old is not None:
            if task is not None and old.inode.locks is not None:
                old.flush(task)
            old.close_reference()

    def dup(self, fd: int, minimum: int = 0, cloexec: bool = False) -> int:
        """dup(2) and fcntl(F_DUPFD). EBADF, EMFILE; EINVAL: `minimum` beyond the limit."""
        file = self.get(fd)
        if minimum >= self.limit or minimum < 0:
            raise LinuxError(errno.EINVAL)
        return self.allocate(file, cloexec, minimum)

    def dup2(self, old_fd: int, new_fd: int, cloexec: bool = False, task: Task | None = None) -> int:
        """dup2(2), also dup3(2) once equal numbers were refused. EBADF."""
        file = self.get(old_fd)
        if old_fd != new_fd:
            self.install(new_fd, file, cloexec, task)
        return new_fd

    def set_cloexec(self, fd: int, on: bool) -> None:
        """fcntl(F_SETFD). EBADF."""
        self.get(fd)
        if on:
            self.cloexec.add(fd)
        else:
            self.cloexec.discard(fd)

    def remove(self, fd: int) -> OpenFile:
        """Take `fd` out and hand its reference to the caller. EBADF."""
        if fd in self.published:
            self.published.revoke(fd)
        file = self.files.pop(fd, None)
        if file is None:
            raise LinuxError(errno.EBADF)
        if self.cloexec:
            self.cloexec.discard(fd)
        if fd < self._lowest:
            self._lowest = fd
        return file

    def close(self, fd: int, task: Task) -> None:
        """close(2). EBADF: none."""
        if fd in self.published:
            self.published.revoke(fd)
        file = self.files.pop(fd, None)
        if file is None:
            raise LinuxError(errno.EBADF)
        if self.cloexec:
            self.cloexec.discard(fd)
        if fd < self._lowest:
            self._lowest = fd
        if file.inode.locks is not None:
            file.flush(task)
        file.close_reference()

    def close_range(self, first: int, last: int, task: Task) -> None:
        """close_range(2): close every fd in first..last; errors of single files are not reported."""
        for fd in [fd for fd in self.files if first <= fd <= last]:
            self._close_quietly(fd, task)

    # --- life ---
    def fork(self) -> FdTable:
        """A copy for a new process: the same files, one more reference each."""
        child = FdTable(self.limit)
        if self.published:
            self.published.revoke_writing()
        child.files = files = self.files.copy()
        child.cloexec = self.cloexec.copy()
        child._lowest = self._lowest
        for file in files.values():
            file.refs += 1
        return child

    def share(self) -> FdTable:
        """One more task uses this table (CLONE_FILES)."""
        self.users += 1
        if self.published:
            self.published.revoke_writing()
        return self

    def unshared_for(self, task: Task) -> FdTable:
        """A table that `task` alone uses, made the task's own: this one, or a copy (execve(2), unshare(2))."""
        if self.users == 1:
            return self
        self.users -= 1
        task.files = self.fork()
        admit(task)
        return task.files

    def release(self, task: Task) -> None:
        """`task` no longer uses the table; the last one closes everything."""
        self.users -= 1
        if self.users > 0:
            return
        files, published = self.files, self.published
        for fd in sorted(files):
            file = files.get(fd)
            if file is not None and file.refs > 1 and file.inode.locks is None and fd not in published:
                del files[fd]  # as with most: somebody else has the file too
                file.refs -= 1
            else:
                self._close_quietly(fd, task)

    def close_on_exec(self, task: Task) -> None:
        """Close the marked ones (execve(2))."""
        for fd in sorted(self.cloexec):
            self._close_quietly(fd, task)

    def _close_quietly(self, fd: int, task: Task) -> None:
        if fd not in self.files:  # closed by what an earlier file's release set off
            return
        try:
            self.close(fd, task)
        except LinuxError:  # nobody is left to be told (close errors on exit are lost in Linux too)
            return
