"""The bytes a TCP connection has been given to send and that are not acknowledged yet, addressed by sequence number.

Written once and never moved: a large write becomes one immutable chunk, of which segments take views without a copy;
small writes gather in a tail that is frozen when the first of its bytes is sent. Bytes that stay where their writer put
them (a ring in shared memory) are a chunk that may `grow`: it is longer than what was written of it so far. Sequence
numbers are unwrapped ints.

    first                the oldest byte still held
    end                  one past the newest byte
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

SMALL_WRITE: Final = 4096  # bytes; smaller writes are gathered
TAIL_LIMIT: Final = 65536


class SendBuffer:
    __slots__ = ("_chunks", "_starts", "_tail", "_tail_start", "end", "first", "growing")

    def __init__(self, first: int) -> None:
        self.first = first
        self.end = first
        self._starts: list[int] = []
        self._chunks: list[bytes | memoryview] = []
        self.growing = False  # the last chunk was shared and has more behind `end`
        self._tail: bytearray | None = None
        self._tail_start = first

    def __len__(self) -> int:
        return self.end - self.first

    def begin(self, first: int) -> None:
        """Number what follows from `first` on. Nothing was taken yet."""
        self.first = self.end = self._tail_start = first

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Take all of `data`. Whoever limits the buffer's size does so before."""
        size = len(data)
        if self.growing:
            self._stop_growing()
        if size < SMALL_WRITE:
            tail = self._tail
            if tail is None:
                if size and self.first == self.end and not self._starts and type(data) is bytes:
                    self._starts.append(self.end)  # most often it is sent before another write comes
                    self._chunks.append(data)
                    self.end += size
                    return
                self._tail = bytearray(data)
                self._tail_start = self.end
            else:
                tail += data
            self.end += size
            if tail is not None and len(tail) >= TAIL_LIMIT:
                self._freeze()
            return
        if self._tail is not None:
            self._freeze()
        self._starts.append(self.end)
        self._chunks.append(bytes(data))
        self.end += size

    def share(self, memory: memoryview, count: int) -> None:
        """Take the first `count` bytes of `memory` without a copy; the rest of it may follow by `grow`."""
        if self._tail is not None:
            self._freeze()
        if self.growing:
            self._stop_growing()
        self._starts.append(self.end)
        self._chunks.append(memory)
        self.end += count
        self.growing = True

    def grow(self, count: int) -> None:
        """`count` bytes more of what was shared last. Only while `growing`, and as far as that memory goes."""
        self.end += count

    def _stop_growing(self) -> None:
        """Others follow: what was shared ends at `end`."""
        self.growing = False
        if self._starts:
            self._chunks[-1] = self._chunks[-1][: self.end - self._starts[-1]]

    def _freeze(self) -> None:
        tail = self._tail
        if tail is not None:
            self._starts.append(self._tail_start)
            self._chunks.append(bytes(tail))
            self._tail = None

    def view(self, start: int, end: int) -> bytes | memoryview:
        """The bytes start..end, first <= start <= end <= self.end; stays valid after `release`."""
        if end > self._tail_start and self._tail is not None:
            self._freeze()
        if start == end:
            return b""
        starts = self._starts
        index = bisect_right(starts, start) - 1 if len(starts) > 1 else 0
        chunk = self._chunks[index]
        begin = start - starts[index]
        stop = end - starts[index]
        if stop <= len(chunk):
            if begin == 0 and stop == len(chunk):
                return chunk
            return memoryview(chunk)[begin:stop]
        parts = [memoryview(chunk)[begin:]]
        left = stop - len(chunk)
        while left > 0:
            index += 1
            chunk = self._chunks[index]
            parts.append(memoryview(chunk)[:left])
            left -= len(chunk)
        return b"".join(parts)

    def release(self, upto: int) -> None:
        """Forget everything before `upto`, which lies in first..end."""
        self.first = upto
        starts = self._starts
        chunks = self._chunks
        if not starts:
            return
        if self.growing and upto == self.end:
            starts.clear()  # shared memory is not held on to for nothing
            chunks.clear()
            self.growing = False
            return
        if len(starts) == 1:
            if starts[0] + len(chunks[0]) <= upto:
                starts.clear()
                chunks.clear()
            return
        count = bisect_right(starts, upto) - 1
        if count >= 0 and starts[count] + len(chunks[count]) <= upto:
            count += 1
        if count > 0:
            del starts[:count]
            del chunks[:count]
