"""Rings of bytes in shared memory (protocol/rings.py)."""

from __future__ import annotations

import mmap
import random

import pytest

from protocol.errors import ProtocolViolation
from protocol.rings import CONSUMER_WAITS, DATA, HEAD, SLEEPS, TAIL, Consumer, Producer, is_ring_size, mapping_bytes

SIZE = 4096
WRAP = 0xFFFFFFFFFFFFFFFF


def pair(index: int = 0, start: int = 0) -> tuple[Producer, Consumer, memoryview]:
    memory = memoryview(mmap.mmap(-1, mapping_bytes(SIZE, SIZE)))
    words = memory[index * 256 : index * 256 + 256].cast("Q")
    words[TAIL // 8] = words[HEAD // 8] = start
    offset = DATA + index * SIZE
    return Producer(memory, index, offset, SIZE, start), Consumer(memory, index, offset, SIZE, start), memory


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("start", [0, 4095, WRAP - 5000, WRAP])
def test_what_is_produced_is_consumed_in_order_whatever_the_sizes(index: int, start: int) -> None:
    producer, consumer, _ = pair(index, start)
    chance = random.Random(start)
    sent, got = bytearray(), bytearray()
    for _ in range(3000):
        count = min(chance.randrange(0, 3000), producer.room())
        data = chance.randbytes(count)
        if chance.random() < 0.5:
            producer.write(data)
        else:
            at = 0
            for piece in producer.space(count):
                piece[:] = data[at : at + len(piece)]
                at += len(piece)
            producer.produced(count)
        sent += data
        count = min(chance.randrange(0, 3000), consumer.used())
        for piece in consumer.pieces(count):
            got += piece
        consumer.consumed(count)
        assert producer.room() + consumer.used() == SIZE
    rest = consumer.used()
    skip = min(rest, 7)
    assert b"".join(bytes(piece) for piece in consumer.pieces(rest - skip, skip)) == sent[len(got) + skip :]


def test_a_full_ring_has_no_room_and_an_empty_one_nothing_to_read() -> None:
    producer, consumer, _ = pair()
    assert consumer.used() == 0 and producer.room() == SIZE
    producer.write(bytes(SIZE))
    assert consumer.used() == SIZE and producer.room() == 0


def test_the_consumer_is_woken_once_when_it_waits() -> None:
    producer, consumer, _ = pair()
    producer.write(b"x")
    assert not producer.take_waiting()
    assert not consumer.arm()  # there is something
    assert not producer.take_waiting()
    consumer.consumed(1)
    assert consumer.arm()
    producer.write(b"y")
    assert producer.take_waiting() and not producer.take_waiting()


def test_the_producer_is_woken_once_when_it_waits() -> None:
    producer, consumer, _ = pair()
    assert not producer.arm()
    producer.write(bytes(SIZE - 10))
    assert not producer.arm(10)
    assert producer.arm(11)
    consumer.consumed(1)
    assert consumer.take_waiting() and not consumer.take_waiting()
    assert producer.room() == 11


def test_a_side_keeps_its_own_position_whatever_the_other_writes() -> None:
    producer, consumer, memory = pair()
    producer.write(b"abc")
    memory.cast("Q")[HEAD // 8] = 2  # not what the consumer has consumed
    assert bytes(consumer.pieces(3)[0]) == b"abc"
    assert producer.room() == SIZE - 1


@pytest.mark.parametrize("value", [SIZE + 4, WRAP - SIZE, 1 << 63])
def test_positions_that_cannot_be_are_refused(value: int) -> None:
    producer, consumer, memory = pair()
    producer.write(b"abc")
    words = memory.cast("Q")
    words[TAIL // 8] = value
    with pytest.raises(ProtocolViolation):
        consumer.used()
    words[HEAD // 8] = value
    with pytest.raises(ProtocolViolation):
        producer.room()


def test_adopt_takes_over_where_another_part_of_this_side_stopped() -> None:
    producer, consumer, memory = pair()
    twin = Producer(memory, 0, DATA, SIZE)
    twin.write(b"abc")
    producer.adopt()
    producer.write(b"def")
    reader = Consumer(memory, 0, DATA, SIZE)
    reader.consumed(2)
    consumer.adopt()
    assert b"".join(consumer.pieces(consumer.used())) == b"cdef"


@pytest.mark.parametrize(("size", "good"), [(0, False), (4096, True), (5000, False), (1 << 24, True), (1 << 25, False)])
def test_sizes(size: int, good: bool) -> None:
    assert is_ring_size(size) is good


@pytest.mark.parametrize("after", [0, 30, 50])
def test_a_consumer_that_has_seen_some_is_woken_also_when_it_consumes_them_meanwhile(after: int) -> None:
    """As a stub decides that writes: it compares what it has made of the ring with the word."""
    producer, consumer, memory = pair()
    producer.write(bytes(50))
    assert not consumer.arm(49) and consumer.arm(50)
    consumer.consumed(after)
    producer.write(b"x")
    words = memory[:256].cast("Q")
    waits = memory[:256].cast("I")[CONSUMER_WAITS // 4]
    assert 0 < waits <= words[TAIL // 8] - words[HEAD // 8]
    assert producer.take_waiting()


def test_who_sleeps_on_the_word_is_told_apart_from_who_is_rung_for() -> None:
    producer, consumer, memory = pair()
    words = memory[:256].cast("I")
    for said in (SLEEPS, SLEEPS | 1, 1):
        words[CONSUMER_WAITS // 4] = said
        assert producer.take_waiting() == said and producer.take_waiting() == 0
    words[CONSUMER_WAITS // 4] = SLEEPS | 1
    assert consumer.take_sleeping() and not consumer.take_sleeping()
    assert producer.take_waiting() == 1, "who is rung for still is"


def test_a_consumer_that_looks_by_itself_is_not_told() -> None:
    producer, consumer, _ = pair()
    assert consumer.arm()
    consumer.disarm()
    producer.write(b"x")
    assert not producer.take_waiting() and consumer.used() == 1
