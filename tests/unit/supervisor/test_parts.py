"""Grammar, signals by name, kernel file systems inside exports, the plan of a bundle, the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.supervisor.commands.kill import signal_number
from services.supervisor.errors import SupervisorError, exec_status
from services.supervisor.grammar import Option, parse, usage
from services.supervisor.launch.bundle import plan_bundle
from services.supervisor.launch.direct import parse_volume
from services.supervisor.launch.namespaces import kernel_mounts_below
from services.supervisor.launch.plan import ServiceModules
from services.supervisor.log import Log
from services.supervisor.network.files import name_servers
from services.supervisor.settings import Settings
from services.supervisor.spec.validate import validate

OPTIONS = (
    Option(("--volume", "-v"), "X", "text", many=True),
    Option(("--all", "-a"), "", "text"),
    Option(("--one",), "N", "n"),
)


def test_options_values_and_operands() -> None:
    given, rest = parse("x", OPTIONS, ["-v", "1", "--volume=2", "-v3", "-a", "--one", "4", "--one=5", "w", "-a"], False)
    assert given.all("volume") == ["1", "2", "3"]
    assert given.one("one") == "5" and given.has("all") and given.operands == ["w"] and rest == []


def test_parsing_stops_where_the_program_begins() -> None:
    for words in (["-a", "--", "-v", "x"], ["-a", "prog", "-v"]):
        given, rest = parse("x", OPTIONS, words, True)
        assert given.has("all") and not given.has("volume") and rest == words[-2:]
    assert parse("x", OPTIONS, ["-", "-a"], True)[1] == ["-", "-a"]


@pytest.mark.parametrize("words", [["--none"], ["-x"], ["-ab"], ["--one"], ["--all=yes"], ["-v"]])
def test_wrong_words_are_refused(words: list[str]) -> None:
    with pytest.raises(SupervisorError):
        parse("x", OPTIONS, words, False)


def test_usage_names_every_option() -> None:
    text = usage("x [OPTIONS]", "does it", OPTIONS)
    assert "--volume, -v X" in text and "--one N" in text


@pytest.mark.parametrize(("text", "number"), [("9", 9), ("KILL", 9), ("sigterm", 15), ("RTMIN+3", 37), ("64", 64)])
def test_signal_names(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["0", "65", "-1", "", "SIG", "NOPE", "RTMIN+99", "RTMIN+x"])
def test_signal_names_that_are_none(text: str) -> None:
    with pytest.raises(SupervisorError):
        signal_number(text)


def test_exec_status_as_dockers() -> None:
    assert [exec_status(errno) for errno in (2, 13, 8, 20)] == [127, 126, 126, 126]


def test_kernel_file_systems_are_found_once_and_only_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        ("/", "ext4"),
        ("/proc", "proc"),
        ("/tmp", "tmpfs"),
        ("/tmp/0", "ext4"),
        ("/tmp/0/proc", "proc"),
        ("/tmp/0/proc/sys/fs/binfmt_misc", "binfmt_misc"),
        ("/tmp/0/home", "ext4"),
        ("/tmp/1", "sysfs"),
        ("/tmp/2/a\\040b", "cgroup2"),
    )
    text = "".join(f"1 2 0:1 / {point} rw shared:1 - {kind} src rw\n" for point, kind in rows).encode()
    monkeypatch.setattr("os.path.isdir", lambda _path: True)
    assert kernel_mounts_below(text, b"/tmp") == [b"/tmp/0/proc", b"/tmp/2/a b"]


def test_volume_of_a_relative_host_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)
    volume = parse_volume("d:/x/../y:ro")
    assert (volume.host, volume.guest, volume.writable) == (str(tmp_path / "d").encode(), b"/y", False)


def plan_of(tmp_path: Path, **changes: object):  # type: ignore[no-untyped-def]
    (tmp_path / "rootfs").mkdir(exist_ok=True)
    document = {
        "ociVersion": "1.0.2",
        "process": {"args": ["sh"], "cwd": "/"},
        "root": {"path": "rootfs"},
        **changes,
    }
    settings = Settings(Log(), ServiceModules())
    return plan_bundle(validate(document, str(tmp_path)), "c1", settings, [0, 1, 2])


def test_bundle_root_is_an_overlay_unless_asked(tmp_path: Path) -> None:
    for notes, readonly, writable, overlay, flags in (
        ({}, False, False, True, 0),
        ({}, True, False, False, 1),
        ({"io.sentrio.root": "write-through"}, False, True, False, 0),
        ({"io.sentrio.root": "write-through"}, True, False, False, 1),
    ):
        plan = plan_of(tmp_path, root={"path": "rootfs", "readonly": readonly}, annotations=notes)
        root = plan.build_config().mounts[0]
        assert (plan.exports[0].writable, root.overlay, root.flags) == (writable, overlay, flags)


def test_bundle_mounts_become_exports_and_mounts(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    mounts = [
        {"destination": "/dev", "type": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/data", "source": "data", "options": ["rbind", "ro"]},
        {"destination": "/rw", "source": "data", "type": "bind"},
    ]
    plan = plan_of(tmp_path, mounts=mounts)
    assert [(export.name, export.writable) for export in plan.exports] == [
        (b"root", False),
        (b"m1", False),
        (b"m2", True),
    ]
    made = plan.build_config().mounts[1:]
    assert [(mount.destination, mount.type, mount.source, mount.flags) for mount in made] == [
        (b"/dev", "devtmpfs", b"tmpfs", 2),
        (b"/data", "gofer", b"m1", 1),
        (b"/rw", "gofer", b"m2", 0),
    ]


@pytest.mark.parametrize(("name", "value"), [("io.sentrio.platform", "qemu"), ("io.sentrio.root", "x")])
def test_annotations_that_choose_nothing_there_is(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SupervisorError, match="config.json"):
        plan_of(tmp_path, annotations={name: value})


def test_annotations_choose_platform_and_gofer(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, annotations={"io.sentrio.platform": "ptrace", "io.sentrio.gofer": "memory"})
    assert plan.build_config().platform == "ptrace"
    assert plan.exports[0].backend == "memory"


def test_log_file_has_one_json_object_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(path=str(tmp_path / "log"), as_json=True, quiet=True)
    log.warning("hidden", can_hide=True)
    log.error('supervisor: "x"')
    log.debug("no")
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["level"], line["msg"]) for line in lines] == [
        ("warning", "supervisor: warning: hidden"),
        ("error", 'supervisor: "x"'),
    ]
    assert capsys.readouterr().err == 'supervisor: "x"\n'


def test_error_line_shows_control_characters() -> None:
    assert SupervisorError("a\nb", "c\x1b[31m").line() == "supervisor: a\\nb: c\\x1b[31m"


def test_the_hosts_name_servers_are_read_as_resolv_conf_has_them(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# no\nsearch a.b\nnameserver 192.0.2.1\n nameserver fe80::1%eth0 x\nnameserver\nnameserver 1\n" * 2
    )
    assert name_servers(str(file)) == ["192.0.2.1", "fe80::1", "1"]
    assert name_servers(str(tmp_path / "none")) == []
