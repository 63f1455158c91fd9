"""Connection tracking: which packets belong together, in what state their conversation is, and for how long.

A `Connection` has two `Direction`s, found in one table by the addresses and ports that a packet of that direction has
when it comes in. `Tracker.track(packet)` sets `packet.ct` to the Direction (or to a `Related`, INVALID or UNTRACKED)
and returns it; a new connection is only in the table after `confirm`, which the pipeline calls when its first packet
was not dropped.

    state of a ct     NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED: bits, as the filter's rules ask for them
    assured           traffic both ways, after TCP's handshake: not thrown out when the table is full. Others are: of
                      those without an answer, of those that were ended before they were assured, and of those that
                      were answered and no more (handshakes underway) the oldest of whichever are the most, so that a
                      flood or a scan of one kind pushes out what it made itself; then assured TCP connections that are
                      about to end
    deadline          each packet moves it by the timeout of the connection's state; expiry looks at buckets of a second

TCP follows RFC 9293 as an observer between the ends can: `TCP_TRANSITIONS` by (state, what was seen). A RST counts
only when its sequence number is one that the other end can accept (RFC 9293 3.10.7, RFC 5961), so that guessing does
not end a connection. With `tcp_loose` a connection is taken up in the middle (after a restart); until the other side
answers it may be a scan as well, so it is neither assured nor kept for days. ICMP errors are RELATED to the connection
that they quote (RFC 5508 4). States and default timeouts are those of Linux
(Documentation/networking/nf_conntrack-sysctl.rst).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Final

from services.netstackd.counters import COUNTER, Counters
from services.netstackd.filter.connection import (
    CLOSE,
    CLOSE_WAIT,
    ESTABLISHED,
    FIN_WAIT,
    ICMP_ANSWER,
    INVALID,
    LAST_ACK,
    NEW,
    PROTO_ICMPV6,
    RELATED,
    SECOND,
    SYN_RECV,
    SYN_SENT,
    SYN_SENT2,
    TCP_ESTABLISHED,
    TIME_WAIT,
    UNTRACKED,
    Connection,
    Direction,
    Key,
    Limits,
    Quote,
    Related,
    Timeouts,
    Verdictless,
    quote_untrusted,
)
from services.netstackd.storage.packet import Packet
from services.netstackd.storage.timers import Timers
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_TCP, PROTO_UDP

_FIN: Final = 1
_SYN: Final = 2
_RST: Final = 4
_ACK: Final = 16

# What was seen of a TCP connection. "Original" is who sent the first packet; FINs and ACKs are told apart by who ended
# first.
SEEN_SYN: Final = 0  # from the original side
SEEN_SYN_BACK: Final = 1  # a SYN without ACK from the other side: simultaneous open
SEEN_SYNACK: Final = 2  # from the original side
SEEN_SYNACK_BACK: Final = 3
SEEN_ACK: Final = 4  # from the original side
SEEN_ACK_BACK: Final = 5
SEEN_FIN: Final = 6  # the first of the two FINs, or it once more
SEEN_LAST_FIN: Final = 7  # both sides have now sent theirs
SEEN_FIN_ACKED: Final = 8  # an ACK by the side that has not sent the (last) FIN

# (state, seen) -> state. A pair that is not there leaves the state alone.
TCP_TRANSITIONS: Final[dict[tuple[int, int], int]] = {
    (SYN_SENT, SEEN_SYNACK_BACK): SYN_RECV,
    (SYN_SENT, SEEN_SYN_BACK): SYN_SENT2,
    (SYN_SENT2, SEEN_SYNACK): SYN_RECV,
    (SYN_SENT2, SEEN_SYNACK_BACK): SYN_RECV,
    (SYN_RECV, SEEN_ACK): TCP_ESTABLISHED,
    # the original side's ACK went by unseen, yet the other side goes on: it must have come
    (SYN_RECV, SEEN_FIN): FIN_WAIT,
    (TCP_ESTABLISHED, SEEN_FIN): FIN_WAIT,
    (FIN_WAIT, SEEN_FIN_ACKED): CLOSE_WAIT,
    (FIN_WAIT, SEEN_LAST_FIN): LAST_ACK,
    (CLOSE_WAIT, SEEN_LAST_FIN): LAST_ACK,
    (LAST_ACK, SEEN_FIN_ACKED): TIME_WAIT,
}

_ENDED: Final = frozenset({TIME_WAIT, CLOSE})
_ENDING: Final = frozenset({FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE})
_DROP_FULL: Final = COUNTER["DropConntrackTableFull"]

_ICMP_ERRORS: Final = {(PROTO_ICMP, 3), (PROTO_ICMP, 4), (PROTO_ICMP, 5), (PROTO_ICMP, 11), (PROTO_ICMP, 12)} | {
    (PROTO_ICMPV6, kind) for kind in (1, 2, 3, 4)
}


class Tracker:
    """The table. See the module docstring for the order of calls."""

    def __init__(self, counters: Counters, timers: Timers, timeouts: Timeouts, limits: Limits) -> None:
        self._counters = counters
        self._tables: dict[int, dict[Key, Direction]] = {4: {}, 6: {}}
        # Confirmed ones that are thrown out first, the oldest of each kind before the rest.
        self._unanswered: dict[Connection, None] = {}
        self._cut_off: dict[Connection, None] = {}
        self._answered: dict[Connection, None] = {}
        self._ending: dict[Connection, None] = {}  # assured ones in a state of _ENDING
        self._buckets: dict[int, dict[Connection, None]] = {}
        self._bucket_times: list[int] = []
        self._timer = timers.new(self._expire)
        self._invalid = Verdictless(INVALID)
        self._untracked = Verdictless(UNTRACKED)
        self._own_error = Verdictless(RELATED)  # about a connection that never came to be
        self.new_mapping: Callable[[Packet, Connection], bool] | None = None  # full-cone inbound, filter/nat.py
        self.on_event: Callable[[str, Connection], None] | None = None  # "new", "destroy"
        self.count = 0
        self.found = self.created = self.invalid_count = self.early_drops = self.refused = self.expired = 0
        self.configure(timeouts, limits)

    def configure(self, timeouts: Timeouts, limits: Limits) -> None:
        """Use other timeouts and limits from now on; what is there keeps its deadline until its next packet."""
        self.timeouts = timeouts
        self.limits = limits
        self._tcp_timeouts = timeouts.tcp()

    # -- packets --

    def track(self, packet: Packet, now: int) -> Direction | Related | Verdictless:
        """Find or begin the packet's connection; sets and returns `packet.ct`."""
        proto = packet.proto
        if proto == PROTO_ICMP or proto == PROTO_ICMPV6:
            return self._track_icmp(packet, proto, now)
        if packet.fragment:
            packet.ct = self._untracked
            return self._untracked
        key = (packet.src, packet.dst, packet.sport, packet.dport, proto)
        direction = self._tables[packet.version].get(key)
        if direction is not None:
            connection = direction.connection
            if connection.deadline > now and not (
                proto == PROTO_TCP and connection.state in _ENDED and _begins_anew(packet)
            ):
                self.found += 1
                packet.ct = direction
                if proto == PROTO_TCP:
                    head, l4 = packet.head, packet.l4
                    if packet.end < l4 + 20:
                        return self._refuse(packet)
                    if (
                        connection.state == TCP_ESTABLISHED
                        and connection.assured
                        and not head[l4 + 13] & 7  # neither FIN, SYN nor RST
                    ):
                        direction.seen = head[l4 + 8 : l4 + 16]
                    elif not self._follow_tcp(direction, packet, now):
                        return self._refuse(packet)
                elif proto == PROTO_UDP and packet.end < packet.l4 + 8:
                    return self._refuse(packet)
                elif direction.state == NEW or not connection.assured:
                    self._follow_datagram(direction, now)
                connection.deadline = now + connection.timeout
                direction.packets += 1
                body = packet.body
                direction.bytes += packet.end - packet.l3 + (len(body) if body is not None else 0)
                return direction
            self._remove(connection, "expired")
        return self._begin(packet, key, now)

    def _begin(self, packet: Packet, key: Key, now: int) -> Direction | Verdictless:
        """The first packet of a connection, as far as is known."""
        proto = key[4]
        timeouts = self.timeouts
        if proto == PROTO_TCP:
            head, l4 = packet.head, packet.l4
            if packet.end < l4 + 20:
                return self._refuse(packet)
            flags = head[l4 + 13]
            if flags & _RST or not flags & (_SYN | _ACK):
                return self._refuse(packet)
            if flags & _SYN:
                if flags & (_ACK | _FIN):
                    return self._refuse(packet)
                state = SYN_SENT
            elif not self.limits.tcp_loose:
                return self._refuse(packet)
            else:
                state = FIN_WAIT if flags & _FIN else TCP_ESTABLISHED
            timeout = self._tcp_timeouts[state]
            if state == TCP_ESTABLISHED:
                timeout = min(timeout, timeouts.tcp_unacknowledged)
            connection = Connection(packet.version, key, now, timeout)
            connection.state = state
            connection.fin = flags & _FIN
            connection.original.seen = bytes(head[l4 + 8 : l4 + 16])
            if flags & _SYN:
                connection.original.scale = window_scale_untrusted(packet)
        elif proto == PROTO_UDP:
            if packet.end < packet.l4 + 8:
                return self._refuse(packet)
            connection = Connection(packet.version, key, now, timeouts.udp)
        else:
            connection = Connection(packet.version, key, now, timeouts.generic)
        return self._admit(packet, connection)

    def _admit(self, packet: Packet, connection: Connection) -> Direction | Verdictless:
        direction = connection.original
        if self.new_mapping is not None:
            self.new_mapping(packet, connection)
        direction.packets = 1
        direction.bytes = len(packet)
        packet.ct = direction
        return direction

    def _refuse(self, packet: Packet) -> Verdictless:
        self.invalid_count += 1
        packet.ct = self._invalid
        return self._invalid

    def _follow_datagram(self, direction: Direction, now: int) -> None:
        """UDP and the rest: an answer makes a conversation, one that goes on for two seconds a stream."""
        connection = direction.connection
        original = connection.original
        if direction.is_reply:
            if original.state == NEW:
                self._note_answer(direction)
        elif original.state == ESTABLISHED and now - connection.created > 2 * SECOND:
            if connection.proto == PROTO_UDP:
                connection.timeout = self.timeouts.udp_stream
            self._assure(connection)

    def _follow_tcp(self, direction: Direction, packet: Packet, now: int) -> bool:
        """Move the state by the flags. False: the packet cannot belong to the connection."""
        connection = direction.connection
        head, l4 = packet.head, packet.l4
        flags = head[l4 + 13]
        state = connection.state
        reply = direction.is_reply
        if flags & _RST:
            if not self._rst_is_acceptable(direction, packet):
                return False
            self._set_tcp_state(connection, CLOSE, now)
            self._note_answer(direction)
            return True
        if flags & _SYN:
            direction.scale = window_scale_untrusted(packet)
            seen = (SEEN_SYNACK if flags & _ACK else SEEN_SYN) + reply
        elif flags & _FIN:
            connection.fin |= 2 if reply else 1
            seen = SEEN_LAST_FIN if connection.fin == 3 else SEEN_FIN
        elif flags & _ACK:
            seen = SEEN_ACK + reply
            if state == FIN_WAIT or state == LAST_ACK:
                # the FIN of one side alone is acknowledged by the other; of both, by whoever acknowledges now
                if state == LAST_ACK or connection.fin != (2 if reply else 1):
                    seen = SEEN_FIN_ACKED
        else:
            return False
        direction.seen = head[l4 + 8 : l4 + 16]
        self._note_answer(direction)
        after = TCP_TRANSITIONS.get((state, seen), state)
        if after != state:
            self._set_tcp_state(connection, after, now)
        if after == TCP_ESTABLISHED and not connection.assured and connection.original.state == ESTABLISHED:
            connection.timeout = self._tcp_timeouts[after]
            self._assure(connection)
        return True

    def _note_answer(self, direction: Direction) -> None:
        """A packet of `direction`: the first one of a reply makes an answer."""
        if direction.is_reply and direction.state == NEW:
            connection = direction.connection
            direction.state = connection.original.state = ESTABLISHED
            if self._unanswered.pop(connection, self) is None:
                self._answered[connection] = None

    def _set_tcp_state(self, connection: Connection, state: int, now: int) -> None:
        connection.state = state
        connection.timeout = self._tcp_timeouts[state]
        if connection.confirmed:
            self._put_in_bucket(connection, now + connection.timeout)
            if state in _ENDING:
                if connection.assured:
                    self._ending[connection] = None
                else:
                    self._unlist(connection)
                    self._cut_off[connection] = None

    def _rst_is_acceptable(self, direction: Direction, packet: Packet) -> bool:
        """Whether the other end would take this RST: its sequence number is inside that end's window."""
        seen = direction.other.seen
        head, l4 = packet.head, packet.l4
        sequence = int.from_bytes(head[l4 + 4 : l4 + 8], "big")
        if not seen:  # the other end has said nothing yet: it answers our SYN, whose number it must name
            return True
        if direction.connection.state == SYN_SENT and direction.is_reply:
            return True
        acknowledged = int.from_bytes(seen[:4], "big")
        window = int.from_bytes(seen[6:8], "big") << direction.other.scale
        return (sequence - acknowledged) & 0xFFFFFFFF <= max(window, 1)

    # -- ICMP --

    def _track_icmp(self, packet: Packet, proto: int, now: int) -> Direction | Related | Verdictless:
        head, l4 = packet.head, packet.l4
        if packet.end < l4 + 8 or packet.fragment:
            return self._refuse(packet)
        kind = head[l4]
        if (proto, kind) in _ICMP_ERRORS:
            return self._track_error(packet)
        if proto == PROTO_ICMPV6 and 130 <= kind <= 143 and kind not in (139, 140):
            packet.ct = self._untracked  # neighbour discovery and multicast reports belong to the link
            return self._untracked
        identifier = head[l4 + 4] << 8 | head[l4 + 5]
        key = (packet.src, packet.dst, identifier, kind << 8, proto)
        direction = self._tables[packet.version].get(key)
        if direction is None or direction.connection.deadline <= now:
            if direction is not None:
                self._remove(direction.connection, "expired")
            if (proto, kind) not in ICMP_ANSWER:
                return self._refuse(packet)
            timeout = self.timeouts.icmp if proto == PROTO_ICMP else self.timeouts.icmpv6
            return self._admit(packet, Connection(packet.version, key, now, timeout))
        self.found += 1
        connection = direction.connection
        connection.deadline = now + connection.timeout
        self._note_answer(direction)
        direction.packets += 1
        direction.bytes += len(packet)
        packet.ct = direction
        return direction

    def _track_error(self, packet: Packet) -> Related | Verdictless:
        """An ICMP error goes with the connection whose packet it quotes, the other way."""
        quote = quote_untrusted(packet)
        if packet.iface is None:
            return self._track_own_error(packet, quote)
        if quote is None:
            return self._refuse(packet)
        if quote.proto in (PROTO_ICMP, PROTO_ICMPV6):
            answer = ICMP_ANSWER.get((quote.proto, quote.dport >> 8))
            if answer is None:
                return self._refuse(packet)
            key = (quote.dst, quote.src, quote.sport, answer << 8, quote.proto)
        else:
            key = (quote.dst, quote.src, quote.dport, quote.sport, quote.proto)
        direction = self._tables[packet.version].get(key)
        if direction is None:
            return self._refuse(packet)
        related = packet.ct = Related(direction)
        return related

    def _track_own_error(self, packet: Packet, quote: Quote | None) -> Related | Verdictless:
        """Our own stack made it, about a packet that it was forwarding, or that was for it.

        Such a quote shows the packet half translated: its destination is the new one already, its source not yet. So
        either it looks as the packet came in, or the answer to it is what comes in the other way.
        """
        if quote is not None:
            table = self._tables[packet.version]
            here: Direction | None = None
            if quote.proto in (PROTO_ICMP, PROTO_ICMPV6):
                here = table.get((quote.src, quote.dst, quote.sport, quote.dport, quote.proto))
            else:
                here = table.get((quote.src, quote.dst, quote.sport, quote.dport, quote.proto))
                if here is None:
                    back = table.get((quote.dst, quote.src, quote.dport, quote.sport, quote.proto))
                    here = back.other if back is not None else None
            if here is not None:
                related = packet.ct = Related(here.other, made_here=True)
                return related
        packet.ct = self._own_error
        return self._own_error

    # -- the table --

    def is_free(self, version: int, key: Key) -> bool:
        """Whether no connection has packets that come in like `key`."""
        return key not in self._tables[version]

    def lookup(self, version: int, key: Key) -> Direction | None:
        """The direction whose packets come in like `key`."""
        return self._tables[version].get(key)

    def confirm(self, connection: Connection, now: int) -> bool:
        """The first packet passed: keep the connection. False, counted, when there is no room or it clashes."""
        table = self._tables[connection.version]
        original, reply = connection.original, connection.reply
        if original.key in table or reply.key in table:
            self._counters.values[_DROP_FULL] += 1
            self.refused += 1
            return False
        if self.count >= self.limits.max_connections and not self._drop_early():
            self._counters.values[_DROP_FULL] += 1
            self.refused += 1
            return False
        table[original.key] = original
        table[reply.key] = reply
        connection.confirmed = True
        self.count += 1
        self.created += 1
        if not connection.assured:
            self._unanswered[connection] = None
        self._put_in_bucket(connection, connection.deadline)
        if self.on_event is not None:
            self.on_event("new", connection)
        return True

    def _drop_early(self) -> bool:
        """Make room; see the module docstring."""
        candidates = max(self._unanswered, self._cut_off, self._answered, key=len) or self._ending
        connection = next(iter(candidates), None)
        if connection is None:
            return False
        self.early_drops += 1
        self._remove(connection, "early drop")
        return True

    def _assure(self, connection: Connection) -> None:
        connection.assured = True
        self._unlist(connection)

    def _unlist(self, connection: Connection) -> None:
        """It is not one of those any more that are thrown out first."""
        for candidates in (self._unanswered, self._cut_off, self._answered):
            candidates.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Forget a connection now (by request)."""
        self._remove(connection, "deleted")

    def _remove(self, connection: Connection, why: str) -> None:
        if not connection.confirmed:
            return
        connection.confirmed = False
        table = self._tables[connection.version]
        del table[connection.original.key]
        del table[connection.reply.key]
        self._unlist(connection)
        self._ending.pop(connection, None)
        bucket = self._buckets.get(connection.bucket)
        if bucket is not None:
            bucket.pop(connection, None)
        self.count -= 1
        if connection.release is not None:
            connection.release(connection)
        if self.on_event is not None:
            self.on_event("destroy", connection)
        connection.end()

    def _put_in_bucket(self, connection: Connection, deadline: int) -> None:
        """Have the connection looked at in the second after `deadline`, unless that happens earlier already."""
        second = deadline // SECOND + 1
        if connection.bucket:
            if second >= connection.bucket:
                return
            old = self._buckets.get(connection.bucket)
            if old is not None:
                old.pop(connection, None)
        connection.bucket = second
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = {}
            heappush(self._bucket_times, second)
            if self._bucket_times[0] == second:
                self._timer.set(second * SECOND)
        bucket[connection] = None

    def _expire(self, now: int) -> None:
        """Look at the buckets that are due."""
        times = self._bucket_times
        while times and times[0] * SECOND <= now:
            bucket = self._buckets.pop(heappop(times))
            for connection in bucket:
                connection.bucket = 0
                if connection.deadline <= now:
                    self.expired += 1
                    self._remove(connection, "expired")
                elif connection.confirmed:
                    self._put_in_bucket(connection, connection.deadline)
        if times:
            self._timer.set(times[0] * SECOND)

    def connections(self) -> Iterator[Connection]:
        """All of them, IPv4 first, oldest first."""
        for table in self._tables.values():
            for direction in list(table.values()):
                if not direction.is_reply:
                    yield direction.connection

    def statistics(self) -> dict[str, int]:
        """Counts for people and for metrics."""
        return {
            "connections": self.count,
            "limit": self.limits.max_connections,
            "found": self.found,
            "new": self.created,
            "invalid": self.invalid_count,
            "expired": self.expired,
            "early_drop": self.early_drops,
            "refused": self.refused,
        }


def _begins_anew(packet: Packet) -> bool:
    """Whether this is a SYN: between ports whose connection has ended it begins another one (RFC 9293 3.6.1)."""
    return packet.end > packet.l4 + 13 and packet.head[packet.l4 + 13] & (_SYN | _ACK | _RST | _FIN) == _SYN


def window_scale_untrusted(packet: Packet) -> int:
    """The shift in a SYN's window scale option (RFC 7323 2.2), at most 14; 0 without one."""
    head, l4 = packet.head, packet.l4
    end = min(packet.end, l4 + (head[l4 + 12] >> 4) * 4)
    at = l4 + 20
    while at < end:
        kind = head[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if at + 1 >= end or head[at + 1] < 2:
            break
        if kind == 3 and head[at + 1] == 3 and at + 2 < end:
            return min(head[at + 2], 14)
        at += head[at + 1]
    return 0
