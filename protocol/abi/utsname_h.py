"""<linux/utsname.h>: struct new_utsname, what uname(2) fills."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

#: The longest host or domain name, without its NUL.
UTS_LEN: Final[int] = 64
# struct new_utsname: sysname, nodename, release, version, machine, domainname.
NEW_UTSNAME: Final = layout("struct new_utsname", "65s65s65s65s65s65s", 390)


def pack_utsname(
    sysname: bytes, nodename: bytes, release: bytes, version: bytes, machine: bytes, domainname: bytes
) -> bytes:
    """A struct new_utsname; names longer than 64 bytes are cut."""
    names = (sysname, nodename, release, version, machine, domainname)
    return NEW_UTSNAME.pack(*(name[:UTS_LEN] for name in names))
