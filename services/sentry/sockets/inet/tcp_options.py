"""getsockopt(2) and setsockopt(2) at level IPPROTO_TCP (tcp(7)).

Data goes from socket to socket, so most of these change nothing that can be seen; they are checked, remembered and
shown as Linux does. TCP_INFO tells the state and what a loopback connection without loss looks like.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final

from protocol.abi import in_h
from protocol.abi import tcp_h as tcp
from protocol.abi.layout import I32
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.ip_options import IntOption, get_int, set_int

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.sockets.inet.tcp import TcpSocket

__all__ = ["get_tcp_option", "set_tcp_option"]

_LEVEL: Final = in_h.IPPROTO_TCP
_MAX_INT: Final = (1 << 31) - 1
_MAX_KEEP: Final = 32_767
#: Half of the first window that the loopback offers (tcp_bound_to_half_wnd), and what an unconnected socket says.
_LOOPBACK_MSS: Final = 32_741
_DEFAULT_MSS: Final = 536
_MIN_CLAMP: Final = 1152
_MAX_LINGER: Final = 120
_DEFAULT_LINGER: Final = 60
_CONGESTION_BYTES: Final = 16
_CONGESTION_NAMES: Final = (b"cubic", b"reno")
#: The longest waits between a listener's answers, in seconds: what TCP_DEFER_ACCEPT is rounded up to.
_MAX_RTO: Final = 120
_MAX_ANSWERS: Final = 255

_FLAG: Final = IntOption()
_SWITCH: Final = IntOption(0, 0, 1)
_OPTIONS: Final[dict[int, IntOption]] = {
    tcp.TCP_NODELAY: _FLAG,
    tcp.TCP_CORK: _FLAG,
    tcp.TCP_KEEPIDLE: IntOption(7200, 1, _MAX_KEEP),
    tcp.TCP_KEEPINTVL: IntOption(75, 1, _MAX_KEEP),
    tcp.TCP_KEEPCNT: IntOption(9, 1, 127),
    tcp.TCP_SYNCNT: IntOption(6, 1, 127),
    tcp.TCP_QUICKACK: IntOption(1),
    tcp.TCP_THIN_LINEAR_TIMEOUTS: _SWITCH,
    tcp.TCP_USER_TIMEOUT: IntOption(0, 0, _MAX_INT),
    tcp.TCP_FASTOPEN: IntOption(0, 0, _MAX_INT),
    tcp.TCP_NOTSENT_LOWAT: IntOption(0, -(1 << 31), _MAX_INT),
    tcp.TCP_SAVE_SYN: IntOption(0, 0, 2),
    tcp.TCP_FASTOPEN_CONNECT: _SWITCH,
    tcp.TCP_FASTOPEN_NO_COOKIE: _SWITCH,
    tcp.TCP_INQ: _SWITCH,
    tcp.TCP_TX_DELAY: IntOption(0, 0, _MAX_INT),
}


def _congestion(socket: TcpSocket) -> bytes:
    number = socket.settings.get((_LEVEL, tcp.TCP_CONGESTION), 0)
    return _CONGESTION_NAMES[number].ljust(_CONGESTION_BYTES, b"\0")


def _segment_size(socket: TcpSocket) -> int:
    if socket.peer is not None:
        return _LOOPBACK_MSS
    if socket.far is not None and socket.far.alive and socket.state != tcp.TCP_LISTEN:
        found = socket.far.get_option(_LEVEL, tcp.TCP_MAXSEG)
        if isinstance(found, int):
            return found
    return socket.settings.get((_LEVEL, tcp.TCP_MAXSEG), 0) or _DEFAULT_MSS


def get_tcp_option(socket: TcpSocket, name: int) -> bytes:
    """ENOPROTOOPT: no such option; EINVAL: TCP_REPAIR's without repair."""
    row = _OPTIONS.get(name)
    if row is not None:
        return get_int(socket, (_LEVEL, name), row)
    if name == tcp.TCP_MAXSEG:
        return I32.pack(_segment_size(socket))
    if name == tcp.TCP_LINGER2:
        return I32.pack(socket.settings.get((_LEVEL, name), _DEFAULT_LINGER))
    if name in (tcp.TCP_DEFER_ACCEPT, tcp.TCP_WINDOW_CLAMP):
        return I32.pack(socket.settings.get((_LEVEL, name), 0))
    if name == tcp.TCP_CONGESTION:
        return _congestion(socket)
    if name == tcp.TCP_INFO:
        return _info(socket)
    if name == tcp.TCP_TIMESTAMP:
        return I32.pack(socket.kernel.uptime_ns() // 1_000_000 & _MAX_INT)
    if name in (tcp.TCP_ULP, tcp.TCP_FASTOPEN_KEY):
        return b""
    if name in (tcp.TCP_THIN_DUPACK, tcp.TCP_REPAIR):
        return I32.pack(0)
    if name in (tcp.TCP_QUEUE_SEQ, tcp.TCP_ZEROCOPY_RECEIVE):
        raise LinuxError(errno.EINVAL)
    raise LinuxError(errno.ENOPROTOOPT)


def set_tcp_option(task: Task, socket: TcpSocket, name: int, value: bytes) -> None:
    """EINVAL: too short or out of range; ENOPROTOOPT: no such option; ENOENT: no such congestion control; EPERM."""
    key = (_LEVEL, name)
    if name == tcp.TCP_CONGESTION:
        if not value:
            raise LinuxError(errno.EINVAL)
        wanted = value[: _CONGESTION_BYTES - 1].partition(b"\0")[0]
        if wanted not in _CONGESTION_NAMES:
            raise LinuxError(errno.ENOENT)
        socket.settings[key] = _CONGESTION_NAMES.index(wanted)
        return
    if name == tcp.TCP_ULP:
        raise LinuxError(errno.ENOENT if value else errno.EINVAL)
    if name == tcp.TCP_FASTOPEN_KEY or len(value) < 4:
        raise LinuxError(errno.EINVAL)
    number = int(I32.unpack_from(value)[0])
    row = _OPTIONS.get(name)
    if row is not None:
        set_int(task, socket, key, row, number)
    elif name == tcp.TCP_MAXSEG:
        if number and not 88 <= number <= 32_767:
            raise LinuxError(errno.EINVAL)
        socket.settings[key] = number
    elif name == tcp.TCP_LINGER2:
        socket.settings[key] = -1 if number < 0 else min(number or _DEFAULT_LINGER, _MAX_LINGER)
    elif name == tcp.TCP_DEFER_ACCEPT:
        socket.settings[key] = _rounded_seconds(number)
    elif name == tcp.TCP_WINDOW_CLAMP:
        if not number and socket.state != tcp.TCP_CLOSE:
            raise LinuxError(errno.EINVAL)
        socket.settings[key] = max(number, _MIN_CLAMP) if number else 0
    elif name == tcp.TCP_THIN_DUPACK:
        if not 0 <= number <= 1:
            raise LinuxError(errno.EINVAL)
    elif name in (tcp.TCP_TIMESTAMP, tcp.TCP_REPAIR):
        raise LinuxError(errno.EPERM)
    elif name in (tcp.TCP_MD5SIG, tcp.TCP_QUEUE_SEQ):
        raise LinuxError(errno.EINVAL)
    else:
        raise LinuxError(errno.ENOPROTOOPT)


def _rounded_seconds(wanted: int) -> int:
    """TCP_DEFER_ACCEPT as it reads back: the wait that so many answers take (secs_to_retrans, retrans_to_secs)."""
    if wanted <= 0:
        return 0
    total = step = answers = 1
    while total < wanted and answers < _MAX_ANSWERS:
        answers += 1
        step = min(step * 2, _MAX_RTO)
        total += step
    return total


#: struct tcp_info up to tcpi_rehash (linux/tcp.h): 8 bytes, 24 u32 to tcpi_total_retrans, then as its tail is declared.
_INFO: Final = struct.Struct("<8B24I4Q6I4Q2I2Q6I")
_OPTIONS_BYTE: Final = 1 | 2 | 4  # TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE
_WINDOW_SCALES: Final = 7 << 4 | 7
_RTO_US: Final = 201_000
_ATO_US: Final = 40_000
_RTT_US: Final = 25
_WINDOW: Final = 65_536


def _info(socket: TcpSocket) -> bytes:
    """struct tcp_info."""
    if socket.far is not None and socket.state != tcp.TCP_LISTEN:
        found: bytes | None = socket.far.tcp_info()
        if found is not None:
            return found
    connected = socket.peer is not None and socket.state not in (tcp.TCP_CLOSE, tcp.TCP_LISTEN)
    listening = socket.state == tcp.TCP_LISTEN
    mss = _segment_size(socket)
    head = (socket.state, 0, 0, 0, 0, _OPTIONS_BYTE if connected else 0, _WINDOW_SCALES if connected else 0, 0)
    if listening:
        words = [0] * 24
        words[4], words[5] = len(socket.pending), socket.backlog  # tcpi_unacked, tcpi_sacked
        return _INFO.pack(*head, *words, *[0] * 24)
    unsent = socket.unsent_bytes()
    words = [
        _RTO_US if connected else 1_000_000,
        _ATO_US if connected else 0,
        mss,
        mss if connected else 0,
        0, 0, 0, 0, 0,  # unacked, sacked, lost, retrans, fackets
        0, 0, 0, 0,  # times
        _WINDOW if connected else 0,  # pmtu
        _WINDOW - 1 if connected else 0,  # rcv_ssthresh
        _RTT_US if connected else 0,
        _RTT_US // 2 if connected else 250_000,  # rttvar
        _MAX_INT,  # snd_ssthresh
        10,  # snd_cwnd
        mss,  # advmss
        3,  # reordering
        0,  # rcv_rtt
        socket.receive_buffer // 2,  # rcv_space
        0,  # total_retrans
    ]  # fmt: skip
    unlimited = (1 << 64) - 1
    rest = [0] * 24
    rest[1] = unlimited  # max_pacing_rate
    rest[6] = unsent  # notsent_bytes
    rest[7] = _RTT_US if connected else (1 << 32) - 1  # min_rtt
    return _INFO.pack(*head, *words, *rest)
