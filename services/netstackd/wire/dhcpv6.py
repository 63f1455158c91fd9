"""DHCPv6 messages between client and server (RFC 8415 sections 8 and 21): bytes to values and back.

`parse_dhcpv6_untrusted` returns None for what is no such message, also for those of relays. An identity association
(IA_NA, IA_PD) is an `Association` with what it holds; whatever else stands in it is left out.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

SOLICIT: Final = 1
ADVERTISE: Final = 2
REQUEST: Final = 3
CONFIRM: Final = 4
RENEW: Final = 5
REBIND: Final = 6
REPLY: Final = 7
RELEASE: Final = 8
DECLINE: Final = 9
INFORMATION_REQUEST: Final = 11
TYPE_NAMES: Final = {
    SOLICIT: "solicit",
    ADVERTISE: "advertise",
    REQUEST: "request",
    CONFIRM: "confirm",
    RENEW: "renew",
    REBIND: "rebind",
    REPLY: "reply",
    RELEASE: "release",
    DECLINE: "decline",
    INFORMATION_REQUEST: "information-request",
}

CLIENT_ID: Final = 1
SERVER_ID: Final = 2
IA_NA: Final = 3
IA_ADDRESS: Final = 5
OPTION_REQUEST: Final = 6
PREFERENCE: Final = 7
STATUS_CODE: Final = 13
RAPID_COMMIT: Final = 14
DNS_SERVERS: Final = 23  # RFC 3646
DOMAIN_LIST: Final = 24
IA_PD: Final = 25
IA_PREFIX: Final = 26
INFORMATION_REFRESH_TIME: Final = 32

# Status codes, section 21.13
SUCCESS: Final = 0
NO_ADDRESSES: Final = 2
NO_BINDING: Final = 3
NOT_ON_LINK: Final = 4
NO_PREFIXES: Final = 6

MAX_OPTIONS: Final = 64
MAX_ASSOCIATIONS: Final = 16
MAX_DUID: Final = 130  # section 11.1
_ASSOCIATION: Final = Struct("!III")
_ADDRESS: Final = Struct("!16sII")
_PREFIX: Final = Struct("!IIB16s")


class Association:
    """IA_NA or IA_PD (`kind`): leases of one interface of a client. `leases`: (address, prefix length, preferred,
    valid), in seconds; the length is 128 for addresses. `status` -1: none is told."""

    __slots__ = ("iaid", "kind", "leases", "status", "t1", "t2")

    def __init__(self, kind: int, iaid: int) -> None:
        self.kind = kind
        self.iaid = iaid
        self.t1 = self.t2 = 0
        self.leases: list[tuple[int, int, int, int]] = []
        self.status = -1

    def encode(self) -> bytes:
        """As an option."""
        parts = [_ASSOCIATION.pack(self.iaid, self.t1, self.t2)]
        for address, length, preferred, valid in self.leases:
            value = address.to_bytes(16, "big")
            if self.kind == IA_NA:
                parts.append(option(IA_ADDRESS, _ADDRESS.pack(value, preferred, valid)))
            else:
                parts.append(option(IA_PREFIX, _PREFIX.pack(preferred, valid, length, value)))
        if self.status >= 0:
            parts.append(status(self.status))
        return option(self.kind, b"".join(parts))


class Dhcpv6Message:
    """One message. `options` holds all but the associations, raw; of one that is repeated, the first."""

    __slots__ = ("associations", "kind", "options", "transaction")

    def __init__(self, kind: int, transaction: bytes) -> None:
        self.kind = kind
        self.transaction = transaction
        self.options: dict[int, bytes] = {}
        self.associations: list[Association] = []

    @property
    def client(self) -> bytes:
        """The client's DUID, b"" when it is not told."""
        return self.options.get(CLIENT_ID, b"")

    @property
    def asked(self) -> frozenset[int]:
        """The options that the client wants (section 21.7)."""
        value = self.options.get(OPTION_REQUEST, b"")
        return frozenset(value[at] << 8 | value[at + 1] for at in range(0, len(value) - 1, 2))

    def encode(self) -> bytes:
        """The message."""
        parts = [bytes((self.kind,)), self.transaction]
        parts += [option(code, value) for code, value in self.options.items()]
        parts += [association.encode() for association in self.associations]
        return b"".join(parts)


def option(code: int, value: bytes) -> bytes:
    """One option (section 21.1)."""
    return code.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


def status(code: int) -> bytes:
    """A status code option without words."""
    return option(STATUS_CODE, code.to_bytes(2, "big"))


def domain_list(names: list[str] | tuple[str, ...]) -> bytes:
    """Names as RFC 1035 section 3.1 writes them, without compression (section 10)."""
    found = bytearray()
    for name in names:
        for label in name.strip(".").split("."):
            data = label.encode("idna") if not label.isascii() else label.encode()
            found += bytes((len(data),)) + data
        found.append(0)
    return bytes(found)


def duid_of_mac(mac: bytes) -> bytes:
    """DUID-LL of an Ethernet address (section 11.4)."""
    return b"\0\x03\0\x01" + mac


def _walk(data: bytes) -> list[tuple[int, bytes]] | None:
    """(code, value) of each option; None when they run over the end or are too many."""
    at, end = 0, len(data)
    found: list[tuple[int, bytes]] = []
    while at < end:
        if at + 4 > end or len(found) >= MAX_OPTIONS:
            return None
        code, size = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
        at += 4
        if at + size > end:
            return None
        found.append((code, data[at : at + size]))
        at += size
    return found


def _association(kind: int, value: bytes) -> Association | None:
    inner = _walk(value[12:]) if len(value) >= 12 else None
    if inner is None:
        return None
    iaid, t1, t2 = _ASSOCIATION.unpack_from(value)
    made = Association(kind, iaid)
    made.t1, made.t2 = t1, t2
    for code, data in inner:
        if code == IA_ADDRESS and kind == IA_NA and len(data) >= _ADDRESS.size:
            address, preferred, valid = _ADDRESS.unpack_from(data)
            made.leases.append((int.from_bytes(address, "big"), 128, preferred, valid))
        elif code == IA_PREFIX and kind == IA_PD and len(data) >= _PREFIX.size:
            preferred, valid, length, prefix = _PREFIX.unpack_from(data)
            if length <= 128:
                made.leases.append((int.from_bytes(prefix, "big"), length, preferred, valid))
        elif code == STATUS_CODE and len(data) >= 2:
            made.status = data[0] << 8 | data[1]
    return made


def parse_dhcpv6_untrusted(data: bytes) -> Dhcpv6Message | None:
    """The message in a UDP payload; None when it is none between a client and a server, or malformed."""
    if len(data) < 4 or data[0] not in TYPE_NAMES:
        return None
    options = _walk(data[4:])
    if options is None:
        return None
    message = Dhcpv6Message(data[0], bytes(data[1:4]))
    for code, value in options:
        if code in (IA_NA, IA_PD):
            association = _association(code, value)
            if association is None or len(message.associations) >= MAX_ASSOCIATIONS:
                return None
            message.associations.append(association)
        else:
            message.options.setdefault(code, bytes(value))
    if any(len(message.options.get(code, b"")) > MAX_DUID for code in (CLIENT_ID, SERVER_ID)):
        return None
    return message
