"""The caller's terminal: what it looked like before the sandbox, and back to that whatever happens.

Owns: `Terminal`. The Sentry puts the terminal into raw mode itself and runs its own line discipline; it may be killed
at any moment, so the monitor remembers and restores.

A job of an interactive shell may be started in the background, where the terminal is the shell's: then nothing is
changed and nothing is read until the shell brings us to the foreground. Nobody tells a running job of that, so we look
whenever there is a reason to: SIGCONT, or a guest that wants to read.
"""

from __future__ import annotations

import os
import signal
import termios

from services.supervisor.launch.direct import in_foreground


class Terminal:
    """The terminal behind descriptor `fd`; its modes are saved when this is made. `ours`: the Sentry may use it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved = termios.tcgetattr(fd)
        self.ours = in_foreground(fd)

    def look(self) -> bool:
        """Whether `ours` changed: the shell that we are a job of moved us."""
        before, self.ours = self.ours, in_foreground(self._fd)
        if self.ours and not before:
            self._saved = termios.tcgetattr(self._fd)
        return self.ours is not before

    def stop_as_reader(self) -> None:
        """What the kernel does to a background job that reads its terminal; returns when the job was continued."""
        os.killpg(0, signal.SIGTTIN)

    def size(self) -> tuple[int, int]:
        """(rows, columns) now, (0, 0) when it does not say."""
        try:
            columns, rows = os.get_terminal_size(self._fd)
        except OSError:
            return 0, 0
        return rows, columns

    def restore(self) -> None:
        """Put the saved modes back, unless the terminal is another job's. A terminal that is gone is no error."""
        self.look()
        if not self.ours:
            return
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # we may be in the background by now
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)
        except (OSError, termios.error):
            pass
        finally:
            signal.signal(signal.SIGTTOU, before)
