"""Which of our addresses a packet is sent from, when its sender does not say.

IPv6 by RFC 6724 section 5, rules 1 to 8; IPv4 as Linux does (inet_select_addr): an address of the outgoing interface,
in the destination's subnet before others, else one of another interface whose scope reaches far enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from services.netstackd.network.addresses import SCOPE_HOST, SCOPE_LINK, Address
from services.netstackd.wire.numbers import is_link_local_v6, is_multicast, mask

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface

# RFC 6724 section 2.1, the default policy table: (prefix, length, label), longest first.
_V4_MAPPED: Final = 0xFFFF << 32
POLICY: Final = (
    (1, 128, 0),
    (_V4_MAPPED, 96, 4),
    (0, 96, 3),
    (0x20010000 << 96, 32, 5),
    (0x2002 << 112, 16, 2),
    (0x3FFE << 112, 16, 12),
    (0xFEC0 << 112, 10, 11),
    (0xFC00 << 112, 7, 13),
    (0, 0, 1),
)


def label(address: int) -> int:
    """The label of an IPv6 address in the policy table."""
    for prefix, length, value in POLICY:
        if (address ^ prefix) & mask(6, length) == 0:
            return value
    return 1


def scope(address: int) -> int:
    """The scope of an IPv6 address, as the multicast scope number it corresponds to (RFC 6724 section 3.1)."""
    if address >> 120 == 0xFF:
        return address >> 112 & 15
    if address == 1 or is_link_local_v6(address):
        return 2
    if address >> 118 == 0x3FB:  # fec0::/10
        return 5
    return 14


def common_prefix(left: int, right: int, limit: int) -> int:
    """How many leading bits are equal, at most `limit` (RFC 6724 section 2.2)."""
    return min(128 - (left ^ right).bit_length(), limit)


def select_v6(dst: int, out: Interface, interfaces: Iterable[Interface], prefer_temporary: bool) -> int:
    """The source for `dst` when it leaves by `out`; 0 when there is none.

    Candidates (RFC 6724 section 4): the unicast addresses of `out`; for destinations of more than link scope those of
    all other interfaces as well (as Linux, unless use_oif_addrs_only).
    """
    confined = scope(dst) <= 2 or is_multicast(6, dst)
    candidates: list[Address] = [a for a in out.addresses if a.version == 6 and a.usable]
    if not confined:
        for iface in interfaces:
            if iface is not out and iface.up:
                candidates.extend(
                    a for a in iface.addresses if a.version == 6 and a.usable and not is_link_local_v6(a.address)
                )
    if not candidates:
        return 0
    dst_scope = scope(dst)
    dst_label = label(dst)

    def merit(address: Address) -> tuple[bool, int, bool, bool, bool, bool, int]:
        source = address.address
        source_scope = scope(source)
        # Rule 2: the smallest scope that is not smaller than the destination's; among those too small, the largest.
        return (
            source == dst,  # rule 1
            32 - source_scope if source_scope >= dst_scope else source_scope - 32,
            not address.deprecated,  # rule 3
            address.iface is out,  # rule 5 (rule 4 is Mobile IP's)
            label(source) == dst_label,  # rule 6
            address.temporary == prefer_temporary,  # rule 7
            common_prefix(source, dst, address.prefix_length),  # rule 8
        )

    return max(candidates, key=merit).address


def select_v4(dst: int, out: Interface, interfaces: Iterable[Interface]) -> int:
    """The source for `dst` (the next hop's address, when there is one) on `out`; 0 when there is none."""
    first = 0
    for address in out.addresses:
        if address.version != 4 or address.scope >= SCOPE_HOST or not address.usable:
            continue
        if (address.prefix ^ dst) & mask(4, address.prefix_length) == 0:
            return address.address
        if not first:
            first = address.address
    if first:
        return first
    for iface in interfaces:
        for address in iface.addresses:
            if address.version == 4 and address.usable and address.scope < SCOPE_LINK and iface.up:
                return address.address
    return 0
