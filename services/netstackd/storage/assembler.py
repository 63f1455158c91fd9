"""Pieces of a byte stream that arrived out of order, until the gap before them is filled.

Pieces are kept apart in order of position and never overlap: what came first stays (RFC 9293 3.10.7.4 trims the new
segment). Adjacent pieces form a range; the ranges are what a SACK option reports, most recent first (RFC 2018 4).
Positions are unwrapped ints. Bounded by who feeds it: `size` is bytes held, `ranges` the number of holes.
"""

from __future__ import annotations

from bisect import bisect_right

Chunk = bytes | memoryview


class Range:
    """A run of bytes without a hole, [start, end)."""

    __slots__ = ("end", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end

    def __repr__(self) -> str:
        return f"[{self.start}, {self.end})"


def _range_start(item: Range) -> int:
    return item.start


class Assembler:
    __slots__ = ("_chunks", "_starts", "ranges", "recent", "size")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._chunks: list[Chunk] = []
        self.ranges: list[Range] = []  # by position
        self.recent: list[Range] = []  # the same objects, the one that grew last first
        self.size = 0

    def add(self, start: int, data: Chunk) -> tuple[int, int] | None:
        """Keep what of `data` (at `start`) is not held yet. The first part that was held already, or None."""
        end = start + len(data)
        ranges = self.ranges
        if not ranges or start >= ranges[-1].end:
            self._starts.append(start)
            self._chunks.append(data)
            self.size += end - start
            if ranges and start == ranges[-1].end:
                ranges[-1].end = end
                self._touch(ranges[-1])
            else:
                item = Range(start, end)
                ranges.append(item)
                self.recent.insert(0, item)
            return None
        return self._add_between(start, end, data)

    def _add_between(self, start: int, end: int, data: Chunk) -> tuple[int, int] | None:
        ranges = self.ranges
        first = max(bisect_right(ranges, start, key=_range_start) - 1, 0)
        if ranges[first].end < start:
            first += 1
        duplicate: tuple[int, int] | None = None
        at = start
        last = first
        new_start, new_end = start, end
        while last < len(ranges) and ranges[last].start <= end:
            item = ranges[last]
            if at < item.start:
                self._insert(at, data[at - start : item.start - start])
            overlap = (max(item.start, start), min(item.end, end))
            if duplicate is None and overlap[0] < overlap[1]:
                duplicate = overlap
            at = max(at, item.end)
            new_start = min(new_start, item.start)
            new_end = max(new_end, item.end)
            last += 1
        if at < end:
            self._insert(at, data[at - start :])
        if first == last:
            merged = Range(new_start, new_end)
            ranges.insert(first, merged)
        else:
            merged = ranges[first]
            gone = ranges[first + 1 : last]
            merged.start, merged.end = new_start, new_end
            del ranges[first + 1 : last]
            if gone:
                self.recent = [item for item in self.recent if item not in gone]
        self._touch(merged)
        return duplicate

    def _insert(self, start: int, data: Chunk) -> None:
        index = bisect_right(self._starts, start)
        self._starts.insert(index, start)
        self._chunks.insert(index, data)
        self.size += len(data)

    def _touch(self, item: Range) -> None:
        recent = self.recent
        if not recent or recent[0] is not item:
            if item in recent:
                recent.remove(item)
            recent.insert(0, item)

    def pieces(self) -> int:
        """How many pieces are held: each costs memory beside its bytes."""
        return len(self._starts)

    def take(self, position: int) -> list[Chunk]:
        """Everything that follows `position` without a gap; what lies before it is dropped."""
        out: list[Chunk] = []
        ranges = self.ranges
        while ranges and ranges[0].start <= position:
            item = ranges.pop(0)
            self.recent.remove(item)
            count = bisect_right(self._starts, item.end - 1)
            for start, chunk in zip(self._starts[:count], self._chunks[:count], strict=True):
                self.size -= len(chunk)
                stop = start + len(chunk)
                if stop > position:
                    out.append(chunk[position - start :] if start < position else chunk)
                    position = stop
            del self._starts[:count]
            del self._chunks[:count]
        return out

    def drop_last(self) -> int:
        """Give up the range furthest ahead, for memory; the bytes freed (RFC 2018 8 allows the receiver to renege)."""
        if not self.ranges:
            return 0
        item = self.ranges.pop()
        self.recent.remove(item)
        index = bisect_right(self._starts, item.start - 1)
        freed = sum(len(chunk) for chunk in self._chunks[index:])
        del self._starts[index:]
        del self._chunks[index:]
        self.size -= freed
        return freed

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]
