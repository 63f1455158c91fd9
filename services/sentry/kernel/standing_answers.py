"""Standing answers: what a call that only looks gave, said in advance for whoever asks it again (stub/answers.S).

The invariant is the whole idea: *the state of this kernel changes only while the Sentry runs*. So what a call found is
what the next one finds, as long as the Sentry did nothing in between. After some calls of one kind (`SAMPLE`) their
answer is put where the guest's stub sees it, and whatever the Sentry does next, of whatever kind and for whomever,
takes it back first: an event of any guest, a task that was woken, a timer, a descriptor of the host, an ended process
(`withdraw`; Dispatcher and MainLoop call it wherever they enter the kernel). There is one such answer in the sandbox.
Only waiting for a child (`STEADY`) leaves it: a parent begins to when its child's program does, which lives on answers
about what it opens (mm/opened_file.py), and neither files nor descriptors change by that.

A thread that was just copying it when it was taken back has asked before what happened then, and gets what was true; a
guest that learns of what happened asks after that. Nothing need be known of what may change an answer, only that

- the call is answered from state of this kernel, none of which moves with time, with the host, or with what guests do
  by themselves (write through a window, map memory): an epoll's files are `steady` (vfs/open_file.py), and an inode
  keeps its struct stat (`Inode.shown`, which one that has windows does not);
- answering it changes nothing: no edge or one-shot event is among an epoll's, and nothing is left over for the next.

That is little use to a program that does other calls between, and costs it next to nothing; it is much to one that asks
again and again (an event loop that looks for new events, with no time-out, between pieces of its work).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from platforms.systrap.file_rows import ANSWER_EPOLL, ANSWER_MAX, ANSWER_STAT

if TYPE_CHECKING:
    from services.sentry.files.epoll import EpollFile
    from services.sentry.kernel.task import Task

__all__ = ["SAMPLE", "STEADY", "StandingAnswers", "offer_events", "offer_stat"]

SAMPLE: Final = 16
"""How often a call is asked before its answer is put out, which costs about half a call."""
STEADY: Final = frozenset((61, 247))
"""wait4(2) and waitid(2): the numbers of calls that change nothing of what any answer tells."""
_EVENT_SIZE: Final = 12  # struct epoll_event


class StandingAnswers:
    """Those of a sandbox. `live`: where the key of the one that stands lies, in u64s of the arena; empty: none does."""

    __slots__ = ("live", "serial")

    def __init__(self) -> None:
        self.live: list[int] = []
        self.serial = 0

    def give(self, task: Task, kind: int, fd: int, result: int, data: bytes) -> None:
        """`task`, whose call is being served, was answered so: let its address space see it.

        Not if the call did not come from a patched site (none is there to ask again), nor to a task whose descriptors
        are not those that the address space's rows describe (kernel/published_files.py).
        """
        shown = task.files.published
        mm = task.mm
        if shown.mm is not mm or mm.fast is None or self.live or len(data) > ANSWER_MAX:
            return
        self.serial = self.serial + 1 & 0xFFFFFFFF
        key = shown.rows.put_answer(kind, fd, self.serial, result, data)
        if key:
            self.live.append(key)


def offer_events(task: Task, fd: int, epoll: EpollFile) -> None:
    """epoll_wait(2) of `fd` was answered."""
    events = epoll.standing()
    if events is not None:
        task.kernel.standing.give(task, ANSWER_EPOLL, fd, len(events) // _EVENT_SIZE, events)


def offer_stat(task: Task, fd: int, packed: bytes) -> None:
    """fstat(2) of `fd` gave `packed`, which its inode keeps."""
    task.kernel.standing.give(task, ANSWER_STAT, fd, 0, packed)
