"""The header in front of every message of a datagram data socket (UDP, ping, raw and packet sockets).

    offset
     0  u8   version   4, 6: of `address`; 0: none (sending: the connected peer); 255: a packet socket
     1  u8   flags     TRUNCATED ERROR_QUEUE DONT_ROUTE BROADCAST MULTICAST
     2  u16  port      of the peer (raw and ping sockets: 0)
     4  u32  scope     interface index of a link-local peer; packet socket: interface index
     8  16s  address   the peer's; IPv4 in the first four. Packet socket: the tail of struct sockaddr_ll, see LINK_TAIL
    24  u8   tos       received: of the packet. Sending: the socket's unless SET_TOS
    25  u8   ttl       received: of the packet. Sending: 0 the socket's own
    26  u16  reserved  0
    28  u32  interface received: where it arrived. Sending: to leave by, 0 as routes say
    32  16s  pktinfo   received: the destination (IPv4 in the first four). Sending: the source, zeros: to be chosen

All little-endian but what sockaddr_ll has in network order. An entry of the error queue (ERROR_QUEUE) names in address
and port where the packet was sent to; its payload is struct sock_extended_err (16 bytes), the offender's address (16
bytes, IPv4 in the first four) and the data that was quoted.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from protocol.errors import ProtocolViolation

HEADER: Final = Struct("<BBHI16sBBHI16s")
HEADER_BYTES: Final = HEADER.size
MAX_MESSAGE_BYTES: Final = HEADER_BYTES + 65535 + 64  # an IP packet of raw sockets, a frame of packet sockets

LINK_TAIL: Final = Struct(">HHBB8s")  # protocol hatype pkttype halen address, 14 bytes
EXTENDED_ERROR: Final = Struct("<IBBBBII")  # struct sock_extended_err: errno origin type code pad info data
ERROR_BYTES: Final = EXTENDED_ERROR.size + 16

PACKET: Final = 255  # version of a packet socket's messages

TRUNCATED: Final = 1
ERROR_QUEUE: Final = 2
DONT_ROUTE: Final = 4
BROADCAST: Final = 8
MULTICAST: Final = 16
SET_TOS: Final = 32  # `tos` is meant: IP_TOS or IPV6_TCLASS beside the message

NOWHERE: Final = bytes(16)
TO_PEER: Final = HEADER.pack(0, 0, 0, 0, NOWHERE, 0, 0, 0, 0, NOWHERE)  # the header of send(2) on a connected socket


class Datagram:
    """A message, taken apart. `address`: 4 or 16 bytes, b"" for none; of a packet socket the 14 bytes of LINK_TAIL."""

    __slots__ = ("address", "flags", "interface", "payload", "pktinfo", "port", "scope", "tos", "ttl", "version")

    def __init__(
        self,
        payload: bytes | memoryview,
        address: bytes = b"",
        port: int = 0,
        scope: int = 0,
        *,
        flags: int = 0,
        tos: int = 0,
        ttl: int = 0,
        interface: int = 0,
        pktinfo: bytes = b"",
        version: int = -1,
    ) -> None:
        self.payload = payload
        self.address = address
        self.port = port
        self.scope = scope
        self.flags = flags
        self.tos = tos
        self.ttl = ttl
        self.interface = interface
        self.pktinfo = pktinfo
        self.version = _VERSIONS[len(address)] if version < 0 else version

    def header(self) -> bytes:
        """The 48 bytes. struct.error for fields that are out of range: a caller's bug."""
        return HEADER.pack(
            self.version,
            self.flags,
            self.port,
            self.scope,
            self.address,
            self.tos,
            self.ttl,
            0,
            self.interface,
            self.pktinfo,
        )


_VERSIONS: Final = {0: 0, 4: 4, 16: 6, LINK_TAIL.size: PACKET}
_LENGTHS: Final = {0: 0, 4: 4, 6: 16, PACKET: LINK_TAIL.size}


def parse_untrusted(message: bytes | memoryview) -> Datagram:
    """A received message. `pktinfo` comes as long as `address`, or b"" when it is all zeros. ProtocolViolation."""
    if len(message) < HEADER_BYTES:
        raise ProtocolViolation(f"datagram: {len(message)} bytes are no header")
    version, flags, port, scope, address, tos, ttl, _, interface, pktinfo = HEADER.unpack_from(message)
    length = _LENGTHS.get(version)
    if length is None:
        raise ProtocolViolation(f"datagram: version {version}")
    if scope > 0x7FFFFFFF or interface > 0x7FFFFFFF:
        raise ProtocolViolation("datagram: an interface index is out of range")
    source = b"" if pktinfo == NOWHERE else pktinfo[:4] if version == 4 else pktinfo
    return Datagram(
        memoryview(message)[HEADER_BYTES:],
        address[:length],
        port,
        scope,
        flags=flags,
        tos=tos,
        ttl=ttl,
        interface=interface,
        pktinfo=source,
        version=version,
    )
