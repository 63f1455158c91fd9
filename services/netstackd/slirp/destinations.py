"""Which destinations may leave the virtual network, and which never do. Imports nothing: the connector asks as well.

What means "this host", "this link" or "everybody" on the virtual network must not come to mean the host, its links or
its neighbours: loopback (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3), link-local (RFC 3927 section 2.7, RFC
4291 section 2.5.6; cloud providers serve credentials there), multicast and broadcast, "this network", and IPv6
addresses that stand for an IPv4 one (RFC 4291 section 2.5.5), which the host's kernel would take for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

Network = tuple[int, int, int]  # version, address, prefix length

LOOPBACK4: Final = 0x7F000001
LOOPBACK6: Final = 1

_NEVER4: Final = (
    (0x00000000, 8, "this network"),
    (0x7F000000, 8, "loopback"),
    (0xA9FE0000, 16, "link-local"),
    (0xE0000000, 4, "multicast"),
    (0xF0000000, 4, "reserved"),
)
_NEVER6: Final = (
    (0, 96, "unspecified, loopback or IPv4-compatible"),
    (0xFFFF << 32, 96, "IPv4-mapped"),
    (0xFE80 << 112, 10, "link-local"),
    (0xFF << 120, 8, "multicast"),
)


def contains(network: Network, version: int, address: int) -> bool:
    """Whether an address lies in a network."""
    shift = (32 if version == 4 else 128) - network[2]
    return network[0] == version and address >> shift == network[1] >> shift


def refusal(version: int, address: int, denied: Sequence[Network] = ()) -> str:
    """Why packets to `address` may not leave; "" when they may. `denied`: networks of the configuration."""
    width, table = (32, _NEVER4) if version == 4 else (128, _NEVER6)
    for prefix, length, why in table:
        if address >> (width - length) == prefix >> (width - length):
            return why
    for network in denied:
        if contains(network, version, address):
            return "denied by the configuration"
    return ""


def is_host_loopback(version: int, address: int) -> bool:
    """Whether it is the address by which the host reaches itself."""
    return address == (LOOPBACK4 if version == 4 else LOOPBACK6)
