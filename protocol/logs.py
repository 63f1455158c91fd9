"""A service's log: one line a message on standard error, which the monitor reads.

As much of `logging` as a service needs (levels, "%" formatting, an exception's traceback), without what importing it
brings in (regular expressions, tokenizer, threading: 7 ms of every start), and without opening source files for
tracebacks, which a sealed service may not do.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["LEVELS", "Log", "traceback_text"]

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log:
    """Lines begin with `name`; messages below `level` (a name of LEVELS) are dropped. A closed `fd` is no error."""

    __slots__ = ("_fd", "_level", "_name")

    def __init__(self, name: str, level: str = "warning", fd: int = 2) -> None:
        self._name = name
        self._level = LEVELS[level]
        self._fd = fd

    def debug(self, text: str, *values: object) -> None:
        """For those who look for a bug."""
        self._write(10, text, values)

    def info(self, text: str, *values: object) -> None:
        """What is worth knowing and nothing to worry about."""
        self._write(20, text, values)

    def warning(self, text: str, *values: object) -> None:
        """Something is not as it should be, and goes on."""
        self._write(30, text, values)

    def error(self, text: str, *values: object, exc_info: BaseException | None = None) -> None:
        """Something failed; `exc_info` is added with where it came from."""
        self._write(40, text, values)
        if exc_info is not None:
            self._write(40, "%s", (traceback_text(exc_info),))

    def _write(self, level: int, text: str, values: tuple[object, ...]) -> None:
        if level < self._level:
            return
        line = f"{self._name}: {text % values if values else text}\n"
        try:
            os.write(self._fd, line.encode(errors="replace"))
        except OSError:
            pass


def traceback_text(error: BaseException) -> str:
    """`error` and the places it passed, innermost first, with its causes: on one line, without the source."""
    parts = [f"{type(error).__name__}: {error}"]
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_qualname}")
        trace = trace.tb_next
    parts += [f"at {place}" for place in reversed(places)]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        parts.append(f"after {traceback_text(cause)}")
    return " | ".join(parts)
