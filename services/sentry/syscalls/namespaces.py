"""unshare(2): descriptors, file-system context and the UTS namespace; the other namespaces are not there."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ch
from protocol.abi import sched_h as sc
from services.sentry.errors import LinuxError
from services.sentry.kernel.uts import UtsNamespace
from services.sentry.syscalls.table import Row

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["ROWS"]

_OF_THREADS: Final = sc.CLONE_THREAD | sc.CLONE_SIGHAND | sc.CLONE_VM
_KNOWN: Final = _OF_THREADS | sc.CLONE_FS | sc.CLONE_FILES | sc.CLONE_SYSVSEM | sc.CLONE_NAMESPACES


def sys_unshare(task: Task, flags: int) -> int:
    """unshare(2). EINVAL: unknown, of a process with threads, or a namespace that is not there; EPERM."""
    if flags & ~_KNOWN or flags & _OF_THREADS and len(task.group.tasks) > 1:
        raise LinuxError(errno.EINVAL)
    others = flags & sc.CLONE_NAMESPACES & ~(sc.CLONE_NEWUTS | sc.CLONE_NEWUSER)
    if flags & sc.CLONE_NEWUSER:
        raise LinuxError(errno.EINVAL)
    if (others or flags & sc.CLONE_NEWUTS) and not task.cred.has_cap(ch.CAP_SYS_ADMIN):
        raise LinuxError(errno.EPERM)
    if others:
        raise LinuxError(errno.EINVAL)
    if flags & sc.CLONE_FS:
        task.fs = task.fs.fork()
    if flags & sc.CLONE_FILES:
        task.files.unshared_for(task)
    if flags & sc.CLONE_NEWUTS:
        task.uts = UtsNamespace(task.uts.hostname, task.uts.domainname)
    return 0


ROWS: Final = (Row("unshare", sys_unshare, "flags", "partial", "of the namespaces only UTS"),)
