"""Streams whose bytes go through memory that the client shares, after `rings` (ring_data.py).

The data socket carries doorbells and the end of file then. Nothing is looked at that nobody has told of: the client's
doorbell comes when it produces while tx is armed, and it is armed unless a full segment waits to be sent anyway; then
the next acknowledgement is what tells. That, or LOOK_NS, is after what a busy stream's ring is looked at too (`_doze`).
Bytes move to and from rings in the middle of a flush, right before the connection's segments leave (`_exchange`): so an
acknowledgement says what has been read already, and one pass is enough.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Final

from protocol.errors import ProtocolViolation
from protocol.rings import SLEEPS, mapping_bytes
from services.netstackd.edge.placement import placement_of
from services.netstackd.errors import NetError
from services.netstackd.socket_service import limits
from services.netstackd.socket_service.carried_stream import CarriedStream
from services.netstackd.socket_service.ring_data import RingData
from services.netstackd.socket_service.shared_memory_unsafe import map_untrusted
from services.netstackd.socket_service.stream_base import BATCH_BYTES, CONNECTED, EDGES, READ_BYTES
from services.netstackd.transport.tcp import output
from services.netstackd.transport.tcp.window import is_read_news

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.transport.tcp.segment import Payload

TAKEN_BYTES: Final = 1 << 20  # at once from a ring: they stay where they are

_BELL: Final = b"\0"


class RingedStream(CarriedStream):
    """See the module docstring."""

    def rings(self, rx_size: int, tx_size: int, sent: int, fd: int) -> int:
        """`rings` of the contract; the bytes delivered until now. `fd` stays the caller's."""
        session = self.session
        if self.state != CONNECTED or self._data is None:
            raise NetError(errno.ENOTCONN, "not connected")
        if self._rings is not None:
            raise NetError(errno.EALREADY, "there are rings")
        if sent < self._collected:
            raise NetError(errno.EINVAL, f"{self._collected} bytes came already")
        size = mapping_bytes(rx_size, tx_size)
        if session.rings >= limits.MAX_RINGS or session.rings_bytes + size > limits.MAX_RINGS_BYTES:
            session.service.count("RingsRefused")
            most = f"more than {limits.MAX_RINGS} streams or {limits.MAX_RINGS_BYTES} bytes have rings"
            raise NetError(errno.ENOSPC, most)
        self._rings = RingData(map_untrusted(fd, size), rx_size, tx_size, sent)
        session.rings += 1
        session.rings_bytes += size
        endpoint = self._endpoint
        assert endpoint is not None
        endpoint.sndbuf = max(endpoint.sndbuf, tx_size)  # room is told by it
        endpoint.user_space = rx_size
        endpoint.taker = self._put_at_once
        endpoint.before_flush = self._exchange
        path: Any = endpoint.route
        if path.way.out is not None:
            self._placement = placement_of(session.service.loop, session.stack, path.way.out)
            if self._placement is not None:
                self._placement.add(endpoint, self)
        if self._write_blocked:
            self._write_blocked = False
            session.service.loop.watch(self._fd, EDGES, self._on_data_socket)
        session.service.note(self)
        return self._delivered

    def _exchange(self, now: int) -> None:
        """In a flush: take what the client has produced, and give it what came. The rest of it is `_transfer`'s."""
        rings, endpoint = self._rings, self._endpoint
        if rings is None or endpoint is None or self._data is None or self._ring_broken:
            return
        try:
            self._dozing = False
            if self._collected >= rings.sent and not self._urgent:
                taken = self._take(rings, endpoint, TAKEN_BYTES, self._unit(endpoint, now))
                if not self._asleep and not self._end_read and taken < TAKEN_BYTES:
                    self._doze(endpoint, now)
            if self.state == CONNECTED and not self._hung_up and endpoint.receive.size and not endpoint.urgent_state:
                self._give(rings, endpoint)
            endpoint.user_unread = rings.unread()
        except ProtocolViolation:
            self._ring_broken = True
        if self._moved or self._room or self._ring_broken or not (self._asleep or self._dozing):
            self.session.service.note(self)
        elif endpoint.send.first != endpoint.send.end:
            endpoint.write_blocked = True  # be told of acknowledgements

    def _unit(self, endpoint: Endpoint, now: int) -> int:
        """Of a busy stream whole large segments are taken: more comes before the rest of one would have been sent, and
        a short one costs as much. With TCP_NODELAY nothing waits."""
        if now >= self._look_at or endpoint.options.nodelay:
            return 1
        unit = output.large_limit(endpoint, endpoint.mss)
        return unit if unit >= limits.BUSY_BYTES else 1

    def _take(self, rings: RingData, endpoint: Endpoint, limit: int, unit: int = 1) -> int:
        """Queue what the client has produced; give it the place of what is acknowledged."""
        if rings.release(endpoint.send.first):
            self._room = True
        if endpoint.send_shutdown or self._collected_all:
            return 0
        taken = rings.take(endpoint, limit, unit)
        if taken:
            self._collected += taken
            self._asleep = False
            self._fresh = True
            self._patience.answered(self.session.service.loop.clock)
            if self._expected:
                self._expected = False
                self.session.service.answers.answered(self)
        return taken

    def _give(self, rings: RingData, endpoint: Endpoint) -> int:
        """Copy what was received into the ring."""
        count = rings.deliver(endpoint, BATCH_BYTES)
        if count:
            self._delivered += count
            self._moved = True
        return count

    def _put_at_once(self, payload: Payload) -> int:
        """As `_take_at_once`, into the ring."""
        rings = self._rings
        if rings is None or self._data is None or self.state != CONNECTED or self._hung_up or self._ring_broken:
            return 0
        try:
            if rings.put(payload):
                self._delivered += len(payload)
                self._tell(rings)
                return len(payload)
        except ProtocolViolation:
            self._ring_broken = True
            self.session.service.note(self)
        return 0

    def _tell(self, rings: RingData) -> None:
        """Bytes were put into the ring: wake who waits for them."""
        flag = rings.reader_waits()
        if flag & SLEEPS:
            self._wake(rings)
        if flag & ~SLEEPS:
            self._ring()

    def place(self) -> tuple[int, memoryview, int]:
        """See placement.Reader."""
        rings = self._rings
        assert rings is not None
        if self.state == CONNECTED and not self._hung_up and not self._ring_broken:
            try:
                return rings.place()
            except ProtocolViolation:
                self._ring_broken = True
                self.session.service.note(self)
        return 0, memoryview(b""), 0

    def placed(self, size: int) -> None:
        """See placement.Reader."""
        rings = self._rings
        assert rings is not None
        rings.placed(size)
        self._delivered += size
        self._moved = True
        self.session.service.note(self)
        self.session.touch()

    def _collect_ring(self, rings: RingData, endpoint: Endpoint, now: int) -> None:
        """As `_collect`, from tx. While it is armed and silent there is nothing in it."""
        if self._readable:
            self._asleep = self._dozing = False
            self._hear()
        while not (self._asleep or self._dozing) or self._urgent:
            limit = TAKEN_BYTES
            if self._urgent:
                if not self._send_urgent(endpoint):
                    break
                if self._urgent:
                    limit = self._urgent[0][0] - self._collected
            taken = self._take(rings, endpoint, limit)
            if taken:
                self.session.touch()
                if taken == limit:
                    continue
            if endpoint.send_shutdown or self._collected_all:
                break
            if self._end_read:
                self._collected_all = True
                self._end_of_ring(rings, endpoint, now)
                break
            if endpoint.send.end - endpoint.snd_nxt >= endpoint.mss or self._expected:
                break
            if self._doze(endpoint, now):
                break
            if rings.sleep():
                self._asleep = True
                break
        if endpoint.send.first != endpoint.send.end:
            endpoint.write_blocked = True  # be told of acknowledgements

    def _doze(self, endpoint: Endpoint, now: int) -> bool:
        """A doorbell costs the client and us as much as 64 KB do. So he is not asked for one while acknowledgements are
        sure to come soon (RFC 5681 4.2: of every second segment) and have us look; but for no longer than LOOK_NS after
        bytes came last, which is also as long as we sleep then. False: not now."""
        if self._fresh:
            self._fresh = False
            self._look_at = now + limits.LOOK_NS
        if now >= self._look_at or endpoint.send.end - endpoint.snd_una < limits.BUSY_BYTES:
            return False
        self._dozing = True
        endpoint.look_again(self._look_at)
        return True

    def _hear(self) -> None:
        """Read doorbells; what they tell of is looked at anyway."""
        data = self._data
        assert data is not None
        for _ in range(4):
            try:
                got = len(data.recv(READ_BYTES))
            except BlockingIOError:
                self._readable = False
                return
            except OSError:
                got = 0  # closed, doorbells unread
                self._hung_up = True
            if not got:
                self._readable, self._end_read = False, True
                return
            if got < READ_BYTES and not self._ended:
                self._readable = False
                return
        self.session.service.note(self)
        self.session.touch()

    def _end_of_ring(self, rings: RingData, endpoint: Endpoint, now: int) -> None:
        """The client sends no more, and perhaps has closed its end."""
        if self._hung_up and not self._finished and rings.unread():
            self.session.service.count("ResetsByUnreadData")
            self._reset()
        elif self.state == CONNECTED:
            endpoint.shutdown_write(now)
            self.session.touch()

    def _deliver_ring(self, rings: RingData, endpoint: Endpoint) -> None:
        """As `_deliver`, to rx; and the doorbell for both directions."""
        if endpoint.urgent_state:
            before = self._delivered
            self._deliver_around_mark(endpoint)
            self._moved |= self._delivered != before
        if endpoint.receive.size and not endpoint.urgent_state:
            if self._hung_up and not self._finished:
                self._reader_is_gone(endpoint)
                return
            count = self._give(rings, endpoint)
            if endpoint.queued:
                self.session.touch()
            if count >= BATCH_BYTES:
                self.session.service.note(self)
        if 2 * endpoint.user_unread > rings.rx_size:
            endpoint.user_unread = rings.unread()
            if is_read_news(endpoint):
                endpoint.read_since_ack = True
                endpoint.wake()
                self.session.touch()
        if self._moved:
            self._moved = False
            self._tell(rings)
        if self._room:
            self._room = False
            self._ring()
        self._look_for_end(endpoint)

    def _wake(self, rings: RingData) -> None:
        """Wake the client's thread, and perhaps look for what it does then."""
        service = self.session.service
        if not self._expected:
            self._patience.asked(service.loop.clock())
            if self._patience and service.answers.expect(self):
                self._expected, self._asleep, self._dozing = True, False, False
                rings.stay_awake()
        rings.wake()

    @property
    def fd(self) -> int:
        """See answers.Answering."""
        return self._fd

    def has_answered(self) -> bool:
        """See answers.Answering."""
        rings = self._rings
        try:
            return rings is None or rings.has_more()
        except ProtocolViolation:
            return True  # to be found again by who may act on it

    def gave_up(self) -> bool:
        """See answers.Answering."""
        rings = self._rings
        self._expected = False
        self._patience.vain()
        try:
            if rings is None or not rings.sleep():
                return False
        except ProtocolViolation:
            return False
        self._asleep = True
        return True

    def _ring(self) -> None:
        """Wake the client."""
        assert self._data is not None
        try:
            self._data.send(_BELL, socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it has doorbells to read, or has gone

    def _violated(self) -> None:
        """The client has written nonsense into its rings: that costs it this connection."""
        self.session.service.count("RingViolations")
        if not self._told_error:
            self._told_error = True
            self.session.tell("error", [self.number, errno.ECONNRESET])
        self._reset()
