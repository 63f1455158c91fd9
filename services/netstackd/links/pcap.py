"""pcap files: a link that replays one and records another, and the writer that captures from any link.

Files are in nanosecond pcap (magic 0xa1b23c4d, one link type); read are both resolutions and both byte orders. A packet
whose checksum is unfinished is written with the finished one: who reads the file has no link to finish it.
Source: draft-ietf-opsawg-pcap-03.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from services.netstackd.links.base import Frame, Link, frame_of
from services.netstackd.links.segmentation import locate
from services.netstackd.network.interface import ETHERNET, IP
from services.netstackd.storage.packet import CSUM_PARTIAL, Packet
from services.netstackd.wire.offload import complete_checksum

HOST_SYSCALLS: Final = ("openat", "read", "write", "writev", "close")

LINKTYPE_ETHERNET: Final = 1
LINKTYPE_RAW: Final = 101
SNAP_BYTES: Final = 262144
_MAGIC_NS: Final = 0xA1B23C4D
_MAGIC_US: Final = 0xA1B2C3D4
_FILE_HEADER: Final = struct.Struct("=IHHiIII")
_RECORD: Final = struct.Struct("=IIII")


class PcapError(ValueError):
    """A file is no pcap file; says why."""


class PcapWriter:
    """Writes frames to a descriptor that it owns. `wall`: nanoseconds since 1970 at monotonic time 0.

    A write that fails (a full disk, a reader that went away) ends the capture: `failed` says why.
    """

    __slots__ = ("_wall", "count", "failed", "fd", "limit", "snap")

    def __init__(
        self, fd: int, *, framing: int = ETHERNET, wall: int = 0, snap: int = SNAP_BYTES, limit: int = 0
    ) -> None:
        self.fd = fd
        self._wall = wall
        self.snap = snap
        self.count = 0
        self.limit = limit  # packets; 0: no end
        self.failed: str | None = None
        kind = LINKTYPE_ETHERNET if framing == ETHERNET else LINKTYPE_RAW
        self._write((_FILE_HEADER.pack(_MAGIC_NS, 2, 4, 0, 0, snap, kind),))

    def _write(self, pieces: Sequence[Frame]) -> None:
        try:
            os.writev(self.fd, pieces)
        except OSError as error:
            self.failed = os.strerror(error.errno or 0)

    def record(self, packets: Sequence[Packet], now: int) -> None:
        """Write packets as they pass at monotonic time `now`."""
        seconds, nanoseconds = divmod(now + self._wall, 1_000_000_000)
        for packet in packets:
            if self.failed is not None:
                return
            if packet.csum == CSUM_PARTIAL:
                packet = finished_copy(packet)
            frame, body = frame_of(packet), packet.body
            size = len(frame) + (len(body) if body is not None else 0)
            kept = min(size, self.snap)
            header = _RECORD.pack(seconds, nanoseconds, kept, size)
            if kept < size:
                whole = bytes(frame) + bytes(body or b"")
                self._write((header, whole[:kept]))
            elif body is not None:
                self._write((header, frame, body))
            else:
                self._write((header, frame))
            self.count += 1
            if self.limit and self.count >= self.limit:
                self.failed = "the number of packets asked for was reached"

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def finished_copy(packet: Packet) -> Packet:
    """The packet with its checksum complete; the original keeps its own."""
    twin = packet.copy()
    if twin.l4 or locate(twin):
        complete_checksum(twin)
    return twin


def _byte_order_untrusted(data: bytes) -> tuple[str, int]:
    """(struct's sign of the byte order, magic). PcapError."""
    if len(data) < _FILE_HEADER.size:
        raise PcapError("shorter than a pcap header")
    for order in "<>":
        magic: int = struct.unpack_from(order + "I", data)[0]
        if magic in (_MAGIC_NS, _MAGIC_US):
            return order, magic
    raise PcapError("no pcap magic at the beginning (pcapng is not read)")


def read_pcap_untrusted(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(nanoseconds since 1970, frame) of every whole record. PcapError when it is no pcap file."""
    order, magic = _byte_order_untrusted(data)
    record = struct.Struct(order + "IIII")
    scale = 1 if magic == _MAGIC_NS else 1000
    at = _FILE_HEADER.size
    while at + record.size <= len(data):
        seconds, fraction, kept, _ = record.unpack_from(data, at)
        at += record.size
        if kept > SNAP_BYTES:
            raise PcapError(f"a record of {kept} bytes")
        if at + kept > len(data):
            return
        yield seconds * 1_000_000_000 + fraction * scale, data[at : at + kept]
        at += kept


def link_type_untrusted(data: bytes) -> int:
    """ETHERNET or IP, from the file's header. PcapError for another link type."""
    order, _ = _byte_order_untrusted(data)
    (kind,) = struct.unpack_from(order + "I", data, 20)
    kind &= 0x0FFFFFFF
    if kind == LINKTYPE_ETHERNET:
        return ETHERNET
    if kind == LINKTYPE_RAW:
        return IP
    raise PcapError(f"link type {kind} is neither Ethernet (1) nor raw IP (101)")


class PcapLink(Link):
    """Replays what was read, at the file's own pace or as fast as the loop takes it, and records what is sent."""

    __slots__ = ("_at", "_base", "_frames", "_paced", "_writer")

    def __init__(
        self,
        name: str,
        frames: Sequence[tuple[int, bytes]],
        writer: PcapWriter | None,
        *,
        mac: bytes,
        mtu: int,
        framing: int = ETHERNET,
        paced: bool = True,
    ) -> None:
        super().__init__(name, "pcap", fd=-1, mac=mac, mtu=mtu, offload=0, framing=framing)
        self._frames = frames
        self._writer = writer
        self._paced = paced
        self._at = 0
        self._base: int | None = None  # monotonic time of the file's first packet
        self.deadline = 0 if frames else None

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link."""
        frames = self._frames
        received: list[Packet] = []
        if self._base is None and frames:
            self._base = now - frames[0][0]
        base = self._base or 0
        while self._at < len(frames) and len(received) < limit:
            stamp, frame = frames[self._at]
            if self._paced and base + stamp > now:
                break
            self._at += 1
            received.append(Packet(bytearray(frame), len(frame)))
            self.counters.rx_bytes += len(frame)
        self.counters.rx_packets += len(received)
        if self._at >= len(frames):
            self.deadline = None
        else:
            self.deadline = base + frames[self._at][0] if self._paced else now
        return received

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """See Link."""
        counters = self.counters
        if self._writer is not None:
            self._writer.record(packets, now)
        counters.tx_packets += len(packets)
        counters.tx_bytes += sum(len(frame_of(packet)) + len(packet.body or b"") for packet in packets)

    def descriptors(self) -> list[int]:
        """See Link: the file that is written."""
        return [self._writer.fd] if self._writer is not None else []

    def close(self) -> None:
        """See Link."""
        if self._writer is not None:
            self._writer.close()


def open_pcap(
    name: str, *, read: str | None, write: str | None, mac: bytes, mtu: int, wall: Callable[[], int], paced: bool = True
) -> PcapLink:
    """The link that replays file `read` and records to file `write`; either may be None. OSError, PcapError."""
    frames: list[tuple[int, bytes]] = []
    framing = ETHERNET
    if read is not None:
        with open(read, "rb") as file:
            data = file.read()
        framing = link_type_untrusted(data)
        frames = list(read_pcap_untrusted(data))
    writer = None
    if write is not None:
        fd = os.open(write, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        writer = PcapWriter(fd, framing=framing, wall=wall())
    return PcapLink(name, frames, writer, mac=mac, mtu=mtu, framing=framing, paced=paced)
