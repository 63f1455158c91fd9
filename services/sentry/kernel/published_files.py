"""Published files: what reads and writes of a descriptor a guest's stub may answer itself, with no event.

An address space has one set of rows by descriptor (platforms/systrap/file_rows.py), so it can describe one table of
descriptors: `admit` pairs the two when a task starts, and lets only tasks use the rows whose table that is. A vfork
child, or another process with a table of its own in the same memory, asks for everything.

A row is made when a call that came here could have been answered there (`offer`), and only from a patched call site:
others trap in any case. FdTable revokes it before the number can mean another file. A thread that had read the row
just before finishes its call on the old file, as a call under way does on Linux.

Nothing is published while calls must be seen (`kernel.tracing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from platforms.systrap.file_rows import EMPTY, SINK, ZERO

if TYPE_CHECKING:
    from platforms.systrap.file_rows import FileRows
    from services.sentry.kernel.fd_table import FdTable
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["NOTHING_PUBLISHED", "PublishedFiles", "admit"]


class PublishedFiles(dict[int, int]):
    """The rows that are not zero, by descriptor. `table` and `mm` are the pair; both refer to this."""

    __slots__ = ("mm", "rows", "table")

    def __init__(self, mm: Any, table: Any, rows: Any) -> None:
        self.mm: AddressSpace = mm
        self.table: FdTable = table
        self.rows: FileRows = rows

    def offer(self, file: OpenFile) -> None:
        """`file`, of which all is known in advance, is read or written here: publish the descriptor that was used."""
        context = self.mm.fast
        if context is None:
            return
        fd = context.first_argument()
        if fd in self or fd >= self.rows.count or self.table.files.get(fd) is not file:
            return
        row = 0
        if file.writable and file.takes_everything:
            row = SINK
        if file.readable:
            row |= EMPTY if file.gives_nothing else ZERO if file.gives_zeros else 0
        if row:
            self[fd] = row
            self.rows.set(fd, row)

    def revoke(self, fd: int) -> None:
        """`fd` is about to mean something else."""
        del self[fd]
        self.rows.set(fd, 0)

    def end(self) -> None:
        """The memory goes, or another table is to be paired with it."""
        for fd in list(self):
            self.revoke(fd)
        self.mm.published = None
        self.table.published = NOTHING_PUBLISHED


NOTHING_PUBLISHED: Final = PublishedFiles(None, None, None)  # of tables without memory; always empty


def admit(task: Task) -> None:
    """`task` has a new context, memory or table: whether its stub may look at the rows."""
    context: Any = task.context
    mm: Any = task.mm
    table = task.files
    if context is None or mm is None or task.kernel.tracing:
        return
    shown: PublishedFiles | None = mm.published
    if shown is not None and not shown.table.users:
        shown.end()
        shown = None
    if shown is None:
        before = table.published
        if before is not NOTHING_PUBLISHED:
            if table.users > 1:  # it is told to another address space, whose tasks use it too
                return
            before.end()
        rows = context.file_rows()
        if rows is None:
            return
        shown = mm.published = table.published = PublishedFiles(mm, table, rows)
    context.use_rows(shown.table is table)
