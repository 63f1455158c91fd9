"""The file rows of one address space: what its stub is told of descriptors so that it need not ask (stub/local.S).

A row is one word, so that a guest thread sees it whole. It is zero, or says what may be done without the Sentry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from platforms.systrap import layout

if TYPE_CHECKING:
    from platforms.systrap.arena import Arena

__all__ = ["EMPTY", "SINK", "ZERO", "FileRows"]

SINK: Final = layout.FILE_SINK
EMPTY: Final = layout.FILE_EMPTY
ZERO: Final = layout.FILE_ZERO


class FileRows:
    """`count` rows, by descriptor number. `header_offset`: where the address space's first region lies in the arena."""

    __slots__ = ("_first", "_words", "count")

    def __init__(self, arena: Arena, header_offset: int) -> None:
        self._words = arena.u64
        self._first = (header_offset + layout.FILE_ROWS) // 8
        self.count = layout.FILE_ROW_COUNT

    def set(self, fd: int, row: int) -> None:
        """Say `row` of `fd` from now on; 0: ask."""
        self._words[self._first + fd] = row
