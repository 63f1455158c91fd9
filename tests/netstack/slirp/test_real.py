"""The preset slirp as an ordinary user runs it, with real sockets of the host outside and two kinds of guests inside:
a stack of ours at a unix link, and the host's kernel in namespaces of its own, at a tap that it made itself."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.sockets import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, TcpSocket, UdpSocket, open_socket
from services.netstackd.transport.base import SHUT_WR
from services.netstackd.transport.tcp import states
from tests.netstack.networks import NETSTACKD, World, wait_until
from tests.netstack.slirp.conftest import OUTSIDE, OUTSIDE6, Guest, Slirp, as_user, enter, make_host, slirp_python
from tests.netstack.unit.hosts import ip
from tests.ordinary_user import USER

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")
pytestmark = needs_root


def connect(guest: Guest, address: str, port: int) -> TcpSocket:
    """A connection from our stack; NetError when it does not come about."""
    socket = open_socket(guest.stack, AF_INET6 if ":" in address else AF_INET, SOCK_STREAM)
    assert isinstance(socket, TcpSocket)
    with pytest.raises(NetError) as progress:
        socket.connect((ip(address), port, 0))
    assert progress.value.errno == errno.EINPROGRESS
    endpoint = socket.endpoint
    assert endpoint is not None
    guest.until(lambda: endpoint.state != states.SYN_SENT)
    number = socket.take_error()
    if number:
        raise NetError(number, "connect")
    return socket


def exchange(guest: Guest, socket: TcpSocket, data: bytes) -> bytes:
    """Send everything and a FIN, read to the end."""
    sent, got, ended = 0, bytearray(), False

    def step() -> bool:
        nonlocal sent, ended
        try:
            while sent < len(data):
                sent += socket.send(data[sent : sent + 65536])
            if not ended:
                ended = True
                socket.shutdown(SHUT_WR)
        except WouldBlock:
            pass
        try:
            while True:
                part = socket.receive(65536)
                if not part:
                    return True
                got.extend(part)
        except WouldBlock:
            return False

    guest.until(step, 30)
    return bytes(got)


ECHO = """
import socket, sys, threading
def one(sock):
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    sock.close()
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
udp = socket.socket(server.family, socket.SOCK_DGRAM)
udp.bind((sys.argv[1], int(sys.argv[2])))
def datagrams():
    while True:
        data, peer = udp.recvfrom(65536)
        udp.sendto(data.upper(), peer)
threading.Thread(target=datagrams, daemon=True).start()
print("ready", flush=True)
while True:
    threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()
"""


def echo_server(world: World, namespace: str, address: str, port: int = 7000) -> None:
    process = world.start(namespace, sys.executable, "-c", ECHO, address, str(port))
    assert process.stdout is not None and process.stdout.readline() == "ready\n"


def test_guest_of_ours_by_dhcp_and_advertisements(world: World) -> None:
    slirp = Slirp(world, world.path)
    for address in (OUTSIDE, OUTSIDE6, "127.0.0.1"):
        echo_server(world, slirp.host, address)
    guest = Guest(slirp.link)
    lease = slirp.json("dhcp")[0]
    assert lease["address"].startswith("10.0.2.1") and lease["state"] == "bound"
    data = os.urandom(3_000_000)
    for address in (OUTSIDE, OUTSIDE6):
        got = exchange(guest, connect(guest, address, 7000), data)
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    with pytest.raises(NetError) as refused:
        connect(guest, OUTSIDE, 7001)
    assert refused.value.errno == errno.ECONNREFUSED
    with pytest.raises(NetError) as unreachable:
        connect(guest, "198.51.100.1", 7000)
    assert unreachable.value.errno == errno.ENETUNREACH
    with pytest.raises(NetError) as closed:  # the host's loopback is not the gateway
        connect(guest, "10.0.2.2", 7000)
    assert closed.value.errno == errno.ECONNREFUSED
    for address in (OUTSIDE, OUTSIDE6):
        datagrams = open_socket(guest.stack, AF_INET6 if ":" in address else AF_INET, SOCK_DGRAM)
        assert isinstance(datagrams, UdpSocket)
        datagrams.send(b"question", (ip(address), 7000, 0))
        guest.until(lambda datagrams=datagrams: datagrams.queue)
        assert datagrams.receive().data == b"QUESTION"
    assert slirp.json("stats", "Slirp")["SlirpTcpConnections"] == 2
    guest.close()


def test_gateway_reaches_the_hosts_loopback_when_told(world: World) -> None:
    slirp = Slirp(world, world.path, "--host-loopback")
    echo_server(world, slirp.host, "127.0.0.1")
    guest = Guest(slirp.link)
    assert exchange(guest, connect(guest, "10.0.2.2", 7000), b"hello") == b"hello"
    guest.close()


def test_connector_killed_flows_go_on_and_new_ones_work(world: World) -> None:
    slirp = Slirp(world, world.path)
    echo_server(world, slirp.host, OUTSIDE)
    guest = Guest(slirp.link)
    first = connect(guest, OUTSIDE, 7000)
    _, connector = wait_until(lambda: slirp.children() if len(slirp.children()) == 2 else None)
    os.kill(connector, signal.SIGKILL)
    assert wait_until(lambda: len(slirp.children()) == 2 and connector not in slirp.children())
    assert exchange(guest, connect(guest, OUTSIDE, 7000), b"new") == b"new"
    assert exchange(guest, first, b"old") == b"old"
    assert "connector-lost" in slirp.log_file.read_text()
    guest.close()


TUNSETIFF = 0x400454CA
TAP_FLAGS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR


class KernelGuest:
    """The host's kernel in a namespace of its own. `tap`: netstackd's end, which is all that netstackd gets."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.name = world.namespace()
        with enter(self.name):
            self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(self.tap, TUNSETIFF, struct.pack("16sH22x", b"tap0", TAP_FLAGS))
        self.run("ip", "link", "set", "tap0", "up")
        world.host(self.name, "tap0", "10.0.2.15/24", "fd00:0:0:2::15/64", gateways=("10.0.2.2", "fd00:0:0:2::2"))

    def run(self, *command: str, check: bool = True, timeout: float = 30) -> str:
        """A command in it."""
        done = self._world.at(self.name, *command, check=check, timeout=timeout)
        return done.out + done.err


def kernel_guest(world: World, *flags: str) -> tuple[Slirp, KernelGuest]:
    host = make_host(world)
    guest = KernelGuest(world)
    config = world.path / "tap.toml"
    text = world.run(*NETSTACKD, "--preset", "slirp", "--print-config", *flags).out
    control = world.path / "user"
    control.mkdir()
    os.chown(control, USER, USER)
    config.write_text(text + f'\n[[interface]]\nname = "tap0"\nkind = "tap"\nfd = {guest.tap}\nbridge = "virtual"\n')
    slirp = object.__new__(Slirp)
    slirp.world, slirp.host = world, host
    slirp.socket, slirp.log_file = str(control / "control.sock"), control / "log"
    read_end, write_end = os.pipe()
    with slirp.log_file.open("w") as log:
        slirp.process = world.start(
            host,
            *as_user(control),
            slirp_python(),
            "-P",
            "-m",
            "services.netstackd",
            "--config",
            str(config),
            "--control",
            slirp.socket,
            "--ready-fd",
            str(write_end),
            stderr=log,
            pass_fds=(write_end, guest.tap),
        )
    os.close(write_end)
    os.close(guest.tap)
    with os.fdopen(read_end) as ready:
        assert ready.read() == "ready\n", slirp.log_file.read_text()
    return slirp, guest


def test_kernel_as_guest_without_any_privilege(world: World) -> None:
    slirp, guest = kernel_guest(world)
    www = world.path / "www"
    www.mkdir(mode=0o755)
    (www / "big").write_bytes(os.urandom(5_000_000))
    (www / "big").chmod(0o644)
    for address in (OUTSIDE, OUTSIDE6):
        world.start(
            slirp.host, sys.executable, "-m", "http.server", "8000", "--bind", address, "--directory", str(www),
            stdout=-3, stderr=-3,
        )  # fmt: skip
    world.start(slirp.host, "iperf3", "-s", "-B", OUTSIDE, stdout=-3)
    for url in (f"http://{OUTSIDE}:8000/big", f"http://[{OUTSIDE6}]:8000/big"):
        out = world.path / "out"
        guest.run("curl", "-sS", "--retry", "10", "--retry-connrefused", "--retry-delay", "1", "-o", str(out), url)
        assert out.read_bytes() == (www / "big").read_bytes()
    assert "0% packet loss" in guest.run("ping", "-c", "2", "-i", "0.2", OUTSIDE)
    assert "0% packet loss" in guest.run("ping", "-c", "2", "-i", "0.2", OUTSIDE6)
    for flags in (("-n", "20M"), ("-n", "20M", "-R"), ("-u", "-b", "20M", "-n", "2M")):
        assert "receiver" in guest.run("iperf3", "-c", OUTSIDE, *flags)
    assert "Connection refused" in guest.run("curl", "-v", "-m", "5", f"http://{OUTSIDE}:9/", check=False)
    unreachable = guest.run("curl", "-v", "-m", "5", "http://198.51.100.1:9/", check=False)
    assert "unreachable" in unreachable.lower() or "No route to host" in unreachable


def test_metadata_address_and_loopback_of_the_host_are_out_of_reach(world: World) -> None:
    slirp, guest = kernel_guest(world)
    world.at(slirp.host, "ip", "addr", "add", "169.254.169.254/32", "dev", "lo")
    with enter(slirp.host):
        servers = [socket.create_server((address, 80)) for address in ("169.254.169.254", "127.0.0.1")]
    for address in ("169.254.169.254", "10.0.2.2"):
        out = guest.run("curl", "-sS", "-m", "3", f"http://{address}/", check=False)
        assert "curl: (" in out
    for server in servers:
        assert not select.select([server], [], [], 0)[0]
        server.close()


def test_floods_are_bounded_and_a_connection_goes_on(world: World) -> None:
    slirp = Slirp(world, world.path)
    echo_server(world, slirp.host, OUTSIDE)
    guest = Guest(slirp.link)
    kept = connect(guest, OUTSIDE, 7000)
    flood = open_socket(guest.stack, AF_INET, SOCK_DGRAM)
    assert isinstance(flood, UdpSocket)
    for number in range(3000):
        flood.send(b"flood", (ip("203.0.113.1"), 10000 + number, 0))
        if not number % 50:
            guest.router.loop.turn(0)
    deadline = time.monotonic() + 1
    guest.until(lambda: time.monotonic() > deadline)
    router = slirp.children()[0]
    assert len(os.listdir(f"/proc/{router}/fd")) < 1024 + 64
    assert exchange(guest, kept, b"still here") == b"still here"
    guest.close()
    assert Path(f"/proc/{router}").exists()


PEERS = """
import socket, threading
tcp, udp = socket.create_server(("", 80)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 80))
def datagrams():
    while True:
        data, peer = udp.recvfrom(2000)
        udp.sendto(f"{peer[0]} {peer[1]}".encode(), peer)
threading.Thread(target=datagrams, daemon=True).start()
print("ready", flush=True)
while True:
    sock, peer = tcp.accept()
    sock.sendall(f"{peer[0]} {peer[1]}".encode())
    sock.close()
"""


def test_published_ports_keep_the_clients_address(world: World) -> None:
    slirp, guest = kernel_guest(world)
    server = world.start(guest.name, sys.executable, "-c", PEERS)
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    for protocol in ("", "/udp"):
        slirp.ctl("publish", f"8080:10.0.2.15:80{protocol}")
    rows = slirp.json("published")
    assert [(row["protocol"], row["host"], row["port"], row["to"]) for row in rows] == [
        ("tcp", "0.0.0.0", 8080, "10.0.2.15:80"),
        ("udp", "0.0.0.0", 8080, "10.0.2.15:80"),
    ]
    with enter(slirp.host):
        for source, seen in ((OUTSIDE, OUTSIDE), ("127.0.0.1", "10.0.2.2")):
            with socket.create_connection((source, 8080), 10, source_address=(source, 0)) as client:
                address, port = client.recv(100).decode().split()
                assert address == seen
                assert seen != OUTSIDE or int(port) == client.getsockname()[1]
                assert client.recv(100) == b""
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(10)
                client.bind((source, 0))
                client.sendto(b"who am I", (source, 8080))
                assert client.recv(100).decode().split()[0] == seen
    assert slirp.json("published")[0]["connections"] == 2
    slirp.ctl("unpublish", str(rows[0]["id"]))
    with enter(slirp.host), pytest.raises(ConnectionRefusedError):
        socket.create_connection((OUTSIDE, 8080), 5)
    chosen = slirp.json("publish", "127.0.0.1:0:10.0.2.15:80")
    with enter(slirp.host), socket.create_connection(("127.0.0.1", chosen["port"]), 10) as client:
        assert client.recv(100).startswith(b"10.0.2.2 ")


def test_publishing_errors_say_what_is_wrong(world: World) -> None:
    slirp = Slirp(world, world.path)
    with enter(slirp.host):
        taken = socket.create_server(("0.0.0.0", 8080))
    with taken:
        for what, said in (
            ("8080:10.0.2.15:80", "address in use"),
            ("80:10.0.2.15:80", "privileged"),
            ("198.51.100.1:8080:10.0.2.15:80", "no such address"),
            ("8080:nobody:80", "no namespace nobody"),
            ("8080:10.0.2.15", "must be [HOST:]PORT"),
            ("8080:10.0.2.15:0", "1 to 65535"),
            ("99999:10.0.2.15:1", "0 to 65535"),
            ("8090-8080:10.0.2.15:1", "lowest first"),
        ):
            done = slirp.ctl("publish", what, check=False)
            assert done.status in (1, 2) and said in done.err and done.err.count("\n") == 1, (what, done.err)
    assert slirp.ctl("unpublish", "77", check=False).status == 1
    assert slirp.json("published") == []


def test_ports_of_the_command_line_are_there_again_after_a_kill(world: World) -> None:
    slirp = Slirp(world, world.path, "-p", "8080:10.0.2.15:80", "-p", "127.0.0.1:5353:10.0.2.15:53/udp")
    wait_until(lambda: len(slirp.json("published")) == 2)
    os.kill(slirp.children()[0], signal.SIGKILL)

    def published() -> bool:
        done = slirp.ctl("--json", "published", check=False)
        return done.status == 0 and done.out.count("8080") > 0 and done.out.count("5353") > 0

    assert wait_until(published)


def test_ports_published_at_run_time_are_there_again_after_a_kill(world: World) -> None:
    slirp = Slirp(world, world.path)
    gone = slirp.json("publish", "8079:10.0.2.15:80")["id"]
    chosen = slirp.json("publish", "127.0.0.1:0:10.0.2.15:80")["port"]
    slirp.ctl("publish", "8081-8083:10.0.2.15:81/udp")
    slirp.ctl("unpublish", str(gone))

    def published() -> list[tuple[str, str, list[int], str]]:
        done = slirp.ctl("--json", "published", check=False)
        rows = json.loads(done.out) if done.status == 0 else []
        return sorted((row["protocol"], row["host"], row["ports"], row["to"]) for row in rows)

    before = [
        ("tcp", "127.0.0.1", [chosen], "10.0.2.15:80"),
        ("udp", "0.0.0.0", [8081, 8082, 8083], "10.0.2.15:81"),
    ]
    assert published() == before
    for _ in range(2):  # also what was taken up again is remembered
        os.kill(slirp.children()[0], signal.SIGKILL)
        assert wait_until(lambda: published() == before), published()
    slirp.ctl("unpublish", str(slirp.json("published")[0]["id"]))
    left = published()
    os.kill(slirp.children()[0], signal.SIGKILL)
    assert len(left) == 1 and wait_until(lambda: published() == left), published()
