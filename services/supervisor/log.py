"""Where the supervisor's own words go: standard error, or the file of --log as Docker's and containerd's shims read it.

Owns: `Log`. Warnings and errors are one line each. With `--log FILE` they go there as well, as text or as JSON objects
with `level`, `msg` and `time`.
"""

from __future__ import annotations

import os
import sys
import time

_LEVELS = ("debug", "info", "warning", "error")


class Log:
    """debug: show debug lines and service logs. path, as_json: --log and --log-format. quiet: hide what may be."""

    def __init__(
        self, debug: bool = False, path: str | None = None, as_json: bool = False, quiet: bool = False
    ) -> None:
        self.is_debug = debug
        self._path = path
        self._as_json = as_json
        self._quiet = quiet

    def error(self, line: str) -> None:
        """The line that tells why the command fails, complete."""
        self._file("error", line)
        self.plain(line)

    def warning(self, text: str, hint: str = "", can_hide: bool = False) -> None:
        """Something that is weaker or ignored; `can_hide`: SENTRIO_QUIET=1 hides it."""
        line = f"supervisor: warning: {text}" + (f" ({hint})" if hint else "")
        self._file("warning", line)
        if not (can_hide and self._quiet):
            self.plain(line)

    def debug(self, text: str) -> None:
        """Shown with --debug only."""
        if self.is_debug:
            self._file("debug", text)
            self.plain(f"supervisor: debug: {text}")

    def service(self, level: str, text: str) -> None:
        """A line from a service: into the log file; on standard error only with --debug, which is the guest's too."""
        self._file(level if level in _LEVELS else "info", text)
        if self.is_debug:
            self.plain(f"supervisor: {level}: {text}")

    def plain(self, text: str) -> None:
        """`text` on standard error as it is; a closed one is no error."""
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            pass

    def _file(self, level: str, text: str) -> None:
        if self._path is None:
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._as_json:
            import json

            line = json.dumps({"level": level, "msg": text, "time": stamp})
        else:
            line = f'time="{stamp}" level={level} msg={text!r}'
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "w") as file:
                file.write(line + "\n")
        except OSError:
            pass
