"""The Sentry's side of a file that was opened last, for which a new program's stub answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from platforms.systrap import layout
from platforms.systrap.change_log import ANONYMOUS, FILE, NEW_FILE, REMOVED, ChangeLog
from protocol.abi import resource_h as rh
from services.sentry.kernel.limits import default_limits
from services.sentry.kernel.start_maps import FirstCalls
from services.sentry.mm.address_space import AddressSpace
from services.sentry.mm.local_changes import LocalChanges
from services.sentry.mm.opened_file import offer, settle_files
from services.sentry.vfs.open_file import Backing

P = 4096
TOP = 0x7000_0000_0000
FD = 3
NUMBER = layout.DONATED_FD
NAME = b"/lib/library"
STATUS = b"s" * layout.OPENED_STAT_SIZE
HEAD = bytes(range(256)) * 4


class HostFile:
    """A host file whose descriptor is always the same number."""

    fd = 9

    def pread(self, count: int, offset: int) -> bytes:
        return HEAD[offset : offset + count]


class File:
    """Enough of a host's file, opened for reading."""

    def __init__(self, host: Any) -> None:
        self.refs = 1  # the descriptor's
        self.flags = self.offset = 0
        self.host = host
        self.path = SimpleNamespace(mount=SimpleNamespace(flags=0))
        self.inode = SimpleNamespace(locks=None, donated=lambda: self.host, size=64 * P)
        self.moved: Callable[[], None] | None = None

    def mmap_backing(self) -> Backing:
        return Backing(self.host.fd, 0x3000, False, self)

    def when_moved(self, call: Callable[[], None]) -> None:
        self.moved = call

    def add_reference(self) -> File:
        self.refs += 1
        return self

    def close_reference(self) -> None:
        assert self.refs > 0
        self.refs -= 1


class Table:
    """Descriptors that are closed as the real ones are."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {}
        self.users = 1

    def close(self, fd: int, _: Any) -> None:
        self.files.pop(fd).close_reference()


class Program:
    """A new program whose dynamic linker runs; `host` was handed in ahead under NUMBER."""

    def __init__(self, ahead: bool = True) -> None:
        memory = bytearray(layout.SLOT_SIZE)
        self.words = memoryview(memory).cast("Q")
        self.memory = memory
        self.killed: list[str] = []
        self.next_event: Callable[[list[int] | None], None] | None = None
        self.context: Any = SimpleNamespace(in_guest=False, dead=False, kept=0, awaiting=0, destroy=self.killed.append)
        self.context.await_event = self.await_event
        self.mm = AddressSpace()
        self.mm.mmap_top = TOP
        self.mm.record(TOP - 4 * P, 4 * P, 3, False, None, None, 0, b"[first]")
        self.limits = default_limits()
        self.changes = LocalChanges(
            self.mm,
            self.context,
            ChangeLog(SimpleNamespace(u64=self.words, map=memory), 0),  # type: ignore[arg-type]
        )
        self.names: list[bytes] = [NAME] if ahead else []
        self.missed: Counter[str] = Counter()
        self.host: HostFile | None = HostFile()
        handed = {self.host.fd: (self.host, NUMBER, NAME)} if ahead else {}
        self.changes.foresee(self.names, FirstCalls(), handed, self.limits, self.missed)  # type: ignore[arg-type]
        self.changes.open_gap(TOP - 4 * P, TOP - 3 * P, self.limits)
        self.table = Table()
        self.live: list[int] = []
        kernel = SimpleNamespace(standing=SimpleNamespace(live=self.live))
        self.task: Any = SimpleNamespace(
            mm=self.mm, mm_or_none=self.mm, context=self.context, context_or_none=self.context, files=self.table,
            kernel=kernel, signal_pending=False,
        )  # fmt: skip

    def await_event(self, done: Callable[[list[int] | None], None]) -> None:
        self.context.awaiting = layout.OPS_DONE
        self.next_event = done

    def open(self) -> File:
        file = File(self.host)
        self.table.files[FD] = file
        offer(self.task, FD, file, NAME, STATUS)  # type: ignore[arg-type]
        self.context.in_guest = True
        return file

    def event(self) -> None:
        """The thread's next one."""
        done, self.next_event = self.next_event, None
        self.context.awaiting = 0
        if done is not None:
            done(None)
        self.context.in_guest = False

    def word(self, offset: int) -> int:
        return int(self.words[offset // 8])

    def set(self, offset: int, value: int) -> None:
        self.words[offset // 8] = value

    def note(self, kind: int, addr: int, length: int, prot: int, offset: int = 0) -> None:
        """An entry as stub/trapped.c writes it."""
        count = self.word(layout.CHANGES_COUNT)
        for k, value in enumerate((addr, length, prot | kind << 32, offset)):
            self.set(layout.CHANGE_ENTRIES + layout.CHANGE_SIZE * count + 8 * k, value)
        self.set(layout.CHANGES_COUNT, count + 1)

    def map(self, pages: int) -> int:
        """mmap(2) of the opened file by the stub: its address."""
        at = self.word(layout.GAP_HIGH) - pages * P
        self.note(NEW_FILE, at, pages * P, 1)
        self.set(layout.GAP_HIGH, at)
        return at

    def close(self) -> None:
        """close(2) by the stub."""
        self.set(layout.OPENED_FD, 0)
        self.set(layout.OPENED_CLOSED, 1)

    def areas(self) -> list[tuple[int, int, bool]]:
        """(start in pages below the first, pages, whether a file's)."""
        return [
            ((TOP - 4 * P - a.start) // P, a.length // P, a.file is not None)
            for a in self.mm.vmas
            if a.start < TOP - 4 * P
        ]


def test_what_is_offered_is_what_the_file_is() -> None:
    program = Program()
    program.open()
    assert program.word(layout.OPENED_FD) == FD + 1
    assert program.word(layout.OPENED_NUMBER) == NUMBER
    assert program.word(layout.OPENED_BASE) == 0x3000
    assert program.word(layout.OPENED_KNOWN) == len(HEAD) + 1
    assert program.live == [layout.OPENED_KNOWN // 8]
    assert program.memory[layout.OPENED_STAT :][: len(STATUS)] == STATUS
    assert program.memory[layout.OPENED_HEAD :][: len(HEAD)] == HEAD
    program.event()
    assert program.word(layout.OPENED_FD) == program.word(layout.OPENED_KNOWN) == 0


@pytest.mark.parametrize("why", ["shared table", "signal", "no host file", "awaiting", "revoked"])
def test_nothing_is_offered_where_it_could_be_wrong(why: str) -> None:
    program = Program()
    if why == "shared table":
        program.table.users = 2
    elif why == "signal":
        program.task.signal_pending = True
    elif why == "no host file":
        program.host = None
    elif why == "awaiting":
        program.context.awaiting = layout.OPS_DONE
    else:
        program.changes.close()
    program.open()
    assert program.word(layout.OPENED_FD) == 0
    assert program.live == []


def test_another_file_under_the_same_descriptor_of_the_host_is_not_what_was_handed_in() -> None:
    program = Program()
    program.host = HostFile()
    program.open()
    assert program.word(layout.OPENED_NUMBER) == 0


def test_data_that_moves_elsewhere_is_not_what_was_handed_in() -> None:
    program = Program()
    file = program.open()
    assert file.moved is not None
    file.moved()
    assert program.word(layout.OPENED_NUMBER) == 0


def test_mapping_outlives_the_descriptor_unrecorded() -> None:
    program = Program()
    file = program.open()
    at = program.map(8)
    program.note(FILE, at + 2 * P, 2 * P, 5, 2 * P)
    program.note(ANONYMOUS, at + 6 * P, 2 * P, 3)
    program.close()
    program.event()
    assert program.table.files == {}
    assert len(program.mm.areas_now) == 1  # nobody has looked
    assert file.refs == 1
    assert program.areas() == [(8, 2, True), (6, 2, True), (4, 2, True), (2, 2, False)]
    assert file.refs == 3
    assert not program.killed


def test_end_of_a_program_that_nobody_looked_at_lets_go_of_its_files() -> None:
    program = Program()
    file = program.open()
    program.map(8)
    program.close()
    program.event()
    program.changes.drop()
    assert file.refs == 0


def test_entries_are_of_the_file_that_was_opened_last_when_they_were_made() -> None:
    program = Program()
    first = program.open()
    program.map(2)
    program.close()
    program.event()
    second = program.open()
    program.map(4)
    program.event()
    assert program.areas() == [(6, 4, True), (2, 2, True)]
    files = [area.file for area in program.mm.vmas if area.file is not None]
    assert files == [second, first]
    assert (first.refs, second.refs) == (1, 2)


def test_unmapping_is_the_end_of_a_file_that_was_closed() -> None:
    program = Program()
    file = program.open()
    at = program.map(2)
    program.close()
    program.note(REMOVED, at, 2 * P, 0)
    program.event()
    assert program.areas() == []
    assert file.refs == 0
    assert not program.killed


@pytest.mark.parametrize("late", [NEW_FILE, FILE])
def test_entry_of_a_file_that_is_no_longer_offered_ends_the_process(late: int) -> None:
    program = Program()
    program.open()
    at = program.map(4)
    program.close()
    program.event()
    program.note(late, at - 4 * P if late == NEW_FILE else at, 4 * P, 1)
    program.areas()
    assert len(program.killed) == 1


def test_reads_move_the_position_and_others_see_it() -> None:
    program = Program()
    file = program.open()
    program.set(layout.OPENED_POSITION, 832)
    settle_files(program.task)
    assert file.offset == 832
    file.offset = 5  # by another that was given the description
    settle_files(program.task)
    assert file.offset == 5
    program.set(layout.OPENED_POSITION, 900)
    program.event()
    assert file.offset == 900
    program.set(layout.OPENED_POSITION, 1 << 60)
    settle_files(program.task)
    assert file.offset == 900


def test_others_see_what_was_closed() -> None:
    program = Program()
    program.open()
    settle_files(program.task)
    assert FD in program.table.files
    program.close()
    settle_files(program.task)
    assert program.table.files == {}
    program.table.files[FD] = other = File(program.host)
    program.event()  # closed but once
    assert program.table.files == {FD: other}


def test_names_of_files_that_are_not_opened_any_more_are_forgotten() -> None:
    program = Program()
    program.open()
    program.event()
    program.changes.drop()
    assert program.names == [NAME]
    program = Program()
    program.changes.drop()
    assert program.names == []


def test_limits_are_told_until_they_change() -> None:
    program = Program()
    assert program.word(layout.LIMITS_KNOWN) == 1
    stack = layout.LIMITS + 16 * rh.RLIMIT_STACK
    assert (program.word(stack), program.word(stack + 8)) == program.limits[rh.RLIMIT_STACK]
    program.changes.revoke()
    assert program.word(layout.LIMITS_KNOWN) == 0


def test_rseq_is_asked_for_once_and_counted_ever_after() -> None:
    program = Program()
    assert program.word(layout.MISSED_RSEQ) == 0
    program.missed["rseq"] = 1
    program.changes.foresee(program.names, FirstCalls(), {}, program.limits, program.missed)
    program.set(layout.MISSED_RSEQ, program.word(layout.MISSED_RSEQ) + 2)
    program.changes.drop()
    assert program.missed["rseq"] == 3
