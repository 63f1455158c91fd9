"""Host sockets that came as descriptors, by raw calls: Python's socket objects ask, when they are made, what a sealed
Sentry is not allowed to ask (getsockname, other options).

What the host is given the address of is an attribute, a constant or a parameter: compiled code (services/compiled.py)
lets go of what only a local name holds after its last use, which may be before the call.

Host calls: recvmsg, sendto, sendmsg, shutdown, getsockopt (SO_TYPE), fcntl (F_GETFL), ioctl (FIONREAD, TIOCOUTQ),
ppoll, close.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import time
from typing import Final

from platforms._host import ffi, lib

__all__ = ["Channel", "is_usable", "shut_down_writing", "unread_bytes", "unsent_bytes", "wait_for"]

_NR_SENDTO: Final = 44
_NR_SENDMSG: Final = 46
_NR_RECVMSG: Final = 47
_NR_SHUTDOWN: Final = 48
_NR_GETSOCKOPT: Final = 55
_FLAGS: Final = 0x40 | 0x4000 | 0x4000_0000  # MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC
_SOL_SOCKET: Final = 1
_SO_TYPE: Final = 3
_SCM_RIGHTS: Final = 1
_SHUT_WR: Final = 1
_FIONREAD: Final = 0x541B
_TIOCOUTQ: Final = 0x5411
_READ_BYTES: Final = 1 << 16
#: Room for the most descriptors one message of the host can bring (SCM_MAX_FD): none is ever cut off, and so leaked.
_CONTROL_BYTES: Final = 16 + 4 * 254
_MSGHDR: Final = struct.Struct("<QI4xQQQQi4x")
_CONTROLLEN: Final = slice(40, 48)  # of struct msghdr: set before the call, and then by it
_IOVEC: Final = struct.Struct("<QQ")
_CMSGHDR: Final = struct.Struct("<Qii")
_POLLFD: Final = struct.Struct("<ihh")
_INT: Final = struct.Struct("<i")


def _address(buffer: bytearray | bytes) -> int:
    """Where `buffer` lies; it must outlive the use, and not be resized."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(buffer)))


def wait_for(fd: int, events: int, timeout_ns: int) -> int:
    """The poll(2) bits that `fd` has of `events` (and POLLERR, POLLHUP), after at most that time; 0: none."""
    entry = bytearray(_POLLFD.pack(fd, events, 0))
    found = lib.sentrio_poll(ffi.from_buffer(entry), 1, timeout_ns)
    if found == -errno.EINTR:  # by SIGCHLD as a rule: a guest's process ended
        until = time.monotonic_ns() + timeout_ns
        while found == -errno.EINTR:
            found = lib.sentrio_poll(ffi.from_buffer(entry), 1, max(until - time.monotonic_ns(), 0))
    return _POLLFD.unpack(entry)[2] if found > 0 else 0


_ASKED: Final = bytearray(_INT.pack(4) + bytes(4))  # socklen_t, which stays as it is, and an int
_LENGTH_AT: Final = _address(_ASKED)
_VALUE_AT: Final = _LENGTH_AT + 4
_VALUE: Final = slice(4, 8)


def is_usable(fd: int, kind: int) -> bool:
    """Whether a descriptor that came is a socket of that SOCK_* type which never makes us wait."""
    if lib.sentrio_syscall(_NR_GETSOCKOPT, fd, _SOL_SOCKET, _SO_TYPE, _VALUE_AT, _LENGTH_AT, 0) != 0:
        return False
    return _ASKED[_VALUE] == _INT.pack(kind) and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


def shut_down_writing(fd: int) -> None:
    """shutdown(2) with SHUT_WR: the end of what we send, behind what was written. A peer that is gone knows anyway."""
    lib.sentrio_syscall(_NR_SHUTDOWN, fd, _SHUT_WR, 0, 0, 0, 0)


def _count(fd: int, request: int) -> int:
    value = bytearray(4)
    return _INT.unpack(value)[0] if lib.sentrio_ioctl(fd, request, ffi.from_buffer(value)) == 0 else 0


def unread_bytes(fd: int) -> int:
    """What waits to be read."""
    return _count(fd, _FIONREAD)


def unsent_bytes(fd: int) -> int:
    """About what was written and not yet taken by the other end."""
    return _count(fd, _TIOCOUTQ)


class Channel:
    """A stream socket on which descriptors come. Never waits, but in `wait`."""

    __slots__ = ("_buffer", "_control", "_header", "_header_at", "_iovec", "_lengths", "_received", "_sent", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = bytearray(_READ_BYTES)
        self._control = bytearray(_CONTROL_BYTES)
        self._iovec = bytearray(_IOVEC.pack(_address(self._buffer), _READ_BYTES))
        control = _address(self._control)
        self._header = bytearray(_MSGHDR.pack(0, 0, _address(self._iovec), 1, control, _CONTROL_BYTES, 0))
        self._received = memoryview(self._buffer)
        self._lengths = memoryview(self._header)[_CONTROLLEN].cast("Q")
        self._header_at = _address(self._header)
        self._sent: tuple[bytearray, ...] = ()  # what `send_with_fd` gives the host, beside the data

    def send(self, data: bytes | bytearray) -> int:
        """How many bytes of `data` were taken: 0 when there is no room. OSError: the connection is over."""
        taken = lib.sentrio_syscall(_NR_SENDTO, self.fd, _address(data), len(data), _FLAGS & 0x4040, 0, 0)
        if taken == -errno.EAGAIN:
            return 0
        if taken < 0:
            raise OSError(-taken, "netstack connection")
        return int(taken)

    def send_with_fd(self, data: bytes, fd: int) -> int:
        """As `send`, with a descriptor beside the first byte."""
        iovec = bytearray(_IOVEC.pack(_address(data), len(data)))
        control = bytearray(
            _CMSGHDR.pack(_CMSGHDR.size + _INT.size, _SOL_SOCKET, _SCM_RIGHTS) + _INT.pack(fd) + bytes(4)
        )
        header = bytearray(_MSGHDR.pack(0, 0, _address(iovec), 1, _address(control), len(control), 0))
        self._sent = iovec, control, header
        taken = lib.sentrio_syscall(_NR_SENDMSG, self.fd, _address(header), _FLAGS & 0x4040, 0, 0, 0)
        if taken == -errno.EAGAIN:
            return 0
        if taken < 0:
            raise OSError(-taken, "netstack connection")
        return int(taken)

    def receive(self) -> tuple[bytes, list[int]] | None:
        """(bytes, descriptors, which are the caller's) that came; b"" at the end; None: nothing now."""
        lengths = self._lengths
        lengths[0] = _CONTROL_BYTES
        got = lib.sentrio_syscall(_NR_RECVMSG, self.fd, self._header_at, _FLAGS, 0, 0, 0)
        if got == -errno.EAGAIN:
            return None
        length = lengths[0]
        fds = self._fds(length) if got >= 0 and length else []
        return bytes(self._received[: max(got, 0)]), fds

    def _fds(self, length: int) -> list[int]:
        found: list[int] = []
        at = 0
        while at + _CMSGHDR.size <= length:
            size, level, kind = _CMSGHDR.unpack_from(self._control, at)
            if size < _CMSGHDR.size:
                break
            if (level, kind) == (_SOL_SOCKET, _SCM_RIGHTS):
                found += struct.unpack_from(f"<{(size - _CMSGHDR.size) // 4}i", self._control, at + _CMSGHDR.size)
            at += (size + 7) & ~7
        return found

    def wait(self, *, writing: bool, timeout_ns: int) -> bool:
        """Whether something came, or (`writing`) there is room, within that time."""
        return wait_for(self.fd, select.POLLIN | (select.POLLOUT if writing else 0), timeout_ns) != 0

    def close(self) -> None:
        os.close(self.fd)
