"""wait4(2) and waitid(2): finding a child that changed, consuming the change, and waiting for one.

Owns which children a call concerns and what each change reports. Children are thread groups; they belong to the
parent's thread group, and `parent_thread` only matters to __WNOTHREAD.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.abi import signal_h as sg
from protocol.abi import wait_h as wh
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel.exits import exit_code_and_status, release_group
from services.sentry.kernel.waiter import ANY, Wait

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.thread_group import ThreadGroup
    from services.sentry.kernel.waiter import Outcome

__all__ = ["Change", "wait_for_child"]

_STATUS_CONTINUED: Final = wh.STATUS_CONTINUED


class Change(NamedTuple):
    """What happened to a child. `status`: wait(2)'s word; `code`/`value`: si_code and si_status of waitid(2)."""

    pid: int
    uid: int
    status: int
    code: int
    value: int
    cpu_ns: int
    maxrss_kib: int


def wait_for_child(
    task: Task, idtype: int, number: int, options: int, finish: Callable[[Change | None], Outcome]
) -> Outcome:
    """Wait for a child that matches; `finish(change)` makes the result, `finish(None)` where WNOHANG finds nothing yet.

    `idtype`/`number` as in waitid(2) with P_PIDFD already resolved to P_PID. ECHILD: no child can ever match.
    """

    def attempt() -> Outcome:
        change = _look(task, idtype, number, options)
        if change is None:
            if options & wh.WNOHANG:
                return finish(None)
            raise WouldBlock
        return finish(change)

    try:
        return attempt()
    except WouldBlock:
        return Wait(attempt, ((task.group.child_wait, ANY),))


def _look(task: Task, idtype: int, number: int, options: int) -> Change | None:
    """The first change that matches, consumed unless WNOWAIT; None: there may be one later. ECHILD: never."""
    children = task.group.children
    if idtype == wh.P_PID:
        only = children.get(number)
        candidates = [only] if only is not None else []
    else:
        candidates = list(children.values())
    hopeful = False
    for child in candidates:
        if not _eligible(task, child, idtype, number, options):
            continue
        if child.is_zombie:
            if options & wh.WEXITED:
                return _collect(task, child, options)
            continue
        hopeful = True
        if options & wh.WUNTRACED and child.stop_report:
            signo = child.stop_report
            if not options & wh.WNOWAIT:
                child.stop_report = 0
            return _change(child, wh.status_stopped(signo), sg.CLD_STOPPED, signo)
        if options & wh.WCONTINUED and child.continue_report:
            if not options & wh.WNOWAIT:
                child.continue_report = False
            return _change(child, _STATUS_CONTINUED, sg.CLD_CONTINUED, sg.SIGCONT)
    if not hopeful:
        raise LinuxError(errno.ECHILD)
    return None


def _eligible(task: Task, child: ThreadGroup, idtype: int, number: int, options: int) -> bool:
    if idtype == wh.P_PGID and (child.process_group is None or child.process_group.id != number):
        return False
    if options & wh.WNOTHREAD and child.parent_thread is not task:
        return False
    if options & wh.WALL:
        return True
    return (child.exit_signal != sg.SIGCHLD) == bool(options & wh.WCLONE)


def _change(child: ThreadGroup, status: int, code: int, value: int) -> Change:
    return Change(
        child.pid,
        child.leader.cred.ruid,
        status,
        code,
        value,
        child.cpu_time_ns() + child.children_cpu_ns,
        max(child.maxrss_kib, child.children_maxrss_kib),
    )


def _collect(task: Task, child: ThreadGroup, options: int) -> Change:
    code, value = exit_code_and_status(child)
    change = _change(child, child.exit_status, code, value)
    if not options & wh.WNOWAIT:
        task.group.children_cpu_ns += change.cpu_ns
        task.group.children_maxrss_kib = max(task.group.children_maxrss_kib, change.maxrss_kib)
        release_group(child)
    return change
