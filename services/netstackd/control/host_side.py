"""HostSide: the engine's way to host sockets (slirp/host.py). It asks the connector over RPC, and gives what comes back
to the loop to watch.

A connector that dies is asked for anew; what was asked of it fails with EAGAIN, and sockets that came from it go on.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from protocol.rpc.codec import Fd
from services.netstackd.control.server import Client, ControlServer
from services.netstackd.edge.host_sockets import FdPort, FdSocket, open_descriptor
from services.netstackd.edge.log import EventLog
from services.netstackd.edge.loop import Loop
from services.netstackd.slirp.host import HostPort, HostSocket
from services.netstackd.storage.timers import Timers

MAX_ASKED: Final = 768  # below what an RPC connection allows; the rest is refused, and counted by who asked
_RETRY_NS: Final = 500_000_000

Obtain = Callable[[Callable[[socket.socket | None], None]], None]


class HostSide:
    """See the module docstring. `obtain(done)` asks the keeper for a connector: `done(channel or None)`."""

    def __init__(self, loop: Loop, timers: Timers, log: EventLog, obtain: Obtain) -> None:
        self._loop = loop
        self._log = log
        self._obtain = obtain
        self._server = ControlServer(loop, {}, log)
        self._client: Client | None = None
        self._asked: list[tuple[str, list[Any], Callable[[Any, Any], None]]] = []
        self._obtaining = False
        self._retry = timers.new(self._again)
        self._closed = False

    def adopt(self, channel: socket.socket) -> None:
        """Begin with a connector that there is already."""
        self._obtaining = True
        self._obtained(channel)

    def start(self) -> None:
        """Have a connector, if there is none."""
        if self._client is None and not self._obtaining and not self._closed:
            self._obtaining = True
            self._obtain(self._obtained)

    def _again(self, now: int) -> None:
        self.start()

    def _obtained(self, channel: socket.socket | None) -> None:
        self._obtaining = False
        if channel is None or self._closed:
            if channel is not None:
                channel.close()
            self._fail_all()
            self._retry.set(self._loop.now + _RETRY_NS)
            return
        client = self._client = self._server.adopt(channel)
        client.on_close = lambda: self._lost(client)
        asked, self._asked = self._asked, []
        for method, params, done in asked:
            client.call(method, params, done)

    def _fail_all(self) -> None:
        asked, self._asked = self._asked, []
        for _, _, done in asked:
            done([errno.EAGAIN, "no connector"], None)

    def _lost(self, client: Client) -> None:
        """It died, or the keeper replaces it: what it was asked is answered by nobody."""
        if self._client is client:
            self._client = None
        calls, client.calls = client.calls, {}
        for done in calls.values():
            done([errno.EAGAIN, "the connector died"], None)
        if not self._closed:
            self._log.event("warning", "connector-lost")
            self.start()

    def _call(self, method: str, params: list[Any], done: Callable[[Any, Any], None]) -> None:
        client = self._client
        if client is not None and len(client.calls) < MAX_ASKED:
            client.call(method, params, done)
        elif client is None and len(self._asked) < MAX_ASKED and not self._closed:
            self._asked.append((method, params, done))
            self.start()
        else:
            done([errno.EAGAIN, "too much is asked of the connector"], None)

    def connect(
        self, kind: str, version: int, address: int, port: int, done: Callable[[HostSocket | int], None]
    ) -> None:
        """See Host."""

        def answered(error: Any, result: Any) -> None:
            if error is not None or not isinstance(result, Fd):
                done(_errno(error))
            else:
                done(FdSocket(self._loop, open_descriptor(result.number, kind, version)))

        self._call("connect", [kind, address.to_bytes(4 if version == 4 else 16, "big"), port], answered)

    def listen(self, kind: str, version: int, address: int, port: int, done: Callable[[HostPort | int], None]) -> None:
        """See Host."""

        def answered(error: Any, result: Any) -> None:
            if error is not None or not isinstance(result, Fd):
                done(_errno(error))
                return
            done(FdPort(self._loop, open_descriptor(result.number, kind, version)))

        self._call("listen", [kind, address.to_bytes(4 if version == 4 else 16, "big"), port], answered)

    def port(self, fd: int, kind: str) -> HostPort:
        """A listening or bound socket that somebody else has made. OSError."""
        return FdPort.of_descriptor(self._loop, fd, kind)

    def descriptors(self) -> list[int]:
        """What must survive the seal."""
        return [self._client.sock.fileno()] if self._client is not None else []

    def close(self) -> None:
        """The end: what is not answered yet fails."""
        self._closed = True
        self._retry.cancel()
        self._fail_all()
        if self._client is not None:
            self._server.drop(self._client, "")


def _errno(error: Any) -> int:
    if isinstance(error, list) and error and type(error[0]) is int and error[0]:
        return error[0]
    return errno.EIO
