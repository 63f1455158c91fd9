"""`supervisor list`: every container below the state root."""

from __future__ import annotations

import json
import os
import sys

from services.supervisor.container.store import Record, Store
from services.supervisor.grammar import Option, parse
from services.supervisor.operands import none
from services.supervisor.settings import Settings

SYNOPSIS = "list [OPTIONS]"
OPTIONS = (
    Option(("--format", "-f"), "FORMAT", "table (default) or json", choices=("table", "json")),
    Option(("--quiet", "-q"), "", "ids only"),
)
_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED")


def run(words: list[str], settings: Settings) -> int:
    """Prints the list, which is empty when there is no state root."""
    given, _ = parse("list", OPTIONS, words, stop_at_operand=False)
    none("list", given)
    records = Store(settings.state_root).list()
    if given.has("quiet"):
        text = "".join(record.id + "\n" for record in records)
    elif given.one("format") == "json":
        text = json.dumps([_document(record) for record in records]) + "\n"
    else:
        text = _table([_row(record) for record in records])
    sys.stdout.write(text)
    return 0


def _document(record: Record) -> dict[str, object]:
    return {**record.oci_state(), "created": record.created, "owner": str(os.geteuid())}


def _row(record: Record) -> tuple[str, ...]:
    state = record.oci_state()
    return record.id, str(state["pid"]), record.status.value, record.bundle, record.created


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [_COLUMNS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )
