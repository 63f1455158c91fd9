"""Scheduling parameters: sched(7), nice values, I/O priorities, CPU affinity.

They are kept and reported as Linux does; guest threads are scheduled by the host, as its ordinary threads.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ch
from protocol.abi import resource_h as rh
from protocol.abi import sched_h as sc
from protocol.abi import time_h as th
from services.sentry.errors import LinuxError
from services.sentry.syscalls.arguments import s32, u32
from services.sentry.syscalls.table import Row

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

_REALTIME: Final = (sc.SCHED_FIFO, sc.SCHED_RR)
_ORDINARY: Final = (sc.SCHED_NORMAL, sc.SCHED_BATCH, sc.SCHED_IDLE)
_KNOWN: Final = (*_ORDINARY, *_REALTIME, sc.SCHED_DEADLINE)
_PRIORITY_MAX: Final = 99
_RR_INTERVAL_NS: Final = 100_000_000
_SLICE_NS: Final = 3_000_000
_IOPRIO_CLASS_SHIFT: Final = 13
_IOPRIO_RT, _IOPRIO_BE, _IOPRIO_IDLE = 1, 2, 3
_IOPRIO_LEVELS: Final = 8


def _target(task: Task, pid: int) -> Task:
    """EINVAL: negative; ESRCH."""
    pid = s32(pid)
    if pid < 0:
        raise LinuxError(errno.EINVAL)
    found = task if not pid else task.kernel.tasks.get(pid)
    if found is None or found.exiting:
        raise LinuxError(errno.ESRCH)
    return found


def _owns(task: Task, target: Task) -> bool:
    """Same owner, or CAP_SYS_NICE (sched(7), "Privileges and resource limits")."""
    return task.cred.euid in (target.cred.euid, target.cred.ruid) or task.cred.has_cap(ch.CAP_SYS_NICE)


# --- policies ---------------------------------------------------------------------------------------------------------
def _set_policy(task: Task, target: Task, policy: int, priority: int, reset_on_fork: bool, nice: int | None) -> None:
    if policy not in _KNOWN or policy == sc.SCHED_DEADLINE:
        raise LinuxError(errno.EINVAL)
    if policy in _REALTIME:
        if not 1 <= priority <= _PRIORITY_MAX:
            raise LinuxError(errno.EINVAL)
    elif priority:
        raise LinuxError(errno.EINVAL)
    if not task.cred.has_cap(ch.CAP_SYS_NICE):
        if not _owns(task, target):
            raise LinuxError(errno.EPERM)
        if policy in _REALTIME:
            allowed = target.group.rlimits[rh.RLIMIT_RTPRIO][0]
            raises = priority > target.sched_priority or policy != target.sched_policy
            if raises and (not allowed or priority > allowed):
                raise LinuxError(errno.EPERM)
        if target.sched_reset_on_fork and not reset_on_fork:
            raise LinuxError(errno.EPERM)
    if nice is not None and policy in (sc.SCHED_NORMAL, sc.SCHED_BATCH):
        _set_nice(task, target, nice)
    target.sched_policy = policy
    target.sched_priority = priority
    target.sched_reset_on_fork = reset_on_fork


def sys_sched_setscheduler(task: Task, pid: int, policy: int, param: int) -> int:
    """sched_setscheduler(2). EINVAL, ESRCH, EPERM, EFAULT."""
    policy = s32(policy)
    if policy < 0 or not param:
        raise LinuxError(errno.EINVAL)
    (priority,) = sc.SCHED_PARAM.unpack(task.mm.read(param, sc.SCHED_PARAM.size))
    target = _target(task, pid)
    reset = bool(policy & sc.SCHED_RESET_ON_FORK)
    _set_policy(task, target, policy & ~sc.SCHED_RESET_ON_FORK, priority, reset, None)
    return 0


def sys_sched_getscheduler(task: Task, pid: int) -> int:
    """sched_getscheduler(2). EINVAL, ESRCH."""
    target = _target(task, pid)
    return target.sched_policy | (sc.SCHED_RESET_ON_FORK if target.sched_reset_on_fork else 0)


def sys_sched_setparam(task: Task, pid: int, param: int) -> int:
    """sched_setparam(2). EINVAL, ESRCH, EPERM, EFAULT."""
    if not param:
        raise LinuxError(errno.EINVAL)
    (priority,) = sc.SCHED_PARAM.unpack(task.mm.read(param, sc.SCHED_PARAM.size))
    target = _target(task, pid)
    _set_policy(task, target, target.sched_policy, priority, target.sched_reset_on_fork, None)
    return 0


def sys_sched_getparam(task: Task, pid: int, param: int) -> int:
    """sched_getparam(2). EINVAL, ESRCH, EFAULT."""
    if not param:
        raise LinuxError(errno.EINVAL)
    task.mm.write(param, sc.SCHED_PARAM.pack(_target(task, pid).sched_priority))
    return 0


def sys_sched_setattr(task: Task, pid: int, attr: int, flags: int) -> int:
    """sched_setattr(2). EINVAL, E2BIG, ESRCH, EPERM, EFAULT."""
    if not attr or s32(pid) < 0 or u32(flags):
        raise LinuxError(errno.EINVAL)
    size = task.mm.read_u32(attr) or sc.SCHED_ATTR_SIZE_VER0
    known = sc.SCHED_ATTR.size
    if size < sc.SCHED_ATTR_SIZE_VER0 or size > 4096:
        task.mm.write_u32(attr, known)
        raise LinuxError(errno.E2BIG)
    raw = task.mm.read(attr, size)
    if any(raw[known:]):
        task.mm.write_u32(attr, known)
        raise LinuxError(errno.E2BIG)
    _, policy, bits, nice, priority, *_ = sc.SCHED_ATTR.unpack(raw[:known].ljust(known, b"\0"))
    if s32(policy) < 0 or bits & ~sc.SCHED_FLAG_ALL:
        raise LinuxError(errno.EINVAL)
    target = _target(task, pid)
    if bits & sc.SCHED_FLAG_KEEP_POLICY:
        policy = target.sched_policy
    if bits & sc.SCHED_FLAG_KEEP_PARAMS:
        priority, nice = target.sched_priority, target.nice
    nice = max(-20, min(19, nice))
    _set_policy(task, target, policy, priority, bool(bits & sc.SCHED_FLAG_RESET_ON_FORK), nice)
    return 0


def sys_sched_getattr(task: Task, pid: int, attr: int, size: int, flags: int) -> int:
    """sched_getattr(2). EINVAL, ESRCH, EFAULT."""
    size = u32(size)
    if not attr or s32(pid) < 0 or size > 4096 or size < sc.SCHED_ATTR_SIZE_VER0 or u32(flags):
        raise LinuxError(errno.EINVAL)
    target = _target(task, pid)
    size = min(size, sc.SCHED_ATTR.size)
    bits = sc.SCHED_FLAG_RESET_ON_FORK if target.sched_reset_on_fork else 0
    ordinary = target.sched_policy in (sc.SCHED_NORMAL, sc.SCHED_BATCH)
    slice_ns = _SLICE_NS if target.sched_policy in _ORDINARY else 0
    values = (
        size,
        target.sched_policy,
        bits,
        target.nice if ordinary else 0,
        target.sched_priority,
        slice_ns,
        0,
        0,
        0,
        1024,
    )
    task.mm.write(attr, sc.SCHED_ATTR.pack(*values)[:size])
    return 0


def sys_sched_get_priority_max(task: Task, policy: int) -> int:
    """sched_get_priority_max(2). EINVAL."""
    return _priority_bound(policy, _PRIORITY_MAX)


def sys_sched_get_priority_min(task: Task, policy: int) -> int:
    """sched_get_priority_min(2). EINVAL."""
    return _priority_bound(policy, 1)


def _priority_bound(policy: int, bound: int) -> int:
    policy = s32(policy)
    if policy not in _KNOWN:
        raise LinuxError(errno.EINVAL)
    return bound if policy in _REALTIME else 0


def sys_sched_rr_get_interval(task: Task, pid: int, addr: int) -> int:
    """sched_rr_get_interval(2). EINVAL, ESRCH, EFAULT."""
    policy = _target(task, pid).sched_policy
    interval = _RR_INTERVAL_NS if policy == sc.SCHED_RR else 0  # an ordinary slice is less than one tick
    task.mm.write(addr, th.timespec_of(interval))
    return 0


def sys_sched_yield(task: Task) -> int:
    return 0


# --- affinity ---------------------------------------------------------------------------------------------------------
def sys_sched_setaffinity(task: Task, pid: int, size: int, addr: int) -> int:
    """sched_setaffinity(2). EINVAL: no CPU that exists; ESRCH, EPERM, EFAULT."""
    mask = int.from_bytes(task.mm.read(addr, min(u32(size), 1024)), "little")
    target = _target(task, pid)
    if not _owns(task, target):
        raise LinuxError(errno.EPERM)
    mask &= task.kernel.all_cpus
    if not mask:
        raise LinuxError(errno.EINVAL)
    target.affinity = mask
    return 0


def sys_sched_getaffinity(task: Task, pid: int, size: int, addr: int) -> int:
    """sched_getaffinity(2): bytes written. EINVAL: no multiple of 8, or too small; ESRCH, EFAULT."""
    size = u32(size)
    count = task.kernel.cpu_count
    if size * 8 < count or size & 7:
        raise LinuxError(errno.EINVAL)
    length = min(size, (count + 63) // 64 * 8)
    task.mm.write(addr, _target(task, pid).affinity.to_bytes(length, "little"))
    return length


def sys_getcpu(task: Task, cpu: int, node: int, cache: int) -> int:
    """getcpu(2): the first CPU the task may use. EFAULT."""
    if cpu:
        task.mm.write_u32(cpu, (task.affinity & -task.affinity).bit_length() - 1)
    if node:
        task.mm.write_u32(node, 0)
    return 0


# --- nice values ------------------------------------------------------------------------------------------------------
def _selected(task: Task, which: int, who: int) -> Iterator[Task]:
    """The tasks that getpriority(2) and ioprio_get(2) mean; `which`: 0 a task, 1 a process group, 2 a user."""
    tasks = task.kernel.tasks
    if which == 0:
        found = task if not who else tasks.get(who)
        if found is not None and not found.exiting:
            yield found
    elif which == 1:
        process_group = task.group.process_group if not who else task.kernel.process_groups.get(who)
        for group in process_group.members.values() if process_group is not None else ():
            yield from (member for member in group.tasks.values() if not member.exiting)
    else:
        uid = who or task.cred.ruid
        yield from (other for other in list(tasks.values()) if other.cred.ruid == uid and not other.exiting)


def sys_getpriority(task: Task, which: int, who: int) -> int:
    """getpriority(2), as the system call returns it: 20 - nice, the greatest. EINVAL, ESRCH."""
    if u32(which) > sc.PRIO_USER:
        raise LinuxError(errno.EINVAL)
    values = [20 - target.nice for target in _selected(task, u32(which), s32(who))]
    if not values:
        raise LinuxError(errno.ESRCH)
    return max(values)


def _set_nice(task: Task, target: Task, nice: int) -> None:
    """EPERM: another's task; EACCES: a lower nice value than RLIMIT_NICE allows."""
    if not _owns(task, target):
        raise LinuxError(errno.EPERM)
    if nice < target.nice and not task.cred.has_cap(ch.CAP_SYS_NICE):
        if 20 - nice > target.group.rlimits[rh.RLIMIT_NICE][0]:
            raise LinuxError(errno.EACCES)
    target.nice = nice


def sys_setpriority(task: Task, which: int, who: int, nice: int) -> int:
    """setpriority(2). EINVAL, ESRCH, EPERM, EACCES."""
    if u32(which) > sc.PRIO_USER:
        raise LinuxError(errno.EINVAL)
    wanted = max(-20, min(19, s32(nice)))
    failure = errno.ESRCH
    for target in list(_selected(task, u32(which), s32(who))):
        try:
            _set_nice(task, target, wanted)
        except LinuxError as refused:
            failure = refused.errno
        else:
            failure = 0 if failure == errno.ESRCH else failure
    if failure:
        raise LinuxError(failure)
    return 0


# --- I/O priorities ---------------------------------------------------------------------------------------------------
def sys_ioprio_get(task: Task, which: int, who: int) -> int:
    """ioprio_get(2): the most favourable. EINVAL, ESRCH."""
    if not 1 <= s32(which) <= 3:
        raise LinuxError(errno.EINVAL)
    values = [target.ioprio for target in _selected(task, s32(which) - 1, s32(who))]
    if not values:
        raise LinuxError(errno.ESRCH)
    return min(values, key=lambda value: value if value >> _IOPRIO_CLASS_SHIFT else _IOPRIO_BE << 13 | 4)


def sys_ioprio_set(task: Task, which: int, who: int, value: int) -> int:
    """ioprio_set(2). EINVAL, EPERM, ESRCH."""
    value = s32(value)
    kind, level = value >> _IOPRIO_CLASS_SHIFT & 7, value & 0x1FFF
    if value >> 16 or kind > _IOPRIO_IDLE or not 1 <= s32(which) <= 3:
        raise LinuxError(errno.EINVAL)
    if kind == 0 and level or kind in (_IOPRIO_RT, _IOPRIO_BE) and level >= _IOPRIO_LEVELS:
        raise LinuxError(errno.EINVAL)
    if kind == _IOPRIO_RT and not (task.cred.has_cap(ch.CAP_SYS_ADMIN) or task.cred.has_cap(ch.CAP_SYS_NICE)):
        raise LinuxError(errno.EPERM)
    targets = list(_selected(task, s32(which) - 1, s32(who)))
    if not targets:
        raise LinuxError(errno.ESRCH)
    for target in targets:
        if not _owns(task, target):
            raise LinuxError(errno.EPERM)
        target.ioprio = value
    return 0


ROWS: Final = (
    Row("sched_yield", sys_sched_yield),
    Row("sched_setscheduler", sys_sched_setscheduler, "pid int ptr", "partial", "no SCHED_DEADLINE; without effect"),
    Row("sched_getscheduler", sys_sched_getscheduler, "pid"),
    Row("sched_setparam", sys_sched_setparam, "pid ptr"),
    Row("sched_getparam", sys_sched_getparam, "pid ptr"),
    Row("sched_setattr", sys_sched_setattr, "pid ptr flags", "partial", "no SCHED_DEADLINE; without effect"),
    Row("sched_getattr", sys_sched_getattr, "pid ptr size flags"),
    Row("sched_get_priority_max", sys_sched_get_priority_max, "int"),
    Row("sched_get_priority_min", sys_sched_get_priority_min, "int"),
    Row("sched_rr_get_interval", sys_sched_rr_get_interval, "pid ptr"),
    Row("sched_setaffinity", sys_sched_setaffinity, "pid size ptr", "partial", "kept, without effect"),
    Row("sched_getaffinity", sys_sched_getaffinity, "pid size ptr"),
    Row("getcpu", sys_getcpu, "ptr ptr ptr"),
    Row("getpriority", sys_getpriority, "int int"),
    Row("setpriority", sys_setpriority, "int int int", "partial", "kept, without effect"),
    Row("ioprio_get", sys_ioprio_get, "int int"),
    Row("ioprio_set", sys_ioprio_set, "int int int", "partial", "kept, without effect"),
)
