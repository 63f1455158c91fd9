"""Pipes and FIFOs (pipe(7), fifo(7)): one `Pipe` buffer, and a `PipeFile` for each open end of it.

Owns the buffered bytes, the counts of open ends and the wake-ups between them. Does not send SIGPIPE (the write system
calls do, on EPIPE) and does not block: an operation moves what it can or raises WouldBlock.
Life: pipe(2) makes a Pipe and both ends at once; a FIFO's inode holds its Pipe in `inode.pipe` from the first open to
the last release. Both ends share the pipe's one queue, the poll mask tells readers from writers.

Data is a deque of immutable chunks as they were written (an oversized head is cut by memoryview, so that a reader of
single bytes copies nothing twice). A chunk written in packet mode (O_DIRECT, pipe(2)) is a `Packet`. While one reader
and one writer move plain bytes, and many, they lie in a ring instead (files/local_rings.py), which both ends' guests
can use by themselves; whatever else happens to the pipe makes chunks of it again (`dissolve`).
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from mypy_extensions import mypyc_attr

from protocol.abi import fcntl_h as fc
from protocol.abi import ioctl_h as io
from protocol.abi import poll_h as po
from protocol.abi.layout import I32
from protocol.abi.limits import PIPE_BUF, PIPE_DEFAULT_BYTES, PIPE_MAX_SIZE
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.files.local_rings import BUSY, CALL_COST, LocalEnd, LocalRing, LocalRings, ring_size
from services.sentry.files.ring_end import may_publish
from services.sentry.kernel.waiter import WaitQueue
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.sentry.files.ring_end import RingEnd
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.path_walk import Path

__all__ = ["Packet", "Pipe", "PipeFile", "make_pipe", "open_fifo"]

_DIRECT: Final = fc.O_DIRECT
_NO_RING: Final = fc.O_DIRECT | fc.O_ASYNC
_IN: Final = po.POLLIN | po.POLLRDNORM
_OUT: Final = po.POLLOUT | po.POLLWRNORM
_PAGE: Final = 4096
#: Chunks kept before they are joined into one: bounds what tiny writes cost in memory.
_MAX_CHUNKS: Final = 1024
#: Packets a pipe of the default size holds: one page slot each (fs/pipe.c).
_CAP_SYS_RESOURCE: Final = 24
_LARGEST_RING: Final = 1 << 20
#: After a ring that was dissolved, a pipe must be so much busier.
_PATIENCE: Final = -64 * BUSY
_LARGEST: Final = 1 << 28  # above it Linux's own array of page slots cannot be allocated


@mypyc_attr(native_class=False)
class Packet(bytes):
    """A chunk that one read(2) takes whole or cuts: the rest of it is discarded (pipe(2), O_DIRECT)."""

    __slots__ = ()


class Pipe:
    """The buffer. `size` is the bytes in `chunks`; `packets` how many of the chunks are Packets.

    readers/writers count open ends; reader_opens/writer_opens only grow, so that a FIFO's opener notices a peer that
    came and went (fs/pipe.c wait_for_partner). moved: how much passed since it was asked whether a ring should be made.
    """

    __slots__ = (
        "capacity",
        "chunks",
        "ends",
        "moved",
        "packets",
        "queue",
        "reader_opens",
        "readers",
        "ring",
        "size",
        "writer_opens",
        "writers",
    )

    def __init__(self, capacity: int = PIPE_DEFAULT_BYTES) -> None:
        self.capacity = capacity
        self.chunks: deque[bytes | memoryview] = deque()
        self.size = 0
        self.packets = 0
        self.queue = WaitQueue()
        self.readers = self.writers = 0
        self.reader_opens = self.writer_opens = 0
        self.ends: list[PipeFile] = []
        self.ring: LocalRing | None = None
        self.moved = 0

    # --- the ring ---
    def make_ring(self, mm: AddressSpace, file: PipeFile) -> None:
        """It is busy, in calls of `file` from `mm`: the bytes move to a ring if there are two ends and no packets."""
        self.moved = 0
        if self.readers != 1 or self.writers != 1 or self.packets or self.capacity > _LARGEST_RING:
            return
        if self.size > self.capacity or not may_publish(mm, file) or any(end.flags & _NO_RING for end in self.ends):
            return
        size = ring_size(self.capacity, _LARGEST_RING)
        try:
            rings = LocalRings(size, 1)
        except (OSError, MemoryError):
            self.moved = _PATIENCE
            return
        writer, reader = (next(end for end in self.ends if wanted(end)) for wanted in (_writes, _reads))
        ring = self.ring = LocalRing(rings, 0, size, self.capacity, writer, reader, _OUT, PIPE_BUF)
        for chunk in self.chunks:
            ring.put(chunk)
        self.chunks.clear()
        self.size = 0
        for end in self.ends:
            incoming, outgoing = ring if end.readable else None, ring if end.writable else None
            end.ring_end = LocalEnd(rings, incoming, outgoing, False, self.dissolve)
            if self.queue.entries:  # who waits already
                end.poll()

    def dissolve(self) -> None:
        """What is in the ring is in the chunks. Harmless when there is none."""
        ring = self.ring
        if ring is None:
            return
        self.ring = None
        self.moved = _PATIENCE
        data = ring.take_over()
        if data:
            self.chunks.append(data)
            self.size = len(data)
        for file in self.ends:
            end, file.ring_end = file.ring_end, None
            if end is not None and end.window is not None:
                end.window.revoke()
        ring.close()
        if self.queue.entries:
            self.queue.wake(_IN | _OUT)

    # --- the buffer ---
    def peek(self, count: int) -> bytes:
        """The first `count` bytes (fewer: all there is), left in place; it ends with a packet (tee(2))."""
        self.dissolve()
        parts: list[bytes | memoryview] = []
        left = count
        for chunk in self.chunks:
            if left <= 0:
                break
            parts.append(chunk[:left])
            left -= len(chunk)
            if isinstance(chunk, Packet):
                break
        return b"".join(parts)

    def consume(self, count: int) -> None:
        """Drop the first `count` bytes, which must be there, and wake writers. A packet goes whole."""
        chunks = self.chunks
        left = count
        while left > 0 and chunks:
            first = chunks[0]
            length = len(first)
            if isinstance(first, Packet):
                self.packets -= 1
                left = min(left, length)
            elif length > left:
                chunks[0] = first[left:] if length < 256 else memoryview(first)[left:]
                self.size -= left
                break
            chunks.popleft()
            self.size -= length
            left -= length
        self.wake_writers()

    def room(self) -> int:
        """Bytes a write may add now; in packet mode a packet needs a free page slot as well."""
        if self.ring is not None:
            return self.ring.room()
        return self.capacity - self.size

    def push(self, data: bytes | memoryview, packet: bool = False) -> int:
        """Append `data`, as much as fits unless it is at most PIPE_BUF bytes: then all or WouldBlock (pipe(7)).

        Returns the bytes taken. EPIPE: nobody reads. With `packet`, each PIPE_BUF bytes become one packet.
        """
        if packet:
            self.dissolve()
        count = len(data)
        if count == 0:
            return 0
        if not self.readers:
            raise LinuxError(errno.EPIPE)
        if self.ring is not None:
            return self.fill_ring(self.ring, count, lambda ring: ring.put(data))
        room = self.capacity - self.size
        if packet or self.packets:
            room = min(room, (self.capacity // _PAGE - self._slots()) * _PAGE)
        if room <= 0 or (count <= PIPE_BUF and count > room):
            raise WouldBlock
        if count > room:
            data = data[:room]
            count = room
        if packet:
            for start in range(0, count, PIPE_BUF):
                self.chunks.append(Packet(data[start : start + PIPE_BUF]))
                self.packets += 1
        else:
            self.chunks.append(bytes(data))
            if len(self.chunks) > _MAX_CHUNKS and not self.packets:
                self.compact()
        self.size += count
        if self.queue.entries:
            self.queue.wake(_IN)
        return count

    def fill_ring(self, ring: LocalRing, count: int, put: Callable[[LocalRing], int]) -> int:
        """As `push`, by `put(ring)`, which would write `count` bytes."""
        for _ in range(2):
            if count > PIPE_BUF or ring.room() >= count:
                done = put(ring)
                if done:
                    return done
            # Until then more is in it than the reader could wait for, or all of the write finds room.
            if ring.lacks(max(PIPE_BUF, min(count, ring.limit // 2))):
                break
        raise WouldBlock

    def compact(self) -> None:
        """Join the chunks: bounds the memory that many tiny writes take. Only without packets."""
        joined = b"".join(self.chunks)
        self.chunks.clear()
        self.chunks.append(joined)

    def _slots(self) -> int:
        """Page slots in use, as Linux counts them: a packet takes one, the rest packs into pages."""
        plain = sum(len(chunk) for chunk in self.chunks if not isinstance(chunk, Packet))
        return self.packets + (plain + _PAGE - 1) // _PAGE

    def writable(self) -> bool:
        """POLLOUT: a page slot is free (fs/pipe.c pipe_full)."""
        if self.packets:
            return self._slots() < self.capacity // _PAGE
        return self.capacity - self.size >= PIPE_BUF

    def wake_writers(self) -> None:
        """After bytes left: as Linux, once a page is free and not before."""
        if self.queue.entries and self.writable():
            self.queue.wake(_OUT)

    def resize(self, capacity: int) -> int:
        """fcntl(2) F_SETPIPE_SZ: rounds up to a power of two of pages. EBUSY: less than what is in it."""
        self.dissolve()
        size = max(_PAGE, 1 << (capacity - 1).bit_length() if capacity > 1 else 1)
        if size < self.size or self._slots() * _PAGE > size:
            raise LinuxError(errno.EBUSY, "the pipe holds more than that")
        self.capacity = size
        self.wake_writers()
        return size


class PipeFile(OpenFile):
    """One open end (of a FIFO opened O_RDWR: both). `partner` is the peer's open count that open(2) waits to pass."""

    __slots__ = ("partner", "pipe", "ring_end", "seen_writers")

    pollable = True
    steady = True
    #: A blocking write(2) goes on until all is written; the system-call layer repeats it (pipe(7)).
    writes_all = True

    def __init__(self, inode: Inode, pipe: Pipe, flags: int, path: Path | None = None) -> None:
        super().__init__(inode, flags, path)
        pipe.dissolve()
        pipe.ends.append(self)
        self.ring_end: RingEnd | None = None
        self.pipe = pipe
        self.queue = pipe.queue
        self.partner = -1
        self.seen_writers = -1
        if self.readable:
            pipe.readers += 1
            pipe.reader_opens += 1
        if self.writable:
            pipe.writers += 1
            pipe.writer_opens += 1

    def release(self) -> None:
        pipe = self.pipe
        pipe.dissolve()
        pipe.ends.remove(self)
        if self.readable:
            pipe.readers -= 1
        if self.writable:
            pipe.writers -= 1
        if not pipe.readers and not pipe.writers:
            if self.inode.pipe is pipe:
                self.inode.pipe = None
            pipe.chunks.clear()
            pipe.size = pipe.packets = 0
        if pipe.queue.entries and (not pipe.readers or not pipe.writers):
            pipe.queue.wake(_IN | _OUT | po.POLLHUP | po.POLLERR)

    def open_pending(self) -> bool:
        """Whether open(2) of this FIFO end must still wait for the other end (fifo(7)).

        The open system call parks on `queue` until it is False; on a signal it drops its reference instead.
        """
        if self.partner < 0:
            return False
        opens = self.pipe.reader_opens if self.writable else self.pipe.writer_opens
        if opens == self.partner:
            return True
        self.partner = -1
        return False

    # --- data ---
    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int | None:
        """read(2): bytes leave the pipe only once they reached guest memory. None: empty; EFAULT: none lost."""
        pipe = self.pipe
        chunks = pipe.chunks
        if chunks and not pipe.packets:
            first = chunks[0]
            length = len(first)
            if length == count or (length < count and len(chunks) == 1):
                mm.write(addr, first)
                chunks.popleft()
                pipe.size -= length
                if pipe.queue.entries:
                    pipe.wake_writers()
                pipe.moved += length + CALL_COST
                if pipe.moved > BUSY:
                    pipe.make_ring(mm, self)
                return length
        elif pipe.ring is not None:
            ring = pipe.ring
            done = ring.read_user(mm, addr, count)
            if done or not count:
                return done
            return None if ring.is_empty() else ring.read_user(mm, addr, count)
        elif not chunks and count and pipe.writers:
            return None
        data = self._next(count)
        if data:
            mm.write(addr, data)
            pipe.consume(len(data))
        return len(data)

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """write(2): reads no more guest memory than fits. WouldBlock: full; EPIPE: nobody reads."""
        pipe = self.pipe
        if pipe.ring is not None and not self.flags & _DIRECT:
            return pipe.fill_ring(pipe.ring, count, lambda ring: ring.write_user(mm, addr, count)) if count else 0
        if 0 < count <= pipe.capacity - pipe.size and pipe.readers and not pipe.packets and not self.flags & _DIRECT:
            chunks = pipe.chunks
            chunks.append(mm.read(addr, count))
            pipe.size += count
            if pipe.queue.entries:
                pipe.queue.wake(_IN)
            if len(chunks) > _MAX_CHUNKS:
                pipe.compact()
            pipe.moved += count + CALL_COST
            if pipe.moved > BUSY:
                pipe.make_ring(mm, self)
            return count
        if count > PIPE_BUF and pipe.readers:
            count = min(count, max(pipe.capacity - pipe.size, PIPE_BUF + 1))
        elif count and not pipe.readers:
            raise LinuxError(errno.EPIPE)
        return self.write(mm.read(addr, count))

    def read(self, count: int) -> bytes:
        if self.pipe.ring is not None and count:
            return self.pipe.ring.take_some(count)
        data = self._next(count)
        if data:
            self.pipe.consume(len(data))
        return data

    def write(self, data: bytes | memoryview) -> int:
        return self.pipe.push(data, packet=bool(self.flags & _DIRECT))

    def peek(self, count: int) -> bytes:
        """As read, without taking anything out (tee(2)). b'': the end; WouldBlock: empty."""
        return self._next(count)

    def consume(self, count: int) -> None:
        """Take out `count` bytes that `peek` has shown (splice(2))."""
        self.pipe.consume(count)

    def _next(self, count: int) -> bytes:
        pipe = self.pipe
        pipe.dissolve()
        if not pipe.chunks:
            if count == 0 or (not pipe.writers and self.partner < 0):
                return b""
            raise WouldBlock
        return pipe.peek(count)

    # --- readiness, control ---
    def poll(self) -> int:
        """As fs/pipe.c pipe_poll: a FIFO reader sees no POLLHUP before a first writer has come."""
        pipe = self.pipe
        bits = 0
        if pipe.ring is not None:
            if self.readable and not pipe.ring.is_empty():
                bits = _IN
            if self.writable and not pipe.ring.lacks(pipe.ring.enough):
                bits |= _OUT
            return bits
        if self.readable:
            if pipe.chunks:
                bits = _IN
            if not pipe.writers and self.seen_writers != pipe.writer_opens:
                bits |= po.POLLHUP
        if self.writable:
            if pipe.writable():
                bits |= _OUT
            if not pipe.readers:
                bits |= po.POLLERR
        return bits

    def get_capacity(self) -> int:
        """fcntl(2) F_GETPIPE_SZ, bytes."""
        return self.pipe.capacity

    def set_capacity(self, capacity: int, task: Task | None = None) -> int:
        """fcntl(2) F_SETPIPE_SZ: the new size. EINVAL: 0 or over 2^31; EPERM: over pipe-max-size; EBUSY: in use."""
        if not 0 < capacity <= 1 << 31:
            raise LinuxError(errno.EINVAL)
        if capacity > PIPE_MAX_SIZE and (task is None or not task.cred.has_cap(_CAP_SYS_RESOURCE)):
            raise LinuxError(errno.EPERM)
        if capacity > _LARGEST:
            raise LinuxError(errno.ENOMEM)
        return self.pipe.resize(capacity)

    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        """FIONREAD (ioctl_list(2)); ENOTTY for others."""
        if request == io.FIONREAD:
            ring = self.pipe.ring
            task.mm.write(arg, I32.pack(self.pipe.size if ring is None else ring.used()))
            return 0
        raise LinuxError(errno.ENOTTY)

    def proc_link(self) -> bytes:
        return b"pipe:[%d]" % self.inode.ino


def _reads(file: PipeFile) -> bool:
    return file.readable


def _writes(file: PipeFile) -> bool:
    return file.writable


def make_pipe(inode: Inode, flags: int = 0) -> tuple[PipeFile, PipeFile]:
    """The (read, write) ends of a new pipe on its pipefs inode. `flags`: O_NONBLOCK and O_DIRECT, as pipe2(2)."""
    pipe = Pipe()
    inode.pipe = pipe
    flags &= fc.O_NONBLOCK | fc.O_DIRECT
    return PipeFile(inode, pipe, fc.O_RDONLY | (flags & ~fc.O_DIRECT)), PipeFile(inode, pipe, fc.O_WRONLY | flags)


def open_fifo(inode: Inode, flags: int, task: object = None, path: Path | None = None) -> PipeFile:
    """Open an end of the FIFO `inode` (fifo(7)). ENXIO: O_WRONLY|O_NONBLOCK and nobody reads.

    Never blocks: a blocking open without a partner gives a file whose `open_pending()` is True; open(2) waits for it.
    """
    pipe = cast("Pipe | None", inode.pipe)
    mode = flags & fc.O_ACCMODE
    if mode == fc.O_WRONLY and flags & fc.O_NONBLOCK and (pipe is None or not pipe.readers):
        raise LinuxError(errno.ENXIO, "no reader of the fifo")
    if pipe is None:
        inode.pipe = pipe = Pipe()
    file = PipeFile(inode, pipe, flags, path)
    if mode == fc.O_RDONLY and not pipe.writers:
        if flags & fc.O_NONBLOCK:
            file.seen_writers = pipe.writer_opens
        else:
            file.partner = pipe.writer_opens
    elif mode == fc.O_WRONLY and not pipe.readers:
        file.partner = pipe.reader_opens
    if pipe.queue.entries:
        pipe.queue.wake()
    return file
