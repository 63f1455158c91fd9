"""<linux/uio.h>: struct iovec and how many of them a call takes."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# struct iovec: iov_base, iov_len.
IOVEC: Final = layout("struct iovec", "QQ", 16)
UIO_FASTIOV: Final[int] = 8
UIO_MAXIOV: Final[int] = 1024


def unpack_iovecs(raw: bytes) -> list[tuple[int, int]]:
    """The (address, length) pairs of consecutive struct iovec; len(raw) must be a multiple of 16."""
    return list(IOVEC.iter_unpack(raw))
