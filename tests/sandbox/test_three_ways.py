"""`do` as root, as an ordinary user, and where the host refuses namespaces; what is weaker is said."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
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


def test_what_a_program_inherits_is_the_callers(any_host: Any) -> None:
    def caller() -> None:
        os.umask(0o027)
        os.nice(7)
        resource.setrlimit(resource.RLIMIT_NOFILE, (777, 777))
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):  # who started the tests may have them ignored
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        Path("/proc/self/oom_score_adj").write_text("300")

    show = 'echo "$MINE"; pwd; umask; ulimit -n; nice; cat /proc/self/oom_score_adj'
    done = any_host.do("sh", "-c", show, environment={"MINE": "a b"}, preexec_fn=caller)
    assert done.out.splitlines() == ["a b", str(any_host.home), "0027", "777", "7", "300"]
    done = any_host.do("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status", preexec_fn=caller)
    blocked, ignored = (f"{1 << number - 1:016x}" for number in (signal.SIGUSR1, signal.SIGHUP))
    assert done.out.splitlines() == [f"SigBlk:\t{blocked}", f"SigIgn:\t{ignored}"]


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
