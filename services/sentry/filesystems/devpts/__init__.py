"""devpts: the slaves of pseudo-terminals as device nodes /dev/pts/N (pts(4)), and a ptmx node of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sentry.filesystems.devpts.superblock import DevptsSuperblock

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.superblock import Superblock

__all__ = ["make"]


def make(kernel: Kernel, source: bytes, flags: int, options: bytes) -> Superblock:
    """A new, independent instance (as with `newinstance`, which is implied since Linux 4.7). EINVAL: a bad option."""
    return DevptsSuperblock(kernel, source, flags, options)
