"""What a sandbox had still to send when it ended arrives: Linux, too, goes on sending after a process has ended.

The servers here end with the last byte that they hand over: much of it is underway then.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.peers import free_port
from tests.sandbox.test_network_taken import bundle, namespace

__all__ = ["namespace"]

ANSWER = bytes(range(256)) * 4096


@pytest.fixture
def answer() -> Iterator[Path]:
    """A file with ANSWER that every user may read."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp", prefix="sentrio-answer-", delete=False) as made:
        path = Path(made.name)
    path.write_bytes(ANSWER)
    path.chmod(0o644)
    yield path
    path.unlink()


def serve(path: object, port: int) -> list[str]:
    """Answers one connection with a file, and ends."""
    return ["busybox", "nc", "-l", "-p", str(port), "-e", "busybox", "cat", str(path)]


def fetched(address: str, port: int, delay: float = 0.0) -> bytes:
    """All that a server there answers; its first byte is waited for, and the rest is read after `delay` seconds."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, port), 1) as link:
                link.settimeout(20)
                first = link.recv(1)
                if first:
                    time.sleep(delay)
                    return first + b"".join(iter(lambda: link.recv(1 << 16), b""))
        except (ConnectionRefusedError, ConnectionResetError, TimeoutError):
            pass  # it does not listen yet, or is not there
        time.sleep(0.02)
    raise AssertionError("nothing listens there")


@pytest.mark.parametrize("network", [("--network", "netstack"), ("--network-name", "ends")])
def test_all_of_an_answer_arrives_though_the_sandbox_ends_with_it(
    host: Any, peer: Any, answer: Path, network: tuple[str, str]
) -> None:
    """Through a published port; of the shared network it is the last member."""
    for turn in range(4):
        port = free_port()
        process = host.start("do", *network, "-p", f"{port}:8080", "--", *serve(answer, 8080))
        if turn % 2:
            assert fetched("127.0.0.1", port, 0.1 * turn) == ANSWER
        else:
            code = "from tests.sandbox.test_network_ends import fetched\n"
            code += f'print(len(fetched("{peer.own}", {port}, {0.1 * turn})))'
            assert peer(code) == f"{len(ANSWER)}\n"
        assert process.wait(60) == 0
    host.wait_until(lambda: not host.processes(), "the network's end")


def test_all_of_an_answer_arrives_over_a_veth(
    host: Any, busybox_root: Path, namespace: Any, answer: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(busybox_root, root, symlinks=True)
    shutil.copy(answer, root / "answer")
    for turn in range(4):
        path = bundle(host, root, namespace, *serve("/answer", 7200))
        process = host.start("run", "-b", str(path), f"veth{turn}")
        assert fetched(namespace.address, 7200, 0.1 * turn) == ANSWER
        assert process.wait(60) == 0
    host.assert_nothing_runs()


@pytest.mark.parametrize("end", ["exits", "is killed"])
def test_what_nobody_has_taken_yet_arrives(
    host: Any, busybox_root: Path, namespace: Any, tmp_path: Path, end: str
) -> None:
    """The receiver takes nothing before the sandbox has ended, so that all but a window of it is there still."""
    sent = ANSWER[: 48 << 10]
    root = tmp_path / "root"
    shutil.copytree(busybox_root, root, symlinks=True)
    (root / "answer").write_bytes(sent)
    script = f"cat /answer; echo sent >&2; {'sleep 60' if end == 'is killed' else 'sleep 1'}"
    path = bundle(host, root, namespace, "nc", "-l", "-p", "7200", "-e", "sh", "-c", script)
    process = host.start("run", "-b", str(path), "ends")
    deadline = time.monotonic() + 60
    while True:
        link = socket.socket()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        link.settimeout(30)
        try:
            link.connect((namespace.address, 7200))
            break
        except ConnectionRefusedError:
            link.close()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    host.wait_until(lambda: "sent" in process.err_path.read_text(), "what is to be sent")
    sentry = host.services(process.pid)[0]
    killing = host.start("kill", "ends", "KILL") if end == "is killed" else None
    while Path(f"/proc/{sentry}").exists():
        time.sleep(0.002)
    with link:
        assert b"".join(iter(lambda: link.recv(1 << 16), b"")) == sent
    assert process.wait(60) == (137 if killing else 0)
    if killing is not None:
        host.end(killing)
    host.assert_nothing_runs()


def test_datagrams_that_were_sent_last_arrive(host: Any, peer: Any) -> None:
    code = """
import os, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for number in range(12): sock.sendto(b"%d" % number, (sys.argv[1], int(sys.argv[2])))
    os._exit(0)
"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((peer.own, 0))
        receiver.settimeout(20)
        words = (peer.own, str(receiver.getsockname()[1]))
        host("do", "--network", "netstack", "--", "python3", "-c", code, *words)
        assert [receiver.recv(10) for _ in range(12)] == [b"%d" % number for number in range(12)]


def test_one_that_nobody_takes_anything_from_ends_all_the_same(host: Any) -> None:
    """It delays the end by the second that netstackd gives those who take nothing."""
    port = free_port()
    code = """
import os, socket
server = socket.create_server(("", 8080)); print("up", flush=True)
link, where = server.accept(); link.setblocking(False)
try:
    while True: link.send(bytes(1 << 16))
except BlockingIOError:
    os._exit(7)
"""
    process = host.start("do", "--network", "netstack", "-p", f"{port}:8080", "--", "python3", "-uc", code)
    host.wait_for_text(process, "up")
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", port))
        assert process.wait(60) == 7
    host.assert_nothing_runs()
