"""Who may look into another process: the ptrace access check (ptrace(2), "Ptrace access mode checking")."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from protocol.abi import capability_h as ch
from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["check_trace_access", "may_trace"]


def may_trace(caller: Task, target: Task, *, fs_ids: bool = False) -> bool:
    """PTRACE_MODE_ATTACH with real ids, or (`fs_ids`, as /proc uses it) with file-system ids."""
    if caller.group is target.group:
        return True
    cred, other = caller.cred, target.cred
    uid, gid = (cred.fsuid, cred.fsgid) if fs_ids else (cred.ruid, cred.rgid)
    if cred.has_cap(ch.CAP_SYS_PTRACE):
        return True
    if (other.ruid, other.euid, other.suid) != (uid,) * 3 or (other.rgid, other.egid, other.sgid) != (gid,) * 3:
        return False
    return target.dumpable == 1 and not other.cap_permitted & ~cred.cap_permitted


def check_trace_access(caller: Task, target: Task) -> None:
    """EPERM: `caller` may not trace `target`."""
    if not may_trace(caller, target):
        raise LinuxError(errno.EPERM)
