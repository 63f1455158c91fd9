"""An allowlist as data: one `Row` per host system call, with the reason it is needed.

Owns the meaning of argument restrictions and the canonical text of a list (what a cached filter is keyed by). Applies
nothing: see `seal_unsafe.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from protocol.records import record

PROT_EXEC: Final = 4


class Compare(enum.IntEnum):
    """Comparison of one argument; the values are libseccomp's (enum scmp_compare)."""

    NE = 1
    LT = 2
    LE = 3
    EQ = 4
    GE = 5
    GT = 6
    MASKED_EQ = 7


@record(frozen=True)
class Argument:
    """Argument number `index` (0..5) must compare so with `value`; MASKED_EQ compares (argument & mask) with
    `value`.
    """

    index: int
    compare: Compare
    value: int
    mask: int = 0


@record(frozen=True)
class Row:
    """One allowed call. `args`: all must hold. Several rows of one name are alternatives; `reason` is one line."""

    name: str
    reason: str
    args: tuple[Argument, ...] = ()


NOT_EXECUTABLE: Final = (Argument(2, Compare.MASKED_EQ, 0, PROT_EXEC),)
"""Restriction of mmap and mprotect: PROT_EXEC refused."""


def distinct_calls(rows: Sequence[Row]) -> frozenset[str]:
    """The names a list allows."""
    return frozenset(row.name for row in rows)


def canonical_text(rows: Sequence[Row]) -> str:
    """The list without its reasons, in a form that is equal exactly when the filters are."""
    lines = sorted(
        " ".join([row.name, *(f"{a.index}:{int(a.compare)}:{a.value:x}:{a.mask:x}" for a in row.args)]) for row in rows
    )
    return "\n".join(lines)
