"""A netstackd under attack: an attacker on a network of its own, and two honest hosts that must not notice.

    bad (10.3.0.2, fd03::2) ── netstackd, sealed ── lan (10.1.0.2): honest clients
                                       └─────────── wan (10.2.0.2): a server

netstackd translates and filters, and has TCP servers of its own (talker.py). Attacks last `SECONDS` each: a few in the
suite, the full minute with NETSTACK_HOSTILE_SECONDS=60.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.netstackd.links.host_unsafe import entered
from tests.netstack.networks import FORWARDING, LAN, WAN, World, interface, server

SECONDS = float(os.environ.get("NETSTACK_HOSTILE_SECONDS", "2"))
TALKER = (sys.executable, "-P", str(Path(__file__).with_name("talker.py")))
MALFORMED = str(Path(__file__).with_name("malformed.py"))
PATIENCE = 15.0  # seconds that an honest host waits for an answer during an attack, on a busy machine
MAX_CONNECTIONS = 2048
BAD = ("10.3.0.1/24", "fd03::1/64")
BEGIN_PATIENCE = 120.0  # seconds for an attack to begin, there
MAX_GROWTH = 10_000  # kilobytes, between the first third of an attack (tables are full then) and its end

RULES = """
[[route]]
to = "default"
via = "10.2.0.2"
[[route]]
to = "default"
via = "fd02::2"
[[dhcp_server]]
interface = "bad"
pool = "10.3.0.100-10.3.0.199"
[nat]
masquerade = "wan"
[conntrack]
max = 2048
[filter]
forward = "drop"
[[filter.rule]]
name = "out"
in = ["lan", "bad"]
out = "wan"
action = "accept"
[[filter.rule]]
name = "some of the pings"
chain = "input"
icmp = "echo-request"
limit = "1000/s"
per_source = true
action = "accept"
"""


class Talk:
    """One honest connection. `slowest`: the longest that an answer took, in seconds."""

    def __init__(self, namespace: str, address: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with entered(namespace):
            self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rw")
        self.slowest = 0.0

    def say(self, text: str) -> None:
        """Send a line; its answer must come in time."""
        began = time.monotonic()
        self._file.write(text + "\n")
        self._file.flush()
        answer = self._file.readline()
        assert answer.split()[-1:] == [text], answer
        self.slowest = max(self.slowest, time.monotonic() - began)

    def close(self) -> None:
        """The end."""
        self._file.close()
        self._socket.close()


class Battle:
    """The network, its honest connections, and what is watched meanwhile."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.bad, self.lan, self.wan = (world.namespace() for _ in range(3))
        config = FORWARDING + interface("bad", self.bad, *BAD) + "slaac = true\n"
        config += interface("lan", self.lan, *LAN) + interface("wan", self.wan, *WAN) + RULES
        self.router = world.router(config, program=TALKER)
        self.router.wait_for_addresses()
        world.host(self.bad, "bad0", "10.3.0.2/24", "fd03::2/64", gateways=("10.3.0.1", "fd03::1"))
        world.host(self.lan, "lan0", "10.1.0.2/24", "fd01::2/64", gateways=("10.1.0.1", "fd01::1"))
        world.host(self.wan, "wan0", "10.2.0.2/24", "fd02::2/64", gateways=("10.2.0.1", "fd02::1"))
        server(world, self.wan, "lines", "7000")
        self.targets = (("10.2.0.2", 7000), ("10.1.0.1", 7), ("fd01::1", 7))
        self.open = [Talk(self.lan, target) for target in self.targets]
        self.mac = next(row["mac"] for row in self.router.json("link") if row["interface"] == "bad")
        self.pid = self.router.child()
        self.log = self.router.log()
        self.slowest_new = 0.0

    def rss(self) -> int:
        """Resident kilobytes of the sealed process."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)

    def go_on(self) -> None:
        """Open connections answer, and new ones come about."""
        for talk in self.open:
            talk.say(f"{time.monotonic()}")
        for target in self.targets:
            began = time.monotonic()
            talk = Talk(self.lan, target)
            try:
                talk.say("new")
            finally:
                talk.close()
            self.slowest_new = max(self.slowest_new, time.monotonic() - began)

    def attack(self, *command: str) -> subprocess.Popen[str]:
        """Begin an attack, a command in the attacker's namespace, with its processes in a group of their own."""
        return self.world.start(
            self.bad, *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def endure(
        self, attacks: list[tuple[str, ...]], seconds: float = SECONDS, *, one_by_one: bool = True, packets: int = 0
    ) -> str:
        """Run attacks, in turn or (not `one_by_one`) as often as they end, for so long, and on until so many packets
        came, while honest hosts go on and memory is watched. Returns a line for people; fails when the router noticed.
        """
        began = time.monotonic()
        warm = 0
        for index, command in enumerate(attacks):
            until = began + seconds * (index + 1) / len(attacks)
            process = self.attack(*command)
            try:
                while time.monotonic() < until or (packets and self.tables()["packets"] < packets):
                    assert time.monotonic() < until + BEGIN_PATIENCE, "the attack does not begin"
                    if process.poll() is not None:
                        if one_by_one:
                            break
                        process = self.attack(*command)
                    self.go_on()
                    if not warm and time.monotonic() - began > seconds / 3:
                        warm = self.rss()
                    time.sleep(0.1)
            finally:
                stop(process)
        warm = warm or self.rss()
        self.go_on()
        grown = self.rss() - warm
        assert self.router.child() == self.pid, self.router.log()
        said = self.router.log()[len(self.log) :]
        wrong = [line for line in said.splitlines() if any(word in line for word in ("error", "bug", "Traceback"))]
        assert not wrong, wrong[:5]
        assert grown < MAX_GROWTH, (warm, self.rss())
        tables = self.tables()
        slowest = max(talk.slowest for talk in self.open)
        return (
            f"{time.monotonic() - began:.0f} s, rss {self.rss()} kB ({grown:+d}), "
            f"slowest answer {slowest * 1000:.0f} ms, "
            f"slowest new connection {self.slowest_new * 1000:.0f} ms, {tables}"
        )

    def tables(self) -> dict[str, int]:
        """How full the tables are, each checked against its limit."""
        statistics = self.router.json("conn", "--limit", "1")["statistics"]
        neighbours = len(self.router.json("neigh"))
        counters = self.router.json("stats")
        link = next(row for row in self.router.json("link") if row["interface"] == "bad")
        assert statistics["connections"] <= MAX_CONNECTIONS
        assert neighbours <= 2 * 1024
        return {
            "packets": link["rx_packets"],
            "connections": statistics["connections"],
            "neighbours": neighbours,
            "dropped": sum(value for name, value in counters.items() if name.startswith("Drop")),
        }


@pytest.fixture
def battle(world: World) -> Iterator[Battle]:
    """The network, before the attack."""
    made = Battle(world)
    try:
        yield made
    finally:
        for talk in made.open:
            talk.close()


def stop(process: subprocess.Popen[str]) -> None:
    """End an attack with all its processes."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(10)
