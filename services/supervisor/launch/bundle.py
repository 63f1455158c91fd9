"""The plan of an OCI bundle.

Owns: `plan_bundle`: what of the specification becomes an export, a mount, or a field of the Sentry's configuration.

/dev: runtimes mount a tmpfs there and fill it with the default devices (config-linux.md, "Default Devices"); here a
`devtmpfs` comes with them, so a tmpfs at /dev becomes one. The root is written through to the bundle only with the
annotation `io.sentrio.root: write-through`; otherwise writes stay in memory above it, as in gVisor.
"""

from __future__ import annotations

import os

from protocol.control.config import Capabilities, MountSpec, SentryConfig
from services.supervisor.container.annotations import GOFER, PLATFORM, ROOT, ROOT_WRITE_THROUGH, choice
from services.supervisor.errors import SupervisorError, os_reason
from services.supervisor.launch.plan import Export, LaunchPlan
from services.supervisor.settings import Settings
from services.supervisor.spec.model import Mount, Process, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.network.options import NetworkRequest

_MS_RDONLY = 1


def plan_bundle(
    spec: Spec,
    container_id: str,
    settings: Settings,
    stdio: list[int | None],
    wanted: NetworkRequest | None = None,
) -> LaunchPlan:
    """The plan to run `spec`, with the network `wanted` (None: none). `console` is left to the caller.

    Raises SupervisorError when a path cannot be used or the network cannot be had.
    """
    try:
        os.listdir(spec.root_path)
    except OSError as error:
        raise SupervisorError("config.json", f"root.path: {spec.root_path}: {os_reason(error)}") from None
    backend = choice(spec.annotations, GOFER)
    through = choice(spec.annotations, ROOT) == ROOT_WRITE_THROUGH and not spec.root_readonly
    exports = [Export(b"root", os.fsencode(os.path.realpath(spec.root_path)), through, backend)]
    root_flags = _MS_RDONLY if spec.root_readonly else 0
    mounts = [MountSpec(b"/", "gofer", b"root", root_flags, overlay=not (through or spec.root_readonly))]
    for mount in spec.mounts:
        mounts.append(_mount(mount, exports, backend))
    config = _config(spec, container_id, settings, mounts)
    network = None
    if wanted is not None:
        from services.supervisor.network.attachment import open_network

        if wanted.host_name:
            config.hostname = os.fsencode(wanted.host_name)
        network = open_network(wanted, config.hostname, settings)
    if network is not None:
        config.network = network.kind
        config.files = network.files([mount.destination for mount in mounts])
    return LaunchPlan(
        sandbox_id=container_id,
        exports=exports,
        build_config=lambda: config,
        stdio=stdio,
        modules=settings.modules,
        show_service_logs=settings.debug,
        sealed=settings.sealed,
        oom_score_adj=spec.process.oom_score_adj,
        isolate=settings.isolate,
        network=network,
    )


def _mount(mount: Mount, exports: list[Export], backend: str) -> MountSpec:
    destination, data = os.fsencode(mount.destination), os.fsencode(",".join(mount.options))
    if mount.type != "bind":
        kind = "devtmpfs" if mount.type == "tmpfs" and mount.destination == "/dev" else mount.type
        return MountSpec(destination, kind, os.fsencode(mount.source), mount.flags, data)
    name = b"m%d" % len(exports)
    exports.append(Export(name, os.fsencode(os.path.realpath(mount.source)), not mount.flags & _MS_RDONLY, backend))
    return MountSpec(destination, "gofer", name, mount.flags)


def _config(spec: Spec, container_id: str, settings: Settings, mounts: list[MountSpec]) -> SentryConfig:
    process = spec.process
    user = process.user
    return SentryConfig(
        argv=[os.fsencode(word) for word in process.args],
        env=[os.fsencode(word) for word in process.env],
        cwd=os.fsencode(process.cwd),
        uid=user.uid,
        gid=user.gid,
        additional_gids=list(user.additional_gids),
        umask=0o022 if user.umask is None else user.umask,
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        capabilities=_capabilities(process),
        rlimits=dict(process.rlimits),
        hostname=os.fsencode(spec.hostname or container_id[:64]),
        domainname=os.fsencode(spec.domainname or "(none)"),
        terminal=process.terminal,
        console_size=process.console_size,
        mounts=mounts,
        masked_paths=[os.fsencode(path) for path in spec.masked_paths],
        readonly_paths=[os.fsencode(path) for path in spec.readonly_paths],
        no_new_privileges=process.no_new_privileges,
        oom_score_adj=process.oom_score_adj,
        platform=choice(spec.annotations, PLATFORM),
        autostart=False,
        log_level="debug" if settings.debug else "warning",
        debug=settings.debug,
        sealed=settings.sealed,
        sandbox_id=container_id,
        annotations=dict(spec.annotations),
    )


def _capabilities(process: Process) -> Capabilities:
    masks = process.capabilities
    return Capabilities(
        effective=masks.get("effective", 0),
        permitted=masks.get("permitted", 0),
        inheritable=masks.get("inheritable", 0),
        bounding=masks.get("bounding", 0),
        ambient=masks.get("ambient", 0),
    )
