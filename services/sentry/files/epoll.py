"""epoll(7): an interest list of open files and the ready list of those that may have something to tell.

Owns the items, their entries on the watched files' wait queues, and the ready list. An item's entry callback only puts
it on the ready list and wakes whoever waits on the epoll; `collect` asks each ready item's file again (level-triggered
items go back to the tail), so a stale ready list costs a poll, never a wrong answer (fs/eventpoll.c ep_send_events).
Life of an item: `add` -> `modify`* -> `delete`, or the watched description's last close (OpenFile.epoll_links), or the
epoll's own release. The list is keyed by (descriptor number, description), as Linux keys it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import epoll_h as ep
from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from services.sentry.errors import LinuxError
from services.sentry.kernel.waiter import WaitEntry
from services.sentry.vfs.inode import Inode
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["EpollFile", "EpollItem"]

_IN: Final = po.POLLIN | po.POLLRDNORM
_ALWAYS: Final = ep.EPOLLERR | ep.EPOLLHUP
_NOT_PRIVATE: Final = ~(ep.EPOLLWAKEUP | ep.EPOLLONESHOT | ep.EPOLLET | ep.EPOLLEXCLUSIVE)
_ONESHOT: Final = ep.EPOLLONESHOT
_EXCLUSIVE: Final = ep.EPOLLEXCLUSIVE
_TRANSIENT: Final = ep.EPOLLET | ep.EPOLLONESHOT
_EXCLUSIVE_OK: Final = (
    ep.EPOLLIN | ep.EPOLLOUT | ep.EPOLLERR | ep.EPOLLHUP | ep.EPOLLWAKEUP | ep.EPOLLET | ep.EPOLLEXCLUSIVE
)
_pack_event: Final = ep.EPOLL_EVENT.pack


class EpollItem(WaitEntry):
    """One watched file, and the entry on its queue: event loops make and end them as often as they read.

    mask    the poll bits reported (0 once EPOLLONESHOT fired); data: the guest's 64 bits.
    packed  the struct epoll_event that was reported last, for `packed_bits` (0: none yet).
    oneshot, transient: not 0, if it is.
    """

    __slots__ = ("data", "epoll", "events", "fd", "file", "oneshot", "packed", "packed_bits", "transient")

    def __init__(self, epoll: EpollFile, fd: int, file: OpenFile, events: int, data: int) -> None:
        self.epoll = epoll
        self.fd = fd
        self.file = file
        self.exclusive = events & ep.EPOLLEXCLUSIVE != 0
        self.packed = b""
        self.set(events, data)

    def set(self, events: int, data: int) -> None:
        self.events = events
        self.data = data
        self.mask = events & _NOT_PRIVATE | _ALWAYS
        self.oneshot = events & _ONESHOT
        self.transient = events & _TRANSIENT  # leaves the ready list when it is reported
        self.packed_bits = 0

    def callback(self, mask: int) -> None:  # a method, so that nothing refers to itself
        """It may have something to tell."""
        epoll = self.epoll
        epoll.ready[self] = None
        if epoll.queue.entries:
            epoll.queue.wake(_IN)

    def detach(self) -> None:
        """Leave the watched file and the epoll: EPOLL_CTL_DEL, or either side's last close."""
        file, epoll = self.file, self.epoll
        file.queue.entries.pop(self, None)
        links = file.epoll_links
        if links is not None:
            links.pop(self, None)
        epoll.ready.pop(self, None)
        if epoll.items.pop((self.fd, file), None) is not None and not file.steady:
            epoll.unsteady -= 1


class EpollFile(OpenFile):
    """An epoll instance. `queue` wakes with POLLIN when an item becomes ready, so epolls nest and can be polled."""

    __slots__ = ("asked", "items", "ready", "unsteady")

    pollable = True

    def __init__(self, inode: Inode) -> None:
        super().__init__(inode, fc.O_RDWR)
        self.items: dict[tuple[int, OpenFile], EpollItem] = {}
        self.ready: dict[EpollItem, None] = {}
        self.unsteady = 0  # items whose file is not `steady`
        self.asked = 0  # how often epoll_wait(2) found what `standing` may give

    def release(self) -> None:
        for item in list(self.items.values()):
            item.detach()

    # --- epoll_ctl(2) ---
    def add(self, fd: int, file: OpenFile, events: int, data: int) -> None:
        """EPERM: not a pollable file; EINVAL: itself, or bits EPOLLEXCLUSIVE forbids; ELOOP; EEXIST (epoll_ctl(2))."""
        if not file.pollable or file is self:
            self._refuse(file)
        if events & _EXCLUSIVE and (events & ~_EXCLUSIVE_OK or isinstance(file, EpollFile)):
            raise LinuxError(errno.EINVAL)
        if isinstance(file, EpollFile):
            self._check_nesting(file)
        key = (fd, file)
        if key in self.items:
            raise LinuxError(errno.EEXIST)
        item = self.items[key] = EpollItem(self, fd, file, events, data)
        if not file.steady:
            self.unsteady += 1
        if file.epoll_links is None:
            file.epoll_links = {}
        file.epoll_links[item] = None
        if file.ring_end is not None:
            file.ring_end.watched()
        file.queue.entries[item] = None
        if file.poll() & item.mask:  # as in `modify`
            item.callback(_IN)

    def modify(self, fd: int, file: OpenFile, events: int, data: int) -> None:
        """ENOENT: not watched; EINVAL: EPOLLEXCLUSIVE before or after."""
        if not file.pollable or file is self:
            self._refuse(file)
        item = self.items.get((fd, file))
        if events & _EXCLUSIVE or item is not None and item.exclusive:
            raise LinuxError(errno.EINVAL)
        if item is None:
            raise LinuxError(errno.ENOENT)
        item.set(events, data)
        if file.poll() & item.mask:  # level and edge alike report what is true when an item is added or changed
            item.callback(_IN)  # (fs/eventpoll.c ep_modify)

    def delete(self, fd: int, file: OpenFile) -> None:
        """ENOENT: not watched."""
        if not file.pollable or file is self:
            self._refuse(file)
        item = self.items.get((fd, file))
        if item is None:
            raise LinuxError(errno.ENOENT)
        item.detach()

    def _refuse(self, file: OpenFile) -> None:
        raise LinuxError(errno.EINVAL if file.pollable else errno.EPERM)

    # --- nesting ---
    def _check_nesting(self, target: EpollFile) -> None:
        """ELOOP: watching `target` would close a circle, or make a chain deeper than EP_MAX_NESTS (epoll_ctl(2))."""
        seen: set[EpollFile] = set()
        below = _depth_below(target, self, seen)
        if below + 1 + _depth_above(self) > ep.EP_MAX_NESTS:
            raise LinuxError(errno.ELOOP, "epolls nest too deep")

    def children(self) -> Iterator[EpollFile]:
        """The epolls this one watches."""
        return (item.file for item in self.items.values() if isinstance(item.file, EpollFile))

    # --- epoll_wait(2) ---
    def report(self, mm: AddressSpace, addr: int, limit: int) -> int:
        """Write what `collect` gives to `addr`: how many events. EFAULT."""
        ready = self.ready
        if len(ready) != 1:
            events = self.collect(limit)
            if events:
                mm.write(addr, events)
            return len(events) // 12
        (item,) = ready
        bits = item.file.poll() & item.mask
        if not bits:
            del ready[item]
            return 0
        if bits != item.packed_bits:
            item.packed_bits = bits
            item.packed = _pack_event(bits, item.data)
        mm.write(addr, item.packed)
        if item.transient:
            del ready[item]
            if item.oneshot:
                item.mask = 0
        return 1

    def collect(self, limit: int) -> bytes:
        """Up to `limit` packed struct epoll_event of items ready now, in the order they became so; b'': none."""
        ready = self.ready
        out: list[bytes] = []
        for item in list(ready):
            del ready[item]
            bits = item.file.poll() & item.mask
            if bits:
                if bits != item.packed_bits:
                    item.packed_bits = bits
                    item.packed = _pack_event(bits, item.data)
                out.append(item.packed)
                if item.oneshot:
                    item.mask = 0
                elif not item.transient:
                    ready[item] = None
                if len(out) == limit:
                    break
        return b"".join(out)

    def standing(self) -> bytes | None:
        """What `collect` gives, with room for all, to everyone who asks before this kernel does anything else.

        None: the time, the host or a guest by itself may change it, or that it is asked (an edge, a one-shot event).
        """
        if self.unsteady or any(file.ring_end is not None for _, file in self.items):
            return None
        out: list[bytes] = []
        for item in self.ready:
            bits = item.file.poll() & item.mask
            if bits:
                if item.transient:
                    return None
                out.append(_pack_event(bits, item.data))
        return b"".join(out)

    def poll(self) -> int:
        """POLLIN when epoll_wait(2) would return at once. Items found stale leave the ready list."""
        ready = self.ready
        for item in list(ready):
            if item.file.poll() & item.mask:
                return _IN
            del ready[item]
        return 0

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2) does nothing here (fs/read_write.c noop_llseek)."""
        return 0

    def proc_link(self) -> bytes:
        return b"anon_inode:[eventpoll]"

    def fdinfo(self) -> bytes:
        """proc_pid_fdinfo(5)."""
        return b"".join(
            b"tfd: %8d events: %8x data: %16x  pos:%d ino:%x sdev:%x\n"
            % (item.fd, item.events, item.data, item.file.offset, item.file.inode.ino, 0)
            for item in self.items.values()
        )


def _depth_below(target: EpollFile, source: EpollFile, seen: set[EpollFile]) -> int:
    """How many levels of epolls hang below `target`. ELOOP: `source` is among them, or they are too deep."""
    if target is source:
        raise LinuxError(errno.ELOOP, "epolls watch each other")
    if len(seen) > ep.EP_MAX_NESTS:
        raise LinuxError(errno.ELOOP, "epolls nest too deep")
    seen.add(target)
    depth = max((_depth_below(child, source, seen) + 1 for child in target.children()), default=0)
    seen.discard(target)
    return depth


def _depth_above(epoll: EpollFile) -> int:
    """How many levels of epolls watch `epoll`; links are never circular."""
    links = epoll.epoll_links
    return max((_depth_above(item.epoll) + 1 for item in links), default=0) if links else 0
