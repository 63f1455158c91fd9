"""<linux/eventfd.h>, <linux/pidfd.h>, <linux/kcmp.h>: flags of eventfd2(2), pidfd_open(2) and kcmp(2)."""

from __future__ import annotations

from typing import Final

EFD_SEMAPHORE: Final[int] = 1
EFD_CLOEXEC: Final[int] = 0o2000000
EFD_NONBLOCK: Final[int] = 0o4000

# pidfd_open(2), pidfd_send_signal(2).
PIDFD_NONBLOCK: Final[int] = 0o4000
PIDFD_THREAD: Final[int] = 0o200
PIDFD_SIGNAL_THREAD: Final[int] = 1
PIDFD_SIGNAL_THREAD_GROUP: Final[int] = 2
PIDFD_SIGNAL_PROCESS_GROUP: Final[int] = 4

# kcmp(2).
KCMP_FILE: Final[int] = 0
KCMP_VM: Final[int] = 1
KCMP_FILES: Final[int] = 2
KCMP_FS: Final[int] = 3
KCMP_SIGHAND: Final[int] = 4
KCMP_IO: Final[int] = 5
KCMP_SYSVSEM: Final[int] = 6
KCMP_EPOLL_TFD: Final[int] = 7

#: The largest counter an eventfd holds; writing past it blocks.
EVENTFD_MAX: Final[int] = 0xFFFF_FFFF_FFFF_FFFE
