"""`--network host`: the sandbox's sockets are the host's own, opened by a small broker process beside it.

Owns: `HostNetwork`. The broker (services/hostnet/) speaks the socket service to the Sentry and keeps the caller's
network namespace. It is started again when it ends, as a private netstackd is.
"""

from __future__ import annotations

import time

from services.supervisor.errors import SupervisorError
from services.supervisor.launch.processes import start_service
from services.supervisor.network.attachment import SandboxNetwork
from services.supervisor.network.private import MAX_RESTARTS, RESTART_WINDOW_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.launch.host_calls_unsafe import HostCalls
    from services.supervisor.launch.plan import LaunchPlan
    from services.supervisor.launch.processes import ServiceProcess
    from services.supervisor.monitor.monitor import Monitor
    from services.supervisor.network.publish import Publish


class HostNetwork(SandboxNetwork):
    """See the module docstring."""

    kind = "host"

    def __init__(self, host_name: bytes, publishes: list[Publish]) -> None:
        super().__init__(host_name, publishes)
        self._broker: ServiceProcess | None = None
        self._plan: LaunchPlan | None = None
        self._starts: list[float] = []

    @property
    def services(self) -> list[ServiceProcess]:
        """See SandboxNetwork."""
        return [] if self._broker is None else [self._broker]

    def launch(self, plan: LaunchPlan, calls: HostCalls) -> None:
        """See SandboxNetwork."""
        super().launch(plan, calls)
        self._plan = plan
        self._start(calls)

    def attach(self, monitor: Monitor) -> None:
        """See SandboxNetwork."""
        super().attach(monitor)
        monitor.expect("host-network")

    def ended(self, service: ServiceProcess, code: int) -> None:
        """Start it again, with a new connection."""
        from services.supervisor.monitor.monitor import Phase
        from services.supervisor.monitor.service_watch import how_it_ended

        monitor = self._monitor
        assert monitor is not None
        how = how_it_ended(service, code)
        monitor.services.forget(service)
        self._broker = None
        if monitor.phase is Phase.BOOTING:
            monitor.fail(SupervisorError("network", how, "--debug before the verb shows its log"))
            return
        now = time.monotonic()
        self._starts = [at for at in self._starts if now - at < RESTART_WINDOW_S]
        if len(self._starts) > MAX_RESTARTS:
            monitor.warn(f"network: {how}, too often: the sandbox goes on without it")
            return
        self._new_connection()
        try:
            self._start(None)
        except SupervisorError as error:
            monitor.warn(f"network: {error.why}: the sandbox goes on without it")
            return
        for started in self.services:
            monitor.services.add(started)
        self._hand_to_sentry(lambda: None)
        monitor.services_changed()
        monitor.warn(f"network: {how}: started again, connections are reset")

    def _start(self, calls: HostCalls | None) -> None:
        assert self._plan is not None
        self._starts.append(time.monotonic())
        self._broker = start_service(self._plan, "host-network", [self.service_end], calls)
        self.service_end.close()
