"""Who and whose: pids, process groups, sessions, user and group ids, capabilities (credentials(7), capabilities(7))."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ch
from protocol.abi import limits as lim
from protocol.records import replace
from services.sentry.errors import LinuxError
from services.sentry.kernel import credentials as cr
from services.sentry.kernel.sessions import new_session, set_process_group
from services.sentry.syscalls.arguments import s32, u32
from services.sentry.syscalls.table import Row

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.thread_group import ThreadGroup

__all__ = ["ROWS", "commit"]


# --- pids -------------------------------------------------------------------------------------------------------------
def sys_getpid(task: Task) -> int:
    return task.group.pid


def sys_gettid(task: Task) -> int:
    return task.tid


def sys_getppid(task: Task) -> int:
    parent = task.group.parent
    return parent.pid if parent is not None else 0


def _group(task: Task, pid: int) -> ThreadGroup:
    """The process of `pid` (0: the caller's; a thread's number means its process). ESRCH."""
    pid = s32(pid)
    if not pid:
        return task.group
    found = task.kernel.tasks.get(pid)
    if found is None:
        raise LinuxError(errno.ESRCH)
    return found.group


def sys_getpgid(task: Task, pid: int) -> int:
    """getpgid(2). ESRCH."""
    process_group = _group(task, pid).process_group
    if process_group is None:
        raise LinuxError(errno.ESRCH)
    return process_group.id


def sys_getpgrp(task: Task) -> int:
    process_group = task.group.process_group
    return process_group.id if process_group is not None else 0


def sys_setpgid(task: Task, pid: int, pgid: int) -> int:
    """setpgid(2). EINVAL, ESRCH, EPERM, EACCES."""
    set_process_group(task.kernel, task.group, s32(pid), s32(pgid))
    return 0


def sys_getsid(task: Task, pid: int) -> int:
    """getsid(2). ESRCH."""
    return _group(task, pid).session.id


def sys_setsid(task: Task) -> int:
    """setsid(2): the new session's id. EPERM: the caller leads a process group."""
    return new_session(task.kernel, task.group).id


# --- user and group ids -----------------------------------------------------------------------------------------------
def commit(task: Task, new: Credentials) -> None:
    """Give `task` new credentials, with what a change of ids does (prctl(2) PR_SET_DUMPABLE, PR_SET_PDEATHSIG)."""
    old = task.cred
    if new is old:
        return
    changed = (old.euid, old.egid, old.fsuid, old.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid)
    if changed or new.cap_permitted & ~old.cap_permitted:
        task.dumpable = 0
        task.parent_death_signal = 0
    task.kernel.move_charge(old.ruid, new.ruid)
    task.cred = new


def sys_getuid(task: Task) -> int:
    return task.cred.ruid


def sys_geteuid(task: Task) -> int:
    return task.cred.euid


def sys_getgid(task: Task) -> int:
    return task.cred.rgid


def sys_getegid(task: Task) -> int:
    return task.cred.egid


def sys_getresuid(task: Task, real: int, effective: int, saved: int) -> int:
    """getresuid(2). EFAULT."""
    cred = task.cred
    task.mm.write_u32(real, cred.ruid)
    task.mm.write_u32(effective, cred.euid)
    task.mm.write_u32(saved, cred.suid)
    return 0


def sys_getresgid(task: Task, real: int, effective: int, saved: int) -> int:
    """getresgid(2). EFAULT."""
    cred = task.cred
    task.mm.write_u32(real, cred.rgid)
    task.mm.write_u32(effective, cred.egid)
    task.mm.write_u32(saved, cred.sgid)
    return 0


def sys_setuid(task: Task, uid: int) -> int:
    """setuid(2). EINVAL, EPERM."""
    commit(task, cr.set_uid(task.cred, u32(uid)))
    return 0


def sys_setgid(task: Task, gid: int) -> int:
    """setgid(2). EINVAL, EPERM."""
    commit(task, cr.set_gid(task.cred, u32(gid)))
    return 0


def sys_setreuid(task: Task, ruid: int, euid: int) -> int:
    """setreuid(2). EPERM."""
    commit(task, cr.set_re_uid(task.cred, u32(ruid), u32(euid)))
    return 0


def sys_setregid(task: Task, rgid: int, egid: int) -> int:
    """setregid(2). EPERM."""
    commit(task, cr.set_re_gid(task.cred, u32(rgid), u32(egid)))
    return 0


def sys_setresuid(task: Task, ruid: int, euid: int, suid: int) -> int:
    """setresuid(2). EPERM."""
    commit(task, cr.set_res_uid(task.cred, u32(ruid), u32(euid), u32(suid)))
    return 0


def sys_setresgid(task: Task, rgid: int, egid: int, sgid: int) -> int:
    """setresgid(2). EPERM."""
    commit(task, cr.set_res_gid(task.cred, u32(rgid), u32(egid), u32(sgid)))
    return 0


def sys_setfsuid(task: Task, uid: int) -> int:
    """setfsuid(2): the former one, whether it changed or not."""
    old = task.cred.fsuid
    commit(task, cr.set_fs_uid(task.cred, u32(uid)))
    return old


def sys_setfsgid(task: Task, gid: int) -> int:
    """setfsgid(2)."""
    old = task.cred.fsgid
    commit(task, cr.set_fs_gid(task.cred, u32(gid)))
    return old


def sys_getgroups(task: Task, count: int, addr: int) -> int:
    """getgroups(2). EINVAL: too little room; EFAULT."""
    count = s32(count)
    groups = task.cred.groups
    if count < 0 or (count and count < len(groups)):
        raise LinuxError(errno.EINVAL)
    if count and groups:
        task.mm.write(addr, struct.pack(f"<{len(groups)}I", *groups))
    return len(groups)


def sys_setgroups(task: Task, count: int, addr: int) -> int:
    """setgroups(2). EPERM: no CAP_SETGID; EINVAL: too many; EFAULT."""
    if not task.cred.has_cap(ch.CAP_SETGID):
        raise LinuxError(errno.EPERM)
    count = u32(count)
    if count > lim.NGROUPS_MAX:
        raise LinuxError(errno.EINVAL)
    groups = struct.unpack(f"<{count}I", task.mm.read(addr, 4 * count)) if count else ()
    if cr.KEEP in groups:
        raise LinuxError(errno.EINVAL)
    task.cred = replace(task.cred, groups=tuple(sorted(groups)))
    return 0


# --- capabilities -----------------------------------------------------------------------------------------------------
_DATA_COUNT: Final = {ch.CAPABILITY_VERSION_1: 1, ch.CAPABILITY_VERSION_2: 2, ch.CAPABILITY_VERSION_3: 2}


def _cap_header(task: Task, addr: int) -> tuple[int, int]:
    """(number of data structures, pid). EINVAL: another version; the kernel's own is written back."""
    version, pid = ch.CAP_HEADER.unpack(task.mm.read(addr, ch.CAP_HEADER.size))
    count = _DATA_COUNT.get(version)
    if count is None:
        task.mm.write_u32(addr, ch.CAPABILITY_VERSION_3)
        raise LinuxError(errno.EINVAL)
    return count, pid


def sys_capget(task: Task, header: int, data: int) -> int:
    """capget(2). EINVAL: version (not an error when `data` is 0) or pid; ESRCH; EFAULT."""
    try:
        count, pid = _cap_header(task, header)
    except LinuxError as failure:
        if failure.errno == errno.EINVAL and not data:
            return 0
        raise
    if pid < 0:
        raise LinuxError(errno.EINVAL)
    target = task if not pid else task.kernel.tasks.get(pid)
    if target is None:
        raise LinuxError(errno.ESRCH)
    if data:
        cred = target.cred
        sets = (cred.cap_effective, cred.cap_permitted, cred.cap_inheritable)
        raw = b"".join(ch.CAP_DATA.pack(*(caps >> 32 * at & 0xFFFFFFFF for caps in sets)) for at in range(count))
        task.mm.write(data, raw)
    return 0


def sys_capset(task: Task, header: int, data: int) -> int:
    """capset(2). EINVAL: version; EPERM: another task, or a set beyond what is allowed; EFAULT."""
    count, pid = _cap_header(task, header)
    if pid not in (0, task.tid):
        raise LinuxError(errno.EPERM)
    effective = permitted = inheritable = 0
    raw = task.mm.read(data, count * ch.CAP_DATA.size)
    for at, (e, p, i) in enumerate(ch.CAP_DATA.iter_unpack(raw)):
        effective |= e << 32 * at
        permitted |= p << 32 * at
        inheritable |= i << 32 * at
    effective, permitted, inheritable = (caps & ch.ALL_CAPABILITIES for caps in (effective, permitted, inheritable))
    cred = task.cred
    if inheritable & ~(cred.cap_inheritable | cred.cap_permitted) and not cred.has_cap(ch.CAP_SETPCAP):
        raise LinuxError(errno.EPERM)
    if inheritable & ~(cred.cap_inheritable | cred.cap_bounding):
        raise LinuxError(errno.EPERM)
    if permitted & ~cred.cap_permitted or effective & ~permitted:
        raise LinuxError(errno.EPERM)
    task.cred = replace(
        cred,
        cap_effective=effective,
        cap_permitted=permitted,
        cap_inheritable=inheritable,
        cap_ambient=cred.cap_ambient & permitted & inheritable,
    )
    return 0


ROWS: Final = (
    Row("getpid", sys_getpid),
    Row("gettid", sys_gettid),
    Row("getppid", sys_getppid),
    Row("getpgid", sys_getpgid, "pid"),
    Row("getpgrp", sys_getpgrp),
    Row("setpgid", sys_setpgid, "pid pid"),
    Row("getsid", sys_getsid, "pid"),
    Row("setsid", sys_setsid),
    Row("getuid", sys_getuid),
    Row("geteuid", sys_geteuid),
    Row("getgid", sys_getgid),
    Row("getegid", sys_getegid),
    Row("getresuid", sys_getresuid, "ptr ptr ptr"),
    Row("getresgid", sys_getresgid, "ptr ptr ptr"),
    Row("setuid", sys_setuid, "int"),
    Row("setgid", sys_setgid, "int"),
    Row("setreuid", sys_setreuid, "int int"),
    Row("setregid", sys_setregid, "int int"),
    Row("setresuid", sys_setresuid, "int int int"),
    Row("setresgid", sys_setresgid, "int int int"),
    Row("setfsuid", sys_setfsuid, "int"),
    Row("setfsgid", sys_setfsgid, "int"),
    Row("getgroups", sys_getgroups, "count ptr"),
    Row("setgroups", sys_setgroups, "count ptr"),
    Row("capget", sys_capget, "ptr ptr"),
    Row("capset", sys_capset, "ptr ptr"),
)
