"""A real gofer in a forked child, for tests and measurements: sealed, unless asked otherwise."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from protocol.p9.client import P9Client
from services.gofer import app


@contextmanager
def gofer_process(exports: dict[bytes, tuple[str, bool]], seal: bool = True) -> Iterator[tuple[P9Client, int]]:
    """A gofer in a forked child, and a negotiated client of it; (client, pid). The child is reaped at the end."""
    ours, theirs = socket.socketpair()
    ready, said = os.pipe()
    pid = os.fork()
    if not pid:
        ours.close()
        os.close(ready)
        app.run_in_child(theirs, exports, seal=seal, ready_fd=said)
    theirs.close()
    os.close(said)
    try:
        with open(ready, "rb") as file:
            assert file.read() == b"R", "gofer did not become ready"
        client = P9Client(ours)
        client.negotiate()
        yield client, pid
        client.close()
    finally:
        ours.close()
        os.waitpid(pid, 0)
