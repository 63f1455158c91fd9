"""TcpForwarder: SYNs to addresses that are not ours, held until there is something to connect them to.

A held SYN is a few fields and the packet itself. It is answered

    complete        SYN-ACK: the host's connection stands. What comes back is a socket in SYN-RECEIVED
    refuse          RST: the other side refused
    unreachable     ICMP: there is no way there
    forget          nothing: the sender's next SYN asks again (or there was no answer, which is what a host sees)

Its repetitions are absorbed meanwhile. The number held is limited; beyond, SYNs are dropped, as a full backlog would.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.network.icmp import HOST_UNREACHABLE, NO_ROUTE, PROHIBITED
from services.netstackd.storage.packet import Packet
from services.netstackd.transport.base import AF_INET, AF_INET6
from services.netstackd.transport.tcp.listen import Listener
from services.netstackd.transport.tcp.segment import ACK, FIN, RST, SYN, Segment
from services.netstackd.transport.tcp.time_wait import TimeWait
from services.netstackd.transport.tcp_path import TcpPath, flow_bytes
from services.netstackd.transport.tcp_socket import TcpSocket
from services.netstackd.wire import icmpv4, icmpv6

if TYPE_CHECKING:
    from services.netstackd.slirp.host import HostSocket
    from services.netstackd.stack import Stack
    from services.netstackd.transport.demux import Key

_FULL: Final = COUNTER["DropSlirpTableFull"]

# What the host's errno becomes on the virtual network: (ICMP code, ICMPv6 code).
UNREACHABLE: Final = {
    errno.EHOSTUNREACH: HOST_UNREACHABLE,
    errno.EHOSTDOWN: HOST_UNREACHABLE,
    errno.ENETUNREACH: NO_ROUTE,
    errno.ENETDOWN: NO_ROUTE,
    errno.EADDRNOTAVAIL: NO_ROUTE,
    errno.EAFNOSUPPORT: NO_ROUTE,
    errno.EACCES: PROHIBITED,
    errno.EPERM: PROHIBITED,
    errno.ENOPROTOOPT: (icmpv4.PROTOCOL_UNREACHABLE, icmpv6.PORT_UNREACHABLE),
}
REFUSED: Final = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE)


class HeldSyn:
    """A connection that somebody asks for. `host`: what is connecting, when there is it already."""

    __slots__ = ("flow", "gone", "host", "iss", "key", "packet", "segment", "version")

    def __init__(self, packet: Packet, segment: Segment, key: Key, iss: int | None) -> None:
        self.version = packet.version
        self.packet = packet
        self.segment = segment
        self.key = key
        self.flow = flow_bytes(packet.version, packet.dst, packet.dport, packet.src, packet.sport)
        self.iss = iss
        self.host: HostSocket | None = None
        self.gone = False  # its sender gave up, or it was answered


class TcpForwarder:
    """See the module docstring. `on_syn(held)` is told of each new one; it is a callable for `Demux.forwarder`."""

    def __init__(self, stack: Stack, on_syn: Callable[[HeldSyn], bool], limit: int) -> None:
        self._stack = stack
        self._on_syn = on_syn
        self.limit = limit
        self.held: dict[tuple[int, Key], HeldSyn] = {}
        # Its half-open table and queue are never used: it knows how a SYN becomes an endpoint.
        self._listener = Listener(stack.tcp.context, None, 0)
        self._listener.options.oobinline = True  # the host's side has one stream, so has ours
        self._listener.options.nodelay = True  # the sender decided what goes together: nothing is gained by waiting

    def __call__(self, packet: Packet, segment: Segment, key: Key, reuse: TimeWait | None) -> bool:
        """A segment of no connection, to an address that we answer for: whether it was taken."""
        flags = segment.flags & (SYN | ACK | RST | FIN)
        held = self.held.get((packet.version, key))
        if held is not None:
            if flags & RST:
                self._answered(held)
                if held.host is not None:
                    held.host.close(reset=True)
            elif flags == SYN and segment.seq != held.segment.seq:
                held.segment = segment  # another attempt from the same port: it is the one that is answered
            return True
        if flags != SYN:
            return False
        if len(self.held) >= self.limit:
            self._stack.counters.values[_FULL] += 1
            return True
        held = HeldSyn(packet, segment, key, reuse.next_initial_sequence() if reuse is not None else None)
        self.held[held.version, key] = held
        if self._on_syn(held):
            return True
        del self.held[held.version, key]
        return False

    def _answered(self, held: HeldSyn) -> None:
        held.gone = True
        self.held.pop((held.version, held.key), None)

    def complete(self, held: HeldSyn) -> TcpSocket:
        """Answer with a SYN-ACK."""
        self._answered(held)
        stack, packet = self._stack, held.packet
        path = TcpPath(stack, held.version, packet.dst, packet.dport, packet.src, packet.sport)
        endpoint = self._listener.open_at_once(held.segment, held.flow, path, stack.now, held.iss)
        stack.tcp.enter(held.version, held.key, endpoint)
        return TcpSocket.of_endpoint(stack, AF_INET if held.version == 4 else AF_INET6, endpoint)

    def refuse(self, held: HeldSyn) -> None:
        """Answer with a reset."""
        self._answered(held)
        self._stack.tcp.send_reset(held.packet, held.segment)

    def unreachable(self, held: HeldSyn, number: int) -> None:
        """Answer as a router with that errno would; for one that says nothing of the way, not at all."""
        self._answered(held)
        send_unreachable(self._stack, held.packet, number)

    def forget(self, held: HeldSyn) -> None:
        """Do not answer."""
        self._answered(held)

    def close(self) -> None:
        """Forget all."""
        for held in list(self.held.values()):
            self._answered(held)
            if held.host is not None:
                held.host.close(reset=True)


def send_unreachable(stack: Stack, packet: Packet, number: int) -> None:
    """The ICMP error that an errno of the host means to the sender of `packet`; none when it means nothing there."""
    codes = UNREACHABLE.get(number)
    if codes is not None:
        stack.send_unreachable(packet, codes)
