"""The main loop: bursts of the dispatcher, and sleep in between.

While events come, the Sentry looks at slots without sleeping. When none came for some microseconds, it arms the
doorbell and sleeps in one poll(2) of doorbell, notifications, outside and signals, until something happens or the next
timer is due. It looks half as long before the next sleep when one was long and was for the outside, the network mostly:
then the processor on which nothing is found is one that others may need, who are to bring it about; and behind a burst
that served something it does not look a second time, nor outside, of which the sleep tells as well. Twice as long, when
a sleep was so short that a look of SPIN_NS would have spared it, and it was long ago that something came from outside.

It is a poll of our own and no event loop of a library: nothing in the Sentry awaits (a handler that cannot finish parks
its task on wait queues, DESIGN.md section 5), and importing one such loop costs more than all the rest of a sandbox's
start (trio: 180 ms of processor time on the machine where `do -- /bin/true` then took 250).
"""

from __future__ import annotations

import os
import resource
import select
import signal
import struct
import time
from typing import TYPE_CHECKING, Any, Final

from platforms._host import ffi, lib
from services.sentry.edge.signals import heed

if TYPE_CHECKING:
    from services.sentry.edge.host_poll import HostPoll
    from services.sentry.kernel.dispatcher import Dispatcher
    from services.sentry.kernel.kernel import Kernel

__all__ = ["MainLoop"]

SPIN_NS: Final = 40_000  # at most
LEAST_SPIN_NS: Final = 8_000  # about what a sleep and its end cost
SLICES: Final = 4  # of a spin, with a look outside between them,
HEARD: Final = 16  # in so many bursts after something came from there
FOREVER: Final = -1
LONGEST_NS: Final = 3600 * 10**9  # of one sleep: a guest's timer may be due when no clock can show it
WANTING_NS: Final = 1_000_000  # of one sleep while a context is to get a host thread,
ASKED_NS: Final = 5_000_000  # or an ended process is to ask for its next program
LOOK_NS: Final = 5_000_000  # how often to look whether the processors are crowded
CROWDED_NS: Final = 30_000_000  # how long to believe it
CROWDED: Final = 3  # involuntary switches since the last look
GUEST_PAUSES: Final = 2000  # about 70 us
GUEST_PAUSES_CROWDED: Final = 100
GUEST_YIELDS: Final = 100  # about 30 us when there is nobody to yield to
BESIDE: Final = 3  # processors for guest, service and whom they serve: then ours is nobody's loss
FEW_PROCESSORS: Final = 8  # with more, the host always finds one beside ours
SURE: Final = 2  # bursts in a row that say the same
_POLLFD: Final = struct.Struct("<ihh")
_DOORBELL_REVENTS: Final = 6
_LISTENER_REVENTS: Final = _POLLFD.size + 6
_OUTSIDE_REVENTS: Final = 2 * _POLLFD.size + 6
_SIGNALLED_REVENTS: Final = 3 * _POLLFD.size + 6


class MainLoop:
    """Made before the seal (it opens a pipe), run after it. Takes the process's signal wake-up descriptor."""

    def __init__(self, kernel: Kernel, dispatcher: Dispatcher, platform: Any, outside: HostPoll) -> None:
        self.kernel = kernel
        self.dispatcher = dispatcher
        self.platform = platform
        self.outside = outside
        outside.before = dispatcher.withdraw
        # A signal that comes just before the poll runs its Python handler only after it: the pipe makes the poll
        # return.
        self._signalled, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._look_again_ns = 0
        self._switches = 0
        self._crowded = False
        try:
            self._counts = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a host that does not count
            self._counts = -1
        self._waited_at = (0, 0)  # when `_waits` was asked last, and what had been waited then
        self._spin = SPIN_NS
        self._room = 0  # bursts that found room beside us, negative: that found none
        self._beside = len(platform.processors) - 1
        self._set_spin()
        fds = (platform.doorbell, platform.listener, outside.fd, self._signalled)
        self._count = len(fds)
        self._pollfds = ffi.from_buffer(bytearray(b"".join(_POLLFD.pack(fd, select.POLLIN, 0) for fd in fds)))

    def _spin_ns(self) -> int:
        """How long to look for events before sleeping: not at all while others want our processor.

        Involuntary context switches tell that they do. A spin then steals time from what it waits for.
        """
        now = time.monotonic_ns()
        if now >= self._look_again_ns:
            heed()
            switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
            crowded = switches - self._switches >= CROWDED
            self._switches = switches
            self._look_again_ns = now + (CROWDED_NS if crowded else LOOK_NS)
            self.platform.call_in()
            if not self.platform.settled:
                self._waited_at = (0, 0)
            elif self._waits(now):
                self.platform.settle(frozenset())  # there is no room where we were asked to stay
            if crowded != self._crowded:
                self._crowded = crowded
                self._set_spin()
            if self.platform.reserved >= 0:
                self._reserve(-1 if crowded else lib.sentrio_processor())
        return 0 if self._crowded else self._spin

    def _waits(self, now: int) -> bool:
        """Whether we wanted to run and did not for more than a third of the time since this was asked last."""
        if self._counts < 0:
            return False
        waited = int(os.pread(self._counts, 96, 0).split()[1])
        since, at = self._waited_at
        self._waited_at = now, waited
        return 0 < since and (waited - at) * 3 > now - since

    def _set_spin(self) -> None:
        if self._crowded:
            self.platform.set_spin(GUEST_PAUSES_CROWDED, 0)
        else:
            self.platform.set_spin(GUEST_PAUSES, GUEST_YIELDS if self._beside else 0)

    def _share(self) -> None:
        """After a burst that served something: are the guests better off without our processor?

        They are while those that are not parked fit on the others. One that is woken where we spin waits for us or has
        us wait, and the interrupt that moves it elsewhere costs more than all else a wake-up takes.
        """
        if not 0 < self._beside < FEW_PROCESSORS or self._crowded:
            return
        dispatcher = self.dispatcher
        fits = dispatcher.at_work * 2 <= dispatcher.looks * (self._beside * 2 + 1)
        if fits != (self._room > 0):
            self._room = 0
        self._room += 1 if fits else -1
        if abs(self._room) >= SURE and fits != (self.platform.reserved >= 0):
            self._reserve(lib.sentrio_processor() if fits else -1)

    def _reserve(self, processor: int) -> None:
        if processor != self.platform.reserved:
            self.platform.reserve(processor)

    def run(self) -> None:
        """Until init is gone (`kernel.exit_status` is set)."""
        kernel, dispatcher, platform, outside = self.kernel, self.dispatcher, self.platform, self.outside
        heard = 0  # how many bursts ago something came from outside, counted down
        while kernel.exit_status is None:
            spin = self._spin_ns()
            # What comes from outside shows only in a host call: while it does come, we look more often.
            slices = SLICES if heard and spin == SPIN_NS else 1
            for _ in range(slices):
                busy = dispatcher.burst(spin // slices)
                if spin < SPIN_NS and dispatcher.quiet and not outside.pending:
                    busy = False  # enough was looked for guests, and the sleep looks outside
                    break
                if outside.dispatch():
                    heard = HEARD
                    busy = True
                if busy:
                    break
            heard = max(heard - 1, 0)
            if busy:
                self._share()
                continue
            self._room = 0
            self._reserve(-1)
            platform.arm()
            if dispatcher.burst(0) or kernel.runnable or outside.pending:
                platform.disarm()
                continue
            deadline = kernel.timers.next_deadline()
            before = time.monotonic_ns()
            left = FOREVER if deadline is None else min(max(0, deadline - before), LONGEST_NS)
            if platform.wanting and not 0 <= left <= WANTING_NS:
                left = WANTING_NS  # the thread that is to be given had not left its frames yet
            if platform.is_asked and not 0 <= left <= ASKED_NS:
                left = ASKED_NS  # who does not ask in time is given up
            # Somebody waits for what woke us: of the four nothing is asked that poll(2) has not told of.
            found = left != 0 and lib.sentrio_poll(self._pollfds, self._count, left) > 0
            slept = time.monotonic_ns() - before
            platform.disarm(rung=found and self._pollfds[_DOORBELL_REVENTS] != b"\0")
            if not found:
                continue
            if self._pollfds[_OUTSIDE_REVENTS] != b"\0":  # before a spin that waits for guests
                outside.dispatch()
                heard = HEARD
            self._slept(slept, heard == HEARD, heard > 0)
            if self._pollfds[_LISTENER_REVENTS] != b"\0":
                platform.serve_strangers()
            self._take_signals()
        outside.run_deferred()

    def _slept(self, nanoseconds: int, news: bool, lately: bool) -> None:
        """A sleep is over, by `news` from outside or not; whether there was any `lately`. How long is the next look?"""
        if nanoseconds <= SPIN_NS:
            if not lately:  # else it may have been short because it let a guest have our processor
                self._spin = min(self._spin * 2, SPIN_NS)
        elif news and self._beside < BESIDE:
            self._spin = max(self._spin // 2, LEAST_SPIN_NS)

    def _take_signals(self) -> None:
        """Empty the pipe; the handlers have run, or run now."""
        if self._pollfds[_SIGNALLED_REVENTS] != b"\0":
            self.dispatcher.withdraw()
            try:
                os.read(self._signalled, 512)
            except BlockingIOError:
                pass
            heed()
