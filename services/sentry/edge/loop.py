"""The main loop: bursts of the dispatcher, and sleep in between.

While events come, the Sentry looks at slots without sleeping. When none came for SPIN_NS, it arms the doorbell and sleeps in
one poll(2) of doorbell, notifications, outside and signals, until something happens or the next timer is due.

It is a poll of our own and no event loop of a library: nothing in the Sentry awaits (a handler that cannot finish parks its
task on wait queues, DESIGN.md section 5), and importing one such loop costs more than all the rest of a sandbox's start
(trio: 180 ms of processor time on the machine where `do -- /bin/true` then took 250).
"""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from typing import TYPE_CHECKING, Any, Final

from platforms._host import ffi, lib

if TYPE_CHECKING:
    from services.sentry.edge.host_poll import HostPoll
    from services.sentry.kernel.dispatcher import Dispatcher
    from services.sentry.kernel.kernel import Kernel

__all__ = ["MainLoop"]

SPIN_NS: Final = 40_000
FOREVER: Final = -1
_POLLFD: Final = struct.Struct("<ihh")
_SIGNALLED_REVENTS: Final = 3 * _POLLFD.size + 6


class MainLoop:
    """Made before the seal (it opens a pipe), run after it. Takes the process's signal wake-up descriptor."""

    def __init__(self, kernel: Kernel, dispatcher: Dispatcher, platform: Any, outside: HostPoll) -> None:
        self.kernel = kernel
        self.dispatcher = dispatcher
        self.platform = platform
        self.outside = outside
        # A signal that comes just before the poll runs its Python handler only after it: the pipe makes the poll return.
        self._signalled, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        fds = (platform.doorbell, platform.listener, outside.fd, self._signalled)
        self._count = len(fds)
        self._pollfds = ffi.from_buffer(bytearray(b"".join(_POLLFD.pack(fd, select.POLLIN, 0) for fd in fds)))

    def run(self) -> None:
        """Until init is gone (`kernel.exit_status` is set)."""
        kernel, dispatcher, platform, outside = self.kernel, self.dispatcher, self.platform, self.outside
        while kernel.exit_status is None:
            busy = dispatcher.burst(SPIN_NS)
            if outside.dispatch() or busy:
                continue
            platform.arm()
            if dispatcher.burst(0) or kernel.runnable or outside.pending:
                platform.disarm()
                continue
            deadline = kernel.timers.next_deadline()
            left = FOREVER if deadline is None else max(0, deadline - time.monotonic_ns())
            if left and lib.sentrio_poll(self._pollfds, self._count, left) > 0:
                self._take_signals()
            platform.disarm()
            platform.serve_strangers()

    def _take_signals(self) -> None:
        """Empty the pipe; the handlers have run, or run now."""
        if self._pollfds[_SIGNALLED_REVENTS] != b"\0":
            try:
                os.read(self._signalled, 512)
            except BlockingIOError:
                pass
