"""Leases that outlive a restart: the keeper's file, and the real program stopped, killed and reconfigured; and DHCPv6
with a client of the host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from services.netstackd.edge import lease_file
from services.netstackd.edge.lease_file import LeaseFile
from services.netstackd.edge.log import EventLog
from tests.netstack.networks import Router, World, interface, wait_until

SERVER = """
{lan}
[[dhcp_server]]
interface = "lan"
pool = "192.168.8.100-192.168.8.110"
[[dhcpv6_server]]
interface = "lan"
pool = "fd08::1000-fd08::1fff"
delegate = "fd08:0:0:100::/56"
dns = ["fd08::1"]
domains = ["home.example"]
[dhcp]
leases = "{leases}"
[filter]
input = "drop"
"""
FAR = int(time.time()) + 10_000


class Log(EventLog):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(lambda: 0, "info", "text")
        self.said: list[str] = []

    def event(self, level: str, event: str, **fields: object) -> None:
        self.said.append(event)


def row(address: str = "10.0.0.1", expires: int = FAR, **more: Any) -> dict[str, Any]:
    return {"server": "v4", "interface": "lan", "address": address, "expires": expires, **more}


def test_the_file_is_whole_after_each_change_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "leases.json"
    kept = LeaseFile(str(path), Log())
    kept.merge([[row("10.0.0.1"), row("10.0.0.2")]])
    kept.merge([[row("10.0.0.2", FAR + 5), row("10.0.0.1", 0), row("10.0.0.3", 5)]])
    assert json.loads(path.read_text()) == {"leases": [row("10.0.0.2", FAR + 5)]}
    assert LeaseFile(str(path), Log()).page(0) == [row("10.0.0.2", FAR + 5)]
    assert os.listdir(tmp_path) == ["leases.json"] and path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"leases": 3}', '{"leases": [1, {"server": 2}]}'])
def test_a_file_that_is_none_is_told_and_passed_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "leases.json"
    path.write_text(text)
    log = Log()
    assert LeaseFile(str(path), log).page(0) == []
    assert log.said == ["leases-unreadable"] * (text in ("", "{", "[]"))


def test_what_a_router_sends_is_checked_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_file, "MAX_ROWS", 3)
    kept = LeaseFile("", Log())
    for wrong in ([], [3], [[row(name="x" * 600)]], [[row(more=[1])]], [[{"server": "v4"}]], [[row(expires="9")]]):
        kept.merge(wrong)
    assert kept.page(0) == []
    kept.merge([[row(f"10.0.0.{number}") for number in range(9)]])
    assert len(kept.page(0)) == 3 and len(kept.page(2)) == 1 and kept.page(9) == []


def test_a_directory_that_may_not_be_written_is_told_and_nothing_else_happens(tmp_path: Path) -> None:
    log = Log()
    kept = LeaseFile(str(tmp_path / "nowhere" / "leases"), log)
    kept.merge([[row()]])
    assert log.said == ["leases-not-written"] and kept.page(0) == [row()]


def ask(world: World, lan: str, script: Path) -> None:
    world.at(lan, "busybox", "udhcpc", "-i", "lan0", "-n", "-q", "-f", "-s", str(script), "-T", "1", "-t", "8")


def leased(router: Router) -> dict[str, str]:
    return {one["address"]: one["mac"] for one in router.json("dhcp") if one["state"] == "bound"}


def test_leases_outlive_a_reload_a_kill_and_a_restart(world: World, tmp_path: Path) -> None:
    lan = world.namespace()
    leases, script = tmp_path / "leases.json", tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    text = SERVER.format(lan=interface("lan", lan, "192.168.8.1/24", "fd08::1/64"), leases=leases)
    router = world.router(text)
    ask(world, lan, script)
    given = leased(router)
    assert list(given) == ["192.168.8.100"]
    router.write(text.replace('pool = "192.168.8.100', 'domain = "other"\npool = "192.168.8.100'))
    router.ctl("reload")
    assert leased(router) == given
    assert wait_until(lambda: leases.exists() and "192.168.8.100" in leases.read_text())
    child = router.child()
    os.kill(child, signal.SIGKILL)
    assert wait_until(lambda: router.child() not in (0, child) and leased(router) == given)
    assert router.ctl("stop", check=False).status == 0, router.log()
    router.process.wait(5)
    assert leased(world.router(text)) == given


@pytest.mark.skipif(shutil.which("dhclient") is None, reason="isc-dhcp-client is not installed")
def test_a_client_of_the_host_gets_an_ipv6_address_and_a_prefix(world: World, tmp_path: Path) -> None:
    lan = world.namespace()
    world.at(lan, "sysctl", "-qw", "net.ipv6.conf.default.accept_ra=0")
    link = interface("lan", lan, "192.168.8.1/24", "fd08::1/64")
    router = world.router(SERVER.format(lan=link, leases=tmp_path / "leases.json"))
    assert wait_until(lambda: all(one["state"] == "preferred" for one in router.json("addr")))
    out, script, known = tmp_path / "out", tmp_path / "script", tmp_path / "known"
    script.write_text(f'#!/bin/sh\nenv | grep "^reason\\|^new_" >> {out}\nexit 0\n')
    script.chmod(0o755)
    command = (
        "dhclient",
        "-6",
        "-N",
        "-P",
        "-1",
        "-v",
        "-lf",
        str(known),
        "-pf",
        str(tmp_path / "pid"),
        "-sf",
        str(script),
    )
    try:
        world.at(lan, *command, "lan0", timeout=60)
        said = dict(line.split("=", 1) for line in out.read_text().splitlines() if "=" in line)
        assert said["new_ip6_address"].startswith("fd08::1") and said["new_ip6_prefixlen"]
        assert "fd08:0:0:1" in said["new_ip6_prefix"] and said["new_dhcp6_name_servers"] == "fd08::1"
        assert said["new_dhcp6_domain_search"].rstrip(".") == "home.example"
        rows = {one["address"] for one in router.json("dhcp")}
        assert said["new_ip6_address"] in rows and said["new_ip6_prefix"] in rows
        route = next(one for one in router.json("route") if one["to"] == said["new_ip6_prefix"])
        assert route["protocol"] == "dhcp" and route["via"].startswith("fe80::") and route["interface"] == "lan"
        world.at(lan, *command[:-6], "-r", *command[-6:], "lan0", timeout=60, check=False)  # release
        assert wait_until(lambda: not router.json("dhcp"))
        assert not any(one["to"] == said["new_ip6_prefix"] for one in router.json("route"))
    finally:
        if (tmp_path / "pid").exists():
            pid = int((tmp_path / "pid").read_text() or 0)
            if pid and Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGTERM)
