"""kill -9 of monitor, Sentry and Gofer at each stage, with real guests: one line, nothing left, `list` true."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

VICTIMS = ("monitor", "sentry", "gofer")
DEVICES = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}  # a shell in the background needs /dev/null
COMPILE = (
    "cd /tmp; echo up; i=0; while :; do i=$((i+1));"
    " printf '#include <stdio.h>\\nint main(void){return %d;}\\n' $i > a.c;"
    " gcc -O2 -pipe a.c -o a 2>/dev/null || exit 9; done"
)


def mounts() -> list[str]:
    """What is mounted, but for the network namespaces of other tests (ip netns), which come and go beside this one."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " /run/netns" not in line]


def killed(host: Any, victim: str, monitor: int) -> None:
    sentry, gofer = host.services(monitor)
    os.kill({"monitor": monitor, "sentry": sentry, "gofer": gofer}[victim], signal.SIGKILL)


def check_end(host: Any, done: Any, victim: str) -> None:
    host.assert_nothing_runs()
    if victim == "monitor":
        assert done.status == -signal.SIGKILL
        return
    assert done.status == 125, done
    name = {"sentry": "the Sentry", "gofer": "the Gofer"}[victim]
    assert len(done.said) == 1, done
    assert f"{name} ended unexpectedly: killed by signal 9" in done.said[0], done
    assert "Traceback" not in done.err


@pytest.mark.parametrize("victim", VICTIMS)
def test_at_the_start(any_host: Any, victim: str) -> None:
    before = mounts()
    process = any_host.start("do", "--", "sleep", "1000")
    killed(any_host, victim, process.pid)
    check_end(any_host, any_host.end(process), victim)
    assert mounts() == before


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("kind", ["root", "refused"])
def test_in_the_middle_of_compiling(make_host: Any, kind: str, victim: str) -> None:
    host = make_host(kind)
    before = mounts()
    process = host.start("do", "--", "sh", "-c", COMPILE)
    host.services(process.pid)
    host.wait_for_text(process, "up")
    host.wait_until(lambda: len(host.processes()) >= 6, "the compiler's processes run")
    killed(host, victim, process.pid)
    check_end(host, host.end(process), victim)
    assert mounts() == before


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("stage", ["created", "running"])
def test_a_container_is_stopped_and_can_be_deleted(any_host: Any, busybox_root: Path, victim: str, stage: str) -> None:
    before = mounts()
    bundle = any_host.bundle(busybox_root, "sh", "-c", "sleep 1000 & sleep 1000 & wait", mounts=[DEVICES])
    any_host("create", "--bundle", str(bundle), "--pid-file", str(any_host.home / "pid"), "c1")
    assert any_host.listed() == {"c1": "created"}
    monitor = int((any_host.home / "pid").read_text())
    any_host.services(monitor)
    if stage == "running":
        any_host("start", "c1")
        assert any_host.listed() == {"c1": "running"}
        any_host.wait_until(lambda: len(any_host.processes()) >= 6, "the guests run")
    killed(any_host, victim, monitor)
    any_host.assert_nothing_runs()
    assert any_host.listed() == {"c1": "stopped"}
    any_host("delete", "c1")
    assert any_host.listed() == {}
    assert list(any_host.state.iterdir()) == []
    assert mounts() == before
