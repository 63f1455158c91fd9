"""Published rings: streams whose reads and writes a guest's stub does itself, with no event (stub/rings.S).

As for files (kernel/published_files.py), a row of the address space says of a descriptor where its bytes lie, here: in
which window its rings are mapped (files/ring_end.py). A row is made when a call of a patched site came here, and only
if one thread alone can use the file: one reference, one table of descriptors with one user. Whatever may change that
(dup, fork, a thread, another's descriptor of it) revokes it, and so do changes of the file's flags. An eventfd's
counter (files/shared_counter.py) is published in the same way, but to all who use it at once.

A window is writable at both ends, as each must move its own position. So an end can read what it wrote, and change
what was not yet read; positions and flags of its own making spoil the stream for both. It gains nothing else: the
memory is this stream's alone, is given up when the rings are dissolved, and is never used for another.

What a stub does is told when the other side waits, by an event that `ring_moved` serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platforms.base import Op
from platforms.systrap import file_rows
from platforms.systrap.file_rows import RING_COUNT, UNITS
from protocol.abi.fcntl_h import O_NONBLOCK
from protocol.abi.limits import MAX_RW_COUNT
from services.sentry.files.ring_end import may_publish
from services.sentry.kernel.published_files import MADV_DONTFORK, NR_MADVISE, NR_MMAP, SHARED_FIXED, UNIT

if TYPE_CHECKING:
    from services.sentry.files.ring_end import RingEnd
    from services.sentry.kernel.published_files import PublishedFiles
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["RingWindow", "offer_ring", "ring_moved"]


class RingWindow:
    """The rings of `end` in the address space of `owner`, as `fd`.

    entry: the number of what says where they are; -1: the row does, for it is a counter.
    """

    __slots__ = ("end", "entry", "fd", "file", "length", "owner", "unit")

    def __init__(
        self, owner: PublishedFiles, fd: int, file: OpenFile, end: RingEnd, unit: int, length: int, entry: int
    ) -> None:
        self.owner = owner
        self.fd = fd
        self.file = file
        self.end = end
        self.unit = unit
        self.length = length
        self.entry = entry
        end.opened(self)
        if end.exclusive:  # others' inode is that of many files, whose changes do not concern it
            inode = file.inode
            if inode.published is None:
                inode.published = {}
            inode.published[self] = None
            inode.shown[0] = None
        owner.rings[fd] = self
        owner[fd] = end.show(owner.rows, fd, unit, entry, not owner.asks_polls(), not file.flags & O_NONBLOCK)

    def revoke(self) -> None:
        """From now on every call asks."""
        if self.owner.rings.get(self.fd) is self:
            self.owner.revoke(self.fd)

    def revoke_writing(self) -> None:
        if self.end.exclusive:
            self.revoke()

    def fold(self) -> None:
        """Nobody notes when a stream was used."""

    def hide(self) -> None:
        """The row is zero again."""
        owner = self.owner
        del owner.rings[self.fd]
        owner.stale.append((self.unit, self.length))
        inode = self.file.inode
        if inode.published is not None:
            inode.published.pop(self, None)
        self.end.closed(self)


def offer_ring(task: Task, fd: int, file: OpenFile, result: int) -> Outcome:
    """A call that used `file`, which has a ring, gives `result`: publish the descriptor, if that can be done."""
    end = file.ring_end
    mm = task.mm
    shown = task.files.published
    if end is None or end.refused or shown.mm is not mm:
        return result
    if not end.exclusive:
        if mm.fast is None:
            return result
    elif task.files.users != 1 or end.window is not None or not may_publish(mm, file):
        return result
    if fd in shown.quiet:
        shown.revoke(fd)
    if fd >= shown.rows.count or fd in shown or task.files.files.get(fd) is not file:
        return result
    entry = -1
    if end.exclusive:
        entries = {window.entry for window in shown.rings.values()}
        entry = next((each for each in range(RING_COUNT) if each not in entries), -1)
        if entry < 0:
            return result
    length = -(-end.length // UNIT) * UNIT
    context = task.context
    if shown.next_unit + length // UNIT > UNITS and not (shown.begin_anew(context) and file.ring_end is end):
        return result
    unit = shown.next_unit
    shown.next_unit += length // UNIT
    address = file_rows.unit_address(unit)
    mapped = -(-end.length // 4096) * 4096
    ops = shown.unmap_ops()
    ops += [
        Op(NR_MMAP, (address, mapped, 3, SHARED_FIXED, 0, 0), end.host_fd),
        Op(NR_MADVISE, (address, mapped, MADV_DONTFORK, 0, 0, 0)),
    ]

    def done(results: list[int]) -> Outcome:
        if len(results) != len(ops) or results[-1]:
            end.refused = True
        elif file.ring_end is end and end.window is None and shown.table is not None:
            if fd in shown.quiet:
                shown.revoke(fd)
            alone = not end.exclusive or (shown.table.users == 1 and file.refs == 1)
            if alone and shown.table.files.get(fd) is file and fd not in shown:
                RingWindow(shown, fd, file, end, unit, length, entry)
                return result
        shown.stale.append((unit, length))
        return result

    outcome: Outcome = mm.perform(context, ops, done)
    return outcome


def ring_moved(task: Task, fd: int, result: int) -> int:
    """The stub did a call of `fd` whose `result` it says, and the other side waits for that."""
    file = task.files.files.get(fd)
    if file is not None and file.ring_end is not None:
        file.ring_end.moved()
    return result if result <= MAX_RW_COUNT else 0
