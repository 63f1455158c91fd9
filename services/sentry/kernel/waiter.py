"""Blocking, the only way there is: a handler returns a `Wait`, the dispatcher parks the task.

Owns `WaitQueue` (what files, futexes, children and timers wake) and `Wait` (what a handler returns when it cannot
finish). Knows nothing of tasks or files. One host thread runs all of the kernel, so there are no locks; a wake-up only
marks and queues, it never runs a continuation from inside the waker.

Life of a Wait: a handler returns it -> the dispatcher calls `kernel.park(task, wait)`, which registers an entry on
every queue and arms the deadline -> a queue's `wake(mask)`, the deadline, or a signal makes the task runnable -> the
dispatcher calls `retry()` (or `on_timeout()`, or ends it with EINTR/restart) -> entries are removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from protocol.abi import poll_h as po
from services.sentry.errors import Restart, WouldBlock

if TYPE_CHECKING:
    from platforms.base import Context, Op

__all__ = [
    "ANY",
    "NO_RETURN",
    "Complete",
    "FinalOps",
    "READ_MASK",
    "NoReturn",
    "Outcome",
    "ReadWait",
    "StubOp",
    "Wait",
    "WaitEntry",
    "WaitQueue",
]

ANY: Final = 0xFFFFFFFF
READ_MASK: Final = po.POLLIN | po.POLLRDNORM | po.POLLHUP | po.POLLERR | po.POLLRDHUP | po.POLLPRI


class WaitEntry:
    """A registration on a queue: `callback(mask)` runs inside `wake`, must be short and must not raise."""

    __slots__ = ("_call", "exclusive", "mask")

    def __init__(self, call: Callable[[int], None], mask: int = ANY, exclusive: bool = False) -> None:
        self._call = call
        self.mask = mask
        self.exclusive = exclusive

    def callback(self, mask: int) -> None:
        """The queue was awakened with `mask` (poll(2) bits)."""
        self._call(mask)


class WaitQueue:
    """Entries in order of arrival. `wake` with nobody waiting costs one truth test."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: dict[WaitEntry, None] = {}

    def add(self, entry: WaitEntry) -> None:
        self.entries[entry] = None

    def remove(self, entry: WaitEntry) -> None:
        self.entries.pop(entry, None)

    def wake(self, mask: int = ANY, exclusive_limit: int = 0) -> None:
        """Run the callbacks whose mask meets `mask` (poll(2) bits). With a limit, at most that many exclusive ones."""
        entries = self.entries
        if len(entries) < 2:
            for entry in entries:
                if entry.mask & mask:
                    entry.callback(mask)
                return  # before the dictionary, which the callback may have changed, is looked at again
            return
        woken = 0
        for entry in list(entries):
            if entry.mask & mask:
                if entry.exclusive and exclusive_limit:
                    if woken == exclusive_limit:
                        continue
                    woken += 1
                entry.callback(mask)


class Wait:
    """What a handler returns when it cannot finish now.

    sources()    what wakes it: (queue, poll mask) pairs; may be empty (only a deadline or a signal ends it).
    retry()      called after a wake-up, if `retries`: an int ends the call, another Wait replaces this one, WouldBlock
                 keeps it parked, LinuxError ends it with that error.
    deadline_ns  host CLOCK_MONOTONIC, ns, or None.
    on_timeout() called at the deadline; returns the result or raises LinuxError. Default: result 0.
    restart      which Restart kind a signal turns it into (Restart.SYS by default; 0: plain EINTR).
    on_signal()  called when a signal ends the wait, before anything else: an int returned replaces EINTR/restart (a
                 partial count), None keeps `restart`. nanosleep(2) writes its remaining time here.
    restart_call for Restart.BLOCK: what restart_syscall(2) runs.
    uninterruptible  only a fatal signal ends it (vfork's parent).

    The calls are given as functions, or overridden by a kind of its own that is waited for often.
    """

    __slots__ = (
        "_on_signal",
        "_on_timeout",
        "_queues",
        "_retry",
        "deadline_ns",
        "restart",
        "restart_call",
        "retries",
        "uninterruptible",
    )

    def __init__(
        self,
        retry: Callable[[], Outcome] | None = None,
        queues: Sequence[tuple[WaitQueue, int]] = (),
        *,
        deadline_ns: int | None = None,
        on_timeout: Callable[[], int] | None = None,
        restart: int = Restart.SYS,
        on_signal: Callable[[], int | None] | None = None,
        restart_call: Callable[[], Outcome] | None = None,
        uninterruptible: bool = False,
    ) -> None:
        self._retry = retry
        self.retries = retry is not None
        self._queues = queues
        self.deadline_ns = deadline_ns
        self._on_timeout = on_timeout
        self.restart = restart
        self._on_signal = on_signal
        self.restart_call = restart_call
        self.uninterruptible = uninterruptible

    def sources(self) -> Sequence[tuple[WaitQueue, int]]:
        return self._queues

    def retry(self) -> Outcome:
        assert self._retry is not None
        return self._retry()

    def on_timeout(self) -> int:
        call = self._on_timeout
        return 0 if call is None else call()

    def on_signal(self) -> int | None:
        call = self._on_signal
        return None if call is None else call()

    def wrapped(
        self, retry: Callable[[], Outcome], on_timeout: Callable[[], int], on_signal: Callable[[], int | None]
    ) -> Wait:
        """One that is woken and restarted as this one, with other calls, which may make this one's."""
        return Wait(
            retry if self.retries else None,
            self.sources(),
            deadline_ns=self.deadline_ns,
            on_timeout=on_timeout,
            restart=self.restart,
            on_signal=on_signal,
            restart_call=self.restart_call,
            uninterruptible=self.uninterruptible,
        )


class ReadWait(Wait):
    """A read(2) without a time limit that found nothing: it is tried again whenever `file.queue` is woken.

    By far the most frequent wait, so a task has but one, used for each of its reads in turn, and the dispatcher knows
    it: what `retry` and `sources` say here it does by itself. Between two reads it remembers the last one's file.
    """

    __slots__ = ("addr", "count", "file", "task")

    retries = True
    deadline_ns: int | None = None
    restart = Restart.SYS
    restart_call: Callable[[], Outcome] | None = None
    uninterruptible = False

    def __init__(self, task: Any) -> None:
        self.task = task
        self.file: Any = None
        self.addr = self.count = 0

    def on_timeout(self) -> int:
        return 0

    def on_signal(self) -> int | None:
        return None

    def sources(self) -> Sequence[tuple[WaitQueue, int]]:
        return ((self.file.queue, READ_MASK),)

    def retry(self) -> int:
        """The bytes read. WouldBlock: still none."""
        done: int | None = self.file.read_user(self.task.mm, self.addr, self.count)
        if done is None:
            raise WouldBlock
        return done


Complete: TypeAlias = "Callable[[Callable[[], Outcome]], None]"


class StubOp(Wait):
    """A wait for the platform to carry something out in the guest's address space (mmap, clone...).

    Built only by mm/, kernel/guest_ops.py and kernel/execute.py: `start(complete)` posts the operation; when the
    platform reports it done, `complete(thunk)` makes the dispatcher evaluate `thunk()`, whose outcome ends the call as
    a handler's would.
    """

    __slots__ = ("start",)

    def __init__(self, start: Callable[[Complete], None]) -> None:
        super().__init__(None, (), uninterruptible=True)
        self.start = start


class FinalOps:
    """Operations of the platform with which a call ends: `result` when all succeed, else what `failed(results)` gives.

    So the thread may go back to the guest by itself when it has carried them out. `beside()` runs once they are posted,
    before anything else is served: what is to be recorded at once takes no time of the guest's then. `settled()` runs
    when it is known that they succeeded (before anything else that the thread asks for), at the latest when the call
    ends.
    """

    __slots__ = ("beside", "failed", "ops", "result", "settled")

    def __init__(
        self,
        ops: Sequence[Op],
        result: int,
        failed: Callable[[list[int]], Outcome],
        settled: Callable[[], None] | None = None,
        beside: Callable[[], None] | None = None,
    ) -> None:
        self.ops = ops
        self.result = result
        self.failed = failed
        self.settled = settled
        self.beside = beside

    def note(self) -> None:
        """Do what is to be done `beside` the operations, if that is still to be done."""
        beside, self.beside = self.beside, None
        if beside is not None:
            beside()

    def posted(self, context: Context) -> StubOp:
        """The same for a thread that must not go back by itself: it reports, then the call ends."""

        def start(complete: Complete) -> None:
            self.note()
            context.run_ops(self.ops, lambda results: complete(lambda: self.end(results)))

        return StubOp(start)

    def end(self, results: list[int]) -> Outcome:
        """The call's outcome, by what the operations gave."""
        self.note()
        if len(results) < len(self.ops) or -4096 < results[-1] < 0:
            return self.failed(results)
        if self.settled is not None:
            self.settled()
        return self.result


class NoReturn:
    """A handler's result when the registers were replaced or the task is gone (execve, rt_sigreturn, exit).

    `beside()` runs once the thread is on its way, before anything else is served: what its program need not wait for.
    """

    __slots__ = ("beside",)

    def __init__(self, beside: Callable[[], None] | None = None) -> None:
        self.beside = beside


NO_RETURN: Final = NoReturn()

Outcome: TypeAlias = int | Wait | FinalOps | NoReturn
