"""sysfs (sysfs(5)): the part of /sys that lscpu, glibc, language runtimes and system tools look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sentry.filesystems.sysfs.superblock import SysfsSuperblock

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.superblock import Superblock

__all__ = ["make"]


def make(kernel: Kernel, source: bytes, flags: int, options: bytes) -> Superblock:
    """A new instance; it takes no options."""
    return SysfsSuperblock(kernel, source, flags)
