"""netstackd as it is, sealed, with one thing more: TCP servers of its own stack on ports 7 and 9, which echo.

So floods and scans meet a listening socket and open connections of the stack itself, not only what is forwarded. Run
like netstackd, with the same flags.
"""

from __future__ import annotations

import sys
from typing import Any

from services.netstackd import process
from services.netstackd.__main__ import main
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.stack import Stack
from services.netstackd.transport.base import AF_INET6
from services.netstackd.transport.tcp_socket import TcpSocket

PORTS = (7, 9)


class Echo:
    """A server on one port. Readiness is told in the middle of a batch: it looks when the batch is over."""

    def __init__(self, stack: Stack, port: int) -> None:
        self._stack = stack
        self._look = stack.timers.new(self._serve)
        self._ready: set[TcpSocket] = set()
        self._socket = TcpSocket(stack, AF_INET6)
        self._socket.bind((0, port, 0))
        self._socket.listen(64)
        self._socket.subscribe(self._woken)

    def _woken(self, socket: Any, mask: int) -> None:
        self._ready.add(socket)
        self._look.set(self._stack.now)

    def _serve(self, now: int) -> None:
        ready, self._ready = self._ready, set()
        for socket in ready:
            try:
                if socket is self._socket:
                    while True:
                        child = socket.accept()
                        child.subscribe(self._woken)
                        self._woken(child, 0)
                while data := socket.receive(65536):
                    socket.send(data)
                socket.close()
            except WouldBlock:
                pass
            except NetError:
                socket.close()


class Talker(process.RouterProcess):
    """See the module docstring."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.servers = [Echo(self._router.stack, port) for port in PORTS]


if __name__ == "__main__":
    process.RouterProcess = Talker  # type: ignore[misc]
    sys.exit(main())
