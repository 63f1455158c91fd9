"""config.json as values: what of the OCI runtime specification (1.0 to 1.2) this runtime honours.

Owns: the dataclasses that `validate.py` fills and `launch/bundle.py` turns into a plan. Paths and strings are text with
surrogate escapes, as JSON gave them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Hook:
    """One command to run on the host at a point of the life cycle. args[0] is its argv[0]; timeout_s None: no limit."""

    path: str
    args: list[str]
    env: list[str] = field(default_factory=list)
    timeout_s: int | None = None


@dataclass(slots=True)
class User:
    """process.user. umask None: the runtime's default, 0o022."""

    uid: int = 0
    gid: int = 0
    additional_gids: list[int] = field(default_factory=list)
    umask: int | None = None


@dataclass(slots=True)
class Process:
    """process. capabilities: set name -> mask. rlimits: number -> (soft, hard). console_size: (rows, columns)."""

    args: list[str]
    cwd: str
    env: list[str] = field(default_factory=list)
    user: User = field(default_factory=User)
    terminal: bool = False
    console_size: tuple[int, int] | None = None
    capabilities: dict[str, int] = field(default_factory=dict)
    rlimits: dict[int, tuple[int, int]] = field(default_factory=dict)
    no_new_privileges: bool = False
    oom_score_adj: int | None = None


@dataclass(slots=True)
class Mount:
    """mounts[]. type: "bind" or a file system; source absolute for a bind; flags MS_*, options what is not a flag."""

    destination: str
    type: str
    source: str
    flags: int = 0
    options: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Spec:
    """A whole config.json. root_path: absolute. hooks: point -> hooks. warnings: what is not honoured, a line each.
    network_path: the network namespace to take over, "" for none."""

    version: str
    process: Process
    root_path: str
    root_readonly: bool = False
    hostname: str = ""
    domainname: str = ""
    mounts: list[Mount] = field(default_factory=list)
    masked_paths: list[str] = field(default_factory=list)
    readonly_paths: list[str] = field(default_factory=list)
    hooks: dict[str, list[Hook]] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    network_path: str = ""
