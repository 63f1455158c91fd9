"""The stub's reads and writes of rings (stub/rings.S), by a real guest: what is done without an event, what is told,
what becomes an ordinary call; and that nothing is lost or doubled when a ring is taken away, or a thread kicked.
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
from platforms.systrap.file_rows import FileRows, RingPlace, unit_address
from platforms.systrap.patcher import LOCAL_CALLS
from platforms.testing import contract
from platforms.testing.scripted import Call
from protocol.rings import CONSUMER_WAITS, DATA, SLEEPS, Consumer, Producer
from tests.platforms.test_contract import assemble, run_apart

FD = 5
SIZE = 1 << 12
BUFFER = contract.BASE
_MASK = 0xFFFFFFFFFFFFFFFF
READ, WRITE, SENDTO, RECVFROM = 0, 1, 44, 45
ENOUGH, ROOM_BITS = 1000, 0x104  # POLLOUT | POLLWRNORM
ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


def local(image: Any, at: int, number: int, *args: int) -> bytes:
    """Code for address `at`: the call as from a patched site. The result goes to rbx."""
    code = b""
    loads = ((0x48, 0xBF), (0x48, 0xBE), (0x48, 0xBA), (0x49, 0xBA), (0x49, 0xB8), (0x49, 0xB9))
    for (rex, op), value in zip(loads, (*args, 0, 0, 0, 0, 0, 0), strict=False):
        code += bytes([rex, op]) + struct.pack("<Q", value & _MASK)
    resume = at + len(code) + 5 + 10 + 10 + 3
    code += b"\xb8" + struct.pack("<I", number)
    code += (
        b"\x48\xb9" + struct.pack("<Q", resume) + b"\x49\xbb" + struct.pack("<Q", getattr(image, LOCAL_CALLS[number]))
    )
    return code + b"\x41\xff\xe3" + b"\x48\x89\xc3"


class Streams:
    """A guest with two rings: it reads the first and writes the second; we have the other ends."""

    def __init__(self, harness: Any, limit: int = SIZE, size: int = SIZE, waits: bool = False) -> None:
        self.harness = harness
        self.size = size
        made: list[Any] = []
        harness.platform.new_space(lambda context, result: made.append(context))
        contract._pump(harness, lambda: bool(made))
        self.context = context = made[0]
        fd = os.memfd_create("rings")
        os.ftruncate(fd, DATA + 2 * size)
        self.file = mmap.mmap(fd, DATA + 2 * size)
        memory = memoryview(self.file)
        self.ours_out = Producer(memory, 0, DATA, size)
        self.ours_in = Consumer(memory, 1, DATA + size, size)
        self.theirs_in = Consumer(memory, 0, DATA, size)
        self.theirs_out = Producer(memory, 1, DATA + size, size)
        self.u64 = memory.cast("Q")
        self.u32 = memory.cast("I")
        length = (DATA + 2 * size + 4095) & ~4095
        window = Op(9, (unit_address(1), length, 3, 0x11, 0, 0), fd)
        assert contract.ops(harness, context, contract.mmap_op(BUFFER, 4), window)[-1] == unit_address(1)
        rows: FileRows = context.file_rows()
        first, second = RingPlace(0, DATA, size, size), RingPlace(256, DATA + size, size, limit, ENOUGH, ROOM_BITS)
        self.row = rows.set_rings(FD, 3, 1, first, second, True, True, waits)
        self.rows = rows
        context.use_rows(True)

    def load(self, code: bytes) -> None:
        where = contract.BASE + 0x100_0000
        pages = (len(code) + 4095) // 4096
        harness, context = self.harness, self.context
        assert contract.ops(harness, context, contract.mmap_op(where, pages)) == [where]
        assert contract.write(context, where, code) == len(code)
        assert contract.ops(harness, context, Op(10, (where, pages * 4096, 5, 0, 0, 0))) == [0]
        context.regs.rip = where
        context.regs.rsp = where + 64
        context.resume_registers()

    def run(self, number: int, *args: int) -> Any:
        """The event that follows the call: the next call (39) when there was none; else that of the call."""
        self.begin(number, *args)
        return self.event()

    def event(self) -> Any:
        event = contract.collect(self.harness)
        assert event is self.context
        return event

    def sleep(self, number: int, *args: int) -> None:
        """Begin the call, which finds nothing: it sleeps, or is about to."""
        self.begin(number, *args)
        end = time.monotonic() + 30
        while not (self.u32[CONSUMER_WAITS // 4] & SLEEPS and self.context.sleeps() & 1):
            assert time.monotonic() < end, "it does not sleep"
            time.sleep(1e-4)

    def wake(self) -> None:
        lib.sentrio_futex_wake(ffi.from_buffer(memoryview(self.file)[CONSUMER_WAITS:]))

    def begin(self, number: int, *args: int) -> None:
        where = contract.BASE + 0x100_0000
        image = self.harness.platform.image
        code = local(image, where, number, *args) + b"\xb8" + struct.pack("<I", 39) + b"\x90\x0f\x05"
        self.load(code + assemble((Call(39),)))

    def result(self) -> int:
        """Of the call that was done without an event, or answered."""
        assert (self.context.kind, self.context.nr) == (Kind.SYSCALL, 39)
        return int(self.context.regs.rbx)

    def trapped(self, result: int) -> int:
        """Answer the call with `result`; what the guest got."""
        self.context.resume(result)
        contract.collect(self.harness)
        return self.result()


def reads_take_what_is_there_and_wrap_around(harness: Any) -> None:
    streams = Streams(harness)
    streams.ours_out.write(b"x" * (SIZE - 3))
    streams.run(READ, FD, BUFFER, 8192)
    assert streams.result() == SIZE - 3
    streams.ours_out.write(b"abcdefg")
    for number, args, wanted in (
        (READ, (FD, BUFFER, 5), b"abcde"),
        (RECVFROM, (FD, BUFFER, 1, 0x40, 0, 7), b"f"),
        (READ, (FD, BUFFER, 100), b"g"),
    ):
        streams.run(number, *args)
        assert streams.result() == len(wanted)
        assert contract.read(streams.context, BUFFER, len(wanted))[1] == wanted
    assert streams.u64[64 // 8] == SIZE + 4
    assert contract.read(streams.context, BUFFER + 1, 4)[1] == b"bcde"  # no byte more than asked for


def writes_put_all_or_ask(harness: Any) -> None:
    streams = Streams(harness, limit=4000)
    contract.write(streams.context, BUFFER, bytes(range(256)) * 16)
    streams.run(WRITE, FD, BUFFER, 3999)
    assert streams.result() == 3999
    streams.run(SENDTO, FD, BUFFER, 2, 0x4040, 0, 0)
    assert (streams.context.kind, streams.context.nr) == (Kind.SYSCALL_FAST, SENDTO)
    assert streams.context.args == (FD, BUFFER, 2, 0x4040, 0, 0)
    assert streams.trapped(2) == 2
    assert streams.ours_in.used() == 3999
    assert b"".join(streams.ours_in.pieces(3999)) == (bytes(range(256)) * 16)[:3999]
    streams.ours_in.consumed(3999)
    streams.run(SENDTO, FD, BUFFER, 1000, 0, 0, 0)
    assert streams.result() == 1000
    assert b"".join(streams.ours_in.pieces(1000)) == (bytes(range(256)) * 16)[:1000]


def what_is_not_plain_is_an_ordinary_call(harness: Any) -> None:
    streams = Streams(harness)
    streams.ours_out.write(b"data")
    for number, args in (
        (READ, (FD, BUFFER, 0)),
        (READ, (FD, BUFFER, layout.FILE_LOCAL_MAX + 1)),
        (READ, (FD, 0x666000, 4)),
        (READ, (FD, 1 << 63, 4)),
        (WRITE, (FD, 0x666000, 4)),
        (WRITE, (FD, BUFFER + 4 * 4096 - 2, 4)),
        (RECVFROM, (FD, BUFFER, 4, 2, 0, 0)),
        (RECVFROM, (FD, BUFFER, 4, 0, BUFFER, 0)),
        (SENDTO, (FD, BUFFER, 4, 1, 0, 0)),
        (SENDTO, (FD, BUFFER, 4, 0, BUFFER, 16)),
        (READ, (FD + 1, BUFFER, 4)),
    ):
        streams.run(number, *args)
        context = streams.context
        assert (context.kind, context.nr) == (Kind.SYSCALL_FAST, number), (number, args)
        assert context.args == (args + (0,) * 6)[:6]
        assert streams.trapped(0x777) == 0x777
    assert streams.ours_out.room() == SIZE - 4
    assert streams.ours_in.used() == 0
    streams.rows.set_rings(FD, 3, 1, None, None, True, True)
    for number in (READ, WRITE, SENDTO, RECVFROM):
        streams.run(number, FD, BUFFER, 4)
        assert streams.context.nr == number
        streams.trapped(0)
    first, second = RingPlace(0, DATA, SIZE, SIZE), RingPlace(256, DATA + SIZE, SIZE, SIZE)
    streams.rows.set_rings(FD, 3, 1, first, second, False, True)
    for number in (SENDTO, RECVFROM):  # of no socket
        streams.run(number, FD, BUFFER, 4)
        assert streams.context.nr == number
        streams.trapped(0)


def who_waits_is_told_of(harness: Any) -> None:
    streams = Streams(harness)
    context = streams.context
    assert streams.ours_in.arm()
    contract.write(context, BUFFER, b"hello")
    streams.run(WRITE, FD, BUFFER, 5)
    assert (context.kind, context.nr, context.args[0], context.has_full_frame) == (Kind.RING_MOVED, 5, FD, False)
    assert b"".join(streams.ours_in.pieces(5)) == b"hello"  # it is done
    assert streams.trapped(5) == 5
    streams.ours_out.write(b"y" * SIZE)
    assert streams.ours_out.arm(1000)
    streams.run(READ, FD, BUFFER, 999)
    assert streams.result() == 999  # not so much room yet
    streams.run(READ, FD, BUFFER, 1)
    assert (context.kind, context.nr) == (Kind.RING_MOVED, 1)
    assert streams.u32[192 // 4] == 1000
    streams.u32[192 // 4] = 0
    assert streams.trapped(1) == 1
    streams.run(READ, FD, BUFFER, 1)
    assert streams.result() == 1


def registers_are_kept(harness: Any) -> None:
    for number in (READ, WRITE, SENDTO, RECVFROM):
        for waits in (False, True):
            streams = Streams(harness)
            streams.ours_out.write(b"z" * SIZE)
            if waits:
                assert streams.ours_in.arm()
                assert streams.ours_out.arm()
            args = (FD, BUFFER, 10, 0, 0, 0x99)
            streams.run(number, *args)
            if waits:
                assert streams.context.kind == Kind.RING_MOVED
                assert streams.trapped(10) == 10
            assert streams.result() == 10
            assert tuple(getattr(streams.context.regs, name) for name in ARGUMENTS) == args
            streams.context.space.release()


def positions_that_cannot_be_are_asked_about(harness: Any) -> None:
    streams = Streams(harness)
    context = streams.context
    for word, bad in ((0, SIZE + 1), (0, _MASK), (64, 1), (64, 1 << 63)):
        streams.u64[0] = streams.u64[8] = 0
        streams.u64[word // 8] = bad
        streams.run(READ, FD, BUFFER, 4)
        assert (context.kind, context.nr) == (Kind.SYSCALL_FAST, READ), (word, bad)
        streams.trapped(0)
    for word, bad in ((256, SIZE + 1), (256, _MASK), (320, 1), (320, 1 << 63)):
        streams.u64[256 // 8] = streams.u64[320 // 8] = 0
        streams.u64[word // 8] = bad
        streams.run(WRITE, FD, BUFFER, 4)
        assert (context.kind, context.nr) == (Kind.SYSCALL_FAST, WRITE), (word, bad)
        streams.trapped(0)
    guard = bytes(streams.file[:DATA])
    streams.u64[256 // 8] = streams.u64[320 // 8] = _MASK - 1  # the count goes on through zero
    contract.write(context, BUFFER, b"12345678")
    streams.run(WRITE, FD, BUFFER, 8)
    assert streams.result() == 8
    assert streams.u64[256 // 8] == 6
    assert streams.file[DATA + 2 * SIZE - 2 :] + streams.file[DATA + SIZE :][:6] == b"12345678"
    assert bytes(streams.file[512:DATA]) == guard[512:]


def counting_writer(image: Any, where: int) -> bytes:
    """write(FD, BUFFER, 1) for ever, counted in rbx, until it gives 0: then a call that traps."""
    code = b"\x31\xdb"  # xor %ebx,%ebx
    top = where + len(code)
    body = local(image, top, WRITE, FD, BUFFER, 1)[:-3]
    body += b"\x48\x85\xc0"  # test %rax,%rax
    body += b"\x74\x05"  # jz over
    body += b"\x48\xff\xc3"  # inc %rbx
    body += b"\xeb" + struct.pack("b", -(len(body) + 2))
    return code + body + assemble((Call(39),))


def ring_taken_away_meanwhile_loses_nothing(harness: Any) -> None:
    where = contract.BASE + 0x100_0000
    for turn in range(40):
        streams = Streams(harness, limit=1 << 20, size=1 << 20)
        context = streams.context
        streams.load(counting_writer(harness.platform.image, where))
        while not streams.u64[256 // 8]:
            pass
        time.sleep(turn * 1e-5)
        address = ffi.from_buffer(streams.file) + 256
        taken = lib.sentrio_exchange(ffi.cast("void *", address), 1 << 63)
        contract.collect(harness)
        assert (context.kind, context.nr) == (Kind.SYSCALL_FAST, WRITE)
        context.resume(0)
        contract.collect(harness)
        assert context.regs.rbx == taken
        context.space.release()


def kicks_lose_and_double_nothing(harness: Any) -> None:
    """Whatever a kick hits, the guest's count of bytes is the ring's."""
    where = contract.BASE + 0x100_0000
    streams = Streams(harness, limit=1 << 20, size=1 << 20)
    context = streams.context
    streams.load(counting_writer(harness.platform.image, where))
    seen: dict[int, int] = {}
    end = time.monotonic() + 2
    while time.monotonic() < end:
        context.interrupt()
        for event in harness.platform.collect(20_000):
            seen[event.kind] = seen.get(event.kind, 0) + 1
            streams.ours_in.consumed(streams.ours_in.used())
            if event.kind == Kind.INTERRUPTED:
                context.resume_registers()
            elif event.kind == Kind.RING_MOVED:
                context.resume(context.nr)
            else:
                assert (event.kind, context.nr) == (Kind.SYSCALL_FAST, WRITE)
                streams.theirs_out.adopt()
                streams.theirs_out.write(b"s")
                context.resume(1)
    streams.u32[384 // 4] = 1  # we wait: the next write tells
    while True:
        contract.collect(harness)
        if context.kind == Kind.INTERRUPTED:
            context.resume_registers()
        elif context.kind == Kind.RING_MOVED:
            break
        else:
            streams.theirs_out.adopt()
            streams.theirs_out.write(b"s")
            context.resume(1)
    streams.u32[384 // 4] = 0
    total = streams.u64[256 // 8]
    context.resume(0)  # not counted
    contract.collect(harness)
    assert context.regs.rbx == total - 1
    assert seen[Kind.SYSCALL_FAST] > 5 and seen.get(Kind.RING_MOVED, 0) > 0, seen


def who_may_wait_sleeps_until_there_is_something(harness: Any) -> None:
    streams = Streams(harness, waits=True)
    context = streams.context
    for turn, (number, args) in enumerate(
        ((READ, (FD, BUFFER, 5)), (RECVFROM, (FD, BUFFER, 5, 0, 0, 0x99)), (READ, (FD, BUFFER, 100)))
    ):
        armed = turn & 1  # somebody is to be rung for besides
        streams.u32[CONSUMER_WAITS // 4] = armed
        streams.sleep(number, *args)
        assert context.at_large()
        streams.ours_out.write(b"abcde")
        assert streams.ours_out.take_waiting() == SLEEPS | armed
        streams.wake()
        streams.event()
        assert streams.result() == 5
        assert contract.read(context, BUFFER, 5)[1] == b"abcde"
        assert tuple(getattr(context.regs, name) for name in ARGUMENTS)[: len(args)] == args
        assert context.sleeps() == 2 * turn + 2
        assert streams.ours_out.take_waiting() == 0


def bytes_that_come_while_it_falls_asleep_are_found(harness: Any) -> None:
    """Whatever moment they come in: nothing is woken twice, and nothing sleeps for ever."""
    streams = Streams(harness, waits=True)
    for turn in range(60):
        streams.begin(READ, FD, BUFFER, 1)
        until = time.monotonic() + turn * 5e-6
        while time.monotonic() < until:
            pass
        streams.ours_out.write(b"x")
        if streams.ours_out.take_waiting():
            streams.wake()
        streams.event()
        assert streams.result() == 1 and not streams.context.sleeps() & 1


def who_does_not_want_to_wait_or_may_not_asks(harness: Any) -> None:
    for waits, number, args in (
        (True, RECVFROM, (FD, BUFFER, 5, 0x40, 0, 0)),
        (False, RECVFROM, (FD, BUFFER, 5, 0, 0, 0)),
        (False, READ, (FD, BUFFER, 5)),
    ):
        streams = Streams(harness, waits=waits)
        streams.run(number, *args)
        assert (streams.context.kind, streams.context.nr) == (Kind.SYSCALL_FAST, number)
        assert streams.context.args[: len(args)] == args
        assert not streams.u32[CONSUMER_WAITS // 4]
        streams.context.space.release()


def a_sleeper_that_is_kicked_or_whose_row_goes_asks(harness: Any) -> None:
    for number, args in ((READ, (FD, BUFFER, 5)), (RECVFROM, (FD, BUFFER, 5, 0, 0, 0x99))):
        for how in ("kick", "row", "nothing", "memory"):
            streams = Streams(harness, waits=True)
            context = streams.context
            streams.sleep(number, *args)
            if how == "kick":
                context.interrupt()
            elif how == "row":
                streams.rows.set(FD, 0)
                assert streams.theirs_in.take_sleeping() and not streams.theirs_in.take_sleeping()
                streams.wake()
            elif how == "memory":  # it wakes up to find no ring at all
                streams.rows.set(FD, streams.row & 0xFF)
                streams.theirs_in.take_sleeping()
                streams.wake()
            else:
                assert streams.ours_out.take_waiting() == SLEEPS
                streams.wake()
            streams.event()
            assert (context.kind, context.nr) == (Kind.SYSCALL_FAST, number), how
            assert context.args[: len(args)] == args
            assert context.sleeps() == 2
            assert streams.trapped(3) == 3
            context.space.release()


def a_sleeper_is_called_in_where_many_are_active(harness: Any) -> None:
    streams = Streams(harness, waits=True)
    platform, context = harness.platform, streams.context
    streams.sleep(READ, FD, BUFFER, 5)
    platform.call_in()
    platform.call_in()
    assert context.sleeps() == 1
    others = [Streams(harness).context for _ in range(5)]
    for other in others:
        platform.active[other] = None
    platform.call_in()  # it has not slept long, as far as this one knows
    assert context.sleeps() == 1
    platform.call_in()
    for other in others:
        del platform.active[other]
    streams.event()
    assert (context.kind, context.nr, context.args[:3]) == (Kind.SYSCALL_FAST, READ, (FD, BUFFER, 5))
    assert context.sleeps() == 2


def whoever_forges_the_word_wakes_or_keeps_itself(harness: Any) -> None:
    """A word that says too much or nothing, wake-ups for nothing: the thread asks or sleeps on, and can be ended."""
    streams = Streams(harness, waits=True)
    context = streams.context
    for word in (0x7FFFFFFF, 0xFFFFFFFF, SLEEPS, 1):
        streams.u32[CONSUMER_WAITS // 4] = word
        streams.sleep(READ, FD, BUFFER, 5)
        streams.u32[CONSUMER_WAITS // 4] = 0
        streams.wake()
        streams.event()
        assert (context.kind, context.nr) == (Kind.SYSCALL_FAST, READ)
        assert streams.trapped(0) == 0
    streams.sleep(READ, FD, BUFFER, 5)
    context.kill()
    contract._pump(harness, lambda: context.dead)


@pytest.mark.parametrize(
    "check",
    (
        reads_take_what_is_there_and_wrap_around,
        writes_put_all_or_ask,
        what_is_not_plain_is_an_ordinary_call,
        who_waits_is_told_of,
        registers_are_kept,
        positions_that_cannot_be_are_asked_about,
        ring_taken_away_meanwhile_loses_nothing,
        kicks_lose_and_double_nothing,
        who_may_wait_sleeps_until_there_is_something,
        bytes_that_come_while_it_falls_asleep_are_found,
        who_does_not_want_to_wait_or_may_not_asks,
        a_sleeper_that_is_kicked_or_whose_row_goes_asks,
        a_sleeper_is_called_in_where_many_are_active,
        whoever_forges_the_word_wakes_or_keeps_itself,
    ),
    ids=lambda check: check.__name__,
)
def test_rings(check: Callable[[Any], None]) -> None:
    run_apart(check)
