"""splice(2), tee(2), vmsplice(2) flags (include/linux/splice.h) and preadv2(2) flags (linux/fs.h, RWF_*)."""

from __future__ import annotations

from typing import Final

SPLICE_F_MOVE: Final[int] = 1
SPLICE_F_NONBLOCK: Final[int] = 2
SPLICE_F_MORE: Final[int] = 4
SPLICE_F_GIFT: Final[int] = 8

# preadv2(2), pwritev2(2).
RWF_WRITE_LIFE_NOT_SET: Final[int] = 0
RWF_HIPRI: Final[int] = 1
RWF_DSYNC: Final[int] = 2
RWF_SYNC: Final[int] = 4
RWF_NOWAIT: Final[int] = 8
RWF_APPEND: Final[int] = 0x10

# Linux 6.9 and later.
RWF_NOAPPEND: Final[int] = 0x20
RWF_ATOMIC: Final[int] = 0x40
RWF_DONTCACHE: Final[int] = 0x80
