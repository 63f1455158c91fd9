"""`#!` scripts (execve(2), "Interpreter scripts"). Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["HEAD_SIZE", "parse"]

HEAD_SIZE: Final = 256  # BINPRM_BUF_SIZE


def parse(head: bytes) -> tuple[bytes, bytes | None] | None:
    """(interpreter, its one optional argument) from a file's first bytes; None: not a usable script.

    The first line is cut at HEAD_SIZE bytes; a cut inside the interpreter's name makes it unusable, as on Linux.
    """
    if head[:2] != b"#!":
        return None
    line, newline, _ = head[:HEAD_SIZE].partition(b"\n")
    rest = line[2:].strip(b" \t")
    if not newline and len(head) >= HEAD_SIZE and b" " not in rest and b"\t" not in rest:
        return None
    rest = rest.split(b"\0", 1)[0]
    if not rest:
        return None
    for k, char in enumerate(rest):
        if char in b" \t":
            argument = rest[k:].strip(b" \t")
            return rest[:k], argument or None
    return rest, None
