"""What is to be launched, as plain data: the input of `processes.py`.

Owns: `Export`, `LaunchPlan`, `ServiceModules`. `direct.py` makes plans for `do`, `bundle.py` for OCI bundles. No
dataclasses here: importing that module costs more than `supervisor do` spends before it forks. For the same reason the
Sentry's configuration is a function, called in the Sentry's own process while the Gofer starts beside it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.control.config import SentryConfig
    from services.supervisor.network.attachment import SandboxNetwork


class Export:
    """One tree (or one file) of the host that the Gofer serves.

    name: its 9P attach name. path: absolute host path. writable: whether guests may change it on the host.
    backend: name in the entry point group `sentrio.gofers`.
    """

    __slots__ = ("backend", "name", "path", "writable")

    def __init__(self, name: bytes, path: bytes, writable: bool = False, backend: str = "directory") -> None:
        self.name = name
        self.path = path
        self.writable = writable
        self.backend = backend


class ServiceModules:
    """The modules that hold the services' entry points; tests put their fakes here.

    sentry: has `run(config, fds) -> NoReturn` and may have `prepare(config) -> None`, called while the host's files
    can still be opened. gofer: has `run_in_child(sock, exports, seal, ready_fd, *, backend_name, keep_capabilities)
    -> NoReturn` with exports as {attach name: (path, read only)}. netstackd, connector, host_network: the services of a
    network; each has `run_in_child`, whose parameters birth.py shows.
    """

    __slots__ = ("connector", "gofer", "host_network", "netstackd", "sentry")

    def __init__(
        self,
        sentry: str = "services.sentry.app",
        gofer: str = "services.gofer.app",
        netstackd: str = "services.netstackd.supervised",
        connector: str = "services.netstackd.supervised",
        host_network: str = "services.hostnet.app",
    ) -> None:
        self.sentry = sentry
        self.gofer = gofer
        self.netstackd = netstackd
        self.connector = connector
        self.host_network = host_network


class LaunchPlan:
    """Everything needed to start one sandbox.

    sandbox_id: for messages. exports: what the Gofer serves; the first is the root. build_config: makes the Sentry's
    configuration, called in its process. stdio: the guest's standard streams as our descriptors (None: closed).
    console: the one among them whose terminal sets modes and window size, or None. show_service_logs: the services'
    standard error goes to ours. isolate: try namespaces at all (tests of the fallback switch it off). sealed: let the
    services install their filters. oom_score_adj: of the Sentry and its guests' host processes. network: what carries
    its sockets beyond its loopback, or None.
    """

    __slots__ = (
        "build_config",
        "console",
        "exports",
        "isolate",
        "modules",
        "network",
        "oom_score_adj",
        "sandbox_id",
        "sealed",
        "show_service_logs",
        "stdio",
    )

    def __init__(
        self,
        sandbox_id: str,
        exports: list[Export],
        build_config: Callable[[], SentryConfig],
        stdio: list[int | None],
        modules: ServiceModules,
        console: int | None = None,
        show_service_logs: bool = False,
        sealed: bool = True,
        oom_score_adj: int | None = None,
        isolate: bool = True,
        network: SandboxNetwork | None = None,
    ) -> None:
        self.sandbox_id = sandbox_id
        self.exports = exports
        self.build_config = build_config
        self.stdio = stdio
        self.modules = modules
        self.console = console
        self.show_service_logs = show_service_logs
        self.sealed = sealed
        self.oom_score_adj = oom_score_adj
        self.isolate = isolate
        self.network = network
