"""The inet sockets there are, as rows for those who list them: /proc/net/tcp and the like, and netlink's sock_diag."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from protocol.abi import tcp_h as tcp
from services.sentry.sockets.inet.network import TimeWait
from services.sentry.sockets.inet.tcp import TcpSocket
from services.sentry.sockets.inet.udp import UdpSocket

if TYPE_CHECKING:
    from services.sentry.sockets.inet.network import InetNetwork

__all__ = ["SocketRow", "counts", "ping_rows", "raw_rows", "tcp_rows", "udp_rows"]


class SocketRow(NamedTuple):
    """One socket, or what TIME_WAIT left of one (socket None). `inode` 0: nobody has accepted it yet."""

    socket: TcpSocket | UdpSocket | None
    state: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    uid: int
    inode: int
    unread: int = 0
    unsent: int = 0
    expires_ms: int = 0


def tcp_rows(network: InetNetwork, domain: int) -> Iterator[SocketRow]:
    """Listening sockets, then connections, as /proc/net/tcp has them: what is only bound does not show.

    Those that there are now: asking netstackd about one may bring word of others, that they ended for example.
    """
    now = network.kernel.clock.monotonic_ns()
    network.forget_expired(now)
    connections = list(network.connections.items())
    for listeners in list(network.listeners.values()):
        for socket in list(listeners):
            if socket.domain == domain:
                yield SocketRow(
                    socket, socket.state, socket.local, socket.local_port, socket.remote, 0, socket.uid,
                    socket.inode.ino, len(socket.pending), socket.backlog,
                )  # fmt: skip
    for ends, held in connections:
        if isinstance(held, TimeWait):
            if held.domain == domain:
                left_ms = max(held.expires_ns - now, 0) // 1_000_000
                yield SocketRow(None, held.state, *ends, 0, 0, expires_ms=left_ms)
        elif held.domain == domain:
            inode = 0 if held.listener is not None else held.inode.ino
            waiting = 0 if held.state == tcp.TCP_SYN_SENT else held.arrived_bytes()
            yield SocketRow(held, held.state, *ends, held.uid, inode, waiting, held.unsent_bytes())


def udp_rows(network: InetNetwork, domain: int) -> Iterator[SocketRow]:
    """Every socket with a port."""
    for owners in network.udp.owners.values():
        for socket in owners:
            if isinstance(socket, UdpSocket) and socket.domain == domain:
                yield _datagram_row(socket)


def raw_rows(network: InetNetwork, domain: int) -> Iterator[SocketRow]:
    """Every raw socket; the port is the protocol."""
    yield from (_datagram_row(socket) for socket in network.raw if socket.domain == domain)


def ping_rows(network: InetNetwork, domain: int) -> Iterator[SocketRow]:
    """Every ICMP socket with an identifier, which is the port."""
    for owners in network.ping.owners.values():
        for socket in owners:
            if isinstance(socket, UdpSocket) and socket.domain == domain:
                yield _datagram_row(socket)


def _datagram_row(socket: UdpSocket) -> SocketRow:
    state = tcp.TCP_ESTABLISHED if socket.connected else tcp.TCP_CLOSE
    return SocketRow(
        socket, state, socket.local, socket.local_port, socket.remote, socket.remote_port, socket.uid,
        socket.inode.ino, socket.inbox_bytes,
    )  # fmt: skip


def counts(network: InetNetwork, domain: int) -> dict[str, int]:
    """How many sockets of a family are in use, by protocol, and how many TIME_WAITs there are (sockstat)."""
    rows = list(tcp_rows(network, domain))
    return {
        "TCP": sum(row.socket is not None for row in rows),
        "UDP": sum(1 for _ in udp_rows(network, domain)),
        "RAW": sum(1 for _ in raw_rows(network, domain)),
        "tw": sum(row.state == tcp.TCP_TIME_WAIT for row in rows),
        "orphan": sum(row.state == tcp.TCP_FIN_WAIT2 and row.socket is None for row in rows),
        "established": sum(row.state in (tcp.TCP_ESTABLISHED, tcp.TCP_CLOSE_WAIT) for row in rows),
    }
