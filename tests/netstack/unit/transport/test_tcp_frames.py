"""The short way of TCP's frames (transport/tcp_frames.py) against the general one: the same frames, one stack each."""

from __future__ import annotations

import random
import select
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.netstackd.network.interface import ETHERNET, OFFLOAD_ALL, Interface
from services.netstackd.network.neighbours import Neighbours
from services.netstackd.sockets import AF_INET, AF_INET6, SOCK_STREAM, TcpSocket, open_socket
from services.netstackd.stack import Stack
from services.netstackd.storage.packet import CSUM_NONE, CSUM_PARTIAL, CSUM_VALID, Packet
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.segment import ACK, CWR, ECE, FIN, MASK, PSH, RST, SYN, URG
from services.netstackd.wire import ethernet, ipv4, ipv6, tcp
from services.netstackd.wire.checksum import checksum
from services.netstackd.wire.numbers import ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTO_TCP
from services.netstackd.wire.tcp_options import SynOptions, emit_options
from tests.netstack.interpreted import attributes

MAC, PEER = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
OURS = {4: 0x0A010001, 6: 0xFD01 << 112 | 1}
THEIRS = {4: 0x0A010002, 6: 0xFD01 << 112 | 2}
FAMILY = {4: AF_INET, 6: AF_INET6}
PORT, START = 80, 1_000_000_000
_IP = 14  # where its header begins


class Host:
    """A stack with a listener, one connection to it, and how to send it a segment."""

    def __init__(self, version: int, short: bool) -> None:
        self.version = version
        self.now = START
        self.stack = Stack(random.Random(1), bytes(32), START)
        if not short:
            self.stack.tcp.guards_ttl = True  # leaves every frame to the general way
        self.iface = iface = self.stack.add_interface(Interface("eth0", ETHERNET, MAC, 1500, OFFLOAD_ALL))
        self.stack.set_up(iface, True)
        self.stack.add_address(iface, 4, OURS[4], 24)
        self.stack.add_address(iface, 6, OURS[6], 64, detect=False)
        for neighbours, address in ((self.stack.neighbours4, THEIRS[4]), (self.stack.neighbours6, THEIRS[6])):
            assert isinstance(neighbours, Neighbours)
            neighbours.set_permanent(iface, address, PEER)
        self.server = open_socket(self.stack, FAMILY[version], SOCK_STREAM)
        assert isinstance(self.server, TcpSocket)
        self.server.bind((0, PORT, 0))
        self.server.listen(5)
        self.told: list[int] = []
        self.receive(frame(version, flags=SYN | ECE | CWR, seq=999, ack=0, syn=SynOptions(1460, 7, True)))
        self.sent()
        request = next(iter(self.server.listener.requests.values()))  # type: ignore[union-attr]
        self.iss = request.iss
        self.receive(frame(version, seq=1000, ack=self.iss + 1))
        self.socket = self.server.accept()
        self.sent()
        self.socket.subscribe(lambda _, mask: self.told.append(mask))

    def receive(self, data: bytes, csum: int = CSUM_VALID) -> None:
        packet = Packet(bytearray(data), len(data))
        packet.csum = csum
        self.stack.receive(self.iface, [packet], self.now)

    def sent(self) -> list[bytes]:
        """Flush, and what leaves then."""
        self.stack.flush(self.now)
        self.stack.take_sending()
        frames = [packet.frame_bytes() for packet in self.iface.tx]
        self.iface.tx.clear()
        return frames

    def state(self) -> dict[str, Any]:
        """All that can be told of it."""
        endpoint = self.socket.endpoint
        assert endpoint is not None
        found = {name: _plain(getattr(endpoint, name)) for name in attributes(Endpoint) if name not in _OBJECTS}
        found["received"] = endpoint.receive.peek(1 << 20)
        found["cwnd"] = endpoint.cc.cwnd
        found["rto"] = endpoint.rtt.rto
        found["counters"] = list(self.stack.counters.values)
        found["connections"] = {key: type(value) for key, value in self.stack.tcp.connections4.items()}
        found["connections6"] = {key: type(value) for key, value in self.stack.tcp.connections6.items()}
        found["requests"] = len(self.server.listener.requests)  # type: ignore[union-attr]
        found["told"] = list(self.told)
        found["deadline"] = self.stack.next_deadline()
        return found


_OBJECTS = frozenset({
    "cc", "context", "counters", "on_event", "before_flush", "taker", "options", "owner", "p", "prr", "rack",
    "receive", "route", "rtt", "send", "sent", "assembler",
})  # fmt: skip


def _plain(value: object) -> object:
    return value if isinstance(value, int | bytes | tuple | str | type(None)) else repr(value)


def frame(
    version: int,
    *,
    seq: int,
    ack: int,
    flags: int = ACK,
    data: bytes = b"",
    window: int = 500,
    ts: tuple[int, int] | None = (5000, 0),
    syn: SynOptions | None = None,
    blocks: tuple[tuple[int, int], ...] = (),
    tos: int = 0,
    port: int = 40000,
    padding: int = 0,
    urgent: int = 0,
) -> bytes:
    """A frame from the peer with all checksums right. Numbers are taken modulo 2^32."""
    src, dst = THEIRS[version], OURS[version]
    options = emit_options(ts[0] & MASK if ts else -1, ts[1] & MASK if ts else 0, blocks, syn)
    whole = tcp.header(port, PORT, seq & MASK, ack & MASK, flags, window, urgent=urgent, options=options) + data
    field = tcp.checksum_of(src, dst, whole)
    whole = (
        tcp.header(port, PORT, seq & MASK, ack & MASK, flags, window, urgent=urgent, options=options, field=field)
        + data
    )
    if version == 4:
        head = ethernet.header(MAC, PEER, ETHERTYPE_IPV4) + ipv4.header(src, dst, PROTO_TCP, len(whole), tos=tos)
    else:
        head = ethernet.header(MAC, PEER, ETHERTYPE_IPV6)
        head += ipv6.header(src, dst, PROTO_TCP, len(whole), traffic_class=tos)
    return head + whole + bytes(padding)


PLAIN: dict[str, Any] = {
    "flags": ACK | PSH, "offset": 0, "acked": 0, "data": b"x", "window": 500, "ts": "next", "blocks": (), "tos": 0,
    "port": 40000, "padding": 0, "csum": CSUM_VALID, "spoil": None, "write": 0, "read": 0, "wait": 1_000_000,
    "flush": True, "close": False,
}  # fmt: skip
OTHERWISE: dict[str, list[Any]] = {
    "flags": [ACK, ACK | FIN, SYN, RST, RST | ACK, SYN | ACK, ACK | URG, ACK | ECE, ACK | CWR, 0],
    "offset": [1, -1, 5, 70_000, -70_000],  # from the next one
    "acked": [1, 10, 500, 1000, -1, 100_000],  # of what was sent
    "data": [b"", bytes(100), bytes(1400)],
    "window": [0, 1, 65535],
    "ts": ["old", "none"],
    "blocks": [((3, 9),)],
    "tos": [2, 3, 0x10],
    "port": [40001],
    "padding": [6],
    "csum": [CSUM_PARTIAL, CSUM_NONE],
    "spoil": ["mac", "ip", "tcp", "fragment", "length", "short", "offset"],
    "write": [1, 600, 3000],
    "read": [1 << 20],
    "wait": [1_000, 50_000_000],
    "flush": [False],
    "close": [True],
}
CHANGE = st.sampled_from([(name, value) for name, values in OTHERWISE.items() for value in values])
SEGMENTS = st.lists(CHANGE, max_size=3).map(lambda changes: PLAIN | dict(changes))


def spoiled(data: bytes, how: str | None, version: int) -> bytes:
    """The frame with something wrong in it."""
    out = bytearray(data)
    l4 = _IP + (20 if version == 4 else 40)
    match how:
        case "mac":
            out[5] ^= 8
        case "ip":
            out[_IP + 8] ^= 1  # its time to live, or of IPv6 an address
        case "tcp":
            out[l4 + 9] ^= 4
        case "fragment" if version == 4:
            out[_IP + 6] |= 0x20
            out[_IP + 10 : _IP + 12] = bytes(2)
            out[_IP + 10 : _IP + 12] = checksum(memoryview(out)[_IP:l4]).to_bytes(2, "big")
        case "fragment":
            out[_IP + 6] = 44  # a fragment header, which that is not
        case "length":
            out[_IP + (3 if version == 4 else 5)] ^= 0x41
        case "short":
            del out[l4 + 7 :]
        case "offset":
            out[l4 + 12] = 0x40 if out[-1] & 1 else 0xF0
    return bytes(out)


@settings(deadline=None, max_examples=300)
@given(version=st.sampled_from([4, 6]), steps=st.lists(SEGMENTS, max_size=14))
def test_both_ways_do_the_same(version: int, steps: list[dict[str, Any]]) -> None:
    hosts = [Host(version, short) for short in (True, False)]
    stamp = 5000
    for step in steps:
        stamp += 1
        endpoint = hosts[0].socket.endpoint
        assert endpoint is not None
        if step["ts"] == "old":
            ts: tuple[int, int] | None = (stamp - 100, 0)
        else:
            ts = (stamp, 0) if step["ts"] == "next" else None
        made = frame(
            version,
            seq=endpoint.rcv_nxt + step["offset"],
            ack=endpoint.snd_una + step["acked"],
            flags=step["flags"],
            data=step["data"],
            window=step["window"],
            ts=ts,
            blocks=tuple((endpoint.snd_una + a, endpoint.snd_una + b) for a, b in step["blocks"]),
            tos=step["tos"],
            port=step["port"],
            padding=step["padding"],
            urgent=1,
        )
        made = spoiled(made, step["spoil"], version)
        out = []
        for host in hosts:
            host.now += step["wait"]
            host.stack.advance(host.now)
            connection = host.socket.endpoint
            assert connection is not None
            if step["write"]:
                connection.write(bytes(step["write"]))
                host.stack.flush(host.now)
            host.receive(made, step["csum"])
            if step["read"]:
                connection.read(step["read"])
            if step["close"]:
                host.socket.close()
            out.append(host.sent() if step["flush"] else [])
        assert out[0] == out[1]
        assert hosts[0].state() == hosts[1].state()


@pytest.mark.parametrize("version", [4, 6])
def test_the_short_way_is_taken(version: int) -> None:
    """By plain data, by what header prediction does not take, and by a handshake."""
    host = Host(version, short=True)
    for handlers in (host.stack.ipv4.handlers, host.stack.ipv6.handlers):
        handlers[PROTO_TCP] = lambda packet: pytest.fail("the general way")
    host.receive(frame(version, seq=1000, ack=host.iss + 1, data=b"abc", flags=ACK | PSH))
    host.receive(frame(version, seq=1003, ack=host.iss + 1, ts=None, data=b"d"))  # no timestamp
    host.receive(frame(version, seq=1004, ack=host.iss + 1, flags=ACK | FIN), CSUM_NONE)
    host.receive(frame(version, seq=7, ack=0, flags=SYN, port=40001))
    assert host.socket.endpoint is not None
    assert host.socket.endpoint.read(10) == b"abcd"
    assert host.socket.endpoint.fin_received
    assert len(host.server.listener.requests) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("who", ["prerouting", "input", "tap", "raw", "ttl"])
def test_who_wants_to_see_packets_sees_them(version: int, who: str) -> None:
    host = Host(version, short=True)
    seen: list[object] = []

    def hook(packet: Packet) -> bool:
        seen.append(packet)
        return True

    if who == "tap":
        host.stack.taps.append(None)  # type: ignore[arg-type]
    elif who == "raw":
        host.stack.raw.sockets[version][PROTO_TCP] = []
    elif who == "ttl":
        host.stack.tcp.guards_ttl = True
    else:
        setattr(host.stack.hooks, who, hook)
    assert not host.stack._tcp_frames.ready()
    host.stack.taps.clear()
    host.receive(frame(version, seq=1000, ack=host.iss + 1, data=b"abc"))
    assert host.socket.endpoint is not None
    assert host.socket.endpoint.read(10) == b"abc"
    assert len(seen) == (who in ("prerouting", "input"))


@pytest.mark.parametrize("version", [4, 6])
def test_a_taker_is_offered_what_nothing_waits_before(version: int) -> None:
    host = Host(version, short=True)
    endpoint = host.socket.endpoint
    assert endpoint is not None
    offered: list[bytes] = []
    takes = [3, 2, 0, 1]

    def take(payload: bytes | memoryview) -> int:
        offered.append(bytes(payload))
        return takes.pop(0)

    endpoint.taker = take
    seq = 1000

    def send(data: bytes) -> None:
        nonlocal seq
        host.receive(frame(version, seq=seq, ack=host.iss + 1, data=data, ts=(4001 + seq, 0)))
        seq += len(data)

    send(b"abc")
    host.sent()
    assert host.told == []
    assert endpoint.receive.size == 0
    send(b"def")  # of which one is left
    send(b"gh")  # which is not offered, as that one waits
    host.sent()
    assert host.told == [select.POLLIN]
    assert endpoint.read(100) == b"fgh"
    send(b"i")
    assert endpoint.read(100) == b"i"
    send(b"j")
    assert offered == [b"abc", b"def", b"i", b"j"]
    assert endpoint.copied_seq == endpoint.rcv_nxt == seq
    send(bytes(16_385))  # better taken with others
    assert len(offered) == 4
    assert endpoint.receive.size == 16_385


def test_a_taker_does_not_keep_what_waits_to_be_sent() -> None:
    """An acknowledgement that comes with data that is taken lets more leave."""
    host = Host(4, short=True)
    endpoint = host.socket.endpoint
    assert endpoint is not None
    endpoint.taker = len
    endpoint.write(bytes(10))
    assert len(host.sent()) == 1
    endpoint.write(bytes(10))
    host.receive(frame(4, seq=1000, ack=host.iss + 1, data=b"a"))
    host.sent()
    assert endpoint.snd_nxt == endpoint.send.end - 10  # held back (Nagle)
    endpoint.quick_acks = 0  # an acknowledgement of our own would take it along
    host.receive(frame(4, seq=1001, ack=host.iss + 11, data=b"b", ts=(5001, 0)))
    host.sent()
    assert endpoint.snd_nxt == endpoint.send.end
