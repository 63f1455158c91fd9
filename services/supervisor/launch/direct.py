"""The plan of `supervisor do`: the host's root, the caller's surroundings, no preparation.

Owns: `Volume`, `DirectRequest`, `plan_direct`. What the guest gets: the host's files with a writable layer in memory
above (or, with --rw, written through), its own /proc, /sys, /dev, the caller's working directory, environment, ids,
groups, umask, nice value, OOM score and limits.
"""

from __future__ import annotations

import os
import signal

from services.supervisor.errors import SupervisorError, os_reason
from services.supervisor.launch.plan import Export, LaunchPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.control.config import MountSpec, SentryConfig
    from services.supervisor.network.attachment import SandboxNetwork
    from services.supervisor.network.options import NetworkRequest
    from services.supervisor.settings import Settings

#: What root's program may do inside the sandbox: everything, it is the sandbox's own kernel.
ALL_CAPABILITIES = (1 << 41) - 1


class Volume:
    """`-v HOST:GUEST[:ro]`."""

    __slots__ = ("guest", "host", "writable")

    def __init__(self, host: bytes, guest: bytes, writable: bool) -> None:
        self.host = host
        self.guest = guest
        self.writable = writable


class DirectRequest:
    """The flags of `do`. root: the host directory that becomes "/". cwd: guest path, None: the caller's. network:
    None for none."""

    __slots__ = ("argv", "cwd", "network", "platform", "report_missing", "root", "strace", "volumes", "writable")

    def __init__(self, argv: list[bytes]) -> None:
        self.argv = argv
        self.root = b"/"
        self.cwd: bytes | None = None
        self.platform = "systrap"
        self.writable = False
        self.volumes: list[Volume] = []
        self.report_missing = False
        self.strace = False
        self.network: NetworkRequest | None = None


def parse_volume(text: str) -> Volume:
    """`HOST:GUEST[:ro|rw]` as a Volume. Raises SupervisorError saying what is wrong with it."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise SupervisorError(f"-v {text}", "expected HOST:GUEST or HOST:GUEST:ro")
    host, guest = os.path.abspath(parts[0]) if parts[0] else "", parts[1]
    if not parts[0] or not guest.startswith("/"):
        raise SupervisorError(f"-v {text}", "the guest's path must be absolute")
    try:
        os.stat(host)
    except OSError as error:
        raise SupervisorError(f"-v {text}", f"{host}: {os_reason(error)}") from None
    return Volume(os.fsencode(host), os.path.normpath(os.fsencode(guest)), len(parts) == 2 or parts[2] == "rw")


def plan_direct(wanted: DirectRequest, settings: Settings, stdio: list[int | None]) -> LaunchPlan:
    """The plan for `wanted`. Raises SupervisorError when the root is not a directory."""
    if not os.path.isdir(wanted.root):
        raise SupervisorError(os.fsdecode(wanted.root), "not a directory", "--root after `do` names one")
    exports = [Export(b"root", wanted.root, wanted.writable)]
    exports += [Export(b"v%d" % i, volume.host, volume.writable) for i, volume in enumerate(wanted.volumes)]
    terminals = [fd for fd in stdio if fd is not None and os.isatty(fd)]
    console = terminals[0] if terminals else None
    # Now: in the Sentry's own process a user namespace may hide them.
    caller = Caller(os.getuid(), os.getgid(), os.getgroups(), os.geteuid() == 0)
    foreground = console is None or in_foreground(console)
    network = _network(wanted, settings)
    return LaunchPlan(
        sandbox_id=f"do-{os.getpid()}",
        exports=exports,
        build_config=lambda: _config(wanted, settings, caller, console is not None, foreground, network),
        stdio=stdio,
        modules=settings.modules,
        console=console,
        show_service_logs=settings.debug or wanted.strace,
        sealed=settings.sealed,
        isolate=settings.isolate,
        network=network,
    )


def _network(wanted: DirectRequest, settings: Settings) -> SandboxNetwork | None:
    """The network asked for, opened. A name in a shared network must be the only one, so there the default is made."""
    if wanted.network is None:
        return None
    from services.supervisor.network.attachment import open_network

    if not wanted.network.host_name and (wanted.network.name or wanted.network.control):
        wanted.network.host_name = f"do-{os.getpid()}"
    return open_network(wanted.network, os.fsencode(_host_name(wanted)), settings)


def _host_name(wanted: DirectRequest) -> str:
    asked = wanted.network.host_name if wanted.network is not None else ""
    return asked or os.uname().nodename


class Caller:
    """Who asks, and the signals that were ignored and blocked at its call (as execve(2) hands them on).

    SIGPIPE and SIGXFSZ count as not ignored: Python's start ignores them itself, whatever they were.
    """

    __slots__ = ("blocked_signals", "gid", "gids", "ignored_signals", "is_root", "uid")

    def __init__(self, uid: int, gid: int, gids: list[int], is_root: bool) -> None:
        self.uid = uid
        self.gid = gid
        self.gids = gids
        self.is_root = is_root
        ignored = [n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.ignored_signals = _mask(ignored) & ~_mask((signal.SIGPIPE, signal.SIGXFSZ))
        self.blocked_signals = _mask(blocked)


def _mask(numbers: Iterable[int]) -> int:
    return sum(1 << (number - 1) for number in numbers)


def in_foreground(terminal: int) -> bool:
    """Whether our process group may read the terminal: always, where it is not our controlling one."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return True


def _config(
    wanted: DirectRequest,
    settings: Settings,
    caller: Caller,
    terminal: bool,
    foreground: bool,
    network: SandboxNetwork | None,
) -> SentryConfig:
    from protocol.control.config import Capabilities, SentryConfig

    umask = os.umask(0o022)
    os.umask(umask)
    with open("/proc/self/oom_score_adj") as file:
        oom_score_adj = int(file.read())
    held = ALL_CAPABILITIES if caller.is_root else 0
    return SentryConfig(
        argv=wanted.argv,
        env=[name + b"=" + value for name, value in os.environb.items()],
        cwd=wanted.cwd or (os.getcwdb() if wanted.root == b"/" else b"/"),
        uid=caller.uid,
        gid=caller.gid,
        additional_gids=caller.gids,
        umask=umask,
        oom_score_adj=oom_score_adj,
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        capabilities=Capabilities(held, held, 0, ALL_CAPABILITIES, 0),
        rlimits=_limits(),
        hostname=os.fsencode(_host_name(wanted)),
        terminal=terminal,
        terminal_foreground=foreground,
        ignored_signals=caller.ignored_signals,
        blocked_signals=caller.blocked_signals,
        mounts=_mounts(wanted),
        platform=wanted.platform,
        report_missing=wanted.report_missing,
        log_level="debug" if settings.debug else "warning",
        strace=wanted.strace,
        debug=settings.debug,
        sealed=settings.sealed,
        sandbox_id="do",
        autostart=network is None,  # with one, the monitor starts it when everything is sealed
        network="none" if network is None else network.kind,
        files=[] if network is None else network.files([volume.guest for volume in wanted.volumes]),
    )


def _limits() -> dict[int, tuple[int, int]]:
    """The caller's resource limits, as struct rlimit64 has them."""
    import resource

    from protocol.control.config import RLIM_INFINITY, RLIM_NLIMITS

    limits = {}
    for number in range(RLIM_NLIMITS):
        soft, hard = resource.getrlimit(number)
        limits[number] = (soft & RLIM_INFINITY, hard & RLIM_INFINITY)
    return limits


def _mounts(wanted: DirectRequest) -> list[MountSpec]:
    from protocol.abi.mount_h import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY
    from protocol.control.config import MountSpec

    quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mounts = [
        MountSpec(b"/", "gofer", b"root", overlay=not wanted.writable),
        MountSpec(b"/proc", "proc", b"proc", quiet),
        MountSpec(b"/sys", "sysfs", b"sysfs", quiet | MS_RDONLY),
        MountSpec(b"/dev", "devtmpfs", b"dev", MS_NOSUID, b"mode=755"),
        MountSpec(b"/dev/pts", "devpts", b"devpts", MS_NOSUID | MS_NOEXEC, b"gid=5,mode=620,ptmxmode=666"),
        MountSpec(b"/dev/shm", "tmpfs", b"shm", MS_NOSUID | MS_NODEV, b"mode=1777"),
    ]
    for index, volume in enumerate(wanted.volumes):
        flags = 0 if volume.writable else MS_RDONLY
        mounts.append(MountSpec(volume.guest, "gofer", b"v%d" % index, flags))
    return mounts
