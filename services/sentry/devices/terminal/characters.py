"""Character classes as the kernel's terminal code sees them: Latin-1 (Linux lib/ctype.c), no locale."""

from __future__ import annotations

from typing import Final

__all__ = ["ALNUM", "CONTROL", "LOWER", "UPPER"]

_UPPER: Final = frozenset({*range(0x41, 0x5B), *range(192, 223)} - {215})
_LOWER: Final = frozenset({*range(0x61, 0x7B), *range(223, 256)} - {247})

#: Control characters: only these are echoed as ^X and take no column.
CONTROL: Final = frozenset({*range(32), 127})
#: What a word is made of for VWERASE, besides '_'.
ALNUM: Final = frozenset({*range(0x30, 0x3A)} | _UPPER | _LOWER)
#: bytes.translate tables.
UPPER: Final = bytes(code - 32 if code in _LOWER else code for code in range(256))
LOWER: Final = bytes(code + 32 if code in _UPPER else code for code in range(256))
