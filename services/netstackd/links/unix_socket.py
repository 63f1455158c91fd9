"""Frames over a Unix socket: QEMU's stream framing, or one frame a message.

    StreamLink     SOCK_STREAM, each frame behind its length in four bytes, big-endian: QEMU's `-netdev stream` and
                   `-netdev socket`, and passt
    MessageLink    SOCK_SEQPACKET or SOCK_DGRAM, a frame a message; with `vnet` a virtio header goes before each, so
                   that two netstackds hand each other large segments and unfinished checksums

A listening link has one peer at a time; when it hangs up, the next is accepted. What a peer sends is untrusted: a
length beyond any frame ends the conversation, a frame too short for its headers is counted and dropped.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Final

from services.netstackd.links.base import (
    ALL_OFFLOADS,
    COPY_BYTES,
    FRAME_BYTES,
    NO_VNET,
    VNET_BYTES,
    Frame,
    Link,
    apply_vnet,
    frame_of,
    vnet_header,
)
from services.netstackd.links.segmentation import prepare
from services.netstackd.network.interface import ETHERNET
from services.netstackd.storage.packet import Packet

HOST_SYSCALLS: Final = ("socket", "connect", "bind", "listen", "accept4", "recvmsg", "recvfrom", "sendmsg", "close")

MIN_FRAME_BYTES: Final = 14
_LENGTH_BYTES: Final = 4
_STREAM_BUFFER: Final = 4 * FRAME_BYTES
MAX_OUT_BYTES: Final = 4 << 20  # of a stream whose peer reads slowly
_BUFFER_BYTES: Final = 4 << 20


class _SocketLink(Link):
    """What both framings share: a peer that may come and go."""

    __slots__ = ("_listener", "_sock")

    def __init__(self, name: str, sock: socket.socket, *, listening: bool, mac: bytes, mtu: int, offload: int) -> None:
        super().__init__(name, "unix", fd=sock.fileno(), mac=mac, mtu=mtu, offload=offload, framing=ETHERNET)
        sock.setblocking(False)
        self._listener = sock if listening else None
        self._sock: socket.socket | None = None if listening else sock
        if not listening:
            self._tune(sock)

    @staticmethod
    def _tune(sock: socket.socket) -> None:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)

    @property
    def listening(self) -> bool:
        """Whether the link waits for peers."""
        return self._listener is not None

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it hung up again before we came to it
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            self._tune(sock)
        self._sock = sock
        self.fd = sock.fileno()  # the loop watches that from now on

    def _hung_up(self, why: str) -> None:
        """The peer is gone: wait for the next one, or say that the link is broken."""
        if self._sock is not None:
            self._sock.close()
        self._sock = None
        self.backlog.clear()
        self._forget()
        if self._listener is None:
            self.broken = why
            self.fd = -1
        else:
            self.fd = self._listener.fileno()

    def _forget(self) -> None:
        """Drop what belongs to the conversation that ended."""

    def descriptors(self) -> list[int]:
        """See Link."""
        return [sock.fileno() for sock in (self._listener, self._sock) if sock is not None]

    def close(self) -> None:
        """See Link."""
        for sock in (self._listener, self._sock):
            if sock is not None:
                sock.close()
        self.fd = -1


class StreamLink(_SocketLink):
    """See the module docstring."""

    __slots__ = ("_buffer", "_end", "_out", "_out_bytes", "_start", "_view")

    def __init__(self, name: str, sock: socket.socket, *, listening: bool, mac: bytes, mtu: int) -> None:
        super().__init__(name, sock, listening=listening, mac=mac, mtu=mtu, offload=0)
        self._buffer = bytearray(_STREAM_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._out: list[Frame] = []
        self._out_bytes = 0

    @property
    def wants_write(self) -> bool:
        """See Link."""
        return bool(self._out)

    def _forget(self) -> None:
        self._start = self._end = 0
        self._out.clear()
        self._out_bytes = 0

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link."""
        if self._sock is None:
            self._accept()
            return []
        received: list[Packet] = []
        self._take_frames(received, limit)
        if len(received) < limit and self._sock is not None:
            try:
                count = self._sock.recv_into(self._view[self._end :])
            except BlockingIOError:
                count = -1
            except OSError as error:
                self._hung_up(os.strerror(error.errno or 0))
                count = -1
            if count == 0:
                self._hung_up("the peer hung up")
            elif count > 0:
                self._end += count
                self._take_frames(received, limit)
        # frames that were read already raise no readiness: come back for them at once
        self.deadline = now if len(received) == limit and self._whole_frame() else None
        return received

    def _whole_frame(self) -> bool:
        have = self._end - self._start
        return have >= 4 and have >= 4 + int.from_bytes(self._view[self._start : self._start + 4], "big")

    def _take_frames(self, received: list[Packet], limit: int) -> None:
        buffer, counters = self._buffer, self.counters
        start, end = self._start, self._end
        while len(received) < limit and end - start >= _LENGTH_BYTES:
            size = int.from_bytes(buffer[start : start + 4], "big")
            if size > FRAME_BYTES:
                counters.rx_errors += 1
                self._hung_up(f"the peer announced a frame of {size} bytes")
                return
            if end - start < 4 + size:
                break
            frame = buffer[start + 4 : start + 4 + size]
            start += 4 + size
            if size < MIN_FRAME_BYTES:
                counters.rx_errors += 1
                continue
            counters.rx_packets += 1
            counters.rx_bytes += size
            received.append(Packet(frame, size))
        if start and end - start < FRAME_BYTES:
            self._view[: end - start] = bytes(self._view[start:end])
            start, end = 0, end - start
        self._start, self._end = start, end

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """See Link."""
        counters = self.counters
        if self._sock is None:
            counters.tx_dropped += len(packets)
            return
        out = self._out
        for packet in prepare(packets, self.offload):
            frame, body = frame_of(packet), packet.body
            size = len(frame) + (len(body) if body is not None else 0)
            if self._out_bytes + size > MAX_OUT_BYTES:
                counters.tx_dropped += 1
                continue
            out.append(size.to_bytes(4, "big"))
            out.append(frame)
            if body is not None:
                out.append(body)
            self._out_bytes += 4 + size
            counters.tx_packets += 1
            counters.tx_bytes += size
        self.writable(now)

    def writable(self, now: int) -> None:
        """See Link."""
        out, sock = self._out, self._sock
        while out and sock is not None:
            try:
                sent = sock.sendmsg(out[:256], (), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                self._hung_up(os.strerror(error.errno or 0))
                return
            self._out_bytes -= sent
            done = 0
            for piece in out:
                if sent < len(piece):
                    break
                sent -= len(piece)
                done += 1
            del out[:done]
            if sent:
                out[0] = memoryview(out[0])[sent:]


class MessageLink(_SocketLink):
    """See the module docstring."""

    __slots__ = ("_reads", "_vnet")

    def __init__(self, name: str, sock: socket.socket, *, listening: bool, mac: bytes, mtu: int, vnet: bool) -> None:
        super().__init__(name, sock, listening=listening, mac=mac, mtu=mtu, offload=ALL_OFFLOADS if vnet else 0)
        self._vnet = vnet
        self._reads = [bytearray(VNET_BYTES if vnet else 0), bytearray(FRAME_BYTES)]

    def receive(self, limit: int, now: int) -> list[Packet]:
        """See Link."""
        if self._sock is None:
            self._accept()
            return []
        received: list[Packet] = []
        reads, counters, receive = self._reads, self.counters, self._sock.recvmsg_into
        header = reads[0]
        for _ in range(limit):
            try:
                count, _, flags, _ = receive(reads)
            except BlockingIOError:
                break
            except OSError as error:
                self._hung_up(os.strerror(error.errno or 0))
                break
            if count == 0 and self._sock.type == socket.SOCK_SEQPACKET:
                self._hung_up("the peer hung up")
                break
            count -= len(header)
            if count < MIN_FRAME_BYTES or flags & socket.MSG_TRUNC:
                counters.rx_errors += 1
                continue
            buffer = reads[1]
            if count <= COPY_BYTES:
                packet = Packet(buffer[:count], count)
            else:
                packet = Packet(buffer, count)
                reads[1] = bytearray(FRAME_BYTES)
            if header and header != NO_VNET:
                apply_vnet(packet, header)
            counters.rx_packets += 1
            counters.rx_bytes += count
            received.append(packet)
        return received

    def send(self, packets: Sequence[Packet], now: int) -> None:
        """See Link."""
        counters, sock = self.counters, self._sock
        if sock is None:
            counters.tx_dropped += len(packets)
            return
        if self.backlog:
            self.keep_for_later(packets)
            return
        packets = prepare(packets, self.offload)
        for index, packet in enumerate(packets):
            pieces: list[Frame] = [vnet_header(packet)] if self._vnet else []
            pieces.append(frame_of(packet))
            if packet.body is not None:
                pieces.append(packet.body)
            try:
                sent = sock.sendmsg(pieces, (), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self.keep_for_later(packets[index:])
                return
            except OSError as error:
                self.refused(error)
                if self.broken is not None:
                    self.broken = None
                    self._hung_up(os.strerror(error.errno or 0))
                    return
                continue
            counters.tx_packets += 1
            counters.tx_bytes += sent


_KINDS: Final = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET, "dgram": socket.SOCK_DGRAM}


def open_unix_socket(
    name: str, path: str, *, kind: str, listen: bool, mac: bytes, mtu: int, vnet: bool = False
) -> StreamLink | MessageLink:
    """The link `name` on the socket at `path`: `kind` is stream, seqpacket or dgram. OSError.

    `listen`: make the socket and wait for a peer (a stale one from an earlier run is replaced), else connect to it.
    """
    sock = socket.socket(socket.AF_UNIX, _KINDS[kind] | socket.SOCK_CLOEXEC)
    try:
        if listen:
            bind_afresh(sock, path)
            if kind != "dgram":
                sock.listen(1)
        else:
            sock.connect(path)
        return adopt_unix_socket(
            name, sock, kind=kind, listening=listen and kind != "dgram", mac=mac, mtu=mtu, vnet=vnet
        )
    except BaseException:
        sock.close()
        raise


def bind_afresh(sock: socket.socket, path: str) -> None:
    """Bind to `path`, in place of a socket there that nobody serves any more. OSError when somebody does."""
    try:
        sock.bind(path)
        return
    except OSError as error:
        if error.errno != 98:  # EADDRINUSE
            raise
    with socket.socket(socket.AF_UNIX, sock.type) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OSError(98, f"{path} is served by another process")
    sock.bind(path)


def adopt_unix_socket(
    name: str, sock: socket.socket, *, kind: str, listening: bool, mac: bytes, mtu: int, vnet: bool = False
) -> StreamLink | MessageLink:
    """The link on a connected (or listening) socket that was handed over."""
    if kind == "stream":
        return StreamLink(name, sock, listening=listening, mac=mac, mtu=mtu)
    return MessageLink(name, sock, listening=listening, mac=mac, mtu=mtu, vnet=vnet)
