"""A transfer over a `World`: both sides write seeded data, read all, and close; every byte is compared."""

from __future__ import annotations

import random
from dataclasses import dataclass

from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.parameters import SECOND, Options
from services.netstackd.transport.tcp.states import CLOSED, SYN_SENT
from tests.netstack.netsim.world import Host, World


class Side:
    """The user of one end: writes `total` bytes of a seeded pattern as room allows, reads whatever comes."""

    def __init__(self, host: Host, total: int, seed: int, chunk: int, read_chunk: int) -> None:
        self.host = host
        self.total = total
        self.pattern = random.Random(seed).randbytes(min(total, 1 << 16) or 1)
        self.written = 0
        self.received = bytearray()
        self.count_only = 0
        self.keep = True
        self.ended = False
        self.closed = False
        self.error = 0
        self.chunk = chunk
        self.read_chunk = read_chunk
        self.endpoint: Endpoint | None = None
        self.close_after_read = False

    def expected(self, count: int) -> bytes:
        size = len(self.pattern)
        return (self.pattern * (count // size + 1))[:count]

    def act(self) -> None:
        endpoint = self.endpoint
        if endpoint is None:
            if self.host.listener is None:
                return
            endpoint = self.endpoint = self.host.listener.accept()
            if endpoint is None:
                return
        self._read(endpoint)
        self._write(endpoint)
        if self.ended and self.written == self.total and not self.closed:
            self.closed = True
            endpoint.close(self.host.world.now)

    def _read(self, endpoint: Endpoint) -> None:
        while not self.ended and not self.error:
            data = endpoint.read(self.read_chunk)
            if isinstance(data, int):
                if data != -11:
                    self.error = -data
                return
            if not data:
                self.ended = True
                return
            self.received += data
            if not self.keep:
                self.count_only += len(data)
                self.received.clear()

    def _write(self, endpoint: Endpoint) -> None:
        size = len(self.pattern)
        while self.written < self.total:
            start = self.written % size
            piece = self.pattern[start : start + min(self.chunk, self.total - self.written)]
            taken = endpoint.write(piece)
            if taken <= 0:
                if taken < 0:
                    self.error = self.error or -taken
                return
            self.written += taken
        if self.written == self.total and not endpoint.send_shutdown and endpoint.state not in (CLOSED, SYN_SENT):
            endpoint.shutdown_write(self.host.world.now)


@dataclass
class Outcome:
    finished: bool
    duration: int  # ns from connect until both sides had everything
    client: Side
    server: Side


def transfer(
    world: World,
    upload: int,
    download: int,
    *,
    limit: int = 3600 * SECOND,
    chunk: int = 16384,
    read_chunk: int = 65536,
    seed: int = 0,
    options: Options | None = None,
) -> Outcome:
    client = Side(world.client, upload, seed, chunk, read_chunk)
    server = Side(world.server, download, seed + 1, chunk, read_chunk)
    world.client.user, world.server.user = client.act, server.act
    world.listen()
    begun = world.now
    client.endpoint = world.connect(options)

    def over() -> bool:
        return (client.ended and server.ended) or bool(client.error and server.error)

    finished = world.run(over, limit)
    duration = world.now - begun
    return Outcome(finished and client.ended and server.ended, duration, client, server)


def settle(world: World, limit: int = 48 * 3600 * SECOND) -> None:
    """Let everything end: TIME-WAIT, last acks, orphans."""
    world.run(lambda: False, limit)
