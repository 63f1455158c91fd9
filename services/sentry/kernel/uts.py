"""Host and domain name (uts_namespaces(7)) and what uname(2) says of the kernel itself."""

from __future__ import annotations

from typing import Final

from protocol.abi.utsname_h import pack_utsname

__all__ = ["MACHINE", "RELEASE", "SYSNAME", "VERSION", "UtsNamespace"]

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
