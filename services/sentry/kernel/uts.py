"""The kernel's names: host and domain (uts_namespaces(7)), what uname(2) says, and random ids."""

from __future__ import annotations

from typing import Final

from protocol.abi.utsname_h import pack_utsname

__all__ = ["MACHINE", "RELEASE", "SYSNAME", "VERSION", "UtsNamespace", "uuid_text"]

SYSNAME: Final = b"Linux"
RELEASE: Final = b"6.12.0"
VERSION: Final = b"#1 SMP PREEMPT_DYNAMIC sentrio"
MACHINE: Final = b"x86_64"


class UtsNamespace:
    """The two names that sethostname(2) and setdomainname(2) change. At most 64 bytes each."""

    __slots__ = ("domainname", "hostname")

    def __init__(self, hostname: bytes, domainname: bytes = b"(none)") -> None:
        self.hostname = hostname
        self.domainname = domainname

    def pack(self) -> bytes:
        """struct new_utsname."""
        return pack_utsname(SYSNAME, self.hostname, RELEASE, VERSION, MACHINE, self.domainname)


def uuid_text(random: bytes) -> bytes:
    """A version 4 UUID (RFC 9562, section 5.4) of 16 random bytes, as text; the uuid module costs 2 ms at start."""
    raw = bytearray(random)
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex().encode()
    return b"-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
