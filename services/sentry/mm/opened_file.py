"""The file that a new program opened last: until its next event its stub may answer for it (stub/trapped.c).

A dynamic linker opens a library, looks at its status, reads its beginning, maps it and closes it again. Four of these
five calls need no event when the answer to the first brings along what they are to say:

- fstat(2), read(2) and pread64(2): the struct stat, and what the file begins with. This holds for a moment only: the
  Sentry takes it back before it serves anything else, for whomever, as a standing answer (kernel/standing_answers.py);
  and since others may change the file on the host, the stub believes it for some hundreds of microseconds.
- mmap(2): if the file is there already. What a program mapped at its start it will map the next time, so the names
  are remembered (kernel/start_maps.py), and the files, if this process may read them, are handed in with those that
  execve(2) maps. They stay until the first call that could change what the process may do (stub_drop_ahead): until
  then it could have opened them itself, and an honest stub closes them before anything is less allowed.
- close(2), which is carried out here with the next event, or when somebody looks at the descriptors of another process
  (`settle_files`).

Only a description that nobody else has, of a file on which reading leaves no trace (`Inode.donated`), in a table that
nobody shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from platforms.systrap.change_log import HEAD_SIZE
from services.sentry.errors import LinuxError
from services.sentry.mm.local_changes import Source

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.mm.local_changes import LocalChanges
    from services.sentry.vfs.inode import Donated
    from services.sentry.vfs.open_file import Backing, OpenFile

__all__ = ["OpenedFile", "mapping_of", "offer", "settle_files"]

_MS_NOEXEC: Final = 8
_PROT_READ_WRITE: Final = 3
_PROT_ALL: Final = 7


class OpenedFile:
    """See the module. `source`: as what it is mapped, None: it is not handed in. `position`: as far as it is noted."""

    __slots__ = ("closed", "fd", "file", "name", "position", "source", "task")

    def __init__(self, task: Task, fd: int, file: OpenFile, name: bytes, source: Source | None) -> None:
        self.task = task
        self.fd = fd
        self.file = file
        self.name = name
        self.source = source
        self.position = 0
        self.closed = False

    def catch_up(self, changes: Any) -> None:
        """Carry out what the stub has noted so far."""
        closed, position = changes.log.offered()
        if position != self.position and position <= HEAD_SIZE:
            self.position = self.file.offset = position
        if closed:
            self.close(changes)

    def close(self, changes: Any) -> None:
        """The stub closed it."""
        if self.closed:
            return
        self.closed = True
        task, source = self.task, self.source
        if source is not None and changes.log.count > source.first:
            source.hold()  # a mapping holds it, though it is not recorded
        if task.files.files.get(self.fd) is self.file:
            task.files.close(self.fd, task)

    def next_event(self, _: list[int] | None) -> None:
        """The thread stopped: from now on it asks."""
        changes = self.task.mm.changes
        if changes is None or changes.opened is not self:
            return
        self.catch_up(changes)
        changes.opened = None
        changes.log.end_offer()
        if self.source is not None:
            changes.add_source(Source(changes.log.count))


def offer(task: Task, fd: int, file: OpenFile, name: bytes, status: bytes) -> None:
    """The call being served, which trapped, opened `file` for reading as `fd`; `status`: its struct stat."""
    changes, context = task.mm.changes, task.context
    host = file.inode.donated()
    if changes is None or host is None or file.path is None or not changes.is_open or changes.is_window:
        return
    if task.files.users != 1 or task.signal_pending or context.awaiting or context.kept:
        return
    try:
        backing = file.mmap_backing()
        head = host.pread(HEAD_SIZE, 0)
    except LinuxError:
        return
    log = changes.log
    source = None
    removable = file.refs == 1 and file.inode.locks is None
    number, prot, ahead = mapping_of(changes, file, host, backing)
    if number:
        changes.unused.discard(ahead)
        source = Source(log.count, file, backing, prot, is_new=True, removable=removable)
        changes.add_source(source)
        file.when_moved(log.forget_number)
    task.kernel.standing.live.append(log.offer(fd, number, backing.base, prot, removable, status, head))
    changes.opened = opened = OpenedFile(task, fd, file, name, source)
    changes.last_opened = opened
    context.await_event(opened.next_event)


def mapping_of(changes: LocalChanges, file: OpenFile, host: Donated, backing: Backing) -> tuple[int, int, bytes]:
    """Under which number `file`, which has a path, was handed in ahead (0: it was not); with what protection it may be
    mapped; and the name by which it was foreseen.
    """
    assert file.path is not None
    prot = _PROT_READ_WRITE if file.path.mount.flags & _MS_NOEXEC else _PROT_ALL
    ahead = changes.ahead.get(host.fd)
    if ahead is None or ahead[0] is not host or backing.host_fd != host.fd:
        return 0, prot, b""
    return ahead[1], prot, ahead[2]


def settle_files(task: Task) -> None:
    """Somebody is going to look at the descriptors of `task`, which runs."""
    mm = task.mm_or_none
    if mm is not None and mm.changes is not None:
        mm.changes.settle_files()
