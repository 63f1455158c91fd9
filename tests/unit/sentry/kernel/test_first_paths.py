"""The Sentry's side of the first calls of a program that are foretold to its stub."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

from platforms.systrap import layout
from platforms.systrap.change_log import NEW_FILE, ChangeLog
from services.sentry.errors import LinuxError
from services.sentry.kernel.credentials import Credentials
from services.sentry.kernel.first_paths import ACCESS, OPENAT, foretell
from services.sentry.kernel.start_maps import FirstCalls
from services.sentry.mm.opened_file import settle_files
from tests.unit.sentry.mm.test_opened_file import FD, HEAD, NUMBER, STATUS, TOP, File, HostFile, P, Program, Table

ABSENT, LIBRARY, OTHER = b"/etc/absent", b"/lib/library", b"/lib/other"
CLOEXEC = 0o2000000
CALLS = [(ACCESS, ABSENT, 4), (OPENAT, LIBRARY, CLOEXEC), (OPENAT, OTHER, 0)]
GETPID = 39


class Numbers(Table):
    """With what the real table has besides."""

    limit = 1024

    def __init__(self) -> None:
        super().__init__()
        self.cloexec: set[int] = set()

    def lowest(self) -> int:
        return FD

    def put(self, fd: int, file: File, cloexec: bool) -> None:
        assert fd not in self.files
        self.files[fd] = file.add_reference()
        if cloexec:
            self.cloexec.add(fd)


class Log(ChangeLog):
    """`meanwhile`: what the thread does while its log is read next."""

    __slots__ = ("meanwhile",)

    def read_untrusted(self, first: int, count: int) -> Any:
        entries = super().read_untrusted(first, count)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return entries


class Beginning(Program):
    """A program that has just been let go; what it was handed ahead is at LIBRARY and at OTHER."""

    def __init__(self, calls: list[tuple[int, bytes, int]] = CALLS) -> None:
        super().__init__()
        self.memory = memory = bytearray(layout.PATHS + layout.PATHS_MOST * layout.PATH_SIZE)
        self.words = memoryview(memory).cast("Q")
        opened: Any = self.changes
        opened.log = Log(SimpleNamespace(u64=self.words, map=memory), 0, alone=True)  # type: ignore[arg-type]
        opened.log.meanwhile = lambda: None
        opened.log.open(0)
        opened.log.open_gap(self.changes.gap_low, self.changes.gap_high, P)
        self.table = Numbers()
        self.files: list[File] = []
        self.refuses = False
        self.learned = FirstCalls()
        for position, call in enumerate(calls):
            self.learned.note(position, call)
        opened.first_calls = self.learned
        self.cred = Credentials()
        followed = {name: self.entry(name) for name in (ABSENT, LIBRARY, OTHER)}
        task = self.task
        task.files, task.cred = self.table, self.cred
        task.fs = SimpleNamespace(cache_cred=self.cred, followed=followed)
        self.context.in_guest = True
        self.called = GETPID
        self.context.called = lambda: self.called

    def entry(self, name: bytes) -> Any:
        dentry = SimpleNamespace(seq=1, inode=None)
        if name != ABSENT:
            dentry.inode = SimpleNamespace(
                is_regular=True, mode=0o100644, uid=0, gid=0, locks=None, shown=(STATUS, 0), open=self.opening,
                donated=lambda: self.host,
            )  # fmt: skip
        return SimpleNamespace(mount=SimpleNamespace(flags=0)), dentry, 1

    def opening(self, dentry: Any, flags: int, task: Any) -> File:
        if self.refuses:
            raise LinuxError(errno.EIO)
        file = File(self.host or HostFile())
        file.refs = 0
        self.files.append(file)
        return file

    def step(self, k: int, offset: int) -> int:
        return self.word(layout.PATHS + k * layout.PATH_SIZE + offset)

    def make(self, count: int) -> None:
        """The stub makes so many of the calls."""
        made = self.word(layout.PATHS_NEXT) + count
        self.set(layout.PATHS + (made - 1) * layout.PATH_SIZE + layout.PATH_FIRST, self.word(layout.CHANGES_COUNT))
        self.set(layout.OPENED_CLOSED, 0)
        self.set(layout.PATHS_NEXT, made)


def test_each_call_is_foretold_as_this_process_would_find_it() -> None:
    program = Beginning()
    foretell(program.task)
    assert program.live == [layout.PATHS_LIVE // 8]
    assert program.word(layout.PATHS_LIVE) == 3
    assert [program.step(k, layout.PATH_NR) for k in range(3)] == [ACCESS, OPENAT, OPENAT]
    assert [program.step(k, layout.PATH_FLAGS) for k in range(3)] == [4, CLOEXEC, 0]
    assert [program.step(k, layout.PATH_RESULT) for k in range(3)] == [2**64 - errno.ENOENT, FD, FD]
    assert [program.step(k, layout.PATH_NUMBER) for k in range(1, 3)] == [NUMBER, NUMBER]
    at = layout.PATHS + layout.PATH_SIZE
    assert program.memory[at + layout.PATH_NAME :].startswith(LIBRARY + b"\0")
    assert program.step(1, layout.PATH_LENGTH) == len(LIBRARY) + 1
    assert program.memory[at + layout.PATH_STAT :].startswith(STATUS)
    assert program.memory[at + layout.PATH_HEAD :].startswith(HEAD)
    assert program.table.files == {}


def test_nothing_is_foretold_beyond_what_is_at_hand() -> None:
    program = Beginning()
    program.task.fs.followed[LIBRARY][1].seq += 1  # it was renamed
    foretell(program.task)
    assert program.word(layout.PATHS_LIVE) == 1


def test_a_file_that_cannot_be_opened_is_the_programs_to_ask_for() -> None:
    program = Beginning()
    program.refuses = True
    foretell(program.task)
    assert program.word(layout.PATHS_LIVE) == 1


def test_nothing_is_foretold_of_files_that_must_not_be_read() -> None:
    program = Beginning()
    program.task.fs.followed[LIBRARY][1].inode.mode = 0o100000
    program.task.cred = program.task.fs.cache_cred = Credentials(ruid=7, euid=7, suid=7, fsuid=7, cap_effective=0)
    foretell(program.task)
    assert program.word(layout.PATHS_LIVE) <= 1
    assert program.files == []


def test_nothing_is_foretold_to_a_program_that_was_killed_before_it_began() -> None:
    program = Beginning()
    program.task.context_or_none = program.task.mm_or_none = None
    del program.task.context, program.task.mm  # who asks for them has a bug
    foretell(program.task)
    assert program.live == program.files == []


def test_nothing_is_foretold_to_a_program_that_was_stopped_before_it_began() -> None:
    program = Beginning()
    program.context.in_guest = False
    foretell(program.task)
    assert program.live == program.files == []


def test_calls_that_were_made_are_carried_out_with_the_next_event() -> None:
    program = Beginning()
    foretell(program.task)
    program.make(2)
    assert program.table.files == {}
    program.event()
    first, second = program.files
    assert program.table.files == {FD: first}
    assert program.table.cloexec == {FD}
    assert (first.refs, second.refs) == (1, 0)
    assert program.word(layout.PATHS_LIVE) == program.word(layout.PATHS_NEXT) == program.word(layout.OPENED_FD) == 0


def test_what_was_opened_before_was_closed() -> None:
    program = Beginning()
    foretell(program.task)
    program.make(3)
    program.set(layout.OPENED_POSITION, 64)
    program.event()
    first, second = program.files
    assert program.table.files == {FD: second}
    assert (first.refs, second.refs, second.offset) == (0, 1, 64)


def test_others_see_what_was_opened_so_far() -> None:
    program = Beginning()
    foretell(program.task)
    settle_files(program.task)
    assert program.table.files == {}
    program.make(2)
    settle_files(program.task)
    assert program.table.files == {FD: program.files[0]}
    program.set(layout.OPENED_CLOSED, 1)
    settle_files(program.task)
    assert program.table.files == {}
    program.make(1)
    settle_files(program.task)
    assert program.table.files == {FD: program.files[1]}


def test_mappings_are_of_the_file_that_was_opened_when_they_were_made() -> None:
    program = Beginning()
    foretell(program.task)
    program.make(2)
    program.note(NEW_FILE, TOP - 6 * P, 2 * P, 1)
    program.make(1)
    program.note(NEW_FILE, TOP - 8 * P, 2 * P, 1)
    areas = [(area.start, area.file) for area in program.mm.vmas if area.file is not None]
    first, second = program.files
    assert areas == [(TOP - 8 * P, second), (TOP - 6 * P, first)]
    assert program.killed == []


def test_entries_between_two_looks_are_of_the_file_before_the_next() -> None:
    program = Beginning()
    foretell(program.task)
    program.make(2)
    program.note(NEW_FILE, TOP - 6 * P, 2 * P, 1)
    log: Any = program.changes.log

    def runs_on() -> None:
        program.note(NEW_FILE, TOP - 8 * P, 2 * P, 1)
        program.make(1)
        program.note(NEW_FILE, TOP - 9 * P, P, 1)

    log.meanwhile = runs_on
    for _ in range(2):
        areas = [(area.start, area.file) for area in program.mm.vmas if area.file is not None]
    first, second = program.files
    assert areas == [(TOP - 9 * P, second), (TOP - 8 * P, first), (TOP - 6 * P, first)]
    assert program.killed == []


def test_a_guest_that_claims_more_than_was_foretold_gets_nothing() -> None:
    program = Beginning()
    foretell(program.task)
    program.set(layout.PATHS_NEXT, 4)
    program.event()
    assert program.table.files == {}
    assert [file.refs for file in program.files] == [0, 0]


def test_a_program_that_goes_another_way_is_foretold_less_the_next_time() -> None:
    program = Beginning()
    foretell(program.task)
    program.make(2)
    program.event()
    assert program.learned.calls == CALLS[:2]


def test_a_call_that_was_asked_for_all_the_same_is_foretold_again() -> None:
    program = Beginning()
    foretell(program.task)
    program.make(1)
    program.called = OPENAT
    program.event()
    assert program.learned.calls == CALLS
    assert program.changes.position == 1


def test_another_start_that_goes_another_way_takes_nothing_from_one_that_was_foretold() -> None:
    program = Beginning()
    foretell(program.task)
    program.make(3)
    program.learned.settle(0)
    program.event()
    assert program.table.files == {FD: program.files[1]}


def test_the_end_of_a_program_lets_go_of_what_was_opened_ahead() -> None:
    program = Beginning()
    foretell(program.task)
    program.changes.drop()
    assert [file.refs for file in program.files] == [0, 0]
    assert program.word(layout.PATHS_LIVE) == 0
