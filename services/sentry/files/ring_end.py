"""`OpenFile.ring_end`: an end of a stream whose bytes lie in rings of shared memory (protocol/rings.py).

kernel/published_rings.py tells the guest's stub where they lie, if the file is used by one thread alone; from then on
positions move while the kernel looks elsewhere. Whoever has such an end takes its own position from the memory before
he uses it, and his flag in the memory (who waits) is what the stub goes by. While a file has one, poll(2) has nothing
to tell of it but what the rings show: an end, an error or an urgent byte takes it away first.

What many may use at once lies there in the same way: an eventfd's counter (files/shared_counter.py).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc

if TYPE_CHECKING:
    from platforms.systrap.file_rows import FileRows, RingPlace
    from services.sentry.kernel.published_rings import RingWindow
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["RingEnd", "is_alone", "make_ring_memory", "may_publish"]

_NOT_WITH: Final = fc.O_ASYNC | fc.O_DIRECT | fc.O_PATH
_F_ADD_SEALS: Final = 1033
_SEALS: Final = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW


def make_ring_memory(length: int) -> tuple[int, mmap.mmap]:
    """A memory file of that many bytes whose size nobody can change, and its mapping here. OSError: there is none."""
    fd = os.memfd_create("stream", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, length)
        fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
        return fd, mmap.mmap(fd, length)
    except BaseException:
        os.close(fd)
        raise


class RingEnd:
    """See the module. host_fd, length: the memory, a file that cannot be made shorter, to be mapped whole.

    read, written: where reads take from and writes put to, if they do; socket: send and recv do the same. exclusive:
    one thread alone may use it. window: where it is published, if it is; refused: the host did not map it.
    """

    __slots__ = ("exclusive", "host_fd", "length", "read", "refused", "socket", "window", "written")

    def __init__(
        self, host_fd: int, length: int, read: RingPlace | None, written: RingPlace | None, socket: bool
    ) -> None:
        self.host_fd = host_fd
        self.length = length
        self.read = read
        self.written = written
        self.socket = socket
        self.exclusive = True
        self.refused = False
        self.window: RingWindow | None = None

    def opened(self, window: RingWindow) -> None:
        """It is published there."""
        self.window = window

    def closed(self, window: RingWindow) -> None:
        """It is published there no more."""
        if self.window is window:
            self.window = None
            self.withdrawn()

    def show(self, rows: FileRows, fd: int, unit: int, entry: int, polled: bool, blocking: bool) -> int:
        """Publish that it is mapped at `unit`: the row of `fd`. entry: a free one of those that say where rings lie."""
        waits = blocking and self.may_wait()
        return rows.set_rings(fd, entry, unit, self.read, self.written, self.socket, polled, waits)

    def moved(self) -> None:
        """The stub moved a position, and the other side's flag was set. A guest may say so at any time."""
        raise NotImplementedError

    def withdrawn(self) -> None:
        """The stub asks from now on. If its thread is in guest code, a call of it may still move a position, or sleep
        (`may_wait`)."""

    def watched(self) -> None:
        """An epoll watches the file from now on."""

    def may_wait(self) -> bool:
        """Whether a read that finds nothing may sleep in the stub: who puts something in wakes it, and so does
        `withdrawn`."""
        return False

    def revoke(self) -> None:
        """From now on every call asks."""
        if self.window is not None:
            self.window.revoke()


def may_publish(mm: AddressSpace, file: OpenFile) -> bool:
    """Whether one thread alone can use `file`, whose call comes from a patched site of `mm`."""
    return mm.fast is not None and is_alone(mm, file)


def is_alone(mm: AddressSpace, file: OpenFile) -> bool:
    """Whether one thread alone, of `mm`, can use `file`."""
    shown = mm.published
    return (
        shown is not None
        and shown.table is not None
        and shown.table.users == 1
        and file.refs == 1
        and not file.flags & _NOT_WITH
    )
