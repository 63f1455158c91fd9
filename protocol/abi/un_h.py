"""<linux/un.h>: struct sockaddr_un."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

UNIX_PATH_MAX: Final[int] = 108
# struct sockaddr_un: sun_family, sun_path.
SOCKADDR_UN: Final = layout("struct sockaddr_un", "H108s", 110)
#: Bytes before sun_path.
SUN_PATH_OFFSET: Final[int] = 2

# ioctl(2) on a unix socket: a descriptor of its file (linux/un.h).
SIOCUNIXFILE: Final[int] = 0x89E0
