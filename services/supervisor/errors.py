"""The one error that the command line shows, and the exit statuses of its contract.

Owns: `SupervisorError` and the statuses 125, 126, 127 (as Docker's: the supervisor's own failure, a command that
cannot be executed, a command that is not there). Everything else that escapes is a bug: `cli.py` turns it into one
line as well, and into a traceback under --debug.
"""

from __future__ import annotations

STATUS_FAILURE = 125
STATUS_NOT_EXECUTABLE = 126
STATUS_NOT_FOUND = 127
_ENOENT = 2


class SupervisorError(Exception):
    """Something the user is told in one line: `supervisor: what: why (hint)`.

    what: the thing ("config.json", "container web1"). why: lower case, no full stop. hint: what to do about it, or "".
    status: the exit status.
    """

    def __init__(self, what: str, why: str, hint: str = "", status: int = STATUS_FAILURE) -> None:
        super().__init__(what, why)
        self.what = what
        self.why = why
        self.hint = hint
        self.status = status

    def line(self) -> str:
        """The line for standard error, without its newline; control characters are made visible."""
        text = f"supervisor: {self.what}: {self.why}" + (f" ({self.hint})" if self.hint else "")
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def exec_status(errno: int) -> int:
    """The exit status for a program that cannot be executed because of `errno`, as Docker's."""
    return STATUS_NOT_FOUND if errno == _ENOENT else STATUS_NOT_EXECUTABLE


def os_reason(error: OSError) -> str:
    """`error` in words, as strerror(3) has them, lower case."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def reason(error: BaseException) -> str:
    """Any exception in one line, for messages."""
    if isinstance(error, OSError):
        return os_reason(error)
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]
