"""Who may look into a task: ptrace(2), "Ptrace access mode checking", PTRACE_MODE_READ with file-system ids."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from services.sentry.errors import LinuxError
from services.sentry.kernel.access import may_trace
from services.sentry.mm.opened_file import settle_files

if TYPE_CHECKING:
    from services.sentry.kernel.fd_table import FdTable
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.fs_context import FsContext

__all__ = ["check_may_read", "files_of", "fs_of", "may_read", "mm_of", "owner"]


def may_read(reader: Task, target: Task) -> bool:
    """The same process, the same ids and a dumpable target, or CAP_SYS_PTRACE."""
    return may_trace(reader, target, fs_ids=True)


def check_may_read(reader: Task, target: Task) -> None:
    """EACCES: `reader` may not look into `target`."""
    if not may_read(reader, target):
        raise LinuxError(errno.EACCES, f"task {target.tid}")


def owner(target: Task) -> tuple[int, int]:
    """uid and gid of its files: the effective ones, root's for a process that is not dumpable (proc(5))."""
    if target.dumpable != 1:
        return 0, 0
    return target.cred.euid, target.cred.egid


# A task that is exiting has given its parts back, although its attributes promise them to everybody else.
def mm_of(target: Task) -> AddressSpace | None:
    return target.mm_or_none


def files_of(target: Task) -> FdTable | None:
    settle_files(target)
    return target.files


def fs_of(target: Task) -> FsContext | None:
    return target.fs
