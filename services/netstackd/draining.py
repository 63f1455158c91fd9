"""Draining: whether anything that clients gave us before they ended has still to leave this process.

A supervisor asks before it ends netstackd (`drain` of the control socket), so that what a program sent right before its
sandbox ended goes on its way, as Linux goes on sending after a process. To leave means, for

    a connection of a namespace          our FIN, and so all before it, was acknowledged
    a connection through slirp           the host's kernel has all of it, and the end of the stream
    datagrams                            nothing waits for a neighbour's address or for a host socket
    frames                               no link holds any back

The answer is about what clients have left behind: with one that is still there it is to be waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.netstackd.app import Router

_LOOK_NS: Final = 2_000_000  # how often it is looked whether all has left
IDLE_NS: Final = 1_000_000_000  # without any progress: nobody takes what is left

Done = Callable[[bool], None]


class Draining:
    """See the module docstring. Who waits is told once, in a turn of the loop."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._waiting: list[Done] = []
        self._timer = router.stack.timers.new(self._look)
        self._progress = 0
        self._moved_at = 0

    def when_drained(self, done: Done) -> None:
        """Call `done(True)` when nothing is left to be sent, or `done(False)` when nothing of it went for IDLE_NS."""
        self._waiting.append(done)
        self._moved_at = self._router.loop.now
        self._timer.set(self._moved_at)

    def _look(self, now: int) -> None:
        left = self._is_left()
        progress = self._sum_of_progress() if left else 0
        if left and (progress != self._progress or now - self._moved_at < IDLE_NS):
            if progress != self._progress:
                self._progress, self._moved_at = progress, now
            self._timer.set(now + _LOOK_NS)
            return
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(not left)

    def _sum_of_progress(self) -> int:
        router = self._router
        return sum(session.progress() for session in router.sockets.left) + router.pumps.progress()

    def _is_left(self) -> bool:
        router = self._router
        stacks = [router.stack]
        for namespace in router.namespaces.others():
            if namespace.clients or namespace.sockets:
                return True
            stacks.append(namespace.stack)
        if any(stack.is_holding() for stack in stacks) or router.loop.is_holding():
            return True
        slirp = router.slirp
        return router.pumps.is_sending() or (slirp is not None and slirp.flows.is_sending())
