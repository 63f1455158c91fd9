"""<linux/eventpoll.h>: epoll_create1, epoll_ctl and the packed struct epoll_event of x86-64."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# epoll_create1(2).
EPOLL_CLOEXEC: Final[int] = 0o2000000

# epoll_ctl(2).
EPOLL_CTL_ADD: Final[int] = 1
EPOLL_CTL_DEL: Final[int] = 2
EPOLL_CTL_MOD: Final[int] = 3

# Events.
EPOLLIN: Final[int] = 0x00000001
EPOLLPRI: Final[int] = 0x00000002
EPOLLOUT: Final[int] = 0x00000004
EPOLLERR: Final[int] = 0x00000008
EPOLLHUP: Final[int] = 0x00000010
EPOLLRDNORM: Final[int] = 0x00000040
EPOLLRDBAND: Final[int] = 0x00000080
EPOLLWRNORM: Final[int] = 0x00000100
EPOLLWRBAND: Final[int] = 0x00000200
EPOLLMSG: Final[int] = 0x00000400
EPOLLRDHUP: Final[int] = 0x00002000
EPOLLEXCLUSIVE: Final[int] = 0x10000000
EPOLLWAKEUP: Final[int] = 0x20000000
EPOLLONESHOT: Final[int] = 0x40000000
EPOLLET: Final[int] = 0x80000000

EPOLLNVAL: Final[int] = 0x00000020

# struct epoll_event is packed on x86-64: events, data.
EPOLL_EVENT: Final = layout("struct epoll_event", "IQ", 12)
#: The most events one epoll_wait may ask for (fs/eventpoll.c).
EP_MAX_EVENTS: Final[int] = 0x7FFF_FFFF // 12
#: How deep epoll descriptors may watch each other (fs/eventpoll.c).
EP_MAX_NESTS: Final[int] = 4
