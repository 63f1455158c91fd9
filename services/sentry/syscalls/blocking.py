"""Transfers that may have to wait: the one place that turns WouldBlock into EAGAIN or a parked task.

`transfer` runs one attempt; `write_all` goes on until everything is written, as a blocking write(2) does. A signal that
comes after some bytes were moved ends the call with their count.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from services.sentry.errors import LinuxError, Restart, WouldBlock
from services.sentry.kernel.signals import SigInfo, send_signal_task
from services.sentry.kernel.waiter import READ_MASK, ReadWait, Wait

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["READ_MASK", "WRITE_MASK", "broken_pipe", "transfer", "wait_for", "wait_to_read", "write_all"]

WRITE_MASK: Final = po.POLLOUT | po.POLLWRNORM | po.POLLHUP | po.POLLERR
SIGPIPE: Final = 13


def _would_block() -> int:
    raise LinuxError(errno.EAGAIN)


def transfer(
    task: Task,
    file: OpenFile,
    mask: int,
    attempt: Callable[[], Outcome],
    *,
    nonblocking: bool = False,
    deadline_ns: int | None = None,
) -> Outcome:
    """One attempt; when it would block: EAGAIN for a non-blocking file, else a Wait on the file's queue.

    With a deadline (host CLOCK_MONOTONIC, ns; for reads that of SO_RCVTIMEO if there is one) the wait ends in EAGAIN.
    """
    try:
        return attempt()
    except WouldBlock:
        if nonblocking or file.flags & fc.O_NONBLOCK:
            raise LinuxError(errno.EAGAIN) from None
        return wait_for(file, mask, attempt, deadline_ns)


def wait_for(file: OpenFile, mask: int, attempt: Callable[[], Outcome], deadline_ns: int | None = None) -> Wait:
    """What `transfer` gives when `attempt` was made and would block."""
    if mask == READ_MASK and file.receive_timeout_ns:
        # signal(7): never restarted when a time-out is set
        deadline_ns = time.monotonic_ns() + file.receive_timeout_ns
        return Wait(attempt, ((file.queue, mask),), deadline_ns=deadline_ns, on_timeout=_would_block, restart=0)
    if deadline_ns is None:
        return Wait(attempt, ((file.queue, mask),))
    return Wait(attempt, ((file.queue, mask),), deadline_ns=deadline_ns, on_timeout=_would_block)


def wait_to_read(task: Task, file: OpenFile, addr: int, count: int) -> Outcome:
    """What a read of `count` bytes to `addr` gives that found nothing in `file`: -EAGAIN, or what waits for more."""
    if file.flags & fc.O_NONBLOCK:
        return -errno.EAGAIN
    wait = task.read_wait
    if wait is None:
        wait = task.read_wait = ReadWait(task)
    wait.file = file
    wait.addr = addr
    wait.count = count
    if file.receive_timeout_ns:
        deadline_ns = task.kernel.clock.monotonic_ns() + file.receive_timeout_ns
        queues = ((file.queue, READ_MASK),)
        return Wait(wait.retry, queues, deadline_ns=deadline_ns, on_timeout=_would_block, restart=0)
    return wait


def broken_pipe(task: Task) -> None:
    """EPIPE: the writer gets SIGPIPE (write(2), pipe(7))."""
    send_signal_task(task, SigInfo(SIGPIPE, 0, task.group.pid, task.cred.ruid))


class _WriteAll:
    """The state of one blocking write: how much went out."""

    __slots__ = ("count", "deadline_ns", "done", "file", "nonblocking", "put", "task")

    def __init__(self, task: Task, file: OpenFile, count: int, put: Callable[[int], int], nonblocking: bool) -> None:
        self.task = task
        self.file = file
        self.count = count
        self.put = put
        self.done = 0
        self.nonblocking = nonblocking
        self.deadline_ns: int | None = None

    def step(self) -> Outcome:
        try:
            while self.done < self.count:
                moved = self.put(self.done)
                if moved <= 0:
                    break
                self.done += moved
                if not self.file.writes_all and not self.file.seekable:
                    break
        except WouldBlock:
            if self.nonblocking or self.file.flags & fc.O_NONBLOCK:
                if self.done:
                    return self.done
                raise LinuxError(errno.EAGAIN) from None
            timeout = self.file.send_timeout_ns
            if timeout and self.deadline_ns is None:
                self.deadline_ns = time.monotonic_ns() + timeout
            return Wait(
                self.step,
                ((self.file.queue, WRITE_MASK),),
                deadline_ns=self.deadline_ns,
                on_timeout=self.late,
                restart=0 if timeout else Restart.SYS,
                on_signal=self.interrupted,
            )
        except LinuxError as error:
            if error.errno == errno.EPIPE and self.file.writes_all:
                broken_pipe(self.task)
            if not self.done:
                raise
        return self.done

    def interrupted(self) -> int | None:
        return self.done or None

    def late(self) -> int:
        """SO_SNDTIMEO: what went out, or EAGAIN."""
        return self.done or _would_block()


def write_all(
    task: Task, file: OpenFile, count: int, put: Callable[[int], int], *, done: int = 0, nonblocking: bool = False
) -> Outcome:
    """Call `put(done)`, which moves some of the bytes from `done` on, until `count` were moved (a file that does not
    `writes_all` and has no position: once).

    `done`: what was moved before. WouldBlock parks (or, non-blocking, ends with what was moved, else EAGAIN); an error
    after some bytes ends with their count; EPIPE also raises SIGPIPE if the file `writes_all`.
    """
    state = _WriteAll(task, file, count, put, nonblocking)
    state.done = done
    return state.step()
