"""config.json read strictly: every field is checked, what is not honoured yet is named, nothing is silently dropped.

Owns: `validate`. Source: the OCI runtime specification, config.md and config-linux.md, 1.0 to 1.2. A field of the
specification that has no effect here becomes one warning; so does a name the specification does not know (it demands
that such are not errors).
"""

from __future__ import annotations

import os
import re
from typing import Any, Final

from protocol.abi import capability_h, mount_h, resource_h
from services.supervisor.spec.model import Hook, Mount, Process, Spec, User
from services.supervisor.spec.nodes import Node

U32: Final = (1 << 32) - 1
U64: Final = (1 << 64) - 1

CAPABILITY_NUMBERS: Final[dict[str, int]] = {
    name: getattr(capability_h, name)
    for name in dir(capability_h)
    if name.startswith("CAP_") and isinstance(getattr(capability_h, name), int) and name != "CAP_LAST_CAP"
}
RLIMIT_NUMBERS: Final[dict[str, int]] = {
    name: getattr(resource_h, name)
    for name in dir(resource_h)
    if name.startswith("RLIMIT_") and isinstance(getattr(resource_h, name), int)
}
#: mounts[].options that are flags: (bits to set, bits to clear).
MOUNT_FLAGS: Final = {
    "ro": (mount_h.MS_RDONLY, 0),
    "rw": (0, mount_h.MS_RDONLY),
    "nosuid": (mount_h.MS_NOSUID, 0),
    "suid": (0, mount_h.MS_NOSUID),
    "nodev": (mount_h.MS_NODEV, 0),
    "dev": (0, mount_h.MS_NODEV),
    "noexec": (mount_h.MS_NOEXEC, 0),
    "exec": (0, mount_h.MS_NOEXEC),
    "sync": (mount_h.MS_SYNCHRONOUS, 0),
    "async": (0, mount_h.MS_SYNCHRONOUS),
    "dirsync": (mount_h.MS_DIRSYNC, 0),
    "noatime": (mount_h.MS_NOATIME, 0),
    "atime": (0, mount_h.MS_NOATIME),
    "nodiratime": (mount_h.MS_NODIRATIME, 0),
    "diratime": (0, mount_h.MS_NODIRATIME),
    "relatime": (mount_h.MS_RELATIME, 0),
    "norelatime": (0, mount_h.MS_RELATIME),
    "strictatime": (mount_h.MS_STRICTATIME, 0),
    "nostrictatime": (0, mount_h.MS_STRICTATIME),
    "nosymfollow": (mount_h.MS_NOSYMFOLLOW, 0),
    "defaults": (0, 0),
    "bind": (0, 0),
    "rbind": (0, 0),
}
#: Propagation: a sandbox's mounts never reach the host, so each of these already holds.
PROPAGATION: Final = frozenset(
    prefix + kind for prefix in ("", "r") for kind in ("private", "shared", "slave", "unbindable")
)
FILE_SYSTEMS: Final = ("bind", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "devtmpfs")
NAMESPACE_TYPES: Final = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
HOOK_POINTS: Final = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
#: These would run inside the container, before its program: not yet.
UNSUPPORTED_HOOKS: Final = ("createContainer", "startContainer")
CAPABILITY_SETS: Final = ("bounding", "effective", "inheritable", "permitted", "ambient")

#: Object -> members that are honoured. What else stands in it is named in a warning.
HONOURED: Final[dict[str, tuple[str, ...]]] = {
    "": ("ociVersion", "process", "root", "hostname", "domainname", "mounts", "hooks", "annotations", "linux"),
    "process": (
        "terminal",
        "consoleSize",
        "user",
        "args",
        "env",
        "cwd",
        "capabilities",
        "rlimits",
        "noNewPrivileges",
        "oomScoreAdj",
    ),
    "process.user": ("uid", "gid", "umask", "additionalGids"),
    "process.capabilities": CAPABILITY_SETS,
    "root": ("path", "readonly"),
    "linux": ("namespaces", "maskedPaths", "readonlyPaths", "rootfsPropagation"),
    "hooks": HOOK_POINTS,
}


def validate(document: Any, bundle: str) -> Spec:
    """The specification in `document`, whose relative paths start at `bundle`. Raises SupervisorError."""
    top = Node("config.json", "", document)
    if not isinstance(document, dict):
        top.wrong("an object")
    version = top.required("ociVersion", 'a version like "1.0.2"').text('a version like "1.0.2"')
    if not re.fullmatch(r"1\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?", version):
        top.child("ociVersion").wrong("a version 1.x.y of the specification")
    root = top.required("root", "an object")
    spec = Spec(
        version=version,
        process=_process(top.required("process", "an object")),
        root_path=os.path.join(bundle, root.required("path", "a path").text("a path", empty=False)),
        root_readonly=root.child("readonly").flag(),
        hostname="" if top.child("hostname").missing else _host_name(top.child("hostname")),
        domainname="" if top.child("domainname").missing else _host_name(top.child("domainname")),
        annotations=_annotations(top.child("annotations")),
    )
    spec.mounts = [
        mount
        for mount in top.child("mounts").items("an array of objects", lambda node: _mount(node, bundle, spec.warnings))
        if mount is not None
    ]
    spec.hooks = _hooks(top.child("hooks"), spec.warnings)
    _linux(top.child("linux"), spec)
    _warn_unhonoured(top, spec.warnings)
    return spec


def _host_name(node: Node) -> str:
    name = node.text()
    if len(name.encode("utf-8", "surrogateescape")) > 64:
        node.wrong("at most 64 bytes", f"{len(name)} characters")
    return name


def _process(node: Node) -> Process:
    process = Process(
        args=node.required("args", "a non-empty array of strings").texts(empty=False),
        cwd=node.required("cwd", "an absolute path").absolute_path(),
        env=node.child("env").items("an array of strings", _variable),
        user=_user(node.child("user")),
        terminal=node.child("terminal").flag(),
        no_new_privileges=node.child("noNewPrivileges").flag(),
    )
    if not process.args[0]:
        Node(node.file, f"{node.path}.args[0]", "").wrong("the name of a program")
    size = node.child("consoleSize")
    if not size.missing:
        process.console_size = tuple(  # type: ignore[assignment]
            size.required(key, "a number").integer(0, 65_535) for key in ("height", "width")
        )
    score = node.child("oomScoreAdj")
    process.oom_score_adj = None if score.missing else score.integer(-1000, 1000)
    process.capabilities = _capabilities(node.child("capabilities"))
    process.rlimits = _rlimits(node.child("rlimits"))
    return process


def _variable(node: Node) -> str:
    text = node.text('a string "NAME=value"')
    if "=" not in text or text.startswith("="):
        node.wrong('a string "NAME=value"')
    return text


def _user(node: Node) -> User:
    node.object()
    if node.missing:
        return User()
    umask = node.child("umask")
    return User(
        uid=0 if node.child("uid").missing else node.child("uid").integer(0, U32 - 1),
        gid=0 if node.child("gid").missing else node.child("gid").integer(0, U32 - 1),
        additional_gids=node.child("additionalGids").items("an array of numbers", lambda gid: gid.integer(0, U32 - 1)),
        umask=None if umask.missing else umask.integer(0, 0o777),
    )


def _capability(node: Node) -> int:
    number = CAPABILITY_NUMBERS.get(node.text("a capability such as CAP_CHOWN"))
    if number is None:
        node.wrong("a capability such as CAP_CHOWN")
    return number


def _capabilities(node: Node) -> dict[str, int]:
    node.object()
    masks = {}
    for name in CAPABILITY_SETS if not node.missing else ():
        numbers = node.child(name).items("an array of capabilities", _capability)
        masks[name] = sum({1 << number for number in numbers})
    return masks


def _rlimits(node: Node) -> dict[int, tuple[int, int]]:
    limits: dict[int, tuple[int, int]] = {}

    def read(item: Node) -> None:
        kind = item.required("type", "a resource such as RLIMIT_NOFILE")
        number = RLIMIT_NUMBERS.get(kind.text("a resource such as RLIMIT_NOFILE"))
        if number is None:
            kind.wrong("a resource such as RLIMIT_NOFILE")
        if number in limits:
            kind.wrong("each resource once", f"{kind.value} twice")
        soft = item.required("soft", f"a number from 0 to {U64}").integer(0, U64)
        hard = item.required("hard", f"a number from 0 to {U64}").integer(0, U64)
        if soft > hard:
            item.child("soft").wrong(f"at most the hard limit {hard}")
        limits[number] = (soft, hard)

    node.items("an array of objects", read)
    return limits


def _mount(node: Node, bundle: str, warnings: list[str]) -> Mount | None:
    destination = node.required("destination", "an absolute path").absolute_path()
    words = node.child("options").texts()
    kind = "none" if node.child("type").missing else node.child("type").text()
    if "bind" in words or "rbind" in words:
        kind = "bind"
    if kind in ("cgroup", "cgroup2"):
        warnings.append(f"{node.path}: a {kind} mount is not made: cgroups are not there yet")
        return None
    if kind not in FILE_SYSTEMS:
        node.child("type").wrong("one of " + ", ".join(FILE_SYSTEMS))
    source = kind
    if kind == "bind":
        source = os.path.join(bundle, node.required("source", "a path").text("a path", empty=False))
        if not os.path.lexists(source):
            node.child("source").wrong("an existing file or directory")
    elif not node.child("source").missing:
        source = node.child("source").text()
    for key in ("uidMappings", "gidMappings"):
        if node.child(key).value:
            warnings.append(f"{node.path}.{key} is not honoured yet")
    flags, data = 0, []
    for word in words:
        if word in MOUNT_FLAGS:
            on, off = MOUNT_FLAGS[word]
            flags = flags & ~off | on
        elif kind == "bind" and word not in PROPAGATION:
            warnings.append(f"{node.path}.options: {word} is not honoured yet")
        elif word not in PROPAGATION:
            data.append(word)
    return Mount(os.path.normpath(destination), kind, source, flags, data)


def _annotations(node: Node) -> dict[str, str]:
    return {key: node.child(key).text() for key in node.object()}


def _hooks(node: Node, warnings: list[str]) -> dict[str, list[Hook]]:
    node.object()
    hooks: dict[str, list[Hook]] = {}
    for point in HOOK_POINTS if not node.missing else ():
        found = node.child(point).items("an array of objects", _hook)
        if found and point in UNSUPPORTED_HOOKS:
            warnings.append(f"hooks.{point} is not honoured yet: it would run inside the container")
        elif found:
            hooks[point] = found
    return hooks


def _hook(node: Node) -> Hook:
    path = node.required("path", "an absolute path").absolute_path()
    timeout = node.child("timeout")
    return Hook(
        path,
        node.child("args").texts() or [path],
        node.child("env").items("an array of strings", _variable),
        None if timeout.missing else timeout.integer(1, 1 << 31),
    )


def _linux(node: Node, spec: Spec) -> None:
    node.object()
    if node.missing:
        return
    spec.masked_paths = node.child("maskedPaths").items("an array of absolute paths", Node.absolute_path)
    spec.readonly_paths = node.child("readonlyPaths").items("an array of absolute paths", Node.absolute_path)
    propagation = node.child("rootfsPropagation")
    if not propagation.missing and propagation.text() not in {"", *PROPAGATION}:
        propagation.wrong("one of " + ", ".join(sorted(PROPAGATION)))
    seen: set[str] = set()

    def read(item: Node) -> None:
        kind = item.required("type", "a namespace type")
        if kind.value not in NAMESPACE_TYPES:
            kind.wrong("one of " + ", ".join(NAMESPACE_TYPES))
        if kind.value in seen:
            kind.wrong("each namespace once", f"{kind.value} twice")
        seen.add(kind.value)
        path = item.child("path")
        if not path.missing and path.text():
            if kind.value == "network":
                spec.network_path = path.absolute_path()
                return
            path.absolute_path()
            spec.warnings.append(
                f"{path.path} is not honoured yet: the sandbox has a {kind.value} namespace of its own"
            )

    node.child("namespaces").items("an array of objects", read)


def _warn_unhonoured(top: Node, warnings: list[str]) -> None:
    """Name every member that is there, says something, and has no effect."""
    for path, known in HONOURED.items():
        node = top
        for key in path.split(".") if path else ():
            node = node.child(key) if isinstance(node.value, dict) else Node(node.file, key, None)
        for key, value in node.object().items():
            if key not in known and value not in (None, False, "", [], {}, 0):
                warnings.append(f"{node.child(key).path} is not honoured yet")
