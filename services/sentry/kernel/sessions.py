"""Process groups and sessions (setpgid(2), setsid(2), credentials(7)), and the orphaned process group rule.

Owns membership: every live thread group is in one process group, which is in one session. The kernel's `process_groups`
and `sessions` maps hold them by id. The controlling terminal itself is devices/terminal's; here is only the reference
(`session.terminal`), which that module sets and clears.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from protocol.abi import signal_h as sg
from services.sentry.errors import LinuxError
from services.sentry.kernel.signals import SigInfo, send_signal_pgrp

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.thread_group import ThreadGroup

__all__ = [
    "ProcessGroup",
    "Session",
    "is_orphaned",
    "join_group",
    "leave_group",
    "new_session",
    "set_process_group",
    "signal_if_newly_orphaned",
]


class Session:
    """A session: its process groups, its leader while that lives, and its controlling terminal (or None)."""

    __slots__ = ("groups", "id", "leader", "terminal")

    def __init__(self, session_id: int, leader: ThreadGroup | None) -> None:
        self.id = session_id
        self.leader = leader
        self.groups: set[ProcessGroup] = set()
        self.terminal: object | None = None


class ProcessGroup:
    """A process group: the signal unit of job control."""

    __slots__ = ("id", "members", "session")

    def __init__(self, group_id: int, session: Session) -> None:
        self.id = group_id
        self.session = session
        self.members: dict[int, ThreadGroup] = {}  # by pid, in order of joining
        session.groups.add(self)


def join_group(kernel: Kernel, group: ThreadGroup, target: ProcessGroup) -> None:
    """Make `group` a member of `target`, leaving where it was (an emptied process group disappears)."""
    old = group.process_group
    if old is target:
        return
    if old is not None:
        leave_group(kernel, group)
    target.members[group.pid] = group
    group.process_group = target
    group.session = target.session


def leave_group(kernel: Kernel, group: ThreadGroup) -> None:
    """Take a reaped or moving thread group out of its process group."""
    old = group.process_group
    if old is None:
        return
    old.members.pop(group.pid, None)
    group.process_group = None
    if not old.members:
        kernel.process_groups.pop(old.id, None)
        old.session.groups.discard(old)
        if not old.session.groups:
            kernel.sessions.pop(old.session.id, None)


def new_session(kernel: Kernel, group: ThreadGroup) -> Session:
    """setsid(2): `group` leads a new session and process group without a terminal. EPERM: it leads one already."""
    if group.pid in kernel.process_groups:
        raise LinuxError(errno.EPERM, "a process group of that id exists")
    session = Session(group.pid, group)
    target = ProcessGroup(group.pid, session)
    kernel.sessions[session.id] = session
    kernel.process_groups[target.id] = target
    join_group(kernel, group, target)
    return session


def set_process_group(kernel: Kernel, caller: ThreadGroup, pid: int, pgid: int) -> None:
    """setpgid(2). EINVAL: negative pgid; ESRCH: not the caller nor its child; EACCES: the child did execve.

    EPERM: a session leader, a child of another session, or a group of another session.
    """
    if pgid < 0:
        raise LinuxError(errno.EINVAL)
    group = caller if pid in (0, caller.pid) else caller.children.get(pid)
    if group is None:
        raise LinuxError(errno.ESRCH)
    if group is not caller:
        if group.session is not caller.session:
            raise LinuxError(errno.EPERM)
        if group.did_exec:
            raise LinuxError(errno.EACCES)
    session = group.session
    if session.leader is group:
        raise LinuxError(errno.EPERM, "a session leader")
    if pgid in (0, group.pid):
        target = kernel.process_groups.get(group.pid)
        if target is None:
            target = ProcessGroup(group.pid, session)
            kernel.process_groups[target.id] = target
    else:
        found = kernel.process_groups.get(pgid)
        if found is None:
            raise LinuxError(errno.EPERM)
        target = found
    if target.session is not caller.session:
        raise LinuxError(errno.EPERM)
    join_group(kernel, group, target)


def is_orphaned(process_group: ProcessGroup, ignoring: ThreadGroup | None = None) -> bool:
    """No member has a parent in the same session but another group (setpgid(2)); `ignoring` is no member."""
    for member in process_group.members.values():
        if member is ignoring or member.is_dead:
            continue
        parent = member.parent
        # Linux passes over children of the global init only; a sandbox's init is a container's, so a shell may be one.
        if parent is not None and parent.process_group is not process_group and parent.session is process_group.session:
            return False
    return True


def has_stopped_member(process_group: ProcessGroup) -> bool:
    return any(member.stopped for member in process_group.members.values())


def signal_if_newly_orphaned(kernel: Kernel, group: ThreadGroup, parent: ThreadGroup | None) -> None:
    """SIGHUP and SIGCONT to `group`'s process group if losing its link to `parent` orphans it with stopped members.

    _exit(2); called when `group` exits (parent None: its own) or is reparented away from `parent`.
    """
    process_group = group.process_group
    if process_group is None:
        return
    former = parent if parent is not None else group.parent
    if former is None or former.process_group is process_group or former.session is not group.session:
        return
    ignoring = None if parent is not None else group
    if is_orphaned(process_group, ignoring) and has_stopped_member(process_group):
        send_signal_pgrp(process_group, SigInfo(sg.SIGHUP, sg.SI_KERNEL))
        send_signal_pgrp(process_group, SigInfo(sg.SIGCONT, sg.SI_KERNEL))
