"""The stub's reads and writes of an eventfd's counter (stub/counters.S), by a real guest: what is done without event,
what is told, what becomes an ordinary call, what poll and select find; and that nothing is lost or doubled when the
counter is taken meanwhile, or the thread kicked.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from platforms._host import ffi, lib
from platforms.base import Kind, Op
from platforms.systrap import layout
from platforms.systrap.file_rows import unit_address
from platforms.testing import contract
from platforms.testing.scripted import Call
from protocol.abi import poll_h as po
from protocol.rings import CONSUMER_WAITS, PRODUCER_WAITS
from tests.platforms.test_contract import assemble, run_apart
from tests.platforms.test_polls import POLL, PPOLL, SELECT, Polled, bit
from tests.platforms.test_rings import ARGUMENTS, BUFFER, FD, READ, WRITE, local

COUNTER = 6
MOST, HELD = layout.COUNTER_MAX, layout.COUNTER_HELD
PAGE = 4096
WHERE = contract.BASE + 0x100_0000


class Counter(Polled):
    """A guest with an eventfd, whose counter we have as well (and what others of `Polled` it has)."""

    def __init__(self, harness: Any, by_one: bool = False) -> None:
        super().__init__(harness)
        fd = os.memfd_create("counter")
        os.ftruncate(fd, PAGE)
        self.page = mmap.mmap(fd, PAGE)
        self.value = memoryview(self.page).cast("Q")
        self.flags = memoryview(self.page).cast("I")
        self.at = ffi.from_buffer(self.page)
        unit = 0x1234  # no digit of it is another's
        window = Op(9, (unit_address(unit), PAGE, 3, 0x11, 0, 0), fd)
        assert contract.ops(harness, self.context, window) == [unit_address(unit)]
        os.close(fd)
        self.unit = unit
        self.rows.set_counter(COUNTER, unit, by_one, True)

    def hold(self) -> int:
        return int(lib.sentrio_exchange(self.at, HELD))

    def put(self, value: int, count: int = 8) -> int:
        """write(2) of it: the result of one that did not ask."""
        self.write(BUFFER, struct.pack("<Q", value))
        self.run(WRITE, COUNTER, BUFFER, count)
        return self.result()

    def get(self) -> int:
        """What read(2) gave; it did not ask."""
        self.run(READ, COUNTER, BUFFER, 8)
        assert self.result() == 8
        return int.from_bytes(self.read(BUFFER, 8), "little")

    def asks(self, number: int, *args: int) -> bool:
        """Whether the call is an ordinary one, with the arguments and the counter as they were."""
        before = self.value[0]
        self.run(number, *args)
        if (self.context.kind, self.context.nr) != (Kind.SYSCALL_FAST, number):
            return False
        assert self.context.args[:3] == args
        return self.trapped(0x777) == 0x777 and self.value[0] == before


def reads_and_writes_move_it(harness: Any) -> None:
    counter = Counter(harness)
    assert counter.put(5) == 8
    assert counter.put(0) == 8
    assert counter.put(1 << 40) == 8
    assert counter.value[0] == (1 << 40) + 5
    counter.write(BUFFER + 8, b"beside")
    assert counter.get() == (1 << 40) + 5
    assert counter.read(BUFFER + 8, 6) == b"beside"
    assert counter.value[0] == 0
    assert counter.put(MOST) == 8
    assert counter.get() == MOST


def a_semaphore_gives_ones(harness: Any) -> None:
    counter = Counter(harness, by_one=True)
    assert counter.put(MOST) == 8
    assert counter.get() == 1
    assert counter.value[0] == MOST - 1
    counter.value[0] = 1
    assert counter.get() == 1
    assert counter.asks(READ, COUNTER, BUFFER, 8)


def what_is_not_plain_is_an_ordinary_call(harness: Any) -> None:
    for by_one in (False, True):
        counter = Counter(harness, by_one)
        for value in (0, HELD):
            counter.value[0] = value
            assert counter.asks(READ, COUNTER, BUFFER, 8), value
        counter.value[0] = 3
        for number in (READ, WRITE):
            for address, count in ((BUFFER, 7), (BUFFER, 9), (BUFFER, 0), (0x666000, 8), (1 << 63, 8)):
                assert counter.asks(number, COUNTER, address, count), (number, address, count)
            assert counter.asks(number, COUNTER + 1, BUFFER, 8)
            assert counter.asks(number, COUNTER, BUFFER + 4 * PAGE - 4, 8)
        for value, added in ((1, MOST), (2, MOST), (1, HELD), (0, HELD), (HELD, 0), (HELD, 1), (MOST, 1)):
            counter.value[0] = value
            counter.write(BUFFER, struct.pack("<Q", added))
            assert counter.asks(WRITE, COUNTER, BUFFER, 8), (value, added)
        counter.rows.set_counter(COUNTER, counter.unit + 1, by_one, True)  # a window that is gone
        for number in (READ, WRITE):
            assert counter.asks(number, COUNTER, BUFFER, 8)
        counter.context.space.release()


def who_waits_is_told_of(harness: Any) -> None:
    counter = Counter(harness)
    context = counter.context
    for number, ours, other in ((WRITE, CONSUMER_WAITS, PRODUCER_WAITS), (READ, PRODUCER_WAITS, CONSUMER_WAITS)):
        counter.value[0] = 4
        counter.write(BUFFER, struct.pack("<Q", 6))
        counter.flags[ours // 4], counter.flags[other // 4] = 1, 0
        args = (COUNTER, BUFFER, 8, 0x10, 0x11, 0x12)
        counter.run(number, *args)
        assert (context.kind, context.nr, context.args[0]) == (Kind.RING_MOVED, 8, COUNTER)
        assert counter.value[0] == (10 if number == WRITE else 0)  # it is done
        assert counter.trapped(8) == 8
        assert tuple(getattr(context.regs, name) for name in ARGUMENTS) == args
        counter.value[0] = 4
        counter.flags[ours // 4], counter.flags[other // 4] = 0, 1
        counter.run(number, *args)
        assert counter.result() == 8
        assert tuple(getattr(context.regs, name) for name in ARGUMENTS) == args


def polls_tell_what_it_has(harness: Any) -> None:
    counter = Counter(harness)
    every = po.POLLIN | po.POLLOUT | po.POLLPRI | po.POLLRDNORM
    for value, bits in ((0, po.POLLOUT), (1, po.POLLIN | po.POLLOUT), (MOST - 1, 5), (MOST, po.POLLIN)):
        counter.value[0] = value
        for number in (POLL, PPOLL):
            timeout = 0 if number == POLL else BUFFER + 0x800
            counter.write(BUFFER + 0x800, bytes(16))
            assert counter.poll([(COUNTER, every)], timeout, number) == (1, [bits]), (value, number)
        readable, writable = bit(COUNTER) * (bits & 1), bit(COUNTER) * (bits >> 2 & 1)
        sets = bit(COUNTER), bit(COUNTER), bit(COUNTER)
        wanted = (bits.bit_count(), (readable, writable, 0), (0, 0))
        assert counter.select(SELECT, sets, (0, 0)) == wanted
    counter.value[0] = HELD
    assert counter.poll([(COUNTER, every)], 0) is None
    assert counter.select(SELECT, sets, (0, 0)) is None
    counter.value[0] = 0
    assert counter.poll([(COUNTER, po.POLLIN)], 5) is None  # it would wait
    assert counter.poll([(COUNTER, po.POLLIN), (FD, po.POLLOUT)], 5) == (1, [0, po.POLLOUT])
    counter.rows.set_counter(COUNTER, counter.unit, False, False)  # not to be polled
    assert counter.poll([(COUNTER, po.POLLIN)], 0) is None
    assert counter.put(3) == 8


def again_and_again(body: bytes, counted: bytes) -> bytes:
    """`body`, a call, until it gives 0: then one that traps. `counted`: what is done after each; rbx is 0 at first."""
    turn = body + b"\x48\x85\xc0" + bytes([0x74, len(counted) + 2]) + counted  # test %rax,%rax; jz over
    return b"\x31\xdb" + turn + b"\xeb" + struct.pack("b", -(len(turn) + 2)) + assemble((Call(39),))


def adding(image: Any) -> bytes:
    """Adds what is at BUFFER, and counts how often that was done."""
    return again_and_again(local(image, WHERE + 2, WRITE, COUNTER, BUFFER, 8)[:-3], b"\x48\xff\xc3")


def taking(image: Any) -> bytes:
    """Takes, and sums up what."""
    call = local(image, WHERE + 2, READ, COUNTER, BUFFER, 8)[:-3]
    return again_and_again(call, b"\x48\xb9" + struct.pack("<Q", BUFFER) + b"\x48\x03\x19")  # add (BUFFER),%rbx


def a_counter_taken_meanwhile_loses_nothing(harness: Any) -> None:
    for turn in range(40):
        counter = Counter(harness)
        context = counter.context
        counter.write(BUFFER, struct.pack("<Q", 1))
        counter.load(adding(harness.platform.image))
        while not counter.value[0]:
            pass
        until = time.monotonic() + turn * 1e-5
        while time.monotonic() < until:
            pass
        taken = counter.hold()
        contract.collect(harness)
        assert (context.kind, context.nr) == (Kind.SYSCALL_FAST, WRITE)
        assert counter.value[0] == HELD
        context.resume(0)
        contract.collect(harness)
        assert context.regs.rbx == taken
        context.space.release()


class Kicked(Counter):
    """A guest that adds 1 for ever, or takes; `done`: what we took, or added. seen: events by kind."""

    def __init__(self, harness: Any, number: int) -> None:
        super().__init__(harness)
        self.number = number
        self.done = 0
        self.seen: dict[int, int] = {}
        self.flag = (CONSUMER_WAITS if number == WRITE else PRODUCER_WAITS) // 4
        self.write(BUFFER, struct.pack("<Q", 1))
        self.load((adding if number == WRITE else taking)(harness.platform.image))

    def disturb(self, wait: bool) -> None:
        """A kick, while we take the counter, do our part, and put it back."""
        self.context.interrupt()
        self.flags[self.flag] = wait
        value = self.hold()
        self.done += value if self.number == WRITE else 3
        self.value[0] = 0 if self.number == WRITE else value + 3

    def serve(self) -> bool:
        """The event that came. Whether it was an ordinary call, of which nothing was done: it waits for its answer."""
        kind = self.context.kind
        self.seen[kind] = self.seen.get(kind, 0) + 1
        if kind == Kind.INTERRUPTED:
            self.context.resume_registers()
        elif kind == Kind.RING_MOVED:
            assert self.context.nr == 8
            self.context.resume(8)
        else:
            assert (kind, self.context.nr) == (Kind.SYSCALL_FAST, self.number)
        return kind == Kind.SYSCALL_FAST

    def do_call(self) -> None:
        """What the ordinary call asks for."""
        value = self.hold()
        if self.number == READ:
            self.write(BUFFER, struct.pack("<Q", value))
        self.value[0] = value + 1 if self.number == WRITE else 0
        self.context.resume(8)


def kicks_lose_and_double_nothing(harness: Any) -> None:
    """Whatever a kick hits, while somebody else takes the counter and puts it back, and while one waits."""
    for number in (WRITE, READ):
        guest = Kicked(harness, number)
        end = time.monotonic() + 1.5
        turns = 0
        while time.monotonic() < end or len(guest.seen) < 3:
            turns += 1
            guest.disturb(wait=turns % 8 == 0)
            for _ in harness.platform.collect(20_000):
                if guest.serve():
                    guest.do_call()
        left = guest.hold()  # and not put back
        guest.event()
        while not guest.serve():
            guest.event()
        guest.context.resume(0)
        contract.collect(harness)
        assert guest.context.regs.rbx == (guest.done + left if number == WRITE else guest.done - left), guest.seen
        guest.context.space.release()


@pytest.mark.parametrize(
    "check",
    (
        reads_and_writes_move_it,
        a_semaphore_gives_ones,
        what_is_not_plain_is_an_ordinary_call,
        who_waits_is_told_of,
        polls_tell_what_it_has,
        a_counter_taken_meanwhile_loses_nothing,
        kicks_lose_and_double_nothing,
    ),
    ids=lambda check: check.__name__,
)
def test_counters(check: Callable[[Any], None]) -> None:
    run_apart(check)
