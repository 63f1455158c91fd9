"""Neighbour discovery messages (RFC 4861 section 4) and their options (RFC 4861 4.6, RFC 4191, RFC 8106).

Functions take the ICMPv6 message from its type on, and return None for one that must be discarded (RFC 4861 sections
6.1 and 7.1); hop limit and addresses are the caller's to check. Times are as on the wire: seconds or milliseconds.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

SOURCE_LINK: Final = 1
TARGET_LINK: Final = 2
PREFIX: Final = 3
REDIRECTED: Final = 4
MTU: Final = 5
NONCE: Final = 14
ROUTE_INFO: Final = 24
RDNSS: Final = 25
DNSSL: Final = 31

INFINITE: Final = 0xFFFFFFFF

FLAG_ROUTER: Final = 0x80
FLAG_SOLICITED: Final = 0x40
FLAG_OVERRIDE: Final = 0x20

RA_MANAGED: Final = 0x80
RA_OTHER: Final = 0x40
PREFIX_ON_LINK: Final = 0x80
PREFIX_AUTONOMOUS: Final = 0x40

_RA: Final = Struct("!BBHII")
_PREFIX: Final = Struct("!BBIIIQQ")

Options = list[tuple[int, bytes]]


def parse_options_untrusted(data: bytes, start: int) -> Options | None:
    """[(type, content without type and length)]; None when one has length 0 or reaches past the end (RFC 4861 4.6)."""
    options: Options = []
    end = len(data)
    while start < end:
        if start + 2 > end:
            return None
        size = data[start + 1] * 8
        if size == 0 or start + size > end:
            return None
        options.append((data[start], data[start + 2 : start + size]))
        start += size
    return options


def option(kind: int, content: bytes) -> bytes:
    """One option, padded to a multiple of eight bytes."""
    size = (len(content) + 2 + 7) // 8
    return bytes((kind, size)) + content + bytes(size * 8 - len(content) - 2)


def link_option(options: Options, kind: int) -> bytes | None:
    """The link address of the first option of this kind, or None."""
    for found, content in options:
        if found == kind and len(content) == 6:
            return content
    return None


def parse_target_untrusted(message: bytes) -> tuple[int, int, Options] | None:
    """(flags byte, target, options) of a neighbour solicitation or advertisement."""
    if len(message) < 24 or message[1] != 0:
        return None
    options = parse_options_untrusted(message, 24)
    target = int.from_bytes(message[8:24], "big")
    if options is None or target >> 120 == 0xFF:
        return None
    return message[4], target, options


def parse_redirect_untrusted(message: bytes) -> tuple[int, int, Options] | None:
    """(target, destination, options) of a redirect."""
    if len(message) < 40 or message[1] != 0:
        return None
    options = parse_options_untrusted(message, 40)
    destination = int.from_bytes(message[24:40], "big")
    if options is None or destination >> 120 == 0xFF:
        return None
    return int.from_bytes(message[8:24], "big"), destination, options


class RouterAdvertisement:
    """The fields of a router advertisement; `prefixes`, `routes`, `servers` and `search` from its options."""

    __slots__ = (
        "flags",
        "hop_limit",
        "lifetime_s",
        "link",
        "mtu",
        "preference",
        "prefixes",
        "reachable_ms",
        "retrans_ms",
        "routes",
        "search",
        "servers",
    )

    def __init__(self, hop_limit: int, flags: int, lifetime_s: int, reachable_ms: int, retrans_ms: int) -> None:
        self.hop_limit = hop_limit
        self.flags = flags
        self.lifetime_s = lifetime_s
        self.reachable_ms = reachable_ms
        self.retrans_ms = retrans_ms
        self.preference = preference(flags >> 3 & 3)
        self.link: bytes | None = None
        self.mtu = 0
        self.prefixes: list[tuple[int, int, int, int, int]] = []  # prefix, length, flags, valid s, preferred s
        self.routes: list[tuple[int, int, int, int]] = []  # prefix, length, preference, lifetime s
        self.servers: list[tuple[int, int]] = []  # address, lifetime s
        self.search: list[tuple[str, int]] = []  # domain, lifetime s


def preference(bits: int) -> int:
    """RFC 4191 section 2.1: 01 high, 00 medium, 11 low; 10 is reserved and read as medium."""
    return (0, 1, 0, -1)[bits]


def parse_router_advertisement_untrusted(message: bytes) -> RouterAdvertisement | None:
    """A router advertisement (RFC 4861 section 6.1.2); options with impossible contents are left out."""
    if len(message) < 16 or message[1] != 0:
        return None
    options = parse_options_untrusted(message, 16)
    if options is None:
        return None
    hop_limit, flags, lifetime, reachable, retrans = _RA.unpack_from(message, 4)
    advertisement = RouterAdvertisement(hop_limit, flags, lifetime, reachable, retrans)
    for kind, content in options:
        if kind == SOURCE_LINK and len(content) == 6:
            advertisement.link = content
        elif kind == MTU and len(content) == 6:
            advertisement.mtu = int.from_bytes(content[2:], "big")
        elif kind == PREFIX and len(content) == 30:
            length, bits, valid, preferred, _, high, low = _PREFIX.unpack(content)
            if length <= 128 and preferred <= valid:  # RFC 4862 section 5.5.3 (c)
                advertisement.prefixes.append((high << 64 | low, length, bits, valid, preferred))
        elif kind == ROUTE_INFO:
            _read_route(advertisement, content)
        elif kind == RDNSS and len(content) >= 22 and (len(content) - 6) % 16 == 0:
            seconds = int.from_bytes(content[2:6], "big")
            for at in range(6, len(content), 16):
                advertisement.servers.append((int.from_bytes(content[at : at + 16], "big"), seconds))
        elif kind == DNSSL and len(content) >= 14:
            seconds = int.from_bytes(content[2:6], "big")
            advertisement.search.extend((name, seconds) for name in _names(content, 6))
    return advertisement


def _read_route(advertisement: RouterAdvertisement, content: bytes) -> None:
    """RFC 4191 section 2.3: the option is 1, 2 or 3 units long, as its prefix needs."""
    if len(content) < 6 or content[1] >> 3 & 3 == 2:  # a reserved preference: ignore the option
        return
    length = content[0]
    if length > 128 or len(content) - 6 < (0 if length == 0 else 8 if length <= 64 else 16):
        return
    prefix = int.from_bytes(content[6:22].ljust(16, b"\0"), "big")
    prefix &= (1 << 128) - (1 << 128 - length)
    seconds = int.from_bytes(content[2:6], "big")
    advertisement.routes.append((prefix, length, preference(content[1] >> 3 & 3), seconds))


def _names(content: bytes, at: int) -> list[str]:
    """DNS names as labels, up to the padding (RFC 8106 section 5.2); stops at what is no name."""
    names: list[str] = []
    labels: list[str] = []
    while at < len(content):
        size = content[at]
        if size == 0:
            if labels:
                names.append(".".join(labels))
                labels = []
            at += 1
            continue
        if size > 63 or at + 1 + size > len(content):
            break
        labels.append(content[at + 1 : at + 1 + size].decode("ascii", "replace"))
        at += 1 + size
    return names


def solicitation(target: int, link: bytes | None, nonce: bytes | None = None) -> bytes:
    """The part of a neighbour solicitation behind the first eight bytes (RFC 4861 section 4.3)."""
    body = target.to_bytes(16, "big")
    if link is not None:
        body += option(SOURCE_LINK, link)
    if nonce is not None:
        body += option(NONCE, nonce)  # RFC 7527
    return body


def advertisement(target: int, link: bytes) -> bytes:
    """The part of a neighbour advertisement behind the first eight bytes (RFC 4861 section 4.4)."""
    return target.to_bytes(16, "big") + option(TARGET_LINK, link)


def redirect(target: int, destination: int, link: bytes | None, redirected: bytes) -> bytes:
    """The part of a redirect behind the first eight bytes (RFC 4861 section 4.5)."""
    body = target.to_bytes(16, "big") + destination.to_bytes(16, "big")
    if link is not None:
        body += option(TARGET_LINK, link)
    room = 1280 - 40 - 8 - len(body) - 8
    return body + option(REDIRECTED, bytes(6) + redirected[: room & ~7])


def router_advertisement(
    hop_limit: int, flags: int, lifetime_s: int, reachable_ms: int, retrans_ms: int
) -> tuple[int, bytes]:
    """(rest of the ICMP header, what follows) of a router advertisement without options."""
    return hop_limit << 24 | flags << 16 | lifetime_s, reachable_ms.to_bytes(4, "big") + retrans_ms.to_bytes(4, "big")


def prefix_option(prefix: int, length: int, flags: int, valid_s: int, preferred_s: int) -> bytes:
    """RFC 4861 section 4.6.2."""
    high, low = prefix >> 64, prefix & 0xFFFFFFFFFFFFFFFF
    return option(PREFIX, _PREFIX.pack(length, flags, valid_s, preferred_s, 0, high, low))


def mtu_option(mtu: int) -> bytes:
    """RFC 4861 section 4.6.4."""
    return option(MTU, bytes(2) + mtu.to_bytes(4, "big"))


def rdnss_option(servers: list[int], lifetime_s: int) -> bytes:
    """RFC 8106 section 5.1."""
    addresses = b"".join(server.to_bytes(16, "big") for server in servers)
    return option(RDNSS, bytes(2) + lifetime_s.to_bytes(4, "big") + addresses)


def dnssl_option(names: list[str], lifetime_s: int) -> bytes:
    """RFC 8106 section 5.2."""
    encoded = b""
    for name in names:
        for label in name.rstrip(".").split("."):
            raw = label.encode("ascii")
            encoded += bytes((len(raw),)) + raw
        encoded += b"\0"
    return option(DNSSL, bytes(2) + lifetime_s.to_bytes(4, "big") + encoded)


def route_option(prefix: int, length: int, preference_value: int, lifetime_s: int) -> bytes:
    """RFC 4191 section 2.3."""
    bits = {1: 1, 0: 0, -1: 3}[preference_value] << 3
    size = 0 if length == 0 else 8 if length <= 64 else 16
    return option(ROUTE_INFO, bytes((length, bits)) + lifetime_s.to_bytes(4, "big") + prefix.to_bytes(16, "big")[:size])
