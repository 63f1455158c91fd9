"""File system types by name: what mount(2) and the container's mount list can ask for.

A row names a module and a constructor `(kernel, source, flags, options) -> Superblock`; the module is imported at first
use, or before by boot.import_filesystems: a sealed Sentry cannot look for one. So every row has a module, and what is
not there is no row. EINVAL of a constructor: a bad option; ENODEV: the type does not exist.
"""

from __future__ import annotations

import errno
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.superblock import Superblock

__all__ = ["TYPES", "Constructor", "FilesystemType", "make_superblock"]

Constructor: TypeAlias = "Callable[[Kernel, bytes, int, bytes], Superblock]"


class FilesystemType(NamedTuple):
    """`module` below services.sentry.filesystems, `constructor` in it; `nodev` as in /proc/filesystems."""

    module: str
    constructor: str = "make"
    nodev: bool = True


TYPES: Final[dict[bytes, FilesystemType]] = {
    b"tmpfs": FilesystemType("tmpfs"),
    b"ramfs": FilesystemType("tmpfs"),
    b"devtmpfs": FilesystemType("devtmpfs"),
    b"proc": FilesystemType("proc"),
    b"sysfs": FilesystemType("sysfs"),
    b"devpts": FilesystemType("devpts"),
    b"overlay": FilesystemType("overlay"),
}


def make_superblock(kernel: Kernel, type_name: bytes, source: bytes, flags: int, options: bytes) -> Superblock:
    """A new instance of the file system `type_name`. ENODEV: unknown type."""
    row = TYPES.get(type_name)
    if row is None:
        raise LinuxError(errno.ENODEV)
    module = importlib.import_module(f"services.sentry.filesystems.{row.module}")
    constructor = cast("Constructor", getattr(module, row.constructor))
    return constructor(kernel, source, flags, options)
