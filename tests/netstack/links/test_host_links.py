"""Links against the host's kernel: packet sockets, bridges, captures for tshark, QEMU's framing, faults, shapes."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.netstack.networks import NAT, NETSTACKD, PYTHON, World, pings, server, wait_until


def veth(world: World, host: str, router: str) -> None:
    """A veth pair: `eth0` in the host's namespace, `port0` in the router's."""
    world.run("ip", "link", "add", "eth0", "netns", host, "type", "veth", "peer", "name", "port0", "netns", router)
    world.at(host, "ip", "link", "set", "eth0", "up")
    world.at(router, "sysctl", "-qw", "net.ipv6.conf.port0.disable_ipv6=1")


def two_taps(lan: str, wan: str, lan_more: str = "", wan_more: str = "") -> str:
    """A configuration with a tap in each namespace, translated outwards."""
    text = "[router]\nforwarding = true\n"
    for name, netns, address, more in (("lan", lan, "10.1.0.1/24", lan_more), ("wan", wan, "10.2.0.1/24", wan_more)):
        text += f'[[interface]]\nname = "{name}"\ndevice = "{name}0"\nnetns = "{netns}"\n'
        text += more if "addresses" in more else f'addresses = ["{address}"]\n{more}'
    return text + NAT


@pytest.mark.parametrize("offload", [True, False])
def test_a_packet_socket_on_a_veth_carries_tcp_both_ways(world: World, offload: bool) -> None:
    host, beside, far = world.namespace(), world.namespace(), world.namespace()
    veth(world, host, beside)
    flag = f"offload = {str(offload).lower()}\n"
    on_veth = f'kind = "packet"\ndevice = "port0"\nnetns = "{beside}"\naddresses = ["10.1.0.1/24"]\n'
    router = world.router(
        f'[router]\nforwarding = true\n[[interface]]\nname = "lan"\n{on_veth}{flag}'
        f'[[interface]]\nname = "wan"\ndevice = "wan0"\nnetns = "{far}"\naddresses = ["10.2.0.1/24"]\n{flag}{NAT}'
    )
    if not offload:
        world.at(host, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "tx", "off")
    world.host(host, "eth0", "10.1.0.2/24", gateways=("10.1.0.1",))
    world.host(far, "wan0", "10.2.0.2/24")
    server(world, far, "serve", "7000")
    world.at(host, *PYTHON, "send", "10.2.0.2", "7000", "3000000", "4")
    largest = router.json("link")
    lan = next(row for row in largest if row["interface"] == "lan")
    assert lan["rx_bytes"] > 3_000_000 and lan["rx_errors"] == 0
    assert (lan["rx_bytes"] / lan["rx_packets"] > 2500) is offload


def test_tagged_frames_keep_their_tags_through_a_packet_socket(world: World) -> None:
    host, beside = world.namespace(), world.namespace()
    veth(world, host, beside)
    router = world.router(
        f'[[interface]]\nname = "trunk"\nkind = "packet"\ndevice = "port0"\nnetns = "{beside}"\n'
        '[[interface]]\nname = "v5"\nkind = "vlan"\nparent = "trunk"\nid = 5\naddresses = ["10.5.0.1/24"]\n'
    )
    # by hand: not every kernel can make VLAN interfaces. The tag of the answer comes beside the frame, as to us.
    program = """
import socket
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.bind(("eth0", 3)); sock.setsockopt(263, 8, 1); sock.settimeout(8)
link = "ffffffffffff 020000000009 81000005 0806"
sock.send(bytes.fromhex(link + "0001080006040001 020000000009 0a050002 000000000000 0a050001"))
while True:
    frame, beside, flags, address = sock.recvmsg(2000, 200)
    if address[2] != 4 and frame[12:14] == b"\\x08\\x06" and frame[21] == 2:
        print(int.from_bytes(beside[0][2][16:18], "little") & 4095, socket.inet_ntoa(frame[28:32]))
        break
"""
    assert world.at(host, sys.executable, "-c", program).out.split() == ["5", "10.5.0.1"]
    assert router.json("neigh")[0]["interface"] == "v5"


def test_a_bridge_learns_and_carries_between_its_ports_and_to_itself(world: World) -> None:
    hosts = [world.namespace() for _ in range(3)]
    ports = "".join(
        f'[[interface]]\nname = "p{n}"\ndevice = "eth0"\nnetns = "{host}"\nbridge = "br0"\n'
        for n, host in enumerate(hosts)
    )
    router = world.router('[[interface]]\nname = "br0"\nkind = "bridge"\naddresses = ["10.0.0.1/24"]\n' + ports)
    for number, host in enumerate(hosts):
        world.host(host, "eth0", f"10.0.0.{number + 10}/24")
    assert (
        pings(world, hosts[0], "10.0.0.11")
        and pings(world, hosts[1], "10.0.0.1")
        and pings(world, hosts[2], "10.0.0.10")
    )
    server(world, hosts[1], "serve", "7000")
    world.at(hosts[0], *PYTHON, "send", "10.0.0.11", "7000", "5000000", "5")
    stations = {row["port"]: row["mac"] for row in router.json("fdb")}
    assert set(stations) == {"p0", "p1", "p2"}
    received = world.at(hosts[2], "cat", "/sys/class/net/eth0/statistics/rx_bytes").out
    assert int(received) < 100_000  # what is for one port is not flooded


def test_a_capture_is_read_by_tshark_without_a_complaint(world: World, tmp_path: Path) -> None:
    lan, wan = world.namespace(), world.namespace()
    router = world.router(two_taps(lan, wan, 'addresses = ["10.1.0.1/24", "fd01::1/64"]\n'))
    world.host(lan, "lan0", "10.1.0.2/24", "fd01::2/64", gateways=("10.1.0.1",))
    world.host(wan, "wan0", "10.2.0.2/24")
    files = {name: tmp_path / f"{name}.pcap" for name in ("lan", "wan")}
    command = (*NETSTACKD, "ctl", "--socket", router.socket, "pcap")
    captures = [world.start(None, *command, name, "-w", str(file)) for name, file in files.items()]
    assert wait_until(lambda: all(file.exists() and file.stat().st_size >= 24 for file in files.values()))
    server(world, wan, "serve", "7000")
    world.at(lan, *PYTHON, "send", "10.2.0.2", "7000", "400000", "6")
    pings(world, lan, "10.2.0.2", "-s", "4000")
    pings(world, lan, "fd01::1")
    router.process.terminate()
    router.process.wait(5)
    for capture in captures:
        capture.wait(10)
    for name, file in files.items():
        checks = [word for kind in ("tcp", "udp", "ip") for word in ("-o", f"{kind}.check_checksum:TRUE")]
        wrong = " || ".join(f"{kind}.checksum.status == 0" for kind in ("tcp", "udp", "ip", "icmp"))
        bad = world.run("tshark", "-r", str(file), *checks, "-Y", f"_ws.malformed || {wrong}")
        assert bad.out == "", bad.out[:2000]
        assert "appears" not in bad.err and "error" not in bad.err.lower(), bad.err
        count = world.run("tshark", "-r", str(file), "-Y", "tcp.port == 7000").out.count("\n")
        assert count >= 10, name
        address = "10.1.0.2" if name == "lan" else "10.2.0.1"
        assert (
            address
            in world.run("tshark", "-r", str(file), "-Y", "tcp.flags.syn == 1", "-T", "fields", "-e", "ip.src").out
        )


def test_a_recorded_file_is_replayed(world: World, tmp_path: Path) -> None:
    arp = bytes.fromhex("ffffffffffff 020000000009 0806 0001080006040001 020000000009 0a000009 000000000000 0a000001")
    record = struct.pack("<IIII", 1, 0, len(arp), len(arp)) + arp
    asked, answered = tmp_path / "in.pcap", tmp_path / "out.pcap"
    asked.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + record)
    router = world.router(
        f'[[interface]]\nname = "file"\nkind = "pcap"\nread = "{asked}"\nwrite = "{answered}"\n'
        'addresses = ["10.0.0.1/24"]\n'
    )
    found = wait_until(lambda: world.run("tshark", "-r", str(answered), "-Y", "arp.opcode == 2", check=False).out)
    assert "10.0.0.1 is at" in found, router.log()


def test_qemus_framing_by_hand(world: World, tmp_path: Path) -> None:
    path = tmp_path / "vm.sock"
    router = world.router(
        f'[[interface]]\nname = "vm"\nkind = "unix"\npath = "{path}"\nlisten = true\naddresses = ["10.0.0.1/24"]\n'
    )
    arp = bytes.fromhex("ffffffffffff 020000000009 0806 0001080006040001 020000000009 0a000009 000000000000 0a000001")
    framed = struct.pack("!I", len(arp)) + arp
    for peer in range(2):  # the second comes after the first has hung up
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(path))
            for byte in framed[:20]:
                sock.sendall(bytes((byte,)))
            sock.sendall(framed[20:] + framed)
            got = b""
            deadline = time.monotonic() + 5
            while got.count(b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02") < 2 and time.monotonic() < deadline:
                got += sock.recv(65536)
            assert got.count(b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02") == 2, peer
            at = 0
            while at + 4 <= len(got):
                at += 4 + struct.unpack_from("!I", got, at)[0]
            assert at == len(got)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(path))
        sock.sendall(b"\xff\xff\xff\xff" + bytes(100))
        while sock.recv(65536):  # frames of ours, then the end: a frame of 4 GB ends the conversation
            pass
    assert router.json("link")[-1]["rx_errors"] == 1


def test_tcp_arrives_whole_over_a_bad_link(world: World) -> None:
    lan, wan = world.namespace(), world.namespace()
    bad = 'loss = "2%", duplicate = 0.02, reorder = 0.05, corrupt = 0.01, delay = "2ms", jitter = "2ms"'
    world.router(two_taps(lan, wan, wan_more=f"fault = {{ {bad} }}\nseed = 7\n"))
    world.host(lan, "lan0", "10.1.0.2/24", gateways=("10.1.0.1",))
    world.host(wan, "wan0", "10.2.0.2/24")
    server(world, wan, "serve", "7000")
    world.at(lan, *PYTHON, "send", "10.2.0.2", "7000", "400000", "8")


def test_a_shape_limits_what_leaves(world: World) -> None:
    lan, wan = world.namespace(), world.namespace()
    world.router(two_taps(lan, wan, wan_more='shape = { rate = "16mbit" }\n'))
    world.host(lan, "lan0", "10.1.0.2/24", gateways=("10.1.0.1",))
    world.host(wan, "wan0", "10.2.0.2/24")
    server(world, wan, "serve", "7000")
    began = time.monotonic()
    world.at(lan, *PYTHON, "send", "10.2.0.2", "7000", "6000000", "9")
    took = time.monotonic() - began
    assert 2.7 < took < 12  # 48 megabit at 16 a second


def test_a_vanished_device_is_told_and_the_rest_goes_on(world: World) -> None:
    lan, wan = world.namespace(), world.namespace()
    router = world.router(
        f'[[interface]]\nname = "lan"\ndevice = "lan0"\nnetns = "{lan}"\naddresses = ["10.1.0.1/24"]\n'
        f'[[interface]]\nname = "wan"\ndevice = "wan0"\nnetns = "{wan}"\naddresses = ["10.2.0.1/24"]\n'
    )
    world.host(wan, "wan0", "10.2.0.2/24")
    world.at(lan, "ip", "link", "del", "lan0")
    assert wait_until(lambda: "link-lost" in router.log()), router.log()
    assert pings(world, wan, "10.2.0.1")
    states = {row["interface"]: row["state"] for row in router.json("link")}
    assert states["lan"] == "no carrier" and states["wan"] == "up"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('[[interface]]\nname = "x"\nkind = "packet"\ndevice = "nowhere9"\n', "there is no such interface"),
        ('[[interface]]\nname = "x"\nnetns = "nowhere9"\n', "make it first"),
        ('[[interface]]\nname = "x"\nkind = "unix"\npath = "/nowhere9/s"\n', "No such file"),
        ('[[interface]]\nname = "x"\nkind = "pcap"\nread = "/etc/passwd"\n', "no pcap magic"),
    ],
)
def test_a_link_that_cannot_be_opened_is_one_line(world: World, tmp_path: Path, config: str, expected: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(config)
    done = world.run(*NETSTACKD, "--config", str(file), check=False)
    assert done.status == 1 and done.err.count("\n") == 1 and expected in done.err, done.err


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--config", "/nowhere9"), 1),
        (("--nonsense",), 2),
        ((), 2),
        (("check", "/nowhere9"), 1),
        (("ctl", "--socket", "/nowhere9", "status"), 1),
        (("ctl", "dance"), 2),
        (("--preset", "router"), 2),
        (("--preset", "bridge"), 1),
        (("--tap", "x", "--config", "y"), 2),
        (("--address", "10.0.0.1/24"), 2),
    ],
)
def test_wrong_usage_is_one_line_and_a_status(world: World, words: tuple[str, ...], status: int) -> None:
    done = world.run(*NETSTACKD, *words, check=False)
    assert done.status == status and done.err.count("\n") == 1 and done.err.startswith("netstackd"), done.err


def test_flags_alone_start_a_router_and_a_bridge(world: World) -> None:
    lan, wan = world.namespace(), world.namespace()
    read_end, write_end = os.pipe()
    world.start(
        None,
        sys.executable,
        "-P",
        "-m",
        "services.netstackd",
        "--preset",
        "router",
        "--lan",
        f"tap:lan0@{lan}",
        "--wan",
        f"tap:wan0@{wan}",
        "--wan-address",
        "10.2.0.1/24",
        "--ready-fd",
        str(write_end),
        pass_fds=(write_end,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    with os.fdopen(read_end) as ready:
        assert ready.read() == "ready\n"
    world.host(lan, "lan0", "192.168.8.2/24", gateways=("192.168.8.1",))
    world.host(wan, "wan0", "10.2.0.2/24")
    assert pings(world, lan, "10.2.0.2") and pings(world, wan, "10.2.0.1")
