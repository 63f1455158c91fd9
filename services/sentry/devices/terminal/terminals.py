"""The terminals of one sandbox: which devpts instance is the ordinary one, and the console, if there is one.

One object per kernel: `kernel.part(Terminals)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.sentry.devices.terminal.terminal import Terminal
    from services.sentry.filesystems.devpts.superblock import DevptsSuperblock
    from services.sentry.kernel.kernel import Kernel

__all__ = ["Terminals"]


class Terminals:
    """`console`: the host's terminal behind the sandbox's standard streams (/dev/console, /dev/pts/0), or None."""

    __slots__ = ("console", "devpts", "kernel")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.console: Terminal | None = None
        self.devpts: DevptsSuperblock | None = None
