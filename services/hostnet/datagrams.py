"""UDP and ping sockets of the host for the sandbox: pumped between the host socket and a data socket with the header of
protocol/netstack/datagrams.py.

One message at a time each way, and never more than one held: what finds no room stays where it is, in the host socket's
buffer or in the data socket's.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from protocol.abi import in_h
from protocol.errors import ProtocolViolation
from protocol.netstack import datagrams as dg
from protocol.rpc.codec import Fd
from services.hostnet.addresses import MAPPED, WireAddress, packed, to_host, to_wire
from services.hostnet.errors import Refused

if TYPE_CHECKING:
    from services.hostnet.broker import Broker

_IP, _IPV6 = in_h.IPPROTO_IP, in_h.IPPROTO_IPV6
_INT: Final = Struct("=i")
_PKTINFO4: Final = Struct("=i4s4s")  # struct in_pktinfo
_PKTINFO6: Final = Struct("=16si")  # struct in6_pktinfo
_ANCILLARY_BYTES: Final = 512
_BURST: Final = 64
_ORIGINS_WITH_ADDRESS: Final = (2, 3)  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6


class Datagrams:
    """One socket. data: the broker's end of the data socket; the Sentry's is given by `take_client_end`."""

    def __init__(self, broker: Broker, number: int, sock: socket.socket, family: int) -> None:
        self.number = number
        self.sock = sock
        self.family = family
        self._broker = broker
        self.data, self._client_end = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        self._inward: bytes | None = None  # waits for room in the data socket
        self._outward: bytes | None = None  # waits for room in the host socket
        for level, name in _WANTED[family]:
            try:
                sock.setsockopt(level, name, 1)
            except OSError:
                pass  # an IPv6 ping socket knows nothing of IPv4
        self._watch()

    def take_client_end(self) -> Fd:
        """The Sentry's end, to be sent with the answer; `sent` closes it here."""
        return Fd(self._client_end.fileno())

    def sent(self) -> None:
        """The answer with the Sentry's end is on its way."""
        self._client_end.close()

    def bind(self, address: WireAddress) -> WireAddress:
        """bind(2)."""
        self.sock.bind(to_host(self.family, address))
        return to_wire(self.sock.getsockname())

    def connect(self, address: WireAddress | None) -> WireAddress:
        """connect(2); None dissolves the association."""
        if address is None:
            try:
                self.sock.connect(("0.0.0.0", 0) if self.family == socket.AF_INET else ("::", 0))
            except OSError:
                pass
        else:
            self.sock.connect(to_host(self.family, address))
        return to_wire(self.sock.getsockname())

    def shutdown(self, how: int) -> None:
        """shutdown(2)."""
        self.sock.shutdown(how)

    def close(self, reset: bool = False) -> None:
        """Both ends."""
        for sock in (self.sock, self.data):
            self._broker.loop.unwatch(sock.fileno())
            sock.close()

    # --- the pump ---
    def _watch(self) -> None:
        """Each socket is read while the other takes what comes, and waited for while it does not."""
        outer = (select.EPOLLIN if self._inward is None else 0) | (0 if self._outward is None else select.EPOLLOUT)
        inner = (select.EPOLLIN if self._outward is None else 0) | (0 if self._inward is None else select.EPOLLOUT)
        self._broker.loop.watch(self.sock.fileno(), outer, self._host_ready)
        self._broker.loop.watch(self.data.fileno(), inner, self._client_ready)

    def _host_ready(self, events: int) -> None:
        if events & select.EPOLLERR:
            self._errors()
        if events & select.EPOLLOUT and self._outward is not None:
            message, self._outward = self._outward, None
            self._send(message)
        for _ in range(_BURST):
            if self._inward is not None or not events & select.EPOLLIN or not self._receive():
                break
        self._watch()

    def _client_ready(self, events: int) -> None:
        if events & select.EPOLLOUT and self._inward is not None:
            message, self._inward = self._inward, None
            self._deliver(message)
        for _ in range(_BURST):
            if self._outward is not None or not events & (select.EPOLLIN | select.EPOLLHUP):
                break
            try:
                message = self.data.recv(dg.MAX_MESSAGE_BYTES)
            except OSError:
                break
            if not message:  # the Sentry closed its end; `close` follows
                self._broker.loop.unwatch(self.data.fileno())
                return
            self._send(message)
        self._watch()

    def _receive(self) -> bool:
        try:
            data, ancillary, flags, name = self.sock.recvmsg(65535, _ANCILLARY_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            self._failed(error)
            return False
        self._deliver(self._header(name, ancillary, flags & socket.MSG_TRUNC) + data)
        return True

    def _header(self, name: Sequence[Any], ancillary: Sequence[tuple[int, int, bytes]], truncated: int) -> bytes:
        address = packed(name[0])
        tos = ttl = interface = 0
        destination = b""
        for level, kind, payload in ancillary:
            match level, kind:
                case (in_h.IPPROTO_IP, in_h.IP_PKTINFO) if len(payload) >= _PKTINFO4.size:
                    interface, _, destination = _PKTINFO4.unpack_from(payload)
                case (in_h.IPPROTO_IPV6, in_h.IPV6_PKTINFO) if len(payload) >= _PKTINFO6.size:
                    destination, interface = _PKTINFO6.unpack_from(payload)
                    if destination[:12] == MAPPED:
                        destination = destination[12:]
                case (in_h.IPPROTO_IP, in_h.IP_TTL) | (in_h.IPPROTO_IPV6, in_h.IPV6_HOPLIMIT):
                    ttl = _INT.unpack_from(payload)[0] & 255
                case (in_h.IPPROTO_IP, in_h.IP_TOS):
                    tos = payload[0]
                case (in_h.IPPROTO_IPV6, in_h.IPV6_TCLASS):
                    tos = _INT.unpack_from(payload)[0] & 255
        scope = name[3] if len(name) > 3 else 0
        return dg.Datagram(
            b"",
            address,
            name[1],
            scope,
            flags=dg.TRUNCATED if truncated else 0,
            tos=tos,
            ttl=ttl,
            interface=interface,
            pktinfo=destination,
        ).header()

    def _deliver(self, message: bytes) -> None:
        try:
            self.data.send(message)
        except BlockingIOError:
            self._inward = message
        except OSError:
            pass  # the Sentry closed its end

    def _send(self, message: bytes) -> None:
        try:
            came = dg.parse_untrusted(message)
            ancillary = self._ancillary(came)
            if came.version == 0:
                self.sock.sendmsg([came.payload], ancillary, socket.MSG_DONTWAIT)
            else:
                destination = to_host(self.family, (came.address, came.port, came.scope))
                self.sock.sendmsg([came.payload], ancillary, socket.MSG_DONTWAIT, destination)
        except BlockingIOError:
            self._outward = message
        except ProtocolViolation as violation:
            self._broker.violated(violation)
        except Refused as refused:
            self._broker.notify("error", [self.number, refused.number])
        except OSError as error:
            self._failed(error)

    def _ancillary(self, came: dg.Datagram) -> list[tuple[int, int, bytes]]:
        """What sendmsg(2) is told beside the data: source and interface, time to live, traffic class."""
        v6 = self.family == socket.AF_INET6
        found: list[tuple[int, int, bytes]] = []
        if came.interface or came.pktinfo:
            if v6 and len(came.pktinfo) != 4 and not (came.version == 4):
                info = _PKTINFO6.pack(came.pktinfo or bytes(16), came.interface)
                found.append((_IPV6, in_h.IPV6_PKTINFO, info))
            else:
                info = _PKTINFO4.pack(came.interface, (came.pktinfo or bytes(4))[-4:], bytes(4))
                found.append((_IP, in_h.IP_PKTINFO, info))
        four = not v6 or came.version == 4 or came.address[:12] == MAPPED
        level = _IP if four else _IPV6
        if came.ttl:
            found.append((level, in_h.IP_TTL if four else in_h.IPV6_HOPLIMIT, _INT.pack(came.ttl)))
        if came.flags & dg.SET_TOS and came.tos:
            found.append((level, in_h.IP_TOS if four else in_h.IPV6_TCLASS, _INT.pack(came.tos)))
        return found

    def _failed(self, error: OSError) -> None:
        self._broker.notify("error", [self.number, error.errno or errno.EIO])

    def _errors(self) -> None:
        """The error queue (recverr of ip(7)), entry by entry, and SO_ERROR."""
        for _ in range(_BURST):
            try:
                data, ancillary, _, name = self.sock.recvmsg(
                    65535, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
                )
            except OSError:
                break
            for level, kind, payload in ancillary:
                if (level, kind) in ((_IP, in_h.IP_RECVERR), (_IPV6, in_h.IPV6_RECVERR)):
                    self._queue_error(data, name, payload)
        pending = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if pending:
            self._broker.notify("error", [self.number, pending])

    def _queue_error(self, data: bytes, name: Sequence[Any], payload: bytes) -> None:
        extended, sockaddr = payload[: dg.EXTENDED_ERROR.size], payload[dg.EXTENDED_ERROR.size :]
        if len(extended) < dg.EXTENDED_ERROR.size:
            return
        offender = b""
        if extended[4] in _ORIGINS_WITH_ADDRESS:  # sockaddr_in: address at 4; sockaddr_in6: at 8
            offender = sockaddr[4:8] if sockaddr[:2] == b"\x02\0" else sockaddr[8:24]
        where = (packed(name[0]), name[1]) if name else (b"", 0)
        header = dg.Datagram(b"", *where, flags=dg.ERROR_QUEUE).header()
        self._deliver(header + extended + offender.ljust(16, b"\0") + data)


_WANTED: Final[dict[int, tuple[tuple[int, int], ...]]] = {
    socket.AF_INET: ((_IP, in_h.IP_PKTINFO), (_IP, in_h.IP_RECVTTL), (_IP, in_h.IP_RECVTOS)),
    socket.AF_INET6: (
        (_IPV6, in_h.IPV6_RECVPKTINFO),
        (_IPV6, in_h.IPV6_RECVHOPLIMIT),
        (_IPV6, in_h.IPV6_RECVTCLASS),
        (_IP, in_h.IP_RECVTTL),
        (_IP, in_h.IP_RECVTOS),
    ),
}
