"""A netstackd of the preset slirp, run by an ordinary user in a network namespace that plays the host."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.netstackd.app import Router as InnerRouter
from services.netstackd.config.load import load
from services.netstackd.edge.keeper import open_links
from services.netstackd.edge.log import EventLog
from tests.netstack.networks import NETSTACKD, Result, World
from tests.ordinary_user import BECOME, USER, python_path, user_python

OUTSIDE, OUTSIDE6 = "203.0.113.1", "2001:db8::1"

GUEST = """
[[interface]]
name = "eth0"
kind = "unix"
path = "{path}"
dhcp = true
slaac = true
dad_transmits = 0
"""


class Slirp:
    """`host`: the namespace; OUTSIDE and OUTSIDE6 are addresses there. `link`: the unix socket for a guest."""

    def __init__(self, world: World, path: Path, *flags: str, ports: Sequence[str] | None = None, **more: Any) -> None:
        self.world = world
        self.host = more.pop("host", "") or make_host(world)
        self.path = path / f"user{len(world._processes)}"
        self.path.mkdir()
        os.chown(self.path, USER, USER)
        self.link = str(self.path / "guest.sock")
        self.socket = str(self.path / "control.sock")
        self.log_file = self.path / "log"
        ports = [f"unix:{self.link}"] if ports is None else ports
        read_end, write_end = os.pipe()
        with self.log_file.open("w") as log:
            self.process = world.start(
                self.host,
                *as_user(self.path),
                slirp_python(),
                "-P",
                "-m",
                "services.netstackd",
                *self._configuration(ports, more.pop("resolv_conf", "")),
                "--control",
                self.socket,
                "--ready-fd",
                str(write_end),
                *flags,
                stderr=log,
                pass_fds=(write_end, *more.pop("pass_fds", ())),
            )
        os.close(write_end)
        with os.fdopen(read_end) as ready:
            assert ready.read() == "ready\n", self.log_file.read_text()

    def _configuration(self, ports: Sequence[str], resolv_conf: str) -> list[str]:
        """The flags of the preset, or a file that says the same and where the host's resolvers are written."""
        flags = ["--preset", "slirp", *[word for port in ports for word in ("--port", port)]]
        if not resolv_conf:
            return flags
        text = self.world.run(*NETSTACKD, *flags, "--print-config").out
        file = self.path / "slirp.toml"
        file.write_text(text.replace("[dns]\n", f'[dns]\nresolv_conf = "{resolv_conf}"\n'))
        return ["--config", str(file)]

    def ctl(self, *words: str, check: bool = True) -> Result:
        """netstackd ctl."""
        return self.world.run(*NETSTACKD, "ctl", "--socket", self.socket, *words, check=check)

    def json(self, *words: str) -> Any:
        """netstackd ctl --json."""
        return json.loads(self.ctl("--json", *words).out)

    def children(self) -> list[int]:
        """Router and connector, in the order they began."""
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def as_user(home: Path) -> tuple[str, ...]:
    """The beginning of a command that an ordinary user runs."""
    path = f"PATH={os.environ['PATH']}"
    settings = (f"HOME={home}", path, f"PYTHONPATH={python_path()}", "PYTHONDONTWRITEBYTECODE=1")
    return (*BECOME, "--no-new-privs", "env", *settings)


def slirp_python() -> str:
    """An interpreter for netstackd as an ordinary user."""
    return user_python("msgpack, services.netstackd", by_the_user=True)


def make_host(world: World) -> str:
    """A namespace with OUTSIDE on its loopback, where everybody may ping."""
    name = world.namespace()
    world.at(name, "ip", "addr", "add", f"{OUTSIDE}/32", "dev", "lo")
    world.at(name, "ip", "addr", "add", f"{OUTSIDE6}/128", "dev", "lo", "nodad")
    world.at(name, "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    return name


class Guest:
    """A stack of ours at the other end of a unix link, with what DHCP and router advertisements gave it."""

    def __init__(self, link: str) -> None:
        config = load("guest", GUEST.format(path=link))
        log = EventLog(time.time_ns, "error", "text")
        self.router = InnerRouter(
            config,
            open_links(config),
            clock=time.monotonic_ns,
            wall=time.time_ns,
            rng=random.Random(os.urandom(8)),
            secret=os.urandom(32),
            log=log,
        )
        self.stack = self.router.stack
        self.until(lambda: self.stack.routing4.output(0xCB007101).error == 0, 20)
        self.until(lambda: self.stack.routing6.output(0x20010DB8 << 96 | 1).error == 0, 20)

    def until(self, condition: Callable[[], Any], seconds: float = 10) -> Any:
        """Turn the loop until the condition holds; its value."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, "it did not come to that"
            self.router.loop.turn(0.05)
        return value

    def close(self) -> None:
        """The end."""
        self.router.loop.close()


@pytest.fixture
def world() -> Iterator[World]:
    path = Path(f"/tmp/slirp-test-{os.getpid()}-{time.monotonic_ns()}")  # short, for socket paths; readable for nobody
    path.mkdir(mode=0o755)
    made = World(path)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(path)


def enter(namespace: str) -> Any:
    """A context in which sockets are made in a namespace."""
    from services.netstackd.links.host_unsafe import entered

    return entered(namespace)
