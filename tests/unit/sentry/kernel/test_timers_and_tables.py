"""Timers, descriptor table, pids, futex table: the kernel's small tables on virtual time."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sentry.errors import LinuxError
from services.sentry.kernel.fd_table import FdTable
from services.sentry.kernel.timers import Timers
from tests.unit.sentry.kernel.fakes import Machine


class FakeFile:
    def __init__(self) -> None:
        self.refs = 0
        self.released = 0
        self.flushed = 0
        self.inode = SimpleNamespace(locks=object())  # with locks, so that a close is told

    def add_reference(self) -> FakeFile:
        self.refs += 1
        return self

    def close_reference(self) -> None:
        self.refs -= 1
        if not self.refs:
            self.release()

    def release(self) -> None:
        self.released += 1

    def flush(self, task: Any) -> None:
        self.flushed += 1


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=200), st.integers(0, 100))
def test_timers_run_fires_due_uncancelled_in_order(entries: list[tuple[int, bool]], now: int) -> None:
    timers = Timers()
    fired: list[int] = []
    handles = [(timers.call_at(at, lambda at=at: fired.append(at)), cancel) for at, cancel in entries]
    for handle, cancel in handles:
        if cancel:
            handle.cancel()
            handle.cancel()
    live = sorted(at for at, cancel in entries if not cancel)
    assert timers.next_deadline() == (live[0] if live else None)
    assert timers.run(now) == len(fired)
    assert fired == [at for at in live if at <= now]
    rest = [at for at in live if at > now]
    assert timers.next_deadline() == (rest[0] if rest else None)


def test_timers_action_rearmed_for_now_waits_for_the_next_run() -> None:
    timers = Timers()
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        timers.call_at(5, again)

    timers.call_at(5, again)
    assert timers.run(5) == 1
    assert count == 1
    assert timers.run(5) == 1


def test_timers_cancelled_by_an_earlier_action_does_not_fire() -> None:
    timers = Timers()
    fired: list[int] = []
    second = None

    def first() -> None:
        assert second is not None
        second.cancel()

    timers.call_at(1, first)
    second = timers.call_at(2, lambda: fired.append(2))
    assert timers.run(3) == 1
    assert not fired


@given(st.lists(st.tuples(st.sampled_from(["new", "close", "dup2", "at"]), st.integers(0, 12)), max_size=60))
def test_fd_table_random_operations_give_the_lowest_free_number(operations: list[tuple[str, int]]) -> None:
    table = FdTable(limit=10)
    task: Any = None
    model: dict[int, FakeFile] = {}
    for name, number in operations:
        file: Any = FakeFile()
        if name in ("new", "at"):
            minimum = number if name == "at" else 0
            free = [fd for fd in range(minimum, 10) if fd not in model]
            if not free:
                with pytest.raises(LinuxError) as failure:
                    table.allocate(file, minimum=minimum)
                assert failure.value.errno == errno.EMFILE
                assert file.released == 1
            else:
                assert table.allocate(file, minimum=minimum) == free[0]
                model[free[0]] = file
        elif name == "close":
            if number in model:
                table.close(number, task)
                closed = model.pop(number)
                assert (closed.refs, closed.flushed) == (list(model.values()).count(closed), 1) or closed.refs >= 0
            else:
                with pytest.raises(LinuxError):
                    table.close(number, task)
        elif 0 in model:
            if number >= 10:
                with pytest.raises(LinuxError):
                    table.dup2(0, number)
            else:
                table.dup2(0, number)
                model[number] = model[0]
        assert dict(table.files) == model
    for kept in set(model.values()):
        assert kept.refs == list(model.values()).count(kept)


def test_fd_table_fork_holds_its_own_references_and_exec_closes_marked() -> None:
    table = FdTable()
    keep: Any = FakeFile()
    gone: Any = FakeFile()
    task: Any = None
    assert (table.allocate(keep), table.allocate(gone, cloexec=True)) == (0, 1)
    child = table.fork()
    assert (keep.refs, gone.refs) == (2, 2)
    child.close_on_exec(task)
    assert [fd for fd, _ in child.items()] == [0]
    assert 1 in table
    child.release(task)
    assert (keep.refs, gone.refs) == (1, 1)


def test_fd_table_shared_is_copied_for_a_task_that_wants_its_own(machine: Machine) -> None:
    table = machine.init.files
    table.share()
    file: Any = FakeFile()
    table.allocate(file)
    own = table.unshared_for(machine.init)
    assert own is machine.init.files
    assert own is not table
    assert file.refs == 2


def test_pids_wrap_and_skip_those_in_use(machine: Machine) -> None:
    kernel = machine.kernel
    kernel.pid_max = 305
    seen = []
    for _ in range(400):
        seen.append(kernel.new_tid())
    assert seen[:3] == [2, 3, 4]
    assert max(seen) == 304
    assert 1 not in seen
    assert seen[303] == 300


def test_pids_all_in_use_gives_eagain(machine: Machine) -> None:
    kernel = machine.kernel
    kernel.pid_max = 2
    with pytest.raises(LinuxError) as failure:
        kernel.new_tid()
    assert failure.value.errno == errno.EAGAIN


def test_kernel_part_is_made_once(machine: Machine) -> None:
    def factory(kernel: object) -> list[object]:
        return [kernel]

    assert machine.kernel.part(factory) is machine.kernel.part(factory)
