"""The sealed router killed with -9 while connections pass: the next one serves within a second on the same links, and
connections go on, forwarded and translated, whoever is sending.

What is lost is in docs/NETSTACK.md. Translations are made again from what the inner side sends (tcp_loose); one that
only listens is heard of by its keepalive, which the clients here have.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import threading
import time

import pytest

from services.netstackd.links.host_unsafe import entered
from tests.netstack.networks import FILTER, NAT, Sides, World, pings, server, wait_until

PIECE = random.Random(3).randbytes(16384)
PATIENCE = 30.0


class Flow(threading.Thread):
    """A connection from inside to outside on which one end sends at a few MB a second until told, and the other reads:
    every byte is compared by hash."""

    def __init__(self, listener: socket.socket, client: socket.socket, address: str, upwards: bool) -> None:
        super().__init__(daemon=True)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        client.settimeout(PATIENCE)
        client.connect((address, listener.getsockname()[1]))
        served, _ = listener.accept()
        served.settimeout(PATIENCE)
        self._sender, self._reader = (client, served) if upwards else (served, client)
        self._sent, self._got = hashlib.sha256(), hashlib.sha256()
        self.received = 0
        self.ending = threading.Event()
        self.error: OSError | None = None
        self._reading = threading.Thread(target=self._read, daemon=True)

    def run(self) -> None:
        """Send."""
        self._reading.start()
        try:
            while not self.ending.is_set():
                self._sender.sendall(PIECE)
                self._sent.update(PIECE)
                time.sleep(0.005)
            self._sender.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.error = error

    def _read(self) -> None:
        try:
            while data := self._reader.recv(1 << 18):
                self._got.update(data)
                self.received += len(data)
        except OSError as error:
            self.error = error

    def finish(self) -> None:
        """Let it end; every byte must have arrived."""
        self.ending.set()
        self.join(PATIENCE)
        self._reading.join(PATIENCE)
        self._sender.close()
        self._reader.close()
        assert self.error is None and not self._reading.is_alive(), self.error
        assert self._got.digest() == self._sent.digest()


def flow(sides: Sides, address: str, upwards: bool) -> Flow:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with entered(sides.wan):
        listener = socket.socket(family, socket.SOCK_STREAM)
    with entered(sides.lan):
        client = socket.socket(family, socket.SOCK_STREAM)
    with listener:
        listener.bind(("::" if ":" in address else "0.0.0.0", 0))
        listener.listen(1)
        made = Flow(listener, client, address, upwards)
    made.start()
    return made


@pytest.mark.parametrize("policy", ["forwarded", "translated", "filtered"])
def test_connections_go_on_when_the_router_is_killed_under_load(world: World, policy: str) -> None:
    sides = Sides(world, {"forwarded": "", "translated": NAT, "filtered": NAT + FILTER}[policy])
    if policy == "forwarded":
        sides.add_wan_route()
    assert pings(world, sides.lan, "10.2.0.2")
    server(world, sides.wan, "lines", "7000")
    flows = [flow(sides, address, upwards) for address in ("10.2.0.2", "fd02::2") for upwards in (True, False)]
    assert wait_until(lambda: all(one.received > 200_000 for one in flows), PATIENCE)
    before = sides.router.child()
    os.kill(before, signal.SIGKILL)
    began = time.monotonic()

    def new_connection() -> bool:
        with entered(sides.lan):
            sock = socket.socket()
        with sock:
            sock.settimeout(0.2)
            try:
                sock.connect(("10.2.0.2", 7000))
                sock.sendall(b"x\n")
                return sock.recv(100).endswith(b"x\n")
            except OSError:
                return False

    assert wait_until(new_connection, 20)
    back = time.monotonic() - began
    marks = [one.received for one in flows]
    assert wait_until(
        lambda: all(one.received > mark + 200_000 for one, mark in zip(flows, marks, strict=True)), PATIENCE
    ), [(one.received, mark, one.error) for one, mark in zip(flows, marks, strict=True)]
    print(f"{policy}: new connections after {back * 1000:.0f} ms, all flows after {time.monotonic() - began:.1f} s")
    for one in flows:
        one.finish()
    assert sides.router.child() != before and back < 5  # less than one, on a machine that does nothing else
