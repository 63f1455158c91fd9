"""The caller's terminal: what it looked like before the sandbox, and back to that whatever happens.

Owns: `Terminal`. The Sentry puts the terminal into raw mode itself and runs its own line discipline; it may be killed
at any moment, so the monitor remembers and restores.
"""

from __future__ import annotations

import os
import signal
import termios


class Terminal:
    """The terminal behind descriptor `fd`; its modes are saved when this is made."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved = termios.tcgetattr(fd)

    def size(self) -> tuple[int, int]:
        """(rows, columns) now, (0, 0) when it does not say."""
        try:
            columns, rows = os.get_terminal_size(self._fd)
        except OSError:
            return 0, 0
        return rows, columns

    def restore(self) -> None:
        """Put the saved modes back. A terminal that is gone is no error."""
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # we may be in the background by now
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)
        except (OSError, termios.error):
            pass
        finally:
            signal.signal(signal.SIGTTOU, before)
