"""Raw sockets (raw(7), RFC 3542): whole packets of one protocol, beside whoever else gets them.

IPv4 gives and takes the IP header on receive; on send it is made, or (IP_HDRINCL, and always for protocol IPPROTO_RAW)
comes with the data, where total length, checksum, and a zero identification or source are filled in. IPv6 never shows
its header; IPV6_CHECKSUM says where a checksum is to be put and verified, which ICMPv6 always has at offset 2.
ICMP_FILTER and ICMP6_FILTER are bit sets of types that are not wanted.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from services.netstackd.errors import NetError
from services.netstackd.storage.packet import CSUM_NONE, HEADROOM, Packet, Payload, outgoing
from services.netstackd.transport.base import AF_INET, SOCK_RAW, DatagramSocket, Message, SocketAddress
from services.netstackd.wire import ipv4 as ipv4_wire
from services.netstackd.wire.checksum import checksum, ones_sum
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_ICMPV6, PROTO_RAW, is_multicast

if TYPE_CHECKING:
    from services.netstackd.network.icmp import IcmpError
    from services.netstackd.network.interface import Interface
    from services.netstackd.network.routes import Destination
    from services.netstackd.stack import Stack

_HEADER: Final = ipv4_wire.HEADER


class Raw:
    """One per stack: the raw sockets of both versions, by protocol."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.sockets: Final[dict[int, dict[int, list[RawSocket]]]] = {4: {}, 6: {}}  # version, protocol

    def deliver(self, packet: Packet) -> bool:
        """A copy for every socket that wants it, of IPv4 with its header; whether there was a socket for it."""
        taken = False
        for socket in self.sockets[packet.version].get(packet.proto, ()):
            if socket.matches(packet):
                taken = True
                if not socket.filters(packet) and socket.checksum_good(packet):
                    twin = packet.copy()
                    twin.payload = twin.l3 if packet.version == 4 else twin.l4
                    twin.sport = 0
                    socket.enqueue(twin)
        return taken

    def input_error(self, error: IcmpError) -> bool:
        """An ICMP error about a packet of this protocol from here; whether there is a socket for it."""
        found = False
        for socket in self.sockets[error.version].get(error.proto, ()):
            if socket.remote is not None and socket.remote[0] != error.dst:
                continue
            if socket.local and socket.local != error.src:
                continue
            found = True
            socket.queue_error(error)
        return found

    def add(self, socket: RawSocket) -> None:
        """Enter a socket."""
        table = self.sockets[socket.version]
        table.setdefault(socket.protocol, []).append(socket)

    def remove(self, socket: RawSocket) -> None:
        """Take it out."""
        table = self.sockets[socket.version]
        sockets = table.get(socket.protocol, [])
        if socket in sockets:
            sockets.remove(socket)
            if not sockets:
                del table[socket.protocol]


class RawSocket(DatagramSocket):
    """See the module. NetError when made: EPROTONOSUPPORT for protocol 0."""

    type = SOCK_RAW

    def __init__(self, stack: Stack, family: int, protocol: int) -> None:
        super().__init__(stack, family, protocol)
        if not 0 < protocol < 256:
            raise NetError(errno.EPROTONOSUPPORT, "a raw socket needs a protocol")
        self.header_included = family == AF_INET and protocol == PROTO_RAW
        self.icmp_filter = 0  # ICMP_FILTER: 32 bits, one for each type below 32; ICMP6_FILTER: 256 bits
        self.checksum_offset = 2 if family != AF_INET and protocol == PROTO_ICMPV6 else -1
        stack.raw.add(self)

    # -- receiving --

    def matches(self, packet: Packet) -> bool:
        """Whether addresses and interface are those that the socket is bound and connected to."""
        if self.device is not None and self.device is not packet.iface:
            return False
        if self.local and self.local != packet.dst:
            return False
        if self.remote is not None and self.remote[0] != packet.src:
            return False
        return not is_multicast(packet.version, packet.dst) or self.accepts_group(packet)

    def filters(self, packet: Packet) -> bool:
        """Whether it is an ICMP message of a type that is filtered out."""
        if packet.proto != (PROTO_ICMP if self.version == 4 else PROTO_ICMPV6):
            return False
        if packet.end <= packet.l4:
            return True
        kind = packet.head[packet.l4]
        if self.version == 4 and kind >= 32:
            return False
        return bool(self.icmp_filter >> kind & 1)

    def checksum_good(self, packet: Packet) -> bool:
        """IPV6_CHECKSUM: whether the checksum at that offset is right; True without it."""
        offset = self.checksum_offset
        if offset < 0:
            return True
        length = packet.end - packet.l4
        if length < offset + 2:
            return False
        total = packet.src + packet.dst + packet.proto + length
        return (total + ones_sum(memoryview(packet.head)[packet.l4 : packet.end])) % 65535 == 0

    def receive(self, limit: int = 65536, flags: int = 0) -> Message:
        """See DatagramSocket; the port of the source is 0."""
        return super().receive(limit, flags)

    # -- sending --

    def bind(self, address: SocketAddress) -> None:
        """bind(2). NetError: EADDRNOTAVAIL."""
        self.require_open()
        value, _, scope = address
        if value and not self.freebind and not is_multicast(self.version, value):
            if not self.stack.is_local(self.version, value, scope):
                raise NetError(errno.EADDRNOTAVAIL, "not an address of this host")
        self.local = value

    def send(
        self,
        data: Payload,
        address: SocketAddress | None = None,
        *,
        source: int = 0,
        device: Interface | None = None,
        ttl: int = 0,
        tos: int = -1,
    ) -> int:
        """sendto(2). NetError: EDESTADDRREQ, EMSGSIZE, EINVAL (a header that cannot be), what routes say."""
        self.require_open()
        if self.error:
            self.raise_error()
        way, destination = self.way_to(address, source, device)
        message = bytes(data)
        tos = self.tos if tos < 0 else tos
        if self.header_included:
            number = self._send_whole(way, message)
        else:
            whole = message if self.version == 4 else self._with_checksum(message, way.source, destination)
            hops = ttl or self.hop_limit(self.version, destination)
            number = self.send_message(way, destination, self.protocol, whole, hops, tos)
        if number:
            raise NetError(number, "could not be sent")
        return len(message)

    def _with_checksum(self, message: bytes, src: int, dst: int) -> bytes:
        """RFC 3542 section 3.1. NetError: EINVAL (the message is too short)."""
        offset = self.checksum_offset
        if offset < 0:
            return message
        if len(message) < offset + 2:
            raise NetError(errno.EINVAL, "too short for its checksum")
        bare = message[:offset] + b"\0\0" + message[offset + 2 :]
        field = checksum(bare, src + dst + self.protocol + len(bare)) or 65535
        return bare[:offset] + field.to_bytes(2, "big") + bare[offset + 2 :]

    def _send_whole(self, way: Destination, data: bytes) -> int:
        """IP_HDRINCL (raw(7)): complete the header that came with the data."""
        if way.mtu and len(data) > way.mtu:
            return errno.EMSGSIZE  # such packets are not fragmented
        if len(data) < 20 or data[0] >> 4 != 4:
            return errno.EINVAL
        size = (data[0] & 15) * 4
        if size < 20 or size > len(data):
            return errno.EINVAL
        head = bytearray(HEADROOM) + data
        l3 = HEADROOM
        head[l3 + 2 : l3 + 4] = len(data).to_bytes(2, "big")
        _, tos, _, ident, _, ttl, proto, _, src, dst = _HEADER.unpack_from(head, l3)
        if not src:
            src = way.source
            head[l3 + 12 : l3 + 16] = src.to_bytes(4, "big")
        if not ident:
            head[l3 + 4 : l3 + 6] = self.stack.ipv4.next_ident(src, dst, proto).to_bytes(2, "big")
        ipv4_wire.write_checksum(head, l3)
        packet = outgoing(4, head, l3 + size, None, proto, src, dst, tos, ttl, self.mark, self, CSUM_NONE)
        return self.stack.ipv4.transmit(packet, way)

    def release(self) -> None:
        """See DatagramSocket."""
        self.stack.raw.remove(self)
