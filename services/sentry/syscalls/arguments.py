"""Decoding of raw system-call arguments (unsigned 64-bit register values) as the x86-64 ABI means them."""

from __future__ import annotations

__all__ = ["AT_FDCWD", "CWD_FORMS", "fd_arg", "s32", "s64", "u32"]

AT_FDCWD = -100
CWD_FORMS = frozenset((0xFFFFFF9C, 0xFFFFFFFFFFFFFF9C))
"""AT_FDCWD as it comes in a register: from `mov $imm,%edi`, or sign-extended."""


def s32(value: int) -> int:
    """A C `int`: the low 32 bits, signed."""
    value &= 0xFFFFFFFF
    return value - 0x100000000 if value & 0x80000000 else value


def u32(value: int) -> int:
    """A C `unsigned int`."""
    return value & 0xFFFFFFFF


def s64(value: int) -> int:
    """A C `long` or `loff_t`."""
    return value - 0x10000000000000000 if value & 0x8000000000000000 else value


fd_arg = s32
