"""Stopping the threads of an address space, so that a hot call site can be patched (mm/patching.py).

A site may be written only while no other thread can be executing there. A thread that has posted an event is in its
stub until it is answered; so a stop answers none of that address space, and kicks those that are *at large*: let go,
and not back with an event. When none is, the site is patched, and all go on. A kick is lost on a thread that is in its
stub on the way back to its program, so it is sent again, some times; then the stop is given up (somebody else has the
processors), and the next one in that address space is due only after twice as many traps, until one succeeds.

Contexts that are stopped are not `active` meanwhile, so nobody looks at their slots. Whatever else happens to them
happens: they may be killed, or, if they were parked, be let go by what they waited for (then they are kicked, too).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from platforms.base import Context
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.timers import TimerHandle

__all__ = ["PatchStop"]

_AGAIN_NS: Final = 200_000
_KICKS: Final = 25


class PatchStop:
    """All threads of the address space of `context`, whose call trapped and waits, are stopped, or about to be.

    `reached()` is called once, inside `look`, when all are: then `context` is active again, and the others are until
    `end`. `given_up()`: they did not stop; it has ended.
    """

    def __init__(
        self,
        kernel: Kernel,
        platform: Any,
        task: Task,
        context: Context,
        reached: Callable[[], None],
        given_up: Callable[[], None],
    ) -> None:
        self.kernel = kernel
        self.platform = platform
        self.task = task
        self.context = context
        self.is_reached = False
        self.ended = False
        self._reached = reached
        self._given_up = given_up
        self._kicks = 0
        self._stopped: dict[Context, None] = {}
        self._timer: TimerHandle | None = None
        self._kick()

    def _hold(self) -> list[Context]:
        """Nobody looks at the slots any more; who is still at large."""
        active = self.platform.active
        everyone = (self.context, *self.context.others())
        for each in everyone:
            if each in active and not (self.is_reached and each is self.context):
                del active[each]
                self._stopped[each] = None
        return [each for each in everyone if each.at_large()]

    def look(self) -> bool:
        """Whether all are stopped since now."""
        if self.is_reached or self._hold():
            return False
        self.is_reached = True
        if self.context.dead or self.context.owner is not self.task:
            self.end()
            return True
        self._stopped.pop(self.context, None)
        self.platform.active[self.context] = None
        self._reached()
        return True

    def _kick(self) -> None:
        """Again and again, until all are stopped, or for too long."""
        if self.ended:
            return
        if self._kicks == _KICKS:
            self.end()
            self._given_up()
            return
        self._kicks += 1
        if not self.is_reached:
            for each in self._hold():
                if not each.reports_ops():  # else it comes by itself
                    each.interrupt()
        self._timer = self.kernel.timers.call_at(self.kernel.clock.monotonic_ns() + _AGAIN_NS, self._kick)

    def end(self) -> None:
        """All go on."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        for each in self._stopped:
            if not each.dead and not each.parked:
                self.platform.active[each] = None
        self._stopped.clear()
