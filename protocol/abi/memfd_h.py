"""<linux/memfd.h>: flags of memfd_create(2) and memfd_secret(2)."""

from __future__ import annotations

from typing import Final

MFD_CLOEXEC: Final[int] = 1
MFD_ALLOW_SEALING: Final[int] = 2
MFD_HUGETLB: Final[int] = 4
MFD_HUGE_SHIFT: Final[int] = 0x1A
MFD_HUGE_MASK: Final[int] = 0x3F
MFD_HUGE_2MB: Final[int] = 0x54000000
MFD_HUGE_1GB: Final[int] = 0x78000000

# Linux 6.3.
MFD_NOEXEC_SEAL: Final[int] = 8
MFD_EXEC: Final[int] = 0x10

# The longest name after the "memfd:" prefix (mm/memfd.c).
MFD_NAME_MAX: Final[int] = 249
