"""The directories `class/net` and `devices/virtual/net`: one entry for each network interface that there is now.

Interfaces come and go with the network, so both are computed at each access; an interface's own directory is made once
and reads what the interface is at that time. Source: Linux Documentation/ABI/testing/sysfs-class-net.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import dirent_h as de
from protocol.abi import rtnetlink_h as rt
from services.sentry.errors import LinuxError
from services.sentry.filesystems.synthetic import DynamicDir, StaticDir, Symlink, SyntheticSuperblock, TextFile
from services.sentry.sockets.inet.interfaces import NOTHING_COUNTED, Interface, LinkCounters
from services.sentry.sockets.inet.network import InetNetwork

if TYPE_CHECKING:
    from services.sentry.vfs.inode import DirectoryEntry, Inode

__all__ = ["NetDirectories"]

_SHOWN_FLAGS: Final = 0xFFFF & ~rt.IFF_RUNNING  # what dev->flags has; IFF_RUNNING is computed for ioctl(2) alone


def _is_loopback(interface: Interface) -> bool:
    return bool(interface.flags & rt.IFF_LOOPBACK)


def _address(raw: bytes) -> bytes:
    return raw.hex(":").encode()


def _operating(interface: Interface) -> bytes:
    if _is_loopback(interface):
        return b"unknown"
    return b"up" if interface.flags & rt.IFF_RUNNING else b"down"


_FILES: Final[dict[bytes, Callable[[Interface], bytes]]] = {
    b"addr_len": lambda interface: b"%d" % len(interface.hardware),
    b"address": lambda interface: _address(interface.hardware),
    b"broadcast": lambda interface: _address((b"\0" if _is_loopback(interface) else b"\xff") * len(interface.hardware)),
    b"carrier": lambda interface: b"%d" % bool(interface.flags & rt.IFF_LOWER_UP),
    b"dev_id": lambda interface: b"0x0",
    b"flags": lambda interface: b"0x%x" % (interface.flags & _SHOWN_FLAGS),
    b"ifindex": lambda interface: b"%d" % interface.ifindex,
    b"iflink": lambda interface: b"%d" % interface.ifindex,
    b"link_mode": lambda interface: b"0",
    b"mtu": lambda interface: b"%d" % interface.mtu,
    b"operstate": _operating,
    b"tx_queue_len": lambda interface: b"1000",
    b"type": lambda interface: b"%d" % interface.kind,
    b"uevent": lambda interface: b"INTERFACE=%b\nIFINDEX=%d" % (interface.name, interface.ifindex),
}
_STATISTICS: Final = (
    "collisions", "multicast", "rx_bytes", "rx_compressed", "rx_crc_errors", "rx_dropped", "rx_errors",
    "rx_fifo_errors", "rx_frame_errors", "rx_length_errors", "rx_missed_errors", "rx_nohandler", "rx_over_errors",
    "rx_packets", "tx_aborted_errors", "tx_bytes", "tx_carrier_errors", "tx_compressed", "tx_dropped", "tx_errors",
    "tx_fifo_errors", "tx_heartbeat_errors", "tx_packets", "tx_window_errors",
)  # fmt: skip


class NetDirectories:
    """`classes` and `devices`: the two directories of a sysfs. `page`: how large each file says it is."""

    def __init__(self, superblock: SyntheticSuperblock, page: int) -> None:
        self._superblock = superblock
        self._page = page
        self._network = superblock.kernel.part(InetNetwork)
        self._links: dict[bytes, Inode] = {}
        self._made: dict[bytes, Inode] = {}
        self.classes = DynamicDir(superblock, self._link, lambda: self._entries(self._link, de.DT_LNK))
        self.devices = DynamicDir(superblock, self._directory, lambda: self._entries(self._directory, de.DT_DIR))

    def _entries(self, find: Callable[[bytes], Inode | None], kind: int) -> Iterator[DirectoryEntry]:
        for interface in self._network.interfaces():
            node = find(interface.name)
            if node is not None:
                yield interface.name, node.ino, kind

    def _link(self, name: bytes) -> Inode | None:
        if self._network.interface_named(name) is None:
            return None
        if name not in self._links:
            self._links[name] = Symlink(self._superblock, b"../../devices/virtual/net/" + name)
        return self._links[name]

    def _directory(self, name: bytes) -> Inode | None:
        if self._network.interface_named(name) is None:
            return None
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: bytes) -> StaticDir:
        superblock = self._superblock
        top, statistics = StaticDir(superblock), StaticDir(superblock)
        for file_name, show in _FILES.items():
            top.add(file_name, self._file(lambda show=show: show(self._interface(name))))  # type: ignore[misc]
        for counter in _STATISTICS:
            shown = self._file(lambda counter=counter: b"%d" % self._count(name, counter))  # type: ignore[misc]
            statistics.add(counter.encode(), shown)
        top.add(b"statistics", statistics)
        top.add(b"subsystem", Symlink(superblock, b"../../../../class/net"))
        return top

    def _file(self, show: Callable[[], bytes]) -> TextFile:
        made = TextFile(self._superblock, lambda: show() + b"\n")
        made.size = self._page
        return made

    def _interface(self, name: bytes) -> Interface:
        """EINVAL: it went away while the file was open."""
        found = self._network.interface_named(name)
        if found is None:
            raise LinuxError(errno.EINVAL)
        return found

    def _count(self, name: bytes, counter: str) -> int:
        found: LinkCounters = self._network.counters().get(self._interface(name).ifindex, NOTHING_COUNTED)
        return int(getattr(found, counter, 0))
