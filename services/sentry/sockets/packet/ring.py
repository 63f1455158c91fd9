"""PACKET_RX_RING: frames are put into memory that the program has mapped, which is how libpcap reads (packet(7), and
Documentation/networking/packet_mmap.rst in the Linux sources).

Versions 1 and 2 of the frame header. A frame belongs to the kernel while its status is 0; put there, it is the
program's until that writes 0 again. When the next one is still the program's, what comes is dropped.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Final

from services.sentry.errors import LinuxError

__all__ = ["HEADER_BYTES", "REQUEST", "Ring"]

#: struct tpacket_req: block size, blocks, frame size, frames.
REQUEST: Final = struct.Struct("<4I")
#: sizeof struct tpacket_hdr and tpacket2_hdr by version (PACKET_HDRLEN); version 3 has blocks instead of frames.
HEADER_BYTES: Final = (32, 32)
#: struct tpacket_hdr: status, len, snaplen, mac, net, sec, usec; tpacket2_hdr has u32 and ns, and VLAN fields.
_HEADERS: Final = (struct.Struct("<QIIHHII4x"), struct.Struct("<IIIHHIIHH4x"))
_STATUS_USER: Final = 1
_ALIGN: Final = 16
_PAGE: Final = 4096
_SOCKADDR_BYTES: Final = 20
_MAX_BYTES: Final = 64 << 20
_MAC_BYTES: Final = 14


def _aligned(count: int) -> int:
    return (count + _ALIGN - 1) & ~(_ALIGN - 1)


class Ring:
    """fd: its memory, to be mapped. `reserve`: PACKET_RESERVE, room in front of each frame."""

    __slots__ = ("_block_bytes", "_frame_bytes", "_frames", "_head", "_per_block", "_reserve", "_version", "fd")

    def __init__(self, request: bytes, version: int, reserve: int) -> None:
        """EINVAL: sizes that do not go together; ENOMEM: too large."""
        sizes: tuple[int, int, int, int] = REQUEST.unpack_from(request)
        block_bytes, blocks, frame_bytes, frames = sizes
        least = _aligned(HEADER_BYTES[version]) + _SOCKADDR_BYTES + reserve
        if not block_bytes or block_bytes % _PAGE or frame_bytes < least or frame_bytes % _ALIGN:
            raise LinuxError(errno.EINVAL)
        per_block = block_bytes // frame_bytes
        if not per_block or per_block * blocks != frames:
            raise LinuxError(errno.EINVAL)
        if block_bytes * blocks > _MAX_BYTES:
            raise LinuxError(errno.ENOMEM)
        self._version = version
        self._reserve = reserve
        self._block_bytes, self._frame_bytes = block_bytes, frame_bytes
        self._frames, self._per_block = frames, per_block
        self._head = 0
        self.fd = os.memfd_create("packet ring", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, block_bytes * blocks)

    def _at(self, index: int) -> int:
        block, inside = divmod(index, self._per_block)
        return block * self._block_bytes + inside * self._frame_bytes

    def _status(self, index: int) -> int:
        return int.from_bytes(os.pread(self.fd, 4, self._at(index)), "little")

    def put(self, data: bytes, length: int, address: bytes, stamp_ns: int, *, cooked: bool) -> bool:
        """One frame, of `length` bytes before a filter. False: there is no room.

        cooked: the link header is not part of `data` (SOCK_DGRAM).
        """
        at = self._at(self._head)
        if self._status(self._head):
            return False
        start = _aligned(HEADER_BYTES[self._version]) + _SOCKADDR_BYTES
        net = _aligned(start + (0 if cooked else max(_MAC_BYTES, _ALIGN))) + self._reserve
        if cooked:
            net += _ALIGN
        mac = net if cooked else net - _MAC_BYTES
        part = data[: max(self._frame_bytes - mac, 0)]
        seconds, rest = divmod(stamp_ns, 1_000_000_000)
        if self._version == 0:
            head = _HEADERS[0].pack(0, length, len(part), mac, net, seconds & 0xFFFFFFFF, rest // 1000)
        else:
            head = _HEADERS[1].pack(0, length, len(part), mac, net, seconds & 0xFFFFFFFF, rest, 0, 0)
        os.pwrite(self.fd, head + address.ljust(_SOCKADDR_BYTES, b"\0"), at)
        os.pwrite(self.fd, part, at + mac)
        os.pwrite(self.fd, _STATUS_USER.to_bytes(4, "little"), at)  # last: the program may look at any time
        self._head = (self._head + 1) % self._frames
        return True

    def is_readable(self) -> bool:
        """The last frame put there is still to be looked at (packet_poll)."""
        return self._status((self._head - 1) % self._frames) != 0

    def close(self) -> None:
        os.close(self.fd)
