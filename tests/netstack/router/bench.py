"""Throughput of netstackd as a router beside the kernel forwarding the same traffic, by iperf3 between two namespaces.

    python -m tests.netstack.router.bench [--seconds 3] [--repeat 2] [--only CASE,...]

Cases: large segments (TSO) and 1,500-byte packets (offloads of the hosts off), each plain and through NAT and filter;
the kernel's own figures with the same rules (nftables) come first, and the ratio is of the best of each. Not a test:
run alone on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.netstack.networks import FILTER, NAT, World

RULES = """
table ip nat {
  chain post { type nat hook postrouting priority 100; oifname "wan0" masquerade; }
}
table inet filter {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "lan0" accept
  }
}
"""
BASE = """
[router]
forwarding = true
[[interface]]
name = "lan"
kind = "{kind}"
device = "lan0"
netns = "{lan}"
addresses = ["10.1.0.1/24"]
[[interface]]
name = "wan"
kind = "{kind}"
device = "wan0"
netns = "{wan}"
addresses = ["10.2.0.1/24"]
"""


def kernel(world: World, translated: bool) -> tuple[str, str]:
    """Two hosts and the kernel's router between them; returns the hosts."""
    lan, wan, router = world.namespace(), world.namespace(), world.namespace()
    for host, device, ours in ((lan, "lan0", "10.1.0."), (wan, "wan0", "10.2.0.")):
        world.run("ip", "link", "add", "eth0", "netns", host, "type", "veth", "peer", "name", device, "netns", router)
        world.at(host, "ip", "addr", "add", f"{ours}2/24", "dev", "eth0")
        world.at(host, "ip", "link", "set", "eth0", "up")
        world.at(router, "ip", "addr", "add", f"{ours}1/24", "dev", device)
        world.at(router, "ip", "link", "set", device, "up")
        world.at(host, "ip", "route", "add", "default", "via", f"{ours}1")
    world.at(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    if translated:
        world.run("ip", "netns", "exec", router, "nft", "-f", "-", stdin=RULES)
    return lan, wan


def netstackd(world: World, translated: bool, kind: str) -> tuple[str, str]:
    """The same with netstackd, on taps or on veths by packet socket."""
    lan, wan = world.namespace(), world.namespace()
    sides = [lan, wan]
    if kind == "packet":
        for index, (host, device) in enumerate(((lan, "lan0"), (wan, "wan0"))):
            beside = world.namespace()
            world.run(
                "ip", "link", "add", "eth0", "netns", host, "type", "veth", "peer", "name", device, "netns", beside
            )
            world.at(host, "ip", "link", "set", "eth0", "up")
            sides[index] = beside
    more = NAT + FILTER if translated else ""
    world.router(BASE.format(kind=kind, lan=sides[0], wan=sides[1]) + more)
    for host, device, ours in ((lan, "lan0", "10.1.0."), (wan, "wan0", "10.2.0.")):
        name = "eth0" if kind == "packet" else device
        world.host(host, name, f"{ours}2/24", gateways=(f"{ours}1",))
        if kind == "tap":
            world.at(host, "ip", "link", "set", name, "txqueuelen", "1000")
    return lan, wan


def measure(world: World, hosts: tuple[str, str], small: bool, seconds: int) -> float:
    """Gigabits a second, of one TCP stream."""
    lan, wan = hosts
    if small:
        for host in hosts:
            names = world.at(host, "ls", "/sys/class/net").out.split()
            name = next(
                one for one in names if one != "lo" and not one.startswith(("gre", "erspan", "sit", "tunl", "ip"))
            )
            world.at(host, "ethtool", "-K", name, "tso", "off", "gso", "off", "gro", "off")
    server = world.start(wan, "iperf3", "-s", "-1", "-J")
    world.at(lan, "sleep", "0.4")
    out = world.at(lan, "iperf3", "-c", "10.2.0.2", "-t", str(seconds), "-J", timeout=seconds + 20).out
    server.wait(10)
    return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e9


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    makers: dict[str, Callable[[World, bool], tuple[str, str]]] = {
        "kernel": kernel,
        "tap": lambda world, translated: netstackd(world, translated, "tap"),
        "packet": lambda world, translated: netstackd(world, translated, "packet"),
    }
    for small in (False, True):
        for translated in (False, True):
            case = ("1500" if small else "large") + ("-nat" if translated else "-plain")
            if options.only and case not in options.only.split(","):
                continue
            best = dict.fromkeys(makers, 0.0)
            for _ in range(options.repeat):
                for name, make in makers.items():
                    with tempfile.TemporaryDirectory() as path:
                        world = World(Path(path))
                        try:
                            best[name] = max(
                                best[name], measure(world, make(world, translated), small, options.seconds)
                            )
                        finally:
                            world.close()
            base = best["kernel"]
            figures = "  ".join(f"{name} {value:6.2f} ({value / base:4.2f})" for name, value in best.items())
            print(f"{case:12} Gbit/s: {figures}", flush=True)
    print(f"on {os.cpu_count()} processors", flush=True)


if __name__ == "__main__":
    main()
