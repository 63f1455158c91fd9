"""What a sandbox shall be: the plain data that the launcher hands to the Sentry.

Owns: `SentryConfig`, its parts, and their form on the wire (`to_wire`, `from_wire_untrusted`): dictionaries with text
keys whose values are None, bool, int, bytes, str, lists and such dictionaries, so that MessagePack carries them as is.
Does not own policy: the launcher fills it (services/supervisor/launch/plan.py), the Sentry obeys it.

Everything a guest or a bundle names (paths, arguments, environment, host name) is bytes, as Linux has it. Paths in it
are absolute. The first mount is the root.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from protocol.errors import ProtocolViolation
from protocol.records import field, record

#: Mount types a Sentry must know. `gofer`: `source` is the attach name of an export.
MOUNT_TYPES: Final = ("gofer", "tmpfs", "proc", "sysfs", "devpts", "devtmpfs", "mqueue")
#: What a sandbox's sockets beyond its own loopback are carried by: nothing, a netstackd, the host's stack by a broker.
NETWORKS: Final = ("none", "netstack", "host")
#: Number of resource limits of Linux (asm-generic/resource.h: RLIM_NLIMITS).
RLIM_NLIMITS: Final = 16
#: RLIM_INFINITY as it stands in struct rlimit64.
RLIM_INFINITY: Final = (1 << 64) - 1
MAX_LIST: Final = 65_536
MAX_BYTES: Final = 4 << 20

Wire = dict[str, Any]


@record
class Capabilities:
    """The five capability sets of the guest's first process, as bit masks (capabilities(7))."""

    effective: int = 0
    permitted: int = 0
    inheritable: int = 0
    bounding: int = 0
    ambient: int = 0


@record
class MountSpec:
    """One mount of the sandbox, in the order in which they are made.

    destination: absolute guest path; missing directories (or an empty file, for a gofer export that is a file) are
    made in the mount below where that is writable or an overlay.
    type: one of MOUNT_TYPES. source: the attach name for `gofer`, else what /proc/mounts shows.
    flags: MS_* bits of mount(2) (MS_RDONLY, MS_NOSUID, ...). options: file-system data ("mode=755,size=64m").
    overlay: for `gofer`, put a writable layer in memory above the export, which is then never written to.
    """

    destination: bytes
    type: str
    source: bytes = b"none"
    flags: int = 0
    options: bytes = b""
    overlay: bool = False


@record
class SentryConfig:
    """All that a Sentry is told when it starts.

    sandbox_id: shown in logs only. platform: "systrap", "ptrace" or "kvm".
    argv/env/cwd: of the first guest process; argv[0] without a slash is searched in env's PATH inside the sandbox.
    uid, gid, additional_gids, umask, nice, capabilities, no_new_privileges, oom_score_adj (None: 0), rlimits
    (number -> (soft, hard), RLIM_INFINITY for none): of that process.
    terminal: standard input is a terminal, give the guest a controlling one.
    terminal_foreground: it is ours to read and to change now; otherwise `foreground` says when it is.
    ignored_signals, blocked_signals: masks (bit n - 1 is signal n) that the first guest process begins with.
    console_size: (rows, columns) to start with, or None to ask the terminal.
    mounts: the first has destination b"/". masked_paths: to be covered, readonly_paths: to be made read-only.
    autostart: run the guest as soon as sealed, without a `start` request.
    report_missing: at the guest's end send one `report` notification that names the calls that were not there.
    strace: log every guest system call to fd 2. debug: tracebacks and debug logging on fd 2. log_level: "debug",
    "info", "warning" or "error".
    memory_total_bytes, cpu_count: what the guest sees; 0: what the host has.
    sealed: False only for --unsafe-unsealed, then no seccomp filter is installed.
    network: one of NETWORKS; but for "none" there is a connection to a socket service, SentryFds.network.
    files: (path, contents) of small files that are put over what the root has there, or are made where it has nothing:
    those that name the network (/etc/resolv.conf, ...). They belong to root, mode 0644, and may be written to.
    annotations: the bundle's, untouched.
    """

    argv: list[bytes]
    env: list[bytes] = field(default_factory=list)
    cwd: bytes = b"/"
    uid: int = 0
    gid: int = 0
    additional_gids: list[int] = field(default_factory=list)
    umask: int = 0o022
    nice: int = 0
    capabilities: Capabilities = field(default_factory=Capabilities)
    rlimits: dict[int, tuple[int, int]] = field(default_factory=dict)
    hostname: bytes = b"sandbox"
    domainname: bytes = b"(none)"
    terminal: bool = False
    terminal_foreground: bool = True
    ignored_signals: int = 0
    blocked_signals: int = 0
    console_size: tuple[int, int] | None = None
    mounts: list[MountSpec] = field(default_factory=list)
    masked_paths: list[bytes] = field(default_factory=list)
    readonly_paths: list[bytes] = field(default_factory=list)
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    platform: str = "systrap"
    autostart: bool = True
    report_missing: bool = False
    log_level: str = "warning"
    strace: bool = False
    debug: bool = False
    sealed: bool = True
    memory_total_bytes: int = 0
    cpu_count: int = 0
    sandbox_id: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    network: str = "none"
    files: list[tuple[bytes, bytes]] = field(default_factory=list)


@record
class SentryFds:
    """The file descriptors a Sentry is born with; it holds no others but 0 and 1 (/dev/null) and 2 (its log).

    control: stream socket to the monitor (protocol/control/messages.py); its end of file means: end at once.
    gofer: stream socket to the Gofer, 9P2000.L.
    stdio: the guest's standard input, output and error, or None where the caller had closed it. With
    `SentryConfig.terminal` those that are terminals are one host terminal (or the replica side of a console's pty).
    console: number of the terminal among them to use for window size and modes, or None.
    ready: write end of a pipe for one byte when sealed, or None; the `ready` notification says the same.
    extra: guest fd number -> our fd, for what else was donated (--preserve-fds).
    network: stream socket to the socket service (protocol/netstack) of the sandbox's network, or None without one. Its
    other end may still be starting: it answers once it is sealed.
    """

    control: int
    gofer: int
    stdio: list[int | None]
    console: int | None = None
    ready: int | None = None
    extra: dict[int, int] = field(default_factory=dict)
    network: int | None = None


def to_wire(config: SentryConfig) -> Wire:
    """The configuration as a dictionary for MessagePack. `from_wire_untrusted` is its inverse."""
    wire: Wire = {name: getattr(config, name) for name in FIELDS}
    wire["capabilities"] = [getattr(config.capabilities, name) for name in CAPABILITY_SETS]
    wire["rlimits"] = [[number, soft, hard] for number, (soft, hard) in sorted(config.rlimits.items())]
    wire["console_size"] = None if config.console_size is None else list(config.console_size)
    wire["mounts"] = [[getattr(mount, name) for name in MOUNT_FIELDS] for mount in config.mounts]
    wire["annotations"] = dict(config.annotations)
    wire["files"] = [list(row) for row in config.files]
    return wire


def from_wire_untrusted(wire: object) -> SentryConfig:
    """The configuration in a decoded message. Raises ProtocolViolation naming the first field that is wrong."""
    if not isinstance(wire, dict):
        raise ProtocolViolation("config: not a map")
    for key in wire:
        if key not in FIELDS:
            raise ProtocolViolation(f"config: unknown field {str(key)[:40]}")
    if "argv" not in wire:
        raise ProtocolViolation("config: no argv")
    values = {name: FIELDS[name](name, value) for name, value in wire.items()}
    config = SentryConfig(**values)
    if not config.argv:
        raise ProtocolViolation("config: argv is empty")
    if config.mounts and config.mounts[0].destination != b"/":
        raise ProtocolViolation("config: the first mount is not the root")
    return config


def _wrong(name: str, expected: str) -> ProtocolViolation:
    return ProtocolViolation(f"config: {name}: not {expected}")


def _bytes(name: str, value: Any) -> bytes:
    if not isinstance(value, bytes) or len(value) > MAX_BYTES or b"\0" in value:
        raise _wrong(name, "a string of bytes without NUL")
    return value


def _path(name: str, value: Any) -> bytes:
    path = _bytes(name, value)
    if not path.startswith(b"/"):
        raise _wrong(name, "an absolute path")
    return path


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_BYTES:
        raise _wrong(name, "text")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "true or false")
    return value


def _integer(low: int, high: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _wrong(name, f"a number from {low} to {high}")
        return value

    return check


_u16 = _integer(0, (1 << 16) - 1)
_u32 = _integer(0, (1 << 32) - 1)
_u64 = _integer(0, (1 << 64) - 1)


def _list(item: Callable[[str, Any], Any]) -> Callable[[str, Any], list[Any]]:
    def check(name: str, value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > MAX_LIST:
            raise _wrong(name, "a list")
        return [item(f"{name}[{index}]", part) for index, part in enumerate(value)]

    return check


def _row(name: str, value: Any, count: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != count:
        raise _wrong(name, f"a list of {count}")
    return value


def _capabilities(name: str, value: Any) -> Capabilities:
    return Capabilities(*[_u64(name, mask) for mask in _row(name, value, len(CAPABILITY_SETS))])


def _rlimits(name: str, value: Any) -> dict[int, tuple[int, int]]:
    rows = [_row(name, row, 3) for row in _list(lambda _name, part: part)(name, value)]
    number = _integer(0, RLIM_NLIMITS - 1)
    return {number(name, row[0]): (_u64(name, row[1]), _u64(name, row[2])) for row in rows}


def _console_size(name: str, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    rows, columns = _row(name, value, 2)
    return _u16(name, rows), _u16(name, columns)


def _mount(name: str, value: Any) -> MountSpec:
    destination, kind, source, flags, options, overlay = _row(name, value, len(MOUNT_FIELDS))
    if kind not in MOUNT_TYPES:
        raise _wrong(f"{name}.type", "one of " + ", ".join(MOUNT_TYPES))
    return MountSpec(
        _path(f"{name}.destination", destination),
        kind,
        _bytes(f"{name}.source", source),
        _u64(f"{name}.flags", flags),
        _bytes(f"{name}.options", options),
        _flag(f"{name}.overlay", overlay),
    )


def _oom_score_adj(name: str, value: Any) -> int | None:
    return None if value is None else _integer(-1000, 1000)(name, value)


def _annotations(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_LIST:
        raise _wrong(name, "a map")
    return {_text(name, key): _text(name, text) for key, text in value.items()}


def _network(name: str, value: Any) -> str:
    if value not in NETWORKS:
        raise _wrong(name, "one of " + ", ".join(NETWORKS))
    return str(value)


def _contents(name: str, value: Any) -> bytes:
    if not isinstance(value, bytes) or len(value) > MAX_BYTES:
        raise _wrong(name, "bytes")
    return value


def _files(name: str, value: Any) -> list[tuple[bytes, bytes]]:
    rows = [_row(name, row, 2) for row in _list(lambda _name, part: part)(name, value)]
    return [(_path(name, path), _contents(name, text)) for path, text in rows]


CAPABILITY_SETS: Final = ("effective", "permitted", "inheritable", "bounding", "ambient")
MOUNT_FIELDS: Final = ("destination", "type", "source", "flags", "options", "overlay")
#: Field of SentryConfig -> check of its wire form, which returns the value to store.
FIELDS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "argv": _list(_bytes),
    "env": _list(_bytes),
    "cwd": _path,
    "uid": _u32,
    "gid": _u32,
    "additional_gids": _list(_u32),
    "umask": _integer(0, 0o777),
    "nice": _integer(-20, 19),
    "capabilities": _capabilities,
    "rlimits": _rlimits,
    "hostname": _bytes,
    "domainname": _bytes,
    "terminal": _flag,
    "terminal_foreground": _flag,
    "ignored_signals": _u64,
    "blocked_signals": _u64,
    "console_size": _console_size,
    "mounts": _list(_mount),
    "masked_paths": _list(_path),
    "readonly_paths": _list(_path),
    "no_new_privileges": _flag,
    "oom_score_adj": _oom_score_adj,
    "platform": _text,
    "autostart": _flag,
    "report_missing": _flag,
    "log_level": _text,
    "strace": _flag,
    "debug": _flag,
    "sealed": _flag,
    "memory_total_bytes": _u64,
    "cpu_count": _u16,
    "sandbox_id": _text,
    "annotations": _annotations,
    "network": _network,
    "files": _files,
}
