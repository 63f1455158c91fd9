"""The Sentry's side of calls that the stub of a new program answers: recorded before anyone looks, lies are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from platforms.systrap import layout
from platforms.systrap.change_log import ANONYMOUS, FILE, NEW, PROTECTION, REMOVED, ChangeLog
from protocol.abi import resource_h as rh
from services.sentry.kernel.limits import default_limits
from services.sentry.kernel.waiter import FinalOps, StubOp
from services.sentry.mm.address_space import AddressSpace
from services.sentry.mm.local_changes import LocalChanges
from services.sentry.mm.patching import try_patch
from services.sentry.syscalls.memory import sys_brk, sys_mlockall, sys_mmap, sys_munmap
from services.sentry.vfs.open_file import Backing

P = 4096
ANON = 0x22
FIXED_PRIVATE = 0x12
TOP = 0x7000_0000_0000
FD = 3
NUMBER = layout.DONATED_FD


class File:
    """Enough of an open file to be mapped; `refs` as it holds them."""

    def __init__(self) -> None:
        self.refs = 1  # the descriptor's
        self.readable, self.writable, self.flags = True, False, 0
        self.path = None
        self.inode = SimpleNamespace(size=64 * P, locks=None)

    def mmap_backing(self) -> Backing:
        return Backing(9, 0x10000, True, self)

    def add_reference(self) -> File:
        self.refs += 1
        return self

    def close_reference(self) -> None:
        self.refs -= 1


class Program:
    """A new program: [TOP - 4 P, TOP) is what lies lowest of what was placed from above; the gap is below."""

    def __init__(self, limits: dict[int, int] | None = None) -> None:
        memory = bytearray(layout.SLOT_SIZE)
        self.words = memoryview(memory).cast("Q")
        self.killed: list[str] = []
        self.context: Any = SimpleNamespace(in_guest=False, dead=False, kept=0, destroy=self.killed.append)
        self.mm = AddressSpace()
        self.mm.mmap_top = TOP
        self.mm.brk_start = self.mm.brk = 0x10_0000
        self.mm.record(TOP - 4 * P, 4 * P, 3, False, None, None, 0, b"[first]")
        self.group = SimpleNamespace(rlimits=default_limits())
        for resource, limit in (limits or {}).items():
            self.group.rlimits[resource] = (limit, rh.RLIM_INFINITY)
        self.log = ChangeLog(SimpleNamespace(u64=self.words, map=memory), 0)  # type: ignore[arg-type]
        self.changes = LocalChanges(self.mm, self.context, self.log)
        self.changes.open_gap(TOP - 4 * P, TOP - 3 * P, self.group.rlimits)
        self.file = File()
        self.table = SimpleNamespace(users=1, get={FD: self.file}.__getitem__)
        cred = SimpleNamespace(has_cap=lambda _: True)
        self.task: Any = SimpleNamespace(
            mm=self.mm, context=self.context, group=self.group, files=self.table, cred=cred
        )

    def word(self, offset: int) -> int:
        return int(self.words[offset // 8])

    def note(self, kind: int, addr: int, length: int, prot: int, offset: int = 0) -> None:
        """An entry as stub/trapped.c writes it."""
        count = self.word(layout.CHANGES_COUNT)
        at = (layout.CHANGE_ENTRIES + layout.CHANGE_SIZE * count) // 8
        self.words[at : at + 4] = memoryview(
            b"".join(v.to_bytes(8, "little") for v in (addr, length, prot | kind << 32, offset))
        ).cast("Q")
        self.words[layout.CHANGES_COUNT // 8] = count + 1

    def new(self, length: int) -> int:
        """mmap(2) of new memory by the stub, -1: it asks."""
        high = self.word(layout.GAP_HIGH)
        if length > high or length < self.word(layout.GAP_LEAST) or high - length < self.word(layout.GAP_LOW):
            return -1
        self.note(NEW, high - length, length, 3)
        self.words[layout.GAP_HIGH // 8] = high - length
        return high - length

    def map_file(self, length: int, addr: int = 0, flags: int = 2, prot: int = 1) -> int:
        """mmap(2) of the file the long way; it stays handed in."""
        outcome = sys_mmap(self.task, addr, length, prot, flags, FD, 0)
        assert isinstance(outcome, FinalOps)
        self.context.kept = NUMBER
        outcome.note()
        return outcome.result

    def end_window(self) -> None:
        """The next call is an event."""
        self.context.kept = 0
        self.words[layout.WINDOW_HIGH // 8] = 0
        self.changes.end_window()

    def areas(self, base: int) -> list[tuple[int, int, int, int]]:
        """(start in pages from `base`, pages, protection, offset in pages, -1: no file)."""
        return [
            ((a.start - base) // P, a.length // P, a.prot, a.offset // P if a.file else -1)
            for a in self.mm.vmas
            if a.start < TOP - 4 * P
        ]


def library(program: Program) -> int:
    """A library of 10 pages as a dynamic linker maps it: whole, then text, data and zeroed memory over that."""
    at = program.map_file(10 * P)
    assert program.word(layout.WINDOW_LOW) == at
    assert program.word(layout.WINDOW_HIGH) == at + 10 * P
    assert [program.word(w) for w in (layout.WINDOW_FD, layout.WINDOW_NUMBER, layout.WINDOW_BASE)] == [
        FD, NUMBER, 0x10000,
    ]  # fmt: skip
    program.note(FILE, at + P, 5 * P, 5, P)
    program.note(FILE, at + 6 * P, 2 * P, 3, 6 * P)
    program.note(ANONYMOUS, at + 8 * P, 2 * P, 3)
    return at


PARTS = [(0, 1, 1, 0), (1, 5, 5, 1), (6, 2, 3, 6), (8, 2, 3, -1)]


def test_library_is_recorded_when_somebody_looks() -> None:
    program = Program()
    at = library(program)
    assert at == TOP - 14 * P
    assert len(program.mm.areas_now) == 2  # nobody has looked
    assert program.areas(at) == PARTS
    assert program.file.refs == 4
    assert program.mm.total_pages == 14
    assert program.mm.data_pages == 8
    assert program.word(layout.CHANGES_COUNT) == 0  # the thread is held: the log is empty again
    assert not program.killed


def test_looks_while_it_runs_leave_the_log_to_the_thread() -> None:
    program = Program()
    at = library(program)
    program.context.in_guest = True
    assert program.areas(at) == PARTS
    program.note(PROTECTION, at + 6 * P, P, 1)
    assert program.areas(at) == [(0, 1, 1, 0), (1, 5, 5, 1), (6, 1, 1, 6), (7, 1, 3, 7), (8, 2, 3, -1)]
    assert program.word(layout.CHANGES_COUNT) == 4


def test_new_memory_goes_where_the_next_mapping_belongs() -> None:
    program = Program()
    a = program.new(2 * P)
    assert a == TOP - 6 * P
    assert program.changes.total_pages() == 6
    at = program.map_file(3 * P)  # looks: the gap ends, and begins again below
    assert at == a - 3 * P
    assert program.new(P) == at - P
    assert program.areas(at) == [(-1, 1, 3, -1), (0, 3, 1, 0), (3, 2, 3, -1)]
    assert program.mm.total_pages == 10
    assert program.new(P) == -1  # somebody looked while it was held, perhaps before a change


def test_mapping_at_an_address_leaves_the_gap_closed() -> None:
    program = Program()
    program.map_file(2 * P, 0x2000_0000, FIXED_PRIVATE)
    assert program.new(P) == -1


def test_shorter_ones_than_a_hole_above_are_asked_for() -> None:
    program = Program()
    program.mm.forget(TOP - 2 * P, TOP - P)
    program.map_file(4 * P)
    assert program.new(P) == -1
    assert program.new(2 * P) == TOP - 10 * P


def test_protection_goes_as_far_as_all_is_mapped() -> None:
    program = Program()
    program.note(PROTECTION, TOP - 2 * P, 5 * P, 1)  # ENOMEM at the hole behind TOP, when all below is done
    assert [(a.start, a.length, a.prot) for a in program.mm.vmas] == [
        (TOP - 4 * P, 2 * P, 3),
        (TOP - 2 * P, 2 * P, 1),
    ]
    program.note(PROTECTION, 0x3000_0000, P, 0)
    assert len(program.mm.vmas) == 2
    assert not program.killed


def test_mapping_of_a_file_that_nothing_else_holds_may_go() -> None:
    program = Program()
    at = program.map_file(2 * P)
    program.file.close_reference()  # close(2)
    program.end_window()
    assert program.word(layout.REMOVABLE) == at
    assert program.word(layout.REMOVABLE + 8) == at + 2 * P
    program.note(REMOVED, at, 2 * P, 0)
    assert program.areas(at) == []
    assert program.file.refs == 0
    program.note(REMOVED, at, 2 * P, 0)  # but once
    assert program.areas(at) == []
    assert len(program.killed) == 1


@pytest.mark.parametrize("why", ["open", "locked", "writable", "mapped over"])
def test_end_of_a_file_that_somebody_may_notice_is_asked_for(why: str) -> None:
    program = Program()
    at = program.map_file(2 * P)
    if why != "open":
        program.file.close_reference()
    if why == "locked":
        program.file.inode.locks = object()
    elif why == "writable":
        program.file.flags = 2
    elif why == "mapped over":
        program.note(FILE, at, P, 5)
    program.end_window()
    assert program.word(layout.REMOVABLE + 8) == 0


@pytest.mark.parametrize("how", ["mmap", "munmap"])
def test_what_else_is_mapped_there_may_not_go(how: str) -> None:
    program = Program()
    at = program.map_file(2 * P)
    program.file.close_reference()
    program.end_window()
    if how == "mmap":
        outcome = sys_mmap(program.task, at + P, P, 3, ANON | 0x10, -1, 0)
        assert isinstance(outcome, FinalOps)
        outcome.note()
    else:
        assert isinstance(sys_munmap(program.task, at + P, P), StubOp)
    assert program.word(layout.REMOVABLE + 8) == 0


def test_unmapping_is_known_before_what_the_stub_does_next() -> None:
    program = Program()
    program.context.run_ops = lambda ops, done: done([0] * len(ops))
    outcome = sys_munmap(program.task, TOP - 2 * P, P)
    assert isinstance(outcome, StubOp)  # it comes back to say so
    outcome.start(lambda thunk: thunk())  # type: ignore[arg-type, return-value]
    program.note(PROTECTION, TOP - 3 * P, 3 * P, 1)
    assert [(a.start, a.prot) for a in program.mm.vmas] == [(TOP - 4 * P, 3), (TOP - 3 * P, 1), (TOP - P, 3)]


def test_file_of_which_nothing_is_left_goes_before_anything_else_is_served() -> None:
    program = Program()
    at = program.map_file(2 * P)
    program.context.in_guest = True
    program.note(ANONYMOUS, at, 2 * P, 3)
    program.file.close_reference()  # close(2) is the next event
    assert program.file.refs == 1
    program.end_window()
    assert program.file.refs == 0


@pytest.mark.parametrize(
    "entry",
    [
        (FILE, -P, 2 * P, 1, 0),  # begins below the window,
        (FILE, 9 * P, 2 * P, 1, 0),  # ends behind it,
        (ANONYMOUS, 10 * P, P, 3, 0),
        (FILE, 0, P, 8, 0),  # more than is allowed,
        (FILE, 0, P, 1, 1),  # no page of the file
        (FILE, 0, P, 1, 1 << 63),
        (NEW, -2 * P, P, 3, 0),  # not right below
        (NEW, -P, P, 7, 0),
        (NEW, -(1 << 31), 1 << 31, 3, 0),
        (REMOVED, 0, 10 * P, 0, 0),
        (PROTECTION, 0, P, 3, 0),
        (PROTECTION, 0, 0, 1, 0),
        (PROTECTION, 1, P, 1, 0),
        (PROTECTION, 0, (1 << 64) - P, 1, 0),
        (PROTECTION, layout.STUB_BASE, P, 1, 0),
        (0, 0, P, 1, 0),
        (77, 0, P, 1, 0),
    ],
)
def test_entry_that_no_stub_writes_ends_the_process(entry: tuple[int, int, int, int, int]) -> None:
    program = Program()
    program.mm.changes = None
    program.mm.reserve([(layout.STUB_BASE, layout.STUB_END, b"")])
    program.mm.changes = program.changes
    at = program.map_file(10 * P)
    kind, offset, length, prot, file_offset = entry
    addr = offset if offset >= layout.STUB_BASE else at + offset
    program.note(kind, addr & (1 << 64) - 1, length, prot, file_offset)
    before = program.areas(at)
    assert before == [(0, 10, 1, 0)]
    assert len(program.killed) == 1
    assert program.file.refs == 2
    assert program.mm.changes is None


def test_more_entries_than_there_is_room_for_end_the_process() -> None:
    program = Program()
    program.words[layout.CHANGES_COUNT // 8] = layout.CHANGES_MOST + 1
    assert len(program.mm.vmas) == 1
    assert len(program.killed) == 1


def test_lies_end_a_process_that_runs_too() -> None:
    program = Program()
    program.context.in_guest = True
    program.words[layout.CHANGES_COUNT // 8] = 1 << 40
    assert len(program.mm.vmas) == 1
    assert len(program.killed) == 1


def second_user(program: Program) -> None:
    program.mm.add_user()


def everything_locked(program: Program) -> None:
    assert sys_mlockall(program.task, 2) == 0


def patched(program: Program) -> None:
    try_patch(program.mm, program.context, 0x1000_0000, 0, lambda: None)


@pytest.mark.parametrize("end", [second_user, everything_locked, patched, lambda p: p.mm.revoke_grant()])
def test_grant_ends(end: Any) -> None:
    program = Program()
    at = library(program)
    end(program)
    assert program.mm.changes is None
    assert [program.word(w) for w in (layout.CHANGES_OPEN, layout.WINDOW_HIGH, layout.GAP_HIGH, layout.BREAK)] == [
        0
    ] * 4
    assert program.areas(at) == PARTS


@pytest.mark.parametrize("resource", [rh.RLIMIT_AS, rh.RLIMIT_DATA])
def test_limits_on_memory_are_looked_at_by_the_sentry(resource: int) -> None:
    program = Program({resource: 1 << 40})
    assert program.new(P) == -1
    program.map_file(2 * P)
    assert program.word(layout.WINDOW_HIGH) == 0
    assert program.new(P) == -1


def test_shared_table_of_descriptors_gives_no_window() -> None:
    program = Program()
    program.table.users = 2
    program.map_file(2 * P)
    assert program.word(layout.WINDOW_HIGH) == 0


def test_program_break_is_known_until_it_moves() -> None:
    program = Program()
    assert program.word(layout.BREAK) == 0x10_0000
    sys_brk(program.task, 0x10_1000)
    assert program.word(layout.BREAK) == 0


def test_copy_into_memory_that_may_be_taken_away_is_looked_at_each_time() -> None:
    program = Program()
    mm = program.mm
    mm.trapped = program.context
    mm.write(TOP - 4 * P, b"x")
    assert mm.pending == b"x"
    mm.pending = None
    program.note(PROTECTION, TOP - 4 * P, P, 1)
    written = []
    mm.space = SimpleNamespace(vm_pid=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.sentry.mm.user_memory._vm_write", lambda *args: written.append(args) or 1)
        mm.write(TOP - 4 * P, b"y")
    assert mm.pending is None and len(written) == 1
