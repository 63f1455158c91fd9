"""prctl(2), arch_prctl(2), set_tid_address(2), personality(2), membarrier(2): what a task says about itself."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ch
from protocol.abi import limits as lim
from protocol.abi import membarrier_h as mb
from protocol.abi import prctl_h as pr
from protocol.abi import signal_h as sg
from protocol.records import replace
from services.sentry.errors import LinuxError
from services.sentry.syscalls.arguments import s32, s64, u32
from services.sentry.syscalls.table import Row

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

_Option = Callable[["Task", int, int, int, int], int]
_USER_TOP: Final = 1 << 47
_SECURE_LOCKS: Final = 0xAA
_SECURE_ALL: Final = 0xFF
_DEFAULT_SLACK_NS: Final = 50_000
_TSC_ENABLE: Final = pr.PR_TSC_ENABLE
_AREA_NAME_MAX: Final = 80


def _invalid_if(condition: object) -> None:
    if condition:
        raise LinuxError(errno.EINVAL)


# --- prctl ------------------------------------------------------------------------------------------------------------
def _set_death_signal(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a > sg.NSIG)
    task.parent_death_signal = a
    return 0


def _get_death_signal(task: Task, a: int, b: int, c: int, d: int) -> int:
    task.mm.write_u32(a, task.parent_death_signal)
    return 0


def _get_dumpable(task: Task, a: int, b: int, c: int, d: int) -> int:
    return task.dumpable


def _set_dumpable(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a > 1)
    task.dumpable = a
    return 0


def _get_keepcaps(task: Task, a: int, b: int, c: int, d: int) -> int:
    return task.cred.securebits >> ch.SECURE_KEEP_CAPS & 1


def _set_keepcaps(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a > 1)
    bits = task.cred.securebits
    if bits >> ch.SECURE_KEEP_CAPS_LOCKED & 1:
        raise LinuxError(errno.EPERM)
    flag = 1 << ch.SECURE_KEEP_CAPS
    task.cred = replace(task.cred, securebits=bits | flag if a else bits & ~flag)
    return 0


def _set_name(task: Task, a: int, b: int, c: int, d: int) -> int:
    try:
        name = task.mm.read_cstring(a, lim.TASK_COMM_LEN)
    except LinuxError as failure:
        if failure.errno != errno.ENAMETOOLONG:
            raise
        name = task.mm.read(a, lim.TASK_COMM_LEN)
    task.comm = name[: lim.TASK_COMM_LEN - 1]
    return 0


def _get_name(task: Task, a: int, b: int, c: int, d: int) -> int:
    task.mm.write(a, task.comm.ljust(lim.TASK_COMM_LEN, b"\0"))
    return 0


def _get_zero(task: Task, a: int, b: int, c: int, d: int) -> int:
    return 0


def _refuse(task: Task, a: int, b: int, c: int, d: int) -> int:
    raise LinuxError(errno.EPERM)


def _bounding_read(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a > ch.CAP_LAST_CAP)
    return task.cred.cap_bounding >> a & 1


def _bounding_drop(task: Task, a: int, b: int, c: int, d: int) -> int:
    if not task.cred.has_cap(ch.CAP_SETPCAP):
        raise LinuxError(errno.EPERM)
    _invalid_if(a > ch.CAP_LAST_CAP)
    task.cred = replace(task.cred, cap_bounding=task.cred.cap_bounding & ~(1 << a))
    return 0


def _get_tsc(task: Task, a: int, b: int, c: int, d: int) -> int:
    task.mm.write_u32(a, _TSC_ENABLE)
    return 0


def _set_tsc(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a != _TSC_ENABLE)  # the host's counter cannot be withheld
    return 0


def _get_securebits(task: Task, a: int, b: int, c: int, d: int) -> int:
    return task.cred.securebits


def _set_securebits(task: Task, a: int, b: int, c: int, d: int) -> int:
    old = task.cred.securebits
    locked = old & _SECURE_LOCKS
    if locked >> 1 & (old ^ a) or locked & ~a or a & ~_SECURE_ALL or not task.cred.has_cap(ch.CAP_SETPCAP):
        raise LinuxError(errno.EPERM)
    task.cred = replace(task.cred, securebits=a)
    return 0


def _set_slack(task: Task, a: int, b: int, c: int, d: int) -> int:
    task.timer_slack_ns = a or _DEFAULT_SLACK_NS
    return 0


def _get_slack(task: Task, a: int, b: int, c: int, d: int) -> int:
    return s64(task.timer_slack_ns)


def _set_subreaper(task: Task, a: int, b: int, c: int, d: int) -> int:
    task.group.subreaper = bool(a)
    return 0


def _get_subreaper(task: Task, a: int, b: int, c: int, d: int) -> int:
    task.mm.write_u32(a, int(task.group.subreaper))
    return 0


def _set_no_new_privs(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a != 1 or b or c or d)
    task.no_new_privs = True
    return 0


def _get_no_new_privs(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a or b or c or d)
    return int(task.no_new_privs)


def _get_tid_address(task: Task, a: int, b: int, c: int, d: int) -> int:
    task.mm.write_u64(a, task.clear_child_tid)
    return 0


def _ambient(task: Task, a: int, b: int, c: int, d: int) -> int:
    """PR_CAP_AMBIENT. EINVAL; EPERM: not both permitted and inheritable, or forbidden by a securebit."""
    cred = task.cred
    if a == pr.PR_CAP_AMBIENT_CLEAR_ALL:
        _invalid_if(b or c or d)
        task.cred = replace(cred, cap_ambient=0)
        return 0
    _invalid_if(b > ch.CAP_LAST_CAP or c or d)
    bit = 1 << b
    if a == pr.PR_CAP_AMBIENT_IS_SET:
        return int(bool(cred.cap_ambient & bit))
    if a == pr.PR_CAP_AMBIENT_LOWER:
        task.cred = replace(cred, cap_ambient=cred.cap_ambient & ~bit)
        return 0
    _invalid_if(a != pr.PR_CAP_AMBIENT_RAISE)
    forbidden = cred.securebits >> ch.SECURE_NO_CAP_AMBIENT_RAISE & 1
    if forbidden or not cred.cap_permitted & cred.cap_inheritable & bit:
        raise LinuxError(errno.EPERM)
    task.cred = replace(cred, cap_ambient=cred.cap_ambient | bit)
    return 0


def _set_vma(task: Task, a: int, b: int, c: int, d: int) -> int:
    """PR_SET_VMA_ANON_NAME: the name is for /proc only. EINVAL: alignment or name; EBADF, ENOMEM: see name_area."""
    _invalid_if(a != pr.PR_SET_VMA_ANON_NAME)
    name = None
    if d:
        try:
            name = task.mm.read_cstring(d, _AREA_NAME_MAX)
        except LinuxError as error:
            raise LinuxError(errno.EINVAL if error.errno == errno.ENAMETOOLONG else error.errno) from None
        _invalid_if(any(not 0x20 <= char < 0x7F or char in b"\\`$[]" for char in name))
    _invalid_if(bool(b & 4095))
    if c:
        task.mm.name_area(b, c, name)
    return 0


def _get_auxv(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(c or d)
    auxv = task.mm.auxv
    task.mm.write(a, auxv[:b])
    return len(auxv)


def _get_speculation(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(b or c or d)
    if a > pr.PR_SPEC_L1D_FLUSH:
        raise LinuxError(errno.ENODEV)
    return pr.PR_SPEC_NOT_AFFECTED


def _set_speculation(task: Task, a: int, b: int, c: int, d: int) -> int:
    if a > pr.PR_SPEC_L1D_FLUSH:
        raise LinuxError(errno.ENODEV)
    raise LinuxError(errno.ENXIO)


def _get_huge_page_state(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a or b or c or d)
    return int(task.group.huge_pages_off)


def _set_huge_page_state(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(b or c or d)
    task.group.huge_pages_off = bool(a)
    return 0


def _set_timing(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a != pr.PR_TIMING_STATISTICAL)
    return 0


def _get_machine_check(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a or b or c or d)
    return pr.PR_MCE_KILL_DEFAULT


def _set_write_or_execute(task: Task, a: int, b: int, c: int, d: int) -> int:
    _invalid_if(a or b or c or d)  # nothing enforces it
    return 0


_OPTIONS: Final[dict[int, _Option]] = {
    pr.PR_SET_PDEATHSIG: _set_death_signal,
    pr.PR_GET_PDEATHSIG: _get_death_signal,
    pr.PR_GET_DUMPABLE: _get_dumpable,
    pr.PR_SET_DUMPABLE: _set_dumpable,
    pr.PR_GET_KEEPCAPS: _get_keepcaps,
    pr.PR_SET_KEEPCAPS: _set_keepcaps,
    pr.PR_GET_TIMING: _get_zero,
    pr.PR_SET_TIMING: _set_timing,
    pr.PR_MCE_KILL_GET: _get_machine_check,
    pr.PR_SET_MDWE: _set_write_or_execute,
    pr.PR_GET_MDWE: _get_zero,
    pr.PR_SET_NAME: _set_name,
    pr.PR_GET_NAME: _get_name,
    pr.PR_GET_SECCOMP: _get_zero,
    pr.PR_CAPBSET_READ: _bounding_read,
    pr.PR_CAPBSET_DROP: _bounding_drop,
    pr.PR_GET_TSC: _get_tsc,
    pr.PR_SET_TSC: _set_tsc,
    pr.PR_GET_SECUREBITS: _get_securebits,
    pr.PR_SET_SECUREBITS: _set_securebits,
    pr.PR_SET_TIMERSLACK: _set_slack,
    pr.PR_GET_TIMERSLACK: _get_slack,
    pr.PR_SET_MM: _refuse,
    pr.PR_SET_CHILD_SUBREAPER: _set_subreaper,
    pr.PR_GET_CHILD_SUBREAPER: _get_subreaper,
    pr.PR_SET_NO_NEW_PRIVS: _set_no_new_privs,
    pr.PR_GET_NO_NEW_PRIVS: _get_no_new_privs,
    pr.PR_GET_TID_ADDRESS: _get_tid_address,
    pr.PR_SET_THP_DISABLE: _set_huge_page_state,
    pr.PR_GET_THP_DISABLE: _get_huge_page_state,
    pr.PR_CAP_AMBIENT: _ambient,
    pr.PR_GET_SPECULATION_CTRL: _get_speculation,
    pr.PR_SET_SPECULATION_CTRL: _set_speculation,
    pr.PR_SET_VMA: _set_vma,
    pr.PR_GET_AUXV: _get_auxv,
}


def sys_prctl(task: Task, option: int, a: int, b: int, c: int, d: int) -> int:
    """prctl(2). EINVAL: an option that is not known, or bad arguments; EPERM, EFAULT."""
    handler = _OPTIONS.get(u32(option))
    if handler is None:
        raise LinuxError(errno.EINVAL)
    return handler(task, a, b, c, d)


# --- arch_prctl and the rest ------------------------------------------------------------------------------------------
def sys_arch_prctl(task: Task, code: int, addr: int) -> int:
    """arch_prctl(2): FS only. EPERM: no user address; EINVAL: other codes; EFAULT."""
    code = s32(code)
    if code == pr.ARCH_SET_FS:
        if addr >= _USER_TOP:
            raise LinuxError(errno.EPERM)
        task.context.fs_base = addr
        return 0
    if code == pr.ARCH_GET_FS:
        task.mm.write_u64(addr, task.context.fs_base)
        return 0
    if code == pr.ARCH_GET_CPUID:
        return 1
    if code == pr.ARCH_SET_CPUID:
        raise LinuxError(errno.ENODEV)
    raise LinuxError(errno.EINVAL)


def sys_set_tid_address(task: Task, addr: int) -> int:
    task.clear_child_tid = addr
    return task.tid


def sys_personality(task: Task, persona: int) -> int:
    """personality(2): the former one."""
    old = task.group.personality
    if u32(persona) != 0xFFFFFFFF:
        task.group.personality = u32(persona)
    return old


_REGISTERING: Final = {
    mb.MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED: mb.MEMBARRIER_CMD_GLOBAL_EXPEDITED,
    mb.MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: mb.MEMBARRIER_CMD_PRIVATE_EXPEDITED,
}
_SUPPORTED: Final = (
    mb.MEMBARRIER_CMD_GLOBAL
    | mb.MEMBARRIER_CMD_GLOBAL_EXPEDITED
    | mb.MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED
    | mb.MEMBARRIER_CMD_PRIVATE_EXPEDITED
    | mb.MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
)


def sys_membarrier(task: Task, command: int, flags: int, cpu: int) -> int:
    """membarrier(2). EINVAL: another command; EPERM: an expedited one without registration."""
    command = s32(command)
    if u32(flags):
        raise LinuxError(errno.EINVAL)
    group = task.group
    if command == mb.MEMBARRIER_CMD_QUERY:
        return _SUPPORTED
    if command in _REGISTERING:
        group.membarrier |= _REGISTERING[command]
    elif command == mb.MEMBARRIER_CMD_PRIVATE_EXPEDITED:
        if not group.membarrier & command:
            raise LinuxError(errno.EPERM)
    elif command not in (mb.MEMBARRIER_CMD_GLOBAL, mb.MEMBARRIER_CMD_GLOBAL_EXPEDITED):
        raise LinuxError(errno.EINVAL)
    return 0


ROWS: Final = (
    Row("prctl", sys_prctl, "int ptr ptr ptr ptr", "partial", "no seccomp, no PR_SET_MM, no core scheduling"),
    Row("arch_prctl", sys_arch_prctl, "int ptr", "partial", "FS only"),
    Row("set_tid_address", sys_set_tid_address, "ptr"),
    Row("personality", sys_personality, "flags", "partial", "kept, without effect"),
    Row("membarrier", sys_membarrier, "int flags int", "partial", "no barrier on other running threads"),
)
