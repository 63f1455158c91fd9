"""Published files: what reads and writes of a descriptor a guest's stub may answer itself, with no event.

An address space has one set of rows by descriptor (platforms/systrap/file_rows.py), so it can describe one table of
descriptors: `admit` pairs the two when a task starts, and lets only tasks use the rows whose table that is. A vfork
child, or another process with a table of its own in the same memory, asks for everything.

A row is made when a call that came here could have been answered there, and only from a patched call site: others
trap in any case. What is known of a file once and for all (`offer`: /dev/null) costs nothing; a `FileWindow`, for
pread64 and pwrite64 of regular files, is a mapping, so it is made for the file of every `_SAMPLE`th positioned call
(`offer_window`). FdTable revokes a row before its number can mean another file. A thread that had read it just before
finishes its call on the old file, as a call under way does on Linux. What it copies from may be unmapped meanwhile
(then it faults, and the call comes here), but the place is not used for anything else while a thread may be on its way.

Who may write through a window is alone: one thread, one open file description, nobody else who has the file open for
writing. Two writes of the same bytes at once must not mix, and only one thread at a time is here.

Nothing is published while calls must be seen (`kernel.tracing`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from platforms.base import Op
from platforms.systrap import file_rows
from platforms.systrap.file_rows import (
    COUNTER,
    EMPTY,
    NOTE_READS,
    POLL_KNOWN,
    POLL_MOST,
    READ,
    RING_IN,
    RING_OUT,
    SINK,
    UNITS,
    WRITE,
    ZERO,
)
from protocol.abi import fcntl_h as fc
from protocol.abi.resource_h import RLIM_INFINITY, RLIMIT_FSIZE
from services.sentry.vfs.published import Published

if TYPE_CHECKING:
    from platforms.base import Context
    from platforms.systrap.file_rows import FileRows
    from services.sentry.kernel.fd_table import FdTable
    from services.sentry.kernel.published_polls import QuietFile
    from services.sentry.kernel.published_rings import RingWindow
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.open_file import OpenFile, WindowSource

__all__ = [
    "MADV_DONTFORK",
    "NOTHING_PUBLISHED",
    "NR_MADVISE",
    "NR_MMAP",
    "SHARED_FIXED",
    "UNIT",
    "FileWindow",
    "PublishedFiles",
    "admit",
    "offer_window",
    "take_away",
]

_SAMPLE: Final = 16  # a window costs about as much as so many calls
_MAX_WINDOWS: Final = 64  # in one address space
_MAX_LENGTH: Final = 1 << 30  # of a window; reads beyond it ask
_MAX_TOTAL: Final = 4 << 30
UNIT: Final = file_rows.unit_address(1) - file_rows.unit_address(0)
NR_MMAP, NR_MADVISE = 9, 28
_NR_MUNMAP: Final = 11
MADV_DONTFORK: Final = 10
SHARED_FIXED: Final = 0x11
_UNMAPS_AT_ONCE: Final = 16
_NO_READS: Final = fc.O_DIRECT | fc.O_PATH
_NO_WRITES: Final = fc.O_APPEND | fc.O_SYNC | fc.O_DSYNC | _NO_READS


class FileWindow:
    """A mapping of `file` in the address space of `owner`: `length` bytes from `unit` on.

    `fds`: the descriptors whose rows lead here, and the notes of each that are in the inode already.
    `since`: the time, in ns and in ticks, that all other notes are later than.
    """

    __slots__ = ("fds", "file", "host_fd", "keeps_reads", "length", "node", "owner", "since", "unit", "writable")

    def __init__(
        self, owner: PublishedFiles, file: OpenFile, source: WindowSource, unit: int, length: int, writable: bool
    ) -> None:
        self.owner = owner
        self.file = file
        self.node = source.node
        self.host_fd = source.host_fd
        self.keeps_reads = source.keeps_reads
        self.unit = unit
        self.length = length
        self.writable = writable
        self.fds: dict[int, tuple[int, int]] = {}
        self.since = (self.node.superblock.now(), file_rows.ticks())
        for inode in self._inodes():
            if inode.published is None:
                inode.published = {}
            inode.published[self] = None
            inode.shown[0] = None

    def _inodes(self) -> tuple[Inode, Inode]:
        """The one that has the data, and the one that was opened (an overlay's)."""
        return self.node, self.file.inode

    def show(self, fd: int, size: int, writing: bool) -> None:
        """Publish the descriptor."""
        kind = READ | (WRITE if writing else 0) | (NOTE_READS if self.keeps_reads else 0)
        rows = self.owner.rows
        if fd not in self.fds:
            self.fds[fd] = rows.notes(fd)
        self.owner[fd] = rows.set_window(fd, self.unit, min(size, self.length), kind)

    def hide(self, fd: int) -> None:
        """The row of `fd` is zero again; the last one ends the window."""
        self.fold()
        del self.fds[fd]
        if not self.fds:
            self._end()

    def revoke(self) -> None:
        for fd in list(self.fds):
            self.owner.revoke(fd)

    def revoke_writing(self) -> None:
        owner = self.owner
        for fd in self.fds:
            owner[fd] &= ~WRITE
            owner.rows.set(fd, owner[fd])

    def _end(self) -> None:
        for inode in self._inodes():
            if inode.published is not None:
                inode.published.pop(self, None)
        owner = self.owner
        if owner.windows.get(self.file) is self:
            del owner.windows[self.file]
        owner.stale.append((self.unit, self.length))

    def fold(self) -> None:
        """Bring what was noted into the inode, as Linux would have when it happened (file_update_time, relatime).

        A guest may have noted anything: about a file that it may write (or read), it is believed as far as it is later
        than the last look, and not in the future.
        """
        wrote = read = 0
        for fd, (old_wrote, old_read) in self.fds.items():
            new_wrote, new_read = self.owner.rows.notes(fd)
            if new_wrote != old_wrote and self.writable:
                wrote = max(wrote, self._time(new_wrote))
            if new_read != old_read:
                read = max(read, self._time(new_read))
            self.fds[fd] = new_wrote, new_read
        node = self.node
        now = node.superblock.now()
        if read and self.keeps_reads and read < wrote:
            self._read_at(read)
        if wrote and not (self.since[0] <= node.mtime_ns <= now and wrote < node.mtime_ns):  # else written here since
            node.mtime_ns = wrote
            node.ctime_ns = max(node.ctime_ns, wrote)
        if read and self.keeps_reads and read >= wrote:
            self._read_at(read)
        self.since = (now, file_rows.ticks())
        for inode in self._inodes():
            inode.shown[0] = None

    def _read_at(self, when: int) -> None:
        node = self.node
        if node.atime_ns <= node.mtime_ns or node.atime_ns <= node.ctime_ns:
            node.atime_ns = max(node.atime_ns, when)

    def _time(self, when: int) -> int:
        """The time of a count of ticks, between `since` and now."""
        start, ticks = self.since
        now, ticks_now = self.node.superblock.now(), file_rows.ticks()
        if when <= ticks or now <= start:
            return start
        if when >= ticks_now:
            return now
        return start + (now - start) * (when - ticks) // (ticks_now - ticks)


class PublishedFiles(dict[int, int]):
    """The rows that are not zero, by descriptor. `table` and `mm` are the pair; both refer to this (`end`: None).

    `windows` that are there, `rings` and `quiet` files by descriptor (kernel/published_rings.py, published_polls.py);
    `stale`: windows and rings that are no more and still mapped. `next_unit`: all before were used once. `refused`:
    files that the host does not map.
    """

    __slots__ = ("has_notes", "mm", "next_unit", "quiet", "refused", "rings", "rows", "stale", "table", "windows")

    def __init__(self, mm: Any, table: Any, rows: Any) -> None:
        self.mm: AddressSpace = mm
        self.table: FdTable | None = table
        self.rows: FileRows = rows
        self.windows: dict[OpenFile, FileWindow] = {}
        self.rings: dict[int, RingWindow] = {}
        self.quiet: dict[int, QuietFile] = {}
        self.stale: list[tuple[int, int]] = []
        self.next_unit = 1
        self.has_notes = False
        self.refused: set[int] = set()  # of files that have no window because it could not be mapped, their id()

    # --- what is known in advance ---
    def offer(self, file: OpenFile) -> None:
        """`file`, of which all is known in advance, is read or written here: publish the descriptor that was used."""
        context, table = self.mm.fast, self.table
        if context is None or table is None:
            return
        fd = context.first_argument()
        if fd in self or fd >= self.rows.count or table.files.get(fd) is not file:
            return
        row = 0
        if file.writable and file.takes_everything:
            row = SINK
        if file.readable:
            row |= EMPTY if file.gives_nothing else ZERO if file.gives_zeros else 0
        if row:
            self[fd] = row
            self.rows.set(fd, row)

    # --- windows ---
    def window(self, task: Task, fd: int, file: OpenFile, result: int) -> Outcome:
        """Serve `fd` from a window from now on, if that can be done; `result` of the call under way."""
        if not file.readable or file.flags & _NO_READS or id(file) in self.refused:
            return result
        source = file.window_source()
        if source is None or not source.size:
            return result
        writing = self._may_write(task, file, source)
        window = self.windows.get(file)
        if window is not None and window.host_fd == source.host_fd and (window.writable or not writing):
            if source.size <= window.length or window.length == _MAX_LENGTH:
                window.show(fd, source.size, writing)
                return result
        # Room to grow in: more of the mapping is published as the file gets longer.
        length = min(-(-(source.size + source.size // 4) // UNIT) * UNIT, _MAX_LENGTH)
        if window is None and len(self.windows) >= _MAX_WINDOWS:
            return result
        if sum(each.length for each in self.windows.values()) + length > _MAX_TOTAL:
            return result
        context = task.context
        if self.next_unit + length // UNIT > UNITS and not self.begin_anew(context):
            return result
        unit = self.next_unit
        self.next_unit += length // UNIT
        ops = self.unmap_ops()
        if not self.has_notes:
            notes = self.rows.notes_op()
            ops += [notes, Op(NR_MADVISE, (notes.args[0], notes.args[1], MADV_DONTFORK, 0, 0, 0))]
        address = file_rows.unit_address(unit)
        prot = 3 if writing else 1
        ops += [
            Op(NR_MMAP, (address, length, prot, SHARED_FIXED, 0, 0), source.host_fd),
            Op(NR_MADVISE, (address, length, MADV_DONTFORK, 0, 0, 0)),
        ]

        def done(results: list[int]) -> Outcome:
            if len(results) != len(ops) or results[-1]:
                self.stale.append((unit, length))
                if len(self.refused) >= _MAX_WINDOWS:
                    self.refused.clear()  # most are closed, and their number may be another's by now
                self.refused.add(id(file))
                return result
            self.has_notes = True
            self._opened(task, fd, file, source, unit, length, writing)
            return result

        return self.mm.perform(context, ops, done)

    def _opened(
        self, task: Task, fd: int, file: OpenFile, source: WindowSource, unit: int, length: int, writable: bool
    ) -> None:
        """The mapping is there. Much may have happened since it was posted."""
        if self.table is None or self.table.files.get(fd) is not file:
            self.stale.append((unit, length))
            return
        now = file.window_source()
        if now is None or now.host_fd != source.host_fd or now.node is not source.node:
            self.stale.append((unit, length))
            return
        old = self.windows.get(file)
        fds = [fd] if old is None else [fd, *old.fds]
        if old is not None:
            old.revoke()
        window = self.windows[file] = FileWindow(self, file, now, unit, length, writable)
        for each in fds:
            window.show(each, now.size, writable and self._may_write(task, file, now))

    def _may_write(self, task: Task, file: OpenFile, source: WindowSource) -> bool:
        """Whether this thread is the only one that can write to the file, and writing has no other consequences."""
        inode = file.inode
        return (
            file.writable
            and source.writable
            and not file.flags & _NO_WRITES
            and self.table is not None
            and self.table.users == 1
            and file.refs == 1
            and inode.writers == 1
            and not inode.mode & 0o6000
            and bool(task.group.rlimits[RLIMIT_FSIZE][0] == RLIM_INFINITY)
        )

    def begin_anew(self, context: Context) -> bool:
        """All places were used. If no other thread can be on its way to one, they are free again; windows are not."""
        if any(other.in_guest for other in context.others()):
            return False
        for window in list(self.windows.values()):
            window.revoke()
        for ring in list(self.rings.values()):
            ring.revoke()
        self.stale[:] = [(1, (UNITS - 1) * UNIT)]
        self.next_unit = 1
        return True

    def unmap_ops(self) -> list[Op]:
        gone, self.stale[:_UNMAPS_AT_ONCE] = self.stale[:_UNMAPS_AT_ONCE], []
        return [Op(_NR_MUNMAP, (file_rows.unit_address(unit), length, 0, 0, 0, 0)) for unit, length in gone]

    def unmap(self, task: Task, result: int) -> Outcome:
        """Have `task` unmap what is stale; then `result`."""
        return self.mm.perform(task.context, self.unmap_ops(), lambda _: result)

    # --- revoking ---
    def revoke(self, fd: int) -> None:
        """`fd` is about to mean something else, or its file to change: ask from now on."""
        row = self.pop(fd)
        self.rows.set(fd, 0)
        if row & READ:
            self.windows_of(fd).hide(fd)
        elif row & (RING_IN | RING_OUT | COUNTER):
            self.rings[fd].hide()
        elif row & POLL_KNOWN:
            self.quiet[fd].hide()

    def ask_poll(self, fd: int) -> None:
        """The poll(2) bits of `fd` are to be asked for, whatever else its row says."""
        if fd in self.quiet:
            self.revoke(fd)
        elif self.get(fd, 0) & POLL_KNOWN:
            self[fd] &= ~POLL_KNOWN
            self.rows.set(fd, self[fd])

    def asks_polls(self) -> bool:
        """Whether poll(2) must always ask: RLIMIT_NOFILE may be below what its stub takes (EINVAL)."""
        return self.table is None or self.table.limit < POLL_MOST

    def limit_changed(self) -> None:
        """The table has another RLIMIT_NOFILE."""
        if self.asks_polls():
            for fd in list(self):
                self.ask_poll(fd)

    def windows_of(self, fd: int) -> FileWindow:
        return next(window for window in self.windows.values() if fd in window.fds)

    def revoke_writing(self) -> None:
        """Another thread or table may reach these files from now on."""
        for window in self.windows.values():
            window.revoke_writing()
        for ring in list(self.rings.values()):
            ring.revoke_writing()

    def end(self) -> None:
        """The memory goes, or another table is to be paired with it."""
        for fd in list(self):
            if fd in self:  # the other end of a pair goes with the first
                self.revoke(fd)
        if self.table is not None:
            self.table.published = NOTHING_PUBLISHED
            self.table = None


NOTHING_PUBLISHED: Final = PublishedFiles(None, None, None)  # of tables without memory; always empty


def admit(task: Task) -> None:
    """`task` has a new context, memory or table: whether its stub may look at the rows."""
    context = task.context_or_none
    mm = task.mm_or_none
    table = task.files
    if context is None or mm is None or task.kernel.tracing:
        return
    if mm.loan is not None:  # the rows are its parent's
        context.use_rows(False)
        return
    shown: PublishedFiles | None = mm.published
    if shown is None or shown.table is None or not shown.table.users:
        before = table.published
        if before is not NOTHING_PUBLISHED:
            if table.users > 1:  # it is told to another address space, whose tasks use it too
                context.use_rows(False)
                return
            before.end()
        if shown is None:
            rows = context.file_rows()
            if rows is None:
                return
            shown = mm.published = PublishedFiles(mm, table, rows)
        else:
            shown.end()
            shown.table = table
        table.published = shown
    context.use_rows(shown.table is table)


def offer_window(task: Task, fd: int, file: OpenFile, result: int) -> Outcome:
    """A positioned read or write was done here, with `result`: now and then the file gets a window."""
    table = task.files
    table.positioned += 1
    if table.positioned % _SAMPLE:
        return result
    shown = table.published
    if shown.mm is not task.mm or task.mm.fast is None or fd >= shown.rows.count:
        return result
    return shown.window(task, fd, file, result)


def take_away(task: Task, result: int) -> Outcome:
    """A call that closes descriptors gives `result`: unmap what none of them leads to any more."""
    shown = task.files.published
    if not shown.stale or shown.mm is not task.mm:
        return result
    return shown.unmap(task, result)


_: Callable[..., Published] = FileWindow  # what inodes know of it
