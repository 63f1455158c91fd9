"""What netstackd itself pays for the TCP of a sandbox: `python -m tests.netstack.bench_rings [--seconds 2] [CASE ...]`

Not a test. A namespace has one end of a veth pair (a packet socket), the other end is the host's own TCP. Three
processes: the router's loop, a client of the socket service whose stream is in rings, and the host's end.

    in          host to client                  out         client to host
    in_socket   the same without rings          out_socket
    in_paced    slower than the router is: a segment or two each turn
    trips       one byte there and back         connections one each, closed by the host

Printed: Mbit/s (or a rate), the router's processor time for 64 KB (or for one), turns, and bytes a turn. Needs root.
"""

from __future__ import annotations

import argparse
import cProfile
import fcntl
import gc
import json
import mmap
import os
import pstats
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from protocol.rings import DATA, Consumer, Producer, mapping_bytes
from protocol.rpc.codec import Fd
from services.netstackd.links.packet_socket import open_packet_socket
from services.netstackd.namespaces import LinkRow
from services.netstackd.process import COLLECT
from tests.netstack.socket_service.client import Client, World, address
from tests.sandbox.peers import Peer, ip

PORT: Final = 7301
RX_RING: Final = 1 << 21  # as the Sentry makes them for who sends much
TX_RING: Final = 1 << 22
PACE: Final = 300_000_000  # bytes per second
_SO_MAX_PACING_RATE: Final = 47
UNIT: Final = 65536  # bytes that one figure is about


class Waiting(World):
    """The client's side of a World: another process turns the loop."""

    def __init__(self) -> None:
        pass

    def until(self, condition: Callable[[], Any], limit: float = 20.0) -> Any:
        end = time.monotonic() + limit
        while not (found := condition()):
            assert time.monotonic() < end
            time.sleep(0.0005)
        return found


class Rings:
    """The client's side of a stream. Without a client's `rings` call it is the data socket's (`ringed` False)."""

    def __init__(self, client: Client, number: int, data: socket.socket, ringed: bool) -> None:
        self.data = data
        self.ringed = ringed
        data.setblocking(not ringed)
        if ringed:
            fd = os.memfd_create("stream", os.MFD_ALLOW_SEALING)
            size = mapping_bytes(RX_RING, TX_RING)
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            memory = memoryview(mmap.mmap(fd, size))
            self.rx, self.tx = Consumer(memory, 0, DATA, RX_RING), Producer(memory, 1, DATA + RX_RING, TX_RING)
            self.before = client.receive(data, client.call("rings", number, RX_RING, TX_RING, 0, Fd(fd)))
        self.poll = select.poll()
        self.poll.register(data, select.POLLIN)

    def sleep(self) -> bool:
        """Until the doorbell; False at the end."""
        self.poll.poll()
        return bool(self.data.recv(4096))

    def drink(self) -> None:
        scratch = memoryview(bytearray(RX_RING))
        while True:
            if not self.ringed:
                if not self.data.recv_into(scratch[:UNIT]):
                    return
                continue
            count = self.rx.used()
            if count:
                for piece in self.rx.pieces(count):
                    scratch[: len(piece)] = piece
                self.rx.consumed(count)
                if self.rx.take_waiting():
                    self.data.send(b"!")
            elif self.rx.arm() and not self.sleep():
                return

    def pour(self) -> None:
        block = memoryview(bytes(UNIT))
        while True:
            if not self.ringed:
                self.data.sendall(block)
                continue
            room = self.tx.room()
            if room:
                self.tx.write(block[:room])
                if self.tx.take_waiting():
                    self.data.send(b"!")
            elif self.tx.arm(TX_RING // 3) and not self.sleep():
                return


def serve(client: Client, role: str) -> None:
    """The client's process: a listener, and what becomes of connections to it."""
    client.world = Waiting()
    client.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    client.call("bind", 1, address("", PORT))
    client.call("listen", 1, 64)
    while True:
        select.select([client.sock], [], [])
        client.read()
        for event in client.events:
            if event.method != "accepted":
                continue
            _, number, _, _, fd = event.params
            client.notify("taken", 1, 1)
            data = client.open_data(fd)
            if role in ("echo", "echo_rings"):
                echo(client, number, data, role == "echo_rings")
            else:
                rings = Rings(client, number, data, not role.endswith("_socket"))
                try:
                    rings.drink() if role.startswith("in") else rings.pour()
                except (BrokenPipeError, ConnectionResetError):
                    pass
            client.notify("close", number)
            data.close()
        client.events.clear()


def echo(client: Client, number: int, data: socket.socket, ringed: bool) -> None:
    data.setblocking(True)
    if not ringed:
        while byte := data.recv(64):
            data.send(byte)
        return
    rings = Rings(client, number, data, True)
    if rings.before:
        rings.tx.write(rings.before)
        data.send(b"!")
    while True:
        count = rings.rx.used()
        if count:
            byte = b"".join(rings.rx.pieces(count))
            rings.rx.consumed(count)
            rings.tx.write(byte)
            if rings.tx.take_waiting():
                rings.data.send(b"!")
        elif rings.rx.arm() and not rings.sleep():
            return


class Bench:
    """The processes and the network between them."""

    def __init__(self, profile: bool) -> None:
        self.peer = Peer(8192 + os.getpid() % 8192)
        self.peer.make()
        ip("-n", self.peer.namespace, "address", "flush", "dev", "eth0")
        link = open_packet_socket("eth0", "eth0", mac=None, netns=self.peer.namespace)
        world = World("[router]\n")
        router = world.router
        own = int.from_bytes(socket.inet_aton(self.peer.address), "big")
        namespace = router.namespaces.add_with_links("bench", [LinkRow(link, [(4, own, 30)])], [], [])
        self.client = world.client(namespace)
        self._ask, answer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.children: list[int] = []
        self.router = self._fork(lambda: self._turn(world, answer, link, profile))
        self.role = 0

    def _fork(self, what: Callable[[], None]) -> int:
        child = os.fork()
        if not child:
            try:
                what()
            finally:
                os._exit(0)
        self.children.append(child)
        return child

    @staticmethod
    def _turn(world: World, answer: socket.socket, link: Any, profile: bool) -> None:
        loop = world.router.loop
        profiler = cProfile.Profile()

        def tell(events: int, now: int) -> None:
            word = answer.recv(64)
            if profile:
                profiler.disable()
                if word == b"show":
                    pstats.Stats(profiler).sort_stats("tottime").print_stats(35)
            user, system, *_ = os.times()
            counters = link.counters
            state = [user, system, loop.turns, counters.rx_packets, counters.rx_bytes, counters.tx_packets]
            answer.send(json.dumps([*state, counters.tx_bytes]).encode())
            if profile:
                profiler.enable()

        loop.watch(answer.fileno(), select.EPOLLIN, tell)
        gc.freeze()
        gc.set_threshold(*COLLECT)
        loop.run()

    def state(self, word: bytes = b"state") -> list[float]:
        self._ask.send(word)
        found: list[float] = json.loads(self._ask.recv(1024))
        return found

    def play(self, role: str) -> None:
        """Another client's process."""
        if self.role:
            self._end(self.role)
        self.role = self._fork(lambda: serve(self.client, role))
        time.sleep(0.3)

    def _end(self, child: int) -> None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.children.remove(child)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.peer.address, PORT), 5)

    def close(self) -> None:
        for child in list(self.children):
            self._end(child)
        self.peer.close()


def bulk(bench: Bench, case: str, seconds: float) -> None:
    bench.play(case)
    link = bench.connect()
    if case == "in_paced":
        link.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, PACE)
    block = memoryview(bytearray(1 << 17))
    inward = case.startswith("in")
    begun = warm = time.monotonic()
    before = bench.state()
    total = 0
    while True:
        total += link.send(block) if inward else link.recv_into(block)
        now = time.monotonic()
        if warm == begun and now - begun > 0.5:
            before, total, warm = bench.state(), 0, now
        elif now - begun > 0.5 + seconds:
            break
    after = bench.state(b"show")
    user, system, turns, received, received_bytes, sent, sent_bytes = (
        b - a for a, b in zip(before, after, strict=True)
    )
    moved = received_bytes if inward else sent_bytes
    units = max(moved / UNIT, 1)
    print(
        f"{case:12}{total * 8e-6 / (now - warm):9.0f} Mbit/s{(user + system) * 1e6 / units:8.0f} us/64KB"
        f" ({user * 1e6 / units:.0f} user)"
        f"{turns / units:7.2f} turns/64KB  frames in {received / units:.2f} out {sent / units:.2f}/64KB,"
        f" {moved / max(received if inward else sent, 1):.0f} bytes each, {(user + system) / (now - warm):.0%} busy",
        flush=True,
    )
    link.close()


def small(bench: Bench, case: str, seconds: float) -> None:
    bench.play("echo_rings" if case == "trips_rings" else "echo")
    count = 0
    link = bench.connect()
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    before = bench.state()
    if case == "connections":
        link.close()
        time.sleep(0.1)
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if case == "connections":
            link = bench.connect()
        link.send(b"x")
        link.recv(1)
        if case == "connections":
            link.close()
        count += 1
    after = bench.state(b"show")
    user, system, turns = (after[index] - before[index] for index in range(3))
    print(
        f"{case:12}{count / seconds:9.0f} /s    {(user + system) * 1e6 / count:8.0f} us each"
        f" ({user * 1e6 / count:.0f} user){turns / count:9.2f} turns each",
        flush=True,
    )
    link.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="netstackd's own time for the TCP of a sandbox.")
    parser.add_argument("cases", nargs="*", default=["in", "out", "in_socket", "out_socket", "trips", "connections"])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--profile", action="store_true", help="show where the time goes (which costs some)")
    options = parser.parse_args()
    for case in options.cases:
        bench = Bench(options.profile)
        try:
            (bulk if case.startswith(("in", "out")) else small)(bench, case, options.seconds)
        finally:
            bench.close()


if __name__ == "__main__":
    main()
