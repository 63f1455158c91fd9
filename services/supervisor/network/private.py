"""The network of one sandbox alone: a netstackd with the preset `slirp`, whose keeper is the sandbox's monitor.

Owns: `Carrier` (netstackd and its connector as processes, started again when one ends), `PrivateNetwork`. netstackd is
sealed in namespaces of its own; the connector keeps the caller's network, where it opens the host sockets that the
virtual network's connections become. The addresses are those of the preset (services/netstackd/config/presets.py).
"""

from __future__ import annotations

import os
import time
from _socket import socket, socketpair

from protocol.control.msgpack_subset import Fd
from services.supervisor.errors import SupervisorError
from services.supervisor.launch.processes import start_service
from services.supervisor.network.attachment import SandboxNetwork
from services.supervisor.network.files import NetworkNames, name_servers
from services.supervisor.network.publish import Publish
from services.supervisor.network.rpc import ControlConnection, errno_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from services.supervisor.launch.host_calls_unsafe import HostCalls
    from services.supervisor.launch.plan import LaunchPlan
    from services.supervisor.launch.processes import ServiceProcess
    from services.supervisor.monitor.loop import Loop
    from services.supervisor.monitor.monitor import Monitor
    from services.supervisor.monitor.service_watch import ServiceWatch

#: The first sandbox of the preset's virtual network, with the prefix lengths, and the network's DNS servers.
ADDRESSES = ("10.0.2.15/24", "fd00:0:0:2::f/64")
SERVERS = ("10.0.2.3",)
#: More ends than that within the window: something is broken for good.
MAX_RESTARTS = 5
RESTART_WINDOW_S = 10.0
#: The configuration that services/netstackd/supervised.py makes of the preset of this name.
PRESET = "preset:slirp"


class Carrier:
    """netstackd and its connector. services: those that live. control: to the netstackd that runs now. ready: called
    whenever it serves. changed: called when a connector was started in place of one that ended.

    netstackd asks its keeper for the host's name servers, for a connector when it needs one, and again when that one
    ended. The first is started
    with it, so that both import at the same time.
    """

    def __init__(
        self,
        text: str,
        ready: Callable[[], None],
        changed: Callable[[], None],
        listener: socket | None = None,
        with_connector: bool = True,
    ) -> None:
        self.services: list[ServiceProcess] = []
        self.control: ControlConnection | None = None
        self._text = text
        self._ready = ready
        self._changed = changed
        self._listener = listener
        self._with_connector = with_connector
        self._starts: list[float] = []
        self._plan: LaunchPlan | None = None
        self._spare: socket | None = None
        self._given: socket | None = None
        self._watching: tuple[Loop, ServiceWatch] | None = None

    def start(self, plan: LaunchPlan, calls: HostCalls | None = None) -> ControlConnection:
        """Start both; requests may be sent at once. Raises SupervisorError."""
        self._starts.append(time.monotonic())
        self._plan = plan
        channel, router_channel = socketpair()
        given = [router_channel, *([self._listener] if self._listener is not None else [])]
        self.services = [start_service(plan, "netstackd", given, calls, self._text)]
        router_channel.close()
        if self._with_connector:
            self._spare = self._start_connector(calls)
        self.control = ControlConnection(_as_python_socket(channel), self._notified, self._asked)
        return self.control

    def watch(self, loop: Loop, services: ServiceWatch) -> None:
        """Watch what runs now."""
        assert self.control is not None
        control = self.control
        self._watching = loop, services
        for service in self.services:
            services.add(service)

        def read() -> None:
            if not control.receive() and control.fileno() >= 0:
                loop.unwatch(control.fileno())  # its end is told by SIGCHLD

        loop.watch(control.fileno(), read)

    def connector_ended(self, service: ServiceProcess) -> bool:
        """Whether what ended was a connector, which netstackd asks for anew."""
        if service.name != "connector":
            return False
        assert self._watching is not None
        self._watching[1].forget(service)
        self.services.remove(service)
        return True

    def end(self) -> None:
        """End what is left of both."""
        if self._watching is not None:
            loop, services = self._watching
            for service in self.services:
                services.end(service)
            if self.control is not None and self.control.fileno() >= 0:
                loop.unwatch(self.control.fileno())
        self.services = []
        self.close()

    def drain(self, drained: Callable[[], None]) -> None:
        """Call `drained` when nothing is left to be sent of what those that ended have sent; never when netstackd ends
        instead."""
        if self.control is None or self.control.fileno() < 0:
            drained()
        else:
            self.control.request("drain", [], lambda _error, _result: drained())

    def may_restart(self) -> bool:
        """Whether it did not end too often of late."""
        now = time.monotonic()
        self._starts = [at for at in self._starts if now - at < RESTART_WINDOW_S]
        return len(self._starts) <= MAX_RESTARTS

    def close(self) -> None:
        """Let go of the channels."""
        if self.control is not None:
            self.control.close()
        for sock in (self._spare, self._given):
            if sock is not None:
                sock.close()
        self._spare = self._given = None

    def _start_connector(self, calls: HostCalls | None = None) -> socket:
        assert self._plan is not None
        ours, theirs = socketpair()
        try:
            self.services.append(start_service(self._plan, "connector", [theirs], calls, self._text))
        finally:
            theirs.close()
        return ours

    def _asked(self, method: str, _params: list[object]) -> object:
        if method == "resolver":
            return name_servers()
        if method != "connector" or not self._with_connector:
            raise OSError(38, f"{method[:40]}: not served by the supervisor")
        end, self._spare = self._spare, None
        if end is None:
            self._starts.append(time.monotonic())
            if not self.may_restart():
                raise OSError(11, "the connector ended too often")
            try:
                end = self._start_connector()
            except SupervisorError as error:
                raise OSError(11, error.why) from None
            assert self._watching is not None
            self._watching[1].add(self.services[-1])
            self._changed()
        if self._given is not None:
            self._given.close()
        self._given = end  # until the answer that carries it has been sent
        return Fd(end.fileno())

    def _notified(self, method: str, _params: list[object]) -> None:
        if method == "ready":
            self._ready()


def _as_python_socket(sock: socket):  # type: ignore[no-untyped-def]
    from socket import socket as Socket

    return Socket(fileno=sock.detach())


class PrivateNetwork(SandboxNetwork):
    """See the module docstring."""

    def __init__(self, host_name: bytes, publishes: list[Publish]) -> None:
        super().__init__(host_name, publishes)
        self.names = NetworkNames(host_name, [text.partition("/")[0] for text in ADDRESSES], list(SERVERS))
        self._carrier = Carrier(PRESET, self._serves, self._connector_changed)
        self._plan: LaunchPlan | None = None
        self._joined = False

    def launch(self, plan: LaunchPlan, calls: HostCalls) -> None:
        """See SandboxNetwork."""
        super().launch(plan, calls)
        self._plan = plan
        self._join(self._carrier.start(plan, calls))

    @property
    def services(self) -> list[ServiceProcess]:
        """See SandboxNetwork."""
        return self._carrier.services

    def attach(self, monitor: Monitor) -> None:
        """See SandboxNetwork."""
        self._monitor = monitor
        for name in ("netstackd", "connector", "network"):
            monitor.expect(name)
        self._carrier.watch(monitor.loop, monitor.services)

    def ended(self, service: ServiceProcess, code: int) -> None:
        """Start netstackd again, with the same configuration and the same published sockets."""
        from services.supervisor.monitor.service_watch import how_it_ended

        monitor, plan = self._monitor, self._plan
        assert monitor is not None and plan is not None
        how = how_it_ended(service, code)
        if self._joined and self._carrier.connector_ended(service):
            monitor.warn(f"network: {how}")
            return
        self._carrier.end()
        if not self._joined:
            monitor.fail(SupervisorError("network", how, "--debug before the verb shows its log"))
            return
        if not self._carrier.may_restart():
            monitor.warn(f"network: {how}, too often: the sandbox goes on without it")
            return
        self._new_connection()
        try:
            self._join(self._carrier.start(plan))
        except SupervisorError as error:
            monitor.warn(f"network: {error.why}: the sandbox goes on without it")
            return
        self._carrier.watch(monitor.loop, monitor.services)
        # Who connects meanwhile waits at the published sockets until there is somebody to connect to.
        self._hand_to_sentry(self._publish_again)
        monitor.services_changed()
        monitor.warn(f"network: {how}: started again, connections are reset")

    def drain(self, drained: Callable[[], None]) -> None:
        """See SandboxNetwork."""
        if self._joined:
            self._carrier.drain(drained)
        else:
            drained()

    def close(self) -> None:
        """See SandboxNetwork."""
        self._carrier.close()
        super().close()

    def _join(self, control: ControlConnection) -> None:
        """Ask for the sandbox's namespace, with its addresses, its connection and its ports."""
        name = os.fsdecode(self.host_name)
        control.request("namespace_add", [name, self._about()], self._answered)
        self.service_end.close()
        if not self._joined:
            self._publish(control, name, self._published)
            # Answered in order: when this one is, everything before it was.
            control.request("namespaces", [], lambda _error, _result: self._complete())

    def _about(self) -> dict[str, object]:
        """What the namespace is to be."""
        return {"addresses": list(ADDRESSES), "connection": Fd(self.service_end.fileno())}

    def _publish_again(self) -> None:
        if self._carrier.control is not None:
            self._publish(self._carrier.control, os.fsdecode(self.host_name), self._published)

    def _answered(self, error: object, _result: object) -> None:
        if error is not None:
            self._refused(SupervisorError("network", errno_of(error)[1]))

    def _published(self, publish: Publish, error: object) -> None:
        if error is not None:
            self._refused(SupervisorError(f"-p {publish.text}", errno_of(error)[1]))

    def _refused(self, error: SupervisorError) -> None:
        assert self._monitor is not None
        if self._joined:
            self._monitor.warn(f"{error.what}: {error.why}")
        else:
            self._monitor.fail(error)

    def _complete(self) -> None:
        assert self._monitor is not None
        self._joined = True
        self._monitor.note_sealed("network")

    def _connector_changed(self) -> None:
        if self._monitor is not None:
            self._monitor.services_changed()

    def _serves(self) -> None:
        if self._monitor is not None:
            self._monitor.note_sealed("netstackd")
