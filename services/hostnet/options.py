"""Which options of a host socket a sandbox may set and read, and struct tcp_info as the socket service shows it.

What is not in the table is ENOPROTOOPT: among them all that reaches beyond the socket's own packets (SO_MARK, filters,
transparent proxies, IP options) and what descriptors stand behind.
"""

from __future__ import annotations

import errno
import socket
from struct import Struct
from typing import Final

from protocol.abi import in_h
from protocol.abi import socket_h as so
from protocol.abi import tcp_h as tcp
from services.hostnet.errors import Refused

_SOCKET: Final = so.SOL_SOCKET
_IP, _IPV6, _TCP = in_h.IPPROTO_IP, in_h.IPPROTO_IPV6, in_h.IPPROTO_TCP
_GET_BYTES: Final = 512

#: (level, name) that may be set and read.
ALLOWED: Final = frozenset(
    {
        (_SOCKET, name)
        for name in (
            so.SO_REUSEADDR, so.SO_REUSEPORT, so.SO_BROADCAST, so.SO_KEEPALIVE, so.SO_LINGER, so.SO_PRIORITY,
            so.SO_DONTROUTE, so.SO_NO_CHECK, so.SO_SNDBUF, so.SO_RCVBUF, so.SO_BINDTODEVICE, so.SO_OOBINLINE,
            so.SO_RCVLOWAT, so.SO_MAX_PACING_RATE,
        )
    }
    | {
        (_IP, name)
        for name in (
            in_h.IP_TOS, in_h.IP_TTL, in_h.IP_MTU_DISCOVER, in_h.IP_MTU, in_h.IP_RECVERR, in_h.IP_FREEBIND,
            in_h.IP_MINTTL, in_h.IP_MULTICAST_IF, in_h.IP_MULTICAST_TTL, in_h.IP_MULTICAST_LOOP, in_h.IP_MULTICAST_ALL,
            in_h.IP_ADD_MEMBERSHIP, in_h.IP_DROP_MEMBERSHIP, in_h.IP_ADD_SOURCE_MEMBERSHIP,
            in_h.IP_DROP_SOURCE_MEMBERSHIP, in_h.IP_BLOCK_SOURCE, in_h.IP_UNBLOCK_SOURCE, in_h.IP_UNICAST_IF,
        )
    }
    | {
        (_IPV6, name)
        for name in (
            in_h.IPV6_V6ONLY, in_h.IPV6_UNICAST_HOPS, in_h.IPV6_MULTICAST_HOPS, in_h.IPV6_MULTICAST_IF,
            in_h.IPV6_MULTICAST_LOOP, in_h.IPV6_ADD_MEMBERSHIP, in_h.IPV6_DROP_MEMBERSHIP, in_h.IPV6_TCLASS,
            in_h.IPV6_MTU_DISCOVER, in_h.IPV6_MTU, in_h.IPV6_RECVERR, in_h.IPV6_DONTFRAG, in_h.IPV6_FREEBIND,
            in_h.IPV6_UNICAST_IF, in_h.IPV6_AUTOFLOWLABEL,
        )
    }
    | {
        (_TCP, name)
        for name in (
            tcp.TCP_NODELAY, tcp.TCP_MAXSEG, tcp.TCP_CORK, tcp.TCP_KEEPIDLE, tcp.TCP_KEEPINTVL, tcp.TCP_KEEPCNT,
            tcp.TCP_SYNCNT, tcp.TCP_LINGER2, tcp.TCP_DEFER_ACCEPT, tcp.TCP_WINDOW_CLAMP, tcp.TCP_QUICKACK,
            tcp.TCP_CONGESTION, tcp.TCP_USER_TIMEOUT, tcp.TCP_NOTSENT_LOWAT, tcp.TCP_INFO,
        )
    }
)  # fmt: skip

#: Options whose value is text, and the one that is a structure.
_TEXTS: Final = frozenset({(_TCP, tcp.TCP_CONGESTION), (_SOCKET, so.SO_BINDTODEVICE)})

#: struct tcp_info (linux/tcp.h): its fields in order, without their prefix. Two bit fields are bytes here.
_INFO: Final = Struct("<8B24I4Q6I4Q2I2Q6I")
_INFO_FIELDS: Final = (
    "state ca_state retransmits probes backoff options wscale delivery_rate_app_limited "
    "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv "
    "last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space "
    "total_retrans pacing_rate max_pacing_rate bytes_acked bytes_received segs_out segs_in notsent_bytes min_rtt "
    "data_segs_in data_segs_out delivery_rate busy_time rwnd_limited sndbuf_limited delivered delivered_ce "
    "bytes_sent bytes_retrans dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash"
).split()


def _check(level: int, name: int) -> None:
    if (level, name) not in ALLOWED:
        raise Refused(errno.ENOPROTOOPT)


def set_option(sock: socket.socket, level: int, name: int, value: int | bytes) -> None:
    """setsockopt(2). Its errno; ENOPROTOOPT: not in the table."""
    _check(level, name)
    sock.setsockopt(level, name, value if isinstance(value, bytes) else _signed(value))


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def get_option(sock: socket.socket, level: int, name: int) -> int | bytes | str | dict[str, int]:
    """getsockopt(2) as the socket service answers: an int, text, bytes, or TCP_INFO's fields."""
    _check(level, name)
    data = sock.getsockopt(level, name, _GET_BYTES)
    if (level, name) == (_TCP, tcp.TCP_INFO):
        return _info(data)
    if (level, name) in _TEXTS:
        return data.partition(b"\0")[0].decode("ascii", "replace")
    return int.from_bytes(data, "little", signed=True) if len(data) == 4 else data


def _info(data: bytes) -> dict[str, int]:
    """An older host's structure is shorter: what it lacks is 0."""
    fields = dict(zip(_INFO_FIELDS, _INFO.unpack(data[: _INFO.size].ljust(_INFO.size, b"\0")), strict=True))
    scale = fields.pop("wscale")
    return fields | {"snd_wscale": scale & 15, "rcv_wscale": scale >> 4}
