"""<linux/xattr.h>: setxattr(2) flags, name prefixes, limits."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

XATTR_CREATE: Final[int] = 1
XATTR_REPLACE: Final[int] = 2

# Limits.
XATTR_NAME_MAX: Final[int] = 255
XATTR_SIZE_MAX: Final[int] = 65536
XATTR_LIST_MAX: Final[int] = 65536

XATTR_SECURITY_PREFIX: Final[bytes] = b"security."
XATTR_SYSTEM_PREFIX: Final[bytes] = b"system."
XATTR_TRUSTED_PREFIX: Final[bytes] = b"trusted."
XATTR_USER_PREFIX: Final[bytes] = b"user."

# struct xattr_args of setxattrat(2) and getxattrat(2), Linux 6.13: value, size, flags.
XATTR_ARGS: Final = layout("struct xattr_args", "QII", 16)
