"""Host calls for opening links that Python has no name for: setns(2) by ctypes, interface ioctls by fcntl.

Used before the seal, never after it. `entered` moves this thread into another network namespace and back, which is how
one netstackd opens taps in several namespaces. Source: setns(2), netdevice(7), if.h and sockios.h (Linux 6.1).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

HOST_SYSCALLS: Final = ("setns", "openat", "socket", "ioctl", "close")

_CLONE_NEWNET: Final = 0x40000000
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCGIFMTU: Final = 0x8921
_SIOCSIFMTU: Final = 0x8922
_SIOCGIFHWADDR: Final = 0x8927
_IFF_UP: Final = 1
_IFREQ: Final = struct.Struct("16s24s")  # struct ifreq: 40 bytes on 64-bit
_IFREQ_INT: Final = struct.Struct("@16si20x")
_IFREQ_FLAGS: Final = struct.Struct("@16sh22x")
MAX_NAME_BYTES: Final = 15  # IFNAMSIZ - 1


def _namespace_path(netns: str) -> str:
    return netns if "/" in netns else f"/run/netns/{netns}"


def _enter(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def entered(netns: str | None) -> Iterator[None]:
    """Run the body in network namespace `netns` (a name of `ip netns`, or a path). None: where we are. OSError."""
    if netns is None:
        yield
        return
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(_namespace_path(netns), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _enter(before)
    finally:
        os.close(before)


def _ask(request: int, argument: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        return fcntl.ioctl(sock.fileno(), request, argument)


def device_mac(device: str) -> int:
    """The hardware address of a host interface, as a 48-bit integer. OSError."""
    answer = _ask(_SIOCGIFHWADDR, _IFREQ.pack(device.encode(), b""))
    return int.from_bytes(answer[18:24], "big")


def device_mtu(device: str) -> int:
    """The MTU of a host interface. OSError."""
    answer = _ask(_SIOCGIFMTU, _IFREQ.pack(device.encode(), b""))
    mtu: int = _IFREQ_INT.unpack(answer)[1]
    return mtu


def set_device_mtu(device: str, mtu: int) -> None:
    """Set the MTU of a host interface. OSError."""
    _ask(_SIOCSIFMTU, _IFREQ_INT.pack(device.encode(), mtu))


def set_device_up(device: str) -> None:
    """`ip link set DEVICE up`. OSError."""
    answer = _ask(_SIOCGIFFLAGS, _IFREQ.pack(device.encode(), b""))
    flags: int = _IFREQ_FLAGS.unpack(answer)[1]
    if not flags & _IFF_UP:
        _ask(_SIOCSIFFLAGS, _IFREQ_FLAGS.pack(device.encode(), flags | _IFF_UP))
