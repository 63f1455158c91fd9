"""The bytes a connection has received in order and that nobody has read yet: a queue of chunks, copied once, at `read`.

A chunk may be a view of the frame it came in. Small ones are copied at once and gathered, so that a byte that waits
here does not keep a whole frame alive and the memory held stays in proportion to `size`.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final

SMALL_CHUNK: Final = 512  # bytes


class ReceiveBuffer:
    __slots__ = ("_chunks", "_offset", "size")

    def __init__(self) -> None:
        self._chunks: deque[bytes | bytearray | memoryview] = deque()
        self._offset = 0  # bytes of the first chunk already read
        self.size = 0

    def append(self, data: bytes | memoryview) -> None:
        """Take `data`, which must never change afterwards."""
        size = len(data)
        self.size += size
        if size < SMALL_CHUNK:
            chunks = self._chunks
            if chunks:
                last = chunks[-1]
                if type(last) is bytearray and len(last) < SMALL_CHUNK * 8:
                    last += data
                    return
            chunks.append(bytearray(data))
            return
        self._chunks.append(data)

    def read(self, limit: int) -> bytes:
        """Take out at most `limit` bytes."""
        chunks = self._chunks
        if limit >= self.size:
            self.size = 0
            if len(chunks) == 1:
                data = bytes(chunks.popleft()[self._offset :] if self._offset else chunks.popleft())
            else:
                if self._offset:
                    chunks[0] = memoryview(chunks[0])[self._offset :]
                data = b"".join(chunks)
                chunks.clear()
            self._offset = 0
            return data
        parts = self._parts(limit)
        data = b"".join(parts)
        self.discard(limit)
        return data

    def parts(self, count: int) -> list[bytes | bytearray | memoryview]:
        """The first pieces, at most `count`, where they are: to be used at once, and then `discard`ed."""
        found = list(islice(self._chunks, count))
        if self._offset and found:
            found[0] = memoryview(found[0])[self._offset :]
        return found

    def _parts(self, limit: int) -> list[memoryview]:
        parts: list[memoryview] = []
        skip = self._offset
        for chunk in self._chunks:
            if limit <= 0:
                break
            part = memoryview(chunk)[skip : skip + limit]
            parts.append(part)
            limit -= len(part)
            skip = 0
        return parts

    def peek(self, limit: int, skip: int = 0) -> bytes:
        """At most `limit` bytes after the first `skip`, left in place."""
        return b"".join(self._parts(limit + skip))[skip:]

    def discard(self, count: int) -> None:
        """Drop the first `count` bytes, count <= size."""
        self.size -= count
        chunks = self._chunks
        count += self._offset
        while chunks and len(chunks[0]) <= count:
            count -= len(chunks.popleft())
        self._offset = count

    def clear(self) -> None:
        self._chunks.clear()
        self._offset = 0
        self.size = 0
