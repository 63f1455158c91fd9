"""Rings between two guests of this sandbox: what the buffer of a busy stream becomes (pipes, sockets).

The kernel acts for both ends, and so do their stubs, once they are told of them (kernel/published_rings.py). Only the
thread whose end it is moves a position, in its stub or, held, in a call served here. Anyone may read both positions. To
take a ring away from stubs that may be in the middle of a call, `take_over` exchanges both for ones that cannot be.

Who waits is known here (`starved`, the reader's queue); the flags in the memory say it to the stubs. The reader's is
set whenever a look finds nothing to read, and always while an epoll watches; the writer's when there is too little
room. Each is set first and then the ring is looked at once more, for a stub that moved before it saw the flag: either
it moved before the last look, or it looks at the flag behind a full barrier and tells.

The guests may write anything there. Positions that cannot be mean that the bytes are lost; a flag that was taken away,
that a reader waits as for a writer that does not write.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from platforms._host import ffi, lib
from platforms.systrap.file_rows import RingPlace
from platforms.systrap.layout import IN_SIZE
from protocol.abi import poll_h as po
from protocol.rings import (
    CONSUMER_WAITS,
    DATA,
    HEAD,
    MIN_RING_BYTES,
    PRODUCER_WAITS,
    TAIL,
    WORDS_BYTES,
    full_barrier,
    mapping_bytes,
)
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.files.ring_end import RingEnd, make_ring_memory
from services.sentry.mm.user_memory import CARRIED_MAX

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["BUSY", "CALL_COST", "LocalEnd", "LocalRing", "LocalRings", "ring_size"]

BUSY: Final = 131_072
"""So much is moved by plain calls before rings are worth their making, each call counted as CALL_COST bytes beside."""
CALL_COST: Final = 128
_LIMIT_OF_RINGS: Final = 256
_MASK: Final = 0xFFFFFFFFFFFFFFFF
_NEVER: Final = 1 << 63  # a tail so far from any head cannot be
_READABLE: Final = po.POLLIN | po.POLLRDNORM


class LocalRings:
    """The memory of one or two rings, each of `size` bytes, a power of two, or 0: their words alone.

    OSError, MemoryError: there is none. Its descriptor lasts as long as somebody refers to this, for it may just be on
    its way to a guest.
    """

    __slots__ = ("fd", "length", "map")
    count: ClassVar[int] = 0  # how many there are: each costs the sandbox's process a descriptor and a mapping

    def __init__(self, size: int, rings: int) -> None:
        self.fd = -1
        if LocalRings.count >= _LIMIT_OF_RINGS:
            raise MemoryError("too many rings")
        self.length = mapping_bytes(size, size if rings == 2 else 0)
        self.fd, self.map = make_ring_memory(self.length)
        LocalRings.count += 1

    def close(self) -> None:
        """Nobody uses them any more."""
        LocalRings.count -= 1

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class LocalRing:
    """One direction, from `writer` to `reader`. limit: how many bytes may be in it.

    starved: how much room somebody waits for, 0: nobody does; writable: the poll(2) bits that tell of room, which is
    when `enough` bytes are free.
    """

    __slots__ = (
        "_base",
        "_bytes",
        "_mask",
        "_u32",
        "_u64",
        "enough",
        "limit",
        "place",
        "reader",
        "rings",
        "size",
        "starved",
        "writable",
        "writer",
    )

    def __init__(
        self,
        rings: LocalRings,
        index: int,
        size: int,
        limit: int,
        writer: OpenFile,
        reader: OpenFile,
        writable: int,
        enough: int,
    ) -> None:
        self.rings = rings
        memory = memoryview(rings.map)
        first = index * WORDS_BYTES
        data = DATA + index * size
        self.place = RingPlace(first, data, size, limit, enough, writable)
        words = memory[first : first + WORDS_BYTES]
        self._base = ffi.from_buffer(words, require_writable=True)
        self._u64 = words.cast("Q")
        self._u32 = words.cast("I")
        self._bytes = memory[data : data + size]
        self._mask = size - 1
        self.size = size
        self.limit = limit
        self.writer = writer
        self.reader = reader
        self.writable = writable
        self.enough = enough
        self.starved = 0

    # --- what is there ---
    def used(self) -> int:
        """How many bytes are in it."""
        u64 = self._u64
        used = (u64[TAIL // 8] - u64[HEAD // 8]) & _MASK
        if used > self.size:
            u64[HEAD // 8] = u64[TAIL // 8]
            return 0
        return used

    def room(self) -> int:
        """How many more may be."""
        return self.limit - self.used()

    def is_empty(self) -> bool:
        """Whether there is nothing to read; then what comes is told of."""
        u64 = self._u64
        watched = bool(self.reader.epoll_links)
        # A flag that is set was set before an earlier look: who moves its position from now on sees it.
        if self._u32[CONSUMER_WAITS // 4]:
            if watched or u64[TAIL // 8] == u64[HEAD // 8]:
                return not self.used()
        elif not watched and self.used():
            return False
        self._u32[CONSUMER_WAITS // 4] = 1
        full_barrier()
        if not self.used():
            return True
        if not watched:
            self._u32[CONSUMER_WAITS // 4] = 0
        return False

    def lacks(self, wanted: int) -> bool:
        """Whether less than `wanted` bytes are free; then it is told of when they are."""
        if self.limit - self.used() >= wanted:
            return False
        if not self.starved or wanted < self.starved:  # of several that wait, the one that wants least
            self.starved = wanted
            self._u32[PRODUCER_WAITS // 4] = wanted + self.size - self.limit
        full_barrier()
        if self.limit - self.used() < wanted:
            return True
        self.starved = self._u32[PRODUCER_WAITS // 4] = 0
        return False

    # --- the reader's calls ---
    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """Up to `count` bytes to guest memory; how many. EFAULT: not one piece could be written."""
        u64 = self._u64
        head = u64[HEAD // 8]
        used = (u64[TAIL // 8] - head) & _MASK
        start = head & self._mask
        if 0 < used <= CARRIED_MAX and start + used <= self.size:  # the everyday case of what follows
            if used < count:
                count = used
            mm.write(addr, bytes(self._bytes[start : start + count]))
            u64[HEAD // 8] = (head + count) & _MASK
            if self.starved:
                self.tell_writer()
            return count
        count = min(count, self.used())
        if not count:
            return 0
        if count <= CARRIED_MAX:
            mm.write(addr, self._copy(head, count))
        else:
            first = min(count, self.size - start)
            mm.write(addr, self._bytes[start : start + first])
            if first < count:
                try:
                    mm.write(addr + first, self._bytes[: count - first])
                except LinuxError:
                    count = first
        self._read(count)
        return count

    def take(self, count: int) -> bytes:
        """Up to `count` bytes."""
        count = min(count, self.used())
        data = self._copy(self._u64[HEAD // 8], count)
        if count:
            self._read(count)
        return data

    def take_some(self, count: int) -> bytes:
        """As `take`. WouldBlock: there is nothing."""
        data = self.take(count)
        if not data:
            if self.is_empty():
                raise WouldBlock
            data = self.take(count)
        return data

    def _copy(self, start: int, count: int) -> bytes:
        """`count` bytes from the position `start` on."""
        start &= self._mask
        end = start + count
        if end <= self.size:
            return bytes(self._bytes[start:end])
        return b"".join((self._bytes[start:], self._bytes[: end - self.size]))

    def _read(self, count: int) -> None:
        u64 = self._u64
        u64[HEAD // 8] = (u64[HEAD // 8] + count) & _MASK
        if self.starved:
            self.tell_writer()

    # --- the writer's calls ---
    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """As many of `count` bytes of guest memory as there is room for; how many. EFAULT."""
        u64 = self._u64
        tail = u64[TAIL // 8]
        start = tail & self._mask
        used = (tail - u64[HEAD // 8]) & _MASK
        if 0 < count <= IN_SIZE and used + count <= self.limit and start + count <= self.size:  # the everyday case
            self._bytes[start : start + count] = mm.read(addr, count)
            u64[TAIL // 8] = (tail + count) & _MASK
            if self.reader.queue.entries:
                self.tell_reader()
            return count
        count = min(count, self.room())
        if count <= 0:
            return 0
        if count <= IN_SIZE:  # it may have come along with the call
            self._put(mm.read(addr, count))
        else:
            first = min(count, self.size - start)
            mm.read_into(addr, self._bytes[start : start + first])
            if first < count:
                mm.read_into(addr + first, self._bytes[: count - first])
        self._written(count)
        return count

    def put(self, data: bytes | memoryview) -> int:
        """As many of the bytes as there is room for; how many."""
        count = min(len(data), self.room())
        if count <= 0:
            return 0
        self._put(data[:count])
        self._written(count)
        return count

    def _put(self, data: bytes | memoryview) -> None:
        start = self._u64[TAIL // 8] & self._mask
        end = start + len(data)
        if end <= self.size:
            self._bytes[start:end] = data
        else:
            first = self.size - start
            self._bytes[start:] = data[:first]
            self._bytes[: end - self.size] = data[first:]

    def _written(self, count: int) -> None:
        u64 = self._u64
        u64[TAIL // 8] = (u64[TAIL // 8] + count) & _MASK
        if self.reader.queue.entries:
            self.tell_reader()

    # --- wake-ups ---
    def tell_reader(self) -> None:
        """Something was written: whoever waits for it looks again, and waits anew if it is not enough."""
        if self.used():
            if not self.reader.epoll_links:
                self._u32[CONSUMER_WAITS // 4] = 0
            if self.reader.queue.entries:
                self.reader.queue.wake(_READABLE)

    def tell_writer(self) -> None:
        """Something was read."""
        if self.starved and self.limit - self.used() >= self.starved:
            self.starved = self._u32[PRODUCER_WAITS // 4] = 0
            if self.writer.queue.entries:
                self.writer.queue.wake(self.writable)

    # --- the end ---
    def close(self) -> None:
        """The rings' memory is not needed any more."""
        self.rings.close()

    def take_over(self) -> bytes:
        """What is in it, and from now on no stub reads or writes there: one that is about to finds that it must ask."""
        tail = int(lib.sentrio_exchange(self._base + TAIL, _NEVER))
        head = int(lib.sentrio_exchange(self._base + HEAD, 0))
        used = (tail - head) & _MASK
        return self._copy(head, used) if used <= self.size else b""


class LocalEnd(RingEnd):
    """What an open file has of local rings. `dissolve`: makes the buffer again what it was before."""

    __slots__ = ("dissolve", "incoming", "outgoing", "rings")

    def __init__(
        self,
        rings: LocalRings,
        incoming: LocalRing | None,
        outgoing: LocalRing | None,
        socket: bool,
        dissolve: Callable[[], None],
    ) -> None:
        super().__init__(
            rings.fd,
            rings.length,
            incoming.place if incoming is not None else None,
            outgoing.place if outgoing is not None else None,
            socket,
        )
        self.rings = rings
        self.incoming = incoming
        self.outgoing = outgoing
        self.dissolve = dissolve

    def moved(self) -> None:
        if self.outgoing is not None:
            self.outgoing.tell_reader()
        if self.incoming is not None:
            self.incoming.tell_writer()

    def withdrawn(self) -> None:
        self.dissolve()

    def revoke(self) -> None:
        self.dissolve()


def ring_size(room: int, most: int) -> int:
    """The size of a ring for `room` bytes; `most`: the largest, a power of two."""
    return max(MIN_RING_BYTES, min(1 << (room - 1).bit_length(), most))
