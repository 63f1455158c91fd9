"""Published files without a guest: pairing, when a row is made and goes, and what notes do to an inode's times."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from platforms.systrap import layout
from services.sentry.kernel import published_files
from services.sentry.kernel.fd_table import FdTable
from services.sentry.kernel.published_files import NOTHING_PUBLISHED, FileWindow, PublishedFiles, admit, offer_window
from services.sentry.vfs.open_file import WindowSource
from services.sentry.vfs.published import fold, revoke, revoke_writing

MEBI = 1 << 20
INFINITY = (1 << 64) - 1


class StandIn(SimpleNamespace):
    """A task that has memory and a context."""

    @property
    def mm_or_none(self) -> Any:
        return self.mm

    @property
    def context_or_none(self) -> Any:
        return self.context


class Rows:
    """FileRows without an arena."""

    count = layout.FILE_ROW_COUNT

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.noted: dict[int, tuple[int, int]] = {}

    def set(self, fd: int, row: int) -> None:
        self.rows[fd] = row

    def set_window(self, fd: int, unit: int, size: int, kind: int) -> int:
        self.rows[fd] = kind | unit << layout.FILE_UNIT_SHIFT | size << layout.FILE_SIZE_SHIFT
        return self.rows[fd]

    def notes(self, fd: int) -> tuple[int, int]:
        return self.noted.get(fd, (0, 0))

    def notes_op(self) -> Any:
        return SimpleNamespace(nr=9, args=(layout.FILE_NOTES, 8192, 3, 0x11, 61, 0))


class Clock:
    """Time and ticks run together: a tick is a nanosecond, and the time began a thousand later."""

    def __init__(self) -> None:
        self.ticks = 5000

    def now(self) -> int:
        return self.ticks + 1000


class File:
    takes_everything = gives_nothing = gives_zeros = False

    def __init__(self, clock: Clock, size: int = 65536) -> None:
        superblock = SimpleNamespace(now=clock.now)
        self.inode: Any = SimpleNamespace(
            shown=[None],
            superblock=superblock,
            published=None,
            writers=1,
            mode=0o100600,
            mtime_ns=0,
            ctime_ns=0,
            atime_ns=0,
        )
        self.readable = self.writable = True
        self.flags = 2
        self.refs = 0
        self.size = size
        self.source_writable = True

    def window_source(self) -> WindowSource:
        return WindowSource(9, self.size, self.source_writable, self.inode, True)


class Machine:
    """A task whose operations succeed at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        monkeypatch.setattr(published_files.file_rows, "ticks", lambda: self.clock.ticks)
        self.rows = Rows()
        self.used: list[bool] = []
        self.ops: list[Any] = []
        self.context: Any = SimpleNamespace(file_rows=lambda: self.rows, use_rows=self.used.append, in_guest=False)
        self.other_contexts: list[Any] = []
        self.context.others = lambda: self.other_contexts
        self.mm: Any = SimpleNamespace(published=None, loan=None, fast=self.context, perform=self.perform)
        self.task: Any = self.new_task(FdTable())
        admit(self.task)

    def new_task(self, table: FdTable) -> Any:
        kernel = SimpleNamespace(tracing=False)
        group = SimpleNamespace(rlimits={1: (INFINITY, INFINITY)})
        return StandIn(context=self.context, mm=self.mm, files=table, kernel=kernel, group=group)

    def perform(self, context: Any, ops: list[Any], then: Any) -> Any:
        self.ops += ops
        return then([0 if op.nr != 9 else op.args[0] for op in ops[:-1]] + [0])

    def opened(self, **facts: Any) -> tuple[int, Any]:
        file: Any = File(self.clock)
        for name, value in facts.items():
            setattr(file, name, value)
        return self.task.files.allocate(file), file

    def use(self, fd: int, file: Any) -> None:
        for _ in range(16):
            assert offer_window(self.task, fd, file, 4096) == 4096

    def kind(self, fd: int) -> int:
        return self.rows.rows.get(fd, 0) & 0xFF


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_rows_are_for_the_table_that_came_first(machine: Machine) -> None:
    assert machine.used == [True]
    admit(machine.new_task(FdTable()))  # a vfork child
    assert machine.used == [True, False]
    admit(machine.task)
    assert machine.used[-1]


def test_traced_tasks_see_no_rows(machine: Machine) -> None:
    task = machine.new_task(FdTable())
    task.kernel.tracing = True
    task.mm = SimpleNamespace(published=None, loan=None)
    admit(task)
    assert machine.used == [True]
    assert task.mm.published is None


def test_the_next_table_is_paired_when_the_first_has_no_users(machine: Machine) -> None:
    shown = machine.mm.published
    machine.task.files.release(machine.task)
    other = machine.new_task(FdTable())
    admit(other)
    assert machine.mm.published is shown
    assert other.files.published is shown
    assert machine.task.files.published is NOTHING_PUBLISHED
    assert machine.used[-1]


def test_exec_pairs_the_table_with_the_new_memory(machine: Machine) -> None:
    fd, file = machine.opened()
    machine.use(fd, file)
    old = machine.mm.published
    task = machine.new_task(machine.task.files)
    task.mm = SimpleNamespace(published=None, loan=None, fast=None)
    admit(task)
    assert task.files.published is task.mm.published is not old
    assert not old
    assert machine.rows.rows[fd] == 0
    old.end()  # when the old memory goes
    assert task.files.published is task.mm.published


def test_every_sixteenth_positioned_call_makes_a_window(machine: Machine) -> None:
    fd, file = machine.opened()
    for _ in range(15):
        offer_window(machine.task, fd, file, 1)
    assert not machine.ops
    offer_window(machine.task, fd, file, 1)
    assert machine.kind(fd) == layout.FILE_READ | layout.FILE_WRITE | layout.FILE_NOTE_READS
    assert machine.rows.rows[fd] >> layout.FILE_SIZE_SHIFT == 65536
    assert [op.nr for op in machine.ops] == [9, 28, 9, 28]


@pytest.mark.parametrize(
    "facts",
    [
        {"readable": False},
        {"flags": 2 | 0o40000},  # O_DIRECT
        {"window_source": lambda: None},
        {"size": 0},
    ],
)
def test_no_window(machine: Machine, facts: dict[str, Any]) -> None:
    fd, file = machine.opened(**facts)
    machine.use(fd, file)
    assert not machine.ops


@pytest.mark.parametrize(
    "facts",
    [
        {"writable": False},
        {"source_writable": False},
        {"flags": 2 | 0o2000},  # O_APPEND
        {"flags": 2 | 0o4010000},  # O_SYNC
    ],
)
def test_window_for_reading_alone(machine: Machine, facts: dict[str, Any]) -> None:
    fd, file = machine.opened(**facts)
    machine.use(fd, file)
    assert machine.kind(fd) == layout.FILE_READ | layout.FILE_NOTE_READS
    assert machine.ops[-2].args[2] == 1


def test_who_is_not_alone_does_not_write(machine: Machine) -> None:
    fd, file = machine.opened()
    machine.use(fd, file)
    child = machine.task.files.fork()
    assert not machine.kind(fd) & layout.FILE_WRITE
    machine.use(fd, file)
    assert not machine.kind(fd) & layout.FILE_WRITE
    child.files.clear()
    file.refs -= 1
    machine.use(fd, file)
    assert machine.kind(fd) & layout.FILE_WRITE
    machine.task.files.share()
    assert not machine.kind(fd) & layout.FILE_WRITE
    machine.task.files.users = 1
    machine.use(fd, file)
    file.inode.writers = 2
    revoke_writing(file.inode)
    machine.use(fd, file)
    assert not machine.kind(fd) & layout.FILE_WRITE


def test_a_limit_on_file_size_or_set_user_id_needs_every_write(machine: Machine) -> None:
    fd, file = machine.opened()
    file.inode.mode |= 0o4000
    machine.use(fd, file)
    assert not machine.kind(fd) & layout.FILE_WRITE
    file.inode.mode &= 0o777
    machine.task.group.rlimits[1] = (1 << 20, 1 << 20)
    machine.use(fd, file)
    assert not machine.kind(fd) & layout.FILE_WRITE


def test_closing_revokes_and_leaves_the_place_unused(machine: Machine) -> None:
    fd, file = machine.opened()
    machine.use(fd, file)
    first = machine.ops[-2].args[0]
    other = machine.task.files.dup(fd)
    machine.use(other, file)
    machine.task.files.remove(fd)
    assert machine.rows.rows[fd] == 0
    assert machine.kind(other) & layout.FILE_READ
    machine.task.files.remove(other)
    assert machine.mm.published.stale
    assert not file.inode.published
    fd, file = machine.opened()
    machine.ops.clear()
    machine.use(fd, file)
    assert [op.nr for op in machine.ops] == [11, 9, 28]
    assert machine.ops[0].args[0] == first
    assert machine.ops[1].args[0] > first


def test_growing_within_the_mapping_maps_nothing_anew(machine: Machine) -> None:
    fd, file = machine.opened()
    machine.use(fd, file)
    machine.ops.clear()
    file.size = MEBI
    machine.use(fd, file)
    assert not machine.ops
    assert machine.rows.rows[fd] >> layout.FILE_SIZE_SHIFT == MEBI
    file.size = MEBI + 1
    machine.use(fd, file)
    assert [op.nr for op in machine.ops] == [9, 28]
    assert machine.rows.rows[fd] >> layout.FILE_SIZE_SHIFT == MEBI + 1
    assert machine.mm.published.stale


def test_what_happened_while_the_mapping_was_made(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    fd, file = machine.opened()

    def perform(context: Any, ops: list[Any], then: Any) -> Any:
        machine.task.files.remove(fd)
        return then([op.args[0] if op.nr == 9 else 0 for op in ops])

    monkeypatch.setattr(machine.mm, "perform", perform)
    machine.use(fd, file)
    assert not machine.mm.published
    assert machine.mm.published.stale


def test_what_the_host_does_not_map_is_not_tried_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    fd, file = machine.opened()
    tries = []

    def perform(context: Any, ops: list[Any], then: Any) -> Any:
        tries.append(ops)
        return then([-19])

    monkeypatch.setattr(machine.mm, "perform", perform)
    machine.use(fd, file)
    machine.use(fd, file)
    assert len(tries) == 1
    assert not machine.mm.published


def test_places_are_used_again_only_when_no_other_thread_runs(machine: Machine) -> None:
    shown = machine.mm.published
    kept = machine.opened()
    machine.use(*kept)
    shown.next_unit = published_files.UNITS
    other = SimpleNamespace(in_guest=True)
    machine.other_contexts.append(other)
    fd, file = machine.opened()
    machine.use(fd, file)
    assert not machine.kind(fd)
    other.in_guest = False
    machine.ops.clear()
    machine.use(fd, file)
    assert machine.kind(fd)
    assert not machine.kind(kept[0])
    assert machine.ops[0].nr == 11
    assert machine.ops[0].args[1] == (published_files.UNITS - 1) * MEBI


# --- times ---
@pytest.fixture
def window(machine: Machine) -> FileWindow:
    fd, file = machine.opened()
    machine.use(fd, file)
    found: FileWindow = machine.mm.published.windows[file]
    found.node.mtime_ns = found.node.ctime_ns = 50
    found.node.atime_ns = 40
    return found


def note(machine: Machine, window: FileWindow, wrote: int = 0, read: int = 0) -> None:
    fd = next(iter(window.fds))
    before = machine.rows.notes(fd)
    machine.rows.noted[fd] = (wrote or before[0], read or before[1])


def times(window: FileWindow) -> tuple[int, int, int]:
    node = window.node
    return node.atime_ns, node.mtime_ns, node.ctime_ns


def test_a_noted_write_moves_mtime_and_ctime_to_when_it_was(machine: Machine, window: FileWindow) -> None:
    machine.clock.ticks = 9000
    note(machine, window, wrote=7000)
    fold(window.node)
    assert times(window) == (40, 8000, 8000)
    machine.clock.ticks = 12000
    fold(window.node)
    assert times(window) == (40, 8000, 8000)


@pytest.mark.parametrize(("wrote", "shown"), [(1, 6000), (INFINITY, 10000), (4999, 6000), (9001, 10000)])
def test_a_lie_is_believed_within_what_can_be(machine: Machine, window: FileWindow, wrote: int, shown: int) -> None:
    machine.clock.ticks = 9000
    note(machine, window, wrote=wrote)
    fold(window.node)
    assert window.node.mtime_ns == shown


def test_writes_to_what_is_open_for_reading_are_not_believed(machine: Machine) -> None:
    fd, file = machine.opened(writable=False)
    machine.use(fd, file)
    machine.clock.ticks = 9000
    machine.rows.noted[fd] = (7000, 0)
    fold(file.inode)
    assert file.inode.mtime_ns == 0


def test_a_later_write_of_the_sentry_counts(machine: Machine, window: FileWindow) -> None:
    machine.clock.ticks = 9000
    note(machine, window, wrote=7000)
    window.node.mtime_ns = window.node.ctime_ns = 9500
    fold(window.node)
    assert times(window) == (40, 9500, 9500)


@pytest.mark.parametrize("was", [50, 1 << 60])
def test_a_time_that_was_set_gives_way_to_a_write(machine: Machine, window: FileWindow, was: int) -> None:
    window.node.mtime_ns = was
    machine.clock.ticks = 9000
    note(machine, window, wrote=7000)
    fold(window.node)
    assert window.node.mtime_ns == 8000


def test_a_noted_read_moves_atime_as_relatime_does(machine: Machine, window: FileWindow) -> None:
    machine.clock.ticks = 9000
    note(machine, window, read=7000)
    fold(window.node)
    assert times(window) == (8000, 50, 50)
    machine.clock.ticks = 10000
    note(machine, window, read=9500)
    fold(window.node)
    assert times(window) == (8000, 50, 50)  # it is later than the last change
    machine.clock.ticks = 12000
    note(machine, window, wrote=11000, read=11500)
    fold(window.node)
    assert window.node.atime_ns > window.node.mtime_ns > 8000


def test_a_read_before_a_write(machine: Machine, window: FileWindow) -> None:
    machine.clock.ticks = 9000
    note(machine, window, read=7000, wrote=8000)
    fold(window.node)
    assert times(window) == (8000, 9000, 9000)


def test_revoking_folds_what_was_noted(machine: Machine, window: FileWindow) -> None:
    machine.clock.ticks = 9000
    note(machine, window, wrote=7000)
    revoke(window.node)
    assert window.node.mtime_ns == 8000
    assert not window.node.published
    assert isinstance(machine.mm.published, PublishedFiles)
    assert not machine.mm.published
