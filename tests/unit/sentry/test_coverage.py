"""The compatibility page says what the system-call table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.abi.numbers_amd64 import NAMES, NUMBERS
from services.sentry.syscalls.coverage import page
from services.sentry.syscalls.table import SIZE, Row, build

PAGE = Path(__file__).resolve().parents[3] / "docs" / "COMPATIBILITY.md"
AGAIN = "python -m services.sentry.syscalls.coverage > docs/COMPATIBILITY.md"


def row_of(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if f"| `{name}` |" in line]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_committed_page_is_what_the_table_gives() -> None:
    assert PAGE.read_text() == page(build()), f"out of date; make it again: {AGAIN}"


def test_every_call_has_one_line() -> None:
    text = page(build())
    for name in NAMES.values():
        assert len(row_of(text, name)) == 5


def test_a_call_without_a_row_is_none() -> None:
    empty: list[Row | None] = [None] * SIZE
    text = page(empty)
    assert row_of(text, "read")[2:4] == ["none", "ENOSYS"]
    assert f"| none | {len(NAMES)} | 100 % |" in text


def test_support_and_note_come_from_the_row() -> None:
    table: list[Row | None] = [None] * SIZE
    table[NUMBERS["read"]] = Row("read", lambda task: 0, "", "partial", "one | two")
    text = page(table)
    assert row_of(text, "read")[2:4] == ["partial", "one \\| two"]
    assert "| partial | 1 |" in text


def test_an_unknown_level_is_refused() -> None:
    table: list[Row | None] = [None] * SIZE
    table[NUMBERS["read"]] = Row("read", lambda task: 0, "", "mostly")
    with pytest.raises(ValueError, match=r"read: support is 'mostly'"):
        page(table)
