"""Standing answers without a guest: who gives one, to whom, and what of an epoll may stand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from platforms.systrap import layout
from platforms.systrap.arena import Arena
from platforms.systrap.file_rows import FileRows
from protocol.abi import epoll_h as ep
from services.sentry.files.epoll import EpollFile
from services.sentry.files.eventfd import EventFile
from services.sentry.files.signalfd import SignalFile
from services.sentry.files.timerfd import TimerFile
from services.sentry.kernel.signals import dequeue
from services.sentry.kernel.standing_answers import SAMPLE
from services.sentry.syscalls import event_fds as ef
from services.sentry.syscalls import file_attributes as fa
from services.sentry.syscalls import polling as pl
from services.sentry.vfs.anonymous import anon_inode
from tests.unit.sentry.files.fake_tasks import Guest

HEADER = layout.REGION_SIZE
KEY = (HEADER + layout.ANSWER) // 8


class Patched(Guest):
    """A guest whose calls come from patched sites, and whose rows are in an arena."""

    def __init__(self, arena: Arena) -> None:
        super().__init__()
        self.arena = arena
        mm: Any = self.mm
        mm.fast = object()
        self.task.files.published = SimpleNamespace(mm=mm, rows=FileRows(arena, HEADER))

    def nothing_stands(self) -> bool:
        return not self.arena.u64[KEY] and not self.kernel.standing.live

    def take_back(self) -> None:
        for at in self.kernel.standing.live:
            assert at == KEY
            self.arena.u64[at] = 0
        self.kernel.standing.live.clear()

    def epoll(self, *files: tuple[Any, int]) -> int:
        """An epoll that watches these (file, events); each event's data is the file's place."""
        epfd = self.call(pl.sys_epoll_create1, 0)
        assert epfd is not None
        for index, (file, events) in enumerate(files):
            fd = self.task.files.allocate(file)
            self.task.files.get(epfd).add(fd, file, events, index)
        return epfd

    def event(self, count: int) -> EventFile:
        return EventFile(anon_inode(self.kernel), count, 0)

    def ask(self, epfd: int, limit: int = 8, timeout: int = 0, times: int = SAMPLE) -> int | None:
        result = None
        for _ in range(times):
            result = self.call(pl.sys_epoll_wait, epfd, self.alloc(512), limit, timeout)
        return result


@pytest.fixture
def guest() -> Iterator[Patched]:
    arena = Arena()
    yield Patched(arena)
    os.close(arena.fd)


def answer(guest: Patched) -> tuple[int, int, bytes]:
    """(key without serial, result, data) as the stub reads them."""
    u64 = guest.arena.u64
    at = HEADER + layout.ANSWER_DATA
    words = u64[(HEADER + layout.ANSWER_WORDS) // 8]
    data = bytes(guest.arena.map[at : at + 4 * words])
    return u64[KEY] & 0xFFFFFFFF, u64[(HEADER + layout.ANSWER_RESULT) // 8], data


def test_events_stand_after_some_askings(guest: Patched) -> None:
    epfd = guest.epoll((guest.event(1), ep.EPOLLIN), (guest.event(0), ep.EPOLLIN), (guest.event(1), ep.EPOLLIN))
    assert guest.ask(epfd, times=SAMPLE - 1) == 2
    assert guest.nothing_stands()
    assert guest.ask(epfd, times=1) == 2
    events = ep.EPOLL_EVENT.pack(ep.EPOLLIN, 0) + ep.EPOLL_EVENT.pack(ep.EPOLLIN, 2)
    assert answer(guest) == (layout.ANSWER_EPOLL | epfd, 2, events)
    first = guest.arena.u64[KEY]
    guest.take_back()
    guest.ask(epfd)
    assert guest.arena.u64[KEY] != first  # another serial number


def test_that_nothing_is_ready_stands_for_who_does_not_wait(guest: Patched) -> None:
    epfd = guest.epoll((guest.event(0), ep.EPOLLIN))
    assert guest.ask(epfd) == 0
    assert answer(guest) == (layout.ANSWER_EPOLL | epfd, 0, b"")


def test_one_event_is_the_everyday_case(guest: Patched) -> None:
    epfd = guest.epoll((guest.event(3), ep.EPOLLIN))
    assert guest.ask(epfd, limit=1, timeout=-1) == 1
    assert answer(guest) == (layout.ANSWER_EPOLL | epfd, 1, ep.EPOLL_EVENT.pack(ep.EPOLLIN, 0))


@pytest.mark.parametrize("bits", [ep.EPOLLET, ep.EPOLLONESHOT])
def test_what_asking_changes_does_not_stand(guest: Patched, bits: int) -> None:
    one = guest.event(1)
    epfd = guest.epoll((one, ep.EPOLLIN | bits), (guest.event(1), ep.EPOLLIN))
    epoll: Any = guest.task.files.get(epfd)
    assert epoll.standing() is None
    assert guest.ask(epfd, times=1) == 2
    assert epoll.standing() == ep.EPOLL_EVENT.pack(ep.EPOLLIN, 1)  # it is over


def test_what_time_or_the_host_or_who_asks_may_change_does_not_stand(guest: Patched) -> None:
    timer = TimerFile(anon_inode(guest.kernel), guest.kernel, 1, 0)
    signals = SignalFile(anon_inode(guest.kernel), guest.task, 1, 0, dequeue)
    inner = EpollFile(anon_inode(guest.kernel))
    for file in (timer, signals, inner):
        epfd = guest.epoll((guest.event(1), ep.EPOLLIN), (file, ep.EPOLLIN))
        assert guest.ask(epfd) == 1
        assert guest.nothing_stands()
        epoll: Any = guest.task.files.get(epfd)
        file.epoll_links = dict(file.epoll_links or {})
        next(iter(file.epoll_links)).detach()
        assert epoll.unsteady == 0
        guest.ask(epfd)
        assert not guest.nothing_stands()
        guest.take_back()


def test_too_many_events_do_not_stand(guest: Patched) -> None:
    count = layout.ANSWER_MAX // 12 + 1
    epfd = guest.epoll(*((guest.event(1), ep.EPOLLIN) for _ in range(count)))
    assert guest.ask(epfd, limit=count) == count
    assert guest.nothing_stands()


def test_fewer_than_there_are_in_one_asking_still_lets_all_stand(guest: Patched) -> None:
    epfd = guest.epoll(*((guest.event(1), ep.EPOLLIN) for _ in range(3)))
    assert guest.ask(epfd, limit=2) == 2
    assert answer(guest)[1] == 3


@pytest.mark.parametrize("why", ["trap", "other table"])
def test_not_everyone_is_told(guest: Patched, why: str) -> None:
    epfd = guest.epoll((guest.event(1), ep.EPOLLIN))
    if why == "trap":
        guest.task.mm.fast = None
    else:
        guest.task.files.published.mm = object()
    assert guest.ask(epfd) == 1
    assert guest.nothing_stands()


def test_a_descriptor_beyond_the_key_is_not_told(guest: Patched) -> None:
    rows = FileRows(guest.arena, HEADER)
    assert not rows.put_answer(layout.ANSWER_STAT, layout.ANSWER_FDS, 1, 0, b"")
    assert guest.arena.u64[KEY] == 0


def test_stat_stands_while_the_inode_keeps_it(guest: Patched) -> None:
    fd = guest.call(ef.sys_eventfd2, 0, 0)
    assert fd is not None
    inode = guest.task.files.get(fd).inode
    at = guest.alloc(144)
    for _ in range(2 * SAMPLE):
        assert guest.call(fa.sys_fstat, fd, at) == 0
    assert guest.nothing_stands()  # this one keeps none
    inode.own_cell()[0] = packed = guest.get(at, 144)
    for _ in range(SAMPLE):
        assert guest.call(fa.sys_fstat, fd, at) == 0
    assert answer(guest) == (layout.ANSWER_STAT | fd, 0, packed)
    guest.take_back()
    empty = guest.put(b"\0")
    mm: Any = guest.mm
    mm.read_cstring = lambda addr: b""
    for _ in range(SAMPLE):
        assert guest.call(fa.sys_newfstatat, fd, empty, at, 0x1000) == 0
    assert answer(guest) == (layout.ANSWER_STAT | fd, 0, packed)
