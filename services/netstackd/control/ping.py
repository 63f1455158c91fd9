"""`ping` from the router itself: echo requests on a ping socket of the stack, on the stack's timers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.control.server import Later
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.transport.base import AF_INET, AF_INET6
from services.netstackd.transport.ping import PingSocket

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

_REQUEST: Final = {4: 8, 6: 128}


class Ping:
    """One run. `later` answers with {"sent", "received", "errors", "times": [milliseconds or None]}."""

    def __init__(
        self, stack: Stack, version: int, address: int, count: int, interval: int, size: int, timeout: int
    ) -> None:
        self.later = Later()
        self._stack = stack
        self._target = address
        self._count = count
        self._interval = interval
        self._kind = _REQUEST[version]
        self._payload = bytes(index & 255 for index in range(size))
        self._timeout = timeout
        self._sent: list[int] = []
        self._times: list[float | None] = []
        self._errors = 0
        self._timer = stack.timers.new(self._tick)
        self._look = stack.timers.new(self._receive)
        self._socket = PingSocket(stack, AF_INET if version == 4 else AF_INET6)
        # told in the middle of a batch: look when it is over
        self._socket.subscribe(lambda *_: self._look.set(stack.now))
        self._tick(stack.now)

    def _tick(self, now: int) -> None:
        """Send the next one, or end."""
        if len(self._sent) >= self._count:
            self._finish()
            return
        self._sent.append(now)
        self._times.append(None)
        header = bytes((self._kind, 0, 0, 0, 0, 0)) + len(self._sent).to_bytes(2, "big")
        try:
            self._socket.send(header + self._payload, (self._target, 0, 0))
        except NetError:
            self._errors += 1
        last = len(self._sent) == self._count
        self._timer.set(now + (self._timeout if last else self._interval))

    def _receive(self, now: int) -> None:
        """Take what has come."""
        while True:
            try:
                message = self._socket.receive()
            except WouldBlock:
                break
            except NetError:
                self._errors += 1
                continue
            index = int.from_bytes(message.data[6:8], "big") - 1
            if 0 <= index < len(self._times) and self._times[index] is None:
                self._times[index] = round((now - self._sent[index]) / 1e6, 3)
        if len(self._sent) == self._count and None not in self._times:
            self._finish()

    def _finish(self) -> None:
        self._timer.cancel()
        self._look.cancel()
        self._socket.close()
        received = sum(took is not None for took in self._times)
        self.later.answer({"sent": len(self._sent), "received": received, "errors": self._errors, "times": self._times})
