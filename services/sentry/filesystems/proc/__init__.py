"""procfs (proc(5)): the system's and every task's state as files.

Read next: tree.py (which entries there are), superblock.py (how they become nodes). A file's contents are made by one
function in system/, task/, net/ or sysctl/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sentry.filesystems.proc.superblock import ProcSuperblock

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.superblock import Superblock

__all__ = ["make"]


def make(kernel: Kernel, source: bytes, flags: int, options: bytes) -> Superblock:
    """A new instance; options (hidepid, gid, subset) are accepted and change nothing."""
    return ProcSuperblock(kernel, source, flags, options)
