"""<linux/inotify.h>: inotify events, flags and struct inotify_event."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Events and flags of a watch.
IN_ACCESS: Final[int] = 0x00000001
IN_MODIFY: Final[int] = 0x00000002
IN_ATTRIB: Final[int] = 0x00000004
IN_CLOSE_WRITE: Final[int] = 0x00000008
IN_CLOSE_NOWRITE: Final[int] = 0x00000010
IN_OPEN: Final[int] = 0x00000020
IN_MOVED_FROM: Final[int] = 0x00000040
IN_MOVED_TO: Final[int] = 0x00000080
IN_CREATE: Final[int] = 0x00000100
IN_DELETE: Final[int] = 0x00000200
IN_DELETE_SELF: Final[int] = 0x00000400
IN_MOVE_SELF: Final[int] = 0x00000800
IN_UNMOUNT: Final[int] = 0x00002000
IN_Q_OVERFLOW: Final[int] = 0x00004000
IN_IGNORED: Final[int] = 0x00008000
IN_CLOSE: Final[int] = 0x00000018
IN_MOVE: Final[int] = 0x000000C0
IN_ONLYDIR: Final[int] = 0x01000000
IN_DONT_FOLLOW: Final[int] = 0x02000000
IN_EXCL_UNLINK: Final[int] = 0x04000000
IN_MASK_CREATE: Final[int] = 0x10000000
IN_MASK_ADD: Final[int] = 0x20000000
IN_ISDIR: Final[int] = 0x40000000
IN_ONESHOT: Final[int] = 0x80000000
IN_ALL_EVENTS: Final[int] = 0x00000FFF

# inotify_init1(2).
IN_CLOEXEC: Final[int] = 0o2000000
IN_NONBLOCK: Final[int] = 0o4000

# struct inotify_event before its name: wd, mask, cookie, len.
INOTIFY_EVENT: Final = layout("struct inotify_event", "iIII", 16)
