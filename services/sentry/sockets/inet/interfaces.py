"""Network interfaces as values, for those who list them: ioctl(2), netlink(7), /proc/net, /sys/class/net."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Interface", "InterfaceAddress"]


class InterfaceAddress(NamedTuple):
    """An address of an interface; `scope` is an RT_SCOPE_*."""

    address: bytes
    prefix: int
    scope: int


class Interface(NamedTuple):
    """A network interface as ioctl(2), netlink(7) and /proc show it. flags: IFF_*; kind: ARPHRD_*."""

    ifindex: int
    name: bytes
    flags: int
    kind: int
    mtu: int
    hardware: bytes
    addresses: tuple[InterfaceAddress, ...]
