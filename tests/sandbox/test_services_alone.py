"""The services as commands of their own: a Gofer and a Sentry on descriptors that somebody else joined."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from protocol.control import messages
from protocol.control.config import MountSpec, SentryConfig, to_wire
from protocol.control.msgpack_subset import pack

TREE = Path(__file__).parents[2]
TIME_LIMIT = 60


def command(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed"
    return found


@contextmanager
def gofer(root: str) -> Iterator[socket.socket]:
    """The Gofer of `root` as b"root", read-only, and a connection to it."""
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(sock) for sock in socket.socketpair())
        words = [command("gofer"), "--export", f"root={root}:ro", "--socket-fd", str(theirs.fileno())]
        process = stack.enter_context(subprocess.Popen(words, pass_fds=[theirs.fileno()]))
        theirs.close()
        yield ours
        ours.close()
        assert process.wait(TIME_LIMIT) == 0


def config_file(folder: Path, *argv: bytes) -> Path:
    config = SentryConfig(
        argv=list(argv), env=[b"PATH=/usr/bin:/bin"], mounts=[MountSpec(b"/", "gofer", b"root", overlay=True)]
    )
    path = folder / "config"
    path.write_bytes(pack(to_wire(config)))
    return path


def still_run(group: int, within: float) -> bool:
    """Whether any process of this group, zombies aside, is there all the time."""
    until = time.monotonic() + within
    while True:
        found = False
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, its_group = status.read_text().rsplit(")", 1)[1].split()[:3]
                found |= state != "Z" and int(its_group) == group
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.02)


def said(control: socket.socket) -> list[tuple[str, list[object]]]:
    """What the Sentry tells its monitor until it ends."""
    decoder = messages.Decoder(messages.FROM_SENTRY)
    found: list[tuple[str, list[object]]] = []
    control.settimeout(TIME_LIMIT)
    while data := control.recv(1 << 16):
        found += [(message.method, message.params) for message in decoder.feed_untrusted(data)]
    return found


def test_a_sentry_runs_a_program_with_a_gofer_that_somebody_else_started(tmp_path: Path) -> None:
    with gofer("/") as files, ExitStack() as stack:
        ours, theirs = (stack.enter_context(sock) for sock in socket.socketpair())
        fds = [theirs.fileno(), files.fileno()]
        words = [command("sentry"), "--config", str(config_file(tmp_path, b"sh", b"-c", b"cat; uname -n; exit 3"))]
        words += ["--control-fd", str(fds[0]), "--gofer-fd", str(fds[1])]
        process = stack.enter_context(
            subprocess.Popen(words, pass_fds=fds, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        )
        theirs.close()
        output, _ = process.communicate(b"through\n", TIME_LIMIT)
        told = said(ours)
    assert told == [("ready", []), ("started", []), ("exited", [3 << 8])]
    assert (output, process.returncode) == (b"through\nsandbox\n", 0)
    assert not still_run(process.pid, within=10)


@pytest.mark.parametrize(
    "config, words, complaint",
    [
        (None, ["--control-fd", "0", "--gofer-fd", "0"], "--config CONFIG: No such file or directory"),
        (b"\xc1", ["--control-fd", "0", "--gofer-fd", "0"], "--config CONFIG: message: "),
        (pack({"argv": []}), ["--control-fd", "0", "--gofer-fd", "0"], "--config CONFIG: config: argv is empty"),
        (pack({"argv": [b"x"]}), ["--control-fd", "999", "--gofer-fd", "0"], "--control-fd 999: not an open socket"),
        (pack({"argv": [b"x"]}), ["--control-fd", "0", "--gofer-fd", "0"], "--control-fd 0: not an open socket"),
        (
            pack({"argv": [b"x"], "network": "netstack"}),
            ["--control-fd", "0", "--gofer-fd", "0"],
            "the configuration's network is netstack: --network-fd goes with any but none",
        ),
    ],
)
def test_a_sentry_that_is_given_nonsense_says_so_in_one_line(
    config: bytes | None, words: list[str], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "config"
    if config is not None:
        path.write_bytes(config)
    with open(os.devnull, "rb") as nothing:
        done = subprocess.run(
            [command("sentry"), "--config", str(path), *words], stdin=nothing, capture_output=True, timeout=TIME_LIMIT
        )
    told = done.stderr.decode()
    assert told.startswith(f"sentry: {complaint.replace('CONFIG', str(path))}") and told.count("\n") == 1
    assert (done.returncode, done.stdout) == (2, b"")


def test_every_command_that_is_installed_can_be_loaded() -> None:
    named = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["scripts"]
    found = {entry.name: entry.value for entry in entry_points(group="console_scripts") if entry.name in named}
    assert found == named
    for entry in entry_points(group="console_scripts"):
        if entry.name in named:
            assert callable(entry.load())
