"""Published rings without a guest: when a row is made, what revokes it, and what a report of the stub does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from platforms.systrap import layout
from platforms.systrap.file_rows import POLL_KNOWN, RING_IN, RING_OUT, RingPlace
from protocol.abi import fcntl_h as fc
from services.sentry.files.ring_end import RingEnd
from services.sentry.kernel.fd_table import FdTable
from services.sentry.kernel.published_rings import offer_ring, ring_moved
from services.sentry.vfs.published import revoke
from tests.unit.sentry.kernel.test_published_files import Machine, Rows

KIBI = 1 << 10


class End(RingEnd):
    """Counts what it is told."""

    def __init__(self) -> None:
        super().__init__(9, 4096 + 64 * KIBI, RingPlace(0, 4096, 64 * KIBI, 64 * KIBI), None, True)
        self.told: list[str] = []

    def moved(self) -> None:
        self.told.append("moved")

    def withdrawn(self) -> None:
        self.told.append("withdrawn")


class RingRows(Rows):
    def set_rings(
        self,
        fd: int,
        entry: int,
        unit: int,
        read: RingPlace | None,
        written: RingPlace | None,
        socket: bool,
        polled: bool,
        waits: bool = False,
    ) -> int:
        row = (RING_IN if read else 0) | (RING_OUT if written else 0) | entry << layout.FILE_UNIT_SHIFT
        row |= waits << layout.FILE_RING_WAITS
        row |= POLL_KNOWN if polled else 0
        self.rows[fd] = row
        return row


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(monkeypatch)
    made.mm.published.rows = RingRows()
    return made


def opened(machine: Machine, **facts: Any) -> tuple[int, Any, End]:
    fd, file = machine.opened(**facts)
    file.ring_end = end = End()
    return fd, file, end


def row(machine: Machine, fd: int) -> int:
    return int(machine.mm.published.rows.rows.get(fd, 0))


@pytest.mark.parametrize("end_waits", [False, True])
@pytest.mark.parametrize("flags", [fc.O_RDWR, fc.O_RDWR | fc.O_NONBLOCK])
def test_who_reads_may_sleep_in_the_stub_where_both_allow_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, end_waits: bool, flags: int
) -> None:
    fd, file, end = opened(machine)
    file.flags = flags
    monkeypatch.setattr(End, "may_wait", lambda self: end_waits)
    assert offer_ring(machine.task, fd, file, 77) == 77
    assert end.window is not None
    assert row(machine, fd) >> layout.FILE_RING_WAITS & 1 == (end_waits and not flags & fc.O_NONBLOCK)


def test_a_call_of_one_thread_publishes(machine: Machine) -> None:
    fd, file, end = opened(machine)
    assert offer_ring(machine.task, fd, file, 77) == 77
    assert row(machine, fd) == RING_IN | POLL_KNOWN
    assert end.window is not None
    mapped, kept = machine.ops
    assert (mapped.nr, mapped.args[1:4], mapped.host_fd) == (9, (4096 + 64 * KIBI, 3, 0x11), 9)
    assert (kept.nr, kept.args[2]) == (28, 10)  # MADV_DONTFORK
    assert offer_ring(machine.task, fd, file, 78) == 78
    assert len(machine.ops) == 2
    other, another, _ = opened(machine)
    offer_ring(machine.task, other, another, 1)
    assert row(machine, other) >> layout.FILE_UNIT_SHIFT & 63 == 1  # an entry of its own


@pytest.mark.parametrize("why", ["thread", "reference", "flag", "trap", "far"])
def test_others_may_use_it_too(machine: Machine, why: str) -> None:
    fd, file, end = opened(machine)
    if why == "thread":
        machine.task.files.share()
    elif why == "reference":
        file.refs += 1
    elif why == "flag":
        file.flags |= fc.O_ASYNC
    elif why == "trap":
        machine.mm.fast = None
    else:
        fd = layout.FILE_ROW_COUNT
    assert offer_ring(machine.task, fd, file, 5) == 5
    assert end.window is None
    assert not machine.ops


@pytest.mark.parametrize("how", ["fork", "share", "close", "dup", "inode", "end", "execve"])
def test_what_lets_others_use_it_takes_it_away(machine: Machine, how: str) -> None:
    fd, file, end = opened(machine)
    offer_ring(machine.task, fd, file, 1)
    table = machine.task.files
    if how == "fork":
        table.fork()
    elif how == "share":
        table.share()
    elif how == "close":
        table.remove(fd)
    elif how == "dup":
        table.dup(fd)
    elif how == "inode":
        revoke(file.inode)
    elif how == "end":
        end.revoke()
    else:
        machine.mm.published.end()
    assert row(machine, fd) == 0
    assert end.told == ["withdrawn"]
    assert end.window is None
    assert not file.inode.published
    assert not machine.mm.published.rings
    assert len(machine.mm.published.stale) == 1


def test_one_end_may_take_the_other_along(machine: Machine) -> None:
    ends = [opened(machine) for _ in range(2)]
    for fd, file, _ in ends:
        offer_ring(machine.task, fd, file, 1)
    for k in range(2):
        ends[k][2].withdrawn = ends[1 - k][2].revoke  # type: ignore[method-assign]
    machine.mm.published.end()
    assert not machine.mm.published


def test_what_is_changed_while_the_host_maps_is_not_published(machine: Machine) -> None:
    fd, file, end = opened(machine)
    then: list[Any] = []
    machine.mm.perform = lambda context, ops, done: then.append(done) or 0
    offer_ring(machine.task, fd, file, 1)
    machine.task.files.share()
    assert then[0]([0, 0]) == 1
    assert end.window is None
    assert len(machine.mm.published.stale) == 1


def test_what_the_host_does_not_map_is_not_tried_again(machine: Machine) -> None:
    fd, file, end = opened(machine)
    machine.mm.perform = lambda context, ops, done: done([-12])
    assert offer_ring(machine.task, fd, file, 1) == 1
    assert end.refused
    machine.mm.perform = machine.perform
    offer_ring(machine.task, fd, file, 1)
    assert not machine.ops


def test_a_report_is_passed_on_and_believed_in_nothing() -> None:
    table = FdTable()
    task: Any = SimpleNamespace(files=table)
    end = End()
    table.files[3] = SimpleNamespace(ring_end=end)  # type: ignore[assignment]
    table.files[4] = SimpleNamespace(ring_end=None)  # type: ignore[assignment]
    assert ring_moved(task, 3, 4096) == 4096
    assert end.told == ["moved"]
    assert ring_moved(task, 4, 1) == 1
    assert ring_moved(task, 1 << 63, 1) == 1
    assert ring_moved(task, 3, (1 << 64) - 14) == 0
