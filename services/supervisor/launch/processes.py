"""Starts the processes of one sandbox: the Sentry and the Gofer, forked at once so that both import in parallel.

Owns: `launch`, the monitor's side of the start. What happens in each new process until its entry point is `birth.py`'s;
after that the Sentry is protocol/control's business and the Gofer 9P's. `monitor/` watches what `launch` returns.
"""

from __future__ import annotations

import gc
import os
from _socket import socket, socketpair

from services.supervisor.errors import STATUS_FAILURE, SupervisorError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.launch.host_calls_unsafe import HostCalls
    from services.supervisor.launch.plan import LaunchPlan

#: How a service was born: in namespaces owned by root, in ones that belong to a user namespace of its own, or in none.
BORN_BY_ROOT = "root"
BORN_BY_USER = "user"
BORN_PLAIN = "none"


class ServiceProcess:
    """A started service. pid: as the monitor sees it. boot: birth.py's channel. log: its standard error to read, or
    -1 when it goes to ours. ready: a pipe that has one byte when it is sealed. born: BORN_*."""

    __slots__ = ("boot", "born", "log", "name", "pid", "ready")

    def __init__(self, name: str, pid: int, boot: socket, log: int, ready: int, born: str) -> None:
        self.name = name
        self.pid = pid
        self.boot = boot
        self.log = log
        self.ready = ready
        self.born = born


class Sandbox:
    """What `launch` returns: the two services and the monitor's end of the control channel."""

    __slots__ = ("control", "gofer", "sentry")

    def __init__(self, sentry: ServiceProcess, gofer: ServiceProcess, control: socket) -> None:
        self.sentry = sentry
        self.gofer = gofer
        self.control = control


def launch(plan: LaunchPlan) -> Sandbox:
    """Start the Sentry and the Gofer of `plan`. Returns at once; both are still importing.

    Raises SupervisorError when a process cannot be started; nothing is left running then.
    """
    from services.supervisor.launch.host_calls_unsafe import HostCalls

    calls = HostCalls()
    monitor_control, sentry_control = socketpair()
    sentry_files, gofer_files = socketpair()
    gc.freeze()
    sentry = _start(calls, plan, "sentry", [sentry_control, sentry_files])
    try:
        gofer = _start(calls, plan, "gofer", [gofer_files])
    except SupervisorError:
        os.kill(sentry.pid, 9)
        os.waitpid(sentry.pid, 0)
        raise
    for theirs in (sentry_control, sentry_files, gofer_files):
        theirs.close()
    monitor_control.setblocking(False)
    return Sandbox(sentry, gofer, monitor_control)


def _start(calls: HostCalls, plan: LaunchPlan, name: str, given: list[socket]) -> ServiceProcess:
    """Fork the service `name`, which keeps `given`, its boot socket and, as the Sentry, the guest's streams."""
    boot, child_boot = socketpair()
    log, child_log = (-1, 2) if plan.show_service_logs else os.pipe()
    ready, child_ready = os.pipe()
    ids = (os.geteuid(), os.getegid())
    try:
        pid, born = _fork(calls, plan.isolate)
    except OSError as error:
        raise SupervisorError("sandbox", f"cannot start the {name}: {reason(error)}") from None
    if pid == 0:
        try:
            from services.supervisor.launch.birth import Birth

            Birth(calls, plan, name, born, ids, child_boot, child_log, given, child_ready).live()
        finally:
            os._exit(STATUS_FAILURE)
    child_boot.close()
    os.close(child_ready)
    os.set_blocking(ready, False)
    boot.setblocking(False)
    if log >= 0:
        os.close(child_log)
        os.set_blocking(log, False)
    return ServiceProcess(name, pid, boot, log, ready, born)


def _fork(calls: HostCalls, isolate: bool) -> tuple[int, str]:
    """Fork into new namespaces where the host allows it: (pid or 0, BORN_*)."""
    from services.supervisor.launch.namespaces import CLONE_NEWUSER, SERVICE_NAMESPACES

    attempts = [(SERVICE_NAMESPACES, BORN_BY_ROOT)] if os.geteuid() == 0 else []
    attempts.append((SERVICE_NAMESPACES | CLONE_NEWUSER, BORN_BY_USER))
    for flags, born in attempts if isolate else ():
        try:
            return calls.clone(flags), born
        except OSError:
            continue
    return os.fork(), BORN_PLAIN
