"""Ends a sandbox whose monitor was killed, on hosts without namespaces.

Where the Sentry is process 1 of a PID namespace the kernel ends all its guests with it. Without one the guests' host
processes would outlive it; they all stay in the Sentry's process group (nothing lets them leave it). The warden is a
small process that waits for the monitor's end and then kills that group.
"""

from __future__ import annotations

import os
import time

_SIGKILL = 9
_TRIES = 200


class Warden:
    """The monitor's handle on its warden."""

    __slots__ = ("_pid", "_pipe")

    def __init__(self, group: int) -> None:
        """Start one for process group `group`. Raises OSError."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                _watch(reader, group)
            finally:
                os._exit(0)
        os.close(reader)
        self._pid = pid
        self._pipe = writer

    def dismiss(self) -> None:
        """The monitor has ended everything itself."""
        try:
            os.write(self._pipe, b".")
        except OSError:
            pass
        os.close(self._pipe)
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass


def _watch(reader: int, group: int) -> None:
    os.setsid()
    os.dup2(reader, 0, inheritable=False)
    os.closerange(1, 1 << 30)
    if os.read(0, 1) == b"":
        kill_group(group)


def kill_group(group: int) -> None:
    """Kill every process of `group` until none is left (or only ones that are being torn down by the kernel)."""
    for turn in range(_TRIES):
        try:
            os.killpg(group, _SIGKILL)
        except ProcessLookupError:
            return
        except PermissionError:
            pass
        time.sleep(0.001 * min(turn, 20))
