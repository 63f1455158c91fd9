"""Published readiness: what poll(2) and select(2) find of files that have nothing to tell, in advance (stub/polls.S).

A guest's stub answers those calls itself if it knows all that they ask for. Of a stream in rings it does
(kernel/published_rings.py). But who looks at a busy stream mostly looks at quiet files beside: a listener, a control
connection. So a file of which poll(2) found none of the bits that were asked for gets a row which says what it has not.

That holds until something happens to the file, and then its queue is woken: this is what everyone who waits relies on
(vfs/open_file.py). So the row stands as long as an entry waits on the queue, and goes at the first wake-up, of whatever
kind. Rows say what a file has not, for of what it has the queue does not tell when it is over.

A stub that looked at a row just before it went has asked before what happened then. Whoever learns of that by other
means learned it from the Sentry, which took the row away first, or from a guest that did.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from platforms.systrap.file_rows import POLL_KNOWN, POLL_MOST
from services.sentry.files.signalfd import SignalFile
from services.sentry.kernel.waiter import WaitEntry

if TYPE_CHECKING:
    from services.sentry.kernel.published_files import PublishedFiles
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["QuietFile", "offer_quiet"]

_ALL: Final = 0xFFFF  # poll bits


class QuietFile:
    """An entry on the queue of `file`, which is `fd` of the table of `owner`. woken: something happened."""

    __slots__ = ("entry", "fd", "file", "owner", "queue", "woken")

    def __init__(self, owner: PublishedFiles, fd: int, file: OpenFile) -> None:
        self.owner = owner
        self.fd = fd
        self.file = file
        self.queue = file.queue
        self.woken = False
        self.entry = WaitEntry(self._wake)
        self.queue.add(self.entry)

    def show(self, absent: int) -> None:
        """Publish that these poll bits are not there."""
        self.owner.quiet[self.fd] = self
        self.owner[self.fd] = self.owner.rows.set_quiet(self.fd, absent)

    def _wake(self, mask: int) -> None:
        self.woken = True
        if self.owner.quiet.get(self.fd) is self:
            self.owner.revoke(self.fd)

    def hide(self) -> None:
        """The row is zero (again), and nobody waits any more."""
        self.queue.remove(self.entry)
        if self.owner.quiet.get(self.fd) is self:
            del self.owner.quiet[self.fd]


def offer_quiet(task: Task, asked: Iterable[tuple[int, int]]) -> None:
    """A call asked for these poll bits of these descriptors, all open: have the stub know them next time, if it can.

    It must know all, and among them a stream in rings: else there is nothing that changes without the Sentry.
    """
    shown = task.files.published
    if not shown.rings or shown.mm is not task.mm or task.mm.fast is None or shown.asks_polls():
        return
    new: list[tuple[int, OpenFile, int]] = []
    rings = False
    for fd, bits in asked:
        row = shown.get(fd, 0)
        if row & POLL_KNOWN:
            rings = rings or fd in shown.rings
        elif row or fd >= shown.rows.count:
            return
        else:
            file = task.files.files.get(fd)
            if file is None or not file.pollable or file.ring_end is not None or isinstance(file, SignalFile):
                return
            if file.poll() & bits:
                return
            new.append((fd, file, bits))
    if not rings or len(new) >= POLL_MOST:
        return
    quiet = [QuietFile(shown, fd, file) for fd, file, _ in new]
    states = [file.poll() for _, file, _ in new]  # one may wake another
    if any(state & bits for state, (_, _, bits) in zip(states, new, strict=True)) or any(each.woken for each in quiet):
        for each in quiet:
            each.hide()
        return
    for each, state in zip(quiet, states, strict=True):
        if task.files.files.get(each.fd) is each.file and each.fd not in shown:
            each.show(~state & _ALL)
        else:
            each.hide()
