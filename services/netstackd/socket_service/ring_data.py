"""A stream's bytes in rings that the client shares (protocol/rings.py): no host call for them, and one copy at most.

    net to client   what the connection received is copied into rx straight from where it lies in the frames
                    (`deliver`); what does not fit stays there, so that the window closes
    client to net   the connection's send buffer holds the bytes of tx where they are (`take`), and the client gets
                    their place back when they are acknowledged (`release`)

Who sends and who reads is streams.py's matter; here is the bookkeeping. `taken` and `_freed` count bytes of tx as the
ring does. Sequence numbers of the connection run on for bytes that were never in the ring as well (the data socket's
before it, urgent ones between), so `_marks` remembers where the two counts are level: (sequence number, count), in
order.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from protocol.errors import ProtocolViolation
from protocol.rings import CONSUMER_WAITS, DATA, Consumer, Producer
from services.netstackd.socket_service.shared_memory_unsafe import address_of, wake

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

WRITE_PARTS: Final = 64  # pieces looked at in one go


class RingData:
    """See the module docstring. `sent`: bytes that come by the data socket before those of tx. ProtocolViolation where
    a method reads the client's words."""

    __slots__ = (
        "_freed",
        "_marks",
        "_rx",
        "_rx_bytes",
        "_sleeping",
        "_tx",
        "_tx_bytes",
        "bytes",
        "rx_size",
        "sent",
        "taken",
    )

    def __init__(self, memory: memoryview, rx_size: int, tx_size: int, sent: int) -> None:
        self.bytes = len(memory)
        self.rx_size = rx_size
        self.sent = sent
        self.taken = 0
        self._freed = 0
        self._rx = Producer(memory, 0, DATA, rx_size)
        self._tx = Consumer(memory, 1, DATA + rx_size, tx_size)
        self._sleeping = address_of(memory) + CONSUMER_WAITS
        self._rx_bytes = memory[DATA : DATA + rx_size]
        self._tx_bytes = memory[DATA + rx_size : DATA + rx_size + tx_size]
        self._marks: deque[tuple[int, int]] = deque()

    # -- client to network --

    def take(self, endpoint: Endpoint, limit: int, unit: int = 1) -> int:
        """Queue what was produced since, at most `limit` bytes, and whole units, if one is there or was sent before and
        not acknowledged; how many bytes these are."""
        size = self._tx.size
        count = self._tx.used() - (self.taken - self._freed)
        if count < 0:
            raise ProtocolViolation("a ring's tail went back")
        if count > limit:
            count = limit
        if count >= unit:
            count -= count % unit
        elif unit > 1 and endpoint.send.end - endpoint.snd_una >= unit:
            return 0
        if not count:
            return 0
        marks, end = self._marks, endpoint.send.end
        if not marks or end - marks[-1][0] != self.taken - marks[-1][1]:
            marks.append((end, self.taken))
        start = self.taken & (size - 1)
        front = size - start
        if count <= front:
            endpoint.share(self._tx_bytes, start, count)
        else:
            endpoint.share(self._tx_bytes, start, front)
            endpoint.share(self._tx_bytes, 0, count - front)
        self.taken += count
        return count

    def release(self, first: int) -> bool:
        """What lies before the sequence number `first` is acknowledged: the client may have its place. True: it waits
        for room and has to be told."""
        if self._freed == self.taken:
            return False
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= first:
            marks.popleft()
        level, count = marks[0]
        upto = min(count + first - level, marks[1][1] if len(marks) > 1 else self.taken)
        tx = self._tx
        if upto > self._freed:
            tx.consumed(upto - self._freed)
            self._freed = upto
        return 2 * (self.taken - upto) <= tx.size and tx.take_waiting()

    def sleep(self) -> bool:
        """Ask to be told when more is produced. False: there is more than was taken."""
        return self._tx.arm(self.taken - self._freed)

    def stay_awake(self) -> None:
        """What is produced is looked for: nobody is to tell."""
        self._tx.disarm()

    def has_more(self) -> bool:
        """Whether there is more than was taken."""
        return self._tx.used() != self.taken - self._freed

    # -- network to client --

    def deliver(self, endpoint: Endpoint, budget: int) -> int:
        """Copy what was received, at most about `budget` bytes, as far as there is room; how many bytes these are. When
        something is left for want of room the client has been asked to tell when half of the ring is free."""
        receive, rx = endpoint.receive, self._rx
        done = 0
        room = rx.room()
        while receive.size and done < budget:
            if not room:
                if rx.arm(rx.size >> 1):
                    break
                room = rx.room()
            count = 0
            for part in receive.parts(WRITE_PARTS):
                size = len(part)
                if size > room:
                    rx.write(memoryview(part)[:room])
                    count += room
                    room = 0
                    break
                rx.write(part)
                count += size
                room -= size
            endpoint.consume(count)
            done += count
        return done

    def put(self, data: bytes | memoryview) -> bool:
        """Put all of it in. False: there is not room enough."""
        rx = self._rx
        if rx.room() < len(data):
            return False
        rx.write(data)
        return True

    def place(self) -> tuple[int, memoryview, int]:
        """How many bytes there is room for in rx, all of rx, and where in it they begin."""
        rx = self._rx
        return rx.room(), self._rx_bytes, rx.position & (rx.size - 1)

    def placed(self, size: int) -> None:
        """So many bytes were put there."""
        self._rx.produced(size)

    def write(self, data: bytes) -> int:
        """Put in what fits of `data`; how many bytes that was. As `deliver` otherwise."""
        rx = self._rx
        room = rx.room()
        if not room:
            rx.arm(rx.size >> 1)
            room = rx.room()
        size = min(room, len(data))
        if size:
            rx.write(memoryview(data)[:size])
        return size

    def reader_waits(self) -> int:
        """After bytes were delivered: whether the client has to be told. SLEEPS in it: call `wake`; the rest: ring."""
        return self._rx.take_waiting()

    def wake(self) -> None:
        """Wake the client's thread that sleeps until bytes are delivered."""
        wake(self._sleeping)

    def unread(self) -> int:
        """How many bytes the client has left in rx. When that is more than half of the ring it has been asked to tell
        when half is free."""
        rx = self._rx
        size = rx.size
        used = size - rx.room()
        if 2 * used > size and not rx.arm(size >> 1):
            used = size - rx.room()
        return used
