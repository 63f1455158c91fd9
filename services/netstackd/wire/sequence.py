"""TCP sequence numbers: 32 bits that wrap (RFC 9293 section 3.4). Comparisons hold for distances below 2**31."""

from __future__ import annotations

from typing import Final

MASK: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000


def add(seq: int, count: int) -> int:
    """`seq` plus `count` bytes; count may be negative."""
    return (seq + count) & MASK


def diff(left: int, right: int) -> int:
    """left - right as a signed distance, -2**31 up to 2**31 - 1."""
    distance = (left - right) & MASK
    return distance - 0x100000000 if distance & _HALF else distance


def less(left: int, right: int) -> bool:
    """left comes before right."""
    return (left - right) & _HALF != 0


def less_equal(left: int, right: int) -> bool:
    """left comes before right or is it."""
    return (right - left) & _HALF == 0


def between(low: int, seq: int, high: int) -> bool:
    """low <= seq <= high on the circle."""
    return (seq - low) & MASK <= (high - low) & MASK


def in_window(seq: int, start: int, size: int) -> bool:
    """seq lies in [start, start + size)."""
    return (seq - start) & MASK < size


def maximum(left: int, right: int) -> int:
    """The later of the two."""
    return right if (left - right) & _HALF else left


def minimum(left: int, right: int) -> int:
    """The earlier of the two."""
    return left if (left - right) & _HALF else right
