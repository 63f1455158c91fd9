"""kill -9 of monitor, Sentry and Gofer at each stage: nothing is left, and `list` tells the truth."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

VICTIMS = ("monitor", "sentry", "gofer")


def mounts() -> list[str]:
    """What is mounted, but for the network namespaces of other tests (ip netns), which come and go beside this one."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " /run/netns" not in line]


def victim_of(supervisor: Any, monitor: int, victim: str) -> int:
    supervisor.wait_until(lambda: len(supervisor.children(monitor)) >= 2, "the services start")
    sentry, gofer = supervisor.children(monitor)[:2]
    pids: dict[str, int] = {"monitor": monitor, "sentry": sentry, "gofer": gofer}
    return pids[victim]


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("program", ["hang", "family"])
def test_do_leaves_nothing(any_host: Any, victim: str, program: str) -> None:
    before = mounts()
    process = any_host.start("do", program)
    pid = victim_of(any_host, process.pid, victim)
    if program == "family":
        assert process.stdout.readline() == "waiting\n"
        any_host.wait_until(lambda: len(any_host.processes()) >= 5, "the guests run")
    os.kill(pid, signal.SIGKILL)
    assert process.wait(60) == (-9 if victim == "monitor" else 125)
    any_host.assert_nothing_runs()
    if victim != "monitor":
        name = {"sentry": "the Sentry", "gofer": "the Gofer"}[victim]
        errors = process.stderr.read().splitlines()
        assert f"{name} ended unexpectedly: killed by signal 9" in errors[-1]
    assert mounts() == before


def test_the_gofers_end_counts_and_not_what_the_program_made_of_it(supervisor: Any) -> None:
    process = supervisor.start("do", "lose")
    pid = victim_of(supervisor, process.pid, "gofer")
    assert process.stdout.readline() == "waiting\n"
    os.kill(pid, signal.SIGKILL)
    assert process.wait(60) == 125
    assert "the Gofer ended unexpectedly: killed by signal 9" in process.stderr.read().splitlines()[-1]


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("stage", ["created", "running"])
def test_container_is_stopped_and_deletable(any_host: Any, victim: str, stage: str) -> None:
    before = mounts()
    any_host("create", "--bundle", str(any_host.bundle("family")), "--pid-file", str(any_host.home / "pid"), "c1")
    assert any_host.listed() == {"c1": "created"}
    monitor = int((any_host.home / "pid").read_text())
    if stage == "running":
        any_host("start", "c1")
        assert any_host.listed() == {"c1": "running"}
    os.kill(victim_of(any_host, monitor, victim), signal.SIGKILL)
    any_host.assert_nothing_runs()
    assert any_host.listed() == {"c1": "stopped"}
    any_host("delete", "c1")
    assert any_host.listed() == {}
    assert list((any_host.state / any_host.token).iterdir()) == []
    assert mounts() == before


@pytest.mark.parametrize("victim", VICTIMS)
def test_create_that_is_killed_reports_it(supervisor: Any, victim: str) -> None:
    errors = (supervisor.home / "errors").open("w+")
    bundle = str(supervisor.bundle("hang"))
    process = supervisor.start("create", "--bundle", bundle, "c1", stdout=subprocess.DEVNULL, stderr=errors)
    monitors: list[int] = []

    def started() -> bool:
        monitors[:] = [pid for pid in supervisor.processes() if pid != process.pid and len(children(pid)) >= 2]
        return bool(monitors)

    def children(pid: int) -> list[int]:
        try:
            found: list[int] = supervisor.children(pid)
        except OSError:
            return []
        return found

    supervisor.wait_until(started, "the services start")
    assert supervisor.listed() == {"c1": "creating"}
    os.kill(victim_of(supervisor, monitors[0], victim), signal.SIGKILL)
    assert process.wait(60) == 125
    errors.seek(0)
    assert errors.read().count("\n") == 1
    errors.close()
    supervisor.assert_nothing_runs()
    assert supervisor.listed() == {}


def test_force_delete_ends_what_runs(any_host: Any) -> None:
    any_host("run", "--detach", "--bundle", str(any_host.bundle("family")), "c1")
    assert any_host.listed() == {"c1": "running"}
    assert "cannot delete: it is running" in any_host("delete", "c1", status=125).stderr
    any_host("delete", "--force", "c1")
    any_host.assert_nothing_runs()
    assert any_host.listed() == {}
    any_host("delete", "--force", "c1")


def test_stopped_monitor_does_not_stop_force_delete(supervisor: Any) -> None:
    supervisor("run", "--detach", "--bundle", str(supervisor.bundle("family")), "c1")
    for pid in supervisor.processes():
        os.kill(pid, signal.SIGSTOP)
    supervisor("delete", "--force", "c1")
    supervisor.assert_nothing_runs()
