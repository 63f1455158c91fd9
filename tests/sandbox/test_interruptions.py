"""Signals from the host at any moment: SIGCHLD for the Sentry; stops and continues for a guest's processes, as
debuggers, `docker pause` and a suspended machine bring them. Nothing that runs notices more than the time it takes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(180)]


HOLD = """
import socket, sys
server = socket.create_server((sys.argv[1], 7120)); print("up", flush=True)
held = []
while True: held.append(server.accept())
"""


def while_running(process: subprocess.Popen[Any], disturb: Callable[[], None]) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        disturb()


def test_a_question_to_netstackd_is_not_cut_short_by_sigchld(host: Any, peer: Any) -> None:
    """It comes whenever a guest's host process ends. Once it made the Sentry give up its network."""
    peer.serve(HOLD, peer.address)
    program = """
        import socket, sys
        links = [socket.create_connection((sys.argv[1], 7120), 20) for _ in range(3)]
        print("begun", flush=True)
        for turn in range(300):
            for link in links:
                link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            with open("/proc/net/tcp") as table:
                assert len(table.readlines()) >= 4
        print("done")
    """
    process = host.start("do", "--network", "netstack", "--", "python3", "-uc", textwrap.dedent(program), peer.address)
    sentry, _ = host.services(process.pid)
    host.wait_for_text(process, "begun")

    def disturb() -> None:
        try:
            os.kill(sentry, signal.SIGCHLD)
        except ProcessLookupError:
            pass
        time.sleep(0.0003)

    while_running(process, disturb)
    done = host.end(process)
    assert (done.status, done.out, done.said) == (0, "begun\ndone\n", []), done


def test_guests_whose_host_processes_are_stopped_and_continued_go_on(host: Any) -> None:
    """A stop sends clone(2), in a guest's process or in the pristine one, back to its start."""
    program = """
        echo begun; n=0
        while [ $n -lt 300 ]; do /bin/true || exit 1; (exit 3); [ $? = 3 ] || exit 2; n=$((n+1)); done
    """
    process = host.start("do", "--", "sh", "-c", program)
    sentry, _ = host.services(process.pid)
    host.wait_for_text(process, "begun")

    def guests() -> list[int]:
        # they are the Sentry's children, whoever made them
        return host.children(sentry) if Path(f"/proc/{sentry}").exists() else []

    random.seed(1)

    def disturb() -> None:
        for pid in guests():
            try:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.0001)
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
            time.sleep(random.random() * 0.0005)

    while_running(process, disturb)
    done = host.end(process)
    assert (done.status, done.out, done.said) == (0, "begun\n", []), done
