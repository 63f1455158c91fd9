"""What a link is: something with a descriptor that gives and takes batches of frames.

    receive(limit, now)   at most `limit` frames that have arrived, oldest first; [] when there are none. Never blocks.
    send(packets, now)    takes over the packets. What the host will not take at once waits in `backlog`, bounded;
                          `wants_write` is then True, and the loop calls `writable(now)` when the descriptor has room.
    deadline              when a link has something to do without any readiness (a delayed frame), else None.

A frame that was received lies wholly in `Packet.head`, which is then the packet's own. The stack parses it; a link
only says what the host vouches for: the state of the checksum and the segment size. `offload` are the OFFLOAD_ bits
the other end takes; packets that need what is missing go through `segmentation.prepare` first. Errors of the host on
single frames are counted and never raised; one that ends the link (its device vanished) makes it `broken` with a
reason, once.

The header that carries checksum and segment size beside a frame is virtio's (struct virtio_net_hdr, 10 bytes, native
byte order): the same for taps, packet sockets and netstackd's own unix sockets.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from fcntl import ioctl
from sys import getrefcount
from typing import ClassVar, Final

from mypy_extensions import mypyc_attr

from services.netstackd.links.segmentation import Merger, prepare
from services.netstackd.network.interface import ETHERNET, OFFLOAD_CSUM, OFFLOAD_TSO4, OFFLOAD_TSO6
from services.netstackd.storage.packet import (
    CSUM_PARTIAL,
    CSUM_VALID,
    GSO_NONE,
    GSO_TCP4,
    GSO_TCP6,
    Packet,
    PacketRun,
    spread,
)
from services.netstackd.wire.offload import CHECKSUM_OFFSET

BATCH: Final = 64
BATCH_BYTES: Final = 200_000  # of large frames in a batch: more would leave the processor's cache before it is sent
MAX_BACKLOG: Final = 1000  # frames, as Linux's txqueuelen
FRAME_BYTES: Final = 65536 + 64  # a 64 KiB IP packet with its link header
COPY_BYTES: Final = 16384  # a shorter frame is copied out of the receive buffer, a longer one takes the buffer along

MIN_CUT: Final = 54  # what a frame has at least that a shortcut is for: Ethernet, IPv4, TCP
KEPT_BUFFERS: Final = 16  # receive buffers of a link that are used again when nobody looks at their frame any more

MERGE_BYTES: Final = 512  # a frame that is longer, and vouched for, is worth looking at: it may be one of a train

VNET_HEADER: Final = struct.Struct("=BBHHHH")  # flags gso_type hdr_len gso_size csum_start csum_offset
VNET_BYTES: Final = VNET_HEADER.size
NO_VNET: Final = bytes(VNET_BYTES)
_NEEDS_CSUM: Final = 1
_DATA_VALID: Final = 2
_VOUCHED: Final = _NEEDS_CSUM | _DATA_VALID
_GSO_TCPV4: Final = 1
_GSO_TCPV6: Final = 4
_GSO_ECN: Final = 0x80
ALL_OFFLOADS: Final = OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6

# Headers of packets whose checksum is to be completed, by protocol and where it begins: there are few such.
_UNFINISHED: Final[dict[int, bytes]] = {}

_FIONREAD: Final = 0x541B  # asm-generic/ioctls.h; of a packet socket the length of the next frame (packet_ioctl)
_waiting: Final = bytearray(4)
_NONE: Final = bytes(4)


def _references(buffers: list[bytearray], at: int) -> int:
    return getrefcount(buffers[at])


_UNUSED: Final = _references([bytearray()], 0)  # of one that nobody else holds; another number when this is compiled

NOT_ALIKE: Final = (-1, 0, 0, 0)

Frame = bytes | bytearray | memoryview

_GONE: Final = frozenset({errno.EBADFD, errno.ENODEV, errno.ENXIO, errno.EPIPE, errno.ECONNRESET})


_COUNTED: Final = (
    "rx_bytes",
    "rx_dropped",
    "rx_errors",
    "rx_packets",
    "tx_bytes",
    "tx_dropped",
    "tx_errors",
    "tx_packets",
)


class LinkCounters:
    """What passed, as `ip -s link` counts it. Frames the other end may split count once."""

    __slots__ = _COUNTED

    def __init__(self) -> None:
        self.rx_packets = self.rx_bytes = self.rx_errors = self.rx_dropped = 0
        self.tx_packets = self.tx_bytes = self.tx_errors = self.tx_dropped = 0

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in _COUNTED}


@mypyc_attr(allow_interpreted_subclasses=True)
class Link:
    """See the module docstring. Fields: `mac` is zero where frames have no link header (`framing` is IP)."""

    __slots__ = (
        "_broken",
        "_fd",
        "backlog",
        "counters",
        "deadline",
        "framing",
        "kind",
        "mac",
        "mtu",
        "name",
        "offload",
    )

    takes_runs: ClassVar[bool] = False  # `send` knows what a PacketRun is

    def __init__(self, name: str, kind: str, *, fd: int, mac: bytes, mtu: int, offload: int, framing: int) -> None:
        self.name = name
        self.kind = kind
        self._fd = fd
        self.mac = mac
        self.mtu = mtu
        self.offload = offload
        self.framing = framing  # ETHERNET or IP, of network.interface
        self.counters = LinkCounters()
        self.backlog: deque[Packet] = deque()
        self._broken: str | None = None
        self.deadline: int | None = None

    @property
    def fd(self) -> int:
        """What the loop watches; -1: nothing."""
        return self._fd

    @fd.setter
    def fd(self, value: int) -> None:
        self._fd = value

    @property
    def broken(self) -> str | None:
        """Why the link has ended, if it has."""
        return self._broken

    @broken.setter
    def broken(self, value: str | None) -> None:
        self._broken = value

    @property
    def wants_write(self) -> bool:
        """Whether frames wait for the descriptor to take more."""
        return bool(self.backlog)

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See the module docstring."""
        raise NotImplementedError

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """See the module docstring."""
        raise NotImplementedError

    def writable(self, now: int) -> None:
        """The descriptor takes more: send what waits."""
        waiting = list(self.backlog)
        self.backlog.clear()
        self.send(waiting, now)

    def descriptors(self) -> list[int]:
        """Every descriptor the link needs after the seal."""
        return [self.fd] if self.fd >= 0 else []

    def close(self) -> None:
        """Give up the descriptors."""
        for fd in self.descriptors():
            os.close(fd)
        self.fd = -1

    def release(self) -> None:
        """Forget the descriptors without closing them: they are somebody else's."""
        self.fd = -1

    def keep_for_later(self, packets: Iterable[Packet]) -> None:
        """The host takes nothing more now: keep what fits, count the rest."""
        backlog, counters = self.backlog, self.counters
        for packet in packets:
            if len(backlog) < MAX_BACKLOG:
                backlog.append(packet)
            else:
                counters.tx_dropped += 1

    def refused(self, error: OSError) -> None:
        """The host did not take a frame for a reason that waiting does not mend."""
        counters = self.counters
        if error.errno == errno.ENOBUFS:
            counters.tx_dropped += 1
        else:
            counters.tx_errors += 1
        if error.errno in _GONE:
            self.broken = os.strerror(error.errno)


class WrappedLink(Link):
    """Another link with something around it: what it is and what becomes of it is the inner link's."""

    __slots__ = ("inner",)

    def __init__(self, inner: Link, offload: int) -> None:
        self.inner = inner
        super().__init__(
            inner.name, inner.kind, fd=inner.fd, mac=inner.mac, mtu=inner.mtu, offload=offload, framing=inner.framing
        )
        self.counters = inner.counters

    @property
    def fd(self) -> int:
        """It changes when a listening link gets a peer."""
        return self.inner.fd

    @fd.setter
    def fd(self, value: int) -> None:
        pass

    @property
    def broken(self) -> str | None:
        """See Link."""
        return self.inner.broken

    @broken.setter
    def broken(self, value: str | None) -> None:
        pass

    @property
    def wants_write(self) -> bool:
        """See Link."""
        return self.inner.wants_write

    def descriptors(self) -> list[int]:
        """See Link."""
        return self.inner.descriptors()

    def close(self) -> None:
        """See Link."""
        self.inner.close()


def frame_of(packet: Packet) -> Frame:
    """The part of `head` that is the frame (what follows is `body`)."""
    head = packet.head
    if packet.l2 or packet.end != len(head):
        return memoryview(head)[packet.l2 : packet.end]
    return head


def apply_vnet(packet: Packet, header: Frame) -> None:
    """Write what a received virtio header says into the packet. The header is not trusted further than that.

    Where the checksum goes is not taken from the header: it always is where the parsed protocol has it.
    """
    flags, gso_type, _, gso_size, _, _ = VNET_HEADER.unpack_from(header)
    if flags & _NEEDS_CSUM:
        packet.csum = CSUM_PARTIAL
    elif flags & _DATA_VALID:
        packet.csum = CSUM_VALID
    gso_type &= ~_GSO_ECN
    if gso_size and gso_type in (_GSO_TCPV4, _GSO_TCPV6):
        packet.gso_size = gso_size
        packet.gso_type = GSO_TCP4 if gso_type == _GSO_TCPV4 else GSO_TCP6


def vnet_header(packet: Packet) -> bytes:
    """The virtio header for a packet that is to be sent."""
    gso_type = packet.gso_type
    if gso_type == GSO_NONE:
        if packet.csum != CSUM_PARTIAL:
            return NO_VNET
        kind = packet.proto << 16 | packet.l4 - packet.l2
        header = _UNFINISHED.get(kind)
        if header is None:
            offset = CHECKSUM_OFFSET.get(packet.proto, 0)
            header = _UNFINISHED[kind] = VNET_HEADER.pack(_NEEDS_CSUM, 0, 0, 0, packet.l4 - packet.l2, offset)
        return header
    l2 = packet.l2
    kind = _GSO_TCPV4 if gso_type == GSO_TCP4 else _GSO_TCPV6
    return VNET_HEADER.pack(_NEEDS_CSUM, kind, packet.payload - l2, packet.gso_size, packet.l4 - l2, 16)


class VnetLink(Link):
    """A descriptor whose frames carry the virtio header: taps, tuns and packet sockets.

    cut(buffer, count, header, now)   when it is set (edge/shortcuts.py), is asked for each frame that goes first in
                                      its batch: True when it has sent the frame on, from the buffer
    alike       (length, mask, masked bytes as a number, offset of the acknowledgement number) of frames that are pure
                acknowledgements of one connection: of those in a row, each of more than the one before, the last says
                all (edge/placement.py)
    """

    __slots__ = ("_buffer", "_kept", "_merger", "_reads", "alike", "cut")

    takes_runs = True
    tells_waiting: ClassVar[bool] = False  # FIONREAD tells whether there is a frame

    def __init__(self, name: str, kind: str, *, fd: int, mac: bytes, mtu: int, offload: int, framing: int) -> None:
        super().__init__(name, kind, fd=fd, mac=mac, mtu=mtu, offload=offload, framing=framing)
        os.set_blocking(fd, False)
        self._buffer = bytearray(FRAME_BYTES)
        self._kept: list[bytearray] = []
        self._reads: list[bytearray] = [bytearray(VNET_BYTES), self._buffer]
        self._merger = Merger()
        self.cut: Callable[[bytearray, int, bytearray, int], bool] | None = None
        self.alike = NOT_ALIKE

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link. Trains of small TCP segments are joined."""
        received: list[Packet] = []
        fd, reads, readv, take, cut = self.fd, self._reads, os.readv, self._merger.take, self.cut
        header, buffer = reads
        view = memoryview(buffer)
        mergeable = MERGE_BYTES if self.framing == ETHERNET else FRAME_BYTES
        total = frames = 0
        trains = False
        alike, mask, expected, ack_at = self.alike
        last_ack = -1
        number = int.from_bytes
        try:
            for _ in range(limit):
                if frames == 1 and self.tells_waiting:
                    # One frame alone is the rule where answers are waited for: to ask costs less than an exception.
                    ioctl(fd, _FIONREAD, _waiting)
                    if _waiting == _NONE:
                        break
                count = readv(fd, reads) - VNET_BYTES
                if count <= 0:
                    if count == -VNET_BYTES:
                        break  # end of file: nothing more comes
                    self.counters.rx_errors += 1
                    continue
                total += count
                frames += 1
                if count == alike and number(view[:count], "big") & mask == expected and header[0] & _VOUCHED:
                    ack = number(view[ack_at : ack_at + 4], "big")
                    if last_ack >= 0 and 0 < (ack - last_ack) & 0xFFFFFFFF < 0x80000000:
                        received[-1].head = buffer[:count]
                    else:
                        packet = Packet(buffer[:count], count)
                        packet.csum = CSUM_VALID
                        received.append(packet)
                    last_ack = ack
                    continue
                last_ack = -1
                if count <= COPY_BYTES:
                    if count > mergeable and not header[1] and header[0]:
                        trains = True
                        joined = take(buffer, view, count, CSUM_PARTIAL if header[0] & _NEEDS_CSUM else CSUM_VALID)
                        if joined is not None:
                            received.append(joined)
                        continue
                    if cut is not None and not received and count >= MIN_CUT and cut(buffer, count, header, now):
                        continue
                    packet = Packet(buffer[:count], count)
                    if header[1]:
                        apply_vnet(packet, header)
                    elif header[0] & _NEEDS_CSUM:  # apply_vnet, spelled out
                        packet.csum = CSUM_PARTIAL
                    elif header[0] & _DATA_VALID:
                        packet.csum = CSUM_VALID
                    received.append(packet)
                    continue
                if cut is not None and not received and cut(buffer, count, header, now):
                    continue
                packet = Packet(buffer, count)
                buffer = self._buffer = reads[1] = self._free_buffer()
                view = memoryview(buffer)
                if header != NO_VNET:
                    apply_vnet(packet, header)
                received.append(packet)
                if total > BATCH_BYTES:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            self._receive_failed(error)
        if trains:
            self._merger.finish()
        counters = self.counters
        counters.rx_packets += frames
        counters.rx_bytes += total
        return received

    def _free_buffer(self) -> bytearray:
        """A receive buffer to go on with when a frame has taken the last one along. A new one has to be cleared, and is
        memory that the processor's cache does not hold: better one whose packet, and every view of it, is gone."""
        kept = self._kept
        for at in range(len(kept)):
            if _references(kept, at) == _UNUSED:
                buffer = kept[at]
                if len(buffer) == FRAME_BYTES:
                    return buffer
                kept[:] = [each for each in kept if each is not buffer]  # a header was put in front of it, or cut
                break
        buffer = bytearray(FRAME_BYTES)
        if len(kept) < KEPT_BUFFERS:
            kept.append(buffer)
        return buffer

    def _receive_failed(self, error: OSError) -> None:
        if error.errno == errno.ENETDOWN:
            return  # told once when the device goes down; it may come up again
        self.counters.rx_errors += 1
        if error.errno in _GONE:
            self.broken = os.strerror(error.errno or 0)

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """See Link."""
        if self.backlog:
            self.keep_for_later(packets)
            return
        fd, writev, counters = self.fd, os.writev, self.counters
        if self.offload != ALL_OFFLOADS:
            packets = spread(packets)
        packets = prepare(packets, self.offload)
        total = sent = 0
        for index, packet in enumerate(packets):
            head = packet.head
            if packet.l2 or packet.end != len(head):
                frame: Frame = memoryview(head)[packet.l2 : packet.end]
            else:
                frame = head
            header = NO_VNET if packet.csum != CSUM_PARTIAL and not packet.gso_type else vnet_header(packet)
            body = packet.body
            try:
                total += writev(fd, (header, frame) if body is None else (header, frame, body))
                sent += 1
            except BlockingIOError:
                self.keep_for_later(packets[index:])
                break
            except OSError as error:
                self.refused(error)
            if type(packet) is PacketRun:
                try:
                    while (body := packet.step()) is not None:
                        total += writev(fd, (header, frame, body))
                        sent += 1
                except BlockingIOError:
                    self.keep_for_later(packets[index:])
                    break
                except OSError as error:
                    self.refused(error)  # and with it those behind: they would be the same to the host
        counters.tx_packets += sent
        counters.tx_bytes += total - sent * VNET_BYTES
