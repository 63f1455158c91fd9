"""Domain names as values: labels in lower case (RFC 4343), and the addresses that reverse names stand for (RFC 1035
section 3.5, RFC 3596 section 2.5)."""

from __future__ import annotations

from typing import Any

Name = tuple[bytes, ...]


def labels_of(name: Any) -> Name:
    """Of something that has `label`, a sequence of labels (dnslib.DNSLabel)."""
    return tuple([bytes(part).lower() for part in name.label])


def name_of_text(text: str) -> Name:
    """Of "a.b.c"; () for nothing."""
    return tuple([part.encode().lower() for part in text.strip(".").split(".") if part])


def address_of_reverse(name: Name) -> tuple[int, int] | None:
    """(version, address) of 4.3.2.1.in-addr.arpa or ...ip6.arpa; None for other names."""
    if name[-2:] == (b"in-addr", b"arpa") and len(name) == 6:
        value = 0
        for label in reversed(name[:4]):
            if not label.isdigit() or len(label) > 3 or int(label) > 255:
                return None
            value = value << 8 | int(label)
        return 4, value
    if name[-2:] == (b"ip6", b"arpa") and len(name) == 34:
        digits = b"".join(reversed(name[:32]))
        if len(digits) != 32 or not all(byte in b"0123456789abcdef" for byte in digits):
            return None
        return 6, int(digits, 16)
    return None
