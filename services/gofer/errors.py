"""The error that a request of the client ends in: answered with Rlerror, never more.

`LinuxError` is an OSError, so that what the host says and what the gofer itself says take one path to the client.
"""

from __future__ import annotations


class LinuxError(OSError):
    """Guest-visible failure. `why`: lower case, no full stop, names the object; for logs, it does not travel."""

    def __init__(self, errno: int, why: str) -> None:
        super().__init__(errno, why)
        self.why = why


class ConfigurationError(Exception):
    """What was asked for at the start cannot be served. One line, ready to be shown: `what: why`."""
