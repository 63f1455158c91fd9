"""What a user can get wrong, with the real services: one clear line, the right status, nothing left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest


def one_line(done: Any, *parts: str) -> None:
    assert done.out == "", done
    assert len(done.said) == 1 and done.said[0].startswith("supervisor: "), done
    for part in parts:
        assert part in done.said[0].lower(), done


@pytest.mark.parametrize(
    ("command", "status", "why"),
    [
        (["no-such-program"], 127, "no such file"),
        (["/no/such/program"], 127, "no such file"),
        (["/etc/passwd"], 126, "permission denied"),
        (["/etc"], 126, ""),
        ([""], 127, ""),
        (["./nowhere/x"], 127, "no such file"),
        (["/etc/passwd/x"], 126, "not a directory"),
    ],
)
def test_programs_that_cannot_be_run(any_host: Any, command: list[str], status: int, why: str) -> None:
    one_line(any_host.do(*command, status=status), why)
    any_host.assert_nothing_runs()


@pytest.mark.parametrize("number", range(3))
def test_files_that_are_no_programs(host: Any, number: int) -> None:
    path = host.home / "program"
    data, status = ((b"#!/no/such/interpreter\n", 127), (b"\x7fELFbroken", 126), (b"\0\1\2", 126))[number]
    path.write_bytes(data)
    path.chmod(0o755)
    one_line(host.do(str(path), status=status))


def test_no_command(any_host: Any) -> None:
    one_line(any_host("do", status=125), "no command")
    one_line(any_host("do", "--", status=125), "no command")


def test_an_argument_list_that_is_too_long(host: Any) -> None:
    """The host's own bound is on one string (128 KiB) and on all (a quarter of the stack limit)."""
    words = ["x" * 100_000] * 12
    done = host.do("echo", *words, status=None)
    assert done.status in (0, 126), done
    if done.status:
        one_line(done, "argument list too long")


def test_unknown_flags_and_values(host: Any) -> None:
    one_line(host("do", "--platform", "nonsense", "--", "true", status=125), "platform")
    one_line(host("do", "--nonsense", "--", "true", status=125), "nonsense")
    one_line(host("do", "-v", "nonsense", "--", "true", status=125), "nonsense")
    one_line(host("do", "-v", "/no/such:/x", "--", "true", status=125), "/no/such")
    one_line(host("do", "--cwd", "/no/such", "--", "true", status=125), "/no/such")
    one_line(host("do", "--root", "/no/such", "--", "true", status=125), "/no/such")
    one_line(host("nonsense", status=125), "nonsense")


@pytest.mark.parametrize("platform", ["ptrace", "kvm"])
def test_a_platform_that_is_not_there_yet(host: Any, platform: str) -> None:
    one_line(host("do", "--platform", platform, "--", "true", status=125), platform)
    host.assert_nothing_runs()


def test_directories_that_are_no_bundles(host: Any, busybox_root: Path) -> None:
    one_line(host("up", "/no/such/bundle", status=125), "/no/such/bundle")
    empty = host.home / "empty"
    empty.mkdir()
    one_line(host("up", str(empty), status=125), "config.json")
    one_line(host("run", "-b", str(empty), "c1", status=125), "config.json")
    one_line(host("create", "-b", str(empty), "c1", status=125), "config.json")
    for text in ("", "{", "[]", "null", '{"ociVersion": 5}', "\x00"):
        (empty / "config.json").write_text(text)
        one_line(host("up", str(empty), status=125), "config.json")
    bundle = host.bundle(Path("/no/such/root"), "true")
    one_line(host("up", str(bundle), status=125), "root.path", "/no/such/root")
    bundle = host.bundle(Path("/etc/passwd"), "true")
    one_line(host("up", str(bundle), status=125), "root.path")
    assert host.listed() == {}


@pytest.mark.parametrize(
    ("process", "field"),
    [
        ({"args": []}, "process.args"),
        ({"args": [""]}, "process.args[0]"),
        ({"args": "true"}, "process.args"),
        ({"cwd": "relative"}, "process.cwd"),
        ({"env": ["NOVALUE"]}, "process.env"),
        ({"user": {"uid": -1}}, "process.user.uid"),
        ({"capabilities": {"bounding": ["CAP_NONSENSE"]}}, "process.capabilities.bounding"),
        ({"rlimits": [{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]}, "process.rlimits"),
    ],
)
def test_the_field_that_is_wrong_is_named(host: Any, busybox_root: Path, process: dict[str, Any], field: str) -> None:
    one_line(host("up", str(host.bundle(busybox_root, "true", process=process)), status=125), field.lower())


@pytest.mark.parametrize(
    ("args", "status"),
    [(["/no/such"], 127), (["nothing"], 127), (["/bin/plain"], 126), (["/etc"], 126), (["/bin/broken"], 127)],
)
def test_programs_of_a_bundle_that_cannot_be_run(
    any_host: Any, busybox_root: Path, args: list[str], status: int
) -> None:
    one_line(any_host("up", str(any_host.bundle(busybox_root, *args)), status=status))
    assert any_host.listed() == {}
    any_host.assert_nothing_runs()


def test_a_working_directory_that_is_missing(host: Any, busybox_root: Path) -> None:
    """runc makes it; here too, or one line says that it is not there."""
    done = host("up", str(host.bundle(busybox_root, "pwd", process={"cwd": "/no/such"})), status=None)
    if done.status == 0:
        assert done.out == "/no/such\n"
    else:
        assert done.status == 125
        one_line(done, "/no/such")


def test_create_then_start_of_a_missing_program(host: Any, busybox_root: Path) -> None:
    bundle = host.bundle(busybox_root, "/no/such")
    host("create", "-b", str(bundle), "c1")
    one_line(host("start", "c1", status=127), "/no/such")
    host.wait_until(lambda: host.listed() == {"c1": "stopped"}, "it is stopped")
    host("delete", "c1")
    host.assert_nothing_runs()


def test_a_root_that_its_user_may_not_read(make_host: Any) -> None:
    host = make_host("user")
    root = host.home / "root"
    root.mkdir(mode=0o700)
    bundle = host.bundle(root, "true")
    one_line(host("up", str(bundle), status=125), "permission denied")
    one_line(host("do", "--root", str(root), "--", "true", status=None))
    host.assert_nothing_runs()


def test_a_host_without_user_notification(make_host: Any) -> None:
    host = make_host("without-notification")
    one_line(host.do("true", status=125), "notif")
    assert "notif" in host("doctor", status=None).out
    host.assert_nothing_runs()


def test_containers_that_are_not_there(host: Any) -> None:
    for verb in ("state", "start", "kill", "delete", "ps"):
        one_line(host(verb, "c1", status=125), "c1", "does not exist")
    one_line(host("state", "../x", status=125))
    one_line(host("state", status=125))
    assert json.loads(host("list", "--format", "json").out) in ([], None)
    assert not os.path.exists(host.state / "c1")
