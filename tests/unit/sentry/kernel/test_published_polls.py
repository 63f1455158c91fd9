"""Published readiness without a guest: which quiet files get a row beside a stream in rings, and what takes it away."""

from __future__ import annotations

from typing import Any

import pytest

from platforms.systrap.file_rows import POLL_KNOWN, POLL_MOST, RING_IN
from platforms.systrap.layout import FILE_ABSENT_SHIFT
from protocol.abi import poll_h as po
from services.sentry.files.signalfd import SignalFile
from services.sentry.kernel.published_polls import offer_quiet
from services.sentry.kernel.published_rings import offer_ring
from services.sentry.kernel.waiter import WaitQueue
from tests.unit.sentry.kernel.test_published_files import Machine
from tests.unit.sentry.kernel.test_published_rings import End, RingRows

IN, OUT = po.POLLIN, po.POLLOUT


class PollRows(RingRows):
    def set_quiet(self, fd: int, absent: int) -> int:
        self.rows[fd] = POLL_KNOWN | absent << FILE_ABSENT_SHIFT
        return self.rows[fd]


class Polls(Machine):
    """A task with one stream in rings (`ring`) and one file beside it (`fd`, `file`), which can be written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.mm.published.rows = self.rows = PollRows()
        self.ring, stream = self.opened()
        self.end = stream.ring_end = End()
        offer_ring(self.task, self.ring, stream, 1)
        self.fd, self.file = self.quiet(OUT)

    def quiet(self, bits: int) -> tuple[int, Any]:
        fd, file = self.opened(pollable=True, ring_end=None, queue=WaitQueue(), bits=bits)
        file.poll = lambda: file.bits
        return fd, file

    def offer(self, *asked: tuple[int, int]) -> None:
        offer_quiet(self.task, asked or ((self.ring, IN), (self.fd, IN)))

    def row(self, fd: int) -> int:
        return int(self.rows.rows.get(fd, 0))

    def is_known(self, fd: int) -> bool:
        return bool(self.row(fd) & POLL_KNOWN)


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> Polls:
    return Polls(monkeypatch)


def test_a_quiet_file_beside_a_stream_in_rings_gets_a_row(polls: Polls) -> None:
    polls.offer()
    assert polls.row(polls.fd) == POLL_KNOWN | (0xFFFF & ~OUT) << FILE_ABSENT_SHIFT
    assert len(polls.file.queue.entries) == 1
    polls.offer()
    assert len(polls.file.queue.entries) == 1


@pytest.mark.parametrize("bits", [IN, OUT, po.POLLHUP])
def test_whatever_happens_to_it_takes_the_row_away(polls: Polls, bits: int) -> None:
    polls.offer()
    polls.file.queue.wake(bits)
    assert polls.row(polls.fd) == 0
    assert not polls.file.queue.entries
    assert not polls.mm.published.quiet
    assert polls.is_known(polls.ring)
    polls.offer()
    assert polls.is_known(polls.fd)


@pytest.mark.parametrize("how", ["close", "dup2", "execve"])
def test_the_row_is_the_descriptors(polls: Polls, how: str) -> None:
    polls.offer()
    if how == "close":
        polls.task.files.remove(polls.fd)
    elif how == "dup2":
        other = polls.opened()[1]
        polls.file.close_reference = lambda: None
        polls.task.files.install(polls.fd, other)
    else:
        polls.mm.published.end()
    assert polls.row(polls.fd) == 0
    assert not polls.file.queue.entries


def test_a_fork_and_a_thread_leave_it(polls: Polls) -> None:
    polls.offer()
    polls.task.files.fork()
    polls.task.files.share()
    assert polls.is_known(polls.fd)
    assert not polls.is_known(polls.ring)


@pytest.mark.parametrize(
    "why", ["ready", "unpollable", "signals", "rings", "trap", "far", "no stream", "other", "limit"]
)
def test_one_that_cannot_be_known_spoils_all(polls: Polls, why: str) -> None:
    other, file = polls.quiet(0)
    asked = [(polls.ring, IN), (other, IN), (polls.fd, IN)]
    if why == "ready":
        polls.file.bits = IN
    elif why == "unpollable":
        polls.file.pollable = False
    elif why == "signals":
        polls.task.files.files[polls.fd] = object.__new__(SignalFile)
    elif why == "rings":
        polls.file.ring_end = End()  # not mapped yet
    elif why == "trap":
        polls.mm.fast = None
    elif why == "far":
        polls.rows.count = polls.fd  # type: ignore[misc]
    elif why == "no stream":
        del asked[0]
    elif why == "other":
        polls.mm.published[polls.fd] = polls.rows.rows[polls.fd] = RING_IN
    else:
        polls.task.files.limit = POLL_MOST - 1
    polls.offer(*asked)
    assert not polls.is_known(other)
    assert not polls.is_known(polls.fd)
    assert not file.queue.entries and not polls.file.queue.entries


def test_a_look_at_one_may_wake_another(polls: Polls) -> None:
    other, file = polls.quiet(0)
    looks = []

    def look() -> int:
        looks.append(polls.fd)
        if len(looks) == 2:  # once the other one was looked at for good
            polls.file.bits = IN
            polls.file.queue.wake(IN)
        return 0

    file.poll = look
    polls.offer((polls.ring, IN), (polls.fd, IN), (other, IN))
    assert not polls.is_known(polls.fd) and not polls.is_known(other)
    assert not polls.file.queue.entries


def test_a_quiet_file_may_become_a_stream_in_rings(polls: Polls) -> None:
    polls.offer()
    polls.file.ring_end = End()
    offer_ring(polls.task, polls.fd, polls.file, 1)
    assert polls.row(polls.fd) & RING_IN
    assert not polls.file.queue.entries and not polls.mm.published.quiet


def test_a_low_limit_of_descriptors_has_all_ask(polls: Polls) -> None:
    polls.offer()
    polls.task.files.limit = POLL_MOST - 1
    polls.mm.published.limit_changed()
    assert not polls.is_known(polls.fd) and not polls.is_known(polls.ring)
    assert polls.row(polls.ring) & RING_IN
    polls.offer()
    assert not polls.is_known(polls.fd)
