"""getsockopt(2) and setsockopt(2) at level SOL_SOCKET, as one table for all families (socket(7)).

A row is (read, write); None: that direction is ENOPROTOOPT. Options that only need to be remembered live in
`Socket.options`. Other levels, and names without a row, go to the family's get_option and set_option.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ca
from protocol.abi import socket_h as so
from protocol.abi import time_h as tm
from protocol.abi.layout import I32
from services.sentry.errors import LinuxError
from services.sentry.sockets.base import DEFAULT_BUFFER_BYTES, READABLE
from services.sentry.sockets.packet_filter import INSTRUCTION_BYTES, MAX_INSTRUCTIONS, checked_untrusted

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.sockets.base import Socket

__all__ = ["get_option", "set_option"]

_MIN_SEND: Final = 4608
_MIN_RECEIVE: Final = 2304
_PEEK_FAMILIES: Final = (so.AF_UNIX, so.AF_INET, so.AF_INET6)
# Bits of SO_BUF_LOCK: the size was chosen, and is not grown any more.
_SEND_LOCKED: Final = 1
_RECEIVE_LOCKED: Final = 2
_MAX_SECONDS: Final = (1 << 63) // tm.NSEC_PER_SEC - 1

_Read = Callable[["Task", "Socket"], bytes]
_Write = Callable[["Task", "Socket", bytes], None]


def _int(value: bytes) -> int:
    """EINVAL: shorter than an int."""
    if len(value) < 4:
        raise LinuxError(errno.EINVAL)
    (number,) = I32.unpack_from(value)
    return int(number)


def _remembered(name: int, default: int = 0, *, flag: bool = False, cap: int | None = None) -> tuple[_Read, _Write]:
    """An option without effect here. `flag`: any non-zero value reads as 1; `cap`: setting it needs this capability."""

    def read(task: Task, socket: Socket) -> bytes:
        return I32.pack(socket.options.get(name, default))

    def write(task: Task, socket: Socket, value: bytes) -> None:
        number = _int(value)
        if cap is not None and not task.cred.has_cap(cap):
            raise LinuxError(errno.EPERM)
        socket.options[name] = int(bool(number)) if flag else number

    return read, write


def _fixed(get: Callable[[Socket], int]) -> tuple[_Read, None]:
    return (lambda task, socket: I32.pack(get(socket))), None


def _set_send_buffer(task: Task, socket: Socket, value: bytes) -> None:
    wanted = max(_int(value), 0)
    socket.send_buffer = max(min(wanted, DEFAULT_BUFFER_BYTES) * 2, _MIN_SEND)
    socket.options[so.SO_BUF_LOCK] = socket.options.get(so.SO_BUF_LOCK, 0) | _SEND_LOCKED


def _set_receive_buffer(task: Task, socket: Socket, value: bytes) -> None:
    wanted = max(_int(value), 0)
    socket.receive_buffer = max(min(wanted, DEFAULT_BUFFER_BYTES) * 2, _MIN_RECEIVE)
    socket.options[so.SO_BUF_LOCK] = socket.options.get(so.SO_BUF_LOCK, 0) | _RECEIVE_LOCKED


def _force_send_buffer(task: Task, socket: Socket, value: bytes) -> None:
    if not task.cred.has_cap(ca.CAP_NET_ADMIN):
        raise LinuxError(errno.EPERM)
    wanted = max(_int(value), 0)
    socket.send_buffer = max(min(wanted * 2, (1 << 31) - 1), _MIN_SEND)
    socket.options[so.SO_BUF_LOCK] = socket.options.get(so.SO_BUF_LOCK, 0) | _SEND_LOCKED


def _force_receive_buffer(task: Task, socket: Socket, value: bytes) -> None:
    if not task.cred.has_cap(ca.CAP_NET_ADMIN):
        raise LinuxError(errno.EPERM)
    wanted = max(_int(value), 0)
    socket.receive_buffer = max(min(wanted * 2, (1 << 31) - 1), _MIN_RECEIVE)
    socket.options[so.SO_BUF_LOCK] = socket.options.get(so.SO_BUF_LOCK, 0) | _RECEIVE_LOCKED


def _timeout_ns(value: bytes) -> int:
    """ns of a struct timeval, 0: no limit, 1 for negative ones. EINVAL: too short; EDOM: tv_usec out of range."""
    if len(value) < tm.TIMEVAL.size:
        raise LinuxError(errno.EINVAL)
    seconds, microseconds = tm.TIMEVAL.unpack_from(value)
    if not 0 <= microseconds < tm.USEC_PER_SEC:
        raise LinuxError(errno.EDOM)
    if seconds < 0:
        return 1
    if seconds >= _MAX_SECONDS:
        return 0
    return int(seconds * tm.NSEC_PER_SEC + microseconds * tm.NSEC_PER_USEC)


def _get_receive_timeout(task: Task, socket: Socket) -> bytes:
    return tm.timeval_of(socket.receive_timeout_ns)


def _set_receive_timeout(task: Task, socket: Socket, value: bytes) -> None:
    socket.receive_timeout_ns = _timeout_ns(value)


def _get_send_timeout(task: Task, socket: Socket) -> bytes:
    return tm.timeval_of(socket.send_timeout_ns)


def _set_send_timeout(task: Task, socket: Socket, value: bytes) -> None:
    socket.send_timeout_ns = _timeout_ns(value)


def _get_linger(task: Task, socket: Socket) -> bytes:
    return so.LINGER.pack(*socket.linger)


def _set_linger(task: Task, socket: Socket, value: bytes) -> None:
    if len(value) < so.LINGER.size:
        raise LinuxError(errno.EINVAL)
    on, seconds = so.LINGER.unpack_from(value)
    socket.linger = (1, seconds) if on else (0, socket.linger[1])


def _get_peer_credentials(task: Task, socket: Socket) -> bytes:
    return so.UCRED.pack(*socket.peer_credentials())


def _get_pass_credentials(task: Task, socket: Socket) -> bytes:
    return I32.pack(socket.passes_credentials())


def _set_pass_credentials(task: Task, socket: Socket, value: bytes) -> None:
    socket.pass_credentials(bool(_int(value)))


def _get_peek_offset(task: Task, socket: Socket) -> bytes:
    if socket.domain not in _PEEK_FAMILIES:
        raise LinuxError(errno.EOPNOTSUPP)
    return I32.pack(socket.peek_offset)


def _set_peek_offset(task: Task, socket: Socket, value: bytes) -> None:
    if socket.domain not in _PEEK_FAMILIES:
        raise LinuxError(errno.EOPNOTSUPP)
    socket.peek_offset = max(_int(value), -1)
    _look_for_plain(socket)


def _look_for_plain(socket: Socket) -> None:
    socket.plain_receive = socket.peek_offset < 0 and socket.options.get(so.SO_RCVLOWAT, 1) == 1


def _set_bound_device(task: Task, socket: Socket, value: bytes) -> None:
    """SO_BINDTODEVICE: an interface's name, b'' for none. EPERM: another is to be taken away (sock_bindtoindex)."""
    if socket.bound_device() and not task.cred.has_cap(ca.CAP_NET_RAW):
        raise LinuxError(errno.EPERM)
    socket.bind_device(value.partition(b"\0")[0])


def _set_receive_low(task: Task, socket: Socket, value: bytes) -> None:
    wanted = _int(value)
    socket.options[so.SO_RCVLOWAT] = 1 if wanted == 0 else wanted if wanted > 0 else (1 << 31) - 1
    _look_for_plain(socket)


def _get_memory(task: Task, socket: Socket) -> bytes:
    """SO_MEMINFO: nine u32 (linux/sock_diag.h SK_MEMINFO_*)."""
    return struct.pack("<9I", 0, socket.receive_buffer, 0, socket.send_buffer, 0, 0, 0, 0, 0)


#: struct sock_fprog: how many instructions, and where (linux/filter.h).
_PROGRAM: Final = struct.Struct("<H6xQ")


def _attach_filter(task: Task, socket: Socket, value: bytes) -> None:
    """SO_ATTACH_FILTER. EINVAL: no program that can be run; EFAULT; ENOPROTOOPT: not for this kind of socket."""
    if not socket.filters_packets:
        raise LinuxError(errno.ENOPROTOOPT)
    if len(value) != _PROGRAM.size:
        raise LinuxError(errno.EINVAL)
    count, addr = _PROGRAM.unpack(value)
    if not 1 <= count <= MAX_INSTRUCTIONS:
        raise LinuxError(errno.EINVAL)
    socket.program = checked_untrusted(task.mm.read(addr, count * INSTRUCTION_BYTES))


def _detach_filter(task: Task, socket: Socket, value: bytes) -> None:
    """SO_DETACH_FILTER. ENOENT: there is none."""
    if socket.program is None:
        raise LinuxError(errno.ENOENT)
    socket.program = None


def _refuse_no_priority(task: Task, socket: Socket, value: bytes) -> None:
    number = _int(value)
    privileged = task.cred.has_cap(ca.CAP_NET_ADMIN) or task.cred.has_cap(ca.CAP_NET_RAW)
    if not 0 <= number <= 6 and not privileged:
        raise LinuxError(errno.EPERM)
    socket.options[so.SO_PRIORITY] = number


_ROWS: Final[dict[int, tuple[_Read | None, _Write | None]]] = {
    so.SO_DEBUG: _remembered(so.SO_DEBUG, flag=True, cap=ca.CAP_NET_ADMIN),
    so.SO_REUSEADDR: _remembered(so.SO_REUSEADDR, flag=True),
    so.SO_REUSEPORT: _remembered(so.SO_REUSEPORT, flag=True),
    so.SO_TYPE: _fixed(lambda socket: socket.kind),
    so.SO_PROTOCOL: _fixed(lambda socket: socket.protocol),
    so.SO_DOMAIN: _fixed(lambda socket: socket.domain),
    so.SO_ERROR: _fixed(lambda socket: socket.take_error()),
    so.SO_ACCEPTCONN: _fixed(lambda socket: int(socket.is_listening())),
    so.SO_DONTROUTE: _remembered(so.SO_DONTROUTE, flag=True),
    so.SO_BROADCAST: _remembered(so.SO_BROADCAST, flag=True),
    so.SO_SNDBUF: ((lambda task, socket: I32.pack(socket.send_buffer)), _set_send_buffer),
    so.SO_RCVBUF: ((lambda task, socket: I32.pack(socket.receive_buffer)), _set_receive_buffer),
    so.SO_SNDBUFFORCE: (None, _force_send_buffer),
    so.SO_RCVBUFFORCE: (None, _force_receive_buffer),
    so.SO_KEEPALIVE: _remembered(so.SO_KEEPALIVE, flag=True),
    so.SO_OOBINLINE: _remembered(so.SO_OOBINLINE, flag=True),
    so.SO_NO_CHECK: _remembered(so.SO_NO_CHECK, flag=True),
    so.SO_PRIORITY: (_remembered(so.SO_PRIORITY)[0], _refuse_no_priority),
    so.SO_LINGER: (_get_linger, _set_linger),
    so.SO_PASSCRED: (_get_pass_credentials, _set_pass_credentials),
    so.SO_PEERCRED: (_get_peer_credentials, None),
    so.SO_PEERSEC: (None, None),
    so.SO_PASSSEC: _remembered(so.SO_PASSSEC, flag=True),
    so.SO_PASSRIGHTS: _remembered(so.SO_PASSRIGHTS, 1, flag=True),
    so.SO_RCVLOWAT: (_remembered(so.SO_RCVLOWAT, 1)[0], _set_receive_low),
    so.SO_SNDLOWAT: (_remembered(so.SO_SNDLOWAT, 1)[0], None),
    so.SO_RCVTIMEO_OLD: (_get_receive_timeout, _set_receive_timeout),
    so.SO_RCVTIMEO_NEW: (_get_receive_timeout, _set_receive_timeout),
    so.SO_SNDTIMEO_OLD: (_get_send_timeout, _set_send_timeout),
    so.SO_SNDTIMEO_NEW: (_get_send_timeout, _set_send_timeout),
    so.SO_BINDTODEVICE: ((lambda task, socket: socket.bound_device()), _set_bound_device),
    so.SO_TIMESTAMP_OLD: _remembered(so.SO_TIMESTAMP_OLD, flag=True),
    so.SO_TIMESTAMPNS_OLD: _remembered(so.SO_TIMESTAMPNS_OLD, flag=True),
    so.SO_MARK: _remembered(so.SO_MARK, cap=ca.CAP_NET_ADMIN),
    so.SO_RXQ_OVFL: _remembered(so.SO_RXQ_OVFL, flag=True),
    so.SO_PEEK_OFF: (_get_peek_offset, _set_peek_offset),
    so.SO_BUSY_POLL: _remembered(so.SO_BUSY_POLL, cap=ca.CAP_NET_ADMIN),
    so.SO_BPF_EXTENSIONS: _fixed(lambda socket: 64),
    so.SO_BUF_LOCK: _remembered(so.SO_BUF_LOCK),
    so.SO_ATTACH_FILTER: (None, _attach_filter),
    so.SO_DETACH_FILTER: (None, _detach_filter),
    so.SO_COOKIE: ((lambda task, socket: struct.pack("<Q", socket.inode.ino)), None),
    so.SO_MEMINFO: (_get_memory, None),
}


def get_option(task: Task, socket: Socket, level: int, name: int) -> bytes:
    """The option's value, as long as it is. ENOPROTOOPT, EOPNOTSUPP: unknown."""
    if level == so.SOL_SOCKET and name in _ROWS:
        read = _ROWS[name][0]
        if read is None:
            raise LinuxError(errno.ENOPROTOOPT)
        return read(task, socket)
    return socket.get_option(task, level, name)


def set_option(task: Task, socket: Socket, level: int, name: int, value: bytes) -> None:
    """EINVAL: too short or out of range; ENOPROTOOPT, EOPNOTSUPP: unknown or read-only; EPERM."""
    if level == so.SOL_SOCKET and name in _ROWS:
        write = _ROWS[name][1]
        if write is None:
            raise LinuxError(errno.ENOPROTOOPT)
        write(task, socket, value)
    else:
        socket.set_option(task, level, name, value)
    socket.option_set(level, name)
    if name == so.SO_RCVLOWAT and level == so.SOL_SOCKET and socket.queue.entries:
        socket.queue.wake(READABLE)  # what is there may be enough now (tcp_set_rcvlowat)
