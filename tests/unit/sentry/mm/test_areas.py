"""Address spaces without a guest: names of areas, counts of writable shared mappings, programs that run."""

from __future__ import annotations

import gc
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sentry.errors import LinuxError
from services.sentry.kernel.published_files import PublishedFiles
from services.sentry.kernel.waiter import FinalOps
from services.sentry.mm.address_space import INFINITY, AddressSpace, Record
from services.sentry.mm.vma_set import Vma
from services.sentry.vfs.open_file import Backing

BASE = 0x10_0000


def _space() -> AddressSpace:
    mm = AddressSpace()
    mm.record(BASE, 6 * 4096, 3, False, None, None, 0)
    return mm


class _File:
    def __init__(self) -> None:
        self.refs = 0

    def add_reference(self) -> _File:
        self.refs += 1
        return self

    def close_reference(self) -> None:
        self.refs -= 1


def test_named_area_is_split_off_and_joined_again() -> None:
    mm = _space()
    mm.name_area(BASE + 4096, 2 * 4096, b"buffer")
    assert [(area.length // 4096, area.name) for area in mm.vmas] == [(1, b""), (2, b"[anon:buffer]"), (3, b"")]
    mm.name_area(BASE + 4096, 2 * 4096, None)
    assert [(area.length // 4096, area.name) for area in mm.vmas] == [(6, b"")]


def test_name_for_a_hole_or_a_file_is_refused() -> None:
    mm = _space()
    with pytest.raises(LinuxError) as refused:
        mm.name_area(BASE + 4096, 6 * 4096, b"x")
    assert refused.value.errno == 12
    file: Any = _File().add_reference()
    mm.record(BASE + 6 * 4096, 4096, 1, False, file, Backing(3, 0, True, file), 0)
    with pytest.raises(LinuxError) as refused:
        mm.name_area(BASE + 6 * 4096, 4096, b"x")
    assert refused.value.errno == 9


def test_shared_writable_mappings_are_counted_through_splits_and_forks() -> None:
    mm = _space()
    file: Any = _File().add_reference()
    count = [0]

    def counted(change: int) -> None:
        count[0] += change

    mm.record(BASE, 4 * 4096, 1, True, file, Backing(3, 0, True, file, counted), 0)
    assert count[0] == 1
    child = mm.fork()
    assert count[0] == 1  # one area, which both have until one of them changes
    mm.forget(BASE + 4096, BASE + 2 * 4096)
    assert count[0] == 3
    mm.forget(BASE, BASE + 4 * 4096)
    assert count[0] == 1
    child.release()
    assert (count[0], file.refs) == (0, 0)


def test_mapping_that_may_not_become_writable_is_not_counted() -> None:
    file: Any = _File().add_reference()
    count = [0]

    def counted(change: int) -> None:
        count[0] += change

    backing = Backing(3, 0, True, file, counted)
    Vma(BASE, BASE + 4096, 1, shared=True, file=file, backing=backing, max_write=False).drop()
    Vma(BASE, BASE + 4096, 3, shared=False, file=file.add_reference(), backing=backing).drop()
    assert count[0] == 0


def test_program_stays_unwritable_until_the_last_process_that_runs_it_ends() -> None:
    inode = SimpleNamespace(deny_write=0)
    mm = _space()
    mm.runs(cast(Any, inode))
    child = mm.fork()
    assert inode.deny_write == 2
    mm.release()
    child.release()
    assert inode.deny_write == 0


def test_memory_that_goes_leaves_no_ring_of_references() -> None:
    mm = _space()
    published = PublishedFiles(mm, None, None)
    mm.published = published
    left = mm.areas_now
    mm.release()
    assert mm not in gc.get_referrers(published)
    assert not left.areas


def test_forked_areas_are_each_ones_own_after_a_change() -> None:
    mm = _space()
    file: Any = _File().add_reference()
    mm.record(BASE, 4 * 4096, 3, False, file, Backing(3, 0, True, file), 0)
    mm.record(BASE + 8 * 4096, 4096, 3, False, None, None, 0)
    child = mm.fork()
    assert file.refs == 1
    child.forget(BASE, BASE + 4096)
    assert (mm.vmas.covered(BASE, BASE + 4096), child.vmas.covered(BASE, BASE + 4096)) == (True, False)
    assert file.refs == 2
    grandchild = mm.fork()
    mm.release()
    assert grandchild.vmas.covered(BASE, BASE + 4 * 4096)
    assert file.refs == 2
    grandchild.release()
    child.release()
    assert file.refs == 0


def test_locked_areas_are_not_locked_in_a_forked_child_and_some_are_not_there() -> None:
    mm = AddressSpace()
    for page, name in ((0, "locked"), (2, "dont_fork")):
        mm.record(BASE + page * 4096, 4096, 3, False, None, None, 0)
        setattr(mm.vmas.isolate(BASE + page * 4096, BASE + (page + 1) * 4096)[0], name, True)
    child = mm.fork()
    assert [(area.start - BASE, area.locked) for area in child.vmas] == [(0, False)]
    assert [(area.start - BASE, area.locked) for area in mm.vmas] == [(0, True), (2 * 4096, False)]
    assert child.total_pages == mm.total_pages - 1


def test_replacement_that_fails_leaves_a_hole() -> None:
    mm = _space()
    file: Any = _File()
    file.mmap_backing = lambda: Backing(3, 0, True, file)
    limits = [(INFINITY, INFINITY)] * 16
    replaced = BASE + 4096
    outcome: Any = mm.map(None, replaced, 2 * 4096, 1, 0x12, limits, file)
    assert (type(outcome), file.refs) == (FinalOps, 1)
    outcome.note()
    then: list[Any] = []
    posted: list[Any] = []
    context: Any = SimpleNamespace(run_ops=lambda ops, done: (posted.extend(ops), done([0])))
    outcome = mm.map(context, replaced, 2 * 4096, 1, 0x12, limits, file)
    outcome.end([-12]).start(then.append)
    with pytest.raises(LinuxError) as failed:
        then[0]()
    assert failed.value.errno == 12
    assert [(op.nr, op.args[:2]) for op in posted] == [(11, (replaced, 2 * 4096))]
    assert [(area.start - BASE) // 4096 for area in mm.vmas] == [0, 3]
    assert (mm.total_pages, file.refs) == (4, 0)


def test_change_is_recorded_beside_the_host_and_once() -> None:
    mm = _space()
    limits = [(INFINITY, INFINITY)] * 16
    outcome: Any = mm.map(None, BASE + 4096, 4096, 1, 0x32, limits)
    assert [area.prot for area in mm.vmas] == [3]
    outcome.note()
    assert [area.prot for area in mm.vmas] == [3, 1, 3]
    mm.record(BASE + 4096, 4096, 5, False, None, None, 0)  # what happened since is not undone by the end of the call
    assert outcome.end([BASE + 4096]) == BASE + 4096
    assert [area.prot for area in mm.vmas] == [3, 5, 3]


def test_protection_that_the_host_refuses_is_as_before() -> None:
    mm = _space()
    mm.record(BASE + 4096, 4096, 1, False, None, None, 0)
    outcome: Any = mm.protect(None, BASE, 5 * 4096, 0, [(INFINITY, INFINITY)] * 16)
    outcome.note()
    assert ([(area.length // 4096, area.prot) for area in mm.vmas], mm.data_pages) == ([(5, 0), (1, 3)], 1)
    with pytest.raises(LinuxError) as failed:
        outcome.end([-12])
    assert failed.value.errno == 12
    assert [(area.length // 4096, area.prot) for area in mm.vmas] == [(1, 3), (1, 1), (4, 3)]
    assert (mm.total_pages, mm.data_pages) == (6, 5)


@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(1, 6), st.sampled_from((0, 1, 3)), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_area_takes_the_place_of_what_is_there(steps: list[tuple[int, int, int, bool]]) -> None:
    """Against a table of pages: protection and where in the file; counts of pages and references."""
    mm = AddressSpace()
    file: Any = _File()
    backing = Backing(3, 0, True, file)
    table: dict[int, tuple[int, int]] = {}
    for start, pages, prot, of_file in steps:
        at = BASE + start * 4096
        if of_file:
            mm.record(at, pages * 4096, prot, False, file.add_reference(), backing, 7 * 4096)
        else:
            mm.record(at, pages * 4096, prot, False, None, None, 0)
        table.update({start + page: (prot, 7 + page if of_file else -1) for page in range(pages)})
    seen: dict[int, tuple[int, int]] = {}
    for area in mm.vmas:
        for page in range(area.length // 4096):
            of = area.offset // 4096 + page if area.file is not None else -1
            assert seen.setdefault((area.start - BASE) // 4096 + page, (area.prot, of)) == (area.prot, of)
    assert seen == table
    assert mm.total_pages == len(table)
    assert mm.data_pages == sum(prot == 3 for prot, _ in table.values())
    assert file.refs == sum(area.file is not None for area in mm.vmas)
    assert all(not high.continues(low) for low, high in pairwise(mm.vmas))


def _record(start: int, pages: int, prot: int, file: Any = None, offset: int = 0, name: bytes = b"") -> Record:
    backing = Backing(3, 0, True, file) if file is not None else None
    return BASE + start * 4096, pages * 4096, prot, file, backing, offset * 4096, name


def _plan(*reserved: tuple[int, int]) -> AddressSpace:
    mm = AddressSpace()
    for start, end in reserved:
        mm.reserve([(BASE + start * 4096, BASE + end * 4096, b"")])
    return mm


@pytest.mark.parametrize("overlapping", (False, True))
def test_populating_is_recording_each(overlapping: bool) -> None:
    once, each = _File(), _File()
    spaces = []
    for file in (once, each):
        records = [
            _record(40, 8, 3, name=b"[stack]"),
            _record(0, 2, 1, file),
            _record(2, 3, 1, file, 2),  # goes on from the one before
            _record(5, 2, 5, file, 5),
            _record(6 if overlapping else 7, 2, 3, file, 6),  # a segment that begins within the last page of another
            _record(9, 1, 3),
            _record(10, 1, 3),
        ]
        mm = _plan((20, 30), (60, 61))
        for record in records:
            if record[3] is not None:
                record[3].add_reference()
        if file is once:
            mm.populate(records)
        else:
            for start, length, prot, of, backing, offset, name in records:
                mm.record(start, length, prot, False, of, backing, offset, name)
        spaces.append(mm)
    shown = [[(a.start, a.end, a.prot, a.offset, a.name, a.reserved) for a in mm.vmas] for mm in spaces]
    assert shown[0] == shown[1]
    assert len(shown[0]) == 7
    assert [(mm.total_pages, mm.data_pages) for mm in spaces] == [(19 - overlapping, 12)] * 2
    assert once.refs == each.refs == 3
    for mm in spaces:
        mm.release()
    assert once.refs == each.refs == 0
