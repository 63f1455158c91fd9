"""`traceroute` from the router itself: echo requests whose hop limit grows, and who says that it ran out.

All probes of a hop are sent at once, and the next hop follows when all have been answered or timed out. Echo requests,
as `traceroute -I`: they pass where UDP to odd ports does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from services.netstackd.config.text import address_text
from services.netstackd.control.server import Later
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.transport.base import AF_INET, AF_INET6, MSG_ERRQUEUE
from services.netstackd.transport.ping import PingSocket

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

_REQUEST: Final = {4: 8, 6: 128}
_EXCEEDED: Final = {4: 11, 6: 3}
_PAYLOAD: Final = bytes(range(32))


class Traceroute:
    """One run. `later` answers with {"hops": [{"hop", "from": [addresses], "times": [milliseconds or None], "error"}],
    "reached"}; `error` says what else than "hop limit exceeded" was answered, or why nothing could be sent."""

    def __init__(self, stack: Stack, version: int, address: int, hops: int, probes: int, timeout: int) -> None:
        self.later = Later()
        self._stack = stack
        self._version = version
        self._target = address
        self._hops = hops
        self._probes = probes
        self._timeout = timeout
        self._rows: list[dict[str, Any]] = []
        self._sent: dict[int, tuple[int, int]] = {}  # sequence number: (when, which probe), of those unanswered
        self._sequence = 0
        self._reached = False
        self._ended = False  # nothing behind this hop will answer
        self._timer = stack.timers.new(self._next)
        self._look = stack.timers.new(self._receive)
        socket = self._socket = PingSocket(stack, AF_INET if version == 4 else AF_INET6)
        socket.receive_errors = socket.receive_errors6 = True
        # told in the middle of a batch: look when it is over
        socket.subscribe(lambda *_: self._look.set(stack.now))
        self._next(stack.now)

    def _next(self, now: int) -> None:
        """This hop is done: probe the one behind it, or end."""
        if self._reached or self._ended or len(self._rows) >= self._hops:
            self._finish()
            return
        self._sent.clear()
        self._rows.append({"hop": len(self._rows) + 1, "from": [], "times": [None] * self._probes, "error": ""})
        for probe in range(self._probes):
            self._sequence += 1
            header = bytes((_REQUEST[self._version], 0, 0, 0, 0, 0)) + self._sequence.to_bytes(2, "big")
            try:
                self._socket.send(header + _PAYLOAD, (self._target, 0, 0), ttl=len(self._rows))
            except NetError as error:
                self._rows[-1]["error"] = str(error)
                self._ended = True
                self._timer.set(now)
                return
            self._sent[self._sequence] = (now, probe)
        self._timer.set(now + self._timeout)

    def _receive(self, now: int) -> None:
        """Take what has come, answers and errors."""
        while True:
            try:
                message = self._socket.receive(flags=MSG_ERRQUEUE)
            except WouldBlock:
                break
            error = message.error
            if error is None or len(message.data) < 8:
                continue
            exceeded = error.type == _EXCEEDED[self._version]
            if self._answered(message.data, error.offender, now) and not exceeded:
                self._rows[-1]["error"] = f"type {error.type} code {error.code}"
                self._ended = True
        self._socket.take_error()
        while True:
            try:
                message = self._socket.receive()
            except WouldBlock:
                break
            except NetError:
                continue
            if self._answered(message.data, message.address[0] if message.address else 0, now):
                self._reached = True
        if not self._sent:
            self._timer.set(now)

    def _answered(self, data: bytes, who: int, now: int) -> bool:
        """Note an answer to the probe whose header `data` begins with. False: it is no probe of this hop."""
        sent = self._sent.pop(int.from_bytes(data[6:8], "big"), None)
        if sent is None:
            return False
        when, probe = sent
        row = self._rows[-1]
        row["times"][probe] = round((now - when) / 1e6, 3)
        text = address_text(self._version, who)
        if text not in row["from"]:
            row["from"].append(text)
        return True

    def _finish(self) -> None:
        self._timer.cancel()
        self._look.cancel()
        self._socket.close()
        self.later.answer({"hops": self._rows, "reached": self._reached})
