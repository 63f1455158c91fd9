"""Readiness of host descriptors (standard streams, the control channel): one epoll that the main loop sleeps on.

A watch is level-triggered and stays until `unwatch`. Callbacks run on the Sentry's thread between bursts, with poll(2)
bits. What `defer` was given runs once, before the next look: what is better done when a burst is over than in a call.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final

__all__ = ["HostPoll"]

_AT_ONCE: Final = 64  # room is made for so many before each look


def _nothing() -> None:
    pass


class HostPoll:
    """`fd`: the epoll's own descriptor, readable while something watched is ready. `before` runs before callbacks."""

    def __init__(self) -> None:
        self.before: Callable[[], None] = _nothing
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._deferred: list[Callable[[], None]] = []
        self._always: set[int] = set()  # regular files cannot be watched: they are always ready
        self.fd = self._epoll.fileno()

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        """Call `callback(bits)` while `fd` has one of `mask`'s poll(2) bits. One a descriptor; a second replaces it."""
        known = fd in self._callbacks
        self._callbacks[fd] = callback
        try:
            if known and fd not in self._always:
                self._epoll.modify(fd, mask)
            elif not known:
                self._epoll.register(fd, mask)
        except PermissionError:
            self._always.add(fd)

    def unwatch(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            if fd in self._always:
                self._always.discard(fd)
            else:
                try:
                    self._epoll.unregister(fd)
                except OSError:
                    pass

    def forget(self, fd: int) -> None:
        """As `unwatch`, for a descriptor that nobody else has and that is closed next: the host forgets it then."""
        if self._callbacks.pop(fd, None) is not None:
            self._always.discard(fd)

    def defer(self, callback: Callable[[], None]) -> None:
        """Call it once, soon: when guests have nothing to ask, or at the next look at descriptors."""
        self._deferred.append(callback)

    def run_deferred(self) -> None:
        """Call what was deferred."""
        deferred, self._deferred = self._deferred, []
        for callback in deferred:
            callback()

    @property
    def pending(self) -> bool:
        """Whether something waits for `dispatch` that the host does not tell of."""
        return bool(self._always or self._deferred)

    def dispatch(self) -> bool:
        """Run the callbacks of what is ready; whether there was any."""
        if self._deferred:
            self.run_deferred()
        found = self._epoll.poll(0, _AT_ONCE)
        for fd in list(self._always):
            found.append((fd, select.EPOLLIN | select.EPOLLOUT))
        if found:
            self.before()
        for fd, bits in found:
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback(bits)
        return bool(found)
