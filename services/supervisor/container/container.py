"""One container being run: what the monitor process does beside watching.

Owns: `ContainerLifecycle` (keeps the record on disk and runs hooks as the monitor reports), `prepare_console` (a pty
whose controlling end goes to the caller's socket), `run_container` (the monitor process from plan to end).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable

from services.supervisor.container.client import listen
from services.supervisor.container.hooks import run_hooks, try_hooks
from services.supervisor.container.states import Event, Status, after
from services.supervisor.container.store import ProcessId, Record, Store
from services.supervisor.errors import STATUS_FAILURE, SupervisorError, os_reason
from services.supervisor.launch.plan import LaunchPlan
from services.supervisor.launch.processes import Sandbox, launch
from services.supervisor.log import Log
from services.supervisor.monitor.clients import Clients
from services.supervisor.monitor.lifecycle import Lifecycle
from services.supervisor.monitor.monitor import Monitor
from services.supervisor.monitor.terminal import Terminal
from services.supervisor.spec.model import Spec


class ContainerLifecycle(Lifecycle):
    """Keeps `record` true and runs the hooks. created: called once it is created. start_at_once: for `run`."""

    def __init__(
        self, record: Record, spec: Spec, store: Store, log: Log, created: Callable[[], None], start_at_once: bool
    ) -> None:
        self.monitor: Monitor | None = None
        self._record = record
        self._spec = spec
        self._store = store
        self._log = log
        self._created = created
        self._start_at_once = start_at_once

    def launched(self, sandbox: Sandbox) -> None:
        """Note the services' processes, so that delete can end them whatever happens to the monitor."""
        self._record.processes = {service.name: ProcessId.of(service.pid) for service in sandbox.services}
        self._store.save(self._record)

    def ready(self) -> None:
        """Run what must have run before the container counts as created."""
        for point in ("prestart", "createRuntime"):
            run_hooks(point, self._spec.hooks.get(point, []), self._record.oci_state())
        self._move(Event.SEALED)
        self._created()
        if self._start_at_once:
            assert self.monitor is not None
            self.monitor.start(lambda _answer: None)

    def started(self) -> None:
        """The program runs."""
        self._move(Event.STARTED)
        try_hooks("poststart", self._spec.hooks.get("poststart", []), self._record.oci_state(), self._log)

    def stopped(self, status: int) -> None:
        """It is over."""
        self._record.exit_status = status
        if self._record.status is not Status.STOPPED:
            self._move(Event.ENDED)

    def _move(self, event: Event) -> None:
        self._record.status = after(self._record.status, event)
        self._store.save(self._record)


def prepare_console(path: str, size: tuple[int, int] | None) -> int:
    """Make a pty, send its controlling end to the Unix socket at `path`, and return the other end, which becomes this
    process's controlling terminal so that size changes arrive as SIGWINCH. Raises SupervisorError."""
    controller, terminal = os.openpty()
    if size is not None:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    try:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    except OSError:
        pass  # not a session leader: sizes are then only read when the guest starts
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.connect(path)
        name = os.ttyname(terminal).encode()
        link.sendmsg([name], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", controller))])
    except OSError as error:
        raise SupervisorError(f"--console-socket {path}", os_reason(error)) from None
    finally:
        link.close()
        os.close(controller)
    return terminal


def run_container(
    plan: LaunchPlan, record: Record, spec: Spec, store: Store, log: Log, created: Callable[[], None], at_once: bool
) -> int:
    """Be the monitor of a recorded container until it ends; its exit status. Raises SupervisorError.

    The record says `stopped` afterwards in every case.
    """
    lifecycle = ContainerLifecycle(record, spec, store, log, created, at_once)
    try:
        clients = Clients(listen(store.directory(record.id)), lambda: record.oci_state())
        terminal = None if plan.console is None else Terminal(plan.console)
        sandbox = launch(plan)
    except BaseException:
        lifecycle.stopped(STATUS_FAILURE)
        raise
    lifecycle.monitor = Monitor(sandbox, lifecycle, log, terminal, clients)
    return lifecycle.monitor.run()
