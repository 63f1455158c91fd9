"""An eventfd whose counter lies in shared memory: what the kernel does to it beside stubs, who is told, and its end."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from protocol.abi import epoll_h as ep
from protocol.abi import poll_h as po
from protocol.rings import CONSUMER_WAITS, PRODUCER_WAITS
from services.sentry.errors import WouldBlock
from services.sentry.files import eventfd
from services.sentry.files.local_rings import LocalRings
from services.sentry.files.shared_counter import SharedCounter
from services.sentry.kernel.waiter import WaitEntry
from services.sentry.syscalls import event_fds as ef
from services.sentry.syscalls import polling as pl
from tests.unit.sentry.files.fake_tasks import Guest

MOST = 0xFFFFFFFFFFFFFFFE
HELD = MOST + 1


class Stub:
    """What a stub does with the memory of `file` (stub/counters.S). told: it would have told of what it did."""

    def __init__(self, file: Any) -> None:
        memory = memoryview(file.shared.memory.map)
        self.u64 = memory.cast("Q")
        self.u32 = memory.cast("I")
        self.end = file.shared
        self.told = 0

    def add(self, count: int) -> bool:
        """Whether it did not ask."""
        value = self.u64[0]
        if value + count > MOST:
            return False
        self.u64[0] = value + count
        self._look(CONSUMER_WAITS)
        return True

    def take(self) -> int:
        """0: it asks."""
        value = self.u64[0]
        if value in (0, HELD):
            return 0
        taken: int = 1 if self.end.by_one else value
        self.u64[0] = value - taken
        self._look(PRODUCER_WAITS)
        return taken

    def _look(self, flag: int) -> None:
        if self.u32[flag // 4]:
            self.told += 1
            self.end.moved()


@pytest.fixture(autouse=True)
def none_is_left() -> Iterator[None]:
    before = LocalRings.count
    yield
    LocalRings.count = before


def busy(guest: Guest, flags: int = 0) -> Any:
    """An eventfd whose counter, 0, is shared."""
    fd = guest.call(ef.sys_eventfd2, 0, flags)
    assert fd is not None
    file: Any = guest.task.files.get(fd)
    heat(guest, file)
    return file


def heat(guest: Guest, file: Any) -> None:
    mm: Any = guest.mm
    mm.fast = mm.published = object()
    at = guest.put(struct.pack("<Q", 1))
    for _ in range(eventfd._BUSY + 1 - file.unawaited):
        assert not file.shared
        assert file.write_user(mm, at, 8) == 8
        assert file.read_user(mm, at, 8) == 8
    assert isinstance(file.shared, SharedCounter) and file.ring_end is file.shared


def waiting(file: Any) -> list[int]:
    """Masks that a waiter on the file is woken with, from now on."""
    masks: list[int] = []
    file.queue.add(WaitEntry(masks.append))
    return masks


def pack(value: int) -> bytes:
    return struct.pack("<Q", value)


@pytest.mark.parametrize("semaphore", [0, 1])
def test_stubs_and_kernel_have_one_counter(semaphore: int) -> None:
    guest = Guest()
    file = busy(guest, semaphore)
    stub = Stub(file)
    file.write(pack(5))
    assert stub.add(2)
    assert file.value == 7
    assert file.fdinfo() == b"eventfd-count: %16x\neventfd-semaphore: %d\n" % (7, semaphore)
    assert stub.take() == (1 if semaphore else 7)
    assert stub.add(4)
    assert file.read(8) == pack(1 if semaphore else 4)
    assert file.value == (9 if semaphore else 0)
    assert not stub.told


def test_while_the_kernel_has_it_stubs_ask() -> None:
    file = busy(Guest())
    stub = Stub(file)
    file.write(pack(5))
    assert file.shared.hold() == 5
    assert not stub.add(0) and not stub.add(1) and not stub.take()
    file.shared.put_back(6)
    assert stub.add(0) and stub.take() == 6


def test_a_reader_that_found_nothing_is_told_once() -> None:
    guest = Guest()
    file = busy(guest)
    stub = Stub(file)
    with pytest.raises(WouldBlock):
        file.read(8)
    woken = waiting(file)
    stub.add(1)
    stub.add(1)
    assert stub.told == 1
    assert len(woken) == 1 and woken[0] & po.POLLIN
    assert file.read_user(guest.mm, guest.alloc(8), 8) == 8
    assert file.read_user(guest.mm, guest.alloc(8), 8) is None
    stub.add(1)
    assert stub.told == 2


def test_a_writer_that_found_no_room_is_told_once() -> None:
    file = busy(Guest())
    stub = Stub(file)
    file.write(pack(MOST - 1))
    with pytest.raises(WouldBlock):
        file.write(pack(2))
    assert file.value == MOST - 1
    woken = waiting(file)
    assert stub.take() == MOST - 1
    stub.add(1)
    stub.take()
    assert stub.told == 1
    assert len(woken) == 1 and woken[0] & po.POLLOUT
    assert file.write(pack(2)) == 8


def test_who_polls_is_told_of_what_it_has_not() -> None:
    file = busy(Guest())
    stub = Stub(file)
    assert file.poll() == po.POLLOUT
    stub.add(1)
    assert stub.told == 1
    assert file.poll() == po.POLLIN | po.POLLOUT
    stub.add(MOST - 1)
    assert stub.told == 1
    assert file.poll() == po.POLLIN
    stub.take()
    assert stub.told == 2


def test_kernel_calls_wake_as_before() -> None:
    file = busy(Guest())
    woken = waiting(file)
    file.write(pack(1))
    file.read(8)
    assert woken == [po.POLLIN, po.POLLOUT]


@pytest.mark.parametrize("how", ["epoll", "signal", "row", "revoke"])
def test_what_is_special_takes_it_back_with_its_value(how: str) -> None:
    guest = Guest()
    file = busy(guest)
    stub = Stub(file)
    stub.add(3)
    woken = waiting(file)
    if how == "epoll":
        epoll: Any = guest.task.files.get(guest.call(pl.sys_epoll_create1, 0))
        epoll.add(9, file, ep.EPOLLIN | ep.EPOLLET, 77)
        assert len(epoll.collect(4)) == 12
        assert not epoll.collect(4)
    elif how == "signal":
        file.signal(0)
    elif how == "row":
        file.shared.closed(None)
    else:
        file.ring_end.revoke()
    assert file.shared is None and file.ring_end is None
    assert file.value == 3
    assert woken  # a stub may have been about to tell
    assert not stub.add(1) and not stub.take()
    assert file.unawaited < -eventfd._BUSY
    file.write(pack(1))
    assert file.read(8) == pack(4)
    if how != "epoll":
        file.queue.entries.clear()
        heat(guest, file)


def test_it_overflows_beside_stubs() -> None:
    file = busy(Guest())
    stub = Stub(file)
    stub.add(MOST)
    assert not stub.add(1)
    file.signal()
    assert file.poll() == po.POLLIN | po.POLLERR


def test_its_memory_goes_with_the_last_who_needs_it() -> None:
    guest = Guest()
    before = LocalRings.count
    file = busy(guest)
    assert LocalRings.count == before + 1
    on_its_way = file.shared
    fd = on_its_way.host_fd
    file.release()
    assert LocalRings.count == before
    os.fstat(fd)  # a guest is just being handed it
    del on_its_way
    with pytest.raises(OSError):
        os.fstat(fd)


def test_only_writes_in_a_row_that_nobody_waits_for_count() -> None:
    guest = Guest()
    mm: Any = guest.mm
    mm.fast = mm.published = object()
    file: Any = guest.task.files.get(guest.call(ef.sys_eventfd2, 0, 0))  # type: ignore[arg-type]
    at = guest.put(pack(1))
    entry = WaitEntry(lambda mask: None)
    for k in range(8 * eventfd._BUSY):
        file.queue.add(entry) if k % 32 == 0 else file.queue.remove(entry)
        file.write_user(mm, at, 8)
    assert not file.shared
    mm.fast = None  # and only from a patched site
    for _ in range(2 * eventfd._BUSY):
        file.write_user(mm, at, 8)
    assert not file.shared


def test_where_there_is_no_memory_it_goes_on_without() -> None:
    guest = Guest()
    mm: Any = guest.mm
    mm.fast = mm.published = object()
    LocalRings.count = 1 << 20
    file: Any = guest.task.files.get(guest.call(ef.sys_eventfd2, 0, 0))  # type: ignore[arg-type]
    at = guest.put(pack(1))
    for _ in range(2 * eventfd._BUSY):
        assert file.write_user(mm, at, 8) == 8
    assert not file.shared
    assert file.value == 2 * eventfd._BUSY


def test_whatever_a_guest_writes_there_is_its_counter() -> None:
    guest = Guest()
    file = busy(guest)
    stub = Stub(file)
    for nonsense in (HELD, MOST, 1 << 63, 12345):
        for call in (file.poll, file.fdinfo, lambda: file.write(pack(1)), lambda: file.read(8), file.shared.moved):
            stub.u64[0] = nonsense
            stub.u32[CONSUMER_WAITS // 4] = stub.u32[PRODUCER_WAITS // 4] = nonsense & 0xFFFFFFFF
            try:
                call()
            except WouldBlock:
                assert call is not file.poll
    stub.u64[0] = HELD
    assert file.read(8) == pack(HELD)
    assert stub.add(2) and file.read(8) == pack(2)
