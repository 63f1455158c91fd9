"""<asm-generic/poll.h>: poll events, struct pollfd, and the sets of select(2)."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

POLLIN: Final[int] = 1
POLLPRI: Final[int] = 2
POLLOUT: Final[int] = 4
POLLRDNORM: Final[int] = 0x40
POLLRDBAND: Final[int] = 0x80
POLLWRNORM: Final[int] = 0x100
POLLWRBAND: Final[int] = 0x200
POLLMSG: Final[int] = 0x400
POLLREMOVE: Final[int] = 0x1000
POLLRDHUP: Final[int] = 0x2000
POLLERR: Final[int] = 8
POLLHUP: Final[int] = 0x10
POLLNVAL: Final[int] = 0x20

# struct pollfd: fd, events, revents.
POLLFD: Final = layout("struct pollfd", "ihH", 8)
FD_SETSIZE: Final[int] = 1024

# What select(2)'s three sets stand for in poll events (fs/select.c).
SELECT_READ: Final[int] = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR
SELECT_WRITE: Final[int] = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR
SELECT_EXCEPT: Final[int] = POLLPRI
