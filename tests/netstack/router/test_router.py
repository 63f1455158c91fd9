"""A router between two hosts whose kernels are the oracle: forwarding, translation, filter, MTU, reload, restart."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.netstack.networks import FILTER, NAT, PYTHON, Held, Sides, World, pings, server, wait_until


def test_hosts_reach_the_router_and_each_other_over_both_families(world: World) -> None:
    sides = Sides(world)
    sides.add_wan_route()
    for address in ("10.1.0.1", "10.2.0.2", "fd01::1", "fd02::2"):
        assert pings(world, sides.lan, address), address
    assert pings(world, sides.wan, "10.1.0.2") and pings(world, sides.wan, "fd01::2")
    out = world.at(sides.lan, "ping", "-c", "1", "10.2.0.2").out
    assert "ttl=63" in out


@pytest.mark.parametrize("address", ["10.2.0.2", "fd02::2"])
def test_tcp_arrives_whole_through_translation_and_filter(world: World, address: str) -> None:
    sides = Sides(world, NAT + FILTER)
    server(world, sides.wan, "serve", "7000")
    world.at(sides.lan, *PYTHON, "send", address, "7000", "10000000", "1")


def test_translation_shows_the_routers_address_outside(world: World) -> None:
    sides = Sides(world, NAT)
    server(world, sides.wan, "echo", "7000")
    assert world.at(sides.lan, *PYTHON, "ask", "10.2.0.2", "7000", "hello").out.split()[0].startswith("10.2.0.1:")
    assert world.at(sides.lan, *PYTHON, "ask", "fd02::2", "7000", "hello").out.startswith("fd01::2:")
    rows = sides.router.json("conn", "--protocol", "udp")["connections"]
    assert any(row["reply"].endswith(row["original"].split(" ")[0].split(":")[1]) for row in rows)


def test_the_filter_lets_out_and_not_in_and_counts(world: World) -> None:
    sides = Sides(world, NAT + FILTER)
    sides.add_wan_route()
    assert pings(world, sides.lan, "10.2.0.2") and pings(world, sides.wan, "10.2.0.1")
    assert not pings(world, sides.wan, "10.1.0.2")
    server(world, sides.lan, "echo", "7000")
    assert world.at(sides.wan, *PYTHON, "ask", "10.1.0.2", "7000", "x", check=False).status == 1
    rows = {(row["chain"], row["name"]): row["packets"] for row in sides.router.json("filter")}
    assert rows["forward", "out"] >= 1 and rows["forward", ""] >= 2 and rows["forward", "established"] >= 1
    assert sides.router.json("stats", "DropFilterPolicy")["DropFilterPolicy"] >= 2


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("tcp-reset", "ConnectionRefusedError"),
        ("port-unreachable", "ConnectionRefusedError"),
        ("host-unreachable", "No route"),
    ],
)
def test_a_reject_tells_the_sender_as_it_says(world: World, how: str, expected: str) -> None:
    rule = f'chain = "forward"\nprotocol = "tcp"\nport = 7000\naction = "reject"\nreject_with = "{how}"\n'
    sides = Sides(world, "\n[filter]\n[[filter.rule]]\n" + rule)
    sides.add_wan_route()
    for address in ("10.2.0.2", "fd02::2"):
        began = time.monotonic()
        done = world.at(sides.lan, *PYTHON, "send", address, "7000", "10", "1", check=False)
        assert done.status == 1 and expected in done.err, done.err
        assert time.monotonic() - began < 5


def test_forwarded_ports_reach_inside_and_hairpin_too(world: World) -> None:
    forwards = """
[[forward]]
in = "wan"
protocol = ["tcp", "udp"]
port = "8000-8010"
to = "10.1.0.2:7000"
hairpin = true
"""
    sides = Sides(world, NAT + forwards)
    server(world, sides.lan, "echo", "7003")
    answer = world.at(sides.wan, *PYTHON, "ask", "10.2.0.1", "8003", "hi").out
    assert answer.startswith("10.2.0.2:") and answer.strip().endswith("hi")
    server(world, sides.lan, "serve", "7004")
    world.at(sides.wan, *PYTHON, "send", "10.2.0.1", "8004", "3000000", "2")
    # from inside by the outer address: the server sees the router, and answers come back
    answer = world.at(sides.lan, *PYTHON, "ask", "10.2.0.1", "8003", "again").out
    assert answer.startswith("10.1.0.1:") and answer.strip().endswith("again")


def test_a_smaller_mtu_beyond_is_found_by_path_mtu_discovery(world: World) -> None:
    sides = Sides(world, NAT, wan_mtu=1300)
    world.at(sides.wan, "ip", "link", "set", "wan0", "mtu", "1500")  # so that the far end announces full segments
    for port, address in enumerate(("10.2.0.2", "fd02::2"), 7000):
        server(world, sides.wan, "serve", str(port))
        world.at(sides.lan, *PYTHON, "send", address, str(port), "2000000", "3")
    assert "mtu 1300" in world.at(sides.lan, "ip", "route", "get", "10.2.0.2").out
    # what may not be fragmented is refused with the size that fits; what may is
    refused = world.at(sides.lan, "ping", "-c", "1", "-M", "do", "-s", "1400", "10.2.0.2", check=False)
    assert refused.status == 1 and "mtu" in (refused.out + refused.err).lower()
    assert pings(world, sides.lan, "10.2.0.2", "-M", "dont", "-s", "1400")


def test_mss_is_clamped_to_the_way_out(world: World) -> None:
    sides = Sides(world, NAT + "\n[filter]\nmss_clamp = true\n", wan_mtu=1300)
    world.at(sides.wan, "ip", "link", "set", "wan0", "mtu", "1500")
    server(world, sides.wan, "lines", "7000")
    Held(world, sides.lan, "10.2.0.2", 7000)
    info = world.at(sides.wan, "ss", "-tin", "sport", "=", ":7000").out
    assert "mss:1248" in info, info  # 1300 - 40 - 12 for timestamps


def test_ipv6_is_masqueraded_behind_the_routers_address(world: World) -> None:
    sides = Sides(world, '\n[nat]\nmasquerade6 = "wan"\n' + FILTER)
    world.at(sides.wan, "ip", "-6", "route", "del", "default")  # nothing leads back but to the router itself
    server(world, sides.wan, "echo", "7000")
    assert world.at(sides.lan, *PYTHON, "ask", "fd02::2", "7000", "hello").out.startswith("fd02::1:")
    server(world, sides.wan, "serve", "7001")
    world.at(sides.lan, *PYTHON, "send", "fd02::2", "7001", "3000000", "1")
    assert pings(world, sides.lan, "fd02::2") and pings(world, sides.lan, "fd02::2", "-s", "5000")
    # an error about what was translated comes back to who sent it
    refused = world.at(sides.lan, *PYTHON, "ask", "fd02::2", "7002", "x", check=False).out
    assert refused.strip() == "ConnectionRefusedError"


def test_rules_choose_a_table_by_source_and_by_interface(world: World) -> None:
    rules = """
[[route]]
to = "10.99.0.0/16"
via = "10.2.0.2"
table = 100
[[rule]]
from = "10.1.0.0/24"
table = 100
[[rule]]
priority = 900
to = "10.2.0.99"
in = "lan"
type = "prohibit"
"""
    sides = Sides(world, NAT + rules)
    world.at(sides.wan, "ip", "addr", "add", "10.99.0.9/32", "dev", "wan0")
    world.at(sides.wan, "ip", "addr", "add", "10.2.0.99/24", "dev", "wan0")
    assert pings(world, sides.lan, "10.99.0.9")
    assert sides.router.json("ping", "10.2.0.99", "-c", "1")["received"] == 1  # the rule is about what comes from lan
    refused = world.at(sides.lan, "ping", "-c", "1", "-W", "2", "10.2.0.99", check=False)
    assert refused.status == 1 and "filtered" in refused.out.lower()
    nowhere = sides.router.ctl("ping", "-c", "1", "-W", "0.2", "10.99.0.9", check=False)
    assert nowhere.status == 1  # from the router's own address, no rule leads there
    rows = [row for row in sides.router.json("rule") if row["family"] == "ipv4"]
    assert [(row["priority"], row["from"], row["table"]) for row in rows][1:3] == [
        (900, "all", "prohibit"),
        (1001, "10.1.0.0/24", "100"),
    ] or [(row["priority"], row["table"]) for row in rows][1:3] == [(900, "prohibit"), (1000, "100")]
    sides.router.write(sides.base + NAT)
    assert "rule removed" in sides.router.ctl("reload").out
    assert not pings(world, sides.lan, "10.99.0.9") and pings(world, sides.lan, "10.2.0.99")


def test_chains_of_the_users_are_jumped_to_and_shown(world: World) -> None:
    sides = Sides(
        world,
        """
[filter]
forward = "drop"
chains = ["from-lan"]
[[filter.rule]]
name = "lan"
in = "lan"
jump = "from-lan"
[[filter.rule]]
name = "no udp"
chain = "from-lan"
protocol = "udp"
action = "return"
[[filter.rule]]
name = "the rest"
chain = "from-lan"
action = "accept"
""",
    )
    sides.add_wan_route()
    server(world, sides.wan, "echo", "7000")
    assert pings(world, sides.lan, "10.2.0.2")
    assert world.at(sides.lan, *PYTHON, "ask", "10.2.0.2", "7000", "x", check=False).status == 1
    rows = {(row["chain"], row["name"]): row for row in sides.router.json("filter")}
    assert rows["from-lan", "the rest"]["packets"] >= 1 and rows["from-lan", "no udp"]["packets"] == 1
    assert rows["from-lan", ""]["action"] == "return"
    said = sides.router.json("why", "tcp", "10.1.0.2:5", ">", "10.2.0.2:80", "in", "lan")["verdict"]
    assert said == "accept by from-lan rule 2 (the rest)"


def test_fragments_pass_through_translation(world: World) -> None:
    sides = Sides(world, NAT)
    assert pings(world, sides.lan, "10.2.0.2", "-s", "20000")
    server(world, sides.wan, "echo", "7000")
    answer = world.at(sides.lan, *PYTHON, "ask", "10.2.0.2", "7000", "x" * 9000).out
    assert answer.strip().endswith("x" * 9000)


def test_ipv6_fragments_pass_through_translation(world: World) -> None:
    sides = Sides(world, NAT)
    assert pings(world, sides.lan, "fd02::2", "-s", "20000")


def test_traceroute_sees_the_router_with_and_without_translation(world: World) -> None:
    sides = Sides(world, NAT)
    for address in ("10.2.0.2", "fd02::2"):
        out = world.at(sides.lan, "ping", "-c", "1", "-t", "1", address, check=False).out
        assert ("10.1.0.1" if "." in address else "fd01::1") in out and "exceeded" in out.lower()


def test_a_reload_changes_rules_and_routes_and_keeps_a_connection(world: World) -> None:
    sides = Sides(world, NAT + FILTER)
    server(world, sides.wan, "lines", "7000")
    say = Held(world, sides.lan, "10.2.0.2", 7000).say
    assert say("one") == "10.2.0.1 one"
    blocked = FILTER.replace('in = "lan"\naction = "accept"', 'in = "lan"\nprotocol = "udp"\naction = "accept"')
    sides.router.write(sides.base + NAT + blocked + '\n[[route]]\nto = "10.9.0.0/16"\nvia = "10.2.0.2"\n')
    diff = world.run(
        sys.executable,
        "-P",
        "-m",
        "services.netstackd",
        "diff",
        str(sides.router.file),
        "--socket",
        sides.router.socket,
        check=False,
    )
    assert (
        diff.status == 3 and "+ route 10.9.0.0/16 via 10.2.0.2" in diff.out and "~ filter rule forward/out" in diff.out
    )
    os.kill(sides.router.process.pid, signal.SIGHUP)
    assert wait_until(lambda: "reloaded" in sides.router.log()), sides.router.log()
    assert say("two") == "10.2.0.1 two"
    assert any(row["to"] == "10.9.0.0/16" for row in sides.router.json("route"))
    refused = world.at(sides.lan, "timeout", "2", *PYTHON, "send", "10.2.0.2", "7000", "10", "1", check=False)
    assert refused.status != 0  # new ones are filtered now
    sides.router.write("[[interface]]\nname = 3\n")
    failed = sides.router.ctl("reload", check=False)
    assert failed.status == 1 and "interface[0].name" in failed.err
    assert say("three") == "10.2.0.1 three"


def test_a_reload_opens_and_closes_interfaces(world: World) -> None:
    sides = Sides(world)
    third = world.namespace()
    more = f'\n[[interface]]\nname = "dmz"\ndevice = "dmz0"\nnetns = "{third}"\naddresses = ["10.3.0.1/24"]\n'
    sides.router.write(sides.base + more)
    assert "interface dmz added" in sides.router.ctl("reload").out
    world.host(third, "dmz0", "10.3.0.2/24", gateways=("10.3.0.1",))
    assert pings(world, sides.lan, "10.3.0.2")
    sides.router.write(sides.base.replace("10.1.0.1/24", "10.1.0.9/24"))
    out = sides.router.ctl("reload").out
    assert "interface dmz removed" in out and "interface lan changed" in out
    assert pings(world, sides.lan, "10.1.0.9") and not pings(world, sides.lan, "10.1.0.1")
    assert "dmz0" not in world.at(third, "ip", "link").out
    sides.router.write(sides.base.replace('device = "lan0"', 'device = "lan0"\nmtu = 1400'))
    sides.router.ctl("reload")
    assert "mtu 1400" in world.at(sides.lan, "ip", "link", "show", "lan0").out
    assert pings(world, sides.lan, "10.1.0.1")


def test_killed_it_is_back_within_a_second_with_its_links(world: World) -> None:
    sides = Sides(world, NAT)
    assert pings(world, sides.lan, "10.2.0.2")
    before = sides.router.child()
    os.kill(before, signal.SIGKILL)
    began = time.monotonic()
    done = world.at(sides.lan, "ping", "-c", "30", "-i", "0.05", "-W", "1", "10.2.0.2", check=False)
    assert "bytes from" in done.out
    assert wait_until(lambda: sides.router.child() not in (0, before))
    assert time.monotonic() - began < 10  # within one on a machine that is not busy
    assert sides.router.pid and "router-restarted" in sides.router.log()
    sides.router.process.terminate()
    assert sides.router.process.wait(5) == 0
    assert "lan0" not in world.at(sides.lan, "ip", "link").out


def test_a_killed_keeper_leaves_nothing_and_can_be_started_again(world: World) -> None:
    sides = Sides(world, NAT)
    child = sides.router.child()
    sides.router.process.kill()
    sides.router.process.wait(5)
    assert wait_until(lambda: not Path(f"/proc/{child}").exists())
    assert "lan0" not in world.at(sides.lan, "ip", "link").out
    assert Path(sides.router.socket).exists()  # nobody could remove it
    again = world.router(sides.base + NAT)
    world.host(sides.lan, "lan0", "10.1.0.2/24", gateways=("10.1.0.1",))
    world.host(sides.wan, "wan0", "10.2.0.2/24")
    assert pings(world, sides.lan, "10.2.0.2") and again.json("status")["connections"] == 1


def test_idle_it_uses_no_processor(world: World) -> None:
    sides = Sides(world, NAT)
    pings(world, sides.lan, "10.2.0.2")
    time.sleep(6)  # neighbour probes and multicast reports are over
    child = sides.router.child()

    def ticks() -> int:
        fields = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before, turns = ticks(), sides.router.json("status")["turns"]
    time.sleep(3)
    assert ticks() - before <= 3 and sides.router.json("status")["turns"] - turns < 60
