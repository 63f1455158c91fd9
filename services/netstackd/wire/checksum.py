"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

A ones-complement sum of 16-bit words is arithmetic modulo 65535, and 2**16 is 1 there: so the sum of a byte string is
the number it spells, modulo 65535, and that of an address is the address itself modulo 65535, of any width. Sums are
passed about as plain ints that need not be reduced.
"""

from __future__ import annotations

from typing import Final

Buffer = bytes | bytearray | memoryview

# Above this many bits, folding a number in halves is quicker than one division of all of it.
_FOLD_BITS: Final = 1 << 14


def ones_sum(data: Buffer, initial: int = 0) -> int:
    """The sum of `data` (an odd last byte counts as the high half of a word) plus `initial`, not reduced.

    0 only when data is all zeros and initial is 0; congruent to the ones-complement sum modulo 65535.
    """
    value = int.from_bytes(data, "big")
    if len(data) & 1:
        value <<= 8
    bits = value.bit_length()
    while bits > _FOLD_BITS:
        half = (bits // 2 + 15) & ~15
        value = (value >> half) + (value & ((1 << half) - 1))
        bits = value.bit_length()
    return value + initial


def checksum(data: Buffer, initial: int = 0) -> int:
    """The checksum field's value for `data`, whose own field must be zero; `initial` is a pseudo-header's sum."""
    total = ones_sum(data, initial)
    rest = total % 65535
    if rest:
        return 65535 - rest
    return 0 if total else 65535  # a sum of "minus zero" complements to 0, one of real zeros to 0xffff


def verify(data: Buffer, initial: int = 0) -> bool:
    """Whether `data` with its checksum field in place sums to minus zero."""
    total = ones_sum(data, initial)
    return total != 0 and total % 65535 == 0


def fold(total: int) -> int:
    """`total` reduced to 16 bits, 0xffff for a multiple of 65535 that is not 0 (as a sum of words would be)."""
    rest = total % 65535
    return rest if rest or not total else 65535


def pseudo_header_v4(src: int, dst: int, proto: int, length: int) -> int:
    """The sum of an IPv4 pseudo header (RFC 768, RFC 9293 section 3.1)."""
    return src + dst + proto + length


def pseudo_header_v6(src: int, dst: int, proto: int, length: int) -> int:
    """The sum of an IPv6 pseudo header (RFC 8200 section 8.1): the same numbers, wider addresses."""
    return src + dst + proto + length


def update(field: int, old: int, new: int) -> int:
    """The checksum field after a part of the data changed from `old` to `new` (RFC 1624, equation 3).

    The part may have any width, and must begin at an even offset and end at one.
    """
    rest = (65535 - field - old + new) % 65535
    return 65535 - rest if rest else 0


def update_partial(field: int, old: int, new: int) -> int:
    """The same for a CSUM_PARTIAL field, which holds a plain sum: no complement."""
    rest = (field - old + new) % 65535
    return rest or 65535
