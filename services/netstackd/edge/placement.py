"""Direct placement: the payload of a busy connection's large segments is read from the link to where its user reads.

The next frame's headers are looked at while it still lies in the host's queue (MSG_PEEK). When they are what the last
large frame of the same connection had, but for the fields that change from segment to segment, and TCP expects just
this segment (transport/tcp/placed.py), the frame is read with its headers into a scratch buffer and its payload into
the ring that the connection's user reads from: no buffer of its own, no second copy, no way through the stack. Segments
that follow each other with the same acknowledgement are one to TCP, as Linux's GRO makes them. Anything else goes
through the stack, which is right in every case, and is what the next frame is compared with. In the other direction,
acknowledgements that came together are thinned.

    add, remove     connections that have such a place, by the stream that owns it
    learn           the link has received a large frame the usual way
    thin            of acknowledgements in a row that say more and more of the same, the last one
    alike           what these look like, for the link to keep but the last itself
    ready           whether to look at the next frame: one of a known connection is expected, and nobody else wants to
                    see frames (captures, packet sockets, filters)
    receive         read what is expected, many segments in a row, and tell TCP of them once

Bytes are those of `Link.receive`: struct virtio_net_hdr, Ethernet, IPv4 or IPv6 without options, TCP without options
but the timestamp. The comparison is that of header compression (RFC 1144 3.2.2), as two large integers and a mask.
"""

from __future__ import annotations

import os
import socket
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Protocol

from services.netstackd.counters import COUNTER
from services.netstackd.links.base import NOT_ALIKE
from services.netstackd.links.packet_socket import PacketLink
from services.netstackd.network.interface import ETHERNET
from services.netstackd.network.routes import LOCAL
from services.netstackd.transport.tcp import placed
from services.netstackd.transport.tcp.segment import MASK
from services.netstackd.wire.numbers import PROTO_TCP

if TYPE_CHECKING:
    from services.netstackd.edge.loop import Loop
    from services.netstackd.network.interface import Interface
    from services.netstackd.stack import Stack
    from services.netstackd.storage.packet import Packet
    from services.netstackd.transport.tcp.endpoint import Endpoint

PEEK_BYTES: Final = 10 + 14 + 40 + 20 + 12  # the longest headers that are known here
BATCH_BYTES: Final = 1 << 20  # at once, before others are served
MAX_PURE_ACK: Final = 14 + 40 + 32 + 1
MIN_PAYLOAD: Final = 4096  # what is shorter is not worth a look ahead

_LOOK: Final = socket.MSG_PEEK | socket.MSG_TRUNC | socket.MSG_DONTWAIT
_VNET: Final = 10
_L3: Final = _VNET + 14
_VOUCHED: Final = 3  # VIRTIO_NET_HDR_F_NEEDS_CSUM, _F_DATA_VALID
_TIMESTAMP: Final = b"\x01\x01\x08\x0a"  # NOP, NOP, kind 8, length 10 (RFC 7323 appendix A)
_SEGMENT: Final = Struct("!IIBBH")  # seq, ack, data offset, flags, window: from byte 4 of a TCP header on
_WORD: Final = Struct("!H")
_LONG: Final = Struct("!I")
_PSH: Final = 0x08
_ACK: Final = 0x10
_CE: Final = 3

_IP_RECEIVES: Final = {4: COUNTER["IpInReceives"], 6: COUNTER["Ip6InReceives"]}
_IP_DELIVERS: Final = {4: COUNTER["IpInDelivers"], 6: COUNTER["Ip6InDelivers"]}


def _ack_mask(size: int, l4: int) -> int:
    """What pure acknowledgements of a connection have in common, as _Flow.learn has it for a frame without the virtio
    header, of which the headers end at `size`."""
    mask = bytearray(b"\xff" * size)
    if l4 == 34:
        mask[18:20] = mask[24:26] = bytes(2)  # identification and checksum
    mask[l4 + 8 : l4 + 12] = bytes(4)  # acknowledgement number
    mask[l4 + 14 : l4 + 18] = bytes(4)  # window and checksum
    if size > l4 + 20:
        mask[l4 + 24 :] = bytes(8)  # timestamps
    return int.from_bytes(mask, "big")


_ACK_MASKS: Final = {(l4, size): _ack_mask(l4 + size, l4) for l4 in (34, 54) for size in (20, 32)}


def _pure_ack(head: bytes | bytearray) -> tuple[int, int]:
    """(what it has in common with others of its connection, acknowledgement number) of a frame of at least 54 bytes
    that is a segment with an acknowledgement alone; (0, 0) for any other."""
    kind = head[12:14]
    if kind == b"\x08\x00" and head[14] == 0x45 and head[23] == PROTO_TCP:
        l4, length = 34, (head[16] << 8 | head[17]) - 20
    elif kind == b"\x86\xdd" and head[20] == PROTO_TCP and len(head) >= 74:
        l4, length = 54, head[18] << 8 | head[19]
    else:
        return 0, 0
    mask = _ACK_MASKS.get((l4, length))
    if (
        mask is None
        or len(head) < l4 + length
        or head[l4 + 12] != length << 2
        or head[l4 + 13] != _ACK
        or (length == 32 and head[l4 + 20 : l4 + 24] != _TIMESTAMP)
    ):
        return 0, 0
    return int.from_bytes(head[: l4 + length], "big") & mask, _LONG.unpack_from(head, l4 + 8)[0]


def _flow_of(head: bytes | bytearray) -> bytes:
    """Addresses and ports of a frame."""
    return bytes(head[26:38] if head[12] == 8 else head[22:58])


class Reader(Protocol):
    """Who owns the place (socket_service/streams.py)."""

    def place(self) -> tuple[int, memoryview, int]:
        """Where the next bytes of the stream go: how many there is room for, a ring, and where in it they begin."""

    def placed(self, size: int) -> None:
        """So many are there."""


class _Flow:
    """One connection. bytes: how long its headers are, 0 before the first was seen; version: of IP."""

    __slots__ = ("bytes", "endpoint", "expected", "key", "l4", "mask", "reader", "stamped", "version")

    def __init__(self, key: tuple[int, int], version: int, endpoint: Endpoint, reader: Reader) -> None:
        self.key = key  # source and destination, as Interface.input_cache has them
        self.version = version
        self.endpoint = endpoint
        self.reader = reader
        self.l4 = _L3 + (20 if version == 4 else 40)
        self.bytes = 0
        self.mask = self.expected = 0
        self.stamped = False

    def learn(self, header: bytes) -> bool:
        """Take a frame's first PEEK_BYTES, of this connection, as what to compare others with; False if it is none to
        compare with."""
        if self.bytes and int.from_bytes(header[: self.bytes], "big") & self.mask == self.expected:
            return True
        self.bytes = 0
        l4 = self.l4
        _, _, offset, flags, _ = _SEGMENT.unpack_from(header, l4 + 4)
        stamped = offset == 0x80 and header[l4 + 20 : l4 + 24] == _TIMESTAMP
        if not header[0] & _VOUCHED or flags & ~_PSH != _ACK or not (stamped or offset == 0x50):
            return False
        if self.version == 4:
            tos, fragment = header[_L3 + 1], _WORD.unpack_from(header, _L3 + 6)[0] & 0x3FFF
            if header[_L3] != 0x45 or fragment or header[_L3 + 9] != PROTO_TCP:
                return False
        else:
            tos = header[_L3 + 1] >> 4
            if header[_L3 + 6] != PROTO_TCP:
                return False
        if tos & _CE == _CE:
            return False
        mask = bytearray(b"\xff" * (l4 + (32 if stamped else 20)))
        mask[2:10] = bytes(8)  # sizes and places within the frame that the virtio header repeats
        if self.version == 4:
            mask[_L3 + 2 : _L3 + 6] = bytes(4)  # total length and identification
            mask[_L3 + 10 : _L3 + 12] = bytes(2)  # checksum
        else:
            mask[_L3 + 4 : _L3 + 6] = bytes(2)  # payload length
        mask[l4 + 4 : l4 + 12] = bytes(8)  # sequence and acknowledgement numbers
        mask[l4 + 13] = 0xFF & ~_PSH
        mask[l4 + 14 : l4 + 20] = bytes(6)  # window, checksum, and an urgent pointer that means nothing without URG
        if stamped:
            mask[l4 + 24 :] = bytes(8)
        assert len(mask) <= PEEK_BYTES
        self.bytes = len(mask)
        self.stamped = stamped
        self.mask = int.from_bytes(mask, "big")
        self.expected = int.from_bytes(header[: self.bytes], "big") & self.mask
        return True


class Placement:
    """Of one interface and its link."""

    __slots__ = (
        "_alike",
        "_alike_flow",
        "_count",
        "_expected",
        "_flows",
        "_iface",
        "_loop",
        "_peeked",
        "_scratch",
        "_stack",
        "frames",
        "total",
    )

    def __init__(self, loop: Loop, stack: Stack, iface: Interface) -> None:
        self._loop = loop
        self._stack = stack
        self._iface = iface
        self._count = stack.counters.values
        self._flows: dict[bytes, _Flow] = {}
        self._expected: _Flow | None = None
        self._peeked = bytearray(PEEK_BYTES)
        self._scratch = memoryview(bytearray(PEEK_BYTES))
        self.frames = self.total = 0
        self._alike = NOT_ALIKE
        self._alike_flow = b""

    # -- connections --

    @staticmethod
    def _key(endpoint: Endpoint) -> tuple[int, bytes, tuple[int, int]]:
        path: Any = endpoint.route
        width = 4 if path.version == 4 else 16
        addresses = path.remote.to_bytes(width, "big") + path.local.to_bytes(width, "big")
        ports = path.remote_port.to_bytes(2, "big") + path.local_port.to_bytes(2, "big")
        return path.version, addresses + ports, (path.remote, path.local)

    def add(self, endpoint: Endpoint, reader: Reader) -> None:
        """From now on."""
        version, flow, key = self._key(endpoint)
        self._flows[flow] = _Flow(key, version, endpoint, reader)

    def remove(self, endpoint: Endpoint) -> None:
        """No more."""
        key = self._key(endpoint)[1]
        found = self._flows.get(key)
        if found is not None and found.endpoint is endpoint:  # else one with the same addresses and ports came after it
            del self._flows[key]
            if found is self._expected:
                self._expected = None
            if key == self._alike_flow:
                self._alike = NOT_ALIKE

    def learn(self, vnet: bytearray, frame: bytes | bytearray) -> None:
        """A large frame went to the stack: when it is of a known connection, more of the kind are expected."""
        self._expected = None
        kind = frame[12:14]
        if kind == b"\x08\x00":
            found = self._flows.get(bytes(frame[26:38]))
        elif kind == b"\x86\xdd":
            found = self._flows.get(bytes(frame[22:58]))
        else:
            return
        if found is not None and frame[:6] == self._iface.mac and found.learn(bytes(vnet) + frame[:PEEK_BYTES]):
            self._expected = found

    # -- frames --

    def _watched(self, version: int) -> bool:
        """Whether somebody wants to see packets on their way to their socket."""
        stack = self._stack
        hooks = stack.hooks
        return bool(
            hooks.prerouting is not None
            or hooks.input is not None
            or stack.taps
            or stack.raw.sockets[version]
            or stack.tcp.guards_ttl
            or self._iface in self._loop.captures
        )

    def thin(self, packets: list[Packet]) -> list[Packet]:
        """Of pure acknowledgements of one connection that came together, each of more than the one before, only the
        last: it says all that the others do (as Linux's tcp_add_backlog has it). Those that repeat an acknowledgement,
        or carry SACK blocks, stay, as they tell of losses."""
        kept: list[Packet] = []
        name = last_ack = 0
        for packet in packets:
            head, before, ack_before = packet.head, name, last_ack
            name = 0
            if 54 <= packet.end < MAX_PURE_ACK and packet.csum:
                name, last_ack = _pure_ack(head)
            if (
                name
                and name == before
                and 0 < (last_ack - ack_before) & MASK < 0x80000000
                and self._is_known(head)
                and not self._watched(4 if head[12] == 8 else 6)
            ):
                kept[-1] = packet
                self._alike_flow = _flow_of(head)
                l4 = 34 if head[12] == 8 else 54
                size = l4 + (head[l4 + 12] >> 2)
                self._alike = size, _ACK_MASKS[l4, size - l4], name, l4 + 8
            else:
                kept.append(packet)
        return kept

    def alike(self) -> tuple[int, int, int, int]:
        """See VnetLink."""
        alike = self._alike
        if alike is not NOT_ALIKE and self._watched(4 if alike[3] == 42 else 6):
            self._alike = NOT_ALIKE
            return NOT_ALIKE
        return alike

    def _is_known(self, head: bytes | bytearray) -> bool:
        """Whether a frame is of a connection that was added."""
        return _flow_of(head) in self._flows

    def ready(self) -> bool:
        """See the module docstring."""
        flow = self._expected
        if flow is None:
            return False
        iface = self._iface
        way = (iface.input_cache4 if flow.version == 4 else iface.input_cache6).get(flow.key)
        return (
            way is not None
            and way.kind == LOCAL
            and iface.up
            and not self._watched(flow.version)
            and placed.is_plain(flow.endpoint)
        )

    def receive(self, sock: socket.socket, now: int) -> bool:
        """Read the frames at the head of the queue that belong to the connection that is expected, as far as there is
        room for them. `frames` and `total`, in bytes, say what came. True: there are no more, or enough came for now.
        OSError: as readv(2)."""
        self.frames = self.total = 0
        flow = self._expected
        assert flow is not None
        endpoint, reader, version = flow.endpoint, flow.reader, flow.version
        room, ring, start = reader.place()
        size = flow.bytes
        header, mask, expected = self._peeked, flow.mask, flow.expected
        front, ip_header, scratch = memoryview(header)[:size], memoryview(header)[_L3 : _L3 + 20], self._scratch[:size]
        length_at, l4 = _L3 + 2 if version == 4 else _L3 + 4, flow.l4
        before = _L3 if version == 4 else _L3 + 40  # of the frame, what its length does not count
        look, fd, readv, number = sock.recv_into, sock.fileno(), os.readv, int.from_bytes
        limit = min(room, endpoint.rcv_edge - endpoint.rcv_nxt)
        seq = endpoint.rcv_nxt & MASK
        ack = window = ts_val = done = frames = flags = 0
        try:
            while done < BATCH_BYTES:
                count = look(header, 0, _LOOK)
                if number(front, "big") & mask != expected:
                    return False
                length = before + (header[length_at] << 8 | header[length_at + 1])
                payload = length - size
                if length != count or payload < MIN_PAYLOAD or done + payload > limit:
                    return False
                if version == 4 and number(ip_header, "big") % 65535:
                    return False  # its checksum is wrong (RFC 1071)
                came, acked, _, found, offered = _SEGMENT.unpack_from(header, l4 + 4)
                stamp = _LONG.unpack_from(header, l4 + 24)[0] if flow.stamped else -1
                if came != seq:
                    return False
                if not frames:
                    if not placed.fits(endpoint, acked, stamp):
                        return False
                    ack = acked
                elif acked != ack or (stamp - ts_val) & 0x80000000:
                    return False
                window, ts_val, flags = offered, stamp, flags | found
                end = start + payload
                beyond = end - len(ring)
                if beyond <= 0:
                    got = readv(fd, (scratch, ring[start:end]))
                else:
                    got = readv(fd, (scratch, ring[start:], ring[:beyond]))
                if got != count:
                    raise RuntimeError("a frame is not the one that was looked at")
                start = end if beyond < 0 else beyond
                done += payload
                seq = (seq + payload) & MASK
                frames += 1
        except BlockingIOError:
            pass
        finally:
            if frames:
                self.frames, self.total = frames, done + frames * (size - _VNET)
                counters = self._count
                counters[_IP_RECEIVES[version]] += frames
                counters[_IP_DELIVERS[version]] += frames
                self._stack.now = now
                reader.placed(done)
                placed.arrived(endpoint, ack, window, ts_val, done, frames, flags & _PSH != 0, now)
        return True


def placement_of(loop: Loop, stack: Stack, iface: Interface) -> Placement | None:
    """What the link of `iface` has for this, made when it is asked for; None when the link has none."""
    link = iface.link
    if type(link) is not PacketLink or iface.kind != ETHERNET:
        return None
    found = link.placement
    if not isinstance(found, Placement):
        found = link.placement = Placement(loop, stack, iface)
    return found
