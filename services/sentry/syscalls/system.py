"""The system as a whole: uname(2), sysinfo(2), getrandom(2), syslog(2), and what no sandbox may do."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ch
from protocol.abi import random_h as ra
from protocol.abi import sysinfo_h as si
from protocol.abi import time_h as th
from protocol.abi.utsname_h import UTS_LEN
from services.sentry.errors import LinuxError
from services.sentry.syscalls.arguments import s32, u32
from services.sentry.syscalls.table import Row

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

_RANDOM_MAX: Final = 0x7FFFFFFF
_RANDOM_PIECE: Final = 1 << 20
_LOG_BYTES: Final = 1 << 17
_BANNER: Final = b"<6>[    0.000000] Linux version 6.12.0\n"


def sys_uname(task: Task, addr: int) -> int:
    """uname(2). EFAULT."""
    task.mm.write(addr, task.uts.pack())
    return 0


def _new_name(task: Task, addr: int, length: int) -> bytes:
    """EPERM: no CAP_SYS_ADMIN; EINVAL: negative or too long; EFAULT."""
    if not task.cred.has_cap(ch.CAP_SYS_ADMIN):
        raise LinuxError(errno.EPERM)
    length = s32(length)
    if not 0 <= length <= UTS_LEN:
        raise LinuxError(errno.EINVAL)
    return task.mm.read(addr, length).split(b"\0")[0] if length else b""


def sys_sethostname(task: Task, addr: int, length: int) -> int:
    """sethostname(2)."""
    task.uts.hostname = _new_name(task, addr, length)
    return 0


def sys_setdomainname(task: Task, addr: int, length: int) -> int:
    """setdomainname(2)."""
    task.uts.domainname = _new_name(task, addr, length)
    return 0


def sys_sysinfo(task: Task, addr: int) -> int:
    """sysinfo(2). EFAULT."""
    kernel = task.kernel
    seconds = kernel.uptime_ns() // th.NSEC_PER_SEC
    free = kernel.free_memory_bytes()
    count = min(len(kernel.tasks), 0xFFFF)
    task.mm.write(addr, si.SYSINFO.pack(seconds, 0, 0, 0, kernel.memory_bytes, free, 0, 0, 0, 0, count, 0, 0, 1))
    return 0


def sys_getrandom(task: Task, addr: int, count: int, flags: int) -> int:
    """getrandom(2). EINVAL: flags; EFAULT."""
    flags = u32(flags)
    both = ra.GRND_RANDOM | ra.GRND_INSECURE
    if flags & ~(ra.GRND_NONBLOCK | both) or flags & both == both:
        raise LinuxError(errno.EINVAL)
    count = min(count, _RANDOM_MAX)
    done = 0
    while done < count:
        piece = min(count - done, _RANDOM_PIECE)
        try:
            task.mm.write(addr + done, task.kernel.random(piece))
        except LinuxError:
            if done:
                return done
            raise
        done += piece
    return done


def sys_syslog(task: Task, action: int, addr: int, length: int) -> int:
    """syslog(2) on a log of one line. EPERM: no CAP_SYSLOG; EINVAL, EFAULT."""
    action, length = s32(action), s32(length)
    if not 0 <= action <= 10:
        raise LinuxError(errno.EINVAL)
    open_to_all = (si.SYSLOG_ACTION_READ_ALL, si.SYSLOG_ACTION_SIZE_BUFFER)
    if action not in open_to_all and not task.cred.has_cap(ch.CAP_SYSLOG):
        raise LinuxError(errno.EPERM)
    if action in (2, 3, 4):
        if not addr or length < 0:
            raise LinuxError(errno.EINVAL)
        text = _BANNER[-length:] if action != 2 and length else b""
        if text:
            task.mm.write(addr, text)
        return len(text)
    if action == 8 and not 1 <= length <= 8:
        raise LinuxError(errno.EINVAL)
    return _LOG_BYTES if action == si.SYSLOG_ACTION_SIZE_BUFFER else 0


def _forbidden_0(task: Task) -> int:
    raise LinuxError(errno.EPERM)


def _forbidden_1(task: Task, a: int) -> int:
    raise LinuxError(errno.EPERM)


def _forbidden_2(task: Task, a: int, b: int) -> int:
    raise LinuxError(errno.EPERM)


def _forbidden_3(task: Task, a: int, b: int, c: int) -> int:
    raise LinuxError(errno.EPERM)


def _forbidden_4(task: Task, a: int, b: int, c: int, d: int) -> int:
    raise LinuxError(errno.EPERM)


_NEVER: Final = "EPERM, as for a process without the capability"

ROWS: Final = (
    Row("uname", sys_uname, "ptr"),
    Row("sethostname", sys_sethostname, "ptr size"),
    Row("setdomainname", sys_setdomainname, "ptr size"),
    Row("sysinfo", sys_sysinfo, "ptr"),
    Row("getrandom", sys_getrandom, "buf_out size flags"),
    Row("syslog", sys_syslog, "int ptr int", "partial", "a log of one line"),
    Row("reboot", _forbidden_4, "int int int ptr", "partial", _NEVER),
    Row("swapon", _forbidden_2, "path flags", "partial", _NEVER),
    Row("swapoff", _forbidden_1, "path", "partial", _NEVER),
    Row("acct", _forbidden_1, "path", "partial", _NEVER),
    Row("vhangup", _forbidden_0, "", "partial", _NEVER),
    Row("iopl", _forbidden_1, "int", "partial", _NEVER),
    Row("ioperm", _forbidden_3, "int count int", "partial", _NEVER),
    Row("init_module", _forbidden_3, "ptr size ptr", "partial", _NEVER),
    Row("finit_module", _forbidden_3, "fd ptr flags", "partial", _NEVER),
    Row("delete_module", _forbidden_2, "ptr flags", "partial", _NEVER),
    Row("kexec_load", _forbidden_4, "int count ptr flags", "partial", _NEVER),
)
