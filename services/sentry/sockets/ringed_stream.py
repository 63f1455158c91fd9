"""Connected byte streams inside the sandbox whose buffers become rings when they are busy (files/local_rings.py).

While there are rings, `ring_end` is a LocalEnd at both ends of the pair, the inboxes are empty, `out` is None, and both
directions are open and plain. Whatever is more than plain bytes, or changes anything else about the pair, makes all as
it was before (`dissolve`): what families do about it is one look at it in their `send`, `receive` and `poll`, in
`changed`, and before an end goes away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from mypy_extensions import trait

from protocol.abi import fcntl_h as fc
from protocol.abi import socket_h as so
from services.sentry.errors import WouldBlock
from services.sentry.files.local_rings import BUSY, LocalEnd, LocalRing, LocalRings, ring_size
from services.sentry.files.ring_end import may_publish
from services.sentry.sockets.base import READABLE, WRITABLE, Outgoing

if TYPE_CHECKING:
    from collections import deque

    from services.sentry.files.ring_end import RingEnd
    from services.sentry.kernel.waiter import WaitQueue
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["MAX_CHUNK", "RingedStream"]

#: The most bytes one queued item holds: a long write becomes several, as Linux's skbs.
MAX_CHUNK: Final = 65_536
#: The largest ring: more would not stay in a processor's cache. And what a send buffer must allow for one.
_MAX_RING: Final = 1 << 20
_LEAST_BUFFER: Final = 1 << 15
#: After rings that were dissolved, a stream must be so much busier.
_PATIENCE: Final = -64 * BUSY
_PLAIN_SEND: Final = so.MSG_DONTWAIT | so.MSG_NOSIGNAL | so.MSG_MORE
_PLAIN_RECEIVE: Final = so.MSG_DONTWAIT | so.MSG_WAITALL | so.MSG_NOSIGNAL | so.MSG_CMSG_CLOEXEC


@trait
class RingedStream:
    """Mixed into a family's socket class as ByteStream is, which is one. What it uses is that class's.

    moved: how much passed by plain calls of this socket, since it was asked whether it should have rings.
    """

    __slots__ = ()

    #: The poll(2) bits that tell of room, and how much of SO_SNDBUF must be free for them.
    ROOM_BITS: ClassVar[int] = WRITABLE
    ROOM: ClassVar[float] = 3 / 4
    #: The same for a writer that waits.
    WOKEN: ClassVar[float] = 1 / 2
    flags: int
    inbox: deque[Any]
    inbox_bytes: int
    moved: int
    out: Any  # as peer: a stream of the same kind, or None
    peek_offset: int
    peer: Any
    plain_receive: bool
    queue: WaitQueue
    ring_end: RingEnd | None
    send_buffer: int

    # --- making and ending them ---
    def make_rings(self, mm: AddressSpace) -> None:
        """The stream is busy in calls from `mm`: its buffers become rings, if both directions are plain."""
        self.moved = 0  # type: ignore[misc]
        peer = self.peer
        if peer is None or peer is self or self.out is not peer or peer.out is not self:
            return
        if not may_publish(mm, cast("OpenFile", self)) or not self._may_have_rings() or not peer._may_have_rings():
            return
        size = ring_size(max(self.send_buffer, peer.send_buffer), _MAX_RING)
        if self.inbox_bytes > min(size, peer.send_buffer) or peer.inbox_bytes > min(size, self.send_buffer):
            return
        try:
            rings = LocalRings(size, 2)
        except (OSError, MemoryError):
            self.moved = peer.moved = _PATIENCE
            return
        there, back = self._ring_to(peer, rings, 0, size), peer._ring_to(self, rings, 1, size)
        self._use_rings(LocalEnd(rings, back, there, True, self.dissolve))
        peer._use_rings(LocalEnd(rings, there, back, True, self.dissolve))

    def _may_have_rings(self) -> bool:
        return (
            self.plain_receive
            and self.peek_offset < 0
            and self.send_buffer >= _LEAST_BUFFER
            and not self.flags & fc.O_ASYNC
            and all(isinstance(item, (bytes, memoryview)) for item in self.inbox)
        )

    def _ring_to(self, sink: RingedStream, rings: LocalRings, index: int, size: int) -> LocalRing:
        # What is queued may be a little more than SO_SNDBUF, as there.
        limit = min(size, ring_size(self.send_buffer, size))
        source, reader = cast("OpenFile", self), cast("OpenFile", sink)
        return LocalRing(rings, index, size, limit, source, reader, self.ROOM_BITS, int(limit * self.ROOM))

    def _use_rings(self, end: LocalEnd) -> None:
        assert end.incoming is not None
        for item in self.inbox:
            end.incoming.put(item)
        self.inbox.clear()
        self.inbox_bytes = 0  # type: ignore[misc]
        self.out = None
        self.ring_end = end  # type: ignore[misc]
        if self.queue.entries:  # who waits already
            self.poll_rings(end)

    def dissolve(self) -> None:
        """What is in the rings is in the inboxes, and all is as without them. Harmless when there are none."""
        end = self.ring_end
        if type(end) is not LocalEnd:
            if end is not None:  # of a connection beyond the sandbox: the stub has no share any more
                self.ring_end = None  # type: ignore[misc]
                end.revoke()
            return
        peer = self.peer
        other = peer.ring_end
        self.ring_end = peer.ring_end = None  # type: ignore[misc]
        self.moved = peer.moved = _PATIENCE  # type: ignore[misc]
        self._take_back(end)
        peer._take_back(other)
        end.rings.close()
        self.changed()
        for socket in (self, peer):
            if socket.queue.entries:
                socket.queue.wake(READABLE | self.ROOM_BITS)

    def _take_back(self, end: LocalEnd) -> None:
        assert end.incoming is not None
        data = end.incoming.take_over()
        self.inbox.extend(data[at : at + MAX_CHUNK] for at in range(0, len(data), MAX_CHUNK))
        self.inbox_bytes = len(data)  # type: ignore[misc]
        if end.window is not None:
            end.window.revoke()

    def changed(self) -> None:
        """Recompute `out` of both ends. Rings are dissolved first."""
        raise NotImplementedError

    # --- data ---
    def put(self, end: LocalEnd, put: Callable[[LocalRing], int]) -> int:
        """How many bytes `put(ring)` put in. WouldBlock: there is no room."""
        ring = end.outgoing
        assert ring is not None
        done = put(ring)
        if not done:
            if ring.lacks(int(ring.limit * self.WOKEN)):
                raise WouldBlock
            done = put(ring)
        return done

    def send_by_ring(self, data: bytes, message: Outgoing) -> int:
        """As `send`; -1: there are no rings (any more)."""
        end = self.ring_end
        if type(end) is not LocalEnd:
            return -1
        if message.flags & ~_PLAIN_SEND or message.files or message.cred is not None or message.address:
            self.dissolve()
            return -1
        return self.put(end, lambda ring: ring.put(data)) if data else 0

    def receive_by_ring(self, count: int, flags: int) -> bytes | None:
        """As `receive`; None: there are no rings (any more)."""
        end = self.ring_end
        if type(end) is not LocalEnd:
            return None
        if flags & ~_PLAIN_RECEIVE or not count:
            self.dissolve()
            return None
        assert end.incoming is not None
        return end.incoming.take_some(count)

    def poll_rings(self, end: LocalEnd) -> int:
        """As `poll`, while there are rings."""
        assert end.incoming is not None and end.outgoing is not None
        bits = 0 if end.incoming.is_empty() else READABLE
        ring = end.outgoing
        return bits if ring.lacks(ring.enough) else bits | self.ROOM_BITS

    def arrived_bytes(self) -> int:
        """How many bytes came and were not read."""
        end = self.ring_end
        if type(end) is LocalEnd and end.incoming is not None:
            return end.incoming.used()
        return self.inbox_bytes

    def ring_bytes_sent(self) -> int:
        """How many bytes went into the ring and were not read; -1: there is none."""
        end = self.ring_end
        if type(end) is LocalEnd and end.outgoing is not None:
            return end.outgoing.used()
        return -1
