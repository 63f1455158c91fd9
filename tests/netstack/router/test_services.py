"""The router's services with the host's own clients: DHCP, router advertisements; and netstackd as its own client."""

from __future__ import annotations

from pathlib import Path

from tests.netstack.networks import FORWARDING, Sides, World, interface, wait_until

SCRIPT = """#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr replace $ip/$mask dev $interface
ip route replace default via $router
echo "$ip/$mask $router $dns $domain" > {out}
"""

SERVED = """
[[dhcp_server]]
interface = "lan"
pool = "192.168.8.100-192.168.8.110"
dns = ["192.168.8.1"]
domain = "home.example"
[[router_advertisement]]
interface = "lan"
dns = ["fd08::1"]
[filter]
input = "drop"
"""


def test_a_host_configures_itself_by_dhcp_and_router_advertisements(world: World, tmp_path: Path) -> None:
    lan = world.namespace()
    world.at(lan, "sysctl", "-qw", "net.ipv6.conf.default.accept_ra=2", "net.ipv6.conf.default.router_solicitations=3")
    router = world.router(FORWARDING + interface("lan", lan, "192.168.8.1/24", "fd08::1/64") + SERVED)
    out, script = tmp_path / "lease", tmp_path / "script"
    script.write_text(SCRIPT.format(out=out))
    script.chmod(0o755)
    world.at(lan, "busybox", "udhcpc", "-i", "lan0", "-n", "-q", "-f", "-s", str(script), "-T", "1", "-t", "8")
    assert out.read_text().split() == ["192.168.8.100/24", "192.168.8.1", "192.168.8.1", "home.example"]
    rows = router.json("dhcp")
    assert rows[0]["address"] == "192.168.8.100" and rows[0]["state"] == "bound" and rows[0]["left"] > 40_000
    # the same client comes back to the same address
    world.at(lan, "busybox", "udhcpc", "-i", "lan0", "-n", "-q", "-f", "-s", str(script), "-T", "1", "-t", "8")
    assert len(router.json("dhcp")) == 1

    def configured() -> bool:
        addresses = world.at(lan, "ip", "-6", "addr", "show", "dev", "lan0", "scope", "global").out
        return "fd08:" in addresses and "default via fe80" in world.at(lan, "ip", "-6", "route").out

    assert wait_until(configured, 20), world.at(lan, "ip", "-6", "route").out


def test_netstackd_is_a_dhcp_client_of_netstackd_over_a_unix_socket(world: World, tmp_path: Path) -> None:
    path = tmp_path / "wire.sock"
    link = f'kind = "unix"\nframing = "seqpacket"\nvnet = true\npath = "{path}"\n'
    world.router(
        f'[[interface]]\nname = "lan"\n{link}listen = true\naddresses = ["192.168.8.1/24"]\n'
        '[[dhcp_server]]\ninterface = "lan"\npool = "192.168.8.50-192.168.8.60"\nlease = "2m"\n',
        name="server",
    )
    client = world.router(
        f'[[interface]]\nname = "wan"\n{link}dhcp = true\n[filter]\ninput = "drop"\n'
        '[[route]]\nto = "10.0.0.0/8"\nvia = "192.168.8.1"\n',
        name="client",
    )
    leased = wait_until(lambda: [row for row in client.json("addr") if row["origin"] == "dhcp"], 20)
    assert leased and leased[0]["address"] == "192.168.8.50/24" and leased[0]["valid"] <= 120
    routes = {row["to"]: row for row in client.json("route")}
    assert routes["default"]["via"] == "192.168.8.1" and routes["default"]["protocol"] == "dhcp"
    assert routes["10.0.0.0/8"]["interface"] == "wan"  # it had no link before the lease
    assert client.json("ping", "192.168.8.1", "-c", "2", "-i", "0.1")["received"] == 2
    client.process.terminate()
    assert client.process.wait(5) == 0


def test_a_leased_address_is_masqueraded_behind(world: World) -> None:
    sides = Sides(world, '\n[nat]\nmasquerade = "wan"\n')
    answer = sides.router.json("ping", "10.2.0.2", "-c", "2", "-i", "0.1")
    assert answer["received"] == 2 and all(0 < took < 1000 for took in answer["times"])
