"""DHCPv4 messages (RFC 2131 section 2, options of RFC 2132): bytes to values and back.

`parse_dhcpv4_untrusted` returns None for what is no such message. Options that are split are put together (RFC 3396),
and those that overflow into `sname` and `file` are found there (option 52).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

_FIXED: Final = Struct("!BBBBIHHIIII16s64s128s")
_COOKIE: Final = b"\x63\x82\x53\x63"
MIN_BYTES: Final = 300  # RFC 1542 section 2.1: some clients and relays drop shorter ones
MAX_OPTIONS: Final = 128

BOOTREQUEST: Final = 1
BOOTREPLY: Final = 2
FLAG_BROADCAST: Final = 0x8000

DISCOVER: Final = 1
OFFER: Final = 2
REQUEST: Final = 3
DECLINE: Final = 4
ACK: Final = 5
NAK: Final = 6
RELEASE: Final = 7
INFORM: Final = 8
TYPE_NAMES: Final = ("", "discover", "offer", "request", "decline", "ack", "nak", "release", "inform")

SUBNET_MASK: Final = 1
ROUTER: Final = 3
DNS: Final = 6
HOST_NAME: Final = 12
DOMAIN_NAME: Final = 15
INTERFACE_MTU: Final = 26
BROADCAST: Final = 28
NTP: Final = 42
REQUESTED_ADDRESS: Final = 50
LEASE_TIME: Final = 51
OVERLOAD: Final = 52
MESSAGE_TYPE: Final = 53
SERVER_ID: Final = 54
PARAMETER_LIST: Final = 55
MESSAGE: Final = 56
RENEWAL_TIME: Final = 58
REBINDING_TIME: Final = 59
CLIENT_ID: Final = 61
BOOT_SERVER: Final = 66
BOOT_FILE: Final = 67


class DhcpMessage:
    """One message. `kind` is option 53; addresses are ints; `options` holds the others, raw."""

    __slots__ = ("ciaddr", "flags", "giaddr", "kind", "mac", "op", "options", "secs", "siaddr", "xid", "yiaddr")

    def __init__(self, op: int, kind: int, xid: int, mac: bytes) -> None:
        self.op = op
        self.kind = kind
        self.xid = xid
        self.mac = mac
        self.secs = 0
        self.flags = 0
        self.ciaddr = self.yiaddr = self.siaddr = self.giaddr = 0
        self.options: dict[int, bytes] = {}

    def address(self, code: int) -> int:
        """The (first) address in an option; 0 when it is not there or too short."""
        value = self.options.get(code, b"")
        return int.from_bytes(value[:4], "big") if len(value) >= 4 else 0

    def number(self, code: int, default: int = 0) -> int:
        """A 32-bit number in an option."""
        value = self.options.get(code, b"")
        return int.from_bytes(value, "big") if len(value) == 4 else default

    def client(self) -> bytes:
        """What a client is known by: its identifier, else its hardware address (RFC 2131 section 2)."""
        return self.options.get(CLIENT_ID) or b"\x01" + self.mac

    def encode(self) -> bytes:
        """The message, padded to the size that everybody takes."""
        fixed = _FIXED.pack(
            self.op,
            1,
            6,
            0,
            self.xid,
            self.secs,
            self.flags,
            self.ciaddr,
            self.yiaddr,
            self.siaddr,
            self.giaddr,
            self.mac,
            b"",
            b"",
        )
        parts = [fixed, _COOKIE, bytes((MESSAGE_TYPE, 1, self.kind))]
        for code, value in self.options.items():
            for at in range(0, max(len(value), 1), 255):  # RFC 3396: longer ones are split
                piece = value[at : at + 255]
                parts.append(bytes((code, len(piece))) + piece)
        parts.append(b"\xff")
        message = b"".join(parts)
        return message + bytes(max(0, MIN_BYTES - len(message)))


def _read_options(data: bytes, found: dict[int, bytes]) -> bool:
    """Add the options in `data` to `found`. False when they run over its end."""
    at, end, count = 0, len(data), 0
    while at < end:
        code = data[at]
        if code == 0:
            at += 1
            continue
        if code == 255:
            return True
        if at + 1 >= end or at + 2 + data[at + 1] > end:
            return False
        count += 1
        if count > MAX_OPTIONS:
            return False
        size = data[at + 1]
        found[code] = found.get(code, b"") + data[at + 2 : at + 2 + size]
        at += 2 + size
    return True


def parse_dhcpv4_untrusted(data: bytes) -> DhcpMessage | None:
    """The message in a UDP payload; None when it is none, not for Ethernet, or malformed."""
    if len(data) < _FIXED.size + 4 or data[_FIXED.size : _FIXED.size + 4] != _COOKIE:
        return None
    op, kind, length, _, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, mac, sname, file = _FIXED.unpack_from(data)
    if op not in (BOOTREQUEST, BOOTREPLY) or kind != 1 or length != 6:
        return None
    options: dict[int, bytes] = {}
    if not _read_options(data[_FIXED.size + 4 :], options):
        return None
    overload = options.pop(OVERLOAD, b"\0")
    if overload and overload[0] & 1 and not _read_options(file, options):
        return None
    if overload and overload[0] & 2 and not _read_options(sname, options):
        return None
    message_type = options.pop(MESSAGE_TYPE, b"")
    if len(message_type) != 1 or not DISCOVER <= message_type[0] <= INFORM:
        return None
    message = DhcpMessage(op, message_type[0], xid, mac[:6])
    message.secs, message.flags = secs, flags
    message.ciaddr, message.yiaddr, message.siaddr, message.giaddr = ciaddr, yiaddr, siaddr, giaddr
    message.options = options
    return message
