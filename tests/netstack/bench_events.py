"""What netstackd's own code takes for each event in the life of a connection: `python -m tests.netstack.bench_events`

Not a test. One process holds the router's loop and a client of its socket service; the other end is the host's own TCP,
over a veth pair to a packet socket. So each event is there before the turn that serves it, and nothing waits for a
processor. Steps of a connection that lives as `connections` of bench_sandboxes do:

    syn         a SYN comes, a SYN-ACK leaves       closing     the client closes: FIN
    accept      the handshake's end comes, the      end         it is acknowledged: `gone`
                client is told                      in          (of many round trips) a byte comes, to the data socket
    first       a byte comes                        out         a byte goes from the data socket
    answer      a byte goes                         ack         the pure acknowledgement of it
    fin         the host's FIN comes                idle        a turn with nothing to do

Printed: microseconds (the lower quartile), Python frames and calls of C functions, of one turn each. `--trace STEP`
lists the functions of one such turn in order. `--asleep US` has the process sleep so long before each turn, as it does
where others answer: what it needs is out of the processor's caches then. Needs root.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
import statistics
import sys
import time
from collections import defaultdict
from types import FrameType
from typing import Any, Final

from services.netstackd.links.packet_socket import open_packet_socket
from services.netstackd.namespaces import LinkRow
from services.netstackd.process import COLLECT
from tests.netstack.socket_service.client import World, address
from tests.sandbox.peers import Peer, ip

PORT: Final = 7301
STEPS: Final = ("syn", "accept", "first", "answer", "fin", "closing", "end", "in", "out", "ack", "idle")
LIFE: Final = STEPS[:7]


class Bench:
    """The router, its client, and turns that are measured."""

    def __init__(self, asleep: float) -> None:
        self.asleep = asleep  # seconds before each turn
        self.peer = Peer(8192 + os.getpid() % 8192)
        self.peer.make()
        ip("-n", self.peer.namespace, "address", "flush", "dev", "eth0")
        link = open_packet_socket("eth0", "eth0", mac=None, netns=self.peer.namespace)
        self.world = World("[router]\n")
        own = int.from_bytes(socket.inet_aton(self.peer.address), "big")
        namespaces = self.world.router.namespaces
        namespace = namespaces.add_with_links("bench", [LinkRow(link, [(4, own, 30)])], [], [])
        self.client = client = self.world.client(namespace)
        client.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
        client.call("bind", 1, address("", PORT))
        client.call("listen", 1, 64)
        self.loop = self.world.router.loop
        self.spent: dict[str, list[int]] = defaultdict(list)
        self.frames: dict[str, list[int]] = defaultdict(list)
        self.calls: dict[str, list[int]] = defaultdict(list)
        self.traced = ""
        self.trace: list[str] = []
        self.counting = False

    def turn(self, step: str) -> None:
        """One turn of the loop, which is `step`."""
        if self.counting:
            self._count(step)
            return
        if self.asleep:
            time.sleep(self.asleep)
        begun = time.perf_counter_ns()
        self.loop.turn(0)
        self.spent[step].append(time.perf_counter_ns() - begun)

    def _count(self, step: str) -> None:
        frames = calls = depth = 0
        trace: list[str] = []

        def note(frame: FrameType, event: str, what: Any) -> None:
            nonlocal frames, calls, depth
            if event == "call":
                frames += 1
                code = frame.f_code
                trace.append(f"{'  ' * depth}{code.co_qualname}  {os.path.basename(code.co_filename)}:{frame.f_lineno}")
                depth += 1
            elif event == "return":
                depth -= 1
            elif event == "c_call":
                calls += 1
                trace.append(f"{'  ' * depth}- {what.__qualname__}")

        sys.setprofile(note)
        self.loop.turn(0)
        sys.setprofile(None)
        self.frames[step].append(frames - 1)
        self.calls[step].append(calls - 1)
        if step and step == self.traced:
            self.trace = trace

    def connect(self) -> tuple[socket.socket, int, socket.socket]:
        """A connection: the host's end, its number, the data socket."""
        link = socket.socket()
        link.setblocking(False)
        link.connect_ex((self.peer.address, PORT))
        self.turn("syn")
        self.turn("accept")
        _, number, _, _, fd = self.client.event("accepted")
        return link, number, self.client.open_data(fd)

    def live(self) -> None:
        """One connection, from its SYN to its end."""
        link, number, data = self.connect()
        link.send(b"x")
        self.turn("first")
        data.recv(64)
        data.send(b"y")
        self.turn("answer")
        link.recv(1)
        link.close()
        self.turn("fin")
        assert not data.recv(64)
        data.close()
        self.client.notify("close", number)
        self.turn("closing")
        self.turn("end")
        self.client.read()
        assert [event.method for event in self.client.events] == ["gone"]
        self.client.events.clear()
        self.client.data.clear()
        self.client.notify("taken", 1, 1)
        self.turn("")

    def talk(self, count: int) -> None:
        """Round trips of a byte."""
        link, number, data = self.connect()
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            link.send(b"x")
            self.turn("in")
            data.recv(64)
            data.send(b"y")
            self.turn("out")
            link.recv(1)
        for index in range(count):  # what goes alone is acknowledged alone
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            self.turn("ack" if index else "")
            data.send(b"y")
            self.turn("")
            link.recv(1)
        for _ in range(count):
            self.turn("idle")
        link.close()
        self.turn("")
        data.close()
        self.client.notify("close", number)
        self.world.turn(4)
        self.client.read()
        self.client.events.clear()
        self.client.data.clear()
        self.client.notify("taken", 1, 1)
        self.turn("")

    def close(self) -> None:
        self.world.close()
        self.peer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="netstackd's own time for each event of a connection.")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--trace", default="", choices=("", *STEPS))
    parser.add_argument("--asleep", type=float, default=0, metavar="US")
    options = parser.parse_args()
    bench = Bench(options.asleep / 1e6)
    try:
        gc.freeze()
        gc.set_threshold(*COLLECT)
        for _ in range(options.rounds):
            bench.live()
        bench.talk(options.rounds)
        bench.counting, bench.traced = True, options.trace
        for _ in range(5):
            bench.live()
        bench.talk(5)
        spent = {step: statistics.quantiles(bench.spent[step])[0] / 1000 for step in STEPS}
        for step in STEPS:
            print(f"{step:8}{spent[step]:9.1f} us{bench.frames[step][-1]:8} frames{bench.calls[step][-1]:8} C calls")
        print(f"{'life':8}{sum(spent[step] for step in LIFE):9.1f} us")
        if options.trace:
            print("\n".join(bench.trace))
    finally:
        bench.close()


if __name__ == "__main__":
    main()
