"""The send buffer, the receive buffer and the assembler, each against a plain model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.netstackd.storage.assembler import Assembler
from services.netstackd.storage.receive_buffer import ReceiveBuffer
from services.netstackd.storage.send_buffer import SendBuffer

LAP = 50_000
STREAM = random.Random(5).randbytes(200_000)


@pytest.mark.parametrize("seed", range(20))
def test_send_buffer_gives_every_view_of_what_it_holds(seed: int) -> None:
    rng = random.Random(seed)
    base = rng.choice((0, 1, (1 << 32) - 5000))
    buffer = SendBuffer(base)
    views: list[tuple[int, int, bytes | memoryview]] = []
    sent = room = base
    for _ in range(300):
        if rng.random() < 0.5 and buffer.end - base < 150_000:
            size = rng.choice((1, 10, 1000, 4096, 20_000))
            start = buffer.end - base
            lap = LAP - start % LAP  # to the end of the ring
            kind = rng.random()
            if kind < 0.4:
                buffer.append(STREAM[start : start + size])
            elif buffer.growing and kind < 0.9 and buffer.end < room:
                buffer.grow(min(size, room - buffer.end))
            else:
                room = buffer.end + lap
                buffer.share(memoryview(STREAM)[start : start + lap], min(size, lap))
        if buffer.end > sent:
            sent = rng.randrange(sent, buffer.end + 1)
        if sent > buffer.first:
            low = rng.randrange(buffer.first, sent)
            high = rng.randrange(low, sent + 1)
            view = buffer.view(low, high)
            assert view == STREAM[low - base : high - base]
            views.append((low, high, view))
            if rng.random() < 0.3:
                buffer.release(rng.randrange(buffer.first, sent + 1))
        assert len(buffer) == buffer.end - buffer.first
    for low, high, view in views:  # they stay good after release
        assert view == STREAM[low - base : high - base]


def test_send_buffer_does_not_copy_a_large_write_for_its_segments() -> None:
    buffer = SendBuffer(1)
    data = STREAM[:60_000]
    buffer.append(data)
    view = buffer.view(1, 60_001)
    assert view is data
    part = buffer.view(1001, 2001)
    assert isinstance(part, memoryview) and part.obj is data


def test_send_buffer_is_empty_after_everything_is_released() -> None:
    buffer = SendBuffer(10)
    for _ in range(5):
        buffer.append(bytes(5000))
    buffer.view(10, buffer.end)
    buffer.release(buffer.end)
    assert len(buffer) == 0
    assert not buffer._chunks and not buffer._starts


def test_send_buffer_lets_go_of_shared_memory_when_all_of_it_that_was_written_is_released() -> None:
    memory = memoryview(bytearray(STREAM[:10_000]))
    buffer = SendBuffer(10)
    buffer.append(b"first")
    buffer.share(memory[100:], 50)
    buffer.grow(50)
    buffer.release(buffer.end)
    assert not buffer._chunks and not buffer.growing
    buffer.share(memory[200:], 7)
    assert buffer.view(115, 122) == STREAM[200:207]


@pytest.mark.parametrize("seed", range(20))
def test_receive_buffer_gives_back_the_stream(seed: int) -> None:
    rng = random.Random(seed)
    buffer = ReceiveBuffer()
    put = taken = 0
    for _ in range(300):
        if rng.random() < 0.6:
            size = rng.choice((1, 20, 511, 512, 1448, 6000))
            data = STREAM[put : put + size]
            buffer.append(memoryview(data) if rng.random() < 0.5 else data)
            put += len(data)
        count = rng.choice((1, 100, 1448, 10_000))
        skip = rng.randrange(buffer.size + 1)
        assert buffer.peek(count, skip) == STREAM[taken + skip : min(taken + skip + count, put)]
        if rng.random() < 0.5:
            got = buffer.read(count)
            assert got == STREAM[taken : min(taken + count, put)]
            taken += len(got)
        elif buffer.size and rng.random() < 0.2:
            drop = rng.randrange(1, buffer.size + 1)
            buffer.discard(drop)
            taken += drop
        assert buffer.size == put - taken


def test_receive_buffer_does_not_keep_a_frame_for_a_byte() -> None:
    buffer = ReceiveBuffer()
    frame = bytes(1500)
    for index in range(100):
        buffer.append(memoryview(frame)[index : index + 1])
    assert all(type(chunk) is bytearray for chunk in buffer._chunks)
    assert len(buffer._chunks) == 1


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), max_size=40), st.integers(0, 1 << 33))
def test_assembler_like_a_bitmap(pieces: list[tuple[int, int]], base: int) -> None:
    assembler = Assembler()
    held = [False] * 400
    for start, size in pieces:
        duplicate = assembler.add(base + start, STREAM[start : start + size])
        overlap = [index for index in range(start, start + size) if held[index]]
        if overlap:
            assert duplicate is not None
            first, end = duplicate[0] - base, duplicate[1] - base
            assert first == overlap[0] and all(held[first:end])
        else:
            assert duplicate is None
        held[start : start + size] = [True] * size
        runs = []
        for index, there in enumerate([*held, False]):
            if there and (not index or not held[index - 1]):
                runs.append([index])
            elif not there and index and held[index - 1]:
                runs[-1].append(index)
        assert [[item.start - base, item.end - base] for item in assembler.ranges] == runs
        assert assembler.size == sum(held)
        assert sorted(map(id, assembler.recent)) == sorted(map(id, assembler.ranges))
        newest = assembler.recent[0]
        assert newest.start <= base + start and base + start + size <= newest.end
    end = 0
    while end < 400 and held[end]:
        end += 1
    assert b"".join(assembler.take(base)) == STREAM[:end]
    assert assembler.size == sum(held[end:])


def test_assembler_keeps_what_came_first() -> None:
    assembler = Assembler()
    assembler.add(10, b"first")
    assembler.add(8, b"XXXXXXXXX")
    assert b"".join(assembler.take(8)) == b"XXfirstXX"


def test_assembler_gives_up_the_farthest_range() -> None:
    assembler = Assembler()
    assembler.add(10, b"aaaa")
    assembler.add(20, b"bbb")
    assembler.add(23, b"cc")
    assert assembler.drop_last() == 5
    assert assembler.size == 4 and assembler.pieces() == 1
    assert b"".join(assembler.take(10)) == b"aaaa"
    assert assembler.drop_last() == 0


def test_assembler_drops_what_lies_before() -> None:
    assembler = Assembler()
    assembler.add(10, b"0123456789")
    assert assembler.take(15) == [b"56789"]
    assert assembler.size == 0 and not assembler.recent
