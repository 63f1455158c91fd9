"""What a link without offloads needs in software: checksums, segments of large packets, and merging on the way in.

    prepare(packets, offload)   packets that a link with those OFFLOAD_ bits can take, in order. Packets that are fine
                                already are passed through; nothing is copied but headers.
    Merger                      joins received TCP segments of one flow that follow each other to one large packet
                                (what Linux calls GRO). Only frames whose checksum the link vouches for.
    locate(packet)              fills in where the headers are, for packets that the stack has not parsed (a bridge's).

One large segment costs the stack as much as a small one, so merging pays even when the result is segmented again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from services.netstackd.network.interface import OFFLOAD_CSUM, OFFLOAD_TSO4, OFFLOAD_TSO6, OFFLOAD_USO
from services.netstackd.storage.packet import (
    CSUM_PARTIAL,
    GSO_TCP4,
    GSO_TCP6,
    GSO_UDP,
    Packet,
)
from services.netstackd.wire.checksum import checksum, ones_sum
from services.netstackd.wire.offload import CHECKSUM_OFFSET, complete_checksum

MAX_MERGED_BYTES: Final = 65535  # of one frame
_IPV4: Final = b"\x08\x00"
_IPV6: Final = b"\x86\xdd"
_VLAN: Final = b"\x81\x00"
_TCP: Final = 6
_UDP: Final = 17
_FIN_PSH: Final = 0x09
_CWR: Final = 0x80
_TSO: Final = {GSO_TCP4: OFFLOAD_TSO4, GSO_TCP6: OFFLOAD_TSO6, GSO_UDP: OFFLOAD_USO}
_ALL: Final = OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6
_U16: Final = struct.Struct("!H")
_U32: Final = struct.Struct("!I")
_LENGTH_ID: Final = struct.Struct("!HH")


def prepare(packets: Sequence[Packet], offload: int) -> Sequence[Packet]:
    """See the module docstring."""
    if offload & _ALL == _ALL:
        for packet in packets:
            if packet.gso_type == GSO_UDP:
                break
        else:
            return packets
    ready: list[Packet] = []
    checksums = offload & OFFLOAD_CSUM
    for packet in packets:
        gso_type = packet.gso_type
        if gso_type and not offload & _TSO[gso_type]:
            ready += segments(packet, bool(checksums))
            continue
        if packet.csum == CSUM_PARTIAL and not checksums:
            complete_checksum(packet)
        ready.append(packet)
    return ready


def pseudo_sum(packet: Packet, length: int) -> int:
    """The pseudo-header's sum for a transport packet of `length` bytes (RFC 9293 3.1, RFC 8200 8.1)."""
    head, l3 = packet.head, packet.l3
    if head[l3] >> 4 == 4:
        addresses = head[l3 + 12 : l3 + 20]
    else:
        addresses = head[l3 + 8 : l3 + 40]
    return (int.from_bytes(addresses, "big") + packet.proto + length) % 65535


def _contents(packet: Packet) -> memoryview:
    """All that follows the transport header, in one piece."""
    own = memoryview(packet.head)[packet.payload : packet.end]
    body = packet.body
    if body is None:
        return own
    if not len(own):
        return memoryview(body)
    return memoryview(bytes(own) + bytes(body))


def segments(packet: Packet, partial: bool) -> list[Packet]:
    """A large TCP or UDP packet as packets of `gso_size` payload bytes each. `partial`: leave checksums to the link.

    Sequence numbers and IPv4 identifications go on; FIN and PSH are on the last segment alone, CWR on the first
    (RFC 3168 6.1.2); each UDP segment is a datagram.
    """
    data = _contents(packet)
    template = bytes(memoryview(packet.head)[packet.l2 : packet.payload])
    l3, l4 = packet.l3 - packet.l2, packet.l4 - packet.l2
    size, total = packet.gso_size, len(data)
    v4 = template[l3] >> 4 == 4
    tcp = packet.proto == _TCP
    header_bytes = len(template) - l4
    field = l4 + CHECKSUM_OFFSET[packet.proto]
    base_sum = pseudo_sum(packet, 0)
    sequence = _U32.unpack_from(template, l4 + 4)[0] if tcp else 0
    flags = template[l4 + 13] if tcp else 0
    identification = _U16.unpack_from(template, l3 + 4)[0] if v4 else 0
    if v4:  # the header's sum without length, identification and checksum
        blank = bytearray(template[l3:l4])
        blank[2:6] = bytes(4)
        blank[10:12] = bytes(2)
        ip_sum = ones_sum(blank)
    made: list[Packet] = []
    for at in range(0, total, size):
        chunk = data[at : at + size]
        length = header_bytes + len(chunk)
        head = bytearray(template)
        if v4:
            ip_length = length + l4 - l3
            _LENGTH_ID.pack_into(head, l3 + 2, ip_length, identification)
            _U16.pack_into(head, l3 + 10, -(ip_sum + ip_length + identification) % 65535)
            identification = (identification + 1) & 0xFFFF
        else:
            _U16.pack_into(head, l3 + 4, length + l4 - l3 - 40)
        if tcp:
            _U32.pack_into(head, l4 + 4, sequence)
            sequence = (sequence + size) & 0xFFFFFFFF
            kept = flags if not at else flags & ~_CWR
            head[l4 + 13] = kept if at + size >= total else kept & ~_FIN_PSH
        else:
            _U16.pack_into(head, l4 + 4, length)
        _U16.pack_into(head, field, (base_sum + length) % 65535)
        segment = Packet(head, len(head))
        segment.l3, segment.l4, segment.payload = l3, l4, len(template)
        segment.proto = packet.proto
        segment.body = chunk
        segment.csum = CSUM_PARTIAL
        if not partial:
            complete_checksum(segment)
        made.append(segment)
    return made


def locate(packet: Packet) -> bool:
    """Set l3, l4, payload, proto and end of an Ethernet frame with TCP or UDP in it. False for anything else."""
    head = packet.head
    l3 = packet.l2 + 14
    kind = head[l3 - 2 : l3]
    if kind == _VLAN:
        l3 += 4
        kind = head[l3 - 2 : l3]
    if kind == _IPV4 and packet.end >= l3 + 20:
        l4 = l3 + (head[l3] & 15) * 4
        proto = head[l3 + 9]
        end = l3 + (head[l3 + 2] << 8 | head[l3 + 3])
    elif kind == _IPV6 and packet.end >= l3 + 40:
        l4 = l3 + 40
        proto = head[l3 + 6]
        end = l4 + (head[l3 + 4] << 8 | head[l3 + 5])
    else:
        return False
    if proto == _TCP and l4 + 20 <= end <= packet.end:
        payload = l4 + (head[l4 + 12] >> 4) * 4
    elif proto == _UDP and l4 + 8 <= end <= packet.end:
        payload = l4 + 8
    else:
        return False
    if l4 < l3 + 20 or payload > end:
        return False
    packet.l3, packet.l4, packet.payload, packet.proto, packet.end = l3, l4, payload, proto, end
    return True


class _Run:
    """Segments of one flow that follow each other, gathered in the head of the first.

    `same`: what all of them must have in common beside the flow: MACs, flow label, hop limit, acknowledgement, window,
    options.
    """

    __slots__ = ("first", "flags", "grown", "head", "l4", "next", "same", "size")

    def __init__(
        self, first: Packet, head: bytearray, l4: int, size: int, following: int, flags: int, same: tuple[object, ...]
    ) -> None:
        self.first = first
        self.head = head
        self.l4 = l4
        self.size = size  # payload bytes of every segment but the last
        self.next = following  # the sequence number that continues it
        self.flags = flags
        self.same = same
        self.grown = False


_PLAIN: Final = b"\x08\x00\x45\x00"  # IPv4, no options, default class of service
_ACK: Final = 0x10
_ACK_PSH: Final = 0x18
# both MACs; ethertype, version, class; length; fragment; ttl; protocol; addresses and ports; sequence; acknowledgement;
# data offset; flags; window
_TCP4: Final = struct.Struct("!12s4sH2xHBB2x12sI4sBB2s")
# both MACs; ethertype; class and flow label; payload length; next header; hop limit; then as above
_TCP6: Final = struct.Struct("!12s2s4sHBB36sI4sBB2s")
MIN_MERGED_BYTES: Final = 74  # Ethernet, IPv6 and TCP headers


class Merger:
    """Joins the trains of one batch; see the module docstring.

    take(buffer, view, count, csum)   a frame of at least MIN_MERGED_BYTES in the first `count` bytes of a receive
                                      buffer, whose checksum the link vouches for: a new packet, or None when it was
                                      added to one
    finish()                          the batch is over: what was joined becomes whole

    Packets of different flows may change places, as in any network; data of one flow never does.
    """

    __slots__ = ("_joined", "_runs")

    def __init__(self) -> None:
        self._runs: dict[bytes, _Run] = {}
        self._joined: list[_Run] = []

    def take(self, buffer: bytearray, view: memoryview, count: int, csum: int) -> Packet | None:
        """See the class."""
        if buffer[12] == 0x86:
            macs, kind, label, end, proto, ttl, key, sequence, ack, offset, flags, window = _TCP6.unpack_from(buffer)
            plain = kind == _IPV6
            l4 = 54
            end += 54
        else:
            macs, kind, end, fragment, ttl, proto, key, sequence, ack, offset, flags, window = _TCP4.unpack_from(buffer)
            plain = kind == _PLAIN and not fragment & 0x3FFF
            label = b""
            l4 = 34
            end += 14
        payload = l4 + (offset >> 4) * 4
        size = end - payload
        runs = self._runs
        if (
            not plain
            or proto != _TCP
            or (flags != _ACK and flags != _ACK_PSH)
            or size <= 0
            or payload < l4 + 20
            or end > count
        ):
            runs.pop(key, None)
            packet = Packet(buffer[:count], count)
            packet.csum = csum
            return packet
        same = (macs, label, ttl, ack, window, bytes(buffer[l4 + 20 : payload]))
        run = runs.get(key)
        if (
            run is not None
            and run.next == sequence
            and size <= run.size
            and run.same == same
            and len(run.head) + size <= MAX_MERGED_BYTES
        ):
            run.head += view[payload:end]
            if not run.grown:
                run.grown = True
                self._joined.append(run)
            run.flags |= flags
            run.next = (sequence + size) & 0xFFFFFFFF
            if size < run.size or flags == _ACK_PSH:
                del runs[key]  # a short segment and PSH end a run, as they end Linux's
            return None
        head = buffer[:end]
        packet = Packet(head, end)
        packet.csum = csum
        if flags == _ACK_PSH:
            runs.pop(key, None)
        else:
            runs[key] = _Run(packet, head, l4, size, (sequence + size) & 0xFFFFFFFF, flags, same)
        return packet

    def finish(self) -> None:
        """See the class."""
        for run in self._joined:
            _join(run)
        self._joined.clear()
        self._runs.clear()


def _join(run: _Run) -> None:
    """Make the first packet of a run the whole of it: lengths, checksums, flags, segment size."""
    packet, head, l4 = run.first, run.head, run.l4
    packet.end = end = len(head)
    if l4 == 34:
        _U16.pack_into(head, 16, end - 14)
        _U16.pack_into(head, 24, 0)
        _U16.pack_into(head, 24, checksum(head[14:34]))
        packet.gso_type = GSO_TCP4
    else:
        _U16.pack_into(head, 18, end - 54)
        packet.gso_type = GSO_TCP6
    head[l4 + 13] = run.flags
    packet.l3, packet.proto = 14, _TCP
    _U16.pack_into(head, l4 + 16, pseudo_sum(packet, end - l4))
    packet.l3 = packet.proto = 0
    packet.csum = CSUM_PARTIAL
    packet.gso_size = run.size
