"""Copies to guest memory that may stop half way: what read(2) and write(2) do when a buffer ends in unmapped pages."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["check_user_range", "read_some", "write_some"]

PAGE: Final = 4096
USER_END: Final = 0x7FFF_FFFF_F000  # TASK_SIZE_MAX


def check_user_range(addr: int, count: int) -> None:
    """EFAULT: a buffer that reaches beyond user space (access_ok of Linux: before anything is transferred)."""
    if addr + count > USER_END:
        raise LinuxError(errno.EFAULT)


def write_some(mm: AddressSpace, addr: int, data: bytes | memoryview) -> int:
    """Write as much of `data` as is mapped; the count. EFAULT: not even the first byte."""
    return mm.write_some(addr, data)


def read_some(mm: AddressSpace, addr: int, count: int) -> bytes:
    """Read up to `count` bytes, stopping at the first page that is not mapped. EFAULT: nothing could be read."""
    try:
        return mm.read(addr, count)
    except LinuxError:
        pass
    pieces = []
    done = 0
    while done < count:
        step = min(PAGE - (addr + done) % PAGE, count - done)
        try:
            pieces.append(mm.read(addr + done, step))
        except LinuxError:
            break
        done += step
    if not done:
        raise LinuxError(errno.EFAULT)
    return b"".join(pieces)
