"""Networks of sandboxes with fake services: options, ports, names, joining, restarts, and that nothing is left."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Lines:
    """The lines that a started command prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def next(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        return ast.literal_eval(line)


@contextmanager
def running(supervisor: Any, *options: str) -> Iterator[tuple[Lines, dict[str, int]]]:
    """`do OPTIONS -- network`, with the pids of its services by name as the start order gives them."""
    process = supervisor.start("do", *options, "--", "network")
    try:
        yield Lines(process), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    supervisor.assert_nothing_runs()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def talk(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), 10) as link:
        return link.makefile().readline()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--network", "bridge"], "--network bridge: expected none, netstack"),
        (["--network", "netstack:"], "--network netstack:: expected"),
        (["--network", "host:x"], "--network host:x: expected"),
        (["-p", "80:80"], "-p 80:80: nothing to publish with --network none (add --network netstack)"),
        (["--network", "host", "-p", "80:80"], "-p 80:80: nothing to publish with --network host"),
        (["--network", "netstack", "-p", "80"], "-p 80: expected [HOSTADDR:]HOSTPORT:PORT"),
        (["--network", "netstack", "-p", "80:80/sctp"], "-p 80:80/sctp: the protocol must be tcp or udp"),
        (["--network", "netstack", "-p", "1-3:1-2"], "-p 1-3:1-2: 3 host ports for 2 ports"),
        (["--network", "netstack", "-p", "80:99999"], "-p 80:99999: a port is from 1 to 65535"),
        (["--network", "netstack", "-p", "80:0"], "-p 80:0: a port is from 1 to 65535"),
        (["--network", "netstack", "-p", "x:80:80"], "-p x:80:80: x is no address of the host"),
        (["--network", "netstack", "-p", "9.9.9.9:8:80"], "-p 9.9.9.9:8:80: 9.9.9.9 port 8/tcp: cannot assign"),
        (["--network-name", "a/b"], "--network-name a/b: expected letters"),
        (["--network", "host", "--network-name", "a"], "--network-name a: a network of host has no name"),
        (["--network", "netstack:/no/such"], "network /no/such: no such file or directory"),
        (["--hostname", "a b"], "--hostname a b: expected letters"),
    ],
)
def test_a_wrong_option_is_one_line(supervisor: Any, options: list[str], says: str) -> None:
    done = supervisor("do", *options, "--", "true", status=125)
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(f"supervisor: {says}"), done.stderr
    supervisor.assert_nothing_runs()


def test_a_port_in_use_is_said_before_anything_starts(supervisor: Any) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        done = supervisor("do", "--network", "netstack", "-p", f"{port}:80", "--", "echo", "ran", status=125)
    assert done.stdout == ""
    assert done.stderr == (
        f"supervisor: -p {port}:80: 0.0.0.0 port {port}/tcp: address already in use "
        "(something else listens there: choose another port)\n"
    )


def test_without_a_network_nothing_of_it_is_imported(supervisor: Any) -> None:
    code = (
        "import sys; sys.argv = ['supervisor', 'do', '--', 'true']\n"
        "import os; leave, os._exit = os._exit, lambda status: (print(*sys.modules, flush=True), leave(status))\n"
        "from services.supervisor.cli import main; from services.supervisor.launch.plan import ServiceModules as M\n"
        "main(None, M('services.supervisor.testing.fake_sentry', 'services.supervisor.testing.fake_gofer'))"
    )
    command = [*supervisor.prefix, "-c", code]
    done = subprocess.run(command, env=supervisor.environment, capture_output=True, text=True, check=True, cwd="/")
    modules = done.stdout.split()
    assert "services.supervisor.monitor.monitor" in modules
    assert [name for name in modules if "network" in name or "netstack" in name or "hostnet" in name] == []


def test_a_private_network_serves_the_sentry_and_publishes(any_host: Any) -> None:
    port = free_port()
    options = ["--network", "netstack", "--hostname", "web", "-p", f"127.0.0.1:{port}:80"]
    with running(any_host, *options) as (lines, _):
        said = lines.next()
        assert said["hello"] == {"version": 1, "namespace": "web"}
        files = dict(said["files"])
        assert b"10.0.2.15\tweb\n" in files[b"/etc/hosts"] and b"127.0.0.1\tlocalhost\n" in files[b"/etc/hosts"]
        assert files[b"/etc/hostname"] == b"web\n" and files[b"/etc/resolv.conf"] == b"nameserver 10.0.2.3\n"
        assert talk(port) == "web:80/tcp\n"
    with pytest.raises(ConnectionRefusedError):
        talk(port)


def test_a_port_that_netstackd_refuses_ends_the_start(supervisor: Any) -> None:
    done = supervisor("do", "--network", "netstack", "-p", f"{free_port()}:666", "--", "echo", "ran", status=125)
    assert done.stdout == "" and "port 666 is the fake's" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    supervisor.assert_nothing_runs()


def test_files_that_a_volume_mounts_are_left_alone(supervisor: Any) -> None:
    config = supervisor.literal("do", "--network", "netstack", "-v", "/etc/hosts:/etc/hosts", "--", "config")
    assert [path for path, _ in config["files"]] == [b"/etc/hostname", b"/etc/resolv.conf"]
    assert config["network"] == "netstack"
    assert supervisor.literal("do", "--", "config")["files"] == []
    host = supervisor.literal("do", "--network", "host", "--", "config")
    assert (host["files"], host["network"]) == ([], "host")


def test_a_killed_netstackd_is_started_again_and_the_sentry_is_told(any_host: Any) -> None:
    port = free_port()
    with running(any_host, "--network", "netstack", "-p", f"{port}:80") as (lines, process):
        first = lines.next()
        for turn in range(3):
            # Sentry, Gofer, netstackd, its connector; a warden where the host refuses namespaces; and what came later.
            os.kill(any_host.children(process.pid)[-2 if turn else 2], signal.SIGKILL)
            again = lines.next()
            assert again["hello"] == first["hello"]
            assert talk(port).endswith(":80/tcp\n")
            any_host.wait_until(lambda: len(any_host.children(process.pid)) == 4 + (any_host.kind == "refused"), "4")


def test_a_netstackd_that_ends_all_the_time_is_given_up(supervisor: Any) -> None:
    process = supervisor.start("do", "--network", "netstack", "--", "network")
    lines = Lines(process)
    lines.next()
    for turn in range(6):
        os.kill(supervisor.children(process.pid)[2], signal.SIGKILL)
        if turn < 5:
            lines.next()
    supervisor.wait_until(lambda: len(supervisor.children(process.pid)) == 2, "the network is given up")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert "too often: the sandbox goes on without it" in errors.splitlines()[-1]
    assert process.returncode == 15 + 128
    supervisor.assert_nothing_runs()


def test_nothing_outlives_a_killed_monitor(any_host: Any) -> None:
    process = any_host.start("do", "--network", "netstack", "-p", f"{free_port()}:80", "--", "network")
    Lines(process).next()
    process.kill()
    process.communicate(timeout=30)
    any_host.assert_nothing_runs()


def test_the_brokers_process_is_started_again(any_host: Any) -> None:
    with running(any_host, "--network", "host") as (lines, process):
        first = lines.next()
        assert first["hello"]["namespace"] == "host" and first["files"] == []
        assert {name for _, name in socket.if_nameindex()} == set(first["network"]["interfaces"])
        os.kill(any_host.children(process.pid)[2], signal.SIGKILL)
        assert lines.next()["hello"] == first["hello"]


def test_sandboxes_of_a_name_share_a_network_that_ends_with_the_last(any_host: Any) -> None:
    state = any_host.state / any_host.token / ".networks"
    port = free_port()
    with running(any_host, "--network-name", "lan", "--hostname", "a", "-p", f"{port}:80") as (lines, _):
        first = lines.next()
        assert first["hello"]["namespace"] == "a"
        assert b"10.0.2.15\ta\n" in dict(first["files"])[b"/etc/hosts"]
        assert talk(port) == "a:80/tcp\n"
        second = any_host.start("do", "--network-name", "lan", "--hostname", "b", "--", "network")
        said = Lines(second).next()
        assert said["network"]["pid"] == first["network"]["pid"]
        assert b"10.0.2.16\tb\n" in dict(said["files"])[b"/etc/hosts"]
        clash = any_host("do", "--network-name", "lan", "--hostname", "b", "--", "true", status=125)
        assert "there is one of this name already (--hostname gives it another name)" in clash.stderr
        second.kill()
        second.communicate(timeout=30)
        assert talk(port) == "a:80/tcp\n"
        assert os.listdir(state) == ["lan"]
    assert os.listdir(state) == []


def keeper_of(any_host: Any, netstackd: int) -> int:
    return int(Path(f"/proc/{netstackd}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("victim", ["netstackd", "keeper"])
def test_members_of_a_shared_network_join_again(supervisor: Any, victim: str) -> None:
    port = free_port()
    with running(supervisor, "--network-name", "lan", "--hostname", "a", "-p", f"{port}:80") as (lines, one):
        lines.next()
        other = supervisor.start("do", "--network-name", "lan", "--hostname", "b", "--", "network")
        others = Lines(other)
        others.next()
        family = set(supervisor.processes())
        for pid in (one.pid, other.pid):
            family -= {pid, *supervisor.children(pid)}
        keepers = [pid for pid in family if supervisor.children(pid)]
        assert len(keepers) == 1 and len(family) == 3, family
        os.kill(keepers[0] if victim == "keeper" else supervisor.children(keepers[0])[0], signal.SIGKILL)
        assert lines.next()["hello"]["namespace"] == "a" and others.next()["hello"]["namespace"] == "b"
        assert talk(port) == "a:80/tcp\n"
        other.send_signal(signal.SIGTERM)
        other.communicate(timeout=30)


def test_a_bundle_asks_by_annotation_or_option(supervisor: Any) -> None:
    bundle = supervisor.bundle("config")
    text = (bundle / "config.json").read_text()
    port = free_port()
    notes = f'"annotations": {{"io.sentrio.network": "netstack", "io.sentrio.network.publish": "{port}:80/udp"}}'
    (bundle / "config.json").write_text(text[:-1] + ", " + notes + "}")
    config = ast.literal_eval(supervisor("run", "-b", str(bundle), "c1").stdout)
    assert config["network"] == "netstack" and b"10.0.2.15\tc1\n" in dict(config["files"])[b"/etc/hosts"]
    config = ast.literal_eval(supervisor("run", "--network", "host", "-b", str(bundle), "c2").stdout)
    assert config["network"] == "host"
    config = ast.literal_eval(supervisor("up", "--network", "none", str(bundle)).stdout)
    assert (config["network"], config["files"]) == ("none", [])


def test_a_created_container_has_its_network_and_its_state_is_true(supervisor: Any) -> None:
    bundle = supervisor.bundle("network")
    port = free_port()
    supervisor("create", "--network", "netstack", "-p", f"{port}:80", "--bundle", str(bundle), "box")
    assert talk(port) == "box:80/tcp\n"
    assert supervisor.listed() == {"box": "created"}
    supervisor("start", "box")
    supervisor("kill", "box", "KILL")
    supervisor("delete", "--force", "box")
    supervisor.assert_nothing_runs()
