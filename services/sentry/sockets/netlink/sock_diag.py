"""NETLINK_SOCK_DIAG: the inet sockets there are, for ss(8) (sock_diag(7)).

Other families give ENOENT, as a kernel without their module does; ss then reads /proc/net.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import in_h
from protocol.abi import sock_diag_h as sd
from protocol.abi import socket_h as so
from protocol.abi import tcp_h as tcp
from protocol.abi.layout import U32
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.addresses import full6
from services.sentry.sockets.inet.tables import SocketRow, raw_rows, tcp_rows, udp_rows
from services.sentry.sockets.inet.tcp import TcpSocket
from services.sentry.sockets.inet.tcp_options import get_tcp_option
from services.sentry.sockets.netlink.messages import Reply, Request, attributes_untrusted, packed

if TYPE_CHECKING:
    from services.sentry.sockets.inet.network import InetNetwork

__all__ = ["answer"]


def answer(network: InetNetwork, request: Request) -> Iterator[Reply]:
    """The sockets of the family and protocol asked for, in the states asked for. EINVAL, ENOENT, EOPNOTSUPP."""
    kind, body = request.kind, request.body
    if kind == sd.TCPDIAG_GETSOCK:  # of before Linux 3.3: TCP's of both families, whichever was asked for
        if len(body) < sd.INET_DIAG_REQ.size:
            raise LinuxError(errno.EINVAL)
        _, _, _, extensions, _, states, _ = sd.INET_DIAG_REQ.unpack_from(body)
        return _dump(network, kind, (so.AF_INET, so.AF_INET6), in_h.IPPROTO_TCP, states, extensions)
    if kind != sd.SOCK_DIAG_BY_FAMILY:
        raise LinuxError(errno.EOPNOTSUPP if kind == sd.SOCK_DESTROY else errno.EINVAL)
    if len(body) < 2:
        raise LinuxError(errno.EINVAL)
    if body[0] not in (so.AF_INET, so.AF_INET6):
        raise LinuxError(errno.ENOENT)
    if len(body) < sd.INET_DIAG_REQ_V2.size:
        raise LinuxError(errno.EINVAL)
    family, protocol, extensions, states, _ = sd.INET_DIAG_REQ_V2.unpack_from(body)
    wide = attributes_untrusted(body[sd.INET_DIAG_REQ_V2.size :]).get(sd.INET_DIAG_REQ_PROTOCOL, b"")
    if len(wide) == U32.size:
        (protocol,) = U32.unpack(wide)
    return _dump(network, kind, (family,), protocol, states, extensions)


def _dump(
    network: InetNetwork, kind: int, families: tuple[int, ...], protocol: int, states: int, extensions: int
) -> Iterator[Reply]:
    """Messages of type `kind`. ENOENT: nobody knows the protocol, which turns out once the dump has begun."""
    table = _TABLES.get(protocol)
    if table is None:
        raise LinuxError(errno.ENOENT)
    for family in families:
        for row in table(network, family):
            if states >> row.state & 1:
                yield _reply(kind, family, row, extensions)


_TABLES: Final[dict[int, Callable[[InetNetwork, int], Iterator[SocketRow]]]] = {
    in_h.IPPROTO_TCP: tcp_rows,
    in_h.IPPROTO_UDP: udp_rows,
    in_h.IPPROTO_RAW: raw_rows,
}


def _wide(family: int, address: bytes) -> bytes:
    return address.ljust(16, b"\0") if family == so.AF_INET else full6(address)


def _wants(extensions: int, kind: int) -> bool:
    return bool(extensions >> (kind - 1) & 1)


def _reply(kind: int, family: int, row: SocketRow, extensions: int) -> Reply:
    ends = sd.INET_DIAG_SOCKID.pack(
        row.local_port.to_bytes(2, "big"),
        row.remote_port.to_bytes(2, "big"),
        _wide(family, row.local),
        _wide(family, row.remote),
        0,
        struct.pack("<Q", row.inode),
    )
    timer = 3 if row.state == tcp.TCP_TIME_WAIT else 0
    head = sd.INET_DIAG_MSG.pack(
        family, row.state, timer, 0, ends, row.expires_ms, row.unread, row.unsent, row.uid, row.inode
    )
    attributes: list[tuple[int, bytes]] = []
    socket = row.socket
    if socket is not None:
        attributes.append((sd.INET_DIAG_SHUTDOWN, bytes((socket.shut,))))
        if family == so.AF_INET6:
            attributes.append((sd.INET_DIAG_SKV6ONLY, bytes((socket.v6_only,))))
        if _wants(extensions, sd.INET_DIAG_SKMEMINFO):
            memory = (0, socket.receive_buffer, 0, socket.send_buffer, 0, 0, 0, 0, 0)
            attributes.append((sd.INET_DIAG_SKMEMINFO, struct.pack("<9I", *memory)))
        if _wants(extensions, sd.INET_DIAG_MEMINFO):
            attributes.append((sd.INET_DIAG_MEMINFO, sd.INET_DIAG_MEMINFO_STRUCT.pack(0, 0, 0, 0)))
        if isinstance(socket, TcpSocket):
            if _wants(extensions, sd.INET_DIAG_INFO):
                attributes.append((sd.INET_DIAG_INFO, get_tcp_option(socket, tcp.TCP_INFO)))
            if _wants(extensions, sd.INET_DIAG_CONG):
                name = get_tcp_option(socket, tcp.TCP_CONGESTION).rstrip(b"\0") + b"\0"
                attributes.append((sd.INET_DIAG_CONG, name))
    return Reply(kind, head + packed(attributes))
