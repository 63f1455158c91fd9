"""What idle TCP connections cost in the real, sealed process: memory each, processor time per packet, and idle.

    python -m tests.netstack.bench_idle [--counts 0,100,1000,10000] [--trips 4000]

The server is netstackd with an echo server on its own stack (tests/netstack/hostile/talker.py: sockets and all, and
the garbage collector set as process.py sets it); the clients are sockets of the host kernel. For each count
of idle connections one more makes round trips of a byte; the process's own processor time (/proc/PID/schedstat) is
divided by the packets, and the best of five runs counts. Then nothing happens for five seconds. Needs root.
"""

from __future__ import annotations

import argparse
import resource
import socket
import tempfile
import time
from pathlib import Path

from services.netstackd.links.host_unsafe import entered
from tests.netstack.hostile.conftest import TALKER
from tests.netstack.networks import Router, World

CONFIG = """
[[interface]]
name = "lan"
device = "lan0"
netns = "{lan}"
addresses = ["10.1.0.1/16"]
"""
SERVER = ("10.1.0.1", 7)
RUNS = 5


def rss(pid: int) -> int:
    """Bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def cpu(pid: int) -> int:
    """Nanoseconds on a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def connect(namespace: str, count: int) -> list[socket.socket]:
    """New connections, each used once and then idle."""
    made = []
    with entered(namespace):
        for _ in range(count):
            made.append(socket.create_connection(SERVER, 10))
    for sock in made:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    return made


def per_packet(router: Router, pid: int, sock: socket.socket, trips: int) -> float:
    """Nanoseconds of the process for one packet, in or out, the best of RUNS."""

    def packets() -> int:
        row = next(row for row in router.json("link") if row["interface"] == "lan")
        return int(row["rx_packets"]) + int(row["tx_packets"])

    best = 1e18
    for _ in range(RUNS):
        seen, before = packets(), cpu(pid)
        for _ in range(trips):
            sock.sendall(b"y")
            sock.recv(1)
        took = cpu(pid) - before
        best = min(best, took / (packets() - seen))
    return best


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", default="0,100,1000,10000")
    parser.add_argument("--trips", type=int, default=4000)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as path:
        world = World(Path(path))
        idle: list[socket.socket] = []
        try:
            lan = world.namespace()
            router = world.router(CONFIG.format(lan=lan), program=TALKER)
            world.host(lan, "lan0", "10.1.0.2/16")
            pid = router.child()
            (active,) = connect(lan, 1)
            active.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            per_packet(router, pid, active, options.trips)
            base = rss(pid)
            for count in map(int, options.counts.split(",")):
                idle += connect(lan, count - len(idle))
                time.sleep(1)
                each = (rss(pid) - base) / count if count else 0
                cost = per_packet(router, pid, active, options.trips)
                time.sleep(3)  # delayed acknowledgements and neighbour probes are over
                before, turns = cpu(pid), router.json("status")["turns"]
                time.sleep(5)
                spent = (cpu(pid) - before) / 1e6
                turns = router.json("status")["turns"] - turns
                print(
                    f"{count:6} idle: {each:6.0f} bytes each, {cost / 1000:5.2f} us a packet, "
                    f"{spent:.1f} ms and {turns} turns in 5 s (the question for them included)",
                    flush=True,
                )
        finally:
            for sock in idle:
                sock.close()
            world.close()


if __name__ == "__main__":
    main()
