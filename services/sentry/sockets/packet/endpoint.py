"""SOCK_RAW and SOCK_DGRAM packet sockets (packet(7)): frames of an EtherType and an interface, with a sockaddr_ll each.

The network stack has the socket; here are its name, its queue or ring (ring.py), and its options. Fan-out, rings to
send by and version 3 of receiving ones are not there (ENOPROTOOPT, EINVAL).
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ca
from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.abi import time_h as tm
from protocol.abi.layout import I32
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel.waiter import ANY
from services.sentry.sockets.base import READABLE, WRITABLE, Incoming, Outgoing, Socket
from services.sentry.sockets.inet.network import InetNetwork
from services.sentry.sockets.packet.ring import HEADER_BYTES, REQUEST, Ring
from services.sentry.sockets.packet_filter import PacketView, run
from services.sentry.vfs.anonymous import socket_inode
from services.sentry.vfs.open_file import Backing

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["Frame", "PacketSocket", "create"]

#: struct sockaddr_ll: family, protocol (network order), interface, hatype, pkttype, halen, address.
_SOCKADDR: Final = struct.Struct("<H2siHBB8s")
#: The shortest a bind(2) may give: all but the link address.
_MIN_SOCKADDR: Final = 12
_MAX_FRAME: Final = 65_535 + 64
_OVERHEAD_BYTES: Final = 768
_MREQ_BYTES: Final = 16
_ETHERNET_BYTES: Final = 14

_ADD_MEMBERSHIP: Final = 1
_DROP_MEMBERSHIP: Final = 2
_STATISTICS: Final = 6
_AUXDATA: Final = 8
_RX_RING: Final = 5
_VERSION: Final = 10
_HDRLEN: Final = 11
_RESERVE: Final = 12
#: What is remembered: PACKET_AUXDATA, PACKET_ORIGDEV, PACKET_LOSS, PACKET_TIMESTAMP, PACKET_QDISC_BYPASS...
_REMEMBERED: Final = frozenset((_AUXDATA, 9, _VERSION, _RESERVE, 14, 17, 20, 23))
#: struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid.
_AUXDATA_STRUCT: Final = struct.Struct("<IIIHHHH")
_TP_STATUS_USER: Final = 1


class Frame:
    """What came, as a filter left it of `length` bytes. address: struct sockaddr_ll; stamp_ns: CLOCK_REALTIME."""

    __slots__ = ("address", "data", "length", "stamp_ns")

    def __init__(self, data: bytes, length: int, address: bytes, stamp_ns: int) -> None:
        self.data = data
        self.length = length
        self.address = address
        self.stamp_ns = stamp_ns


class PacketSocket(Socket):
    """ethertype: in host order, 0: nothing is received; interface: 0 for all. received, dropped: PACKET_STATISTICS."""

    __slots__ = (
        "dropped",
        "ethertype",
        "far",
        "inbox",
        "inbox_bytes",
        "interface",
        "network",
        "received",
        "ring",
        "settings",
    )

    domain = so.AF_PACKET
    pollable = True
    filters_packets = True

    def __init__(self, task: Task, kind: int, protocol: int, flags: int) -> None:
        super().__init__(task.kernel, socket_inode(task.kernel, task.cred), kind, protocol, flags)
        self.network = task.kernel.part(InetNetwork)
        self.ethertype = int.from_bytes((protocol & 0xFFFF).to_bytes(2, "little"), "big")
        self.interface = 0
        self.inbox: deque[Frame] = deque()
        self.inbox_bytes = 0
        self.received = self.dropped = 0
        self.settings: dict[int, int] = {}
        self.far = None
        self.ring: Ring | None = None
        self.network.packets[self] = None
        self.network.open_packet(self)

    # --- names ---
    def bind(self, task: Task, address: bytes) -> None:
        """EINVAL: too short, another family; ENODEV: no such interface; ENETDOWN: it is down."""
        if len(address) < _MIN_SOCKADDR or address[:2] != so.SA_FAMILY.pack(so.AF_PACKET):
            raise LinuxError(errno.EINVAL)
        _, protocol, index, *_ = _SOCKADDR.unpack(address[:20].ljust(20, b"\0"))
        if index and self.network.interface(index) is None:
            raise LinuxError(errno.ENODEV)
        self.interface = index
        self.ethertype = int.from_bytes(protocol, "big") or self.ethertype
        if self.far is not None:
            self.far.rebind()

    def local_address(self) -> bytes:
        found = self.network.interface(self.interface) if self.interface else None
        hatype, hardware = (found.kind, found.hardware[:8]) if found is not None else (0, b"")
        protocol = self.ethertype.to_bytes(2, "big")
        packed = _SOCKADDR.pack(so.AF_PACKET, protocol, self.interface, hatype, 0, len(hardware), hardware)
        return packed if len(hardware) == 8 else packed[:18] if len(hardware) <= 6 else packed

    def release(self) -> None:
        self.network.packets.pop(self, None)
        if self.far is not None:
            self.far.close()
        if self.ring is not None:
            self.ring.close()
            self.ring = None
        self.inbox.clear()
        if self.queue.entries:
            self.queue.wake(ANY)

    # --- sending ---
    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        if count > _MAX_FRAME:
            raise LinuxError(errno.EMSGSIZE)
        return self.send(mm.read(addr, count) if count else b"", Outgoing())

    def send(self, data: bytes, message: Outgoing) -> int:
        """One frame. ENXIO: by no interface; EINVAL: a short address; ENETDOWN; EMSGSIZE: over its MTU; WouldBlock."""
        index, protocol, hardware = self.interface, self.ethertype, b""
        if message.address:
            if len(message.address) < _MIN_SOCKADDR:
                raise LinuxError(errno.EINVAL)
            _, raw, index, _, _, length, address = _SOCKADDR.unpack(message.address[:20].ljust(20, b"\0"))
            protocol = int.from_bytes(raw, "big") or protocol
            hardware = address[: min(length, 8)]
        found = self.network.interface(index) if index else None
        if found is None:
            raise LinuxError(errno.ENXIO)
        if not found.flags & rt.IFF_UP:
            raise LinuxError(errno.ENETDOWN)
        if len(data) > found.mtu + (18 if self.kind == so.SOCK_RAW else 0):
            raise LinuxError(errno.EMSGSIZE)
        if self.far is None:
            return len(data)  # the loopback carries no frames
        self.far.send_frame(data, index, protocol, hardware)
        return len(data)

    # --- receiving ---
    def deliver_frame(self, data: bytes, index: int, tail: tuple[int, int, int, bytes]) -> None:
        """A frame came; `tail`: EtherType, hatype, pkttype, link address. Dropped beyond SO_RCVBUF."""
        length = len(data)
        if self.program is not None:
            network = _ETHERNET_BYTES if self.kind == so.SOCK_RAW else 0
            count = run(self.program, PacketView(data, network, tail[0], tail[2], index, tail[1]))
            data = data[:count]
            if not data:
                return
        self.received += 1
        if self.inbox_bytes > self.receive_buffer:
            self.dropped += 1
            return
        ethertype, hatype, kind, hardware = tail
        address = _SOCKADDR.pack(
            so.AF_PACKET, ethertype.to_bytes(2, "big"), index, hatype, kind, len(hardware), hardware
        )
        if self.ring is not None:
            if not self.ring.put(
                data, length, address, self.kernel.clock.realtime_ns(), cooked=self.kind == so.SOCK_DGRAM
            ):
                self.dropped += 1
            return
        self.inbox.append(Frame(data, length, address, self.kernel.clock.realtime_ns()))
        self.inbox_bytes += len(data) + _OVERHEAD_BYTES

    def _fill(self) -> None:
        far = self.far
        if far is not None and far.unsure and not self.inbox:
            far.fill()

    def receive(self, count: int, flags: int) -> Incoming:
        """One frame, cut to `count` (MSG_TRUNC). The pending error; WouldBlock."""
        if flags & so.MSG_ERRQUEUE:
            raise LinuxError(errno.EAGAIN)
        self._fill()
        if self.error:
            raise LinuxError(self.take_error())
        if not self.inbox:
            raise WouldBlock
        frame = self.inbox[0]
        if not flags & so.MSG_PEEK:
            self.inbox.popleft()
            self.inbox_bytes -= len(frame.data) + _OVERHEAD_BYTES
        marks = so.MSG_TRUNC if frame.length > count else 0
        return Incoming(
            frame.data[:count], frame.length, frame.address, flags=marks, control=self._control(frame, count)
        )

    def _control(self, frame: Frame, count: int) -> tuple[tuple[int, int, bytes], ...]:
        found: list[tuple[int, int, bytes]] = []
        seconds, rest = divmod(frame.stamp_ns, tm.NSEC_PER_SEC)
        if self.options.get(so.SO_TIMESTAMPNS):
            found.append((so.SOL_SOCKET, so.SCM_TIMESTAMPNS, tm.TIMESPEC.pack(seconds, rest)))
        elif self.options.get(so.SO_TIMESTAMP):
            found.append((so.SOL_SOCKET, so.SCM_TIMESTAMP, tm.TIMEVAL.pack(seconds, rest // tm.NSEC_PER_USEC)))
        if self.settings.get(_AUXDATA):
            length = frame.length
            head = _ETHERNET_BYTES if self.kind == so.SOCK_RAW else 0
            packed = _AUXDATA_STRUCT.pack(_TP_STATUS_USER, length, min(len(frame.data), count), 0, head, 0, 0)
            found.append((so.SOL_PACKET, _AUXDATA, packed))
        return tuple(found)

    def poll(self) -> int:
        self._fill()
        if self.ring is not None:
            readable = self.ring.is_readable()
            return WRITABLE | (READABLE if readable else 0) | (po.POLLERR if self.error else 0)
        bits = 0 if self.far is not None and self.far.blocked else WRITABLE
        return bits | (READABLE if self.inbox else 0) | (po.POLLERR if self.error else 0)

    def mmap_backing(self) -> Backing:
        """EINVAL: there is no ring."""
        if self.ring is None:
            raise LinuxError(errno.EINVAL)
        return Backing(self.ring.fd, 0, True, self)

    def unread_bytes(self) -> int:
        self._fill()
        return self.inbox[0].length if self.inbox else 0

    def unsent_bytes(self) -> int:
        return int(self.far.unsent_bytes()) if self.far is not None else 0

    # --- options ---
    def get_option(self, task: Task, level: int, name: int) -> bytes:
        """ENOPROTOOPT."""
        if level != so.SOL_PACKET:
            raise LinuxError(errno.ENOPROTOOPT)
        if name == _STATISTICS:
            self._fill()
            counted = struct.pack("<II", self.received, self.dropped)
            self.received = self.dropped = 0
            return counted
        if name in _REMEMBERED:
            return I32.pack(self.settings.get(name, 0))
        raise LinuxError(errno.ENOPROTOOPT)

    def answer_option(self, level: int, name: int, asked: bytes) -> bytes | None:
        """PACKET_HDRLEN, of the version asked for. EINVAL: there is no such one."""
        if (level, name) != (so.SOL_PACKET, _HDRLEN):
            return None
        version = int.from_bytes(asked, "little")
        if len(asked) < 4 or version >= len(HEADER_BYTES):
            raise LinuxError(errno.EINVAL)
        return I32.pack(HEADER_BYTES[version])

    def set_option(self, task: Task, level: int, name: int, value: bytes) -> None:
        """EINVAL: too short; ENODEV: a membership of no interface; ENOPROTOOPT."""
        if level != so.SOL_PACKET:
            raise LinuxError(errno.ENOPROTOOPT)
        if name in (_ADD_MEMBERSHIP, _DROP_MEMBERSHIP):
            if len(value) < _MREQ_BYTES:
                raise LinuxError(errno.EINVAL)
            if self.network.interface(I32.unpack_from(value)[0]) is None:
                raise LinuxError(errno.ENODEV)
            if self.far is not None:
                self.far.raw_option(level, name, value[:_MREQ_BYTES])
        elif name == _RX_RING:
            self._set_ring(value)
        elif name in _REMEMBERED:
            if len(value) < 4:
                raise LinuxError(errno.EINVAL)
            if name in (_VERSION, _RESERVE) and self.ring is not None:
                raise LinuxError(errno.EBUSY)
            if name == _VERSION and not 0 <= I32.unpack_from(value)[0] < len(HEADER_BYTES):
                raise LinuxError(errno.EINVAL)
            if name == _RESERVE and not 0 <= I32.unpack_from(value)[0] <= _MAX_FRAME:
                raise LinuxError(errno.EINVAL)
            self.settings[name] = int(I32.unpack_from(value)[0])
        else:
            raise LinuxError(errno.ENOPROTOOPT)

    def _set_ring(self, value: bytes) -> None:
        """EINVAL: sizes; EBUSY: there is one; ENOMEM. No frames at all: it goes."""
        if len(value) < REQUEST.size:
            raise LinuxError(errno.EINVAL)
        old, self.ring = self.ring, None
        if old is not None:
            old.close()
        if any(value[: REQUEST.size]):
            self.ring = Ring(value, self.settings.get(_VERSION, 0), self.settings.get(_RESERVE, 0))

    def set_flags(self, flags: int) -> None:
        self.flags = (flags & ~fc.O_ACCMODE) | fc.O_RDWR


def create(task: Task, kind: int, protocol: int, flags: int) -> PacketSocket:
    """The AF_PACKET row of the family registry. EPERM: without CAP_NET_RAW; ESOCKTNOSUPPORT: the kind."""
    if not task.cred.has_cap(ca.CAP_NET_RAW):
        raise LinuxError(errno.EPERM)
    if kind not in (so.SOCK_RAW, so.SOCK_DGRAM):
        raise LinuxError(errno.ESOCKTNOSUPPORT)
    return PacketSocket(task, kind, protocol, flags)
