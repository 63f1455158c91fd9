"""The Sentry's side of local mappings: what a stub noted is recorded before anyone looks, and lies are not."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from platforms.systrap import layout
from platforms.systrap.map_log import MapLog
from protocol.abi import resource_h as rh
from services.sentry.errors import LinuxError
from services.sentry.kernel.limits import default_limits
from services.sentry.kernel.waiter import FinalOps
from services.sentry.mm.address_space import AddressSpace
from services.sentry.mm.local_maps import LocalMaps, is_local
from services.sentry.mm.patching import try_patch
from services.sentry.mm.vma_set import Vma
from services.sentry.syscalls.memory import sys_madvise, sys_mmap, sys_mremap, sys_munmap

P = 4096
ANON = 0x22
COUNT = (1 << layout.MAP_COUNT_BITS) - 1


class Stub:
    """What stub/local_maps.S does, on the same memory; `asked`: how often it could not."""

    def __init__(self, words: memoryview) -> None:
        self.words = words
        self.asked = 0

    def word(self, offset: int) -> int:
        return int(self.words[offset // 8])

    def mmap(self, length: int, prot: int = 3) -> int:
        count = self.word(layout.MAP_HEAD) & COUNT
        top = self.word(layout.MAP_ENTRIES + 8 * count) & -P
        low = self.word(layout.MAP_LOW)
        if length < self.word(layout.MAP_LEAST) or count >= layout.MAP_MOST or not low or top - length < low:
            self.asked += 1
            return -1
        self.words[layout.MAP_ENTRIES // 8 + count + 1] = (top - length) | prot
        self.words[layout.MAP_HEAD // 8] += COUNT + 2
        return top - length

    def munmap(self, start: int, length: int) -> bool:
        count = self.word(layout.MAP_HEAD) & COUNT
        if not count or self.word(layout.MAP_ENTRIES + 8 * count) & -P != start:
            return False
        if (self.word(layout.MAP_ENTRIES + 8 * count - 8) & -P) - start != length:
            return False
        self.words[layout.MAP_HEAD // 8] += COUNT
        return True


class Guest:
    """One address space with a stub that maps by itself, after one mmap of two pages from a patched call site."""

    def __init__(self, limits: dict[int, int] | None = None) -> None:
        self.words = memoryview(bytearray(layout.SLOT_SIZE)).cast("Q")
        self.stub = Stub(self.words)
        self.killed: list[str] = []
        self.context: Any = SimpleNamespace(in_guest=False, dead=False, destroy=self.killed.append)
        self.mm = AddressSpace()
        log = MapLog(SimpleNamespace(u64=self.words), 0)  # type: ignore[arg-type]
        self.mm.local_maps = LocalMaps(self.mm, log)
        self.mm.fast = self.context
        self.mm.mmap_top = 0x7000_0000_0000
        self.group = SimpleNamespace(rlimits=default_limits())
        for resource, limit in (limits or {}).items():
            self.group.rlimits[resource] = (limit, rh.RLIM_INFINITY)
        self.task: Any = SimpleNamespace(mm=self.mm, context=self.context, group=self.group)
        self.first = self.ask(2 * P)

    def ask(self, length: int, prot: int = 3, flags: int = ANON, addr: int = 0) -> int:
        """mmap(2) the long way."""
        outcome = sys_mmap(self.task, addr, length, prot, flags, -1, 0)
        assert isinstance(outcome, FinalOps)
        outcome.note()
        return outcome.result

    def areas(self) -> list[tuple[int, int, int]]:
        """(start, length, protection), relative to the first mapping, in pages."""
        return [((a.start - self.first) // P, a.length // P, a.prot) for a in self.mm.vmas]


def test_new_mappings_lie_below_the_last_and_are_seen_by_whoever_looks() -> None:
    guest = Guest()
    a = guest.stub.mmap(P, 1)
    b = guest.stub.mmap(3 * P)
    assert (a, b) == (guest.first - P, guest.first - 4 * P)
    assert guest.areas() == [(-4, 3, 3), (-1, 1, 1), (0, 2, 3)]
    assert guest.mm.total_pages == 6
    assert guest.mm.data_pages == 5
    assert guest.stub.asked == 0
    assert guest.ask(P) == guest.first - 5 * P  # what the Sentry places itself goes below them


def test_equal_neighbours_are_one_area() -> None:
    guest = Guest()
    guest.stub.mmap(P)
    guest.stub.mmap(P)
    assert guest.areas() == [(-2, 4, 3)]


def test_the_newest_is_given_back_and_its_room_used_again() -> None:
    guest = Guest()
    for _ in range(5):
        a = guest.stub.mmap(2 * P)
        b = guest.stub.mmap(P)
        assert guest.stub.munmap(b, P)
        assert guest.stub.munmap(a, 2 * P)
    assert guest.stub.munmap(guest.first, 2 * P)  # what the grant began with, too
    assert guest.areas() == []
    assert guest.mm.total_pages == 0
    assert guest.stub.mmap(2 * P) == guest.first


def test_looking_while_it_runs_leaves_the_log_to_the_thread() -> None:
    guest = Guest()
    guest.context.in_guest = True
    a = guest.stub.mmap(P, 1)
    assert guest.areas() == [(-1, 1, 1), (0, 2, 3)]
    b = guest.stub.mmap(P, 0)
    assert guest.areas() == [(-2, 1, 0), (-1, 1, 1), (0, 2, 3)]
    assert guest.stub.munmap(b, P)
    assert guest.stub.munmap(a, P)
    c = guest.stub.mmap(2 * P, 0)
    assert guest.areas() == [(-2, 2, 0), (0, 2, 3)]
    assert guest.stub.munmap(c, 2 * P)
    assert guest.areas() == [(0, 2, 3)]
    assert guest.mm.total_pages == 2


def test_held_thread_loses_its_log_but_not_its_grant() -> None:
    guest = Guest()
    a = guest.stub.mmap(P, 1)
    guest.areas()
    assert not guest.stub.munmap(a, P)  # it is an ordinary mapping now
    assert guest.stub.mmap(P, 0) == a - P


def test_another_change_of_the_areas_ends_the_grant() -> None:
    guest = Guest()
    a = guest.stub.mmap(P, 1)
    outcome = sys_munmap(guest.task, a, P)
    assert isinstance(outcome, FinalOps) and outcome.settled is not None
    assert guest.stub.mmap(P) == -1  # before the change is recorded, too
    outcome.settled()
    assert guest.areas() == [(0, 2, 3)]
    assert guest.mm.granted is None
    assert guest.ask(P, 1) == a
    assert guest.stub.mmap(P) == a - P


def test_what_might_fit_into_a_hole_above_is_asked_for() -> None:
    guest = Guest()
    top = guest.first
    for _ in range(3):
        top = guest.ask(4 * P, 1)
    sys_munmap(guest.task, top + 4 * P, 4 * P).settled()  # type: ignore[union-attr]
    assert guest.ask(5 * P) == top - 5 * P
    assert guest.stub.mmap(4 * P) == -1
    assert guest.stub.mmap(5 * P) == top - 10 * P
    assert guest.ask(4 * P) == top + 4 * P


def test_a_hole_is_granted_only_as_far_as_it_goes() -> None:
    guest = Guest()
    middle = guest.ask(8 * P, 1)
    guest.ask(P, 0)
    sys_munmap(guest.task, middle, 8 * P).settled()  # type: ignore[union-attr]
    assert guest.ask(2 * P) == middle + 6 * P
    assert guest.stub.mmap(6 * P) == middle
    assert guest.stub.mmap(P) == -1


@pytest.mark.parametrize("resource", [rh.RLIMIT_AS, rh.RLIMIT_DATA])
def test_limits_bound_the_grant(resource: int) -> None:
    guest = Guest({resource: 5 * P + 100})
    assert guest.stub.mmap(4 * P) == -1
    assert guest.stub.mmap(3 * P) == guest.first - 3 * P
    assert guest.stub.mmap(P) == -1


def test_second_user_and_new_limits_end_the_grant() -> None:
    guest = Guest()
    guest.stub.mmap(P)
    guest.mm.add_user()
    assert guest.stub.mmap(P) == -1
    assert (guest.mm.total_pages, guest.mm.granted) == (3, None)
    guest.ask(P)
    assert guest.mm.granted is None  # nor is there a new one
    guest.mm.users -= 1
    guest.ask(P)
    guest.context.in_guest = True  # another process sets a limit
    guest.mm.revoke_grant()
    assert guest.stub.mmap(P) == -1
    guest.context.in_guest = False
    assert (guest.mm.total_pages, guest.mm.granted) == (5, None)


def test_fork_takes_what_the_log_says_along() -> None:
    guest = Guest()
    guest.stub.mmap(P, 1)
    child = guest.mm.fork()
    assert [(a.start - guest.first) // P for a in child.vmas] == [-1, 0]
    assert child.granted is None
    guest.stub.mmap(P, 0)
    assert len(list(child.vmas)) == 2
    assert len(guest.areas()) == 3


def test_released_memory_is_not_looked_at_any_more() -> None:
    guest = Guest()
    guest.mm.space = SimpleNamespace(release=lambda: guest.words.release())
    guest.mm.release()
    assert guest.mm.granted is None
    assert list(guest.mm.vmas) == []


def test_copies_travel_with_the_answer_but_nothing_relies_on_what_the_stub_may_unmap() -> None:
    guest = Guest()
    a = guest.stub.mmap(P)
    guest.mm.write(a + 8, b"abc")
    assert (guest.mm.pending_addr, guest.mm.pending) == (a + 8, b"abc")
    guest.mm.pending = None
    assert guest.stub.munmap(a, P)
    sent: list[int] = []
    guest.mm.space = SimpleNamespace(vm_pid=sent)
    with pytest.raises(TypeError):  # it goes to the host's process_vm_writev, which will tell
        guest.mm.write(a + 8, b"abc")
    assert guest.mm.pending is None


def _entry(guest: Guest, word: int) -> None:
    guest.words[layout.MAP_ENTRIES // 8 + 2] = word
    guest.words[layout.MAP_HEAD // 8] += COUNT + 2


LIES = {
    "above the one before": lambda first: first | 3,
    "below the grant": lambda first: first - (512 << 20) | 3,
    "nowhere": lambda first: 3,
    "beyond all addresses": lambda first: 2**64 - P,
    "executable": lambda first: first - P | 7,
    "odd": lambda first: first - P | 0x803,
    "longer than the stub maps": lambda first: first - layout.MAP_MAX - P | 3,
}


@pytest.mark.parametrize("what", LIES)
def test_entry_that_no_stub_writes_ends_its_process_and_is_not_recorded(what: str) -> None:
    guest = Guest()
    _entry(guest, LIES[what](guest.first))
    assert guest.areas() == [(0, 2, 3)]
    assert len(guest.killed) == 1


def test_more_entries_than_there_is_room_for_are_a_lie() -> None:
    guest = Guest()
    guest.words[layout.MAP_HEAD // 8] = 1 << 40 | layout.MAP_MOST + 1
    assert guest.areas() == []
    assert len(guest.killed) == 1


def test_a_log_in_the_middle_of_a_change_is_read_again_once_its_thread_is_held() -> None:
    guest = Guest()
    guest.context.in_guest = True
    _entry(guest, guest.first | 3)
    assert guest.areas() == [(0, 2, 3)]
    assert guest.killed == []
    guest.context.in_guest = False
    assert guest.areas() == [(0, 2, 3)]
    assert len(guest.killed) == 1


def test_what_the_stub_may_map() -> None:
    assert is_local(0, ANON) and is_local(3, ANON | 0x4000 | 0x20000)
    for prot, flags in (
        (4, ANON),
        (7, ANON),
        (3, 0x21),
        (3, 2),
        (3, ANON | 0x10),
        (3, ANON | 0x8000),
        (3, ANON | 1 << 40),
    ):
        assert not is_local(prot, flags)
    guest = Guest()
    guest.ask(P, 3, ANON, addr=0x10_0000)
    assert guest.stub.mmap(P) == -1
    guest.mm.fast = None
    guest.ask(P)
    assert guest.stub.mmap(P) == -1


def _advice(guest: Guest) -> tuple[int, int]:
    return guest.stub.word(layout.ADVISE_LOW), guest.stub.word(layout.ADVISE_HIGH)


def test_memory_is_given_back_without_asking_only_between_the_platforms_own_ranges() -> None:
    guest = Guest()
    guest.mm.reserve([(0x1000_0000, 0x2000_0000, b""), (0x3000_0000, 0x4000_0000, b"")])
    for start in (0x5000, 0x2000_0000):
        guest.mm.vmas.insert(Vma(start, start + P, 3))
    for addr, window in (
        (0x5000, (0, 0x1000_0000)),
        (0x2000_0000, (0x2000_0000, 0x3000_0000)),
        (guest.first, (0x4000_0000, 0x7FFF_FFFF_F000)),
    ):
        sys_madvise(guest.task, addr, P, 4)
        assert _advice(guest) == window
        with suppress(LinuxError):
            sys_madvise(guest.task, 0x1000, P, 3)  # MADV_WILLNEED does not give back
        guest.mm.fast = None
        with suppress(LinuxError):
            sys_madvise(guest.task, 0x1000, P, 4)
        guest.mm.fast = guest.context
        assert _advice(guest) == window


def test_an_area_of_the_platforms_own_ends_that(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest()
    sys_madvise(guest.task, guest.first, P, 4)
    assert _advice(guest) != (0, 0)
    site = guest.ask(P, 1)
    area = guest.mm.vmas.find(site)
    assert area is not None
    area.prot = 5
    code = b"\xb8\x27\0\0\0\x0f\x05\0\0\0\0\0\0"  # mov $39,%eax; syscall
    monkeypatch.setattr(AddressSpace, "read", lambda mm, addr, count: code[:count])
    guest.context.run_ops = lambda ops, then: None
    assert try_patch(guest.mm, guest.context, site + 64, 39, lambda: None)
    assert _advice(guest) == (0, 0)


def keep(guest: Guest, pages: int) -> None:
    """As the stub does with the newest mapping."""
    guest.words[layout.MAP_KEPT // 8] += pages * P
    guest.words[layout.ADVISE_HIGH // 8] = 0


def test_what_is_kept_stays_with_the_grant_and_no_longer() -> None:
    guest = Guest()
    a = guest.stub.mmap(2 * P)
    assert guest.stub.munmap(a, 2 * P)
    keep(guest, 2)
    guest.areas()
    assert guest.stub.word(layout.MAP_KEPT) == 2 * P
    guest.ask(P, 1)
    assert guest.stub.word(layout.MAP_KEPT) == 0
    assert guest.mm.kept == (a, guest.first)


def test_the_host_unmaps_what_was_kept_before_it_is_asked_what_is_mapped() -> None:
    guest = Guest()
    keep(guest, 4)
    guest.ask(P, 1)
    outcome: Any = sys_madvise(guest.task, guest.first, P, 4)
    hole = (guest.first - 4 * P, 3 * P)
    assert [(op.nr, op.args[:2]) for op in outcome.ops] == [(11, hole), (28, (guest.first, P))]
    assert _advice(guest)[1] != 0
    assert guest.mm.kept == (0, 0)
    outcome = sys_madvise(guest.task, guest.first, P, 4)
    assert [op.nr for op in outcome.ops] == [28]
    keep(guest, 1)
    outcome = sys_madvise(guest.task, guest.first, P, 4)
    assert [op.nr for op in outcome.ops] == [11, 28]


def test_a_place_that_another_threads_mapping_could_get_is_not_unmapped() -> None:
    guest = Guest()
    keep(guest, 1)
    guest.mm.add_user()
    outcome: Any = sys_madvise(guest.task, guest.first, P, 4)
    assert [op.nr for op in outcome.ops] == [28]
    assert _advice(guest) == (0, 0)


def test_a_child_has_what_its_parent_kept() -> None:
    guest = Guest()
    keep(guest, 1)
    child = guest.mm.fork()
    assert child.kept == guest.mm.kept == (guest.first - P, guest.first)


@pytest.mark.parametrize("kept", [17 * P, P + 1, 2**64 - P])
def test_lies_about_what_is_kept_are_nothing(kept: int) -> None:
    guest = Guest()
    guest.words[layout.MAP_KEPT // 8] = kept
    guest.ask(P, 1)
    assert guest.mm.kept == (0, 0)


def test_memory_that_grows_in_place_first_loses_what_the_host_has_there() -> None:
    guest = Guest()
    posted: list[Any] = []
    guest.context.run_ops = lambda ops, done: posted.extend(ops)
    for kept in (0, P):
        posted.clear()
        guest.words[layout.MAP_KEPT // 8] = kept
        outcome: Any = sys_mremap(guest.task, guest.first, 2 * P, 3 * P, 0, 0)
        outcome.start(lambda thunk: thunk())
        unmapped = [(11, (guest.first + 2 * P, P))] if kept else []
        assert [(op.nr, op.args[:2]) for op in posted] == [*unmapped, (25, (guest.first, 2 * P))]
        guest.mm.forget(guest.first + 2 * P, guest.first + 3 * P)


def test_shared_memory_that_may_only_be_read_is_never_mapped_so_that_others_see_a_write() -> None:
    guest = Guest()
    for flags, max_write, host in ((0x21, True, 0x31), (0x21, False, 0x32), (0x22, True, 0x32), (0x23, False, 0x32)):
        assert guest.mm.map_op(guest.first, P, 1, flags, None, 0, max_write).args[3] == host
