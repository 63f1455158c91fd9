"""Resource limits and usage: getrlimit(2), prlimit(2), getrusage(2), times(2)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ch
from protocol.abi import limits as lim
from protocol.abi import resource_h as rh
from protocol.abi import time_h as th
from services.sentry.errors import LinuxError
from services.sentry.kernel.posix_timers import watch_cpu_limit
from services.sentry.syscalls.arguments import s32, u32
from services.sentry.syscalls.table import Row
from services.sentry.syscalls.time_arguments import ticks

if TYPE_CHECKING:
    from services.sentry.kernel.limits import Limit
    from services.sentry.kernel.task import Task


def _resource(number: int) -> int:
    number = u32(number)
    if number >= rh.RLIM_NLIMITS:
        raise LinuxError(errno.EINVAL)
    return number


def _set(task: Task, target: Task, resource: int, new: Limit) -> None:
    """EINVAL: soft above hard; EPERM: a raised hard limit without CAP_SYS_RESOURCE, descriptors beyond fs.nr_open."""
    soft, hard = new
    limits = target.group.rlimits
    if soft > hard:
        raise LinuxError(errno.EINVAL)
    if resource == rh.RLIMIT_NOFILE and hard > lim.NR_OPEN:
        raise LinuxError(errno.EPERM)
    if hard > limits[resource][1] and not task.cred.has_cap(ch.CAP_SYS_RESOURCE):
        raise LinuxError(errno.EPERM)
    limits[resource] = new
    for thread in target.group.tasks.values():
        if not thread.exiting and thread.mm.changes is not None:
            thread.mm.changes.log.forget_limits()
    if resource == rh.RLIMIT_NOFILE:
        for thread in target.group.tasks.values():
            thread.files.limit = soft
            thread.files.published.limit_changed()
    elif resource == rh.RLIMIT_FSIZE:
        for thread in target.group.tasks.values():
            thread.files.published.revoke_writing()
    elif resource in (rh.RLIMIT_AS, rh.RLIMIT_DATA):
        for thread in target.group.tasks.values():
            if not thread.exiting:
                thread.mm.revoke_grant()
    elif resource == rh.RLIMIT_CPU:
        watch_cpu_limit(target.group)


def sys_getrlimit(task: Task, resource: int, addr: int) -> int:
    """getrlimit(2). EINVAL, EFAULT."""
    task.mm.write(addr, rh.RLIMIT.pack(*task.group.rlimits[_resource(resource)]))
    return 0


def sys_setrlimit(task: Task, resource: int, addr: int) -> int:
    """setrlimit(2). EFAULT, EINVAL, EPERM."""
    new = rh.RLIMIT.unpack(task.mm.read(addr, rh.RLIMIT.size))
    _set(task, task, _resource(resource), (new[0], new[1]))
    return 0


def sys_prlimit64(task: Task, pid: int, resource: int, new_addr: int, old_addr: int) -> int:
    """prlimit(2). EINVAL, EFAULT, ESRCH, EPERM."""
    resource = _resource(resource)
    new = rh.RLIMIT.unpack(task.mm.read(new_addr, rh.RLIMIT.size)) if new_addr else None
    target = task if not s32(pid) else task.kernel.tasks.get(s32(pid))
    if target is None:
        raise LinuxError(errno.ESRCH)
    if target.group is not task.group:
        cred, other = task.cred, target.cred
        same = (other.ruid, other.euid, other.suid, other.rgid, other.egid, other.sgid) == (
            (cred.ruid,) * 3 + (cred.rgid,) * 3
        )
        if not same and not cred.has_cap(ch.CAP_SYS_RESOURCE):
            raise LinuxError(errno.EPERM)
    old = target.group.rlimits[resource]
    if new is not None:
        _set(task, target, resource, (new[0], new[1]))
    if old_addr:
        task.mm.write(old_addr, rh.RLIMIT.pack(*old))
    return 0


def sys_getrusage(task: Task, who: int, addr: int) -> int:
    """getrusage(2). EINVAL, EFAULT. All CPU time is shown as user time, all mapped memory as resident."""
    who = s32(who)
    group = task.group
    if who == rh.RUSAGE_SELF:
        cpu_ns, switches = group.cpu_time_ns(), sum(other.voluntary_switches() for other in group.tasks.values())
    elif who == rh.RUSAGE_THREAD:
        cpu_ns, switches = task.cpu_time_ns(), task.voluntary_switches()
    elif who == rh.RUSAGE_CHILDREN:
        raw = rh.pack_rusage(group.children_cpu_ns, 0, group.children_maxrss_kib, 0, 0, 0, 0, 0, 0)
        task.mm.write(addr, raw)
        return 0
    else:
        raise LinuxError(errno.EINVAL)
    maxrss_kib = max(group.maxrss_kib, task.mm.total_pages * 4)
    task.mm.write(addr, rh.pack_rusage(cpu_ns, 0, maxrss_kib, 0, 0, 0, 0, switches, 0))
    return 0


def sys_times(task: Task, addr: int) -> int:
    """times(2): ticks since the sandbox started. EFAULT."""
    group = task.group
    if addr:
        task.mm.write(addr, th.TMS.pack(ticks(group.cpu_time_ns()), 0, ticks(group.children_cpu_ns), 0))
    return ticks(task.kernel.uptime_ns())


ROWS: Final = (
    Row("getrlimit", sys_getrlimit, "int ptr"),
    Row("setrlimit", sys_setrlimit, "int ptr"),
    Row("prlimit64", sys_prlimit64, "pid int ptr ptr"),
    Row("getrusage", sys_getrusage, "int ptr", "partial", "faults, block operations and system time are 0"),
    Row("times", sys_times, "ptr", "partial", "system time is 0"),
)
