"""Packet: one packet on its way through the stack, with what is known about it.

Read first: nothing. Who makes a packet writes it once; whoever passes it on owns it from then on. There are no
reference counts: a queue that wants to keep a packet which another one also gets makes a copy (`copy`).

    head    bytes or bytearray. All headers; a received frame is in `head` wholly. A locally made packet has HEADROOM
            free bytes before l3, so that any link header can be written in front.
    body    the payload that follows head[:end], or None. Bytes-like, owned by someone else (a send buffer) and never
            written.
    l2 l3 l4 payload    offsets into head: link header, IP header, transport header, what follows that.
    end     one past the last valid byte in head (Ethernet padding lies behind it).

A head of type `bytes` is read-only; who changes it calls `writable()` first and uses what that returns.

A PacketRun stands for several packets in a row. Only links get to see one, those that say that they take it
(`Link.takes_runs`); for others it is `spread`.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from services.netstackd.wire.numbers import PROTO_TCP, PROTO_UDP

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface

# Room for an Ethernet header with one VLAN tag (14 + 4), in front of every locally made IP header.
HEADROOM: Final = 18

# Packet.csum, the state of the transport checksum.
CSUM_NONE: Final = 0  # the field is complete and must be verified by the receiver
CSUM_VALID: Final = 1  # the link vouches for it: no need to look
CSUM_PARTIAL: Final = 2  # the field holds the pseudo-header sum alone; a link (or its edge) completes it

# Packet.gso_type
GSO_NONE: Final = 0
GSO_TCP4: Final = 1
GSO_TCP6: Final = 2
GSO_UDP: Final = 3

# Packet.kind, to whom the link header was addressed (linux/if_packet.h PACKET_*).
TO_HOST: Final = 0
TO_BROADCAST: Final = 1
TO_MULTICAST: Final = 2
TO_OTHER_HOST: Final = 3
OUTGOING: Final = 4
LOOPED: Final = 5  # our own, to a group or to everybody, and back again

Payload = bytes | bytearray | memoryview  # what `body` may be

_SEQ: Final = Struct("!I")  # of a TCP header, from its byte 4 on
_PSH: Final = 0x08  # in its byte 13


_SLOTS: Final = (
    "body",
    "csum",
    "ct",
    "dport",
    "dst",
    "end",
    "ethertype",
    "fragment",
    "fragment_size",
    "gso_size",
    "gso_type",
    "head",
    "iface",
    "kind",
    "l2",
    "l3",
    "l4",
    "link_dst",
    "link_src",
    "mark",
    "next_hop",
    "options",
    "out",
    "owner",
    "payload",
    "proto",
    "sport",
    "src",
    "tcp_flags",
    "tos",
    "ttl",
    "version",
    "vlan",
)


class Packet:
    """See the module. Fields that input fills in are 0, b"" or None until then; those that every IP packet has

        src dst     addresses           tos     the traffic class, of both versions
        ttl         the hop limit       next_hop    the address on the link that it goes out by

    and those of every received packet (ethertype, and of a frame link_src and link_dst) are not set at all before, as
    each assignment counts here.
    """

    src: int
    dst: int
    tos: int
    ttl: int
    next_hop: int
    ethertype: int
    link_src: bytes
    link_dst: bytes

    __slots__ = _SLOTS

    def __init__(self, head: bytes | bytearray, end: int, iface: Interface | None = None) -> None:
        self.head = head
        self.body: Payload | None = None
        self.end = end
        self.l2 = 0
        self.l3 = 0
        self.l4 = 0
        self.payload = 0
        self.iface = iface  # where it came in
        self.csum = CSUM_NONE
        self.gso_size = 0  # payload bytes of each segment; 0: this is one segment
        self.gso_type = GSO_NONE
        self.version = 0  # 4, 6; 0 for what is not IP
        self.proto = 0  # the transport protocol (behind IPv6 extension headers)
        self.sport = 0  # 0 where there are no ports, and in fragments but the first
        self.dport = 0
        self.tcp_flags = 0
        self.fragment = False  # still a fragment of something
        self.fragment_size = 0  # put together from fragments, the largest of which (a whole IP packet) had this size
        self.options = b""  # IPv4 options as received; b"" almost always
        self.vlan = 0  # 802.1Q tag control information that the packet carries or shall carry; 0 for none
        self.kind = TO_HOST
        self.mark = 0
        self.ct: Any = None  # filter/conntrack's entry
        self.out: Interface | None = None  # where it goes out
        self.owner: Any = None  # the socket that sent it, for errors that come back at once

    def __len__(self) -> int:
        """Bytes from the IP header on (without the link header and padding)."""
        body = self.body
        return self.end - self.l3 + (len(body) if body is not None else 0)

    def writable(self) -> bytearray:
        """`head` as something that may be written, copied first when it is not."""
        head = self.head
        if type(head) is bytearray:
            return head
        head = self.head = bytearray(head)
        return head

    def copy(self) -> Packet:
        """An independent packet with the same bytes in `head` (which may be written) and the same body."""
        twin = Packet(bytearray(self.head), self.end, self.iface)
        for name in _COPIED:
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        return twin

    def network_bytes(self) -> bytes:
        """The packet from the IP header to its end, body included."""
        front = bytes(memoryview(self.head)[self.l3 : self.end])
        return front + bytes(self.body) if self.body is not None else front

    def frame_bytes(self) -> bytes:
        """The packet from the link header to its end, body included, without padding."""
        front = bytes(memoryview(self.head)[self.l2 : self.end])
        return front + bytes(self.body) if self.body is not None else front

    def payload_view(self) -> memoryview:
        """What follows the transport header; a received packet only (body is None)."""
        return memoryview(self.head)[self.payload : self.end]


class PacketRun(Packet):
    """TCP segments that follow each other, with bodies of one size and else the same headers, checksums partial: what a
    busy sender sends at once. It is the first of them until `step` makes it the next.

    following: the bodies of those behind, the last one first; pushed: the last has PSH
    """

    __slots__ = ("_pushed", "_seq", "_size", "following")

    def __init__(
        self, head: bytearray, end: int, following: list[Payload], seq: int, size: int, pushed: bool = False
    ) -> None:
        super().__init__(head, end)
        self.following = following
        self._pushed = pushed
        self._seq = seq
        self._size = size

    def step(self) -> Payload | None:
        """Become the next one: its body, which is returned, and its sequence number in `head`. None: there is none."""
        if not self.following:
            return None
        self.body = body = self.following.pop()
        self._seq = seq = (self._seq + self._size) & 0xFFFFFFFF
        head, l4 = self.writable(), self.l4
        _SEQ.pack_into(head, l4 + 4, seq)
        if self._pushed and not self.following:
            head[l4 + 13] |= _PSH
            self.tcp_flags |= _PSH
        return body


def spread(packets: Sequence[Packet]) -> Sequence[Packet]:
    """The same packets with none standing for others. What runs there were are used up."""
    for packet in packets:
        if type(packet) is PacketRun:
            break
    else:
        return packets
    single: list[Packet] = []
    for packet in packets:
        if type(packet) is not PacketRun:
            single.append(packet)
            continue
        single.append(packet.copy())
        while packet.step() is not None:
            single.append(packet.copy())
    return single


_COPIED: Final = tuple(name for name in _SLOTS if name not in ("head", "end", "iface"))


def outgoing(
    version: int,
    head: bytearray,
    l4: int,
    body: Payload | None,
    proto: int,
    src: int,
    dst: int,
    tos: int,
    ttl: int,
    mark: int,
    owner: Any,
    csum: int,
) -> Packet:
    """A packet of ours: HEADROOM free bytes and all headers in `head`, and what follows them there or in `body`."""
    end = len(head)
    packet = Packet(head, end)
    packet.version = version
    packet.l2 = packet.l3 = HEADROOM
    packet.l4 = l4
    packet.body = body
    packet.payload = l4 if body is None else end
    packet.proto = proto
    packet.src = src
    packet.dst = dst
    packet.tos = tos
    packet.ttl = ttl
    packet.mark = mark
    packet.owner = owner
    packet.csum = csum
    if (proto == PROTO_UDP or proto == PROTO_TCP) and end >= l4 + 4:
        packet.sport = head[l4] << 8 | head[l4 + 1]
        packet.dport = head[l4 + 2] << 8 | head[l4 + 3]
        if proto == PROTO_TCP and end >= l4 + 14:
            packet.tcp_flags = head[l4 + 13]
    return packet
