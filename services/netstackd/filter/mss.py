"""MSS clamping: a SYN that is forwarded announces no larger segments than the path behind the router takes.

For links whose MTU is smaller than the hosts' own (tunnels, PPPoE), where path MTU discovery fails because somebody
drops ICMP. Source: RFC 9293 3.7.1 (MSS = MTU - 40 for IPv4, - 60 for IPv6), RFC 2923.
"""

from __future__ import annotations

from typing import Final

from services.netstackd.storage.packet import CSUM_PARTIAL, Packet

_SYN: Final = 2
_MSS: Final = 2  # option kind
_HEADERS: Final = {4: 40, 6: 60}


def clamp(packet: Packet, mtu: int) -> bool:
    """Lower the MSS option of the SYN `packet` to what fits `mtu`; whether that changed it. Never raises it."""
    head, l4 = packet.head, packet.l4
    if packet.end < l4 + 24 or not head[l4 + 13] & _SYN:
        return False
    end = min(packet.end, l4 + (head[l4 + 12] >> 4) * 4)
    most = mtu - _HEADERS[packet.version]
    at = l4 + 20
    while at + 3 < end:
        kind = head[at]
        if kind == 0:
            return False
        if kind == 1:
            at += 1
            continue
        size = head[at + 1]
        if size < 2:
            return False
        if kind == _MSS and size == 4:
            value = head[at + 2] << 8 | head[at + 3]
            if value <= most:
                return False
            _write(packet, at + 2, value, most)
            return True
        at += size
    return False


def _write(packet: Packet, at: int, old: int, new: int) -> None:
    """Store the option's value and mend the checksum (RFC 1624)."""
    head, l4 = packet.writable(), packet.l4
    head[at], head[at + 1] = new >> 8, new & 255
    if packet.csum == CSUM_PARTIAL:
        return  # the options are still to be summed
    delta = new - old
    if (at - l4) & 1:  # the value lies across two words of the sum
        delta = ((new & 255) << 8 | new >> 8) - ((old & 255) << 8 | old >> 8)
    field = 65535 - (65535 - (head[l4 + 16] << 8 | head[l4 + 17]) + delta) % 65535
    head[l4 + 16], head[l4 + 17] = field >> 8, field & 255
