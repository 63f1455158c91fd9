"""Packet sockets (packet(7)): frames as they pass an interface, in and out, and frames as the user makes them.

SOCK_RAW has the link header, SOCK_DGRAM has not. Addresses are (EtherType, interface index, kind, link address).
"""

from __future__ import annotations

import errno
from collections import deque
from select import POLLERR, POLLIN, POLLOUT
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.network.interface import ETHERNET, Interface
from services.netstackd.storage.packet import OUTGOING, TO_BROADCAST, TO_HOST, TO_MULTICAST, TO_OTHER_HOST, Packet
from services.netstackd.transport.base import AF_PACKET, MSG_PEEK, MSG_TRUNC, OVERHEAD, SOCK_RAW, Socket
from services.netstackd.wire.ethernet import BROADCAST, parse_ethernet_untrusted
from services.netstackd.wire.numbers import ETHERTYPE_IPV4, ETHERTYPE_IPV6

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

ETH_P_ALL: Final = 3

LinkAddress = tuple[int, int, int, bytes]  # EtherType, interface index, packet kind, link address

_OVERFLOW: Final = COUNTER["DropSocketReceiveBuffer"]


class PacketSocket(Socket):
    """A packet socket; protocol 0 receives nothing until it is bound."""

    def __init__(self, stack: Stack, kind: int, protocol: int) -> None:
        super().__init__(stack, AF_PACKET, protocol)
        self.type = kind
        self.iface: Interface | None = None
        self.queue: deque[tuple[bytes, LinkAddress]] = deque()
        self.queued = 0
        self.packets = 0  # PACKET_STATISTICS
        self.drops = 0
        self._promiscuous: list[Interface] = []
        stack.taps.append(self)

    def bind(self, protocol: int, iface: Interface | None) -> None:
        """bind(2): one EtherType (ETH_P_ALL: every), one interface (None: all)."""
        self.require_open()
        self.protocol = protocol or self.protocol
        self.iface = iface

    def membership(self, iface: Interface, *, add: bool) -> None:
        """PACKET_MR_PROMISC: see frames for others, while any socket wants that."""
        if add:
            self._promiscuous.append(iface)
            iface.promiscuous = True
        elif iface in self._promiscuous:
            self._promiscuous.remove(iface)
            iface.promiscuous = any(iface in other._promiscuous for other in self.stack.taps)

    def tap(self, packet: Packet, iface: Interface, frame: bytes, ethertype: int, kind: int, link: bytes) -> None:
        """A frame passes. `frame` begins with the link header, when there is one."""
        if self.iface is not None and self.iface is not iface:
            return
        if self.protocol != ETH_P_ALL and (self.protocol != ethertype or kind == OUTGOING):
            return  # what goes out is for those alone that want everything
        data = frame if self.type == SOCK_RAW else frame[packet.l3 - packet.l2 :]
        cost = len(data) + OVERHEAD
        self.packets += 1
        if self.queued + cost > self.rcvbuf:
            self.drops += 1
            self.stack.counters.values[_OVERFLOW] += 1
            return
        self.queued += cost
        self.queue.append((data, (ethertype, iface.index, kind, link)))
        self.wake(POLLIN)

    def receive(self, limit: int = 65536, flags: int = 0) -> tuple[bytes, LinkAddress, int]:
        """(frame, address, flags); MSG_TRUNC when it was cut. WouldBlock."""
        if self.error:
            self.raise_error()
        if not self.queue:
            raise WouldBlock("nothing to read")
        data, address = self.queue[0] if flags & MSG_PEEK else self.queue.popleft()
        if not flags & MSG_PEEK:
            self.queued -= len(data) + OVERHEAD
        if len(data) > limit:
            return data[:limit], address, MSG_TRUNC
        return data, address, 0

    def send(self, data: bytes, iface: Interface | None = None, ethertype: int = 0, link: bytes = BROADCAST) -> int:
        """Send a frame, or (SOCK_DGRAM) what follows a link header. NetError: ENXIO, ENETDOWN, EMSGSIZE, EINVAL."""
        self.require_open()
        out = iface or self.iface
        if out is None:
            raise NetError(errno.ENXIO, "no interface")
        if not out.up:
            raise NetError(errno.ENETDOWN, "the interface is down")
        header = out.link_header(link, ethertype or self.protocol)
        if self.type == SOCK_RAW:
            if header and len(data) < 14:
                raise NetError(errno.EINVAL, "shorter than a link header")
            if len(data) > out.mtu + len(header):
                raise NetError(errno.EMSGSIZE, "longer than the interface takes")
            self.stack.link_output.frame(out, bytes(data))
        else:
            if len(data) > out.mtu:
                raise NetError(errno.EMSGSIZE, "longer than the interface takes")
            self.stack.link_output.frame(out, header + data)
        return len(data)

    def poll(self) -> int:
        """See Socket."""
        return POLLOUT | (POLLIN if self.queue else 0) | (POLLERR if self.error else 0)

    def close(self) -> None:
        """See Socket."""
        if self.closed:
            return
        self.closed = True
        self.stack.taps.remove(self)
        for iface in list(self._promiscuous):
            self.membership(iface, add=False)
        self.queue.clear()


def describe(packet: Packet, iface: Interface, *, outgoing: bool) -> tuple[bytes, int, int, bytes]:
    """(frame, EtherType, kind, link address of the other side) of a packet for the taps."""
    frame = packet.frame_bytes()
    if iface.device.kind != ETHERNET:
        version = frame[0] >> 4 if frame else 0
        ethertype = ETHERTYPE_IPV6 if version == 6 else ETHERTYPE_IPV4
        return frame, ethertype, OUTGOING if outgoing else TO_HOST, b""
    parsed = parse_ethernet_untrusted(frame)
    if parsed is None:
        return frame, 0, OUTGOING if outgoing else TO_HOST, b""
    destination, source, ethertype, _, _ = parsed
    if outgoing:
        return frame, ethertype, OUTGOING, destination
    if destination == BROADCAST:
        kind = TO_BROADCAST
    elif destination[0] & 1:
        kind = TO_MULTICAST
    else:
        kind = TO_HOST if destination == iface.mac else TO_OTHER_HOST
    return frame, ethertype, kind, source
