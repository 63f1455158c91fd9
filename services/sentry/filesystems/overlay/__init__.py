"""Overlay file system: one private upper over one or more read-only lowers. Read `superblock.py` first.

Made by `superblock.make_overlay`. mount(2) of type "overlay" from inside a sandbox is refused: its upperdir must be
kept in the format that others read, and this overlay keeps its changes in memory only.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.superblock import Superblock

__all__ = ["make"]


def make(kernel: Kernel, source: bytes, flags: int, options: bytes) -> Superblock:
    """The registry's constructor. ENODEV, always: see the module docstring."""
    raise LinuxError(errno.ENODEV, "overlay mounts from inside a sandbox")
