"""The stub's poll, ppoll, select and pselect6 (stub/polls.S), by a real guest: what they find by rows and rings, when
they ask, and that a kick leaves sets and time-outs either as they were or as they are to be.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from platforms.base import Kind
from platforms.systrap import layout
from platforms.systrap.file_rows import RingPlace
from platforms.systrap.layout import POLL_MOST
from platforms.testing import contract
from platforms.testing.scripted import Call
from protocol.abi import poll_h as po
from protocol.rings import DATA
from tests.platforms.test_contract import assemble, run_apart
from tests.platforms.test_rings import ARGUMENTS, BUFFER, ENOUGH, FD, SIZE, Streams, local

POLL, SELECT, PSELECT6, PPOLL = 7, 23, 270, 271
QUIET = 9  # a descriptor that has nothing
UNKNOWN = 10
PAGE = 4096
READS, WRITES, EXCEPTS, TIME, MASK, FDS = (BUFFER + 0x100 * k for k in range(6))
IN = po.POLLIN | po.POLLRDNORM
OUT = po.POLLOUT | po.POLLWRNORM
SECOND = {SELECT: 1_000_000, PSELECT6: 1_000_000_000, PPOLL: 1_000_000_000}


class Polled(Streams):
    """A stream in rings (FD), and a quiet file beside."""

    def __init__(self, harness: Any) -> None:
        super().__init__(harness)
        self.rows.set_quiet(QUIET, 0xFFFF & ~po.POLLOUT)

    def write(self, where: int, data: bytes) -> None:
        assert contract.write(self.context, where, data) == len(data)

    def read(self, where: int, count: int) -> bytes:
        return bytes(contract.read(self.context, where, count)[1])

    def select(
        self, number: int, sets: tuple[int, int, int], left: tuple[int, int] | None, mask: int = 0, bits: int = 64
    ) -> tuple[int, tuple[int, int, int], tuple[int, int] | None] | None:
        """The result, the sets and the time left; None: it was asked for, and nothing was changed."""
        given = struct.pack("<3Q", *sets)
        for k, where in enumerate((READS, WRITES, EXCEPTS)):
            self.write(where, given[8 * k : 8 * k + 8])
        if left is not None:
            self.write(TIME, struct.pack("<2q", *left))
        places = [where if chosen else 0 for where, chosen in zip((READS, WRITES, EXCEPTS), sets, strict=True)]
        args = (bits, *places, TIME if left is not None else 0, mask)
        self.run(number, *args)
        asked = self.context.kind == Kind.SYSCALL_FAST
        if asked:
            assert (self.context.nr, self.context.args) == (number, args)
            assert self.trapped(0) == 0
        result = self.result()
        assert tuple(getattr(self.context.regs, name) for name in ARGUMENTS) == args
        found = tuple(struct.unpack("<Q", self.read(where, 8))[0] for where in (READS, WRITES, EXCEPTS))
        now = struct.unpack("<2q", self.read(TIME, 16)) if left is not None else None
        if asked:
            assert (found, now) == (sets, left)
            return None
        return result, found, now  # type: ignore[return-value]

    def poll(
        self, fds: list[tuple[int, int]], timeout: int = -1, number: int = POLL, mask: int = 0
    ) -> tuple[int, list[int]] | None:
        """The result and the revents; None: it was asked for. `timeout` of ppoll: an address."""
        self.write(FDS, b"".join(struct.pack("<ihH", fd, events, 0x5A5A) for fd, events in fds))
        args = (FDS, len(fds), timeout, mask, 8, 0x77)
        self.run(number, *args)
        if self.context.kind == Kind.SYSCALL_FAST:
            assert self.context.nr == number
            assert self.trapped(0) == 0
            return None
        image = self.read(FDS, 8 * len(fds))
        assert tuple(getattr(self.context.regs, name) for name in ARGUMENTS[:2]) == args[:2]
        entries = list(struct.iter_unpack("<iHH", image))
        assert [(fd, events) for fd, events, _ in entries] == fds
        return self.result(), [revents for _, _, revents in entries]


def bit(*fds: int) -> int:
    return sum(1 << fd for fd in fds)


def select_tells_what_rings_have(harness: Any) -> None:
    polled = Polled(harness)
    both = bit(FD, QUIET)
    for number in (SELECT, PSELECT6):
        assert polled.select(number, (both, bit(FD), both), None) == (1, (0, bit(FD), 0), None)
        polled.ours_out.write(b"x")
        assert polled.select(number, (both, bit(FD), both), None) == (2, (bit(FD), bit(FD), 0), None)
        assert polled.select(number, (bit(FD), 0, 0), None)[0] == 1  # type: ignore[index]
        polled.theirs_out.adopt()
        polled.theirs_out.write(b"y" * (SIZE - ENOUGH + 1))
        assert polled.select(number, (both, bit(FD), both), None) == (1, (bit(FD), 0, 0), None)
        polled.ours_in.consumed(1)
        assert polled.select(number, (both, bit(FD), both), None) == (2, (bit(FD), bit(FD), 0), None)
        polled.ours_in.consumed(SIZE - ENOUGH)
        polled.run(0, FD, BUFFER, 1)
        assert polled.select(number, (both, 0, 0), None) is None  # who waits, asks
        assert polled.select(number, (both, 0, both), (0, 0)) == (0, (0, 0, 0), (0, 0))


def the_time_left_gets_less(harness: Any) -> None:
    polled = Polled(harness)
    polled.ours_out.write(b"x")
    for number, step in ((SELECT, 1), (PSELECT6, 1000)):
        last = SECOND[number] - 1
        for before, after in (
            ((3, 5000), (3, 5000 - step)),
            ((3, 0), (2, last + 1 - step)),
            ((0, step), (0, 0)),
            ((0, 0), (0, 0)),
            ((0, last), (0, last - step)),
            (((1 << 31) - 1, 0), ((1 << 31) - 2, last + 1 - step)),
        ):
            assert polled.select(number, (bit(FD), 0, 0), before) == (1, (bit(FD), 0, 0), after), (number, before)
        for odd in ((-1, 0), (0, -1), (0, last + 1), (1 << 31, 0), (1, -(1 << 63))):
            assert polled.select(number, (bit(FD), 0, 0), odd) is None, (number, odd)
    assert polled.select(PSELECT6, (bit(FD), 0, 0), (0, 999)) == (1, (bit(FD), 0, 0), (0, 0))


def bits_beyond_the_number_do_not_count(harness: Any) -> None:
    polled = Polled(harness)
    polled.ours_out.write(b"x")
    some = bit(FD, 33)
    assert polled.select(SELECT, (some, 0, 0), None) is None
    assert polled.select(SELECT, (some, some, 0), None, bits=FD + 1) == (2, (bit(FD), bit(FD), 0), None)
    assert polled.select(SELECT, (some, some, 0), None, bits=FD) is None  # nothing is asked about: who waits, asks
    assert polled.select(SELECT, (some, some, 0), (0, 0), bits=FD) == (0, (0, 0, 0), (0, 0))
    assert polled.select(SELECT, (bit(FD), 0, 0), None, bits=-1 & 0xFFFFFFFF) is None
    assert polled.select(SELECT, (bit(FD), 0, 0), None, bits=0) is None
    polled.write(READS, bytes(256))
    assert polled.select(SELECT, (bit(FD), 0, 0), None, bits=1024) == (1, (bit(FD), 0, 0), None)
    assert polled.select(SELECT, (bit(FD), 0, 0), None, bits=1025) is None
    polled.write(READS + 64, b"\1")
    assert polled.select(SELECT, (bit(FD), 0, 0), None, bits=512) == (1, (bit(FD), 0, 0), None)
    assert polled.select(SELECT, (bit(FD), 0, 0), None, bits=513) is None


def one_set_may_be_two(harness: Any) -> None:
    polled = Polled(harness)
    polled.ours_out.write(b"x")
    polled.write(READS, struct.pack("<Q", bit(FD)))
    polled.run(SELECT, 64, READS, READS, 0, 0)
    assert polled.result() == 2
    assert polled.read(READS, 8) == struct.pack("<Q", bit(FD))


def a_signal_mask_matters_to_who_finds_nothing(harness: Any) -> None:
    polled = Polled(harness)
    polled.write(MASK, struct.pack("<3Q", MASK + 16, 8, 0))
    assert polled.select(PSELECT6, (bit(FD), 0, 0), (0, 0), MASK) is None
    assert polled.poll([(FD, 1)], TIME, PPOLL, MASK + 16) is None
    assert polled.poll([(FD, 1)], TIME, PPOLL) == (0, [0])  # TIME is zero
    polled.ours_out.write(b"x")
    assert polled.select(PSELECT6, (bit(FD), 0, 0), (0, 0), MASK) == (1, (bit(FD), 0, 0), (0, 0))
    assert polled.poll([(FD, 1)], TIME, PPOLL, MASK + 16) == (1, [1])
    for pair, known in (((MASK + 16, 4), False), ((0, 4), True), ((0x666000, 8), False)):
        polled.write(MASK, struct.pack("<2Q", *pair))
        assert (polled.select(PSELECT6, (bit(FD), 0, 0), None, MASK) is not None) == known, pair
    assert polled.select(PSELECT6, (bit(FD), 0, 0), None, 0x666000) is None
    assert polled.poll([(FD, 1)], TIME, PPOLL, 0x666000) is None


def poll_tells_each_its_bits(harness: Any) -> None:
    polled = Polled(harness)
    assert polled.poll([(FD, 1), (QUIET, 1)], 0) == (0, [0, 0])
    assert polled.poll([(FD, 1), (QUIET, 1)]) is None
    assert polled.poll([(FD, 5), (QUIET, 0x2003), (-1, 1), (FD, 0), (FD, 0x141)]) == (2, [4, 0, 0, 0, 0x100])
    polled.ours_out.write(b"x")
    assert polled.poll([(FD, 5), (QUIET, 1), (FD, 0x2043)], 7) == (2, [5, 0, 0x41])
    assert polled.poll([(FD, 5), (QUIET, po.POLLOUT)]) is None  # which it may have
    assert polled.poll([(-5, 1)] * POLL_MOST, 0) is None  # the limit may be lower
    assert polled.poll([(FD, 1)] * 30, 0) == (30, [1] * 30)
    polled.write(TIME, struct.pack("<2q", 1, 0))
    assert polled.poll([(FD, 1), (QUIET, 0)], TIME, PPOLL) == (1, [1, 0])
    assert polled.read(TIME, 16) == struct.pack("<2q", 0, 999_999_000)
    assert polled.poll([(QUIET, 0)], TIME, PPOLL) is None
    assert polled.read(TIME, 16) == struct.pack("<2q", 0, 999_999_000)


def what_is_not_known_is_asked_for(harness: Any) -> None:
    polled = Polled(harness)
    polled.ours_out.write(b"x")
    for fd in (UNKNOWN, layout.FILE_ROW_COUNT, 0x7FFFFFFF):
        assert polled.poll([(FD, 1), (fd, 1)], 0) is None, fd
    assert polled.select(SELECT, (bit(FD, UNKNOWN), 0, 0), (0, 0)) is None
    for count in (0, POLL_MOST + 1, 1 << 32):
        polled.run(POLL, FDS, count, 0)
        assert polled.context.nr == POLL
        polled.trapped(0)
    first, second = RingPlace(0, DATA, SIZE, SIZE), RingPlace(256, DATA + SIZE, SIZE, SIZE, ENOUGH, OUT)
    polled.rows.set_rings(FD, 3, 1, first, second, True, False)
    assert polled.poll([(FD, 1)], 0) is None
    polled.rows.set_rings(FD, 3, 1, first, None, False, True)
    assert polled.poll([(FD, 7)], 0) == (1, [1])  # the end of a pipe that is read
    polled.rows.set_rings(FD, 3, 1, None, second, False, True)
    assert polled.poll([(FD, 7)], 0) == (1, [4])
    polled.context.use_rows(False)
    assert polled.poll([(FD, 7)], 0) is None
    assert polled.select(SELECT, (bit(FD), 0, 0), (0, 0)) is None


def rings_that_were_taken_away_are_asked_about(harness: Any) -> None:
    polled = Polled(harness)
    for word, bad, events in ((0, SIZE + 1, 1), (64, 1 << 63, 1), (256, SIZE + 1, 4), (256, 1 << 63, 4), (320, 1, 4)):
        for each in (0, 64, 256, 320):
            polled.u64[each // 8] = 0
        assert polled.poll([(FD, events)], 0) is not None
        polled.u64[word // 8] = bad
        assert polled.poll([(FD, events)], 0) is None, (word, bad)
        assert polled.select(SELECT, (bit(FD), bit(FD), 0), (0, 0)) is None, (word, bad)


def memory_that_is_not_there(harness: Any) -> None:
    polled = Polled(harness)
    polled.ours_out.write(b"x")
    gone, end = 0x666000, BUFFER + 4 * PAGE
    polled.write(READS, struct.pack("<Q", bit(FD)))
    polled.write(TIME, struct.pack("<2q", 1, 0))
    for args in (
        (64, gone, 0, 0, 0),
        (64, READS, gone, 0, 0),
        (64, READS, 0, 1 << 63, 0),
        (64, READS, 0, 0, gone),
        (64, end - 4, 0, 0, 0),
    ):
        polled.run(SELECT, *args)
        assert (polled.context.kind, polled.context.nr, polled.context.args[:5]) == (Kind.SYSCALL_FAST, SELECT, args)
        polled.trapped(0)
    for number, args in ((POLL, (gone, 1, 0)), (POLL, (end - 4, 1, 0)), (PPOLL, (FDS, 1, gone, 0, 0))):
        polled.write(FDS, struct.pack("<ihH", FD, 1, 0))
        polled.run(number, *args)
        assert (polled.context.nr, polled.context.args[: len(args)]) == (number, args)
        polled.trapped(0)
    # Sets and time-outs that can only be read are as they were.
    page = BUFFER + 3 * PAGE
    polled.write(page, struct.pack("<QQq", bit(FD), 1, 0))
    protected = contract.ops(harness, polled.context, contract.Op(10, (page, PAGE, 1, 0, 0, 0)))
    assert protected == [0]
    for args in ((64, READS, page, 0, 0), (64, page, READS, 0, 0), (64, READS, 0, 0, page + 8)):
        polled.run(SELECT, *args)
        assert (polled.context.kind, polled.context.args[:5]) == (Kind.SYSCALL_FAST, args)
        polled.trapped(0)
        assert polled.read(READS, 8) == struct.pack("<Q", bit(FD))


def kicks_leave_sets_whole(harness: Any) -> None:
    """select(2) again and again with sets that are written before: it always finds them as they were written."""
    polled = Polled(harness)
    polled.ours_out.write(b"x")
    context = polled.context
    where = contract.BASE + 0x100_0000
    both = bit(FD, QUIET)
    sets = b"".join(
        b"\x48\xb8" + struct.pack("<Q", at) + b"\x48\xc7\x00" + struct.pack("<I", both) for at in (READS, WRITES)
    )
    sets += b"\x48\xb8" + struct.pack("<Q", TIME) + b"\x48\xc7\x00" + struct.pack("<I", 1)
    sets += b"\x48\xc7\x40\x08" + struct.pack("<I", 0)  # {1, 0}
    code = sets + local(harness.platform.image, where + len(sets), SELECT, 64, READS, WRITES, 0, TIME)
    code += b"\x48\x83\xfb\x01"  # cmp $1,%rbx
    code += b"\x75\x05\xe9" + struct.pack("<i", -(len(code) + 7))  # je to the beginning
    polled.rows.set_quiet(QUIET, 0xFFFF)
    # WRITES: FD has no room, QUIET has none either
    polled.theirs_out.adopt()
    polled.theirs_out.write(b"y" * SIZE)
    polled.load(code + assemble((Call(39),)))
    asked = interrupted = 0
    end = time.monotonic() + 2
    while time.monotonic() < end:
        context.interrupt()
        for event in harness.platform.collect(20_000):
            if event.kind == Kind.INTERRUPTED:
                interrupted += 1
                context.resume_registers()
                continue
            assert (event.kind, context.nr) == (Kind.SYSCALL_FAST, SELECT), context.regs.rbx
            asked += 1
            found = polled.read(READS, 8), polled.read(WRITES, 8), polled.read(TIME, 16)
            assert found == (struct.pack("<Q", both), struct.pack("<Q", both), struct.pack("<2q", 1, 0)), found
            context.resume(1)
    assert asked > 5 and interrupted > 5, (asked, interrupted)


@pytest.mark.parametrize(
    "check",
    (
        select_tells_what_rings_have,
        the_time_left_gets_less,
        bits_beyond_the_number_do_not_count,
        one_set_may_be_two,
        a_signal_mask_matters_to_who_finds_nothing,
        poll_tells_each_its_bits,
        what_is_not_known_is_asked_for,
        rings_that_were_taken_away_are_asked_about,
        memory_that_is_not_there,
        kicks_leave_sets_whole,
    ),
    ids=lambda check: check.__name__,
)
def test_polls(check: Callable[[Any], None]) -> None:
    run_apart(check)
