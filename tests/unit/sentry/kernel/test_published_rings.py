"""Published rings without a guest: when a row is made, what revokes it, and what a report of the stub does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from platforms.systrap import layout
from platforms.systrap.file_rows import COUNTER, POLL_KNOWN, RING_IN, RING_OUT, UNITS, RingPlace
from protocol.abi import fcntl_h as fc
from services.sentry.files.ring_end import RingEnd
from services.sentry.files.shared_counter import SharedCounter
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

    def set_counter(self, fd: int, unit: int, by_one: bool, polled: bool) -> int:
        row = COUNTER | unit << layout.FILE_UNIT_SHIFT | by_one << layout.FILE_COUNTER_BY_ONE
        self.rows[fd] = row | (POLL_KNOWN if polled else 0)
        return self.rows[fd]


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


# --- counters, which many may use at once ---
class Counted:
    """What an eventfd is to its counter."""

    def __init__(self, file: Any, by_one: bool = False) -> None:
        self.file = file
        self.told = 0
        file.ring_end = self.counter = SharedCounter(5, by_one, self._told, self.dissolve)

    def _told(self) -> None:
        self.told += 1

    def dissolve(self) -> None:
        if self.file.ring_end is not None:
            self.file.ring_end = None
            assert self.counter.end() == 5


def counted(machine: Machine, by_one: bool = False) -> tuple[int, Any, Counted]:
    fd, file = machine.opened()
    return fd, file, Counted(file, by_one)


def unit(machine: Machine, fd: int) -> int:
    return row(machine, fd) >> layout.FILE_UNIT_SHIFT & layout.FILE_UNIT_MASK


@pytest.mark.parametrize("by_one", [False, True])
def test_a_counter_is_published_to_threads_and_under_each_number(machine: Machine, by_one: bool) -> None:
    fd, file, eventfd = counted(machine, by_one)
    table = machine.task.files
    table.share()
    other = table.dup(fd)
    for each in (fd, other):
        assert offer_ring(machine.task, each, file, 8) == 8
        assert row(machine, each) & (COUNTER | POLL_KNOWN) == COUNTER | POLL_KNOWN
        assert row(machine, each) >> layout.FILE_COUNTER_BY_ONE & 1 == by_one
    assert unit(machine, fd) != unit(machine, other)
    assert [op.host_fd for op in machine.ops if op.nr == 9] == [eventfd.counter.host_fd] * 2
    assert offer_ring(machine.task, fd, file, 8) == 8
    assert len(machine.ops) == 4
    assert ring_moved(machine.task, fd, 8) == 8
    assert eventfd.told == 1


def test_a_counter_is_not_published_to_calls_that_trap(machine: Machine) -> None:
    fd, file, _ = counted(machine)
    machine.mm.fast = None
    assert offer_ring(machine.task, fd, file, 8) == 8
    assert not row(machine, fd) and not machine.ops


@pytest.mark.parametrize("how", ["fork", "share", "dup", "inode", "limit"])
def test_a_counter_stays_where_others_get_it_too(machine: Machine, how: str) -> None:
    fd, file, eventfd = counted(machine)
    offer_ring(machine.task, fd, file, 8)
    table = machine.task.files
    if how == "fork":
        table.fork()
    elif how == "share":
        table.share()
    elif how == "dup":
        table.dup(fd)
    elif how == "inode":  # all of them have one
        revoke(file.inode)
    else:
        machine.mm.published.revoke_writing()
    assert row(machine, fd) & COUNTER
    assert file.ring_end is eventfd.counter


@pytest.mark.parametrize("how", ["close", "close of the other", "end", "watched", "execve", "all places used"])
def test_a_counter_that_is_taken_back_is_so_everywhere(machine: Machine, how: str) -> None:
    fd, file, eventfd = counted(machine)
    table = machine.task.files
    other = table.dup(fd)
    for each in (fd, other):
        offer_ring(machine.task, each, file, 8)
    if how == "close":
        table.remove(fd)
    elif how == "close of the other":
        table.remove(other)
    elif how == "end":
        eventfd.counter.revoke()
    elif how == "watched":
        eventfd.counter.watched()
    elif how == "execve":
        machine.mm.published.end()
    else:
        machine.mm.published.begin_anew(machine.context)
    assert not row(machine, fd) and not row(machine, other)
    assert not machine.mm.published.rings
    assert file.ring_end is None
    assert eventfd.counter.look() == layout.COUNTER_HELD  # of whoever still has the mapping


def test_a_counter_that_goes_while_it_is_mapped_is_not_published(machine: Machine) -> None:
    fd, file, eventfd = counted(machine)
    perform = machine.mm.perform

    def later(context: Any, ops: list[Any], then: Any) -> Any:
        eventfd.dissolve()
        return perform(context, ops, then)

    machine.mm.perform = later
    assert offer_ring(machine.task, fd, file, 8) == 8
    assert not row(machine, fd)
    assert len(machine.mm.published.stale) == 1


def test_no_place_is_made_by_taking_away_what_is_offered(machine: Machine) -> None:
    fd, file, eventfd = counted(machine)
    other = machine.task.files.dup(fd)
    offer_ring(machine.task, other, file, 8)
    machine.ops.clear()
    machine.mm.published.next_unit = UNITS
    assert offer_ring(machine.task, fd, file, 8) == 8
    assert file.ring_end is None and not machine.ops
