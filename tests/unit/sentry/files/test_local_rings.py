"""Rings between two guests without guests: positions, flags, wake-ups, hostile words; pipes and sockets that have them.

`heat` makes the rings that a busy stream gets, as if one thread alone had each end.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.files import pipe as pipe_module
from services.sentry.files.local_rings import LocalEnd, LocalRing, LocalRings
from services.sentry.kernel.waiter import WaitEntry, WaitQueue
from services.sentry.sockets import ringed_stream
from tests.unit.sentry.files.fake_tasks import FlatMemory

SIZE = 4096
AT = 8192


def file_with_queue() -> Any:
    return SimpleNamespace(queue=WaitQueue(), epoll_links=None)


def ring_of(limit: int = SIZE) -> LocalRing:
    return LocalRing(LocalRings(SIZE, 1), 0, SIZE, limit, file_with_queue(), file_with_queue(), po.POLLOUT, 1)


def waiting(queue: WaitQueue, mask: int) -> list[int]:
    """What whoever waits there is woken with."""
    woken: list[int] = []
    queue.add(WaitEntry(woken.append, mask))
    return woken


def words(ring: LocalRing) -> tuple[Any, Any]:
    memory = memoryview(ring.rings.map)
    return memory.cast("Q"), memory.cast("I")


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    before = LocalRings.count
    yield
    LocalRings.count = before


# --- one ring ---
@pytest.mark.parametrize("eights", [100, 8])
def test_bytes_go_around_the_end(eights: int) -> None:
    ring, mm = ring_of(), FlatMemory()
    ring.put(b"x" * (SIZE - 3))
    assert ring.take(SIZE) == b"x" * (SIZE - 3)
    size = 8 * eights
    mm.write(AT, b"abcdefgh" * eights)
    assert ring.write_user(mm, AT, size) == size  # type: ignore[arg-type]
    assert ring.used() == size
    assert ring.read_user(mm, AT + 1000, 4) == 4  # type: ignore[arg-type]
    assert mm.read(AT + 1000, 5) == b"abcd\0"
    assert ring.read_user(mm, AT + 2000, 4000) == size - 4  # type: ignore[arg-type]
    assert mm.read(AT + 2000, size - 4) == b"efgh" + b"abcdefgh" * (eights - 1)
    assert ring.take(1) == b""


def test_no_more_than_the_limit_goes_in() -> None:
    ring, mm = ring_of(1000), FlatMemory()
    assert ring.put(b"1" * 600) == 600
    assert ring.write_user(mm, AT, 600) == 400  # type: ignore[arg-type]
    assert ring.put(b"2") == 0
    assert ring.room() == 0


def test_a_fault_takes_nothing_out_and_puts_nothing_in() -> None:
    ring, mm = ring_of(), FlatMemory()
    ring.put(b"kept")
    with pytest.raises(LinuxError):
        ring.read_user(mm, 0, 4)  # type: ignore[arg-type]
    with pytest.raises(LinuxError):
        ring.write_user(mm, 0, 4)  # type: ignore[arg-type]
    assert ring.take(9) == b"kept"


def test_flags_say_who_waits_and_for_how_much() -> None:
    ring = ring_of(1000)
    _, u32 = words(ring)
    assert ring.is_empty()
    assert u32[128 // 4] == 1
    ring.tell_reader()  # a lie: nothing came
    assert u32[128 // 4] == 1
    ring.put(b"x" * 900)
    ring.tell_reader()
    assert not u32[128 // 4]
    assert not ring.is_empty()
    assert not u32[128 // 4]
    assert ring.lacks(500)
    assert u32[192 // 4] == 500 + SIZE - 1000  # of what the stub sees free
    assert ring.lacks(300)  # who wants less is told first
    assert ring.lacks(700)
    assert u32[192 // 4] == 300 + SIZE - 1000
    ring.take(199)
    assert u32[192 // 4]
    ring.take(1)
    assert not u32[192 // 4]
    assert not ring.starved


def test_a_look_that_finds_what_a_stub_wrote_waits_no_more() -> None:
    ring = ring_of()
    u64, u32 = words(ring)
    assert ring.is_empty()
    assert ring.is_empty()  # with the flag set already
    assert u32[128 // 4] == 1
    u64[0] = 3
    assert not ring.is_empty()
    assert not u32[128 // 4]
    ring.reader.epoll_links = {object(): None}  # type: ignore[dict-item]
    for _ in range(2):
        assert not ring.is_empty()
        assert u32[128 // 4] == 1
    ring.take(3)
    assert ring.is_empty()


def test_an_epoll_is_always_told() -> None:
    ring = ring_of()
    ring.reader.epoll_links = {object(): None}  # type: ignore[dict-item]
    _, u32 = words(ring)
    ring.put(b"x")
    assert not ring.is_empty()
    assert u32[128 // 4] == 1
    ring.tell_reader()
    assert u32[128 // 4] == 1


def test_who_waits_is_woken() -> None:
    ring = ring_of()
    reader, writer = waiting(ring.reader.queue, po.POLLIN), waiting(ring.writer.queue, po.POLLOUT)
    ring.put(b"x" * SIZE)
    assert len(reader) == 1
    assert ring.lacks(100)
    ring.take(99)
    assert not writer
    ring.take(1)
    assert len(writer) == 1
    ring.take(1)
    assert len(writer) == 1  # once for each who found too little


@pytest.mark.parametrize("word", [0, 64])
def test_positions_that_cannot_be_lose_the_bytes(word: int) -> None:
    ring, mm = ring_of(), FlatMemory()
    for value in (SIZE + 1, 1 << 63, (1 << 64) - 1, 12345):
        ring.put(b"lost")
        u64, _ = words(ring)
        u64[word // 8] = value
        u64[(64 - word) // 8] = 0
        if (u64[0] - u64[8]) % (1 << 64) <= SIZE:
            continue
        assert ring.used() == 0
        assert ring.take(10) == b""
        assert ring.read_user(mm, AT, 10) == 0  # type: ignore[arg-type]
        assert ring.put(b"new") == 3
        assert ring.take(10) == b"new"


def test_what_is_taken_over_is_out_of_the_stubs_reach() -> None:
    ring = ring_of()
    ring.put(b"x" * (SIZE - 2))
    ring.take(SIZE - 4)
    ring.put(b"yz")
    ring.put(b"123")
    assert ring.take_over() == b"xxyz123"
    u64, _ = words(ring)
    assert (u64[0] - u64[8]) % (1 << 64) > SIZE
    u64[0] = 1 << 62
    assert ring.take_over() == b""


# --- pipes and sockets ---
Ends = tuple[Any, Any]


@pytest.fixture
def everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pipe_module, ringed_stream):
        monkeypatch.setattr(module, "may_publish", lambda mm, file: True)


def new_pipe() -> Ends:
    inode = SimpleNamespace(
        pipe=None, published=None, open_files=0, writers=0, nlink=1, ino=7, shown=[None], release_last_link=lambda: None
    )
    read_end, write_end = pipe_module.make_pipe(inode)  # type: ignore[arg-type]
    return read_end.add_reference(), write_end.add_reference()


def heat(reader: Any, writer: Any) -> FlatMemory:
    """Use them until there are rings."""
    mm: Any = FlatMemory()
    mm.write(AT, b"h" * 1024)
    for _ in range(2000):
        if reader.ring_end is not None:
            break
        assert writer.write_user(mm, AT, 200) == 200
        assert reader.read_user(mm, AT, 200) == 200
    assert type(reader.ring_end) is type(writer.ring_end) is LocalEnd
    return mm  # type: ignore[no-any-return]


@pytest.fixture
def hot_pipe(everyone: None) -> Ends:
    reader, writer = new_pipe()
    heat(reader, writer)
    return reader, writer


def test_pipe_in_a_ring_is_a_pipe(hot_pipe: Ends) -> None:
    reader, writer = hot_pipe
    mm: Any = FlatMemory()
    mm.write(AT, bytes(range(256)) * 256)
    assert reader.read_user(mm, AT, 1) is None
    assert reader.poll() == 0
    assert writer.poll() == po.POLLOUT | po.POLLWRNORM
    assert writer.write_user(mm, AT, 65_000) == 65_000
    with pytest.raises(WouldBlock):
        writer.write_user(mm, AT, 600)  # all or nothing, up to PIPE_BUF
    assert writer.poll() == 0
    assert writer.write_user(mm, AT, 5000) == 536
    with pytest.raises(WouldBlock):
        writer.write_user(mm, AT, 5000)
    assert reader.poll() == po.POLLIN | po.POLLRDNORM
    assert reader.read(3) == b"\0\1\2"
    assert reader.read_user(mm, AT, 0) == 0
    woken = waiting(writer.queue, po.POLLOUT)
    assert reader.read_user(mm, AT, 4092) == 4092
    assert not woken
    assert len(reader.read(1)) == 1
    assert woken
    assert writer.poll() & po.POLLOUT
    assert writer.ring_end is not None


@pytest.mark.parametrize("what", ["peek", "resize", "direct", "second_writer", "close"])
def test_whatever_else_happens_makes_chunks_of_it(hot_pipe: Ends, what: str) -> None:
    reader, writer = hot_pipe
    assert writer.write(b"abc" * 1000) == 3000
    woken = waiting(reader.queue, po.POLLIN)
    if what == "peek":
        assert reader.peek(4) == b"abca"
    elif what == "resize":
        assert writer.set_capacity(8192) == 8192
    elif what == "direct":
        writer.flags |= fc.O_DIRECT
        assert writer.write(b"packet") == 6
    elif what == "second_writer":
        pipe_module.PipeFile(reader.inode, reader.pipe, fc.O_WRONLY).add_reference()
    else:
        writer.close_reference()
    assert reader.ring_end is writer.ring_end is None
    assert woken
    assert reader.read(3000) == b"abc" * 1000
    if what == "close":
        assert reader.read(1) == b""


def test_no_reader_is_epipe(hot_pipe: Ends) -> None:
    reader, writer = hot_pipe
    reader.close_reference()
    with pytest.raises(LinuxError) as caught:
        writer.write(b"x")
    assert caught.value.errno == errno.EPIPE


def test_a_stubs_report_wakes(hot_pipe: Ends) -> None:
    reader, writer = hot_pipe
    woken = waiting(reader.queue, po.POLLIN)
    reader.ring_end.moved()
    writer.ring_end.moved()
    assert not woken
    ring = writer.ring_end.outgoing
    u64, _ = words(ring)
    u64[0] += 5  # as the stub does
    writer.ring_end.moved()
    assert woken


def test_packets_and_more_ends_have_no_ring(everyone: None) -> None:
    reader, writer = new_pipe()
    writer.flags |= fc.O_DIRECT
    reader.pipe.make_ring(FlatMemory(), reader)
    assert reader.pipe.ring is None
    writer.flags &= ~fc.O_DIRECT
    third = pipe_module.PipeFile(reader.inode, reader.pipe, fc.O_WRONLY).add_reference()
    reader.pipe.make_ring(FlatMemory(), reader)
    assert reader.pipe.ring is None
    third.close_reference()
    reader.pipe.make_ring(FlatMemory(), reader)
    assert reader.pipe.ring is not None


def test_descriptors_are_given_back(everyone: None) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        reader, writer = new_pipe()
        heat(reader, writer)
        reader.close_reference()
        writer.close_reference()
    del reader, writer
    assert len(os.listdir("/proc/self/fd")) <= before
