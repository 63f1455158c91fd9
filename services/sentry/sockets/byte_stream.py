"""What connected byte streams share, whatever their family: the hot path of read(2) and write(2).

`inbox` of a stream holds what was sent to it and not yet read, in the pieces it was sent in. An item is plain bytes in
the everyday case; a family may put items of its own there (a message with descriptors, an urgent byte), and those take
the long way through `send` and `receive`. `out` is the peer while nothing special is in force, so that write_user and
read_user are one attribute test away from the inbox. What is on its way counts against the sender's SO_SNDBUF. A stream
whose other end is outside the Sentry has a `far`, which is asked when the inbox is empty. A busy stream inside the
sandbox has rings in place of inboxes (ringed_stream.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from mypy_extensions import trait

from services.sentry.errors import WouldBlock
from services.sentry.files.local_rings import BUSY, CALL_COST, LocalEnd
from services.sentry.sockets.base import READABLE, RECEIVE_SHUT, Outgoing, Ucred
from services.sentry.sockets.ringed_stream import MAX_CHUNK, RingedStream

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["MAX_CHUNK", "OVERHEAD_BYTES", "ByteStream"]

#: What a queued item costs beyond its bytes (a struct sk_buff, as Linux accounts it).
OVERHEAD_BYTES: Final = 768


@trait
class ByteStream(RingedStream):
    """Mixed into a family's socket class, behind it: that has write_user and read_user, which come here."""

    __slots__ = ()

    #: The value of `state` in which data may still come.
    OPEN: ClassVar[int] = 0
    error: int
    far: Any  # as of Socket
    shut: int
    state: int

    def write_stream(self, mm: AddressSpace, addr: int, count: int) -> int:
        """write(2), and send(2) without address and flags."""
        peer = self.out
        if (
            peer is not None
            and 0 < count <= MAX_CHUNK
            and peer.inbox_bytes + OVERHEAD_BYTES * len(peer.inbox) < self.send_buffer
        ):
            peer.inbox.append(mm.read(addr, count))
            peer.inbox_bytes += count
            if peer.queue.entries:
                peer.queue.wake(READABLE)
            self.moved += count + CALL_COST  # type: ignore[misc]
            if self.moved > BUSY:
                self.make_rings(mm)
            return count
        ring = self.ring_end
        if type(ring) is LocalEnd:
            outgoing: Any = ring.outgoing
            done: int = outgoing.write_user(mm, addr, count)
            return done or (self.put(ring, lambda ring: ring.write_user(mm, addr, count)) if count else 0)
        if self.far is not None and count and self.may_write_far():
            return int(self.far.write_user(mm, addr, count))
        if peer is not None and count:
            self.check_room()
        data = mm.read(addr, min(count, MAX_CHUNK)) if count else b""
        return self.send(data, Outgoing(sender=self.writer(mm)))

    def read_stream(self, mm: AddressSpace, addr: int, count: int) -> int | None:
        """read(2), and recv(2) without flags: bytes leave the inbox only once they reached guest memory."""
        inbox = self.inbox
        if inbox and self.plain_receive:
            first = inbox[0]
            if type(first) is bytes:
                length = len(first)
                if length == count or (length < count and len(inbox) == 1):
                    mm.write(addr, first)
                    inbox.popleft()
                    self.inbox_bytes -= length  # type: ignore[misc]
                    peer = self.peer
                    if peer is not None and peer.queue.entries:
                        self.wake_sender(peer)
                    self.moved += length + CALL_COST  # type: ignore[misc]
                    if self.moved > BUSY:
                        self.make_rings(mm)
                    return length
        elif type(self.ring_end) is LocalEnd and count:
            incoming: Any = self.ring_end.incoming
            done: int = incoming.read_user(mm, addr, count)
            if done:
                return done
            return None if incoming.is_empty() else incoming.read_user(mm, addr, count)
        elif self.far is not None and count and not inbox and self.plain_receive:
            return self.far.read_user(mm, addr, count)  # type: ignore[no-any-return]
        elif (
            count
            and not inbox
            and self.far is None
            and self.state == self.OPEN
            and not self.error
            and not self.shut & RECEIVE_SHUT
        ):
            return None
        data = self.read(count)
        if data:
            mm.write(addr, data)
        return len(data)

    # --- the family's ---
    def read(self, count: int) -> bytes:
        """As OpenFile.read."""
        raise NotImplementedError

    def send(self, data: bytes, message: Outgoing) -> int:
        """As Socket.send."""
        raise NotImplementedError

    def writer(self, mm: AddressSpace) -> Ucred | None:
        """As Socket.writer."""
        raise NotImplementedError

    def may_write_far(self) -> bool:
        """Whether `far` takes bytes straight from guest memory now."""
        return False

    def check_room(self) -> None:
        """WouldBlock: as much is on its way to the peer as SO_SNDBUF allows."""
        peer = self.peer
        if peer.inbox_bytes + OVERHEAD_BYTES * len(peer.inbox) >= self.send_buffer:
            raise WouldBlock

    def wake_sender(self, peer: Any) -> None:
        """Something was read: the peer may write again, once enough of its buffer is free."""
        raise NotImplementedError
