"""Completing what an offload left open: the checksum of a CSUM_PARTIAL packet."""

from __future__ import annotations

from typing import Final

from services.netstackd.storage.packet import CSUM_NONE, CSUM_PARTIAL, Packet
from services.netstackd.wire.checksum import ones_sum
from services.netstackd.wire.numbers import PROTO_TCP, PROTO_UDP

CHECKSUM_OFFSET: Final = {PROTO_TCP: 16, PROTO_UDP: 6}


def complete_checksum(packet: Packet) -> None:
    """Turn the pseudo-header sum in the field into the checksum; nothing when the packet is not CSUM_PARTIAL."""
    if packet.csum != CSUM_PARTIAL:
        return
    packet.csum = CSUM_NONE
    offset = CHECKSUM_OFFSET.get(packet.proto)
    if offset is None:
        return
    head = packet.writable()
    l4, end = packet.l4, packet.end
    # The field itself (the pseudo-header sum) is part of what is summed.
    body = packet.body
    if body is None:
        total = ones_sum(memoryview(head)[l4:end])
    elif (end - l4) & 1:
        total = ones_sum(bytes(memoryview(head)[l4:end]) + bytes(body))
    else:
        total = ones_sum(memoryview(head)[l4:end]) + ones_sum(body)
    field = 65535 - total % 65535
    head[l4 + offset : l4 + offset + 2] = field.to_bytes(2, "big")
