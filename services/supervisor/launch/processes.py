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
    from services.supervisor.network.attachment import SandboxNetwork

#: How a service was born: in namespaces owned by root, in ones that belong to a user namespace of its own, or in none.
BORN_BY_ROOT = "root"
BORN_BY_USER = "user"
BORN_PLAIN = "none"
#: The services that keep the caller's network namespace: their business is its sockets.
WITH_HOST_NETWORK = ("connector", "host-network")


#: Service -> what messages call it.
TITLES = {"sentry": "the Sentry", "gofer": "the Gofer", "host-network": "the host network's broker"}


class ServiceProcess:
    """A started service. pid: as the monitor sees it. boot: birth.py's channel, boot_text what came of a line. log: its
    standard error to read, or -1 when it goes to ours; last_words: the end of what it wrote there. ready: a pipe that
    has one byte when it is sealed. born: BORN_*."""

    __slots__ = ("boot", "boot_text", "born", "last_words", "log", "name", "pid", "ready")

    def __init__(self, name: str, pid: int, boot: socket, log: int, ready: int, born: str) -> None:
        self.name = name
        self.pid = pid
        self.boot = boot
        self.log = log
        self.ready = ready
        self.born = born
        self.boot_text = bytearray()
        self.last_words = bytearray()

    @property
    def title(self) -> str:
        """Its name in messages."""
        return TITLES.get(self.name, self.name)


class Sandbox:
    """What `launch` returns: the two services, the network if there is one, and the monitor's end of the control
    channel."""

    __slots__ = ("control", "gofer", "network", "sentry")

    def __init__(
        self, sentry: ServiceProcess, gofer: ServiceProcess, control: socket, network: SandboxNetwork | None
    ) -> None:
        self.sentry = sentry
        self.gofer = gofer
        self.control = control
        self.network = network

    @property
    def services(self) -> list[ServiceProcess]:
        """Every process of the sandbox that the monitor started."""
        return [self.sentry, self.gofer, *(self.network.services if self.network is not None else ())]


def launch(plan: LaunchPlan) -> Sandbox:
    """Start the Sentry and the Gofer of `plan`. Returns at once; both are still importing.

    Raises SupervisorError when a process cannot be started; nothing is left running then.
    """
    from services.supervisor.launch.host_calls_unsafe import HostCalls

    calls = HostCalls()
    monitor_control, sentry_control = socketpair()
    sentry_files, gofer_files = socketpair()
    gc.freeze()
    network = plan.network
    started: list[ServiceProcess] = []
    try:
        given = [sentry_control, sentry_files, *([] if network is None else [network.sentry_end])]
        started.append(start_service(plan, "sentry", given, calls))
        started.append(start_service(plan, "gofer", [gofer_files], calls))
        if network is not None:
            network.launch(plan, calls)
    except SupervisorError:
        for service in (*started, *(network.services if network is not None else ())):
            os.kill(service.pid, 9)
            os.waitpid(service.pid, 0)
        raise
    for theirs in (sentry_control, sentry_files, gofer_files):
        theirs.close()
    monitor_control.setblocking(False)
    return Sandbox(started[0], started[1], monitor_control, network)


def start_service(
    plan: LaunchPlan, name: str, given: list[socket], calls: HostCalls | None = None, about: object = None
) -> ServiceProcess:
    """Fork the service `name`, which keeps `given`, its boot socket and, as the Sentry, the guest's streams.

    about: what else its birth needs to know. Returns while it is still importing. Raises SupervisorError.
    """
    if calls is None:
        from services.supervisor.launch.host_calls_unsafe import HostCalls

        calls = HostCalls()
    boot, child_boot = socketpair()
    log, child_log = (-1, 2) if plan.show_service_logs else os.pipe()
    ready, child_ready = os.pipe()
    ids = (os.geteuid(), os.getegid())
    try:
        pid, born = _fork(calls, plan.isolate, name in WITH_HOST_NETWORK)
    except OSError as error:
        raise SupervisorError("sandbox", f"cannot start the {name}: {reason(error)}") from None
    if pid == 0:
        try:
            from services.supervisor.launch.birth import Birth

            Birth(calls, plan, name, born, ids, child_boot, child_log, given, child_ready, about).live()
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


def _fork(calls: HostCalls, isolate: bool, host_network: bool) -> tuple[int, str]:
    """Fork into new namespaces where the host allows it, but for the caller's network with `host_network`: (pid or 0,
    BORN_*)."""
    from services.supervisor.launch.namespaces import CLONE_NEWNET, CLONE_NEWUSER, SERVICE_NAMESPACES

    namespaces = SERVICE_NAMESPACES & ~CLONE_NEWNET if host_network else SERVICE_NAMESPACES
    attempts = [(namespaces, BORN_BY_ROOT)] if os.geteuid() == 0 else []
    attempts.append((namespaces | CLONE_NEWUSER, BORN_BY_USER))
    for flags, born in attempts if isolate else ():
        try:
            return calls.clone(flags), born
        except OSError:
            continue
    return os.fork(), BORN_PLAIN
