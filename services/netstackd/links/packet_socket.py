"""A host interface (a veth's end, usually) taken over by an AF_PACKET socket.

The host kernel still sees the frames: the interface should have no addresses there, in a namespace that does not
forward. Our MAC is the interface's own unless another is configured; then the interface is made promiscuous.
Outgoing copies are not heard (PACKET_IGNORE_OUTGOING), segments and checksums pass unfinished (PACKET_VNET_HDR).
The kernel takes a VLAN tag out of the frame before we see it; it comes beside the frame and is put back (`vlan`).
Source: packet(7), linux/if_packet.h (Linux 6.1).
"""

from __future__ import annotations

import socket
import struct
from typing import Final, Protocol

from services.netstackd.links.base import (
    ALL_OFFLOADS,
    COPY_BYTES,
    NO_VNET,
    VNET_BYTES,
    VnetLink,
    apply_vnet,
)
from services.netstackd.links.host_unsafe import device_mac, device_mtu, entered, set_device_up
from services.netstackd.network.interface import ETHERNET
from services.netstackd.storage.packet import Packet

HOST_SYSCALLS: Final = ("socket", "bind", "setsockopt", "readv", "writev", "recvmsg", "ioctl", "close")

_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_AUXDATA: Final = 8
_PACKET_VNET_HDR: Final = 15
_PACKET_QDISC_BYPASS: Final = 20
_PACKET_IGNORE_OUTGOING: Final = 23
_PACKET_MR_PROMISC: Final = 1
_ETH_P_ALL: Final = 0x0003
_SO_RCVBUFFORCE: Final = 33
_SO_SNDBUFFORCE: Final = 32
_BUFFER_BYTES: Final = 8 << 20
_AUXDATA: Final = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_VLAN_VALID: Final = 1 << 4
_AUXDATA_SPACE: Final = socket.CMSG_SPACE(_AUXDATA.size)


class Placement(Protocol):
    """Who may know where the payload of the next frames goes (edge/placement.py). frames, total: what came by
    `receive`, and how many bytes these were."""

    frames: int
    total: int

    def ready(self) -> bool: ...
    def receive(self, sock: socket.socket, now: int) -> bool: ...
    def learn(self, vnet: bytearray, frame: bytes | bytearray) -> None: ...
    def alike(self) -> tuple[int, int, int, int]: ...
    def thin(self, packets: list[Packet]) -> list[Packet]: ...


class PacketLink(VnetLink):
    """A VnetLink whose frames may be looked at before they are read."""

    __slots__ = ("_sock", "placement")

    tells_waiting = True

    def __init__(self, name: str, sock: socket.socket, *, mac: bytes, mtu: int, offload: int) -> None:
        super().__init__(name, "packet", fd=sock.fileno(), mac=mac, mtu=mtu, offload=offload, framing=ETHERNET)
        self._sock = sock
        self.placement: Placement | None = None

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link. What is placed is not among the packets that are returned; it came before these."""
        placement = self.placement
        if placement is None:
            return super().receive(limit, now)
        if placement.ready() and self._place(placement, now):
            return []
        self.alike = placement.alike()
        received = super().receive(limit, now)
        if not received:
            return received
        if received[-1].end > COPY_BYTES:
            placement.learn(self._reads[0], received[-1].head)
        return placement.thin(received) if len(received) > 1 else received

    def _place(self, placement: Placement, now: int) -> bool:
        """True: there are no frames behind those that were placed."""
        try:
            return placement.receive(self._sock, now)
        except OSError as error:
            self._receive_failed(error)
            return True
        finally:
            counters = self.counters
            counters.rx_packets += placement.frames
            counters.rx_bytes += placement.total

    def close(self) -> None:
        """See Link."""
        self._sock.close()
        self.fd = -1

    def release(self) -> None:
        """See Link."""
        self._sock.detach()
        self.fd = -1


class TaggedPacketLink(PacketLink):
    """Receives with ancillary data, which costs more per frame."""

    __slots__ = ()

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link."""
        received: list[Packet] = []
        reads, counters = self._reads, self.counters
        header, buffer = reads
        receive = self._sock.recvmsg_into
        try:
            for _ in range(limit):
                count, ancillary, _, _ = receive(reads, _AUXDATA_SPACE)
                count -= VNET_BYTES
                if count < 14:
                    counters.rx_errors += 1
                    continue
                if count <= COPY_BYTES:
                    packet = Packet(buffer[:count], count)
                else:
                    packet = Packet(buffer, count)
                    buffer = self._buffer = reads[1] = self._free_buffer()
                if ancillary:
                    restore_tag(packet, ancillary[0][2])
                if header != NO_VNET:
                    apply_vnet(packet, header)
                counters.rx_packets += 1
                counters.rx_bytes += count
                received.append(packet)
        except BlockingIOError:
            pass
        except OSError as error:
            self._receive_failed(error)
        return received


def restore_tag(packet: Packet, auxdata: bytes) -> None:
    """Put the 802.1Q tag that the kernel took out back into the frame."""
    if len(auxdata) < _AUXDATA.size:
        return
    status, _, _, _, _, tag, protocol = _AUXDATA.unpack_from(auxdata)
    if status & _VLAN_VALID:
        head = packet.writable()
        head[12:12] = struct.pack("!HH", protocol or 0x8100, tag)
        packet.end += 4


def open_packet_socket(
    name: str,
    device: str,
    *,
    mac: bytes | None,
    netns: str | None = None,
    offload: bool = True,
    vlan: bool = False,
) -> PacketLink:
    """The link `name` on the existing host interface `device`; `mac` None: use the interface's own. OSError."""
    with entered(netns):
        own = device_mac(device).to_bytes(6, "big")
        mtu = device_mtu(device)
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        try:
            for option in (_PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING):
                sock.setsockopt(_SOL_PACKET, option, 1)
            if vlan:
                sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            for option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
                try:
                    sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
                except PermissionError:
                    pass  # the default buffers do; they only hold shorter bursts
            set_device_up(device)
            sock.bind((device, _ETH_P_ALL))
            # promiscuous also for multicast: which groups are wanted changes all the time
            membership = struct.pack("@iHH8s", socket.if_nametoindex(device), _PACKET_MR_PROMISC, 0, b"")
            sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
        except BaseException:
            sock.close()
            raise
    kind = TaggedPacketLink if vlan else PacketLink
    return kind(name, sock, mac=own if mac is None else mac, mtu=mtu, offload=ALL_OFFLOADS if offload else 0)
