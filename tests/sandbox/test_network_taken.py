"""A bundle that names a network namespace: what its veth has becomes the sandbox's, over netstackd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.peers import Peer, ip


@pytest.fixture
def namespace() -> Iterator[Any]:
    """The peer of the other tests, but the host is the other machine, and the namespace the sandbox's."""
    made = Peer(8192 + os.getpid() % 8192)
    try:
        made.make()
        ip("-n", made.namespace, "route", "add", "default", "via", made.own)
        yield made
    finally:
        made.close()


def addresses(namespace: Any) -> str:
    shown = subprocess.run(
        ["ip", "-n", namespace.namespace, "-br", "address", "show", "dev", "eth0"], capture_output=True, text=True
    ).stdout
    return shown


def routes(namespace: Any) -> str:
    return subprocess.run(["ip", "-n", namespace.namespace, "route"], capture_output=True, text=True).stdout


def bundle(host: Any, root: Path, namespace: Any, *args: str) -> Path:
    path = host.bundle(root, *args)
    document = json.loads((path / "config.json").read_text())
    document["linux"] = {"namespaces": [{"type": "network", "path": f"/run/netns/{namespace.namespace}"}]}
    (path / "config.json").write_text(json.dumps(document))
    return Path(path)


def test_its_addresses_and_routes_are_the_sandboxs_and_are_given_back(
    host: Any, busybox_root: Path, namespace: Any
) -> None:
    before = addresses(namespace), routes(namespace)
    path = bundle(host, busybox_root, namespace, "sh", "-c", "ip address show dev eth0; cat /proc/net/route")
    done = host("run", "-b", str(path), "c1", status=0)
    assert f"inet {namespace.address}/30" in done.out and f"inet6 {namespace.address6}/64" in done.out, done
    gateway = bytes(map(int, reversed(namespace.own.split(".")))).hex().upper()
    assert f"eth0\t00000000\t{gateway}\t" in done.out, done
    host.assert_nothing_runs()
    after = addresses(namespace), routes(namespace)
    assert namespace.address in after[0] and namespace.address6 in after[0]
    assert after[1] == before[1]


def test_the_host_reaches_a_server_in_it_and_the_other_way(host: Any, busybox_root: Path, namespace: Any) -> None:
    script = f"echo up; echo inside | nc -l -p 7200; echo from inside | nc {namespace.own} 7201; sleep 60"
    path = bundle(host, busybox_root, namespace, "sh", "-c", script)
    process = host.start("run", "-b", str(path), "c2")
    host.wait_for_text(process, "up")
    assert namespace.address not in addresses(namespace)  # the host's kernel answers for nothing of it
    ping = ["ping", "-c", "2", "-W", "10", namespace.address]
    assert subprocess.run(ping, capture_output=True, timeout=60).returncode == 0
    ping6 = ["ping", "-c", "2", "-W", "10", namespace.address6]
    assert subprocess.run(ping6, capture_output=True, timeout=60).returncode == 0
    code = f"""
import socket, time
server = socket.create_server(("{namespace.own}", 7201)); server.settimeout(30)
for turn in range(100):
    try:
        link = socket.create_connection(("{namespace.address}", 7200), 5); break
    except ConnectionRefusedError:
        time.sleep(0.1)
print(link.makefile().readline(), end=""); link.close()
other, where = server.accept()
print(where[0], other.makefile().readline(), end="")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.stdout == f"inside\n{namespace.address} from inside\n", found.stderr
    host("kill", "c2", "KILL")
    host.end(process)
    host.assert_nothing_runs()
    assert namespace.address in addresses(namespace)


def test_a_namespace_that_is_not_there_is_one_line(host: Any, busybox_root: Path, namespace: Any) -> None:
    path = bundle(host, busybox_root, namespace, "true")
    namespace.namespace, kept = "no-such", namespace.namespace
    document = json.loads((path / "config.json").read_text())
    document["linux"]["namespaces"][0]["path"] = "/run/netns/no-such"
    (path / "config.json").write_text(json.dumps(document))
    namespace.namespace = kept
    done = host("run", "-b", str(path), "c3", status=125)
    assert done.said == ["supervisor: config.json: linux.namespaces: /run/netns/no-such: no such file or directory"], (
        done
    )
