"""`supervisor do` with fake services: statuses, streams, signals, terminals, errors, and what services can see."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
import time
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["true"], 0),
        (["false"], 1),
        (["exit", "7"], 7),
        (["exit", "255"], 255),
        (["die", "9"], 137),
        (["die", "15"], 143),
        (["missing"], 127),
        (["forbidden"], 126),
        (["crash"], 125),
    ],
)
def test_exit_status_is_the_guests_or_dockers(supervisor: Any, words: list[str], status: int) -> None:
    done = supervisor("do", "--", *words, status=status)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    if words[0] in ("missing", "forbidden", "crash"):
        assert len(lines) == 1 and lines[0].startswith("supervisor: ")
    else:
        assert lines == []
    supervisor.assert_nothing_runs()


def test_streams_pass_through(supervisor: Any) -> None:
    assert supervisor("do", "cat", input="some text\n").stdout == "some text\n"
    assert supervisor("do", "--", "echo", "--rw", "-x").stdout == "--rw -x\n"


def test_closed_streams_stay_closed(supervisor: Any) -> None:
    command = supervisor.words("do", "echo", "unseen")
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], env=supervisor.environment, stderr=subprocess.PIPE, check=False
    )
    assert done.returncode == 0, done.stderr


def test_report_missing_is_printed_at_the_end(supervisor: Any) -> None:
    assert supervisor("do", "--report-missing", "true").stderr == "missing: frobnicate (1 call)\n"


def test_configuration_is_the_callers(supervisor: Any) -> None:
    config = supervisor.literal(
        "do", "--platform", "ptrace", "--cwd", "/usr", "-v", "/etc:/mnt:ro", "--", "config", "x"
    )
    assert config["argv"] == [b"config", b"x"]
    assert config["cwd"] == b"/usr"
    assert config["platform"] == "ptrace"
    assert f"SENTRIO_TOKEN={supervisor.token}".encode() in config["env"]
    assert (config["uid"], config["gid"]) == (os.getuid(), os.getgid())
    assert config["mounts"][0] == [b"/", "gofer", b"root", 0, b"", True]
    assert config["mounts"][-1] == [b"/mnt", "gofer", b"v0", 1, b"", False]
    assert config["terminal"] is False


def test_the_callers_limits_and_directory_are_the_guests(supervisor: Any) -> None:
    command = ["sh", "-c", 'ulimit -n 99; umask 027; exec "$@"', "sh", *supervisor.words("do", "config")]
    done = subprocess.run(
        command, env=supervisor.environment, cwd="/usr/bin", capture_output=True, text=True, check=True
    )
    config = eval(done.stdout)
    assert [7, 99, 99] in config["rlimits"]
    assert config["umask"] == 0o027
    assert config["cwd"] == b"/usr/bin"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_signals_reach_the_guest(supervisor: Any, number: signal.Signals) -> None:
    process = supervisor.start("do", "trap")
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    assert process.wait(60) == 40 + number
    supervisor.assert_nothing_runs()


def test_a_signal_before_the_guest_runs_ends_the_sandbox(supervisor: Any) -> None:
    process = supervisor.start("do", "hang")
    supervisor.wait_until(lambda: len(supervisor.processes()) >= 3, "it starts")
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    supervisor.assert_nothing_runs()


def test_terminal_is_one_for_the_guest_and_is_restored(supervisor: Any) -> None:
    controller, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    process = supervisor.start("do", "size", stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    text = read_until(controller, b"waiting")
    raw = termios.tcgetattr(terminal)
    raw[3] = 0
    termios.tcsetattr(terminal, termios.TCSANOW, raw)
    termios.tcsetwinsize(terminal, (33, 44))
    process.send_signal(signal.SIGWINCH)
    text = read_until(controller, b"33 44")
    assert b"33 44" in text
    process.send_signal(signal.SIGINT)  # as from the terminal: the guest's own line discipline makes those
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert termios.tcgetattr(terminal) == before
    os.close(controller)
    os.close(terminal)


def read_until(fd: int, text: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 60
    while text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 4096)
    return seen


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "no verb"),
        (["bogus"], "bogus: no such verb"),
        (["--bogus", "do"], "unknown option --bogus"),
        (["do"], "no command"),
        (["do", "--platform"], "--platform needs a value"),
        (["do", "--platform", "qemu", "true"], "expected one of systrap, ptrace, kvm"),
        (["do", "--platform=qemu", "true"], "expected one of systrap, ptrace, kvm"),
        (["do", "--network", "bridge", "true"], "--network bridge: expected none, netstack"),
        (["do", "--rw=maybe", "true"], "--rw takes no value"),
        (["do", "-v", "/nowhere:/x", "true"], "no such file or directory"),
        (["do", "-v", "/etc", "true"], "expected HOST:GUEST"),
        (["do", "-v", "/etc:x", "true"], "must be absolute"),
        (["do", "-v", "/etc:/x:yes", "true"], "expected HOST:GUEST"),
        (["do", "--cwd", "x", "true"], "expected an absolute path"),
        (["do", "--root", "/etc/passwd", "true"], "not a directory"),
    ],
)
def test_bad_usage_is_one_line_and_125(supervisor: Any, words: list[str], part: str) -> None:
    done = supervisor(*words, status=125)
    if words:
        assert part in done.stderr
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("supervisor: ")
    else:
        assert "usage:" in done.stdout


def test_debug_shows_the_traceback_of_a_service(supervisor: Any) -> None:
    assert "RuntimeError: the fake Sentry was told to crash" in supervisor("do", "crash", status=125).stderr
    assert "Traceback" in supervisor("--debug", "do", "crash", status=125).stderr


def test_what_the_sentry_sees(any_host: Any) -> None:
    view = any_host.literal("do", "view")
    assert view["fds"] == 6  # control, gofer, three streams, ready
    if any_host.kind == "refused":
        assert "usr" in view["root"]
    else:
        assert view["pid"] == 1
        assert view["root"] == []
        assert view["interfaces"] == ["lo"]
    assert view["uid"] == {"root": 65534, "user": 12345, "refused": 65534}[any_host.kind]


def test_what_the_gofer_sees(any_host: Any) -> None:
    view = any_host.literal("do", "gofer")
    assert "usr" in view["exports"]["root"]
    assert view["no_new_privs"] == 1
    assert view["effective"] == ([] if any_host.kind == "user" else [2])  # CAP_DAC_READ_SEARCH
    if any_host.kind != "refused":
        assert view["pid"] == 1
        assert view["root"] == ["0"]
        assert view["proc"] == []
        assert view["file_system_read_only"]


def test_a_weaker_host_is_warned_of_once(make_supervisor: Any) -> None:
    refused = make_supervisor("refused")
    lines = refused("do", "true").stderr.splitlines()
    assert len(lines) == 1 and "weaker confinement: the host refuses namespaces" in lines[0]
    refused.environment["SENTRIO_QUIET"] = "1"
    assert refused("do", "true").stderr == ""


def test_only_what_is_asked_for_is_writable(supervisor: Any) -> None:
    assert not supervisor.literal("do", "--rw", "gofer")["file_system_read_only"]
    assert supervisor.literal("do", "--rw", "gofer")["kept"] == [0, 1, 2, 3, 4, 27]


def test_help_and_version(supervisor: Any) -> None:
    assert "usage: supervisor" in supervisor("--help").stdout
    assert "usage: supervisor do" in supervisor("do", "--help").stdout
    assert "sentrio" in supervisor("--version").stdout
