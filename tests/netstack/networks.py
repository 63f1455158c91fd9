"""Hosts in network namespaces of their own, and a netstackd between them: the real program, sealed, started by a test.

For every test of netstackd that needs a host's kernel beside it: the fixture `world` (conftest.py) gives a `World`, and
`Sides` is the usual network in it. `transfer.py` is the traffic.

`World` makes namespaces with names that nobody else uses and takes down all it made. A host's other end is netstackd's
tap (or a veth whose end netstackd has); the kernel of the host namespace is the oracle.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_NUMBERS = itertools.count()
NETSTACKD = (sys.executable, "-P", "-m", "services.netstackd")  # -P: what is installed, which may be compiled
ROOT = Path(__file__).resolve().parents[2]
PYTHON = (sys.executable, str(Path(__file__).with_name("transfer.py")))


class Result:
    """What a command gave."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr


class World:
    """Namespaces, processes, and the directory of one test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._namespaces: list[str] = []
        self._processes: list[subprocess.Popen[str]] = []

    # -- hosts --

    def namespace(self) -> str:
        """A new namespace with loopback up, in which the kernel asks nobody before it uses an IPv6 address."""
        name = f"nst{os.getpid()}x{next(_NUMBERS)}"
        self.run("ip", "netns", "add", name)
        self._namespaces.append(name)
        self.at(name, "ip", "link", "set", "lo", "up")
        for key in ("default", "all"):
            self.at(
                name,
                "sysctl",
                "-qw",
                f"net.ipv6.conf.{key}.accept_dad=0",
                f"net.ipv6.conf.{key}.router_solicitations=0",
            )
        return name

    def run(self, *command: str, check: bool = True, timeout: float = 60, stdin: str | None = None) -> Result:
        """A command here."""
        done = Result(
            subprocess.run(command, capture_output=True, text=True, timeout=timeout, input=stdin, cwd=ROOT, check=False)
        )
        assert not check or done.status == 0, f"{' '.join(command)}: {done.status}\n{done.out}{done.err}"
        return done

    def at(self, namespace: str, *command: str, check: bool = True, timeout: float = 60) -> Result:
        """A command in a namespace."""
        return self.run("ip", "netns", "exec", namespace, *command, check=check, timeout=timeout)

    def start(self, namespace: str | None, *command: str, **options: Any) -> subprocess.Popen[str]:
        """A process that the test's end stops."""
        prefix = ("ip", "netns", "exec", namespace) if namespace else ()
        process = subprocess.Popen(
            (*prefix, *command),
            text=True,
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            stdin=options.pop("stdin", subprocess.DEVNULL),
            cwd=ROOT,
            **options,
        )
        self._processes.append(process)
        return process

    def host(self, namespace: str, device: str, *addresses: str, gateways: Sequence[str] = ()) -> None:
        """Give the host end of a device addresses and default routes."""
        for address in addresses:
            self.at(namespace, "ip", "addr", "add", address, "dev", device)
        for gateway in gateways:
            self.at(namespace, "ip", "route", "add", "default", "via", gateway)

    # -- netstackd --

    def router(self, config: str, *flags: str, name: str = "router", program: Sequence[str] = NETSTACKD) -> Router:
        """Start netstackd (or `program` in its place) with a configuration, and wait until it serves."""
        return Router(self, config, flags, name, program)

    def close(self) -> None:
        """Stop everything, remove every namespace."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
            for stream in (process.stdout, process.stderr, process.stdin):
                if stream is not None:
                    stream.close()
        for name in self._namespaces:
            self.run("ip", "netns", "del", name, check=False)


class Router:
    """A running netstackd. `socket`: its control socket."""

    def __init__(self, world: World, config: str, flags: Sequence[str], name: str, program: Sequence[str]) -> None:
        self.world = world
        self.socket = str(world.path / f"{name}.sock")
        self.file = world.path / f"{name}.toml"
        self.log_file = world.path / f"{name}.log"
        self.write(config)
        read_end, write_end = os.pipe()
        with self.log_file.open("w") as log:
            self.process = world.start(
                None,
                *program,
                "--config",
                str(self.file),
                "--ready-fd",
                str(write_end),
                *flags,
                stderr=log,
                pass_fds=(write_end,),
            )
        os.close(write_end)
        with os.fdopen(read_end) as ready:
            said = ready.read()
        assert said == "ready\n", self.log()

    def write(self, config: str) -> None:
        """Change the file."""
        self.file.write_text(config + f'\n[control]\nsocket = "{self.socket}"\n')

    def log(self) -> str:
        """What it has said."""
        return self.log_file.read_text()

    def ctl(self, *words: str, check: bool = True) -> Result:
        """netstackd ctl."""
        return self.world.run(*NETSTACKD, "ctl", "--socket", self.socket, *words, check=check)

    def json(self, *words: str) -> Any:
        """netstackd ctl --json."""
        return json.loads(self.ctl("--json", *words).out)

    def wait_for_addresses(self) -> None:
        """Until nobody else is known to have its IPv6 addresses."""
        ready = wait_until(lambda: all(row["state"] == "preferred" for row in self.json("addr")))
        assert ready, self.json("addr")

    @property
    def pid(self) -> int:
        """The sealed process."""
        return int(self.json("status")["pid"])

    def child(self) -> int:
        """The sealed process as the host's process table has it, also while it cannot answer."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0


def wait_until(condition: Any, seconds: float = 10) -> Any:
    """The first true value of `condition()`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.05)


def interface(name: str, netns: str, *addresses: str, mtu: int = 0) -> str:
    """What a configuration says of a tap `name`0 whose other end is in a namespace; mtu 0: the usual one."""
    listed = ", ".join(f'"{address}"' for address in addresses)
    size = f"mtu = {mtu}\n" if mtu else ""
    return f'[[interface]]\nname = "{name}"\ndevice = "{name}0"\nnetns = "{netns}"\n{size}addresses = [{listed}]\n'


LAN = ("10.1.0.1/24", "fd01::1/64")
WAN = ("10.2.0.1/24", "fd02::1/64")
FORWARDING = "[router]\nforwarding = true\n"
NAT = '\n[nat]\nmasquerade = "wan"\n'
FILTER = """
[filter]
forward = "drop"
input = "drop"

[[filter.rule]]
name = "out"
chain = "forward"
in = "lan"
action = "accept"

[[filter.rule]]
name = "ping"
chain = "input"
icmp = "echo-request"
action = "accept"
"""


class Sides:
    """A router between one host inside and one outside, both configured. `base`: its configuration without `more`."""

    def __init__(self, world: World, more: str = "", wan_mtu: int = 0, flags: Sequence[str] = ()) -> None:
        self.world = world
        self.lan, self.wan = world.namespace(), world.namespace()
        self.base = FORWARDING + interface("lan", self.lan, *LAN) + interface("wan", self.wan, *WAN, mtu=wan_mtu)
        self.router = world.router(self.base + more, *flags)
        self.router.wait_for_addresses()
        world.host(self.lan, "lan0", "10.1.0.2/24", "fd01::2/64", gateways=("10.1.0.1", "fd01::1"))
        world.host(self.wan, "wan0", "10.2.0.2/24", "fd02::2/64", gateways=("fd02::1",))

    def add_wan_route(self) -> None:
        """Let the outside know the way in (where there is no translation)."""
        self.world.at(self.wan, "ip", "route", "add", "default", "via", "10.2.0.1")


# -- traffic between hosts --


def server(world: World, namespace: str, *words: str) -> subprocess.Popen[str]:
    """transfer.py as a server, once it serves."""
    process = world.start(namespace, *PYTHON, *words)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def pings(world: World, namespace: str, address: str, *more: str) -> bool:
    """Whether an address answers."""
    return world.at(namespace, "ping", "-c", "1", "-W", "2", *more, address, check=False).status == 0


class Held:
    """A connection from a host to a server of lines ("lines") that stays open."""

    def __init__(self, world: World, namespace: str, address: str, port: int) -> None:
        client = world.start(namespace, *PYTHON, "hold", address, str(port), stdin=subprocess.PIPE)
        assert client.stdin is not None and client.stdout is not None
        self._stdin, self._stdout = client.stdin, client.stdout
        assert self._stdout.readline() == "connected\n"

    def say(self, text: str) -> str:
        """Send a line: the answer, which names the address that the server sees, or "" when there is none."""
        self._stdin.write(text + "\n")
        self._stdin.flush()
        return self._stdout.readline().strip()
