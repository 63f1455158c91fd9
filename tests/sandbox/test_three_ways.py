"""`do` as root, as an ordinary user, and where the host refuses namespaces; what is weaker is said."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

MARK = "weaker confinement"


def test_a_shell_lists_the_host_and_runs_python(any_host: Any) -> None:
    done = any_host.do("sh", "-c", 'id -u; ls /; python3 -c "print(6*7)"')
    lines = done.out.split()
    assert lines[0] == ("12345" if any_host.kind == "user" else "0"), done
    assert lines[-1] == "42"
    assert {"etc", "usr", "proc"} <= set(lines), done
    assert (MARK in done.err) == (any_host.kind == "refused"), done
    assert done.said == []
    any_host.assert_nothing_runs()


def test_writes_stay_in_the_sandbox(any_host: Any) -> None:
    target = any_host.home / "written"
    done = any_host.do("sh", "-c", f"echo x > {target}; cat {target}; exit 7", status=7)
    assert done.out == "x\n"
    assert not target.exists()


def test_a_guest_killed_by_a_signal_gives_128_and_its_number(any_host: Any) -> None:
    any_host.do("sh", "-c", "kill -SEGV $$", status=128 + signal.SIGSEGV)
    any_host.do("sh", "-c", "kill -KILL $$", status=128 + signal.SIGKILL)


def test_a_signal_to_the_supervisor_reaches_the_program(any_host: Any) -> None:
    process = any_host.start("do", "--", "sh", "-c", "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 1; done")
    any_host.wait_for_text(process, "up")
    process.send_signal(signal.SIGTERM)
    done = any_host.end(process)
    assert (done.status, done.out) == (5, "up\ngot\n"), done
    any_host.assert_nothing_runs()


def test_doctor_says_what_is_weaker(any_host: Any) -> None:
    done = any_host("doctor", status=None)
    assert "Traceback" not in done.err
    if any_host.kind == "refused":
        assert "namespaces" in done.out, done
        assert "seccomp" in done.out, done


def test_the_warning_can_be_silenced(make_host: Any) -> None:
    host = make_host("refused")
    assert host.do("true", environment={"SENTRIO_QUIET": "1"}).err == ""


def test_environment_directory_and_limits_are_the_callers(any_host: Any) -> None:
    done = any_host.do("sh", "-c", 'echo "$MINE"; pwd; umask; ulimit -n', environment={"MINE": "a b"})
    assert done.out.split("\n")[:2] == ["a b", str(any_host.home)]


@pytest.mark.parametrize("victim", ["monitor", "sentry", "gofer"])
def test_no_guest_outlives_what_was_killed(any_host: Any, victim: str) -> None:
    """Forked guests lose the parent-death signal: their end has to come from elsewhere."""
    script = "sleep 1000 & (sleep 1000 & sleep 1000) & echo up; wait"
    process = any_host.start("do", "--", "sh", "-c", script)
    sentry, gofer = any_host.services(process.pid)
    any_host.wait_for_text(process, "up")
    any_host.wait_until(lambda: len(any_host.processes()) >= 6, "the guests run")
    os.kill({"monitor": process.pid, "sentry": sentry, "gofer": gofer}[victim], signal.SIGKILL)
    done = any_host.end(process)
    assert done.status == (-9 if victim == "monitor" else 125), done
    any_host.assert_nothing_runs()
    if victim != "monitor":
        name = {"sentry": "the Sentry", "gofer": "the Gofer"}[victim]
        assert len(done.said) == 1 and f"{name} ended unexpectedly: killed by signal 9" in done.said[0], done
