"""Floods and nonsense: memory stays bounded, what is open goes on, and the router is the same process afterwards."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from tests.netstack.networks import FILTER, NAT, Held, Sides, World, server, wait_until

FLOOD = """
import random, socket, struct, sys
rng = random.Random(5)
kind, count = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind(("lan0", 0x0800))
mac = bytes.fromhex(sys.argv[3])
def sum16(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16: total = (total & 65535) + (total >> 16)
    return 65535 - total
def ip(proto, payload, frag=0, src=None):
    src = src or 0x0A010000 | rng.randrange(3, 250)
    ident = rng.getrandbits(16)
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(payload), ident, frag, 64, proto, 0, src, 0x0A020002)
    return head[:10] + struct.pack("!H", sum16(head)) + head[12:] + payload
for number in range(count):
    if kind == "syn":
        body = struct.pack("!HHIIBBHHH", rng.randrange(1, 65536), 80, rng.getrandbits(32), 0, 0x50, 2, 1000, 0, 0)
        frame = ip(6, body)
    elif kind == "fragments":
        frame = ip(17, bytes(1000), 0x2000 | rng.randrange(8))
    elif kind == "noise":
        frame = ip(rng.choice((1, 6, 17, 47, rng.randrange(256))), rng.randbytes(rng.randrange(60)))
        frame = bytearray(frame)
        for _ in range(rng.randrange(3)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
    ether = b"\\x08\\x00"
    if kind == "noise":
        ether = rng.choice((ether, b"\\x86\\xdd", b"\\x08\\x06", b"\\x81\\x00"))
    try:
        sock.send(mac + b"\\x02\\0\\0\\0\\0\\x09" + ether + bytes(frame))
    except OSError:
        pass
"""


def rss(pid: int) -> int:
    """Resident kilobytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def test_floods_are_bounded_and_an_open_connection_goes_on(world: World) -> None:
    sides = Sides(world, NAT + FILTER + "\n[conntrack]\nmax = 1000\n")
    server(world, sides.wan, "lines", "7000")
    say = Held(world, sides.lan, "10.2.0.2", 7000).say
    assert say("before") == "10.2.0.1 before"
    before = sides.router.child()
    mac = next(row["mac"] for row in sides.router.json("link") if row["interface"] == "lan").replace(":", "")
    world.at(sides.lan, sys.executable, "-c", FLOOD, "syn", "3000", mac)
    first = rss(before)
    for kind, count in (("syn", 12000), ("fragments", 6000), ("noise", 8000)):
        world.at(sides.lan, sys.executable, "-c", FLOOD, kind, str(count), mac, timeout=120)
        assert say(kind) == f"10.2.0.1 {kind}"
    statistics = sides.router.json("conn", "--limit", "1")["statistics"]
    assert statistics["connections"] <= 1000 and statistics["early_drop"] > 1000
    assert sides.router.child() == before and "bug" not in sides.router.log()
    assert rss(before) - first < 40_000, (first, rss(before))
    drops = sides.router.json("stats", "Drop")
    assert sum(drops.values()) > 1000


def test_nonsense_on_the_control_socket_ends_that_client_alone(world: World) -> None:
    sides = Sides(world)
    before = sides.router.child()
    for data in (
        b"\xc1",
        b"\x94\x00\x01\xa1x\x90" * 3,
        b"\xdd\xff\xff\xff\xff",
        bytes(range(256)) * 10,
        b"\x93\x02\xa4ping\xc0",
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(sides.router.socket)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
    idle = [socket.socket(socket.AF_UNIX) for _ in range(80)]
    for sock in idle:
        assert wait_until(lambda sock=sock: sock.connect_ex(sides.router.socket) == 0)  # its backlog is short
    refused = sides.router.ctl("status", check=False)
    assert refused.status == 1 and refused.err.count("\n") == 1  # too many clients: one line
    for sock in idle:
        sock.close()
    assert sides.router.json("status")["pid"] and sides.router.child() == before
