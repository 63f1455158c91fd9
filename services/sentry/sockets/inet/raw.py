"""SOCK_RAW sockets of AF_INET and AF_INET6, and ICMP sockets (SOCK_DGRAM, IPPROTO_ICMP): ip(7), raw(7), icmp(7).

Both are datagram sockets like UDP's, beyond this host with all that a network stack does. On the loopback, which has no
packets, they see what ping(8) needs: an echo request to an address of this host is answered, and a raw socket gets what
raw sockets of its protocol send. A network provider must be there, for they are made only then (family.py).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import in_h
from protocol.abi import socket_h as so
from protocol.abi.layout import I32
from services.sentry.errors import LinuxError
from services.sentry.sockets.base import SEND_SHUT
from services.sentry.sockets.inet.addresses import Endpoint, is_any
from services.sentry.sockets.inet.loopback import LOOPBACK_INDEX
from services.sentry.sockets.inet.udp import Datagram, UdpSocket

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.sockets.base import Outgoing
    from services.sentry.sockets.inet.network import InetNetwork
    from services.sentry.sockets.inet.provider import Route
    from services.sentry.sockets.inet.udp import Header

__all__ = ["PingSocket", "RawSocket"]

_ECHO: Final = {4: (8, 0), 16: (128, 129)}  # request and reply, of ICMP and ICMPv6
_HEADER_BYTES: Final = 8  # of an echo request
_ICMP: Final = {so.AF_INET: in_h.IPPROTO_ICMP, so.AF_INET6: in_h.IPPROTO_ICMPV6}
_MAX_PAYLOAD: Final = 65_535
_IP_HEADER_BYTES: Final = 20
_HDRINCL: Final = (in_h.IPPROTO_IP, in_h.IP_HDRINCL)
_ICMP_FILTER: Final = 1  # SOL_RAW (linux/icmp.h)
_ICMP6_FILTER: Final = 1  # IPPROTO_ICMPV6 (linux/icmpv6.h)
_ICMP6_FILTER_BYTES: Final = 32
_IPV6_CHECKSUM: Final = 7


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`, whose own checksum field is zero."""
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(source: bytes, destination: bytes, length: int) -> bytes:
    """What ICMPv6 sums beside its message (RFC 8200, section 8.1)."""
    return source + destination + length.to_bytes(4, "big") + bytes(3) + bytes((in_h.IPPROTO_ICMPV6,))


def echo_reply(message: bytes, source: bytes, destination: bytes) -> bytes:
    """The answer of `destination` to an echo request; b"": `message` is none."""
    request, reply = _ECHO[len(destination)]
    if len(message) < _HEADER_BYTES or message[0] != request or message[1]:
        return b""
    made = bytes((reply, 0, 0, 0)) + message[4:]
    over = pseudo_header(destination, source, len(made)) if len(destination) == 16 else b""
    return made[:2] + checksum(over + made).to_bytes(2, "big") + made[4:]


class PingSocket(UdpSocket):
    """Echo requests and their replies; the identifier is the socket's "port" (net/ipv4/ping.c)."""

    __slots__ = ()

    def __init__(self, kernel: Kernel, cred: Credentials, network: InetNetwork, domain: int, flags: int) -> None:
        super().__init__(
            kernel, cred, network, domain, flags, ports=network.ping, kind=so.SOCK_DGRAM, protocol=_ICMP[domain]
        )

    @property
    def protocol_name(self) -> str:
        return "PING" if self.domain == so.AF_INET else "PINGv6"

    first_unprivileged = 0
    needs_port = False

    def filter_head(self, datagram: Datagram) -> bytes:
        return b""

    def check_payload(self, data: bytes, address: bytes) -> None:
        """EINVAL: not an echo request (ping_supported)."""
        if len(data) < _HEADER_BYTES or data[0] != _ECHO[len(address)][0] or data[1]:
            raise LinuxError(errno.EINVAL)

    def _emit(self, data: bytes, wanted: Endpoint, way: Route, header: Header) -> None:
        self.check_payload(data, wanted.address)
        if way.interface.ifindex != LOOPBACK_INDEX:
            super()._emit(data, wanted, way, header)
            return
        request = data[:4] + self.local_port.to_bytes(2, "big") + data[6:]
        reply = echo_reply(request, way.source, wanted.address)
        self.deliver(Datagram(reply, Endpoint(wanted.address, 0), Endpoint(way.source, 0), 64, 0, LOOPBACK_INDEX))


class RawSocket(UdpSocket):
    """IP packets of one protocol. There are no ports: `local_port` is the protocol, as getsockname(2) shows it."""

    __slots__ = ("filter",)

    first_unprivileged = 0
    needs_port = False

    def __init__(
        self, kernel: Kernel, cred: Credentials, network: InetNetwork, domain: int, flags: int, protocol: int
    ) -> None:
        super().__init__(kernel, cred, network, domain, flags, ports=network.ping, kind=so.SOCK_RAW, protocol=protocol)
        self.local_port = protocol
        self.owns_port = True  # there is none to own: nothing is to be chosen or given back
        self.filter = b""
        if protocol == in_h.IPPROTO_RAW and domain == so.AF_INET:
            self.settings[_HDRINCL] = 1
        network.raw[self] = None
        self._tell()

    @property
    def protocol_name(self) -> str:
        return "RAW" if self.domain == so.AF_INET else "RAWv6"

    def give_up_port(self) -> None:
        self.network.raw.pop(self, None)

    def filter_head(self, datagram: Datagram) -> bytes:
        return b""

    def claim_of(self, address: bytes) -> bytes:
        return address

    def bind(self, task: Task, address: bytes) -> None:
        """bind(2): the address alone counts; it may be done again. EADDRNOTAVAIL, EINVAL, EAFNOSUPPORT."""
        wanted = self.parse(address)
        self._check_bindable(wanted)
        self.local = self.claim = wanted.address
        self.scope = wanted.scope
        self.user_address = not is_any(wanted.address)
        if self.far is not None:
            self.far.close()
        self._tell()

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        if count > _MAX_PAYLOAD:
            raise LinuxError(errno.EMSGSIZE)
        return super().write_user(mm, addr, count)

    def send(self, data: bytes, message: Outgoing) -> int:
        """One packet. As UDP's; with IP_HDRINCL the header is the sender's. EINVAL: it is too short."""
        if self.settings.get(_HDRINCL) and len(data) < _IP_HEADER_BYTES:
            raise LinuxError(errno.EINVAL)
        if self.shut & SEND_SHUT:
            raise LinuxError(errno.EPIPE)
        return super().send(data, message)

    def _emit(self, data: bytes, wanted: Endpoint, way: Route, header: Header) -> None:
        if way.interface.ifindex != LOOPBACK_INDEX:
            super()._emit(data, wanted, way, header)
            return
        source, address = way.source, wanted.address
        if self.settings.get(_HDRINCL) and self.domain == so.AF_INET:
            start = (data[0] & 15) * 4
            protocol, payload = data[9], data[start:]
        else:
            protocol, payload = self.protocol, data
            if protocol == in_h.IPPROTO_ICMPV6:
                whole = payload[:2] + bytes(2) + payload[4:]
                summed = checksum(pseudo_header(source, address, len(whole)) + whole)
                payload = whole[:2] + summed.to_bytes(2, "big") + whole[4:]
        self._loop(payload, protocol, source, address)
        if protocol == _ICMP[self.domain]:
            reply = echo_reply(payload, source, address)
            if reply:
                self._loop(reply, protocol, address, source)

    def _loop(self, payload: bytes, protocol: int, source: bytes, destination: bytes) -> None:
        """A packet on the loopback: every raw socket of the protocol gets it."""
        for socket in list(self.network.raw):
            if (
                socket.protocol == protocol
                and socket.domain == self.domain
                and socket.takes(payload, source, destination)
            ):
                head = ip_header(payload, protocol, source, destination) if len(source) == 4 else b""
                own = Endpoint(destination, 0)
                socket.deliver(Datagram(head + payload, Endpoint(source, 0), own, 64, 0, LOOPBACK_INDEX))

    def takes(self, payload: bytes, source: bytes, destination: bytes) -> bool:
        """Whether a packet is for this socket: its addresses, and the type of an ICMP message."""
        if any(self.local) and self.local != destination or self.connected and self.remote != source:
            return False
        if not self.filter or not payload:
            return True
        kind = payload[0]
        return kind // 8 >= len(self.filter) or not self.filter[kind // 8] >> (kind % 8) & 1

    # --- options ---
    def get_option(self, task: Task, level: int, name: int) -> bytes:
        if (level, name) == (so.SOL_RAW, _ICMP_FILTER) and self.protocol == in_h.IPPROTO_ICMP:
            return self.filter.ljust(4, b"\0")
        if (level, name) == (in_h.IPPROTO_ICMPV6, _ICMP6_FILTER) and self.protocol == in_h.IPPROTO_ICMPV6:
            return self.filter.ljust(_ICMP6_FILTER_BYTES, b"\0")
        if (level, name) == _HDRINCL:
            return I32.pack(self.settings.get(_HDRINCL, 0))
        if level == so.SOL_RAW and self.domain == so.AF_INET:
            raise LinuxError(errno.ENOPROTOOPT)
        if name == _IPV6_CHECKSUM and level in (so.SOL_RAW, in_h.IPPROTO_IPV6):
            return I32.pack(self.settings.get((in_h.IPPROTO_IPV6, name), 2 if self.protocol == 58 else -1))
        return super().get_option(task, level, name)

    def set_option(self, task: Task, level: int, name: int, value: bytes) -> None:
        """Beside the rest: IP_HDRINCL, ICMP_FILTER, ICMP6_FILTER, IPV6_CHECKSUM. EINVAL; EOPNOTSUPP, ENOPROTOOPT."""
        if (level, name) == _HDRINCL and self.domain == so.AF_INET:
            if not value:
                raise LinuxError(errno.EINVAL)
            self.settings[_HDRINCL] = int(any(value[:4]))
        elif level == so.SOL_RAW and name == _ICMP_FILTER and self.domain == so.AF_INET:
            if self.protocol != in_h.IPPROTO_ICMP:
                raise LinuxError(errno.EOPNOTSUPP)
            self.filter = value[:4]
            self._forward(level, name, value[:4].ljust(4, b"\0"))
        elif level == in_h.IPPROTO_ICMPV6 and name == _ICMP6_FILTER and self.protocol == in_h.IPPROTO_ICMPV6:
            self.filter = value[:_ICMP6_FILTER_BYTES]
            self._forward(level, name, self.filter.ljust(_ICMP6_FILTER_BYTES, b"\0"))
        elif name == _IPV6_CHECKSUM and level in (so.SOL_RAW, in_h.IPPROTO_IPV6) and self.domain == so.AF_INET6:
            if len(value) < 4:
                raise LinuxError(errno.EINVAL)
            number = int(I32.unpack_from(value)[0])
            if number > 0 and number & 1 or self.protocol == in_h.IPPROTO_ICMPV6 and number != 2:
                raise LinuxError(errno.EINVAL)
            self.settings[(in_h.IPPROTO_IPV6, name)] = max(number, -1)
        elif level == so.SOL_RAW:
            raise LinuxError(errno.ENOPROTOOPT)
        else:
            super().set_option(task, level, name, value)

    def _forward(self, level: int, name: int, value: bytes) -> None:
        if self.far is not None:
            self.far.raw_option(level, name, value)


def ip_header(payload: bytes, protocol: int, source: bytes, destination: bytes) -> bytes:
    """The IPv4 header that a raw socket gets in front (RFC 791)."""
    length = (_IP_HEADER_BYTES + len(payload)) & 0xFFFF
    head = (
        bytes((0x45, 0)) + length.to_bytes(2, "big") + bytes((0, 0, 0x40, 0, 64, protocol, 0, 0)) + source + destination
    )
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
