"""Fragments in and out (RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722, RFC 815).

In: one `Reassembly` for both versions. A datagram is known by addresses, identification, protocol (IPv4) and the
interface (what arrives on different links does not mix). A fragment that overlaps others condemns its datagram (RFC
5722 section 4; Linux does the same for IPv4 since 4.19); an exact duplicate is dropped alone. Bounded in bytes (high
and low mark: when the high one is passed the oldest datagrams go until the low one is reached), in fragments per
datagram and in time; at the end of the time the sender of the first fragment is told (RFC 792, RFC 4443 section 3.3).

Out: `fragment_v4` and `fragment_v6` cut a packet that does not fit.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.neighbours import SECOND
from services.netstackd.storage.packet import CSUM_NONE, HEADROOM, Packet
from services.netstackd.storage.timers import Timer
from services.netstackd.wire import icmpv4, ipv4_options, ipv6_extensions
from services.netstackd.wire import ipv4 as ipv4_wire
from services.netstackd.wire.numbers import PROTO_FRAGMENT, PROTO_HOP_BY_HOP

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface
    from services.netstackd.stack import Stack

HIGH_BYTES: Final = 4 << 20  # net.ipv4.ipfrag_high_thresh
LOW_BYTES: Final = 3 << 20
TIMEOUT_V4: Final = 30 * SECOND  # net.ipv4.ipfrag_time
TIMEOUT_V6: Final = 60 * SECOND  # RFC 8200 section 4.5
MAX_FRAGMENTS: Final = 8192 // 8  # of one datagram: more than 64 KB cut at 68 bytes can bring in practice
# Bytes charged beside the data, measured: many small fragments are bounded by what they really take.
OVERHEAD: Final = 320  # a fragment
DATAGRAM_OVERHEAD: Final = 1600  # a datagram, with its timer, its key, and the headers of its first fragment

_OVERLAP: Final = COUNTER["DropFragmentOverlap"]
_TOO_LONG: Final = COUNTER["DropFragmentTooLong"]
_MALFORMED: Final = COUNTER["DropFragmentMalformed"]
_MEMORY: Final = COUNTER["DropFragmentMemory"]
_TOO_MANY: Final = COUNTER["DropFragmentTooMany"]
_TIMED_OUT: Final = COUNTER["DropFragmentTimeout"]
_COUNTS: Final = {
    4: tuple(COUNTER[f"IpReasm{name}"] for name in ("Reqds", "OKs", "Fails", "Timeout")),
    6: tuple(COUNTER[f"Ip6Reasm{name}"] for name in ("Reqds", "OKs", "Fails", "Timeout")),
}

Key = tuple[int, int, int, int, int, int]


class _Datagram:
    """What has come of one datagram. `starts` and `pieces` run in parallel, in order."""

    __slots__ = (
        "charged",
        "condemned",
        "first",
        "iface",
        "key",
        "largest",
        "pieces",
        "received",
        "starts",
        "timer",
        "total",
        "version",
    )

    def __init__(self, key: Key, version: int, iface: Interface, timer: Timer) -> None:
        self.key = key
        self.version = version
        self.iface = iface
        self.timer = timer
        self.starts: list[int] = []
        self.pieces: list[memoryview] = []
        self.first: Packet | None = None
        self.total = -1
        self.received = 0
        self.largest = 0  # bytes of the largest fragment, headers included
        self.charged = 0
        self.condemned = False


class Reassembly:
    """The datagrams that are not whole yet, of both versions."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self._datagrams: dict[Key, _Datagram] = {}  # the oldest first
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._datagrams)

    def add_v4(self, packet: Packet) -> Packet | None:
        """Take in a fragment; the whole packet when it was the last one missing, else None."""
        ident, offset, more = ipv4_wire.fragment_fields(packet)
        iface = packet.iface
        assert iface is not None
        key = (4, packet.src, packet.dst, ident, packet.proto, iface.index)
        length = packet.end - packet.l4
        return self._add(packet, key, packet.l4, length, offset, more, TIMEOUT_V4, packet.l4 - packet.l3)

    def add_v6(self, packet: Packet, at: int) -> Packet | None:
        """The same for a packet with a fragment header at `at`. What would not fit an IPv6 packet, or has a length
        that is no multiple of eight, is answered by a parameter problem (RFC 8200 section 4.5)."""
        _, ident, offset, more = ipv6_extensions.fragment_fields(packet.head, at)
        iface = packet.iface
        assert iface is not None
        key = (6, packet.src, packet.dst, ident, 0, iface.index)
        start = at + 8
        length = packet.end - start
        if more and length & 7:
            self._refuse(6, _MALFORMED)
            self._stack.icmp6.send_parameter_problem(packet, 0, 4)
            return None
        if offset + length > 65535:
            self._refuse(6, _TOO_LONG)
            self._stack.icmp6.send_parameter_problem(packet, 0, at + 2 - packet.l3)
            return None
        if offset == 0 and not more:
            return None  # cannot be: atomic fragments were passed over by the walk
        return self._add(packet, key, start, length, offset, more, TIMEOUT_V6, at - packet.l3 - 40)

    def _refuse(self, version: int, reason: int) -> None:
        self._count[reason] += 1
        self._count[_COUNTS[version][2]] += 1

    def _add(
        self, packet: Packet, key: Key, start: int, length: int, offset: int, more: bool, timeout: int, front: int
    ) -> Packet | None:
        version = key[0]
        self._count[_COUNTS[version][0]] += 1
        if length <= 0 or (more and length & 7):
            self._refuse(version, _MALFORMED)
            return None
        if offset + length + front > 65535:
            self._refuse(version, _TOO_LONG)
            return None
        datagram = self._datagrams.get(key)
        if datagram is None:
            datagram = self._open(key, packet, timeout)
        if datagram.condemned:
            self._count[_OVERLAP] += 1
            return None
        place = bisect_left(datagram.starts, offset)
        if place < len(datagram.starts) and datagram.starts[place] == offset and len(datagram.pieces[place]) == length:
            self._count[_OVERLAP] += 1  # the same again: this copy goes, nothing else
            return None
        if _conflicts(datagram, place, offset, offset + length, more):
            self._condemn(datagram)
            return None
        if not more:
            datagram.total = offset + length
        if len(datagram.starts) >= MAX_FRAGMENTS:
            self._close(datagram)
            self._refuse(version, _TOO_MANY)
            return None
        datagram.starts.insert(place, offset)
        datagram.pieces.insert(place, memoryview(packet.head)[start : start + length])
        datagram.received += length
        datagram.largest = max(datagram.largest, packet.end - packet.l3)
        cost = len(packet.head) + OVERHEAD
        datagram.charged += cost
        self.bytes += cost
        if offset == 0:
            datagram.first = packet
        if datagram.received == datagram.total and datagram.first is not None:
            self._close(datagram)
            self._count[_COUNTS[version][1]] += 1
            whole = self._join(datagram)
            if whole is not None:
                whole.fragment_size = datagram.largest
            return whole
        if self.bytes > HIGH_BYTES:
            self._shrink()
        return None

    def _open(self, key: Key, packet: Packet, timeout: int) -> _Datagram:
        timer = self._stack.timers.after(self._stack.now + timeout, lambda now: self._on_timeout(datagram))
        assert packet.iface is not None
        datagram = self._datagrams[key] = _Datagram(key, key[0], packet.iface, timer)
        datagram.charged = DATAGRAM_OVERHEAD
        self.bytes += DATAGRAM_OVERHEAD
        return datagram

    def _close(self, datagram: _Datagram) -> None:
        del self._datagrams[datagram.key]
        datagram.timer.cancel()
        datagram.timer.callback = _nothing  # a cycle that reference counts would not free
        self.bytes -= datagram.charged
        datagram.charged = 0

    def _condemn(self, datagram: _Datagram) -> None:
        """An overlap: drop what there is, and what still comes of it until its time is over (RFC 5722 section 4)."""
        self._refuse(datagram.version, _OVERLAP)
        self.bytes -= datagram.charged - DATAGRAM_OVERHEAD
        datagram.charged = DATAGRAM_OVERHEAD
        datagram.condemned = True
        datagram.starts = []
        datagram.pieces = []
        datagram.first = None

    def _shrink(self) -> None:
        for datagram in list(self._datagrams.values()):
            if self.bytes <= LOW_BYTES:
                break
            self._close(datagram)
            self._refuse(datagram.version, _MEMORY)

    def _on_timeout(self, datagram: _Datagram) -> None:
        self._close(datagram)
        if datagram.condemned:
            return
        self._refuse(datagram.version, _TIMED_OUT)
        self._count[_COUNTS[datagram.version][3]] += 1
        if datagram.first is not None:
            self._stack.icmp(datagram.version).send_time_exceeded(datagram.first, icmpv4.REASSEMBLY_EXCEEDED)

    def _join(self, datagram: _Datagram) -> Packet | None:
        """The whole packet: the first fragment's headers (without the fragment header), all the payload."""
        first = datagram.first
        assert first is not None
        l3 = first.l3
        payload = b"".join(datagram.pieces)
        if datagram.version == 4:
            head = bytearray(memoryview(first.head)[: first.l4]) + payload
            length = len(head) - l3
            head[l3 + 2 : l3 + 4] = length.to_bytes(2, "big")
            head[l3 + 6 : l3 + 8] = bytes((head[l3 + 6] & 0x40, 0))
            ipv4_wire.write_checksum(head, l3)
        else:
            joined = _join_v6(first, payload)
            if joined is None:
                self._count[_TOO_LONG] += 1
                return None
            head = joined
        whole = Packet(head, len(head), first.iface)
        whole.l2 = first.l2
        whole.l3 = l3
        whole.kind = first.kind
        whole.link_src = first.link_src
        whole.link_dst = first.link_dst
        whole.ethertype = first.ethertype
        whole.vlan = first.vlan
        whole.csum = CSUM_NONE
        whole.mark = first.mark
        return whole


def _nothing(now: int) -> None:
    """What the timer of a datagram that is closed would do."""


def _conflicts(datagram: _Datagram, place: int, offset: int, end: int, more: bool) -> bool:
    """Whether a fragment [offset, end) that belongs at `place` overlaps others or contradicts the known length."""
    starts, pieces, total = datagram.starts, datagram.pieces, datagram.total
    if place < len(starts) and starts[place] < end:
        return True
    if place and starts[place - 1] + len(pieces[place - 1]) > offset:
        return True
    if more:
        return 0 <= total < end
    return (total >= 0 and total != end) or (bool(starts) and starts[-1] + len(pieces[-1]) > end)


def _join_v6(first: Packet, payload: bytes) -> bytearray | None:
    """RFC 8200 section 4.5: the unfragmentable part with its last next-header field set to the fragment header's."""
    l3 = first.l3
    at = first.l4 - 8
    head = bytearray(memoryview(first.head)[:at])
    field = l3 + 6
    kind = head[field]
    place = l3 + 40
    while kind != PROTO_FRAGMENT and place < at:
        field = place
        kind = head[place]
        place += head[place + 1] * 8 + 8
    head[field] = first.head[at]
    head += payload
    length = len(head) - l3 - 40
    if length > 65535:
        return None
    head[l3 + 4 : l3 + 6] = length.to_bytes(2, "big")
    return head


def fragment_v4(packet: Packet, mtu: int) -> list[Packet]:
    """Cut a packet into fragments of at most `mtu` bytes each (RFC 791 section 3.2, example of procedure)."""
    head = packet.head
    l3, l4 = packet.l3, packet.l4
    _, base, last_more = ipv4_wire.fragment_fields(packet)
    body = bytes(packet.body) if packet.body is not None else b""
    data = memoryview(bytes(memoryview(head)[l4 : packet.end]) + body)
    options = bytes(head[l3 + 20 : l4])
    later = ipv4_options.copied(options) if options else b""
    fragments: list[Packet] = []
    at = 0
    while at < len(data):
        own = options if at == 0 else later
        room = (mtu - 20 - len(own)) & ~7
        piece = data[at : at + room]
        more = at + len(piece) < len(data) or last_more
        header = bytearray(HEADROOM) + head[l3 : l3 + 20] + own
        header[HEADROOM] = 0x40 | (20 + len(own)) // 4
        header[HEADROOM + 2 : HEADROOM + 4] = (20 + len(own) + len(piece)).to_bytes(2, "big")
        word = (base + at) // 8 | (ipv4_wire.MORE_FRAGMENTS if more else 0)
        header[HEADROOM + 6 : HEADROOM + 8] = word.to_bytes(2, "big")
        ipv4_wire.write_checksum(header, HEADROOM)
        fragments.append(_piece_of(packet, header, piece))
        at += len(piece)
    return fragments


def fragment_v6(packet: Packet, mtu: int, ident: int, unfragmentable: int) -> list[Packet]:
    """Cut a locally made IPv6 packet (RFC 8200 section 4.5). `unfragmentable`: bytes of the part that each fragment
    repeats (base header, and extension headers up to the last that routers look at); its last next-header field must
    be in the base header or the last of these."""
    head = packet.head
    l3 = packet.l3
    front = bytes(head[l3 : l3 + unfragmentable])
    data = memoryview(
        bytes(memoryview(head)[l3 + unfragmentable : packet.end])
        + (bytes(packet.body) if packet.body is not None else b"")
    )
    field = 6 if unfragmentable == 40 else 40
    following = front[field]
    fragments: list[Packet] = []
    at = 0
    while at < len(data):
        piece = data[at : at + ((mtu - unfragmentable - 8) & ~7)]
        more = at + len(piece) < len(data)
        header = bytearray(HEADROOM) + front
        header[HEADROOM + field] = PROTO_FRAGMENT
        header[HEADROOM + 4 : HEADROOM + 6] = (unfragmentable - 40 + 8 + len(piece)).to_bytes(2, "big")
        header += ipv6_extensions.fragment_header(following, at, more, ident)
        fragments.append(_piece_of(packet, header, piece))
        at += len(piece)
    return fragments


def unfragmentable_part(packet: Packet) -> int:
    """Bytes that every fragment of an IPv6 packet repeats: the base header, and hop-by-hop options behind it."""
    head, l3 = packet.head, packet.l3
    if head[l3 + 6] != PROTO_HOP_BY_HOP or packet.end < l3 + 48:
        return 40
    return 40 + head[l3 + 41] * 8 + 8


def _piece_of(packet: Packet, header: bytearray, piece: memoryview) -> Packet:
    fragment = Packet(header, len(header), packet.iface)
    fragment.body = piece
    fragment.l2 = fragment.l3 = HEADROOM
    fragment.l4 = fragment.payload = len(header)
    fragment.version = packet.version
    fragment.proto = packet.proto
    fragment.src = packet.src
    fragment.dst = packet.dst
    fragment.fragment = True
    fragment.mark = packet.mark
    fragment.ct = packet.ct
    fragment.owner = packet.owner
    return fragment
