"""A ring of bytes in memory that two processes share: how a stream moves between them without a host call.

One side produces, the other consumes. `tail` counts the bytes ever produced, `head` those ever consumed; both run on
for ever, and byte n lies at n modulo the size, a power of two. A *mapping* holds one page of control words and one or
two rings behind it:

    offset      a line of the cache for each word, as each is written by one side alone (but the two wait flags)
      0  u64    tail of the first ring          (its producer writes it)
     64  u64    head of the first ring          (its consumer)
    128  u32    the first ring's consumer waits (the consumer sets it before it sleeps, the producer clears it)
    192  u32    the first ring's producer waits (the producer sets it before it sleeps, the consumer clears it):
                for how many bytes to read, or to be free; until then it need not be woken.
                SLEEPS in the first: a thread of the consumer's sleeps in futex(2) on this very word
    256 ..448   the same four words of the second ring
   4096         the first ring's bytes, behind them the second's

Who is about to sleep sets its flag, looks once more (`arm_...` do both), and sleeps on what the two sides have agreed
on, the *doorbell*. Who has moved its word looks at the other's flag behind it, and rings if that was set (`take_...`).
A consumer that has a thread sleep on the flag itself (SLEEPS, beside what else it says) is woken by futex(2) there; a
producer that does not know of that rings, and is not one to sleep for.

Neither side trusts the other. Each keeps its own position to itself (`position`) and takes of the other's word only
what can be true, or raises ProtocolViolation. Bytes may change as long as they lie in the ring: copy, then check.
The memory must be such that nobody can shorten it (F_SEAL_SHRINK), or the other side dies by SIGBUS.
"""

from __future__ import annotations

from threading import Lock
from typing import Final

from protocol.errors import ProtocolViolation

__all__ = [
    "CONSUMER_WAITS",
    "DATA",
    "HEAD",
    "MAX_RING_BYTES",
    "MIN_RING_BYTES",
    "PRODUCER_WAITS",
    "SLEEPS",
    "TAIL",
    "WORDS_BYTES",
    "Consumer",
    "Producer",
    "full_barrier",
    "is_ring_size",
    "mapping_bytes",
]

DATA: Final = 4096  # offset of the first ring's bytes
MIN_RING_BYTES: Final = 1 << 12
MAX_RING_BYTES: Final = 1 << 24
TAIL: Final = 0  # offsets of a ring's words from its first one
HEAD: Final = 64
CONSUMER_WAITS: Final = 128
PRODUCER_WAITS: Final = 192
SLEEPS: Final = 1 << 31
WORDS_BYTES: Final = 256  # from the first ring's words to the second's

_fence = Lock()


def is_ring_size(size: int) -> bool:
    """Whether a ring may have that many bytes."""
    return MIN_RING_BYTES <= size <= MAX_RING_BYTES and not size & (size - 1)


def mapping_bytes(first: int, second: int = 0) -> int:
    """The length of a mapping with rings of these sizes."""
    return DATA + first + second


def full_barrier() -> None:
    """Between a store and a load behind it, which may change places in the processor."""
    # A locked instruction between keeps them in order. Taking a lock has one.
    if _fence.acquire(False):
        _fence.release()


class _Side:
    """What both ends share. memory: the whole mapping, writable. index: 0 for the first ring, 1 for the second.

    offset: where the ring's bytes begin. `position`: this side's own word, which nobody else is believed about.
    """

    __slots__ = ("_bytes", "_mask", "_u32", "_u64", "position", "size")

    def __init__(self, memory: memoryview, index: int, offset: int, size: int, position: int = 0) -> None:
        words = memory[index * WORDS_BYTES : (index + 1) * WORDS_BYTES]
        self._u64 = words.cast("Q")
        self._u32 = words.cast("I")
        self._bytes = memory[offset : offset + size]
        self._mask = size - 1
        self.size = size
        self.position = position

    def _parts(self, start: int, count: int) -> list[memoryview]:
        start &= self._mask
        end = start + count
        if end <= self.size:
            return [self._bytes[start:end]]
        return [self._bytes[start:], self._bytes[: end - self.size]]


class Producer(_Side):
    """The side that writes."""

    __slots__ = ()

    def adopt(self) -> None:
        """Take this side's word from memory: for whom several share one side (a kernel and the stubs of its guests)."""
        self.position = self._u64[TAIL // 8]

    def room(self) -> int:
        """How many bytes fit. ProtocolViolation."""
        room = self.size - ((self.position - self._u64[HEAD // 8]) & 0xFFFFFFFFFFFFFFFF)
        if room < 0:
            raise ProtocolViolation("a ring's head lies outside of what was produced")
        return room

    def space(self, count: int) -> list[memoryview]:
        """Where the next `count` bytes go, at most `room()`: one piece, or two around the end."""
        return self._parts(self.position, count)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Put in all of `data`, which fits, and tell of it."""
        count = len(data)
        start = self.position & self._mask
        end = start + count
        if end <= self.size:
            self._bytes[start:end] = data
        else:
            view = memoryview(data)
            first = self.size - start
            self._bytes[start:] = view[:first]
            self._bytes[: end - self.size] = view[first:]
        self.produced(count)

    def produced(self, count: int) -> None:
        """`count` bytes were put where `space` said."""
        self.position = self._u64[TAIL // 8] = (self.position + count) & 0xFFFFFFFFFFFFFFFF

    def take_waiting(self) -> int:
        """Behind `produced`: whether the consumer sleeps, and has to be woken now: its flag as it was."""
        full_barrier()
        flag: int = self._u32[CONSUMER_WAITS // 4]
        if flag:
            self._u32[CONSUMER_WAITS // 4] = 0
        return flag

    def arm(self, wanted: int = 1) -> bool:
        """Before sleeping: ask to be woken. False: there is room for `wanted` bytes already. ProtocolViolation."""
        self._u32[PRODUCER_WAITS // 4] = wanted
        full_barrier()
        if self.room() < wanted:
            return True
        self._u32[PRODUCER_WAITS // 4] = 0
        return False


class Consumer(_Side):
    """The side that reads."""

    __slots__ = ()

    def adopt(self) -> None:
        """As Producer.adopt."""
        self.position = self._u64[HEAD // 8]

    def used(self) -> int:
        """How many bytes wait. ProtocolViolation."""
        used = (self._u64[TAIL // 8] - self.position) & 0xFFFFFFFFFFFFFFFF
        if used > self.size:
            raise ProtocolViolation("a ring's tail lies outside of what fits")
        return used

    def pieces(self, count: int, skip: int = 0) -> list[memoryview]:
        """The next `count` bytes, at most `used()`, behind the first `skip`: one piece, or two around the end."""
        return self._parts(self.position + skip, count)

    def consumed(self, count: int) -> None:
        """`count` bytes are needed no more."""
        self.position = self._u64[HEAD // 8] = (self.position + count) & 0xFFFFFFFFFFFFFFFF

    def take_waiting(self) -> bool:
        """Behind `consumed`: whether the producer sleeps, and has to be woken now."""
        full_barrier()
        if not self._u32[PRODUCER_WAITS // 4]:
            return False
        self._u32[PRODUCER_WAITS // 4] = 0
        return True

    def take_sleeping(self) -> bool:
        """Whether a thread of this side may sleep on the flag; it need not any more, and is to be woken now."""
        full_barrier()
        flag = self._u32[CONSUMER_WAITS // 4]
        if not flag & SLEEPS:
            return False
        self._u32[CONSUMER_WAITS // 4] = flag & ~SLEEPS
        return True

    def disarm(self) -> None:
        """This side looks by itself, and need not be woken."""
        self._u32[CONSUMER_WAITS // 4] = 0

    def arm(self, seen: int = 0) -> bool:
        """Before sleeping: ask to be woken when more is there than the `seen` bytes that are not consumed yet. False:
        there is more already. It holds when some of these are consumed meanwhile: whoever produces finds at least the
        one byte that is waited for. ProtocolViolation."""
        self._u32[CONSUMER_WAITS // 4] = 1
        full_barrier()
        if self.used() <= seen:
            return True
        self._u32[CONSUMER_WAITS // 4] = 0
        return False
