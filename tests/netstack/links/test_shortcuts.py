"""Shortcuts of forwarded flows: what goes out is what the stack would have sent, or the stack sends it.

Two routers get the same frames, one of them without shortcuts. Their links are real (a packet socket's class on a Unix
socket pair), since shortcuts are the links' business.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator

import pytest

from services.netstackd.app import Router
from services.netstackd.config.load import load
from services.netstackd.edge.log import EventLog
from services.netstackd.links.base import ALL_OFFLOADS, VNET_BYTES, VNET_HEADER
from services.netstackd.links.packet_socket import PacketLink
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.checksum import checksum, ones_sum

INTERFACES = """
[router]
forwarding = true
[[interface]]
name = "lan"
kind = "packet"
device = "lan0"
addresses = ["10.1.0.1/24"]
[[interface]]
name = "wan"
kind = "packet"
device = "wan0"
addresses = ["10.2.0.1/24"]
"""
FILTER = """
[nat]
masquerade = "wan"
[filter]
forward = "drop"
[[filter.rule]]
name = "known"
chain = "forward"
state = ["established", "related"]
action = "accept"
[[filter.rule]]
name = "out"
chain = "forward"
in = "lan"
action = "accept"
"""
REFUSING = """
[filter]
accept_established = false
forward = "drop"
"""
MACS = {"lan": b"\2\0\0\0\0\1", "wan": b"\2\0\0\0\0\2"}
HOSTS = {"lan": b"\2\0\0\0\1\1", "wan": b"\2\0\0\0\1\2"}
INNER, OUTER, OURS = (bytes((10, 1, 0, 2)), bytes((10, 2, 0, 2)), bytes((10, 2, 0, 1)))
SYN, ACK, PSH, FIN, RST = 2, 16, 8, 1, 4
LAN, WAN = "lan", "wan"


class Bench:
    """A router with its two links, and the other ends of them."""

    def __init__(self, config: str, shortcuts: bool) -> None:
        self.now = 10**9
        self.ends: dict[str, socket.socket] = {}
        links = {}
        for name, mac in MACS.items():
            ours, self.ends[name] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for sock in (ours, self.ends[name]):
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            links[name] = PacketLink(name, ours, mac=mac, mtu=1500, offload=ALL_OFFLOADS)
        self.router = Router(
            load("test", config),
            links,
            clock=lambda: self.now,
            wall=lambda: self.now,
            rng=random.Random(5),
            secret=bytes(32),
            log=EventLog(lambda: 0, "error", "text"),
        )
        stack = self.router.stack
        for name, address in ((LAN, 0x0A010002), (WAN, 0x0A020002)):
            stack.neighbours4.set_permanent(self.router.interfaces[name], address, HOSTS[name])
            if not shortcuts:
                links[name].cut = None
        self.links = links
        self.turn()
        self.out()

    def turn(self) -> None:
        self.now += 1_000_000
        self.router.loop.turn(0)

    def send(self, side: str, *frames: bytes) -> None:
        """Frames arrive together; one turn."""
        for frame in frames:
            self.ends[side].send(frame)
        self.turn()

    def out(self) -> dict[str, list[bytes]]:
        """What was sent on each side since the last time, but for what the interfaces say of themselves."""
        found: dict[str, list[bytes]] = {}
        for name, end in self.ends.items():
            found[name] = []
            try:
                while True:
                    one = end.recv(70000)
                    if one[VNET_BYTES + 12 : VNET_BYTES + 14] == b"\x08\0" and one[VNET_BYTES + 23] != 2:
                        found[name].append(one)
            except BlockingIOError:
                pass
        return found

    @property
    def cut(self) -> int:
        """Frames that took a shortcut."""
        return self.router.shortcuts.count

    def close(self) -> None:
        self.router.loop.close()
        for end in self.ends.values():
            end.close()


class Pair:
    """Both routers."""

    def __init__(self, config: str) -> None:
        self.fast, self.slow = Bench(config, True), Bench(config, False)

    def send(self, side: str, *frames: bytes) -> dict[str, list[bytes]]:
        """What left, the same from both."""
        for bench in (self.fast, self.slow):
            bench.send(side, *frames)
        fast, slow = self.fast.out(), self.slow.out()
        assert {side: [plain(one) for one in frames] for side, frames in fast.items()} == {
            side: [plain(one) for one in frames] for side, frames in slow.items()
        }
        return fast

    def both(self) -> tuple[Bench, Bench]:
        return self.fast, self.slow


def plain(frame: bytes) -> bytes:
    """With a checksum field of all ones where it is zero: the same number (RFC 1624, 3)."""
    whole = bytearray(frame)
    for at in (VNET_BYTES + 24, VNET_BYTES + 50):
        if len(whole) > at + 2 and whole[at : at + 2] == b"\0\0":
            whole[at : at + 2] = b"\xff\xff"
    return bytes(whole)


def frame(side: str, size: int = 0, *, flags: int = ACK, partial: bool = True, **more: int) -> bytes:
    """A TCP segment as a host on `side` sends it: with offload, or (partial False) finished; more: ttl, seq, gso, port,
    ident, offset, mac, cut (bytes of the frame that are missing), outer_port, lie (a byte of the offload header)."""
    port, outer_port = more.get("port", 4000), more.get("outer_port", 4000)
    if side == LAN:
        src, dst, ports = INNER, OUTER, (port, 5201)
    else:
        src, dst, ports = OUTER, more.get("dst", 0) and INNER or OURS, (5201, outer_port)
    total = 52 + size
    ip = bytearray(
        struct.pack(
            "!BBHHHBBH", 0x45, 0, total, more.get("ident", 7), more.get("offset", 0x4000), more.get("ttl", 64), 6, 0
        )
    )
    ip += src + dst
    ip[10:12] = checksum(ip).to_bytes(2, "big")
    payload = bytes(index & 255 for index in range(256)) * (size // 256 + 1)
    tcp = bytearray(struct.pack("!HHIIBBHHH", *ports, more.get("seq", 1), 1, 0x80, flags, 500, 0, 0))
    tcp += b"\1\1\x08\x0a" + struct.pack("!II", more.get("stamp", 1), 1)
    pseudo = ones_sum(src + dst + struct.pack("!HH", 6, total - 20)) % 65535
    gso = more.get("gso", 0)
    if partial:
        tcp[16:18] = pseudo.to_bytes(2, "big")
        header = VNET_HEADER.pack(1, 1 if gso else 0, 66 if gso else 0, gso, 34, 16)
    else:
        tcp[16:18] = checksum(bytes(tcp) + payload[:size], pseudo).to_bytes(2, "big")
        header = bytes(VNET_BYTES)
    if more.get("lie"):
        changed = bytearray(header)
        changed[more["lie"]] ^= 0x80
        header = bytes(changed)
    mac = MACS[side] if not more.get("mac") else b"\2\0\0\0\0\x99"
    whole = header + mac + HOSTS[side] + b"\x08\0" + bytes(ip) + bytes(tcp) + payload[:size]
    return whole[: len(whole) - more.get("cut", 0)]


@pytest.fixture(params=["plain", "translated"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """With an established connection; `dst` of frames from the outer side is right for both."""
    made = Pair(INTERFACES + (FILTER if request.param == "translated" else ""))
    made.dst = int(request.param == "plain")  # type: ignore[attr-defined]
    for side, flags in ((LAN, SYN), (WAN, SYN | ACK), (LAN, ACK)):
        made.send(side, frame(side, flags=flags, dst=made.dst))  # type: ignore[attr-defined]
    made.send(WAN, frame(WAN, dst=made.dst))  # type: ignore[attr-defined]
    assert made.slow.cut == 0
    yield made
    for bench in made.both():
        bench.close()


def test_a_flow_takes_the_shortcut_after_its_first_segment(pair: Pair) -> None:
    large = frame(LAN, 60_000, gso=1448)
    pair.send(LAN, large)
    before = pair.fast.cut
    for turn in range(5):
        out = pair.send(LAN, frame(LAN, 60_000, gso=1448, seq=turn * 60_000, ident=turn * 41))
        assert len(out[WAN]) == 1 and len(out[WAN][0]) == len(large)
        pair.send(WAN, frame(WAN, seq=turn, stamp=turn, dst=pair.dst))  # type: ignore[attr-defined]
    assert pair.fast.cut == before + 10


def test_what_arrives_together_leaves_in_its_order(pair: Pair) -> None:
    pair.send(LAN, frame(LAN, 60_000, gso=1448))
    train = [frame(LAN, 60_000, gso=1448, seq=turn) for turn in range(4)]
    train[2] = frame(LAN, 100, flags=ACK | PSH | FIN, seq=2)
    out = pair.send(LAN, *train)
    sequences = [int.from_bytes(one[VNET_BYTES + 38 : VNET_BYTES + 42], "big") for one in out[WAN]]
    assert sequences == [0, 1, 2, 3]


def test_nothing_overtakes_what_waits_in_the_outgoing_interface(pair: Pair) -> None:
    for turn in range(3):
        pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=turn))
    cut = pair.fast.cut
    waiting = frame(LAN, 10, seq=99)[VNET_BYTES:]
    for bench in pair.both():  # as a neighbour's answer in the same turn lets packets go
        bench.router.stack.link_output.frame(bench.router.interfaces[WAN], waiting)
    out = pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=4))
    assert [int.from_bytes(one[VNET_BYTES + 38 : VNET_BYTES + 42], "big") for one in out[WAN]] == [99, 4]
    assert pair.fast.cut == cut


def test_finished_checksums_are_right_after_translation(pair: Pair) -> None:
    for turn in range(6):
        out = pair.send(LAN, frame(LAN, 0, partial=False, seq=turn, stamp=turn))
        whole = out[WAN][0][VNET_BYTES:]
        assert checksum(whole[14:34]) == 0
        pseudo = ones_sum(whole[26:34] + struct.pack("!HH", 6, len(whole) - 34))
        assert checksum(whole[34:], pseudo) == 0
    assert pair.fast.cut >= 4


ODD = {
    "time to live of one": {"ttl": 1},
    "time to live of two": {"ttl": 2},
    "another host's frame": {"mac": 1},
    "a fragment": {"offset": 0x2000},
    "may be fragmented": {"offset": 0},
    "cut short": {"cut": 9},
    "a reset": {"flags": RST | ACK},
    "a FIN": {"flags": FIN | ACK},
    "a SYN": {"flags": SYN},
    "nothing acknowledged": {"flags": 0},
    "urgent": {"flags": 0x20 | ACK},
    "congestion echoed": {"flags": 0x40 | ACK},
    "another segment size": {"gso": 1000},
    "no offload": {"gso": 0},
    "an offload header that lies about the header": {"lie": 2},
    "an offload header of another protocol": {"lie": 6},
    "congestion marks in the offload header": {"lie": 1},
    "a port of another flow": {"port": 4001},
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_not_ordinary_goes_through_the_stack(pair: Pair, what: str) -> None:
    ordinary = {"gso": 1448}
    for turn in range(3):
        pair.send(LAN, frame(LAN, 30_000, seq=turn, **ordinary))
    assert pair.fast.cut >= 2
    pair.send(LAN, frame(LAN, 30_000, seq=9, **(ordinary | ODD[what])))
    pair.send(LAN, frame(LAN, 30_000, seq=10, **ordinary))
    pair.send(WAN, frame(WAN, seq=10, dst=pair.dst))  # type: ignore[attr-defined]
    same_counts(pair)


def test_a_broken_header_checksum_is_dropped(pair: Pair) -> None:
    pair.send(LAN, frame(LAN, 30_000, gso=1448))
    pair.send(LAN, frame(LAN, 30_000, gso=1448))
    broken = bytearray(frame(LAN, 30_000, gso=1448))
    broken[VNET_BYTES + 18] ^= 1
    assert pair.send(LAN, bytes(broken)) == {LAN: [], WAN: []}
    same_counts(pair)


def same_counts(pair: Pair) -> None:
    fast, slow = (bench.router for bench in pair.both())
    assert fast.firewall.tracker.found == slow.firewall.tracker.found
    assert fast.stack.counters.as_dict() == slow.stack.counters.as_dict()
    for name in MACS:
        ours, theirs = fast.interfaces[name], slow.interfaces[name]
        assert ours.link.counters.as_dict() == theirs.link.counters.as_dict()
        assert (ours.rx_packets, ours.rx_bytes) == (theirs.rx_packets, theirs.rx_bytes)
        assert (ours.tx_packets, ours.tx_bytes) == (theirs.tx_packets, theirs.tx_bytes)
    rows = [
        [
            (
                one.state,
                one.assured,
                one.deadline,
                *((way.packets, way.bytes, bytes(way.seen)) for way in (one.original, one.reply)),
            )
            for one in router.firewall.tracker.connections()
        ]
        for router in (fast, slow)
    ]
    assert rows[0] == rows[1]
    rules = [
        [(rule.packets, rule.bytes) for chain in router.firewall.chains.values() for rule in chain.rules]
        for router in (fast, slow)
    ]
    assert rules[0] == rules[1]


def test_thousands_of_frames_of_all_kinds_leave_alike(pair: Pair) -> None:
    rng = random.Random(2)
    for turn in range(1500):
        side = rng.choice((LAN, WAN))
        more = {
            "seq": turn,
            "stamp": turn,
            "ident": turn,
            "port": rng.choice((4000, 4000, 4000, 4001)),
            "dst": pair.dst,
        }  # type: ignore[attr-defined]
        frames = []
        for _ in range(rng.choice((1, 1, 3))):
            size = rng.choice((0, 0, 100, 1448, 30_000))
            kind = dict(more, gso=1448 if size > 1448 else 0)
            if rng.random() < 0.1:
                kind |= ODD[rng.choice([name for name in ODD if name not in ("a reset", "a FIN", "a SYN")])]
            frames.append(frame(side, size, partial=size > 1448 or rng.random() < 0.7, **kind))
        pair.send(side, *frames)
    same_counts(pair)
    assert pair.fast.cut > 300


def test_changes_are_noticed_at_once(pair: Pair) -> None:
    for turn in range(3):
        pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=turn))
    cut = pair.fast.cut
    for bench in pair.both():  # the next hop has another address
        table = bench.router.stack.neighbours4
        table.set_permanent(bench.router.interfaces[WAN], 0x0A020002, b"\2\0\0\0\1\x77")
    out = pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=4))
    assert out[WAN][0][VNET_BYTES : VNET_BYTES + 6] == b"\2\0\0\0\1\x77" and pair.fast.cut == cut
    pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=5))
    assert pair.fast.cut == cut + 1
    for bench in pair.both():  # nothing is forwarded any more
        bench.router.reload(load("test", INTERFACES.replace("forwarding = true", "forwarding = false")), bench.links)
    assert pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=6)) == {LAN: [], WAN: []}
    assert pair.fast.cut == cut + 1


def test_a_new_policy_is_noticed_at_once(pair: Pair) -> None:
    for turn in range(3):
        pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=turn))
    cut = pair.fast.cut
    for bench in pair.both():
        bench.router.reload(load("test", INTERFACES + REFUSING), bench.links)
    assert pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=6)) == {LAN: [], WAN: []}
    assert pair.fast.cut == cut


def test_a_connection_that_is_gone_is_gone_for_shortcuts(pair: Pair) -> None:
    if not pair.fast.router.firewall.policy.tracks:
        return
    for turn in range(3):
        pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=turn))
    cut = pair.fast.cut
    for bench in pair.both():
        bench.router.firewall.forget(list(bench.router.firewall.tracker.connections()))
    pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=4))
    assert pair.fast.cut == cut
    same_counts(pair)


def test_who_captures_sees_every_frame(pair: Pair) -> None:
    seen: list[Packet] = []

    class Capture:
        failed = None

        def record(self, packets: list[Packet], now: int) -> None:
            seen.extend(packets)

        def close(self) -> None:
            pass

    for turn in range(3):
        pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=turn))
    router = pair.fast.router
    router.loop.captures[router.interfaces[WAN]] = [Capture()]
    pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=4))
    assert len(seen) == 1
    del router.loop.captures[router.interfaces[WAN]]


def test_what_the_outgoing_link_does_not_take_waits_there(pair: Pair) -> None:
    for turn in range(3):
        pair.send(LAN, frame(LAN, 30_000, gso=1448, seq=turn))
    cut = pair.fast.cut
    for bench in pair.both():
        bench.links[WAN]._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        for turn in range(60):
            bench.send(LAN, frame(LAN, 30_000, gso=1448, seq=10 + turn))
        assert bench.links[WAN].backlog
    got: list[list[int]] = []
    for bench in pair.both():
        numbers: list[int] = []
        for _ in range(30):
            numbers += [int.from_bytes(one[VNET_BYTES + 38 : VNET_BYTES + 42], "big") for one in bench.out()[WAN]]
            bench.turn()
        got.append(numbers)
    assert got[0] == got[1] == list(range(10, 70))
    assert pair.fast.cut > cut
