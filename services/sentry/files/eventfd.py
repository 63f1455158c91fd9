"""eventfd(2): a 64-bit counter that is read and written as eight bytes, and can be waited for.

Owns the counter. `signal(n)` is the kernel's own way to add (aio, vhost-like users); guests use write(2).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import eventfd_h as ev
from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi.layout import U64
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.inode import Inode

__all__ = ["EventFile"]

_IN: Final = po.POLLIN
_OUT: Final = po.POLLOUT
_MAX: Final = ev.EVENTFD_MAX
_pack: Final = U64.pack
_unpack: Final = U64.unpack


class EventFile(OpenFile):
    """`value` is 0..2^64-2, or 2^64-1 after `signal` overflowed it (poll(2) then shows POLLERR)."""

    __slots__ = ("semaphore", "value")

    pollable = True
    steady = True

    def __init__(self, inode: Inode, value: int, flags: int) -> None:
        """`flags` as eventfd2(2): EFD_SEMAPHORE, EFD_NONBLOCK."""
        super().__init__(inode, fc.O_RDWR | (flags & fc.O_NONBLOCK))
        self.value = value
        self.semaphore = bool(flags & ev.EFD_SEMAPHORE)

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int | None:
        """Eight bytes: the whole counter, or 1 in semaphore mode. EINVAL: count < 8; None: it is 0."""
        if count < 8:
            raise LinuxError(errno.EINVAL)
        value = self.value
        if not value:
            return None
        if self.semaphore:
            mm.write(addr, b"\1\0\0\0\0\0\0\0")
            self.value = value - 1
        else:
            mm.write(addr, _pack(value))
            self.value = 0
        if self.queue.entries:
            self.queue.wake(_OUT)
        return 8

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """Adds the eight bytes at `addr`. EINVAL: count < 8 or 2^64-1; WouldBlock: the sum passes 2^64-2."""
        if count < 8:
            raise LinuxError(errno.EINVAL)
        (added,) = _unpack(mm.read(addr, 8))
        value = self.value + added
        if value > _MAX:
            if added > _MAX:
                raise LinuxError(errno.EINVAL)
            raise WouldBlock
        self.value = value
        if self.queue.entries:
            self.queue.wake(_IN)
        return 8

    def read(self, count: int) -> bytes:
        if count < 8:
            raise LinuxError(errno.EINVAL)
        if not self.value:
            raise WouldBlock
        taken = 1 if self.semaphore else self.value
        self.value -= taken
        self.queue.wake(_OUT)
        return _pack(taken)

    def write(self, data: bytes | memoryview) -> int:
        if len(data) < 8:
            raise LinuxError(errno.EINVAL)
        (added,) = _unpack(data[:8])
        if added > _MAX:
            raise LinuxError(errno.EINVAL)
        if self.value + added > _MAX:
            raise WouldBlock
        self.value += added
        self.queue.wake(_IN)
        return 8

    def signal(self, count: int = 1) -> None:
        """Add from inside the kernel: never blocks, saturates at 2^64-1 (eventfd(2), "overflow")."""
        self.value = min(self.value + count, _MAX + 1)
        self.queue.wake(_IN | (po.POLLERR if self.value > _MAX else 0))

    def poll(self) -> int:
        value = self.value
        bits = _IN if value else 0
        if value < _MAX:
            bits |= _OUT
        elif value > _MAX:
            bits |= po.POLLERR
        return bits

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2) does nothing here (fs/read_write.c noop_llseek)."""
        return 0

    def proc_link(self) -> bytes:
        return b"anon_inode:[eventfd]"

    def fdinfo(self) -> bytes:
        return b"eventfd-count: %16x\neventfd-semaphore: %d\n" % (self.value, self.semaphore)
