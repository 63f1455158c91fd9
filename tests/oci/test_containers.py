"""The OCI verbs with fake services: life cycle, state, hooks, console, errors."""

from __future__ import annotations

import array
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest


def test_life_cycle(any_host: Any) -> None:
    bundle = any_host.bundle("trap")
    any_host("create", "--bundle", str(bundle), "--pid-file", str(any_host.home / "pid"), "c1")
    state = json.loads(any_host("state", "c1").stdout)
    assert state == {
        "ociVersion": "1.0.2",
        "id": "c1",
        "status": "created",
        "pid": int((any_host.home / "pid").read_text()),
        "bundle": str(bundle),
        "annotations": {},
    }
    assert "there is one with this id already" in any_host("create", "-b", str(bundle), "c1", status=125).stderr
    any_host("start", "c1")
    assert "cannot start: it is running" in any_host("start", "c1", status=125).stderr
    assert any_host("ps", "--format", "json", "c1").stdout == "[1]\n"
    any_host("kill", "c1", "USR1")
    any_host.wait_until(lambda: any_host.listed() == {"c1": "stopped"}, "it ends")
    state = json.loads(any_host("state", "c1").stdout)
    assert (state["status"], state["pid"], state["exitStatus"]) == ("stopped", 0, 40 + signal.SIGUSR1)
    assert "cannot kill: it is stopped" in any_host("kill", "c1", "KILL", status=125).stderr
    any_host("delete", "c1")
    assert "does not exist" in any_host("state", "c1", status=125).stderr
    any_host.assert_nothing_runs()


@pytest.mark.parametrize(("words", "status"), [(["exit", "3"], 3), (["die", "9"], 137), (["missing"], 127)])
def test_run_and_up_give_the_programs_status(any_host: Any, words: list[str], status: int) -> None:
    bundle = any_host.bundle(*words)
    any_host("run", "--bundle", str(bundle), "c1", status=status)
    any_host("up", str(bundle), status=status)
    assert any_host.listed() == {}
    any_host.assert_nothing_runs()


def test_start_of_a_program_that_is_not_there(supervisor: Any) -> None:
    supervisor("create", "--bundle", str(supervisor.bundle("missing")), "c1")
    done = supervisor("start", "c1", status=127)
    assert done.stderr == "supervisor: exec: missing: no such file or directory\n"
    supervisor.wait_until(lambda: supervisor.listed() == {"c1": "stopped"}, "it is stopped")
    supervisor("delete", "c1")


def test_kill_before_start_ends_it(supervisor: Any) -> None:
    supervisor("create", "--bundle", str(supervisor.bundle("trap")), "c1")
    supervisor("kill", "c1")
    supervisor.wait_until(lambda: supervisor.listed() == {"c1": "stopped"}, "it ends")


def test_monitor_ends_with_the_containers_status(supervisor: Any) -> None:
    """containerd's shim takes the status of the process in the pid file for the container's."""
    script = (
        "import ctypes, os, subprocess, sys\n"
        "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"  # PR_SET_CHILD_SUBREAPER
        "subprocess.run(sys.argv[2:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "pid = int(open(sys.argv[1]).read())\n"
        "subprocess.run([*sys.argv[2:-5], 'start', 'c1'], check=True)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    pid_file = str(supervisor.home / "pid")
    create = supervisor.words("create", "-b", str(supervisor.bundle("exit", "9")), "--pid-file", pid_file, "c1")
    cut = len(create) - create.index("create")
    script = script.replace("-5]", f"-{cut}]")
    done = subprocess.run(
        [sys.executable, "-c", script, pid_file, *create],
        env=supervisor.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "9\n", done.stderr


def test_streams_of_a_container_in_the_background_are_let_go(supervisor: Any) -> None:
    reader, writer = os.pipe()
    process = supervisor.start(
        "create", "-b", str(supervisor.bundle("trap")), "c1", stdout=writer, stderr=subprocess.DEVNULL
    )
    assert process.wait(60) == 0
    os.close(writer)
    supervisor("start", "c1")
    assert os.read(reader, 100) == b"waiting\n"
    supervisor("kill", "c1", "TERM")
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_console_socket_gets_the_terminal(supervisor: Any) -> None:
    path = supervisor.home / "console.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    bundle = supervisor.bundle("size", terminal=True, consoleSize={"height": 21, "width": 43})
    process = supervisor.start(
        "create", "-b", str(bundle), "--console-socket", str(path), "c1", stderr=subprocess.DEVNULL
    )
    connection, _ = listener.accept()
    name, ancillary, _, _ = connection.recvmsg(200, 200)
    controller = array.array("i", ancillary[0][2])[0]
    assert name.startswith(b"/dev/pts/")
    assert process.wait(60) == 0
    supervisor("start", "c1")
    assert os.read(controller, 100) == b"waiting\r\n"
    assert os.get_terminal_size(controller) == (43, 21)
    termios.tcsetwinsize(controller, (30, 90))
    assert os.read(controller, 100) == b"30 90\r\n"
    supervisor("delete", "--force", "c1")
    os.close(controller)
    connection.close()
    listener.close()


def test_terminal_in_the_background_needs_a_console_socket(supervisor: Any) -> None:
    done = supervisor("create", "-b", str(supervisor.bundle("true", terminal=True)), "c1", status=125)
    assert "process.terminal" in done.stderr and done.stderr.count("\n") == 1


def hook(path: Path, name: str, status: int = 0) -> dict[str, Any]:
    command = f"cat >> {path}/states; echo {name} >> {path}/order; exit {status}"
    return {"path": "/bin/sh", "args": ["sh", "-c", command]}


def test_hooks_run_in_order_with_the_state(supervisor: Any) -> None:
    points = ("prestart", "createRuntime", "poststart", "poststop")
    bundle = supervisor.bundle("trap", hooks={point: [hook(supervisor.home, point)] for point in points})
    order = supervisor.home / "order"
    supervisor("create", "-b", str(bundle), "c1")
    assert order.read_text().split() == ["prestart", "createRuntime"]
    supervisor("start", "c1")
    assert order.read_text().split()[2:] == ["poststart"]
    supervisor("kill", "c1", "TERM")
    supervisor.wait_until(lambda: supervisor.listed() == {"c1": "stopped"}, "it ends")
    supervisor("delete", "c1")
    assert order.read_text().split() == list(points)
    decoder = json.JSONDecoder()
    text, states = (supervisor.home / "states").read_text(), []
    while text:
        document, end = decoder.raw_decode(text)
        states.append(document["status"])
        text = text[end:]
    assert states == ["creating", "creating", "running", "stopped"]


def test_failing_hook_fails_the_creation(supervisor: Any) -> None:
    bundle = supervisor.bundle("trap", hooks={"createRuntime": [hook(supervisor.home, "x", 3)]})
    done = supervisor("create", "-b", str(bundle), "c1", status=125)
    assert done.stderr == "supervisor: hooks.createRuntime[0]: /bin/sh: exit status 3\n"
    assert supervisor.listed() == {}
    supervisor.assert_nothing_runs()


def test_failing_poststart_hook_is_a_warning(supervisor: Any) -> None:
    bundle = supervisor.bundle("exit", "4", hooks={"poststart": [hook(supervisor.home, "x", 3)]})
    done = supervisor("run", "-b", str(bundle), "c1", status=4)
    assert "warning: hooks.poststart[0]" in done.stderr


def test_bundle_that_is_none(supervisor: Any) -> None:
    for words, part in (
        (["up", "/nowhere"], "no such directory"),
        (["up", "/etc/passwd"], "not a directory"),
        (["up", str(supervisor.home)], "it has no config.json"),
        (["run", "-b", str(supervisor.home), "c1"], "it has no config.json"),
        (["create", "-b", str(supervisor.bundle("true")), "a/b"], "expected letters"),
        (["create", "-b", str(supervisor.bundle("true")), ".."], "expected letters"),
        (["create"], "expected one container id"),
        (["kill", "c1", "NOSUCH"], "no such signal"),
    ):
        done = supervisor(*words, status=125)
        assert part in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert supervisor.listed() == {}


def test_unreadable_root(make_supervisor: Any) -> None:
    user = make_supervisor("user")
    bundle = user.bundle("true")
    os.chmod(bundle / "rootfs", 0o700)  # root's
    done = user("up", str(bundle), status=125)
    assert "root.path" in done.stderr and "permission denied" in done.stderr and done.stderr.count("\n") == 1


def test_unhonoured_fields_are_named_once_each(supervisor: Any) -> None:
    bundle = supervisor.bundle("true")
    document = json.loads((bundle / "config.json").read_text())
    document["linux"] = {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}, "resources": {"pids": {"limit": 5}}}
    document["process"]["apparmorProfile"] = "x"
    (bundle / "config.json").write_text(json.dumps(document))
    lines = supervisor("up", str(bundle)).stderr.splitlines()
    assert sorted(line.split(": ")[3].split(" ")[0] for line in lines) == [
        "linux.resources",
        "linux.seccomp",
        "process.apparmorProfile",
    ]


def test_spec_writes_what_up_runs(supervisor: Any) -> None:
    home = supervisor.home
    (home / "rootfs").mkdir()
    supervisor("spec")
    assert "exists already" in supervisor("spec", status=125).stderr
    assert json.loads((home / "config.json").read_text())["process"]["args"] == ["sh"]
    supervisor("up")


def test_log_file_as_the_shims_read_it(supervisor: Any) -> None:
    path = supervisor.home / "log.json"
    supervisor("--log", str(path), "--log-format", "json", "--systemd-cgroup", "state", "none", status=125)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["level"] for line in lines] == ["warning", "error"]
    assert "does not exist" in lines[1]["msg"]


def test_two_containers_do_not_disturb_each_other(supervisor: Any) -> None:
    for name in ("a", "b"):
        supervisor("run", "-d", "-b", str(supervisor.bundle("trap")), name)
    supervisor("kill", "a", "KILL")
    supervisor.wait_until(lambda: supervisor.listed() == {"a": "stopped", "b": "running"}, "a ends alone")
    supervisor("delete", "-f", "b")
    supervisor("delete", "a")


def test_features_and_doctor_say_something_true(supervisor: Any) -> None:
    assert json.loads(supervisor("features").stdout)["ociVersionMin"] == "1.0.0"
    report = json.loads(supervisor("doctor", "--json").stdout)
    assert report["usable"] and not report["weaker"]
    tables = json.loads(supervisor("doctor", "--surface", "--json").stdout)
    gofer = [table for table in tables if table["service"] == "gofer"]
    assert gofer and all(table["distinct"] <= 45 and table["rows"] for table in gofer)


def test_doctor_where_namespaces_are_refused(make_supervisor: Any) -> None:
    report = json.loads(make_supervisor("refused")("doctor", "--json").stdout)
    assert report["usable"] and report["weaker"]
    missing = {finding["name"] for finding in report["findings"] if not finding["present"]}
    assert {"namespaces", "user namespaces", "pidfd_getfd"} <= missing


def test_thin_verbs_cost_little(supervisor: Any) -> None:
    for words in (["--help"], ["list"]):
        times = []
        for _ in range(5):
            began = resource.getrusage(resource.RUSAGE_CHILDREN)
            supervisor(*words)
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
        assert min(times) < 0.25, (words, times)  # seconds of a processor: whatever else it has to do
