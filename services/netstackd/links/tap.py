"""Taps and tuns: a host interface whose other end is this process.

`open_tap` makes or attaches to one (root or CAP_NET_ADMIN; a persistent device that belongs to us needs neither), sets
it up and gives the link. `adopt_tap` takes a descriptor that somebody else opened: it must have IFF_VNET_HDR, and is
asked what it is. All frames carry the virtio header, so that 64 KiB segments and unfinished checksums pass both ways.
Source: Documentation/networking/tuntap.rst, linux/if_tun.h (Linux 6.1).
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

from services.netstackd.links.base import ALL_OFFLOADS, VNET_BYTES, VnetLink
from services.netstackd.links.host_unsafe import (
    MAX_NAME_BYTES,
    entered,
    set_device_mtu,
    set_device_up,
)
from services.netstackd.network.interface import ETHERNET, IP

HOST_SYSCALLS: Final = ("openat", "ioctl", "readv", "writev", "close")

_TUNSETIFF: Final = 0x400454CA
_TUNGETIFF: Final = 0x800454D2
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_IFF_TUN: Final = 0x0001
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_TUN_F_CSUM: Final = 1
_TUN_F_TSO4: Final = 2
_TUN_F_TSO6: Final = 4
_TUN_F_TSO_ECN: Final = 8
_IFREQ: Final = struct.Struct("@16sH22x")


def _configure(fd: int, offload: bool) -> int:
    """Set header size and offloads; returns the OFFLOAD_ bits."""
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("@i", VNET_BYTES))
    # Without these the kernel never hands us an unfinished checksum or a large segment; it takes ours all the same.
    wanted = _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6 | _TUN_F_TSO_ECN if offload else 0
    fcntl.ioctl(fd, _TUNSETOFFLOAD, wanted)
    return ALL_OFFLOADS if offload else 0


def open_tap(
    name: str,
    device: str,
    *,
    mac: bytes,
    mtu: int,
    tun: bool = False,
    netns: str | None = None,
    offload: bool = True,
) -> VnetLink:
    """The link `name` on host interface `device`, which is made when it is not there. OSError.

    `mac` is ours, not the host end's. `netns`: where the host end is. `offload`: False makes the kernel cut segments
    and finish checksums before it hands frames over, as for a peer that can do neither.
    """
    if not 0 < len(device.encode()) <= MAX_NAME_BYTES:
        raise OSError(22, f"device name {device!r} must have 1 to {MAX_NAME_BYTES} bytes")
    flags = (_IFF_TUN if tun else _IFF_TAP) | _IFF_NO_PI | _IFF_VNET_HDR
    with entered(netns):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(device.encode(), flags))
            bits = _configure(fd, offload)
            set_device_mtu(device, mtu)
            set_device_up(device)
        except BaseException:
            os.close(fd)
            raise
    kind, framing = ("tun", IP) if tun else ("tap", ETHERNET)
    return VnetLink(name, kind, fd=fd, mac=b"" if tun else mac, mtu=mtu, offload=bits, framing=framing)


def adopt_tap(name: str, fd: int, *, mac: bytes, mtu: int, offload: bool = True) -> VnetLink:
    """The link on a tap or tun descriptor that was handed over. OSError when it is none, or lacks the virtio header."""
    _, flags = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
    if not flags & _IFF_VNET_HDR or not flags & _IFF_NO_PI:
        raise OSError(22, "the descriptor was opened without IFF_VNET_HDR and IFF_NO_PI")
    tun = bool(flags & _IFF_TUN)
    bits = _configure(fd, offload)
    kind, framing = ("tun", IP) if tun else ("tap", ETHERNET)
    return VnetLink(name, kind, fd=fd, mac=b"" if tun else mac, mtu=mtu, offload=bits, framing=framing)
