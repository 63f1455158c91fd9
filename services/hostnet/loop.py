"""epoll(7) with a callback for each descriptor."""

from __future__ import annotations

import select
from collections.abc import Callable

Ready = Callable[[int], None]


class Loop:
    """Turns until `stop`. A callback gets the epoll events of its descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._over = False

    def watch(self, fd: int, mask: int, ready: Ready) -> None:
        """Call `ready(events)` for `mask`, from now on instead of what was."""
        if fd in self._ready:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._ready[fd] = ready

    def unwatch(self, fd: int) -> None:
        """Before `fd` is closed: others may hold the same socket, and it would stay in the set."""
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def fileno(self) -> int:
        """Of the epoll instance."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Let go of it."""
        self._epoll.close()

    def stop(self) -> None:
        """End `run`."""
        self._over = True

    def run(self) -> None:
        """Until `stop`."""
        while not self._over:
            for fd, events in self._epoll.poll():
                ready = self._ready.get(fd)
                if ready is not None:
                    ready(events)
