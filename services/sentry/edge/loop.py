"""The main loop: bursts of the dispatcher, and sleep in between.

Three depths of idleness. While events come, the Sentry looks at slots without sleeping. When none came for SPIN_NS, it arms
the doorbell and sleeps in one poll(2) of doorbell, notifications and outside for at most NAP_NS: a guest that computes for a
moment pays one wake-up and no trip through trio. After that it sleeps in trio, for as long as nothing happens.
"""

from __future__ import annotations

import select
import struct
import time
from typing import TYPE_CHECKING, Any, Final

import trio

from platforms._host import ffi, lib

if TYPE_CHECKING:
    from services.sentry.edge.host_poll import HostPoll
    from services.sentry.kernel.dispatcher import Dispatcher
    from services.sentry.kernel.kernel import Kernel

__all__ = ["MainLoop"]

SPIN_NS: Final = 40_000
NAP_NS: Final = 20_000_000
_POLLFD: Final = struct.Struct("<ihh")


class MainLoop:
    """Made before the seal (it opens an epoll), run after it."""

    def __init__(self, kernel: Kernel, dispatcher: Dispatcher, platform: Any, outside: HostPoll) -> None:
        self.kernel = kernel
        self.dispatcher = dispatcher
        self.platform = platform
        self.outside = outside
        fds = (platform.doorbell, platform.listener, outside.fd)
        self._count = len(fds)
        self._pollfds = ffi.from_buffer(bytearray(b"".join(_POLLFD.pack(fd, select.POLLIN, 0) for fd in fds)))
        self._deep = select.epoll()
        for fd in fds:
            self._deep.register(fd, select.EPOLLIN)

    async def run(self) -> None:
        """Until init is gone (`kernel.exit_status` is set)."""
        kernel, dispatcher, platform, outside = self.kernel, self.dispatcher, self.platform, self.outside
        turns = 0
        while kernel.exit_status is None:
            busy = dispatcher.burst(SPIN_NS)
            busy = outside.dispatch() or busy
            if busy:
                turns += 1
                if turns & 63 == 0:
                    await trio.lowlevel.checkpoint()
                continue
            platform.arm()
            if dispatcher.burst(0) or kernel.runnable or outside.pending:
                platform.disarm()
                continue
            deadline = kernel.timers.next_deadline()
            left = NAP_NS if deadline is None else deadline - time.monotonic_ns()
            if left > 0 and not lib.sentrio_poll(self._pollfds, self._count, min(left, NAP_NS)) and left >= NAP_NS:
                await _sleep(self._deep.fileno(), deadline)
            platform.disarm()
            platform.serve_strangers()


async def _sleep(fd: int, deadline_ns: int | None) -> None:
    """Until `fd` is readable or the deadline (host CLOCK_MONOTONIC, ns) has come."""
    if deadline_ns is None:
        await trio.lowlevel.wait_readable(fd)
        return
    with trio.move_on_after(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)):
        await trio.lowlevel.wait_readable(fd)
