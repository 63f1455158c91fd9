"""What the verbs share: one kind of error, the parser's style, reading files, and printing tables."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn


class CommandError(Exception):
    """Ends the program with one line (or a few, one a problem). `usage`: exit status 2 instead of 1."""

    def __init__(self, why: str, *, usage: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.status = 2 if usage else 1


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        """See argparse."""
        sys.stderr.write(f"{self.prog}: {message} (see {self.prog} --help)\n")
        sys.exit(2)


def usage_parser(prog: str, about: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser in our style."""
    return _Parser(
        prog=prog,
        description=about,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def read_file(path: str) -> str:
    """A text file. CommandError."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        raise CommandError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None


def default_socket() -> str:
    """Where the control socket is when nobody says: $NETSTACKD_CONTROL, else /run/netstackd/control.sock."""
    return os.environ.get("NETSTACKD_CONTROL", "/run/netstackd/control.sock")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as aligned columns with a headline; numbers to the right. Columns that are empty everywhere are left out."""
    if not rows:
        return ""
    names = list(columns or rows[0])
    texts = [[_cell(row.get(name)) for name in names] for row in rows]
    keep = [index for index in range(len(names)) if any(line[index] for line in texts)]
    right = [all(isinstance(row.get(names[index]), int | float | None) for row in rows) for index in range(len(names))]
    head = [name.upper().replace("_", " ") for name in names]
    widths = [max(len(head[index]), *(len(line[index]) for line in texts)) for index in range(len(names))]
    lines = []
    for line in [head, *texts]:
        cells = [
            line[index].rjust(widths[index]) if right[index] else line[index].ljust(widths[index]) for index in keep
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list):
        return "/".join(str(item) for item in value)
    return str(value)
