"""File system types by name: what mount(2) and the container's mount list can ask for.

A row names a module and a constructor `(kernel, source, flags, options) -> Superblock`; the module is imported at first
use. EINVAL of a constructor: a bad option; ENODEV: the type does not exist.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.superblock import Superblock

__all__ = ["TYPES", "Constructor", "FilesystemType", "make_superblock", "preload"]

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
    b"mqueue": FilesystemType("mqueue"),
    b"cgroup2": FilesystemType("cgroupfs"),
    b"overlay": FilesystemType("overlay"),
}


def preload() -> None:
    """Import every module of the table that exists: after a service is sealed nothing can be imported any more."""
    for row in TYPES.values():
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"services.sentry.filesystems.{row.module}")


def make_superblock(kernel: Kernel, type_name: bytes, source: bytes, flags: int, options: bytes) -> Superblock:
    """A new instance of the file system `type_name`. ENODEV: unknown type."""
    row = TYPES.get(type_name)
    if row is None:
        raise LinuxError(errno.ENODEV)
    try:
        module = importlib.import_module(f"services.sentry.filesystems.{row.module}")
    except ModuleNotFoundError:
        raise LinuxError(errno.ENODEV, f"no module for {type_name!r}") from None
    constructor = cast("Constructor", getattr(module, row.constructor))
    return constructor(kernel, source, flags, options)
