"""StreamPump: bytes between a connection of the stack and a connection of the host, both ways, with back-pressure.

Each way holds at most one chunk that the other side had no room for; while it does nothing more is read, so the sender
is stopped by its own window. An end of stream is passed on as an end of stream (half close), a reset as a reset.

Host sockets are watched by edges, so each side's readiness is remembered here until a call says "would block". One run
moves at most BUDGET bytes a way and then asks to be called `later`: others get their turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.slirp.host import FAILED, READABLE, WRITABLE, HostSocket
from services.netstackd.transport.base import SHUT_WR, Socket
from services.netstackd.transport.tcp import states
from services.netstackd.transport.tcp_socket import TcpSocket

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

CHUNK: Final = 65536  # bytes of one read
BUDGET: Final = 4 * CHUNK

NOTHING: Final = b""


class StreamPump:
    """See the module docstring. `later(pump)` asks for a `run` in the next turn, `over(pump)` is told of the end."""

    __slots__ = (
        "_abandoned",
        "_can_read",
        "_can_write",
        "_ended",
        "_from_guest",
        "_guest_ended",
        "_host_ended",
        "_later",
        "_over",
        "_to_guest",
        "bytes_in",
        "bytes_out",
        "guest",
        "host",
    )

    def __init__(
        self,
        guest: TcpSocket,
        host: HostSocket,
        later: Callable[[StreamPump], None],
        over: Callable[[StreamPump], None],
        received: bytes = NOTHING,
    ) -> None:
        self.guest = guest
        self.host = host
        self._later = later
        self._over = over
        self._to_guest: bytes | memoryview = received
        self._from_guest: bytes | memoryview = NOTHING
        self._can_read = self._can_write = True  # until a call says otherwise
        self._guest_ended = self._host_ended = False  # and the other side was told so
        self._ended = False
        self._abandoned = False
        self.bytes_in = 0  # from the host
        self.bytes_out = 0
        guest.subscribe(self._guest_ready)
        host.watch(self._host_ready, edge=True)

    def _host_ready(self, events: int) -> None:
        if events & (READABLE | FAILED):
            self._can_read = True
        if events & (WRITABLE | FAILED):
            self._can_write = True
        self.run()

    def _guest_ready(self, socket: Socket, mask: int) -> None:
        self.run()

    def run(self) -> None:
        """Move what can be moved."""
        if self._ended:
            return
        more = self._to_host() | self._from_host()
        if self._over_now():
            return
        if self._guest_ended and self._host_ended:
            self._end()
        elif self._guest_ended and self._guest_gone():
            self.abort()  # it was reset behind its FIN
        elif more:
            self._later(self)

    def _over_now(self) -> bool:
        """Whether one of the ways has just ended everything."""
        return self._ended

    def _guest_gone(self) -> bool:
        endpoint = self.guest.endpoint
        return endpoint is None or endpoint.state == states.CLOSED

    def _to_host(self) -> bool:
        """From the guest; whether there is more to do at once."""
        if self._guest_ended:
            return False
        left = BUDGET
        while left > 0:
            if not len(self._from_guest):
                try:
                    self._from_guest = self.guest.receive(CHUNK)
                except WouldBlock:
                    return False
                except NetError:
                    self.abort()
                    return False
                if not self._from_guest:
                    self._guest_ended = True
                    self._shut_host()
                    return False
            if not self._can_write:
                return False
            try:
                sent = self.host.send(self._from_guest)
            except BlockingIOError:
                self._can_write = False
                return False
            except OSError:
                self.abort()
                return False
            self.bytes_out += sent
            left -= sent
            self._from_guest = self._from_guest[sent:] if sent < len(self._from_guest) else NOTHING
        return True

    def _shut_host(self) -> None:
        try:
            self.host.shutdown_write()
        except OSError:
            self.abort()

    def _from_host(self) -> bool:
        """To the guest; whether there is more to do at once."""
        if self._host_ended or self._ended:
            return False
        left = BUDGET
        while left > 0:
            if not len(self._to_guest):
                if not self._can_read:
                    return False
                try:
                    self._to_guest = self.host.receive(CHUNK)
                except BlockingIOError:
                    self._can_read = False
                    return False
                except OSError:
                    self.abort()
                    return False
                if not self._to_guest:
                    return self._shut_guest()
                self.bytes_in += len(self._to_guest)
            try:
                sent = self.guest.send(self._to_guest)
            except WouldBlock:
                return False
            except NetError:
                self.abort()
                return False
            left -= sent
            self._to_guest = self._to_guest[sent:] if sent < len(self._to_guest) else NOTHING
        return True

    def _shut_guest(self) -> bool:
        self._host_ended = True
        try:
            self.guest.shutdown(SHUT_WR)
        except NetError:
            self.abort()
        return False

    def _end(self) -> None:
        """Both ways have ended in order."""
        self._ended = True
        if self._abandoned:
            self._reset_guest()
        self.guest.close()
        self.host.close()
        self._over(self)

    def abort(self) -> None:
        """Reset both sides."""
        if self._ended:
            return
        self._ended = True
        self._reset_guest()
        self.guest.close()
        self.host.close(reset=True)
        self._over(self)

    def _reset_guest(self) -> None:
        """Its close is to be a reset."""
        endpoint = self.guest.endpoint
        if endpoint is not None:
            endpoint.options.linger = 0

    def is_sending(self) -> bool:
        """Whether the guest has sent what the host's socket has not taken yet: bytes, or the end of the stream."""
        if self._ended or self._guest_ended:
            return False
        endpoint = self.guest.endpoint
        return bool(len(self._from_guest)) or (
            endpoint is not None and (endpoint.receive.size > 0 or endpoint.fin_received)
        )

    def abandon(self) -> None:
        """The guest is gone. What it has sent to its end still goes out; a stream that it did not end is reset."""
        endpoint = self.guest.endpoint
        if not self._guest_ended and (endpoint is None or not endpoint.fin_received):
            self.abort()
            return
        self._abandoned = self._host_ended = True
        self.run()


class Pumps:
    """All pumps of a stack, and those that want another turn."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._running: set[StreamPump] = set()
        self._ready: list[StreamPump] = []
        self._again = stack.timers.new(self._run_ready)

    def __len__(self) -> int:
        return len(self._running)

    def join(self, guest: TcpSocket, host: HostSocket, received: bytes = NOTHING) -> None:
        """Pump between two connections until both have ended. Either may still be connecting."""
        pump = StreamPump(guest, host, self._later, self._running.discard, received)
        self._running.add(pump)
        self._later(pump)

    def _later(self, pump: StreamPump) -> None:
        self._ready.append(pump)
        self._again.set(self._stack.now)

    def _run_ready(self, now: int) -> None:
        ready, self._ready = self._ready, []
        for pump in ready:
            pump.run()

    def is_sending(self) -> bool:
        """Whether something that guests have sent is not the host's yet."""
        return any(pump.is_sending() for pump in self._running)

    def progress(self) -> int:
        """Something that grows while guests' bytes become the host's."""
        return sum(pump.bytes_out for pump in self._running)

    def abandon(self, addresses: set[tuple[int, int]]) -> None:
        """The guests of these (version, address) are gone."""
        for pump in list(self._running):
            remote = pump.guest.remote
            if remote is not None and (pump.guest.version, remote[0]) in addresses:
                pump.abandon()

    def close(self) -> None:
        """Reset all."""
        for pump in list(self._running):
            pump.abort()
        self._again.cancel()
