"""eventfd(2): a 64-bit counter that is read and written as eight bytes, and can be waited for.

Owns the counter. `signal(n)` is the kernel's own way to add (aio, vhost-like users); guests use write(2). One that is
written often, with nobody waiting, has it in memory where the stubs of all who have it read and write it themselves
(`shared`, files/shared_counter.py). That ends when an epoll watches it, when a descriptor that was told of it goes, or
with what else is not plain (`dissolve`).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi import eventfd_h as ev
from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi.layout import U64
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.files.shared_counter import SharedCounter
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.files.ring_end import RingEnd
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.inode import Inode

__all__ = ["EventFile"]

_IN: Final = po.POLLIN
_OUT: Final = po.POLLOUT
_MAX: Final = ev.EVENTFD_MAX
_ONE: Final = b"\1\0\0\0\0\0\0\0"
#: To make memory for the counter and to map it costs about as much as so many writes.
_BUSY: Final = 64
#: After it was taken back, an eventfd must be so much busier.
_PATIENCE: Final = -64 * _BUSY
_pack: Final = U64.pack
_unpack: Final = U64.unpack


class EventFile(OpenFile):
    """`value` is 0..2^64-2, or 2^64-1 after `signal` overflowed it (poll(2) then shows POLLERR). It stands in `shared`
    while there is that (`ring_end` to the kernel's tables). unawaited: how many writes in a row woke nobody.
    """

    __slots__ = ("_value", "ring_end", "semaphore", "shared", "unawaited")

    pollable = True
    steady = True

    def __init__(self, inode: Inode, value: int, flags: int) -> None:
        """`flags` as eventfd2(2): EFD_SEMAPHORE, EFD_NONBLOCK."""
        super().__init__(inode, fc.O_RDWR | (flags & fc.O_NONBLOCK))
        self.ring_end: RingEnd | None = None
        self.shared: SharedCounter | None = None
        self._value = value
        self.semaphore = bool(flags & ev.EFD_SEMAPHORE)
        self.unawaited = 0

    @property
    def value(self) -> int:
        """The counter now."""
        return self._value if self.shared is None else self.shared.look()

    def release(self) -> None:
        self.dissolve()

    # --- the memory that guests use ---
    def _share(self, mm: AddressSpace) -> None:
        """It is busy, in calls from `mm`: the counter moves to memory that can be published, if calls can be there."""
        self.unawaited = 0
        if mm.fast is None or mm.published is None:
            return
        try:
            shared = SharedCounter(self._value, self.semaphore, self._woken, self.dissolve)
        except (OSError, MemoryError):
            self.unawaited = _PATIENCE
            return
        self.ring_end = self.shared = shared

    def dissolve(self) -> None:
        """The counter is here again, and every call comes here. Harmless when it is."""
        shared = self.shared
        if shared is None:
            return
        self.ring_end = self.shared = None
        self.unawaited = _PATIENCE
        self._value = shared.end()
        self._woken()

    def _woken(self) -> None:
        """Somebody may have read or written it elsewhere: who waits looks again."""
        if self.queue.entries:
            self.queue.wake(_IN | _OUT)

    # --- data ---
    def _take(self) -> int:
        """What a read gives, taken; 0: there is nothing, and who waits will be told."""
        shared = self.shared
        value = self._value if shared is None else shared.hold()
        left = value - 1 if self.semaphore and value else 0
        if shared is None:
            self._value = left
        else:
            if not value:
                shared.await_more()
            shared.put_back(left)
        if value and self.queue.entries:
            self.queue.wake(_OUT)
        return value - left

    def _add(self, added: int) -> None:
        """EINVAL: 2^64-1; WouldBlock: the sum passes 2^64-2, and who waits will be told."""
        if added > _MAX:
            raise LinuxError(errno.EINVAL)
        shared = self.shared
        value = self._value if shared is None else shared.hold()
        fits = value + added <= _MAX
        if fits:
            value += added
        if shared is None:
            self._value = value
        else:
            if not fits:
                shared.await_less()
            shared.put_back(value)
        if not fits:
            raise WouldBlock
        if self.queue.entries:
            self.unawaited = min(self.unawaited, 0)
            self.queue.wake(_IN)
        else:
            self.unawaited += 1

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int | None:
        """Eight bytes: the whole counter, or 1 in semaphore mode. EINVAL: count < 8; None: it is 0.

        EFAULT: what was taken is lost (fs/eventfd.c eventfd_read).
        """
        if count < 8:
            raise LinuxError(errno.EINVAL)
        taken = self._take()
        if not taken:
            return None
        mm.write(addr, _ONE if taken == 1 else _pack(taken))
        return 8

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """Adds the eight bytes at `addr`. EINVAL: another count, or 2^64-1; WouldBlock: the sum passes 2^64-2.

        A count above 8 was taken before Linux 6.7 ("strictly check the count parameter of eventfd_write").
        """
        if count != 8:
            raise LinuxError(errno.EINVAL)
        (added,) = _unpack(mm.read(addr, 8))
        self._add(added)
        if self.unawaited > _BUSY and self.shared is None:
            self._share(mm)
        return 8

    def read(self, count: int) -> bytes:
        if count < 8:
            raise LinuxError(errno.EINVAL)
        taken = self._take()
        if not taken:
            raise WouldBlock
        return _pack(taken)

    def write(self, data: bytes | memoryview) -> int:
        if len(data) != 8:
            raise LinuxError(errno.EINVAL)
        (added,) = _unpack(data)
        self._add(added)
        return 8

    def signal(self, count: int = 1) -> None:
        """Add from inside the kernel: never blocks, saturates at 2^64-1 (eventfd(2), "overflow")."""
        self.dissolve()
        self._value = min(self._value + count, _MAX + 1)
        self.queue.wake(_IN | (po.POLLERR if self._value > _MAX else 0))

    def poll(self) -> int:
        shared = self.shared
        value = self._value if shared is None else shared.look()
        if shared is not None and not 0 < value < _MAX:
            value = shared.hold()
            if not value:
                shared.await_more()
            elif value >= _MAX:
                shared.await_less()
            shared.put_back(value)
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
