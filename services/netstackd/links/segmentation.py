"""What a link without offloads needs in software: checksums, segments of large packets, and merging on the way in.

    prepare(packets, offload)   packets that a link with those OFFLOAD_ bits can take, in order. Packets that are fine
                                already are passed through; nothing is copied but headers.
    merge(packets)              received TCP segments of one flow that follow each other, as one large packet each
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
    CSUM_NONE,
    CSUM_PARTIAL,
    CSUM_VALID,
    GSO_TCP4,
    GSO_TCP6,
    GSO_UDP,
    Packet,
)
from services.netstackd.wire.checksum import checksum, ones_sum

MAX_MERGED_BYTES: Final = 65535 - 60  # of one packet, IP header included
_IPV4: Final = b"\x08\x00"
_IPV6: Final = b"\x86\xdd"
_VLAN: Final = b"\x81\x00"
_TCP: Final = 6
_UDP: Final = 17
_FIN_PSH: Final = 0x09
_CWR: Final = 0x80
_FIELD: Final = {_TCP: 16, _UDP: 6}
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


def complete_checksum(packet: Packet) -> None:
    """Turn CSUM_PARTIAL into a complete checksum. `l4` and `proto` are set."""
    field = _FIELD.get(packet.proto)
    packet.csum = CSUM_VALID
    if field is None or packet.l4 + field + 2 > packet.end:
        return
    head = packet.writable()
    l4 = packet.l4
    total = ones_sum(memoryview(head)[l4 : packet.end])
    body = packet.body
    if body is not None and len(body):
        # times 256 where the body begins in the middle of a word
        total += ones_sum(body) << 8 if (packet.end - l4) & 1 else ones_sum(body)
    _U16.pack_into(head, l4 + field, -total % 65535 or 0xFFFF)  # RFC 768: 0 would mean that there is none


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
    field = l4 + _FIELD[packet.proto]
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
    """Segments of one flow that follow each other. `prefix` is what all share, `next` the sequence number awaited."""

    __slots__ = ("first", "index", "last_flags", "next", "parts", "size", "tail", "total")

    def __init__(self, first: Packet, index: int, next_sequence: int, size: int, tail: bytes) -> None:
        self.first = first
        self.index = index  # where in the result the merged packet goes
        self.next = next_sequence
        self.size = size  # payload bytes of every segment but the last
        self.tail = tail  # window and options, which must not change
        self.parts: list[memoryview] = []
        self.total = size
        self.last_flags = 0


_ACK_PSH: Final = (0x10, 0x18)


def merge(packets: list[Packet]) -> list[Packet]:
    """See the module docstring. Order among flows may change as it may in any network; within a flow it does not."""
    if len(packets) < 2:
        return packets
    result: list[Packet | None] = []
    runs: dict[bytes, _Run] = {}
    merged = False
    for packet in packets:
        head = packet.head
        # plain IPv4 and TCP without IP options, fragments or VLAN tag
        if (
            packet.csum == CSUM_NONE
            or packet.gso_type
            or head[12:16] != b"\x08\x00\x45\x00"
            or head[23] != _TCP
            or head[20] & 0x3F
            or head[21]
            or packet.end < 54
        ):
            if head[12:14] == _IPV4 or head[12:14] == _IPV6:
                runs.pop(bytes(head[26:38]), None)
            result.append(packet)
            continue
        key = bytes(head[26:38])  # addresses and ports
        end = 14 + (head[16] << 8 | head[17])
        payload = 34 + (head[46] >> 4) * 4
        size = end - payload
        flags = head[47]
        run = runs.get(key)
        if size <= 0 or end > packet.end or flags not in _ACK_PSH:
            if run is not None:
                del runs[key]
            result.append(packet)
            continue
        sequence = int.from_bytes(head[38:42], "big")
        tail = bytes(head[42:46]) + bytes(head[48:50]) + bytes(head[54:payload])
        if (
            run is not None
            and run.next == sequence
            and run.tail == tail
            and size <= run.size
            and run.total + size + payload - 14 <= MAX_MERGED_BYTES
            and run.first.csum == packet.csum
            and run.first.head[:12] == head[:12]
            and run.first.head[22] == head[22]
        ):
            run.parts.append(memoryview(head)[payload:end])
            run.total += size
            run.last_flags |= flags
            run.next = (sequence + size) & 0xFFFFFFFF
            merged = True
            if size < run.size or flags & 8:
                del runs[key]  # PSH and a short segment end a run, as they end Linux's
            continue
        run = _Run(packet, len(result), (sequence + size) & 0xFFFFFFFF, size, tail)
        run.last_flags = flags
        result.append(packet)
        packet.ct = run  # found again below; nothing else looks at it before the stack does
        if flags & 8:
            runs.pop(key, None)
        else:
            runs[key] = run
    if not merged:
        for packet in packets:
            packet.ct = None
        return packets
    for packet in packets:
        run = packet.ct
        if run is not None:
            packet.ct = None
            if run.parts:
                _join(run)
    return [packet for packet in result if packet is not None]


def _join(run: _Run) -> None:
    """Make the first packet of a run the whole of it."""
    first = run.first
    head = first.head
    payload = 34 + (head[46] >> 4) * 4
    end = 14 + (head[16] << 8 | head[17])
    whole = bytearray().join((memoryview(head)[:end], *run.parts))
    ip_length = len(whole) - 14
    _U16.pack_into(whole, 16, ip_length)
    _U16.pack_into(whole, 24, 0)
    _U16.pack_into(whole, 24, checksum(whole[14:34]))
    whole[47] = run.last_flags
    first.head, first.end = whole, len(whole)
    first.l3, first.proto = 14, _TCP
    _U16.pack_into(whole, 50, pseudo_sum(first, ip_length - 20))
    first.l3 = first.proto = 0
    first.csum = CSUM_PARTIAL
    first.gso_size, first.gso_type = run.size, GSO_TCP4
    first.payload = 0
    assert payload <= end
