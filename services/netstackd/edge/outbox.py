"""Messages on their way to a client: in order, with the descriptors that travel beside them.

`add` takes over the descriptors and closes them when they have left (or never will). It never blocks: what the socket
does not take stays, and `waiting` says how many bytes that are; whoever owns the conversation limits it.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from collections.abc import Sequence


class Outbox:
    """See the module docstring."""

    __slots__ = ("_queue", "_sock", "waiting")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._queue: deque[tuple[bytes | memoryview, Sequence[int]]] = deque()
        self.waiting = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        """Send a message after those that wait. False when the peer is gone."""
        self._queue.append((data, fds))
        self.waiting += len(data)
        return len(self._queue) > 1 or self.flush()

    def flush(self) -> bool:
        """Send what waits, as far as it goes. False when the peer is gone."""
        queue, sock = self._queue, self._sock
        while queue:
            data, fds = queue[0]
            try:
                if fds:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    sent = sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)
                    for fd in fds:
                        os.close(fd)
                else:
                    sent = sock.send(data, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self.waiting -= sent
            if sent < len(data):
                queue[0] = (memoryview(data)[sent:], ())
            else:
                queue.popleft()
        return True

    def clear(self) -> None:
        """Nothing of it will be sent any more."""
        for _, fds in self._queue:
            for fd in fds:
                os.close(fd)
        self._queue.clear()
        self.waiting = 0
