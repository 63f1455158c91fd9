"""What stands for a packet socket at the socket service: as for a datagram socket, but frames and link addresses."""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING, Final

from protocol.abi import socket_h as so
from protocol.netstack import datagrams as dg
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.netstack.datagrams import FarDatagrams

if TYPE_CHECKING:
    from services.sentry.sockets.packet.endpoint import PacketSocket

__all__ = ["FarPackets"]

_EDGE: Final = select.EPOLLIN | select.EPOLLET


class FarPackets(FarDatagrams):
    """socket: a PacketSocket."""

    __slots__ = ()

    def _open(self) -> None:
        """ENETDOWN and what the service answers."""
        socket: PacketSocket = self.socket
        provider = self.provider
        client = provider.connection
        self.number = provider.new_id(self)
        opening = client.request("open", self.number, so.AF_PACKET, socket.kind, socket.ethertype)
        try:
            fd = provider.descriptor(client.answer(opening))
        except LinuxError:
            provider.sockets.pop(self.number, None)
            raise
        if not provider.accepts(fd, so.SOCK_SEQPACKET):
            provider.sockets.pop(self.number, None)
            raise LinuxError(errno.ENOBUFS, "no room for the socket, or it is none")
        self.fd = fd
        self.alive = self.unsure = True
        socket.far = self
        if socket.kernel.host_poll is not None:
            socket.kernel.host_poll.watch(fd, _EDGE, self._ready)

    def bind(self) -> None:
        """Open it if need be, for the EtherType and interface that the socket has."""
        if not self.alive:
            self._open()
        if self.socket.interface:
            self.rebind()

    def rebind(self) -> None:
        """EtherType or interface are others than before. ENODEV, ENETDOWN."""
        if self.alive:
            socket = self.socket
            self.provider.connection.call("bind", self.number, [b"", socket.ethertype, socket.interface])

    def _ready(self, bits: int) -> None:
        """A ring is filled at once: its program looks at memory."""
        super()._ready(bits)
        while self.unsure and self.fd >= 0 and self.socket.ring is not None:
            self.fill()

    def _came(self, came: dg.Datagram) -> None:
        if came.version == dg.PACKET:
            ethertype, hatype, kind, length, address = dg.LINK_TAIL.unpack(came.address)
            tail = (ethertype, hatype, kind, address[: min(length, 8)])
            self.socket.deliver_frame(bytes(came.payload), came.scope, tail)

    def send_frame(self, data: bytes, interface: int, ethertype: int, hardware: bytes) -> None:
        """WouldBlock: no room."""
        tail = dg.LINK_TAIL.pack(ethertype, 0, 0, len(hardware), hardware)
        self.write(dg.Datagram(b"", tail, scope=interface).header() + data)
