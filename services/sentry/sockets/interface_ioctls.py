"""ioctl(2) requests about interfaces, on a socket of any family (netdevice(7)): a struct ifreq in, the answer there.

Changing needs CAP_NET_ADMIN: flags, MTU, address and netmask go to the network (`InetNetwork.configure`), the rest
gives EOPNOTSUPP, as ip(8) uses netlink for it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ca
from protocol.abi import ioctl_h as io
from protocol.abi import rtnetlink_h as rt
from protocol.abi.layout import I32, U32, c_string
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.addresses import ANY4, pack4, parse4_untrusted
from services.sentry.sockets.inet.network import InetNetwork

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.sockets.inet.interfaces import Interface, InterfaceAddress

__all__ = ["interface_ioctl"]

_IFREQ_BYTES: Final = 40
#: struct ifconf: ifc_len, ifc_buf.
_IFCONF: Final = struct.Struct("<i4xQ")
_CHANGES: Final = frozenset(
    (
        io.SIOCSIFFLAGS, io.SIOCSIFADDR, io.SIOCSIFDSTADDR, io.SIOCSIFBRDADDR, io.SIOCSIFNETMASK, io.SIOCSIFMETRIC,
        io.SIOCSIFMTU, io.SIOCSIFNAME, io.SIOCSIFHWADDR, io.SIOCSIFTXQLEN, io.SIOCADDMULTI, io.SIOCDELMULTI,
        io.SIOCADDRT, io.SIOCDELRT, io.SIOCSARP, io.SIOCDARP, io.SIOCSIFPFLAGS,
    )
)  # fmt: skip


def _own4(interface: Interface) -> InterfaceAddress:
    """EADDRNOTAVAIL: it has no IPv4 address."""
    for own in interface.addresses:
        if len(own.address) == 4:
            return own
    raise LinuxError(errno.EADDRNOTAVAIL)


def _mask(interface: Interface) -> bytes:
    return pack4(((0xFFFFFFFF << (32 - _own4(interface).prefix)) & 0xFFFFFFFF).to_bytes(4, "big"), 0)


def _broadcast(interface: Interface) -> bytes:
    if interface.flags & rt.IFF_LOOPBACK:
        return pack4(ANY4, 0)
    own = _own4(interface)
    if own.broadcast:
        return pack4(own.broadcast, 0)
    number = int.from_bytes(own.address, "big") | (0xFFFFFFFF >> own.prefix)
    return pack4(number.to_bytes(4, "big"), 0)


def _flags(interface: Interface) -> bytes:
    return struct.pack("<H", interface.flags & 0xFFFF)


def _hardware(interface: Interface) -> bytes:
    return struct.pack("<H14s", interface.kind, interface.hardware)


_ANSWERS: Final[dict[int, Callable[[Interface], bytes]]] = {
    io.SIOCGIFFLAGS: _flags,
    io.SIOCGIFADDR: lambda interface: pack4(_own4(interface).address, 0),
    io.SIOCGIFDSTADDR: lambda interface: pack4(_own4(interface).address, 0),
    io.SIOCGIFBRDADDR: _broadcast,
    io.SIOCGIFNETMASK: _mask,
    io.SIOCGIFMETRIC: lambda interface: I32.pack(0),
    io.SIOCGIFMTU: lambda interface: I32.pack(interface.mtu),
    io.SIOCGIFHWADDR: _hardware,
    io.SIOCGIFINDEX: lambda interface: I32.pack(interface.ifindex),
    io.SIOCGIFTXQLEN: lambda interface: I32.pack(1000),
    io.SIOCGIFMAP: lambda interface: bytes(24),
}


def interface_ioctl(task: Task, request: int, arg: int) -> bool:
    """False: not such a request. ENODEV: no interface of that name; EPERM, EOPNOTSUPP: changes; EFAULT."""
    mm = task.mm
    network = task.kernel.part(InetNetwork)
    answer = _ANSWERS.get(request)
    if answer is not None:
        name = c_string(mm.read(arg, _IFREQ_BYTES)[: rt.IFNAMSIZ])
        found = network.interface_named(name.partition(b":")[0])
        if found is None:
            raise LinuxError(errno.ENODEV)
        mm.write(arg + rt.IFNAMSIZ, answer(found))
    elif request == io.SIOCGIFNAME:
        (index,) = I32.unpack(mm.read(arg + rt.IFNAMSIZ, 4))
        found = network.interface(index)
        if found is None:
            raise LinuxError(errno.ENODEV)
        mm.write(arg, found.name.ljust(rt.IFNAMSIZ, b"\0"))
    elif request == io.SIOCETHTOOL:
        if network.interface_named(c_string(mm.read(arg, _IFREQ_BYTES)[: rt.IFNAMSIZ])) is None:
            raise LinuxError(errno.ENODEV)
        raise LinuxError(errno.EOPNOTSUPP)  # as a device without a driver of its own answers
    elif request == io.SIOCGIFCONF:
        _list(task, network, arg)
    elif request in _CHANGES:
        if not task.cred.has_cap(ca.CAP_NET_ADMIN):
            raise LinuxError(errno.EPERM)
        _change(task, network, request, arg)
    else:
        return False
    return True


def _change(task: Task, network: InetNetwork, request: int, arg: int) -> None:
    """ENODEV; EOPNOTSUPP: not by ioctl; EINVAL: another family than AF_INET."""
    raw = task.mm.read(arg, _IFREQ_BYTES)
    if request not in (io.SIOCSIFFLAGS, io.SIOCSIFMTU, io.SIOCSIFADDR, io.SIOCSIFNETMASK):
        raise LinuxError(errno.EOPNOTSUPP)
    found = network.interface_named(c_string(raw[: rt.IFNAMSIZ]).partition(b":")[0])
    if found is None:
        raise LinuxError(errno.ENODEV)
    value = raw[rt.IFNAMSIZ :]
    if request == io.SIOCSIFFLAGS:
        up = int(bool(value[0] & rt.IFF_UP))
        network.configure("link_set", {"interface": found.ifindex, "up": up})
    elif request == io.SIOCSIFMTU:
        network.configure("link_set", {"interface": found.ifindex, "mtu": max(int(I32.unpack_from(value)[0]), 0)})
    else:
        address = parse4_untrusted(value[:16]).address
        had = next((own for own in found.addresses if len(own.address) == 4), None)
        if request == io.SIOCSIFNETMASK:
            own = _own4(found)
            address, length = own.address, _mask_length(address)
        else:
            length = had.prefix if had is not None else _class_length(address)
        if had is not None:
            old = {"interface": found.ifindex, "address": had.address, "length": had.prefix}
            network.configure("address_delete", old)
        network.configure("address_add", {"interface": found.ifindex, "address": address, "length": length})


def _mask_length(mask: bytes) -> int:
    """EINVAL: not ones and then zeros."""
    number = int.from_bytes(mask, "big")
    length = number.bit_count()
    if number != (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF:
        raise LinuxError(errno.EINVAL)
    return length


def _class_length(address: bytes) -> int:
    """What an address without a netmask gets (inet_abc_len)."""
    return 8 if address[0] < 128 else 16 if address[0] < 192 else 24


def _list(task: Task, network: InetNetwork, arg: int) -> None:
    """SIOCGIFCONF: a struct ifreq for each IPv4 address, as many as fit; without a buffer the room they need."""
    room, buffer = _IFCONF.unpack(task.mm.read(arg, _IFCONF.size))
    entries = b"".join(
        (interface.name.ljust(rt.IFNAMSIZ, b"\0") + pack4(own.address, 0)).ljust(_IFREQ_BYTES, b"\0")
        for interface in network.interfaces()
        for own in interface.addresses
        if len(own.address) == 4
    )
    if buffer:
        entries = entries[: max(room, 0) // _IFREQ_BYTES * _IFREQ_BYTES]
        if entries:
            task.mm.write(buffer, entries)
    task.mm.write(arg, U32.pack(len(entries)))
