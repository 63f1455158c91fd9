"""ICMP datagram ("ping") sockets: echo requests for those without a raw socket (Linux net/ipv4/ping.c; socket(AF_INET,
SOCK_DGRAM, IPPROTO_ICMP)). The identifier is the socket's port: it takes replies that carry it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from services.netstackd.errors import NetError
from services.netstackd.storage.packet import Packet, Payload
from services.netstackd.transport.base import AF_INET, DatagramSocket, SocketAddress
from services.netstackd.wire import icmpv4, icmpv6
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_ICMPV6

if TYPE_CHECKING:
    from services.netstackd.network.icmp import IcmpError
    from services.netstackd.network.interface import Interface
    from services.netstackd.stack import Stack

_REQUEST: Final = {4: icmpv4.ECHO_REQUEST, 6: icmpv6.ECHO_REQUEST}


class Ping:
    """One per stack: who waits for which identifier."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.sockets: dict[tuple[int, int], PingSocket] = {}  # (version, identifier)

    def deliver(self, packet: Packet) -> None:
        """An echo reply for this host; `payload` stands behind its eight-byte header."""
        head, l4 = packet.head, packet.l4
        ident = head[l4 + 4] << 8 | head[l4 + 5]
        socket = self.sockets.get((packet.version, ident))
        if socket is None or (socket.device is not None and socket.device is not packet.iface):
            return
        local = socket.local
        if local and local != packet.dst:
            return
        if socket.remote is not None and socket.remote[0] != packet.src:
            return
        packet.payload = l4  # the user reads the message with its header
        packet.sport = 0
        socket.enqueue(packet)

    def input_error(self, error: IcmpError) -> bool:
        """An ICMP error about an echo request; whether it was from a socket here."""
        quote = error.quote
        if len(quote) < 8 or quote[0] != _REQUEST[error.version]:
            return False
        socket = self.sockets.get((error.version, quote[4] << 8 | quote[5]))
        if socket is None:
            return False
        error.dport = 0
        error.payload = quote  # ping(8) wants to see its own header
        socket.queue_error(error)
        return True

    def claim(self, socket: PingSocket, ident: int) -> int:
        """Take an identifier, any when 0; NetError EADDRINUSE when it is taken, EAGAIN when none is free."""
        version = socket.version
        if not ident:
            start = self._stack.rng.randrange(65536)
            for step in range(65536):
                candidate = (start + step) & 0xFFFF
                if candidate and (version, candidate) not in self.sockets:
                    ident = candidate
                    break
            else:
                raise NetError(errno.EAGAIN, "no identifier is free")
        elif (version, ident) in self.sockets:
            raise NetError(errno.EADDRINUSE, f"identifier {ident} is in use")
        self.sockets[version, ident] = socket
        return ident


class PingSocket(DatagramSocket):
    """What is sent begins with an ICMP header whose type is echo request; identifier and checksum are filled in."""

    def __init__(self, stack: Stack, family: int, protocol: int = 0) -> None:
        super().__init__(stack, family, protocol or (PROTO_ICMP if family == AF_INET else PROTO_ICMPV6))

    def bind(self, address: SocketAddress) -> None:
        """bind(2): the port is the identifier. NetError: EINVAL (bound), EADDRNOTAVAIL, EADDRINUSE."""
        self.require_open()
        if self.local_port:
            raise NetError(errno.EINVAL, "already bound")
        value, ident, scope = address
        if value and not self.stack.is_local(self.version, value, scope):
            raise NetError(errno.EADDRNOTAVAIL, "not an address of this host")
        self.local_port = self.stack.ping.claim(self, ident)
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
        """sendto(2). NetError: EINVAL (too short, or no echo request), EDESTADDRREQ, what routes say."""
        self.require_open()
        if self.error:
            self.raise_error()
        message = bytes(data)
        if len(message) < 8 or message[0] != _REQUEST[self.version] or message[1]:
            raise NetError(errno.EINVAL, "only echo requests can be sent")
        way, destination = self.way_to(address, source, device)
        if not self.local_port:
            self.local_port = self.stack.ping.claim(self, 0)
        icmp = self.stack.icmp(self.version)
        icmp.counted(icmp.echo_request)
        sequence = int.from_bytes(message[6:8], "big")
        packet = icmp.echo(way.source, destination, icmp.echo_request, self.local_port, sequence, message[8:])
        hops = ttl or self.hop_limit(self.version, destination)
        number = self.send_message(way, destination, icmp.proto, packet, hops, self.tos if tos < 0 else tos)
        if number:
            raise NetError(number, "could not be sent")
        return len(message)

    def release(self) -> None:
        """See DatagramSocket."""
        if self.local_port:
            self.stack.ping.sockets.pop((self.version, self.local_port), None)
