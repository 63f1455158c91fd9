"""How long a packet takes on its hot paths, in nanoseconds: forwarded, received by UDP and TCP, sent, parsed alone.

Run it with the package on the path: `python tests/netstack/bench_paths.py [rounds]`. Figures are the best of several
rounds of batches of 64, as the event loop makes them; each packet object is made anew outside of what is timed, except
in `make+parse`.
"""

from __future__ import annotations

import errno
import random
import sys
from collections.abc import Callable
from time import perf_counter_ns

from services.netstackd.errors import NetError
from services.netstackd.network.interface import ETHERNET, OFFLOAD_ALL, Interface
from services.netstackd.network.neighbours import Neighbours
from services.netstackd.sockets import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, TcpSocket, UdpSocket, open_socket
from services.netstackd.stack import Stack
from services.netstackd.storage.packet import CSUM_VALID, Packet
from services.netstackd.wire import ethernet, ipv4, ipv6, tcp, udp
from services.netstackd.wire.numbers import ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTO_TCP, PROTO_UDP

BATCH = 64
LEFT, RIGHT = 0x0A010001, 0x0A020001
LEFT6, RIGHT6 = 0xFD01 << 112 | 1, 0xFD02 << 112 | 1
MAC = b"\x02\0\0\0\0\1"
PEER = b"\x02\0\0\0\0\2"
NOW = 1_000_000_000


def stack_with_two_links() -> tuple[Stack, Interface, Interface]:
    stack = Stack(random.Random(1), bytes(32), NOW)
    links = []
    for number, name in enumerate(("left", "right"), 1):
        iface = stack.add_interface(Interface(name, ETHERNET, MAC, 1500, OFFLOAD_ALL))
        stack.set_up(iface, True)
        stack.add_address(iface, 4, 0x0A0000FE | number << 16, 24)
        stack.add_address(iface, 6, (0xFD00 | number) << 112 | 0xFE, 64, detect=False)
        stack.configure(iface, forwarding4=True, forwarding6=True)
        links.append(iface)
    for neighbours, left, right in ((stack.neighbours4, LEFT, RIGHT), (stack.neighbours6, LEFT6, RIGHT6)):
        assert isinstance(neighbours, Neighbours)
        neighbours.set_permanent(links[0], left, PEER)
        neighbours.set_permanent(links[1], right, PEER)
    stack.flush(NOW)
    for iface in links:
        iface.tx.clear()
    return stack, links[0], links[1]


def udp_frame(version: int, src: int, dst: int, size: int, port: int = 7000) -> bytes:
    body = udp.header_checksummed(src, dst, 5000, port, bytes(size)) + bytes(size)
    if version == 4:
        return ethernet.header(MAC, PEER, ETHERTYPE_IPV4) + ipv4.header(src, dst, PROTO_UDP, len(body)) + body
    return ethernet.header(MAC, PEER, ETHERTYPE_IPV6) + ipv6.header(src, dst, PROTO_UDP, len(body)) + body


def batch_of(frame: bytes) -> list[Packet]:
    packets = []
    for _ in range(BATCH):
        packet = Packet(bytearray(frame), len(frame))
        packet.csum = CSUM_VALID
        packets.append(packet)
    return packets


def measure(name: str, rounds: int, prepare: Callable[[], object], work: Callable[[object], object]) -> None:
    best = 1 << 62
    for _ in range(rounds):
        material = prepare()
        start = perf_counter_ns()
        work(material)
        best = min(best, perf_counter_ns() - start)
    print(f"{name:24} {best / BATCH:8.0f} ns/packet")


def forward(rounds: int, version: int, size: int) -> None:
    stack, left, right = stack_with_two_links()
    frame = udp_frame(version, LEFT if version == 4 else LEFT6, RIGHT if version == 4 else RIGHT6, size)

    def work(packets: object) -> None:
        stack.receive(left, packets, NOW)  # type: ignore[arg-type]
        stack.flush(NOW)
        assert len(right.tx) == BATCH
        right.tx.clear()

    measure(f"forward v{version} {size}", rounds, lambda: batch_of(frame), work)


def udp_in(rounds: int, version: int, connected: bool) -> None:
    stack, left, _ = stack_with_two_links()
    own = 0x0A0100FE if version == 4 else 0xFD01 << 112 | 0xFE
    peer = LEFT if version == 4 else LEFT6
    socket = open_socket(stack, AF_INET if version == 4 else AF_INET6, SOCK_DGRAM)
    assert isinstance(socket, UdpSocket)
    socket.bind((own, 7000, 0))
    if connected:
        socket.connect((peer, 5000, 0))
    frame = udp_frame(version, peer, own, 18)

    def work(packets: object) -> None:
        stack.receive(left, packets, NOW)  # type: ignore[arg-type]
        stack.flush(NOW)

    def prepare() -> list[Packet]:
        socket.queue.clear()
        socket.queued = 0
        return batch_of(frame)

    measure(f"udp-in v{version} {'connected' if connected else 'bound'}", rounds, prepare, work)


def udp_out(rounds: int, version: int) -> None:
    stack, left, _ = stack_with_two_links()
    socket = open_socket(stack, AF_INET if version == 4 else AF_INET6, SOCK_DGRAM)
    assert isinstance(socket, UdpSocket)
    socket.connect((LEFT if version == 4 else LEFT6, 7000, 0))

    def work(data: object) -> None:
        for _ in range(BATCH):
            socket.send(data)  # type: ignore[arg-type]
        left.tx.clear()

    measure(f"udp-out v{version}", rounds, lambda: bytes(18), work)


def tcp_in(rounds: int, version: int) -> None:
    """In-order segments of a connection that somebody reads; the acknowledgement of each batch included."""
    stack, left, _ = stack_with_two_links()
    own = 0x0A0100FE if version == 4 else 0xFD01 << 112 | 0xFE
    peer = LEFT if version == 4 else LEFT6
    socket = open_socket(stack, AF_INET if version == 4 else AF_INET6, SOCK_STREAM)
    assert isinstance(socket, TcpSocket)
    try:
        socket.connect((peer, 80, 0))
    except NetError as error:
        assert error.errno == errno.EINPROGRESS
    stack.flush(NOW)
    syn = left.tx.pop()
    seq = int.from_bytes(syn.head[syn.l4 + 4 : syn.l4 + 8], "big")
    state = {"seq": 1001}

    def frame(flags: int, number: int, payload: bytes) -> Packet:
        segment = tcp.header(80, socket.local_port, number, (seq + 1) & 0xFFFFFFFF, flags, 65535) + payload
        if version == 4:
            head = (
                ethernet.header(MAC, PEER, ETHERTYPE_IPV4) + ipv4.header(peer, own, PROTO_TCP, len(segment)) + segment
            )
        else:
            head = (
                ethernet.header(MAC, PEER, ETHERTYPE_IPV6) + ipv6.header(peer, own, PROTO_TCP, len(segment)) + segment
            )
        packet = Packet(bytearray(head), len(head))
        packet.csum = CSUM_VALID
        return packet

    stack.receive(left, [frame(tcp.SYN | tcp.ACK, 1000, b"")], NOW)
    stack.flush(NOW)
    left.tx.clear()

    def prepare() -> list[Packet]:
        endpoint = socket.endpoint
        assert endpoint is not None
        while endpoint.receive.size:
            socket.receive(1 << 20)
        stack.flush(NOW)
        left.tx.clear()
        packets = []
        for _ in range(BATCH):
            packets.append(frame(tcp.ACK, state["seq"], bytes(512)))
            state["seq"] = (state["seq"] + 512) & 0xFFFFFFFF
        return packets

    def work(packets: object) -> None:
        stack.receive(left, packets, NOW)  # type: ignore[arg-type]
        stack.flush(NOW)

    measure(f"tcp-in v{version}", rounds, prepare, work)


def parse(rounds: int) -> None:
    frame = udp_frame(4, LEFT, RIGHT, 18)

    def work(heads: object) -> None:
        for head in heads:  # type: ignore[attr-defined]
            packet = Packet(head, len(frame))
            packet.l3 = 14
            ipv4.parse_ipv4_untrusted(packet)

    measure("make+parse v4", rounds, lambda: [bytearray(frame) for _ in range(BATCH)], work)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    parse(rounds)
    forward(rounds, 4, 18)
    forward(rounds, 4, 1400)
    forward(rounds, 6, 1400)
    for version in (4, 6):
        udp_in(rounds, version, False)
        udp_in(rounds, version, True)
        udp_out(rounds, version)
        tcp_in(rounds, version)


if __name__ == "__main__":
    main()
