"""config.json: what is refused, with which field and what was expected; what is honoured; what is warned of."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from services.supervisor.errors import SupervisorError
from services.supervisor.spec.default import default_spec
from services.supervisor.spec.load import load_spec, parse_json
from services.supervisor.spec.validate import validate

GOOD: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {"args": ["sh"], "cwd": "/"},
    "root": {"path": "rootfs"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with the member at dotted `path` set; `...` removes it."""
    document = copy.deepcopy(GOOD)
    *above, last = path.split(".")
    node = document
    for key in above:
        node = node.setdefault(key, {})
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return document


LIMIT = {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}

MALFORMED: list[tuple[Any, str]] = [
    ([], "expected an object (found an empty array)"),
    ("x", "expected an object"),
    (None, "expected an object (found null)"),
    (changed("ociVersion", ...), 'ociVersion: expected a version like "1.0.2" (found nothing)'),
    (changed("ociVersion", 1), 'ociVersion: expected a version like "1.0.2" (found 1)'),
    (changed("ociVersion", "2.0.0"), "ociVersion: expected a version 1.x.y"),
    (changed("ociVersion", "one"), "ociVersion: expected a version 1.x.y"),
    (changed("process", ...), "process: expected an object (found nothing)"),
    (changed("process", []), "process: expected an object (found an empty array)"),
    (changed("process", "sh"), 'process: expected an object (found "sh")'),
    (changed("process.args", ...), "process.args: expected a non-empty array of strings (found nothing)"),
    (changed("process.args", []), "process.args: expected a non-empty array of strings (found an empty array)"),
    (changed("process.args", "sh"), 'process.args: expected a non-empty array of strings (found "sh")'),
    (changed("process.args", [1]), "process.args[0]: expected a string (found 1)"),
    (changed("process.args", ["sh", None]), "process.args[1]: expected a string (found null)"),
    (changed("process.args", ["a\0b"]), "process.args[0]: expected a string (found one with a NUL character)"),
    (changed("process.args", [""]), "process.args[0]: expected the name of a program (found an empty string)"),
    (changed("process.cwd", ...), "process.cwd: expected an absolute path (found nothing)"),
    (changed("process.cwd", "tmp"), 'process.cwd: expected an absolute path (found "tmp")'),
    (changed("process.cwd", ""), "process.cwd: expected an absolute path (found an empty string)"),
    (changed("process.env", {}), "process.env: expected an array of strings (found an object)"),
    (changed("process.env", ["A"]), 'process.env[0]: expected a string "NAME=value" (found "A")'),
    (changed("process.env", ["A=b", 7]), 'process.env[1]: expected a string "NAME=value" (found 7)'),
    (changed("process.env", ["=b"]), "process.env[0]: expected"),
    (changed("process.user", 0), "process.user: expected an object (found 0)"),
    (changed("process.user.uid", -1), "process.user.uid: expected a number from 0 to 4294967294 (found -1)"),
    (changed("process.user.uid", "root"), 'process.user.uid: expected a number from 0 to 4294967294 (found "root")'),
    (changed("process.user.gid", 1.5), "process.user.gid: expected a number"),
    (changed("process.user.gid", True), "process.user.gid: expected a number from 0 to 4294967294 (found true)"),
    (changed("process.user.umask", 0o1000), "process.user.umask: expected a number from 0 to 511"),
    (changed("process.user.additionalGids", [1, "x"]), "process.user.additionalGids[1]: expected a number"),
    (changed("process.terminal", "yes"), 'process.terminal: expected true or false (found "yes")'),
    (changed("process.terminal", 1), "process.terminal: expected true or false (found 1)"),
    (changed("process.consoleSize", {"height": 5}), "process.consoleSize.width: expected a number (found nothing)"),
    (changed("process.consoleSize", {"height": 70000, "width": 1}), "process.consoleSize.height: expected a number"),
    (changed("process.noNewPrivileges", 0), "process.noNewPrivileges: expected true or false (found 0)"),
    (changed("process.oomScoreAdj", 1001), "process.oomScoreAdj: expected a number from -1000 to 1000 (found 1001)"),
    (changed("process.capabilities", ["CAP_KILL"]), "process.capabilities: expected an object"),
    (changed("process.capabilities.bounding", "CAP_KILL"), "process.capabilities.bounding: expected an array"),
    (
        changed("process.capabilities.effective", ["CAP_NO"]),
        'process.capabilities.effective[0]: expected a capability such as CAP_CHOWN (found "CAP_NO")',
    ),
    (changed("process.rlimits", LIMIT), "process.rlimits: expected an array of objects (found an object)"),
    (changed("process.rlimits", [1]), "process.rlimits[0]: expected an object (found 1)"),
    (changed("process.rlimits", [{**LIMIT, "type": "NOFILE"}]), "process.rlimits[0].type: expected a resource"),
    (changed("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 1}]), "process.rlimits[0].hard: expected a number"),
    (changed("process.rlimits", [{**LIMIT, "soft": 3}]), "process.rlimits[0].soft: expected at most the hard limit 2"),
    (changed("process.rlimits", [LIMIT, LIMIT]), "process.rlimits[1].type: expected each resource once"),
    (changed("root", ...), "root: expected an object (found nothing)"),
    (changed("root", "rootfs"), 'root: expected an object (found "rootfs")'),
    (changed("root.path", ...), "root.path: expected a path (found nothing)"),
    (changed("root.path", ""), "root.path: expected a path (found an empty string)"),
    (changed("root.path", 3), "root.path: expected a path (found 3)"),
    (changed("root.readonly", "no"), 'root.readonly: expected true or false (found "no")'),
    (changed("hostname", 5), "hostname: expected a string (found 5)"),
    (changed("hostname", "x" * 65), "hostname: expected at most 64 bytes"),
    (changed("domainname", []), "domainname: expected a string (found an empty array)"),
    (changed("mounts", {}), "mounts: expected an array of objects (found an object)"),
    (changed("mounts", ["/proc"]), "mounts[0]: expected an object"),
    (changed("mounts", [{"type": "proc"}]), "mounts[0].destination: expected an absolute path (found nothing)"),
    (changed("mounts", [{"destination": "proc", "type": "proc"}]), "mounts[0].destination: expected an absolute path"),
    (changed("mounts", [{"destination": "/x", "type": "nfs"}]), "mounts[0].type: expected one of bind, tmpfs"),
    (changed("mounts", [{"destination": "/x"}]), "mounts[0].type: expected one of bind, tmpfs"),
    (changed("mounts", [{"destination": "/x", "type": "bind"}]), "mounts[0].source: expected a path (found nothing)"),
    (
        changed("mounts", [{"destination": "/x", "type": "bind", "source": "/nowhere"}]),
        'mounts[0].source: expected an existing file or directory (found "/nowhere")',
    ),
    (
        changed("mounts", [{"destination": "/x", "type": "tmpfs", "options": "ro"}]),
        "mounts[0].options: expected an array of strings",
    ),
    (changed("annotations", []), "annotations: expected an object (found an empty array)"),
    (changed("annotations", {"a": 1}), "annotations.a: expected a string (found 1)"),
    (changed("hooks", []), "hooks: expected an object (found an empty array)"),
    (changed("hooks.prestart", {}), "hooks.prestart: expected an array of objects (found an object)"),
    (changed("hooks.poststop", [{}]), "hooks.poststop[0].path: expected an absolute path (found nothing)"),
    (changed("hooks.poststop", [{"path": "x"}]), "hooks.poststop[0].path: expected an absolute path"),
    (changed("hooks.poststop", [{"path": "/x", "timeout": 0}]), "hooks.poststop[0].timeout: expected a number from 1"),
    (changed("hooks.poststop", [{"path": "/x", "args": "x"}]), "hooks.poststop[0].args: expected an array of strings"),
    (changed("linux", []), "linux: expected an object"),
    (changed("linux.maskedPaths", ["proc"]), "linux.maskedPaths[0]: expected an absolute path"),
    (changed("linux.readonlyPaths", "x"), "linux.readonlyPaths: expected an array of absolute paths"),
    (changed("linux.rootfsPropagation", "sideways"), "linux.rootfsPropagation: expected one of"),
    (changed("linux.namespaces", [{}]), "linux.namespaces[0].type: expected a namespace type (found nothing)"),
    (changed("linux.namespaces", [{"type": "disk"}]), "linux.namespaces[0].type: expected one of pid, network"),
    (changed("linux.namespaces", [{"type": "pid"}] * 2), "linux.namespaces[1].type: expected each namespace once"),
    (
        changed("linux.namespaces", [{"type": "pid", "path": "x"}]),
        "linux.namespaces[0].path: expected an absolute path",
    ),
]


@pytest.mark.parametrize(("document", "line"), MALFORMED, ids=[line[:60] for _, line in MALFORMED])
def test_malformed_config_names_field_and_expectation(document: Any, line: str) -> None:
    with pytest.raises(SupervisorError) as caught:
        validate(document, "/bundle")
    assert caught.value.line().startswith("supervisor: config.json: " + line)
    assert "\n" not in caught.value.line()
    assert caught.value.status == 125


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"", "not JSON: line 1 column 1"),
        (b'{"a": }', "not JSON: line 1 column 7"),
        (b'{"a": 1,\n "a": 2}', "the name a stands twice"),
        (b'{"a": NaN}', "not JSON: NaN"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{} {}", "not JSON: line 1 column 4: extra data"),
    ],
)
def test_text_that_is_not_json(text: bytes, part: str) -> None:
    with pytest.raises(SupervisorError) as caught:
        parse_json(text)
    assert part in caught.value.line()


def test_default_spec_is_honoured_whole() -> None:
    spec = validate(default_spec(), "/bundle")
    assert spec.warnings == []
    assert spec.root_path == "/bundle/rootfs"
    assert spec.process.capabilities["bounding"] == 1 << 29 | 1 << 5 | 1 << 10
    assert [mount.type for mount in spec.mounts] == ["proc", "tmpfs", "devpts", "tmpfs", "sysfs"]
    assert spec.mounts[-1].flags == 0b1111
    assert spec.mounts[1].options == ["mode=755", "size=65536k"]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW"}, "linux.seccomp"),
        ("linux.resources", {"memory": {"limit": 1}}, "linux.resources"),
        ("linux.devices", [{"path": "/dev/x"}], "linux.devices"),
        ("linux.sysctl", {"kernel.shmmax": "1"}, "linux.sysctl"),
        ("linux.cgroupsPath", "/x", "linux.cgroupsPath"),
        ("linux.uidMappings", [{}], "linux.uidMappings"),
        ("process.apparmorProfile", "x", "process.apparmorProfile"),
        ("process.selinuxLabel", "x", "process.selinuxLabel"),
        ("process.user.username", "x", "process.user.username"),
        ("hooks.startContainer", [{"path": "/x"}], "hooks.startContainer"),
        ("linux.namespaces", [{"type": "ipc", "path": "/x"}], "linux.namespaces[0].path"),
        ("mounts", [{"destination": "/c", "type": "cgroup"}], "mounts[0]"),
        ("mounts", [{"destination": "/c", "source": "/", "options": ["rbind", "idmap"]}], "mounts[0].options"),
        ("invented", 1, "invented"),
    ],
)
def test_what_is_not_honoured_is_named_once(path: str, value: Any, named: str) -> None:
    warnings = validate(changed(path, value), "/bundle").warnings
    assert len(warnings) == 1 and warnings[0].startswith(named)


def test_what_says_nothing_is_not_warned_of() -> None:
    assert validate(changed("linux.resources", {}), "/bundle").warnings == []
    assert validate(changed("process.apparmorProfile", ""), "/bundle").warnings == []


def test_last_of_contradicting_mount_options_wins() -> None:
    mount = {"destination": "/a/../x", "type": "tmpfs", "options": ["ro", "nosuid", "rw", "rprivate", "size=1m"]}
    made = validate(changed("mounts", [mount]), "/bundle").mounts[0]
    assert (made.destination, made.flags, made.options) == ("/x", 2, ["size=1m"])


def test_load_spec_reads_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(GOOD))
    assert load_spec(str(tmp_path)).process.args == ["sh"]
