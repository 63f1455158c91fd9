"""/proc/PID/{uid_map,gid_map,setgroups,loginuid,sessionid,cgroup,oom_*,coredump_filter,...}: small facts (proc(5))."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from protocol.abi.capability_h import CAP_SYS_NICE, CAP_SYS_RESOURCE
from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = [
    "autogroup",
    "cgroup",
    "fixed",
    "id_map",
    "ignore_write",
    "no_security_module",
    "oom_adj",
    "oom_score",
    "oom_score_adj",
    "personality",
    "refuse_write",
    "set_oom_adj",
    "set_oom_score_adj",
    "set_timer_slack",
    "timer_slack",
]


def fixed(text: bytes) -> Callable[[Task, Task], bytes]:
    """The same text for every task."""

    def render(reader: Task, target: Task) -> bytes:
        return text

    return render


def id_map(reader: Task, target: Task) -> bytes:
    """The initial user namespace maps every id to itself (user_namespaces(7))."""
    return b"%10d %10d %10d\n" % (0, 0, 0xFFFFFFFF)


def refuse_write(writer: Task, target: Task, data: bytes) -> None:
    """EPERM: it was written once already (user_namespaces(7))."""
    raise LinuxError(errno.EPERM)


def ignore_write(writer: Task, target: Task, data: bytes) -> None:
    """Accepted, without effect."""


def no_security_module(reader: Task, target: Task) -> bytes:
    """/proc/PID/attr/*: EINVAL, as without a security module (fs/proc/base.c proc_pid_attr_read)."""
    raise LinuxError(errno.EINVAL)


def refuse_security_module(writer: Task, target: Task, data: bytes) -> None:
    """EINVAL, as reading."""
    raise LinuxError(errno.EINVAL)


def cgroup(reader: Task, target: Task) -> bytes:
    """cgroups(7): one unified hierarchy."""
    return b"0::/\n"


def personality(reader: Task, target: Task) -> bytes:
    return b"%08x\n" % target.personality


def autogroup(reader: Task, target: Task) -> bytes:
    return b"/autogroup-%d nice 0\n" % target.group.session.id


# --- the out-of-memory killer (proc_pid_oom_score_adj(5)) ---
def _number(data: bytes) -> int:
    try:
        return int(data.strip())
    except ValueError:
        raise LinuxError(errno.EINVAL) from None


def oom_score_adj(reader: Task, target: Task) -> bytes:
    return b"%d\n" % target.group.oom_score_adj


def set_oom_score_adj(writer: Task, target: Task, data: bytes) -> None:
    """EINVAL: not within -1000..1000; EACCES: lowering without CAP_SYS_RESOURCE."""
    value = _number(data)
    if not -1000 <= value <= 1000:
        raise LinuxError(errno.EINVAL)
    if value < target.group.oom_score_adj and not writer.cred.has_cap(CAP_SYS_RESOURCE):
        raise LinuxError(errno.EACCES)
    target.group.oom_score_adj = value


def oom_adj(reader: Task, target: Task) -> bytes:
    """The old scale, -17..15."""
    value = target.group.oom_score_adj
    return b"%d\n" % (15 if value == 1000 else int(value * 17 / 1000))


def set_oom_adj(writer: Task, target: Task, data: bytes) -> None:
    value = _number(data)
    if not -17 <= value <= 15:
        raise LinuxError(errno.EINVAL)
    set_oom_score_adj(writer, target, b"%d" % (1000 if value == 15 else int(value * 1000 / 17)))


def oom_score(reader: Task, target: Task) -> bytes:
    return b"%d\n" % max(0, (1000 + target.group.oom_score_adj) * 2 // 3)


# --- timer slack (proc_pid_timerslack_ns(5)) ---
def timer_slack(reader: Task, target: Task) -> bytes:
    if reader.group is not target.group and not reader.cred.has_cap(CAP_SYS_NICE):
        raise LinuxError(errno.EPERM)
    return b"%d\n" % target.timer_slack_ns


def set_timer_slack(writer: Task, target: Task, data: bytes) -> None:
    """EINVAL: no number; ERANGE: more than 64 bits; EPERM."""
    if writer.group is not target.group and not writer.cred.has_cap(CAP_SYS_NICE):
        raise LinuxError(errno.EPERM)
    digits = data.removeprefix(b"+").removesuffix(b"\n")
    if not digits.isdigit():
        raise LinuxError(errno.EINVAL)
    if len(digits.lstrip(b"0")) > 20 or (value := int(digits)) >= 1 << 64:
        raise LinuxError(errno.ERANGE)
    target.timer_slack_ns = value or 50_000
