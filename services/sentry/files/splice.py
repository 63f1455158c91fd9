"""Moving bytes between open files without guest memory: sendfile(2), splice(2), tee(2), copy_file_range(2).

One engine, `move`, over two small protocols: a source gives bytes that may be taken back (`give`, then `taken`), a sink
accepts some of them. Nothing is lost when the sink takes less than the source gave or refuses: a source only forgets
what the sink took. Sources that cannot be peeked at (sockets, terminals) are read only after the sink said that it has
room, and no more than that; their sink is always a pipe. WouldBlock leaves with the side that blocks named in
`Blocked`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.files.pipe import PipeFile

if TYPE_CHECKING:
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["PIECE", "Blocked", "Side", "move"]

PIECE: Final = 1 << 16
"""Bytes moved in one step."""


class Blocked(WouldBlock):
    """Nothing moved: `file` is the side to wait for; `sink` tells which one it is."""

    __slots__ = ("file", "sink")

    def __init__(self, file: OpenFile, *, sink: bool) -> None:
        super().__init__()
        self.file = file
        self.sink = sink


class Side:
    """One end of a transfer: a file and, for a positioned one, the offset that moves along instead of the file's."""

    __slots__ = ("file", "offset")

    def __init__(self, file: OpenFile, offset: int | None = None) -> None:
        self.file = file
        self.offset = offset

    # --- as a source ---
    def give(self, count: int) -> bytes:
        """Up to `count` bytes, still the source's until `taken`. b'': the end. WouldBlock."""
        file = self.file
        if self.offset is not None:
            return file.pread(count, self.offset)
        if isinstance(file, PipeFile):
            return file.peek(count)
        if file.seekable:
            return file.pread(count, file.offset)
        return file.read(count)

    def taken(self, count: int) -> None:
        """The sink has `count` of the bytes just given."""
        file = self.file
        if self.offset is not None:
            self.offset += count
        elif isinstance(file, PipeFile):
            file.consume(count)
        elif file.seekable:
            file.offset += count

    # --- as a sink ---
    def accept(self, data: bytes | memoryview) -> int:
        """Bytes taken. WouldBlock: none."""
        file = self.file
        if self.offset is None:
            return file.write(data)
        done = file.pwrite(data, self.offset)
        self.offset += done
        return done

    def room(self) -> int:
        """How much a sink surely takes now: a pipe's free space, else PIECE. WouldBlock: a full pipe."""
        file = self.file
        if isinstance(file, PipeFile):
            pipe = file.pipe
            if pipe.readers and not pipe.room():
                raise WouldBlock
            return min(PIECE, pipe.room() or PIECE)
        return PIECE


def move(source: Side, sink: Side, count: int, done: int = 0) -> int:
    """Move up to `count` bytes; `done` of an earlier attempt are included. The total.

    Blocked: nothing at all could be moved (done == 0); with something moved the total is returned. Other errors only
    when nothing was moved.
    """
    while done < count:
        step = min(PIECE, count - done)
        try:
            try:
                step = min(step, sink.room())
            except WouldBlock:
                raise Blocked(sink.file, sink=True) from None
            try:
                data = source.give(step)
            except WouldBlock:
                raise Blocked(source.file, sink=False) from None
            if not data:
                return done
            try:
                moved = sink.accept(data)
            except WouldBlock:
                raise Blocked(sink.file, sink=True) from None
        except (WouldBlock, LinuxError):
            if done:
                return done
            raise
        source.taken(moved)
        done += moved
        if moved < len(data):
            return done
    return done
