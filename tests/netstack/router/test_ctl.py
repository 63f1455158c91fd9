"""`netstackd ctl` against a running router: every verb's values, what changes at run time, events, metrics."""

from __future__ import annotations

import json
import re
import select
import subprocess
import time

from tests.netstack.networks import NAT, NETSTACKD, PYTHON, Sides, World, pings, server, wait_until

SETS = """
[filter]
forward = "accept"
[filter.set.bad]
members = ["192.0.2.0/24"]
timeout = "1h"
[[filter.rule]]
name = "bad"
chain = "forward"
to = "@bad"
action = "drop"
"""


def test_sets_routes_and_connections_change_at_run_time(world: World) -> None:
    sides = Sides(world, NAT + SETS)
    router = sides.router
    assert pings(world, sides.lan, "10.2.0.2")
    router.ctl("set", "add", "bad", "10.2.0.2")
    rows = router.json("set", "show", "bad")
    assert {row["member"]: row["left"] is None for row in rows} == {"192.0.2.0/24": True, "10.2.0.2/32": False}
    assert not pings(world, sides.lan, "10.2.0.2")
    router.ctl("set", "del", "bad", "10.2.0.2")
    assert pings(world, sides.lan, "10.2.0.2")
    assert router.ctl("set", "add", "nobody", "10.2.0.2", check=False).status == 1
    router.ctl("route", "add", "10.77.0.0/16", "via", "10.2.0.2", "metric", "7")
    assert any(row["to"] == "10.77.0.0/16" and row["metric"] == 7 for row in router.json("route"))
    router.ctl("route", "del", "10.77.0.0/16")
    assert not any(row["to"] == "10.77.0.0/16" for row in router.json("route"))
    gone = router.ctl("route", "del", "10.77.0.0/16", check=False)
    assert gone.status == 1 and "no route to 10.77.0.0/16" in gone.err
    found = router.json("conn", "--protocol", "icmp", "--address", "10.1.0.2")
    assert found["matching"] >= 1 and found["connections"][0]["packets"][0] >= 1
    assert "forgotten" in router.ctl("conn", "del", "--protocol", "icmp").out
    assert router.json("conn", "--protocol", "icmp")["matching"] == 0


def test_metrics_are_what_prometheus_reads(world: World) -> None:
    sides = Sides(world, NAT)
    pings(world, sides.lan, "10.2.0.2")
    text = sides.router.ctl("metrics").out.strip()
    line = re.compile(r'[a-z_]+(\{[a-z_]+="[^"\n]*"(,[a-z_]+="[^"\n]*")*\})? [0-9.e+]+')
    samples = [one for one in text.splitlines() if not one.startswith("#")]
    assert len(samples) > 200 and all(line.fullmatch(one) for one in samples)
    names = {one.split("{")[0].split(" ")[0] for one in samples}
    kinds = re.findall(r"^# TYPE (\S+) (counter|gauge)$", text, re.MULTILINE)
    assert {name for name, _ in kinds} >= names and all(
        name.endswith("_total") for name, kind in kinds if kind == "counter"
    )
    received = re.search(r'netstackd_link_rx_packets_total\{interface="lan"\} (\d+)', text)
    assert received is not None and int(received.group(1)) > 0


def test_events_tell_of_connections_as_they_begin_and_end(world: World) -> None:
    sides = Sides(world, NAT)
    watcher = world.start(None, *NETSTACKD, "ctl", "--socket", sides.router.socket, "events")
    assert watcher.stdout is not None
    server(world, sides.wan, "echo", "7000")

    def ask() -> bool:
        world.at(sides.lan, *PYTHON, "ask", "10.2.0.2", "7000", "x", check=False)
        return sides.router.json("status")["connections"] > 0

    assert wait_until(ask)
    sides.router.ctl("conn", "del", "--protocol", "udp")
    seen: list[str] = []
    for _ in range(40):
        ask()
        sides.router.ctl("conn", "del", "--protocol", "udp")
        event = json.loads(watcher.stdout.readline())
        seen.append(event["event"])
        if {"connection-new", "connection-destroy"} <= set(seen):
            break
    assert event["protocol"] == "udp" and "10.1.0.2" in event["original"]
    assert {"connection-new", "connection-destroy"} <= set(seen)


def test_events_tell_of_interfaces_addresses_routes_neighbours_and_reloads(world: World) -> None:
    sides = Sides(world)
    watchers = [world.start(None, *NETSTACKD, "ctl", "--socket", sides.router.socket, "events") for _ in range(2)]
    third = world.namespace()
    more = f'\n[[interface]]\nname = "dmz"\ndevice = "dmz0"\nnetns = "{third}"\naddresses = ["10.3.0.1/24"]\n'
    sides.router.write(sides.base + more)

    def until(watcher: subprocess.Popen[str], *wanted: str) -> dict[str, dict[str, object]]:
        """The last event of each kind, when all of `wanted` have come."""
        assert watcher.stdout is not None
        seen: dict[str, dict[str, object]] = {}
        while not set(wanted) <= set(seen):
            event = json.loads(watcher.stdout.readline())
            seen[event["event"]] = event
        return seen

    def both_watch() -> bool:
        sides.router.ctl("route", "add", "10.55.0.0/16", "via", "10.2.0.2")
        sides.router.ctl("route", "del", "10.55.0.0/16")
        return all(select.select([watcher.stdout], [], [], 0.2)[0] for watcher in watchers)

    assert wait_until(both_watch, 20)
    seen = until(watchers[0], "route-gone")
    assert seen["route-gone"]["to"] == "10.55.0.0/16" and seen["route-gone"]["via"] == "10.2.0.2"
    sides.router.ctl("reload")
    seen = until(watchers[0], "configured")
    assert seen["interface"]["interface"] == "dmz" and seen["address"]["address"] == "10.3.0.1/24"
    assert seen["address"]["level"] == "debug" and abs(float(str(seen["address"]["time"])) - time.time()) < 60
    world.host(third, "dmz0", "10.3.0.2/24", gateways=("10.3.0.1",))
    assert pings(world, third, "10.3.0.1")
    seen = until(watchers[0], "neighbour")
    assert seen["neighbour"]["mac"]
    watchers[0].terminate()
    watchers[0].wait(5)
    sides.router.write(sides.base)
    sides.router.ctl("reload")
    seen = until(watchers[1], "interface-gone", "address-gone")  # it goes on without the other
    assert seen["interface-gone"]["interface"] == "dmz"
    watchers[1].terminate()
    watchers[1].wait(5)
    assert sides.router.json("status")["interfaces"] == 2


def test_logged_packets_and_json_log_lines(world: World) -> None:
    rule = '\n[filter]\n[[filter.rule]]\nchain = "forward"\nprotocol = "udp"\nport = 9\nlog = "nine"\naction = "drop"\n'
    sides = Sides(world, rule, flags=("--log-format", "json"))
    for _ in range(3):
        world.at(sides.lan, *PYTHON, "ask", "10.2.0.2", "9", "x", check=False)
    lines = [json.loads(line) for line in sides.router.log().splitlines()]
    packets = [line for line in lines if line["event"] == "packet"]
    assert len(packets) == 3 and packets[0]["prefix"] == "nine" and packets[0]["dst"] == "10.2.0.2"
    assert lines[0]["event"] == "ready" and lines[0]["level"] == "info"


def test_tables_are_for_people_and_json_for_programs(world: World) -> None:
    sides = Sides(world, NAT)
    pings(world, sides.lan, "10.2.0.2")
    shown = sides.router.ctl("neigh").out.splitlines()
    assert shown[0].split() == ["ADDRESS", "INTERFACE", "MAC", "STATE"]
    assert any(line.startswith("10.2.0.2 ") and "reachable" in line for line in shown)
    assert "1 sent, 1 received, 0% lost" in sides.router.ctl("ping", "-c", "1", "10.1.0.2").out
    nobody = sides.router.ctl("ping", "-c", "1", "-W", "0.3", "10.1.0.99", check=False)
    assert nobody.status == 1 and "100% lost" in nobody.out
    answer = sides.router.json("why", "udp", "10.1.0.2:5", ">", "10.2.0.2:53", "in", "lan")
    assert answer["steps"][-1] == "source becomes 10.2.0.1" and answer["verdict"].startswith("accept")


def test_traceroute_names_who_passes_packets_on(world: World) -> None:
    """lan's host is a router itself, to a host behind it."""
    sides = Sides(world)
    inner = world.namespace()
    world.run("ip", "link", "add", "in0", "netns", sides.lan, "type", "veth", "peer", "name", "eth0", "netns", inner)
    world.host(sides.lan, "in0", "10.9.0.1/24", "fd09::1/64")
    world.host(inner, "eth0", "10.9.0.2/24", "fd09::2/64")
    for namespace, device in ((sides.lan, "in0"), (inner, "eth0")):
        world.at(namespace, "ip", "link", "set", device, "up")
    for family, gateway in (("-4", "10.9.0.1"), ("-6", "fd09::1")):
        world.at(inner, "ip", family, "route", "add", "default", "via", gateway)
    world.at(sides.lan, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for to, via, last, nobody in (
        ("10.9.0.0/24", "10.1.0.2", "10.9.0.2", "10.9.0.77"),
        ("fd09::/64", "fd01::2", "fd09::2", "fd09::77"),
    ):
        sides.router.ctl("route", "add", to, "via", via)
        assert wait_until(lambda last=last: pings(world, sides.lan, last))
        found = sides.router.json("traceroute", last, "-q", "2")
        assert found["reached"] and [row["from"] for row in found["hops"]] == [[via], [last]]
        assert all(len(row["times"]) == 2 and None not in row["times"] for row in found["hops"])
        lost = sides.router.ctl("--json", "traceroute", nobody, "-q", "1", "-m", "3", "-W", "4", check=False)
        hops = json.loads(lost.out)["hops"]
        assert lost.status == 1 and hops[0]["from"] == [via] and len(hops) == 2 and "type" in hops[1]["error"]
    shown = sides.router.ctl("traceroute", "10.9.0.2").out.splitlines()
    assert shown[0].startswith(" 1 10.1.0.2  ") and shown[-1] == "reached"
    assert sides.router.ctl("traceroute", "10.9.0.2", "-m", "0", check=False).status == 1


def test_sockets_of_the_router_are_listed_with_their_queues(world: World) -> None:
    sides = Sides(world, '\n[[dhcp_server]]\ninterface = "lan"\npool = "10.1.0.100-10.1.0.109"\n')
    rows = sides.router.json("ss")
    assert [(row["protocol"], row["local"], row["interface"], row["recv_q"]) for row in rows] == [
        ("udp", "0.0.0.0:67", "lan", 0)
    ]
    assert sides.router.ctl("ss").out.splitlines()[0].split()[:4] == ["PROTOCOL", "RECV", "Q", "SEND"]


def test_flags_alone_and_the_configuration_they_mean(world: World) -> None:
    lan, wan = world.namespace(), world.namespace()
    flags = ("--tap", f"l0@{lan}", "--address", "10.1.0.1/24", "--tap", f"w0@{wan}", "--address", "10.2.0.1/24")
    more = ("--masquerade", "w0", "--route", "default via 10.2.0.2")
    text = world.run(*NETSTACKD, *flags, *more, "--print-config").out
    file = world.path / "flags.toml"
    file.write_text(text)
    assert "good: 2 interfaces, 1 routes" in world.run(*NETSTACKD, "check", str(file)).out
    process = world.start(None, *NETSTACKD, *flags, *more, stderr=subprocess.DEVNULL)
    assert wait_until(lambda: "l0" in world.at(lan, "ip", "link").out, 20)
    world.host(lan, "l0", "10.1.0.2/24", gateways=("10.1.0.1",))
    world.host(wan, "w0", "10.2.0.2/24")
    assert wait_until(lambda: pings(world, lan, "10.2.0.2"), 20)
    process.terminate()
    assert process.wait(5) == 0
