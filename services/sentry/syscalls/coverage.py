"""The compatibility page (docs/COMPATIBILITY.md), made from the system-call table and nothing else.

python -m services.sentry.syscalls.coverage > docs/COMPATIBILITY.md
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from protocol.abi.numbers_amd64 import NAMES
from services.sentry.syscalls.table import Row, build

__all__ = ["LEVELS", "page"]

LEVELS: Final = ("full", "partial", "none")
_MISSING_NOTE: Final = "ENOSYS"
_HEAD: Final = """\
# System calls

Made from the system-call table by `python -m services.sentry.syscalls.coverage > docs/COMPATIBILITY.md`; a test fails
when this page and the table differ. Change the rows in `services/sentry/syscalls/`, not this page.

- **full**: the call itself does what its man page says. What it acts on may be missing: socket(2) is full, and gives
  EAFNOSUPPORT for a family that is not there.
- **partial**: it works, with the limits in the notes.
- **none**: ENOSYS, through one mechanism that counts it. `supervisor do --report-missing` names what a program missed.

The table is x86-64 as of Linux 6.17. Calls of other ABIs (32-bit, x32) are answered with ENOSYS.
"""


def page(table: Sequence[Row | None]) -> str:
    """The whole page for a table by number (`table.build()`). ValueError for a row with an unknown support level."""
    lines: list[str] = []
    counts: Counter[str] = Counter()
    for number, name in sorted(NAMES.items()):
        row = table[number] if number < len(table) else None
        support, note = (row.support, row.note) if row is not None else ("none", _MISSING_NOTE)
        if support not in LEVELS:
            raise ValueError(f"{name}: support is {support!r}, not one of {', '.join(LEVELS)}")
        counts[support] += 1
        lines.append(f"| {number} | `{name}` | {support} | {_cell(note)} | [{name}(2)]({_man_page(name)}) |")
    total = sum(counts.values())
    summary = [f"| {level} | {counts[level]} | {100 * counts[level] / total:.0f} % |" for level in LEVELS]
    return "\n".join(
        [
            _HEAD,
            "| support | calls | of all |",
            "|---|---:|---:|",
            *summary,
            f"| **all** | {total} | |",
            "",
            "| number | call | support | notes | man page |",
            "|---:|---|---|---|---|",
            *lines,
            "",
        ]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _man_page(name: str) -> str:
    return f"https://man7.org/linux/man-pages/man2/{name}.2.html"


if __name__ == "__main__":
    print(page(build()), end="")
