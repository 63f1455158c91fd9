"""A sandbox's network as its monitor has it: made before the launch, started with it, watched, and ended with it.

Owns: `SandboxNetwork`, what the launcher and the monitor call; `open_network`, which kind it is. One kind a module:
`private.py` (a netstackd of its own), `joined.py` (one that others use too), `host.py` (the host's stack, by a broker),
`taken.py` (a network namespace that a bundle names).

Life: `open()` (ports are bound, a running network is joined: whatever the user is to be told of comes here) ->
`launch()` by launch/processes.py, right after the Sentry was forked with `sentry_end` -> `attach()` -> `drain()` ->
`close()`.

The Sentry's end of the socket service's connection is there before the other end is served, so that the Sentry starts
beside it. When the carrier ends, a new connection is made as soon as there is one again, and goes to the Sentry by the
request `network_restarted`: its connections are reset, everything else goes on.
"""

from __future__ import annotations

from _socket import socket, socketpair

from protocol.control.msgpack_subset import Fd
from services.supervisor.errors import SupervisorError
from services.supervisor.network.files import NetworkNames, name_files
from services.supervisor.network.options import NetworkRequest
from services.supervisor.network.publish import Publish, bind_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.launch.host_calls_unsafe import HostCalls
    from services.supervisor.launch.plan import LaunchPlan
    from services.supervisor.launch.processes import ServiceProcess
    from services.supervisor.monitor.monitor import Monitor
    from services.supervisor.network.rpc import ControlConnection
    from services.supervisor.settings import Settings


class SandboxNetwork:
    """See the module docstring. kind: as SentryConfig.network. names: what the sandbox is told, None: the root's files
    are right. sentry_end: until the Sentry has it; service_end: until the carrier has it."""

    kind = "netstack"

    def __init__(self, host_name: bytes, publishes: list[Publish]) -> None:
        self.host_name = host_name
        self.names: NetworkNames | None = None
        self.sentry_end, self.service_end = socketpair()
        self._publishes = publishes
        self._bound: list[tuple[Publish, socket]] = []
        self._monitor: Monitor | None = None

    @property
    def services(self) -> list[ServiceProcess]:
        """The processes of its own that live."""
        return []

    def open(self) -> None:
        """Bind what is published. Raises SupervisorError."""
        self._bound = bind_all(self._publishes)

    def launch(self, plan: LaunchPlan, calls: HostCalls) -> None:
        """Start the processes of its own. The Sentry has its end. Raises SupervisorError."""
        self.sentry_end.close()

    def attach(self, monitor: Monitor) -> None:
        """Be watched by `monitor`."""
        self._monitor = monitor
        for service in self.services:
            monitor.services.add(service)

    def ended(self, service: ServiceProcess, code: int) -> None:
        """One of `services` ended unexpectedly."""
        raise NotImplementedError

    def drain(self, drained: Callable[[], None]) -> None:
        """The Sentry has ended: call `drained`, perhaps at once, when nothing that it sent has still to leave."""
        drained()

    def close(self) -> None:
        """Everything is over: the processes have been ended; let go of what is left."""
        for _, sock in self._bound:
            sock.close()
        for end in (self.sentry_end, self.service_end):
            end.close()

    def files(self, taken: list[bytes]) -> list[tuple[bytes, bytes]]:
        """SentryConfig.files."""
        return [] if self.names is None else name_files(self.names, taken)

    # For the kinds.

    def _new_connection(self) -> None:
        """Fresh ends of a connection, in place of those that were."""
        self.sentry_end.close()
        self.service_end.close()
        self.sentry_end, self.service_end = socketpair()

    def _hand_to_sentry(self, then: Callable[[], None]) -> None:
        """Give the Sentry its end of a connection that is served anew; `then` when its listeners are open again."""
        assert self._monitor is not None
        self._monitor.request("network_restarted", [Fd(self.sentry_end.fileno())], lambda _answer: then())
        self.sentry_end.close()

    def _publish(self, control: ControlConnection, name: str, refused: Refused) -> None:
        """Hand every bound socket over; `refused(publish, error)` for one that is not taken."""
        for publish, sock in self._bound:
            about: dict[str, object] = {
                "protocol": publish.protocol,
                "host": sock.getsockname()[0],
                "port": sock.getsockname()[1],
                "namespace": name,
                "guest_port": publish.port,
                "socket": Fd(sock.fileno()),
            }
            control.request("publish", [about], lambda error, _result, publish=publish: refused(publish, error))  # type: ignore[misc]


if TYPE_CHECKING:
    from collections.abc import Callable

    Refused = Callable[[Publish, object], None]


def open_network(request: NetworkRequest | None, host_name: bytes, settings: Settings) -> SandboxNetwork | None:
    """The network that is asked for, opened; None for none. host_name: of the sandbox.

    Raises SupervisorError: a port in use, no such network, a name that is taken.
    """
    if request is None or request.kind == "none":
        return None
    network: SandboxNetwork
    if request.kind == "host":
        from services.supervisor.network.host import HostNetwork

        network = HostNetwork(host_name, [])
    elif request.taken:
        from services.supervisor.network.taken import TakenNetwork

        network = TakenNetwork(host_name, request.taken)
    elif request.control or request.name:
        from services.supervisor.network.joined import JoinedNetwork

        network = JoinedNetwork(host_name, request, settings)
    else:
        from services.supervisor.network.private import PrivateNetwork

        network = PrivateNetwork(host_name, request.publishes)
    try:
        network.open()
    except SupervisorError:
        network.close()
        raise
    return network
