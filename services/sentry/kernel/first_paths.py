"""The first calls with path names that a new program makes, foretold: its stub answers them (stub/trapped.c).

A dynamic linker looks for a file that is not there (/etc/ld.so.preload) and opens its cache and the libraries: the same
each time. So the calls are remembered by the program's name (`FirstCalls`, in kernel/start_maps.py), and the next time
they are tried here, by the rules of this process and as if it made them, while it makes its first steps. What they gave
is told to its stub, for as long as a standing answer holds (kernel/standing_answers.py): until the Sentry serves
anything else, for whomever. What the stub then says to have done is carried out here with the next event, or when
somebody looks at the descriptors or the memory of this process; a guest that only claims it gets no more than it would
have been given.

Each file is the one that was opened last (opened_file.py) until the next is opened; the stub opens none before it has
closed the one before, so all get the same number. The first call that is not the one foretold ends it all.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from platforms.systrap.change_log import CHANGES_MOST, HEAD_SIZE, FileOffer, Step
from protocol.abi import fcntl_h as fc
from services.sentry.errors import LinuxError
from services.sentry.kernel.start_maps import host_file
from services.sentry.mm.local_changes import Source
from services.sentry.mm.opened_file import OpenedFile, mapping_of
from services.sentry.vfs.attributes import pack_inode
from services.sentry.vfs.permissions import acts_as_real

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.mm.local_changes import LocalChanges
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["ACCESS", "OPENAT", "FirstPaths", "foretell", "note_call"]

ACCESS: Final = 21
OPENAT: Final = 257


class _Opening:
    """A step that opens `file`. `source`: as what it is mapped; `ahead`: the name by which it was handed in, or b''."""

    __slots__ = ("ahead", "file", "name", "source")

    def __init__(self, file: OpenFile, name: bytes, source: Source | None, ahead: bytes) -> None:
        self.file = file
        self.name = name
        self.source = source
        self.ahead = ahead


class FirstPaths:
    """What `task` was foretold. `calls`: as they were then, for what is remembered may become less meanwhile.
    `openings`: by step, None: it opens nothing. `done`: so many were carried out here.
    """

    __slots__ = ("calls", "done", "fd", "openings", "task")

    def __init__(self, task: Task, calls: list[tuple[int, bytes, int]], fd: int) -> None:
        self.task = task
        self.calls = tuple(calls)
        self.fd = fd
        self.openings: list[_Opening | None] = []
        self.done = 0

    def catch_up(self, changes: LocalChanges) -> None:
        """Carry out the calls that the stub says were made."""
        made = changes.log.made()
        if not self.done < made <= len(self.openings):
            return
        files = self.task.files
        for k in range(self.done, made):
            self.done = k + 1
            opening = self.openings[k]
            if opening is None:
                continue
            if changes.opened is not None:
                changes.opened.close(changes)
            last = changes.sources[-1].first if changes.sources else 0
            source = opening.source or Source(0)
            # Another lie is found by what it maps.
            source.first = min(max(changes.log.opened_at(k), last), CHANGES_MOST)
            changes.add_source(source)
            changes.unused.discard(opening.ahead)
            files.put(self.fd, opening.file, bool(self.calls[k][2] & fc.O_CLOEXEC))
            changes.opened = OpenedFile(self.task, self.fd, opening.file, opening.name, opening.source)
            changes.last_opened = changes.opened

    def next_event(self, _: list[int] | None) -> None:
        """The thread stopped: from now on it asks."""
        changes = self.task.mm.changes
        if changes is None or changes.paths is not self:
            return
        self.catch_up(changes)
        learned, done = changes.first_calls, self.done
        changes.position = done
        called = self.task.context.called()
        if done < len(self.openings) and learned is not None and called not in (-1, self.calls[done][0]):
            learned.settle(done)  # this program goes another way from here on
        self.end(changes)
        if changes.opened is not None:
            changes.opened.next_event(None)

    def end(self, changes: LocalChanges) -> None:
        """Nothing is foretold any more; the thread is held, or there is none."""
        changes.paths = None
        changes.log.end_steps()
        for opening in self.openings[self.done :]:
            if opening is not None:
                opening.file.add_reference().close_reference()
        self.openings.clear()


def note_call(task: Task, nr: int, name: bytes, flags: int) -> None:
    """`task` trapped with call `nr`: access(2) or openat(2) of `name`, which changes nothing there."""
    changes = task.mm.changes
    if changes is None or changes.first_calls is None:
        return
    if changes.first_calls.note(changes.position, (nr, name, flags)):
        changes.position += 1
    else:
        changes.first_calls = None


def foretell(task: Task) -> None:
    """`task` has just begun a new program, and runs unless a signal met it there: tell its stub of the calls that it is
    likely to make.
    """
    context = task.context_or_none
    if context is None or not context.in_guest:  # it was killed on its way, or stopped
        return
    fs = task.fs
    changes: Any = task.mm.changes
    if changes is None or changes.first_calls is None or not changes.first_calls.calls or not changes.is_open:
        return
    if task.files.users != 1 or task.signal_pending or context.awaiting or context.kept or task.kernel.standing.live:
        return
    if fs.cache_cred is not task.cred:
        fs.adopt(task.cred)
    table = task.files
    fd = table.lowest()
    paths = FirstPaths(task, changes.first_calls.calls, fd)
    steps = []
    for call in paths.calls if fd < table.limit else ():
        step = _try(task, changes, paths, call)
        if step is None:
            break
        steps.append(step)
    live = changes.log.foretell(steps) if steps else 0
    if not live:
        paths.end(changes)
        return
    changes.paths = paths
    task.kernel.standing.live.append(live)
    context.await_event(paths.next_event)


def _try(task: Task, changes: LocalChanges, paths: FirstPaths, call: tuple[int, bytes, int]) -> Step | None:
    """The next step, as this process is allowed it; None: it is to be asked for. What is at hand counts alone."""
    nr, name, flags = call
    entry = task.fs.followed.get(name)
    if entry is None or entry[1].seq != entry[2]:
        return None
    place, dentry, _ = entry
    inode, cred = dentry.inode, task.cred
    if inode is None and (nr == OPENAT or acts_as_real(cred)):
        paths.openings.append(None)
        return Step(nr, name, flags, -errno.ENOENT, None)
    host = host_file(inode, cred) if nr == OPENAT else None
    if inode is None or host is None:
        return None
    try:
        file = inode.open(dentry, flags | fc.O_LARGEFILE, task)
    except LinuxError:
        return None
    if file.path is None:
        file.path = place
    try:
        backing = file.mmap_backing()
        head = host.pread(HEAD_SIZE, 0)
    except LinuxError:
        file.add_reference().close_reference()
        return None
    removable = inode.locks is None
    number, prot, ahead = mapping_of(changes, file, host, backing)
    source = None
    if number:
        source = Source(0, file, backing, prot, is_new=True, removable=removable)
        step, log = len(paths.openings), changes.log
        file.when_moved(lambda: log.forget_step(step))
    paths.openings.append(_Opening(file, name, source, ahead))
    status = inode.shown[0] or pack_inode(inode)
    return Step(nr, name, flags, paths.fd, FileOffer(number, backing.base, prot, removable, status, head))
