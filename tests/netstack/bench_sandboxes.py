"""What the network costs programs in a sandbox, beside gVisor's runsc in the same run.

    python -m tests.netstack.bench_sandboxes --runsc RUNSC-NET [--only CASE,...] [--rounds 3] [--seconds 3]

The cases on the loopback run server and client in one sandbox without another network (`supervisor do`, `runsc do`). In
the others the other end is the host, over a veth pair: ours is a bundle that names the pair's network namespace, runsc
makes a pair of its own. Both in turn, `rounds` times; the best counts. RUNSC-NET is a runsc whose network starts on
this kernel. Needs root, iperf3 and redis, and iptables for its network.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.sandbox.peers import Peer, ip

RUNSC_ADDRESS: Final = "192.168.10.2"  # of the sandbox that `runsc do` makes
PORT: Final = 7301
ECHO: Final = """
import socket
server = socket.create_server(("0.0.0.0", 7301), backlog=512)
while True:
    link, _ = server.accept()
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := link.recv(64):
        link.sendall(data)
    link.close()
"""

Command = list[str]


class Sandboxes:
    """One way to run a command in a sandbox. `address`: where servers in it are reached from the host."""

    def __init__(self, alone: Command, address: str, served: Callable[[Command], Command]) -> None:
        self.alone = alone
        self.address = address
        self.served = served

    def run(self, script: str) -> str:
        """`sh -c script` in a sandbox with a loopback alone; what it printed."""
        done = subprocess.run([*self.alone, "sh", "-c", script], capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{self.alone[0]}: status {done.returncode}: {done.stderr.strip()[-400:]}")
        return done.stdout

    @contextmanager
    def serve(self, *command: str) -> Iterator[str]:
        """A server in a sandbox that the host reaches; its address."""
        process = subprocess.Popen(
            self.served(list(command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 30
            while True:
                with suppress(OSError):
                    socket.create_connection((self.address, PORT), 1).close()
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} in {self.alone[0]} does not answer")
                time.sleep(0.2)
            time.sleep(0.5)
            yield self.address
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


@contextmanager
def ours(folder: Path) -> Iterator[Sandboxes]:
    """Bundles that take over one network namespace."""
    peer = Peer(16384 + os.getpid() % 8192)
    peer.make()
    ip("-n", peer.namespace, "route", "add", "default", "via", peer.own)
    number = 0

    def served(command: Command) -> Command:
        nonlocal number
        number += 1
        if number == 1:
            subprocess.run(["supervisor", "spec", "-b", str(folder)], check=True)
        config = json.loads((folder / "config.json").read_text())
        config["process"] |= {"args": command, "terminal": False}
        config["root"] = {"path": "/", "readonly": True}
        config["mounts"] = [each for each in config["mounts"] if each["destination"] != "/tmp"]
        config["mounts"].append(
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
        )  # iperf3 keeps its data there
        config["linux"] = {"namespaces": [{"type": "network", "path": f"/run/netns/{peer.namespace}"}]}
        (folder / "config.json").write_text(json.dumps(config))
        return ["supervisor", "run", "-b", str(folder), f"bench-{os.getpid()}-{number}"]

    try:
        yield Sandboxes(["supervisor", "do", "--"], peer.address, served)
    finally:
        peer.close()


def theirs(runsc: str) -> Sandboxes:
    common = [runsc, "--ignore-cgroups", "--platform=systrap"]
    return Sandboxes([*common, "--network=none", "do"], RUNSC_ADDRESS, lambda command: [*common, "do", *command])


# --- cases: each gives a rate, more is better ---
def iperf3(sandboxes: Sandboxes, seconds: int, *words: str) -> float:
    """Mbit/s between the host and a server in a sandbox."""
    with sandboxes.serve("iperf3", "-s", "-p", str(PORT)) as address:
        command = ["iperf3", "-c", address, "-p", str(PORT), "-t", str(seconds), "-J", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e6


def loopback(sandboxes: Sandboxes, seconds: int) -> float:
    """Mbit/s inside one sandbox."""
    script = f"iperf3 -s -1 -p {PORT} >/dev/null & sleep 1; iperf3 -c 127.0.0.1 -p {PORT} -t {seconds} -J"
    return float(json.loads(sandboxes.run(script))["end"]["sum_received"]["bits_per_second"]) / 1e6


def redis(sandboxes: Sandboxes, seconds: int) -> float:
    """Requests per second of redis-benchmark's GET with 20 clients, inside one sandbox."""
    script = (
        f"redis-server --save '' --port {PORT} >/dev/null & sleep 1.5;"
        f"redis-benchmark -p {PORT} -c 20 -n {seconds * 5000} -t get --csv; kill $!"
    )
    rows = list(csv.DictReader(io.StringIO(sandboxes.run(script))))
    return float(rows[0]["rps"])


def round_trips(sandboxes: Sandboxes, seconds: int) -> float:
    """One-byte requests answered per second, one after the other, between host and sandbox."""
    with (
        sandboxes.serve("python3", "-c", ECHO) as address,
        socket.create_connection((address, PORT), 10) as link,
    ):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            link.sendall(b"x")
            link.recv(1)
            count += 1
        return count / seconds


def connections(sandboxes: Sandboxes, seconds: int) -> float:
    """Connections per second from the host to a sandbox, each used for one byte there and back."""
    with sandboxes.serve("python3", "-c", ECHO) as address:
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            with socket.create_connection((address, PORT), 10) as link:
                link.sendall(b"x")
                link.recv(1)
            count += 1
        return count / seconds


CASES: Final[dict[str, tuple[str, float, Callable[[Sandboxes, int], float]]]] = {
    "veth_in": ("Mbit/s, host to sandbox", 1.5, iperf3),
    "veth_out": ("Mbit/s, sandbox to host", 1.5, lambda sandboxes, seconds: iperf3(sandboxes, seconds, "-R")),
    "loopback": ("Mbit/s, inside", 1.0, loopback),
    "redis": ("GET/s, 20 clients, inside", 1.0, redis),
    "round_trips": ("bytes there and back/s, host and sandbox", 1.0, round_trips),
    "connections": ("connections/s, host to sandbox", 1.0, connections),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Networks of sandboxes beside runsc's.")
    parser.add_argument("--runsc", required=True, help="a runsc whose network starts on this kernel")
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'case':14}{'runsc':>12}{'ours':>12}{'ours/runsc':>12}{'bar':>6}  what")
    with tempfile.TemporaryDirectory() as folder, ours(Path(folder)) as sentrio:
        peers = {"runsc": theirs(options.runsc), "ours": sentrio}
        for case in options.only.split(","):
            what, bar, measure = CASES[case]
            best = dict.fromkeys(peers, 0.0)
            for _ in range(options.rounds):
                for name, sandboxes in peers.items():
                    try:
                        best[name] = max(best[name], measure(sandboxes, options.seconds))
                    except (RuntimeError, ValueError, KeyError, OSError, subprocess.TimeoutExpired) as error:
                        print(f"{case}: {name}: {error}")
            ratio = best["ours"] / best["runsc"] if best["runsc"] else float("nan")
            print(f"{case:14}{best['runsc']:12.0f}{best['ours']:12.0f}{ratio:12.2f}{bar:6.1f}  {what}", flush=True)


if __name__ == "__main__":
    main()
