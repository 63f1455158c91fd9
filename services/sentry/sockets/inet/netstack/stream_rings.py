"""The rings of a busy connection: its bytes move through memory that the socket service maps too (protocol/rings.py).

The first ring is what comes (`rx`), the second what goes (`tx`). The host socket that carried the stream until then is
left with its end, and with doorbells: a byte of any value that says "look at the rings". `delivered` is how many bytes
of the stream came by the host socket: the ring's first byte is the next one.

The memory is the Sentry's own memfd, which cannot be made shorter, and may be mapped into the guest whose stream it is.
Whatever the other side writes is a number that is checked, or bytes that are the guest's business.
Errors: ProtocolViolation, when the other side's positions cannot be.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from platforms._host import ffi, lib
from platforms.systrap.file_rows import RingPlace
from platforms.systrap.layout import IN_SIZE
from protocol.abi import poll_h as po
from protocol.rings import CONSUMER_WAITS, DATA, WORDS_BYTES, Consumer, Producer, mapping_bytes
from services.sentry.errors import LinuxError
from services.sentry.files.ring_end import make_ring_memory

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["BUSY_BYTES", "BUSY_READS", "QUIET_TX_BYTES", "RX_BYTES", "RX_PLACE", "TX_BYTES", "StreamRings"]

#: So much passes by the host socket before rings are worth their making, or so often does a guest that could use them
#: by itself ask for what came: they cost about as much as ten reads that wait.
BUSY_BYTES: Final = 131_072
BUSY_READS: Final = 32
#: What comes is also the window: large enough that the sender, the service and the guest each have some segments to
#: work on while the others do. What goes is held until it is acknowledged, so it limits what may be in flight, and half
#: of it is written at a time; and a guest that waits for room costs as much as 128 KB. So who has sent much gets what
#: tcp_wmem allows, and others less, for a ring's memory is there once its bytes have gone around.
RX_BYTES: Final = 1 << 21
TX_BYTES: Final = 1 << 22
QUIET_TX_BYTES: Final = 1 << 20
_DOORBELL: Final = b"\0"
_MASK: Final = 0xFFFFFFFFFFFFFFFF
RX_PLACE: Final = RingPlace(0, DATA, RX_BYTES, RX_BYTES)
_WRITABLE: Final = po.POLLOUT | po.POLLWRNORM


class StreamRings:
    """See the module. sent: how many bytes went before. fd, length: the memfd, for who maps it besides; shared: a
    guest's stub does, or did, and moves our positions. OSError: the host gives no memory file.
    """

    __slots__ = ("_sleeping", "delivered", "fd", "length", "rx", "shared", "tx")

    def __init__(self, sent: int) -> None:
        self.fd = -1
        self.delivered = 0
        self.shared = False
        tx_bytes = TX_BYTES if sent >= BUSY_BYTES else QUIET_TX_BYTES
        self.length = mapping_bytes(RX_BYTES, tx_bytes)
        self.fd, mapping = make_ring_memory(self.length)
        memory = memoryview(mapping)
        self._sleeping = ffi.from_buffer(memory[CONSUMER_WAITS:WORDS_BYTES])
        self.rx = Consumer(memory, 0, DATA, RX_BYTES)
        self.tx = Producer(memory, 1, DATA + RX_BYTES, tx_bytes)

    def tx_place(self) -> RingPlace:
        """Where a guest's stub writes."""
        size = self.tx.size
        return RingPlace(WORDS_BYTES, DATA + RX_BYTES, size, size, size // 3, _WRITABLE)

    def __del__(self) -> None:
        # Not when the connection ends: a guest may be about to be handed it, and another file would have its number.
        if self.fd >= 0:
            os.close(self.fd)

    def adopt(self) -> tuple[int, int]:
        """Take our positions from where a guest's stub has moved them: how many bytes came and went by it."""
        rx, tx = self.rx, self.tx
        head, tail = rx.position, tx.position
        rx.adopt()
        tx.adopt()
        return (rx.position - head) & _MASK, (tx.position - tail) & _MASK

    def wake_sleeper(self) -> None:
        """A guest's stub that sleeps until something comes (its row is gone) is to look again."""
        if self.rx.take_sleeping():
            lib.sentrio_futex_wake(self._sleeping)

    # --- what comes ---
    def has_arrived(self) -> bool:
        """Whether something waits; else the service will ring."""
        return self.rx.used() > 0 or not self.rx.arm()

    def take(self, limit: int) -> bytes:
        """Up to `limit` bytes. b"": none, and the service will ring when there are some."""
        rx = self.rx
        count = min(rx.used(), limit)
        if not count:
            if rx.arm():
                return b""
            count = min(rx.used(), limit)
        data = b"".join(rx.pieces(count))
        rx.consumed(count)
        return data

    def copy_out(self, mm: AddressSpace, addr: int, limit: int) -> int:
        """As `take`, from the ring to guest memory; how many. EFAULT: not one piece could be written."""
        rx = self.rx
        count = min(rx.used(), limit)
        if not count:
            if rx.arm():
                return 0
            count = min(rx.used(), limit)
        done = 0
        for piece in rx.pieces(count):
            try:
                mm.write(addr + done, piece)
            except LinuxError:
                if not done:
                    raise
                break
            done += len(piece)
        rx.consumed(done)
        return done

    def ring_for_room(self, host_socket: int) -> None:
        """Behind what was taken: wake the service when it waits for room, and half of the ring is free."""
        rx = self.rx
        if rx.used() * 2 <= rx.size and rx.take_waiting():
            _ring(host_socket)

    # --- what goes ---
    def put(self, data: bytes, host_socket: int) -> int:
        """How many bytes of `data` found room."""
        tx = self.tx
        room = tx.room()
        if room < len(data):
            data = data[:room]
        if data:
            tx.write(data)
            self.ring_for_data(host_socket)
        return len(data)

    def ring_for_data(self, host_socket: int) -> None:
        """Behind what was put: wake the service when it waits for it."""
        if self.tx.take_waiting():
            _ring(host_socket)

    def copy_in(self, mm: AddressSpace, addr: int, count: int, host_socket: int) -> int:
        """As `put`, from guest memory to the ring. EFAULT."""
        if count <= IN_SIZE:  # it may have come along with the call
            return self.put(mm.read(addr, count), host_socket)
        tx = self.tx
        done = 0
        for piece in tx.space(min(count, tx.room())):
            try:
                mm.read_into(addr + done, piece)
            except LinuxError:
                if not done:
                    raise
                break
            done += len(piece)
        if done:
            tx.produced(done)
            self.ring_for_data(host_socket)
        return done

    def has_room(self) -> bool:
        """Whether poll(2) tells of room; else the service will ring when it does."""
        tx = self.tx
        enough = tx.size // 3  # as for SO_SNDBUF
        return tx.room() >= enough or not tx.arm(enough)


def _ring(host_socket: int) -> None:
    """A doorbell. A socket without room for it has one that was not heard yet."""
    try:
        os.write(host_socket, _DOORBELL)
    except OSError:  # BlockingIOError; and of a service that is gone the control connection tells
        pass
